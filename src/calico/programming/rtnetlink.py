"""Links, addresses, routes and neighbours as the kernel's routing netlink speaks of them.

In:   message bodies of ``netlink``; for writing, what a route or neighbour should be.
Out:  ``Link``, ``Address``, ``Route``, ``Neighbour`` values in the kernel's own normal form; ``Request`` values.
Next: ``links`` and ``routes`` read and write with them, ``monitor`` parses events with them.

Writing always replaces, so every request may be repeated.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, Literal, NamedTuple

from calico.model.address import WIDTH, Cidr, Family
from calico.programming.netlink import (
    CREATE,
    EXCLUSIVE,
    REPLACE,
    Channel,
    Refused,
    Request,
    attribute,
    attributes,
)

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30

UP, RUNNING = 0x1, 0x40
PERMANENT: Final = 0x80
MAIN_TABLE: Final = 254
UNICAST: Final = 1
SCOPE_LINK: Final = 253
V6_DEFAULT_METRIC: Final = 1024
"""What the kernel makes of IPv6 metric 0."""

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=8BI")
_NDMSG = struct.Struct("=BxxxiHBB")
_U32 = struct.Struct("=I")

_SKIP_STATISTICS = attribute(29, _U32.pack(8))
_NO_DAD = 0x02
_TENTATIVE = 0x40
_CLONED = 0x200

_FAMILY: Final[dict[int, int]] = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION: Final[dict[int, Family]] = {socket.AF_INET: 4, socket.AF_INET6: 6}

# Of a route: gateway, preferred source, metrics, several next hops, next hop object, gateway of the other family, encapsulation.
_NOT_PLAIN = frozenset({5, 7, 8, 9, 18, 22, 30})


class Link(NamedTuple):
    """A network interface; ``number`` is its index, new for each that is made. ``up`` is the administrator's wish, ``running`` whether it can carry packets now."""

    number: int
    name: str
    up: bool
    running: bool
    mtu: int
    mac: str


class Address(NamedTuple):
    """An address of this host (full length, without its prefix) and the interface that has it.

    ``tentative``: not usable yet, the kernel is still looking for duplicates.
    """

    interface: int
    address: Cidr
    tentative: bool = False


class Route(NamedTuple):
    """A route as the kernel holds it.

    ``interface`` is 0 for one without a single outgoing interface (several next hops, blackhole). ``plain`` means
    nothing but an interface: no gateway, source, or route metrics such as an MTU.
    """

    destination: Cidr
    interface: int
    metric: int
    protocol: int
    scope: int
    tos: int = 0
    plain: bool = True
    type: int = UNICAST
    table: int = MAIN_TABLE


class Neighbour(NamedTuple):
    """Which hardware address an IP address has on an interface; ``state`` holds the kernel's NUD bits."""

    interface: int
    address: Cidr
    mac: str
    state: int


def device_route(destination: Cidr, interface: int, *, metric: int, protocol: int) -> Route:
    """A route straight out of an interface, as the kernel will read it back."""
    if destination.family == 6:
        return Route(destination, interface, metric or V6_DEFAULT_METRIC, protocol, scope=0)
    return Route(destination, interface, metric, protocol, scope=SCOPE_LINK)


def list_links(channel: Channel) -> list[Link]:
    """Every interface of the namespace."""
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _SKIP_STATISTICS
    return [
        parse_link(found) for found in channel.dump(Request(GETLINK, body, what="the list of interfaces"))
    ]


def find_links(channel: Channel, names: list[str]) -> dict[str, Link]:
    """The interfaces of these names that exist."""
    empty = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _SKIP_STATISTICS
    answers = channel.transact(
        [
            Request(
                GETLINK, empty + attribute(3, name.encode() + b"\0"), what=f"to look at the interface {name}"
            )
            for name in names
        ]
    )
    found: dict[str, Link] = {}
    for name, answer in zip(names, answers, strict=True):
        if answer.refused is not None and answer.refused.code not in {
            errno.ENODEV,
            errno.ERANGE,
            errno.EINVAL,
        }:
            raise answer.refused
        for body in answer.bodies:
            link = parse_link(body)
            if link.name == name:  # not one that merely has it as an alternative name
                found[name] = link
    return found


def list_addresses(channel: Channel) -> list[Address]:
    """Every address of the namespace's interfaces."""
    body = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found = (
        parse_address(body) for body in channel.dump(Request(GETADDR, body, what="the list of addresses"))
    )
    return [address for address in found if address is not None]


def list_routes(channel: Channel, family: Family) -> list[Route]:
    """The main table's routes of one family; an empty list where the kernel has no such family."""
    body = _RTMSG.pack(_FAMILY[family], 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
    try:
        bodies = channel.dump(Request(GETROUTE, body, what=f"the list of IPv{family} routes"))
    except Refused as refused:
        if refused.code in {errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP}:
            return []
        raise
    found = (parse_route(body) for body in bodies)
    return [
        route
        for route in found
        if route is not None and route.table == MAIN_TABLE and route.destination.family == family
    ]


def list_neighbours(channel: Channel, family: Family) -> list[Neighbour]:
    """The neighbours of one family on every interface."""
    body = _NDMSG.pack(_FAMILY[family], 0, 0, 0, 0)
    found = (
        parse_neighbour(body)
        for body in channel.dump(Request(GETNEIGH, body, what=f"the list of IPv{family} neighbours"))
    )
    return [neighbour for neighbour in found if neighbour is not None and neighbour.address.family == family]


def put_route(route: Route) -> Request:
    """Add ``route``, in place of any with the same destination, metric and type of service."""
    return Request(NEWROUTE, _route_body(route), CREATE | REPLACE, f"to set the {_route_name(route)}")


def add_route(route: Route) -> Request:
    """Add ``route`` where none with its destination, metric and type of service is; refused with EEXIST otherwise."""
    return Request(NEWROUTE, _route_body(route), CREATE | EXCLUSIVE, f"to add the {_route_name(route)}")


def drop_route(route: Route, *, any_metric: bool = False) -> Request:
    """Delete exactly ``route``; with ``any_metric`` the first that differs from it in the metric alone."""
    return Request(
        DELROUTE, _route_body(route, any_metric=any_metric), 0, f"to delete the {_route_name(route)}"
    )


def interface_towards(channel: Channel, address: Cidr) -> int | None:
    """The number of the interface by which the kernel reaches an address now; None where it does not."""
    request = Request(
        GETROUTE,
        _RTMSG.pack(_FAMILY[address.family], WIDTH[address.family], 0, 0, 0, 0, 0, 0, 0)
        + attribute(1, pack_address(address)),
        0,
        f"the route to {address.address}",
    )
    (answer,) = channel.transact([request])
    return next((_number(attributes(body, _RTMSG.size), 4) for body in answer.bodies), None)


def put_neighbour(interface: int, address: Cidr, mac: str) -> Request:
    """Give ``address`` a permanent hardware address on an interface."""
    body = _neighbour_body(interface, address, PERMANENT) + attribute(2, pack_mac(mac))
    return Request(
        NEWNEIGH,
        body,
        CREATE | REPLACE,
        f"to set the neighbour {address.address} on interface number {interface}",
    )


def drop_neighbour(interface: int, address: Cidr) -> Request:
    """Forget the hardware address of ``address`` on an interface."""
    return Request(
        DELNEIGH,
        _neighbour_body(interface, address, 0),
        0,
        f"to delete the neighbour {address.address} on interface number {interface}",
    )


def put_link_local(interface: int, address: Cidr) -> Request:
    """Give an interface a link-local IPv6 address that is usable at once, without looking for duplicates."""
    return Request(
        NEWADDR,
        _link_local_body(interface, address),
        CREATE | REPLACE,
        f"to add the address {address.address} to interface number {interface}",
    )


def drop_link_local(interface: int, address: Cidr) -> Request:
    """Take a link-local IPv6 address from an interface."""
    return Request(
        DELADDR,
        _link_local_body(interface, address),
        0,
        f"to delete the address {address.address} from interface number {interface}",
    )


def pack_address(address: Cidr) -> bytes:
    """An address as the kernel writes it, in network order."""
    return address.value.to_bytes(WIDTH[address.family] // 8, "big")


def unpack_address(family: Family, packed: bytes) -> Cidr:
    """The address in ``packed``, full length."""
    return Cidr(family, int.from_bytes(packed, "big"), WIDTH[family])


def pack_mac(text: str) -> bytes:
    """The bytes of "ee:ee:ee:ee:ee:ee"; raises ValueError for anything else."""
    packed = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if len(packed) != 6:
        raise ValueError(f"{text!r} is no hardware address: six pairs of hexadecimal digits are")
    return packed


def parse_link(body: bytes) -> Link:
    """A link out of the body of a link message."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body, _IFINFO.size)
    return Link(
        index,
        found.get(3, b"").rstrip(b"\0").decode(errors="surrogateescape"),
        bool(flags & UP),
        bool(flags & RUNNING),
        _number(found, 4),
        found.get(1, b"").hex(":"),
    )


def parse_address(body: bytes) -> Address | None:
    """An address out of the body of an address message; None for families other than IP."""
    family, _, flags, _, interface = _IFADDR.unpack_from(body)
    version = _VERSION.get(family)
    found = attributes(body, _IFADDR.size)
    packed = found.get(2) or found.get(1)  # the local end, where a link has two
    if version is None or packed is None:
        return None
    return Address(interface, unpack_address(version, packed), bool(flags & _TENTATIVE))


def parse_route(body: bytes) -> Route | None:
    """A route out of the body of a route message; None for families other than IP, and for cached copies."""
    family, length, _, tos, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    version = _VERSION.get(family)
    if version is None or flags & _CLONED:
        return None
    found = attributes(body, _RTMSG.size)
    return Route(
        Cidr(version, int.from_bytes(found.get(1, b""), "big"), length),
        _number(found, 4),
        _number(found, 6),
        protocol,
        scope,
        tos,
        _NOT_PLAIN.isdisjoint(found),
        kind,
        _number(found, 15) or table,
    )


def parse_neighbour(body: bytes) -> Neighbour | None:
    """A neighbour out of the body of a neighbour message; None for those that are not of IP."""
    family, interface, state, _, _ = _NDMSG.unpack_from(body)
    version = _VERSION.get(family)
    found = attributes(body, _NDMSG.size)
    if version is None or 1 not in found:
        return None
    return Neighbour(interface, unpack_address(version, found[1]), found.get(2, b"").hex(":"), state)


def _number(found: dict[int, bytes], kind: int) -> int:
    packed = found.get(kind)
    return 0 if packed is None else int(_U32.unpack_from(packed)[0])


def _route_body(route: Route, *, any_metric: bool = False) -> bytes:
    destination = route.destination
    body = _RTMSG.pack(
        _FAMILY[destination.family],
        destination.length,
        0,
        route.tos,
        route.table,
        route.protocol,
        route.scope,
        route.type,
        0,
    )
    body += attribute(1, pack_address(destination))
    if route.interface:
        body += attribute(4, _U32.pack(route.interface))
    if route.metric and not any_metric:
        body += attribute(6, _U32.pack(route.metric))
    return body


def _route_name(route: Route) -> str:
    return f"route {route.destination} on interface number {route.interface}"


def _link_local_body(interface: int, address: Cidr) -> bytes:
    packed = pack_address(address)
    body = _IFADDR.pack(socket.AF_INET6, 64, _NO_DAD, SCOPE_LINK, interface)
    return body + attribute(2, packed) + attribute(1, packed)


def _neighbour_body(interface: int, address: Cidr, state: Literal[0, 128]) -> bytes:
    return _NDMSG.pack(_FAMILY[address.family], interface, state, 0, 0) + attribute(1, pack_address(address))
