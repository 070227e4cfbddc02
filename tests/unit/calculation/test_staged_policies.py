"""Staged policies are never enforced, whatever they say."""

from __future__ import annotations

import pytest

from calico.model.resource import Resource
from calico.model.staged import (
    StagedGlobalNetworkPolicy,
    StagedGlobalPolicySpec,
    StagedNetworkPolicy,
    StagedPolicySpec,
)
from support.builders import endpoint, metadata, policy, rule, tier
from support.world import NOTHING, World


def staged(action: str, *, namespace: str | None = "default") -> Resource:
    """A policy that would deny everything, if it were enforced."""
    fields = {
        "tier": "gold",
        "types": ["Ingress", "Egress"],
        "ingress": [rule("Deny")],
        "staged_action": action,
    }
    if namespace is None:
        return StagedGlobalNetworkPolicy(metadata=metadata("p"), spec=StagedGlobalPolicySpec(**fields))
    return StagedNetworkPolicy(metadata=metadata("p", namespace), spec=StagedPolicySpec(**fields))


@pytest.mark.parametrize("action", ["Set", "Delete", "Learn", "Ignore"])
@pytest.mark.parametrize("namespace", ["default", None])
def test_a_tier_with_staged_policies_only_does_not_count(action: str, namespace: str | None) -> None:
    """Not even its default action: the endpoint is as it was."""
    world = World(endpoint("w", address="10.0.0.1"), tier("gold", 1.0, "Deny"))
    assert world.add(staged(action, namespace=namespace)) == NOTHING
    assert world.order("w") == []


def test_staged_and_enforced_policies_of_one_name_are_two() -> None:
    """A staged deletion deletes nothing, and a staged change changes nothing."""
    world = World(
        endpoint("w", address="10.0.0.1"), tier("gold", 1.0), policy("p", tier="gold", ingress=[rule()])
    )
    before = world.policy("p")
    assert world.add(staged("Delete")) == NOTHING
    assert world.add(staged("Set")) == NOTHING
    assert world.policy("p") == before
