"""What each verdict leaves behind, and that one odd rule is no reason to fail."""

from __future__ import annotations

from typing import Any

import pytest

from calico.calculation.rules import compile_rules
from calico.desired import Delta, EndpointId, EndpointRow, Origin, PolicyId, PolicyRow, RuleRow, TierRow
from calico.model.address import parse_address
from calico.model.policy import ICMP
from calico.model.settings import Settings
from calico.rendering.policy import render_matches, statements
from calico.rendering.renderer import Renderer
from calico.rendering.sets import FamilySets, Uses
from calico.ruleset import ast
from calico.ruleset.diff import Draft
from support.builders import rule
from support.firewall import Packet, forward

ORIGIN = Origin("GlobalNetworkPolicy", "default", "", "p", "ingress", 0)
SETTINGS = Settings()


def marked(action: Any) -> int:
    """The marks of a packet that met a rule of this action, and had none before."""
    mark = 0
    for statement in statements(RuleRow(action, ORIGIN), SETTINGS):
        if isinstance(statement, ast.SetMark):
            mark = (mark & ~statement.mask) | statement.value
    return mark


def test_passing_on_is_no_accepting() -> None:
    """Each verdict sets its own mark and no other's: a Pass must not look like an Allow to who comes behind."""
    assert {action: marked(action) for action in ("Allow", "Pass", "Deny", "Log")} == {
        "Allow": SETTINGS.accept_mark,
        "Pass": SETTINGS.pass_mark,
        "Deny": 0,
        "Log": 0,
    }
    assert SETTINGS.accept_mark & SETTINGS.pass_mark == 0


def test_a_later_tier_decides_about_what_was_passed_on() -> None:
    """Passed on by the first tier, a packet meets the second as if it were new, whatever marks it came with."""
    pass_, deny = PolicyId("GlobalNetworkPolicy", "", "pass"), PolicyId("GlobalNetworkPolicy", "", "deny")
    tiers = (TierRow("first", "Deny", (pass_,)), TierRow("second", "Pass", (deny,)))
    endpoint = EndpointRow("cali1", (), tiers, (), ("open",))
    for port, allowed in ((80, False), (81, True)):
        denied = compile_rules([rule("Deny", protocol="TCP", destination={"ports": [80]})], [], ORIGIN).row
        renderer = Renderer(SETTINGS)
        renderer.update(
            Delta(
                policies={pass_: PolicyRow((RuleRow("Pass", ORIGIN),), ()), deny: denied},
                profiles={"open": PolicyRow((RuleRow("Allow", ORIGIN),), ())},
                endpoints={EndpointId("WorkloadEndpoint", "ns", "w"): endpoint},
            )
        )
        packet = Packet(
            parse_address("10.0.0.1"),
            parse_address("10.0.0.2"),
            6,
            1000,
            port,
            way_in="eth0",
            way_out="cali1",
            mark=0xFFFFFFFF,
        )
        assert forward(renderer.tables[4], packet) == allowed


@pytest.mark.parametrize(("off", "passes"), [(False, False), (True, True)])
def test_packets_of_no_valid_flow_may_be_let_to_policy(off: bool, passes: bool) -> None:
    """Where answers take another way, connection tracking calls them invalid: an option leaves them to the rules."""
    renderer = Renderer(Settings(disable_conntrack_invalid_check=off))
    renderer.update(
        Delta(
            profiles={"open": PolicyRow((RuleRow("Allow", ORIGIN),), ())},
            endpoints={
                EndpointId("WorkloadEndpoint", "ns", "w"): EndpointRow("cali1", (), (), (), ("open",))
            },
        )
    )
    packet = Packet(
        parse_address("10.0.0.1"),
        parse_address("10.0.0.2"),
        6,
        1000,
        80,
        way_in="eth0",
        way_out="cali1",
        state="invalid",
    )
    assert forward(renderer.tables[4], packet) == passes


def rendered(family: Any, **fields: Any) -> list[tuple[ast.Match, ...]]:
    """The ways in which a rule of these fields matches in a family."""
    row = compile_rules([rule(**fields)], [], ORIGIN).row.ingress[0]
    return render_matches(row, family, Uses(FamilySets(Draft(family), {})))


@pytest.mark.parametrize(
    ("fields", "families"),
    [
        ({"protocol": "ICMP", "icmp": ICMP(type=8)}, [4]),
        ({"protocol": 1, "icmp": ICMP(type=8, code=0)}, [4]),
        ({"protocol": "ICMPv6", "icmp": ICMP(type=128)}, [6]),
        ({"protocol": "ICMPv6", "not_icmp": ICMP(type=128, code=1)}, [6]),
        ({"protocol": "ICMP"}, [4]),
        ({"icmp": ICMP(type=8)}, []),
        ({"protocol": "TCP", "icmp": ICMP(type=8)}, []),
        ({"protocol": "ICMP", "icmp": ICMP(type=8), "ip_version": 6}, []),
        ({"protocol": "ICMP", "source": {"nets": ["fd00::/8"]}}, []),
        ({"not_icmp": ICMP(type=8)}, [4, 6]),
        ({"source": {"nets": ["10.0.0.0/8"]}}, [4]),
        ({"source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["fd00::/8"]}}, []),
        ({"source": {"nets": ["10.0.0.0/8"], "not_nets": ["0.0.0.0/0"]}}, []),
        ({"source": {"not_nets": ["0.0.0.0/0"]}}, [6]),
        ({"ip_version": 4}, [4]),
        ({}, [4, 6]),
    ],
    ids=str,
)
def test_a_rule_is_there_only_in_the_families_that_it_is_about(
    fields: dict[str, Any], families: list[int]
) -> None:
    """A type of the one ICMP never reaches the other family, and what is narrowed to nothing matches nothing."""
    assert [family for family in (4, 6) if rendered(family, **fields)] == families


def test_a_rule_for_one_family_alone_asks_for_something_there() -> None:
    """Filtered by family, a list never becomes "any": the rule still asks for the nets that are left."""
    mixed = {"source": {"nets": ["10.0.0.0/8", "fd00::/8"]}}
    for family in (4, 6):
        [[match]] = rendered(family, **mixed)
        assert isinstance(match, ast.Address)
        assert match.net.family == family
