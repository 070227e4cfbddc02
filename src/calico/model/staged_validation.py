"""What is wrong with staged policies (behaviour reference 1.3).

In:   one staged policy, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings of the whole resource.

A staged policy must be right in all that the enforced one must be: it is meant to become one.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import to_builtins

from calico.model import policy_validation
from calico.model.errors import Finding, Findings, Path
from calico.model.kubernetes_policy import network_policy
from calico.model.policy import TieredPolicy
from calico.model.staged import (
    LabelSelector,
    StagedGlobalPolicySpec,
    StagedKubernetesNetworkPolicy,
    StagedKubernetesPolicySpec,
    StagedPolicySpec,
)


def policy(resource: TieredPolicy, spec: StagedPolicySpec | StagedGlobalPolicySpec) -> Findings:
    """A staged policy of Calico."""
    yield from policy_validation.policy(resource)
    yield from _deletion(spec)


def kubernetes_policy(resource: StagedKubernetesNetworkPolicy) -> Findings:
    """A staged policy of Kubernetes: one that can be converted."""
    spec = to_builtins(resource.spec)
    spec.pop("stagedAction", None)
    conversion = network_policy({"metadata": {"name": resource.metadata.name or "a"}, "spec": spec})
    for problem in conversion.problems:
        remedy, _, _ = problem.remedy.partition("; until then")  # nothing is enforced here
        yield Finding(problem.path, problem.message, remedy)
    for path, selector in _selectors(resource.spec):
        for index, each in enumerate(selector.match_expressions):
            if (each.operator in {"In", "NotIn"}) != bool(each.values):
                yield Finding(
                    (*path, "matchExpressions", index, "values"),
                    f"{each.operator} has {'no ' if not each.values else ''}values",
                    "In and NotIn compare with values, Exists and DoesNotExist with none",
                )
    yield from _deletion(resource.spec)


def _selectors(spec: StagedKubernetesPolicySpec) -> Iterator[tuple[Path, LabelSelector]]:
    yield ("spec", "podSelector"), spec.pod_selector
    sides = (
        ("ingress", "from", [rule.sources for rule in spec.ingress]),
        ("egress", "to", [rule.destinations for rule in spec.egress]),
    )
    for way, side, rules in sides:
        for index, peers in enumerate(rules):
            for number, peer in enumerate(peers):
                where: Path = ("spec", way, index, side, number)
                for name, selector in (
                    ("podSelector", peer.pod_selector),
                    ("namespaceSelector", peer.namespace_selector),
                ):
                    if selector is not None:
                        yield (*where, name), selector


def _deletion(spec: StagedPolicySpec | StagedGlobalPolicySpec | StagedKubernetesPolicySpec) -> Findings:
    """Whoever wants a policy gone has nothing more to say of it."""
    if spec.staged_action != "Delete":
        return
    for name, value in to_builtins(spec).items():
        if name not in {"stagedAction", "tier"} and value:
            yield Finding(
                ("spec", name),
                "a policy that is to be deleted has no such field",
                "remove it, or stagedAction",
            )
