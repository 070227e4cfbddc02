"""The kernel's ipsets, read and written with the ipset program.

In:   desired sets and members, by family.
Out:  ``SetPlan``: what to write before the rules and what to remove behind them; faults by set.
Next: ``programming.iptables`` writes rules in between.

A set is made and filled before a rule can name it, and loses members and goes only when the rules have been
written. One that is still in use then stays, and is tried again at the next opportunity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from calico.model.address import Family
from calico.programming.backend import Busy, Drift, Rejected
from calico.programming.command import run
from calico.ruleset import ast
from calico.ruleset.ipset import (
    MAX_SIZE,
    SavedSet,
    create,
    difference,
    header,
    kernel_set_name,
    members_text,
    owned_prefix,
    parse_save,
    removed_text,
    temporary_prefix,
)

FAMILIES: Final[tuple[Family, ...]] = (4, 6)


@dataclass(slots=True)
class SetPlan:
    """Lines of ``ipset restore`` to run before the rules are written, and after; and sets to destroy last."""

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    destroy: set[str] = field(default_factory=set)
    faults: list[Drift] = field(default_factory=list)


def read() -> dict[str, SavedSet]:
    """Our sets of both families, by their names in the kernel."""
    return parse_save(run("ipset", "save"))


def write(lines: Iterable[str]) -> None:
    """Carry out lines of ``ipset restore``; repeating is harmless."""
    text = "\n".join(lines)
    if text:
        run("ipset", "restore", "-exist", stdin=text + "\n")


def destroy(names: Iterable[str]) -> set[str]:
    """Destroy these sets; those that are still in use come back."""
    pending = sorted(names)
    if not pending:
        return set()
    try:
        write(f"destroy {name}" for name in pending)
    except (Busy, Rejected):
        kept: set[str] = set()
        for name in pending:
            try:
                write([f"destroy {name}"])
            except (Busy, Rejected):
                kept.add(name)
        return kept
    return set()


def plan_change(
    change: ast.Change, table: ast.Table, kept: Mapping[str, frozenset[ast.Member]], lingering: set[str]
) -> SetPlan:
    """What ``change`` asks of the sets.

    ``table``: as it is after the change. ``kept``: the former members of sets that existed and that the change
    describes anew. ``lingering``: sets that were to be destroyed and are still there, with their old members.
    """
    plan = SetPlan()
    family = ast.address_family(change.family)
    for name, kind in change.sets.items():
        kernel_name = kernel_set_name(family, name)
        if kind is None:
            plan.destroy.add(kernel_name)
            continue
        plan.before.append(create(kernel_name, kind, family))
        if kernel_name in lingering:
            plan.before.append(f"flush {kernel_name}")
            lingering.discard(kernel_name)
    for name, members in {**dict.fromkeys(kept, ast.MemberChange()), **change.members}.items():
        kernel_name = kernel_set_name(family, name)
        now = table.members.get(name, set())
        plan.before += [f"add {kernel_name} {text}" for text in members_text(members.added)]
        removed = members.removed | (kept[name] - now if name in kept else frozenset())
        plan.after += [f"del {kernel_name} {text}" for text in removed_text(removed, now)]
    return plan


def plan_sync(
    desired: Mapping[Family, ast.Table], found: Mapping[str, SavedSet], lingering: set[str]
) -> SetPlan:
    """What brings the sets ``found`` in the kernel to ``desired``; ``lingering`` ones are no surprise."""
    plan = SetPlan()
    wanted: set[str] = set()
    serial = count()
    for family, table in desired.items():
        for name, kind in table.sets.items():
            kernel_name = kernel_set_name(family, name)
            wanted.add(kernel_name)
            texts = set(members_text(table.members.get(name, ())))
            saved = found.get(kernel_name)
            if saved is None:
                plan.faults.append(Drift(family, f"set {kernel_name}", "missing"))
                plan.before += _filled(kernel_name, kind, family, texts)
            elif saved.header != header(family, kind):
                plan.faults.append(Drift(family, f"set {kernel_name}", f"of the type {saved.header}"))
                # Two sets of different types cannot be swapped. Rules that name this one would not match it.
                plan.before += [f"destroy {kernel_name}", *_filled(kernel_name, kind, family, texts)]
            elif saved.size != MAX_SIZE:
                plan.faults.append(Drift(family, f"set {kernel_name}", f"limited to {saved.size} members"))
                temporary = _unused(family, serial, found)
                plan.before += _filled(temporary, kind, family, texts)
                plan.before += [f"swap {temporary} {kernel_name}", f"destroy {temporary}"]
            else:
                missing, unexpected = difference(texts, saved.members)
                plan.before += [f"add {kernel_name} {text}" for text in missing]
                plan.after += [f"del {kernel_name} {_plain(text)}" for text in unexpected]
                if missing or unexpected:
                    what = f"{len(missing)} members missing, {len(unexpected)} unexpected"
                    plan.faults.append(Drift(family, f"set {kernel_name}", what))
    for kernel_name in sorted(found.keys() - wanted):
        for family in desired:
            if kernel_name.startswith((owned_prefix(family), temporary_prefix(family))):
                plan.destroy.add(kernel_name)
                if kernel_name not in lingering:
                    plan.faults.append(Drift(family, f"set {kernel_name}", "unexpected"))
    return plan


def _filled(name: str, kind: ast.Set, family: Family, texts: Iterable[str]) -> list[str]:
    return [create(name, kind, family), *(f"add {name} {text}" for text in texts)]


def _unused(family: Family, serial: Iterator[int], found: Mapping[str, SavedSet]) -> str:
    return next(name for n in serial if (name := f"{temporary_prefix(family)}{n}") not in found)


def _plain(member: str) -> str:
    """A member without options such as "nomatch" or a comment, as ``del`` wants it."""
    return member.split(" ", 1)[0]
