"""The nftables back end: our tables called ``calico`` of ip, ip6 and arp, and nobody else's.

In:   ``Change`` and ``Table`` values of ``calico.ruleset.ast``.
Out:  the kernel's tables, one atomic transaction a family.
Next: ``agent.loop`` reports the drift that ``sync`` found.

What the kernel holds is remembered only as far as a change cannot be written without it: the types of sets,
which prefixes of a "net" set are covered by others, and which interfaces a map knows. After a failure that
memory is dropped, and only ``sync``, which reads the kernel, makes it anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from calico.programming.backend import Drift, ProgrammingError, Rejected
from calico.programming.libnftables import Runner, TooBig, runner
from calico.ruleset import nft, nftstate
from calico.ruleset.ast import Change, Table, TableFamily

PART: Final = 5000
"""Elements in one transaction, once the kernel has refused a large one."""


class Nftables:
    """``Backend`` for nftables. Use one from one thread, in one network namespace."""

    name = "nftables"

    def __init__(self, run: Runner | None = None) -> None:
        self._given = run
        self._opened: Runner | None = None
        self._held: dict[TableFamily, nft.Held] = {}
        self._learned = nftstate.Learned()

    @property
    def _runner(self) -> Runner:
        # Opened at first use, so that it belongs to the namespace of the thread that uses it.
        if self._opened is None:
            self._opened = self._given or runner()
        return self._opened

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out ``changes``, each in one transaction; on top of a kernel that holds nothing if there was no sync."""
        for change in changes:
            family = change.family
            try:
                self._run(nft.transaction(change, self._held.setdefault(family, nft.Held())))
            except KeyError as error:
                self._forget(family)
                raise Rejected(f"a change speaks of {error}, which was never made: sync first") from error
            except ProgrammingError:
                self._forget(family)
                raise

    def sync(self, desired: Mapping[TableFamily, Table]) -> list[Drift]:
        """Bring the kernel to ``desired``, and say what was different."""
        drift: list[Drift] = []
        for family, table in desired.items():
            self._forget(family)
            differences, repair = nftstate.compare(table, self._read(family), self._learned)
            if repair:
                self._run(repair)
                self._learn(table)
            self._held[family] = nft.Held.of(table)
            drift += [Drift(family, what, found) for what, found in differences]
        return drift

    def check(self, desired: Mapping[TableFamily, Table]) -> list[Drift]:
        """What differs from ``desired``; reads only."""
        return [
            Drift(family, what, found)
            for family, table in desired.items()
            for what, found in nftstate.compare(table, self._read(family), self._learned)[0]
        ]

    def remove(self) -> bool:
        """Take our tables away; no rule elsewhere is ours."""
        present = False
        for family in nft.NFT_FAMILY:
            self._forget(family)
            held = self._read(family)
            if held is None:
                continue
            # A packet on its way through our chains still finds what they look up: nothing leads there any more first.
            bases = [name for name, chain in held.chains.items() if chain.hook is not None]
            self._runner.run(nft.detach_text(family, bases))
            self._runner.run(nft.remove_text(family))
            present = True
        return present

    def _learn(self, table: Table) -> None:
        """See how the kernel prints what was just written: a wording of its own is no drift."""
        held = self._read(table.family)
        if held is not None:
            nftstate.learn(table, held, self._learned)

    def _run(self, transaction: nft.Transaction) -> None:
        if not transaction:
            return
        try:
            self._runner.run(transaction.text())
        except TooBig:
            for part in nft.split(transaction, PART):
                self._runner.run(part.text())

    def _read(self, family: TableFamily) -> nftstate.Snapshot | None:
        listed = self._runner.list_table(nft.NFT_FAMILY[family], nft.TABLE)
        return None if listed is None else nftstate.read(listed, family)

    def _forget(self, family: TableFamily) -> None:
        self._held.pop(family, None)
