"""What still closes of a stored value that cannot be decoded: missing information denies.

In:   a key and the bytes at it, which ``codec.decode`` has refused.
Out:  a resource that is at least as closed as whatever was meant, or None where absence is the closed side;
      of an object of Kubernetes what it would stand for.
Next: ``datastore.resync`` hands it on in the place of what cannot be read, and reports it.

Behaviour reference 3.7 takes an invalid resource for deleted. For a workload endpoint or a profile that closes; but
a policy that vanishes opens what it denied, as do a host endpoint and a set that rules deny. So of a policy all that
can be read keeps its place (tier, order, selectors, directions) and its rules become one: deny. A BGP configuration that
vanishes would let the mesh come up without its password.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from calico.model.address import AddressError, parse_cidr
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPassword
from calico.model.cluster import ClusterInformation, ClusterInformationSpec
from calico.model.endpoint import HostEndpoint, HostEndpointSpec
from calico.model.felix import FelixConfiguration, FelixConfigurationSpec
from calico.model.keys import KINDS, Key
from calico.model.networkset import GlobalNetworkSet, NetworkSet, NetworkSetSpec
from calico.model.policy import (
    DEFAULT_TIER,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    PolicyType,
    Rule,
    Tier,
    TierSpec,
)
from calico.model.resource import Metadata, Resource, kind_word

FIRST: Final = -1e300
"""The order of a policy whose place cannot be read: before all others of its tier."""


def salvaged(key: Key, value: bytes) -> Resource | None:
    """What stands in for the unreadable ``value`` at ``key``; None: nothing, for its absence closes already."""
    make = _MAKERS.get(key.kind)
    if make is None:
        return None
    try:
        tree = msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        tree = None
    return make(key, tree if isinstance(tree, dict) else {})


def _network_policy(key: Key, tree: Mapping[str, Any]) -> Resource:
    return NetworkPolicy(metadata=_metadata(key, tree), spec=PolicySpec(**_policy(tree)))


def _global_policy(key: Key, tree: Mapping[str, Any]) -> Resource:
    spec = GlobalPolicySpec(**_policy(tree), namespace_selector=_text(_spec(tree), "namespaceSelector"))
    return GlobalNetworkPolicy(metadata=_metadata(key, tree), spec=spec)


def _policy(tree: Mapping[str, Any]) -> dict[str, Any]:
    spec = _spec(tree)
    order = spec.get("order", None if spec else FIRST)
    types: list[PolicyType] = [each for each in ("Ingress", "Egress") if each in _items(spec, "types")]
    return {
        "tier": _text(spec, "tier") or DEFAULT_TIER,
        "order": order if order is None or _is_number(order) else FIRST,
        "selector": _text(spec, "selector"),
        "service_account_selector": _text(spec, "serviceAccountSelector"),
        "types": types or ["Ingress", "Egress"],
        "ingress": [Rule(action="Deny")],
        "egress": [Rule(action="Deny")],
    }


def _host_endpoint(key: Key, tree: Mapping[str, Any]) -> Resource | None:
    """Of an endpoint whose host is known, the interface if it can be read, else all of them; without profiles it denies."""
    spec = _spec(tree)
    node = _text(spec, "node")
    if not node:
        return None
    addresses = [text for text in _items(spec, "expectedIPs") if _is_net(text)]
    name = _text(spec, "interfaceName") or ("" if addresses else "*")
    return HostEndpoint(
        metadata=_metadata(key, tree),
        spec=HostEndpointSpec(node=node, interface_name=name, expected_ips=addresses),
    )


def _network_set(key: Key, tree: Mapping[str, Any]) -> Resource:
    nets = [text for text in _items(_spec(tree), "nets") if _is_net(text)]
    kind = NetworkSet if key.kind == "NetworkSet" else GlobalNetworkSet
    return kind(metadata=_metadata(key, tree), spec=NetworkSetSpec(nets=nets))


def _tier(key: Key, tree: Mapping[str, Any]) -> Resource:
    """A tier keeps its place; what reaches its end is denied."""
    order = _spec(tree).get("order")
    spec = TierSpec(order=order if _is_number(order) else None, default_action="Deny")
    return Tier(metadata=_metadata(key, tree), spec=spec)


def _kubernetes_policy(key: Key, tree: Mapping[str, Any]) -> Resource:
    """Whom a policy of Kubernetes isolates, as far as it can be read; nothing gets through."""
    kept = {name: value for name, value in _spec(tree).items() if name in {"podSelector", "policyTypes"}}
    return _converted(key, {"policyTypes": ["Ingress", "Egress"], **kept})


def _cluster_policy(key: Key, tree: Mapping[str, Any]) -> Resource:
    """A cluster-wide policy keeps its place and its directions; a rule about nobody denies everything."""
    spec = _spec(tree)
    kept = {name: value for name, value in spec.items() if name in {"tier", "priority", "subject"}}
    rules = {name: [{"action": "Deny"}] for name in ("ingress", "egress") if name in spec or not spec}
    return _converted(key, {**kept, **rules})


def _converted(key: Key, spec: Mapping[str, Any]) -> Resource:
    """What an object with this spec becomes; its conversion never fails, and closes what is strange."""
    from calico.model.kubernetes import convert

    kind = KINDS[key.kind]
    metadata = {"name": key.name, "namespace": key.namespace}
    (policy,) = convert(
        {"apiVersion": kind.API_VERSION, "kind": kind_word(kind), "metadata": metadata, "spec": spec}
    ).resources
    return policy


def _felix(key: Key, tree: Mapping[str, Any]) -> Resource:
    """Settings do not close or open as such: each that can be read counts, the others are not given."""
    metadata = _metadata(key, tree)
    if isinstance(of_tree := tree.get("metadata"), dict):
        metadata = replace(metadata, creation_timestamp=_text(of_tree, "creationTimestamp") or None)
    spec = msgspec.convert(_readable(tree, FelixConfigurationSpec), FelixConfigurationSpec)
    return FelixConfiguration(metadata=metadata, spec=spec)


def _bgp(key: Key, tree: Mapping[str, Any]) -> Resource:
    """Each setting that can be read counts; a mesh that cannot be told from none is none, a password is one that nobody has."""
    given, readable = _spec(tree), _readable(tree, BGPConfigurationSpec)
    lost = given.keys() - readable.keys()
    spec = msgspec.convert(readable, BGPConfigurationSpec)
    if "nodeToNodeMeshEnabled" in lost:
        spec = replace(spec, node_to_node_mesh_enabled=False)
    if "nodeMeshPassword" in lost or not given:
        spec = replace(spec, node_mesh_password=BGPPassword())
    return BGPConfiguration(metadata=_metadata(key, tree), spec=spec)


def _readable(tree: Mapping[str, Any], spec: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a ``spec`` that can be read, each for itself."""
    found = {}
    for name, value in _spec(tree).items():
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert({name: value}, spec)
            found[name] = value
    return found


def _cluster(key: Key, tree: Mapping[str, Any]) -> Resource:
    """A store that says anything but true of its being ready is locked."""
    spec = _spec(tree)
    ready = spec["datastoreReady"] is True if "datastoreReady" in spec else None
    return ClusterInformation(
        metadata=_metadata(key, tree), spec=ClusterInformationSpec(datastore_ready=ready)
    )


_MAKERS: Final[dict[str, Callable[[Key, Mapping[str, Any]], Resource | None]]] = {
    "BGPConfiguration": _bgp,
    "ClusterInformation": _cluster,
    "ClusterNetworkPolicy": _cluster_policy,
    "FelixConfiguration": _felix,
    "GlobalNetworkPolicy": _global_policy,
    "GlobalNetworkSet": _network_set,
    "HostEndpoint": _host_endpoint,
    "KubernetesNetworkPolicy": _kubernetes_policy,
    "NetworkPolicy": _network_policy,
    "NetworkSet": _network_set,
    "Tier": _tier,
}


def _metadata(key: Key, tree: Mapping[str, Any]) -> Metadata:
    metadata = tree.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return Metadata(
        name=key.name,
        namespace=key.namespace or None,
        labels={name: text for name, text in labels.items() if isinstance(text, str)}
        if isinstance(labels, dict)
        else {},
    )


def _spec(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = tree.get("spec")
    return spec if isinstance(spec, dict) else {}


def _text(spec: Mapping[str, Any], field: str) -> str:
    text = spec.get(field)
    return text if isinstance(text, str) else ""


def _items(spec: Mapping[str, Any], field: str) -> list[str]:
    items = spec.get(field)
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_net(text: str) -> bool:
    try:
        parse_cidr(text)
    except AddressError:
        return False
    return True
