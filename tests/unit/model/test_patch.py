"""Patches: merge, JSON patch and strategic merge, on plain values."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.model.patch import PatchError, json_patch, merge, strategic

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab~/", max_size=3)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("tree", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_does_what_its_rfc_shows(tree: Any, patch: Any, result: Any) -> None:
    """The cases of RFC 7386, appendix A."""
    assert merge(tree, patch) == result


@pytest.mark.parametrize(
    ("tree", "operations", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
        ({"a": 1}, [{"op": "add", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": [2]}], {"a": [2]}),
        ({"a": [1]}, [{"op": "replace", "path": "/a/0", "value": 2}], {"a": [2]}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": {"~c": 1}}, [{"op": "test", "path": "/a~1b/~0c", "value": 1}], {"a/b": {"~c": 1}}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": {"b": 1}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    ],
)
def test_json_patch_knows_all_six_operations(tree: Any, operations: Any, result: Any) -> None:
    """As RFC 6902 says, with pointers as in RFC 6901."""
    assert json_patch(tree, operations) == result


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        ({"op": "remove", "path": "/b"}, "operation 2 of the patch (remove): there is nothing at /b;"),
        ({"op": "replace", "path": "/list/5", "value": 1}, "(replace): there is nothing at /list/5;"),
        ({"op": "replace", "path": "/x/y/z", "value": 1}, "nothing at /x, on the way to /x/y/z;"),
        ({"op": "add", "path": "/list/9", "value": 1}, "/list/9 cannot be added to: above it is a list of 1"),
        ({"op": "add", "path": "/list/01", "value": 1}, "/list/01 cannot be added to"),
        ({"op": "add", "path": "/a/b", "value": 1}, "above it is no mapping or list"),
        ({"op": "test", "path": "/a", "value": 2}, "(test): /a is 1 now, not 2;"),
        ({"op": "test", "path": "/a", "value": True}, "(test): /a is 1 now, not true;"),
        ({"op": "move", "from": "/list", "path": "/list/0"}, "/list/0 lies within /list"),
        ({"op": "copy", "from": "/b", "path": "/c"}, "(copy): there is nothing at /b;"),
        ({"op": "add", "path": "/b"}, "(add): the field 'value' is missing"),
        ({"op": "move", "path": "/b"}, "(move): the field 'from' is missing"),
        ({"op": "add", "path": "b", "value": 1}, "path is 'b'; write a pointer such as /spec/order"),
        ({"op": "merge", "path": "/b"}, "op is 'merge'; it may be add, remove, replace, move, copy, test"),
        ({"path": "/b"}, "op is nothing"),
        ("remove", "'remove' is no operation"),
    ],
)
def test_json_patch_is_all_or_nothing(operation: Any, sentence: str) -> None:
    """An operation that cannot be done is named, with its pointer; what went before it is undone."""
    tree = {"a": 1, "list": [1]}
    with pytest.raises(PatchError) as error:
        json_patch(tree, [{"op": "add", "path": "/new", "value": 1}, operation])
    assert sentence in str(error.value)
    assert str(error.value).startswith("operation 2 of the patch")
    assert str(error.value).endswith("nothing was changed")
    assert tree == {"a": 1, "list": [1]}


def test_a_json_patch_is_a_list() -> None:
    """A merge patch given as a JSON patch is the usual mistake: the sentence shows both ways out."""
    with pytest.raises(PatchError, match=r"list of operations, not a mapping.*another type with -t"):
        json_patch({}, {"spec": {}})


@given(TREES, TREES)
def test_patches_change_nothing_that_they_are_given(tree: Any, patch: Any) -> None:
    """The result is new; tree and patch stay as they were."""
    before = deepcopy((tree, patch))
    merge(tree, patch)
    strategic(tree, patch)
    json_patch({"a": tree}, [{"op": "add", "path": "/b", "value": patch}, {"op": "remove", "path": "/a"}])
    assert (tree, patch) == before


@given(TREES, TREES)
def test_without_directives_and_merged_lists_strategic_is_merge(tree: Any, patch: Any) -> None:
    """Calico's own lists have no merge strategy, so both do the same."""
    assert strategic(tree, patch) == merge(tree, patch)


@pytest.mark.parametrize(
    ("tree", "patch", "result"),
    [
        ({"spec": {"nets": [1]}}, {"spec": {"nets": [2]}}, {"spec": {"nets": [2]}}),
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b", "a"]}},
            {"metadata": {"finalizers": ["a", "b"]}},
        ),
        (
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b"]}},
        ),
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b"], "$setElementOrder/finalizers": ["b", "a"]}},
            {"metadata": {"finalizers": ["b", "a"]}},
        ),
        (
            {"metadata": {"ownerReferences": [{"uid": "1", "name": "x"}]}},
            {"metadata": {"ownerReferences": [{"uid": "1", "kind": "Y"}, {"uid": "2"}]}},
            {"metadata": {"ownerReferences": [{"uid": "1", "name": "x", "kind": "Y"}, {"uid": "2"}]}},
        ),
        (
            {"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "2"}]}},
            {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "1"}]}},
            {"metadata": {"ownerReferences": [{"uid": "2"}]}},
        ),
        (
            {"metadata": {"ownerReferences": [{"uid": "1"}]}},
            {"metadata": {"ownerReferences": [{"$patch": "replace"}, {"uid": "2"}]}},
            {"metadata": {"ownerReferences": [{"uid": "2"}]}},
        ),
        ({"spec": {"a": 1}}, {"spec": {"$patch": "replace", "b": 2}}, {"spec": {"b": 2}}),
        ({"spec": {"a": 1}}, {"spec": {"$patch": "delete"}}, {"spec": {}}),
        ({"spec": {"a": 1, "c": 3}}, {"spec": {"$retainKeys": ["a"], "a": 2}}, {"spec": {"a": 2}}),
    ],
)
def test_strategic_merge_follows_kubernetes(tree: Any, patch: Any, result: Any) -> None:
    """Lists with a strategy are merged, all others replaced; directives are obeyed and never stored."""
    assert strategic(tree, patch) == result


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ({"spec": {"$patch": "destroy"}}, r"spec: \$patch is 'destroy'; it may be replace"),
        ({"spec": {"$retainKeys": "a"}}, r"\$retainKeys is 'a'; a list of fields"),
        ({"metadata": {"ownerReferences": [{"name": "x"}]}}, r"ownerReferences\[0\].*known by its uid"),
    ],
)
def test_a_directive_that_makes_no_sense_is_refused(patch: Any, sentence: str) -> None:
    """The place of the directive is named."""
    with pytest.raises(PatchError, match=sentence):
        strategic({}, patch)
