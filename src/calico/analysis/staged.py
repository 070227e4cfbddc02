"""What the facts would be if everything that is staged were enforced.

In:   all facts, staged policies among them.
Out:  ``enforced``: the facts of that world, and which of its policies stem from which staged one.
Next: ``analysis.explain`` judges the same flow in both worlds, and shows the difference.

Staged policies are judged together, as they would be after the next step, each in the place that it would have: one
that sets a policy replaces the enforced one of its name, one that deletes takes it away, and what is only learned
or ignored changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from msgspec import to_builtins

from calico.desired import PolicyId
from calico.model.keys import Key, key_of
from calico.model.kubernetes_policy import network_policy
from calico.model.policy import GlobalNetworkPolicy, GlobalPolicySpec, NetworkPolicy, PolicySpec
from calico.model.resource import Resource
from calico.model.staged import (
    DEFAULT_ACTION,
    StagedGlobalNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    StagedNetworkPolicy,
)

S = TypeVar("S", bound=PolicySpec)

_CHANGING: Final = ("Set", "Delete")


class Enforced(NamedTuple):
    """The facts as they would be. ``set`` and ``deleted`` say which staged policy would make or take away which."""

    facts: Mapping[Key, Resource]
    set: Mapping[PolicyId, Key]
    deleted: Mapping[PolicyId, Key]


def enforced(facts: Mapping[Key, Resource]) -> Enforced | None:
    """The facts with every staged policy carried out; None where nothing is staged."""
    after = dict(facts)
    made: dict[PolicyId, Key] = {}
    deleted: dict[PolicyId, Key] = {}
    for key in sorted(facts):
        staged = facts[key]
        if not isinstance(
            staged, StagedNetworkPolicy | StagedGlobalNetworkPolicy | StagedKubernetesNetworkPolicy
        ):
            continue
        action = staged.spec.staged_action or DEFAULT_ACTION
        meant = _meant(staged)
        if action not in _CHANGING or meant is None:
            continue
        target = key_of(meant)
        id_ = PolicyId(target.kind, target.namespace, target.name)
        if action == "Delete":
            after.pop(target, None)
            deleted[id_] = key
        else:
            after[target] = meant
            made[id_] = key
    return Enforced(after, made, deleted) if made or deleted else None


def _meant(
    staged: StagedNetworkPolicy | StagedGlobalNetworkPolicy | StagedKubernetesNetworkPolicy,
) -> Resource | None:
    """The policy that a staged one would be."""
    match staged:
        case StagedNetworkPolicy():
            return NetworkPolicy(metadata=staged.metadata, spec=_spec(staged.spec, PolicySpec))
        case StagedGlobalNetworkPolicy():
            return GlobalNetworkPolicy(metadata=staged.metadata, spec=_spec(staged.spec, GlobalPolicySpec))
        case _:
            spec = to_builtins(staged.spec)
            spec.pop("stagedAction", None)
            metadata = {"name": staged.metadata.name, "namespace": staged.metadata.namespace or "default"}
            made = network_policy({"metadata": metadata, "spec": spec}).resources
            return made[0] if made else None


def _spec(spec: PolicySpec, of: type[S]) -> S:
    """The part of a staged policy's spec that the enforced one has."""
    return of(**{name: getattr(spec, name) for name in of.__struct_fields__ if hasattr(spec, name)})
