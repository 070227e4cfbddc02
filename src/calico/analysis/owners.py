"""Who has an address, and what it is called: the labels by which selectors find it.

In:   the facts of a world.
Out:  ``Owners.of``: the endpoints and network sets that bring an address into selections, with effective labels.
Next: ``analysis.trail`` says which of them made a rule match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from calico.calculation import facts as read
from calico.calculation.facts import OwnerFact
from calico.calculation.labels import Port, cluster_wide, inherit
from calico.model.address import Cidr
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.keys import Key
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.policy import Profile
from calico.model.resource import Resource
from calico.model.selector import Selector
from calico.model.selector_tree import All, And, Global, Not, Or, walk


class Owner(NamedTuple):
    """An endpoint or network set that has an address. ``net`` is what of it covers the address."""

    key: Key
    net: Cidr
    labels: Mapping[str, str]
    ports: tuple[Port, ...]

    @property
    def name(self) -> str:
        """``WorkloadEndpoint shop/web-1``."""
        return f"{self.key.kind} {'/'.join(part for part in self.key[:0:-1] if part)}"


class Owners:
    """Every owner of addresses in a world. Nothing is read before the first question."""

    def __init__(self, facts: Mapping[Key, Resource]) -> None:
        self._facts = facts
        self._exact: dict[Cidr, list[tuple[Key, OwnerFact]]] | None = None
        self._wide: list[tuple[Cidr, Key, OwnerFact]] = []

    def of(self, address: Cidr) -> list[Owner]:
        """Who has ``address``, itself or within a prefix: those that have just it first, in the order of keys."""
        found = [Owner(key, address, self._labels(owner), owner.ports) for key, owner in self._at(address)]
        known = {owner.key for owner in found}
        for net, key, owner in self._wide:
            if net.contains(address) and key not in known:
                known.add(key)
                found.append(Owner(key, net, self._labels(owner), owner.ports))
        return found

    def _at(self, address: Cidr) -> list[tuple[Key, OwnerFact]]:
        if self._exact is None:
            self._exact = {}
            for key, owner in self._owners():
                for net in owner.nets:
                    if net.is_address:
                        self._exact.setdefault(net, []).append((key, owner))
                    else:
                        self._wide.append((net, key, owner))
        return self._exact.get(address, [])

    def _owners(self) -> Iterator[tuple[Key, OwnerFact]]:
        for key in sorted(self._facts):
            try:
                match self._facts[key]:
                    case WorkloadEndpoint() as workload:
                        yield key, read.workload(workload, key.namespace)
                    case HostEndpoint() as host:
                        yield key, read.host(host)[0]
                    case NetworkSet() | GlobalNetworkSet() as nets:
                        yield key, read.network_set(nets, key.namespace)
            except ValueError:
                continue  # unusable: it is in no selection

    def _labels(self, owner: OwnerFact) -> Mapping[str, str]:
        profiles = (self._facts.get(Key("Profile", name)) for name in owner.profiles)
        given = [
            cluster_wide(profile.spec.labels_to_apply) for profile in profiles if isinstance(profile, Profile)
        ]
        return inherit(owner.labels, given)


def mentioned(selector: Selector, labels: Mapping[str, str]) -> dict[str, str]:
    """Those of ``labels`` that ``selector`` speaks of: why it matches, or does not."""
    names = {
        node.label for node in walk(selector.node) if not isinstance(node, All | Global | Not | And | Or)
    }
    return {name: labels[name] for name in sorted(names) if name in labels}
