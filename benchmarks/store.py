"""How fast the SQLite store is: writing, listing, and being heard by other processes.

    python benchmarks/store.py [--entries N] [--writes N] [--watchers N] [--events N] [--directory DIR]

Prints rows of a markdown table. Values are 500 bytes, as an endpoint's are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from calico.datastore.sqlite import SQLiteStore

VALUE = b"x" * 500
PACE = 0.005
TICK = 0.001


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)


async def watcher(path: Path, count: int) -> None:
    """In a process of its own: print how many milliseconds after its writing each event came."""
    store = SQLiteStore(path)
    revision = (await store.list("/none")).revision
    print("ready", flush=True)
    delays: list[float] = []
    async for events in store.watch("/stamp", revision=revision):
        now = time.monotonic_ns()
        delays += [(now - int(event.value or b"")) / 1e6 for event in events]
        if len(delays) == count:
            break
    await store.close()
    print(*delays)


async def writing(store: SQLiteStore, writes: int) -> str:
    spent: list[float] = []
    with timed(spent):
        for number in range(writes):
            await store.put(f"/w/{number % 500}", VALUE, revision=None)
    return f"{writes / spent[0]:,.0f} puts/s"


async def listing(store: SQLiteStore, entries: int) -> tuple[str, str]:
    for number in range(entries):
        await store.put(f"/e/{number:06}", VALUE, revision=None)
    spent: list[float] = []
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            with timed(ticks):
                await asyncio.sleep(TICK)

    ticking = asyncio.create_task(tick())
    for _ in range(5):
        with timed(spent):
            found = await store.list("/e/")
        assert len(found.entries) == entries
    ticking.cancel()
    return f"{quantile(spent, 0.5) * 1e3:.0f} ms", f"{(max(ticks) - TICK) * 1e3:.1f} ms"


async def latency(path: Path, store: SQLiteStore, watchers: int, events: int) -> tuple[str, str, str]:
    command = (sys.executable, __file__, "--watch", str(path), "--events", str(events))
    processes = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=1 << 24)
        for _ in range(watchers)
    ]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    await asyncio.sleep(0.2)
    for _ in range(events):
        await store.put("/stamp", b"%d" % time.monotonic_ns(), revision=None)
        await asyncio.sleep(PACE)
    delays: list[float] = []
    for process in processes:
        out, _ = await process.communicate()
        delays += map(float, out.split())
    assert len(delays) == watchers * events
    return tuple(f"{quantile(delays, share):.2f} ms" for share in (0.5, 0.99, 1.0))


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--writes", type=int, default=5_000)
    parser.add_argument("--watchers", type=int, default=5)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--directory", help="where to put the database; a temporary directory by default")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        await watcher(options.watch, options.events)
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory) / "calico.db"
        store = SQLiteStore(path)
        rate = await writing(store, options.writes)
        p50, p99, worst = await latency(path, store, options.watchers, options.events)
        whole, stall = await listing(store, options.entries)
        await store.close()
    print("| store: SQLite | |\n|---|--:|")
    print(f"| put, one after the other | {rate} |")
    print(f"| list {options.entries:,} entries | {whole} |")
    print(f"| longest stall of the event loop meanwhile | {stall} |")
    print(f"| put to event in {options.watchers} other processes, p50 | {p50} |")
    print(f"| the same, p99 | {p99} |")
    print(f"| the same, worst | {worst} |")


if __name__ == "__main__":
    asyncio.run(main())
