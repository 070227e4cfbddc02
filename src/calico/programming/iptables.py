"""The packet filter through iptables and ipset: the second back end, for hosts whose other software uses iptables.

In:   ``Change`` and ``Table`` values.
Out:  chains "cali-*" in the kernel's tables, jumps to them, and sets "cali40*" and "cali60*".
Next: packets.

Each iptables table is changed by one ``iptables-restore --noflush``, which the kernel takes as a whole; but there
are four tables a family, and sets besides. So the order is: sets are made and gain members; filter, then the other
tables, are written; sets lose members and go. Between two steps a packet meets the old or the new rules of a
table, never a chain that is half written or a rule without its set.

Read-back compares each chain's hash comments, and its text with what iptables-save said right after we wrote it
(``ruleset.iptables_save`` says why). An iptables-save without our chains is believed only when asking for one of
them directly says so too: there are versions that fail silently, and whoever believes them inserts again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from shutil import which
from typing import Final, Literal

from calico.model.address import Family
from calico.programming import ipset
from calico.programming.backend import Busy, Drift, Missing, Rejected
from calico.programming.command import printable, run
from calico.ruleset import ast
from calico.ruleset.diff import applied
from calico.ruleset.ipset import kernel_set_name
from calico.ruleset.iptables import TABLES, Compiler, Image, Images, TableName
from calico.ruleset.iptables_save import (
    Edit,
    Saved,
    Truncated,
    compare,
    difference,
    hashes,
    is_our_rule,
    is_ours,
    parse,
    restore,
)

Variant = Literal["nft", "legacy"]
_WAIT: Final = "10"
"""Seconds to wait for the lock that the programs of this family share."""
_ATTEMPTS: Final = 3
"""Readings of the kernel within one ``sync``, when others write at the same time."""
VARIANTS: Final[tuple[Variant, ...]] = ("nft", "legacy")
_PROGRAM: Final = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES: Final = {4: "ip_tables_names", 6: "ip6_tables_names"}


class Iptables:
    """Programs the network namespace of the calling thread with one variant of iptables, and ipset.

    ``lock_file`` replaces /run/xtables.lock, which all namespaces of a machine share.
    """

    def __init__(self, variant: Variant = "nft", lock_file: str | None = None) -> None:
        self.name = f"iptables-{variant}"
        self._variant: Variant = variant
        self._environment = {} if lock_file is None else {"XTABLES_LOCKFILE": lock_file}
        self._tables: dict[Family, ast.Table] = {}
        self._compilers: dict[Family, Compiler] = {}
        self._written: dict[Family, Images] = {}
        self._seen: dict[tuple[Family, TableName], dict[str, tuple[str, ...]]] = {}
        self._lingering: set[str] = set()
        self._in_step = False

    # --- the contract

    def apply(self, changes: Sequence[ast.Change]) -> None:
        """Carry out ``changes`` on top of what was applied or synced last; see ``Backend.apply``."""
        if not self._in_step:
            raise Rejected(
                "what the kernel holds is not known, so a change cannot be applied; call sync first"
            )
        self._in_step = False
        before: list[str] = []
        after: list[str] = []
        doomed: set[str] = set(self._lingering)
        known = [(change.family, change) for change in changes if change and change.family != "arp"]
        for family, change in known:
            table = self._tables.setdefault(family, ast.Table(family))
            if family not in self._compilers:
                self._compilers[family] = Compiler(table)
            kept = {n: frozenset(table.members[n]) for n, s in change.sets.items() if s and n in table.sets}
            applied(table, change)
            self._compilers[family].forget(change.chains, {*change.maps, *change.new_maps, *change.gone_maps})
            plan = ipset.plan_change(change, table, kept, self._lingering)
            before += plan.before
            after += plan.after
            doomed |= plan.destroy
        images = {family: self._images(family) for family, _ in known}
        ipset.write(before)
        edits = {
            (family, table): difference(self._written.get(family, {}).get(table, Image()), image)
            for family, wanted in images.items()
            for table, image in wanted.items()
        }
        self._write(edits, images)
        ipset.write(after)
        self._destroy(doomed - self._desired_sets())
        self._in_step = True

    def sync(self, desired: Mapping[ast.TableFamily, ast.Table]) -> list[Drift]:
        """Bring the kernel to ``desired`` from whatever it holds; see ``Backend.sync``."""
        self._in_step = False
        self._tables = _ip_tables(desired)
        self._compilers = {family: Compiler(table) for family, table in self._tables.items()}
        report: list[Drift] = []
        for attempt in range(_ATTEMPTS):
            try:
                images, plan, edits = self._differences()
                report = report or [*plan.faults, *self._drifts(edits, images)]
                ipset.write(plan.before)
                self._write(edits, images)
                ipset.write(plan.after)
                self._destroy(plan.destroy)
            except (Busy, Rejected):
                # Somebody may have written between our reading and our writing: read again.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                self._in_step = True
                return report
        raise AssertionError("the last attempt returns or raises")

    def check(self, desired: Mapping[ast.TableFamily, ast.Table]) -> list[Drift]:
        """What differs from ``desired``, without changing anything."""
        tables = _ip_tables(desired)
        images = {family: _images(Compiler(table)) for family, table in tables.items()}
        plan = ipset.plan_sync(tables, ipset.read(), self._lingering)
        return [*plan.faults, *self._drifts(self._compare(images), images)]

    def remove(self) -> bool:
        """Take away everything of ours, of both families, leaving what is foreign as it is."""
        self._in_step = False
        self._tables, self._compilers = {}, {}
        nothing = {table: Image() for table in TABLES}
        images: dict[Family, Images] = dict.fromkeys(ipset.FAMILIES, nothing)
        edits = self._compare(images)
        self._write(edits, images)
        self._seen.clear()
        present = any(edits.values())
        if which("ipset") is None or self._other_variant_is_used():
            return present  # There can be no sets, or its rules use the same ones.
        sets = ipset.read()
        self._lingering = ipset.destroy(sets)
        if self._lingering:
            names = ", ".join(sorted(self._lingering))
            raise Busy(
                f"rules that are not ours still use our sets {names}; remove those rules and try again"
            )
        return present or bool(sets)

    def _other_variant_is_used(self) -> bool:
        other: Variant = "legacy" if self._variant == "nft" else "nft"
        if which(f"iptables-{other}-save") is None:
            return False
        tables = [table for family in ipset.FAMILIES for table in read_tables(other, family).values()]
        return any(is_ours(chain) for table in tables for chain in table.chains)

    # --- reading

    def _differences(
        self,
    ) -> tuple[dict[Family, Images], ipset.SetPlan, dict[tuple[Family, TableName], Edit]]:
        images = {family: self._images(family) for family in self._tables}
        plan = ipset.plan_sync(self._tables, ipset.read(), self._lingering)
        return images, plan, self._compare(images)

    def _compare(self, images: Mapping[Family, Images]) -> dict[tuple[Family, TableName], Edit]:
        """How each table of the kernel differs from its image. A family without images is left alone."""
        edits: dict[tuple[Family, TableName], Edit] = {}
        for family, wanted in images.items():
            saved = self._save(family)
            for table, image in wanted.items():
                edits[family, table] = compare(image, saved.get(table), self._seen.get((family, table), {}))
        return edits

    def _save(self, family: Family) -> dict[str, Saved]:
        """All tables of the kernel. Raises Busy when the program's answer cannot be true."""
        saved = read_tables(self._variant, family, self._environment)
        for table, chains in self._written.get(family, {}).items():
            shown = saved[table].chains if table in saved else {}
            if chains.chains and not any(is_ours(chain) for chain in shown):
                self._doubt(family, table, next(iter(chains.chains)))
        return saved

    def _doubt(self, family: Family, table: TableName, chain: str) -> None:
        """Ask for a chain that iptables-save did not show, though we wrote it. Raises Busy if it is there."""
        if self._variant == "legacy" and table not in _legacy_tables(family):
            return
        program = f"{_PROGRAM[family]}-{self._variant}"
        try:
            run(program, "-w", _WAIT, "-t", table, "-S", chain, environment=self._environment)
        except Rejected:
            return
        raise Busy(
            f"{program}-save showed nothing of ours in table {table}, but {chain} is there; it is tried again"
        )

    # --- writing

    def _write(self, edits: Mapping[tuple[Family, TableName], Edit], images: Mapping[Family, Images]) -> None:
        """Write what needs writing, table by table, and remember how the kernel spells it."""
        touched: dict[Family, list[TableName]] = {}
        for table in TABLES:
            for family, wanted in images.items():
                image = wanted[table]
                edit = edits.get((family, table))
                if edit:
                    text = restore(table, edit, image)
                    program = f"{_PROGRAM[family]}-{self._variant}-restore"
                    run(program, "--noflush", "--wait", _WAIT, stdin=text, environment=self._environment)
                    touched.setdefault(family, []).append(table)
                self._written.setdefault(family, {})[table] = image
        for family, tables in touched.items():
            saved = self._save(family)
            for table in tables:
                image = images[family][table]
                self._learn(family, table, edits[family, table].write, image, saved.get(table, Saved()))

    def _learn(
        self, family: Family, table: TableName, chains: Iterable[str], image: Image, saved: Saved
    ) -> None:
        """Keep the text of ``chains`` just written. Raises Busy when somebody has changed them already."""
        seen = self._seen.setdefault((family, table), {})
        for chain in seen.keys() - image.chains.keys():
            del seen[chain]
        for chain in chains:
            found = saved.chains.get(chain)
            if found is None or hashes(found) != hashes(image.chains[chain]):
                raise Busy(f"somebody changed the chain {chain} while we wrote it; it is tried again")
            seen[chain] = tuple(found)

    def _destroy(self, names: Iterable[str]) -> None:
        self._lingering = ipset.destroy(names)

    # --- words

    def _images(self, family: Family) -> Images:
        return _images(self._compilers[family])

    def _desired_sets(self) -> set[str]:
        return {
            kernel_set_name(family, name) for family, table in self._tables.items() for name in table.sets
        }

    def _drifts(
        self, edits: Mapping[tuple[Family, TableName], Edit], images: Mapping[Family, Images]
    ) -> Iterator[Drift]:
        for (family, table), edit in edits.items():
            names = images.get(family, {}).get(table, Image()).names
            for chain, found in edit.faults:
                what = f"chain {names.get(chain, chain)}" if is_ours(chain) else f"calls from {chain}"
                yield Drift(family, printable(f"{what} in table {table}"), found)


def _images(compiler: Compiler) -> Images:
    try:
        return compiler.images()
    except ValueError as error:
        raise Rejected(f"the ruleset cannot be written for iptables: {error}") from error


def _ip_tables(desired: Mapping[ast.TableFamily, ast.Table]) -> dict[Family, ast.Table]:
    """What there is to write, as copies: iptables knows nothing of ARP."""
    return {family: _copy(table) for family, table in desired.items() if family != "arp"}


def _copy(table: ast.Table) -> ast.Table:
    """A table of our own, so that its owner may go on changing theirs."""
    return ast.Table(
        table.family,
        dict(table.chains),
        dict(table.sets),
        {name: set(members) for name, members in table.members.items()},
        deepcopy(table.maps),
    )


def read_tables(
    variant: Variant, family: Family, environment: Mapping[str, str] | None = None
) -> dict[str, Saved]:
    """All tables of one variant that exist. Raises Busy when the program's answer cannot be true."""
    listed = _legacy_tables(family) if variant == "legacy" else []
    if variant == "legacy" and not listed:
        return {}
    program = f"{_PROGRAM[family]}-{variant}-save"
    try:
        saved = parse(run(program, environment=environment))
    except Truncated as error:
        raise Busy(f"{program}: {error}; it is tried again") from error
    if lost := [table for table in listed if table not in saved]:
        raise Busy(f"{program} did not show the tables {', '.join(lost)}, which exist; it is tried again")
    return saved


def _legacy_tables(family: Family) -> list[str]:
    """The legacy tables that exist in the calling thread's namespace. Asking iptables would make them."""
    try:
        return Path(f"/proc/thread-self/net/{_LEGACY_TABLES[family]}").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def has_legacy_table(family: Family, table: TableName) -> bool:
    """Whether iptables-legacy has such a table in the calling thread's namespace; asking does not make it."""
    return table in _legacy_tables(family)


def detect_variant() -> Variant:
    """The variant that the host's other software uses here: the one whose tables hold more rules, else nft.

    Raises Missing when neither variant is installed.
    """
    installed: list[Variant] = [v for v in VARIANTS if which(f"iptables-{v}-save")]
    if not installed:
        raise Missing(
            "neither iptables-nft nor iptables-legacy is installed; the package iptables brings both"
        )
    rules = dict.fromkeys(installed, 0)
    for variant in installed:
        for family in ipset.FAMILIES:
            for table in read_tables(variant, family).values():
                rules[variant] += sum(
                    not is_our_rule(r) for c, rs in table.chains.items() if not is_ours(c) for r in rs
                )
    return max(installed, key=rules.__getitem__)
