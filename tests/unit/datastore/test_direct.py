"""The embedded store without an event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from calico.datastore.api import Conflict, Store, Unavailable
from calico.datastore.direct import DirectStore, at_once
from calico.datastore.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that another program made."""
    path = tmp_path / "calico.db"

    async def make() -> None:
        store = SQLiteStore(path)
        for number in range(3):
            await store.create(f"/a/{number}", b"old")
        await store.put("/a/1", b"new", revision=None)
        await store.close()

    asyncio.run(make())
    return path


def test_it_reads_what_the_other_store_reads(path: Path) -> None:
    """The same entries, now and as they were."""

    async def read(store: Store) -> list[object]:
        listing = await store.list("/a/")
        before = await store.list("/a/", revision=listing.revision - 1)
        found = [listing, before, await store.get("/a/1"), await store.get("/b")]
        await store.close()
        return found

    assert at_once(read(DirectStore(path))) == asyncio.run(read(SQLiteStore(path)))


def test_it_writes_under_the_same_conditions(path: Path) -> None:
    """A revision that is no longer the last one is a conflict; leases take their paths with them."""

    async def write(store: Store) -> None:
        entry = await store.get("/a/1")
        assert entry is not None
        revision = await store.put("/a/1", b"newer", revision=entry.revision)
        with pytest.raises(Conflict):
            await store.put("/a/1", b"lost", revision=entry.revision)
        await store.delete("/a/1", revision=revision)
        lease = await store.grant(60)
        await store.create("/a/9", b"", lease=lease)
        await store.keep_alive(lease)
        await store.revoke(lease)
        await store.compact(revision)
        assert [entry.path for entry in (await store.list("/a/")).entries] == ["/a/0", "/a/2"]
        await store.close()

    at_once(write(DirectStore(path)))


def test_it_makes_nothing(tmp_path: Path) -> None:
    """A file that is missing is a store that is lost, and stays missing."""
    path = tmp_path / "none.db"
    with pytest.raises(Unavailable, match="does not exist"):
        at_once(DirectStore(path).get("/a"))
    assert list(tmp_path.iterdir()) == []


def test_what_needs_an_event_loop_is_refused(path: Path) -> None:
    """Instead of waiting for ever."""
    with pytest.raises(Unavailable, match="cannot be waited for"):
        DirectStore(path).watch("/", revision=1)

    async def wait() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="event loop"):
        at_once(wait())


def test_errors_of_the_work_are_its_own() -> None:
    """They come out as they are."""

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        at_once(fail())
