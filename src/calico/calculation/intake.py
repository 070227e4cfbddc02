"""Where facts are kept: one table for each kind that matters to a host.

In:   keys and resources, as updates bring them.
Out:  tables of facts, and what was wrong with any of them.
Next: ``calculation.network`` derives everything else from these tables.

Each fact replaces what was known of its key. Nothing else is remembered, and the resource itself is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from calico.calculation import facts
from calico.calculation.bindings import Local
from calico.calculation.facts import OwnerFact, PolicyFact, PoolFact, ProfileFact, TierFact
from calico.calculation.labels import Interner, Owner
from calico.calculation.translation import OBJECTS, Translation, sentence
from calico.desired import EndpointId, PolicyId
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.fact import Update
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
from calico.tables.table import Table


class Intake:
    """The facts that the calculation of one ``node`` starts from."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.interner = Interner()
        self.owners: Table[Key, Owner] = Table()
        self.locals: Table[EndpointId, Local] = Table()
        self.policies: Table[PolicyId, PolicyFact] = Table()
        self.tiers: Table[str, TierFact] = Table()
        self.profiles: Table[str, ProfileFact] = Table()
        self.pools: Table[str, PoolFact] = Table()
        self.backends: Table[Key, Backends] = Table()
        self.tables: tuple[Table[Any, Any], ...] = (
            self.owners,
            self.locals,
            self.policies,
            self.tiers,
            self.profiles,
            self.pools,
            self.backends,
        )
        self.profiles.put(DEFAULT_ALLOW_PROFILE, facts.default_allow())
        for name in BUILT_IN_TIERS:
            self.tiers.put(name, facts.tier(None, name))
        self.translation = Translation(self._knows)

        self._problems: dict[Key, str] = {}
        self.problems: Mapping[Key, str] = MappingProxyType(self._problems)
        self._take: Mapping[str, Callable[[Key, Any], Iterable[str]]] = {
            "WorkloadEndpoint": self._workload,
            "HostEndpoint": self._host,
            "NetworkSet": self._network_set,
            "GlobalNetworkSet": self._network_set,
            "NetworkPolicy": self._policy,
            "GlobalNetworkPolicy": self._policy,
            "Tier": self._tier,
            "Profile": self._profile,
            "IPPool": self._pool,
            "EndpointSlice": self._slice,
        }

    def take(self, update: Update) -> None:
        """Take note of one fact. Kinds that do not concern a host are ignored; what a fact says is never an error."""
        if update.key.kind in OBJECTS:
            updates, problem = self.translation.object(update.key, update.value)
            self._note(update.key, problem)
            for each in updates:
                self._resource(each)
        else:
            self._resource(self.translation.resource(update))

    def _resource(self, update: Update) -> None:
        key, value = update
        take = self._take.get(key.kind)
        if take is None:
            return
        try:
            problem = "; ".join(take(key, value))
        except ValueError as error:
            problem = f"as good as absent: {error}"
        self._note(key, problem)

    def _note(self, key: Key, problem: str) -> None:
        if problem:
            self._problems[key] = f"{key}: {problem}"
        elif self._problems:
            self._problems.pop(key, None)

    def _knows(self, key: Key) -> bool:
        """Whether there is a fact at ``key``, of use or not; for the kinds that objects of Kubernetes stand for."""
        match key.kind:
            case "Profile":
                there = key.name in self.profiles
            case "WorkloadEndpoint":
                there = key in self.owners
            case _:
                there = facts.policy_id(key) in self.policies
        return there or key in self._problems

    def _workload(self, key: Key, value: WorkloadEndpoint | None) -> Iterable[str]:
        owner, local = None, None
        problems: list[str] = []
        if value is not None:
            here = value.spec.node == self.node
            try:
                owner = self._intern(facts.workload(value, key.namespace))
            except ValueError as error:
                problems.append(f"{'closed entirely' if here else 'as good as absent'}: {error}")
            if here:
                try:
                    local = Local(facts.local_workload(value, closed=owner is None), owner)
                except ValueError as error:
                    problems.append(str(error))
        self.owners.put(key, owner)
        self.locals.put(facts.endpoint_id(key), local)
        return problems

    def _host(self, key: Key, value: HostEndpoint | None) -> Iterable[str]:
        owner, local = None, None
        problems: Iterable[str] = ()
        try:
            if value is not None:
                fact, where, problems = facts.host(value)
                owner = self._intern(fact)
                local = Local(where, owner) if value.spec.node == self.node else None
        finally:
            self.owners.put(key, owner)
            self.locals.put(facts.endpoint_id(key), local)
        return problems

    def _network_set(self, key: Key, value: NetworkSet | GlobalNetworkSet | None) -> Iterable[str]:
        owner = None
        try:
            if value is not None:
                owner = self._intern(facts.network_set(value, key.namespace))
        finally:
            self.owners.put(key, owner)
        return ()

    def _policy(self, key: Key, value: NetworkPolicy | GlobalNetworkPolicy | None) -> Iterable[str]:
        id_ = facts.policy_id(key)
        fact = None if value is None else facts.policy(value, id_)
        self.policies.put(id_, fact)
        return fact.rules.problems if fact else ()

    def _tier(self, key: Key, value: Tier | None) -> Iterable[str]:
        self.tiers.put(key.name, facts.tier(value, key.name))
        return ()

    def _profile(self, key: Key, value: Profile | None) -> Iterable[str]:
        if key.name == DEFAULT_ALLOW_PROFILE:
            return ()
        fact = None if value is None else facts.profile(value, key.name)
        self.profiles.put(key.name, fact)
        return fact.rules.problems if fact else ()

    def _pool(self, key: Key, value: IPPool | None) -> Iterable[str]:
        pool = None
        try:
            if value is not None:
                pool = facts.pool(value)
        finally:
            self.pools.put(key.name, pool)
        return ()

    def _slice(self, key: Key, value: EndpointSlice | None) -> Iterable[str]:
        served, problems = (None, ()) if value is None else backends(value)
        self.backends.put(key, served)
        return filter(None, [sentence(problems)])

    def _intern(self, fact: OwnerFact) -> Owner:
        own = self.interner.labels(fact.labels)
        return Owner(self.interner.traits(own, fact.profiles, fact.ports), fact.nets)
