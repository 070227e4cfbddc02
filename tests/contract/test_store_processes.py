"""Several processes at one SQLite store: races, kills, leases of the dead, and how soon others hear."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from calico.datastore.sqlite import SQLiteStore
from support import store_process
from support.stores import PATIENCE, collect

Process = asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def process(path: Path, *arguments: str) -> AsyncIterator[Process]:
    """Another process at the store, killed at the end if it still runs."""
    command = (sys.executable, store_process.__file__, str(path), *arguments)
    started = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def line(started: Process) -> str:
    """The next line that a process prints."""
    assert started.stdout is not None
    return (await started.stdout.readline()).decode().strip()


def run(path: Path, test: Callable[[SQLiteStore], Awaitable[None]]) -> None:
    async def body() -> None:
        store = SQLiteStore(path, busy=30)
        try:
            async with asyncio.timeout(3 * PATIENCE):
                await test(store)
        finally:
            await store.close()

    asyncio.run(body())


def sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_processes_race_on_a_new_file(tmp_path: Path) -> None:
    """Processes that begin at once on a file that does not exist share one store, and lose no update."""
    path = tmp_path / "new" / "calico.db"
    names, times = [f"p{number}" for number in range(5)], 30

    async def test(store: SQLiteStore) -> None:
        async with contextlib.AsyncExitStack() as stack:
            racers = [
                await stack.enter_async_context(process(path, "count", name, str(times))) for name in names
            ]
            assert [await racer.wait() for racer in racers] == [0] * len(names)
        listing = await store.list("/")
        assert {entry.path: entry.value for entry in listing.entries} == {
            "/counter": b"%d" % (times * len(names)),
            **{f"/by/{name}": b"" for name in names},
        }
        assert listing.revision == 1 + len(names) * (times + 1)
        history = await collect(
            store.watch("/", revision=1), lambda heard: heard[-1].revision == listing.revision
        )
        counts = [int(event.value or b"") for event in history if event.path == "/counter"]
        assert counts == list(range(1, times * len(names) + 1))

    run(path, test)
    assert sound(path)


def test_watchers_hear_each_revision_once_and_in_order(tmp_path: Path) -> None:
    """While several processes write, every watcher, in whatever process, hears each revision once, in order."""
    path = tmp_path / "calico.db"
    times = 40

    async def test(store: SQLiteStore) -> None:
        await store.list("/")
        heard_here = asyncio.create_task(
            collect(store.watch("/", revision=1), lambda heard: heard[-1].path == "/end")
        )
        async with (
            process(path, "follow", "/end") as follower,
            process(path, "count", "a", str(times)) as first,
            process(path, "count", "b", str(times)) as second,
        ):
            assert await line(follower) == "following"
            assert [await first.wait(), await second.wait()] == [0, 0]
            last = await store.create("/end", b"")
            expected = list(range(2, last + 1))
            assert [event.revision for event in await heard_here] == expected
            assert [int(await line(follower)) for _ in expected] == expected

    run(path, test)


@pytest.mark.parametrize("kill_after", [1, 20, 60])
def test_killed_writer_leaves_a_sound_store(tmp_path: Path, kill_after: int) -> None:
    """A writer that is killed while it writes has lost nothing that was acknowledged, and leaves a store that works."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.list("/")
        async with process(path, "write") as writer:
            acknowledged = [int(await line(writer)) for _ in range(kill_after)]
            writer.kill()
            rest = (await writer.communicate())[0].decode().split("\n")[:-1]
        acknowledged += map(int, rest)
        assert acknowledged == list(range(2, 2 + len(acknowledged)))
        now = (await store.list("/")).revision
        assert now in {acknowledged[-1], acknowledged[-1] + 1}
        history = await collect(store.watch("/", revision=1), lambda heard: len(heard) == now - 1)
        assert [event.revision for event in history] == list(range(2, now + 1))
        assert await store.put("/after", b"", revision=None) == now + 1

    run(path, test)
    assert sound(path)


def test_process_killed_while_it_makes_the_file(tmp_path: Path) -> None:
    """Killed at any time in its start, a process leaves no store or a whole one, and the next can begin."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        for number in range(4):
            async with process(path, "write") as writer:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05 + 0.04 * number):
                        await line(writer)
        await store.put("/a", b"", revision=None)

    run(path, test)
    assert sound(path)


def test_lease_of_a_killed_process(tmp_path: Path) -> None:
    """What a process held by a lease goes when the process is killed, and those who watch hear of it unasked."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.list("/")
        async with process(path, "lease", "0.5") as owner:
            assert await line(owner) == "leased"
            watch = store.watch("/leased", revision=1)
            created = await anext(watch)
            owner.kill()
            removed = await anext(watch)
        assert [event.value for event in (*created, *removed)] == [b"", None]

    run(path, test)


def test_how_soon_others_hear(tmp_path: Path) -> None:
    """Every write of another process is heard; how soon is shown, not judged."""
    path = tmp_path / "calico.db"
    times = 100
    delays: list[float] = []

    async def test(store: SQLiteStore) -> None:
        await store.list("/")
        async with process(path, "stamp", str(times)) as writer:
            async for events in store.watch("/stamp/", revision=1):
                now = time.monotonic_ns()
                delays.extend((now - int(event.value or b"")) / 1e6 for event in events)
                if len(delays) == times:
                    break
            assert await writer.wait() == 0

    run(path, test)
    delays.sort()
    print(f"write to event: p50 {delays[times // 2]:.2f} ms, p99 {delays[times * 99 // 100]:.2f} ms")
    assert len(delays) == times
