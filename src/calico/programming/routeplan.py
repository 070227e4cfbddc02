"""What the kernel's routes and neighbours should be, and what differs: values in, values out.

In:   rows of ``calico.desired``, the interfaces that exist, the routes and neighbours that the kernel holds.
Out:  a ``Placement`` for each address that can be routed now, or why it has to wait; a ``Survey`` of the differences.
Next: ``routes`` carries them out.

Only unicast routes of the main table on workload interfaces are ever ours to delete. Those that belong to the
kernel, to router advertisements or to a routing daemon are not, nor is any route on another interface.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from calico.desired import RouteRow
from calico.model.address import Cidr, parse_cidr
from calico.programming.backend import Drift
from calico.programming.rtnetlink import (
    MAIN_TABLE,
    PERMANENT,
    UNICAST,
    Link,
    Neighbour,
    Route,
    device_route,
    pack_mac,
)

FOREIGN_PROTOCOLS: Final = frozenset((1, 2, *range(8, 19), 42, 99, 186, 187, 188, 189, 192))
"""Protocols (rtnetlink.h) of routes that others keep: redirects 1, the kernel 2, router advertisements 9, BIRD 12,
DHCP 16, and the other routing daemons."""

_NEVER = (parse_cidr("fe80::/10"), parse_cidr("ff00::/8"), parse_cidr("224.0.0.0/4"))


class Placement(NamedTuple):
    """Where an address is routed to: the interface by number and name, and its hardware address or ""."""

    interface: int
    name: str
    mac: str


class Kind(NamedTuple):
    """How our routes are marked in the kernel."""

    metric: int
    protocol: int

    def route(self, address: Cidr, interface: int) -> Route:
        """The route to ``address`` on an interface, in the kernel's normal form."""
        return device_route(address, interface, metric=self.metric, protocol=self.protocol)


@dataclass(slots=True)
class Survey:
    """What differs, and what to do about it, in this order: drop, forget connections, put.

    ``moved`` are addresses whose connections are to be forgotten, ``fresh`` those that had no route of any kind.
    ``grace`` says whether unexpected objects were left alone because their interface has not been known for long.
    """

    drift: list[Drift] = field(default_factory=list)
    drop_routes: list[Route] = field(default_factory=list)
    drop_neighbours: list[Neighbour] = field(default_factory=list)
    moved: set[Cidr] = field(default_factory=set)
    put: dict[Cidr, Placement] = field(default_factory=dict)
    fresh: set[Cidr] = field(default_factory=set)
    grace: bool = False


def place(row: RouteRow, link: Link | None) -> Placement | str:
    """Where a row's address is routed to; or, as a sentence, why it has to wait."""
    if link is None:
        return f"The interface {row.interface} does not exist yet."
    if not link.up:
        return f"The interface {link.name} is administratively down."
    if not link.running:
        return f"The interface {link.name} has no carrier: its other end is down."
    try:
        mac = pack_mac(row.mac).hex(":") if row.mac else ""
    except ValueError as error:
        return f"The endpoint's mac is wrong: {error}."
    return Placement(link.number, link.name, mac)


def is_ours(route: Route, workloads: Mapping[int, str]) -> bool:
    """Whether a route may be deleted when nobody desires it; ``workloads`` are the workload interfaces by number."""
    return (
        route.interface in workloads
        and route.protocol not in FOREIGN_PROTOCOLS
        and route.type == UNICAST
        and route.table == MAIN_TABLE
        and not any(never.contains(route.destination) for never in _NEVER)
    )


def survey(
    wanted: Mapping[Cidr, Placement],
    interfaces: Mapping[Cidr, str],
    workloads: Mapping[int, str],
    young: Collection[int],
    routes: Iterable[Route],
    neighbours: Iterable[Neighbour],
    kind: Kind,
) -> Survey:
    """Compare what the kernel holds with what is ``wanted``.

    ``interfaces`` names the interface of every address we know, also of those that wait; it is "" for addresses that
    were ours and no longer are. What an unknown address has on a ``young`` interface may be the work of someone
    who knows more than we do yet, so it stays for now. What a known address has elsewhere goes at once.
    """
    found = Survey()
    right: set[Cidr] = set()
    routed: set[Cidr] = set()
    altered: set[Cidr] = set()
    rivals: dict[Cidr, list[Route]] = {}
    expected = {address: kind.route(address, placement.interface) for address, placement in wanted.items()}
    for route in routes:
        address = route.destination
        target = expected.get(address)
        routed.add(address)
        if route == target:
            right.add(address)
            continue
        if target is not None and (route.metric, route.tos) == (target.metric, target.tos):
            altered.add(address)
            if address.family == 4:
                rivals.setdefault(address, []).append(route)
                continue
        if not is_ours(route, workloads):
            continue
        known = interfaces.get(address)
        if (known is None or (target is not None and route.interface == target.interface)) and (
            route.interface in young
        ):
            found.grace = True
            continue
        found.drop_routes.append(route)
        if known != workloads[route.interface]:
            found.moved.add(address)
        if address not in altered:
            found.drift.append(
                Drift(address.family, f"route {address} on {workloads[route.interface]}", "unexpected")
            )
    for address, others in rivals.items():
        # The kernel's key for IPv4 is the same: putting ours takes the first one's place. Any more were appended.
        found.drop_routes += others if address in right else others[1:]
        elsewhere = {route.interface for route in others} - {wanted[address].interface}
        if not elsewhere.isdisjoint(workloads):
            found.moved.add(address)
    _survey_neighbours(found, wanted, interfaces, workloads, young, neighbours)
    # A dropped route may share with ours all that a deletion can say: then both go, and ours is put again.
    disturbed = {route.destination for route in found.drop_routes if route.destination in altered}
    twins = {route._replace(plain=True) for route in found.drop_routes if not route.plain}
    found.drop_routes += [expected[address] for address in right & disturbed if expected[address] in twins]
    found.fresh = wanted.keys() - routed
    for address, placement in wanted.items():
        if address not in right or address in disturbed:
            found.put[address] = placement
            what = f"route {address} on {placement.name}"
            found.drift.append(Drift(address.family, what, "changed" if address in altered else "missing"))
    return found


def _survey_neighbours(
    found: Survey,
    wanted: Mapping[Cidr, Placement],
    interfaces: Mapping[Cidr, str],
    workloads: Mapping[int, str],
    young: Collection[int],
    neighbours: Iterable[Neighbour],
) -> None:
    """Add to ``found`` the permanent neighbours that are missing, wrong or unexpected."""
    lacking = {address: placement for address, placement in wanted.items() if placement.mac}
    actual: dict[Cidr, str] = {}
    for neighbour in neighbours:
        if neighbour.interface not in workloads or not neighbour.state & PERMANENT:
            continue
        address = neighbour.address
        target = wanted.get(address)
        if target is not None and target.mac and target.interface == neighbour.interface:
            actual[address] = neighbour.mac
            if neighbour.mac == target.mac:
                del lacking[address]
            continue
        if interfaces.get(address) is None and neighbour.interface in young:
            found.grace = True
            continue
        found.drop_neighbours.append(neighbour)
        what = f"neighbour {address.address} on {workloads[neighbour.interface]}"
        found.drift.append(Drift(address.family, what, "unexpected"))
    for address, placement in lacking.items():
        found.put[address] = placement
        what = f"neighbour {address.address} on {placement.name}"
        state = f"changed: {actual[address]}" if address in actual else "missing"
        found.drift.append(Drift(address.family, what, state))
