"""Rules with a ``services`` match: the addresses, and the ports, of the service's EndpointSlices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calico.desired import SetInfo, SetMember
from calico.model.kubernetes_kinds import Service
from calico.model.policy import EntityRule, ServiceMatch
from calico.model.resource import Resource
from support.builders import endpoint, endpoint_slice, metadata, policy, profile, rule
from support.world import NOTHING, World


def serves(name: str, namespace: str = "") -> EntityRule:
    """The side of a rule that is a service."""
    return EntityRule(services=ServiceMatch(name=name, namespace=namespace))


CLIENT = endpoint("client", address="10.0.0.9")
TO_WEB = policy("to-web", egress=[rule(destination=serves("web"))], types=["Egress"])
FROM_WEB = policy("from-web", ingress=[rule("Deny", source=serves("web"))], types=["Ingress"])
WEB = endpoint_slice("web-1", "web", "10.0.0.1", "10.0.0.2", ports=[80, ("UDP", 53)])


def members(world: World, type_: str, service: str = "default/web") -> set[str]:
    """Who is in a service's set of this type."""
    (set_id,) = (
        id_ for id_, info in world.state.set_infos.items() if (info.type, info.service) == (type_, service)
    )
    found = set()
    for name, member in world.state.set_members:
        if name == set_id:
            found.add(
                member.address
                if type_ == "net"
                else f"{member.address.address} {member.protocol} {member.port}"
            )
    return found


def test_egress_means_addresses_with_their_ports() -> None:
    """The destination of an egress rule is who serves the service, on the ports that it is served on."""
    world = World(CLIENT, TO_WEB, WEB)
    assert members(world, "port") == {
        "10.0.0.1 6 80",
        "10.0.0.1 17 53",
        "10.0.0.2 6 80",
        "10.0.0.2 17 53",
    }
    (row,) = world.policy("to-web").egress
    assert (row.destination.sets, len(row.destination.port_sets), row.never) == ((), 1, False)


def test_ingress_means_addresses_only() -> None:
    """The source of an ingress rule is who serves the service, from whatever port."""
    world = World(CLIENT, FROM_WEB, WEB)
    assert members(world, "net") == {"10.0.0.1", "10.0.0.2"}
    (row,) = world.policy("from-web").ingress
    assert (row.action, len(row.source.sets), row.source.port_sets) == ("Deny", 1, ())


def test_a_missing_service_matches_nothing() -> None:
    """Its set is there and empty, for a Deny as for an Allow; members come with the first slice."""
    world = World(CLIENT, TO_WEB, FROM_WEB)
    assert (members(world, "net"), members(world, "port")) == (set(), set())
    world.add(WEB)
    assert members(world, "net") == {"10.0.0.1", "10.0.0.2"}
    world.remove("web-1")
    assert (members(world, "net"), members(world, "port")) == (set(), set())


def test_one_changed_slice_costs_its_changed_members() -> None:
    """An address more in one slice is one member more, whatever else serves the service."""
    other = endpoint_slice("web-2", "web", "10.0.0.3", ports=[80])
    world = World(CLIENT, FROM_WEB, WEB, other)
    delta = world.add(endpoint_slice("web-2", "web", "10.0.0.3", "10.0.0.4", ports=[8080]))
    assert [key.member.address for key in delta.set_members] == ["10.0.0.4"]
    assert replace(delta, set_members={}) == NOTHING


def test_an_address_stays_until_its_last_slice_has_gone() -> None:
    """Slices may overlap while a controller moves endpoints between them."""
    again = endpoint_slice("web-2", "web", "10.0.0.1", ports=[80])
    world = World(CLIENT, TO_WEB, FROM_WEB, WEB, again)
    world.remove("web-1")
    assert members(world, "net") == {"10.0.0.1"}
    assert members(world, "port") == {"10.0.0.1 6 80"}


def test_a_slice_may_come_to_serve_another_service() -> None:
    """Its members leave the one set and enter the other."""
    to_dns = policy("to-dns", egress=[rule(destination=serves("dns"))], types=["Egress"])
    world = World(CLIENT, TO_WEB, to_dns, WEB)
    world.add(endpoint_slice("web-1", "dns", "10.0.0.1", ports=[("UDP", 53)]))
    assert members(world, "port") == set()
    assert members(world, "port", "default/dns") == {"10.0.0.1 17 53"}


def test_a_set_and_its_members_go_with_the_last_rule() -> None:
    """Also when the slice changes in the same moment."""
    world = World(CLIENT, TO_WEB, WEB)
    world.change(
        {
            key: None if key.name == "to-web" else endpoint_slice("web-1", "web", "10.0.0.5", ports=[81])
            for key in world.facts
            if key.name in {"to-web", "web-1"}
        }
    )
    assert (world.state.set_infos, world.state.set_members) == ({}, {})


@pytest.mark.parametrize(("namespace", "service"), [("", "default/web"), ("shop", "shop/web")])
def test_the_namespace_is_the_policys_unless_it_is_said(namespace: str, service: str) -> None:
    """A rule of a NetworkPolicy means the service of its own namespace."""
    slices = [
        endpoint_slice("web-1", "web", "10.0.0.1", ports=[80]),
        endpoint_slice("web-1", "web", "10.0.1.1", ports=[80], namespace="shop"),
    ]
    sided = policy("sided", ingress=[rule(source=serves("web", namespace))])
    world = World(CLIENT, sided, *slices)
    assert members(world, "net", service) == {"10.0.0.1" if not namespace else "10.0.1.1"}


@pytest.mark.parametrize(
    "resource",
    [
        policy("p", namespace=None, ingress=[rule("Deny", source=serves("web"))]),
        profile("p", ingress=[rule("Deny", source=serves("web"))]),
    ],
    ids=["GlobalNetworkPolicy", "Profile"],
)
def test_without_a_namespace_of_its_own_a_service_needs_one(resource: Resource) -> None:
    """Which service is meant is unclear, so the Deny denies everything, and that is reported."""
    world = World(endpoint("client", address="10.0.0.9", profiles=["p"]), resource)
    rows = world.state.policies or world.state.profiles
    (row,) = next(iter(rows.values())).ingress
    assert (row.action, row.source.sets, row.never) == ("Deny", (), False)
    (problem,) = world.network.problems.values()
    assert "its namespace where the policy has none" in problem


def test_slices_without_rules_and_services_without_slices_change_nothing() -> None:
    """A host without rules that ask for services has nothing to do for them."""
    world = World(CLIENT)
    service = Service(metadata=metadata("web", "default"), spec={"clusterIP": "10.96.0.1"})
    assert world.add(WEB, service) == NOTHING
    assert world.add(TO_WEB).set_members
    assert not any(isinstance(key, SetMember) and "10.96.0.1" in str(key) for key in world.state.set_members)


def test_a_service_is_no_endpoint() -> None:
    """Its addresses are in no selector's set: who serves is selected by the workload's own labels."""
    world = World(CLIENT, policy("all", source="all()"), WEB)
    assert {member.address for _, member in world.state.set_members} == {"10.0.0.9"}


def test_people_are_told_which_service_a_set_is() -> None:
    """The set says the service's name with its namespace."""
    world = World(CLIENT, TO_WEB)
    assert [*world.state.set_infos.values()] == [SetInfo("port", "", service="default/web")]


def test_a_bad_slice_is_reported_and_its_good_part_counts() -> None:
    """The problem names the slice and the place; it goes when the slice is mended."""
    world = World(CLIENT, FROM_WEB, endpoint_slice("web-1", "web", "10.0.0.1", "nonsense"))
    (problem,) = world.network.problems.values()
    assert "endpoints[1].addresses[0]" in problem
    assert members(world, "net") == {"10.0.0.1"}
    world.add(WEB)
    assert dict(world.network.problems) == {}
