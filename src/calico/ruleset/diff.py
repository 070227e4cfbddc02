"""The difference between two states of a family's table, and a draft that records it while the state changes.

In:   two ``Table`` values, or one that ``rendering`` edits through a ``Draft``.
Out:  ``Change``: only what differs.
Next: ``ruleset.nft`` and ``ruleset.iptables`` write a ``Change`` as text.

``applied(old, diff(old, new))`` is ``new``, for any two tables of one family; and a ``Draft``'s change is what
``diff`` would find between the table before and after, at a cost that depends on the edits only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from calico.ruleset.ast import Chain, Change, Member, MemberChange, Set, Table, TableFamily, Verdict

K = TypeVar("K")
V = TypeVar("V")


def diff(old: Table, new: Table) -> Change:
    """The smallest change that turns ``old`` into ``new``; false when they are equal."""
    sets = _changed(old.sets, new.sets)
    members: dict[str, MemberChange] = {}
    for name in new.sets:
        before = old.members.get(name, set()) if name in old.sets and name not in sets else set()
        now = new.members.get(name, set())
        if before != now:
            members[name] = MemberChange(frozenset(now - before), frozenset(before - now))
    return Change(
        family=new.family,
        chains=_changed(old.chains, new.chains),
        sets=sets,
        members=members,
        maps={
            name: entries
            for name, entries_now in new.maps.items()
            if (entries := _changed(old.maps.get(name, {}), entries_now))
        },
        new_maps=frozenset(new.maps.keys() - old.maps.keys()),
        gone_maps=frozenset(old.maps.keys() - new.maps.keys()),
    )


def applied(table: Table, change: Change) -> Table:
    """Bring ``table`` itself to the state after ``change``, and give it back.

    Repeating a change is harmless: what is there already, or gone already, is no error.
    """
    _apply_entries(table.chains, change.chains)
    for name, info in change.sets.items():
        if info is None:
            table.sets.pop(name, None)
            table.members.pop(name, None)
        else:
            table.sets[name] = info
            table.members[name] = set()
    for name, members in change.members.items():
        held = table.members.setdefault(name, set())
        held -= members.removed
        held |= members.added
    for name in change.gone_maps:
        table.maps.pop(name, None)
    for name in change.new_maps:
        table.maps.setdefault(name, {})
    for name, entries in change.maps.items():
        _apply_entries(table.maps.setdefault(name, {}), entries)
    return table


class Draft:
    """A table under edit. ``take`` gives what changed since the last ``take``; edits that cancel out are no change."""

    def __init__(self, family: TableFamily) -> None:
        self.table = Table(family)
        self._clear()

    def _clear(self) -> None:
        self._chains: dict[str, Chain | None] = {}
        self._sets: dict[str, tuple[Set, set[Member]] | None] = {}
        self._added: dict[str, set[Member]] = {}
        self._removed: dict[str, set[Member]] = {}
        self._maps: dict[str, dict[str, Verdict]] = {}
        self._new_maps: set[str] = set()

    def put_chain(self, name: str, chain: Chain | None) -> None:
        """Give a chain this content; None: the chain goes."""
        self._chains.setdefault(name, self.table.chains.get(name))
        _apply_entries(self.table.chains, {name: chain})

    def put_set(self, name: str, info: Set, members: Iterable[Member]) -> None:
        """Make a set that is not there, with these members."""
        self._sets.setdefault(name, None)
        self.table.sets[name] = info
        self.table.members[name] = set(members)

    def drop_set(self, name: str) -> None:
        """Take a set away."""
        info, members = self.table.sets.pop(name), self.table.members.pop(name)
        if name not in self._sets:
            # The members as they were at the last take.
            members |= self._removed.pop(name, set())
            members -= self._added.pop(name, set())
            self._sets[name] = (info, members)

    def put_member(self, name: str, member: Member, *, present: bool) -> None:
        """Put a member into a set that is there, or take it out; it may be so already."""
        held = self.table.members[name]
        if (member in held) == present:
            return
        (held.add if present else held.remove)(member)
        if name not in self._sets:
            gain, loss = self._added.setdefault(name, set()), self._removed.setdefault(name, set())
            if not present:
                gain, loss = loss, gain
            if member in loss:
                loss.remove(member)
            else:
                gain.add(member)

    def put_map(self, name: str) -> None:
        """Make an empty map; maps of a draft stay for good."""
        self.table.maps[name] = {}
        self._new_maps.add(name)

    def put_entry(self, name: str, key: str, verdict: Verdict | None) -> None:
        """Give a map's key this verdict; None: the key goes."""
        entries = self.table.maps[name]
        if name not in self._new_maps:
            # The one copy that a changed map costs: maps have an entry for each local endpoint.
            self._maps.setdefault(name, dict(entries))
        _apply_entries(entries, {key: verdict})

    def take(self) -> Change:
        """What changed since the last time, as one change; the next one starts here."""
        table = self.table
        chains = {
            name: table.chains.get(name)
            for name, old in self._chains.items()
            if table.chains.get(name) != old
        }
        sets: dict[str, Set | None] = {}
        members: dict[str, MemberChange] = {}
        for name, before in self._sets.items():
            now = table.sets.get(name)
            held = table.members.get(name, set())
            if now is not None and before is not None and before[0] == now:
                members[name] = MemberChange(frozenset(held - before[1]), frozenset(before[1] - held))
            elif now is not None or before is not None:
                sets[name] = now
                if held:
                    members[name] = MemberChange(frozenset(held))
        for name in self._added:
            members[name] = MemberChange(frozenset(self._added[name]), frozenset(self._removed[name]))
        maps: dict[str, Mapping[str, Verdict | None]] = {
            name: _changed(entries, table.maps[name]) for name, entries in self._maps.items()
        }
        maps.update({name: dict(table.maps[name]) for name in self._new_maps})
        change = Change(
            family=table.family,
            chains=chains,
            sets=sets,
            members={name: members[name] for name in members if members[name] != MemberChange()},
            maps={name: entries for name, entries in maps.items() if entries},
            new_maps=frozenset(self._new_maps),
        )
        self._clear()
        return change


def _changed(old: Mapping[K, V], new: Mapping[K, V]) -> dict[K, V | None]:
    changed: dict[K, V | None] = {key: None for key in old if key not in new}
    changed.update({key: value for key, value in new.items() if old.get(key) != value})
    return changed


def _apply_entries(held: dict[K, V], changed: Mapping[K, V | None]) -> None:
    for key, value in changed.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value
