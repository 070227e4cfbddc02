"""Which ends have a say in a flow (behaviour reference 3.3, 3.6)."""

from __future__ import annotations

import pytest

from calico.analysis import Decision, Step, Verdict
from calico.model.address import parse_cidr
from calico.model.node import Node, NodeAddress, NodeBGP, NodeSpec, NodeWireguard
from calico.model.resource import Metadata, Resource
from calico.model.settings import FailsafePort, Settings
from support.analysis import OUTSIDE, world
from support.builders import elsewhere, endpoint, here, host_endpoint, policy, profile, rule

OPEN = profile("open", ingress=[rule()], egress=[rule()])


def workload(name: str, node: str, address: str, *, profiles: tuple[str, ...] = ("open",)) -> Resource:
    return endpoint(name, node, address=address, profiles=profiles)


def node(name: str, address: str, **spec: object) -> Node:
    return Node(metadata=Metadata(name=name), spec=NodeSpec(addresses=[NodeAddress(address=address)], **spec))


NODES = (node(here, "172.16.0.1"), node(elsewhere, "172.16.0.2"))
A, B, C = (
    workload("a", here, "10.0.0.1"),
    workload("b", here, "10.0.0.2"),
    workload("c", elsewhere, "10.0.0.3"),
)
BASE = (OPEN, *NODES, A, B, C)


def decided(*resources: Resource, settings: Settings | None = None, **flow: object) -> Decision:
    return world(*resources, settings=settings).decide(**{"protocol": "TCP", "port": 9999, **flow})


def closed(*directions: str, selector: str) -> Resource:
    return policy("closed", namespace=None, selector=selector, types=[d.capitalize() for d in directions])


DENIED = Step("Tier", "default", "", "default", None, "Deny")


def test_nobody_has_a_say_between_strangers() -> None:
    """Addresses of no endpoint and no host are beyond policy."""
    assert decided(*BASE, source="192.0.2.1", destination="192.0.2.2") == Decision(None, None)
    assert decided(*BASE, source="192.0.2.1", destination="192.0.2.2").allowed


@pytest.mark.parametrize("far", ["default/b", "default/c"])
def test_between_workloads_both_ends_are_asked(far: str) -> None:
    """Source's egress and destination's ingress, on one host as between two, each with its own trail."""
    target = f"projectcalico.org/namespace == 'default' && who == '{far[-1]}'"
    one, other = (
        endpoint(name, on, address=address, labels={"who": name}, profiles=["open"])
        for name, on, address in (
            ("a", here, "10.0.0.1"),
            (far[-1], here if far == "default/b" else elsewhere, "10.0.0.9"),
        )
    )

    free = decided(OPEN, *NODES, one, other, source="default/a", destination=far)
    there = decided(
        OPEN, *NODES, one, other, closed("ingress", selector=target), source="default/a", destination=far
    )
    at_home = decided(
        OPEN, *NODES, one, other, closed("egress", selector="who == 'a'"), source="default/a", destination=far
    )

    assert free.allowed
    assert free.egress is not None
    assert free.ingress is not None
    assert (there.egress, there.ingress) == (free.egress, Verdict("deny", (DENIED,)))
    assert (at_home.egress, at_home.ingress) == (Verdict("deny", (DENIED,)), free.ingress)
    assert not there.allowed
    assert not at_home.allowed


def test_to_and_from_outside_one_end_is_asked() -> None:
    """A workload's egress on the way out, its ingress on the way in."""
    out = decided(*BASE, source="default/a", destination=OUTSIDE[4])
    into = decided(*BASE, source=OUTSIDE[4], destination="default/a")

    assert out.egress is not None
    assert out.ingress is None
    assert into.egress is None
    assert into.ingress is not None


def test_a_host_reaches_its_own_workloads() -> None:
    """Neither the workload's ingress policy nor the host endpoint's egress policy is asked."""
    hep = host_endpoint("all", here, interface="*")
    resources = (*BASE, hep, closed("ingress", "egress", selector="all()"))

    assert decided(*resources, source="172.16.0.1", destination="default/a") == Decision(None, None)


def test_another_host_does_not_reach_workloads_so() -> None:
    """A workload's ingress policy is asked about other hosts, and so is their host endpoint's egress policy."""
    hep = host_endpoint("all", elsewhere, interface="*", profiles=["open"])
    resources = (*BASE, hep, closed("ingress", selector="projectcalico.org/namespace == 'default'"))

    decision = decided(*resources, source="172.16.0.2", destination="default/a")

    assert decision.egress is not None
    assert decision.egress.allowed
    assert decision.ingress == Verdict("deny", (DENIED,))


def test_a_host_reaches_itself() -> None:
    """What stays on a host's own addresses is nobody's to police."""
    hep = host_endpoint("all", here, interface="*")

    assert decided(*BASE, hep, source="172.16.0.1", destination="172.16.0.1") == Decision(None, None)


@pytest.mark.parametrize(("action", "allowed"), [("Drop", False), ("Return", True), ("Accept", True)])
def test_a_workload_s_way_to_its_own_host(action: str, allowed: bool) -> None:
    """After the workload's egress policy the setting decides; a host endpoint has no say."""
    settings = Settings(default_endpoint_to_host_action=action)
    hep = host_endpoint("all", here, interface="*")

    decision = decided(*BASE, hep, settings=settings, source="default/a", destination="172.16.0.1")

    assert decision.allowed == allowed
    assert decision.ingress is None
    assert decision.egress is not None
    assert decision.egress.trail == (
        Step("Profile", "", "", "open", 0, "Allow"),
        Step("Host", "", "", "defaultEndpointToHostAction", None, "Allow" if allowed else "Deny"),
    )


def test_egress_policy_comes_before_the_host_s_setting() -> None:
    """What a workload may not send does not reach its host either, whatever the setting."""
    settings = Settings(default_endpoint_to_host_action="Accept")
    no_egress = closed("egress", selector="projectcalico.org/namespace == 'default'")

    decision = decided(*BASE, no_egress, settings=settings, source="default/a", destination="172.16.0.1")

    assert decision == Decision(Verdict("deny", (DENIED,)), None)


def test_a_workload_s_way_to_another_host() -> None:
    """There the host endpoint's ingress policy is asked; without a host endpoint the host is open."""
    hep = host_endpoint("all", elsewhere, interface="*")

    open_host = decided(*BASE, source="default/a", destination="172.16.0.2")
    decision = decided(*BASE, hep, source="default/a", destination="172.16.0.2")

    assert open_host.allowed
    assert open_host.ingress is None
    assert decision.egress is not None
    assert decision.egress.allowed
    assert decision.ingress == Verdict("deny", (Step("Profile", "", "", "", None, "Deny"),))


def test_neighbours_are_found_whatever_policy_says() -> None:
    """A host always takes ICMPv6 of neighbour discovery from its workloads; a ping is not among it."""
    a6, host6 = workload("a", here, "fd00::1", profiles=()), node(here, "fd00:ffff::1")

    def reaches(kind: int) -> bool:
        return decided(
            a6, host6, source="default/a", destination="fd00:ffff::1", protocol="ICMPv6", icmp_type=kind
        ).allowed

    assert [kind for kind in range(256) if reaches(kind)] == [130, 131, 132, 133, 135, 136]


def test_workloads_are_no_routers() -> None:
    """A router advertisement does not leave a workload, whatever policy says."""
    a6, c6 = workload("a", here, "fd00::1"), workload("c", elsewhere, "fd00::3")
    flow = {"source": "default/a", "destination": "default/c", "protocol": "ICMPv6"}

    assert decided(OPEN, a6, c6, **flow, icmp_type=135).allowed
    assert decided(OPEN, a6, c6, **flow, icmp_type=134).egress == Verdict(
        "deny", (Step("Router", "", "", "cali-a", None, "Deny"),)
    )


@pytest.mark.parametrize(("protocol", "port"), [("UDP", 4789), (4, None)])
def test_workloads_send_no_tunnel_packets(protocol: str | int, port: int | None) -> None:
    """VXLAN and IP in IP from a workload are denied before policy; to a workload they are packets like others."""
    tunnel = Verdict("deny", (Step("Tunnel", "", "", "cali-a", None, "Deny"),))

    assert (
        decided(*BASE, source="default/a", destination=OUTSIDE[4], protocol=protocol, port=port).egress
        == tunnel
    )
    assert decided(*BASE, source=OUTSIDE[4], destination="default/a", protocol=protocol, port=port).allowed
    assert decided(*BASE, source="default/a", destination=OUTSIDE[4], protocol="TCP", port=4789).allowed


def test_a_host_endpoint_without_policy_is_closed() -> None:
    """No policy and no profile: everything but failsafe ports is denied, in both directions."""
    hep = host_endpoint("all", here, interface="*")
    nothing = Verdict("deny", (Step("Profile", "", "", "", None, "Deny"),))

    assert decided(*BASE, hep, source=OUTSIDE[4], destination="172.16.0.1").ingress == nothing
    assert decided(*BASE, hep, source="172.16.0.1", destination=OUTSIDE[4]).egress == nothing


def test_failsafe_ports_are_open_whatever_policy_says() -> None:
    """Inbound and outbound ports each in their direction, by protocol and destination port."""
    hep = host_endpoint("all", here, interface="*")
    deny = policy("deny", namespace=None, ingress=[rule("Deny")], egress=[rule("Deny")])
    failsafe = Verdict("allow", (Step("Failsafe", "", "", "all", None, "Allow"),))

    def into(**flow: object) -> Verdict | None:
        return decided(*BASE, hep, deny, source=OUTSIDE[4], destination="172.16.0.1", **flow).ingress

    def out(**flow: object) -> Verdict | None:
        return decided(*BASE, hep, deny, source="172.16.0.1", destination=OUTSIDE[4], **flow).egress

    assert into(port=22) == failsafe
    assert out(protocol="UDP", port=53) == failsafe
    for refused in (into(protocol="UDP", port=22), into(port=80, source_port=22), out(port=22)):
        assert refused is not None
        assert not refused.allowed


def test_a_failsafe_port_may_be_for_some_only() -> None:
    """Its net is where the far side must be, and is of one family."""
    hep = host_endpoint("all", here, interface="*")
    settings = Settings(failsafe_inbound=(FailsafePort(6, 22, parse_cidr("192.0.2.0/24")),))

    def into(source: str) -> bool:
        return decided(
            *BASE, hep, settings=settings, source=source, destination="172.16.0.1", port=22
        ).allowed

    assert into("192.0.2.77")
    assert not into("198.51.100.1")


def test_failsafe_ports_are_the_hosts_only() -> None:
    """A workload has none."""
    closing = closed("ingress", selector="projectcalico.org/namespace == 'default'")

    assert not decided(*BASE, closing, source=OUTSIDE[4], destination="default/a", port=22).allowed


def test_policies_of_a_namespace_are_not_for_hosts() -> None:
    """A NetworkPolicy selects no host endpoint, whatever its labels."""
    hep = host_endpoint("all", here, interface="*", profiles=["open"], labels={"role": "db"})
    ours = policy("p", types=["Ingress"])

    assert decided(*BASE, hep, ours, source=OUTSIDE[4], destination="172.16.0.1").allowed


def governor(*endpoints: Resource, at: str = "172.16.0.1") -> str | None:
    """The name of the host endpoint that denies a failsafe-less packet to an address of the host."""
    bgp = NodeBGP(ipv4_address="172.16.1.1/24", ipv4_ipip_tunnel_addr="10.9.9.9")
    wireguard = NodeWireguard(interface_ipv4_address="10.8.8.8")
    host = node(here, "172.16.0.1", bgp=bgp, wireguard=wireguard)
    verdict = decided(host, *endpoints, source=OUTSIDE[4], destination=at, port=22).ingress
    return None if verdict is None else verdict.trail[0].name


NAMED = host_endpoint("m-named", interface="eth0")
EXPECTING = host_endpoint("n-expecting", address="172.16.0.1")
BOTH = host_endpoint("o-both", interface="eth1", address="172.16.1.1")
ALL = host_endpoint("a-all", interface="*")


def test_which_host_endpoint_governs_an_address() -> None:
    """Who expects it, by name; else who might carry it; else the wildcard; else nobody."""
    assert governor(ALL, NAMED, EXPECTING) == "n-expecting"
    assert governor(ALL, NAMED, host_endpoint("b", address="172.16.0.1"), EXPECTING) == "b"
    assert governor(ALL, NAMED) == "m-named"
    assert governor(ALL, BOTH) == "a-all"
    assert governor(ALL, BOTH, at="172.16.1.1") == "o-both"
    assert governor(BOTH) is None
    assert governor() is None
    assert governor(ALL, host_endpoint("0-all", interface="*")) == "0-all"


def test_a_tunnel_s_address_is_on_no_named_interface() -> None:
    """The wildcard endpoint governs it, unless another expects it."""
    for tunnel in ("10.9.9.9", "10.8.8.8"):
        assert governor(ALL, NAMED, at=tunnel) == "a-all"
        assert governor(NAMED, at=tunnel) is None


def test_host_endpoints_of_other_hosts_govern_nothing_here() -> None:
    """A host's address belongs to its own endpoints."""
    theirs = host_endpoint("x", elsewhere, interface="*")

    assert decided(*BASE, theirs, source=OUTSIDE[4], destination="172.16.0.1").ingress is None
