"""Another process at a SQLite store, for tests: ``store_process.py PATH ACTION ARGUMENTS...``."""

from __future__ import annotations

import asyncio
import sys
import time

from calico.datastore.api import Conflict
from calico.datastore.sqlite import SQLiteStore


async def count(store: SQLiteStore, name: str, times: str) -> None:
    """Be the only one who makes ``/by/NAME``; then count up ``/counter`` as often as told, losing no update."""
    await store.create(f"/by/{name}", b"")
    for _ in range(int(times)):
        while True:
            entry = await store.get("/counter")
            try:
                if entry is None:
                    await store.create("/counter", b"1")
                else:
                    await store.put("/counter", b"%d" % (int(entry.value) + 1), revision=entry.revision)
            except Conflict:
                continue
            break


async def write(store: SQLiteStore) -> None:
    """Write for ever, and print each revision that is acknowledged."""
    number = 0
    while True:
        number += 1
        revision = await store.put(f"/n/{number % 50}", b"%d" % number * 100, revision=None)
        print(revision, flush=True)


async def lease(store: SQLiteStore, seconds: str) -> None:
    """Hold ``/leased`` by a lease that is kept alive for ever."""
    number = await store.grant(float(seconds))
    await store.create("/leased", b"", lease=number)
    print("leased", flush=True)
    while True:
        await asyncio.sleep(float(seconds) / 3)
        await store.keep_alive(number)


async def stamp(store: SQLiteStore, times: str) -> None:
    """Write the time, in nanoseconds, as often as told, five milliseconds apart."""
    for number in range(int(times)):
        await store.put(f"/stamp/{number}", b"%d" % time.monotonic_ns(), revision=None)
        await asyncio.sleep(0.005)


async def follow(store: SQLiteStore, until: str) -> None:
    """Print the revision of each event from the beginning to that of the path ``until``."""
    print("following", flush=True)
    async for events in store.watch("/", revision=1):
        for event in events:
            print(event.revision, flush=True)
            if event.path == until:
                return


async def main() -> None:
    path, action, *arguments = sys.argv[1:]
    store = SQLiteStore(path, busy=30)
    await globals()[action](store, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
