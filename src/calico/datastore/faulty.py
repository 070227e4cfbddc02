"""A store that fails when a test says so, around one that works.

In:   any store; what shall go wrong next.
Out:  the same store, with the failures that networks, disks and crashed servers bring.
Next: tests of whatever must survive them.

A failed write has either happened or not, and the caller cannot tell which: that is what ``Unavailable`` means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from calico.datastore.api import Entry, Event, Listing, Store, StoreError, Unavailable

T = TypeVar("T")


class FaultyStore:
    """``store``, failing on demand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []
        """The names of the methods that were called, in order."""
        self._lost = False
        self._writes: deque[bool] = deque()
        self._watches: set[_Watch] = set()

    def lose(self) -> None:
        """Nothing works, and all watches break, until ``recover``."""
        self._lost = True
        self.break_watches()

    def recover(self) -> None:
        """Everything works again."""
        self._lost = False

    def break_watches(self, error: StoreError | None = None) -> None:
        """End all watches of now with ``error``, or Unavailable; they hear nothing more. Later ones work."""
        for watch in self._watches:
            watch.fail(error or Unavailable("the connection broke"))

    def fail_next_write(self, *, happened: bool) -> None:
        """Let one more write end in Unavailable: after it was done, or before."""
        self._writes.append(happened)

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        self._called("get")
        return await self.store.get(path)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        return await self._write("create", lambda: self.store.create(path, value, lease=lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        return await self._write("put", lambda: self.store.put(path, value, revision=revision, lease=lease))

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        return await self._write("delete", lambda: self.store.delete(path, revision=revision))

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``."""
        self._called("watch")
        watch = _Watch()
        self._watches.add(watch)
        source = self.store.watch(prefix, revision=revision)
        try:
            while events := await watch.next(source):
                yield events
        finally:
            self._watches.discard(watch)
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        return await self._write("grant", lambda: self.store.grant(seconds))

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        await self._write("keep_alive", lambda: self.store.keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        await self._write("revoke", lambda: self.store.revoke(lease))

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        await self._write("compact", lambda: self.store.compact(revision))

    async def close(self) -> None:
        """See ``Store.close``."""
        await self.store.close()

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        self._called("list")
        return await self.store.list(prefix, revision=revision)

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self._lost:
            raise Unavailable("the store cannot be reached")

    async def _write(self, method: str, act: Callable[[], Awaitable[T]]) -> T:
        self._called(method)
        if not self._writes:
            return await act()
        if self._writes.popleft():
            await act()
        raise Unavailable("no answer came; the write may or may not have happened")


class _Watch:
    """One watch that can be broken while its reader waits."""

    def __init__(self) -> None:
        self._error: StoreError | None = None
        self._following: asyncio.Task[tuple[Event, ...]] | None = None

    def fail(self, error: StoreError) -> None:
        """Raise ``error`` instead of what comes from now on."""
        self._error = error
        if self._following is not None:
            self._following.cancel()

    async def next(self, source: AsyncIterator[tuple[Event, ...]]) -> tuple[Event, ...]:
        """The next events of ``source``; empty at its end."""
        if self._error is not None:
            raise self._error
        self._following = asyncio.create_task(_next(source))
        try:
            await asyncio.wait([self._following])
            if self._following.cancelled() and self._error is not None:
                raise self._error
            return self._following.result()
        finally:
            if not self._following.done():
                self._following.cancel()
                await asyncio.wait([self._following])


async def _next(source: AsyncIterator[tuple[Event, ...]]) -> tuple[Event, ...]:
    async for events in source:
        return events
    return ()
