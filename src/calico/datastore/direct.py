"""The embedded store for a program that looks into it and ends.

In:   the path of a SQLite file.
Out:  ``Store``, whose calls are done when they return; ``at_once`` runs what uses nothing else, without an event loop.
Next: ``cli.session`` looks things up with it.

The event loop, the thread and what they bring along take longer to import than such a program to run
(``datastore.sqlite``, which agents need, has them).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from calico.datastore.api import Entry, Event, Listing, Unavailable
from calico.datastore.database import BUSY, Database, boot_id, since_boot
from calico.datastore.feed import HISTORY

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which must wait for nothing but the calls of a ``DirectStore``."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("this work waits for something that only an event loop brings")


class DirectStore:
    """``datastore.api.Store`` in the SQLite file at ``path``; a missing file is a store that is lost.

    Each call blocks until it is done. Changes cannot be waited for.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(
            path.absolute(), make=False, busy=BUSY, history=HISTORY, clock=since_boot, boot=boot_id()
        )

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        return self._database.get(path)

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        return self._database.list(prefix, revision)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        return self._database.create(path, value, lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        return self._database.put(path, value, revision, lease)

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        return self._database.delete(path, revision)

    def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """Unavailable, at once: nothing can be waited for here."""
        raise Unavailable(f"changes of {prefix} after {revision} cannot be waited for without an event loop")

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        return self._database.grant(seconds)

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        self._database.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        self._database.revoke(lease)

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        self._database.compact(revision)

    async def close(self) -> None:
        """See ``Store.close``. A second time does nothing."""
        self._database.close()
