"""Policies of many similar rules: rendered step by step as at once, and a small change is a small change."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.desired import (
    Delta,
    Direction,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
    Verdict,
)
from calico.model.address import Cidr, Family, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from calico.ruleset.diff import applied

POLICIES = [PolicyId("GlobalNetworkPolicy", "", name) for name in ("a", "b")]
ENDPOINT = EndpointId("WorkloadEndpoint", "default", "one")
NETS = [
    parse_cidr(text)
    for text in (
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.0/24",
        "10.0.0.0/8",
        "192.0.2.0/24",
        "fd00::1",
        "fd00::2",
        "fd00::/64",
    )
]
SELECTED = SetInfo("net", "has(x)")
TABLES: tuple[ast.TableFamily, ...] = (4, 6, "arp")


def rule(action: Verdict, index: int = 0, **fields: object) -> RuleRow:
    return RuleRow(action, Origin("GlobalNetworkPolicy", "default", "", "a", "ingress", index), **fields)  # type: ignore[arg-type]


def short(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, min_size=1, max_size=2, unique=True).map(tuple)


ports = st.sampled_from([80, 81, 443]).map(lambda port: (port, port))
sides = st.builds(Side, nets=short(st.sampled_from(NETS)), ports=short(ports) | st.just(()))
rows = st.one_of(
    st.builds(rule, st.sampled_from(["Allow", "Deny"]), protocol=st.just(6), destination=sides),
    st.builds(rule, st.just("Allow"), protocol=st.just(6), destination=sides),
    st.builds(rule, st.sampled_from(["Allow", "Log"]), source=st.just(Side(sets=("s:x",)))),
)
policies = st.builds(PolicyRow, st.lists(rows, max_size=8).map(tuple), st.just(()))
endpoints = st.sampled_from(
    [
        EndpointRow("cali1", (), (TierRow("default", "Deny", names),), (), ())
        for names in ((POLICIES[0],), (POLICIES[1],), tuple(POLICIES))
    ]
)
steps = st.builds(
    Delta,
    set_infos=st.just({"s:x": SELECTED}),
    set_members=st.dictionaries(
        st.builds(SetMember, st.just("s:x"), st.sampled_from(NETS)), st.just(True) | st.none()
    ),
    policies=st.dictionaries(st.sampled_from(POLICIES), policies | st.none()),
    endpoints=st.dictionaries(st.just(ENDPOINT), endpoints | st.none()),
)


@given(st.lists(steps, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_history_of_similar_rules_ends_in_what_a_fresh_start_renders(history: list[Delta]) -> None:
    """Sets of merged rules follow every edit, come and go with their chain, and leave nothing behind."""
    held: dict[str, dict[object, object]] = {"set_members": {}, "policies": {}, "endpoints": {}}
    followed = Renderer(Settings(), least=2)
    mirrors = {family: ast.Table(family) for family in TABLES}
    for step in history:
        for name, table in held.items():
            for key, value in getattr(step, name).items():
                table.pop(key, None)
                if value is not None:
                    table[key] = value
        for change in followed.update(step):
            applied(mirrors[change.family], change)
        assert mirrors == followed.tables

    fresh = Renderer(Settings(), least=2)
    fresh.update(Delta(set_infos={"s:x": SELECTED}, **held))  # type: ignore[arg-type]
    assert followed.tables == fresh.tables
    for family in TABLES:
        used = _used(followed.tables[family])
        assert {
            name for name in followed.tables[family].sets if "masq" not in name and "pools" not in name
        } == used

    followed.update(Delta(**{name: dict.fromkeys(table) for name, table in held.items()}))  # type: ignore[arg-type]
    assert not any(sets._own for sets in followed._sets.values())


def _used(table: ast.Table) -> set[str]:
    return {
        match.set
        for name, chain in table.chains.items()
        for rule in chain.rules
        for match in rule.matches
        if isinstance(match, ast.InSet | ast.PortInSet)
        if name.startswith("cali-pi-")
    }


# --- what a change costs


def policed(count: int) -> tuple[Renderer, list[RuleRow]]:
    """One endpoint with one policy that allows this many sources on one port, and nobody else."""
    rules = [
        rule("Allow", index, protocol=6, source=Side(nets=(net(index),)), destination=Side(ports=((80, 80),)))
        for index in range(count)
    ]
    renderer = Renderer(Settings())
    row = EndpointRow("cali1", (), (TierRow("default", "Deny", (POLICIES[0],)),), (), ())
    renderer.update(Delta(policies={POLICIES[0]: PolicyRow(tuple(rules), ())}, endpoints={ENDPOINT: row}))
    return renderer, rules


def net(index: int, family: Family = 4) -> Cidr:
    return Cidr(family, (10 << 24) + (index << 8), 24)


def change(renderer: Renderer, rules: list[RuleRow]) -> ast.Change:
    changes = renderer.update(Delta(policies={POLICIES[0]: PolicyRow(tuple(rules), ())}))
    return next(changed for changed in changes if changed.family == 4)


def test_one_other_net_among_many_is_one_element_out_and_one_in() -> None:
    """A value that changes in one of a thousand rules changes no chain."""
    renderer, rules = policed(1000)
    rules[500] = rule(
        "Allow", 500, protocol=6, source=Side(nets=(net(5000),)), destination=Side(ports=((80, 80),))
    )
    changed = change(renderer, rules)

    ((name, members),) = changed.members.items()
    assert (changed.chains, changed.sets) == ({}, {})
    assert (members.added, members.removed) == ({net(5000)}, {net(500)})
    assert renderer.tables[4].members[name] == {net(index) for index in range(1000)} - {net(500)} | {
        net(5000)
    }


def test_one_rule_more_among_many_is_one_element_and_one_rule() -> None:
    """A rule that joins a thousand writes its chain, which is one rule long, for the comment counts it."""
    renderer, rules = policed(1000)
    rules.append(
        rule("Allow", 1000, protocol=6, source=Side(nets=(net(1000),)), destination=Side(ports=((80, 80),)))
    )
    changed = change(renderer, rules)

    assert [len(chain.rules) for chain in changed.chains.values() if chain] == [1]
    assert [(members.added, members.removed) for members in changed.members.values()] == [
        ({net(1000)}, set())
    ]


def test_a_rule_of_another_kind_leaves_the_sets_before_it() -> None:
    """What is added behind a run writes the chain, and no element."""
    renderer, rules = policed(1000)
    changed = change(renderer, [*rules, rule("Deny", 1000, protocol=17)])

    assert [len(chain.rules) for chain in changed.chains.values() if chain] == [2]
    assert not changed.members


def test_directions_have_sets_of_their_own() -> None:
    """The same rules on both ways are two sets: a change of one way leaves the other alone."""
    renderer, rules = policed(20)
    both = EndpointRow(
        "cali1",
        (),
        (TierRow("default", "Deny", (POLICIES[0],)),),
        (TierRow("default", "Deny", (POLICIES[0],)),),
        (),
    )
    renderer.update(
        Delta(policies={POLICIES[0]: PolicyRow(tuple(rules), tuple(rules))}, endpoints={ENDPOINT: both})
    )
    directions: tuple[Direction, Direction] = ("ingress", "egress")

    assert len([name for name in renderer.tables[4].sets if name.startswith("cali40m-")]) == len(directions)
