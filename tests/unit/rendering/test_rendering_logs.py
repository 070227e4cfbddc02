"""What a rule with action Log does: once for each packet, under a prefix that people chose, at most so often."""

from __future__ import annotations

import pytest

from calico.desired import Origin, RuleRow
from calico.model.settings import Settings
from calico.rendering.policy import render_rules, statements
from calico.rendering.sets import FamilySets, Uses
from calico.ruleset import ast
from calico.ruleset.diff import Draft

RED = Origin("NetworkPolicy", "gold", "red", "deny-all", "ingress", 1)
GLOBAL = Origin("GlobalNetworkPolicy", "default", "", "deny-all", "egress", 0)
PROFILE = Origin("Profile", "", "", "kns.red", "egress", 0)


def logged(origin: Origin, **given: object) -> ast.Log:
    """What a Log rule of ``origin`` does under these settings."""
    (log,) = statements(RuleRow("Log", origin), Settings(**given))
    assert isinstance(log, ast.Log)
    return log


@pytest.mark.parametrize(
    ("origin", "written", "prefix"),
    [
        (RED, "calico-packet", "calico-packet: "),
        (RED, "%t %k %n %p", "gold np deny-all red/deny-all: "),
        (GLOBAL, "%t %k %n %p", "default gnp deny-all deny-all: "),
        (PROFILE, "%t|%k %n %p", "|pro kns.red kns.red: "),
        (RED, "100% %x %%n %T", "100% %x %deny-all %T: "),
        (RED, "", ": "),
    ],
)
def test_the_prefix_says_whose_rule_it_is(origin: Origin, written: str, prefix: str) -> None:
    """%t is the tier, %k the kind in short, %n the name, %p the name with its namespace; all else stays as it is."""
    assert logged(origin, log_prefix=written).prefix == prefix


def test_a_name_is_no_pattern() -> None:
    """What stands in for a word is not looked through again."""
    origin = Origin("GlobalNetworkPolicy", "%n", "", "%t", "egress", 0)
    assert logged(origin, log_prefix="%t %n").prefix == "%n %t: "


def test_without_a_rate_every_packet_is_logged() -> None:
    """As Calico does by default; a burst alone limits nothing."""
    assert logged(RED, log_burst=7).rate == ""


def test_a_rate_and_its_burst_reach_each_rule_that_logs() -> None:
    """And no other: what passes or is dropped is never limited."""
    settings = Settings(log_rate="10/minute", log_burst=3)
    assert logged(RED, log_rate="10/minute", log_burst=3) == ast.Log("calico-packet: ", "10/minute", 3)
    for action in ("Allow", "Deny", "Pass"):
        done = statements(RuleRow(action, RED), settings)
        assert not any(isinstance(each, ast.Log) for each in done)


def test_logging_decides_nothing() -> None:
    """The rule behind it meets the same packets."""
    rows = (RuleRow("Log", RED), RuleRow("Deny", RED))
    names = Uses(FamilySets(Draft(4), {}))
    log, deny = render_rules(rows, 4, Settings(log_rate="1/day"), names)
    assert not any(isinstance(each, ast.Drop | ast.Return | ast.SetMark) for each in log.statements)
    assert log.matches == deny.matches == ()
