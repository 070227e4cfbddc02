"""A ruleset, or a change of it, as nftables text.

In:   ``Change`` or ``Table``, and for each "net" set the ``Cover`` that knows what the kernel's set holds.
Out:  text for ``nft -f`` or libnftables, which the kernel carries out whole or not at all.
Next: ``programming.nft`` hands it over; ``ruleset.nftstate`` reads back what is there.

Everything of ours is in one table a family: ``ip calico``, ``ip6 calico`` and ``arp calico``. Within a
transaction objects come before what refers to them, and go after it. A changed chain is emptied and filled again, which is atomic too.
Chains that hang behind the host's own rules (``Hook.append``) do not exist here: see ``ast.Hook``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from calico.desired import PortMember
from calico.model.address import Cidr
from calico.ruleset import ast
from calico.ruleset.cover import Cover, maximal
from calico.ruleset.nftrule import kernel_rules, net_text, quotable, verdict_text

TABLE: Final = "calico"
NFT_FAMILY: Final[dict[ast.TableFamily, str]] = {4: "ip", 6: "ip6", "arp": "arp"}
PRIORITY: Final = {
    ("raw", "prerouting"): -300,
    ("raw", "output"): -300,
    ("mangle", "prerouting"): -150,
    ("mangle", "input"): -150,
    ("mangle", "forward"): -150,
    ("mangle", "output"): -150,
    ("mangle", "postrouting"): -150,
    ("nat", "prerouting"): -100,
    ("nat", "input"): 110,
    ("nat", "output"): -90,
    ("nat", "postrouting"): 110,
    ("filter", "input"): 0,
    ("filter", "forward"): 0,
    ("filter", "output"): 0,
}
"""When each base chain runs; destination NAT after, source NAT behind the customary priorities (behaviour reference 4.15)."""

_ADDRESS: Final[dict[ast.TableFamily, str]] = {4: "ipv4_addr", 6: "ipv6_addr"}
ELEMENTS_A_COMMAND: Final = 1000
"""Elements in one command: a longer line is no faster, and an error message quotes the line."""


def is_kernel_chain(chain: ast.Chain) -> bool:
    """Whether nftables has this chain."""
    return chain.hook is None or not chain.hook.append


def chain_type(hook: ast.Hook) -> str:
    """The type of a base chain: marks set in mangle-OUTPUT change the route."""
    if hook.table == "nat":
        return "nat"
    return "route" if (hook.table, hook.hook) == ("mangle", "output") else "filter"


def set_type(family: ast.TableFamily, kind: str) -> list[str]:
    """The type of a set's keys, as nft names it."""
    address = _ADDRESS[family]
    return [address, "inet_proto", "inet_service"] if kind == "port" else [address]


def element_text(member: ast.Member) -> str:
    """A set's member as nft writes it."""
    if isinstance(member, PortMember):
        return f"{member.address.address} . {member.protocol} . {member.port}"
    return net_text(member)


@dataclass(slots=True)
class Transaction:
    """What the kernel is to do, in its own terms: "net" sets hold no overlapping prefixes.

    ``chains`` are created if need be, emptied and filled. ``replace``: the whole table goes first, and only
    what is given here will be in it.
    """

    family: ast.TableFamily
    replace: bool = False
    sets: dict[str, ast.Set] = field(default_factory=dict)
    maps: list[str] = field(default_factory=list)
    chains: dict[str, ast.Chain] = field(default_factory=dict)
    flushed_sets: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Elements that go, as text, by set."""
    added: dict[str, list[str]] = field(default_factory=dict)
    """Elements that come, as text, by set."""
    entries_dropped: dict[str, list[str]] = field(default_factory=dict)
    entries_added: dict[str, dict[str, ast.Verdict]] = field(default_factory=dict)
    gone_chains: list[str] = field(default_factory=list)
    gone_maps: list[str] = field(default_factory=list)
    gone_sets: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.replace or any(
            (
                self.sets,
                self.maps,
                self.chains,
                self.flushed_sets,
                self.dropped,
                self.added,
                self.entries_dropped,
                self.entries_added,
                self.gone_chains,
                self.gone_maps,
                self.gone_sets,
            )
        )

    def text(self) -> str:
        """The whole transaction."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        table = f"{NFT_FAMILY[self.family]} {TABLE}"
        yield f"add table {table}"
        if self.replace:
            yield f"delete table {table}"
        if self.replace or self.sets or self.maps or self.chains:
            yield from self._declarations(table)
        for name in [*self.chains, *self.gone_chains]:
            if not self.replace:
                yield f"flush chain {table} {name}"
        for name in self.flushed_sets:
            yield f"flush set {table} {name}"
        for name, keys in self.entries_dropped.items():
            yield from _elements(f"delete element {table} {name}", [f'"{key}"' for key in keys])
        for name, elements in self.dropped.items():
            yield from _elements(f"delete element {table} {name}", elements)
        for name, elements in self.added.items():
            yield from _elements(f"add element {table} {name}", elements)
        if any(chain.rules for chain in self.chains.values()):
            yield f"table {table} {{"
            for name, chain in self.chains.items():
                if chain.rules:
                    yield f"\tchain {name} {{"
                    yield from (f"\t\t{line}" for line in _rule_lines(chain, self.family))
                    yield "\t}"
            yield "}"
        for name, entries in self.entries_added.items():
            pairs = [f'"{key}" : {verdict_text(verdict)}' for key, verdict in entries.items()]
            yield from _elements(f"add element {table} {name}", pairs)
        yield from (f"delete map {table} {name}" for name in self.gone_maps)
        yield from (f"delete chain {table} {name}" for name in self.gone_chains)
        yield from (f"delete set {table} {name}" for name in self.gone_sets)

    def _declarations(self, table: str) -> Iterator[str]:
        yield f"table {table} {{"
        for name, info in self.sets.items():
            yield from _set_lines(name, info, self.family)
        for name in self.maps:
            yield from _map_lines(name)
        for name, chain in self.chains.items():
            hook = f"\n\t\t{_hook_line(chain.hook)}\n\t" if chain.hook else " "
            yield f"\tchain {name} {{{hook}}}"
        yield "}"


@dataclass(slots=True)
class Held:
    """What must be known of the kernel's table to write a change of it."""

    types: dict[str, str] = field(default_factory=dict)
    """The type of each set."""
    covers: dict[str, Cover] = field(default_factory=dict)
    """A cover for each "net" set."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    """The interfaces in each map: only what is there can be deleted."""

    @classmethod
    def of(cls, table: ast.Table) -> Held:
        """What a kernel holds that holds ``table``."""
        return cls(
            {name: info.type for name, info in table.sets.items()},
            {
                name: Cover(_nets(table.members.get(name, ())))
                for name, info in table.sets.items()
                if info.type == "net"
            },
            {name: set(entries) for name, entries in table.maps.items()},
        )


def transaction(change: ast.Change, held: Held) -> Transaction:
    """``change`` in the kernel's terms.

    ``held`` is brought to what the kernel will hold: when the transaction fails it is no longer true. KeyError
    for a set or map that was never made.
    """
    covers, types = held.covers, held.types
    result = Transaction(change.family, maps=sorted(change.new_maps), gone_maps=sorted(change.gone_maps))
    for name, chain in change.chains.items():
        if chain is None:
            result.gone_chains.append(name)
        elif is_kernel_chain(chain):
            result.chains[name] = chain
    for name, info in change.sets.items():
        if info is None:
            result.gone_sets.append(name)
            covers.pop(name, None)
            types.pop(name, None)
        else:
            if name in types:
                # Described anew: its members are all given, and the words about it are not worth a new set.
                result.flushed_sets.append(name)
            else:
                result.sets[name] = info
            types[name] = info.type
            if info.type == "net":
                covers[name] = Cover()
    for name, members in change.members.items():
        added, removed = kernel_members(members, types[name], covers.get(name))
        if removed:
            result.dropped[name] = [element_text(member) for member in removed]
        if added:
            result.added[name] = [element_text(member) for member in added]
    held.keys.update((name, set()) for name in change.new_maps)
    for name, entries in change.maps.items():
        keys = held.keys[name]
        # A key whose verdict changes is taken out and put back in the same transaction.
        gone = [key for key in entries if key in keys]
        if gone:
            result.entries_dropped[name] = gone
        come = {key: verdict for key, verdict in entries.items() if verdict is not None}
        if come:
            result.entries_added[name] = come
        keys.difference_update(gone)
        keys.update(come)
    for name in change.gone_maps:
        del held.keys[name]
    return result


def kernel_members(
    members: ast.MemberChange, kind: str, cover: Cover | None
) -> tuple[list[ast.Member], list[ast.Member]]:
    """What the kernel's set gains and loses, sorted, when ``members`` change; ``cover`` follows."""
    if kind != "net" or cover is None:
        return sorted(members.added), sorted(members.removed)
    added, removed = cover.update(_nets(members.added), _nets(members.removed))
    return list(added), list(removed)


def whole(table: ast.Table) -> Transaction:
    """All of ``table``, into a table that is not there yet."""
    return Transaction(
        family=table.family,
        sets=dict(table.sets),
        maps=list(table.maps),
        chains={name: chain for name, chain in table.chains.items() if is_kernel_chain(chain)},
        added={
            name: [element_text(member) for member in kernel_set(info.type, table.members[name])]
            for name, info in table.sets.items()
            if table.members.get(name)
        },
        entries_added={name: dict(entries) for name, entries in table.maps.items() if entries},
    )


def kernel_set(kind: str, members: Iterable[ast.Member]) -> list[ast.Member]:
    """What the kernel holds of a set's members, sorted."""
    return list(maximal(_nets(members))) if kind == "net" else sorted(members)


def listing(table: ast.Table) -> str:
    """All of ``table`` as one readable block, sorted, much as ``nft list table`` shows it; nft reads it too."""
    lines = [f"table {NFT_FAMILY[table.family]} {TABLE} {{"]
    for name in sorted(table.sets):
        info = table.sets[name]
        elements = [element_text(m) for m in kernel_set(info.type, table.members.get(name, ()))]
        lines += _set_lines(name, info, table.family, elements)
    for name in sorted(table.maps):
        pairs = [f'"{key}" : {verdict_text(verdict)}' for key, verdict in sorted(table.maps[name].items())]
        lines += _map_lines(name, pairs)
    for name in sorted(table.chains):
        chain = table.chains[name]
        if is_kernel_chain(chain):
            lines.append(f"\tchain {name} {{")
            if chain.hook:
                lines.append(f"\t\t{_hook_line(chain.hook)}")
            lines += [f"\t\t{line}" for line in _rule_lines(chain, table.family)]
            lines.append("\t}")
    lines.append("}")
    return "".join(f"{line}\n" for line in lines)


def split(transaction: Transaction, size: int) -> Iterator[Transaction]:
    """The same in several transactions, for a kernel that takes no more than about ``size`` elements at once.

    The elements of new sets go first, in parts: no rule looks at such a set yet. All the rest stays one transaction.
    """
    if transaction.replace:
        yield transaction
        return
    family = transaction.family
    fresh = {name: elements for name, elements in transaction.added.items() if name in transaction.sets}
    if fresh:
        yield Transaction(family, sets=dict(transaction.sets))
    for name, elements in fresh.items():
        for part in _parts(elements, size):
            yield Transaction(family, added={name: part})
    rest = Transaction(**{name: getattr(transaction, name) for name in Transaction.__slots__})
    rest.sets = {} if fresh else transaction.sets
    rest.added = {name: elements for name, elements in transaction.added.items() if name not in fresh}
    yield rest


def detach_text(family: ast.TableFamily, bases: Iterable[str]) -> str:
    """Empty these base chains, so that no packet comes to the rest of our table."""
    return "".join(f"flush chain {NFT_FAMILY[family]} {TABLE} {name}\n" for name in bases)


def remove_text(family: ast.TableFamily) -> str:
    """Take our table away, which may be gone already."""
    table = f"{NFT_FAMILY[family]} {TABLE}"
    return f"add table {table}\ndelete table {table}\n"


def _nets(members: Iterable[ast.Member]) -> Iterator[Cidr]:
    for member in members:
        if not isinstance(member, Cidr):
            raise TypeError(f"{member!r} is no prefix, and cannot be in a set of prefixes")
        yield member


def _set_lines(
    name: str, info: ast.Set, family: ast.TableFamily, elements: list[str] | None = None
) -> Iterator[str]:
    yield f"\tset {name} {{"
    yield f"\t\ttype {' . '.join(set_type(family, info.type))}"
    if info.type == "net":
        yield "\t\tflags interval"
    if info.comment:
        yield f'\t\tcomment "{quotable(info.comment)}"'
    yield from _element_lines(elements or [])
    yield "\t}"


def _map_lines(name: str, pairs: list[str] | None = None) -> Iterator[str]:
    yield f"\tmap {name} {{"
    yield "\t\ttype ifname : verdict"
    yield from _element_lines(pairs or [])
    yield "\t}"


def _element_lines(elements: list[str]) -> Iterator[str]:
    if elements:
        yield "\t\telements = {"
        yield from (f"\t\t\t{element}," for element in elements)
        yield "\t\t}"


def _hook_line(hook: ast.Hook) -> str:
    priority = PRIORITY[hook.table, hook.hook]
    return f"type {chain_type(hook)} hook {hook.hook} priority {priority}; policy accept;"


def _rule_lines(chain: ast.Chain, family: ast.TableFamily) -> Iterator[str]:
    return (line.text for rule in chain.rules for line in kernel_rules(rule, family))


def _elements(command: str, elements: list[str]) -> Iterator[str]:
    for part in _parts(elements, ELEMENTS_A_COMMAND):
        yield f"{command} {{ {', '.join(part)} }}"


def _parts(elements: list[str], size: int) -> Iterator[list[str]]:
    iterator = iter(elements)
    while part := list(islice(iterator, size)):
        yield part
