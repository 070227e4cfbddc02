"""Selectors that nothing satisfies, and those that follow from others."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.analysis.contradiction import contradiction, implies
from calico.model.selector import parse
from calico.model.selector_tree import (
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has,
    In,
    Not,
    NotIn,
    Or,
    StartsWith,
    Unequal,
    predicate_of,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a == 'x' && a == 'y'", 'nothing satisfies both a == "x" and a == "y"'),
        ("has(a) && !has(a)", "nothing satisfies both has(a) and !(has(a))"),
        ("a in {}", "nothing satisfies a in {}"),
        ("!all()", "nothing satisfies !all()"),
        ("a == 'x' && a != 'x'", 'nothing satisfies both a == "x" and a != "x"'),
        ("a == 'x' && !has(a)", 'nothing satisfies both a == "x" and !(has(a))'),
        ("b == '1' && a in {'x', 'y'} && a not in {'x', 'y', 'z'}", None),
        ("a in {'x', 'y'} && a != 'x' && a != 'y'", None),
        ("a starts with 'x' && a == 'yx'", None),
        ("a starts with 'x' && a starts with 'y'", None),
        ("a ends with 'x' && a ends with 'y'", None),
        ("a starts with 'xy' && !(a contains 'x')", None),
        ("a contains 'xy' && !(a contains 'y')", None),
        ("!(a contains '') && has(a)", None),
        ("(a == 'x' || a == 'y') && a == 'z'", "none of its alternatives can be met; of the first"),
        ("!(a != 'x' || b == 'y') && b == 'y'", None),
        ("global() && !global()", None),
    ],
)
def test_what_can_never_match(text: str, reason: str | None) -> None:
    """A contradiction is found, and said in the selector's own words."""
    found = contradiction(parse(text).node)

    assert found is not None
    assert reason is None or found.startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all()",
        "global()",
        "a == 'x' && b == 'y'",
        "a == 'x' || a == 'y'",
        "a != 'x' && a != 'y'",
        "!has(a) && a != 'x'",
        "!has(a) && a not in {'x'}",
        "!has(a) && !(a contains 'x')",
        "a not in {}",
        "a in {'x', 'y'} && a in {'y', 'z'}",
        "a starts with 'x' && a starts with 'xy'",
        "a starts with 'x' && a ends with 'y' && a contains 'z'",
        "a starts with 'ab' && a ends with 'bc' && a == 'abc'",
        "has(a) && a != 'x'",
        "has(a) && !(a contains 'x')",
        "!(a starts with 'x') && a contains 'x'",
        "(a == 'x' && a == 'y') || b == 'z'",
        " && ".join(f"(l{number} == 'x' || m{number} == 'y')" for number in range(20)),
    ],
)
def test_what_may_match(text: str) -> None:
    """A selector that some labels satisfy, or that is too large to be judged, contradicts nothing."""
    assert contradiction(parse(text).node) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a == 'x'", "all()", True),
        ("a == 'x'", "has(a)", True),
        ("a == 'x' && b == 'y'", "a == 'x'", True),
        ("a == 'x'", "a in {'x', 'y'}", True),
        ("a == 'xy'", "a starts with 'x'", True),
        ("a starts with 'xy'", "a starts with 'x'", True),
        ("a == 'x'", "a != 'y'", True),
        ("!has(a)", "a != 'y'", True),
        ("a == 'x'", "a == 'x' || b == 'y'", True),
        ("all()", "a == 'x'", False),
        ("has(a)", "a == 'x'", False),
        ("a == 'x'", "a == 'x' && b == 'y'", False),
        ("a != 'y'", "has(a)", False),
        ("a in {'x', 'y'}", "a == 'x'", False),
        ("a starts with 'x'", "a starts with 'xy'", False),
    ],
)
def test_implications(first: str, second: str, expected: bool) -> None:
    """A selector implies another only if all that it matches is matched by that."""
    assert implies(parse(first).node, parse(second).node) is expected


VALUES = ("", "x", "y", "xy", "yx", "xyx")
_labels, _values = st.sampled_from("ab"), st.sampled_from(VALUES)
_sets = st.lists(_values, max_size=2).map(lambda values: tuple(sorted(set(values))))
_atoms = st.one_of(
    st.just(All()),
    st.just(Global()),
    st.builds(Has, _labels),
    *(st.builds(kind, _labels, _values) for kind in (Equal, Unequal, Contains, StartsWith, EndsWith)),
    *(st.builds(kind, _labels, _sets) for kind in (In, NotIn)),
)
nodes = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.lists(inner, min_size=2, max_size=3).map(tuple).map(kind) for kind in (And, Or)),
    ),
    max_leaves=6,
)


@given(nodes)
def test_no_false_alarms(node) -> None:
    """What is called a contradiction is satisfied by no labels of a small universe."""
    if contradiction(node) is None:
        return
    matches = predicate_of(node)
    for a, b in product((None, *VALUES), repeat=2):
        labels = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        assert not matches(labels)
