"""The way of a packet between its ends: hosts, routes and next hops, as far as the store knows them.

In:   a world, and a flow in it.
Out:  ``Hop`` values in order: which host does what with the packet.
Next: ``analysis.explain`` puts them between what the two ends say.

A host has a route to each of its workloads, and announces its blocks, and single addresses that it has from the
blocks of others. What the network between the hosts does with that is not in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from calico.analysis.world import Flow, World
from calico.calculation.facts import endpoint_id
from calico.model.address import AddressError, Cidr, address_in, parse_cidr
from calico.model.endpoint import WorkloadEndpoint
from calico.model.ipam_kinds import IPAMBlock
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.pool import IPPool


class Hop(NamedTuple):
    """What becomes of the packet at ``host`` ("" outside): the route that it takes, and where to."""

    host: str
    prefix: str
    """The route that covers the destination; "" where the store does not know it."""
    next_hop: str
    """An address, or an interface of the host; "" where it is not known."""
    words: str


class _Block(NamedTuple):
    cidr: Cidr
    node: str


def hops(world: World, flow: Flow) -> tuple[Hop, ...]:
    """The way of ``flow``, if policy lets it pass."""
    return tuple(_hops(world, flow))


def _hops(world: World, flow: Flow) -> Iterator[Hop]:
    here, there, target = flow.source.node, flow.destination.node, flow.destination.address
    block = _block(world, target)
    pool = _pool(world, target)
    if there:
        if here != there:
            yield _between(world, here, there, target, block, pool)
        yield from _through(flow)
        yield _arrival(world, flow)
        return
    if pool is not None:
        yield _nowhere(here, pool, block, target)
    elif here:
        words = f"{target.address} is outside: the host's own routes decide"
        if (source_pool := _pool(world, flow.source.address)) is not None and source_pool.spec.nat_outgoing:
            words += f"; its source becomes an address of the host (natOutgoing of pool {source_pool.metadata.name})"
        yield Hop(here, "", "", words)
    elif not flow.through:
        yield Hop("", "", "", "neither end is on a host that is known: nothing here is on its way")
    yield from _through(flow)


def _through(flow: Flow) -> Iterator[Hop]:
    """The hosts between, of which only the question knows."""
    last = flow.destination.node or flow.destination.address.address
    for node, after in pairwise((*flow.through, last)):
        yield Hop(node, "", "", f"passes it on towards {after}, as the question says")


def _between(
    world: World, here: str, there: str, target: Cidr, block: _Block | None, pool: IPPool | None
) -> Hop:
    """From one host, or from outside, to the host of the destination."""
    gateway = _address(world, there, target)
    if gateway is not None and gateway == target:
        return Hop(
            here, "", "", f"{target.address} is an address of {there}: the network between leads there"
        )
    if block is not None and block.node == there:
        prefix, whose = str(block.cidr), f"a block of {there}"
    else:
        borrowed = f" from the block {block.cidr}" if block is not None else ""
        prefix, whose = str(target), f"an address that {there} has{borrowed}"
    next_hop = gateway.address if gateway is not None else ""
    words = f"{prefix} is {whose}; next hop {next_hop or 'unknown: the store has no address of ' + there}"
    return Hop(here, prefix, next_hop, words + _tunnel(pool))


def _arrival(world: World, flow: Flow) -> Hop:
    """At the host of the destination."""
    there, target = flow.destination.node, flow.destination.address
    endpoint = flow.destination.endpoint
    if endpoint is None or not flow.destination.is_workload:
        return Hop(there, "", "", f"{target.address} is an address of the host itself")
    row = world.endpoints.get(endpoint)
    interface = row.interface if row is not None else ""
    if not interface:
        return Hop(there, "", "", f"there is no route to {target.address}: its endpoint is closed")
    return Hop(there, str(target), interface, f"{target} is behind {interface}")


def _nowhere(here: str, pool: IPPool, block: _Block | None, target: Cidr) -> Hop:
    """The destination is one of ours, and nobody has it."""
    if block is None:
        words = (
            f"no endpoint has {target.address}, and no host has a block of pool {pool.metadata.name} with it"
        )
        return Hop(here, "", "", words)
    words = (
        f"no endpoint has {target.address}; {block.node or 'nobody'} has its block {block.cidr}, and drops it"
    )
    return Hop(here, str(block.cidr), "", words)


def _tunnel(pool: IPPool | None) -> str:
    if pool is None:
        return ""
    for name, mode in (("IP in IP", pool.spec.ipip_mode), ("VXLAN", pool.spec.vxlan_mode)):
        if mode not in {None, "Never"}:
            return f"; pool {pool.metadata.name} asks for {name} ({mode})"
    return "; not encapsulated"


def _block(world: World, target: Cidr) -> _Block | None:
    """The block that an address is in, and the host that it belongs to."""
    for key, resource in world.facts.items():
        if isinstance(resource, IPAMBlock):
            try:
                cidr = parse_cidr(resource.spec.cidr or key.name)
            except AddressError:
                continue
            if cidr.contains(target):
                kind, _, owner = (resource.spec.affinity or "").partition(":")
                return _Block(cidr, owner if kind == "host" else "")
    return None


def _pool(world: World, address: Cidr) -> IPPool | None:
    """The pool that an address is of; of several the one that says it most exactly."""
    found: list[tuple[int, str, IPPool]] = []
    for resource in world.facts.values():
        if isinstance(resource, IPPool):
            try:
                cidr = parse_cidr(resource.spec.cidr)
            except AddressError:
                continue
            if cidr.contains(address):
                found.append((cidr.length, resource.metadata.name, resource))
    return max(found, key=lambda each: each[:2])[2] if found else None


def _address(world: World, host: str, target: Cidr) -> Cidr | None:
    """The address by which other hosts reach ``host``, of the family of ``target``; ``target`` if it is one of them."""
    node = world.facts.get(Key("Node", host))
    if not isinstance(node, Node):
        return None
    found = filter(None, map(address_in, node.own_addresses()))
    addresses = [address for address in found if address.family == target.family]
    return target if target in addresses else next(iter(addresses), None)


def workload_names(world: World) -> Iterator[str]:
    """What workloads are called in questions: "namespace/pod", or the endpoint's own name."""
    for key, resource in world.facts.items():
        if isinstance(resource, WorkloadEndpoint):
            yield f"{endpoint_id(key).namespace}/{resource.spec.pod or key.name}"
