"""Resources in few words: a little language for tests.

Selectors, addresses and ports are given as text; what a test does not mention is left out.
``here`` is the node under test, ``elsewhere`` any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from calico.model.endpoint import (
    EndpointPort,
    HostEndpoint,
    HostEndpointSpec,
    WorkloadEndpoint,
    WorkloadEndpointSpec,
    WorkloadPort,
)
from calico.model.kubernetes_kinds import EndpointSlice
from calico.model.networkset import GlobalNetworkSet, NetworkSet, NetworkSetSpec
from calico.model.policy import (
    EntityRule,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    Profile,
    ProfileSpec,
    Rule,
    Tier,
    TierSpec,
)
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata

here = "here"
elsewhere = "elsewhere"


def metadata(name: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> Metadata:
    """A name, a namespace for kinds that have one, and labels."""
    return Metadata(name=name, namespace=namespace, labels=dict(labels or {}))


def endpoint(
    name: str,
    node: str = here,
    *,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    address: str | Iterable[str] = (),
    profiles: Iterable[str] = (),
    interface: str | None = None,
    ports: Iterable[tuple[str, str, int]] = (),
    **spec: object,
) -> WorkloadEndpoint:
    """A workload; its interface is ``cali-<name>`` unless said otherwise, its ports are (name, protocol, number)."""
    return WorkloadEndpoint(
        metadata=metadata(name, namespace, labels),
        spec=WorkloadEndpointSpec(
            node=node,
            interface_name=f"cali-{name}" if interface is None else interface,
            ip_networks=_list(address),
            profiles=list(profiles),
            ports=[
                WorkloadPort(name=port, protocol=protocol, port=number) for port, protocol, number in ports
            ],
            **spec,
        ),
    )


def host_endpoint(
    name: str,
    node: str = here,
    *,
    labels: Mapping[str, str] | None = None,
    interface: str = "",
    address: str | Iterable[str] = (),
    profiles: Iterable[str] = (),
    ports: Iterable[tuple[str, str, int]] = (),
) -> HostEndpoint:
    """A host's interface, by name or by address."""
    return HostEndpoint(
        metadata=metadata(name, labels=labels),
        spec=HostEndpointSpec(
            node=node,
            interface_name=interface,
            expected_ips=_list(address),
            profiles=list(profiles),
            ports=[
                EndpointPort(name=port, protocol=protocol, port=number) for port, protocol, number in ports
            ],
        ),
    )


def rule(
    action: str = "Allow", *, source: object = None, destination: object = None, **fields: object
) -> Rule:
    """A rule; each side is a selector's text, or an ``EntityRule`` or its fields."""
    return Rule(action=action, source=side(source), destination=side(destination), **fields)


def side(given: object) -> EntityRule:
    """One side of a rule: nothing, a selector's text, an ``EntityRule``, or a mapping of its fields."""
    match given:
        case None:
            return EntityRule()
        case str():
            return EntityRule(selector=given)
        case EntityRule():
            return given
        case _:
            return EntityRule(**given)


def policy(
    name: str,
    *,
    namespace: str | None = "default",
    source: str | None = None,
    destination: str | None = None,
    ingress: Iterable[Rule] = (),
    egress: Iterable[Rule] = (),
    types: Iterable[str] = (),
    **spec: object,
) -> NetworkPolicy | GlobalNetworkPolicy:
    """A policy, global if ``namespace`` is None.

    ``source`` and ``destination`` are short for one rule that allows from, or to, whom the selector selects.
    """
    rules = {
        "ingress": [*ingress, *([rule(source=source)] if source is not None else [])],
        "egress": [*egress, *([rule(destination=destination)] if destination is not None else [])],
    }
    if namespace is None:
        return GlobalNetworkPolicy(
            metadata=metadata(name), spec=GlobalPolicySpec(types=list(types), **rules, **spec)
        )
    return NetworkPolicy(
        metadata=metadata(name, namespace), spec=PolicySpec(types=list(types), **rules, **spec)
    )


def tier(name: str, order: float | None = None, default_action: str | None = None) -> Tier:
    """A tier."""
    return Tier(metadata=metadata(name), spec=TierSpec(order=order, default_action=default_action))


def profile(
    name: str,
    *,
    gives: Mapping[str, str] | None = None,
    ingress: Iterable[Rule] = (),
    egress: Iterable[Rule] = (),
) -> Profile:
    """A profile that ``gives`` labels to whoever names it."""
    return Profile(
        metadata=metadata(name),
        spec=ProfileSpec(labels_to_apply=dict(gives or {}), ingress=list(ingress), egress=list(egress)),
    )


def network_set(
    name: str,
    *nets: str,
    namespace: str | None = "default",
    labels: Mapping[str, str] | None = None,
) -> NetworkSet | GlobalNetworkSet:
    """A network set, global if ``namespace`` is None."""
    spec = NetworkSetSpec(nets=list(nets))
    if namespace is None:
        return GlobalNetworkSet(metadata=metadata(name, labels=labels), spec=spec)
    return NetworkSet(metadata=metadata(name, namespace, labels), spec=spec)


def endpoint_slice(
    name: str, service: str, *addresses: str, namespace: str = "default", ports: Iterable[object] = ()
) -> EndpointSlice:
    """A slice of a service of its namespace; a port is a number (of TCP), or (protocol, number)."""
    return EndpointSlice(
        metadata=metadata(name, namespace, {"kubernetes.io/service-name": service}),
        address_type="IPv6" if any(":" in address for address in addresses) else "IPv4",
        endpoints=[{"addresses": [address]} for address in addresses],
        ports=[
            {"port": port} if isinstance(port, int) else {"protocol": port[0], "port": port[1]}
            for port in ports
        ],
    )


def pool(name: str, cidr: str, *, nat_outgoing: bool = False) -> IPPool:
    """An address pool."""
    return IPPool(metadata=metadata(name), spec=IPPoolSpec(cidr=cidr, nat_outgoing=nat_outgoing))


def _list(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
