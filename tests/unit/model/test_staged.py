"""Staged policies: what they may say, and what becomes of what they do not say."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model.codec import from_builtins, load, to_yaml
from calico.model.errors import InvalidResources
from calico.model.keys import KINDS, key_of
from calico.model.resource import API_VERSION, Resource
from calico.model.validation import defaulted

TIERED = ("StagedNetworkPolicy", "StagedGlobalNetworkPolicy")
ALL = (*TIERED, "StagedKubernetesNetworkPolicy")


def staged(kind: str, name: str = "web", **spec: Any) -> Resource:
    """A staged policy, read as people's text is."""
    return from_builtins({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})


def wrong(kind: str, name: str = "web", **spec: Any) -> list[str]:
    """The fields that are wrong with it."""
    try:
        staged(kind, name, **spec)
    except InvalidResources as error:
        return [problem.field for problem in error.problems]
    return []


@pytest.mark.parametrize("kind", ALL)
def test_the_usual_action_is_to_set(kind: str) -> None:
    """A staged policy that does not say what it is for is to be set."""
    assert defaulted(staged(kind)).spec.staged_action == "Set"
    assert defaulted(staged(kind, stagedAction="Learn")).spec.staged_action == "Learn"


@pytest.mark.parametrize("kind", ALL)
def test_actions(kind: str) -> None:
    """There are four actions."""
    assert [
        action for action in ("Set", "Delete", "Learn", "Ignore") if wrong(kind, stagedAction=action)
    ] == []
    assert wrong(kind, stagedAction="Add") == ["spec.stagedAction"]


@pytest.mark.parametrize("kind", TIERED)
def test_a_deletion_says_nothing_more(kind: str) -> None:
    """A policy that is to be deleted has no other field than its tier, also when all is filled in."""
    found = wrong(kind, stagedAction="Delete", tier="a", selector="all()", ingress=[{"action": "Deny"}])
    deletion = defaulted(staged(kind, stagedAction="Delete", tier="a"))

    assert found == ["spec.selector", "spec.ingress"]
    assert deletion.spec.types == []
    assert deletion.metadata.labels == {"projectcalico.org/tier": "a"}
    assert load(to_yaml([deletion])) == [deletion]


def test_a_deletion_of_kubernetes_says_nothing_more() -> None:
    """The same holds of a policy of Kubernetes."""
    found = wrong("StagedKubernetesNetworkPolicy", stagedAction="Delete", ingress=[{}])

    assert found == ["spec.ingress"]


@pytest.mark.parametrize("kind", TIERED)
def test_staged_policies_are_judged_like_enforced_ones(kind: str) -> None:
    """What may not be enforced may not be staged either; directions and the tier's label are filled in."""
    found = wrong(kind, "a.b.c", ingress=[{"action": "Allow", "protocol": "tcp"}], types=["Egress", "Egress"])
    complete = defaulted(staged(kind, egress=[{"action": "Allow"}]))

    assert found == ["metadata.name", "spec.types", "spec.ingress[0].protocol"]
    assert complete.spec.types == ["Egress"]
    assert complete.metadata.labels == {"projectcalico.org/tier": "default"}


def test_names() -> None:
    """Names are those of enforced policies; the reserved ones only where policies have namespaces."""
    assert wrong("StagedNetworkPolicy", "knp.default.a.b") == []
    assert wrong("StagedGlobalNetworkPolicy", "knp.default.a.b") == ["metadata.name"]


def test_global_fields() -> None:
    """A staged global policy has the fields of a global one, and their rules."""
    assert wrong("StagedGlobalNetworkPolicy", doNotTrack=True) == ["spec.applyOnForward"]
    assert wrong("StagedNetworkPolicy", doNotTrack=True) == ["spec.doNotTrack"]


def test_policies_of_kubernetes_have_its_schema() -> None:
    """A staged policy of Kubernetes is read as Kubernetes' own, and refused where it could not be converted."""
    good = {
        "podSelector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
        },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}}],
                "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}],
            }
        ],
        "egress": [{"to": [{"namespaceSelector": {}}]}],
    }
    bad = {
        "ingress": [{"from": [{}], "ports": [{"protocol": "ICMP"}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}],
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
    }
    resource = staged("StagedKubernetesNetworkPolicy", **good)

    assert load(to_yaml([resource])) == [resource]
    assert wrong("StagedKubernetesNetworkPolicy", **bad) == [
        "spec.ingress[0].from[0]",
        "spec.egress[0].to[0].ipBlock.cidr",
        "spec.podSelector.matchExpressions[0].values",
    ]


def test_paths() -> None:
    """Each kind has its place in the store."""
    paths = [key_of(defaulted(staged(kind))).path for kind in ALL]

    assert paths == [
        "/calico/resources/v3/projectcalico.org/stagednetworkpolicies/default/web",
        "/calico/resources/v3/projectcalico.org/stagedglobalnetworkpolicies/web",
        "/calico/resources/v3/projectcalico.org/stagedkubernetesnetworkpolicies/default/web",
    ]
    assert all(not [*KINDS[kind].not_done(staged(kind))] for kind in ALL)
