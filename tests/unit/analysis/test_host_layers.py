"""What a world says of flows that begin or end at a host, by the layers of its endpoint's policy."""

from __future__ import annotations

from typing import Any

import pytest

from calico.analysis.evaluate import Verdict
from calico.analysis.world import World
from calico.model.keys import key_of
from support.builders import here, host_endpoint, policy, rule

OUTSIDE, HOST = "192.0.2.77", "172.16.0.1"
EARLY = {"do_not_track": True, "apply_on_forward": True}
BEFORE = {"pre_dnat": True, "apply_on_forward": True}


def into(*policies: Any, interface: str = "eth0", **flow: Any) -> Verdict:
    """What the host endpoint, whose profile allows nothing, says to a flow from outside."""
    return _asked(policies, interface, OUTSIDE, HOST, flow).ingress


def out(*policies: Any, interface: str = "eth0", **flow: Any) -> Verdict:
    """What it says to a flow of its host's."""
    return _asked(policies, interface, HOST, OUTSIDE, flow).egress


def _asked(policies: Any, interface: str, source: str, destination: str, flow: dict[str, Any]) -> Any:
    resources = [host_endpoint("h", here, interface=interface, address=HOST), *policies]
    world = World({key_of(each): each for each in resources})
    return world.decide(source=source, destination=destination, protocol="UDP", **flow)


def on(port: int, action: str = "Allow") -> Any:
    return rule(action, protocol="UDP", destination={"ports": [port]})


def early(name: str, *rules: Any, **hook: Any) -> Any:
    return policy(name, namespace=None, types=["Ingress"], ingress=rules, **hook)


def names(verdict: Verdict) -> list[tuple[str, str]]:
    return [(step.name, step.action) for step in verdict.trail]


@pytest.mark.parametrize("hook", [EARLY, BEFORE], ids=["untracked", "pre-dnat"])
def test_an_early_layer_decides_for_the_later_ones(hook: dict[str, bool]) -> None:
    """What it allows or denies normal policy is not asked about; what it does not mention is left to that."""
    first = early("first", on(53), on(54, "Deny"), **hook)
    normal = early("normal", on(54), on(55))

    assert names(into(first, normal, port=53)) == [("first", "Allow")]
    assert names(into(first, normal, port=54)) == [("first", "Deny")]
    assert names(into(first, normal, port=55)) == [("normal", "Allow")]
    assert names(into(first, normal, port=56)) == [("default", "Deny")]


def test_untracked_comes_before_pre_dnat() -> None:
    """Of two early layers the one before connection tracking is asked first."""
    policies = early("raw", on(53), **EARLY), early("door", on(53, "Deny"), **BEFORE)
    assert names(into(*policies, port=53)) == [("raw", "Allow")]


def test_an_endpoint_for_all_interfaces_has_no_untracked_policy() -> None:
    """There it is ignored, while policy before destination NAT counts."""
    assert not into(early("raw", on(53), **EARLY), interface="*", port=53).allowed
    assert into(early("door", on(53), **BEFORE), interface="*", port=53).allowed


def test_what_leaves_meets_untracked_policy_only_before_normal() -> None:
    """A policy without types that acts before destination NAT says nothing about what goes out."""
    closed = policy("door", namespace=None, **BEFORE)
    raw = policy("raw", namespace=None, types=["Egress"], egress=[on(99)], **EARLY)
    assert names(out(closed, raw, port=99)) == [("raw", "Allow")]
    assert names(out(closed, raw, port=98)) == [("", "Deny")]


def test_failsafe_ports_come_before_every_layer() -> None:
    """An early Deny does not close them; before connection tracking their answers are exempt as well."""
    shut = [early(name, rule("Deny"), **hook) for name, hook in (("raw", EARLY), ("door", BEFORE))]
    assert names(into(*shut, port=68)) == [("h", "Allow")]
    assert names(into(*shut, port=67)) == [("raw", "Deny")]
    assert names(into(shut[0], early("normal", on(1053)), port=1053, source_port=53)) == [("normal", "Allow")]
