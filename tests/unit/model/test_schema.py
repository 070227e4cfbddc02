"""Trees of plain values against the model's types: our findings and msgspec's verdict agree."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.model.codec import from_builtins
from calico.model.errors import InvalidResources
from calico.model.ipam import IPAMBlock
from calico.model.keys import KINDS
from calico.model.resource import API_VERSION, Resource
from calico.model.schema import fitted, misfits, nearest, schema, without_nulls

ENTITY = {
    "nets": ["10.0.0.0/8"],
    "notNets": [],
    "selector": "has(a)",
    "ports": [80, "http"],
    "serviceAccounts": {"names": ["a"], "selector": ""},
    "services": {"name": "s", "namespace": "n"},
}
RULE = {
    "action": "Allow",
    "protocol": "TCP",
    "ipVersion": 4,
    "icmp": {"type": 8, "code": 0},
    "source": ENTITY,
    "destination": ENTITY,
    "http": {"methods": ["GET"], "paths": [{"exact": "/"}]},
}
SPECS = {
    "GlobalNetworkPolicy": {"order": 1.5, "types": ["Ingress"], "ingress": [RULE], "doNotTrack": True},
    "Profile": {"egress": [RULE], "labelsToApply": {"a": "b"}},
    "HostEndpoint": {"node": "n", "ports": [{"name": "a", "protocol": "TCP", "port": 1}]},
    "WorkloadEndpoint": {"ports": [{"name": "a"}], "qosControls": {"dscp": 1, "ingressBurst": "x"}},
    "IPPool": {"cidr": "10.0.0.0/16", "blockSize": 26, "allowedUses": ["Tunnel"]},
    "Node": {
        "bgp": {"asNumber": 1},
        "wireguard": {"interfaceIPv4Address": 3},
        "addresses": [{"address": "a"}],
    },
    "BGPPeer": {"password": {"secretKeyRef": {"name": "a", "key": "b"}}, "nextHopMode": "Self"},
    "BGPConfiguration": {"communities": [{"name": "a", "value": "b"}], "nodeToNodeMeshEnabled": False},
}
TREES = [
    {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": "a", "labels": {"b": "c"}, "finalizers": ["x"]},
        "spec": spec,
    }
    for kind, spec in SPECS.items()
]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 300), st.floats(0, 5), st.text("aA:/.1", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=4,
)


def paths(tree, prefix=()):
    """The path of every value in a tree."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in pairs:
        yield (*prefix, step)
        yield from paths(value, (*prefix, step))


@st.composite
def damaged(draw):
    """A sound tree in which some values were replaced by any others, or moved to fields that do not exist."""
    tree = copy.deepcopy(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from([*paths(tree)]))
        if path[0] in {"apiVersion", "kind"}:
            continue
        parent = tree
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = draw(json_values)
        if isinstance(parent, dict) and draw(st.booleans()):
            parent["unknown"] = parent.pop(path[-1])
    return tree


def accepted(tree):
    try:
        msgspec.convert(tree, KINDS[tree["kind"]])
    except msgspec.ValidationError:
        return False
    return True


@settings(deadline=None)
@given(damaged())
def test_agreement_with_msgspec(tree):
    """We find a misfit exactly where msgspec refuses, and what is fitted has no unknown fields any more."""
    tree = without_nulls(tree)
    found = [misfit.finding for misfit in misfits(tree, schema(KINDS[tree["kind"]]))]
    assert (found == []) is accepted(tree)

    remaining = [*misfits(fitted(tree, schema(KINDS[tree["kind"]])), schema(KINDS[tree["kind"]]))]
    known = [finding for finding in found if not finding.message.startswith("there is no field")]
    assert [misfit.finding for misfit in remaining] == known


@settings(deadline=None)
@given(damaged())
def test_any_tree_is_read_or_refused(tree):
    """Whatever stands in a field, the answer is a resource or a list of problems, each with a sentence."""
    try:
        found, problems = from_builtins(tree), ()
    except InvalidResources as error:
        found, problems = None, error.problems

    assert isinstance(found, Resource) or problems
    assert all(problem.message for problem in problems)


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("ingres", ["Ingress", "Egress"], "did you mean Ingress?"),
        ("EGRESS", ["Ingress", "Egress"], "did you mean Egress?"),
        ("x", ["Ingress", "Egress"], "known are Ingress, Egress"),
    ],
)
def test_nearest(word, known, expected):
    """The most similar word is proposed, or all if none is similar."""
    assert nearest(word, known) == expected


def test_nulls_in_lists_stay():
    """Null is nothing in a mapping, and an entry in a list: a free address of a block is one."""
    tree = {"cidr": "a", "affinity": None, "allocations": [None, 0], "unallocated": [0], "novel": 1}

    assert fitted(without_nulls(tree), schema(IPAMBlock)) == {
        "cidr": "a",
        "allocations": [None, 0],
        "unallocated": [0],
    }
