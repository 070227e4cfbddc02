"""What a packet-filter back end must be able to do: the contract of nftables and iptables.

In:   ``Change`` and ``Table`` values of ``calico.ruleset.ast``.
Out:  the kernel's ruleset in the network namespace of the calling thread.

All methods block; the agent calls them from one worker thread. Only what is ours is ever read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from calico.ruleset.ast import Change, Table, TableFamily


class ProgrammingError(Exception):
    """The base of what programming the kernel raises."""


class Rejected(ProgrammingError):
    """The kernel refused a transaction; none of it was applied.

    Ours to fix: trying again unchanged is useless. ``sync`` finds out what the kernel holds and starts from there.
    """


class Busy(ProgrammingError):
    """The kernel or a lock was busy, or a tool timed out; try again later."""


class Missing(ProgrammingError):
    """The kernel or the machine lacks what the back end needs; the sentence says what, and how to get it."""


class Drift(NamedTuple):
    """Something that the kernel held otherwise than desired, and that was repaired."""

    family: TableFamily
    what: str
    """The object, e.g. "table calico", "chain filter-FORWARD", "set cali40s:..."."""
    found: str
    """What was found instead, for people: "missing", "changed", "unexpected", or a short difference."""


class Backend(Protocol):
    """One way to program the packet filter."""

    name: str
    """"nftables", "iptables-nft" or "iptables-legacy"."""

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out ``changes`` (at most one a family) on top of what was applied or synced last.

        Atomic for each family on nftables; on iptables in an order that never opens anything between.
        Raises Rejected or Busy, after which only ``sync`` may follow.
        """
        ...

    def sync(self, desired: Mapping[TableFamily, Table]) -> list[Drift]:
        """Read the kernel, bring it to ``desired`` with the smallest change, and say what was different.

        Works from any state: nothing there, a former run's state, someone else's edits. Existing rules go on
        working meanwhile; nothing is opened on the way. Objects that a fresh start merely lacks are reported as
        drift "missing" too.
        """
        ...

    def check(self, desired: Mapping[TableFamily, Table]) -> list[Drift]:
        """What differs from ``desired``, without changing anything."""
        ...

    def remove(self) -> bool:
        """Take away everything of ours, leaving what is foreign exactly as it is; whether there was anything."""
        ...
