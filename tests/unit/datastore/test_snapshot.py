"""One command's view of a store: read once, written through, or rehearsed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.datastore.api import Conflict, Entry, Listing
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.snapshot import Change, Snapshot

Work = Callable[["Counting", MemoryStore], Awaitable[None]]


class Counting(FaultyStore):
    """A store that counts what is asked of it."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.asked: list[str] = []

    async def get(self, path: str) -> Entry | None:
        self.asked.append(f"get {path}")
        return await super().get(path)

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        self.asked.append(f"list {prefix}")
        return await super().list(prefix, revision=revision)

    async def put(self, path: str, value: bytes, **how: Any) -> int:
        self.asked.append(f"put {path}")
        return await super().put(path, value, **how)

    async def create(self, path: str, value: bytes, **how: Any) -> int:
        self.asked.append(f"create {path}")
        return await super().create(path, value, **how)


def run(work: Work) -> None:
    async def body() -> None:
        memory = MemoryStore()
        await memory.create("/a/1", b"one")
        await memory.create("/a/2", b"two")
        await work(Counting(memory), memory)

    asyncio.run(body())


def test_what_was_read_is_not_read_again() -> None:
    """Neither a path, nor one under a prefix that was listed, whether something is there or not."""

    async def work(store: Counting, _: MemoryStore) -> None:
        view = Snapshot(store)
        assert await view.get("/b") is await view.get("/b") is None
        listing = await view.list("/a/")
        assert await view.list("/a/") == listing
        assert (await view.list("/a/2")).entries == listing.entries[1:]
        assert await view.get("/a/1") == listing.entries[0]
        assert await view.get("/a/3") is None
        assert store.asked == ["get /b", "list /a/"]

    run(work)


def test_what_was_written_is_known() -> None:
    """A write costs one question, and is seen by whoever reads or lists after it."""

    async def work(store: Counting, memory: MemoryStore) -> None:
        view = Snapshot(store)
        first = (await view.list("/a/")).entries[0]
        created = await view.create("/a/3", b"three")
        changed = await view.put("/a/1", b"eins", revision=first.revision)
        assert store.asked == ["list /a/", "create /a/3", "put /a/1"]
        await view.delete("/a/2", revision=None)
        expected = (Entry("/a/1", b"eins", changed), Entry("/a/3", b"three", created))
        assert (await view.list("/a/")).entries == expected
        assert (await memory.list("/a/")).entries == expected
        assert await view.get("/a/2") is None

    run(work)


def test_a_conflict_brings_memory_up_to_date() -> None:
    """A write over what others changed fails, and the next look sees their change."""

    async def work(store: Counting, memory: MemoryStore) -> None:
        view = Snapshot(store)
        before = (await view.list("/a/")).entries[0]
        await memory.put("/a/1", b"theirs", revision=None)
        await memory.create("/a/3", b"theirs")
        for write in (view.put("/a/1", b"x", revision=before.revision), view.create("/a/3", b"x")):
            with pytest.raises(Conflict):
                await write
        assert [entry.value for entry in (await view.list("/a/")).entries] == [b"theirs", b"two", b"theirs"]
        now = await view.get("/a/1")
        assert now is not None
        await view.put("/a/1", b"mine", revision=now.revision)
        assert await memory.get("/a/1") == await view.get("/a/1")

    run(work)


def test_a_dry_run_writes_nothing_and_tells_all() -> None:
    """It judges as the store would, shows the result to whoever reads on, and lists what changed."""

    async def work(store: Counting, memory: MemoryStore) -> None:
        stored = await memory.list("/")
        one, two = stored.entries
        view = Snapshot(store, dry_run=True)
        with pytest.raises(Conflict):
            await view.create("/a/1", b"x")
        with pytest.raises(Conflict):
            await view.put("/a/1", b"x", revision=one.revision + 100)
        with pytest.raises(Conflict):
            await view.delete("/a/9", revision=None)
        await view.create("/a/3", b"three")
        await view.put("/a/1", b"eins", revision=one.revision)
        await view.put("/a/1", b"uno", revision=None)
        await view.delete("/a/2", revision=two.revision)
        await view.create("/a/4", b"four")
        await view.delete("/a/4", revision=None)
        after = (await view.list("/a/")).entries
        assert [(entry.path, entry.value) for entry in after] == [("/a/1", b"uno"), ("/a/3", b"three")]
        assert view.changes() == [
            Change("/a/1", one, after[0]),
            Change("/a/2", two, None),
            Change("/a/3", None, after[1]),
        ]
        assert await memory.list("/") == stored

    run(work)


def test_a_write_of_the_same_is_no_change() -> None:
    """What is put over itself is not told."""

    async def work(store: Counting, _: MemoryStore) -> None:
        view = Snapshot(store, dry_run=True)
        await view.put("/a/1", b"one", revision=None)
        assert view.changes() == []

    run(work)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["get", "list", "create", "put", "any", "delete", "stale"]),
        st.sampled_from(["/a/1", "/a/2", "/b/1"]),
    ),
    max_size=12,
)


@given(STEPS, st.booleans())
def test_alone_it_answers_as_the_store_itself(steps: list[tuple[str, str]], dry_run: bool) -> None:
    """As long as nobody else writes, no reader or writer can tell the view from a store."""

    async def answer(store: MemoryStore | Snapshot, step: str, path: str) -> Any:
        """What the store says, without revisions, which a dry run makes up."""
        try:
            current = await store.get(path)
            held = current.revision if current else 7
            match step:
                case "get":
                    return current and current.value
                case "list":
                    return [(each.path, each.value) for each in (await store.list(path[:3])).entries]
                case "create":
                    await store.create(path, step.encode())
                case "put":
                    await store.put(path, step.encode(), revision=held)
                case "any":
                    await store.put(path, step.encode(), revision=None)
                case "delete":
                    await store.delete(path, revision=held)
                case "stale":
                    await store.put(path, step.encode(), revision=held + 100)
        except Conflict as conflict:
            return conflict.current is None

    async def body() -> None:
        plain, under = MemoryStore(), MemoryStore()
        for store in (plain, under):
            await store.create("/a/1", b"one")
        view = Snapshot(under, dry_run=dry_run)
        for step, path in steps:
            assert await answer(view, step, path) == await answer(plain, step, path)
        if not dry_run:
            assert await under.list("/") == await plain.list("/")

    asyncio.run(body())
