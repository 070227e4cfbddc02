"""The sets that this host's rules need, and who is in them.

In:   active policies and profiles; owners of addresses everywhere, with their effective labels.
Out:  ``specs`` (each set and its selector) and ``members`` (each set with each of its members).
Next: ``rendering`` makes them sets of the kernel.

An address is a member as long as *any* owner brings it: nothing is counted, so nothing can be miscounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from calico.calculation.labels import Inheritance, Labels, Owner, Traits
from calico.calculation.matching import Match
from calico.calculation.rules import Compiled, SetSpec
from calico.desired import PolicyId, PortMember, SetId, SetMember
from calico.model.keys import Key
from calico.tables.derived import Derived, On, Stage
from calico.tables.table import Index, Relation, Table


class Sets:
    """From active rules and all owners to ``specs`` and ``members``."""

    def __init__(
        self,
        policies: Table[PolicyId, Compiled],
        profiles: Table[str, Compiled],
        owners: Table[Key, Owner],
        inheritance: Inheritance[Any],
    ) -> None:
        self._policies, self._profiles, self._owners, self._inheritance = (
            policies,
            profiles,
            owners,
            inheritance,
        )
        self._labels = inheritance.labels
        self._by_net = Index(owners, lambda _, owner: owner.nets)
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
        """Whether some owner that the set selects brings this address, or listens on this port there."""
        id_, member = key
        spec = self.specs.get(id_)
        if spec is None:
            return None
        port = member if isinstance(member, PortMember) else None
        net = member.address if isinstance(member, PortMember) else member
        for owner_key in self._by_net[net]:
            owner = self._owners.get(owner_key)
            if (
                owner is not None
                and id_ in self._sets_now(owner.traits)
                and (port is None or (port.protocol, port.port) in _ports(owner, spec))
            ):
                return True
        return None

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
