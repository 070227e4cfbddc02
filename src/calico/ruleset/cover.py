"""The prefixes of a set that no other prefix of it contains, kept up to date while members come and go.

In:   members of a "net" set, which may overlap.
Out:  the maximal ones: what an nftables interval set can hold, which refuses overlaps; and, for a change of
      members, what that set gains and loses.
Next: ``ruleset.nft`` writes the elements.

The addresses that are matched are always exactly those of all members. A covered prefix is not forgotten: it
comes back when the one that covers it goes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final

from calico.model.address import WIDTH, Cidr

REBUILD_SHARE: Final = 8
"""A change of more than one in this many members is computed afresh, which is then cheaper."""


def maximal(nets: Iterable[Cidr]) -> Iterator[Cidr]:
    """The prefixes that no other of them contains, in ascending order, each once."""
    last: Cidr | None = None
    for net in sorted(nets):
        if last is None or not last.contains(net):
            yield net
            last = net


class Cover:
    """Members of one family, and the maximal ones among them."""

    def __init__(self, nets: Iterable[Cidr] = ()) -> None:
        self._load(nets)

    def _load(self, nets: Iterable[Cidr]) -> None:
        # Sorted by value, then length: a prefix comes directly before everything that it contains.
        self._sorted = sorted(set(nets))
        self._by_length: dict[int, set[int]] = {}
        for net in self._sorted:
            self._by_length.setdefault(net.length, set()).add(net.value)

    def __iter__(self) -> Iterator[Cidr]:
        """The maximal prefixes, ascending."""
        return maximal(self._sorted)

    def update(self, added: Iterable[Cidr], removed: Iterable[Cidr]) -> tuple[list[Cidr], list[Cidr]]:
        """Change the members; what the maximal ones gain and what they lose, both ascending and disjoint.

        A member that is added twice or removed without being there is no error.
        """
        joining = {net for net in added if not self._has(net)}
        leaving = {net for net in removed if self._has(net)} - joining
        if (len(joining) + len(leaving)) * REBUILD_SHARE > len(self._sorted):
            before = set(self)
            self._load((set(self._sorted) - leaving) | joining)
            now = set(self)
            return sorted(now - before), sorted(before - now)
        changed: dict[Cidr, bool] = {}
        for net in leaving:
            self._remove(net, changed)
        for net in joining:
            self._add(net, changed)
        return sorted(n for n, gain in changed.items() if gain), sorted(
            n for n, gain in changed.items() if not gain
        )

    def _add(self, net: Cidr, changed: dict[Cidr, bool]) -> None:
        if not self._covered(net):
            for covered in maximal(self._inside(net)):
                _note(changed, covered, gain=False)
            _note(changed, net, gain=True)
        insort(self._sorted, net)
        self._by_length.setdefault(net.length, set()).add(net.value)

    def _remove(self, net: Cidr, changed: dict[Cidr, bool]) -> None:
        del self._sorted[bisect_left(self._sorted, net)]
        values = self._by_length[net.length]
        values.remove(net.value)
        if not values:
            del self._by_length[net.length]
        if not self._covered(net):
            _note(changed, net, gain=False)
            for uncovered in maximal(self._inside(net)):
                _note(changed, uncovered, gain=True)

    def _has(self, net: Cidr) -> bool:
        return net.value in self._by_length.get(net.length, ())

    def _covered(self, net: Cidr) -> bool:
        """Whether a shorter member contains ``net``."""
        width = WIDTH[net.family]
        return any(
            (net.value >> (width - length) << (width - length)) in values
            for length, values in self._by_length.items()
            if length < net.length
        )

    def _inside(self, net: Cidr) -> Iterator[Cidr]:
        """The members that ``net`` contains, itself excepted."""
        for index in range(bisect_left(self._sorted, net), len(self._sorted)):
            member = self._sorted[index]
            if not net.contains(member):
                return
            if member != net:
                yield member


def _note(changed: dict[Cidr, bool], net: Cidr, *, gain: bool) -> None:
    """Record a gain or loss; one that undoes the other leaves nothing."""
    if changed.get(net, gain) != gain:
        del changed[net]
    else:
        changed[net] = gain
