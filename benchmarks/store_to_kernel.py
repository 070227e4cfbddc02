"""From a change in the store to the packet that it decides: a real agent, measured with packets. Markdown table.

A host has 100 workloads, the cluster 1,000 more. A neighbour sends datagrams to one workload, every one a flow of its
own, each carrying the time it was sent. Then either the label of the (remote) sender changes, so that a set
of addresses gains or loses it, or the policy's rule changes its port. The first datagram that meets
the new rules tells when the kernel had them, within the sender's interval.

The clock starts before the write begins; how long the write alone took stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from populated import NAMESPACE, NODE, Size, fill, furnish, need_root, quantile, workload

from calico.datastore.sqlite import SQLiteStore
from calico.datastore.typed import Resources
from calico.model.policy import EntityRule, NetworkPolicy, PolicySpec, Rule
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted
from support.host import Host, eventually
from support.netns import Namespace, link, namespaces

SENDER, TARGET = "10.66.99.1", "10.65.99.1"
PORT, OTHER_PORT = 9000, 9001
INTERVAL = 0.0005
QUIET = 0.1
"""Seconds without a datagram after which the door counts as shut: longer than the sender is ever kept waiting."""
PATIENCE = 10.0
STAMP = struct.Struct("!q")


class Sample(NamedTuple):
    """One change: seconds until the kernel had it, and of these until the write had returned."""

    total: float
    write: float


def send() -> None:
    """In a process of its own: datagrams from fresh ports, until killed."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
            each.bind((SENDER, 0))
            each.sendto(STAMP.pack(time.monotonic_ns()), (TARGET, PORT))
        time.sleep(INTERVAL)


class Arrivals:
    """When the datagrams were sent that arrived, in order."""

    def __init__(self, inside: Namespace) -> None:
        self.socket = inside.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind((TARGET, PORT))
        self.sent: list[int] = []
        self.seen = 0
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        while datagram := self.socket.recv(64):
            self.sent += STAMP.unpack(datagram)

    async def opened(self, since: int) -> int:
        """When the first datagram was sent, of those after ``since``, that arrived."""

        def first() -> int | None:
            return next((sent for sent in self.sent[self.seen :] if sent > since), None)

        return await self._when(first)

    async def shut(self) -> int:
        """When the last datagram was sent that arrived, once no more of them do."""

        def silent() -> int | None:
            last = self.sent[-1]
            return last if time.monotonic_ns() - last > QUIET * 1e9 else None

        return await self._when(silent)

    async def _when(self, known: Callable[[], int | None]) -> int:
        deadline = time.monotonic() + PATIENCE
        while (moment := known()) is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"a change was not in the kernel after {PATIENCE:.0f} s")
            await asyncio.sleep(0.001)
        self.seen = len(self.sent)
        return moment

    def close(self) -> None:
        """End the listener: a socket without a peer cannot be shut down, but whoever reads it is told."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self.socket.close()


def door(port: int) -> NetworkPolicy:
    """The policy of the workload that is sent to."""
    allow = Rule(
        action="Allow",
        protocol="UDP",
        source=EntityRule(selector="app == 'client'"),
        destination=EntityRule(ports=[port]),
    )
    return NetworkPolicy(
        metadata=Metadata(name="door", namespace=NAMESPACE),
        spec=PolicySpec(selector="app == 'target'", ingress=[allow]),
    )


def sender(app: str) -> Resource:
    return workload(9001, local=False, app=app, address=SENDER)


CHANGES: dict[str, tuple[Resource, Resource]] = {
    "label of a remote workload": (sender("client"), sender("stranger")),
    "rule of a policy": (door(PORT), door(OTHER_PORT)),
}
"""For each kind of change: what opens the door, and what shuts it."""


async def measure(database: Path, arrivals: Arrivals, kind: str, changes: int) -> list[Sample]:
    """Shut and open in turn. Each change waits for a moment by chance, so that it meets the agent at any."""
    chance = random.Random(kind)
    store = SQLiteStore(database)
    client = Resources(store)
    opening, shutting = CHANGES[kind]
    samples = []
    for number in range(changes):
        await asyncio.sleep(chance.uniform(0.05, 0.15))
        before = time.monotonic_ns()
        await client.apply(defaulted(opening if number % 2 else shutting))
        written = time.monotonic_ns()
        moment = await (arrivals.opened(before) if number % 2 else arrivals.shut())
        samples.append(Sample(max(moment - before, 0) / 1e9, (written - before) / 1e9))
    await store.close()
    return samples


def run(backend: str, size: Size, changes: int) -> dict[str, list[Sample]]:
    """All kinds of changes on one back end."""
    prefix = f"bench-{os.getpid()}"
    with (
        tempfile.TemporaryDirectory() as directory,
        namespaces(f"{prefix}-host", f"{prefix}-far", f"{prefix}-in") as (inside, far, target),
        Host(inside, NODE, Path(directory), backend=backend) as host,
    ):
        furnish(inside, size)
        link(inside, "uplink", far, "eth0")
        link(inside, "cali9000", target, "eth0")
        for namespace, *words in (
            (inside, "address", "add", "172.31.0.1/24", "dev", "uplink"),
            (far, "address", "add", "172.31.0.2/24", "dev", "eth0"),
            (far, "address", "add", SENDER, "dev", "lo"),
            (far, "route", "add", TARGET, "via", "172.31.0.1"),
            (inside, "route", "add", SENDER, "via", "172.31.0.2"),
            (target, "address", "add", TARGET, "dev", "eth0"),
            (target, "route", "add", "default", "dev", "eth0"),
        ):
            namespace.run("ip", *words)
        fill(host.database, size)
        asyncio.run(_write(host.database, workload(9000, local=True, app="target", address=TARGET)))
        for opening, _ in CHANGES.values():
            asyncio.run(_write(host.database, opening))
        host.start()
        arrivals = Arrivals(target)
        sending = far.popen(sys.executable, __file__, "--send", stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: arrivals.sent, what="the first datagram")
            return {kind: asyncio.run(measure(host.database, arrivals, kind, changes)) for kind in CHANGES}
        finally:
            sending.kill()
            sending.wait()
            arrivals.close()


async def _write(database: Path, resource: Resource) -> None:
    store = SQLiteStore(database)
    await Resources(store).apply(defaulted(resource))
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=100, help="of each kind")
    parser.add_argument("--local", type=int, default=100)
    parser.add_argument("--remote", type=int, default=1000)
    parser.add_argument("--policies", type=int, default=50)
    parser.add_argument("--backends", default="nftables,iptables-nft")
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        send()
    need_root()
    size = Size(options.local, options.remote, options.policies)
    print(f"{size.local:,} local and {size.remote:,} remote workloads, {size.policies:,} policies; ", end="")
    print(f"{options.changes} changes of each kind, a datagram every {INTERVAL * 1e3:g} ms\n")
    print("| back end | change | p50 ms | p99 ms | worst ms | of these the write, p50 ms |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for backend in options.backends.split(","):
        for kind, samples in run(backend, size, options.changes).items():
            totals = [sample.total * 1e3 for sample in samples]
            writes = [sample.write * 1e3 for sample in samples]
            print(
                f"| {backend} | {kind} | {quantile(totals, 0.5):.1f} | {quantile(totals, 0.99):.1f} "
                f"| {max(totals):.1f} | {quantile(writes, 0.5):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
