"""Attacks on the data path, frame by frame: what a hostile workload or neighbour sends, and what others do to the host."""

from __future__ import annotations

import itertools
import json
import random
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from calico.model import codec
from calico.model.keys import key_of
from support.attack import (
    A4,
    A6,
    B4,
    B6,
    ENDPOINTS,
    FRAGMENT,
    H4,
    H6,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    IP_IN_IP,
    O4,
    O6,
    OPEN,
    OPTIONS,
    ROUTING,
    SHUT,
    TCP,
    UDP,
    Field,
    Make,
    datagram,
    fragments4,
    fragments6,
    icmp,
    ip,
    ip4,
    ip6,
    packed,
    tcp,
    token,
    udp,
    under_attack,
)
from support.host import GATEWAY_V6, Host, eventually, interface_of, pinging, reaches, workload_endpoint
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]


@pytest.fixture(scope="module", params=["nftables", "iptables-nft", "iptables-legacy"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A host with its agent at work; tests leave its intent as they found it."""
    with under_attack(request.param, tmp_path_factory.mktemp("attacks")) as made:
        yield made


# --- who one is


def test_a_false_source_goes_nowhere(field: Field) -> None:
    """Whoever a workload claims to be, neighbours, the outside and the host hear nothing of it, wherever it is sent."""
    sources4 = (
        B4, O4, H4, "127.0.0.1", "127.0.0.5", "169.254.1.1", "169.254.7.7", "0.0.0.0", "255.255.255.255",
        "224.0.0.5", "240.1.2.3", "10.65.0.99", "172.31.0.255", "8.8.8.8",
    )  # fmt: skip
    goals4 = (B4, O4, H4, "169.254.1.1", "127.0.0.1", "255.255.255.255", "224.0.0.1", "172.31.0.255")
    sources6 = (
        B6, O6, H6, "::", "::1", GATEWAY_V6, "fe80::1234", "ff02::1", "::ffff:10.65.0.3", "::10.65.0.3",
        "fd00:65::99", "2002:a41:3::1",
    )  # fmt: skip
    goals6 = (B6, O6, H6, GATEWAY_V6, "::1", "ff02::1", "ff02::2", "ff05::2", "::ffff:127.0.0.1")
    pairs = [*itertools.product(sources4, goals4), *itertools.product(sources6, goals6)]
    attacks = {
        f"{source} > {goal}": lambda mark, s=source, g=goal: datagram(s, g, OPEN, mark)
        for source, goal in pairs
    }
    assert field.arrivals("a", attacks) == set()


def test_an_answer_to_an_address_that_is_not_ones_own_goes_nowhere(field: Field) -> None:
    """Echo requests, as any protocol, are judged by their source; DHCP answers reach nobody."""
    attacks = {
        f"echo {source} > {goal}": lambda mark, s=source, g=goal: ip(s, g, ICMP6 if ":" in s else ICMP, icmp(s, g, 128 if ":" in s else 8, mark))
        for source, goal in ((B4, O4), (O4, B4), (B6, O6), (O6, B6))
    }  # fmt: skip
    for source in (A4, "0.0.0.0"):
        attacks[f"DHCP answer of {source}"] = lambda mark, s=source: ip4(
            s, "255.255.255.255", UDP, udp(s, "255.255.255.255", 68, mark, from_port=67)
        )
    assert field.arrivals("a", attacks) == set()


def test_a_claimed_neighbour_stays_on_its_own_interface(field: Field) -> None:
    """ARP for others' addresses, asked, answered or announced, turns nobody's traffic away."""
    hardware = bytes.fromhex(field.hardware["a"].replace(":", ""))
    for operation, claimed, asked in itertools.product(
        (1, 2), (B4, O4, H4, "169.254.1.1"), (B4, O4, H4, "169.254.1.1")
    ):
        message = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + hardware + packed(claimed)
        message += b"\xff" * 6 + packed(asked)
        field.senders["a"].send(b"\xff" * 6 + hardware + b"\x08\x06" + message)
    assert reaches(field.spaces["b"], O4)
    assert field.arrivals("o", {"to b": lambda mark: datagram(O4, B4, OPEN, mark)}) == {"to b at b"}
    assert field.arrivals("b", {"to o": lambda mark: datagram(B4, O4, OPEN, mark)}) == {"to o at o"}


def test_workloads_are_no_routers(field: Field) -> None:
    """Router advertisements and redirects go nowhere, also a redirect that names a flow of others, which counts as related."""
    fe80 = field.spaces["a"].run("ip", "-6", "-br", "address", "show", "dev", "eth0").stdout
    own = next(word.split("/")[0] for word in fe80.split() if word.startswith("fe80"))
    flow = datagram(O4, B4, OPEN, b"12345678", from_port=4100)
    field.send("o", flow)
    attacks = {
        "redirect to o": lambda mark: ip4(A4, O4, ICMP, icmp(A4, O4, 5, flow[:28] + mark)),
        "redirect to b": lambda mark: ip4(
            A4, B4, ICMP,
            icmp(A4, B4, 5, ip4(B4, O4, UDP, udp(B4, O4, 4100, b"", from_port=OPEN))[:28] + mark),
        ),
    }  # fmt: skip
    for source, goal, kind in itertools.product(
        (A6, own), (B6, O6, H6, GATEWAY_V6, "ff02::1", "ff02::2"), (134, 137)
    ):
        attacks[f"ICMPv6 {kind} {source} > {goal}"] = lambda mark, s=source, g=goal, k=kind: ip6(
            s, g, ICMP6, icmp(s, g, k, bytes(16) + mark), hops=255
        )
    assert field.arrivals("a", attacks) == set()


# --- round policy


@pytest.mark.parametrize("origin", ["a", "o"])
def test_options_headers_and_fragments_hide_no_port(field: Field, origin: str) -> None:
    """What IPv4 options, IPv6 extension headers or fragments wrap is judged by the ports within: the open one, not the shut one."""
    s4, s6 = {"a": (A4, A6), "o": (O4, O6)}[origin]
    number = itertools.count(random.randrange(1 << 15))
    attacks: dict[str, Make] = {}
    for port in (OPEN, SHUT):
        whole4 = lambda mark, p=port: udp(s4, B4, p, bytes(24) + mark)  # noqa: E731 - many small makers
        whole6 = lambda mark, p=port: udp(s6, B6, p, bytes(24) + mark)  # noqa: E731
        attacks |= {
            f"{port} plain": lambda mark, w=whole4: ip4(s4, B4, UDP, w(mark)),
            f"{port} router alert": lambda mark, w=whole4: ip4(
                s4, B4, UDP, w(mark), options=bytes([148, 4, 0, 0])
            ),
            f"{port} fragments": lambda mark, w=whole4: fragments4(s4, B4, UDP, w(mark), 8, next(number)),
            f"{port} fragments, last first": lambda mark, w=whole4: fragments4(
                s4, B4, UDP, w(mark), 8, next(number)
            )[::-1],
            f"{port} hop by hop": lambda mark, w=whole6: ip6(s6, B6, HOP_BY_HOP, _padding(UDP) + w(mark)),
            f"{port} ten options headers": lambda mark, w=whole6: ip6(
                s6, B6, OPTIONS, _padding(OPTIONS) * 9 + _padding(UDP) + w(mark)
            ),
            f"{port} atomic fragment": lambda mark, w=whole6: ip6(
                s6, B6, FRAGMENT, struct.pack("!BBHI", UDP, 0, 0, next(number)) + w(mark)
            ),
            f"{port} fragments of IPv6": lambda mark, w=whole6: fragments6(
                s6, B6, UDP, w(mark), 8, next(number)
            ),
        }
    names = {name for name in attacks if name.startswith(f"{OPEN} ")}
    whole = lambda mark: udp(s6, B6, SHUT, bytes(24) + mark)  # noqa: E731
    attacks |= {
        "port in the second fragment": lambda mark: fragments6(
            s6, B6, OPTIONS, _padding(UDP) + whole(mark), 8, next(number)
        ),
        "second fragment alone": lambda mark: fragments6(s6, B6, UDP, whole(mark), 8, next(number))[1],
        "second fragment of IPv4 alone": lambda mark: fragments4(
            s4, B4, UDP, udp(s4, B4, OPEN, bytes(24) + mark), 8, next(number)
        )[1],
        "overlapping fragments": lambda mark: _overlapping(s4, mark, next(number)),
        "tiny first fragment of TCP": lambda mark: fragments4(
            s4, B4, TCP, tcp(s4, B4, 81, 2, bytes(4) + mark), 8, next(number)
        ),
    }
    for option in (131, 137):  # loose and strict source routes
        route = bytes([option, 11, 4]) + packed(B4) + packed(O4) + b"\0"
        attacks[f"source route {option}"] = lambda mark, r=route: ip4(
            s4, H4, UDP, udp(s4, B4, SHUT, mark), options=r
        )
    for kind in (0, 2, 3, 4):
        route = struct.pack("!BBBBI", UDP, 2, kind, 1, 0) + packed(B6)
        attacks[f"routing header {kind}"] = lambda mark, r=route: ip6(s6, H6, ROUTING, r + whole(mark))
    assert field.arrivals(origin, attacks) == {f"{name} at b" for name in names}


def _padding(following: int) -> bytes:
    return struct.pack("!BB", following, 0) + bytes([1, 4, 0, 0, 0, 0])


def _overlapping(source: str, mark: bytes, number: int) -> list[bytes]:
    good, bad = (udp(source, B4, port, mark) for port in (OPEN, SHUT))
    return [
        ip4(source, B4, UDP, good, fragment=0x2000, number=number),
        ip4(source, B4, UDP, bad, fragment=0x2000, number=number),
        ip4(source, B4, UDP, bytes(8), fragment=len(bad) // 8, number=number),
    ]


@pytest.mark.parametrize("origin", ["a", "o"])
def test_no_trick_of_connection_tracking_opens_a_shut_port(field: Field, origin: str) -> None:
    """TCP segments with any flags, ports 0, other protocols, and ICMP errors about flows that do not exist are denied."""
    attacks: dict[str, Make] = {}
    for s, b in zip({"a": (A4, A6), "o": (O4, O6)}[origin], (B4, B6), strict=True):
        for flags in range(64):
            attacks[f"flags {flags} {s}"] = lambda mark, s=s, b=b, f=flags: ip(s, b, TCP, tcp(s, b, 81, f, mark))  # type: ignore[misc]  # fmt: skip
        for port, from_port in ((0, 0), (0, OPEN), (SHUT, 0), (SHUT, OPEN)):
            attacks[f"ports {from_port} > {port} {s}"] = lambda mark, s=s, b=b, p=port, f=from_port: datagram(s, b, p, mark, from_port=f)  # type: ignore[misc]  # fmt: skip
        for protocol in (IP_IN_IP, 41, 47, 50, 51, 132, 136, 255):
            attacks[f"protocol {protocol} {s}"] = lambda mark, s=s, b=b, p=protocol: ip(s, b, p, bytes(16) + mark)  # type: ignore[misc]  # fmt: skip
        for kind in (1, 2, 3, 4) if ":" in s else (3, 4, 5, 11, 12):
            attacks[f"error {kind} {s}"] = lambda mark, s=s, b=b, k=kind: ip(  # type: ignore[misc]
                s, b, ICMP6 if ":" in s else ICMP, icmp(s, b, k, datagram(b, s, 9, mark, from_port=4999))
            )
    assert field.arrivals(origin, attacks) == set()


def test_workloads_send_no_tunnels_of_the_fabric(field: Field) -> None:
    """VXLAN and IP in IP from a workload end at its host, over either family, in fragments and behind extension headers."""

    def inner(mark: bytes) -> bytes:
        return datagram(B4, O4, OPEN, bytes(8) + mark)

    attacks: dict[str, Make] = {
        "VXLAN": lambda mark: datagram(A4, O4, 4789, bytes(22) + inner(mark)),
        "VXLAN over IPv6": lambda mark: datagram(A6, O6, 4789, bytes(22) + inner(mark)),
        "IP in IP": lambda mark: ip4(A4, O4, IP_IN_IP, inner(mark)),
        "IP in IPv6": lambda mark: ip6(A6, O6, IP_IN_IP, inner(mark)),
        "IP behind options": lambda mark: ip6(A6, O6, HOP_BY_HOP, _padding(IP_IN_IP) + inner(mark)),
        "IP in IP in fragments": lambda mark: fragments4(A4, O4, IP_IN_IP, inner(mark), 8, 777),
    }
    assert field.arrivals("a", attacks) == set()


def test_a_workload_reaches_nothing_of_its_host(field: Field) -> None:
    """The host's addresses on any interface, its loopback and broadcasts are shut for a workload that may send anywhere."""
    goals = (H4, H6, GATEWAY_V6, "127.0.0.1", "::1", "169.254.1.1", "172.31.0.255", "255.255.255.255", "224.0.0.1", "ff02::1")  # fmt: skip
    attacks: dict[str, Make] = {}
    for goal in goals:
        source = A6 if ":" in goal else A4
        attacks[f"UDP {goal}"] = lambda mark, s=source, g=goal: datagram(s, g, OPEN, mark)  # type: ignore[misc]
        attacks[f"SSH {goal}"] = lambda mark, s=source, g=goal: ip(s, g, TCP, tcp(s, g, 22, 2, mark))  # type: ignore[misc]
    assert field.arrivals("a", attacks) == set()


@pytest.mark.parametrize("hook", ["prerouting", "forward", "input"])
def test_marks_that_others_set_open_nothing(field: Field, hook: str) -> None:
    """A foreign table sets every bit of the mark in front of our chains, or takes packets out of connection tracking."""
    doings = ["meta mark set 0xffffffff"] + (["notrack"] if hook == "prerouting" else [])
    for doing in doings:
        priority = -310 if doing == "notrack" else -150
        text = "".join(
            f"table {family} foreign {{\n chain c {{\n type filter hook {hook} priority {priority}\n {doing}\n }}\n}}\n"
            for family in ("ip", "ip6")
        )
        inside = field.host.namespace
        inside.run("nft", "-f", "-", stdin=text)
        try:
            for origin, ends in (
                ("a", ((A4, B4), (A6, B6), (A4, H4), (A6, H6), (B4, O4))),
                ("o", ((O4, B4), (O6, B6))),
            ):
                attacks = {
                    f"{s} > {d}": lambda mark, s=s, d=d: datagram(s, d, SHUT, mark)  # type: ignore[misc]
                    for s, d in ends
                }
                assert field.arrivals(origin, attacks) == set(), doing
        finally:
            for family in ("ip", "ip6"):
                inside.run("nft", "delete", "table", family, "foreign")


# --- intent that nobody should have written

BROKEN: Final[dict[str, bytes | dict[str, list[str] | str]]] = {
    "garbage": b"\xff\xfe{{{",
    "nothing": b"",
    "deep": b"[" * 100_000,
    "interface with a wildcard": {"interfaceName": "cali*"},
    "interface with commands": {"interfaceName": 'cali"; drop'},
    "interface of many lines": {"interfaceName": "cali\n}\nflush ruleset"},
    "interface of the host": {"interfaceName": "eth0"},
    "interface out of its directory": {"interfaceName": "cali/../eth0"},
    "no address": {"ipNetworks": ["10.65.0.2; flush ruleset"]},
    "everything": {"ipNetworks": ["0.0.0.0/0"]},
    "profiles of any characters": {"profiles": ["x\n}", 'no"such', "$(id)", "{};drop", "\u2028*filter"]},
    "profiles of long names": {"profiles": ["\u00fc" * 200, "x" + "\u00fc" * 200, "n" * 250]},
}


def test_broken_intent_closes_its_endpoint_and_no_other(field: Field) -> None:
    """An endpoint that makes no sense is shut and opens nothing; the agent lives on, and heals with the intent."""
    good = codec.load(workload_endpoint("host", "a", A4, A6, labels="{app: a}"), "test")[0]
    for damage in BROKEN.values():
        whole = json.loads(codec.encode(good))
        if not isinstance(damage, bytes):
            whole["spec"].update(damage)
        field.write(key_of(good), damage if isinstance(damage, bytes) else json.dumps(whole).encode())
        eventually(lambda: not field.hears("a", "o"), what=f"a is shut: {damage!r:.60}")
        attacks = {"to b": lambda mark: datagram(O4, B4, SHUT, mark)}
        assert field.arrivals("o", attacks) == set()
        assert field.hears("b", "o")
        status = field.host.status()
        assert status["errors"] == {}
    field.write(key_of(good), codec.encode(good))
    eventually(lambda: field.hears("a", "o"), what="a is open again")


# --- what others do to the host


def test_comments_of_others_may_hold_any_bytes(field: Field) -> None:
    """Foreign rules and sets with comments that are not UTF-8, or hold odd ends of lines, neither stop nor mislead the agent."""
    inside = field.host.namespace
    program = "iptables-legacy" if field.host.backend == "iptables-legacy" else "iptables-nft"
    lines = (
        f"{program} -A INPUT -s 192.0.2.1 -m comment --comment $'\\xff\\xfe' -j ACCEPT",
        f"{program} -A INPUT -s 192.0.2.1 -m comment --comment $'x\\u2028*raw\\x0cCOMMIT' -j ACCEPT",
        "ipset create theirs hash:ip comment",
        "ipset add theirs 192.0.2.1 comment $'\\xff'",
    )
    try:
        for line in lines:
            inside.run("bash", "-c", line, env={"LC_ALL": "C.UTF-8"})
        # A new agent reads everything that is there.
        field.host.kill()
        field.host.start()
        assert field.arrivals("o", {"to b": lambda mark: datagram(O4, B4, SHUT, mark)}) == set()
        assert field.host.status()["errors"] == {}
    finally:
        for line in lines[:2]:
            inside.run("bash", "-c", line.replace(" -A ", " -D "), env={"LC_ALL": "C.UTF-8"}, check=False)
        inside.run("ipset", "destroy", "theirs", check=False)


def test_policy_and_routes_follow_interfaces_that_swap_their_names(field: Field) -> None:
    """An interface is what it is called: after a swap each address is reached, and judged, by its new interface."""
    one, other = interface_of("a"), interface_of("b")
    swap = f"ip link set {one} name calitmp && ip link set {other} name {one} && ip link set calitmp name {other}"
    inside, space = field.host.namespace, field.spaces["a"]
    # Who is at b's interface has b's address: nobody else's would be believed there.
    space.run("ip", "address", "add", f"{B4}/32", "dev", "eth0")
    inside.run("sh", "-c", swap)
    try:
        # What is sent to b's address now comes out at a's namespace, and b's policy judges it.
        eventually(lambda: field.comes_out(O4, B4, OPEN) == {"a"}, what="b's address leads to the other one")
        assert field.comes_out(O4, B4, SHUT) == set()
    finally:
        space.run("ip", "address", "del", f"{B4}/32", "dev", "eth0")
        inside.run("sh", "-c", swap)
    eventually(lambda: field.comes_out(O4, B4, OPEN) == {"b"}, what="b's address leads to b again")
    assert field.comes_out(O4, B4, SHUT) == set()
    eventually(lambda: field.hears("a", "o"), what="a is itself again")


def test_an_interface_that_was_elsewhere_is_made_ready_again(field: Field) -> None:
    """Moved to another namespace and back, a workload's interface has lost everything, and gets it again."""
    inside, out, name = field.host.namespace, field.spaces["o"], interface_of("a")
    inside.run("ip", "link", "set", name, "netns", out.name)
    assert field.comes_out(O4, A4, OPEN) == set()
    out.run("ip", "link", "set", name, "netns", inside.name)
    inside.run("ip", "link", "set", name, "up")
    eventually(lambda: field.hears("a", "o"), what="a is back")
    settings = [f"net.ipv4.conf.{name}.proxy_arp", f"net.ipv6.conf.{name}.accept_ra"]
    assert inside.run("sysctl", "-n", *settings).stdout.split() == ["1", "0"]


def test_nobody_inherits_the_connections_of_an_address(field: Field) -> None:
    """An address moves to another workload whose policy denies: what its former owner had open is closed, both ways."""
    there, back = (
        datagram(A4, O4, 800, b"12345678", from_port=700),
        datagram(O4, A4, 700, b"12345678", from_port=800),
    )
    field.send("a", there)
    field.received(0.05)
    field.send("o", back)
    assert ("a", back[20:]) in [(where, data[20:]) for where, data in field.received(0.05)]
    field.cloud.apply(SHUT_B_OUT)
    field.cloud.delete("WorkloadEndpoint", "host-k8s-a-eth0", "default")
    field.cloud.apply(workload_endpoint("host", "b", B4, B6, A4, labels="{app: b}"))
    try:
        owned = f"{A4} dev {interface_of('b')}"
        eventually(lambda: owned in field.host.namespace.run("ip", "route").stdout, what="b has the address")
        attacks = {"old flow": lambda mark: datagram(A4, O4, 800, mark, from_port=700)}
        assert field.arrivals("b", attacks, fence=False) == set()
        attacks = {"old reply": lambda mark: datagram(O4, A4, 700, mark, from_port=800)}
        assert field.arrivals("o", attacks) == set()
    finally:
        field.cloud.apply(ENDPOINTS)
        field.cloud.delete("GlobalNetworkPolicy", "shut-b-out")
    eventually(lambda: field.hears("a", "o") and field.hears("b", "o"), what="all is as before")


SHUT_B_OUT = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shut-b-out}
spec:
  selector: app == 'b'
  types: [Egress]
"""


def test_crashes_and_changes_under_fire_open_nothing_and_lose_nothing(field: Field) -> None:
    """The agent is killed again and again while intent changes: what is denied stays denied, what is allowed goes on."""
    field.received(0)
    bad, random_times = token(), random.Random(1)
    attacks = [
        ("a", datagram(A4, B4, SHUT, bad)),
        ("a", datagram(A6, B6, SHUT, bad)),
        ("o", datagram(O4, B4, SHUT, bad)),
        ("a", datagram(B4, O4, OPEN, bad)),
        ("a", datagram(A4, H4, OPEN, bad)),
    ]
    leaked: list[str] = []
    over = threading.Event()

    def fire() -> None:
        while not over.is_set():
            for origin, packet in attacks:
                field.send(origin, packet)
            leaked.extend(where for where, data in field.received(0.003) if bad in data and where != "a")

    thread = threading.Thread(target=fire)
    with pinging(field.spaces["b"], O4) as open_path:
        thread.start()
        try:
            for turn in range(8):
                field.cloud.apply(
                    workload_endpoint("host", "a", A4, A6, labels=f"{{app: a, turn: '{turn}'}}")
                )
                time.sleep(random_times.uniform(0.02, 0.5))
                field.host.kill()
                field.host.start(wait=False)
            eventually(
                lambda: field.host.status().get("programmed"), what="the last agent has programmed all"
            )
        finally:
            over.set()
            thread.join()
        sent, lost = open_path()
    field.cloud.apply(ENDPOINTS)
    assert leaked == []
    assert sent > 50
    assert lost == 0


def test_of_several_agents_one_works(field: Field) -> None:
    """A second agent on a host ends with a sentence; the first goes on."""
    second = Host(field.host.namespace, "host", field.host.directory, backend=field.host.backend)
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(timeout=20) == 1
    assert "another agent" in field.host.log()
    assert field.host.status()["programmed"]
