"""What is stored in the SQLite file, read and written; blocking.

In:   one call for each operation of the store, all from one thread.
Out:  its result, or a ``StoreError``; the file is consistent wherever a process is killed.
Next: ``datastore.sqlite`` makes a store of it.

* ``entry`` holds what is stored now. ``change`` holds what each revision made of a path and what was there
  before, so an older state is today's with the later changes undone. The last revision is the store's. A
  revision's changes are numbered from the revision times ``SPAN``, so the newest are always at the end.
* Each writer forgets old history now and then; the file stops growing, because free pages are used again.
* A lease ends at a reading of the kernel's clock since boot, or with the boot. Whoever does anything with the
  store first ends the leases that are due, whoever was granted them, and a process that watches does so in time.
* Revisions never go back, also when a backup takes the file's place: who finds that the file is not the one
  it was made as, or has seen later revisions of it, first moves the revision far ahead and forgets all
  history. So whatever anybody knew from before is too old, and is read afresh.

To restore a backup while agents run: remove ``NAME-wal`` and ``NAME-shm``, and rename a complete copy to
``NAME``. A file that vanished is not made anew by those who had it open, for an empty store would be a
false picture.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from calico.datastore.api import Conflict, Entry, Event, LeaseGone, Listing, TooOld, Unavailable
from calico.datastore.feed import horizon
from calico.datastore.sqlite_file import connect, create, explained, open_touch

AHEAD: Final = 1_000_000
"""How far the revision moves when the file was replaced: more than was written since the backup."""

SPAN: Final = 1 << 20
"""How many changes one revision may have."""


BUSY: Final = 5.0
"""How many seconds a call waits for other writers."""


def since_boot() -> float:
    """Seconds since the machine booted, asleep or not: the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The name of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Changes(NamedTuple):
    """All events up to ``revision``, and in how many seconds the next lease is due (None: there is none)."""

    revision: int
    events: tuple[Event, ...]
    next_lease: float | None


class _State(NamedTuple):
    compacted: int
    revision: int
    inode: int


class Database:
    """The store's file at ``path``. It is opened, and if ``make`` made where it is missing, by the first call.

    ``busy`` is how many seconds a call waits for other writers, ``history`` how many revisions are kept at
    least, ``clock`` gives seconds that are the same in all processes while ``boot`` is.
    """

    def __init__(
        self,
        path: Path,
        *,
        make: bool = True,
        busy: float,
        history: int,
        clock: Callable[[], float],
        boot: str,
    ) -> None:
        self.path = path
        self._make = make
        self._busy = busy
        self._history = history
        self._clock = clock
        self._boot = boot
        self._connection: sqlite3.Connection | None = None
        self._touch = -1
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that is open, or was; None before the first."""
        self._seen = 0
        """The last revision of the store that this process knows of."""
        self._closed = False

    def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        with self._reading() as (connection, _):
            return _entry(connection, path)

    def create(self, path: str, value: bytes, lease: int | None) -> int:
        """See ``Store.create``."""
        with self._writing() as (connection, state):
            before = _entry(connection, path)
            if before is not None:
                raise Conflict(path, before.revision)
            return self._put(connection, state.revision + 1, path, value, before, lease)

    def put(self, path: str, value: bytes, expected: int | None, lease: int | None) -> int:
        """See ``Store.put``."""
        with self._writing() as (connection, state):
            before = _entry(connection, path)
            if expected is not None and (before is None or before.revision != expected):
                raise Conflict(path, before and before.revision)
            return self._put(connection, state.revision + 1, path, value, before, lease)

    def delete(self, path: str, expected: int | None) -> int:
        """See ``Store.delete``."""
        with self._writing() as (connection, state):
            before = _entry(connection, path)
            if before is None or expected not in {None, before.revision}:
                raise Conflict(path, before and before.revision)
            self._remove(connection, state.revision + 1, [before])
            return state.revision + 1

    def revision(self) -> int:
        """The store's revision now."""
        with self._reading() as (_, state):
            return state.revision

    def changes(self, prefix: str, after: int, upto: int | None = None) -> Changes:
        """What changed under ``prefix`` after the revision ``after``: all, or up to ``upto``."""
        with self._reading() as (connection, state):
            if not state.compacted <= after <= state.revision:
                raise TooOld(after, state.compacted)
            last = state.revision if upto is None else upto
            within, bounds = _under(prefix)
            rows = connection.execute(
                f"SELECT path, value, number / {SPAN} FROM change WHERE number >= ? AND number < ? AND {within}"  # noqa: S608 - our own words
                " ORDER BY number",
                ((after + 1) * SPAN, (last + 1) * SPAN, *bounds),
            )
            events = tuple(map(Event._make, rows))
            (due,) = connection.execute("SELECT min(expires) FROM lease").fetchone()
            return Changes(last, events, None if due is None else max(0.0, due - self._clock()))

    def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        with self._writing() as (connection, _):
            done = connection.execute(
                "INSERT INTO lease (seconds, expires, boot) VALUES (?, ?, ?)",
                (seconds, self._clock() + seconds, self._boot),
            )
            assert done.lastrowid is not None
            return done.lastrowid

    def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        with self._writing() as (connection, _):
            expires = self._clock() + _lease_seconds(connection, lease)
            connection.execute("UPDATE lease SET expires = ? WHERE number = ?", (expires, lease))

    def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        with self._writing() as (connection, state):
            _lease_seconds(connection, lease)
            self._end_leases(connection, state.revision + 1, [lease])

    def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        with self._writing() as (connection, state):
            if revision > state.revision:
                raise TooOld(revision, state.compacted)
            _forget(connection, revision)

    def close(self) -> None:
        """Close the file for good."""
        self._closed = True
        self._drop()

    def list(self, prefix: str, revision: int | None) -> Listing:
        """See ``Store.list``."""
        within, bounds = _under(prefix)
        with self._reading() as (connection, state):
            at = state.revision if revision is None else revision
            if not state.compacted <= at <= state.revision:
                raise TooOld(at, state.compacted)
            rows = connection.execute(
                f"SELECT path, value, revision FROM entry WHERE {within} ORDER BY path",  # noqa: S608 - our own words
                bounds,
            )
            entries = tuple(map(Entry._make, rows))
            if at == state.revision:
                return Listing(at, entries)
            undone = connection.execute(
                f"SELECT path, old_value, old_revision FROM change WHERE number >= ? AND {within}"  # noqa: S608 - our own words
                " ORDER BY number DESC",
                ((at + 1) * SPAN, *bounds),
            )
            past = {entry.path: entry for entry in entries}
            for path, old_value, old_revision in undone:
                if old_revision is None:
                    past.pop(path, None)
                else:
                    past[path] = Entry(path, old_value, old_revision)
            return Listing(at, tuple(past[path] for path in sorted(past)))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, _State]]:
        """One consistent view of the file, in which no lease is due unless another writer is in the way."""
        with self._explained():
            connection = self._ready()
            connection.execute("BEGIN")
            try:
                state = _state(connection)
                if self._replaced(state) or self._due(connection):
                    connection.execute("ROLLBACK")
                    self._settle_for_reader(connection)
                    connection.execute("BEGIN")
                    state = _state(connection)
                self._seen = state.revision
                yield connection, state
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, _State]]:
        """One transaction: all of it happens, or nothing if it is left by an error. No lease is due in it."""
        with self._explained():
            connection = self._ready()
            with self._transaction(connection):
                state = _state(connection)
                if self._replaced(state) or self._due(connection):
                    self._settle(connection)
                    connection.execute("COMMIT")  # whatever becomes of the rest
                    self._tell()
                    connection.execute("BEGIN IMMEDIATE")
                    state = _state(connection)
                self._seen = state.revision
                yield connection, state

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self._tell()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self.path, self._busy):
            try:
                yield
            except sqlite3.DatabaseError as error:
                if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                    self._drop()
                raise

    def _ready(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now."""
        if self._closed:
            raise Unavailable(f"{self.path} was closed by this process; open it again")
        if self._connection is None or _identity(self.path) != self._file:
            self._drop()
            self._open()
        assert self._connection is not None
        return self._connection

    def _settle(self, connection: sqlite3.Connection) -> None:
        """In a transaction: move ahead in a file that was replaced, and end the leases that are due."""
        state = _state(connection)
        if self._replaced(state):
            state = self._move_ahead(connection, state)
        self._end_leases(connection, state.revision + 1, self._due(connection))

    def _settle_for_reader(self, connection: sqlite3.Connection) -> None:
        """The same outside of a transaction. Who cannot write now sees a lease a little longer, but no old history."""
        try:
            with self._transaction(connection):
                self._settle(connection)
        except sqlite3.OperationalError:
            if self._replaced(_state(connection)):
                raise

    def _open(self) -> None:
        if not self.path.exists():
            if self._file is not None:
                raise Unavailable(
                    f"{self.path} was deleted; restore it, or start this program anew to begin with an empty store"
                )
            if not self._make:
                raise Unavailable(
                    f"{self.path} does not exist; put the store there, or begin a new one with: calicoctl apply"
                )
            create(self.path, self._busy)
        found = self.path.stat()
        connection = connect(self.path, self._busy)
        try:
            self._touch = open_touch(self.path)
        except OSError:
            connection.close()
            raise
        self._connection = connection
        self._file = found.st_dev, found.st_ino
        if _identity(self.path) != self._file:
            self._drop()
            raise Unavailable(f"{self.path} was replaced while it was opened; try again")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._touch >= 0:
            os.close(self._touch)
            self._touch = -1

    def _replaced(self, state: _State) -> bool:
        """Whether a copy or a backup has taken the place of the file that this process, or its maker, knew."""
        return state.revision < self._seen or (self._file is not None and state.inode != self._file[1])

    def _move_ahead(self, connection: sqlite3.Connection, state: _State) -> _State:
        assert self._file is not None
        inode = self._file[1]
        ahead = max(self._seen, state.revision) + AHEAD
        _forget(connection, ahead)
        connection.execute("UPDATE state SET inode = ?", (inode,))
        return _State(ahead, ahead, inode)

    def _tell(self) -> None:
        """Wake all who watch. A commit into a file that is no longer there is one that may be lost."""
        if os.fstat(self._touch).st_nlink == 0:
            os.close(self._touch)
            self._touch = open_touch(self.path)
        os.pwrite(self._touch, b"\n", 0)
        if _identity(self.path) != self._file:
            raise Unavailable(f"{self.path} was replaced while it was written; read again, then decide")

    def _due(self, connection: sqlite3.Connection) -> Iterable[int]:
        """The leases whose time is over."""
        rows = connection.execute(
            "SELECT number FROM lease WHERE expires <= ? OR boot != ?", (self._clock(), self._boot)
        )
        return [number for (number,) in rows.fetchall()]

    def _end_leases(self, connection: sqlite3.Connection, revision: int, ended: Iterable[int]) -> None:
        """Forget leases, and remove what was put with them, all at ``revision``."""
        orphans: list[Entry] = []
        for lease in ended:
            rows = connection.execute("SELECT path, value, revision FROM entry WHERE lease = ?", (lease,))
            orphans += map(Entry._make, rows.fetchall())
            connection.execute("DELETE FROM lease WHERE number = ?", (lease,))
        if orphans:
            self._remove(connection, revision, sorted(orphans))

    def _put(
        self,
        connection: sqlite3.Connection,
        revision: int,
        path: str,
        value: bytes,
        before: Entry | None,
        lease: int | None,
    ) -> int:
        if lease is not None:
            _lease_seconds(connection, lease)
        connection.execute(
            "REPLACE INTO entry (path, value, revision, lease) VALUES (?, ?, ?, ?)",
            (path, value, revision, lease),
        )
        self._log(connection, revision, [(path, value, before)])
        return revision

    def _remove(self, connection: sqlite3.Connection, revision: int, entries: Iterable[Entry]) -> None:
        connection.executemany("DELETE FROM entry WHERE path = ?", [(entry.path,) for entry in entries])
        self._log(connection, revision, [(entry.path, None, entry) for entry in entries])

    def _log(
        self,
        connection: sqlite3.Connection,
        revision: int,
        changes: Iterable[tuple[str, bytes | None, Entry | None]],
    ) -> None:
        """Write down what ``revision`` made of paths, and what was there; forget what is older than the history."""
        connection.executemany(
            "INSERT INTO change (number, path, value, old_value, old_revision) VALUES (?, ?, ?, ?, ?)",
            [
                (number, path, value, before and before.value, before and before.revision)
                for number, (path, value, before) in enumerate(changes, revision * SPAN)
            ],
        )
        oldest = horizon(revision, self._history)
        if oldest is not None:
            _forget(connection, oldest)


def _entry(connection: sqlite3.Connection, path: str) -> Entry | None:
    row = connection.execute("SELECT path, value, revision FROM entry WHERE path = ?", (path,)).fetchone()
    return None if row is None else Entry(*row)


def _state(connection: sqlite3.Connection) -> _State:
    row = connection.execute(
        "SELECT compacted, "  # noqa: S608 - our own words
        f"max(compacted, coalesce((SELECT max(number) / {SPAN} FROM change), 0)), inode FROM state"
    ).fetchone()
    return _State(*row)


def _forget(connection: sqlite3.Connection, revision: int) -> None:
    """Keep no history up to ``revision``."""
    connection.execute("DELETE FROM change WHERE number < ?", ((revision + 1) * SPAN,))
    connection.execute("UPDATE state SET compacted = max(compacted, ?)", (revision,))


def _lease_seconds(connection: sqlite3.Connection, lease: int) -> float:
    """How long ``lease`` lives without being kept alive; LeaseGone if it does not live."""
    row = connection.execute("SELECT seconds FROM lease WHERE number = ?", (lease,)).fetchone()
    if row is None:
        raise LeaseGone(f"lease {lease} has expired or was revoked; take a new one")
    seconds: float = row[0]
    return seconds


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _under(prefix: str) -> tuple[str, tuple[str, ...]]:
    """The condition that ``path`` starts with ``prefix``, as a range of the index, and its parameters."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return "path >= ?", (prefix,)
    last = ord(stem[-1]) + 1
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last)
    return "path >= ? AND path < ?", (prefix, after)
