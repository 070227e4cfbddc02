"""What is wrong with a resource beyond its types, and what a client fills in (behaviour reference 1).

In:   one resource, of any kind, well typed.
Out:  ``problems_of``: everything that is wrong with it; ``defaulted``: the resource as it is to be stored.
Next: ``model.codec`` turns findings into ``Problem`` with line and column; clients store the defaulted resource.

Only the resource itself is looked at. What depends on other facts (does the tier exist, do pools
overlap) is for whoever can see them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from calico.model import checks
from calico.model.address import AddressError, parse_cidr
from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.endpoint_validation import host_endpoint, workload_endpoint
from calico.model.errors import Finding, Findings, Path
from calico.model.names import BadName, EndpointName
from calico.model.network_validation import BLOCK_SIZES, bgp_configuration, bgp_peer, node, pool
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.node import Node
from calico.model.policy import (
    DEFAULT_TIER_ORDER,
    GlobalNetworkPolicy,
    NetworkPolicy,
    PolicySpec,
    Profile,
    Tier,
)
from calico.model.policy_validation import BUILT_IN_TIERS, policy, profile, tier
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata, Resource

DEFAULT_NAMESPACE: Final = "default"
NAMESPACE_LABEL: Final = "projectcalico.org/namespace"
TIER_LABEL: Final = "projectcalico.org/tier"
ANNOTATIONS_SIZE: Final = 256 * 1024

_POLICY_NAME: Final = re.compile(
    r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)?"
)
_FOREIGN_POLICIES: Final = ("knp.default.", "ossg.default.")
"""Policies made of those of an orchestrator: their names hold its names, dots included."""

K = TypeVar("K", bound=Resource)


def problems_of(resource: Resource) -> list[Finding]:
    """Everything that is wrong with ``resource``, metadata first; an empty list when it may be stored."""
    return [*_metadata(resource), *_spec(resource)]


def _spec(resource: Resource) -> Findings:
    match resource:
        case NetworkPolicy() | GlobalNetworkPolicy():
            yield from policy(resource)
        case Tier():
            yield from tier(resource)
        case Profile():
            yield from profile(resource)
        case NetworkSet() | GlobalNetworkSet():
            yield from _network_set(resource)
        case HostEndpoint():
            yield from host_endpoint(resource)
        case WorkloadEndpoint():
            yield from workload_endpoint(resource)
        case IPPool():
            yield from pool(resource)
        case Node():
            yield from node(resource)
        case BGPConfiguration():
            yield from bgp_configuration(resource)
        case BGPPeer():
            yield from bgp_peer(resource)


def _metadata(resource: Resource) -> Findings:
    metadata = resource.metadata
    yield from _name(resource)
    if metadata.namespace:
        if resource.NAMESPACED:
            yield from checks.dns_label(("metadata", "namespace"), metadata.namespace)
        else:
            yield Finding(
                ("metadata", "namespace"), f"a {resource.kind} belongs to no namespace", "remove it"
            )
    yield from checks.labels(("metadata", "labels"), metadata.labels)
    for key in metadata.annotations:
        yield from checks.qualified_name(("metadata", "annotations", key), key.lower())
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.annotations.items())
    if size > ANNOTATIONS_SIZE:
        yield Finding(
            ("metadata", "annotations"),
            f"the annotations are {size} bytes long",
            f"{ANNOTATIONS_SIZE} is the most",
        )


def _name(resource: Resource) -> Findings:
    name = resource.metadata.name
    path: Path = ("metadata", "name")
    if isinstance(resource, WorkloadEndpoint):
        return  # made of the spec, and compared with it there
    if not name:
        yield Finding(path, "the resource has no name", "add metadata.name")
    elif isinstance(resource, Tier):
        yield from checks.dns_label(path, name)
    elif isinstance(resource, NetworkPolicy | GlobalNetworkPolicy):
        yield from _policy_name(path, name, namespaced=resource.NAMESPACED)
    else:
        yield from checks.dns_subdomain(path, name)


def _policy_name(path: Path, name: str, *, namespaced: bool) -> Findings:
    for prefix in _FOREIGN_POLICIES:
        if namespaced and name.startswith(prefix):
            yield from checks.dns_subdomain(path, name.removeprefix(prefix))
            return
    if _POLICY_NAME.fullmatch(name) is None:
        yield Finding(
            path,
            f"{name!r} is no name of a policy",
            "write one DNS label (up to 63 lower-case letters, digits and '-'), or two with a dot between: tier.name",
        )


def _network_set(resource: NetworkSet | GlobalNetworkSet) -> Findings:
    if NAMESPACE_LABEL in resource.metadata.labels:
        yield Finding(
            ("metadata", "labels", NAMESPACE_LABEL),
            "this label is added by the system",
            "remove it from the set",
        )
    for index, text in enumerate(resource.spec.nets):
        yield from checks.prefix(("spec", "nets", index), text)


# --- what a client fills in --------------------------------------------------------------------------


def defaulted(resource: K) -> K:
    """``resource`` as a client stores it: with everything filled in that the operator left to us.

    A namespace, a policy's types and tier label, a tier's order and action, a pool's modes, block size,
    uses and selector, an endpoint's name. What is given stays; the result of a second call is the same.
    """
    changed: Any = resource
    if resource.NAMESPACED and not resource.metadata.namespace:
        changed = _with_metadata(changed, namespace=DEFAULT_NAMESPACE)
    match changed:
        case NetworkPolicy() | GlobalNetworkPolicy():
            labels = {**changed.metadata.labels, TIER_LABEL: changed.spec.tier}
            changed = replace(_with_metadata(changed, labels=labels), spec=_policy(changed.spec))
        case Tier():
            order, action = BUILT_IN_TIERS.get(changed.metadata.name, (DEFAULT_TIER_ORDER, "Deny"))
            spec = replace(
                changed.spec,
                order=order if changed.spec.order is None else changed.spec.order,
                default_action=changed.spec.default_action or action,
            )
            changed = replace(changed, spec=spec)
        case IPPool():
            changed = replace(changed, spec=_pool(changed.spec))
        case WorkloadEndpoint() if not changed.metadata.name:
            with suppress(BadName):  # the same is among its problems
                changed = _with_metadata(changed, name=EndpointName.of(changed.spec).text())
    result: K = changed
    return result


def _with_metadata(resource: Any, **changes: Any) -> Any:
    metadata: Metadata = replace(resource.metadata, **changes)
    return replace(resource, metadata=metadata)


def _policy(spec: PolicySpec) -> PolicySpec:
    if spec.types:
        return spec
    if not spec.egress:
        return replace(spec, types=["Ingress"])
    return replace(spec, types=["Ingress", "Egress"] if spec.ingress else ["Egress"])


def _pool(spec: IPPoolSpec) -> IPPoolSpec:
    try:
        cidr = parse_cidr(spec.cidr)
    except AddressError:
        return spec
    return replace(
        spec,
        cidr=str(cidr),
        block_size=spec.block_size or BLOCK_SIZES[cidr.family][2],
        ipip_mode=spec.ipip_mode or "Never",
        vxlan_mode=spec.vxlan_mode or "Never",
        node_selector=spec.node_selector or "all()",
        allowed_uses=spec.allowed_uses
        or (["Workload"] if spec.namespace_selector else ["Workload", "Tunnel"]),
        assignment_mode=spec.assignment_mode or "Automatic",
    )
