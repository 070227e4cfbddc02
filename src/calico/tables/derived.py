"""Derived tables: two functions each, and one pass that brings them up to date.

In:   tables with the changes of a batch.
Out:  further tables, each row a pure function of rows before it.
Next: ``calculation.network`` puts the stages in order and reads the changes of the last tables.

``compute(key)`` is the row of a key, from the tables before it, or None for no such row.
``touches(key, before, now)``, one per source table, names the keys that a change there may concern:
it may name too many and must never name too few. That is the only obligation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from calico.tables.table import Table

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")
R = TypeVar("R")


@dataclass(slots=True)
class On(Generic[S, R, K]):
    """What changes of a source ``table`` mean for another: the keys that they touch."""

    table: Table[S, R]
    touches: Callable[[S, R | None, R | None], Iterable[K]]

    def touched(self) -> Iterator[K]:
        """Every key that the batch's changes touch, possibly several times."""
        touches = self.touches
        for key, before, now in self.table.changes():
            yield from touches(key, before, now)


class Stage(Protocol):
    """One step of a settle: it brings what it owns up to date with the stages before it."""

    def settle(self) -> None:
        """Follow the batch's changes of the tables before."""


class Derived(Generic[K, V]):
    """``table``, kept equal to ``compute`` over all keys that its ``sources`` ever touched."""

    def __init__(
        self, table: Table[K, V], compute: Callable[[K], V | None], *sources: On[Any, Any, K]
    ) -> None:
        self.table = table
        self.compute = compute
        self.sources = sources

    def settle(self) -> None:
        """Compute again each row that some change may concern, once."""
        put, compute = self.table.put, self.compute
        for key in {key for source in self.sources for key in source.touched()}:
            put(key, compute(key))


def settle(stages: Iterable[Stage]) -> None:
    """Bring all stages up to date, in order: each reads only tables that are settled already."""
    for stage in stages:
        stage.settle()
