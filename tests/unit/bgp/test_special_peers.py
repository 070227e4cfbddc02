"""Peers that are watched by BFD, are behind an interface or are workloads; router ids and priorities as wanted."""

from __future__ import annotations

import pytest

from calico.bgp.plan import DEFAULT_BFD
from calico.bgp.speaker import BfdInterface
from calico.model.address import parse_address
from calico.model.bfd import BFDConfiguration, BFDConfigurationSpec, BFDInterface
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.resource import Metadata
from support.speakers import configuration, names, node, peer, session, speaker

A = node("a", "10.0.0.1", "fd00::1")
C = node("c", "10.0.0.3")


def bfd(name: str, selector: str, *interfaces: BFDInterface) -> BFDConfiguration:
    """BFD on some nodes."""
    spec = BFDConfigurationSpec(node_selector=selector, interfaces=list(interfaces))
    return BFDConfiguration(metadata=Metadata(name=name), spec=spec)


def test_bfd_watches_peers_in_a_network_of_ours() -> None:
    """A peer is watched, and spoken to directly, only if it is in a network of the node's."""
    near = peer(
        "near", peer_ip="10.0.0.254", as_number=65001, failure_detection_mode="BFDIfDirectlyConnected"
    )
    far = peer("far", peer_ip="10.9.0.254", as_number=65001, failure_detection_mode="BFDIfDirectlyConnected")
    unasked = peer("unasked", peer_ip="10.0.0.253", as_number=65001, failure_detection_mode="None")

    planned = speaker("a", A, near, far, unasked)

    assert {one.name: (one.direct, one.bfd) for one in planned.sessions} == {
        "Global_10_0_0_254": (True, "on"),
        "Global_10_9_0_254": (False, ""),
        "Global_10_0_0_253": (False, ""),
    }
    assert planned.bfd == (DEFAULT_BFD,)


def test_bfd_with_a_restart_time_takes_silence_for_a_restart() -> None:
    """maxRestartTime together with BFD chooses forwarding through a restart over the fastest failover."""
    watched = {
        "as_number": 65001,
        "failure_detection_mode": "BFDIfDirectlyConnected",
        "max_restart_time": "3s",
    }

    planned = session(speaker("a", A, peer("p", peer_ip="10.0.0.254", **watched)), "Global_10_0_0_254")

    assert (planned.bfd, planned.restart_time) == ("graceful", 3)


def test_timing_of_bfd_comes_from_the_configurations_that_select_the_node() -> None:
    """Interfaces of all configurations for the node, by name of the configuration, then the default."""
    watched = peer("p", peer_ip="10.0.0.254", as_number=1, failure_detection_mode="BFDIfDirectlyConnected")
    here = node("a", "10.0.0.1", labels={"rack": "1"})
    fast = BFDInterface(
        match_pattern="eth*",
        minimum_recv_interval="50ms",
        minimum_send_interval="1.5s",
        idle_send_interval="1m",
        multiplier=3,
    )

    planned = speaker(
        "a",
        here,
        watched,
        bfd("two", "rack == '1'", fast),
        bfd("one", "all()", BFDInterface(match_pattern="lo")),
        bfd("other", "rack == '2'", BFDInterface(match_pattern="x")),
    )

    assert planned.bfd == (
        DEFAULT_BFD._replace(pattern="lo"),
        BfdInterface("eth*", receive=50, send=1500, idle=60000, multiplier=3),
        DEFAULT_BFD,
    )
    assert speaker("a", here, bfd("one", "all()")).bfd == ()


@pytest.mark.parametrize(
    "interface",
    [
        BFDInterface(match_pattern="*", minimum_recv_interval="soon"),
        BFDInterface(match_pattern="*", minimum_send_interval="0s"),
        BFDInterface(match_pattern="*", idle_send_interval="9999m"),
        BFDInterface(match_pattern="*", idle_send_interval="2h"),
        BFDInterface(match_pattern="*", idle_send_interval="9" * 400 + "s"),
        BFDInterface(match_pattern="*", idle_send_interval="1s "),
        BFDInterface(match_pattern="*", multiplier=256),
    ],
)
def test_bfd_that_makes_no_sense_is_said(interface: BFDInterface) -> None:
    """A broken configuration is a problem, and the default counts."""
    watched = peer("p", peer_ip="10.0.0.254", as_number=1, failure_detection_mode="BFDIfDirectlyConnected")

    planned = speaker("a", A, watched, bfd("odd", "all()", interface))

    assert planned.bfd == (DEFAULT_BFD,)
    assert [problem.subject for problem in planned.problems] == ["BFDConfiguration/odd"]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("300ms", 300), ("1m0.5s", 60500), ("1h", 3_600_000), ("2000us", 2), ("2000µs", 2), ("5000000ns", 5)],
)
def test_timing_of_bfd_is_any_duration(text: str, milliseconds: int) -> None:
    """What ``calicoctl apply`` takes for a duration is one."""
    watched = peer("p", peer_ip="10.0.0.254", as_number=1, failure_detection_mode="BFDIfDirectlyConnected")

    planned = speaker("a", A, watched, bfd("odd", "all()", BFDInterface(idle_send_interval=text)))

    assert (planned.bfd[0].idle, planned.problems) == (milliseconds, ())


def test_router_behind_an_interface() -> None:
    """A peer by interface is spoken to at its link-local address, of any AS, with routes of both families."""
    top = peer("top", node="a", peer_interface="eth0", failure_detection_mode="BFDIfDirectlyConnected")
    planned = speaker("a", A, top, routers={"eth0": "fe80::1", "eth1": "fe80::2"})

    [one] = [each for each in planned.sessions if each.interface]
    assert (one.name, one.peer, one.peer_as) == ("Node_eth0", parse_address("fe80::1"), None)
    assert (one.families, one.direct, one.bfd, one.source) == ((4, 6), True, "on", None)
    assert planned.interfaces == ("eth0",)
    assert planned.problems == ()


def test_router_that_has_not_been_seen_is_waited_for() -> None:
    """Until the router shows itself there is no session, which is said; we show ourselves all the while."""
    planned = speaker("a", A, peer("top", peer_interface="eth0", as_number=65001))

    assert planned.sessions == ()
    assert planned.interfaces == ("eth0",)
    [problem] = planned.problems
    assert "no router has been seen behind eth0" in str(problem)


def test_routers_with_one_address_behind_two_interfaces() -> None:
    """Two routers may have the same link-local address: they are told apart by the interface."""
    peers = [peer(name, peer_interface=name) for name in ("eth0", "eth1")]

    planned = speaker("a", A, *peers, routers={"eth0": "fe80::1", "eth1": "fe80::1"})

    assert names(planned) == ["Global_eth0", "Global_eth1"]


def workload(name: str, where: str = "a", *addresses: str, **labels: str) -> WorkloadEndpoint:
    """A workload in namespace "apps"."""
    spec = WorkloadEndpointSpec(node=where, ip_networks=list(addresses), interface_name=f"cali{name}")
    return WorkloadEndpoint(metadata=Metadata(name=name, namespace="apps", labels=labels), spec=spec)


def test_workloads_of_this_node_are_peers() -> None:
    """Selected workloads here get a session each for the first address of each family, from our address for them."""
    ours = configuration(local_workload_peering_ipv4="169.254.2.1", local_workload_peering_ipv6="fd00:169::1")
    routers = peer("routers", local_workload_selector="role == 'router'", as_number=65200, filters=["f"])
    world = (
        workload("r", "a", "10.65.0.5/32", "10.65.0.6/32", "fd65::5/128", role="router"),
        workload("other", "a", "10.65.0.7/32"),
        workload("far", "b", "10.65.9.5/32", role="router"),
    )

    planned = speaker("a", A, ours, routers, *world)

    assert names(planned) == ["Local_Workload_10_65_0_5", "Local_Workload_fd65__5"]
    four = session(planned, "Local_Workload_10_65_0_5")
    assert (four.source, four.peer_as, four.next_hop, four.workload) == (
        parse_address("169.254.2.1"),
        65200,
        "Self",
        True,
    )
    assert four.filters == ("f",)


def test_workloads_of_one_namespace_are_selected() -> None:
    """The namespace counts among a workload's labels; ``nodeSelector`` says on which nodes."""
    ours = configuration(local_workload_peering_ipv4="169.254.2.1")
    one = peer("one", local_workload_selector="projectcalico.org/namespace == 'apps'", as_number=65200)
    world = (A, C, ours, one, workload("r", "a", "10.65.0.5/32"))

    assert names(speaker("a", *world)) == [
        "Local_Workload_10_65_0_5",
        "Mesh_10_0_0_3",
    ]
    assert names(speaker("c", *world)) == ["Mesh_10_0_0_1"]


def test_namespace_of_a_workload_cannot_be_forged() -> None:
    """A label that says another namespace does not make a workload a peer that was meant there."""
    ours = configuration(local_workload_peering_ipv4="169.254.2.1")
    one = peer("one", local_workload_selector="projectcalico.org/namespace == 'infra'", as_number=65200)
    forged = workload("r", "a", "10.65.0.5/32", **{"projectcalico.org/namespace": "infra"})

    assert names(speaker("a", A, ours, one, forged)) == []


def test_workload_peering_needs_an_address_of_the_same_family() -> None:
    """BIRD would refuse everything for it, so the peer is left out."""
    ours = configuration(local_workload_peering_ipv4="fd00:169::1")
    one = peer("one", local_workload_selector="all()", as_number=65200)

    planned = speaker("a", A, ours, one, workload("r", "a", "10.65.0.5/32"))

    assert names(planned) == []
    [problem] = planned.problems
    assert "localWorkloadPeeringIPV4 is fd00:169::1" in problem.message


def test_workload_peering_needs_an_address_of_ours() -> None:
    """Without localWorkloadPeeringIPV4 there is no session, which is said."""
    one = peer("one", local_workload_selector="all()", as_number=65200)

    planned = speaker("a", A, one, workload("r", "a", "10.65.0.5/32"))

    assert planned.sessions == ()
    assert "set localWorkloadPeeringIPV4" in str(planned.problems[0])


@pytest.mark.parametrize(
    ("wanted", "router_id", "problems"),
    [("", "10.0.0.1", 0), ("192.0.2.9", "192.0.2.9", 0), ("0.0.0.0", "10.0.0.1", 1), ("x", "10.0.0.1", 1)],
)
def test_router_id_as_wanted(wanted: str, router_id: str, problems: int) -> None:
    """A router id can be chosen; one that is none is said, and not used."""
    planned = speaker("a", A, router_id=wanted)

    assert planned.router_id == router_id
    assert len(planned.problems) == problems


def test_router_id_by_hash() -> None:
    """The word hash gives a node with an IPv4 address the id that it would have without."""
    assert speaker("a", A, router_id="hash").router_id == speaker("a", node("a", ipv6="fd00::1")).router_id


def test_normal_priorities() -> None:
    """Ordinary routes have 1024, or what is configured; one out of range is said."""
    assert speaker("a", A).priorities == (1024, 1024)
    assert speaker("a", A, configuration(ipv4_normal_route_priority=500)).priorities == (500, 1024)
    odd = speaker("a", A, configuration(ipv6_normal_route_priority=2**31))
    assert (odd.priorities, len(odd.problems)) == ((1024, 1024), 1)
