"""The back ends under test, and small ways to say rulesets."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest

from calico.model.address import Cidr, Family, parse_cidr
from calico.programming.backend import Backend, Drift
from calico.ruleset import ast
from support.packets import Arrival, Probe, World, fenced, fenced_change, world

T = TypeVar("T")
NAMES: Final = ("nftables", "iptables-nft", "iptables-legacy")
FAMILIES: Final[tuple[Family, ...]] = (4, 6)
_PROGRAMS: Final = {
    "nftables": ("nft",),
    "iptables-nft": ("iptables-nft", "iptables-nft-restore", "ip6tables-nft-restore", "ipset"),
    "iptables-legacy": ("iptables-legacy", "iptables-legacy-restore", "ip6tables-legacy-restore", "ipset"),
}


def make_backend(name: str, lock_file: Path) -> Backend:
    """A fresh back end, as the agent makes it; the test is skipped where its programs are missing."""
    for program in _PROGRAMS[name]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if name == "nftables":
        from calico.programming.nft import Nftables

        return Nftables()
    from calico.programming.iptables import Iptables

    return Iptables("nft" if name == "iptables-nft" else "legacy", str(lock_file))


def rule(*parts: ast.Match | ast.Statement) -> ast.Rule:
    """A rule of its matches and statements in one list."""
    matches = [part for part in parts if isinstance(part, ast.Match)]
    statements = [part for part in parts if not isinstance(part, ast.Match)]
    return ast.Rule(tuple(matches), tuple(statements))


def table(
    family: Family,
    chains: Mapping[str, Sequence[ast.Rule]],
    sets: Mapping[str, tuple[str, Sequence[ast.Member]]] | None = None,
    maps: Mapping[str, Mapping[str, ast.Verdict]] | None = None,
) -> ast.Table:
    """A table; a chain called like "filter-FORWARD" hangs where its name says."""
    made = ast.Table(family)
    for name, rules in chains.items():
        of, dash, hook = name.partition("-")
        known = dash and of in {"raw", "mangle", "nat", "filter"}
        where = ast.Hook(of, hook.lower()) if known else None  # type: ignore[arg-type]
        made.chains[name] = ast.Chain(tuple(rules), where)
    for name, (kind, members) in (sets or {}).items():
        made.sets[name] = ast.Set(kind)  # type: ignore[arg-type]
        made.members[name] = set(members)
    made.maps = {name: dict(entries) for name, entries in (maps or {}).items()}
    return made


def nets(*texts: str) -> list[Cidr]:
    """Prefixes, as set members."""
    return [parse_cidr(text) for text in texts]


@dataclass
class Rig:
    """One back end at work in one world."""

    world: World
    backend: Backend
    lock_file: Path
    loaded: dict[ast.TableFamily, ast.Table] = field(default_factory=dict)

    def fresh(self) -> Backend:
        """Another back end of the same kind, which remembers nothing: what a restarted agent has."""
        return make_backend(self.backend.name, self.lock_file)

    def load(self, *tables: ast.Table) -> list[Drift]:
        """Sync to just these tables, with a fence in each; a family without one lets everything through."""
        idle = [table(family, {"filter-FORWARD": []}) for family in FAMILIES]
        self.loaded = {t.family: fenced(t) for t in (*idle, *tables)}
        return self.inside(lambda: self.backend.sync(self.loaded))

    def apply(self, *changes: ast.Change) -> None:
        """Apply changes to the tables that were loaded."""
        from calico.ruleset.diff import applied

        changes = tuple(fenced_change(change) for change in changes)
        self.inside(lambda: self.backend.apply(changes))
        for change in changes:
            applied(self.loaded.setdefault(change.family, ast.Table(change.family)), change)

    def check(self) -> list[Drift]:
        """What the back end finds wrong with what was loaded and applied."""
        return self.inside(lambda: self.backend.check(self.loaded))

    def sync(self) -> list[Drift]:
        """Repair to what was loaded and applied."""
        return self.inside(lambda: self.backend.sync(self.loaded))

    def inside(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the host's namespace, as the agent would."""
        return self.world.host.call(function)

    def passes(self, *probes: Probe) -> list[bool]:
        return self.world.passes(*probes)

    def send(self, *probes: Probe) -> list[Arrival | None]:
        return self.world.send(*probes)


@contextlib.contextmanager
def make_rig(name: str, prefix: str, directory: Path) -> Iterator[Rig]:
    """A back end in a fresh world whose namespaces begin with ``prefix``; its lock file is in ``directory``."""
    lock_file = directory / "xtables.lock"
    backend = make_backend(name, lock_file)
    with world(f"{prefix}-{name}") as made:
        yield Rig(made, backend, lock_file)
