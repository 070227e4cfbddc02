"""What host endpoints on the way say to flows that hosts only pass on (behaviour reference 3.3, 3.6)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert

from calico.analysis import Decision, Step
from calico.analysis.ends import UnknownEndError
from calico.analysis.explain import Question, Unanswerable, explain
from calico.desired import EndpointId
from calico.model.felix import FelixConfiguration
from calico.model.node import Node, NodeAddress, NodeBGP, NodeSpec
from calico.model.resource import Metadata, Resource
from support.analysis import OUTSIDE, world
from support.builders import elsewhere, endpoint, here, host_endpoint, policy, profile, rule

OPEN = profile("open", ingress=[rule()], egress=[rule()])
A = endpoint("a", here, address="10.0.0.1", profiles=["open"])
B = endpoint("b", here, address="10.0.0.2", profiles=["open"])
C = endpoint("c", elsewhere, address="10.0.0.3", profiles=["open"])
DENIED = Step("Tier", "default", "", "default", None, "Deny")


def node(name: str, address: str, **labels: str) -> Node:
    spec = NodeSpec(bgp=NodeBGP(ipv4_address=address))
    return Node(metadata=Metadata(name=name, labels=labels), spec=spec)


NODES = (node(here, "172.16.0.1/24", role="edge"), node(elsewhere, "172.16.0.2/24"))
BASE = (OPEN, *NODES, A, B, C)
HOOKS = {"apply_on_forward": True}
BEFORE = {"apply_on_forward": True, "pre_dnat": True}
RAW = {"apply_on_forward": True, "do_not_track": True}


def on(port: int, action: str = "Allow") -> Any:
    return rule(action, protocol="TCP", destination={"ports": [port]})


def hosts(name: str, *directions: str, at: str = "all()", rules: Any = (), **hook: Any) -> Resource:
    """A policy of host endpoints, with the same rules in each direction."""
    given = {direction: list(rules) for direction in directions}
    types = [direction.capitalize() for direction in directions]
    selector = f"({at}) && !has(projectcalico.org/namespace)"
    return policy(name, namespace=None, selector=selector, types=types, **given, **(hook or HOOKS))


def decided(*resources: Resource, source: str, destination: str, port: int = 80, **flow: Any) -> Decision:
    made = world(*BASE, *resources)
    return made.decide(source=source, destination=destination, protocol="TCP", port=port, **flow)


def way(decision: Decision) -> list[tuple[str, str, str, str]]:
    """Where, which endpoint, which direction, what."""
    return [(each.node, each.endpoint.name, each.direction, each.verdict.action) for each in decision.between]


def everywhere(node: str = here, name: str = "all", **fields: Any) -> Resource:
    return host_endpoint(name, node, interface="*", **fields)


def named(node: str, address: str, name: str = "eth0", **fields: Any) -> Resource:
    return host_endpoint(name, node, interface="eth0", address=address, **fields)


def test_without_policy_about_it_nothing_on_the_way_is_spoken_of() -> None:
    """Host endpoints whose policy is for their hosts alone, or closed by the lack of any, pass on what comes."""
    normal = hosts("normal", "ingress", "egress", apply_on_forward=False)
    for policies in ([], [normal]):
        decision = decided(everywhere(), *policies, source="default/a", destination="default/c")
        assert decision.between == ()
        assert decision.allowed


def test_both_hosts_of_workloads_are_asked_in_the_order_of_the_way() -> None:
    """In by the workload's interface, out by the one that leads on; and so at the far end."""
    closing = hosts("h", "ingress", "egress", rules=[on(80)])
    resources = (everywhere(), everywhere(elsewhere, "far"), closing)

    open_port = decided(*resources, source="default/a", destination="default/c")
    other = decided(*resources, source="default/a", destination="default/c", port=81)

    ways = [(here, "all", "ingress"), (here, "all", "egress"), (elsewhere, "far", "ingress"), (elsewhere, "far", "egress")]  # fmt: skip
    assert way(open_port) == [(*each, "allow") for each in ways]
    assert way(other) == [(*each, "deny") for each in ways]
    assert open_port.allowed
    assert not other.allowed
    assert other.between[0].endpoint == EndpointId("HostEndpoint", "", "all")
    assert other.between[0].verdict.trail == (DENIED,)
    assert other.egress is not None
    assert other.egress.allowed, "the workload's own policy is another matter"


def test_one_host_of_two_workloads_is_asked_at_both_interfaces() -> None:
    """By the endpoint for all interfaces alone: one with a name of its own is not on the way."""
    closing = hosts("h", "ingress", "egress", rules=[on(80)])
    resources = (everywhere(), named(here, "172.16.0.1"), closing)

    decision = decided(*resources, source="default/a", destination="default/b")

    assert way(decision) == [(here, "all", "ingress", "allow"), (here, "all", "egress", "allow")]
    assert (
        decided(named(here, "172.16.0.1"), closing, source="default/a", destination="default/b").between == ()
    )


def test_to_and_from_the_world_outside_the_workloads_host_is_asked() -> None:
    """By the endpoint of the interface with the node's address."""
    closing = hosts("h", "ingress", "egress", at="has(outer)")
    outer = named(here, "172.16.0.1", labels={"outer": ""})

    out = decided(outer, closing, source="default/a", destination=OUTSIDE[4])
    into = decided(outer, closing, source=OUTSIDE[4], destination="default/a")

    assert way(out) == [(here, "eth0", "egress", "deny")]
    assert way(into) == [(here, "eth0", "ingress", "deny")]
    assert out.ingress is None
    assert into.egress is None
    assert not out.allowed
    assert not into.allowed


def test_where_a_host_is_the_end_its_own_side_is_no_passage() -> None:
    """What a host sends or takes itself is judged by normal policy, at that end; the workload's host passes it on."""
    closing = hosts("h", "ingress", "egress", rules=[on(80)])
    resources = (everywhere(profiles=["open"]), everywhere(elsewhere, "far", profiles=["open"]), closing)

    there = decided(*resources, source="default/a", destination="172.16.0.2")
    back = decided(*resources, source="172.16.0.2", destination="default/a")

    assert way(there) == [(here, "all", "ingress", "allow"), (here, "all", "egress", "allow")]
    assert way(back) == [(here, "all", "ingress", "allow"), (here, "all", "egress", "allow")]
    assert there.ingress is not None
    assert back.egress is not None


def test_a_host_and_its_own_workloads() -> None:
    """From the host nobody is asked; on the way to it early policy of the endpoint for all interfaces is, and no other."""
    forward, early = hosts("f", "ingress", "egress"), hosts("e", "ingress", rules=[on(81, "Deny")], **BEFORE)
    resources = (everywhere(), forward, early)

    assert decided(*resources, source="172.16.0.1", destination="default/a") == Decision(None, None)
    assert decided(*resources, source="default/a", destination="172.16.0.1").between == ()
    (passage,) = decided(*resources, source="default/a", destination="172.16.0.1", port=81).between
    assert (passage.direction, passage.verdict.action) == ("ingress", "deny")


def test_what_early_policy_decides_forward_policy_is_not_asked_about() -> None:
    """An Allow there holds for the way in; for the way out forward policy has its say."""
    outer = named(here, "172.16.0.1")
    for hook in (BEFORE, RAW):
        early = hosts("early", "ingress", rules=[on(80), on(81, "Deny")], **hook)
        resources = (outer, early, hosts("forward", "ingress", rules=[on(82)]))
        fates = {
            port: decided(*resources, source=OUTSIDE[4], destination="default/a", port=port)
            for port in (80, 81, 82, 83)
        }
        assert {port: decision.allowed for port, decision in fates.items()} == {
            80: True, 81: False, 82: True, 83: False,
        }  # fmt: skip
        assert [step.name for step in fates[80].between[0].verdict.trail] == ["early"]
        assert [step.name for step in fates[82].between[0].verdict.trail] == ["forward"]


def test_early_policy_leaves_failsafe_ports_alone_and_forward_policy_does_not() -> None:
    """There is nobody to be locked out of a host through which packets only pass."""
    outer = named(here, "172.16.0.1")
    flow = {"source": OUTSIDE[4], "destination": "default/a", "port": 22}

    assert decided(outer, hosts("h", "ingress", rules=[rule("Deny")], **BEFORE), **flow).allowed
    assert not decided(outer, hosts("h", "ingress", rules=[rule("Deny")]), **flow).allowed


def test_a_pass_at_the_end_of_all_tiers_lets_forwarded_packets_go_on() -> None:
    """The host's own rules decide then, of which a world knows nothing."""
    passing = hosts("h", "ingress", rules=[rule("Pass")])
    decision = decided(named(here, "172.16.0.1"), passing, source=OUTSIDE[4], destination="default/a")
    assert decision.allowed
    assert [step.action for step in decision.between[0].verdict.trail] == ["Pass"]


GATEWAY = (
    Node(
        metadata=Metadata(name="gate"),
        spec=NodeSpec(
            addresses=[NodeAddress(address="192.0.2.1/24"), NodeAddress(address="172.16.0.254/24")]
        ),
    ),
    host_endpoint("inner", "gate", interface="eth1", address="172.16.0.254", labels={"side": "inner"}),
    host_endpoint("outer", "gate", interface="eth0", address="192.0.2.1", labels={"side": "outer"}),
)


def test_a_gateway_is_asked_where_the_question_names_it() -> None:
    """At the interface towards each neighbour, coming in and going on; without it the world does not know the way."""
    closing = hosts("h", "ingress", "egress", at="side == 'outer'", rules=[on(80)])
    flow = {"source": "192.0.2.77", "destination": "default/a", "port": 81}

    assert decided(*GATEWAY, closing, **flow).allowed
    through = decided(*GATEWAY, closing, **flow, through=["gate"])
    assert way(through) == [("gate", "outer", "ingress", "deny")]
    back = decided(*GATEWAY, closing, source="default/a", destination="192.0.2.77", through=["gate"])
    assert way(back) == [("gate", "outer", "egress", "allow")]
    strangers = decided(*GATEWAY, closing, source="192.0.2.77", destination="192.0.2.99", through=["gate"])
    assert (strangers.egress, strangers.ingress) == (None, None)
    assert [each.endpoint.name for each in strangers.between] == ["outer", "outer"]


def test_a_gateway_that_is_not_there_is_an_error() -> None:
    """Nobody must believe that it was asked."""
    with pytest.raises(UnknownEndError, match="'nowhere' is no node"):
        decided(source="default/a", destination="default/c", through=["nowhere"])
    with pytest.raises(Unanswerable, match="'nowhere' is no node"):
        explain(world(*BASE), Question(source="a", destination="c", through=("nowhere",)))


# --- each node's own settings ------------------------------------------------------------------------


def felix(name: str, **spec: Any) -> FelixConfiguration:
    tree = {"kind": "FelixConfiguration", "metadata": {"name": name}, "spec": spec}
    return convert({"apiVersion": "projectcalico.org/v3", **tree}, FelixConfiguration)


def test_each_end_goes_by_the_settings_of_its_node() -> None:
    """By its own resource, else by one whose selector finds the node's labels, else by that for all."""

    def to_host(address: str, source: str, *resources: Resource) -> bool:
        return decided(*resources, source=source, destination=address).allowed

    drop, accept = {"defaultEndpointToHostAction": "Drop"}, {"defaultEndpointToHostAction": "Accept"}
    cases = [
        ((felix("default", **accept),), True, True),
        ((felix("default", **drop),), False, False),
        ((felix("default", **drop), felix(f"node.{here}", **accept)), True, False),
        ((felix("default", **accept), felix("edges", nodeSelector="role == 'edge'", **drop)), False, True),
        (
            (
                felix("edges", nodeSelector="role == 'edge'", **drop),
                felix(f"node.{here}", **accept),
                felix("default", **drop),
            ),
            True,
            False,
        ),
    ]
    for resources, own, other in cases:
        assert to_host("172.16.0.1", "default/a", *resources) == own
        assert to_host("172.16.0.2", "default/c", *resources) == other


def test_failsafe_ports_are_those_of_the_host_that_is_asked() -> None:
    """Also before destination NAT, and in what is told of it."""
    none = felix(f"node.{elsewhere}", failsafeInboundHostPorts=[])
    heps = (everywhere(), everywhere(elsewhere, "far"))
    flow = {"source": OUTSIDE[4], "port": 22}

    assert decided(*heps, none, destination="172.16.0.1", **flow).allowed
    assert not decided(*heps, none, destination="172.16.0.2", **flow).allowed
    deny = hosts("h", "ingress", rules=[rule("Deny")], **BEFORE)
    outers = (named(here, "172.16.0.1"), named(elsewhere, "172.16.0.2", "eth1"))
    assert decided(*outers, none, deny, destination="default/a", **flow).allowed
    assert not decided(*outers, none, deny, destination="default/c", **flow).allowed
    found = explain(world(*BASE, *outers, none, deny), Question(source=OUTSIDE[4], destination="c", port=22))
    (between,) = found.between
    assert [remark.step for remark in between.remarks] == list(between.passage.verdict.trail)


# --- explained ---------------------------------------------------------------------------------------


def test_what_is_passed_is_explained_rule_by_rule() -> None:
    """Each step in order, those in vain with the reason, the end of a tier with who selects the endpoint."""
    closing = hosts("h", "ingress", "egress", rules=[on(81), on(82)])
    found = explain(
        world(*BASE, named(here, "172.16.0.1"), closing),
        Question(source=OUTSIDE[4], destination="a", port=80),
    )

    (between,) = found.between
    assert not found.allowed
    assert [(remark.step.rule, remark.matched) for remark in between.remarks] == [(0, False), (1, False), (None, True)]  # fmt: skip
    assert between.remarks[-1].reasons == ("GlobalNetworkPolicy h of this tier selects it",)


def test_a_staged_policy_about_what_is_passed_on_is_told() -> None:
    """It changes nothing yet, and would deny."""
    staged = convert(
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "StagedGlobalNetworkPolicy",
            "metadata": {"name": "soon"},
            "spec": {
                "selector": "!has(projectcalico.org/namespace)",
                "types": ["Ingress"],
                "applyOnForward": True,
            },
        },
        _kind("StagedGlobalNetworkPolicy"),
    )
    found = explain(
        world(*BASE, named(here, "172.16.0.1"), staged), Question(source=OUTSIDE[4], destination="a", port=80)
    )

    assert found.allowed
    assert found.between == ()
    assert found.staged is not None
    assert found.staged.changes
    assert not found.staged.decision.allowed
    assert [each.passage.verdict.action for each in found.staged.between] == ["deny"]


def _kind(name: str) -> Any:
    from calico.model.keys import KINDS

    return KINDS[name]
