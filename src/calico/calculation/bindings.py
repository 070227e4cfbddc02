"""In which order which policies and profiles apply to each endpoint of this node.

In:   local endpoints and their effective labels; policies, tiers and profiles of everyone.
Out:  ``endpoints``, and of policies and profiles those that one of them needs.
Next: ``calculation.sets`` fills the sets that these need, ``calculation.routes`` leads to the endpoints.

A policy stands in every layer where it judges packets of an endpoint (``PolicyFact.layers``): one with applyOnForward
in two of a host endpoint's. Layers have the same tiers, in the same order, of which each holds those that have policies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from calico.calculation.facts import LocalFact, PolicyFact, ProfileFact, TierFact
from calico.calculation.labels import Inheritance, Labels, Owner, Traits
from calico.calculation.matching import Match
from calico.calculation.rules import Compiled
from calico.desired import NO_TIERS, Direction, EndpointId, EndpointRow, Layer, PolicyId, TierRow, Tiers
from calico.tables.derived import Derived, On, Stage
from calico.tables.table import Index, Table


class Local(NamedTuple):
    """An endpoint of this node; without an ``owner`` it is closed."""

    fact: LocalFact
    owner: Owner | None


class Bindings:
    """From the facts about local endpoints and policies to ``endpoints``, ``policies`` and ``profiles``."""

    def __init__(
        self,
        locals_: Table[EndpointId, Local],
        policies: Table[PolicyId, PolicyFact],
        tiers: Table[str, TierFact],
        profiles: Table[str, ProfileFact],
        inheritance: Inheritance[ProfileFact],
    ) -> None:
        self._locals, self._policy_facts, self._tiers, self._profile_facts = (
            locals_,
            policies,
            tiers,
            profiles,
        )
        self._inherited = inheritance.labels
        self._by_interface = Index(locals_, _interface)
        self._by_traits = Index(locals_, lambda _, local: _traits(local))

        self.labels: Table[EndpointId, Labels] = Table()
        self._wearers = Index(self.labels, lambda _, labels: (labels,))
        self.selected: Match[PolicyId] = Match(
            policies, lambda policy: policy.selector, self.labels, self._wearers
        )
        self.governors: Table[str, EndpointId] = Table()
        self.endpoints: Table[EndpointId, EndpointRow] = Table()
        self._by_tier = Index(self.endpoints, lambda _, row: _tiers(row))
        self._by_policy = Index(self.endpoints, lambda _, row: _policies(row))
        self._by_profile = Index(self.endpoints, lambda _, row: row.profiles)
        self.policies: Table[PolicyId, Compiled] = Table()
        self.profiles: Table[str, Compiled] = Table()

        self.tables: tuple[Table[Any, Any], ...] = (
            self.labels,
            self.selected.table,
            self.governors,
            self.endpoints,
            self.policies,
            self.profiles,
        )
        self.stages: tuple[Stage, ...] = (
            Derived(
                self.labels,
                self._labels,
                On(locals_, lambda id_, _before, _now: (id_,)),
                On(inheritance.labels, lambda traits, _before, _now: self._by_traits[traits]),
            ),
            self.selected,
            Derived(self.governors, self._governor, On(locals_, _interfaces)),
            Derived(
                self.endpoints,
                self._endpoint,
                On(locals_, lambda id_, _before, _now: (id_,)),
                On(self.governors, _rivals),
                On(self.labels, lambda id_, _before, _now: (id_,)),
                On(self.selected.table, lambda labels, _before, _now: self._wearers[labels]),
                On(policies, self._bound),
                On(tiers, lambda name, _before, _now: self._by_tier[name]),
            ),
            Derived(
                self.policies,
                self._policy,
                On(self.endpoints, _policies_of),
                On(policies, lambda id_, _before, _now: (id_,)),
            ),
            Derived(
                self.profiles,
                self._profile,
                On(self.endpoints, _profiles_of),
                On(profiles, lambda name, _before, _now: (name,)),
            ),
        )

    def _labels(self, id_: EndpointId) -> Labels | None:
        """The effective labels of a local endpoint that is not closed."""
        local = self._locals.get(id_)
        return None if local is None or local.owner is None else self._inherited.get(local.owner.traits)

    def _governor(self, interface: str) -> EndpointId | None:
        """The workload that an interface belongs to: the first by name, closed ones after all others."""
        rivals = [(self._local(id_).fact.closed, id_) for id_ in self._by_interface[interface]]
        return min(rivals)[1] if rivals else None

    def _local(self, id_: EndpointId) -> Local:
        local = self._locals.get(id_)
        assert local is not None, "the index names only rows that exist"
        return local

    def _endpoint(self, id_: EndpointId) -> EndpointRow | None:
        """An endpoint as it is to be enforced, unless another has its interface."""
        local = self._locals.get(id_)
        if local is None:
            return None
        interface = local.fact.interface
        if id_.kind == "WorkloadEndpoint" and self.governors.get(interface) != id_:
            return None
        if local.owner is None:
            return EndpointRow(interface, (), (), (), (), active=False)
        labels = self.labels.get(id_)
        selecting = self.selected.table.get(labels) if labels is not None else None
        mine: dict[Layer, list[tuple[PolicyId, PolicyFact]]] = {}
        for policy_id in selecting or ():
            policy = self._policy_facts.get(policy_id)
            if policy is not None:
                for layer in policy.layers(id_, interface):
                    mine.setdefault(layer, []).append((policy_id, policy))
        tiers = {layer: self._tiers_of(policies) for layer, policies in mine.items()}
        normal = tiers.get("normal", NO_TIERS)
        return EndpointRow(
            interface=interface,
            addresses=local.owner.nets,
            ingress=normal.ingress,
            egress=normal.egress,
            profiles=local.owner.traits.profiles,
            mac=local.fact.mac,
            forward=tiers.get("forward", NO_TIERS),
            pre_dnat=tiers.get("pre-dnat", NO_TIERS),
            untracked=tiers.get("untracked", NO_TIERS),
        )

    def _tiers_of(self, policies: list[tuple[PolicyId, PolicyFact]]) -> Tiers:
        """The tiers of one layer, from its policies in any order."""
        policies.sort(key=lambda each: (each[1].order, f"{each[0].name}/{each[0].namespace}/{each[0].kind}"))
        return Tiers(self._tier_rows(policies, "ingress"), self._tier_rows(policies, "egress"))

    def _tier_rows(
        self, policies: Iterable[tuple[PolicyId, PolicyFact]], direction: Direction
    ) -> tuple[TierRow, ...]:
        """Policies, already in order, tier by tier; tiers by order and name, missing ones last and denying."""
        tiers: dict[str, list[PolicyId]] = {}
        for id_, policy in policies:
            if policy.ingress if direction == "ingress" else policy.egress:
                tiers.setdefault(policy.tier, []).append(id_)
        rows = []
        for name, inside in tiers.items():
            tier = self._tiers.get(name)
            if tier is None:
                rows.append(((1, 0.0, name), TierRow(name, "Deny", tuple(inside))))
            else:
                rows.append(((0, tier.order, name), TierRow(name, tier.default_action, tuple(inside))))
        rows.sort(key=lambda each: each[0])
        return tuple(row for _, row in rows)

    def _bound(
        self, id_: PolicyId, before: PolicyFact | None, now: PolicyFact | None
    ) -> Iterator[EndpointId]:
        """Endpoints that a policy selects, if its place changed. Who is selected newly, or no more, ``selected`` tells."""
        if before is not None and now is not None and before.binding != now.binding:
            for labels in self.selected.matching[id_]:
                yield from self._wearers[labels]

    def _policy(self, id_: PolicyId) -> Compiled | None:
        """A policy's rules, while an endpoint here needs them, or where they are wanted at hand on every host."""
        fact = self._policy_facts.get(id_)
        if fact is None or not (fact.everywhere or id_ in self._by_policy):
            return None
        return fact.rules._replace(problems=())

    def _profile(self, name: str) -> Compiled | None:
        """A profile's rules, while an endpoint here needs them; a missing one has no row, and denies."""
        fact = self._profile_facts.get(name)
        return None if fact is None or name not in self._by_profile else fact.rules._replace(problems=())


def _interface(id_: EndpointId, local: Local) -> tuple[str, ...]:
    return (local.fact.interface,) if id_.kind == "WorkloadEndpoint" else ()


def _traits(local: Local) -> tuple[Traits, ...]:
    return () if local.owner is None else (local.owner.traits,)


def _tiers(row: EndpointRow) -> frozenset[str]:
    return frozenset(tier.name for tier in row.all_tiers())


def _policies(row: EndpointRow) -> frozenset[PolicyId]:
    return frozenset(id_ for tier in row.all_tiers() for id_ in tier.policies)


def _interfaces(id_: EndpointId, before: Local | None, now: Local | None) -> Iterator[str]:
    for local in (before, now):
        if local is not None:
            yield from _interface(id_, local)


def _rivals(_interface: str, before: EndpointId | None, now: EndpointId | None) -> Iterator[EndpointId]:
    return (id_ for id_ in (before, now) if id_ is not None)


def _policies_of(_id: EndpointId, before: EndpointRow | None, now: EndpointRow | None) -> Iterable[PolicyId]:
    return (_policies(before) if before else frozenset()) ^ (_policies(now) if now else frozenset())


def _profiles_of(_id: EndpointId, before: EndpointRow | None, now: EndpointRow | None) -> Iterator[str]:
    for row in (before, now):
        if row is not None:
            yield from row.profiles
