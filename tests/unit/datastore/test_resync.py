"""The stream of updates, over stores that break in every way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.datastore.api import Event, TooOld, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.resync import CHUNK, FIRST_PAUSE, LONGEST_PAUSE, Batch, Status, updates
from calico.model.fact import InSync, Update
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.resource import Metadata


def node(name: str) -> Key:
    return Key("Node", name)


def decode(key: Key, value: bytes, revision: int) -> Node | BlockAffinity:
    """A node whose only label is the value."""
    if value == b"bad":
        raise ValueError("this is no node")
    if key.kind == "BlockAffinity":
        return BlockAffinity(state="confirmed")
    metadata = Metadata(name=key.name, labels={"value": value.decode()}, resource_version=str(revision))
    return Node(metadata=metadata)


class Reader:
    """Follows a store in a task of its own; knows the batches, and what they make the facts."""

    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.status = Status()
        self.batches: list[Batch] = []
        self.pauses: list[float] = []
        self.now = 0.0
        self.ended = False
        self._task = asyncio.create_task(self._follow())

    @property
    def facts(self) -> dict[str, str]:
        """The label of each node that exists, by name."""
        facts: dict[str, str] = {}
        for update in self.updates:
            facts.pop(update.key.name, None)
            if isinstance(update.value, Node):
                facts[update.key.name] = update.value.metadata.labels["value"]
        return facts

    @property
    def updates(self) -> list[Update]:
        return [item for batch in self.batches for item in batch if isinstance(item, Update)]

    @property
    def in_sync(self) -> bool:
        return any(isinstance(item, InSync) for batch in self.batches for item in batch)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0)

    async def watching(self) -> None:
        """Wait until the watch that follows a listing has begun."""
        await self.until(lambda: self.status.connected)
        for _ in range(20):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Wait until all that is in the store was said."""
        now = (await self.store.store.list("/")).revision
        await self.store.store.put(node("last").path, b"%d" % now, revision=None)
        await self.until(lambda: self.facts.get("last") == str(now))

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow(self) -> None:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            for _ in range(5):
                await asyncio.sleep(0)

        stream = updates(self.store, decode=decode, pause=pause, clock=lambda: self.now, status=self.status)
        async for batch in stream:
            assert batch
            self.batches.append(batch)
        self.ended = True


@contextlib.asynccontextmanager
async def reading(store: FaultyStore) -> AsyncIterator[Reader]:
    reader = Reader(store)
    try:
        yield reader
    finally:
        await reader.stop()


def run(test: Callable[[FaultyStore], Awaitable[None]]) -> None:
    """Run a test on a new store, for at most so long."""

    async def body() -> None:
        async with asyncio.timeout(20):
            await test(FaultyStore(MemoryStore()))

    asyncio.run(body())


def test_first_picture_ends_with_in_sync() -> None:
    """The facts of the first listing come first, then InSync, in one batch while they are few."""

    async def test(store: FaultyStore) -> None:
        for name in ("b", "a"):
            await store.put(node(name).path, name.encode(), revision=None)
        async with reading(store) as reader:
            await reader.until(lambda: reader.in_sync)
            assert reader.batches == [
                (
                    Update(node("a"), decode(node("a"), b"a", 3)),
                    Update(node("b"), decode(node("b"), b"b", 2)),
                    InSync(),
                )
            ]

    run(test)


def test_empty_store_is_in_sync() -> None:
    """A store without facts is a complete picture, too."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.until(lambda: reader.in_sync)
            assert reader.batches == [(InSync(),)]

    run(test)


@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_large_first_picture_comes_in_parts(count: int) -> None:
    """A large first listing comes in batches of bounded size, and only the last ends with InSync."""

    async def test(store: FaultyStore) -> None:
        for number in range(count):
            await store.put(node(f"n{number:05}").path, b"", revision=None)
        async with reading(store) as reader:
            await reader.until(lambda: reader.in_sync)
            assert len(reader.updates) == count
            assert [len(batch) for batch in reader.batches[:-1]] == [CHUNK] * (len(reader.batches) - 1)
            assert reader.batches[-1][-1] == InSync()
            assert sum(item == InSync() for batch in reader.batches for item in batch) == 1

    run(test)


def test_changes_follow_the_picture() -> None:
    """After the picture each change is said, deletions as absence."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            await store.put(node("a").path, b"1", revision=None)
            await reader.until(lambda: reader.facts == {"a": "1"})
            await store.put(node("a").path, b"2", revision=None)
            await reader.until(lambda: reader.facts == {"a": "2"})
            await store.delete(node("a").path, revision=None)
            await reader.until(lambda: reader.facts == {})
            assert reader.updates[-1] == Update(node("a"), None)

    run(test)


def test_steps_between_are_left_out() -> None:
    """Of several changes of a fact in one wake-up only the last is said, and one that comes and goes not at all."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            await store.put(node("a").path, b"1", revision=None)
            await store.put(node("b").path, b"1", revision=None)
            await store.put(node("c").path, b"1", revision=None)
            await store.delete(node("c").path, revision=None)
            await store.put(node("a").path, b"2", revision=None)
            await reader.until(lambda: reader.facts == {"a": "2", "b": "1"})
            assert [update.key for update in reader.batches[-1]] == [node("b"), node("a")]

    run(test)


def test_unknown_paths_are_passed_over() -> None:
    """Paths that hold nothing we know, and other spellings of a fact's path, are neither said nor decoded."""

    async def test(store: FaultyStore) -> None:
        paths = [
            "/calico/unknown",
            "/calico/resources/v3/projectcalico.org/martians/a",
            "/calico/resources/v3/projectcalico.org/nodes/a/b",
            "/calico/resources/v3/projectcalico.org/nodes/",
            "/calico/ipam/v2/host/a/ipv6/block/10.0.0.0-26",
            "/elsewhere",
        ]
        for path in paths:
            await store.put(path, b"bad", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            for path in paths:
                await store.delete(path, revision=None)
            await reader.settled()
            assert {update.key for update in reader.updates} == {node("last")}
            assert reader.status.bad == {}

    run(test)


def test_ipam_is_read_beside_resources() -> None:
    """Facts that are no resources are said under their keys."""

    async def test(store: FaultyStore) -> None:
        key = Key("BlockAffinity", "10.0.0.0/26", "host:a")
        await store.put(key.path, b"{}", revision=None)
        async with reading(store) as reader:
            await reader.until(lambda: reader.in_sync)
            assert reader.updates == [Update(key, BlockAffinity(state="confirmed"))]

    run(test)


def test_bad_value_does_not_exist() -> None:
    """A value that cannot be decoded is said to be absent and shown with its reason, until it is good or gone."""

    async def test(store: FaultyStore) -> None:
        await store.put(node("a").path, b"1", revision=None)
        await store.put(node("b").path, b"bad", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            assert reader.facts == {"a": "1"}
            assert reader.status.bad == {node("b").path: "this is no node; until then as good as absent"}
            await store.put(node("a").path, b"bad", revision=None)
            await reader.until(lambda: reader.facts == {})
            assert reader.updates[-1] == Update(node("a"), None)
            await store.put(node("a").path, b"2", revision=None)
            await reader.until(lambda: reader.facts == {"a": "2"})
            assert reader.status.bad == {node("b").path: "this is no node; until then as good as absent"}
            await store.delete(node("b").path, revision=None)
            await reader.settled()
            assert reader.status.bad == {}

    run(test)


def test_deletions_while_the_watch_was_broken() -> None:
    """Facts that vanished between two watches are said to be absent, and nothing that stayed is repeated."""

    async def test(store: FaultyStore) -> None:
        for name in ("gone", "kept", "changed"):
            await store.put(node(name).path, b"1", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            before = len(reader.batches)
            store.lose()
            await store.store.delete(node("gone").path, revision=None)
            await store.store.put(node("changed").path, b"2", revision=None)
            await store.store.put(node("new").path, b"1", revision=None)
            await reader.until(lambda: len(reader.pauses) >= 2)
            assert len(reader.batches) == before
            store.recover()
            await reader.until(lambda: len(reader.batches) > before)
            (batch,) = reader.batches[before:]
            assert [(u.key.name, u.value is None) for u in batch if isinstance(u, Update)] == [
                ("gone", True),
                ("changed", False),
                ("new", False),
            ]
            assert not any(isinstance(item, InSync) for item in batch)

    run(test)


def test_lost_store_says_nothing() -> None:
    """While the store is lost nothing is said and the stream goes on; status says since when, and why."""

    async def test(store: FaultyStore) -> None:
        await store.put(node("a").path, b"1", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            reader.now = 7.0
            store.lose()
            await reader.until(lambda: len(reader.pauses) > 10)
            assert reader.facts == {"a": "1"}
            assert (reader.status.connected, reader.status.since) == (False, 7.0)
            assert "cannot be reached" in reader.status.error or "broke" in reader.status.error
            assert not reader.ended
            reader.now = 9.0
            store.recover()
            await reader.watching()
            assert (reader.status.connected, reader.status.since) == (True, 9.0)

    run(test)


def test_store_that_is_lost_at_first() -> None:
    """A reader may begin before the store can be reached; InSync waits for the first listing."""

    async def test(store: FaultyStore) -> None:
        store.lose()
        async with reading(store) as reader:
            await reader.until(lambda: len(reader.pauses) >= 3)
            assert reader.batches == []
            store.recover()
            await reader.until(lambda: reader.in_sync)

    run(test)


def test_pauses_grow_while_the_store_is_lost() -> None:
    """Each trying again waits twice as long, up to a limit."""

    async def test(store: FaultyStore) -> None:
        store.lose()
        async with reading(store) as reader:
            await reader.until(lambda: len(reader.pauses) >= 10)
            expected = [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(10)]
            assert reader.pauses[:10] == pytest.approx(expected)

    run(test)


class WatchesAreTooOld(FaultyStore):
    """A store that can be listed, and refuses every watch."""

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        self._called("watch")
        raise TooOld(revision, revision + 1)
        yield ()


def test_no_tight_loop_when_listing_works_and_watching_does_not() -> None:
    """A store that answers each listing and breaks each watch is asked ever more slowly."""

    async def test(_: FaultyStore) -> None:
        async with reading(WatchesAreTooOld(MemoryStore())) as reader:
            await reader.until(lambda: len(reader.pauses) >= 9)
            assert reader.pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
            assert reader.pauses[8] == LONGEST_PAUSE
            assert reader.batches == [(InSync(),)]

    run(test)


def test_pauses_start_anew_after_a_watch_that_held() -> None:
    """A watch that held for long and breaks is tried again soon."""

    async def test(store: FaultyStore) -> None:
        store.lose()
        async with reading(store) as reader:
            await reader.until(lambda: len(reader.pauses) >= 5)
            store.recover()
            await reader.watching()
            reader.pauses.clear()
            reader.now += LONGEST_PAUSE + 1
            store.break_watches()
            await reader.until(lambda: bool(reader.pauses))
            assert reader.pauses[0] == FIRST_PAUSE

    run(test)


def test_activity_elsewhere_does_not_age_the_watch() -> None:
    """Changes outside of the prefix, and their compaction, neither break the watch nor cost a listing."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            for _ in range(20):
                now = await store.put("/elsewhere", b"", revision=None)
            await store.compact(now)
            await store.put(node("a").path, b"1", revision=None)
            await reader.until(lambda: reader.facts == {"a": "1"})
            assert reader.status.losses == 0
            assert store.calls.count("list") == 1

    run(test)


def test_first_fact_below_new_folders() -> None:
    """The first fact of a kind or namespace is heard like any other."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            for name in ("x", "y", "z"):
                await store.create(node(name).path, name.encode())
            await reader.until(lambda: reader.facts == {"x": "x", "y": "y", "z": "z"})
            assert [update.key.name for update in reader.updates] == ["x", "y", "z"]

    run(test)


def test_compaction_while_the_watch_was_broken() -> None:
    """When what happened meanwhile was compacted away, one fresh listing tells it, not a watch tried for ever."""

    async def test(store: FaultyStore) -> None:
        await store.put(node("a").path, b"1", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            store.break_watches(TooOld(1, 2))
            now = await store.store.put(node("b").path, b"1", revision=None)
            await store.store.delete(node("a").path, revision=None)
            await store.store.compact(now + 1)
            await reader.until(lambda: reader.facts == {"b": "1"})
            await reader.watching()
            assert [call for call in store.calls if call in {"list", "watch"}] == ["list", "watch"] * 2

    run(test)


def test_silent_connection_that_the_store_gave_up() -> None:
    """What happened while a dead connection looked alive is told when the store notices."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            connection, store.store = store.store, MemoryStore()
            await store.store.put(node("a").path, b"1", revision=None)
            store.break_watches(Unavailable("no keep-alive was answered"))
            await reader.until(lambda: reader.facts == {"a": "1"})
            assert reader.status.error == "no keep-alive was answered"
            await connection.close()

    run(test)


def test_store_restored_from_a_backup() -> None:
    """A store whose revisions went back is read afresh: also a fact with the same revision and another value."""

    async def test(store: FaultyStore) -> None:
        for name, value in (("a", b"1"), ("b", b"1"), ("c", b"1")):
            await store.put(node(name).path, value, revision=None)
        backup = MemoryStore()
        await backup.put(node("a").path, b"1", revision=None)
        await backup.put(node("b").path, b"other", revision=None)
        async with reading(store) as reader:
            await reader.watching()
            store.store = backup
            store.break_watches(TooOld(4, 1))
            await reader.until(lambda: reader.facts == {"a": "1", "b": "other"})
            assert [update.key.name for update in reader.updates[3:]] == ["c", "b"]
            assert reader.status.revision == 3

    run(test)


def test_what_was_heard_before_the_break_is_said() -> None:
    """Events that had arrived when the watch broke are said before the store is listed again."""

    async def test(_: FaultyStore) -> None:
        memory = MemoryStore()
        store = FaultyStore(memory)
        async with reading(store) as reader:
            await reader.watching()
            await store.put(node("a").path, b"1", revision=None)
            memory._feed.fail(lambda _: Unavailable("the connection broke"))
            await reader.until(lambda: reader.facts == {"a": "1"})
            assert store.calls.count("list") == 1
            await reader.until(lambda: reader.status.losses == 1)

    run(test)


def test_closing_the_store_ends_the_stream() -> None:
    """The stream ends when the store is closed by its owner."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            await reader.watching()
            await store.close()
            await reader.until(lambda: reader.ended)
            assert not reader.status.connected

    run(test)


STEPS = st.one_of(
    st.tuples(st.sampled_from(["put"]), st.sampled_from("abc"), st.sampled_from([b"1", b"2", b"bad"])),
    st.tuples(st.sampled_from(["delete"]), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["break", "lose", "recover", "compact", "wait", "too old"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_reader_ends_with_what_is_stored(steps: list[tuple[str, ...]]) -> None:
    """Whatever breaks when, the reader ends with what is stored, and each fact's revisions only grow on the way."""

    async def test(store: FaultyStore) -> None:
        async with reading(store) as reader:
            for step in steps:
                match step:
                    case ("put", name, value):
                        await store.store.put(node(name).path, value, revision=None)
                    case ("delete", name):
                        if await store.store.get(node(name).path):
                            await store.store.delete(node(name).path, revision=None)
                    case ("break",):
                        store.break_watches()
                    case ("too old",):
                        store.break_watches(TooOld(1, 2))
                    case ("lose",):
                        store.lose()
                    case ("recover",):
                        store.recover()
                    case ("compact",):
                        await store.compact(
                            (await store.store.list("/")).revision
                        ) if not store._lost else None
                    case ("wait",):
                        for _ in range(20):
                            await asyncio.sleep(0)
            store.recover()
            await reader.settled()
            entries = (await store.store.list("/")).entries
            assert reader.facts == {
                entry.path.rpartition("/")[2]: entry.value.decode()
                for entry in entries
                if entry.value != b"bad"
            }
            assert set(reader.status.bad) == {entry.path for entry in entries if entry.value == b"bad"}
            for name in "abc":
                revisions = [
                    int(update.value.metadata.resource_version)
                    for update in reader.updates
                    if update.key == node(name) and isinstance(update.value, Node)
                ]
                assert revisions == sorted(set(revisions))

    run(test)
