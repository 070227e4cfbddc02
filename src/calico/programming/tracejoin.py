"""The kernel's trace of packets through nftables, joined until a packet is dropped.

In:   the bodies of trace messages (``NFNLGRP_NFTRACE``), in their order.
Out:  ``Dropped``: the packet, the rule or chain policy that dropped it, and the chains that it had been through.
Next: ``programming.trace`` reads the messages, ``analysis.blame`` says whose doing a drop is.

A packet's number in the trace is the kernel's own, used again later; so nothing is remembered of a packet beyond
the end of a base chain, and with each base chain the kernel says anew what the packet looks like there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from calico.model.address import Cidr, Family
from calico.programming.netlink import attributes
from calico.programming.rtnetlink import unpack_address

TABLE_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IN, _OUT, _NFPROTO, _POLICY = 8, 9, 10, 12, 15, 16
_AT_POLICY, _AT_RETURN, _AT_RULE = 1, 2, 3
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_DROP, _GOES_ON = 0, -1  # every verdict of nftables' own (continue, jump, goto, return) is negative
_NFGENMSG: Final = 4
_MOST: Final = 4096
"""Packets of which the end is awaited: far more than are on their way at one moment."""

ICMP: Final[dict[int, Family]] = {1: 4, 58: 6}
_PORTED: Final = frozenset({6, 17, 33, 132, 136})
_IPV6_FRAGMENT: Final = 44


class Packet(NamedTuple):
    """What a packet looked like where it was dropped; ports, and type and code of ICMP, as far as it has them."""

    family: Family
    protocol: int
    source: Cidr
    destination: Cidr
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


class Place(NamedTuple):
    """A rule in the kernel; without a ``handle`` the policy of a base chain."""

    family: str
    table: str
    chain: str
    handle: int | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dropped packet. ``path``: the base chain and each chain entered from there; interfaces by number, 0: none."""

    packet: Packet
    place: Place
    path: tuple[str, ...]
    came_in: int
    goes_out: int


@dataclass(slots=True)
class _Passage:
    """A packet's way through one base chain, so far."""

    base: tuple[int, str]
    packet: Packet | None
    came_in: int
    goes_out: int
    path: list[str] = field(default_factory=list)


class Joiner:
    """Follows each traced packet; ``feed`` is given the messages one by one."""

    def __init__(self) -> None:
        self._passages: dict[bytes, _Passage] = {}

    def feed(self, body: bytes) -> Dropped | None:
        """The drop that this message tells of, if it does."""
        found = attributes(body, _NFGENMSG)
        try:
            number, kind = found[_ID], found[_TYPE][3]
            family, table, chain = body[0], _text(found[_TABLE]), _text(found[_CHAIN])
        except (IndexError, KeyError):
            return None
        if _NETWORK in found:
            # The first word of a base chain about this packet; whatever was known of its number is over.
            self._passages.pop(number, None)
            self._passages[number] = _Passage(
                (family, table), _packet(found), _number(found.get(_IN)), _number(found.get(_OUT)), [chain]
            )
            if len(self._passages) > _MOST:
                del self._passages[next(iter(self._passages))]
        passage = self._passages.get(number)
        if passage is None or passage.base != (family, table):
            return None
        if kind == _AT_POLICY:
            del self._passages[number]
            dropped, handle = _number(found.get(_POLICY), 1) == _DROP, None
        else:
            verdict = attributes(found.get(_VERDICT, b""))
            code = struct.unpack(">i", verdict.get(_VERDICT_CODE, b"\xff\xff\xff\xff"))[0]
            if code <= _GOES_ON:
                if _VERDICT_CHAIN in verdict:
                    passage.path.append(_text(verdict[_VERDICT_CHAIN]))
                return None
            del self._passages[number]
            dropped, handle = code == _DROP, int.from_bytes(found.get(_HANDLE, b""), "big")
        if not dropped or passage.packet is None:
            return None
        place = Place(TABLE_FAMILIES.get(family, str(family)), table, chain, handle)
        return Dropped(passage.packet, place, tuple(passage.path), passage.came_in, passage.goes_out)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None, default: int = 0) -> int:
    return default if value is None else int.from_bytes(value, "big")


def _packet(found: dict[int, bytes]) -> Packet | None:
    """The packet of the headers that a trace message has; None if it is no IP, or cut off."""
    network, transport = found[_NETWORK], found.get(_TRANSPORT, b"")
    version = network[0] >> 4 if network else 0
    if version == 4 and len(network) >= 20:
        protocol, later = network[9], bool(int.from_bytes(network[6:8], "big") & 0x1FFF)
        packet = Packet(4, protocol, unpack_address(4, network[12:16]), unpack_address(4, network[16:20]))
    elif version == 6 and len(network) >= 40:
        protocol = network[6]
        later = protocol == _IPV6_FRAGMENT
        packet = Packet(6, protocol, unpack_address(6, network[8:24]), unpack_address(6, network[24:40]))
    else:
        return None
    if later or len(transport) < 4:
        return packet
    if protocol in _PORTED:
        source, destination = struct.unpack_from(">HH", transport)
        return packet._replace(source_port=source, destination_port=destination)
    if ICMP.get(protocol) == packet.family:
        return packet._replace(icmp_type=transport[0], icmp_code=transport[1])
    return packet
