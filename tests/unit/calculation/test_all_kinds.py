"""The calculation and the kinds: every valid resource may be among its facts, and staged policies decide nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings

from calico.model.keys import KINDS
from calico.model.resource import Metadata, Resource
from calico.model.staged import (
    StagedGlobalNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    StagedKubernetesPolicySpec,
    StagedNetworkPolicy,
)
from support.builders import endpoint, here
from support.resource_strategies import one_of_each
from support.world import NOTHING, World


@settings(
    max_examples=5,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(one_of_each())
def test_any_valid_resource_is_a_fact(resources: list[Resource]) -> None:
    """One resource of each kind comes, and goes again; the world is what it was."""
    world = World(endpoint("web", here))
    world.add(*resources)

    world.remove(*(resource.place()[0] for resource in resources))

    assert world.network.settle() == NOTHING
    assert len(resources) == len(KINDS)


def test_staged_policies_decide_nothing() -> None:
    """A staged policy that selects an endpoint and allows nothing changes nothing for it."""
    world = World(endpoint("web", here, namespace="red"))
    metadata = Metadata(name="staged", namespace="red")

    delta = world.add(
        StagedNetworkPolicy(metadata=metadata),
        StagedGlobalNetworkPolicy(metadata=Metadata(name="staged")),
        StagedKubernetesNetworkPolicy(metadata=metadata, spec=StagedKubernetesPolicySpec()),
    )

    assert delta == NOTHING
    assert not world.network.problems
