"""Stores for tests: every kind there is, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from calico.datastore.api import Event, Store
from calico.datastore.etcd import EtcdStore
from calico.datastore.memory import MemoryStore
from calico.datastore.sqlite import SQLiteStore
from support import etcd as servers

PATIENCE = 20.0
"""After how many seconds a test that waits for something has failed."""


HISTORY = 50
"""How many revisions the stores under test keep, when they compact by themselves (every thousandth)."""


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A store under test, and what a test may do around it."""

    store: Store
    open: Callable[[], Store]
    """Another client of the same data."""
    clock: Clock
    history: int | None = None
    """How many revisions the store keeps by itself; None where that is its server's affair."""
    opened: list[Store] = field(default_factory=list)

    def another(self) -> Store:
        store = self.open()
        self.opened.append(store)
        return store

    async def elapse(self, seconds: float) -> None:
        """Let time pass for leases, and let the store notice."""
        self.clock.now += seconds
        await self.store.get("/")


def memory(directory: Path) -> World:
    clock = Clock()
    store = MemoryStore(clock=clock, history=HISTORY)
    return World(store, lambda: store, clock, HISTORY)


def sqlite(directory: Path) -> World:
    clock = Clock()

    def open_store() -> Store:
        return SQLiteStore(directory / "new" / "calico.db", clock=clock, history=HISTORY)

    return World(open_store(), open_store, clock, HISTORY)


def etcd(directory: Path) -> World:
    if not servers.installed:
        pytest.skip("etcd is not installed: make system installs it")
    clock = Clock()
    leases: dict[int, tuple[float, float]] = {}
    settings = servers.shared().settings(prefix=servers.own_prefix())

    def open_store() -> Store:
        return servers.LeasesByClock(EtcdStore(settings), clock, leases)

    return World(open_store(), open_store, clock)


STORES: dict[str, Callable[[Path], World]] = {"memory": memory, "sqlite": sqlite, "etcd": etcd}
"""Every store that the contract suite runs on."""


def run_in(kind: str, directory: Path, test: Callable[[World], Awaitable[None]]) -> None:
    """Run ``test`` in a new world of ``kind``, and close it."""

    async def body() -> None:
        world = STORES[kind](directory)
        try:
            async with asyncio.timeout(PATIENCE):
                await test(world)
        finally:
            for store in (world.store, *world.opened):
                await store.close()

    asyncio.run(body())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.0005)


async def caught_up(*stores: Store) -> None:
    """Wait until those of ``stores`` that watch have heard all that was written."""
    for store in stores:
        if isinstance(store, servers.LeasesByClock):
            await store.caught_up()
        if isinstance(store, SQLiteStore) and store._reader is not None:
            reader = store._reader
            now = (await store.list("/nothing")).revision
            await until(lambda reader=reader, now=now: reader.ended or reader.feed.position >= now)


async def watching(store: Store) -> None:
    """Wait until the watch that was just begun on ``store`` is in place."""
    if isinstance(store, SQLiteStore):
        await until(lambda: store._reader is not None and not store._reader.ended)
    for _ in range(3):
        await store.get("/")
        await asyncio.sleep(0)


async def collect(
    watch: AsyncIterator[tuple[Event, ...]], until: Callable[[list[Event]], bool]
) -> list[Event]:
    """What a watch says until the test has heard enough."""
    heard: list[Event] = []
    async for events in watch:
        assert events
        heard += events
        if until(heard):
            break
    return heard


async def events_of(watch: AsyncIterator[tuple[Event, ...]], count: int) -> list[tuple[str, bytes | None]]:
    """The next ``count`` events, without their revisions."""
    return [(event.path, event.value) for event in await collect(watch, lambda heard: len(heard) >= count)]


@contextlib.asynccontextmanager
async def listening(
    watch: AsyncIterator[tuple[Event, ...]],
) -> AsyncIterator[asyncio.Task[tuple[Event, ...]]]:
    """A watch that somebody waits for while the block runs: the task of its next tuple."""

    async def following() -> tuple[Event, ...]:
        return await anext(watch)

    task = asyncio.create_task(following())
    for _ in range(10):
        await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
