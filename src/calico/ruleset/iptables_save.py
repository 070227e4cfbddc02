"""The output of iptables-save, its difference from an image, and the iptables-restore text that closes it.

In:   the text of ``iptables-save``; an ``Image``; the rule texts seen right after our own writes.
Out:  ``Edit``: which chains and jumps are wrong and how, and the text that mends them as one transaction.
Next: ``programming.iptables`` runs the programs.

A rule's hash comment tells which rule it was meant to be, and all that stands before it. An edit in place can keep
the comment, and the kernel's spelling of a rule is not ours, so the text that was read right after writing is kept
and compared as well. A chain with the right hashes whose text was never seen (it is left from a former run)
cannot be vouched for: it is written again, and not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from calico.ruleset.iptables import HASH_PREFIX, PREFIX, Image, Jumps

Texts = Mapping[str, tuple[str, ...]]
"""Rule texts by chain."""

_HASH: Final = re.compile(rf'--comment "?{HASH_PREFIX}([A-Za-z0-9_-]{{16}})\b')
_CALL: Final = re.compile(rf"-[jg] {PREFIX}\S+$")


class Truncated(ValueError):
    """The output of iptables-save is not whole: the program failed and said nothing."""


@dataclass(slots=True)
class Saved:
    """One iptables table as read: the rules of each chain, the text behind "-A <chain> "."""

    chains: dict[str, list[str]] = field(default_factory=dict)


def parse(text: str) -> dict[str, Saved]:
    """All tables in the output of iptables-save. Raises Truncated when one of them lacks its end."""
    tables: dict[str, Saved] = {}
    current: Saved | None = None
    # Not splitlines(): comments of others may hold what Unicode takes for a line's end.
    for line in text.split("\n"):
        if line.startswith("*"):
            if current is not None:
                raise Truncated("iptables-save began a table before the last one had ended")
            current = tables.setdefault(line[1:].strip(), Saved())
        elif line.startswith(":") and current is not None:
            current.chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("-A ") and current is not None:
            _, chain, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
            current.chains.setdefault(chain, []).append(rule)
        elif line == "COMMIT":
            current = None
    if current is not None:
        raise Truncated("the output of iptables-save ends within a table")
    return tables


def is_ours(chain: str) -> bool:
    """Whether a chain is ours to write and delete."""
    return chain.startswith(PREFIX)


def is_our_rule(rule: str) -> bool:
    """Whether a rule in a chain of others is ours: it has our comment, or calls a chain of ours."""
    return _HASH.search(rule) is not None or _CALL.search(rule) is not None


def hashes(rules: Iterable[str]) -> list[str]:
    """The hash in each rule's comment; "" where there is none."""
    return [found[1] if (found := _HASH.search(rule)) else "" for rule in rules]


class Fault(NamedTuple):
    """A chain, or the calls of our chains in a chain of others, that is not as it should be."""

    chain: str
    found: str
    """"missing", "changed" or "unexpected"."""


@dataclass(slots=True)
class Edit:
    """What one iptables table needs."""

    write: set[str] = field(default_factory=set)
    delete: set[str] = field(default_factory=set)
    calls: dict[str, list[str]] = field(default_factory=dict)
    """Chains of others in which our rules are to be set anew, with those of our rules that are there now."""
    faults: list[Fault] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.write or self.delete or self.calls)


def compare(image: Image, saved: Saved | None, seen: Texts) -> Edit:
    """What must be done to make ``saved`` (None: the table does not exist) hold just ``image`` of ours."""
    held = Saved() if saved is None else saved
    edit = Edit()
    for chain, rules in image.chains.items():
        found = held.chains.get(chain)
        if found is None:
            edit.faults.append(Fault(chain, "missing"))
        elif hashes(found) != hashes(rules) or (chain in seen and tuple(found) != seen[chain]):
            edit.faults.append(Fault(chain, "changed"))
        elif chain in seen:
            continue
        edit.write.add(chain)
    for chain, found in held.chains.items():
        if is_ours(chain):
            if chain not in image.chains:
                edit.faults.append(Fault(chain, "unexpected"))
                edit.delete.add(chain)
            continue
        wanted = image.jumps.get(chain, Jumps())
        ours = [rule for rule in found if is_our_rule(rule)]
        others = [rule for rule in found if not is_our_rule(rule)]
        if [_plain(rule) for rule in found] != [
            *wanted.top,
            *(_plain(rule) for rule in others),
            *wanted.bottom,
        ]:
            missing = len(ours) < len(wanted.top) + len(wanted.bottom)
            surplus = not (wanted.top or wanted.bottom)
            what = "missing" if missing else "unexpected" if surplus else "changed"
            edit.faults.append(Fault(chain, what))
            edit.calls[chain] = ours
    for chain in image.jumps.keys() - held.chains.keys():
        edit.faults.append(Fault(chain, "missing"))
        edit.calls[chain] = []
    return edit


def _plain(rule: str) -> str:
    """A jump as we write it: iptables-save puts our comment into quotes."""
    return rule.replace('"', "") if _CALL.search(rule) else rule


def difference(old: Image, new: Image) -> Edit:
    """What must be done when the kernel holds exactly ``old`` of ours."""
    edit = Edit(
        write={chain for chain, rules in new.chains.items() if old.chains.get(chain) != rules},
        delete=old.chains.keys() - new.chains.keys(),
    )
    for chain in old.jumps.keys() | new.jumps.keys():
        before = old.jumps.get(chain, Jumps())
        if before != new.jumps.get(chain, Jumps()):
            edit.calls[chain] = [*before.top, *before.bottom]
    return edit


def restore(table: str, edit: Edit, image: Image) -> str:
    """The transaction that carries out ``edit``, as input of ``iptables-restore --noflush``.

    Naming a chain in the head makes or empties it; nothing is seen by packets before the COMMIT.
    """
    lines = [f"*{table}"]
    lines += [f":{chain} - -" for chain in sorted(edit.write | edit.delete)]
    for chain in sorted(edit.write):
        lines += [f"-A {chain} {rule}" for rule in image.chains[chain]]
    for chain, ours in sorted(edit.calls.items()):
        wanted = image.jumps.get(chain, Jumps())
        lines += [f"-D {chain} {rule}" for rule in ours]
        lines += [f"-I {chain} 1 {rule}" for rule in reversed(wanted.top)]
        lines += [f"-A {chain} {rule}" for rule in wanted.bottom]
    lines += [f"-X {chain}" for chain in sorted(edit.delete)]
    return "\n".join([*lines, "COMMIT", ""])
