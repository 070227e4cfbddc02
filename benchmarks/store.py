"""How fast the stores are: writing, listing, and being heard by other processes.

    python -m benchmarks store [--entries N] [--writes N] [--watchers N] [--events N] [--directory DIR]

SQLite, and an etcd of three members on loopback, with Debian's defaults for timeouts. Prints a markdown table. Values are 500
bytes, as an endpoint's are; endpoints of the last rows are real ones, decoded as an agent does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from calico.datastore.api import Store
from calico.datastore.etcd_settings import EtcdSettings, parse_endpoints
from calico.datastore.location import Datastore
from calico.datastore.typed import Resources
from calico.model.codec import encode
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.keys import key_of
from calico.model.resource import Metadata
from support.etcd import Cluster, installed

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


def at(place: str) -> Datastore:
    """The store at a path, or at endpoints."""
    if "://" in place:
        return Datastore(EtcdSettings(endpoints=parse_endpoints(place)))
    return Datastore(Path(place))


async def watcher(place: str, count: int) -> None:
    """In a process of its own: print how many milliseconds after its writing each event came."""
    store = at(place).open()
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


async def writing(store: Store, writes: int) -> str:
    spent: list[float] = []
    with timed(spent):
        for number in range(writes):
            await store.put(f"/w/{number % 500}", VALUE, revision=None)
    return f"{writes / spent[0]:,.0f} puts/s"


async def listing(store: Store, entries: int) -> tuple[str, str]:
    await filled(store, ((f"/e/{number:06}", VALUE) for number in range(entries)))
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


async def latency(place: str, store: Store, watchers: int, events: int) -> tuple[str, str, str]:
    command = (sys.executable, __file__, "--watch", place, "--events", str(events))
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


async def filled(store: Store, content: Iterable[tuple[str, bytes]]) -> None:
    """Put all of ``content``, many at a time; not measured."""
    rest = iter(content)

    async def some() -> None:
        for path, value in rest:
            await store.put(path, value, revision=None)

    await asyncio.gather(*(some() for _ in range(64)))


def endpoint(number: int) -> tuple[str, bytes]:
    """A workload endpoint, and where it is stored."""
    made = WorkloadEndpoint(
        metadata=Metadata(name=f"n-k8s-p{number}-eth0", namespace="shop", labels={"role": "web"}),
        spec=WorkloadEndpointSpec(
            orchestrator="k8s",
            node="n",
            pod=f"p{number}",
            endpoint="eth0",
            interface_name=f"cali{number:011x}",
            ip_networks=[f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"],
            profiles=["shop"],
        ),
    )
    return key_of(made).path, encode(made)


async def endpoints(store: Store, count: int) -> str:
    """List workload endpoints as resources, decoded."""
    await filled(store, map(endpoint, range(count)))
    spent: list[float] = []
    for _ in range(5):
        with timed(spent):
            found = await Resources(store).list("WorkloadEndpoint")
        assert len(found) == count
    return f"{quantile(spent, 0.5):.2f} s"


async def measured(place: str, options: argparse.Namespace) -> list[str]:
    """The column of one store."""
    store = at(place).open()
    try:
        rate = await writing(store, options.writes)
        heard = await latency(place, store, options.watchers, options.events)
        whole = await listing(store, options.entries)
        return [rate, *whole, await endpoints(store, options.entries), *heard]
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--writes", type=int, default=5_000)
    parser.add_argument("--watchers", type=int, default=5)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--directory", help="where to put the data; a temporary directory by default")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watcher(options.watch, options.events))
        return
    columns: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        columns["SQLite"] = asyncio.run(measured(f"{directory}/calico.db", options))
        if installed:
            cluster = Cluster.make(Path(directory), 3)
            with cluster:
                place = ",".join(str(member.endpoint) for member in cluster.members)
                columns["etcd, 3 members"] = asyncio.run(measured(place, options))
    rows = [
        "put, one after the other",
        f"list {options.entries:,} entries",
        "longest stall of the event loop meanwhile",
        f"list {options.entries:,} workload endpoints, decoded",
        f"put to event in {options.watchers} other processes, p50",
        "the same, p99",
        "the same, worst",
    ]
    print(f"| store | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for number, row in enumerate(rows):
        print(f"| {row} | {' | '.join(column[number] for column in columns.values())} |")


if __name__ == "__main__":
    main()
