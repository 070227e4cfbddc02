"""Frames built byte for byte, and a host under attack: what is sent to it, and what comes out of it where.

One host with the real agent stands between two workloads ("a", "b") and the outside ("o"). The host's own reverse-path
filter is off, so that ours alone defends. Every attack carries a token of its own; behind the attacks goes a fence, a
permitted packet on each way, and once it has arrived whatever has not was dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from calico.datastore.sqlite import SQLiteStore
from calico.model.keys import Key
from support.host import (
    ALLOWING_PROFILE,
    GATEWAY_MAC,
    Cloud,
    Host,
    eventually,
    plug,
    reaches,
    workload_endpoint,
)
from support.netns import Namespace, link, namespaces
from support.packets import on_one_cpu

A4, B4, O4, H4 = "10.65.0.2", "10.65.0.3", "172.31.0.2", "172.31.0.1"
A6, B6, O6, H6 = "fd00:65::2", "fd00:65::3", "fd31::2", "fd31::1"
OPEN, SHUT = 53, 54
"""UDP ports of b: policy allows the first and denies the second."""
TCP, UDP, ICMP, ICMP6, IP_IN_IP = 6, 17, 1, 58, 4
FRAGMENT, HOP_BY_HOP, ROUTING, OPTIONS = 44, 0, 43, 60
_OUTGOING: Final = 4
_tokens = itertools.count(int.from_bytes(b"attack\0\0", "big"))

Make = Callable[[bytes], bytes | Sequence[bytes]]
"""Makes the packets of one attack, each with the token that it is given."""

GUARD_B = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: guard-b}
spec:
  selector: app == 'b'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
  - {action: Allow, protocol: UDP, destination: {ports: [53]}}
---"""

ENDPOINTS = workload_endpoint("host", "a", A4, A6, labels="{app: a}") + workload_endpoint(
    "host", "b", B4, B6, labels="{app: b}"
)


# --- packets


def token() -> bytes:
    return next(_tokens).to_bytes(8, "big")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ip4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0,
    number: int = 0,
) -> bytes:
    words = 5 + len(options) // 4
    ends = packed(source) + packed(destination)
    head = struct.pack(
        "!BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), number, fragment, 64, protocol, 0
    )
    head += ends + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(source: str, destination: str, following: int, payload: bytes, *, hops: int = 64) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, hops)
    return head + packed(source) + packed(destination) + payload


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    return (ip6 if ":" in source else ip4)(source, destination, protocol, payload)


def _summed(source: str, destination: str, protocol: int, bare: bytes, place: int) -> bytes:
    pseudo = packed(source) + packed(destination) + struct.pack("!II", len(bare), protocol)
    value = checksum(bare if protocol == ICMP else pseudo + bare) or 0xFFFF
    return bare[:place] + struct.pack("!H", value) + bare[place + 2 :]


def udp(source: str, destination: str, port: int, data: bytes, *, from_port: int = 4000) -> bytes:
    bare = struct.pack("!HHHH", from_port, port, 8 + len(data), 0) + data
    return _summed(source, destination, UDP, bare, 6)


def tcp(source: str, destination: str, port: int, flags: int, data: bytes) -> bytes:
    bare = struct.pack("!HHIIBBHHH", 4000 + flags, port, 1, 5, 5 << 4, flags, 1024, 0, 0) + data
    return _summed(source, destination, TCP, bare, 16)


def icmp(source: str, destination: str, kind: int, data: bytes, *, rest: bytes = bytes(4)) -> bytes:
    protocol = ICMP6 if ":" in source else ICMP
    return _summed(source, destination, protocol, struct.pack("!BBH", kind, 0, 0) + rest + data, 2)


def datagram(source: str, destination: str, port: int, data: bytes, *, from_port: int = 4000) -> bytes:
    return ip(source, destination, UDP, udp(source, destination, port, data, from_port=from_port))


def fragments4(
    source: str, destination: str, protocol: int, data: bytes, cut: int, number: int
) -> list[bytes]:
    return [
        ip4(source, destination, protocol, data[:cut], fragment=0x2000, number=number),
        ip4(source, destination, protocol, data[cut:], fragment=cut // 8, number=number),
    ]


def fragments6(
    source: str, destination: str, protocol: int, data: bytes, cut: int, number: int
) -> list[bytes]:
    heads = (
        struct.pack("!BBHI", protocol, 0, 1, number),
        struct.pack("!BBHI", protocol, 0, cut, number),
    )
    return [
        ip6(source, destination, FRAGMENT, heads[0] + data[:cut]),
        ip6(source, destination, FRAGMENT, heads[1] + data[cut:]),
    ]


# --- the host under attack


@dataclass
class Field:
    """The host, who stands around it, and sockets that send frames and see what arrives."""

    host: Host
    cloud: Cloud
    spaces: Mapping[str, Namespace]
    senders: Mapping[str, socket.socket]
    receivers: Mapping[socket.socket, str]
    hardware: Mapping[str, str]

    def send(
        self, origin: str, *packets: bytes, source: str | None = None, destination: str | None = None
    ) -> None:
        """Send packets from a namespace's interface, to the host's hardware address unless told otherwise."""
        gateway = self.hardware["h"] if origin == "o" else GATEWAY_MAC
        ends = f"{destination or gateway}{source or self.hardware[origin]}".replace(":", "")
        for packet in packets:
            kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
            self.senders[origin].send(bytes.fromhex(ends) + struct.pack("!H", kind) + packet)

    def received(self, seconds: float) -> list[tuple[str, bytes]]:
        """What arrives until there is silence for so long; the host's part is what its input chains let through."""
        found: list[tuple[str, bytes]] = []
        while True:
            ready, _, _ = select.select(list(self.receivers), [], [], seconds)
            if not ready:
                return found
            for one in ready:
                data, address = one.recvfrom(65535)
                if one.family != socket.AF_PACKET or address[2] != _OUTGOING:
                    found.append((self.receivers[one], data))

    def arrivals(self, origin: str, attacks: Mapping[str, Make], *, fence: bool = True) -> set[str]:
        """Send all attacks, then the fence; "name at where" of each that arrived anywhere but where it came from.

        Where nothing at all is permitted there can be no fence.
        """
        self.received(0)
        marks: dict[bytes, str] = {}
        with on_one_cpu():
            for name, make in attacks.items():
                mark = token()
                marks[mark] = name
                made = make(mark)
                self.send(origin, *([made] if isinstance(made, bytes) else made))
            seen = self._fenced(origin) if fence else self.received(0.3)
        return {
            f"{name} at {where}"
            for mark, name in marks.items()
            for where, data in seen
            if mark in data and where != origin
        }

    def comes_out(self, source: str, goal: str, port: int) -> set[str]:
        """Where a packet from the outside arrives, if anywhere."""
        self.received(0)
        mark = token()
        self.send("o", datagram(source, goal, port, mark))
        return {where for where, data in self.received(0.1) if mark in data and where != "o"}

    def hears(self, origin: str, goal: str) -> bool:
        """Whether what ``origin`` sends from its own addresses arrives at ``goal``, over both families."""
        self.received(0)
        mark = token()
        ends = {"a": (A4, A6), "b": (B4, B6), "o": (O4, O6)}
        for source, target in zip(ends[origin], ends[goal], strict=True):
            self.send(origin, datagram(source, target, OPEN, mark))
        return [where for where, data in self.received(0.1) if mark in data].count(goal) == 2

    def write(self, key: Key, value: bytes) -> None:
        """Put bytes into the store that no well-meaning client would."""

        async def put() -> None:
            store = SQLiteStore(self.host.database)
            try:
                await store.put(key.path, value, revision=None)
            finally:
                await store.close()

        asyncio.run(put())

    def _fenced(self, origin: str) -> list[tuple[str, bytes]]:
        four, six = {"a": (A4, A6), "b": (B4, B6), "o": (O4, O6)}[origin]
        goals = [(B4, B6)] if origin == "o" else [(O4, O6)] if origin == "b" else [(B4, B6), (O4, O6)]
        fences = set()
        for goal4, goal6 in goals:
            for source, goal in ((four, goal4), (six, goal6)):
                fences.add(mark := token())
                self.send(origin, datagram(source, goal, OPEN, mark, from_port=4053))
        seen: list[tuple[str, bytes]] = []
        deadline = time.monotonic() + 20
        while fences:
            seen += self.received(0.02)
            fences -= {mark for mark in fences for where, data in seen if where != origin and mark in data}
            assert time.monotonic() < deadline, "permitted packets were lost, so nothing is proved"
        return seen + self.received(0.02)


def _frames() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    opened.bind(("eth0", 0))
    return opened


def _tap() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))


def _host_taps() -> list[socket.socket]:
    return [
        socket.socket(family, socket.SOCK_RAW, protocol)
        for family in (socket.AF_INET, socket.AF_INET6)
        for protocol in (TCP, UDP, ICMP, ICMP6)
    ]


@contextlib.contextmanager
def under_attack(backend: str, directory: Path) -> Iterator[Field]:
    """A host with its agent at work, on the back end ``backend``; its files are in ``directory``."""
    with (
        namespaces(*(f"t-attack-{name}" for name in ("host", "a", "b", "out"))) as (inside, a, b, out),
        Host(inside, "host", directory, backend=backend) as host,
    ):
        inside.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        link(inside, "eth0", out, "eth0")
        for space, four, six in ((inside, H4, H6), (out, O4, O6)):
            space.run("ip", "address", "add", f"{four}/24", "dev", "eth0")
            space.run("ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")
        out.run("ip", "route", "add", "10.65.0.0/16", "via", H4)
        out.run("ip", "route", "add", "fd00:65::/64", "via", H6)
        cloud = Cloud(directory)
        plug(host, a, "a", A4, A6)
        plug(host, b, "b", B4, B6)
        cloud.apply(ALLOWING_PROFILE + GUARD_B + ENDPOINTS)
        host.start()
        spaces = {"a": a, "b": b, "o": out, "h": inside}
        senders = {name: spaces[name].call(_frames) for name in "abo"}
        receivers = {spaces[name].call(_tap): name for name in "abo"}
        receivers |= dict.fromkeys(inside.call(_host_taps), "h")
        hardware = {
            name: space.run("cat", "/sys/class/net/eth0/address").stdout.strip()
            for name, space in spaces.items()
            if name != "h"
        }
        hardware["h"] = inside.run("cat", "/sys/class/net/eth0/address").stdout.strip()
        made = Field(host, cloud, spaces, senders, receivers, hardware)
        try:
            for source, goal in ((a, O4), (a, O6), (b, O4), (b, O6)):
                eventually(lambda s=source, g=goal: reaches(s, g, wait=0.3), what=f"{goal} answers")  # type: ignore[misc]
            yield made
        finally:
            for opened in (*senders.values(), *receivers):
                opened.close()
