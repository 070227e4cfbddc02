"""The network as a whole: in sync, problems, and what unusable facts become."""

from __future__ import annotations

import pytest

from calico.calculation.network import Network
from calico.desired import Delta, PolicyRow, RuleRow
from calico.model.fact import InSync, Update
from calico.model.keys import Key, key_of
from calico.model.node import Node
from support.builders import (
    elsewhere,
    endpoint,
    here,
    host_endpoint,
    metadata,
    network_set,
    policy,
    profile,
    rule,
)
from support.world import NOTHING, World


def test_nothing_is_said_before_in_sync() -> None:
    """Facts are kept until the picture is complete; then one Delta says everything."""
    network = Network(here)
    resource = endpoint("w", address="10.0.0.1")
    network.update([Update(key_of(resource), resource)])
    assert not network.in_sync
    assert network.settle() == NOTHING

    network.update([InSync()])
    delta = network.settle()
    assert network.in_sync
    assert len(delta.endpoints) == len(delta.routes) == 1
    assert network.settle() == NOTHING


def test_existence_comes_from_the_value() -> None:
    """Removing what never was is no change, and facts of other kinds are nobody's business here."""
    network = Network(here)
    network.update([InSync()])
    node = Node(metadata=metadata("n"))
    network.update(
        [
            Update(Key("WorkloadEndpoint", "w", "default"), None),
            Update(Key("NetworkPolicy", "p", "default"), None),
            Update(key_of(node), node),
            Update(Key("IPAMHandle", "h"), None),
        ]
    )
    assert network.settle() == Delta()
    assert network.problems == {}


def test_a_policy_with_a_broken_selector_denies_all_that_it_might_select() -> None:
    """Whom it was to protect is unknown, so it closes its namespace, in its directions, until it is right again."""
    broken = policy("p", namespace="red", selector="app ==", ingress=[rule()], types=["Ingress"])
    world = World(broken, endpoint("in", namespace="red"), endpoint("out", namespace="blue"))
    row = world.policy("p")
    assert row is not None
    assert [each.action for each in row.ingress] == ["Deny"]
    assert row.ingress[0] == RuleRow("Deny", row.ingress[0].origin)
    assert row.egress == ()
    assert row.ingress[0].origin.rule is None
    assert world.order("in") == [("default", ["p"])]
    assert world.order("in", "egress") == []
    assert world.order("out") == []
    (problem,) = world.network.problems.values()
    assert problem.startswith("NetworkPolicy/red/p: selector: selector 'app ==', column 7")
    assert problem.endswith("until it is right the policy denies all that it might select")

    world.add(policy("p", namespace="red", selector="app == 'web'"))
    assert world.network.problems == {}
    assert world.order("in") == []


def test_a_policy_with_a_broken_rule_keeps_its_place() -> None:
    """It still selects, and still ends in its tier's default: what its broken rule allowed is closed."""
    world = World(policy("p", ingress=[rule(protocol="nonsense")]), endpoint("w"))
    assert world.order("w") == [("default", ["p"])]
    row = world.policy("p")
    assert row == PolicyRow((RuleRow("Allow", row.ingress[0].origin, never=True),), ())
    (problem,) = world.network.problems.values()
    assert problem.startswith(
        "NetworkPolicy/default/p: ingress rule 0 is not usable and matches nothing: protocol"
    )


def test_a_broken_profile_rule_closes_that_rule() -> None:
    """Profiles are compiled as policies are."""
    world = World(
        profile("p", ingress=[rule("Deny", protocol="nonsense"), rule()]), endpoint("w", profiles=["p"])
    )
    assert [each.action for each in world.state.profiles["p"].ingress] == ["Deny", "Allow"]
    assert [key.kind for key in world.network.problems] == ["Profile"]


@pytest.mark.parametrize(
    "resource",
    [
        endpoint("x", elsewhere, labels={"app": "web"}, address="10.0.0.0/24"),
        endpoint("x", elsewhere, labels={"app": "web"}, address="10.0.0.5", ports=[("http", "nonsense", 80)]),
        endpoint("x", elsewhere, labels={"app": "web"}, address="10.0.0.5", ports=[("http", "TCP", 0)]),
        network_set("x", "10.0.0.0/99", labels={"app": "web"}),
        host_endpoint("x", elsewhere, labels={"app": "web"}, address="nonsense"),
    ],
    ids=["no single address", "bad protocol", "bad port", "bad net", "nothing to find it by"],
)
def test_an_unusable_fact_is_as_good_as_absent(resource: object) -> None:
    """Whoever cannot be understood brings no address into any set, and is reported; so is one that was right before."""
    world = World(
        policy("p", namespace=None, source="app == 'web'"),
        endpoint("w"),
        endpoint("x", elsewhere, labels={"app": "web"}, address="10.0.0.1"),
        network_set("x", "10.0.0.1", labels={"app": "web"}),
    )
    before = world.members('app == "web"')
    world.add(resource)
    assert world.members('app == "web"') <= before
    (problem,) = world.network.problems.values()
    assert problem.startswith(f"{key_of(resource)}: as good as absent: ")

    world.remove("x")
    assert world.network.problems == {}
    assert world.members('app == "web"') == set()


def test_a_host_endpoint_outlives_its_bad_parts() -> None:
    """Without it the interface would be open, so a bad address or port takes only itself away."""
    world = World(
        host_endpoint(
            "h",
            interface="eth0",
            address=["nonsense", "192.0.2.1"],
            ports=[("a", "nonsense", 1), ("b", "TCP", 80)],
        )
    )
    row = world.endpoint("h")
    assert row is not None
    assert row.interface == "eth0"
    assert [str(address) for address in row.addresses] == ["192.0.2.1/32"]
    (problem,) = world.network.problems.values()
    assert "an expected IP is left out" in problem
    assert "port a is left out" in problem


def test_a_workload_without_an_interface_cannot_be_enforced() -> None:
    """It has no row here, and is reported; others may still mean its address."""
    world = World(
        policy("p", source="app == 'web'"),
        endpoint("w"),
        endpoint("lost", interface="", labels={"app": "web"}, address="10.0.0.1"),
    )
    assert world.endpoint("lost") is None
    assert world.members('(app == "web" && projectcalico.org/namespace == "default")') == {"10.0.0.1/32"}
    (problem,) = world.network.problems.values()
    assert "cannot be found on its host" in problem


def test_a_workload_that_moves_to_another_node_leaves_here() -> None:
    """Its row and route go, its address stays in sets."""
    world = World(
        policy("p", source="app == 'web'"),
        endpoint("db"),
        endpoint("w", here, labels={"app": "web"}, address="10.0.0.1"),
    )
    delta = world.add(endpoint("w", elsewhere, labels={"app": "web"}, address="10.0.0.1"))
    assert list(delta.endpoints.values()) == [None]
    assert list(delta.routes.values()) == [None]
    assert not delta.set_members


def test_the_network_remembers_no_resource() -> None:
    """A fact told as a resource and the same fact told as an equal copy are one, and no change."""
    world = World(policy("p", source="app == 'web'"), endpoint("w", address="10.0.0.1"))
    assert world.add(policy("p", source="app == 'web'"), endpoint("w", address="10.0.0.1")) == NOTHING
