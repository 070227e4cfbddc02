"""Which selectors match which label sets: the one hot join, written by hand.

In:   a table of rows that have a selector, and a table of rows that have a label set.
Out:  ``Match.table``: for each distinct label set, the keys of all rows whose selector matches it.
Next: ``calculation.bindings`` matches policies with local endpoints, ``calculation.sets`` sets with everybody.

Of n selectors and m label sets only the pairs that could match are tried: a selector that demands a label, or
one of some values of it, is filed under that demand (its anchors), and meets only label sets that fulfil it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from calico.calculation.labels import NAMESPACE, ORCHESTRATOR, Labels
from calico.model.selector import Selector
from calico.tables.derived import On
from calico.tables.table import Index, Table

K = TypeVar("K")
S = TypeVar("S")

Anchor = tuple[str, str] | tuple[str]
"""A demand on a label set: this label with this value, or this label; ``ANYWHERE`` is no demand."""

ANYWHERE: tuple[str] = ("",)
_BROAD = frozenset({NAMESPACE, ORCHESTRATOR})
"""Labels that nearly everything has, and many selectors demand: anchors only where there is no other."""


def anchors(selector: Selector) -> tuple[Anchor, ...]:
    """Demands of which every label set that ``selector`` matches fulfils at least one; none if it matches nothing."""
    best: tuple[Anchor, ...] = (ANYWHERE,)
    rank: tuple[int, bool, int] = (2, False, 0)
    for name, restriction in selector.restrictions().items():
        if restriction.impossible:
            return ()
        if restriction.values is not None:
            mine = (0, name in _BROAD, len(restriction.values))
            if mine < rank:
                rank, best = mine, tuple((name, value) for value in sorted(restriction.values))
        elif restriction.present:
            mine = (1, name in _BROAD, 0)
            if mine < rank:
                rank, best = mine, ((name,),)
    return best


class Match(Generic[K]):
    """A stage: ``table`` says for each label set that somebody has, which keys of ``selectors`` match it.

    A label set is somebody's while it is in ``present``, an index of the table ``carriers`` by label set.
    ``matching[key]`` are the label sets that the selector of ``key`` matches.
    """

    def __init__(
        self,
        selectors: Table[K, S],
        selector_of: Callable[[S], Selector],
        carriers: Table[Any, Labels],
        present: Index[Labels, Any, Labels],
    ) -> None:
        self._selectors = selectors
        self._selector_of: Callable[[Any], Selector] = selector_of
        self._present = present
        self.table: Table[Labels, frozenset[K]] = Table()
        self.matching = Index(self.table, lambda _, keys: keys)
        self._by_pair = Index(self.table, lambda labels, _: labels.values.items())
        self._anchored: Index[Anchor, K, S] = Index(selectors, lambda _, row: anchors(selector_of(row)))
        self.carried: On[Any, Labels, Labels] = On(carriers, _both)
        self.reworded: On[K, S, K] = On(selectors, self._reworded)
        self.sources = (self.carried, self.reworded)

    def settle(self) -> None:
        """Follow both tables: new label sets meet all selectors, new selectors meet all older label sets."""
        table = self.table
        fresh: set[Labels] = set()
        for labels in set(self.carried.touched()):
            if labels not in self._present:
                table.put(labels, None)
            elif labels not in table:
                table.put(labels, self._selecting(labels))
                fresh.add(labels)
        if len(fresh) == len(table):
            return
        gained: defaultdict[Labels, set[K]] = defaultdict(set)
        lost: defaultdict[Labels, set[K]] = defaultdict(set)
        for key in self.reworded.touched():
            had = {labels for labels in self.matching[key] if labels not in fresh}
            has = {labels for labels in self._selected(key) if labels not in fresh}
            for labels in has - had:
                gained[labels].add(key)
            for labels in had - has:
                lost[labels].add(key)
        for labels in gained.keys() | lost.keys():
            keys = table.get(labels) or frozenset()
            table.put(labels, keys.union(gained.get(labels, ())).difference(lost.get(labels, ())))

    def _reworded(self, key: K, before: S | None, now: S | None) -> Iterable[K]:
        if before is None or now is None or self._selector_of(before) != self._selector_of(now):
            yield key

    def _selecting(self, labels: Labels) -> frozenset[K]:
        """The keys of all selectors that match ``labels``."""
        anchored, values = self._anchored, labels.values
        candidates = [*anchored[ANYWHERE]]
        for pair in values.items():
            candidates += anchored[pair]
            candidates += anchored[pair[:1]]
        get, selector_of = self._selectors.get, self._selector_of
        return frozenset(key for key in candidates if selector_of(get(key)).matches(values))

    def _selected(self, key: K) -> Iterator[Labels]:
        """The label sets that the selector of ``key`` matches, if there is one."""
        row = self._selectors.get(key)
        if row is None:
            return
        selector = self._selector_of(row)
        for anchor in anchors(selector):
            for labels in self._by_pair[anchor] if len(anchor) == 2 else self.table:
                if selector.matches(labels.values):
                    yield labels


def _both(_key: Any, before: Labels | None, now: Labels | None) -> Iterator[Labels]:
    if before is not None:
        yield before
    if now is not None:
        yield now
