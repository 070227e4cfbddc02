"""Established flows through a policy that changes: with Revoke the denied ones end and the others are not touched."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from calico.model.address import Family
from calico.programming.conntrack import entries
from support.host import ALLOWING_PROFILE, Cloud, Host, eventually, plug, workload_endpoint
from support.netns import Namespace, link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A = {4: "10.65.0.2", 6: "fd00:65::2"}
B = {4: "10.65.0.3", 6: "fd00:65::3"}
HOST = {4: "10.0.0.1", 6: "fd00::1"}
OUTSIDE = {4: "10.0.0.2", 6: "fd00::2"}
SERVICE = {4: "10.96.0.1", 6: "fd00:96::1"}
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
WAIT = 0.4

DENIED, KEPT, LATER, REVERSED = 5001, 5002, 5003, 5004
SOMEONE_ELSES_NAT = """
table {family} services {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        {family} daddr {service} tcp dport 81 dnat to {b}:5001
        {family} daddr {service} tcp dport 82 dnat to {b}:5002
    }}
}}
"""


class Place(NamedTuple):
    host: Host
    cloud: Cloud
    a: Namespace
    b: Namespace
    outside: Namespace


@pytest.fixture(params=["nftables", "iptables-nft"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A host with two workloads that may talk, a neighbour, and someone else's translation of destinations."""
    names = [f"t-revoke-{name}-{os.getpid()}" for name in ("h", "a", "b", "o")]
    with (
        namespaces(*names) as (inside, a, b, outside),
        Host(inside, "host", tmp_path, backend=request.param) as host,
    ):
        link(inside, "eth0", outside, "eth0")
        for space, addresses in ((inside, HOST), (outside, OUTSIDE)):
            space.run("ip", "address", "add", f"{addresses[4]}/24", "dev", "eth0")
            space.run("ip", "address", "add", f"{addresses[6]}/64", "dev", "eth0", "nodad")
        for family, word in ((4, "ip"), (6, "ip6")):
            target = B[family] if family == 4 else f"[{B[family]}]"
            rules = SOMEONE_ELSES_NAT.format(family=word, service=SERVICE[family], b=target)
            inside.run("nft", "-f", "-", stdin=rules)
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A[4], A[6])
        plug(host, b, "b", B[4], B[6])
        cloud.apply(
            ALLOWING_PROFILE
            + workload_endpoint("host", "a", A[4], A[6], labels="{app: a}")
            + workload_endpoint("host", "b", B[4], B[6], labels="{app: b}")
        )
        host.start()
        yield Place(host, cloud, a, b, outside)


def policy(name: str, selector: str, direction: str, *denied: str) -> str:
    rules = ", ".join(f"{{action: Deny, {one}}}" for one in denied)
    return f"""
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: {name}}}
spec: {{selector: "{selector}", types: [{direction}], {direction.lower()}: [{rules}, {{action: Allow}}]}}
---"""


def to(port: int, protocol: str = "TCP") -> str:
    return f"protocol: {protocol}, destination: {{ports: [{port}]}}"


def setting(value: str) -> str:
    return f"""
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {{name: default}}
spec: {{establishedFlows: {value}}}
---"""


class Flow(NamedTuple):
    """An established flow: ``there`` and ``back`` carry something, and say whether it arrived."""

    there: Callable[[], bool]
    back: Callable[[], bool]


def _carried(sender: socket.socket, receiver: socket.socket) -> bool:
    token = os.urandom(8)
    sender.send(token)
    try:
        return receiver.recv(64).endswith(token)
    except TimeoutError:
        return False


def tcp(
    stack: contextlib.ExitStack,
    client: Namespace,
    server: Namespace,
    family: Family,
    address: str,
    port: int,
    listen: int = 0,
) -> Flow:
    listener = stack.enter_context(
        server.call(lambda: socket.create_server(("", listen or port), family=AF[family]))
    )
    near = stack.enter_context(client.call(lambda: socket.create_connection((address, port), timeout=20)))
    listener.settimeout(5)
    far, _ = listener.accept()
    stack.enter_context(far)
    listener.close()
    near.settimeout(WAIT)
    far.settimeout(WAIT)
    flow = Flow(lambda: _carried(near, far), lambda: _carried(far, near))
    assert flow.there()
    assert flow.back()
    return flow


def udp(
    stack: contextlib.ExitStack, client: Namespace, server: Namespace, family: Family, address: str, port: int
) -> Flow:
    def opened(*, local: tuple[str, int] | None, remote: tuple[str, int] | None) -> socket.socket:
        made = socket.socket(AF[family], socket.SOCK_DGRAM)
        if local:
            made.bind(local)
        if remote:
            made.connect(remote)
        made.settimeout(WAIT)
        return made

    far = stack.enter_context(server.call(lambda: opened(local=("", port), remote=None)))
    near = stack.enter_context(client.call(lambda: opened(local=None, remote=(address, port))))
    near.send(b"first")
    _, peer = far.recvfrom(64)
    far.connect(peer)
    flow = Flow(lambda: _carried(near, far), lambda: _carried(far, near))
    assert flow.back()
    return flow


def echo(stack: contextlib.ExitStack, client: Namespace, family: Family, address: str) -> Flow:
    """One ping that goes on, always under one identifier."""
    protocol, request, reply = (
        (socket.IPPROTO_ICMP, 8, 0) if family == 4 else (socket.IPPROTO_ICMPV6, 128, 129)
    )
    near = stack.enter_context(client.call(lambda: socket.socket(AF[family], socket.SOCK_RAW, protocol)))
    near.settimeout(WAIT)
    near.connect((address, 0))

    def answered() -> bool:
        token = os.urandom(8)
        packet = struct.pack("!BBHHH8s", request, 0, 0, 77, 1, token)
        total = sum(struct.unpack("!8H", packet))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = 0xFFFF - (total & 0xFFFF) - (total >> 16)
        near.send(struct.pack("!BBHHH8s", request, 0, checksum, 77, 1, token))
        try:
            while True:
                got = near.recv(256)[20 if family == 4 else 0 :]
                if got[0] == reply and got.endswith(token):
                    return True
        except TimeoutError:
            return False

    assert answered()
    return Flow(answered, answered)


def identities(place: Place, family: Family) -> dict[tuple[str, str, int, int], int]:
    """Every tracked flow's own number, by addresses, protocol and port."""
    found = place.host.namespace.call(lambda: entries(family))
    return {
        (each.source.address, each.destination.address, each.protocol, each.destination_port): each.id
        for each in found
    }


@pytest.mark.parametrize("family", [4, 6])
def test_exactly_the_denied_flows_end(place: Place, family: Family) -> None:
    """With Keep all go on. With Revoke those end that could not begin now, by either end's policy; no other is touched."""
    a, b, service, inside = A[family], B[family], SERVICE[family], place.host.namespace
    icmp = "ICMP" if family == 4 else "ICMPv6"
    with contextlib.ExitStack() as stack:
        ended = {
            "tcp": tcp(stack, place.a, place.b, family, b, DENIED),
            "translated": tcp(stack, place.a, place.b, family, service, 81, DENIED),
            "udp": udp(stack, place.a, place.b, family, b, DENIED),
            "ping": echo(stack, place.a, family, b),
        }
        kept = {
            "tcp": tcp(stack, place.a, place.b, family, b, KEPT),
            "translated": tcp(stack, place.a, place.b, family, service, 82, KEPT),
            "udp": udp(stack, place.a, place.b, family, b, KEPT),
            "the other way": tcp(stack, place.b, place.a, family, a, DENIED),
            "the host's own": tcp(stack, inside, place.b, family, b, DENIED),
        }
        later = tcp(stack, place.a, place.b, family, b, LATER)
        before = identities(place, family)
        kept_keys = {
            (a, b, 6, KEPT),
            (a, service, 6, 82),
            (a, b, 17, KEPT),
            (b, a, 6, DENIED),
            (HOST[family], b, 6, DENIED),
        }
        gone_keys = {(a, b, 6, DENIED), (a, service, 6, 81), (a, b, 17, DENIED)}
        assert kept_keys | gone_keys <= before.keys()

        place.cloud.apply(
            policy("b", "app == 'b'", "Ingress", to(DENIED), to(DENIED, "UDP"), f"protocol: {icmp}")
        )
        eventually(lambda: place.host.status()["counts"]["policies"] == 1, what="the policy is programmed")
        assert all(flow.there() and flow.back() for flow in {**ended, **kept}.values()), "Keep"

        place.cloud.apply(setting("Revoke"))
        eventually(lambda: place.host.status().get("revoked") == 4, what="four flows are ended")
        assert [name for name, flow in ended.items() if flow.there()] == []
        assert [name for name, flow in ended.items() if name != "udp" and flow.back()] == []
        assert [name for name, flow in kept.items() if not (flow.there() and flow.back())] == []
        after = identities(place, family)
        assert gone_keys.isdisjoint(after)
        assert {key: after[key] for key in kept_keys} == {key: before[key] for key in kept_keys}

        assert later.there()
        place.cloud.apply(policy("a", "app == 'a'", "Egress", to(LATER)))
        eventually(lambda: place.host.status()["revoked"] == 5, what="a fifth one is ended")
        assert not later.there()
        assert not later.back()
        assert {key: identities(place, family)[key] for key in kept_keys} == {
            key: before[key] for key in kept_keys
        }


@pytest.mark.parametrize("place", ["nftables"], indirect=True)
def test_what_changed_while_no_agent_ran(place: Place) -> None:
    """The first thing that an agent programs is judged as a change."""
    place.cloud.apply(setting("Revoke"))
    with contextlib.ExitStack() as stack:
        denied = tcp(stack, place.a, place.b, 4, B[4], DENIED)
        kept = tcp(stack, place.a, place.b, 4, B[4], KEPT)
        assert place.host.stop() == 0
        place.cloud.apply(policy("b", "app == 'b'", "Ingress", to(DENIED)))
        assert denied.there()
        place.host.start()
        eventually(lambda: place.host.status()["revoked"] == 1, what="the flow is ended")
        assert not denied.there()
        assert kept.there()


@pytest.mark.parametrize("family", [4, 6])
def test_flows_of_a_host_endpoint(place: Place, family: Family) -> None:
    """What a neighbour has with the host, and passes through it, ends by the policy of the interface that leads there."""
    outside = place.outside
    outside.run("ip", f"-{family}", "route", "add", B[family], "via", HOST[family])
    place.cloud.apply(
        setting("Revoke")
        + """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host-eth0, labels: {host: ""}}
spec: {node: host, interfaceName: eth0, profiles: [kns.default]}
---"""
    )
    eventually(lambda: place.host.status().get("counts", {}).get("endpoints") == 3, what="it is known")
    with contextlib.ExitStack() as stack:
        inside = place.host.namespace
        denied = tcp(stack, outside, inside, family, HOST[family], DENIED)
        out = tcp(stack, inside, outside, family, OUTSIDE[family], LATER)
        kept = [
            tcp(stack, outside, inside, family, HOST[family], KEPT),
            tcp(stack, outside, place.b, family, B[family], DENIED),
            tcp(stack, inside, outside, family, OUTSIDE[family], DENIED),
        ]
        place.cloud.apply(
            policy("in", "has(host)", "Ingress", to(DENIED)) + policy("out", "has(host)", "Egress", to(LATER))
        )
        eventually(lambda: place.host.status()["revoked"] == 2, what="two flows are ended")
        assert not any((denied.there(), denied.back(), out.there(), out.back()))
        assert all(flow.there() and flow.back() for flow in kept)
