"""Kubernetes' objects among the facts -> what they stand for, in their place.

In:   updates, some of them about objects of Kubernetes (``model.kubernetes_kinds``).
Out:  updates about Calico's resources alone, and what could not be said in them.
Next: ``calculation.intake`` keeps what these updates say.

A namespace stands for profile ``kns.<name>``, and so on (behaviour reference 3.8, 3.9). Where a resource of the
same key is stored itself, that one counts, whichever came first; when it goes, what the object stands for is back,
and the other way round. Of several objects that stand for one key the first counts, by key.

Only what objects stand for is remembered here, so a store without them costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from calico.model.errors import Problem
from calico.model.fact import Update
from calico.model.ipam import Record
from calico.model.keys import KINDS, Key, key_of
from calico.model.kubernetes_kinds import EndpointSlice, KubernetesObject
from calico.model.kubernetes_object import Conversion
from calico.model.resource import Resource

OBJECTS: Final = frozenset(
    word for word, kind in KINDS.items() if issubclass(kind, KubernetesObject) and kind is not EndpointSlice
)
"""The kinds of keys whose facts are translated. Slices are facts themselves: rules match by them."""


class Translation:
    """What objects stand for now. ``stored`` says of a key that no object stands for whether a fact is known there."""

    def __init__(self, stored: Callable[[Key], bool]) -> None:
        self._stored = stored
        self._claims: dict[Key, dict[Key, Resource]] = {}
        """What objects say of a key, by the object's key."""
        self._made: dict[Key, tuple[Key, ...]] = {}
        """The keys that an object speaks of."""
        self._hidden: set[Key] = set()
        """Keys that objects speak of in vain, because a resource is stored there."""

    def __len__(self) -> int:
        return len(self._claims) + len(self._made) + len(self._hidden)

    def object(self, key: Key, value: Resource | Record | None) -> tuple[list[Update], str]:
        """What follows from an object's being so now, and what of it could not be said, as a sentence."""
        conversion = _meaning(value)
        claims = {key_of(resource): resource for resource in conversion.resources}
        changed = (*self._made.pop(key, ()), *claims)
        if claims:
            self._made[key] = tuple(claims)
        updates = [
            update for each in dict.fromkeys(changed) for update in self._claim(key, each, claims.get(each))
        ]
        return updates, sentence(conversion.problems)

    def _claim(self, source: Key, key: Key, value: Resource | None) -> Iterator[Update]:
        """``source`` says ``value`` of ``key`` now: what follows from that."""
        before = self._claims.get(key)
        if before is None and self._stored(key):
            self._hidden.add(key)
        claims = dict(before or {})
        claims.pop(source, None)
        if value is not None:
            claims[source] = value
        if claims:
            self._claims[key] = claims
        else:
            self._claims.pop(key, None)
        if key not in self._hidden:
            yield Update(key, _first(claims))
        elif not claims:
            self._hidden.discard(key)

    def resource(self, update: Update) -> Update:
        """What counts at the key of a resource, now that it is stored so, or is not."""
        claims = self._claims.get(update.key)
        if claims is None:
            return update
        if update.value is not None:
            self._hidden.add(update.key)
            return update
        self._hidden.discard(update.key)
        return Update(update.key, _first(claims))


class Translated(NamedTuple):
    """Facts without Kubernetes' objects, and by object what of it could not be said, as a sentence."""

    facts: dict[Key, Resource]
    problems: dict[Key, str]


def translated(facts: Mapping[Key, Resource]) -> Translated:
    """All facts, and what Kubernetes' objects among them stand for in the place of these."""
    made: dict[Key, Resource] = {}
    stored: dict[Key, Resource] = {}
    problems: dict[Key, str] = {}
    for key in sorted(facts, reverse=True):
        if key.kind not in OBJECTS:
            stored[key] = facts[key]
            continue
        conversion = _meaning(facts[key])
        made |= {key_of(resource): resource for resource in conversion.resources}
        if conversion.problems:
            problems[key] = sentence(conversion.problems)
    return Translated(made | stored, problems)


def _meaning(value: Resource | Record | None) -> Conversion:
    """What stands at an object's key as resources: what it is converted to, or what was saved of what it may have been."""
    match value:
        case None | Record():
            return Conversion()
        case KubernetesObject():
            return value.conversion()
        case _:
            return Conversion((value,))


def sentence(problems: Iterable[Problem]) -> str:
    """All that is wrong."""
    return "; ".join(": ".join(part for part in (each.field, each.explanation) if part) for each in problems)


def _first(claims: Mapping[Key, Resource]) -> Resource | None:
    return claims[min(claims)] if claims else None
