"""Judge a packet filter by packets: a host between two workloads and the outside, and what gets through.

A ``World`` is four namespaces. ``host`` routes between ``w1`` (on its interface cali1), ``w2`` (cali2) and
``outside`` (eth0). A ``Probe`` is one packet, built byte for byte, so that any protocol, port, ICMP type and source
address can be sent. Behind the probes of one call goes a *fence* on the same way: a packet of protocol 253, which
every base chain must let through (``fenced``). Packets on one way keep their order, so once the fence has arrived
a probe that has not is dropped, and nobody waits for a time-out. All are sent from one CPU, for each has a queue of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from calico.model.address import Family
from calico.ruleset import ast
from support.netns import Namespace, link, namespaces

ADDRESS: Final[dict[str, dict[Family, str]]] = {
    "w1": {4: "10.65.0.1", 6: "fd65::1"},
    "w2": {4: "10.65.0.2", 6: "fd65::2"},
    "outside": {4: "172.31.0.2", 6: "fd31::2"},
    "host": {4: "172.31.0.1", 6: "fd31::1"},
}
INTERFACE: Final = {"w1": "cali1", "w2": "cali2", "outside": "eth0"}
TCP, UDP, SCTP, UDPLITE, ICMP, ICMP6, GRE = 6, 17, 132, 136, 1, 58, 47
_FENCE: Final = 253
_FENCE_TIMEOUT: Final = 20.0
_GRACE: Final = 0.01
_OUTGOING: Final = 4
_RAW_PROTOCOLS: Final = (TCP, UDP, SCTP, UDPLITE, ICMP, ICMP6, GRE, _FENCE)
_FAMILIES: Final[tuple[Family, ...]] = (4, 6)
_tokens = itertools.count(int.from_bytes(b"probe\0\0\0", "big"))
_ports = itertools.cycle(range(20000, 60000))


@dataclass(frozen=True)
class Probe:
    """One packet from one namespace to another; a source port of 0 stands for a fresh one."""

    source: str
    destination: str
    family: Family = 4
    protocol: int = UDP
    sport: int = 0
    dport: int = 80
    icmp: tuple[int, int] = (8, 0)
    claimed: str = ""
    """A forged source address."""
    towards: str = ""
    """Another destination address."""
    lead: bytes = b""
    """What begins the payload of a protocol that is not built here."""

    @property
    def source_address(self) -> str:
        return self.claimed or ADDRESS[self.source][self.family]

    @property
    def destination_address(self) -> str:
        return self.towards or ADDRESS[self.destination][self.family]


class Arrival(NamedTuple):
    """A probe as it came out: its source may have been translated."""

    source_address: str
    sport: int


class World:
    """The four namespaces and the sockets in them."""

    def __init__(self, spaces: Mapping[str, Namespace]) -> None:
        self.spaces = spaces
        self.host = spaces["host"]
        self._senders = {
            (name, family): space.call(lambda family=family: _sender(family))  # type: ignore[misc]
            for name, space in spaces.items()
            for family in _FAMILIES
        }
        self._receivers = {space.call(_tap): name for name, space in spaces.items() if name != "host"}
        self._receivers |= dict.fromkeys(self.host.call(_raw_receivers), "host")

    def close(self) -> None:
        for opened in (*self._senders.values(), *self._receivers):
            opened.close()

    def forget_flows(self) -> None:
        """Empty the host's connection tracking."""
        self.host.run("conntrack", "-F", check=False)

    def send(self, *probes: Probe) -> list[Arrival | None]:
        """Send the probes in order; for each, how it arrived, or None if it was dropped."""
        return self.observe(*probes)[0]

    def observe(self, *probes: Probe) -> tuple[list[Arrival | None], list[bytes]]:
        """As ``send``; besides, every other packet that came in anywhere meanwhile, such as resets and ICMP errors."""
        self._drain()
        tokens = [next(_tokens).to_bytes(8, "big") for _ in probes]
        ways = dict.fromkeys(
            (p.source, p.destination, p.family, p.source_address, p.destination_address) for p in probes
        )
        fences = {next(_tokens).to_bytes(8, "big"): way for way in ways}
        with on_one_cpu():
            for probe, token in zip(probes, tokens, strict=True):
                self._emit(probe, token)
            for token, (source, destination, family, _, _) in fences.items():
                self._emit(Probe(source, destination, family, protocol=_FENCE), token)
        expected = {token: way[1] for token, way in fences.items()}
        expected |= {token: probe.destination for token, probe in zip(tokens, probes, strict=True)}
        seen: dict[bytes, bytes] = {}
        others: list[bytes] = []
        deadline = time.monotonic() + _FENCE_TIMEOUT
        while missing := fences.keys() - seen.keys():
            if time.monotonic() > deadline:
                ways_lost = [fences[token][:3] for token in missing]
                raise AssertionError(
                    f"the fence was lost on {ways_lost}: the ruleset blocks it, or the way is broken"
                )
            self._collect(0.05, seen, others, expected)
        self._collect(_GRACE, seen, others, expected)
        arrivals = [
            _arrival(seen[token], probe) if token in seen else None
            for token, probe in zip(tokens, probes, strict=True)
        ]
        return arrivals, others

    def passes(self, *probes: Probe) -> list[bool]:
        """For each probe whether it arrived."""
        return [arrival is not None for arrival in self.send(*probes)]

    def _emit(self, probe: Probe, token: bytes) -> None:
        packet = build(probe, token)
        target = probe.destination_address
        # What an output chain drops is refused to the sender at once.
        with contextlib.suppress(PermissionError):
            self._senders[probe.source, probe.family].sendto(packet, (target, 0))

    def _collect(
        self, seconds: float, seen: dict[bytes, bytes], others: list[bytes], expected: Mapping[bytes, str]
    ) -> None:
        """Receive until all has been seen where it is expected, or for so many seconds of silence.

        An ICMP error quotes the packet that it is about, so what ends in a token is a probe only at its destination.
        """
        deadline = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select(list(self._receivers), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return
            for one in ready:
                data, address = one.recvfrom(4096)
                if one.family == socket.AF_PACKET and address[2] == _OUTGOING:
                    continue
                if expected.get(data[-8:]) == self._receivers[one]:
                    seen[data[-8:]] = data
                else:
                    others.append(data)
            if len(seen) == len(expected):
                return

    def _drain(self) -> None:
        self._collect(0.0, {}, [], {b"": ""})


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread on one CPU: what it sends over virtual links meanwhile stays in order."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def world(prefix: str) -> Iterator[World]:
    """A fresh world whose namespaces begin with ``prefix``."""
    names = ("host", "w1", "w2", "outside")
    with namespaces(*(f"{prefix}-{name}" for name in names)) as made:
        spaces = dict(zip(names, made, strict=True))
        _wire(spaces)
        built = World(spaces)
        try:
            yield built
        finally:
            built.close()


def _wire(spaces: Mapping[str, Namespace]) -> None:
    host = spaces["host"]
    for name in ("w1", "w2", "outside"):
        link(host, INTERFACE[name], spaces[name], "eth0")
    _script(host, _host_lines(spaces))
    for name in ("w1", "w2", "outside"):
        gateways = {4: "172.31.0.1", 6: "fd31::1"} if name == "outside" else {4: "169.254.1.1", 6: "fe80::1"}
        mac = _mac(host, INTERFACE[name])
        lines = ["sysctl -qw net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.all.rp_filter=0"]
        for family in _FAMILIES:
            lines += [
                f"ip -{family} addr add {ADDRESS[name][family]}/{32 if family == 4 else 128} dev eth0 {'nodad' if family == 6 else ''}",
                f"ip -{family} route add {gateways[family]} dev eth0",
                f"ip -{family} route add default via {gateways[family]} dev eth0",
                f"ip -{family} neigh replace {gateways[family]} lladdr {mac} nud permanent dev eth0",
            ]
        _script(spaces[name], lines)


def _host_lines(spaces: Mapping[str, Namespace]) -> list[str]:
    """Forwarding, no checks of the kernel's own, and fixed neighbours, so that no rule can break resolution."""
    lines = [
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0",
        "sysctl -qw net.netfilter.nf_conntrack_checksum=0",  # Its opinion of UDPLite is its own.
        "ip addr add 172.31.0.1/32 dev eth0",
        "ip addr add fd31::1/128 dev eth0 nodad",
    ]
    for name in ("w1", "w2", "outside"):
        interface = INTERFACE[name]
        mac = _mac(spaces[name], "eth0")
        lines.append(f"sysctl -qw net.ipv4.conf.{interface}.rp_filter=0")
        if name != "outside":
            lines += [
                f"ip addr add 169.254.1.1/32 dev {interface}",
                f"ip addr add fe80::1/64 dev {interface} nodad",
            ]
        for family in _FAMILIES:
            lines += [
                f"ip -{family} route add {ADDRESS[name][family]} dev {interface}",
                f"ip -{family} neigh replace {ADDRESS[name][family]} lladdr {mac} nud permanent dev {interface}",
            ]
    return lines


def _script(space: Namespace, lines: Sequence[str]) -> None:
    space.run("sh", "-e", "-c", "\n".join(lines))


def _mac(space: Namespace, interface: str) -> str:
    return space.run("ip", "-br", "link", "show", interface).stdout.split()[2]


def _sender(family: Family) -> socket.socket:
    return socket.socket(
        socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW
    )


def _tap() -> socket.socket:
    """Every packet that a namespace's interfaces get, from the IP header on."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))


def _raw_receivers() -> list[socket.socket]:
    """What the host's input chains let through; without an IP header for IPv6."""
    return [
        socket.socket(family, socket.SOCK_RAW, protocol)
        for family in (socket.AF_INET, socket.AF_INET6)
        for protocol in _RAW_PROTOCOLS
    ]


# --- packets


def build(probe: Probe, token: bytes) -> bytes:
    """The packet's bytes from the IP header on, ending in ``token``, with valid checksums."""
    source = socket.inet_pton(_af(probe.family), probe.source_address)
    destination = socket.inet_pton(_af(probe.family), probe.destination_address)
    payload = _transport(probe, source, destination, token)
    if probe.family == 4:
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, probe.protocol, 0, source, destination
        )
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    else:
        head = struct.pack("!IHBB16s16s", 6 << 28, len(payload), probe.protocol, 64, source, destination)
    return head + payload


def _transport(probe: Probe, source: bytes, destination: bytes, token: bytes) -> bytes:
    sport = probe.sport or next(_ports)
    pseudo = source + destination
    if probe.protocol == TCP:
        bare = struct.pack("!HHIIBBHHH", sport, probe.dport, 1, 0, 5 << 4, 2, 1024, 0, 0) + token
        return _summed(bare, 16, pseudo, TCP)
    if probe.protocol == UDP:
        bare = struct.pack("!HHHH", sport, probe.dport, 8 + len(token), 0) + token
        return _summed(bare, 6, pseudo, UDP)
    if probe.protocol == UDPLITE:
        bare = struct.pack("!HHHH", sport, probe.dport, 0, 0) + token
        return _summed(bare, 6, pseudo, UDPLITE)
    if probe.protocol == SCTP:
        # INIT with a parameter that ends in the token; unknown parameters are skipped.
        chunk = struct.pack("!BBHIIHHI", 1, 0, 32, 1, 1024, 1, 1, 1) + struct.pack("!HH", 0x8008, 12) + token
        bare = struct.pack("!HHII", sport, probe.dport, 0, 0) + chunk
        return bare[:8] + struct.pack("<I", _crc32c(bare)) + bare[12:]
    if probe.protocol in {ICMP, ICMP6}:
        bare = struct.pack("!BBHHH", *probe.icmp, 0, sport, 1) + token
        return _summed(bare, 2, pseudo if probe.protocol == ICMP6 else None, probe.protocol)
    return probe.lead + token


def _summed(bare: bytes, offset: int, pseudo: bytes | None, protocol: int) -> bytes:
    tail = b"" if pseudo is None else pseudo + struct.pack("!II", len(bare), protocol)
    value = _checksum(tail + bare) or 0xFFFF
    return bare[:offset] + struct.pack("!H", value) + bare[offset + 2 :]


def _checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _arrival(data: bytes, probe: Probe) -> Arrival:
    if probe.destination == "host" and probe.family == 6:
        return Arrival(
            probe.source_address, struct.unpack("!H", data[:2])[0]
        )  # The header stays in the kernel.
    if probe.family == 4:
        return Arrival(socket.inet_ntop(socket.AF_INET, data[12:16]), struct.unpack("!H", data[20:22])[0])
    return Arrival(socket.inet_ntop(socket.AF_INET6, data[8:24]), struct.unpack("!H", data[40:42])[0])


def _af(family: Family) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


# --- rulesets that let the fence through

_LET_FENCE_THROUGH: Final = ast.Rule((ast.Protocol(_FENCE),), (ast.Accept(),), comment="fence of the tests")


def fenced_chain(chain: ast.Chain) -> ast.Chain:
    """A base chain that lets the fence through first; any other chain as it is."""
    return chain if chain.hook is None else replace(chain, rules=(_LET_FENCE_THROUGH, *chain.rules))


def fenced(table: ast.Table) -> ast.Table:
    """The same table with a fence in each base chain."""
    return replace(table, chains={name: fenced_chain(chain) for name, chain in table.chains.items()})


def fenced_change(change: ast.Change) -> ast.Change:
    """The same change to a fenced table."""
    chains = {name: chain if chain is None else fenced_chain(chain) for name, chain in change.chains.items()}
    return replace(change, chains=chains)
