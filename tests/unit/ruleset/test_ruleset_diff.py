from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from calico.model.address import Cidr
from calico.ruleset import ast
from calico.ruleset.diff import Draft, applied, diff

KEYS = st.sampled_from(["a", "b", "c"])
ADDRESSES = st.integers(0, 4).map(lambda value: Cidr(4, value, 32))
CHAINS = st.sampled_from([ast.Chain(()), ast.Chain((ast.Rule((), (ast.Drop(),)),))])
VERDICTS = st.sampled_from([ast.Drop(), ast.Goto("a")])


@st.composite
def tables(draw: st.DrawFn) -> ast.Table:
    sets = draw(st.dictionaries(KEYS, st.sampled_from([ast.Set("address"), ast.Set("net")])))
    return ast.Table(
        4,
        chains=draw(st.dictionaries(KEYS, CHAINS)),
        sets=sets,
        members={name: draw(st.sets(ADDRESSES)) for name in sets},
        maps=draw(st.dictionaries(KEYS, st.dictionaries(KEYS, VERDICTS))),
    )


@given(tables(), tables())
def test_a_difference_leads_from_one_to_the_other(old: ast.Table, new: ast.Table) -> None:
    """Applying the difference gives the new table, twice as well as once; equal tables differ in nothing."""
    change = diff(old, new)

    assert bool(change) == (old != new)
    once = applied(copy.deepcopy(old), change)
    assert once == new
    assert applied(once, change) == new


def edit(draft: Draft, kind: str, key: str, value: object) -> None:
    """One edit, where the draft's rules allow it."""
    table = draft.table
    match kind, value:
        case "chain", (ast.Chain() | None) as chain:
            draft.put_chain(key, chain)
        case "set", ast.Set() as info if key not in table.sets:
            draft.put_set(key, info, [Cidr(4, 0, 32)])
        case "unset", _ if key in table.sets:
            draft.drop_set(key)
        case "member", (Cidr() as member, bool() as present) if key in table.sets:
            draft.put_member(key, member, present=present)
        case "map", _ if key not in table.maps:
            draft.put_map(key)
        case "entry", (str() as interface, verdict) if key in table.maps:
            draft.put_entry(key, interface, verdict)
        case _:
            pass


EDITS = st.one_of(
    st.tuples(st.just("chain"), KEYS, st.none() | CHAINS),
    st.tuples(st.just("set"), KEYS, st.sampled_from([ast.Set("address"), ast.Set("net")])),
    st.tuples(st.just("unset"), KEYS, st.none()),
    st.tuples(st.just("member"), KEYS, st.tuples(ADDRESSES, st.booleans())),
    st.tuples(st.just("map"), KEYS, st.none()),
    st.tuples(st.just("entry"), KEYS, st.tuples(KEYS, st.none() | VERDICTS)),
)


@given(st.lists(st.lists(EDITS, max_size=12), max_size=5))
def test_a_draft_reports_what_a_comparison_would_find(rounds: list[list[tuple[str, str, object]]]) -> None:
    """However often something is edited to and fro, the change is the difference between before and after."""
    draft = Draft(4)
    mirror = ast.Table(4)
    for edits in rounds:
        before = copy.deepcopy(draft.table)
        for kind, key, value in edits:
            edit(draft, kind, key, value)
        change = draft.take()
        assert change == diff(before, draft.table)
        assert applied(mirror, change) == draft.table
