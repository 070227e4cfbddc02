"""What an address costs: assigning by one host and by many, a burst on one host, and the check of everything.

    python -m benchmarks ipam [--assignments N] [--hosts N] [--burst N] [--addresses N] [--directory DIR]

On SQLite, then on an etcd of three members on loopback. Prints a markdown table. All hosts are clients of this one process, each
with its own connection to the store; a host that assigns does one after the other. Blocks have 64 addresses, and are claimed as
they are needed. The addresses that are checked are those and as many as are asked for, each of a workload of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from calico.datastore.api import Store
from calico.datastore.etcd_settings import EtcdSettings, parse_endpoints
from calico.datastore.location import Datastore
from calico.ipam import block as blocks
from calico.ipam.batch import Batch
from calico.ipam.client import Client
from calico.model import codec
from calico.model.address import Cidr, parse_cidr
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.ipam import BlockAffinity, IPAMHandle
from calico.model.keys import Key, key_of
from calico.model.resource import Metadata
from support.etcd import Cluster, installed
from support.ipam_scenes import take
from support.speakers import node, pool

BLOCK = 64
SMALL, LARGE = parse_cidr("10.0.0.0/14"), parse_cidr("10.64.0.0/12")
"""Where is assigned from, and what is checked."""


def quantile(values: list[float], share: float) -> str:
    return f"{sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3:.1f} ms"


async def prepared(store: Store, hosts: int) -> None:
    """The pools and the nodes."""
    resources = (pool("small", str(SMALL)), pool("large", str(LARGE), disabled=True))
    for resource in (*resources, *(node(f"n{number}") for number in range(hosts))):
        await store.create(key_of(resource).path, msgspec.json.encode(resource))


async def assigning(stores: list[Store], assignments: int, name: str) -> tuple[str, str, str]:
    """One address after the other by each host, all hosts at once: the median, the 99th, and the rate."""
    spent: list[float] = []

    async def host(number: int, store: Store) -> None:
        client = Client(store, f"n{number}")
        for count in range(assignments // len(stores)):
            began = time.perf_counter()
            [_] = await take(client, f"{name}-{number}-{count}", f"n{number}")
            spent.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(host(number, store) for number, store in enumerate(stores)))
    rate = len(spent) / (time.perf_counter() - began)
    return quantile(spent, 0.5), quantile(spent, 0.99), f"{rate:,.0f} /s"


async def burst(store: Store, count: int) -> str:
    """So many workloads at once on one host that has its block: until the last has its address."""
    batch = Batch(Client(store, "n0"))
    await take(batch, "before", "n0")
    began = time.perf_counter()
    taken = await asyncio.gather(*(take(batch, f"burst-{number}", "n0") for number in range(count)))
    assert len({address for [address] in taken}) == count
    return f"{(time.perf_counter() - began) * 1e3:.0f} ms"


def population(addresses: int) -> Iterator[tuple[str, bytes]]:
    """The records of so many addresses, each with a handle and a workload of its own, and their nodes."""
    for first in range(0, addresses, BLOCK):
        cidr = Cidr(4, LARGE.value + first, 26)
        name = f"large{first // BLOCK // 16}"
        host = f"host:{name}"
        yield key_of(node(name)).path, codec.encode(node(name))
        block = blocks.create(cidr, host, sequence_number=1)
        for number in range(first, min(first + BLOCK, addresses)):
            block, [address] = blocks.assign(block, f"h{number}", {"node": name}, 1)
            yield Key("IPAMHandle", f"h{number}").path, codec.encode(IPAMHandle(block={str(cidr): 1}))
            endpoint = workload(name, f"w{number}", str(address))
            yield key_of(endpoint).path, codec.encode(endpoint)
        yield Key("IPAMBlock", str(cidr)).path, codec.encode(block)
        yield (
            Key("BlockAffinity", str(cidr), host).path,
            codec.encode(BlockAffinity(state="confirmed")),
        )


def workload(host: str, name: str, address: str) -> WorkloadEndpoint:
    return WorkloadEndpoint(
        metadata=Metadata(name=f"{host}-cni-{name}-eth0", namespace="default"),
        spec=WorkloadEndpointSpec(
            orchestrator="cni",
            node=host,
            workload=name,
            endpoint="eth0",
            interface_name=f"cali{name}",
            ip_networks=[address],
        ),
    )


async def filled(store: Store, addresses: int) -> None:
    rest = population(addresses)

    async def some() -> None:
        for path, value in rest:
            await store.put(path, value, revision=None)

    await asyncio.gather(*(some() for _ in range(64)))


def checked(environment: dict[str, str]) -> str:
    """``calicoctl ipam check``, the whole process."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "calico.cli.main", "ipam", "check"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    spent = time.perf_counter() - began
    assert "Check complete" in done.stdout, done.stdout + done.stderr
    return f"{spent:.1f} s"


async def measured(place: Datastore, options: argparse.Namespace) -> list[str]:
    """The rows of one store, but for the check."""
    stores = [place.open() for _ in range(options.hosts)]
    try:
        await prepared(stores[0], options.hosts)
        alone = await assigning(stores[:1], options.assignments, "alone")
        many = await assigning(stores, options.assignments, "many")
        row = [*alone, *many, await burst(stores[0], options.burst)]
        await filled(stores[0], options.addresses)
        return row
    finally:
        for store in stores:
            await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--assignments", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--burst", type=int, default=100)
    parser.add_argument("--addresses", type=int, default=100_000)
    parser.add_argument("--directory", help="where to put the data; a temporary directory by default")
    options = parser.parse_args()
    columns: dict[str, list[str]] = {}

    def column(name: str, place: Datastore, environment: dict[str, str]) -> None:
        rows = asyncio.run(measured(place, options))
        columns[name] = [*rows, checked(os.environ | environment)]

    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        places = {f"CALICO_{key}_DIR": f"{directory}/{key}" for key in ("DATA", "RUN", "CONFIG")}
        column("SQLite", Datastore(Path(directory) / "DATA" / "calico.db"), places)
        if installed:
            with Cluster.make(Path(directory), 3) as cluster:
                endpoints = ",".join(str(member.endpoint) for member in cluster.members)
                etcd = {"DATASTORE_TYPE": "etcdv3", "ETCD_ENDPOINTS": endpoints}
                where = Datastore(EtcdSettings(endpoints=parse_endpoints(endpoints)))
                column("etcd, 3 members", where, places | etcd)
    each = f"of {options.assignments:,} assignments"
    rows = [
        f"1 host, p50 {each}",
        "the same, p99",
        "the same, rate",
        f"{options.hosts} hosts at once, p50 {each}",
        "the same, p99",
        "the same, rate",
        f"{options.burst} at once on one host, all of them",
        f"`calicoctl ipam check` over {options.addresses:,} addresses",
    ]
    print(f"| IPAM | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for number, row in enumerate(rows):
        print(f"| {row} | {' | '.join(column[number] for column in columns.values())} |")


if __name__ == "__main__":
    main()
