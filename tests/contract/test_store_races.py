"""Many writers race on every kind of store, and none of them loses an update."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from calico.datastore.api import Conflict, Store
from calico.datastore.typed import Resources
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from support.builders import network_set
from support.stores import STORES, World, run_in

STUBBORN = 10_000
"""How often a writer tries, when all that matters is that it gets there."""

LABELS = st.lists(st.integers(1, 12), min_size=1, max_size=8)
"""How often each of some writers adds a label of its own to the one resource."""


def labelled(resource: Resource, name: str) -> Resource:
    labels = {**(resource.metadata.labels or {}), name: "x"}
    return replace(resource, metadata=replace(resource.metadata, labels=labels))


async def add(store: Store, key: Key, writer: int, times: int) -> None:
    resources = Resources(store)
    for number in range(times):
        await resources.modify(
            key, lambda old, name=f"w{writer}-{number}": labelled(old, name), attempts=STUBBORN
        )


async def take(store: Store, key: Key, names: list[str]) -> None:
    """Remove those labels as soon as they are there."""
    resources = Resources(store)
    rest = set(names)

    def without(old: Resource) -> Resource:
        labels = dict(old.metadata.labels or {})
        found.update(rest & labels.keys())
        return replace(
            old, metadata=replace(old.metadata, labels={k: v for k, v in labels.items() if k not in rest})
        )

    while rest:
        found: set[str] = set()
        await resources.modify(key, without, attempts=STUBBORN)
        rest -= found
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=12)
@given(counts=LABELS, removed=st.integers(0, 3))
def test_writers_lose_no_update(kind: str, counts: list[int], removed: int) -> None:
    """Whatever the number of writers and clients, each change is there in the end, exactly once, and no other."""

    async def test(world: World) -> None:
        given_set = network_set("shared", "10.0.0.0/8", labels={"kept": "yes"})
        created = await Resources(world.store).create(given_set)
        key = key_of(created)
        names = [f"w{writer}-{number}" for writer, count in enumerate(counts) for number in range(count)]
        gone = names[:removed]
        await asyncio.gather(
            *(add(world.another(), key, writer, count) for writer, count in enumerate(counts)),
            take(world.another(), key, gone),
        )
        final = await Resources(world.store).get(key)
        assert final is not None
        assert final.metadata.labels == {"kept": "yes"} | dict.fromkeys(names[len(gone) :], "x")
        assert final.metadata.uid == created.metadata.uid
        assert final.spec == created.spec
        assert int(final.metadata.resource_version or 0) == (await world.store.get(key.path)).revision

    with tempfile.TemporaryDirectory() as directory:
        run_in(kind, Path(directory), test)


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=10)
@given(clients=st.integers(2, 8))
def test_one_creator_wins(kind: str, clients: int) -> None:
    """Of many who create, replace or delete the same thing at once, exactly one succeeds; the others are told."""

    async def test(world: World) -> None:
        stores = [world.another() for _ in range(clients)]

        async def outcomes(acts: list[asyncio.Future[int]]) -> list[int]:
            done = await asyncio.gather(*acts, return_exceptions=True)
            assert all(isinstance(result, int | Conflict) for result in done), done
            return [result for result in done if isinstance(result, int)]

        (made,) = await outcomes([store.create("/a", b"%d" % n) for n, store in enumerate(stores)])
        (changed,) = await outcomes([store.put("/a", b"2", revision=made) for store in stores])
        (removed,) = await outcomes([store.delete("/a", revision=changed) for store in stores])
        assert made < changed < removed
        assert await world.store.get("/a") is None

    with tempfile.TemporaryDirectory() as directory:
        run_in(kind, Path(directory), test)
