"""What a store must be able to do: the contract of memory, SQLite and etcd.

A store maps paths to bytes. Every change gets a revision, one number that only grows, for the whole store;
a path's own revision is that of its last change. Reading at a revision and watching from it leaves no gap.

One process may use a store from one event loop; different processes of different machines use different
stores over the same data. All methods are coroutines, and raise a ``StoreError``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol


class StoreError(Exception):
    """The base of what a store raises."""


class Conflict(StoreError):
    """A condition did not hold: the path exists already, is gone, or has another revision. Read again, then decide."""

    def __init__(self, path: str, current: int | None) -> None:
        self.path = path
        self.current = current
        """The path's revision now; None when there is nothing at the path."""
        super().__init__(
            f"{path} is at revision {current} now" if current is not None else f"nothing is stored at {path}"
        )


class TooOld(StoreError):
    """The revision asked for was compacted away, or is of another store's history; list afresh."""

    def __init__(self, asked: int, oldest: int) -> None:
        self.asked = asked
        self.oldest = oldest
        super().__init__(f"revision {asked} is not available; the oldest is {oldest}")


class Unavailable(StoreError):
    """The store cannot be reached now; a write may or may not have happened. Try again after reading."""


class Denied(Unavailable):
    """The store is there, but does not let this user do this; nothing was done. Others may do it, or the user other things."""


class LeaseGone(StoreError):
    """The lease has expired or was revoked."""


class Entry(NamedTuple):
    """What is stored at a path, and the revision of its last change."""

    path: str
    value: bytes
    revision: int


class Listing(NamedTuple):
    """Entries under a prefix in order of path, all as they were at ``revision``; watch from there."""

    revision: int
    entries: tuple[Entry, ...]


class Event(NamedTuple):
    """One change: the new value, or None for a deletion."""

    path: str
    value: bytes | None
    revision: int


class Store(Protocol):
    """The store. See the module for what holds of all methods."""

    async def get(self, path: str) -> Entry | None:
        """What is at ``path`` now, or None."""
        ...

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """All entries whose path starts with ``prefix``, now or as they were at ``revision`` (TooOld if compacted)."""
        ...

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """Put ``value`` where nothing is; the new revision. Conflict if something is there."""
        ...

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """Put ``value`` over what has ``revision``; the new revision. ``revision=None``: whatever is there, also nothing.

        Conflict if the path has another revision or nothing.
        """
        ...

    async def delete(self, path: str, *, revision: int | None) -> int:
        """Remove what has ``revision`` (None: any); the revision of the deletion. Conflict if it has another, or nothing is there."""
        ...

    def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """The changes under ``prefix`` after ``revision``, in order, one tuple per wake-up, never empty, for ever.

        A revision's events are never split over two tuples. Raises TooOld when ``revision`` was compacted or lies in
        the future of this store (restored from a backup), Unavailable when the store is lost.
        """
        ...

    async def grant(self, seconds: float) -> int:
        """A new lease: paths put with it are deleted when it is not kept alive for ``seconds``."""
        ...

    async def keep_alive(self, lease: int) -> None:
        """Start the lease's time anew. LeaseGone if it expired."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease now, deleting its paths."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history before ``revision``; current values stay."""
        ...

    async def close(self) -> None:
        """Release what the store holds; watches end."""
        ...
