"""Warnings: each alarm, and near misses that must be silent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from calico.analysis.evaluate import Packet, evaluate
from calico.analysis.everywhere import Everywhere
from calico.analysis.lint import warnings
from calico.calculation.translation import translated
from calico.desired import RuleRow, Side
from calico.model.address import parse_address
from calico.model.bgp import BGPPeer, BGPPeerSpec
from calico.model.errors import dotted
from calico.model.keys import Key, key_of
from calico.model.policy import ICMP, HTTPMatch, ServiceMatch
from calico.model.resource import Resource
from support.builders import endpoint, metadata, policy, profile, rule, tier
from support.strategies import Step, rolled, steps


def found(*resources: Resource, stored: tuple[Resource, ...] = ()) -> list[str]:
    """The warnings of the last resource: path and message."""
    return [f"{dotted(each.path)}: {each.message}" for each in warnings(resources, stored)[-1]]


def hidden(*rules, **more) -> list[str]:
    """The warnings of a policy of these ingress rules."""
    return found(policy("p", namespace=more.pop("namespace", None), selector="has(a)", ingress=rules, **more))


# --- selectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (policy("p", selector="a == 'x' && a == 'y'"), "spec.selector"),
        (policy("p", namespace=None, namespace_selector="a in {}"), "spec.namespaceSelector"),
        (policy("p", service_account_selector="!all()"), "spec.serviceAccountSelector"),
        (policy("p", ingress=[rule(source="has(a) && !has(a)")]), "spec.ingress[0].source.selector"),
        (
            policy("p", egress=[rule(destination={"namespace_selector": "a == 'x' && a == 'y'"})]),
            "spec.egress[0].destination.namespaceSelector",
        ),
        (profile("p", ingress=[rule(source="a in {}")]), "spec.ingress[0].source.selector"),
        (
            BGPPeer(metadata=metadata("b"), spec=BGPPeerSpec(peer_selector="a == 'x' && a == 'y'")),
            "spec.peerSelector",
        ),
    ],
)
def test_selectors_that_never_match(resource: Resource, path: str) -> None:
    """A selector that contradicts itself is found wherever there is one, and once."""
    (only,) = found(resource)

    assert only.startswith(f"{path}: the selector can never match: nothing satisfies")


@pytest.mark.parametrize(
    "resource",
    [
        policy("p", selector="a == 'x' && b == 'y'"),
        policy("p", ingress=[rule(source={"not_selector": "a == 'x' && a == 'y'"})]),
        policy("p", ingress=[rule(source={"selector": "a == 'x'", "namespace_selector": "a == 'y'"})]),
        policy("p", namespace="red", selector="projectcalico.org/namespace == 'red'"),
        policy("p", namespace=None, selector="projectcalico.org/namespace == 'blue'"),
        policy("p", selector="a =="),
    ],
)
def test_selectors_that_may_match(resource: Resource) -> None:
    """Selectors that match something, exclude nothing, or are no selectors are no warnings."""
    assert found(resource) == []


def test_a_selector_outside_of_the_policys_namespace() -> None:
    """A policy of one namespace selects nothing in another."""
    (only,) = found(policy("p", namespace="red", selector="projectcalico.org/namespace == 'blue'"))

    assert only.startswith("spec.selector: the policy can never select anything: nothing satisfies both")


# --- rules that never match --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"protocol": "TCP", "not_protocol": 6}, "notProtocol: the rule can never match"),
        ({"source": {"nets": ["10.1.0.0/16"], "not_nets": ["10.0.0.0/8"]}}, "source.notNets: the rule can"),
        (
            {"protocol": "TCP", "destination": {"ports": [80, 81], "not_ports": ["80:90"]}},
            "destination.notPorts: the rule can",
        ),
        (
            {"source": {"selector": "a == 'x' && b == 'y'", "not_selector": "a == 'x'"}},
            "source.notSelector: the rule can",
        ),
    ],
)
def test_rules_that_never_match(fields: dict[str, object], expected: str) -> None:
    """A rule whose conditions exclude each other is found."""
    (only,) = hidden(rule(**fields))

    assert only.startswith(f"spec.ingress[0].{expected}")


def test_a_rule_for_another_namespace_needs_a_namespace_selector() -> None:
    """A rule of a namespaced policy stays in the namespace, unless its namespaceSelector says otherwise."""
    elsewhere = "projectcalico.org/namespace == 'blue'"

    (only,) = hidden(rule(source=elsewhere), namespace="red")
    assert only.startswith(
        "spec.ingress[0].source.selector: the rule can never match: nothing satisfies both"
    )
    assert hidden(rule(source=elsewhere), namespace=None) == []
    assert hidden(rule(source={"selector": elsewhere, "namespace_selector": "all()"}), namespace="red") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "TCP", "not_protocol": "UDP"},
        {"source": {"nets": ["10.0.0.0/8"], "not_nets": ["10.1.0.0/16"]}},
        {"source": {"nets": ["10.1.0.0/16", "11.0.0.0/8"], "not_nets": ["10.0.0.0/8"]}},
        {"source": {"not_nets": ["10.0.0.0/8"]}},
        {"protocol": "TCP", "destination": {"ports": [80, 91], "not_ports": ["80:90"]}},
        {"protocol": "TCP", "destination": {"ports": ["http"], "not_ports": ["80:90"]}},
        {"source": {"selector": "a == 'x'", "not_selector": "a == 'x' && b == 'y'"}},
        {"source": {"nets": ["10.0.0.0/8"], "not_selector": "all()"}},
    ],
)
def test_rules_that_may_match(fields: dict[str, object]) -> None:
    """A rule that excludes only a part of what it matches is no warning."""
    assert hidden(rule(**fields)) == []


# --- rules that an earlier one hides -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"source": {"nets": ["10.0.0.0/8"]}}, {"source": {"nets": ["10.1.0.0/16", "10.2.0.1"]}}),
        ({"protocol": "TCP"}, {"protocol": 6, "destination": {"ports": [80]}}),
        (
            {"protocol": "TCP", "destination": {"ports": ["80:89", "90:99", "http"]}},
            {"protocol": "TCP", "destination": {"ports": ["85:95", "http"]}},
        ),
        ({"source": "a == 'x'"}, {"source": "b == 'y' && a == 'x'"}),
        ({"source": {"namespace_selector": "a == 'x'"}}, {"source": {"namespace_selector": "a == 'x'"}}),
        ({"not_protocol": "UDP"}, {"protocol": "TCP"}),
        ({"not_protocol": "UDP"}, {"not_protocol": 17, "source": "has(a)"}),
        ({"protocol": "ICMP"}, {"protocol": "ICMP", "icmp": ICMP(type=8)}),
        (
            {"protocol": "ICMP", "icmp": ICMP(type=8)},
            {"protocol": "ICMP", "icmp": ICMP(type=8, code=0)},
        ),
        ({"ip_version": 4}, {"source": {"nets": ["10.0.0.0/8"]}}),
        ({"ip_version": 4}, {"protocol": "ICMP"}),
        ({"source": {"not_nets": ["10.0.0.0/8"]}}, {"source": {"nets": ["11.0.0.0/8"]}}),
        (
            {"source": {"nets": ["0.0.0.0/0"], "not_nets": ["10.0.0.0/8"]}},
            {"source": {"nets": ["0.0.0.0/0"], "not_nets": ["10.0.0.0/7"]}},
        ),
        ({"source": {"not_selector": "a == 'x'"}}, {"source": {"not_selector": "has(a)"}}),
        (
            {"protocol": "TCP", "destination": {"not_ports": [80]}},
            {"protocol": "TCP", "destination": {"not_ports": ["80:81"]}},
        ),
    ],
)
def test_hidden_rules(earlier: dict[str, object], later: dict[str, object]) -> None:
    """A rule all of whose matches an earlier one decides is never reached; the other way round it is."""
    assert hidden(rule("Deny", **earlier), rule("Allow", **later)) == [
        "spec.ingress[1]: the rule is never reached: ingress[0] matches all that it matches and says Deny"
    ]
    if earlier != later:
        assert hidden(rule("Allow", **later), rule("Deny", **earlier)) == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"source": {"nets": ["10.1.0.0/16"]}}, {"source": {"nets": ["10.0.0.0/8"]}}),
        ({"source": {"nets": ["10.0.0.0/8"]}}, {"source": {"nets": ["10.0.0.0/8", "11.0.0.0/8"]}}),
        ({"source": {"nets": ["10.0.0.0/8"]}}, {"destination": {"nets": ["10.0.0.0/8"]}}),
        ({"source": {"nets": ["10.0.0.0/8"]}}, {"source": "a == 'x'"}),
        ({"source": {"nets": ["0.0.0.0/0"]}}, {}),
        ({"protocol": "TCP"}, {"protocol": "UDP"}),
        ({"protocol": "TCP"}, {}),
        (
            {"protocol": "TCP", "destination": {"ports": ["80:89", "91:99"]}},
            {"protocol": "TCP", "destination": {"ports": ["85:95"]}},
        ),
        (
            {"protocol": "TCP", "destination": {"ports": [80]}},
            {"protocol": "TCP", "destination": {"ports": ["http"]}},
        ),
        ({"source": "a == 'x'"}, {"source": "a == 'x' || a == 'y'"}),
        ({"source": "all()"}, {}),
        ({"source": "a == 'x'"}, {"source": {"selector": "a == 'x'", "namespace_selector": "all()"}, "x": 1}),
        ({"source": {"not_selector": "has(a)"}}, {"source": {"not_selector": "a == 'x'"}}),
        ({"not_protocol": "UDP"}, {}),
        ({"not_protocol": "UDP"}, {"protocol": "UDP"}),
        ({"protocol": "ICMP", "icmp": ICMP(type=8)}, {"protocol": "ICMP"}),
        ({"protocol": "ICMP", "icmp": ICMP(type=8, code=0)}, {"protocol": "ICMP", "icmp": ICMP(type=8)}),
        ({"protocol": "ICMP", "not_icmp": ICMP(type=8)}, {"protocol": "ICMP", "icmp": ICMP(type=0)}),
        ({"ip_version": 4}, {"source": {"not_nets": ["10.0.0.0/8"]}}),
        ({"ip_version": 4}, {"ip_version": 6}),
        ({"source": {"not_nets": ["10.0.0.0/8"]}}, {"source": {"nets": ["10.0.0.0/7"]}}),
        ({"source": {"not_nets": ["10.0.0.0/8"]}}, {"source": {"nets": ["fd00::/8"]}}),
        ({"protocol": "TCP", "http": HTTPMatch(methods=["GET"])}, {"protocol": "TCP"}),
        ({"source": {"services": ServiceMatch(name="s", namespace="n")}}, {"source": {"nets": ["10.0.0.1"]}}),
    ],
)
def test_rules_that_are_reached(earlier: dict[str, object], later: dict[str, object]) -> None:
    """A rule of which an earlier one leaves anything is no warning."""
    namespace = "red" if later.pop("x", None) else None

    assert hidden(rule("Deny", **earlier), rule("Allow", **later), namespace=namespace) == []


def test_what_logs_decides_nothing() -> None:
    """Rules after one that only logs are reached; a log that comes too late is not."""
    assert hidden(rule("Log"), rule("Allow", protocol="TCP")) == []
    assert len(hidden(rule("Allow", protocol="TCP"), rule("Log", protocol="TCP"))) == 1


def test_a_rule_that_says_the_same() -> None:
    """A rule that an earlier one makes superfluous is said to add nothing."""
    assert hidden(rule("Allow", protocol="TCP"), rule("Allow", protocol="TCP", source="has(b)")) == [
        "spec.ingress[1]: the rule adds nothing: ingress[0] matches all that it matches and says Allow, too"
    ]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (1, "this rule is never reached"),
        (2, "this rule and the one after it are never reached"),
        (9, "this rule and the 8 after it are never reached"),
    ],
)
def test_what_follows_a_rule_for_everything(after: int, expected: str) -> None:
    """Rules after one that matches everything are named once, all together."""
    (only,) = hidden(rule("Allow", protocol="TCP"), rule("Deny"), *[rule("Allow")] * after)

    assert only == f"spec.ingress[2]: {expected}: ingress[1] matches everything and says Deny"


def test_directions_do_not_hide_each_other() -> None:
    """Ingress rules do not hide egress rules."""
    assert found(policy("p", ingress=[rule("Deny")], egress=[rule("Allow")])) == []


def test_very_long_policies_are_judged_quickly() -> None:
    """Of a thousand rules those after one that matches everything are still found."""
    many = [rule(source={"nets": [f"10.{number // 250}.{number % 250}.1"]}) for number in range(900)]

    (only,) = hidden(*many, rule("Deny"), rule("Allow"))

    assert only.startswith("spec.ingress[901]: this rule is never reached")


# --- types -------------------------------------------------------------------------------------------


def test_rules_of_a_direction_that_types_leaves_out() -> None:
    """Rules of a direction that the policy does not have are without effect."""
    assert found(policy("p", types=["Ingress"], egress=[rule()])) == [
        "spec.egress: the egress rules have no effect: types names Ingress alone"
    ]
    assert found(policy("p", types=["Ingress", "Egress"], ingress=[rule()])) == []
    assert found(policy("p", egress=[rule()])) == []


# --- policies that others hide -----------------------------------------------------------------------

EARLY, LATE = tier("early", 1.0, "Pass"), tier("late", 2.0, "Pass")


def early(*rules, **more) -> Resource:
    return policy("q", namespace=None, tier="early", types=["Ingress"], ingress=rules, **more)


def late(**more) -> Resource:
    return policy("p", tier="late", selector="a == 'x'", ingress=[rule()], **more)


def test_a_policy_that_an_earlier_tier_hides() -> None:
    """A policy is never reached if an earlier tier decides all for all that it is for."""
    (only,) = found(EARLY, LATE, early(rule("Allow", protocol="TCP"), rule("Deny")), late())

    assert only == (
        "spec: the policy is never reached: GlobalNetworkPolicy/q, in the earlier tier early, "
        "says Deny to everything"
    )
    assert found(late(), stored=(EARLY, LATE, early(rule("Deny")))) == [only]


def test_the_end_of_a_tier_denies() -> None:
    """A tier that denies at its end and passes nothing hides all tiers after it."""
    (only,) = found(tier("early", 1.0), LATE, early(rule("Allow", protocol="TCP")), late())

    assert "what reaches the end of its tier early, which is earlier, is denied" in only


@pytest.mark.parametrize(
    "others",
    [
        (EARLY, LATE, early(rule("Deny", protocol="TCP"))),
        (EARLY, LATE, early(rule("Pass", protocol="TCP"), rule("Deny"))),
        (EARLY, LATE, early(rule("Pass"))),
        (EARLY, LATE, early(rule("Deny"), selector="a == 'y'")),
        (EARLY, LATE, early(rule("Deny"), do_not_track=True, apply_on_forward=True)),
        (
            EARLY,
            LATE,
            early(rule("Deny"), order=2.0),
            policy("o", tier="early", order=1.0, ingress=[rule("Pass")]),
        ),
        (tier("early", 3.0, "Pass"), LATE, early(rule("Deny"))),
        (LATE, early(rule("Deny"))),
        (EARLY, early(rule("Deny"))),
        (tier("early", 1.0, "Deny"), LATE, early(rule("Pass", protocol="TCP"))),
        (
            tier("early", 1.0, "Deny"),
            LATE,
            early(rule("Deny", protocol="TCP")),
            policy("z", tier="early", ingress=[rule("Pass")]),
        ),
        (EARLY, LATE, policy("q", namespace="red", tier="early", ingress=[rule("Deny")])),
        (
            EARLY,
            LATE,
            policy("q", namespace=None, tier="early", types=["Egress"], egress=[rule("Deny")]),
        ),
        (
            LATE,
            policy("q", namespace=None, tier="kube-admin", types=["Ingress"], ingress=[rule("Deny")]),
        ),
    ],
)
def test_policies_that_are_reached(others: tuple[Resource, ...]) -> None:
    """What leaves anything to the later tier, for anything that the policy is for, hides nothing."""
    assert found(*others, late()) == []


def test_one_direction_alone() -> None:
    """Where only one direction is decided before, only that is said."""
    both = late(types=["Ingress", "Egress"])

    (only,) = found(EARLY, LATE, early(rule("Deny")), both)

    assert only.startswith("spec.ingress: its ingress rules are never reached")


def test_a_policy_that_another_of_its_tier_hides() -> None:
    """Within a tier a policy that decides everything hides those after it, and none before it."""
    first = policy("a", namespace=None, order=1.0, types=["Ingress"], ingress=[rule("Pass")])
    second = policy("b", selector="a == 'x'", order=2.0, ingress=[rule()])

    assert found(first, second) == [
        "spec: the policy is never reached: GlobalNetworkPolicy/a, before it in tier default, "
        "says Pass to everything"
    ]
    assert found(second, first) == []


def test_forwarded_traffic_is_another_matter() -> None:
    """A policy that is not for forwarded traffic hides none that is."""
    forwarded = policy("p", namespace=None, tier="late", ingress=[rule()], apply_on_forward=True)

    assert found(EARLY, LATE, early(rule("Deny")), forwarded) == []
    assert len(found(EARLY, LATE, early(rule("Deny"), apply_on_forward=True), forwarded)) == 1


# --- no false alarms ---------------------------------------------------------------------------------

_V4 = [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "192.0.2.5")]
_V6 = [parse_address(text) for text in ("fd00::1", "fd00::2")]
PACKETS = [
    Packet(source, destination, protocol, 1024, port)
    for addresses in (_V4, _V6)
    for source, destination in product(addresses, addresses)
    for protocol, port in ((6, 80), (6, 8080), (17, 53), (17, 80))
]


def check(facts: dict[Key, Resource]) -> int:
    """No packet meets what warnings call never reached; how many warnings there were."""
    resources = [*facts.values()]
    silent: set[tuple[str, str, str, str, int | None]] = set()
    hollow: set[tuple[str, str, str, str, int | None]] = set()
    for resource, findings in zip(resources, warnings(resources), strict=True):
        metadata_ = resource.metadata
        for finding in findings:
            if (
                "never reached" in finding.message
                or "adds nothing" in finding.message
                or "can never match" in finding.message
            ):
                ways = finding.path[1:2] or ("ingress", "egress")
                number = finding.path[2] if len(finding.path) > 2 else None
                found = hollow if "can never match" in finding.message else silent
                found |= {
                    (resource.kind, metadata_.namespace or "", metadata_.name, str(way), number)
                    for way in ways
                }
    if not silent | hollow:
        return 0
    world = Everywhere(translated(facts).facts)
    # A rule that cannot be enforced as written denies everything, whatever its conditions say.
    silent |= hollow - {_whose(row) for row in _rows(world) if row.source == row.destination == Side()}
    for row, packet, direction in product(world.endpoints.values(), PACKETS, ("ingress", "egress")):
        for step in evaluate(world.picture, row, direction, packet, workload=True).trail:
            whose = (step.kind, step.namespace, step.name, direction)
            assert (*whose, step.rule) not in silent
            assert step.rule is None or (*whose, None) not in silent
    return len(silent)


def _rows(world: Everywhere) -> Iterator[RuleRow]:
    for table in (world.picture.policies, world.picture.profiles):
        for row in table.values():
            yield from (*row.ingress, *row.egress)


def _whose(row: RuleRow) -> tuple[str, str, str, str, int]:
    origin = row.origin
    return origin.kind, origin.namespace, origin.name, origin.direction, origin.rule


def test_what_is_said_of_a_selector_holds_where_its_rule_is_closed() -> None:
    """A rule that cannot be enforced as written meets every packet; its selector can never match all the same."""
    unlike = rule("Allow", source={"selector": "app == 'a' && app == 'b'"}, destination={"ports": [80]})
    closed = policy("p", selector="all()", ingress=[unlike])
    facts = [endpoint("w1", address=["10.0.0.1"]), closed]

    assert any("selector can never match" in each for each in found(closed))
    assert check({key_of(each): each for each in facts}) == 0


class _Dense:
    """Policies in which rules often hide each other."""

    def __init__(self, draw) -> None:
        self.draw = draw

    def one(self, *options):
        return self.draw(st.sampled_from(options))

    def side(self) -> dict[str, object]:
        return {
            "nets": self.one([], [], ["10.0.0.0/8"], ["10.0.0.1", "10.0.0.2"], ["fd00::/8"], ["0.0.0.0/0"]),
            "not_nets": self.one([], [], [], ["10.0.0.1"], ["fd00::1"]),
            "selector": self.one("", "", "app == 'web'", "has(app)", "app in {'web', 'db'}"),
            "not_selector": self.one("", "", "", "app == 'db'", "has(role)"),
            "namespace_selector": self.one("", "", "", "all()", "global()"),
        }

    def rule(self):
        ports = self.one([], [], [80], ["1:100"], ["http"])
        return rule(
            self.one("Allow", "Deny", "Pass", "Log"),
            protocol=self.one("TCP", "UDP") if ports else self.one(None, None, "TCP"),
            ip_version=self.one(None, None, None, 4, 6),
            source=self.side() if self.one(True, False) else None,
            destination={**(self.side() if self.one(True, False) else {}), "ports": ports},
        )

    def policy(self, name: str):
        return policy(
            name,
            namespace=self.one("red", None),
            tier=self.one("default", "gold", "silver"),
            order=self.one(None, 1.0, 2.0),
            selector=self.one("", "app == 'web'", "has(app)"),
            types=self.one(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
            ingress=[self.rule() for _ in range(self.one(0, 1, 3, 6))],
            egress=[self.rule() for _ in range(self.one(0, 1, 3))],
        )


@st.composite
def dense(draw) -> dict[Key, Resource]:
    maker = _Dense(draw)
    resources = [
        endpoint("w1", namespace="red", labels={"app": "web"}, address=["10.0.0.1", "fd00::1"]),
        endpoint(
            "w2",
            namespace="red",
            labels={"app": "db", "role": "a"},
            address=["10.0.0.2", "fd00::2"],
            ports=[("http", "TCP", 80)],
        ),
        tier("gold", maker.one(1.0, 3.0), maker.one("Pass", "Deny")),
        tier("silver", 2.0, maker.one("Pass", "Deny")),
        *(maker.policy(f"p{number}") for number in range(maker.one(1, 2, 3))),
    ]
    return {key_of(each): each for each in resources}


@hypothesis_settings(max_examples=150, deadline=None)
@given(dense())
def test_no_packet_meets_what_is_never_reached(facts: dict[Key, Resource]) -> None:
    """In dense policies no packet at all meets a rule, or a policy, of which a warning says that none does."""
    assert check(facts) >= 0


@hypothesis_settings(max_examples=30, deadline=None)
@given(steps())
def test_no_false_alarms_in_worlds_by_chance(history: list[Step]) -> None:
    """Nor in small worlds with everything that there may be, broken resources included."""
    assert check({key: resource for key, resource in dict(history).items() if resource is not None}) >= 0


def test_the_worlds_by_chance_are_not_silent() -> None:
    """The worlds hold what there is to be warned of, so that their silence would be noticed."""
    facts = {key: resource for key, resource in dict(rolled(3, 250)).items() if resource is not None}

    assert check(facts) > 0
