"""Which of many prefixes an address lies in.

In:   prefixes, each with what stands for it; they may overlap.
Out:  for an address, the longest prefix around it.
Next: ``ipam.audit``, ``ipam.utilisation`` and ``ipam.account`` look up pools, blocks and reservations.

A lookup costs one look into a dictionary for each length that occurs, however many prefixes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from calico.model.address import WIDTH, Cidr

T = TypeVar("T")


class Prefixes(Generic[T]):
    """A set of prefixes, with a value each; of equal prefixes the last one counts."""

    def __init__(self, items: Iterable[tuple[Cidr, T]]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, tuple[Cidr, T]]] = {}
        for cidr, value in items:
            shift = WIDTH[cidr.family] - cidr.length
            found = self._by_length.setdefault((cidr.family, cidr.length), {})
            found[cidr.value >> shift] = (cidr, value)
        self._order = sorted(self._by_length, reverse=True)

    def find(self, inner: Cidr) -> tuple[Cidr, T] | None:
        """The longest prefix that holds all of ``inner``, and its value; None if none does."""
        return next(self.around(inner), None)

    def around(self, inner: Cidr) -> Iterator[tuple[Cidr, T]]:
        """All prefixes that hold all of ``inner``, the longest first."""
        for family, length in self._order:
            if family == inner.family and length <= inner.length:
                found = self._by_length[family, length].get(inner.value >> (WIDTH[family] - length))
                if found is not None:
                    yield found


def disjoint(prefixes: Iterable[Cidr]) -> list[Cidr]:
    """The same addresses without any that stands in two prefixes, in order of addresses."""
    kept: list[Cidr] = []
    for cidr in sorted(set(prefixes)):  # a prefix sorts before those within it
        if not kept or not kept[-1].contains(cidr):
            kept.append(cidr)
    return kept
