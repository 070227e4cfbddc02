"""Open a store by the place where it is.

In:   a location, as text or path.
Out:  a ``Store``; nothing is read or made before its first call.
"""

from __future__ import annotations

from pathlib import Path

from calico.datastore.api import Store, StoreError

MEMORY = "memory"
"""The location of a new store in this process alone."""


def open_store(location: str | Path) -> Store:
    """The store at ``location``: ``memory``, ``sqlite:FILE``, or the path of a SQLite file.

    Addresses of servers (``https://...``) raise StoreError: no such store is known.
    """
    if location == MEMORY:
        from calico.datastore.memory import MemoryStore

        return MemoryStore()
    text = str(location)
    if "://" in text:
        raise StoreError(f"{text} is no store that is known here; name a SQLite file")
    from calico.datastore.sqlite import SQLiteStore

    return SQLiteStore(text.removeprefix("sqlite:"))
