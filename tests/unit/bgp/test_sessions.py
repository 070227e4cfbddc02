"""Which sessions a node plans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.bgp.cluster import parse_as, parse_seconds
from calico.bgp.speaker import PoolExport
from calico.model.address import parse_address, parse_cidr
from calico.model.bgp import BGPPassword, SecretKeyRef
from calico.model.node import Node
from calico.model.resource import Metadata
from support.speakers import configuration, names, node, peer, pool, session, speaker

A = node("a", "10.0.0.1", "fd00::1")
B = node("b", "10.0.0.2", "fd00::2")
C = node("c", "10.0.0.3")
NO_MESH = configuration(node_to_node_mesh_enabled=False)


def test_mesh_joins_every_pair_in_every_shared_family() -> None:
    """Without any configuration each node peers with each other one, in the families that both have."""
    assert names(speaker("a", A, B, C)) == ["Mesh_10_0_0_2", "Mesh_10_0_0_3", "Mesh_fd00__2"]
    assert names(speaker("c", A, B, C)) == ["Mesh_10_0_0_1", "Mesh_10_0_0_2"]


def test_one_side_of_a_mesh_session_waits() -> None:
    """Of two nodes exactly the one whose peer's address is the greater text is passive."""
    low = node("low", "10.0.0.10")
    high = node("high", "10.0.0.9")

    assert session(speaker("low", low, high), "Mesh_10_0_0_9").passive
    assert not session(speaker("high", low, high), "Mesh_10_0_0_10").passive


def test_mesh_can_be_off() -> None:
    """With the mesh off and no peers there are no sessions, and nothing is wrong."""
    planned = speaker("a", A, B, NO_MESH)

    assert planned.sessions == ()
    assert planned.problems == ()


def test_as_numbers_come_from_node_then_default() -> None:
    """A node's own AS wins over the configuration's, which wins over 64512; dotted numbers are understood."""
    own = node("a", "10.0.0.1", as_number="1.10")
    default = configuration(as_number=65000)

    assert speaker("b", own, B).local_as == 64512
    assert speaker("b", own, B, default).local_as == 65000
    mesh = session(speaker("a", own, B, default), "Mesh_10_0_0_2")
    assert (mesh.local_as, mesh.peer_as, mesh.internal) == (65546, 65000, False)


@pytest.mark.parametrize("text", ["0", "4294967296", "65536.1", "1.65536", "-1", "as1", "", "1.2.3", "0.0"])
def test_bad_as_number_is_refused(text: str) -> None:
    """What is no AS number is refused by name."""
    with pytest.raises(ValueError, match="is no AS number"):
        parse_as(text)


@given(st.integers(min_value=1, max_value=2**32 - 1))
def test_dotted_and_plain_as_numbers_agree(number: int) -> None:
    """Every AS number can be written both ways."""
    assert parse_as(number) == parse_as(str(number)) == parse_as(f"{number >> 16}.{number & 65535}") == number


def test_global_peer_is_everybodys() -> None:
    """A peer without node and selector applies to all nodes, but not to the one whose address it is."""
    rack = peer("rack", peer_ip="10.0.0.254", as_number=65001)
    itself = peer("itself", peer_ip="10.0.0.1", as_number=64512)

    assert names(speaker("a", A, C, NO_MESH, rack, itself)) == ["Global_10_0_0_254"]
    planned = speaker("c", A, C, NO_MESH, rack, itself)
    assert names(planned) == ["Global_10_0_0_1", "Global_10_0_0_254"]
    uplink = session(planned, "Global_10_0_0_254")
    assert (uplink.type, uplink.peer_as, uplink.source) == ("GlobalPeer", 65001, parse_address("10.0.0.3"))


def test_peer_of_one_node_or_of_selected_nodes() -> None:
    """``node`` and ``nodeSelector`` say on which nodes a peer is configured."""
    rack_1 = node("a", "10.0.0.1", labels={"rack": "1"})
    rack_2 = node("b", "10.0.0.2", labels={"rack": "2"})
    by_name = peer("by-name", node="a", peer_ip="10.0.0.253", as_number=65001)
    by_label = peer("by-label", node_selector="rack == '2'", peer_ip="10.0.0.254", as_number=65002)
    world = (rack_1, rack_2, NO_MESH, by_name, by_label)

    assert names(speaker("a", *world)) == ["Node_10_0_0_253"]
    assert names(speaker("b", *world)) == ["Node_10_0_0_254"]


def test_port_in_peer_address_shows_in_the_name() -> None:
    """``address:port`` and ``[address]:port`` name the port to connect to."""
    four = peer("four", peer_ip="10.0.0.9:1790", as_number=65001)
    six = peer("six", peer_ip="[fd00::9]:1791", as_number=65001)

    planned = speaker("a", A, NO_MESH, four, six)

    assert names(planned) == ["Global_10_0_0_9_port_1790", "Global_fd00__9_port_1791"]
    assert [one.port for one in planned.sessions] == [1790, 1791]


def test_listen_port_of_either_end() -> None:
    """A node's own configuration moves its port, and the others connect there."""
    moved = configuration("node.b", listen_port=1790)

    assert speaker("b", A, B, moved).listen_port == 1790
    planned = speaker("a", A, B, moved)
    assert planned.listen_port == 179
    assert session(planned, "Mesh_10_0_0_2_port_1790").port == 1790


def test_explicit_peer_replaces_the_mesh_session_and_global_hides_node() -> None:
    """There is one session to an address: global wins over node-specific, both over the mesh."""
    wide = peer("z-wide", peer_ip="10.0.0.2", as_number=64512)
    narrow = peer("a-narrow", node="a", peer_ip="10.0.0.2", as_number=64512)

    assert names(speaker("a", A, B, narrow)) == ["Mesh_fd00__2", "Node_10_0_0_2"]
    assert names(speaker("a", A, B, wide, narrow)) == ["Global_10_0_0_2", "Mesh_fd00__2"]


def test_route_reflectors_serve_clients_outside_the_mesh() -> None:
    """Reflectors leave the mesh; a selector peering gives sessions on both sides, and the far end knows its clients."""
    reflector = node("rr", "10.0.0.100", cluster_id="1.0.0.1", labels={"reflector": "yes"})
    clients = peer("clients", peer_selector="reflector == 'yes'", node_selector="!has(reflector)")
    world = (A, C, reflector, clients)

    here = speaker("a", *world)
    assert names(here) == ["Mesh_10_0_0_3", "Node_10_0_0_100"]
    assert session(here, "Node_10_0_0_100").cluster_id == ""
    assert not here.reflector

    there = speaker("rr", *world)
    assert names(there) == ["Node_10_0_0_1", "Node_10_0_0_3"]
    assert [one.cluster_id for one in there.sessions] == ["1.0.0.1", "1.0.0.1"]
    assert there.reflector


def test_reflectors_of_one_cluster_are_no_clients_of_each_other() -> None:
    """Two reflectors with the same cluster id peer as equals."""
    one = node("one", "10.0.0.101", cluster_id="1.0.0.1", labels={"reflector": "yes"})
    two = node("two", "10.0.0.102", cluster_id="1.0.0.1", labels={"reflector": "yes"})
    other = node("other", "10.0.0.103", cluster_id="1.0.0.2", labels={"reflector": "yes"})
    all_of_them = peer("reflectors", peer_selector="reflector == 'yes'", node_selector="reflector == 'yes'")

    planned = speaker("one", one, two, other, all_of_them)

    assert {item.name: item.cluster_id for item in planned.sessions} == {
        "Node_10_0_0_102": "",
        "Node_10_0_0_103": "1.0.0.1",
    }


def test_external_peer_of_a_reflector_is_no_client() -> None:
    """Only iBGP peers are reflection clients."""
    reflector = node("rr", "10.0.0.100", cluster_id="1.0.0.1")
    uplink = peer("uplink", peer_ip="10.0.0.254", as_number=65001)

    assert session(speaker("rr", reflector, uplink), "Global_10_0_0_254").cluster_id == ""


def test_reverse_peering_can_be_manual() -> None:
    """With reversePeering Manual the far nodes get no session, and nobody waits for one."""
    far = node("far", "10.0.0.9", labels={"far": ""})
    one_way = peer("one-way", node="a", peer_selector="has(far)", reverse_peering="Manual")

    assert names(speaker("far", A, far, NO_MESH, one_way)) == []
    assert not session(speaker("a", A, far, NO_MESH, one_way), "Node_10_0_0_9").passive


@given(st.lists(st.integers(min_value=1, max_value=254), min_size=2, max_size=6, unique=True), st.booleans())
def test_selector_peerings_fit_together(hosts: list[int], everywhere: bool) -> None:
    """Each session that one end plans has its counterpart at the other, and exactly one end waits."""
    nodes = [node(f"n{host}", f"10.0.0.{host}", labels={"odd": str(host % 2)}) for host in hosts]
    near = {} if everywhere else {"node_selector": "odd == '0'"}
    world = (*nodes, NO_MESH, peer("p", peer_selector="odd == '1'", **near))

    ends = {
        (one.source, one.peer): one.passive for host in hosts for one in speaker(f"n{host}", *world).sessions
    }

    assert all(ends.get((there, here)) == (not waits) for (here, there), waits in ends.items())


def test_reverse_session_knows_the_local_as_of_the_near_end() -> None:
    """When one end speaks as another AS, the session from the far end expects that AS."""
    far = node("far", "10.0.0.9", as_number=65009, labels={"far": ""})
    moved = peer("moved", node="a", peer_selector="has(far)", local_as_number=65100)

    near_end = session(speaker("a", A, far, NO_MESH, moved), "Node_10_0_0_9")
    far_end = session(speaker("far", A, far, NO_MESH, moved), "Node_10_0_0_1")

    assert (near_end.local_as, near_end.peer_as) == (65100, 65009)
    assert (far_end.local_as, far_end.peer_as) == (65009, 65100)


def test_settings_of_a_peer_reach_its_session() -> None:
    """Every supported field of a peer is found in the session."""
    secret = SecretKeyRef(name="bgp", key="rack")
    rack = peer(
        "rack",
        peer_ip="10.1.0.254",
        as_number=65001,
        local_as_number=65002,
        next_hop_mode="Self",
        password=BGPPassword(secret_key_ref=secret),
        source_address="None",
        max_restart_time="2m",
        keepalive_time="30s",
        num_allowed_local_as_numbers=2,
        ttl_security=3,
        reachable_by="10.0.0.254",
    )

    planned = session(speaker("a", A, rack), "Global_10_1_0_254")

    assert planned.local_as == 65002
    assert planned.next_hop == "Self"
    assert planned.password == secret
    assert planned.source is None
    assert (planned.restart_time, planned.keepalive) == (120, 30)
    assert (planned.allowed_own_as, planned.ttl_security) == (2, 3)
    assert planned.gateway == parse_address("10.0.0.254")


def test_deprecated_next_hop_field_still_works() -> None:
    """``keepOriginalNextHop`` means next hop mode Keep."""
    rack = peer("rack", peer_ip="10.0.0.254", as_number=65001, keep_original_next_hop=True)

    assert session(speaker("a", A, rack), "Global_10_0_0_254").next_hop == "Keep"


def test_mesh_settings_reach_mesh_sessions() -> None:
    """Password and restart time of the mesh apply to its sessions."""
    secret = SecretKeyRef(name="bgp", key="mesh")
    mesh = configuration(
        node_mesh_password=BGPPassword(secret_key_ref=secret), node_mesh_max_restart_time="90s"
    )

    planned = session(speaker("a", A, B, mesh), "Mesh_10_0_0_2")

    assert (planned.password, planned.restart_time) == (secret, 90)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"peer_ip": "10.0.0.300", "as_number": 1}, "no IPv4 or IPv6 address"),
        ({"peer_ip": "10.0.0.9:70000", "as_number": 1}, "the port of peerIP is 70000"),
        ({"peer_ip": "10.0.0.9"}, "asNumber is needed"),
        ({"peer_ip": "10.0.0.9", "as_number": "x"}, "is no AS number"),
        ({"peer_ip": "10.0.0.9", "peer_selector": "all()", "as_number": 1}, "either peerIP or peerSelector"),
        ({}, "either peerIP or peerSelector"),
        ({"peer_selector": "rack ="}, "selector 'rack ='"),
        ({"peer_selector": "all()", "as_number": 1}, "does not go with peerSelector"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "node_selector": "((", "node": ""}, "selector '(('"),
        (
            {"peer_ip": "10.0.0.9", "as_number": 1, "node": "a", "node_selector": "all()"},
            "exclude each other",
        ),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "keepalive_time": "soon"}, "no duration"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "reachable_by": "fd00::9"}, "not of the family"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "ttl_security": 256}, "from 0 to 255"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "keepalive_time": "0s"}, "from 1 to 21845"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "max_restart_time": "2h"}, "from 1 to 4095"),
        ({"peer_ip": "10.0.0.9", "as_number": 1, "num_allowed_local_as_numbers": -1}, "from 0 to 255"),
        ({"peer_ip": "fe80::9", "as_number": 1}, "global unicast"),
        ({"local_workload_selector": "all()"}, "asNumber is needed, for all workloads"),
        ({"peer_interface": "eth0", "peer_ip": "10.0.0.9", "as_number": 1}, "or peerInterface"),
        ({"peer_interface": "eth 0"}, "no name of an interface"),
        ({"peer_selector": "all()", "reachable_by": "10.0.0.1"}, "reachableBy goes with peerIP only"),
    ],
)
def test_peer_that_cannot_be_planned_is_said_and_others_go_on(spec: dict[str, object], reason: str) -> None:
    """A broken peer costs its own session only, and the problem names it."""
    planned = speaker("a", A, B, peer("broken", **spec), peer("rack", peer_ip="10.0.0.254", as_number=65001))

    assert names(planned) == ["Global_10_0_0_254", "Mesh_10_0_0_2", "Mesh_fd00__2"]
    [problem] = planned.problems
    assert problem.subject == "BGPPeer/broken"
    assert reason in str(problem)


def test_broken_node_is_left_out() -> None:
    """A node whose address, AS or cluster id makes no sense takes no part; the others go on."""
    broken = node("broken", "10.0.0.9", as_number="many")

    planned = speaker("a", A, B, broken)

    assert names(planned) == ["Mesh_10_0_0_2", "Mesh_fd00__2"]
    assert [problem.subject for problem in planned.problems] == ["Node/broken"]
    assert [str(problem) for problem in speaker("broken", A, B, broken).problems] == [
        "Node/broken: takes no part in BGP: 'many' is no AS number; write 0 to 4294967295, or two numbers of at most 65535 with a dot between"
    ]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1"])
def test_node_address_that_nobody_can_talk_to(address: str) -> None:
    """An address that is no host's in the fabric keeps the node out of BGP."""
    planned = speaker("a", A, node("odd", address))

    assert planned.sessions == ()
    assert "global unicast" in str(planned.problems)


def test_cluster_id_of_zeros_is_none() -> None:
    """A reflector needs a cluster id that is not all zeros."""
    assert "0.0.0.0, which means none" in str(
        speaker("a", node("a", "10.0.0.1", cluster_id="0.0.0.0")).problems
    )


def test_listen_port_out_of_range() -> None:
    """A node whose port is none takes no part, and everybody can tell why."""
    planned = speaker("a", A, B, configuration("node.b", listen_port=70000))

    assert planned.sessions == ()
    assert [str(problem) for problem in planned.problems] == [
        "Node/b: takes no part in BGP: listenPort is 70000, and must be from 1 to 65535"
    ]


def test_address_of_the_wrong_family_is_a_problem() -> None:
    """An IPv6 address in ``ipv4Address`` is not quietly used."""
    assert "ipv4Address is 'fd00::9/24'" in str(speaker("a", A, node("wrong", "fd00::9")).problems)


def test_two_nodes_with_one_address_are_a_problem() -> None:
    """An address that two nodes claim gets one session, and the second claim is said."""
    planned = speaker("a", A, C, node("twin", "10.0.0.3"))

    assert names(planned) == ["Mesh_10_0_0_3"]
    assert [str(problem) for problem in planned.problems] == ["Node/twin: has the address 10.0.0.3 of node c"]


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        ((B,), "does not exist"),
        ((B, Node(metadata=Metadata(name="a"))), "has no spec.bgp"),
        ((B, node("a")), "has no BGP address"),
    ],
)
def test_node_without_bgp_has_no_sessions_but_keeps_its_blocks(world: tuple[Node, ...], reason: str) -> None:
    """A node that BGP knows nothing of says so once; its blocks are planned all the same."""
    planned = speaker("a", *world, pool("p", "10.65.0.0/16"), blocks=("10.65.0.0/26",))

    assert planned.sessions == ()
    assert [reason in str(problem) for problem in planned.problems] == [True]
    assert planned.blocks == (parse_cidr("10.65.0.0/26"),)
    assert planned.pools == (PoolExport(parse_cidr("10.65.0.0/16"), exported=True),)


def test_router_id_without_ipv4_is_a_stable_hash() -> None:
    """An IPv6-only node has a router id that is its own, always the same, and a unicast address."""
    six = node("six", ipv6="fd00::6")
    router_id = speaker("six", six).router_id

    assert speaker("a", A).router_id == "10.0.0.1"
    assert router_id == speaker("six", six, A).router_id
    assert router_id != speaker("seven", node("seven", ipv6="fd00::7")).router_id
    assert 1 <= int(router_id.split(".")[0]) <= 223


def test_pools_say_whether_they_are_announced() -> None:
    """Pools come with disableBGPExport; a pool that is no prefix is a problem, not a failure."""
    planned = speaker(
        "a",
        A,
        pool("shown", "10.65.0.0/16"),
        pool("hidden", "10.66.0.0/16", disable_bgp_export=True),
        pool("off", "10.67.0.0/16", disabled=True),
        pool("broken", "10.68.0.0/99"),
    )

    assert planned.pools == (
        PoolExport(parse_cidr("10.65.0.0/16"), exported=True),
        PoolExport(parse_cidr("10.66.0.0/16"), exported=False),
        PoolExport(parse_cidr("10.67.0.0/16"), exported=True),
    )
    assert [problem.subject for problem in planned.problems] == ["IPPool/broken"]


def test_bad_default_configuration_falls_back() -> None:
    """An impossible default AS number is a problem, and 64512 is used."""
    planned = speaker("a", A, B, configuration(as_number="0"))

    assert planned.local_as == 64512
    assert [problem.subject for problem in planned.problems] == ["BGPConfiguration/default"]


def test_one_bad_setting_leaves_the_others() -> None:
    """A time that makes no sense does not make the node speak for another AS."""
    planned = speaker("a", A, B, configuration(as_number=65009, node_mesh_max_restart_time="1.5s"))

    assert planned.local_as == 65009
    assert [problem.subject for problem in planned.problems] == ["BGPConfiguration/default"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1m30s", 90), ("2m", 120), ("1h0m1s", 3601)])
def test_durations_are_whole_seconds(text: str, seconds: int) -> None:
    """Durations are read as Go writes them."""
    assert parse_seconds("keepaliveTime", text, 65535) == seconds
