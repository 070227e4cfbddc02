"""What stores may hold, by chance: resources of every kind, records of IPAM, and keys that nobody knows."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from calico.model.keys import KINDS, Key
from calico.model.resource import kind_word

_NAMES = st.sampled_from(["a", "b", "web.shop", "x-1"])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    _TEXT,
    st.sampled_from(
        ["", "no", "010", "1e3", "~", "<<", "=", "a && b", "- a", "#", "===\n", "===\n===\n", "2001-01-01"]
    ),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_RESOURCE_KINDS = [
    kind for name, kind in KINDS.items() if name not in {"IPAMBlock", "BlockAffinity", "IPAMHandle"}
]


@st.composite
def resources(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a value of a kind that we know, with whatever in its fields, written in one of several ways."""
    kind = draw(st.sampled_from(_RESOURCE_KINDS))
    name, namespace = draw(_NAMES), draw(st.sampled_from(["red", "blue"])) if kind.NAMESPACED else ""
    metadata = {"name": name, "uid": draw(_TEXT), "annotations": {"a": draw(_TEXT)}}
    if namespace:
        metadata["namespace"] = namespace
    tree = {
        "kind": kind_word(kind),
        "apiVersion": kind.API_VERSION,
        "metadata": metadata,
        "spec": draw(_TREES),
    }
    if draw(st.booleans()):
        tree["status"] = draw(_TREES)
    text = json.dumps(tree, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):  # as Go writes it
        text = text.replace("&", "\\u0026").replace("<", "\\u003c")
    return Key(kind.__name__, name, namespace).path, text.encode()


_RECORDS = st.tuples(
    st.sampled_from(
        [
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
            "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-26",
            "/calico/ipam/v2/handle/h1",
            "/calico/ipam/v2/config",
        ]
    ),
    st.one_of(
        st.just(b""),
        st.dictionaries(_TEXT, _TREES, max_size=3).map(lambda tree: json.dumps(tree).encode()),
    ),
)
_RAW = st.tuples(
    st.sampled_from(
        [
            "/calico/unknown",
            "/calico/dhcp/v2/no-region/subnet/1",
            "/calico/felix/v2/no-region/host/n1/last_reported_status",
            "/calico/resources/v3/projectcalico.org/newkinds/a",
            "/calico/resources/v3/projectcalico.org/tiers/a",
            "/calico/resources/v3/projectcalico.org/networkpolicies/red/b",
        ]
    ),
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"null", b"{}", b'{"a":1,"a":2}', b'{"a":NaN}', b'"\\ud800"', b"[" * 5000, b'{"a":1e999}']
        ),
    ),
)

CLUSTER = (
    "/calico/resources/v3/projectcalico.org/clusterinformations/default",
    b'{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u",'
    b'"creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"clusterGUID":"deadbeef","datastoreReady":false}}',
)
"""A locked cluster."""

contents = st.lists(st.one_of(resources(), _RECORDS, _RAW), max_size=8).map(dict)
"""Paths and values."""

locked_contents = contents.map(lambda content: {**content, CLUSTER[0]: CLUSTER[1]})
"""The same, of a locked store."""
