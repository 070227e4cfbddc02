"""Labels: what may be claimed, what is inherited, and that equal ones are one."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.calculation.labels import Interner, cluster_wide, inherit, namespaced
from calico.calculation.matching import ANYWHERE, anchors
from calico.model.selector import parse
from support.strategies import SELECTORS

NAMESPACE = "projectcalico.org/namespace"
ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"


@pytest.mark.parametrize(
    ("labels", "account", "orchestrator", "expected"),
    [
        ({"a": "b"}, "", "", {"a": "b"}),
        ({}, "robot", "k8s", {ACCOUNT: "robot", ORCHESTRATOR: "k8s"}),
        ({"pcns.a": "b", "pcsa.a": "b", "pcn": "kept"}, "", "", {"pcn": "kept"}),
        ({NAMESPACE: "blue", ACCOUNT: "admin"}, "", "", {}),
        ({ORCHESTRATOR: "openstack"}, "", "", {ORCHESTRATOR: "openstack"}),
        ({ORCHESTRATOR: "openstack"}, "", "k8s", {ORCHESTRATOR: "k8s"}),
        ({}, "x" * 63, "", {ACCOUNT: "x" * 63}),
        ({}, "x" * 64, "", {}),
    ],
)
def test_own_labels_cannot_be_forged(labels: dict, account: str, orchestrator: str, expected: dict) -> None:
    """Namespace and account are those of the resource, and prefixed labels do not come from a workload."""
    assert namespaced(labels, "red", account, orchestrator) == {NAMESPACE: "red", **expected}


def test_nothing_cluster_wide_has_a_namespace() -> None:
    """Host endpoints and global sets cannot claim to be in a namespace."""
    assert cluster_wide({NAMESPACE: "red", "a": "b"}) == {"a": "b"}


def test_the_nearest_label_wins() -> None:
    """Own labels before inherited ones, and an earlier profile before a later one."""
    assert inherit({"a": "0"}, [{"a": "1", "b": "1"}, {"b": "2", "c": "2"}]) == {"a": "0", "b": "1", "c": "2"}


def test_equal_labels_are_one_while_somebody_holds_them() -> None:
    """Equal label sets, and equal traits, are the same object; unheld ones are gone."""
    interner = Interner()
    one = interner.traits(interner.labels({"a": "b", "c": "d"}), ("p",), ())
    assert interner.traits(interner.labels({"c": "d", "a": "b"}), ("p",), ()) is one
    assert interner.traits(one.own, (), ()) is not one
    gc.collect()
    assert len(interner) == 2

    del one
    gc.collect()
    assert len(interner) == 0


LABEL_SETS = st.dictionaries(
    st.sampled_from(["app", "role", "pcns.team", NAMESPACE]),
    st.sampled_from(["web", "db", "a", "ab", "x", "red"]),
)


@given(
    st.sampled_from(SELECTORS), st.sampled_from(SELECTORS), st.sampled_from(["&&", "||", "&& !"]), LABEL_SETS
)
def test_anchors_lose_no_match(first: str, second: str, operator: str, labels: dict[str, str]) -> None:
    """Whatever a selector matches fulfils one of its anchors: an index by them misses nothing."""
    selector = parse(f"({first}) {operator} ({second})")
    fulfilled = {ANYWHERE, *labels.items(), *((name,) for name in labels)}
    if selector.matches(labels):
        assert fulfilled.intersection(anchors(selector))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all()", (ANYWHERE,)),
        ("a != 'b'", (ANYWHERE,)),
        ("has(a)", (("a",),)),
        ("a in {'x', 'y'} && has(b)", (("a", "x"), ("a", "y"))),
        ("a in {'x', 'y'} && b == 'z'", (("b", "z"),)),
        (f"a == 'x' && {NAMESPACE} == 'red'", (("a", "x"),)),
        (f"{NAMESPACE} == 'red'", ((NAMESPACE, "red"),)),
        ("a == 'x' && a == 'y'", ()),
    ],
)
def test_the_narrowest_demand_is_the_anchor(selector: str, expected: tuple) -> None:
    """Fewest values first, labels that nearly everything has only where there is no other."""
    assert anchors(parse(selector)) == expected
