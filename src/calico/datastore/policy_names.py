"""Policies of tier ``default`` under the names that their authors gave them.

In:   a store in which older versions of Calico keep them as ``default.NAME`` (up to v3.31).
Out:  the same policies as ``NAME``; those that could not be moved, and why.
Next: ``cli.policy_names`` says how it went.

The new one is written before the old one is removed, so at no moment is the policy missing, and a run that was
interrupted is repeated. Whatever else is stored of a policy stays, also what this version does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from calico.datastore.api import Conflict, Entry, Store
from calico.model.keys import KINDS, Key, kind_prefix, parse_path
from calico.model.policy import DEFAULT_TIER, TieredPolicy

PREFIX: Final = f"{DEFAULT_TIER}."


class Move(NamedTuple):
    """One policy, and its key after the move; ``problem`` says why it stayed, and is empty if it did not."""

    before: Key
    after: Key
    problem: str = ""


async def migrate(store: Store) -> list[Move]:
    """Move every policy that has its former name; what was done, in order of paths."""
    moves = []
    for kind in KINDS.values():
        if issubclass(kind, TieredPolicy):
            listing = await store.list(kind_prefix(kind.__name__))
            moves += [
                await _move(store, entry, *keys) for entry in listing.entries for keys in _former(entry)
            ]
    return moves


def _former(entry: Entry) -> Iterator[tuple[Key, Key]]:
    """The key of an entry and the one that it should have, if that is another."""
    key = parse_path(entry.path)
    if key is not None and key.name.startswith(PREFIX) and key.name != PREFIX:
        yield key, key._replace(name=key.name.removeprefix(PREFIX))


async def _move(store: Store, entry: Entry, before: Key, after: Key) -> Move:
    try:
        tree = json.loads(entry.value)
        metadata, tier = tree["metadata"], tree.get("spec", {}).get("tier", DEFAULT_TIER)
    except (ValueError, KeyError, AttributeError, TypeError):
        return Move(before, after, "it cannot be read; repair or delete it first")
    if tier != DEFAULT_TIER:
        return Move(before, after, f"it is of tier {tier!r}, whose policies keep their names")
    moved = json.dumps({**tree, "metadata": {**metadata, "name": after.name}}, separators=(",", ":")).encode()
    try:
        await store.create(after.path, moved)
    except Conflict as conflict:
        there = await store.get(after.path)
        if there is None or there.value != moved:  # else an interrupted run has left both
            return Move(
                before,
                after,
                f"there is another policy of that name (revision {conflict.current}); delete one of the two",
            )
    try:
        await store.delete(entry.path, revision=entry.revision)
    except Conflict:
        return Move(
            before, after, "it was changed meanwhile and is there twice now; delete the one that is wrong"
        )
    return Move(before, after)
