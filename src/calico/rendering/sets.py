"""The sets of one family: which are programmed, under which type, and what is in them.

In:   the members of all active sets, and from each chain which sets it uses.
Out:  edits of a ``Draft``: a set is there while some chain uses it.
Next: ``rendering.renderer`` renders the chains that ``flipped`` names again.

A selector's set is an "address" set, the fastest to look up, until a prefix comes into it; then it is a "net" set
under another name, and back when the last prefix has gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from calico.desired import PortMember, SetId, SetInfo
from calico.model.address import Cidr, Family
from calico.ruleset import ast, names
from calico.ruleset.diff import Draft
from calico.ruleset.merge import SetContent

SetKey = tuple[str, SetId] | tuple[Cidr, ...]
"""What a chain uses: ("addresses" or "ports", identifier), or the nets of a literal set."""


@dataclass(slots=True)
class Members:
    """What the calculation says about one set; ``prefixes`` counts the members that are no single address."""

    info: SetInfo | None = None
    members: dict[Family, set[ast.Member]] = field(default_factory=lambda: {4: set(), 6: set()})
    prefixes: dict[Family, int] = field(default_factory=lambda: {4: 0, 6: 0})

    def put(self, member: Cidr | PortMember, *, present: bool) -> bool:
        """Note that a member is there, or is not; whether that is news."""
        family = family_of(member)
        held = self.members[family]
        if (member in held) == present:
            return False
        (held.add if present else held.remove)(member)
        if isinstance(member, Cidr) and not member.is_address:
            self.prefixes[family] += 1 if present else -1
        return True

    def __bool__(self) -> bool:
        """Whether anything is known of the set."""
        return self.info is not None or any(self.members.values())


def family_of(member: Cidr | PortMember) -> Family:
    """The family that a member belongs to."""
    return (member.address if isinstance(member, PortMember) else member).family


class Uses:
    """``SetNames`` that notes what is used."""

    def __init__(self, sets: FamilySets) -> None:
        self._sets = sets
        self.keys: set[SetKey] = set()
        self.literals: dict[str, tuple[Cidr, ...]] = {}
        """The nets of each literal set, by name."""

    def addresses(self, identifier: SetId) -> str:
        """The set of a selector's addresses."""
        return self._noted(("addresses", identifier))

    def ports(self, identifier: SetId) -> str:
        """The set of a named port."""
        return self._noted(("ports", identifier))

    def literal(self, nets: tuple[Cidr, ...]) -> str:
        """A set of just these."""
        name = self._noted(nets)
        self.literals[name] = nets
        return name

    def take(self, other: Uses) -> None:
        """What ``other`` noted is used here, too."""
        self.keys |= other.keys
        self.literals |= other.literals

    def still(self, rules: Iterable[ast.Rule]) -> set[SetKey]:
        """What is used by ``rules``, which may be fewer than were rendered: only literal sets can have gone."""
        if not self.literals:
            return self.keys
        left = {
            match.set for rule in rules for match in rule.matches if isinstance(match, ast.InSet)
        } & self.literals.keys()
        return self.keys - {nets for name, nets in self.literals.items() if name not in left}

    def _noted(self, key: SetKey) -> str:
        self.keys.add(key)
        return self._sets.wanted(key)[0]


class FamilySets:
    """The programmed sets of one family."""

    def __init__(self, draft: Draft, known: dict[SetId, Members]) -> None:
        self._draft = draft
        self._known = known
        self._family = ast.address_family(draft.table.family)
        self._names: dict[SetKey, str] = {}
        self._users: dict[SetKey, set[str]] = {}
        self._used: dict[str, frozenset[SetKey]] = {}
        self._own: dict[str, frozenset[str]] = {}

    def wanted(self, key: SetKey) -> tuple[str, names.SetType]:
        """The name and type that a set should have now."""
        family = self._family
        kind: names.SetType
        if isinstance(key[0], Cidr):
            nets = _nets(key)
            kind = "address" if all(net.is_address for net in nets) else "net"
            return names.literal_set(family, nets, kind), kind
        purpose, identifier = key[0], str(key[1])
        known = self._known.get(identifier)
        kind = "net" if known and known.prefixes[family] else "address"
        if purpose == "ports":
            kind = "port"
        return names.set_name(family, identifier, kind), kind

    def use(self, chain: str, keys: Iterable[SetKey]) -> None:
        """Note that ``chain`` uses exactly these now; sets come with the first user and go with the last."""
        now = frozenset(keys)
        before = self._used.pop(chain, frozenset())
        if now:
            self._used[chain] = now
        for key in now - before:
            users = self._users.setdefault(key, set())
            if not users:
                self._program(key)
            users.add(chain)
        for key in before - now:
            self._users[key].discard(chain)
            if not self._users[key]:
                del self._users[key]
                self._draft.drop_set(self._names.pop(key))

    def own(self, chain: str, sets: Mapping[str, SetContent]) -> None:
        """Note which sets are there for ``chain`` alone, and what is in them: exactly these now."""
        before = self._own.pop(chain, frozenset())
        if sets:
            self._own[chain] = frozenset(sets)
        for name in before - sets.keys():
            self._draft.drop_set(name)
        for name, (info, members) in sets.items():
            held = self._draft.table.members.get(name)
            if held is None:
                self._draft.put_set(name, info, members)
                continue
            for member in held - members:
                self._draft.put_member(name, member, present=False)
            for member in members - held:
                self._draft.put_member(name, member, present=True)

    def put_member(self, identifier: SetId, member: Cidr | PortMember, *, present: bool) -> None:
        """Follow a change of a member; the type of the set must be right (see ``flipped``)."""
        purpose = "ports" if isinstance(member, PortMember) else "addresses"
        name = self._names.get((purpose, identifier))
        if name is not None:
            self._draft.put_member(name, member, present=present)

    def flipped(self, identifier: SetId) -> set[str] | None:
        """Give a set that no longer fits its type a new one, whole; the chains that use it, None if it fits."""
        key: SetKey = ("addresses", identifier)
        name = self._names.get(key)
        if name is None or name == self.wanted(key)[0]:
            return None
        self._draft.drop_set(name)
        self._program(key)
        return self._users[key]

    def _program(self, key: SetKey) -> None:
        name, kind = self.wanted(key)
        self._names[key] = name
        if isinstance(key[0], Cidr):
            members: set[ast.Member] = set(_nets(key))
            comment = "nets of a rule"
        else:
            known = self._known.get(str(key[1])) or Members()
            members = {
                m for m in known.members[self._family] if isinstance(m, PortMember) == (kind == "port")
            }
            comment = _words(known.info)
        self._draft.put_set(name, ast.Set(kind, comment), members)


def _nets(key: SetKey) -> list[Cidr]:
    return [net for net in key if isinstance(net, Cidr)]


def _words(info: SetInfo | None) -> str:
    if info is None:
        return ""
    if info.service:
        return f"service {info.service}"
    return f"port {info.port_name} of {info.selector}" if info.type == "port" else info.selector
