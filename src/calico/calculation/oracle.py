"""What a host should be, by brute force: the specification, the test oracle and the self-check.

In:   a node's name, and all facts.
Out:  ``State``: the complete picture, one plain dictionary for each table of ``calico.desired.Delta``.
Next: histories compare it with ``calculation.network`` after every settle; ``analysis`` asks it what-if.

Everything is computed again from nothing, and each paragraph reads as the sentence of the behaviour reference that
it implements. How one resource is read (``calculation.facts``) and rules are compiled is shared with the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from calico.calculation import facts as read
from calico.calculation.facts import LocalFact, OwnerFact, PolicyFact, PoolFact, ProfileFact, TierFact
from calico.calculation.labels import inherit
from calico.calculation.rules import Compiled, SetSpec
from calico.calculation.translation import translated
from calico.desired import (
    Delta,
    Direction,
    EndpointId,
    EndpointRow,
    Layer,
    PolicyId,
    PolicyRow,
    PoolRow,
    PortMember,
    RouteRow,
    SetId,
    SetInfo,
    SetMember,
    TierRow,
    Tiers,
)
from calico.model.address import Cidr
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.keys import Key
from calico.model.kubernetes_kinds import EndpointSlice
from calico.model.kubernetes_service import Backends, backends
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW_PROFILE,
    GlobalNetworkPolicy,
    NetworkPolicy,
    Profile,
    Tier,
)
from calico.model.pool import IPPool
from calico.model.resource import Resource

LAYERS: Final[tuple[Layer, ...]] = ("normal", "forward", "pre-dnat", "untracked")


@dataclass(frozen=True, slots=True)
class State:
    """A complete picture of what a host should be; the tables of ``Delta``, without the gone rows."""

    set_infos: dict[SetId, SetInfo] = field(default_factory=dict)
    set_members: dict[SetMember, Literal[True]] = field(default_factory=dict)
    policies: dict[PolicyId, PolicyRow] = field(default_factory=dict)
    profiles: dict[str, PolicyRow] = field(default_factory=dict)
    endpoints: dict[EndpointId, EndpointRow] = field(default_factory=dict)
    routes: dict[Cidr, RouteRow] = field(default_factory=dict)
    pools: dict[Cidr, PoolRow] = field(default_factory=dict)

    def apply(self, delta: Delta) -> None:
        """Follow one Delta, in place: this picture becomes the one that the Delta leads to."""
        for table in fields(self):
            rows = getattr(self, table.name)
            for key, row in getattr(delta, table.name).items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row


def desired(node: str, facts: Mapping[Key, Resource]) -> State:
    """The whole desired state of ``node``, given every fact there is."""
    return _Picture(node, facts).state()


class _Picture:
    """All facts, read, in dictionaries; and the questions that the desired state asks of them."""

    def __init__(self, node: str, facts: Mapping[Key, Resource]) -> None:
        self.owners: dict[Key, OwnerFact] = {}
        self.locals: dict[EndpointId, tuple[Key, LocalFact]] = {}
        self.policies: dict[PolicyId, PolicyFact] = {}
        self.tiers: dict[str, TierFact | None] = {name: read.tier(None, name) for name in BUILT_IN_TIERS}
        self.profiles: dict[str, ProfileFact] = {}
        self.pools: dict[str, PoolFact] = {}
        self.backends: list[Backends] = []
        for key, resource in translated(facts).facts.items():
            try:
                self._read(node, key, resource)
            except ValueError:
                continue  # unusable, and as good as absent: calculation.facts says what absence means
        self.profiles[DEFAULT_ALLOW_PROFILE] = read.default_allow()
        self.labels = {key: self.effective(owner) for key, owner in self.owners.items()}

    def _read(self, node: str, key: Key, resource: Resource) -> None:
        match resource:
            case WorkloadEndpoint():
                owner = None
                try:
                    owner = self.owners[key] = read.workload(resource, key.namespace)
                finally:
                    if resource.spec.node == node:
                        local = read.local_workload(resource, closed=owner is None)
                        self.locals[read.endpoint_id(key)] = key, local
            case HostEndpoint():
                self.owners[key], local, _ = read.host(resource)
                if resource.spec.node == node:
                    self.locals[read.endpoint_id(key)] = key, local
            case NetworkSet() | GlobalNetworkSet():
                self.owners[key] = read.network_set(resource, key.namespace)
            case NetworkPolicy() | GlobalNetworkPolicy():
                self.policies[read.policy_id(key)] = read.policy(resource, read.policy_id(key))
            case Tier():
                self.tiers[key.name] = read.tier(resource, key.name)
            case Profile():
                self.profiles[key.name] = read.profile(resource, key.name)
            case IPPool():
                self.pools[key.name] = read.pool(resource)
            case EndpointSlice():
                served, _ = backends(resource)
                self.backends += [served] if served else []

    def state(self) -> State:
        """Endpoints first, then only what they need, then only what that needs."""
        endpoints = {id_: self.endpoint(id_) for id_ in self.locals if self.governs(id_)}
        policies = {
            id_: self.policies[id_].rules
            for row in endpoints.values()
            for tier in row.all_tiers()
            for id_ in tier.policies
        } | {id_: policy.rules for id_, policy in self.policies.items() if policy.everywhere}
        profiles = {
            name: self.profiles[name].rules
            for row in endpoints.values()
            for name in row.profiles
            if name in self.profiles
        }
        needed: list[Compiled] = [*policies.values(), *profiles.values()]
        sets = {spec.id: spec for compiled in needed for spec in compiled.sets}
        return State(
            set_infos={id_: spec.info for id_, spec in sets.items()},
            set_members={member: True for spec in sets.values() for member in self.members(spec)},
            policies={id_: compiled.row for id_, compiled in policies.items()},
            profiles={name: compiled.row for name, compiled in profiles.items()},
            endpoints=endpoints,
            routes=self.routes(endpoints),
            pools={pool.cidr: pool.row for _, pool in sorted(self.pools.items(), reverse=True)},
        )

    def governs(self, id_: EndpointId) -> bool:
        """Of several workloads with one interface the first is meant, by name; closed ones come after all others.

        Host endpoints are all kept: which of them governs an interface depends on the interface's addresses.
        """
        interface = self.locals[id_][1].interface
        rivals = [
            (local.closed, other)
            for other, (_, local) in self.locals.items()
            if other.kind == id_.kind == "WorkloadEndpoint" and local.interface == interface
        ]
        return not rivals or min(rivals)[1] == id_

    def endpoint(self, id_: EndpointId) -> EndpointRow:
        """An endpoint with its policies and profiles; a closed one has none of them, and no address."""
        key, local = self.locals[id_]
        if local.closed:
            return EndpointRow(local.interface, (), (), (), (), active=False)
        owner = self.owners[key]
        normal, forward, pre_dnat, untracked = (
            Tiers(self.tiers_of(id_, layer, "ingress"), self.tiers_of(id_, layer, "egress"))
            for layer in LAYERS
        )
        return EndpointRow(
            interface=local.interface,
            addresses=owner.nets,
            ingress=normal.ingress,
            egress=normal.egress,
            profiles=owner.profiles,
            mac=local.mac,
            forward=forward,
            pre_dnat=pre_dnat,
            untracked=untracked,
        )

    def tiers_of(self, endpoint: EndpointId, layer: Layer, direction: Direction) -> tuple[TierRow, ...]:
        """The policies that select an endpoint and act on it in this layer and direction, tier by tier, in order.

        Tiers by order and name, those that do not exist last, and denying at their end. Policies by order, those
        without one last, then by ``name/namespace/kind``.
        """
        key, local = self.locals[endpoint]
        mine = {
            id_: policy
            for id_, policy in self.policies.items()
            if layer in policy.layers(endpoint, local.interface)
            and getattr(policy, direction)
            and policy.selector.matches(self.labels[key])
        }
        rows = []
        for name in {policy.tier for policy in mine.values()}:
            tier = self.tiers.get(name)
            place = (tier is None, tier.order if tier else 0.0, name)
            inside = [
                (policy.order, f"{id_.name}/{id_.namespace}/{id_.kind}", id_)
                for id_, policy in mine.items()
                if policy.tier == name
            ]
            ordered = tuple(id_ for *_, id_ in sorted(inside))
            rows.append((place, TierRow(name, tier.default_action if tier else "Deny", ordered)))
        return tuple(row for _, row in sorted(rows, key=lambda each: each[0]))

    def effective(self, owner: OwnerFact) -> dict[str, str]:
        """Own labels, and those of the profiles where they do not say otherwise."""
        return inherit(
            owner.labels, (self.profiles[name].labels for name in owner.profiles if name in self.profiles)
        )

    def members(self, spec: SetSpec) -> Iterable[SetMember]:
        """Every address, or every named port, of every owner that the set's selector selects.

        Of a service every address of its slices, or each of them with each port of its slice.
        """
        info = spec.info
        if info.service:
            for served in self.backends:
                for address in served.addresses if served.service == info.service else ():
                    if info.type == "net":
                        yield SetMember(spec.id, address)
                        continue
                    for protocol, port in served.ports:
                        yield SetMember(spec.id, PortMember(address, protocol, port))
            return
        for key, owner in self.owners.items():
            if not spec.selector.matches(self.labels[key]):
                continue
            for net in owner.nets:
                if info.type == "net":
                    yield SetMember(spec.id, net)
                    continue
                for name, protocol, port in owner.ports:
                    if name == info.port_name and info.protocol in {None, protocol}:
                        yield SetMember(spec.id, PortMember(net, protocol, port))

    @staticmethod
    def routes(endpoints: Mapping[EndpointId, EndpointRow]) -> dict[Cidr, RouteRow]:
        """Each address of a local workload to its interface; of two with the same address the first, by name."""
        return {
            address: RouteRow(row.interface, row.mac)
            for id_, row in sorted(endpoints.items(), reverse=True)
            if id_.kind == "WorkloadEndpoint"
            for address in row.addresses
        }
