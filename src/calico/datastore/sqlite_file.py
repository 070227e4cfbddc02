"""The SQLite file itself: made whole, opened only if it is ours, its failures put into words; blocking.

In:   a path.
Out:  an open connection with the tables below, or a ``StoreError`` that says what to do.
Next: ``datastore.database`` reads and writes the tables.

The file ``NAME`` is in WAL mode, with ``NAME-wal`` and ``NAME-shm`` beside it, and ``NAME-touch``, which
writers touch. All four are for their owner only. A new file is finished under another name before it appears
under its own, so there is never half a file, however many processes begin at once and wherever one is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from calico.datastore.api import StoreError, Unavailable

APPLICATION: Final = 0x43616C69
"""SQLite's application id of our files: "Cali"."""

SCHEMA: Final = 1
"""The version of the tables; kept in the file's ``user_version``."""

FIRST_REVISION: Final = 1
"""The revision of a store in which nothing was ever written."""

_TABLES: Final = (
    """CREATE TABLE state (
        compacted INTEGER NOT NULL,
        inode INTEGER NOT NULL
    )""",
    """CREATE TABLE entry (
        path TEXT PRIMARY KEY,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL,
        lease INTEGER
    ) WITHOUT ROWID""",
    "CREATE INDEX entry_lease ON entry (lease) WHERE lease IS NOT NULL",
    """CREATE TABLE change (
        number INTEGER PRIMARY KEY,
        path TEXT NOT NULL,
        value BLOB,
        old_value BLOB,
        old_revision INTEGER
    )""",
    """CREATE TABLE lease (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        seconds REAL NOT NULL,
        expires REAL NOT NULL,
        boot TEXT NOT NULL
    )""",
)
_WAL_LIMIT: Final = 64 << 20
"""How many bytes of log may stay on the disk."""

_CHECKPOINT: Final = 4_000
"""After how many pages of log they are moved into the database, which flushes the disk."""

_OWNER_ONLY: Final = 0o600


class Incompatible(StoreError):
    """The file is no store that this version can use: another program's, or made by a newer version.

    Trying again is useless; the sentence says what to do.
    """


def touch_path(path: Path) -> Path:
    """The file that is touched after each commit to the store at ``path``."""
    return path.with_name(f"{path.name}-touch")


def open_touch(path: Path) -> int:
    """A descriptor of the touch file of the store at ``path``, which is made where it is missing."""
    return os.open(touch_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)


def create(path: Path, busy: float) -> None:
    """Make an empty store at ``path``, and its directory. Nothing happens if one is there, or comes meanwhile.

    One process makes it; others wait for it up to ``busy`` seconds.

    What a crash can leave behind is a hidden file ``.NAME.*``, which nobody reads.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    import secrets  # few programs make a store

    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    touch = open_touch(path)
    try:
        _lock(touch, path, busy)
        if path.exists():
            return
        # A log without its database is of a store that was deleted; SQLite would play it into ours.
        for orphan in ("-wal", "-shm"):
            path.with_name(path.name + orphan).unlink(missing_ok=True)
        _fill(new)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
        _flush(path.parent)
    finally:
        os.close(touch)
        for part in ("", "-wal", "-shm"):
            new.with_name(new.name + part).unlink(missing_ok=True)


def connect(path: Path, busy: float) -> sqlite3.Connection:
    """A connection to the store at ``path``, which waits up to ``busy`` seconds for other writers."""
    if path.stat().st_size == 0:
        raise Unavailable(
            f"{path} is empty; wait until it is restored, or remove it to begin with a new store"
        )
    connection = _connect(path, busy)
    try:
        _recognise(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def explained(path: Path, busy: float) -> Iterator[None]:
    """Failures of SQLite and of the file system, as Unavailable with a sentence about ``path``."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            sentence = f"other processes kept {path} busy for {busy:g} seconds; try again"
        elif name.startswith("SQLITE_FULL"):
            sentence = f"no space is left for {path}; free some and try again"
        elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            sentence = f"{path} is damaged ({error}); restore it from a backup"
        elif name.startswith("SQLITE_READONLY"):
            sentence = f"{path} may not be written by this user; run as its owner"
        else:
            sentence = f"{path} cannot be used: {error}"
        raise Unavailable(sentence) from error
    except PermissionError as error:
        raise Unavailable(
            f"{error.filename or path} may not be opened by this user; run as its owner"
        ) from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be used: {error}") from error


def _lock(descriptor: int, path: Path, busy: float) -> None:
    deadline = time.monotonic() + busy
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"another process has not finished making {path} in {busy:g} seconds; try again"
                ) from None
            time.sleep(0.005)
        else:
            return


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise Incompatible(f"{path} is the database of another program; name another file for the store")
    if schema > SCHEMA:
        raise Incompatible(
            f"{path} was written by a newer version (schema {schema}, known here: {SCHEMA}); upgrade this program"
        )


def _connect(path: Path, busy: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy,
        isolation_level=None,
        check_same_thread=False,  # the thread that works ends before its owner closes
    )


def _fill(new: Path) -> None:
    """Make the file ``new`` an empty store, on the disk when this returns."""
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY))
    with contextlib.closing(_connect(new, 0)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        for table in _TABLES:
            connection.execute(table)
        state = (FIRST_REVISION, new.stat().st_ino)
        connection.execute("INSERT INTO state (compacted, inode) VALUES (?, ?)", state)
        connection.execute("COMMIT")
    _flush(new)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
