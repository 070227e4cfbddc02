"""The host endpoints that a flow passes where hosts only pass it on (behaviour reference 3.3, 3.6).

In:   both ends of a flow, the nodes between, the host endpoints and addresses of all nodes.
Out:  ``Passage`` for each host endpoint with policy about forwarded packets, in the order in which the packet meets them.
Next: ``analysis.world`` makes them part of its decision.

A workload's packet comes in to its host by the workload's interface, which the endpoint for all interfaces governs if
any does, and leaves it by the one that leads on; at the destination's host it is the other way round. Which interface
leads where is not in the store: it is taken to be the one with the node's address, of several that whose subnet the
neighbour is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from calico.analysis.ends import End, governor
from calico.analysis.evaluate import Packet, Picture, Verdict
from calico.analysis.host import judge_forwarded
from calico.calculation.facts import endpoint_id
from calico.desired import Direction, EndpointId, EndpointRow
from calico.model.address import AddressError, Cidr, parse_address, parse_cidr
from calico.model.endpoint import ALL_INTERFACES, HostEndpoint
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.resource import Resource
from calico.model.settings import Settings


class Passage(NamedTuple):
    """What one host endpoint says to a packet that comes in by it (ingress) or is passed on by it (egress)."""

    node: str
    endpoint: EndpointId
    direction: Direction
    verdict: Verdict


class _Foot(NamedTuple):
    """An address of a node, and the subnet that it is in; the address alone where that is not known."""

    address: Cidr
    subnet: Cidr


class Doors:
    """Which host endpoint governs which way in and out of each node."""

    def __init__(self, facts: Mapping[Key, Resource]) -> None:
        self._hosts: dict[str, list[tuple[Key, HostEndpoint]]] = {}
        self._feet: dict[str, list[_Foot]] = {}
        for key in sorted(facts):
            match facts[key]:
                case HostEndpoint() as host:
                    self._hosts.setdefault(host.spec.node, []).append((key, host))
                case Node() as node:
                    self._feet[key.name] = [*_feet(node.own_addresses())]
        for name, hosts in self._hosts.items():
            expected = (text for _, host in hosts for text in host.spec.expected_ips)
            self._feet.setdefault(name, []).extend(_feet(expected))

    def known(self, node: str) -> bool:
        """Whether there is such a node."""
        return node in self._feet

    def any_at(self, node: str) -> bool:
        """Whether the node has host endpoints at all."""
        return node in self._hosts

    def for_all(self, node: str) -> EndpointId | None:
        """The endpoint of all interfaces without one of their own, as those of workloads are."""
        return next(
            (
                endpoint_id(key)
                for key, host in self._hosts.get(node, ())
                if host.spec.interface_name == ALL_INTERFACES
            ),
            None,
        )

    def towards(self, node: str, far: Cidr) -> EndpointId | None:
        """The endpoint of the interface by which the node meets ``far``."""
        hosts = self._hosts.get(node, ())
        address = self.address(node, far)
        if address is not None:
            found = governor(address, hosts, tunnel=False)
            return None if found is None else endpoint_id(found)
        named = [key for key, host in hosts if host.spec.interface_name != ALL_INTERFACES]
        return endpoint_id(named[0]) if len(named) == 1 else self.for_all(node)

    def address(self, node: str, far: Cidr) -> Cidr | None:
        """The node's own address on the way to ``far``, if any of it is known."""
        feet = self._feet.get(node, ())
        within = (foot for foot in feet if foot.subnet.contains(far))
        alike = (foot for foot in feet if foot.address.family == far.family)
        for each in (within, alike, iter(feet)):
            if (foot := next(each, None)) is not None:
                return foot.address
        return None


def _feet(texts: Iterator[str]) -> Iterator[_Foot]:
    for text in texts:
        try:
            yield _Foot(parse_address(text.partition("/")[0]), parse_cidr(text))
        except AddressError:
            continue


def passages(
    doors: Doors,
    picture: Picture,
    rows: Mapping[EndpointId, EndpointRow],
    settings_at: Callable[[str], Settings],
    source: End,
    destination: End,
    packet: Packet,
    through: Sequence[str],
) -> Iterator[Passage]:
    """What the flow passes, in order. The way to a workload's own host ends there; from a host to its own nothing is passed."""
    for node, endpoint, direction, passes in _ways(doors, source, destination, through):
        row = None if endpoint is None else rows.get(endpoint)
        if endpoint is not None and row is not None:
            settings = settings_at(node)
            verdict = judge_forwarded(picture, row, direction, packet, settings, passes=passes)
            if verdict is not None:
                yield Passage(node, endpoint, direction, verdict)


_Way = tuple[str, EndpointId | None, Direction, bool]
"""Node, endpoint, direction, and whether the packet is passed on from there."""


def _ways(doors: Doors, source: End, destination: End, through: Sequence[str]) -> Iterator[_Way]:
    here, there = source.node, destination.node
    local = bool(here) and here == there and not through
    if source.is_workload:
        yield here, doors.for_all(here), "ingress", not local or destination.is_workload
        if not local and doors.any_at(here):
            yield here, doors.towards(here, _next(doors, through, here, destination)), "egress", True
    for place, node in enumerate(through):
        if doors.any_at(node):
            before = _next(doors, through[:place][::-1], node, source)
            after = _next(doors, through[place + 1 :], node, destination)
            yield node, doors.towards(node, before), "ingress", True
            yield node, doors.towards(node, after), "egress", True
    if destination.is_workload:
        if not local and doors.any_at(there):
            yield there, doors.towards(there, _next(doors, through[::-1], there, source)), "ingress", True
        yield there, doors.for_all(there), "egress", True


def _next(doors: Doors, nodes: Sequence[str], here: str, end: End) -> Cidr:
    """The address of the neighbour towards ``end``: of the first of ``nodes``, or of the end's node, or its own."""
    node = nodes[0] if nodes else end.node if end.is_workload else ""
    near = doors.address(here, end.address) if node else None
    found = doors.address(node, near or end.address) if node else None
    return found or end.address
