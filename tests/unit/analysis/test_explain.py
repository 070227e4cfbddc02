"""Explanations tell what the evaluator decided, the whole of it, and why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.analysis import World
from calico.analysis.evaluate import matches
from calico.analysis.explain import Explainer, Explanation, Question, Unanswerable, explain
from calico.analysis.reasons import Reasons
from calico.analysis.staged import enforced
from calico.calculation.labels import inherit
from calico.desired import PolicyId
from calico.model.address import parse_address
from calico.model.keys import Key, key_of
from calico.model.node import Node, NodeBGP, NodeSpec
from calico.model.policy import GlobalPolicySpec, PolicySpec
from calico.model.resource import Resource
from calico.model.staged import (
    StagedGlobalNetworkPolicy,
    StagedGlobalPolicySpec,
    StagedNetworkPolicy,
    StagedPolicySpec,
)
from support.analysis import world
from support.builders import (
    elsewhere,
    endpoint,
    host_endpoint,
    metadata,
    network_set,
    policy,
    pool,
    profile,
    rule,
)
from support.strategies import Step, rolled, steps

OPEN = profile("open", ingress=[rule()], egress=[rule()])
WEB = endpoint("web", labels={"app": "web"}, address="10.0.0.1", profiles=["open"])
DB = endpoint(
    "db",
    elsewhere,
    labels={"app": "db"},
    address=["10.0.0.2", "fd00::2"],
    profiles=["open"],
    ports=[("postgres", "TCP", 5432), ("dns", "UDP", 53)],
)
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.9", "fd00::1", "fd00::2", "2001:db8::9")


def asked(*resources: Resource, **question: object) -> Explanation:
    """The explanation of a flow, from web to db unless said otherwise."""
    return explain(world(*resources), Question(**{"source": "web", "destination": "db", **question}))


# --- it tells what was decided -----------------------------------------------------------------------


def agree(facts: dict[Key, Resource], flows: list[tuple[str, str, str | int, int | None]]) -> None:
    """Each explanation's verdict and trail are those of ``World.decide``; what is told in vain does not match."""
    made = World(facts)
    explainer = Explainer(made)
    hosts = [key.name for key in facts if key.kind == "HostEndpoint" and _addressed(made, key.name)]
    flows = [
        *flows,
        *((host, "192.0.2.9", "TCP", 80) for host in hosts),
        *(("192.0.2.9", host, "TCP", 80) for host in hosts),
    ]
    members = made.picture.members
    for source, destination, protocol, port in flows:
        if (":" in source) != (":" in destination):
            continue
        decision = made.decide(source=source, destination=destination, protocol=protocol, port=port)
        found = explainer.explain(
            Question(source=source, destination=destination, protocol=protocol, port=port)
        )
        assert found.decision == decision
        assert found.allowed == decision.allowed
        assert [each.passage for each in found.between] == list(decision.between)
        for each in found.between:
            told = tuple(remark.step for remark in each.remarks if remark.matched)
            assert told == each.passage.verdict.trail
        for side, verdict in ((found.source, decision.egress), (found.destination, decision.ingress)):
            assert side.verdict == verdict
            told = tuple(remark.step for remark in side.remarks if remark.matched)
            assert told == (verdict.trail if verdict is not None else ())
            assert bool(side.note) == (verdict is None)
            for remark in side.remarks:
                assert remark.matched or remark.reasons
                row = _row(made, remark.step, side.direction)
                if row is not None:
                    assert matches(members, row, found.flow.packet) == remark.matched


def _addressed(made: World, name: str) -> bool:
    try:
        return any(end.address.family == 4 for end in made.find(name))
    except LookupError:
        return False


def _row(made: World, step: object, direction: str) -> object:
    kind, _, namespace, name, index, _ = step
    if index is None:
        return None
    picture = made.picture
    row = (
        picture.profiles.get(name)
        if kind == "Profile"
        else picture.policies.get(PolicyId(kind, namespace, name))
    )
    return None if row is None else getattr(row, direction)[index]


FLOWS = st.tuples(
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.sampled_from(("TCP", "UDP", 1, 58)),
    st.sampled_from((None, 53, 80, 8080)),
)


@given(steps(), st.lists(FLOWS, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_explanations_tell_the_evaluators_trail(
    history: list[Step], flows: list[tuple[str, str, str, int]]
) -> None:
    """In any world the verdict is that of ``World.decide``, and no step is left out, added or told wrong."""
    agree({key: resource for key, resource in dict(history).items() if resource is not None}, flows)


@pytest.mark.parametrize("seed", range(4))
def test_explanations_tell_the_evaluators_trail_in_large_worlds(seed: int) -> None:
    """So it is where hundreds of resources collide."""
    facts = {key: resource for key, resource in dict(rolled(seed, 250)).items() if resource is not None}
    flows = [
        (source, destination, protocol, 80)
        for source in ADDRESSES
        for destination in ADDRESSES
        for protocol in ("TCP", "UDP")
    ]
    agree(facts, flows)


def test_a_reason_is_found_for_every_rule_that_does_not_match() -> None:
    """The sentence for "none of what I know" is never needed for rules of addresses, labels, ports and protocols."""
    worlds = (
        {key: resource for key, resource in dict(rolled(seed, 250)).items() if resource is not None}
        for seed in range(6)
    )
    told = [
        remark.reasons[0]
        for explainer in map(Explainer, map(World, worlds))
        for source in ADDRESSES[:3]
        for destination in ADDRESSES[:3]
        for side in _sides(explainer.explain(Question(source=source, destination=destination, port=80)))
        for remark in side.remarks
        if not remark.matched
    ]
    assert told
    assert "its conditions do not hold" not in told


def _sides(found: Explanation) -> tuple[object, object]:
    return found.source, found.destination


# --- what is asked -----------------------------------------------------------------------------------


def test_a_port_goes_by_its_name_at_the_destination() -> None:
    """The name means the number that the destination gives it for the protocol."""
    assert asked(OPEN, WEB, DB, port="postgres").flow.packet.destination_port == 5432
    assert asked(OPEN, WEB, DB, port="dns", protocol="udp").flow.packet.destination_port == 53
    with pytest.raises(Unanswerable, match=r"db has no TCP port that is called dns; it has postgres .*, dns"):
        asked(OPEN, WEB, DB, port="dns")


def test_without_a_protocol_it_is_tcp_or_icmp_where_a_type_is_given() -> None:
    """What is meant is clear from the rest."""
    assert asked(OPEN, WEB, DB).flow.packet.protocol == 6
    assert asked(OPEN, WEB, DB, icmp_type=8).flow.packet.protocol == 1


@pytest.mark.parametrize(
    ("end", "hint"),
    [
        ("bd", "did you mean default/db?"),
        ("10.0.0.300", "write an address"),
        ("default/nothing-like-it", "write an address"),
    ],
)
def test_an_end_that_is_not_known_is_refused_with_what_may_be_meant(end: str, hint: str) -> None:
    """A typing error is not explained as if it were the world outside."""
    with pytest.raises(Unanswerable, match=hint):
        asked(OPEN, WEB, DB, destination=end)


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    """No rule is asked about what cannot be."""
    with pytest.raises(Unanswerable, match="1 to 65535"):
        asked(OPEN, WEB, DB, port=port)


def test_a_host_goes_by_its_name() -> None:
    """It is asked about by its own address of the family that the other end has."""
    node = Node(
        metadata=metadata("here"),
        spec=NodeSpec(bgp=NodeBGP(ipv4_address="192.0.2.1/24", ipv6_address="2001:db8::1/64")),
    )
    found = asked(
        node, host_endpoint("eth0", address="192.0.2.1", profiles=["open"]), OPEN, DB, source="here"
    )
    assert found.flow.packet.source == parse_address("192.0.2.1")
    assert found.source.verdict is not None
    assert asked(node, OPEN, DB, source="here", ip_version=6).flow.packet.source == parse_address(
        "2001:db8::1"
    )


def test_a_network_set_is_judged_in_parts_that_are_each_treated_alike() -> None:
    """Every prefix that a rule, a set or an endpoint speaks of divides it; nothing of the set is left out."""
    half = policy(
        "half",
        selector="app == 'db'",
        ingress=[rule(source={"nets": ["203.0.113.128/25"]})],
    )
    found = asked(OPEN, DB, half, network_set("partners", "203.0.113.0/24"), source="partners")
    assert [(part.source, part.allowed) for part in found.parts] == [
        ("203.0.113.0", False),
        ("203.0.113.128", True),
    ]
    empty = network_set("nobody", namespace=None)
    with pytest.raises(Unanswerable, match="nobody has no nets"):
        asked(OPEN, DB, empty, source="nobody")


# --- the way -----------------------------------------------------------------------------------------


def test_the_way_leads_by_the_destinations_host_and_interface() -> None:
    """The next hop is the host's address; without one that is said."""
    node = Node(metadata=metadata(elsewhere), spec=NodeSpec(bgp=NodeBGP(ipv4_address="192.0.2.2/24")))
    first, last = asked(node, OPEN, WEB, DB).hops
    assert (first.host, first.prefix, first.next_hop) == ("here", "10.0.0.2/32", "192.0.2.2")
    assert (last.host, last.next_hop) == (elsewhere, "cali-db")
    assert "no address of elsewhere" in asked(OPEN, WEB, DB).hops[0].words


def test_an_address_of_a_pool_that_nobody_has_leads_nowhere() -> None:
    """It is not explained as the world outside."""
    (hop,) = asked(OPEN, WEB, pool("one", "10.0.0.0/16"), destination="10.0.7.7").hops
    assert "no endpoint has 10.0.7.7" in hop.words


# --- staged policies ---------------------------------------------------------------------------------


def staged(name: str, *, action: str = "Set", **spec: object) -> StagedNetworkPolicy:
    """A staged policy for db in namespace default."""
    return StagedNetworkPolicy(
        metadata=metadata(name, "default"),
        spec=StagedPolicySpec(staged_action=action, selector="app == 'db'", **spec),
    )


def test_a_staged_policy_changes_no_verdict_and_shows_what_it_would_do() -> None:
    """It is told as if it stood in its place, and says that it is staged."""
    found = asked(OPEN, WEB, DB, staged("close", types=["Ingress"]))
    assert found.allowed
    assert found.staged is not None
    assert not found.staged.decision.allowed
    assert found.staged.changes
    assert [remark.step.kind for remark in found.staged.destination.remarks] == ["Tier"]


def test_a_staged_deletion_takes_the_policy_away() -> None:
    """What the policy denied would be allowed."""
    close = policy("close", selector="app == 'db'", types=["Ingress"])
    found = asked(OPEN, WEB, DB, close, staged("close", action="Delete"))
    assert not found.allowed
    assert found.staged is not None
    assert found.staged.decision.allowed


@pytest.mark.parametrize("action", ["Learn", "Ignore"])
def test_what_is_learned_or_ignored_changes_nothing(action: str) -> None:
    """Such a staged policy is as good as none."""
    assert asked(OPEN, WEB, DB, staged("close", action=action)).staged is None


def test_a_staged_policy_that_does_not_concern_the_flow_changes_nothing() -> None:
    """That is said, too."""
    other = staged("other", types=["Egress"])
    found = asked(OPEN, WEB, DB, other)
    assert found.staged is not None
    assert not found.staged.changes


def test_staged_policies_become_what_they_say() -> None:
    """All that the enforced kind has is taken over, and the rest of the facts stays as it is."""
    wide = StagedGlobalNetworkPolicy(
        metadata=metadata("wide"),
        spec=StagedGlobalPolicySpec(selector="has(app)", apply_on_forward=True, order=3.0),
    )
    facts = {key_of(each): each for each in (WEB, wide, staged("close", order=1.0))}
    after = enforced(facts)
    assert after is not None
    assert after.facts[Key("GlobalNetworkPolicy", "wide")].spec == GlobalPolicySpec(
        selector="has(app)", apply_on_forward=True, order=3.0
    )
    assert after.facts[Key("NetworkPolicy", "close", "default")].spec == PolicySpec(
        selector="app == 'db'", order=1.0
    )
    assert after.facts[key_of(WEB)] is WEB
    assert after.set[PolicyId("GlobalNetworkPolicy", "", "wide")] == Key("StagedGlobalNetworkPolicy", "wide")


# --- who has an address ------------------------------------------------------------------------------


def test_owners_have_the_labels_by_which_selectors_find_them() -> None:
    """Own labels and inherited ones; of a network set the prefix that covers the address."""
    gives = profile("open", gives={"team": "x"})
    made = world(gives, WEB, network_set("near", "10.0.0.0/24", labels={"kind": "near"}))
    exact, wide = Reasons(made).owners.of(parse_address("10.0.0.1"))
    own = {"app": "web", "projectcalico.org/namespace": "default"}
    assert exact.labels == inherit(own, [{"team": "x"}])
    assert (wide.name, str(wide.net)) == ("NetworkSet default/near", "10.0.0.0/24")
