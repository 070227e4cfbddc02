"""How far selectors reach (behaviour reference 3.4)."""

from __future__ import annotations

import pytest

from calico.calculation.scope import Scope
from calico.model.policy import GlobalPolicySpec, PolicySpec, ServiceAccountMatch
from calico.model.selector import parse
from support.builders import side

OWN = 'projectcalico.org/namespace == "red"'
NAMESPACED = "has(projectcalico.org/namespace)"
NAMED = 'projectcalico.org/serviceaccount in {"a", "b"}'


@pytest.mark.parametrize(
    ("fields", "in_namespace", "global_"),
    [
        ({}, None, None),
        ({"nets": ["10.0.0.0/8"]}, None, None),
        ({"ports": ["http"]}, None, None),
        ({"selector": "app == 'x'"}, f'app == "x" && {OWN}', 'app == "x"'),
        ({"selector": "all()"}, OWN, "all()"),
        ({"selector": "a == 'x' || b == 'y'"}, f'(a == "x" || b == "y") && {OWN}', 'a == "x" || b == "y"'),
        ({"not_selector": "app == 'x'"}, OWN, None),
        ({"service_accounts": ServiceAccountMatch(names=["b", "a"])}, f"{NAMED} && {OWN}", NAMED),
        (
            {"service_accounts": ServiceAccountMatch(selector="all()")},
            f"has(projectcalico.org/serviceaccount) && {OWN}",
            "has(projectcalico.org/serviceaccount)",
        ),
        (
            {"service_accounts": ServiceAccountMatch(names=["a", "b"], selector="role == 'x'")},
            f'{NAMED} && pcsa.role == "x" && {OWN}',
            f'{NAMED} && pcsa.role == "x"',
        ),
        ({"namespace_selector": "all()"}, NAMESPACED, NAMESPACED),
        ({"namespace_selector": "global()"}, f"!{NAMESPACED}", f"!{NAMESPACED}"),
        ({"namespace_selector": "team == 'x'"}, 'pcns.team == "x"', 'pcns.team == "x"'),
        (
            {"namespace_selector": "!has(team) || all()"},
            f"!has(pcns.team) || {NAMESPACED}",
            f"!has(pcns.team) || {NAMESPACED}",
        ),
        (
            {"namespace_selector": "team == 'x'", "selector": "app == 'y'"},
            'app == "y" && pcns.team == "x"',
            'app == "y" && pcns.team == "x"',
        ),
        (
            {"namespace_selector": "global()", "selector": "app == 'y'"},
            f'app == "y" && !{NAMESPACED}',
            f'app == "y" && !{NAMESPACED}',
        ),
    ],
    ids=str,
)
def test_a_side_of_a_rule(fields: dict, in_namespace: str | None, global_: str | None) -> None:
    """What a rule's selectors mean in a policy of namespace red, and in a global one."""
    for namespace, expected in (("red", in_namespace), ("", global_)):
        assert Scope(namespace).entity(side(fields)) == (None if expected is None else parse(expected))


def test_not_selector_is_not_narrowed() -> None:
    """What a side excludes is taken as written; it is ANDed with what the side selects."""
    assert list(Scope("red").excluded(side({"not_selector": "app == 'x'"}))) == [parse("app == 'x'")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (PolicySpec(), OWN),
        (PolicySpec(selector="app == 'x'"), f'app == "x" && {OWN}'),
        (
            PolicySpec(service_account_selector="role == 'x'"),
            f'pcsa.role == "x" && {OWN}',
        ),
        (PolicySpec(service_account_selector="all()"), f"has(projectcalico.org/serviceaccount) && {OWN}"),
    ],
)
def test_a_policy_of_a_namespace_stays_in_it(spec: PolicySpec, expected: str) -> None:
    """A NetworkPolicy selects endpoints of its own namespace only."""
    assert Scope("red").policy(spec) == (parse(expected), [])


def test_a_global_policy_may_select_namespaces() -> None:
    """A GlobalNetworkPolicy selects everything, unless its selectors of namespaces and accounts say otherwise."""
    assert Scope("").policy(GlobalPolicySpec()) == (parse("all()"), [])
    spec = GlobalPolicySpec(selector="app == 'x'", service_account_selector="r == 's'")
    assert Scope("").policy(spec, "team == 'y'") == (
        parse("app == 'x' && pcns.team == 'y' && pcsa.r == 's'"),
        [],
    )
    assert Scope("").policy(GlobalPolicySpec(), "all()") == (parse(NAMESPACED), [])


def test_a_broken_selector_selects_too_much() -> None:
    """What can be read still narrows the policy; what cannot does not."""
    spec = GlobalPolicySpec(selector="app ==", service_account_selector="global()")
    selector, problems = Scope("").policy(spec, "team == 'y'")
    assert selector == parse("pcns.team == 'y'")
    assert [problem.partition(":")[0] for problem in problems] == ["selector", "serviceAccountSelector"]
