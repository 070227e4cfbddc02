"""Which addresses of services a node announces.

In:   the ranges of the BGP configuration, Services and their EndpointSlices, and the node's labels.
Out:  prefixes to announce, and the ranges that others' may be in.
Next: ``bgp.plan`` puts them into the ``Speaker``.

A range goes out whole, from every node. An address goes out by itself where that says more: its service has
``externalTrafficPolicy: Local`` and a ready endpoint here, or the range is that one address, or load balancers'
addresses are not to be aggregated (behaviour reference 6.4). Objects may hold anything: what is no address is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from calico.bgp.facts import Facts, Place
from calico.bgp.speaker import Problem
from calico.model.address import AddressError, Cidr, Family, parse_address, parse_cidr
from calico.model.bgp import BGPConfigurationSpec, ServiceBlock
from calico.model.kubernetes_kinds import Service

EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""The label of nodes that announce no services, if it is "true"."""
_SERVICE_NAME: Final = "kubernetes.io/service-name"
_FAMILIES: Final[Mapping[str, Family]] = {"IPv4": 4, "IPv6": 6}
_TYPES: Final = frozenset({"", "ClusterIP", "NodePort", "LoadBalancer"})


class Announced(NamedTuple):
    """``routes`` of this node; ``ranges`` is where services' addresses may be at all."""

    routes: tuple[Cidr, ...]
    ranges: tuple[Cidr, ...]


class _Range(NamedTuple):
    cidr: Cidr
    whole: bool
    """It is announced as such."""
    each: bool
    """Its addresses are announced one by one wherever their service is."""


def announces(spec: BGPConfigurationSpec) -> bool:
    """Whether there are ranges of services at all; without them services play no part."""
    return bool(spec.service_cluster_ips or spec.service_external_ips or spec.service_load_balancer_ips)


def announced(
    node: str, spec: BGPConfigurationSpec, facts: Facts, labels: Mapping[str, str], problems: list[Problem]
) -> Announced:
    """The prefixes that ``node`` announces for services."""
    single = spec.service_load_balancer_aggregation == "Disabled"
    cluster = _ranges(spec.service_cluster_ips, "serviceClusterIPs", problems)
    external = _ranges(spec.service_external_ips, "serviceExternalIPs", problems)
    balancers = _ranges(spec.service_load_balancer_ips, "serviceLoadBalancerIPs", problems, single=single)
    everything = [*cluster, *external, *balancers]
    ranges = tuple(sorted({each.cidr for each in everything}))
    if not everything or labels.get(EXCLUDED) == "true":
        return Announced((), ranges)
    routes = {each.cidr for each in everything if each.whole}
    one_by_one = any(each.each for each in everything)
    locals_ = {place for place, service in facts.services.items() if _is_local(_spec(service))}
    here = _families_here(node, facts, locals_)
    # Of most services the ranges say everything; those must cost nothing, for slices change all day long.
    for place in facts.services if one_by_one else locals_:
        service = facts.services[place]
        spec_ = _spec(service)
        if _word(spec_, "type") not in _TYPES or _word(spec_, "clusterIP") in {"", "None"}:
            continue
        families = here.get(place, frozenset())
        for address, allowed in _addresses(spec_, service.status, cluster, external, balancers):
            holding = [each for each in allowed if each.cidr.contains(address)]
            if (address.family in families) if place in locals_ else any(each.each for each in holding):
                routes.update([address] if holding else [])
    return Announced(tuple(sorted(routes)), ranges)


def _ranges(
    blocks: list[ServiceBlock], field: str, problems: list[Problem], *, single: bool = False
) -> list[_Range]:
    found = []
    for block in blocks:
        try:
            cidr = parse_cidr(block.cidr)
        except AddressError as error:
            problems.append(Problem("BGPConfiguration/default", f"{field} is not announced: {error}"))
        else:
            each = single or cidr.is_address
            found.append(_Range(cidr, not each, each))
    return found


def _families_here(node: str, facts: Facts, services: set[Place]) -> dict[Place, frozenset[Family]]:
    """By service, of ``services``, the families in which it has a ready endpoint on ``node``."""
    families: dict[Place, set[Family]] = {}
    if not services:
        return {}
    for (namespace, _), slice_ in facts.slices.items():
        service = slice_.metadata.labels.get(_SERVICE_NAME)
        family = _FAMILIES.get(slice_.address_type)
        if (
            service
            and family
            and (namespace, service) in services
            and any(_ready(endpoint, node) for endpoint in slice_.endpoints or ())
        ):
            families.setdefault((namespace, service), set()).add(family)
    return {place: frozenset(found) for place, found in families.items()}


def _spec(service: Service) -> Mapping[str, Any]:
    return service.spec if isinstance(service.spec, dict) else {}


def _is_local(spec: Mapping[str, Any]) -> bool:
    return _word(spec, "externalTrafficPolicy") == "Local"


def _ready(endpoint: Any, node: str) -> bool:
    """Not known to be unready counts as ready, as in Kubernetes."""
    if not isinstance(endpoint, dict) or endpoint.get("nodeName") != node:
        return False
    conditions = endpoint.get("conditions")
    return not isinstance(conditions, dict) or conditions.get("ready") is not False


def _addresses(
    spec: Mapping[str, Any],
    status: Any,
    cluster: list[_Range],
    external: list[_Range],
    balancers: list[_Range],
) -> Iterator[tuple[Cidr, list[_Range]]]:
    """The addresses of a service, each with the ranges that it may be in."""
    balancer = status.get("loadBalancer") if isinstance(status, dict) else None
    ingress = balancer.get("ingress") if isinstance(balancer, dict) else None
    for texts, ranges in (
        (_list(spec.get("clusterIPs")) or [spec.get("clusterIP")], cluster),
        (_list(spec.get("externalIPs")), external),
        ([each.get("ip") for each in _list(ingress) if isinstance(each, dict)], balancers),
    ):
        for text in texts:
            try:
                yield parse_address(str(text)), ranges
            except AddressError:
                continue


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(tree: Mapping[str, Any], field: str) -> str:
    value = tree.get(field)
    return value if isinstance(value, str) else ""
