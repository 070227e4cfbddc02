"""How many new flows a second pass a policed path as its policy grows: rule by rule, and with similar rules merged.

Run as root: ``python -m benchmarks new_flows`` (an hour), or a few minutes with
``--sizes 10 1000 --rounds 1 --seconds 0.3 --backends nftables``.

A client, a router and a server in network namespaces. The server is a workload of the router behind a policy of N rules
(or N policies of one rule) of which the last matches; what is programmed is what the agent would program.

* UDP: every packet is a new flow, written into a ring of a raw socket. Only the one system call that sends a full ring
  is timed: on a veth pair it returns when the packets have been routed. The server counts and drops them as they come in;
  a run in which one is lost fails. The figure includes sending and routing, for which "no rules" gives the floor.
* TCP: 64 connections at once from Python, each reset when it stands. Python has the largest part in it: look at ratios.

Rounds are interleaved and medians are shown; connection tracking is emptied before each run.
"""

from __future__ import annotations

import argparse
import mmap
import os
import select
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    Side,
    TierRow,
)
from calico.model.address import Cidr, parse_address
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from calico.ruleset.merge import LEAST
from support.backends import NAMES, make_backend
from support.netns import Namespace, link, namespaces

TCP, UDP, PORT = 6, 17, 9
CLIENT, SERVER, SOURCES = "172.31.0.2", "10.65.0.2", "198.18.0.0/15"
FRAMES, FRAME, HEADER = 8192, 128, 32
TRACKED = 24
"""Rings until connection tracking is emptied: they stay below its customary limit."""
SOL_PACKET, PACKET_TX_RING, PACKET_VERSION, TPACKET_V2 = 263, 13, 10, 1
AT_ONCE = 64
NEVER = 1 << 30
COUNT = """table netdev count {
    chain c {
        type filter hook ingress device eth0 priority 0;
        ip protocol udp counter drop
    }
}
"""
TRACK = """table ip tracking {
    chain c {
        type filter hook forward priority 0;
        ct state established,related accept
    }
}
"""


class Case(NamedTuple):
    """What is programmed: ``backend`` "" is nothing of ours; ``of`` is "rules" or "policies"."""

    backend: str
    of: str
    merged: bool
    size: int


# --- the policy


def desired(case: Case, shape: str) -> Delta:
    """A workload behind ``case.size`` rules, of which the last two match, one each protocol."""

    def row(name: str, index: int, protocol: int, side: Side) -> RuleRow:
        return RuleRow(
            "Allow",
            Origin("GlobalNetworkPolicy", "default", "", name, "ingress", index),
            protocol=protocol,
            destination=side,
        )

    server, port = parse_address(SERVER), ((PORT, PORT),)
    sides = []
    for number in range(case.size - 2):
        if shape == "prefixes":
            sides.append((UDP, Side(nets=(Cidr(4, (11 << 24) + number * 16, 29),), ports=port)))
        else:
            address = Cidr(4, (11 << 24) + number, 32)
            sides.append((UDP, Side(nets=(address,), ports=((1024 + number % 1000,) * 2,))))
    sides += [(protocol, Side(nets=(server,), ports=port)) for protocol in (TCP, UDP)]
    if case.of == "rules":
        rows = [PolicyRow(tuple(row("p0", index, *side) for index, side in enumerate(sides)), ())]
    else:
        rows = [PolicyRow((row(f"p{index}", 0, *side),), ()) for index, side in enumerate(sides)]
    policies = {PolicyId("GlobalNetworkPolicy", "", f"p{index}"): made for index, made in enumerate(rows)}
    tier = TierRow("default", "Deny", tuple(policies))
    endpoint = EndpointRow("cali1", (server,), (tier,), (), ())
    return Delta(policies=policies, endpoints={EndpointId("WorkloadEndpoint", "default", "server"): endpoint})


def program(router: Namespace, case: Case, shape: str, directory: Path) -> None:
    """Bring the router to the case, from whatever it holds."""
    for name in NAMES:
        if name != case.backend:
            router.call(make_backend(name, directory / "xtables.lock").remove)
    router.run("nft", "delete", "table", "ip", "tracking", check=False)
    if not case.backend:
        if case.size:  # Only so that connections are tracked.
            router.run("nft", "-f", "-", stdin=TRACK)
        return
    renderer = Renderer(Settings(), LEAST if case.merged else NEVER)
    renderer.update(desired(case, shape))
    backend = make_backend(case.backend, directory / "xtables.lock")
    tables: dict[ast.TableFamily, ast.Table] = dict(renderer.tables)
    router.call(lambda: backend.sync(tables))


# --- the path


@contextmanager
def path() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """Client, router, server, wired."""
    with namespaces(*(f"b-flows-{name}" for name in ("client", "router", "server"))) as (
        client,
        router,
        server,
    ):
        link(client, "eth0", router, "eth0")
        link(server, "eth0", router, "cali1")
        router.run(
            "sh",
            "-ec",
            f"""
            sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
            ip addr add 172.31.0.1/24 dev eth0
            ip addr add 169.254.1.1/32 dev cali1
            ip route add {SERVER} dev cali1
            ip route add {SOURCES} dev eth0
            ip neigh replace {SERVER} lladdr {mac(server, "eth0")} dev cali1
        """,
        )
        client.run("sh", "-ec", f"ip addr add {CLIENT}/24 dev eth0; ip route add default via 172.31.0.1")
        server.run(
            "sh",
            "-ec",
            f"ip addr add {SERVER}/32 dev eth0; ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1",
        )
        server.run("nft", "-f", "-", stdin=COUNT)
        yield client, router, server


def mac(space: Namespace, interface: str) -> str:
    """The hardware address of an interface."""
    return space.run("ip", "-br", "link", "show", interface).stdout.split()[2]


def counted(server: Namespace) -> int:
    """UDP packets that the server has got so far."""
    words = server.run("nft", "list", "chain", "netdev", "count", "c").stdout.split()
    return int(words[words.index("packets") + 1])


# --- UDP


class Ring:
    """A raw socket whose ring of frames is sent by one system call."""

    def __init__(self, destination: str, source: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        self.socket.setsockopt(
            SOL_PACKET, PACKET_TX_RING, struct.pack("4I", FRAMES * FRAME, 1, FRAME, FRAMES)
        )
        self.socket.bind(("eth0", 0))
        self.ring = mmap.mmap(self.socket.fileno(), FRAMES * FRAME)
        payload = b"new flow".ljust(18, b".")
        ethernet = bytes.fromhex(destination.replace(":", "") + source.replace(":", "")) + b"\x08\x00"
        self.length = 14 + 20 + 8 + len(payload)
        for number in range(FRAMES):
            udp = struct.pack("!HHHH", 1024 + number, PORT, 8 + len(payload), 0) + payload
            ip = struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0, bytes(4), socket.inet_aton(SERVER)
            )
            start = number * FRAME
            self.ring[start : start + HEADER] = struct.pack("II", 0, self.length).ljust(HEADER, b"\0")
            self.ring[start + HEADER : start + HEADER + self.length] = ethernet + ip + udp
        self.address = int.from_bytes(socket.inet_aton(SOURCES.split("/", maxsplit=1)[0]), "big")

    def send(self) -> float:
        """Send a ring of flows that were never seen before; seconds."""
        self.address += 1
        start = HEADER + 14
        head = bytearray(self.ring[start : start + 20])
        head[10:12], head[12:16] = bytes(2), self.address.to_bytes(4, "big")
        total = sum(struct.unpack("!10H", head))
        head[10:12] = (~(total + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
        for place in range(10, 16):
            self.ring[start + place :: FRAME] = bytes([head[place]]) * FRAMES
        self.ring[0::FRAME] = b"\x01" * FRAMES  # The first byte of each status: to be sent.
        begin = time.perf_counter()
        self.socket.send(b"")
        return time.perf_counter() - begin

    def close(self) -> None:
        """Give the ring back."""
        self.ring.close()
        self.socket.close()


def udp_flows(client: Namespace, router: Namespace, server: Namespace, seconds: float) -> float:
    """New UDP flows a second. Raises SystemExit if one did not arrive."""
    hardware = mac(router, "eth0"), mac(client, "eth0")
    before, took, rings = counted(server), 0.0, 0
    with closing(client.call(lambda: Ring(*hardware))) as ring:
        while took < seconds:
            if rings % TRACKED == 0:
                router.run("conntrack", "-F", check=False)
            took += ring.send()
            rings += 1
    arrived = counted(server) - before
    if arrived != rings * FRAMES:
        raise SystemExit(
            f"{rings * FRAMES} packets were sent, {arrived} arrived: the path is broken, or too short for a rate"
        )
    return rings * FRAMES / took


# --- TCP

SERVE = f"""
import os, socket
os.sched_setaffinity(0, {{os.cpu_count() - 1}})
listener = socket.create_server(("", {PORT}), backlog=1024)
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""


def tcp_connections(client: Namespace, router: Namespace, seconds: float) -> float:
    """TCP connections a second, 64 at once."""
    router.run("conntrack", "-F", check=False)
    return client.call(lambda: _connect(seconds))


def _connect(seconds: float) -> float:
    poll, opened, done = select.epoll(), {}, 0

    def begin() -> None:
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.connect_ex((SERVER, PORT))
        opened[one.fileno()] = one
        poll.register(one, select.EPOLLOUT)

    start = time.perf_counter()
    for _ in range(AT_ONCE):
        begin()
    while (took := time.perf_counter() - start) < seconds:
        for handle, _ in poll.poll(1.0):
            one = opened.pop(handle)
            done += one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            one.close()
            begin()
    for one in opened.values():
        one.close()
    poll.close()
    return done / took


# --- the whole


def cases(sizes: list[int], backends: list[str], of: list[str]) -> list[Case]:
    """In the order of the table."""
    rows = [Case("", "nothing", merged=False, size=0), Case("", "connection tracking", merged=False, size=1)]
    rows += [
        Case(backend, what, merged, size)
        for backend in backends
        for what in of
        for merged in (False, True)
        for size in sizes
    ]
    return rows


def main() -> None:
    """Read the options, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000], help="rules or policies; 3 or more"
    )
    parser.add_argument("--backends", nargs="+", choices=NAMES, default=["nftables", "iptables-nft"])
    parser.add_argument("--of", nargs="+", choices=["rules", "policies"], default=["rules", "policies"])
    parser.add_argument(
        "--shape", choices=["listeners", "prefixes"], default="listeners", help="what differs between rules"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    options = parser.parse_args()
    os.sched_setaffinity(0, {0})
    rows = cases(options.sizes, options.backends, options.of)
    udp: dict[Case, list[float]] = defaultdict(list)
    tcp: dict[Case, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory, path() as (client, router, server):
        serving = server.popen(sys.executable, "-c", SERVE, stdout=-1)
        try:
            assert serving.stdout is not None
            serving.stdout.readline()
            for _ in range(options.rounds):
                for case in rows:
                    program(router, case, options.shape, Path(directory))
                    udp[case].append(udp_flows(client, router, server, options.seconds))
                    tcp[case].append(tcp_connections(client, router, options.seconds))
        finally:
            serving.kill()
            serving.wait()
            serving.stdout.close() if serving.stdout else None
    print(
        f"New flows through one endpoint's policy, {options.shape}; {options.rounds} rounds of {options.seconds:g} s\n"
    )
    print(
        "| back end | policy | UDP flows/s | us/flow | of tracking alone | TCP connections/s | of tracking alone |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    flows, connections = (statistics.median(kind[rows[1]]) for kind in (udp, tcp))
    for case in rows:
        one, other = statistics.median(udp[case]), statistics.median(tcp[case])
        shape = "merged" if case.merged else "one by one"
        words = f"{case.size:,} {case.of}, {shape}" if case.backend else case.of
        print(
            f"| {case.backend or '-'} | {words} | {one:,.0f} | {1e6 / one:.2f} | {one / flows:.0%} "
            f"| {other:,.0f} | {other / connections:.0%} |"
        )


if __name__ == "__main__":
    main()
