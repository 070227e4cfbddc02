"""Labels: what an endpoint or network set is called, its own and inherited, interned.

In:   labels of resources, and profiles whose ``labelsToApply`` endpoints inherit.
Out:  ``Traits`` (what owners of addresses may share) and the effective ``Labels`` of each.
Next: ``calculation.matching`` asks which selectors match which ``Labels``.

Label sets are few where endpoints are many, so equal ones are one object, compared by identity. The
interner holds them weakly: with the last row that uses it, a label set is gone.

An own label wins over an inherited one, and the profile listed first over those after it. What nobody
may claim is never taken from where it could be forged: namespace and service account follow from the
resource itself, and labels prefixed ``pcns.`` and ``pcsa.`` come from profiles only (behaviour
reference 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

from calico.model.address import Cidr
from calico.model.keys import Key
from calico.tables.derived import Derived, On, Stage
from calico.tables.table import Index, Table

NAMESPACE: Final = "projectcalico.org/namespace"
SERVICE_ACCOUNT: Final = "projectcalico.org/serviceaccount"
ORCHESTRATOR: Final = "projectcalico.org/orchestrator"
NAMESPACE_PREFIX: Final = "pcns."
SERVICE_ACCOUNT_PREFIX: Final = "pcsa."
LABEL_VALUE_MAX: Final = 63
"""Kubernetes' limit for a label's value; a longer service account has no label (behaviour reference 3.8)."""

Port = tuple[str, int, int]
"""A named port: its name, its protocol's number, its number."""


class Labels:
    """One distinct label set. Made by an ``Interner`` only, so that ``is`` is equality."""

    __slots__ = ("__weakref__", "values")

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"Labels({dict(sorted(self.values.items()))})"


class Traits:
    """What the endpoints of one deployment share: own labels, profiles in order, named ports."""

    __slots__ = ("__weakref__", "own", "ports", "profiles")

    def __init__(self, own: Labels, profiles: tuple[str, ...], ports: tuple[Port, ...]) -> None:
        self.own = own
        self.profiles = profiles
        self.ports = ports


class Owner(NamedTuple):
    """Whoever brings addresses into sets: an endpoint of any node, or a network set."""

    traits: Traits
    nets: tuple[Cidr, ...]


class Giver(Protocol):
    """A profile, as far as it matters here."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that endpoints inherit from it."""


G = TypeVar("G", bound=Giver)


class Interner:
    """Equal label sets and equal traits are one object each, for as long as someone holds them."""

    def __init__(self) -> None:
        self._labels: WeakValueDictionary[frozenset[tuple[str, str]], Labels] = WeakValueDictionary()
        self._traits: WeakValueDictionary[tuple[Labels, tuple[str, ...], tuple[Port, ...]], Traits] = (
            WeakValueDictionary()
        )

    def __len__(self) -> int:
        return len(self._labels) + len(self._traits)

    def labels(self, values: Mapping[str, str]) -> Labels:
        """The one ``Labels`` that says ``values``."""
        key = frozenset(values.items())
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = Labels(dict(values))
        return labels

    def traits(self, own: Labels, profiles: tuple[str, ...], ports: tuple[Port, ...]) -> Traits:
        """The one ``Traits`` of these three."""
        key = (own, profiles, ports)
        traits = self._traits.get(key)
        if traits is None:
            traits = self._traits[key] = Traits(own, profiles, ports)
        return traits


def namespaced(
    labels: Mapping[str, str], namespace: str, service_account: str = "", orchestrator: str = ""
) -> dict[str, str]:
    """The own labels of a workload or a NetworkSet: as given, less what could be forged, with what is known.

    Where the orchestrator is unknown the label says what it said.
    """
    own = {
        name: value
        for name, value in labels.items()
        if not name.startswith((NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX)) and name != SERVICE_ACCOUNT
    }
    own[NAMESPACE] = namespace
    if service_account and len(service_account) <= LABEL_VALUE_MAX:
        own[SERVICE_ACCOUNT] = service_account
    if orchestrator:
        own[ORCHESTRATOR] = orchestrator
    return own


def cluster_wide(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of what belongs to no namespace: host endpoints, global network sets, and those that profiles give."""
    return {name: value for name, value in labels.items() if name != NAMESPACE}


def inherit(own: Mapping[str, str], inherited: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Effective labels: ``own`` first, then those of each profile in the order they are listed."""
    effective = dict(own)
    for labels in inherited:
        for name, value in labels.items():
            effective.setdefault(name, value)
    return effective


class Inheritance(Generic[G]):
    """The effective labels of every ``Traits`` that some owner has: ``labels``, and who has them: ``bearers``."""

    def __init__(self, owners: Table[Key, Owner], profiles: Table[str, G], interner: Interner) -> None:
        self._profiles = profiles
        self._interner = interner
        self.labels: Table[Traits, Labels] = Table()
        self.owners = Index(owners, lambda _, owner: (owner.traits,))
        """Owners by their traits."""
        self.bearers = Index(self.labels, lambda _, labels: (labels,))
        """Traits by their effective labels."""
        self._heirs = Index(self.labels, lambda traits, _: traits.profiles)
        self.tables: tuple[Table[Any, Any], ...] = (self.labels,)
        self.stages: tuple[Stage, ...] = (
            Derived(
                self.labels,
                self._effective,
                On(owners, self._traits_of),
                On(profiles, self._inheriting),
            ),
        )

    def _effective(self, traits: Traits) -> Labels | None:
        """Own labels and those of the profiles, while somebody has these traits."""
        if traits not in self.owners:
            return None
        given = [
            profile.labels for name in traits.profiles if (profile := self._profiles.get(name)) is not None
        ]
        if not any(given):
            return traits.own
        return self._interner.labels(inherit(traits.own.values, given))

    def _inheriting(self, name: str, before: G | None, now: G | None) -> Iterable[Traits]:
        if before is None or now is None or before.labels != now.labels:
            yield from self._heirs[name]

    @staticmethod
    def _traits_of(_key: Key, before: Owner | None, now: Owner | None) -> Iterator[Traits]:
        if before is not None:
            yield before.traits
        if now is not None:
            yield now.traits
