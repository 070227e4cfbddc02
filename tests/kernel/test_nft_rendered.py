"""The rendered ruleset on the kernel: who reaches whom, judged by packets."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import pytest

from calico.desired import Delta, EndpointId, EndpointRow, Origin, PolicyId, PolicyRow, RuleRow, Side, TierRow
from calico.model.address import parse_cidr
from calico.model.settings import Settings
from calico.programming.nft import Nftables
from calico.rendering.renderer import Renderer
from support.netns import needs_root
from support.packets import ICMP6, TCP, Probe, World, fenced, world

pytestmark = [pytest.mark.root, needs_root]

OPEN, ISOLATED = "open", PolicyId("GlobalNetworkPolicy", "", "isolate")
_ORIGIN = Origin("Profile", "", "", OPEN, "ingress", 0)
_ALLOW = (RuleRow("Allow", _ORIGIN),)
CLOSED = (TierRow("default", "Deny", (ISOLATED,)),)
FAMILIES = (4, 6)


def workload(interface: str, **fields: object) -> EndpointRow:
    return dataclasses.replace(EndpointRow(interface, (), (), (), (OPEN,)), **fields)


def one(name: str) -> EndpointId:
    return EndpointId("WorkloadEndpoint", "default", name)


class Scene:
    """Two open workloads and their host's outside, with nftables in between."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.start(Settings())
        self.change(
            Delta(
                policies={ISOLATED: PolicyRow((), ())},
                profiles={OPEN: PolicyRow(_ALLOW, _ALLOW)},
                endpoints={one("w1"): workload("cali1"), one("w2"): workload("cali2")},
            )
        )

    def start(self, settings: Settings) -> None:
        self.renderer, self.backend = Renderer(settings), Nftables()

    def change(self, delta: Delta, **interfaces: frozenset) -> None:
        self.renderer.update(delta, interfaces or None)
        tables = {family: fenced(table) for family, table in self.renderer.tables.items()}
        self.world.host.call(lambda: self.backend.sync(tables))
        self.world.forget_flows()

    def both(self, source: str, destination: str, **fields: object) -> list[bool]:
        return self.world.passes(*(Probe(source, destination, family, **fields) for family in FAMILIES))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def built() -> Iterator[World]:
    with world("t-nft-scene") as made:
        yield made


@pytest.fixture
def scene(built: World) -> Scene:
    return Scene(built)


YES, NO = [True, True], [False, False]


def test_open_workloads_reach_each_other_and_the_outside(scene: Scene) -> None:
    """With allowing profiles packets pass in every direction, in both families."""
    for source, destination in (("w1", "w2"), ("w1", "outside"), ("outside", "w1"), ("host", "w1")):
        assert scene.both(source, destination) == YES, (source, destination)


@pytest.mark.parametrize("end", ["egress", "ingress"])
def test_both_ends_must_allow(scene: Scene, end: str) -> None:
    """One closed end is enough to stop traffic between two workloads of one host; the other way is not concerned."""
    closed = one("w1") if end == "egress" else one("w2")
    interface = "cali1" if end == "egress" else "cali2"
    scene.change(Delta(endpoints={closed: workload(interface, **{end: CLOSED})}))

    assert scene.both("w1", "w2") == NO
    assert scene.both("w2", "w1") == YES


def test_the_host_reaches_its_workloads_whatever_their_policy(scene: Scene) -> None:
    """Ingress policy of a workload is for others than its own host."""
    scene.change(Delta(endpoints={one("w1"): workload("cali1", ingress=CLOSED)}))
    assert scene.both("host", "w1") == YES
    assert scene.both("outside", "w1") == NO


@pytest.mark.parametrize(("action", "expected"), [("Drop", NO), ("Accept", YES), ("Return", YES)])
def test_a_workload_reaches_its_host_only_by_setting(built: World, action: str, expected: list[bool]) -> None:
    """After the workload's own egress policy the setting decides about the host."""
    scene = Scene(built)
    settings = Settings(default_endpoint_to_host_action=action)  # type: ignore[arg-type]
    scene.start(settings)
    profiles = {OPEN: PolicyRow(_ALLOW, _ALLOW)}
    policies = {ISOLATED: PolicyRow((), ())}
    scene.change(Delta(profiles=profiles, policies=policies, endpoints={one("w1"): workload("cali1")}))
    assert scene.both("w1", "host") == expected

    scene.change(Delta(endpoints={one("w1"): workload("cali1", egress=CLOSED)}))
    assert scene.both("w1", "host") == NO


def test_false_sources_do_not_leave_the_host(scene: Scene) -> None:
    """A workload cannot send with an address that is not routed to it, in either family."""
    for claimed in (("10.65.0.2", "fd65::2"), ("172.31.0.2", "fd31::2"), ("8.8.8.8", "2001:db8::1")):
        probes = [Probe("w1", "outside", family, claimed=claimed[i]) for i, family in enumerate(FAMILIES)]
        assert scene.world.passes(*probes) == NO, claimed
    assert scene.both("outside", "w1", claimed="") == YES


def test_an_interface_without_endpoint_is_closed(scene: Scene) -> None:
    """A workload interface that no endpoint is known for neither sends nor receives; nor does an inactive one."""
    for row in (None, workload("cali2", active=False)):
        scene.change(Delta(endpoints={one("w2"): row}))
        assert scene.both("w2", "outside") == NO
        assert scene.both("outside", "w2") == NO
        assert scene.both("w1", "w2") == NO
        assert scene.both("w1", "outside") == YES


def test_a_missing_profile_denies(scene: Scene) -> None:
    """An endpoint whose profile does not exist is closed until it does."""
    scene.change(Delta(profiles={OPEN: None}))
    assert scene.both("w1", "outside") == NO
    scene.change(Delta(profiles={OPEN: PolicyRow(_ALLOW, _ALLOW)}))
    assert scene.both("w1", "outside") == YES


def test_workloads_send_no_tunnel_packets(scene: Scene) -> None:
    """Even an open workload cannot send VXLAN."""
    assert scene.both("w1", "outside", dport=4789) == NO
    assert scene.both("w1", "outside", dport=4790) == YES


def test_workloads_are_no_routers(scene: Scene) -> None:
    """Router advertisements of a workload reach nobody, while its neighbour discovery reaches the host."""
    advertisement = Probe("w1", "host", 6, ICMP6, icmp=(134, 0), lead=struct.pack("!I", 0))
    solicitation = Probe("w1", "host", 6, ICMP6, icmp=(133, 0), lead=struct.pack("!I", 0))
    assert scene.world.passes(advertisement, solicitation) == [False, True]


def test_a_host_endpoint_guards_the_host_but_not_its_forwarding(scene: Scene) -> None:
    """With a host endpoint and nothing else the host is closed but for failsafe ports; routed packets pass."""
    scene.change(Delta(endpoints={EndpointId("HostEndpoint", "", "h"): EndpointRow("eth0", (), (), (), ())}))
    assert scene.both("outside", "host") == NO
    assert scene.both("outside", "host", protocol=TCP, dport=22) == YES
    assert scene.both("host", "outside") == NO
    assert scene.both("host", "outside", dport=53) == YES
    assert scene.both("w1", "outside") == YES
    assert scene.both("outside", "w1") == YES
    assert scene.both("host", "w1") == YES


@pytest.mark.parametrize("by", ["name", "address", "wildcard"])
def test_host_endpoints_are_found(scene: Scene, by: str) -> None:
    """By its interface, by an expected address, or as the one for all others, a host endpoint's policy holds."""
    policy = PolicyId("GlobalNetworkPolicy", "", "http")
    rules = (RuleRow("Allow", _ORIGIN, protocol=17, destination=Side(ports=((80, 80),))),)
    interface = {"name": "eth0", "address": "", "wildcard": "*"}[by]
    address = parse_cidr("172.31.0.1")
    row = EndpointRow(interface, (address,), (TierRow("default", "Deny", (policy,)),), (), ())
    scene.change(
        Delta(policies={policy: PolicyRow(rules, ())}, endpoints={EndpointId("HostEndpoint", "", "h"): row}),
        eth0=frozenset({address}),
    )
    assert scene.both("outside", "host") == YES
    assert scene.both("outside", "host", dport=81) == NO
    assert scene.both("w1", "outside") == YES
