"""What a hostile workload says in the name of others: hardware addresses, neighbours, ICMP errors, tunnels to its host.

The host's own reverse-path filter is off, policy lets everything go where a test does not say otherwise, and each test
takes away what else would stop its attack.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator

import pytest

from support.attack import (
    A4,
    A6,
    B4,
    B6,
    ENDPOINTS,
    H4,
    H6,
    ICMP,
    ICMP6,
    IP_IN_IP,
    O4,
    O6,
    OPEN,
    UDP,
    Field,
    Make,
    datagram,
    icmp,
    ip,
    ip4,
    ip6,
    packed,
    udp,
    under_attack,
)
from support.host import GATEWAY_V6, eventually, interface_of, reaches
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]

SILENT_A = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: silent-a}
spec:
  selector: app == 'a'
  types: [Egress]
"""


@pytest.fixture(scope="module", params=["nftables", "iptables-nft", "iptables-legacy"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A host with its agent at work; tests leave its intent as they found it."""
    with under_attack(request.param, tmp_path_factory.mktemp("identity")) as made:
        yield made


@pytest.fixture
def silent(field: Field) -> Iterator[Field]:
    """The workload a may send nothing, and still be spoken to."""
    field.cloud.apply(SILENT_A)
    try:
        eventually(lambda: not field.hears("a", "o"), what="a is silent")
        yield field
    finally:
        field.cloud.delete("GlobalNetworkPolicy", "silent-a")
        eventually(lambda: field.hears("a", "o"), what="a speaks again")


def neighbours(field: Field, name: str) -> set[str]:
    """The addresses that the host believes behind a workload's interface."""
    listed = field.host.namespace.run("ip", "-j", "neigh", "show", "dev", interface_of(name)).stdout
    return {found["dst"] for found in json.loads(listed)}


def hardware(field: Field, name: str) -> bytes:
    return bytes.fromhex(field.hardware[name].replace(":", ""))


def send_arp(field: Field, operation: int, sender: str, target: str) -> None:
    own = hardware(field, "a")
    message = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + own + packed(sender)
    message += bytes(6) + packed(target)
    field.senders["a"].send(b"\xff" * 6 + own + b"\x08\x06" + message)


def send_solicitation(field: Field, kind: int, source: str, target: str = GATEWAY_V6) -> None:
    """A neighbour (135) or router (133) solicitation with the option that names the sender's hardware address."""
    body = packed(target) if kind == 135 else b""
    body += b"\x01\x01" + hardware(field, "a")
    goal = "ff02::2" if kind == 133 else target
    field.send("a", ip6(source, goal, ICMP6, icmp(source, goal, kind, body), hops=255))


# --- neighbours


INVENTED = [f"10.65.{high}.{low}" for high in range(1, 5) for low in range(1, 60)]


def test_arp_makes_no_neighbours_but_a_workloads_own_addresses(field: Field) -> None:
    """Requests and answers with invented senders leave nothing in the host's table; the own address is learned and answered.

    iptables sees no ARP: there it is the kernel's reverse-path filter that must be on.
    """
    inside = field.host.namespace
    # The agent gives each interface the host's default, now and whenever it looks again.
    switches = [f"net.ipv4.conf.{which}.rp_filter" for which in ("default", interface_of("a"))]
    before = [inside.run("sysctl", "-n", switch).stdout.strip() for switch in switches]
    if field.host.backend != "nftables":
        inside.run("sysctl", "-qw", *(f"{switch}=1" for switch in switches))
    inside.run("ip", "neigh", "flush", "dev", interface_of("a"))
    for sender in (*INVENTED, B4, O4, H4, "169.254.1.1", "10.65.0.255"):
        for operation in (1, 2):
            send_arp(field, operation, sender, "169.254.1.1")
    send_arp(field, 1, A4, "169.254.1.1")
    eventually(lambda: A4 in neighbours(field, "a"), what="the own address is learned")
    assert {found for found in neighbours(field, "a") if ":" not in found} == {A4}
    assert reaches(field.spaces["a"], O4)
    inside.run(
        "sysctl", "-qw", *(f"{switch}={value}" for switch, value in zip(switches, before, strict=True))
    )


def test_arp_of_an_interface_without_endpoint_is_not_heard(field: Field) -> None:
    """An interface that looks like a workload's and is nobody's gets no answer, and leaves no neighbour."""
    if field.host.backend != "nftables":
        pytest.skip("iptables sees no ARP")
    field.cloud.delete("WorkloadEndpoint", "host-k8s-a-eth0", "default")
    inside = field.host.namespace
    try:
        eventually(lambda: A4 not in inside.run("ip", "route").stdout, what="a is gone")
        inside.run("ip", "neigh", "flush", "dev", interface_of("a"))
        for sender in (A4, "10.65.7.7"):
            send_arp(field, 1, sender, "169.254.1.1")
        held = inside.run("nft", "list", "chain", "arp", "calico", "cali-arp-senders").stdout
        assert "packets 0 " not in held
        assert not {found for found in neighbours(field, "a") if ":" not in found}
    finally:
        field.cloud.apply(ENDPOINTS)
        eventually(lambda: field.hears("a", "o"), what="a is back")


def test_solicitations_fill_no_table_of_neighbours(field: Field) -> None:
    """Of hundreds of invented link-local sources a handful is believed; of others' addresses none."""
    inside = field.host.namespace
    before = neighbours(field, "a")
    for number in range(1, 301):
        for kind in (133, 135):
            send_solicitation(field, kind, f"fe80::bad:{number:x}")
    for source in (B6, O6, H6, "fd00:65::99", "2001:db8::1"):
        send_solicitation(field, 135, source)
    send_solicitation(field, 135, A6)
    field.received(0.1)
    new = neighbours(field, "a") - before
    assert len({found for found in new if found.startswith("fe80::bad")}) <= 14
    assert {found for found in new if not found.startswith("fe80::")} <= {A6}
    inside.run("ip", "neigh", "flush", "dev", interface_of("a"))
    assert reaches(field.spaces["a"], O6, count=2)


def test_a_workload_still_finds_its_router_by_its_link_local_address(field: Field) -> None:
    """Solicitations from an address that the workload made for itself are answered, one after the other."""
    space = field.spaces["a"]
    for _ in range(3):
        space.run("ip", "-6", "neigh", "flush", "dev", "eth0")
        found = space.run("ping", "-6", "-n", "-q", "-c", "1", "-W", "2", "-I", "eth0", O6, check=False)
        assert found.returncode == 0


# --- errors about flows


def quoting(source: str, goal: str, flow: bytes, mark: bytes) -> bytes:
    """Destination unreachable, from ``source``, about ``flow``, which its receiver once sent."""
    six = ":" in source
    kind = 1 if six else 3
    return ip(
        source, goal, ICMP6 if six else ICMP, icmp(source, goal, kind, flow[: 48 if six else 28] + mark)
    )


def test_an_error_about_others_flows_is_no_way_out(silent: Field) -> None:
    """A workload that may send nothing cannot send either by quoting what others said to each other."""
    field = silent
    attacks: dict[str, Make] = {}
    for a, b, o in ((A4, B4, O4), (A6, B6, O6)):
        flow = datagram(o, b, OPEN, bytes(8), from_port=4321)
        field.send("o", flow)
        answer = datagram(b, o, 4321, bytes(8), from_port=OPEN)
        field.send("b", answer)
        attacks[f"about the request {a}"] = lambda mark, a=a, o=o, f=flow: quoting(a, o, f, mark)  # type: ignore[misc]
        attacks[f"about the answer {a}"] = lambda mark, a=a, b=b, f=answer: quoting(a, b, f, mark)  # type: ignore[misc]
    assert field.arrivals("a", attacks, fence=False) == set()


def test_an_error_about_ones_own_flow_passes_whatever_policy_says(silent: Field) -> None:
    """Who was asked may say that there is nobody at that port, also where it may open no flow."""
    field = silent
    errors: dict[str, Make] = {}
    for a, o in ((A4, O4), (A6, O6)):
        flow = datagram(o, a, OPEN, bytes(8), from_port=4322)
        field.send("o", flow)
        errors[f"own {a}"] = lambda mark, a=a, o=o, f=flow: quoting(a, o, f, mark)  # type: ignore[misc]
    assert field.arrivals("a", errors, fence=False) == {f"own {A4} at o", f"own {A6} at o"}


# --- tunnels to the host


def test_a_tunnel_to_the_host_itself_ends_there(field: Field) -> None:
    """VXLAN and IP in IP addressed to the workload's own host carry nothing in, also where the host has devices that would unpack it."""
    inside = field.host.namespace

    def inner(mark: bytes) -> bytes:
        return datagram(O4, B4, OPEN, bytes(8) + mark)

    frame = bytes.fromhex("eeeeeeeeeeee") + bytes.fromhex("0200000000aa") + b"\x08\x00"
    attacks: dict[str, Make] = {
        "IP in IP": lambda mark: ip4(A4, H4, IP_IN_IP, inner(mark)),
        "IP in IPv6": lambda mark: ip6(A6, H6, IP_IN_IP, inner(mark)),
        "VXLAN": lambda mark: ip4(
            A4, H4, UDP, udp(A4, H4, 4789, struct.pack("!II", 1 << 27, 4096 << 8) + frame + inner(mark))
        ),
        "GRE": lambda mark: ip4(A4, H4, 47, struct.pack("!HH", 0, 0x0800) + inner(mark)),
    }
    with contextlib.ExitStack() as held:
        for device in (
            ("t-ipip", "type", "ipip", "local", H4, "remote", "any"),
            ("t-vxlan", "type", "vxlan", "id", "4096", "dstport", "4789", "local", H4, "nolearning"),
        ):
            if inside.run("ip", "link", "add", *device, check=False).returncode:
                continue  # this kernel has no such device, and nothing to unpack with
            held.callback(inside.run, "ip", "link", "del", device[0], check=False)
            inside.run("ip", "link", "set", device[0], "up")
        assert field.arrivals("a", attacks) == set()
