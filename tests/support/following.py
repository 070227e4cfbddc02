"""A reader that follows a store through whatever happens to it, and a writer that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from calico.datastore.api import Conflict, Store, StoreError, Unavailable
from calico.datastore.resync import Status, updates
from calico.model.fact import InSync
from calico.model.keys import parse_path
from support.etcd import soon

SETS = "/calico/resources/v3/projectcalico.org/globalnetworksets/"
"""Under which the writer writes; the values are bytes that no decoder reads here."""


@dataclass
class Reader:
    """What a stream of updates said, and how it stands."""

    store: Store
    said: dict[str, bytes] = field(default_factory=dict)
    status: Status = field(default_factory=Status)
    synced: int = 0

    async def follow(self) -> None:
        def decode(key: object, value: bytes, revision: int) -> bytes:
            return value

        async def pause(seconds: float) -> None:
            await asyncio.sleep(min(seconds, 0.3))

        stream = updates(
            self.store, decode=decode, pause=pause, clock=time.monotonic, prefix=SETS, status=self.status
        )
        async for batch in stream:
            for item in batch:
                if isinstance(item, InSync):
                    self.synced += 1
                elif item.value is None:
                    del self.said[item.key.path]
                else:
                    self.said[item.key.path] = item.value


@dataclass
class Writer:
    """Puts, changes and deletes one of a few paths after the other, and reads after a write of unknown fate."""

    store: Store
    paths: int = 7
    pause: float = 0.005
    written: int = 0
    unknown: int = 0
    longest: float = 0.0
    """The longest time, in seconds, between two writes that succeeded."""

    async def write(self) -> None:
        last = time.monotonic()
        number = 0
        while True:
            number += 1
            path = f"{SETS}n{number % self.paths}"
            assert parse_path(path) is not None
            try:
                if number % 11 == 0:
                    with contextlib.suppress(Conflict):
                        await self.store.delete(path, revision=None)
                else:
                    await self.store.put(path, b"%d" % number, revision=None)
            except Unavailable:
                self.unknown += 1
                await asyncio.sleep(0.05)
                continue
            self.written += 1
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now
            await asyncio.sleep(self.pause)


@contextlib.asynccontextmanager
async def traffic(reading: Store, writing: Store) -> AsyncIterator[tuple[Reader, Writer]]:
    """A reader and a writer at work while the block runs; in the end the reader has the truth, or the test fails.

    The writer is stopped first; the reader must not have ended, and not have begun anew.
    """
    reader, writer = Reader(reading), Writer(writing)
    following = asyncio.create_task(reader.follow())
    storing = asyncio.create_task(writer.write())
    try:

        async def under_way() -> bool:
            return bool(reader.synced and writer.written > 20)

        await soon(under_way)
        yield reader, writer
        storing.cancel()
        await asyncio.wait([storing])
        assert storing.cancelled(), storing.exception()
        await soon(lambda: _agree(reader, writing, following))
        assert reader.synced == 1
    finally:
        for task in (following, storing):
            task.cancel()
        await asyncio.wait([following, storing])


async def _agree(reader: Reader, store: Store, following: asyncio.Task[None]) -> bool:
    assert not following.done(), following.exception()
    try:
        listing = await store.list(SETS)
    except StoreError:
        return False
    return {entry.path: entry.value for entry in listing.entries} == reader.said
