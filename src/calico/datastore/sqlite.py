"""The embedded store: one SQLite file for all processes of one machine.

In:   the file's path.
Out:  what ``datastore.api.Store`` promises; watches wake within about a millisecond of a commit elsewhere.
Next: ``datastore.resync`` and ``datastore.typed`` read it; ``datastore.database`` says what is in the file.

SQLite blocks: for a flush of the disk at a checkpoint, for other writers, for as long as a hundred thousand
rows take. An agent that enforces policy must not stand still meanwhile, so all calls run in one worker
thread, in order. That costs some 50 microseconds a call, and the thread starts with the first one; with
one thread there is one connection and nothing to lock. Nothing is opened before the first call, so an
agent starts also while its store is lost.

One reader for each process, started by the first watch, waits for writers to touch the file beside the
database (``datastore.notify``), reads what is new once, and hands it to all watches (``datastore.feed``).
It also looks by itself once in ``HEARTBEAT`` seconds, for writers that were killed between commit and touch,
and when the next lease is due. When the store is lost or replaced the reader ends, all watches with it; the
next watch starts another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from calico.datastore.api import Entry, Event, Listing, StoreError, TooOld, Unavailable
from calico.datastore.database import BUSY, Changes, Database, boot_id, since_boot
from calico.datastore.feed import HISTORY, Feed
from calico.datastore.sqlite_file import touch_path

if TYPE_CHECKING:
    from calico.datastore.notify import Bell

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")

HEARTBEAT: Final = 1.0
"""After how many seconds without a sound the reader looks by itself."""

SHORTEST: Final = 0.02
"""How many seconds the reader waits at the least before it looks at a lease that is due."""


class SQLiteStore:
    """``datastore.api.Store`` in the SQLite file at ``path``, which is made, with its directory, if missing.

    With ``make=False`` a missing file is a store that is lost: for programs that act on what is *not* in the store.

    A file that is another program's, or of a newer version, raises ``Incompatible`` from every call.
    ``clock`` must give the same seconds in all processes that use the file; ``history`` is how many
    revisions are kept at least.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        make: bool = True,
        clock: Callable[[], float] = since_boot,
        history: int = HISTORY,
        busy: float = BUSY,
    ) -> None:
        self.path = Path(path).absolute()
        self._database = Database(
            self.path, make=make, busy=busy, history=history, clock=clock, boot=boot_id()
        )
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="calico-store")
        self._starting = asyncio.Lock()
        self._reader: _Reader | None = None
        self._closed = False

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        return await self._call(self._database.get, path)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        return await self._call(self._database.create, path, value, lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        return await self._call(self._database.put, path, value, revision, lease)

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        return await self._call(self._database.delete, path, revision)

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``."""
        async with self._starting:
            if self._reader is None or self._reader.ended:
                self._reader = await self._start_reader()
            feed = self._reader.feed

        async def backlog(position: int) -> tuple[Event, ...]:
            changes = await self._call(self._database.changes, prefix, revision, position)
            return changes.events

        async for events in feed.watch(prefix, revision, backlog):
            yield events

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        return await self._call(self._database.grant, seconds)

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        await self._call(self._database.keep_alive, lease)

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        await self._call(self._database.revoke, lease)

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        await self._call(self._database.compact, revision)

    async def close(self) -> None:
        """See ``Store.close``. A second time does nothing."""
        if self._closed:
            return
        async with self._starting:
            if self._reader is not None:
                await self._reader.stop()
        await self._call(self._database.close)
        self._closed = True
        self._worker.shutdown(wait=True)

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        return await self._call(self._database.list, prefix, revision)

    async def _start_reader(self) -> _Reader:
        from calico.datastore.notify import Bell

        await self._call(self._database.revision)  # the files must exist before they can be listened to
        try:
            bell = Bell(touch_path(self.path), self.path)
        except OSError as error:
            raise Unavailable(
                f"changes of {self.path} cannot be heard: {error}; if there are too many watches,"
                " raise fs.inotify.max_user_instances"
            ) from error
        try:
            position = await self._call(self._database.revision)
        except BaseException:
            bell.close()
            raise
        return _Reader(
            Feed(position), bell, lambda after: self._call(self._database.changes, "", after, None)
        )

    async def _call(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Run ``function`` in the worker thread."""
        if self._closed:
            raise Unavailable(f"{self.path} was closed by this process; open it again")
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)


class _Reader:
    """Reads what is new in the file and says it to all watches of the process, until the store is lost."""

    def __init__(self, feed: Feed, bell: Bell, read: Callable[[int], Awaitable[Changes]]) -> None:
        self.feed = feed
        self._bell = bell
        self._read = read
        self._task = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        """Whether it reads no more."""
        return self._task.done()

    async def stop(self) -> None:
        """End the reader, and all watches."""
        self.feed.end()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        wait = 0.0
        try:
            while True:
                await self._bell.wait(wait)
                changes = await self._read(self.feed.position)
                self.feed.publish(changes.events, changes.revision)
                wait = HEARTBEAT
                if changes.next_lease is not None:
                    wait = min(HEARTBEAT, max(changes.next_lease, SHORTEST))
        except TooOld as error:
            oldest = error.oldest
            self.feed.fail(lambda seen: TooOld(seen, oldest))
        except StoreError as error:
            sentence = str(error)
            self.feed.fail(lambda _: Unavailable(sentence))
        finally:
            self.feed.fail(lambda _: Unavailable("the reader of the store ended; watch again"))
            self._bell.close()
