"""The lab's part of an orchestrator: what is written into the store, and read back from it.

In:   a ``Topology``, policy as text; the lab's store.
Out:  resources in the store, addresses from IPAM; the ``World`` that the store describes.
Next: agents program it; ``probe`` compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Final, Literal

from calico.analysis.world import World
from calico.datastore.api import Store
from calico.datastore.location import Datastore
from calico.datastore.resync import picture
from calico.datastore.typed import Resources
from calico.ipam.client import Client, Request
from calico.ipam.errors import Short
from calico.lab import resources
from calico.lab.flows import Flow
from calico.lab.state import LabError
from calico.lab.topology import Topology, Workload
from calico.model import codec
from calico.model.keys import Key
from calico.model.resource import Resource
from calico.model.validation import defaulted

ECHO_REQUEST: Final = {4: 8, 6: 128}
Addresses = dict[str, tuple[str, ...]]


def example_policy() -> list[Resource]:
    """The example's policy: tenants are closed to each other, with a few doors."""
    source = files("calico.lab").joinpath("example", "policy.yaml")
    return codec.load(source.read_text(encoding="utf-8"), "policy.yaml of the example")


def prepare(store: Datastore, topology: Topology, policy: Iterable[Resource]) -> Addresses:
    """Write all that comes before workloads, then take the workloads' addresses from the hosts' blocks."""

    async def work() -> Addresses:
        opened = store.open()
        try:
            typed = Resources(opened)
            for resource in (*resources.initial(topology), *policy):
                await typed.apply(defaulted(resource))
            return await _assign(opened, topology)
        finally:
            await opened.close()

    return asyncio.run(work())


async def _assign(store: Store, topology: Topology) -> Addresses:
    addresses: Addresses = {}
    for host in topology.hosts:
        client = Client(store, host.name)
        for workload in host.workloads:
            handle = f"lab.{workload.namespace}.{workload.name}"
            request = Request(handle=handle, ipv4=1, ipv6=1, attributes=_attributes(workload))
            try:
                given = await client.assign_whole(request)
            except Short as short:
                raise LabError(
                    f"the pools have no addresses left for {workload.name} on {host.name}: "
                    f"larger pools, or fewer workloads ({'; '.join(short.messages)})"
                ) from short
            addresses[workload.name] = tuple(cidr.address for cidr in given.addresses)
    return addresses


def _attributes(workload: Workload) -> dict[str, str]:
    return {"namespace": workload.namespace, "node": workload.node, "pod": workload.name}


def attach(store: Datastore, topology: Topology, addresses: Addresses) -> None:
    """Write the workloads' endpoints."""

    async def work() -> None:
        opened = store.open()
        try:
            typed = Resources(opened)
            for workload in topology.workloads:
                await typed.apply(resources.workload_endpoint(workload, addresses[workload.name]))
        finally:
            await opened.close()

    asyncio.run(work())


def facts(store: Datastore) -> dict[Key, Resource]:
    """Every resource of the store as agents read it: what is unreadable is absent, or denies."""

    async def work() -> dict[Key, Resource]:
        opened = store.open()
        try:
            found, _ = await picture(opened, decode=codec.decode)
        finally:
            await opened.close()
        return {key: value for key, value in found.items() if isinstance(value, Resource)}

    return asyncio.run(work())


def expectation(store: Datastore) -> Callable[[Flow], Literal["allow", "deny"]]:
    """What policy says of a flow, by the reference evaluator over what the store holds now."""
    world = World(facts(store))

    def expect(flow: Flow) -> Literal["allow", "deny"]:
        service = flow.service
        decision = world.decide(
            source=flow.source.address(flow.version),
            destination=flow.destination.address(flow.version),
            protocol=service.protocol,
            port=service.port,
            icmp_type=ECHO_REQUEST[flow.version] if service.port is None else None,
            icmp_code=0 if service.port is None else None,
        )
        return "allow" if decision.allowed else "deny"

    return expect
