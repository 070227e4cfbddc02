"""Tables that remember what changed in the current batch, and indexes that follow them.

In:   rows, put one at a time; None as a row means that there is none.
Out:  the rows, the changes since the last ``forget``, and look-ups by what rows hold.
Next: ``tables.derived`` computes further tables from the changes.

A change is what differs between the two ends of a batch: a row that was put and taken back, or
put again as it was, has not changed. Rows are immutable values, compared with ``==``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, Generic, Literal, TypeVar

K = TypeVar("K")
V = TypeVar("V")
I = TypeVar("I")  # noqa: E741 - the index's own key, beside K and V
P = TypeVar("P", bound=tuple[Any, Any])

_SMALL: Final = 8
"""Buckets of an index up to this size are tuples: most hold one key, and a set costs four times as much."""


class Table(Generic[K, V]):
    """Rows by key. Never empty-handed: an absent row is None, and so is a row before it existed."""

    def __init__(self) -> None:
        self._rows: dict[K, V] = {}
        self._before: dict[K, V | None] = {}
        self.indexes: list[Index[Any, K, V]] = []
        self.get: Callable[[K], V | None] = self._rows.get
        """The row of a key now; the dictionary's own method, for speed."""

    def put(self, key: K, row: V | None) -> None:
        """Make ``row`` the row of ``key``; None removes it. Putting what is there already changes nothing."""
        before = self._rows.get(key)
        if before == row:
            return
        self._before.setdefault(key, before)
        if row is None:
            del self._rows[key]
        else:
            self._rows[key] = row
        for index in self.indexes:
            index.move(key, before, row)

    def before(self, key: K) -> V | None:
        """The row of ``key`` as it was when the batch began."""
        return self._before[key] if key in self._before else self.get(key)

    def changes(self) -> Iterator[tuple[K, V | None, V | None]]:
        """Each key whose row differs from the one it had when the batch began, with both rows."""
        get = self.get
        for key, before in self._before.items():
            now = get(key)
            if before != now:
                yield key, before, now

    def forget(self) -> None:
        """Begin a new batch: what is now, is the new before."""
        if self._before:
            self._before = {}

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def items(self) -> Iterable[tuple[K, V]]:
        """All keys with their rows; a live view, not to be kept across a ``put``."""
        return self._rows.items()


class Relation(Table[P, Literal[True]]):
    """A table of bare pairs: a row is there or not. Grouped by the pair's first half, which saves 100 bytes a pair."""

    def __init__(self, pair: Callable[[Any, Any], P]) -> None:
        super().__init__()
        self._pair = pair
        self._groups: dict[Any, set[Any]] = {}
        self._size = 0
        self.get = self._has

    def _has(self, key: P) -> Literal[True] | None:
        group = self._groups.get(key[0])
        return True if group is not None and key[1] in group else None

    def put(self, key: P, row: Literal[True] | None) -> None:
        """Make the pair true, or remove it with None."""
        first, second = key
        group = self._groups.get(first)
        before: Literal[True] | None = True if group is not None and second in group else None
        if before is row:
            return
        self._before.setdefault(key, before)
        if row is None:
            assert group is not None
            group.remove(second)
            self._size -= 1
            if not group:
                del self._groups[first]
        else:
            if group is None:
                group = self._groups[first] = set()
            group.add(second)
            self._size += 1
        for index in self.indexes:
            index.move(key, before, row)

    def __iter__(self) -> Iterator[P]:
        pair = self._pair
        return (pair(first, second) for first, group in self._groups.items() for second in group)

    def __len__(self) -> int:
        return self._size

    def items(self) -> Iterable[tuple[P, Literal[True]]]:
        """All pairs; each with True."""
        return ((key, True) for key in self)


class Index(Generic[I, K, V]):
    """The keys of ``table`` by something that their rows hold: ``index[what]`` are the keys whose row holds it.

    ``holds(key, row)`` names what a row holds, as a tuple or frozenset; it must depend on its arguments
    only. The index follows every ``put``; a bucket may be iterated until the next one.
    """

    def __init__(self, table: Table[K, V], holds: Callable[[K, V], Collection[I]]) -> None:
        self._holds = holds
        self._buckets: dict[I, tuple[K, ...] | set[K]] = {}
        for key, row in table.items():
            self.move(key, None, row)
        table.indexes.append(self)

    def __getitem__(self, what: I) -> Collection[K]:
        return self._buckets.get(what, ())

    def __contains__(self, what: I) -> bool:
        return what in self._buckets

    def __len__(self) -> int:
        return len(self._buckets)

    def __iter__(self) -> Iterator[I]:
        return iter(self._buckets)

    def move(self, key: K, before: V | None, now: V | None) -> None:
        """Follow one change of the table; called by the table itself."""
        old = () if before is None else self._holds(key, before)
        new = () if now is None else self._holds(key, now)
        for what in old:
            if what not in new:
                self._take(what, key)
        for what in new:
            if what not in old:
                self._give(what, key)

    def _give(self, what: I, key: K) -> None:
        bucket = self._buckets.get(what)
        if bucket is None:
            self._buckets[what] = (key,)
        elif isinstance(bucket, set):
            bucket.add(key)
        elif key not in bucket:
            larger = (*bucket, key)
            self._buckets[what] = larger if len(larger) <= _SMALL else set(larger)

    def _take(self, what: I, key: K) -> None:
        bucket = self._buckets.get(what)
        if bucket is None:
            return
        if isinstance(bucket, set):
            bucket.discard(key)
            if len(bucket) > _SMALL // 2:
                return
        rest = tuple(each for each in bucket if each != key)
        if rest:
            self._buckets[what] = rest
        else:
            del self._buckets[what]
