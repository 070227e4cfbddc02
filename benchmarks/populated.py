"""One host with many workloads in a cluster with many more, for benchmarks: namespaces, interfaces, a full store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from calico.datastore.sqlite import SQLiteStore
from calico.datastore.typed import Resources
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.node import Node, NodeBGP, NodeSpec
from calico.model.policy import EntityRule, NetworkPolicy, PolicySpec, Profile, ProfileSpec, Rule
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted
from support.netns import Namespace

NODE = "bench"
NAMESPACE = "bench"
APPS = 50
"""Distinct values of the label that policies select by."""
ALLOW = [Rule(action="Allow")]


class Size(NamedTuple):
    """How many workloads here and elsewhere, and how many policies."""

    local: int = 100
    remote: int = 1000
    policies: int = 50


def need_root() -> None:
    """Leave with a sentence where namespaces cannot be made."""
    if os.geteuid() != 0:
        raise SystemExit("needs root: network namespaces and the packet filter")


def workload(
    number: int, *, local: bool, app: str | None = None, address: str | None = None
) -> WorkloadEndpoint:
    """One workload; its host's end of the interface is ``cali<number>``."""
    node = NODE if local else f"node-{number % 40}"
    where = address or f"10.{65 if local else 66}.{number // 250}.{number % 250 + 1}"
    return WorkloadEndpoint(
        metadata=Metadata(namespace=NAMESPACE, labels={"app": app or f"app-{number % APPS}"}),
        spec=WorkloadEndpointSpec(
            node=node,
            orchestrator="k8s",
            pod=f"{'local' if local else 'remote'}{number}",
            endpoint="eth0",
            interface_name=f"cali{number}",
            ip_networks=[f"{where}/32"],
            profiles=[f"kns.{NAMESPACE}"],
        ),
    )


def policy(number: int, port: int = 8080) -> NetworkPolicy:
    """A policy that lets one application talk to another."""
    source = EntityRule(selector=f"app in {{'app-{(number + 1) % APPS}', 'app-{(number + 7) % APPS}'}}")
    return NetworkPolicy(
        metadata=Metadata(name=f"p{number}", namespace=NAMESPACE),
        spec=PolicySpec(
            selector=f"app == 'app-{number % APPS}'",
            ingress=[
                Rule(action="Allow", protocol="TCP", source=source, destination=EntityRule(ports=[port]))
            ],
        ),
    )


def resources(size: Size) -> Iterator[Resource]:
    """Everything that the store holds."""
    yield Node(metadata=Metadata(name=NODE), spec=NodeSpec(bgp=NodeBGP(ipv4_address="172.31.0.1/24")))
    yield Profile(
        metadata=Metadata(name=f"kns.{NAMESPACE}"),
        spec=ProfileSpec(
            ingress=ALLOW, egress=ALLOW, labels_to_apply={"pcns.projectcalico.org/name": NAMESPACE}
        ),
    )
    for number in range(size.policies):
        yield policy(number)
    for number in range(size.local):
        yield workload(number, local=True)
    for number in range(size.remote):
        yield workload(number, local=False)


def fill(database: Path, size: Size) -> None:
    """Write a full store."""

    async def write() -> None:
        store = SQLiteStore(database)
        try:
            client = Resources(store)
            for resource in resources(size):
                await client.apply(defaulted(resource))
        finally:
            await store.close()

    asyncio.run(write())


def furnish(host: Namespace, size: Size) -> None:
    """Give the host the interfaces of its workloads, whose other ends lead nowhere."""
    lines = [
        line
        for number in range(size.local)
        for line in (
            f"link add cali{number} type veth peer name p{number}",
            f"link set cali{number} up",
            f"link set p{number} up",
        )
    ]
    host.run("ip", "-batch", "-", stdin="\n".join(lines), timeout=300)


def quantile(values: list[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
