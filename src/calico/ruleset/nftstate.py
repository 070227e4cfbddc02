"""What the kernel holds of our table, and how it differs from what it should hold.

In:   the decoded JSON of ``nft -jn list table``, and the desired ``Table``.
Out:  ``Snapshot``; ``compare``: what differs, in words, and the ``Transaction`` that repairs it.
Next: ``programming.nft`` carries the repair out and reports the differences.

A rule is compared by all of its expressions and its comment, so that an edit by someone else shows whatever it
changed. Handles and the values of counters say nothing about content and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from calico.desired import PortMember
from calico.model.address import WIDTH, Cidr, parse_address
from calico.ruleset import ast
from calico.ruleset.nft import (
    NFT_FAMILY,
    PRIORITY,
    TABLE,
    Transaction,
    chain_type,
    element_text,
    is_kernel_chain,
    kernel_set,
    set_type,
    whole,
)
from calico.ruleset.nftrule import kernel_rules, verdict_expr

Elements = frozenset[ast.Member]
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class KernelChain(NamedTuple):
    """A chain as read back; ``hook`` is (type, hook, priority, policy) of a base chain."""

    hook: tuple[str, str, int, str] | None
    rules: tuple[bytes, ...]
    """Expressions and comment of each rule, encoded: comparable, not for reading."""


class KernelSet(NamedTuple):
    """A set as read back; ``elements`` None: it has elements that ours never have."""

    type: tuple[str, ...]
    interval: bool
    elements: Elements | None


class Difference(NamedTuple):
    """One object that is otherwise than desired: which, and what was found, in words."""

    what: str
    found: str


@dataclass(slots=True)
class Snapshot:
    """Our table of one family in the kernel. ``strange``: what ours never has."""

    family: ast.TableFamily
    chains: dict[str, KernelChain] = field(default_factory=dict)
    sets: dict[str, KernelSet] = field(default_factory=dict)
    maps: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Each key's verdict, encoded."""
    strange: list[Difference] = field(default_factory=list)


class Learned(dict[tuple[ast.TableFamily, ast.Rule], tuple[bytes, ...]]):
    """How this kernel and this nft print a rule, where that is not what ``nftrule`` expects.

    Filled from what was read back directly after we wrote it, so that another release of nft, which words
    something differently, does not look like someone's edit for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[tuple[ast.TableFamily, str], tuple[ast.Chain, tuple[bytes, ...]]] = {}

    def lines(self, name: str, chain: ast.Chain, family: ast.TableFamily) -> tuple[bytes, ...]:
        """``expected_rules``, remembered for as long as the chain is the very same value."""
        known = self._lines.get((family, name))
        if known is None or known[0] is not chain:
            known = self._lines[family, name] = (chain, expected_rules(chain, family, self))
        return known[1]

    def forget(self, family: ast.TableFamily, kept: Iterable[str] = ()) -> None:
        """Forget the lines of all chains of a family but those that are ``kept``."""
        names = frozenset(kept)
        self._lines = {
            key: known for key, known in self._lines.items() if key[0] != family or key[1] in names
        }


def expected_rules(chain: ast.Chain, family: ast.TableFamily, learned: Learned) -> tuple[bytes, ...]:
    """The rules of ``chain`` as ``KernelChain.rules`` has them when all is well."""
    result: list[bytes] = []
    for rule in chain.rules:
        known = learned.get((family, rule)) if learned else None
        if known is not None:
            result.extend(known)
        else:
            result.extend(_encode([line.expr, line.comment]) for line in kernel_rules(rule, family))
    return tuple(result)


def learn(desired: ast.Table, snapshot: Snapshot, learned: Learned) -> None:
    """Take what ``snapshot``, read directly after writing ``desired``, says of each rule for its normal form."""
    family = desired.family
    fresh: dict[tuple[ast.TableFamily, ast.Rule], tuple[bytes, ...]] = {}
    for name, chain in desired.chains.items():
        held = snapshot.chains.get(name)
        expected = [expected_rules(ast.Chain((rule,)), family, Learned()) for rule in chain.rules]
        if held is None or sum(len(lines) for lines in expected) != len(held.rules):
            continue
        start = 0
        for rule, lines in zip(chain.rules, expected, strict=True):
            printed = held.rules[start : start + len(lines)]
            if printed != lines:
                fresh[family, rule] = printed
            start += len(lines)
    for key in [key for key in learned if key[0] == family]:
        del learned[key]
    learned.update(fresh)
    learned.forget(family)


def read(listed: Mapping[str, Any], family: ast.TableFamily) -> Snapshot | None:
    """The table in nft's JSON; None if it is not there."""
    snapshot: Snapshot | None = None
    rules: dict[str, list[bytes]] = {}
    for item in listed["nftables"]:
        kind, value = next(iter(item.items()))
        if kind == "metainfo" or value.get("family") != NFT_FAMILY[family]:
            continue
        if kind == "table" and value["name"] == TABLE:
            snapshot = Snapshot(family)
            if value.get("flags"):
                snapshot.strange.append(
                    Difference(f"table {TABLE}", "with flags: asleep, or owned by a program")
                )
        elif snapshot is None or value.get("table") != TABLE:
            continue
        elif kind == "chain":
            snapshot.chains[value["name"]] = KernelChain(_hook(value), ())
        elif kind == "rule":
            expr = [_without_counts(expression) for expression in value["expr"]]
            rules.setdefault(value["chain"], []).append(_encode([expr, value.get("comment", "")]))
        elif kind == "set":
            snapshot.sets[value["name"]] = _read_set(value, family)
        elif kind == "map" and value.get("type") == "ifname" and value.get("map") == "verdict":
            entries = value.get("elem", [])
            if all(isinstance(key, str) for key, _ in entries):
                snapshot.maps[value["name"]] = {key: _encode(verdict) for key, verdict in entries}
            else:
                snapshot.strange.append(
                    Difference(f"map {value['name']}", "changed: keys that are none of ours")
                )
        else:
            snapshot.strange.append(Difference(f"{kind} {value.get('name', '')}", "unexpected"))
    if snapshot:
        for name, lines in rules.items():
            snapshot.chains[name] = snapshot.chains[name]._replace(rules=tuple(lines))
    return snapshot


def compare(
    desired: ast.Table, held: Snapshot | None, learned: Learned
) -> tuple[list[Difference], Transaction]:
    """What differs, and the smallest transaction that makes the kernel hold ``desired``.

    A table with something that cannot be changed in place (a chain on another hook, a set of another type) is
    replaced whole, in one transaction.
    """
    if held is None:
        return [Difference(f"table {TABLE}", "missing")], whole(desired)
    if strange := list(_strange(desired, held)):
        replacement = whole(desired)
        replacement.replace = True
        return strange, replacement
    differences: list[Difference] = []
    repair = Transaction(desired.family)
    _compare_sets(desired, held, differences, repair)
    _compare_chains(desired, held, differences, repair, learned)
    _compare_maps(desired, held, differences, repair)
    return differences, repair


def _strange(desired: ast.Table, held: Snapshot) -> Iterator[Difference]:
    yield from held.strange
    for name, chain in desired.chains.items():
        found = held.chains.get(name)
        if found and is_kernel_chain(chain) and found.hook != _expected_hook(chain):
            yield Difference(f"chain {name}", f"on another hook: {_hook_words(found)}")
    for name, info in desired.sets.items():
        kept = held.sets.get(name)
        wanted = (tuple(set_type(desired.family, info.type)), info.type == "net")
        if kept and (kept.type, kept.interval) != wanted:
            yield Difference(f"set {name}", f"of another type: {' . '.join(kept.type)}")
    for name in desired.maps:
        if name in held.sets:
            yield Difference(f"map {name}", "a set of that name")
    for name in desired.sets:
        if name in held.maps:
            yield Difference(f"set {name}", "a map of that name")


def _compare_sets(
    desired: ast.Table, held: Snapshot, differences: list[Difference], repair: Transaction
) -> None:
    for name, info in desired.sets.items():
        wanted = frozenset(kernel_set(info.type, desired.members.get(name, ())))
        found = held.sets.get(name)
        if found is None:
            differences.append(Difference(f"set {name}", "missing"))
            repair.sets[name] = info
            _put(repair.added, name, wanted)
        elif found.elements is None:
            differences.append(Difference(f"set {name}", "changed: elements that are none of ours"))
            repair.flushed_sets.append(name)
            _put(repair.added, name, wanted)
        elif found.elements != wanted:
            lacking, surplus = wanted - found.elements, found.elements - wanted
            differences.append(Difference(f"set {name}", _element_words(lacking, surplus)))
            _put(repair.added, name, lacking)
            _put(repair.dropped, name, surplus)
    for name in held.sets.keys() - desired.sets.keys():
        differences.append(Difference(f"set {name}", "unexpected"))
        repair.gone_sets.append(name)


def _compare_chains(
    desired: ast.Table, held: Snapshot, differences: list[Difference], repair: Transaction, learned: Learned
) -> None:
    wanted = {name: chain for name, chain in desired.chains.items() if is_kernel_chain(chain)}
    for name, chain in wanted.items():
        found = held.chains.get(name)
        if found is None:
            differences.append(Difference(f"chain {name}", "missing"))
            repair.chains[name] = chain
            continue
        expected = learned.lines(name, chain, desired.family)
        if found.rules != expected:
            differences.append(Difference(f"chain {name}", _rule_words(expected, found.rules)))
            repair.chains[name] = chain
    learned.forget(desired.family, kept=wanted)
    for name in held.chains.keys() - wanted.keys():
        differences.append(Difference(f"chain {name}", "unexpected"))
        repair.gone_chains.append(name)


def _compare_maps(
    desired: ast.Table, held: Snapshot, differences: list[Difference], repair: Transaction
) -> None:
    for name, entries in desired.maps.items():
        found = held.maps.get(name)
        if found is None:
            differences.append(Difference(f"map {name}", "missing"))
            repair.maps.append(name)
            found = {}
        wrong = [key for key, verdict in entries.items() if found.get(key) != _encode(verdict_expr(verdict))]
        surplus = sorted(found.keys() - entries.keys())
        if name in held.maps and (wrong or surplus):
            words = ", ".join([*(f"{key} wrong" for key in wrong), *(f"{key} unexpected" for key in surplus)])
            differences.append(Difference(f"map {name}", f"changed: {_cut(words)}"))
        if dropped := [*surplus, *(key for key in wrong if key in found)]:
            repair.entries_dropped[name] = dropped
        if wrong:
            repair.entries_added[name] = {key: entries[key] for key in wrong}
    for name in held.maps.keys() - desired.maps.keys():
        differences.append(Difference(f"map {name}", "unexpected"))
        repair.gone_maps.append(name)


def _put(into: dict[str, list[str]], name: str, members: Elements) -> None:
    if members:
        into[name] = [element_text(member) for member in sorted(members)]


def _element_words(lacking: Elements, surplus: Elements) -> str:
    words = []
    for label, members in (("lacks", lacking), ("has besides", surplus)):
        if members:
            words.append(
                f"{label} {_cut(', '.join(element_text(member) for member in sorted(members)[:10]))}"
            )
    return f"changed: {'; '.join(words)}"


def _rule_words(expected: Sequence[bytes], found: Sequence[bytes]) -> str:
    if len(found) != len(expected):
        return f"changed: {len(found)} rules instead of {len(expected)}"
    first = next(index for index, rule in enumerate(expected) if found[index] != rule)
    return f"changed: rule {first} reads {_cut(found[first].decode())}"


def _cut(words: str) -> str:
    limit = 200
    return words if len(words) <= limit else f"{words[:limit]}..."


def _expected_hook(chain: ast.Chain) -> tuple[str, str, int, str] | None:
    if chain.hook is None:
        return None
    return (
        chain_type(chain.hook),
        chain.hook.hook,
        PRIORITY[chain.hook.table, chain.hook.hook],
        "accept",
    )


def _hook(value: Mapping[str, Any]) -> tuple[str, str, int, str] | None:
    if "hook" not in value:
        return None
    return value["type"], value["hook"], value["prio"], value.get("policy", "accept")


def _hook_words(chain: KernelChain) -> str:
    return "none" if chain.hook is None else " ".join(str(word) for word in chain.hook)


def _without_counts(expression: dict[str, Any]) -> dict[str, Any]:
    return {"counter": None} if "counter" in expression else expression


def _read_set(value: Mapping[str, Any], family: ast.TableFamily) -> KernelSet:
    kind = value["type"]
    types = tuple(kind) if isinstance(kind, list) else (kind,)
    flags = value.get("flags", [])
    elements: Elements | None
    try:
        elements = frozenset(_element(element, family) for element in value.get("elem", []))
    except (KeyError, TypeError, ValueError):
        elements = None
    return KernelSet(types, flags == ["interval"], elements if flags in ([], ["interval"]) else None)


def _element(element: Any, family: ast.TableFamily) -> ast.Member:
    """One element; KeyError, TypeError or ValueError for what ours never have, such as a time-out."""
    if isinstance(element, str):
        return _address(element)
    if "prefix" in element:
        prefix = element["prefix"]
        length = int(prefix["len"])
        version = ast.address_family(family)
        if not 0 <= length <= WIDTH[version]:
            raise ValueError(f"{length} is no prefix length")
        return Cidr(version, parse_address(prefix["addr"]).value, length)
    address, protocol, port = element["concat"]
    return PortMember(_address(address), int(protocol), int(port))


def _address(text: str) -> Cidr:
    """An address as nft prints it: IPv4 is read here, thirteen times faster than by strict parsing."""
    if ":" in text:
        return parse_address(text)
    first, second, third, fourth = map(int, text.split("."))
    return Cidr(4, first << 24 | second << 16 | third << 8 | fourth, 32)
