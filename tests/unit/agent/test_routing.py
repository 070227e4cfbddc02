"""What the facts make BIRD be told."""

from __future__ import annotations

from calico.agent.routing import Routing
from calico.model.address import parse_address
from calico.model.bgp import BGPPassword, SecretKeyRef, ServiceBlock
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.fact import Update
from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import Service
from calico.model.resource import Metadata, Resource
from support.speakers import configuration, node, peer, route_filter

HERE = node("here", "10.0.0.1")
SECRET = SecretKeyRef(name="bgp", key="rack")
RACK = peer(
    "rack",
    peer_ip="10.0.0.254",
    as_number=65001,
    filters=["f"],
    password=BGPPassword(secret_key_ref=SECRET),
)


def routing(*facts: Resource) -> Routing:
    """A node's routing that knows some facts."""
    made = Routing("here", ("cali",))
    for fact in facts:
        made.update(Update(key_of(fact), fact))
    return made


def workload(where: str) -> WorkloadEndpoint:
    """A workload on a node."""
    spec = WorkloadEndpointSpec(node=where, ip_networks=["10.65.0.5/32"], interface_name="cali1")
    return WorkloadEndpoint(metadata=Metadata(name="w", namespace="apps"), spec=spec)


def test_only_what_changes_counts() -> None:
    """A fact that says what was known, another host's workload, and other kinds leave the configuration alone."""
    made = routing(HERE)

    assert not made.update(Update(key_of(HERE), HERE))
    assert made.update(Update(key_of(HERE), node("here", "10.0.0.2")))
    assert not made.update(Update(Key("Tier", "x"), None))


def test_workloads_count_where_a_peering_selects_them() -> None:
    """Workloads of this host matter once some peer is chosen among them; those of other hosts never do."""
    made = routing(HERE, configuration(local_workload_peering_ipv4="169.254.2.1"))
    here, there = workload("here"), workload("there")
    assert not made.update(Update(key_of(here), here))

    routers = peer("routers", local_workload_selector="all()", as_number=65200)
    assert made.update(Update(key_of(routers), routers))
    assert "Local_Workload_10_65_0_5" in made.configuration()
    assert made.update(Update(key_of(there), there))
    assert "Local_Workload_10_65_0_5" not in made.configuration()
    assert not made.update(Update(key_of(there), None))


def test_services_count_where_some_are_announced() -> None:
    """Services matter once there are ranges for them, also those that were there before."""
    web = Service(
        metadata=Metadata(name="web", namespace="shop"),
        spec={"clusterIP": "10.96.0.5", "externalTrafficPolicy": "Cluster"},
    )
    made = routing(HERE)
    assert not made.update(Update(key_of(web), web))

    ranges = configuration(service_cluster_ips=[ServiceBlock(cidr="10.96.0.5/32")])
    assert made.update(Update(key_of(ranges), ranges))
    assert "route 10.96.0.5/32 blackhole;" in made.configuration()
    assert made.update(Update(key_of(web), None))
    assert "10.96.0.5" not in made.configuration()


def test_facts_that_go_are_forgotten() -> None:
    """Without its facts the configuration is what it was before them."""
    made = routing(HERE)
    before = made.configuration()
    for fact in (RACK, route_filter("f"), configuration(listen_port=1790)):
        assert made.update(Update(key_of(fact), fact))
    assert made.configuration() != before
    for fact in (RACK, route_filter("f"), configuration(listen_port=1790)):
        assert made.update(Update(key_of(fact), None))

    assert made.configuration() == before


def test_missing_password_is_reported_until_it_is_there() -> None:
    """The sessions that stay down are named, with the reason; the password itself is in the configuration only."""
    made = routing(HERE, RACK, route_filter("f"))

    assert made.secrets == {SECRET}
    assert "disabled;" in made.configuration({}, {SECRET: "the file is missing"})
    [problem] = made.problems
    assert problem == (
        "Secret/bgp: the password 'rack' is not known, so these sessions stay down: Global_10_0_0_254; "
        "the file is missing"
    )
    assert 'password "s3cret";' in made.configuration({SECRET: "s3cret"})
    assert made.problems == ()


def test_router_that_shows_itself_becomes_a_peer() -> None:
    """The address behind an interface that some peer names is taken when it is seen, and taken anew when it changes."""
    made = routing(HERE, peer("top", peer_interface="eth0"))

    assert made.interfaces == ("eth0",)
    assert "protocol bgp" not in made.configuration()
    assert made.see({"eth0": parse_address("fe80::1")})
    assert not made.see({"eth0": parse_address("fe80::1")})
    assert 'neighbor fe80::1 port 179 external;\n  interface "eth0";' in made.configuration()
