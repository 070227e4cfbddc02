"""Forget connections: delete the conntrack entries of addresses that left or moved, or that policy denies now.

In:   addresses, as typed values; or what chooses among the entries.
Out:  how many entries each call deleted, and how many the kernel refused to delete.
Next: ``routes`` calls this when an address leaves an interface, so that nobody inherits its connections;
``agent.revocation`` when policy denies what it allowed before.

An entry is deleted by the very bytes that the kernel listed it with, zone and identity included: a new
connection with the same addresses and ports is never taken for the old one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from calico.model.address import Cidr, Family
from calico.programming.backend import Missing
from calico.programming.netlink import NETFILTER, Channel, Refused, Request, attributes, nested
from calico.programming.netlink import attribute as pack_attribute
from calico.programming.rtnetlink import pack_address, unpack_address

_GET = 1 << 8 | 1
_DELETE = 1 << 8 | 2
_HEADER = struct.Struct("=BBH")

_ORIGINAL, _REPLY, _STATUS, _ID, _ZONE, _FILTER = 1, 2, 3, 12, 18, 25
_EXPECTED = 1
_MATCH_SOURCE = 1
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_SOURCE: Final[dict[Family, int]] = {4: 1, 6: 3}
_DESTINATION: Final[dict[Family, int]] = {4: 2, 6: 4}
_NETFILTER_FAMILY: Final[dict[Family, int]] = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION: Final[dict[int, Family]] = {number: family for family, number in _NETFILTER_FAMILY.items()}
_FEW: Final = 4
_MANY_ENTRIES: Final = 5000
"""Up to so few IPv4 addresses, and from so many entries on, the kernel is asked for the entries of each address."""
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_PICK_UP: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
_TCP: Final = 6
_ICMP_TYPE: Final[dict[Family, int]] = {4: 5, 6: 8}


class Deleted(NamedTuple):
    """What came of a deletion: entries gone, and entries that the kernel would not delete (and still exist).

    ``resumable``: TCP connections are among them that the kernel may pick up in their middle.
    """

    entries: int
    refused: int
    resumable: bool = False


class Entry(NamedTuple):
    """One tracked connection, as it was opened; ``replies_from`` differs from ``destination`` under NAT.

    ``id`` is another one for each connection. ``icmp_type`` and ``icmp_code`` are those of its first packet, None for
    other protocols. ``expected``: a helper of the kernel announced it.
    """

    source: Cidr
    destination: Cidr
    protocol: int
    source_port: int
    destination_port: int
    replies_from: Cidr
    replies_to: Cidr
    zone: int = 0
    id: int = 0
    replies_from_port: int = 0
    icmp_type: int | None = None
    icmp_code: int | None = None
    expected: bool = False


def forget(addresses: Collection[Cidr]) -> Deleted:
    """Delete every connection that one of ``addresses`` opened, or answers (also under a translated address).

    Listed and deleted in batches, whatever the number of addresses. An entry that ended by itself meanwhile
    counts as neither deleted nor refused. Prefixes are refused with ValueError. Raises Missing where the kernel
    tracks no connections, Busy if it does not answer.
    """
    for address in addresses:
        if not address.is_address:
            raise ValueError(f"{address} is a prefix; connections are forgotten by single addresses")
    if not addresses or _count() == 0:
        return Deleted(0, 0)
    packed = frozenset(map(pack_address, addresses))
    with Channel(NETFILTER) as channel:
        return _delete(channel, [body for body in _candidates(channel, packed) if _belongs(body, packed)])


def forget_chosen(chosen: Callable[[Entry], bool], families: Iterable[Family]) -> Deleted:
    """Delete every connection of ``families`` that is ``chosen``, and see to it that TCP does not take it up again.

    The kernel takes any packet of a TCP connection that it does not know for the beginning of one, also one of
    the side that never opened it: so a connection that was deleted because policy denies it would be back as its
    own reversal. Before the first one is deleted, ``nf_conntrack_tcp_loose`` is therefore switched off, for good:
    TCP begins with SYN then, and everything else is invalid. Where that cannot be written, what is chosen is
    deleted all the same, and ``resumable`` says so. Counts and raises as ``forget`` does.
    """
    if _count() == 0:
        return Deleted(0, 0)
    doomed: list[bytes] = []
    begins_anywhere = False
    with Channel(NETFILTER) as channel:
        for family in families:
            for body in _dump(channel, family):
                entry = _parse(family, body)
                if chosen(entry):
                    doomed.append(body)
                    begins_anywhere = begins_anywhere or entry.protocol == _TCP
        resumable = begins_anywhere and not _require_beginnings()
        return _delete(channel, doomed)._replace(resumable=resumable)


def _require_beginnings() -> bool:
    """Have the kernel pick up no TCP connection in its middle; whether it does so."""
    try:
        if _PICK_UP.read_text(encoding="ascii").strip() != "0":
            _PICK_UP.write_text("0", encoding="ascii")
    except OSError:
        return False
    return True


def _delete(channel: Channel, bodies: Sequence[bytes]) -> Deleted:
    """Delete the listed entries, and no others."""
    deleted = refused = 0
    for answer in channel.transact([_deletion(body) for body in bodies]):
        if answer.refused is None:
            deleted += 1
        elif answer.refused.code != errno.ENOENT:
            refused += 1
    return Deleted(deleted, refused)


def entries(family: Family) -> list[Entry]:
    """Every tracked connection of one family."""
    with Channel(NETFILTER) as channel:
        return [_parse(family, body) for body in _dump(channel, family)]


def _count() -> int | None:
    """How many connections the namespace tracks; None where that cannot be told."""
    try:
        return int(_COUNT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _candidates(channel: Channel, packed: frozenset[bytes]) -> list[bytes]:
    """Entries among which are all those of the addresses.

    A listing costs a walk of the kernel's hash table (11 ms with its 262,144 buckets) and 6 us an entry: for a few
    IPv4 addresses and many entries it is cheaper to have the kernel choose. For IPv6 its choice is inverted
    (seen in 6.18: everything but what was asked for), so IPv6 entries are always listed in full.
    """
    few = [address for address in packed if len(address) == 4]
    if len(few) > _FEW or (_count() or 0) < _MANY_ENTRIES:
        return _dump(channel, None)
    six = _dump(channel, 6) if len(few) < len(packed) else []
    return six + _dump_filtered(channel, few)


def _dump_filtered(channel: Channel, packed: Iterable[bytes]) -> list[bytes]:
    """The IPv4 entries that one of the addresses opened or answers, each entry once.

    The kernel compares (since 5.8), so that a large table is not copied for a single address. Older kernels
    ignore the filter and list everything.
    """
    found: dict[bytes, None] = {}
    wanted = struct.pack("=I", _MATCH_SOURCE)
    for address in packed:
        source = nested(_TUPLE_IP, pack_attribute(_SOURCE[4], address))
        for direction in (_ORIGINAL, _REPLY):
            query = nested(direction, source) + nested(_FILTER, pack_attribute(direction, wanted))
            found.update(dict.fromkeys(_dump(channel, 4, query)))
    return list(found)


def _dump(channel: Channel, family: Family | None, query: bytes = b"") -> list[bytes]:
    """The entries of one family, or of both."""
    number = socket.AF_UNSPEC if family is None else _NETFILTER_FAMILY[family]
    body = _HEADER.pack(number, 0, 0) + query
    try:
        found = channel.dump(Request(_GET, body, what="the list of tracked connections"))
    except Refused as refused:
        if refused.code in {errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT}:
            raise Missing(
                "The kernel lists no tracked connections; load nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)."
            ) from refused
        raise
    return [body for body in found if body[0] in _VERSION and number in {body[0], socket.AF_UNSPEC}]


def _belongs(body: bytes, packed: frozenset[bytes]) -> bool:
    """Whether one of the packed addresses opened a listed entry, or answers it."""
    if len(packed) <= _FEW and not any(address in body for address in packed):
        return False
    found = attributes(body, _HEADER.size)
    source = _SOURCE[_VERSION[body[0]]]
    sources = (
        attributes(attributes(found.get(direction, b"")).get(_TUPLE_IP, b"")).get(source, b"")
        for direction in (_ORIGINAL, _REPLY)
    )
    return not packed.isdisjoint(sources)


def _deletion(body: bytes) -> Request:
    """The request to delete a listed entry, and no other."""
    found = attributes(body, _HEADER.size)
    request = _HEADER.pack(body[0], 0, 0)
    request += nested(_ORIGINAL, found[_ORIGINAL])
    for kind in (_ID, _ZONE):
        if kind in found:
            request += pack_attribute(kind, found[kind])
    return Request(_DELETE, request, what="to delete a tracked connection")


def _parse(family: Family, body: bytes) -> Entry:
    found = attributes(body, _HEADER.size)
    original = attributes(found[_ORIGINAL])
    reply = attributes(found[_REPLY])
    ends, reply_ends = attributes(original[_TUPLE_IP]), attributes(reply[_TUPLE_IP])
    protocol = attributes(original.get(_TUPLE_PROTOCOL, b""))
    answers = attributes(reply.get(_TUPLE_PROTOCOL, b""))
    icmp_type = protocol.get(_ICMP_TYPE[family])
    icmp_code = protocol.get(_ICMP_TYPE[family] + 1)
    source, destination = _SOURCE[family], _DESTINATION[family]
    return Entry(
        unpack_address(family, ends[source]),
        unpack_address(family, ends[destination]),
        int.from_bytes(protocol.get(1, b""), "big"),
        int.from_bytes(protocol.get(2, b""), "big"),
        int.from_bytes(protocol.get(3, b""), "big"),
        unpack_address(family, reply_ends[source]),
        unpack_address(family, reply_ends[destination]),
        int.from_bytes(found.get(_ZONE, b""), "big"),
        int.from_bytes(found.get(_ID, b""), "big"),
        int.from_bytes(answers.get(2, b""), "big"),
        None if icmp_type is None else icmp_type[0],
        None if icmp_code is None else icmp_code[0],
        bool(int.from_bytes(found.get(_STATUS, b""), "big") & _EXPECTED),
    )
