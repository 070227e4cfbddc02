"""One command's view of a store: everything is read once, and nothing that one wrote is read again.

In:   any store.
Out:  the same store, with fewer round trips; or, in a dry run, what it would hold.
Next: ``datastore.typed`` and ``ipam`` work on it as on any other store.

A path that was read, or lies under a prefix that was listed, is answered from memory. Writes go to the
store, on the condition that they name; a ``Conflict`` says that memory is out of date there, so the path is
read afresh. So a remembered value may be old, but never leads to a write over something else.

In a dry run writes go to memory alone, on the same conditions, with revisions beyond those of the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from operator import attrgetter
from typing import NamedTuple

from calico.datastore.api import Conflict, Entry, Event, Listing, Store


class Change(NamedTuple):
    """What a path held when it was first written, and what it holds now; None for nothing."""

    path: str
    before: Entry | None
    after: Entry | None


class Snapshot:
    """``datastore.api.Store`` over ``store``, for one event loop and a short time: it never forgets what it has read.

    Leases, compaction and watches are the store's own. With ``dry_run`` nothing at all is written.
    """

    def __init__(self, store: Store, *, dry_run: bool = False) -> None:
        self._store = store
        self._dry_run = dry_run
        self._known: dict[str, Entry | None] = {}
        self._listed: dict[str, dict[str, Entry]] = {}
        self._first: dict[str, Entry | None] = {}
        self._revision = 1

    def changes(self) -> list[Change]:
        """What writes through this view have changed, in order of paths; a write of the same value is no change."""
        both = ((path, before, self._remembered(path)) for path, before in sorted(self._first.items()))
        return [Change(*each) for each in both if _value(each[1]) != _value(each[2])]

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        if path in self._known or self._lists_over(path):
            return self._remembered(path)
        self._known[path] = entry = await self._store.get(path)
        return entry

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        before = await self.get(path)
        if before is not None:
            raise Conflict(path, before.revision)
        if self._dry_run:
            return self._note(path, before, value, self._revision + 1)
        return await self._write(path, before, value, self._store.create(path, value, lease=lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        before = await self.get(path)
        if self._dry_run:
            _judge(path, before, revision)
            return self._note(path, before, value, self._revision + 1)
        writing = self._store.put(path, value, revision=revision, lease=lease)
        return await self._write(path, before, value, writing)

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        before = await self.get(path)
        if self._dry_run:
            if before is None:
                raise Conflict(path, None)
            _judge(path, before, revision)
            return self._note(path, before, None, self._revision + 1)
        return await self._write(path, before, None, self._store.delete(path, revision=revision))

    def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``; a dry run's writes are not seen."""
        return self._store.watch(prefix, revision=revision)

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        return await self._store.grant(seconds)

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        await self._store.revoke(lease)

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        await self._store.compact(revision)

    async def close(self) -> None:
        """Close the store itself."""
        await self._store.close()

    async def _write(
        self, path: str, before: Entry | None, value: bytes | None, writing: Awaitable[int]
    ) -> int:
        try:
            revision = await writing
        except Conflict:
            self._remember(path, await self._store.get(path))
            raise
        return self._note(path, before, value, revision)

    def _note(self, path: str, before: Entry | None, value: bytes | None, revision: int) -> int:
        self._first.setdefault(path, before)
        self._remember(path, None if value is None else Entry(path, value, revision))
        self._revision = max(self._revision, revision)
        return revision

    def _remember(self, path: str, entry: Entry | None) -> None:
        self._known[path] = entry
        for entries in self._lists_over(path):
            entries.pop(path, None)
            if entry is not None:
                entries[path] = entry

    def _remembered(self, path: str) -> Entry | None:
        if path in self._known:
            return self._known[path]
        return next((entries.get(path) for entries in self._lists_over(path)), None)

    def _lists_over(self, path: str) -> list[dict[str, Entry]]:
        return [entries for prefix, entries in self._listed.items() if path.startswith(prefix)]

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``; what is remembered is at least as new as the revision that it says."""
        if revision is not None:
            return await self._store.list(prefix, revision=revision)
        if not self._lists_over(prefix):
            listing = await self._store.list(prefix)
            self._revision = max(self._revision, listing.revision)
            entries = {entry.path: entry for entry in listing.entries}
            self._listed[prefix] = entries
            for path in [path for path in self._known if path.startswith(prefix)]:
                if path in self._first:  # written meanwhile, or in memory alone
                    self._remember(path, self._known[path])
                else:
                    del self._known[path]
        held = [
            entry
            for entries in self._lists_over(prefix)[:1]
            for path, entry in entries.items()
            if path.startswith(prefix)
        ]
        return Listing(self._revision, tuple(sorted(held, key=attrgetter("path"))))


def _judge(path: str, before: Entry | None, revision: int | None) -> None:
    """As a store judges a write over ``before``."""
    if revision is not None and (before is None or before.revision != revision):
        raise Conflict(path, before and before.revision)


def _value(entry: Entry | None) -> bytes | None:
    return None if entry is None else entry.value
