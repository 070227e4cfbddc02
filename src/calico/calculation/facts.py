"""Resources -> the little that the calculation keeps of each.

In:   one resource, as the store has it.
Out:  a fact: parsed, compact, comparable with ``==``; or ``Unusable`` with a sentence.
Next: ``calculation.network`` keeps them in tables, ``calculation.oracle`` in dictionaries.

What a fact says depends on its resource alone. Of an endpoint on another node only labels, profiles, named
ports and addresses matter, so an ``Owner`` is all that is read of it.

Unusable resources are as good as absent, with three exceptions, because absence would open something:
a policy keeps its place and closes what it selects (see ``policy``), a workload of this node keeps its
interface and is closed entirely, a host endpoint of this node keeps its interface and its policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from calico.calculation.labels import Port, cluster_wide, namespaced
from calico.calculation.rules import Compiled, Unusable, compile_rules, protocol_number
from calico.calculation.scope import Scope
from calico.desired import EndpointId, Layer, Origin, PolicyId, PolicyRow, PoolRow, RuleRow
from calico.model.address import Cidr, parse_cidr
from calico.model.endpoint import ALL_INTERFACES, EndpointPort, HostEndpoint, WorkloadEndpoint, WorkloadPort
from calico.model.keys import Key
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW_PROFILE,
    GlobalNetworkPolicy,
    NetworkPolicy,
    Profile,
    ProfileSpec,
    Rule,
    Tier,
)
from calico.model.pool import IPPool
from calico.model.selector import Selector

EVERYWHERE = "AssumeNeededOnEveryNode"
"""The performance hint that a policy will be needed on every host, so that hosts better have its sets filled."""
NAMESPACE_PROFILE = "kns."
"""Kubernetes' profile of a namespace: this and the namespace's name."""


class OwnerFact(NamedTuple):
    """Whoever brings addresses into sets, before its labels are interned."""

    labels: Mapping[str, str]
    profiles: tuple[str, ...]
    ports: tuple[Port, ...]
    nets: tuple[Cidr, ...]


class LocalFact(NamedTuple):
    """Where an endpoint of this node is; ``closed`` ones carry nothing, whatever policy says."""

    interface: str
    mac: str = ""
    closed: bool = False


Hook = Literal["normal", "untracked", "pre-dnat"]
"""Where a policy acts on a packet. Only normal ones bind to workloads; the others are for host endpoints."""


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """A policy: whom it selects, where it stands, for which directions, and its rules.

    ``hook`` and ``forward`` (applyOnForward: *also* for traffic that a host only passes on) tell kinds of host
    policy apart. ``everywhere``: every host keeps its rules and sets at hand, also where it selects nobody.
    """

    selector: Selector
    tier: str
    order: float
    ingress: bool
    egress: bool
    rules: Compiled
    hook: Hook = "normal"
    forward: bool = False
    everywhere: bool = False

    @property
    def binding(self) -> tuple[str, float, bool, bool, Hook, bool]:
        """What decides where this stands among the policies of an endpoint that it selects."""
        return self.tier, self.order, self.ingress, self.egress, self.hook, self.forward

    def layers(self, endpoint: EndpointId, interface: str) -> tuple[Layer, ...]:
        """Where this judges packets of an endpoint that it selects (behaviour reference 3.6).

        Untracked policy needs an interface of its own: one for all other interfaces is not asked.
        """
        match self.hook:
            case "normal" if endpoint.kind == "WorkloadEndpoint" or not self.forward:
                return ("normal",)
            case "normal":
                return ("normal", "forward")
            case "pre-dnat" if endpoint.kind == "HostEndpoint":
                return ("pre-dnat",)
            case "untracked" if endpoint.kind == "HostEndpoint" and interface != ALL_INTERFACES:
                return ("untracked",)
            case _:
                return ()


class TierFact(NamedTuple):
    """A tier: where it stands, and what becomes of what reaches its end."""

    order: float
    default_action: Literal["Deny", "Pass"]


class ProfileFact(NamedTuple):
    """A profile: the labels that it gives, and its rules."""

    labels: Mapping[str, str]
    rules: Compiled


class PoolFact(NamedTuple):
    """A pool: its prefix, and what the data path needs to know."""

    cidr: Cidr
    row: PoolRow


def workload(resource: WorkloadEndpoint, namespace: str) -> OwnerFact:
    """What any node needs to know of a workload."""
    spec = resource.spec
    return OwnerFact(
        namespaced(resource.metadata.labels, namespace, spec.service_account_name, spec.orchestrator),
        tuple(spec.profiles),
        tuple(_port(port) for port in spec.ports if port.name),
        tuple(dict.fromkeys(map(_address, spec.ip_networks))),
    )


def local_workload(resource: WorkloadEndpoint, *, closed: bool) -> LocalFact:
    """What the workload's own node needs besides; ``closed`` if the resource is unusable otherwise."""
    if not resource.spec.interface_name:
        raise Unusable("without an interfaceName it cannot be found on its host, and stays closed")
    return LocalFact(resource.spec.interface_name, resource.spec.mac, closed)


def host(resource: HostEndpoint) -> tuple[OwnerFact, LocalFact, tuple[str, ...]]:
    """A host endpoint, and what was left out of it because it is unusable.

    Without the endpoint its interface would be open, so a bad address or port takes only itself away.
    ``Unusable`` if nothing is left to find the interface by.
    """
    spec = resource.spec
    problems: list[str] = []
    nets: list[Cidr] = []
    ports: list[Port] = []
    for text in spec.expected_ips:
        try:
            nets.append(_address(text))
        except ValueError as error:
            problems.append(f"an expected IP is left out: {error}")
    for port in spec.ports:
        try:
            ports.append(_port(port))
        except ValueError as error:
            problems.append(f"port {port.name} is left out: {error}")
    if not spec.interface_name and not nets:
        raise Unusable(
            "; ".join((*problems, "neither interfaceName nor a valid expected IP: it governs no interface"))
        )
    owner = OwnerFact(
        cluster_wide(resource.metadata.labels),
        tuple(spec.profiles),
        tuple(ports),
        tuple(dict.fromkeys(nets)),
    )
    return owner, LocalFact(spec.interface_name), tuple(problems)


def network_set(resource: NetworkSet | GlobalNetworkSet, namespace: str = "") -> OwnerFact:
    """A network set; one with a namespace inherits that namespace's labels as its workloads do."""
    nets = tuple(sorted({parse_cidr(net) for net in resource.spec.nets}))
    if isinstance(resource, NetworkSet):
        return OwnerFact(
            namespaced(resource.metadata.labels, namespace), (NAMESPACE_PROFILE + namespace,), (), nets
        )
    return OwnerFact(cluster_wide(resource.metadata.labels), (), (), nets)


def policy(resource: NetworkPolicy | GlobalNetworkPolicy, key: PolicyId) -> PolicyFact:
    """A policy, always: one that cannot be used as it stands closes rather than vanishes.

    Rules that cannot be understood are closed one by one (``calculation.rules``). If it is unclear *whom* the
    policy selects, it selects everyone whom the readable part of its selectors allows, and denies in each of its
    directions: those it was meant to protect are among them.
    """
    spec = resource.spec
    hook: Hook = "normal"
    forward, namespace_selector = False, ""
    if isinstance(resource, GlobalNetworkPolicy):
        wider = resource.spec
        namespace_selector, forward = wider.namespace_selector, wider.apply_on_forward
        hook = "untracked" if wider.do_not_track else "pre-dnat" if wider.pre_dnat else "normal"
    ingress, egress = (not spec.types or name in spec.types for name in ("Ingress", "Egress"))
    egress = egress and hook != "pre-dnat"
    origin = Origin(key.kind, spec.tier, key.namespace, key.name, "ingress")
    selector, problems = Scope(key.namespace).policy(spec, namespace_selector)
    if problems:
        deny = tuple(
            RuleRow("Deny", Origin(key.kind, spec.tier, *key[1:], way)) for way in ("ingress", "egress")
        )
        rules = Compiled(
            PolicyRow(deny[:1] if ingress else (), deny[1:] if egress else ()),
            problems=tuple(
                f"{problem}; until it is right the policy denies all that it might select"
                for problem in problems
            ),
        )
    else:
        rules = compile_rules(
            spec.ingress if ingress else (), spec.egress if egress else (), origin, key.namespace
        )
    order = inf if spec.order is None else spec.order
    everywhere = EVERYWHERE in spec.performance_hints
    return PolicyFact(selector, spec.tier, order, ingress, egress, rules, hook, forward, everywhere)


def tier(resource: Tier | None, name: str) -> TierFact | None:
    """A tier; without an order it comes after all that have one.

    A built-in one is there without being stored, and where it does not say its place or its end it has its own.
    """
    order, action = BUILT_IN_TIERS.get(name, (inf, "Deny"))
    if resource is None:
        return TierFact(order, action) if name in BUILT_IN_TIERS else None
    spec = resource.spec
    return TierFact(order if spec.order is None else spec.order, spec.default_action or action)


def profile(resource: Profile, name: str) -> ProfileFact:
    """A profile; its selectors reach everywhere, as those of a global policy."""
    spec = resource.spec
    origin = Origin("Profile", "", "", name, "ingress")
    return ProfileFact(cluster_wide(spec.labels_to_apply), compile_rules(spec.ingress, spec.egress, origin))


def default_allow() -> ProfileFact:
    """The profile that is there without being stored, and cannot be changed: it allows everything."""
    allow = [Rule(action="Allow")]
    return profile(Profile(spec=ProfileSpec(ingress=allow, egress=allow)), DEFAULT_ALLOW_PROFILE)


def pool(resource: IPPool) -> PoolFact:
    """An address pool; a disabled one still says how its addresses are treated."""
    return PoolFact(parse_cidr(resource.spec.cidr), PoolRow(resource.spec.nat_outgoing))


def endpoint_id(key: Key) -> EndpointId:
    """The desired state's name of an endpoint's fact."""
    return EndpointId(key.kind, key.namespace, key.name)


def policy_id(key: Key) -> PolicyId:
    """The desired state's name of a policy's fact."""
    return PolicyId(key.kind, key.namespace, key.name)


def _address(text: str) -> Cidr:
    address = parse_cidr(text)
    if not address.is_address:
        raise Unusable(f"{text!r} is no single address; endpoints have addresses of full length only")
    return address


def _port(port: WorkloadPort | EndpointPort) -> Port:
    if not 1 <= port.port <= 65535:
        raise Unusable(f"{port.port} is no port; ports go from 1 to 65535")
    return port.name, protocol_number(port.protocol), port.port
