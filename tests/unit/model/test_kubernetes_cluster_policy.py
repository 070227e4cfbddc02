"""Kubernetes' ClusterNetworkPolicy as Calico's GlobalNetworkPolicy."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model.codec import decode, encode
from calico.model.keys import key_of
from calico.model.kubernetes import convert
from calico.model.policy import EntityRule, GlobalNetworkPolicy, GlobalPolicySpec, Rule, RuleMetadata
from calico.model.resource import Metadata
from calico.model.validation import defaulted, problems_of

K8S = 'projectcalico.org/orchestrator == "k8s"'
ALL = {"namespaces": {}}
DENY = Rule(action="Deny")
EVERY_POD = EntityRule(selector=K8S, namespace_selector="all()")


def policy(**spec: Any) -> dict[str, Any]:
    """A policy for every pod, at priority 10 of tier Admin, where ``spec`` does not say otherwise."""
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "rules"},
        "spec": {"tier": "Admin", "priority": 10, "subject": ALL} | spec,
    }


def converted(document: dict[str, Any]) -> GlobalNetworkPolicy:
    """What becomes of a policy that is right."""
    (resource,), problems = convert(document)
    assert problems == ()
    assert isinstance(resource, GlobalNetworkPolicy)
    assert [each for each in problems_of(defaulted(resource)) if each.path != ("metadata", "name")] == []
    assert encode(decode(key_of(resource), encode(resource), 1)) == encode(resource)
    return resource


def rules(rule: dict[str, Any], direction: str = "ingress") -> list[Rule]:
    """What becomes of a rule that is right."""
    found = converted(policy(**{direction: [rule]})).spec
    return found.ingress if direction == "ingress" else found.egress


def failed(**spec: Any) -> tuple[GlobalPolicySpec | None, list[tuple[str, str]]]:
    """What becomes of a policy that is wrong: the policy's spec, if any, and each problem's field and severity."""
    resources, problems = convert(policy(**spec))
    found = [(each.field, each.severity) for each in problems]
    if not resources:
        return None, found
    (resource,) = resources
    assert isinstance(resource, GlobalNetworkPolicy)
    return resource.spec, found


@pytest.mark.parametrize(("tier", "word"), [("Admin", "kube-admin"), ("Baseline", "kube-baseline")])
def test_a_policy_stands_in_the_tier_of_its_tier_at_its_priority(tier: str, word: str) -> None:
    """Order is priority; a direction counts if it has rules."""
    document = policy(
        tier=tier,
        priority=7,
        subject={"namespaces": {"matchLabels": {"team": "a"}}},
        ingress=[{"action": "Deny", "from": [ALL], "name": "nothing comes in"}],
    )

    assert converted(document) == GlobalNetworkPolicy(
        metadata=Metadata(name=f"kcnp.{word}.rules"),
        spec=GlobalPolicySpec(
            tier=word,
            order=7.0,
            selector=K8S,
            namespace_selector='team == "a"',
            types=["Ingress"],
            ingress=[
                Rule(
                    action="Deny",
                    source=EVERY_POD,
                    metadata=RuleMetadata(annotations={"name": "nothing comes in"}),
                )
            ],
        ),
    )


def test_a_subject_may_be_some_pods_of_some_namespaces() -> None:
    """Both selectors apply; an empty one selects all."""
    pods = {"podSelector": {"matchLabels": {"app": "db"}}, "namespaceSelector": {"matchLabels": {"a": "b"}}}
    spec = converted(policy(subject={"pods": pods}, ingress=[{"action": "Pass", "from": [ALL]}])).spec
    assert (spec.selector, spec.namespace_selector) == (f'({K8S} && app == "db")', 'a == "b"')
    everyone = converted(
        policy(subject={"pods": {"podSelector": {}}}, ingress=[{"action": "Pass", "from": [ALL]}])
    ).spec
    assert (everyone.selector, everyone.namespace_selector) == (K8S, "all()")


def test_actions_have_their_own_words() -> None:
    """Accept is allow; a rule passes to the next tier with Pass."""
    made = [rules({"action": word, "from": [ALL]})[0].action for word in ("Accept", "Deny", "Pass")]
    assert made == ["Allow", "Deny", "Pass"]


def test_a_policy_without_rules_stands_for_nothing() -> None:
    """It isolates nobody, so there is nothing to say."""
    assert convert(policy()) == ((), ())
    assert convert(policy(ingress=[], egress=[])) == ((), ())


def test_peers_of_egress_may_be_networks() -> None:
    """One rule for each peer, in order, and for each family of a peer's networks, which are alternatives."""
    pods = {"podSelector": {"matchLabels": {"app": "dns"}}, "namespaceSelector": {}}
    rule = {"action": "Accept", "to": [{"networks": ["10.0.0.0/8", "fd00::/8"]}, {"pods": pods}, ALL]}
    assert [each.destination for each in rules(rule, "egress")] == [
        EntityRule(nets=["10.0.0.0/8"]),
        EntityRule(nets=["fd00::/8"]),
        EntityRule(selector=f'({K8S} && app == "dns")', namespace_selector="all()"),
        EVERY_POD,
    ]


def test_protocols_and_ports() -> None:
    """One rule for each protocol; ranges merge; a protocol without a port means all of its ports."""
    rule = {
        "action": "Accept",
        "from": [ALL],
        "protocols": [
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {}},
            {"tcp": {"destinationPort": {"range": {"start": 81, "end": 90}}}},
        ],
    }
    assert [(each.protocol, each.destination.ports) for each in rules(rule)] == [
        ("TCP", ["80:90"]),
        ("UDP", []),
    ]


def test_a_port_with_a_name_may_be_of_any_protocol() -> None:
    """Pods say which it is."""
    rule = {"action": "Accept", "from": [ALL], "protocols": [{"destinationNamedPort": "http"}]}
    assert [(each.protocol, each.destination.ports) for each in rules(rule)] == [
        ("TCP", ["http"]),
        ("UDP", ["http"]),
        ("SCTP", ["http"]),
    ]


BROKEN = [
    ({"from": []}, "from"),
    ({"from": [{}]}, "from[0]"),
    ({"from": [{"namespaces": {}, "pods": {}}]}, "from[0]"),
    ({"from": [{"networks": ["10.0.0.0/8"]}]}, "from[0].networks"),
    ({"from": [{"namespaces": {"matchLabels": "a"}}]}, "from[0].namespaces.matchLabels"),
    ({"from": [{"pods": {"podSelector": 5}}]}, "from[0].pods.podSelector"),
    ({"from": 5}, "from"),
    ({"protocols": [{"icmp": {}}]}, "protocols[0].icmp"),
    ({"protocols": [{}]}, "protocols[0]"),
    ({"protocols": [{"tcp": {"destinationPort": {"number": 0}}}]}, "protocols[0].tcp.destinationPort"),
    ({"protocols": [{"tcp": {"destinationPort": {}}}]}, "protocols[0].tcp.destinationPort"),
    ({"protocols": [{"tcp": {"sourcePort": {}}}]}, "protocols[0].tcp.sourcePort"),
    (
        {"protocols": [{"udp": {"destinationPort": {"range": {"start": 9, "end": 2}}}}]},
        "protocols[0].udp.destinationPort",
    ),
    ({"name": 5}, "name"),
]


@pytest.mark.parametrize(("part", "field"), BROKEN, ids=[field for _, field in BROKEN])
@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
def test_a_rule_that_cannot_be_converted_closes(part: dict[str, Any], field: str, action: str) -> None:
    """An Accept is left out; a Deny or Pass denies everything; the rules around it stay as they are."""
    good = {"action": "Accept", "from": [ALL]}
    spec, found = failed(ingress=[good, {"action": action, "from": [ALL]} | part, good])
    assert spec is not None
    instead = [] if action == "Accept" else [DENY]
    allow = Rule(action="Allow", source=EVERY_POD)
    assert spec.ingress == [allow, *instead, allow]
    assert found == [(f"spec.ingress[1].{field}", "error")]


def test_an_accept_that_cannot_be_converted_leaves_no_policy_behind() -> None:
    """Nothing remains to be said."""
    assert failed(ingress=[{"action": "Accept", "from": []}])[0] is None


@pytest.mark.parametrize("rule", ["nonsense", {}, {"action": "Fly", "from": [ALL]}, {"action": None}, None])
def test_a_rule_whose_action_cannot_be_told_denies_everything(rule: Any) -> None:
    """It may have been a Deny."""
    spec, found = failed(egress=[rule])
    assert spec is not None
    assert (spec.types, spec.egress) == (["Egress"], [DENY])
    assert found[0][1] == "error"


@pytest.mark.parametrize(
    "spec",
    [
        {"tier": "Middle"},
        {"tier": None},
        {"tier": ["Admin"]},
        {"priority": 1001},
        {"priority": -1},
        {"priority": True},
        {"priority": "1"},
        {"priority": None},
        {"subject": None},
        {"subject": {}},
        {"subject": 5},
        {"subject": {"namespaces": {}, "pods": {}}},
        {"subject": {"pods": {"podSelector": {"matchLabels": 5}}}},
        {"subject": {"nodes": {}}},
    ],
    ids=str,
)
def test_where_nobody_can_tell_for_whom_or_where_it_is_all_rules_close(spec: dict[str, Any]) -> None:
    """For every pod, before all others of its tier: what is not an Accept denies everything."""
    accept, deny = ({"action": action, "from": [ALL]} for action in ("Accept", "Deny"))
    made, found = failed(**spec, ingress=[accept, deny])
    assert made is not None
    assert made.order == -1
    assert (made.tier, made.types, made.ingress) == ("kube-admin", ["Ingress"], [DENY])
    (field,) = spec
    if field == "subject":
        assert (made.selector, made.namespace_selector) == (K8S, "all()")
    assert [severity for _, severity in found] == ["error"]
    assert found[0][0].startswith(f"spec.{field}")
    assert failed(**spec, ingress=[accept])[0] is None


def test_a_spec_that_is_none_denies_everything() -> None:
    """Whatever it was meant to say."""
    (resource,), problems = convert({**policy(), "spec": [5]})
    assert isinstance(resource, GlobalNetworkPolicy)
    assert (resource.spec.ingress, resource.spec.egress) == ([DENY], [DENY])
    assert [each.field for each in problems] == ["spec"]


@pytest.mark.parametrize("field", ["nodes", "domainNames"])
def test_what_kubernetes_knows_and_we_do_not_is_a_warning(field: str) -> None:
    """The object is right; what is missing closes all the same."""
    peer = {field: {} if field == "nodes" else ["example.com"]}
    spec, found = failed(egress=[{"action": "Deny", "to": [peer]}])
    assert spec is not None
    assert spec.egress == [DENY]
    assert found == [(f"spec.egress[0].to[0].{field}", "warning")]
    assert failed(egress=[{"action": "Accept", "to": [peer]}])[0] is None


def test_a_network_has_no_ports_with_names() -> None:
    """Kubernetes forbids it; an Accept of it is left out."""
    rule = {
        "action": "Accept",
        "to": [{"networks": ["10.0.0.0/8"]}],
        "protocols": [{"destinationNamedPort": "http"}],
    }
    assert failed(egress=[rule]) == (None, [("spec.egress[0].protocols", "error")])
