"""The sets that this host's rules need, and who is in them.

In:   active policies and profiles; owners of addresses everywhere, with their effective labels; who serves services.
Out:  ``specs`` (each set and its selector) and ``members`` (each set with each of its members).
Next: ``rendering`` makes them sets of the kernel.

An address is a member as long as *any* owner brings it: nothing is counted, so nothing can be miscounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from calico.calculation.labels import Inheritance, Labels, Owner, Traits
from calico.calculation.matching import Match
from calico.calculation.rules import Compiled, SetSpec, service_set
from calico.desired import PolicyId, PortMember, SetId, SetInfo, SetMember
from calico.model.address import Cidr
from calico.model.keys import Key
from calico.model.kubernetes_service import Backends
from calico.tables.derived import Derived, On, Stage
from calico.tables.table import Index, Relation, Table

SET_TYPES: Final[tuple[Literal["net", "port"], ...]] = ("net", "port")


class Sets:
    """From active rules and all owners to ``specs`` and ``members``."""

    def __init__(
        self,
        policies: Table[PolicyId, Compiled],
        profiles: Table[str, Compiled],
        owners: Table[Key, Owner],
        backends: Table[Key, Backends],
        inheritance: Inheritance[Any],
    ) -> None:
        self._policies, self._profiles, self._owners, self._inheritance = (
            policies,
            profiles,
            owners,
            inheritance,
        )
        self._backends = backends
        self._labels = inheritance.labels
        self._by_net = Index(owners, lambda _, owner: owner.nets)
        self._by_address = Index(backends, lambda _, served: served.addresses)
        self._by_service = Index(backends, lambda _, served: (served.service,))
        self._policies_using = Index(policies, lambda _, compiled: _ids(compiled))
        self._profiles_using = Index(profiles, lambda _, compiled: _ids(compiled))

        self.specs: Table[SetId, SetSpec] = Table()
        self.matched: Match[SetId] = Match(
            self.specs, lambda spec: spec.selector, inheritance.labels, inheritance.bearers
        )
        self.members: Relation[SetMember] = Relation(SetMember)

        self.tables: tuple[Table[Any, Any], ...] = (self.specs, self.matched.table, self.members)
        self.stages: tuple[Stage, ...] = (
            Derived(
                self.specs,
                self._spec,
                On(policies, lambda _, before, now: _needed(before, now)),
                On(profiles, lambda _, before, now: _needed(before, now)),
            ),
            self.matched,
            Derived(
                self.members,
                self._member,
                On(owners, self._brought),
                On(inheritance.labels, self._relabelled),
                On(self.matched.table, self._rematched),
                On(backends, self._served),
                On(self.specs, self._asked),
            ),
        )

    def _spec(self, id_: SetId) -> SetSpec | None:
        """A set, while some active policy or profile has a rule that needs it."""
        users = [self._policies.get(policy) for policy in self._policies_using[id_]]
        users += [self._profiles.get(profile) for profile in self._profiles_using[id_]]
        for compiled in users:
            for spec in compiled.sets if compiled else ():
                if spec.id == id_:
                    return spec
        return None

    def _member(self, key: SetMember) -> Literal[True] | None:
        """Whether some owner that the set selects brings this address, or listens on this port there.

        Of a service: whether one of its slices says so.
        """
        id_, member = key
        spec = self.specs.get(id_)
        if spec is None:
            return None
        port = member if isinstance(member, PortMember) else None
        net = member.address if isinstance(member, PortMember) else member
        if spec.info.service:
            for slice_key in self._by_address[net]:
                served = self._backends.get(slice_key)
                if (
                    served is not None
                    and served.service == spec.info.service
                    and (port is None or (port.protocol, port.port) in served.ports)
                ):
                    return True
            return None
        for owner_key in self._by_net[net]:
            owner = self._owners.get(owner_key)
            if (
                owner is not None
                and id_ in self._sets_now(owner.traits)
                and (port is None or (port.protocol, port.port) in _ports(owner, spec))
            ):
                return True
        return None

    def _served(self, _key: Key, before: Backends | None, now: Backends | None) -> Iterator[SetMember]:
        """What a slice said of a service, and what it says, where the two differ."""
        services = {each.service for each in (before, now) if each is not None}
        for spec in (service_set(service, type_) for service in services for type_ in SET_TYPES):
            if spec.id in self.specs or self.specs.before(spec.id) is not None:
                held, holds = (
                    set(_members_of(each, spec.info) if each and each.service == spec.info.service else ())
                    for each in (before, now)
                )
                yield from (SetMember(spec.id, member) for member in held ^ holds)

    def _asked(self, id_: SetId, before: SetSpec | None, now: SetSpec | None) -> Iterator[SetMember]:
        """All that serves a service whose set is needed now, or no more. Of slices that changed ``_served`` tells."""
        spec = now or before
        if spec is not None and spec.info.service:
            for slice_key in self._by_service[spec.info.service]:
                served = self._backends.get(slice_key)
                for member in _members_of(served, spec.info) if served else ():
                    yield SetMember(id_, member)

    def _brings(self, owner: Owner, sets: Iterable[SetId]) -> Iterator[SetMember]:
        """What ``owner`` brings into each of ``sets``, of now or of before this batch."""
        for id_ in sets:
            spec = self.specs.get(id_) or self.specs.before(id_)
            if spec is None:
                continue
            if spec.info.type == "net":
                for net in owner.nets:
                    yield SetMember(id_, net)
            else:
                for net in owner.nets:
                    for protocol, port in _ports(owner, spec):
                        yield SetMember(id_, PortMember(net, protocol, port))

    def _brought(self, _key: Key, before: Owner | None, now: Owner | None) -> Iterator[SetMember]:
        """What the owner brought, by the labels and selectors of before, and what it brings by those of now."""
        if (
            before is None
            or now is None
            or before.nets != now.nets
            or before.traits.ports != now.traits.ports
        ):
            if before is not None:
                yield from self._brings(before, self._sets_before(before.traits))
            if now is not None:
                yield from self._brings(now, self._sets_now(now.traits))
        else:
            yield from self._brings(now, self._sets_before(before.traits) ^ self._sets_now(now.traits))

    def _sets_before(self, traits: Traits) -> frozenset[SetId]:
        labels = self._labels.before(traits)
        return (self.matched.table.before(labels) if labels is not None else None) or frozenset()

    def _sets_now(self, traits: Traits) -> frozenset[SetId]:
        labels = self._labels.get(traits)
        return (self.matched.table.get(labels) if labels is not None else None) or frozenset()

    def _relabelled(self, traits: Traits, before: Labels | None, now: Labels | None) -> Iterator[SetMember]:
        """Traits that mean other labels than before. New and vanished traits have only owners that changed themselves."""
        if before is not None and now is not None:
            sets = self._sets_before(traits) ^ self._sets_now(traits)
            yield from self._brought_by(traits, sets)

    def _rematched(
        self, labels: Labels, before: frozenset[SetId] | None, now: frozenset[SetId] | None
    ) -> Iterator[SetMember]:
        """A label set that other sets select than before. New and vanished ones are told of by who came to have them."""
        if before is not None and now is not None:
            for traits in self._inheritance.bearers[labels]:
                yield from self._brought_by(traits, before ^ now)

    def _brought_by(self, traits: Traits, sets: Iterable[SetId]) -> Iterator[SetMember]:
        for key in self._inheritance.owners[traits]:
            owner = self._owners.get(key)
            if owner is not None:
                yield from self._brings(owner, sets)


def _members_of(served: Backends, info: SetInfo) -> Iterator[Cidr | PortMember]:
    """What a slice brings into the set of its service that ``info`` describes."""
    if info.type == "net":
        yield from served.addresses
    else:
        yield from (
            PortMember(address, protocol, port)
            for address in served.addresses
            for protocol, port in served.ports
        )


def _ids(compiled: Compiled) -> tuple[SetId, ...]:
    return tuple(spec.id for spec in compiled.sets)


def _needed(before: Compiled | None, now: Compiled | None) -> frozenset[SetId]:
    return frozenset(_ids(before) if before else ()) ^ frozenset(_ids(now) if now else ())


def _ports(owner: Owner, spec: SetSpec) -> set[tuple[int, int]]:
    info = spec.info
    return {
        (protocol, port)
        for name, protocol, port in owner.traits.ports
        if name == info.port_name and info.protocol in {None, protocol}
    }
