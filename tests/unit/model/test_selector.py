"""The selector language: reading, meaning, canonical text, identity, rewriting."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.model.errors import ModelError, SelectorError
from calico.model.selector import ALL, GLOBAL, Selector, conjunction, from_tree, parse
from calico.model.selector_tree import (
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has,
    In,
    LabelRestriction,
    Node,
    Not,
    NotIn,
    Or,
    StartsWith,
    Unequal,
    quote,
    walk,
)

MEANING = [
    ('a == "b"', {}, False),
    ('a != "b"', {}, True),
    ('!a == "b"', {}, True),
    ('!a == "b" && has(c)', {}, False),
    ('!a == "b" && has(c)', {"c": "1"}, True),
    ('!(a == "b" && has(c))', {"a": "b"}, True),
    ('a in {"x","y"}', {}, False),
    ('a not in {"x","y"}', {}, True),
    ('a not in {"x"}', {"a": "x"}, False),
    ('a notin {"x"}', {"a": "y"}, True),
    ("a in {}", {"a": ""}, False),
    ("a not in {}", {"a": "x"}, True),
    ('a in {"x",}', {"a": "x"}, True),
    ('a in{"x"}', {"a": "x"}, True),
    ("has(a)", {"a": ""}, True),
    ('a == ""', {}, False),
    ('a == ""', {"a": ""}, True),
    ('a contains ""', {"a": "zz"}, True),
    ('a contains ""', {}, False),
    ('!a contains "x"', {}, True),
    ('a startswith"pre"', {"a": "prefix"}, True),
    ('a starts   with "pre"', {"a": "apre"}, False),
    ('a ends with ""', {}, False),
    ('a endswith "fix"', {"a": "prefix"}, True),
    ("", {}, True),
    (" \t ", {}, True),
    ("!all()", {"a": "b"}, False),
    ("all( )", {"a": "1"}, True),
    ("has( a )", {"a": "1"}, True),
    ('a == "x" || b == "y" && c == "z"', {"a": "x"}, True),
    ('(a == "x" || b == "y") && c == "z"', {"a": "x"}, False),
    ("!! ! has(a)", {"a": "1"}, False),
    ('a == "it\'s"', {"a": "it's"}, True),
    ("a == 'x\"y'", {"a": 'x"y'}, True),
    ('k8s-app.io/na_me-1 == "v"', {"k8s-app.io/na_me-1": "v"}, True),
    ('-x == "1"', {"-x": "1"}, True),
    ('in in {"a"}', {"in": "a"}, True),
    ('has == "1"', {"has": "1"}, True),
    ('contains contains "c"', {"contains": "abc"}, True),
    ('a in {"\'", \'"\', "c"}', {"a": "'"}, True),
    ('a in {"\'", \'"\', "c"}', {"a": '"'}, True),
    ("global()", {"projectcalico.org/namespace": "x"}, True),
    ('a == "{\n\u00e9"', {"a": "{\n\u00e9"}, True),
    ("\thas(a)\t||\thas(b)\t", {"b": ""}, True),
]


@pytest.mark.parametrize(("text", "labels", "expected"), MEANING)
def test_meaning(text, labels, expected):
    """Each form means what the language says, also on labels that are missing or empty."""
    assert parse(text).matches(labels) is expected


INVALID = [
    ("a", 2),
    ("a b", 3),
    ("!", 2),
    ("()", 2),
    ("all", 4),
    ('a = "x"', 3),
    ('a === "x"', 5),
    ("a == b", 6),
    ('"x" == a', 1),
    ('a == "x" & b == "y"', 10),
    ('a == "x" and b == "y"', 10),
    ('a == "x" &&', 12),
    ("has (a)", 5),
    ("all ()", 5),
    ("has()", 5),
    ('has("a")', 5),
    ("has(a b)", 7),
    ('a !in {"x"}', 3),
    ('a in "x"', 6),
    ("a in {,}", 7),
    ('a in {"x" "y"}', 11),
    ('a in {"x",,}', 11),
    ("a inx", 3),
    ('a in-x {"b"}', 3),
    ('a starts "x"', 3),
    ('a == "x', 6),
    ('(a == "x"', 10),
    ('a == "x")', 9),
    ('all() == "x"', 7),
    ('a == "x"\n', 9),
    ('a\n== "x"', 2),
    ('\u00e9t\u00e9 == "x"', 1),
    ("x" * 513 + ' == "x"', 1),
    ("has(" + "x" * 513 + ")", 5),
    ("(" * 2000 + "has(a)" + ")" * 2000, 102),
    ("%", 1),
    ("!" * 3 + ")", 4),
]


@pytest.mark.parametrize(("text", "column"), INVALID)
def test_refusal(text, column):
    """What is no selector is refused, at the column where it stops making sense."""
    with pytest.raises(SelectorError) as caught:
        parse(text)

    assert caught.value.column == column
    assert caught.value.selector == text
    assert f"column {column}: {caught.value.reason}" in str(caught.value)


def test_longest_label():
    """A label may have 512 characters."""
    assert parse("x" * 512 + ' == "1"').matches({"x" * 512: "1"})


def test_long_chains_do_not_exhaust_the_stack():
    """Thousands of alternatives and negations are read, printed and evaluated."""
    selector = parse(" || ".join(f'a == "{index}"' for index in range(5000)))

    assert selector.matches({"a": "4999"})
    assert not selector.matches({"a": "5000"})
    assert parse("!" * 5001 + "has(a)") == parse("!has(a)")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('a = "x"', "write '=='"),
        ("app", "has(app) asks for its presence"),
        ("has (a)", "the bracket of has() follows it directly"),
        ('a == "x"\n', "a line break"),
        ("a == b", "found 'b' where a value in quotes was expected"),
        ("(has(a)", "found the end where ')' was expected, to close '('"),
    ],
)
def test_refusals_help(text, reason):
    """A refusal says what was found and what would be right."""
    with pytest.raises(SelectorError) as caught:
        parse(text)

    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "all()"),
        ("! (has( b)||! has(a ))", "!(has(b) || !has(a))"),
        ("a in {'z','x', 'z'}", 'a in {"x", "z"}'),
        ("a startswith '\"'", "a starts with '\"'"),
        ("a notin {}", "a not in {}"),
        ("((has(a) && has(b)) && has(c))", "((has(a) && has(b)) && has(c))"),
        ("!(!has(a))", "has(a)"),
    ],
)
def test_canonical_text(text, canonical):
    """Selectors that differ in spelling alone have one text, are equal, and are one object."""
    selector = parse(text)

    assert str(selector) == canonical
    assert selector == parse(canonical)
    assert selector is parse(canonical)
    assert hash(selector) == hash(parse(canonical))


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        ('!(a == "b" && !c != "d")', "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w"),
    ],
)
def test_identity(text, uid):
    """The uid is the one that Calico gives to the same selector."""
    assert parse(text).uid == uid


def test_equality_is_by_canonical_text():
    """A selector equals no text, and no selector that says something else."""
    assert parse("has(a)") != "has(a)"
    assert parse("has(a)") != parse("has(b)")
    assert repr(parse("has( a )")) == "parse('has(a)')"


def test_copies_are_equal():
    """A selector, and the refusal of one, survive pickling and copying."""
    selector = parse('a == "b" || has(c)')

    assert pickle.loads(pickle.dumps(selector)) == selector
    assert copy.deepcopy(selector) == selector
    error = pickle.loads(pickle.dumps(SelectorError("a", 2, "because")))
    assert (error.selector, error.column, error.reason) == ("a", 2, "because")


def test_prefixed():
    """Rewriting for namespaces renames every label and nothing else."""
    selector = parse('!a == "x" && (has(b) || c in {"y"} || all()) && global()')

    assert (
        str(selector.prefixed("pcns."))
        == '(!pcns.a == "x" && (has(pcns.b) || pcns.c in {"y"} || all()) && global())'
    )


def test_conjunction():
    """A conjunction is flat, keeps the order, leaves all() out, and is all() itself when nothing remains."""
    a, b, both = parse("has(a)"), parse("has(b)"), parse("has(c) && has(d)")

    assert conjunction() is ALL
    assert conjunction(ALL, ALL) is ALL
    assert conjunction(ALL, a) is a
    assert str(conjunction(a, both, ALL, b)) == "(has(a) && has(c) && has(d) && has(b))"
    assert str(conjunction(parse("has(a) || has(b)"), b)) == "((has(a) || has(b)) && has(b))"


def test_walk():
    """Walking meets every node, parents first."""
    node = parse("!has(a) && (global() || all())").node

    assert list(walk(node)) == [
        node,
        Not(Has("a")),
        Has("a"),
        Or((Global(), All())),
        Global(),
        All(),
    ]
    assert GLOBAL.node == Global()


def test_quotes():
    """A value with both kinds of quotes can not be written, and says so."""
    assert quote("it's") == '"it\'s"'
    with pytest.raises(ModelError, match="both kinds of quotes"):
        quote("'\"")


def one_of(*values):
    return LabelRestriction(present=True, values=frozenset(values))


PRESENT, ABSENT = LabelRestriction(present=True), LabelRestriction(absent=True)


@pytest.mark.parametrize(
    ("text", "restrictions"),
    [
        ("all()", {}),
        ("!all()", {}),
        ("has(a)", {"a": PRESENT}),
        ("!has(a)", {"a": ABSENT}),
        ('a == "x"', {"a": one_of("x")}),
        ('a != "x"', {}),
        ('!a != "x"', {"a": one_of("x")}),
        ('a in {"x", "y"}', {"a": one_of("x", "y")}),
        ('!a not in {"x"}', {"a": one_of("x")}),
        ('a contains "x"', {"a": PRESENT}),
        ('!a contains "x"', {}),
        ('a == "x" && has(b)', {"a": one_of("x"), "b": PRESENT}),
        ('a == "x" || has(b)', {}),
        ('a == "x" || a == "y" && has(b)', {"a": one_of("x", "y")}),
        ('a == "x" || has(a)', {"a": PRESENT}),
        ('a in {"x", "y"} && a in {"y", "z"}', {"a": one_of("y")}),
        ('has(a) && a == "x"', {"a": one_of("x")}),
        ("!(has(a) || !has(b))", {"a": ABSENT, "b": PRESENT}),
        ("has(a) && !has(a)", {"a": LabelRestriction(present=True, absent=True)}),
        ("a in {}", {"a": one_of()}),
        ('a in {} || a == "x"', {"a": one_of("x")}),
        ("a in {} || b in {}", {"a": one_of()}),
        ("!has(a) || !has(a) && has(b)", {"a": ABSENT}),
    ],
)
def test_restrictions(text, restrictions):
    """A selector tells what it demands of single labels, and whether that can be met at all."""
    selector = parse(text)

    assert selector.restrictions() == restrictions
    assert selector.restrictions() is selector.restrictions()


labels = st.sampled_from(["a", "b", "in", "has", "x.y/z-1"])
values = st.sampled_from(["", "x", "y", "xy", "it's", 'say "x"', "\n{"])
leaves: st.SearchStrategy[Node] = st.one_of(
    st.builds(All),
    st.builds(Global),
    st.builds(Has, labels),
    *(st.builds(kind, labels, values) for kind in (Equal, Unequal, Contains, StartsWith, EndsWith)),
    *(
        st.builds(kind, labels, st.sets(values, max_size=3).map(lambda found: tuple(sorted(found))))
        for kind in (In, NotIn)
    ),
)


def _negated(node: Node) -> Node:
    return node.operand if isinstance(node, Not) else Not(node)


nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(_negated),
        st.lists(inner, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
        st.lists(inner, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
    ),
    max_leaves=8,
)
label_sets = st.dictionaries(labels, values)


@given(nodes)
def test_text_says_the_same(node):
    """The canonical text of any tree is read as that very tree."""
    selector = from_tree(node)

    assert parse(str(selector)) == selector
    assert parse(str(selector)).node == node


def _truth(node: Node, of: dict[str, str]) -> bool:
    """The meaning, word for word."""
    match node:
        case All() | Global():
            return True
        case Has(label):
            return label in of
        case Equal(label, value):
            return label in of and of[label] == value
        case Unequal(label, value):
            return label not in of or of[label] != value
        case Contains(label, value):
            return label in of and value in of[label]
        case StartsWith(label, value):
            return label in of and of[label].startswith(value)
        case EndsWith(label, value):
            return label in of and of[label].endswith(value)
        case In(label, allowed):
            return label in of and of[label] in allowed
        case NotIn(label, refused):
            return label not in of or of[label] not in refused
        case Not(operand):
            return not _truth(operand, of)
        case And(operands):
            return all(_truth(operand, of) for operand in operands)
        case Or(operands):
            return any(_truth(operand, of) for operand in operands)


@given(nodes, label_sets)
def test_compiled_means_the_same(node, of):
    """The compiled predicate agrees with the meaning spelled out, and prefixing with prefixed labels."""
    selector = from_tree(node)

    assert selector.matches(of) is _truth(node, of)
    assert selector.prefixed("p.").matches({f"p.{label}": value for label, value in of.items()}) is _truth(
        node, of
    )


def _meets(of: dict[str, str], selector: Selector) -> bool:
    for label, demand in selector.restrictions().items():
        if (demand.present and label not in of) or (demand.absent and label in of):
            return False
        if demand.values is not None and of.get(label) not in demand.values:
            return False
    return True


@given(nodes, label_sets)
def test_restrictions_hold_wherever_it_matches(node, of):
    """An index built on restrictions misses no match."""
    selector = from_tree(node)

    assert not selector.matches(of) or _meets(of, selector)
    if any(demand.impossible for demand in selector.restrictions().values()):
        assert not selector.matches(of)


@given(st.text(alphabet="ab=!&|(){}\"', inhas", max_size=12))
def test_any_text_is_read_or_refused(text):
    """No text makes the parser fail in another way than refusing it within the text."""
    try:
        selector = parse(text)
    except SelectorError as error:
        selector, column = ALL, error.column
    else:
        column = 1

    assert parse(str(selector)) is selector
    assert 1 <= column <= len(text) + 1
