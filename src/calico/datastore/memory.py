"""A complete store in this process's memory: the reference of the contract, and the fake for tests.

In:   writes, and a clock for leases.
Out:  what ``datastore.api.Store`` promises, with history, compaction, leases, and watches that wake at once.
Next: ``datastore.faulty`` wraps it where a test needs a store that fails.

All state is one list of versions for each path; everything else is looked up in it. This is the plain way,
and the yardstick of the stores that are fast.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from calico.datastore.api import Conflict, Entry, Event, LeaseGone, Listing, TooOld, Unavailable
from calico.datastore.feed import HISTORY, Feed, horizon


class _Version(NamedTuple):
    """What a path became at ``revision``; value None: it was deleted."""

    revision: int
    value: bytes | None
    lease: int | None


class _Lease(NamedTuple):
    seconds: float
    expires: float


class MemoryStore:
    """``datastore.api.Store`` in memory.

    ``clock`` gives seconds that only grow. Leases end when their time has come and any method is called, and,
    on the default clock, by themselves. ``history`` is how many revisions are kept at least.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, history: int = HISTORY) -> None:
        self._clock = clock
        self._history = history
        self._versions: dict[str, list[_Version]] = {}
        self._revision = 1
        self._compacted = 1
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._timer: asyncio.TimerHandle | None = None
        self._feed = Feed(self._revision)
        self._closed = False

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        self._ready()
        return self._entry(path, self._revision)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        self._ready()
        current = self._entry(path, self._revision)
        if current is not None:
            raise Conflict(path, current.revision)
        return self._put(path, value, lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        self._ready()
        if revision is not None:
            self._require(path, revision)
        return self._put(path, value, lease)

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        self._ready()
        self._require(path, revision)
        return self._commit({path: (None, None)})

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``."""
        self._ready()

        async def backlog(position: int) -> tuple[Event, ...]:
            if not self._compacted <= revision <= self._revision:
                raise TooOld(revision, self._compacted)
            events = [
                Event(path, version.value, version.revision)
                for path, versions in self._versions.items()
                if path.startswith(prefix)
                for version in versions
                if revision < version.revision <= position
            ]
            return tuple(sorted(events, key=lambda event: (event.revision, event.path)))

        async for events in self._feed.watch(prefix, revision, backlog):
            yield events

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        self._ready()
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(seconds, self._clock() + seconds)
        self._arm()
        return self._last_lease

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        self._ready()
        seconds = self._lease(lease).seconds
        self._leases[lease] = _Lease(seconds, self._clock() + seconds)
        self._arm()

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        self._ready()
        self._lease(lease)
        self._end_leases({lease})

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        self._ready()
        if revision > self._revision:
            raise TooOld(revision, self._compacted)
        self._compact(revision)

    async def close(self) -> None:
        """See ``Store.close``."""
        self._closed = True
        self._feed.end()
        if self._timer is not None:
            self._timer.cancel()

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        self._ready()
        at = self._revision if revision is None else revision
        if not self._compacted <= at <= self._revision:
            raise TooOld(at, self._compacted)
        paths = sorted(path for path in self._versions if path.startswith(prefix))
        entries = (self._entry(path, at) for path in paths)
        return Listing(at, tuple(entry for entry in entries if entry is not None))

    def _entry(self, path: str, revision: int) -> Entry | None:
        for version in reversed(self._versions.get(path, ())):
            if version.revision <= revision:
                return None if version.value is None else Entry(path, version.value, version.revision)
        return None

    def _require(self, path: str, revision: int | None) -> None:
        """Something is at ``path``, and has ``revision`` unless that is None."""
        current = self._entry(path, self._revision)
        if current is None or revision not in {None, current.revision}:
            raise Conflict(path, current and current.revision)

    def _put(self, path: str, value: bytes, lease: int | None) -> int:
        if lease is not None:
            self._lease(lease)
        return self._commit({path: (value, lease)})

    def _commit(self, changes: dict[str, tuple[bytes | None, int | None]]) -> int:
        """All of ``changes`` at one new revision."""
        self._revision += 1
        for path, (value, lease) in changes.items():
            self._versions.setdefault(path, []).append(_Version(self._revision, value, lease))
        events = (Event(path, value, self._revision) for path, (value, _) in sorted(changes.items()))
        self._feed.publish(events, self._revision)
        oldest = horizon(self._revision, self._history)
        if oldest is not None:
            self._compact(oldest)
        return self._revision

    def _compact(self, revision: int) -> None:
        """Keep of each path what it was at ``revision``, unless that is nothing, and what it became later."""
        self._compacted = max(self._compacted, revision)
        kept = {}
        for path, versions in self._versions.items():
            old = [version for version in versions if version.revision <= revision][-1:]
            new = [version for version in versions if version.revision > revision]
            if new or old[0].value is not None:
                kept[path] = old + new
        self._versions = kept

    def _lease(self, lease: int) -> _Lease:
        if lease not in self._leases:
            raise LeaseGone(f"lease {lease} has expired or was revoked; take a new one")
        return self._leases[lease]

    def _end_leases(self, ended: Iterable[int]) -> None:
        """Forget leases; what was put with them goes in one revision."""
        ended = set(ended)
        for lease in ended:
            del self._leases[lease]
        orphans = [
            path
            for path, versions in self._versions.items()
            if versions[-1].lease in ended and versions[-1].value is not None
        ]
        if orphans:
            self._commit(dict.fromkeys(orphans, (None, None)))

    def _ready(self) -> None:
        """The store is open, and leases that are due have ended."""
        if self._closed:
            raise Unavailable("the store was closed by this process; open it again")
        now = self._clock()
        due = {number for number, lease in self._leases.items() if lease.expires <= now}
        if due:
            self._end_leases(due)

    def _arm(self) -> None:
        """Be called when the next lease is due, so that watches hear of it while nobody calls."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leases and not self._closed:
            wait = min(lease.expires for lease in self._leases.values()) - self._clock()
            self._timer = asyncio.get_running_loop().call_later(max(wait, 0.001), self._alarm)

    def _alarm(self) -> None:
        self._ready()
        self._arm()
