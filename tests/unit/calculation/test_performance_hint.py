"""performanceHints: what hosts keep ready for policies that may be needed there."""

from __future__ import annotations

from support.builders import elsewhere, endpoint, policy
from support.world import World


def test_a_policy_with_a_hint_is_at_hand_where_nobody_needs_it() -> None:
    """AssumeNeededOnEveryNode: its rules and sets are there on every host; whom it selects does not change."""
    hinted = policy(
        "p", selector="app == 'db'", source="app == 'web'", performance_hints=["AssumeNeededOnEveryNode"]
    )
    world = World(endpoint("web", elsewhere, labels={"app": "web"}, address="10.0.0.7"), endpoint("other"))
    delta = world.add(hinted)
    assert [id_.name for id_ in delta.policies] == ["p"]
    assert {member.member.address for member in world.state.set_members} == {"10.0.0.7"}
    assert world.order("other") == []

    delta = world.add(endpoint("db", labels={"app": "db"}, address="10.0.0.8"))
    assert world.order("db") == [("default", ["p"])]
    assert delta.set_members == delta.policies == {}

    world.remove("p")
    assert (world.state.policies, world.state.set_members) == ({}, {})


def test_a_policy_without_the_hint_waits_until_it_is_needed() -> None:
    """A host does nothing for policies that select none of its endpoints."""
    world = World(endpoint("other"), policy("p", selector="app == 'db'", source="all()"))
    assert (world.state.policies, world.state.set_infos) == ({}, {})
