"""SQLite and the plain store in memory are told the same, and must say the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from calico.datastore.api import Conflict, Event, LeaseGone, Store, StoreError, TooOld
from calico.datastore.memory import MemoryStore
from calico.datastore.sqlite import SQLiteStore
from support.stores import PATIENCE, Clock, caught_up, until, watching

PATHS = st.sampled_from(["/a", "/a/b", "/a/c", "/b", "/ab", "/ä"])
PREFIXES = st.sampled_from(["", "/", "/a", "/a/", "/b", "/c"])
VALUES = st.sampled_from([b"", b"1", b"2", b"\0\xff"])
BACK = st.integers(-1, 6)
"""How many revisions ago; less than none is the future."""


def told(error: StoreError) -> tuple[object, ...]:
    """What an error says, apart from its words."""
    match error:
        case Conflict():
            return (Conflict, error.path, error.current)
        case TooOld():
            return (TooOld, error.asked, error.oldest)
    return (type(error),)


class Follower:
    """Keeps all that a watch says."""

    def __init__(self, watch: AsyncIterator[tuple[Event, ...]]) -> None:
        self.heard: list[Event] = []
        self.end: tuple[object, ...] | None = None
        self.task = asyncio.create_task(self._follow(watch))

    async def _follow(self, watch: AsyncIterator[tuple[Event, ...]]) -> None:
        try:
            async for events in watch:
                assert (
                    len({event.revision for event in self.heard[-1:]} & {event.revision for event in events})
                    == 0
                )
                self.heard += events
        except StoreError as error:
            self.end = told(error)


class StoresAgree(RuleBasedStateMachine):
    """Two clients of one SQLite file take turns, and agree with the store in memory on everything."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        path = Path(self.directory.name) / "calico.db"
        self.memory: Store = MemoryStore(clock=self.clock)
        self.clients: list[Store] = [SQLiteStore(path, clock=self.clock) for _ in range(2)]
        self.leases: list[int] = [99]
        self.followers: list[tuple[Follower, Follower]] = []
        self.turn = 0

    def both(self, act: Callable[[Store], Awaitable[Any]]) -> Any:
        """What both stores answer to ``act``; it must be the same."""

        async def answer(store: Store) -> Any:
            try:
                return await act(store)
            except StoreError as error:
                return told(error)

        async def answers() -> tuple[Any, Any]:
            async with asyncio.timeout(PATIENCE):
                return await answer(self.memory), await answer(self.clients[self.turn % 2])

        expected, found = self.runner.run(answers())
        assert found == expected
        self.turn += 1
        return expected

    @property
    def revision(self) -> int:
        return self.both(lambda store: store.list("/nothing")).revision

    @rule(path=PATHS, value=VALUES, pick=st.none() | st.integers(0, 3))
    def create(self, path: str, value: bytes, pick: int | None) -> None:
        lease = None if pick is None else self.leases[pick % len(self.leases)]
        self.both(lambda store: store.create(path, value, lease=lease))

    @rule(path=PATHS, value=VALUES, back=st.none() | BACK, pick=st.none() | st.integers(0, 3))
    def put(self, path: str, value: bytes, back: int | None, pick: int | None) -> None:
        lease = None if pick is None else self.leases[pick % len(self.leases)]
        expected = None if back is None else self.revision - back
        self.both(lambda store: store.put(path, value, revision=expected, lease=lease))

    @rule(path=PATHS, value=VALUES)
    def put_over_current(self, path: str, value: bytes) -> None:
        entry = self.both(lambda store: store.get(path))
        if entry is not None:
            self.both(lambda store: store.put(path, value, revision=entry.revision))

    @rule(path=PATHS, back=st.none() | BACK)
    def delete(self, path: str, back: int | None) -> None:
        expected = None if back is None else self.revision - back
        self.both(lambda store: store.delete(path, revision=expected))

    @rule(prefix=PREFIXES, back=BACK)
    def list_at(self, prefix: str, back: int) -> None:
        at = self.revision - back
        self.both(lambda store: store.list(prefix, revision=at))

    @rule(back=BACK)
    def compact(self, back: int) -> None:
        at = self.revision - back
        # Who is overtaken by a compaction before having heard is too old; how quick each is, is not compared here.
        self.runner.run(caught_up(*self.clients))
        self.both(lambda store: store.compact(at))

    @rule(seconds=st.sampled_from([1, 5]))
    def grant(self, seconds: int) -> None:
        self.leases.append(self.both(lambda store: store.grant(seconds)))

    @rule(pick=st.integers(0, 5))
    def keep_alive(self, pick: int) -> None:
        lease = self.leases[pick % len(self.leases)]
        assert self.both(lambda store: store.keep_alive(lease)) in {None, (LeaseGone,)}

    @rule(pick=st.integers(0, 5))
    def revoke(self, pick: int) -> None:
        lease = self.leases[pick % len(self.leases)]
        self.both(lambda store: store.revoke(lease))

    @rule(seconds=st.sampled_from([0.5, 2, 10]))
    def elapse(self, seconds: float) -> None:
        async def pass_time() -> None:
            self.clock.now += seconds
            for store in (self.memory, *self.clients):
                await store.get("/")

        self.runner.run(pass_time())

    @rule(prefix=PREFIXES, back=BACK)
    def watch(self, prefix: str, back: int) -> None:
        at = self.revision - back

        async def begin() -> None:
            stores = (self.memory, self.clients[self.turn % 2])
            first, second = (Follower(store.watch(prefix, revision=at)) for store in stores)
            self.followers.append((first, second))
            for store in stores:
                await watching(store)

        self.runner.run(begin())

    @invariant()
    def contents_agree(self) -> None:
        self.both(lambda store: store.list(""))

    @invariant()
    def watches_agree(self) -> None:
        async def agree() -> None:
            for first, second in self.followers:
                await until(
                    lambda first=first, second=second: (
                        len(second.heard) >= len(first.heard) and bool(second.end) >= bool(first.end)
                    )
                )
                assert (second.heard, second.end) == (first.heard, first.end)

        self.runner.run(agree())

    def teardown(self) -> None:
        async def close() -> None:
            for store in (self.memory, *self.clients):
                await store.close()
            for pair in self.followers:
                for follower in pair:
                    await follower.task

        self.runner.run(close())
        self.runner.close()
        self.directory.cleanup()


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
