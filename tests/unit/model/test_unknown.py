"""Fields that only a newer writer knows stay when something known changes."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.model import codec
from calico.model.ipam import BlockAffinity
from calico.model.keys import key_of
from calico.model.kubernetes_kinds import KubernetesObject
from calico.model.node import Node
from calico.model.policy import NetworkPolicy
from calico.model.resource import Resource
from calico.model.schema import schema
from calico.model.unknown import carried, carried_bytes
from support.strategies import steps

POLICY = schema(NetworkPolicy)
NODE = schema(Node)
NEW = "fromTomorrow"


def policy(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "NetworkPolicy", "spec": {"tier": "default", "ingress": list(rules), **spec}}


def test_unknown_fields_stay_at_every_depth() -> None:
    """Beside the spec, in it, and in the metadata; the kind and what is known follow the new value."""
    before = {
        "kind": "NetworkPolicy",
        "x": 1,
        "metadata": {"name": "a", "y": 2},
        "spec": {"order": 1, "z": [3]},
    }
    after = {"kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": {"order": 2}}
    assert carried(before, after, POLICY) == {
        "kind": "NetworkPolicy",
        "x": 1,
        "metadata": {"name": "a", "y": 2},
        "spec": {"order": 2, "z": [3]},
    }


def test_a_known_field_that_is_gone_stays_gone() -> None:
    """With all that was in it, known or not."""
    before = {"spec": {"bgp": {"asNumber": 1, NEW: 1}}}
    assert carried(before, {"spec": {}}, NODE) == {"spec": {}}


def test_a_rule_keeps_its_unknown_fields_wherever_it_moves() -> None:
    """A rule is the same if all that we know of it is, written out or left to defaults."""
    old = policy({"action": "Allow", "source": {}, NEW: 1}, {"action": "Deny", "protocol": "TCP", NEW: 2})
    new = policy({"action": "Log"}, {"action": "Deny", "protocol": "TCP"}, {"action": "Allow"})
    assert carried(old, new, POLICY) == policy(
        {"action": "Log"}, {"action": "Deny", "protocol": "TCP", NEW: 2}, {"action": "Allow", NEW: 1}
    )


def test_a_rule_that_changed_is_another_rule() -> None:
    """What an unknown field means for the new one, nobody can say."""
    old = policy({"action": "Allow", NEW: 1})
    assert carried(old, policy({"action": "Deny"}), POLICY) == policy({"action": "Deny"})


def test_equal_items_stay_in_place_one_each() -> None:
    """Of twins each keeps its own, and a third gets nothing."""
    old = policy({"action": "Allow", NEW: 1}, {"action": "Allow", NEW: 2})
    new = policy({"action": "Allow"}, {"action": "Allow"}, {"action": "Allow"})
    assert [rule.get(NEW) for rule in carried(old, new, POLICY)["spec"]["ingress"]] == [1, 2, None]


def test_items_with_an_identity_are_known_by_it() -> None:
    """An address whose type changes is still that address."""
    old = {"spec": {"addresses": [{"address": "10.0.0.1", "type": "InternalIP", NEW: 1}]}}
    new = {"spec": {"addresses": [{"address": "10.0.0.2"}, {"address": "10.0.0.1", "type": "ExternalIP"}]}}
    assert carried(old, new, NODE)["spec"]["addresses"] == [
        {"address": "10.0.0.2"},
        {"address": "10.0.0.1", "type": "ExternalIP", NEW: 1},
    ]


def test_what_does_not_fit_is_passed_over() -> None:
    """A stored value of another shape has nothing to give."""
    new = policy({"action": "Allow"})
    for old in (None, [], "x", {"spec": 1}, {"spec": {"ingress": {}}}, policy({"action": "Defer", NEW: 1})):
        assert carried(old, new, POLICY) == new


def test_bytes_without_anything_unknown_are_left_alone() -> None:
    """The usual case costs one reading, and changes no byte; so does a value that is no JSON."""
    after = codec.encode(
        codec.from_builtins({"apiVersion": "projectcalico.org/v3", **policy(), "metadata": {"name": "a"}})
    )
    for before in (after, b"{", b"", b'{"kind":"NetworkPolicy"}'):
        assert carried_bytes(before, after, NetworkPolicy) is after
    assert json.loads(carried_bytes(b'{"kind":"NetworkPolicy","x":1}', after, NetworkPolicy))["x"] == 1


def _mark(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Put an unknown field into every mapping of a struct that a policy or an endpoint has; where they are."""
    places = []
    if isinstance(tree, dict) and not {"labels", "annotations", "labelsToApply"} & set(path[-1:]):
        for key, value in list(tree.items()):
            places += _mark(value, (*path, key))
        tree[NEW] = list(path)
        places.append(path)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            places += _mark(value, (*path, index))
    return places


def _tree(resource: Resource) -> dict[str, Any]:
    return json.loads(codec.encode(resource))


@settings(max_examples=60, deadline=None)
@given(steps(max_size=4), st.data())
def test_whatever_is_stored_nothing_unknown_is_lost_and_nothing_known_changes(
    made: list[Any], data: Any
) -> None:
    """Written back unchanged, all marks are there; written over by any other, what we decode is the other."""
    for _, resource in made:
        if resource is None or isinstance(resource, KubernetesObject):  # all below their fields is known
            continue
        others = [each for _, each in made if type(each) is type(resource)]
        kind = schema(type(resource))
        marked = _tree(resource)
        _mark(marked)
        assert carried(marked, _tree(resource), kind) == marked

        other = data.draw(st.sampled_from(others))
        before = deepcopy(marked)
        result = carried(marked, _tree(other), kind)
        assert marked == before
        key = key_of(other)
        assert codec.decode(key, json.dumps(result).encode(), 1) == codec.decode(key, codec.encode(other), 1)
        assert result[NEW] == []
        assert result["metadata"][NEW] == ["metadata"]


def test_records_of_ipam_keep_what_they_do_not_know() -> None:
    """Their types tolerate unknown fields; none is lost all the same."""
    before = b'{"state":"pending","deleted":false,"x":1}'
    assert json.loads(carried_bytes(before, b'{"state":"confirmed"}', BlockAffinity)) == {
        "state": "confirmed",
        "x": 1,
    }
