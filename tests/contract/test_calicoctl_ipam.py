"""``calicoctl ipam`` on every store: the same answers, the same care, also where the store fails in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path

import pytest

from calico.cli.ipam_ping import echo
from calico.cli.ipam_split import split_pool
from calico.datastore.api import Store, Unavailable
from calico.datastore.etcd import EtcdStore
from calico.datastore.memory import MemoryStore
from calico.datastore.sqlite import SQLiteStore
from calico.datastore.typed import Resources
from calico.ipam.picture import picture, read
from calico.model.address import parse_address
from calico.model.keys import IPAM
from support import etcd as servers
from support.calicoctl import Run, calicoctl_in
from support.ipam_pictures import Content, attribute, block, fill, sound
from support.stores import World, run_in

LOCKED = ("datastore", "migrate", "lock")


def leaking() -> Content:
    """Two families, an address in use, leaked ones, borrowed ones, and a handle that is left."""
    gone = attribute("h.gone", pod="old", namespace="shop", node="b")
    six = {0: attribute("h.six", pod="six", namespace="shop", node="b"), 3: gone}
    content = (
        sound().pool("six", "fd00::/64").block(block("10.65.0.4/30", "host:a", {1: gone}), handles=False)
    )
    content.block(block("fd00::/126", "host:b", six)).workload("six", "b", "fd00::").handle("h.left", {})
    return content.handle("h.gone", {"10.65.0.4/30": 1, "fd00::/126": 1}).cluster(locked=False)


@pytest.fixture(params=["sqlite", "etcd"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl with a store of each kind that holds ``leaking``."""
    run = calicoctl_in(tmp_path, monkeypatch)
    store: Store
    if request.param == "etcd":
        if not servers.installed:
            pytest.skip("etcd is not installed: make system installs it")
        settings = servers.shared().settings(prefix=servers.own_prefix())
        where = tmp_path / "etcd.cfg"
        where.write_text(
            f"kind: CalicoAPIConfig\nspec: {{etcdEndpoints: '{settings.endpoints[0]}', etcdPrefix: '{settings.prefix}'}}\n"
        )
        store, chosen = EtcdStore(settings), ("--config", str(where))
    else:
        store, chosen = SQLiteStore(tmp_path / "s.db"), ("--datastore-path", str(tmp_path / "s.db"))

    async def begin() -> None:
        await fill(store, leaking())
        await store.close()

    asyncio.run(begin())
    return lambda *words, **more: run(*chosen, *words, **more)


def _problems(run: Run) -> dict[str, list[str]]:
    tree = json.loads(run("ipam", "check", "-o", "-").stdout)
    return {name: [each["subject"] for each in found] for name, found in tree["problems"].items() if found}


def test_from_check_to_release(run: Run) -> None:
    """What is leaked in two reports is freed, whatever the family; then nothing is wrong any more."""
    assert _problems(run) == {"leaked": ["10.65.0.5", "fd00::3"], "handlesWithoutAddresses": ["h.left"]}
    run("ipam", "check", "-o", "earlier.json")
    run(*LOCKED)
    run("ipam", "check", "-o", "now.json")
    done = run("ipam", "release", "--from-report", "earlier.json", "--from-report", "now.json").stdout
    assert "Released 2 IPs successfully\n" in done
    assert "Released 1 handles; 0 skipped; 0 errors.\n" in done
    assert _problems(run) == {}
    assert [
        each["spec"]["handleID"]
        for each in json.loads(run("get", "ipamhandles", "-o", "json").stdout)["items"]
    ] == [
        "h.six",
        "h.web",
    ]


def test_single_addresses(run: Run) -> None:
    """Explained, freed, and explained again."""
    assert json.loads(run("ipam", "why", "fd00:0::3", "-o", "json").stdout)["alive"]["alive"] is False
    run("ipam", "release", "--ip", "fd00:0::3")
    assert json.loads(run("ipam", "why", "fd00::3", "-o", "json").stdout)["state"] == "free"
    assert "h.gone" in json.loads(run("ipam", "why", "10.65.0.5", "-o", "json").stdout)["handle"]


def test_what_is_released_cools_down_if_it_is_to(run: Run) -> None:
    """The setting is obeyed by this way of releasing, too; the check calls it no leak."""
    run("ipam", "configure", "--ip-cooldown-seconds=1000")
    run("ipam", "release", "--ip", "10.65.0.5")
    assert json.loads(run("ipam", "why", "10.65.0.5", "-o", "json").stdout)["state"] == "cooling"
    assert _problems(run)["leaked"] == ["fd00::3"]
    assert "10.65.0.5 is not assigned" in run("ipam", "release", "--ip", "10.65.0.5", status=1).stderr


def test_pools_are_split_and_shown(run: Run) -> None:
    """Of both families; blocks lie in the new pools."""
    run(*LOCKED)
    run("ipam", "split", "2", "--name", "all")
    run("ipam", "split", "4", "--cidr", "fd00::/64")
    pools = json.loads(run("ipam", "show", "-o", "json", "--show-blocks").stdout)["pools"]
    assert {each["name"]: len(each["blocks"]) for each in pools} == {
        "split-all-0": 2, "split-all-1": 0,
        "split-six-0": 1, "split-six-1": 0, "split-six-2": 0, "split-six-3": 0,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["memory", "sqlite", "etcd"])
def test_a_picture_of_a_store_is_the_picture_of_its_content(kind: str, tmp_path: Path) -> None:
    """However the store lists it."""

    async def test(world: World) -> None:
        await fill(world.store, leaking())
        found, expected = await read(world.store), picture(0, leaking().entries.values())
        assert found.blocks == expected.blocks
        assert found.claims == expected.claims
        assert found.uses == expected.uses
        assert {name: each.counts for name, each in found.handles.items()} == {
            name: each.counts for name, each in expected.handles.items()
        }
        assert found.pools.keys() == expected.pools.keys()

    run_in(kind, tmp_path, test)


class _Limited(MemoryStore):
    """A store that is lost at one of its writes, which may have happened."""

    def __init__(self, good: int, *, happened: bool) -> None:
        super().__init__()
        self.good = good
        self._happened = happened

    async def _lost(self, writing: Coroutine[object, object, int]) -> int:
        self.good -= 1
        if self.good != -1 or self._happened:
            revision = await writing
        if self.good == -1:
            if not self._happened:
                writing.close()
            raise Unavailable("no answer came")
        return revision

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        return await self._lost(super().create(path, value, lease=lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        return await self._lost(super().put(path, value, revision=revision, lease=lease))

    async def delete(self, path: str, *, revision: int | None) -> int:
        return await self._lost(super().delete(path, revision=revision))


@pytest.mark.parametrize("happened", [False, True])
@pytest.mark.parametrize("write", range(6))
def test_a_split_that_is_broken_off_anywhere_is_finished_by_another(write: int, happened: bool) -> None:
    """Addresses always have a pool around them, and nothing of IPAM changes; the second attempt makes the rest."""

    async def test() -> None:
        content = leaking().cluster()
        store = _Limited(len(content.entries) + write, happened=happened)
        await fill(store, content)
        records = (await store.list(IPAM)).entries
        with pytest.raises(Unavailable):
            await split_pool(Resources(store), 4, None, "all")
        between = (await read(store)).pools
        if "all" in between:
            await split_pool(Resources(store), 4, None, "all")
        pools = (await read(store)).pools
        assert sorted(pools) == ["six", *(f"split-all-{number}" for number in range(4))]
        assert not any(pool.spec.disabled for pool in pools.values())
        assert (await store.list(IPAM)).entries == records

    asyncio.run(test())


@pytest.mark.root
def test_an_echo_is_answered() -> None:
    """This host answers itself."""
    assert echo(parse_address("127.0.0.1"), 20.0).answers is True
