"""Address management under every order of its clients' calls, and every failure at each of them.

A scene is a few clients with a few things to do each. It is run in memory once for every history: which client makes the
next call of the store, and whether that call is done and answered, done but not answered, neither, or the client's
last. After every single write, and at rest, ``support.ipam_ledger`` says what is wrong. A failing test tells the whole
history, call by call.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from calico.datastore.api import Conflict
from calico.datastore.memory import MemoryStore
from support import ipam_scenes
from support.ipam_faults import Chance, histories
from support.ipam_scenes import (
    Broken,
    Scene,
    assign,
    crowd,
    delete,
    play,
    release_address,
    release_handle,
)
from support.speakers import pool

TINY = (pool("tiny", "10.65.0.0/29", block_size=30),)
"""Two blocks of four addresses."""

BOTH = (pool("v4", "10.65.0.0/29", block_size=30), pool("v6", "fd65::/125", block_size=126))

SCENES = {
    "two hosts want their first block": Scene(TINY, {"a/1": [assign("h")], "b/1": [assign("i")]}),
    "two clients of a host want its first block": Scene(TINY, {"a/1": [assign("h")], "a/2": [assign("i")]}),
    "a workload comes and goes, and so does another": Scene(
        TINY, {"a/1": [assign("h"), release_handle("h")], "a/2": [assign("i"), release_handle("i")]}
    ),
    "the same by address": Scene(
        TINY, {"a/1": [assign("h"), release_address("h")], "a/2": [assign("i"), release_address("i")]}
    ),
    "more is wanted than there is": Scene(TINY, {"a/1": [assign("h", 5)], "b/1": [assign("i", 5)]}),
    "a node is deleted while it assigns": Scene(
        TINY, {"a/1": [assign("h"), release_handle("h")], "b/1": [delete("Node", "a")]}
    ),
    "a pool is deleted while addresses come and go": Scene(
        TINY, {"a/1": [assign("h"), release_handle("h")], "b/1": [delete("IPPool", "tiny")]}
    ),
    "both families": Scene(BOTH, {"a/1": [assign("h", 1, 1)], "b/1": [assign("i", 0, 1)]}),
}


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_wrong_in_any_order(name: str) -> None:
    """Each client may be interrupted by others at any call, twice in all."""
    assert histories(lambda chooser: play(SCENES[name], chooser), switches=2, failures=0) > 100


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_wrong_after_any_failure(name: str) -> None:
    """Any one call fails in any way, or is its client's last, and the others may come in between once.

    Not in between where a node or a pool goes: a client that dies when its claim was just taken from it, before it
    could see that, leaves a block to the collector. Nor for two families, which are two times the same.
    """
    between = int("deleted" not in name and "families" not in name)
    assert histories(lambda chooser: play(SCENES[name], chooser), switches=between, failures=1) > 50


@pytest.mark.parametrize("trouble", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(20))
def test_a_crowd_is_served_right(seed: int, trouble: float) -> None:
    """Twelve clients on six nodes, in an order by chance, with failures by chance."""
    play(crowd(Random(seed), clients=12), Chance(seed, trouble=trouble))


# --- the oracle itself -------------------------------------------------------------------------------


class _Careless(MemoryStore):
    """A store that writes blocks over whatever is there."""

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        if "/assignment/" in path:
            revision = None
        return await super().put(path, value, revision=revision, lease=lease)


class _Forgetful(MemoryStore):
    """A store that loses what is written over a handle."""

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        entry = await self.get(path)
        if "/handle/" in path and entry is not None:
            value = entry.value
        return await super().put(path, value, revision=revision, lease=lease)


class _Double(MemoryStore):
    """A store that creates claims and blocks where some are."""

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        try:
            return await super().create(path, value, lease=lease)
        except Conflict:
            if "/handle/" in path:
                raise
            return await super().put(path, value, revision=None, lease=lease)


@pytest.mark.parametrize("bad", [_Careless, _Forgetful, _Double])
def test_a_store_that_breaks_its_word_is_found_out(
    bad: Callable[..., MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the clients rely on is what they need: without it, some history goes wrong, and is told."""
    monkeypatch.setattr(ipam_scenes, "MemoryStore", bad)
    scene = Scene(
        TINY,
        {"a/1": [assign("h", 2), assign("j", 5), release_handle("h")], "a/2": [assign("i"), assign("i", 2)]},
    )
    with pytest.raises(Broken, match="ipam/v2/"):
        histories(lambda chooser: play(scene, chooser), switches=1, failures=0)
