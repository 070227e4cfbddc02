"""Valid resources of every kind by chance: made from the types alone, so kinds that come later are covered, too.

A tree is drawn that fits the kind's type, with words that mean something somewhere; then what the kind's own
rules find wrong is cut out, branch by branch, until nothing is. Fields whose absence would leave too little
are always there (``ALWAYS``), and words that only one field understands stand in ``WORDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from hypothesis import assume
from hypothesis import strategies as st
from msgspec import inspect

from calico.model.errors import Path
from calico.model.ipam_kinds import VIEWS
from calico.model.keys import KINDS
from calico.model.resource import Metadata, Resource, kind_word
from calico.model.schema import misfits, schema
from calico.model.validation import defaulted, problems_of

Draw = Callable[[st.SearchStrategy[Any]], Any]

FIELDS_AT_ONCE: Final = 6
"""How many fields of a struct are given besides those that it cannot do without."""
CUTS: Final = 60
"""After how many cuts a tree is given up."""

label: Final = st.from_regex(r"[a-z][a-z0-9]{0,3}(-[a-z0-9]{1,3})?", fullmatch=True)
anything: Final = st.text(max_size=8)
cidr: Final = st.sampled_from(["10.0.0.0/26", "10.1.0.0/16", "192.0.2.0/31", "fd00::/122", "fd00:1::/64"])
address: Final = st.sampled_from(["10.0.0.1", "192.0.2.7", "fd00::1", "2001:db8::7"])
word: Final = st.sampled_from(
    [
        *("a", "web", "b.c", "node-1", "default", "eth0", "cali*", "http", "TCP", "UDP", "8080", "1:10", "64512", "1.10"),
        *("10.0.0.0/8", "10.0.0.1/32", "fd00::/64", "fd00::1/128", "10.0.0.1", "fd00::1", "224.0.0.1", "[fd00::1]:179"),
        *("all()", "has(a)", "a == 'b'", "app in {'x', 'y'}", "10:20", "1:2:3", "5m0s", "90s", "1m", "1.5", "10"),
        *("true", "Info", "Debug", "Enabled", "Disabled", "Auto", "Always", "None", "Accept", "IPv4", "iptables"),
        *("ee:ee:ee:ee:ee:ee", "2026-01-02T03:04:05Z", "Ingress", "v1.2.3", "0123456789abcdef0123456789abcdef"),
        *("host:node-1", "tcp:10.0.0.0/8:22", "udp:53", "EF", "0.0.0.0", "/a", "GET"),
    ]
)  # fmt: skip
number: Final = st.sampled_from(
    [0, 1, 2, 4, 6, 10, 22, 26, 64, 100, 122, 1000, 8080, 64512, 65535, 10**6, 2**31 - 2]
)
tree: Final = st.recursive(
    st.booleans() | number | st.floats(-4, 4) | word | anything,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(label, inner, max_size=2),
    max_leaves=5,
)
"""What stands where anything may stand. Null does not: it says the same as nothing."""

NAMES: Final = {
    "BGPConfiguration": st.sampled_from(["default", "node.a"]),
    "FelixConfiguration": st.sampled_from(["default", "node.a", "workers"]),
}
"""The names of kinds that allow fewer than DNS does."""

WORDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "AddCommunity.value": st.sampled_from(["10:20", "1:2:3"]),
    "AddressBlock.cidr": cidr,
    "AddressBlock.except": st.just([]),
    "BGPConfigurationSpec.communities": st.just([{"name": "a", "value": "10:20"}]),
    "BGPConfigurationSpec.prefixAdvertisements": st.just(
        [{"cidr": "10.0.0.0/8", "communities": ["a", "1:2:3"]}]
    ),
    "BGPPeerSpec.peerIP": st.sampled_from(["10.0.0.1", "fd00::1", "10.0.0.1:1790", "[fd00::1]:179"]),
    "BGPPeerSpec.password": st.just({"secretKeyRef": {"name": "a", "key": "b"}}),
    "BlockAffinitySpec.cidr": cidr,
    "BlockAffinitySpec.node": label,
    "CalicoNodeStatusSpec.node": label,
    "CalicoNodeStatusSpec.classes": st.sampled_from([["BGP"], ["Agent", "BGP", "Routes"]]),
    "ClusterNetworkPolicy.spec": st.fixed_dictionaries(
        {
            "tier": st.sampled_from(["Admin", "Baseline"]),
            "priority": st.integers(0, 1000),
            "subject": st.just({"namespaces": {}}),
        },
        optional={"later": tree},
    ),
    "FilterRule.cidr": cidr,
    "HTTPPath.exact": st.just("/a"),
    "IPAMBlockSpec.allocations": st.lists(st.none() | st.just(0), max_size=3),
    "IPAMBlockSpec.cidr": cidr,
    "IPAMHandleSpec.block": st.dictionaries(cidr, number, max_size=2),
    "IPPoolSpec.cidr": cidr,
    "LabelRequirement.values": st.just(["x"]),
    "LiveMigrationSpec.source": st.just({"workload": {"orchestratorID": "k8s", "workloadID": "a/b"}}),
    "LiveMigrationSpec.target": st.one_of(
        st.just({"selector": "has(a)"}),
        st.just(
            {
                "workloadEndpoint": {
                    "hostname": "node-1",
                    "orchestratorID": "openstack",
                    "workloadID": "a/b",
                    "endpointID": "c",
                }
            }
        ),
    ),
    "PolicyPeer.ipBlock": st.just({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}),
    "PrependASPath.prefix": st.lists(st.sampled_from([1, 64512, "1.10"]), min_size=1, max_size=3),
    "WorkloadEndpointSpec.endpoint": label,
    "WorkloadEndpointSpec.interfaceName": st.sampled_from(["cali1", "tap-2"]),
    "WorkloadEndpointSpec.ipNetworks": st.sampled_from([["10.0.0.1/32"], ["10.0.0.1/32", "fd00::1/128"]]),
    "WorkloadEndpointSpec.ipNATs": st.just([{"internalIP": "10.0.0.1", "externalIP": "192.0.2.7"}]),
    "WorkloadEndpointSpec.node": label,
    "WorkloadEndpointSpec.orchestrator": st.sampled_from(["k8s", "cni", "openstack", "libnetwork"]),
    "WorkloadEndpointSpec.containerID": label,
    "WorkloadEndpointSpec.pod": label,
    "WorkloadEndpointSpec.workload": label,
}
"""By ``struct.field``: the words of fields for which those of ``word`` are too rarely right."""

ALWAYS: Final = frozenset(
    {
        *(f"CalicoNodeStatusSpec.{name}" for name in ("node", "classes", "updatePeriodSeconds")),
        *("BGPPeerSpec.peerIP", "BlockAffinitySpec.cidr", "BlockAffinitySpec.node", "HostEndpointSpec.interfaceName"),
        *("IPAMBlockSpec.cidr", "IPAMBlockSpec.attributes", "IPAMHandleSpec.handleID"),
        *("LiveMigrationSpec.source", "LiveMigrationSpec.target"),
        *(f"WorkloadEndpointSpec.{name}" for name in ("node", "orchestrator", "endpoint", "interfaceName", "ipNetworks")),
        *(f"WorkloadEndpointSpec.{name}" for name in ("pod", "containerID", "workload")),
    }
)  # fmt: skip
"""Fields that are optional to the type, but without which too few resources would be valid."""


@st.composite
def resources(draw: Draw, kind: type[Resource]) -> Resource:
    """A valid resource of ``kind``, with all filled in that clients fill in."""
    made: dict[str, Any] = {"apiVersion": kind.API_VERSION, "kind": kind_word(kind)}
    described = schema(kind)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        if field.encode_name == "metadata":
            made["metadata"] = _metadata(draw, kind)
        elif field.encode_name != "apiVersion" and (field.encode_name == "spec" or draw(st.booleans())):
            made[field.encode_name] = _field(draw, kind.__name__, field)
    for _ in range(CUTS):
        lacking = [misfit.finding.path[:-1] for misfit in misfits(made, described)]
        if not lacking:
            found = defaulted(msgspec.convert(made, kind))
            wrong = [finding.path for finding in problems_of(found)]
            if not wrong:
                return found
        for path in lacking or wrong:
            _cut(made, path)
        assume("metadata" in made)
    assume(False)  # gives this one up
    raise AssertionError


def one_of_each() -> st.SearchStrategy[list[Resource]]:
    """A valid resource of every kind that there is."""
    return st.tuples(*map(resources, KINDS.values())).map(list)


def _metadata(draw: Draw, kind: type[Resource]) -> dict[str, Any]:
    """Metadata with a name, which is cut out like all that is wrong where it has to be made of the spec."""
    metadata: dict[str, Any] = {"name": kind.ONLY or draw(NAMES.get(kind.__name__, label))}
    if kind.__name__ in VIEWS:
        return metadata  # a record has no room for more
    if kind.NAMESPACED and draw(st.booleans()):
        metadata["namespace"] = draw(label)
    for field in _struct(Metadata).fields:
        if field.encode_name not in {"name", "namespace", "resourceVersion"} and draw(st.integers(0, 3)) == 0:
            metadata[field.encode_name] = _field(draw, "Metadata", field)
    return metadata


def _struct(of: type) -> inspect.StructType:
    described = schema(of)
    assert isinstance(described, inspect.StructType)
    return described


def _field(draw: Draw, struct: str, field: inspect.Field) -> Any:
    name = f"{struct}.{field.encode_name}"
    return draw(WORDS[name]) if name in WORDS else _value(draw, field.type)


def _value(draw: Draw, of: inspect.Type) -> Any:
    """A value of the type."""
    match of:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return draw(st.sampled_from(extra["enum"])) if extra and "enum" in extra else _value(draw, inner)
        case inspect.StructType():
            return _mapping(draw, of)
        case inspect.ListType(item_type=item):
            return [_value(draw, item) for _ in range(draw(st.integers(0, 2)))]
        case inspect.DictType(value_type=value):
            return {key: _value(draw, value) for key in draw(st.lists(label, max_size=2, unique=True))}
        case inspect.UnionType(types=types):
            return _value(
                draw, draw(st.sampled_from([t for t in types if not isinstance(t, inspect.NoneType)]))
            )
        case inspect.LiteralType(values=values):
            return draw(st.sampled_from(values))
        case inspect.BoolType():
            return draw(st.booleans())
        case inspect.IntType():
            return draw(number)
        case inspect.FloatType():
            return draw(number | st.floats(-(10**6), 10**6))
        case inspect.StrType():
            return draw(word | anything)
        case inspect.AnyType():
            return draw(tree)
    raise AssertionError(f"nobody has said how to make a {of}")


def _mapping(draw: Draw, of: inspect.StructType) -> dict[str, Any]:
    name = of.cls.__name__
    fields = {field.encode_name: field for field in of.fields}
    needed = [key for key, field in fields.items() if field.required or f"{name}.{key}" in ALWAYS]
    others = [key for key in fields if key not in needed]
    chosen = draw(st.lists(st.sampled_from(others), max_size=FIELDS_AT_ONCE, unique=True)) if others else []
    return {key: _field(draw, name, fields[key]) for key in (*needed, *chosen)}


def _cut(tree: Any, path: Path) -> None:
    """Remove what is at ``path``; what is above it, if there is nothing."""
    place, step = None, None
    for each in path:
        inside = each in tree if isinstance(tree, dict) else isinstance(tree, list) and each < len(tree)
        if not inside:
            break
        place, step, tree = tree, each, tree[each]
    if place is not None and step is not None:
        del place[step]
