"""The SQLite file and its surroundings: what no other kind of store has."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from calico.datastore import sqlite as sqlite_store
from calico.datastore.api import Conflict, Event, TooOld, Unavailable
from calico.datastore.database import AHEAD, Database
from calico.datastore.sqlite import SQLiteStore
from calico.datastore.sqlite_file import SCHEMA, Incompatible, create
from support.stores import PATIENCE, Clock, listening, watching

BESIDE = ("", "-wal", "-shm", "-touch")


def run(path: Path, test: Callable[[SQLiteStore], Awaitable[None]]) -> None:
    """Run a test on a store at ``path``, and close it."""

    async def body() -> None:
        store = SQLiteStore(path, busy=0.2)
        try:
            async with asyncio.timeout(PATIENCE):
                await test(store)
        finally:
            await store.close()

    asyncio.run(body())


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def put_in_place(backup: Path, path: Path) -> None:
    """Restore a backup the way the module says."""
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink(missing_ok=True)
    backup.rename(path)


def copied(path: Path, backup: Path) -> Path:
    """A backup of the whole store at ``path``, as it is now."""
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    return backup


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_for_their_owner_only(tmp_path: Path, mask: int) -> None:
    """Directory and files are made for the owner alone, whatever the umask."""
    path = tmp_path / "var" / "calico" / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        modes = {suffix: beside(path, suffix).stat().st_mode & 0o777 for suffix in BESIDE}
        assert modes == dict.fromkeys(BESIDE, 0o600)
        assert path.parent.stat().st_mode & 0o777 == 0o700

    with umask(mask):
        run(path, test)


def test_nothing_is_made_before_the_first_call(tmp_path: Path) -> None:
    """Opening a store reads and makes nothing; closing it then neither."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        assert list(tmp_path.iterdir()) == []

    run(path, test)
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    """After closing there are the database and the file to touch, and no trace of how they were made."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")

    run(path, test)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["calico.db", "calico.db-touch"]


def test_content_survives_closing(tmp_path: Path) -> None:
    """What was stored is there when the file is opened again, at the same revision, with its history."""
    path = tmp_path / "calico.db"

    async def write(store: SQLiteStore) -> None:
        assert await store.create("/a", b"1") == 2
        assert await store.put("/a", b"2", revision=2) == 3

    async def read(store: SQLiteStore) -> None:
        listing = await store.list("/")
        assert (listing.revision, [entry.value for entry in listing.entries]) == (3, [b"2"])
        assert [entry.value for entry in (await store.list("/", revision=2)).entries] == [b"1"]

    run(path, write)
    run(path, read)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer version is left alone, and the error says what to do."""
    path = tmp_path / "calico.db"
    create(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")

    async def test(store: SQLiteStore) -> None:
        for act in (store.get("/a"), store.create("/a", b""), anext(store.watch("/", revision=1))):
            with pytest.raises(Incompatible, match=r"newer version.*upgrade"):
                await act

    run(path, test)


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    """A SQLite file that is not ours is left alone."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")

    async def test(store: SQLiteStore) -> None:
        with pytest.raises(Incompatible, match="another program"):
            await store.get("/a")

    run(path, test)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "is empty"), (b"no database at all" * 100, "is damaged")]
)
def test_file_that_is_no_database(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that is being copied, or damaged, is unavailable and is not written to."""
    path = tmp_path / "calico.db"
    path.write_bytes(content)

    async def test(store: SQLiteStore) -> None:
        with pytest.raises(Unavailable, match=sentence):
            await store.create("/a", b"")

    run(path, test)
    assert path.read_bytes() == content


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """Where no directory can be made the store is unavailable."""
    (tmp_path / "file").write_bytes(b"")

    async def test(store: SQLiteStore) -> None:
        with pytest.raises(Unavailable, match="cannot be used"):
            await store.get("/a")

    run(tmp_path / "file" / "calico.db", test)


def test_another_process_that_hangs_while_it_makes_the_file(tmp_path: Path) -> None:
    """Who waits for a file that another process began to make and does not finish is told so."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        with beside(path, "-touch").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(Unavailable, match="has not finished making"):
                await store.get("/a")
        assert await store.get("/a") is None

    run(path, test)


def test_strange_names_of_files(tmp_path: Path) -> None:
    """Any name that the file system takes will do."""

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")

    for name in ("a b?c#d%20.db", "ä:é.db"):
        run(tmp_path / name, test)
        assert (tmp_path / name).exists()


def test_busy_store_is_unavailable(tmp_path: Path) -> None:
    """A writer that cannot get its turn in time is told so; readers are not disturbed."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="busy"):
                await store.put("/a", b"2", revision=None)
            assert (await store.list("/")).revision == 2
            other.execute("ROLLBACK")
        assert await store.put("/a", b"2", revision=None) == 3

    run(path, test)


def test_reader_goes_on_when_an_expired_lease_cannot_be_ended(tmp_path: Path) -> None:
    """While another writer is busy, reading shows what is stored although a lease is due."""
    path = tmp_path / "calico.db"
    clock = Clock()

    async def test(_: SQLiteStore) -> None:
        store = SQLiteStore(path, clock=clock, busy=0.05)
        await store.create("/a", b"1", lease=await store.grant(10))
        clock.now += 11
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await store.get("/a") is not None
            other.execute("ROLLBACK")
        assert await store.get("/a") is None
        await store.close()

    run(tmp_path / "unused.db", test)


def test_deleted_file_is_not_made_anew(tmp_path: Path) -> None:
    """When the file is deleted, watches and calls say that it is lost; nobody who had it open makes an empty one."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        revision = await store.create("/a", b"1")
        async with listening(store.watch("/", revision=revision)) as following:
            await watching(store)
            for suffix in BESIDE:
                beside(path, suffix).unlink()
            with pytest.raises(Unavailable, match="was deleted"):
                await following
        for act in (
            store.get("/a"),
            store.put("/a", b"", revision=None),
            anext(store.watch("/", revision=1)),
        ):
            with pytest.raises(Unavailable, match="was deleted"):
                await act
        assert not path.exists()

    run(path, test)


def test_restored_backup_makes_everything_older_too_old(tmp_path: Path) -> None:
    """When a backup takes the file's place, watches end, and no revision from before can be mistaken for a new one."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        backup = copied(path, tmp_path / "backup.db")
        for number in range(5):
            revision = await store.put("/b", b"%d" % number, revision=None)
        watch = store.watch("/", revision=revision)
        async with listening(watch) as following:
            await watching(store)
            put_in_place(backup, path)
            with pytest.raises(TooOld):
                await following
        listing = await store.list("/")
        assert [entry.path for entry in listing.entries] == ["/a"]
        assert listing.revision == revision + AHEAD
        for old in (2, revision):
            with pytest.raises(TooOld):
                await anext(store.watch("/", revision=old))
        later = store.watch("/", revision=listing.revision)
        assert await store.put("/c", b"", revision=None) == listing.revision + 1
        assert [event.path for event in await anext(later)] == ["/c"]

    run(path, test)


def test_file_that_was_lost_comes_back(tmp_path: Path) -> None:
    """A store whose file was away goes on when a backup is there, without being opened anew."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        backup = copied(path, tmp_path / "backup.db")
        for suffix in BESIDE:
            beside(path, suffix).unlink()
        with pytest.raises(Unavailable):
            await store.get("/a")
        backup.rename(path)
        entry = await store.get("/a")
        assert entry is not None
        assert entry.value == b"1"
        async with listening(store.watch("/", revision=(await store.list("/")).revision)) as following:
            await store.put("/a", b"2", revision=entry.revision)
            assert [event.value for event in await following] == [b"2"]

    run(path, test)


@pytest.mark.parametrize("first", ["read", "write", "refused write", "watch"])
def test_backup_restored_into_the_open_file(tmp_path: Path, first: str) -> None:
    """A backup that is written into the file itself is noticed by its lower revision, whoever looks first."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        backup = copied(path, tmp_path / "backup.db")
        for number in range(5):
            revision = await store.put("/b", b"%d" % number, revision=None)
        watch = store.watch("/", revision=revision)
        async with listening(watch) as following:
            await watching(store)
            copied(backup, path)
            if first == "read":
                assert await store.get("/b") is None
            elif first == "write":
                assert await store.put("/c", b"", revision=None) == revision + AHEAD + 1
            elif first == "refused write":
                with pytest.raises(Conflict):
                    await store.delete("/b", revision=revision)
            with pytest.raises(TooOld):
                await following
        assert (await store.list("/")).revision == revision + AHEAD + (first == "write")

    run(path, test)


def test_log_of_a_deleted_store_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    """When only the database is deleted and its log stays behind, a new store begins empty."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/old", b"1")
        path.unlink()
        assert beside(path, "-wal").stat().st_size
        new = SQLiteStore(path)
        assert (await new.list("/")).entries == ()
        await new.create("/new", b"1")
        assert [entry.path for entry in (await new.list("/")).entries] == ["/new"]
        assert [entry.path for entry in (await store.list("/")).entries] == ["/new"]
        await new.close()

    run(path, test)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_copy_that_somebody_opens_is_another_store(tmp_path: Path) -> None:
    """Opening a copy moves its revision ahead, once, and leaves the original alone."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.create("/a", b"1")
        copied(path, tmp_path / "copy.db")
        for _ in range(2):
            copy = SQLiteStore(tmp_path / "copy.db")
            assert (await copy.list("/")).revision == 2 + AHEAD
            await copy.close()
        assert (await store.list("/")).revision == 2

    run(path, test)


def test_writer_that_died_before_it_told(tmp_path: Path) -> None:
    """A commit whose writer was killed before it touched the file is heard all the same."""
    path = tmp_path / "calico.db"

    class Killed(Database):
        def _tell(self) -> None:
            """Die after the commit."""

    async def test(store: SQLiteStore) -> None:
        now = (await store.list("/")).revision
        async with listening(store.watch("/", revision=now)) as following:
            await watching(store)
            writer = Killed(
                path, busy=1, history=100, clock=store._database._clock, boot=store._database._boot
            )
            writer.create("/a", b"1", None)
            writer.close()
            assert [event.path for event in await following] == ["/a"]

    run(path, test)


def test_touch_file_that_was_deleted(tmp_path: Path) -> None:
    """A file to touch that somebody deleted is made again by the next writer, and watches go on hearing."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        now = (await store.list("/")).revision
        watch = store.watch("/", revision=now)
        async with listening(watch) as following:
            await watching(store)
            beside(path, "-touch").unlink()
            await store.create("/a", b"1")
            assert [event.path for event in await following] == ["/a"]
        assert beside(path, "-touch").exists()

    run(path, test)


def test_lease_ends_with_the_boot(tmp_path: Path) -> None:
    """A lease of an earlier boot of the machine has ended, whatever the clock says now."""
    path = tmp_path / "calico.db"
    before = Database(path, busy=1, history=100, clock=lambda: 5000.0, boot="first")
    before.create("/a", b"1", before.grant(60))
    before.create("/b", b"1", None)
    before.close()

    after = Database(path, busy=1, history=100, clock=lambda: 10.0, boot="second")
    assert [entry.path for entry in after.list("/", None).entries] == ["/b"]
    after.close()


def test_watches_hear_of_expired_leases_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only watches ends leases when they are due, not at its next look by itself."""
    monkeypatch.setattr(sqlite_store, "HEARTBEAT", 3600.0)

    async def test(store: SQLiteStore) -> None:
        now = await store.create("/a", b"1", lease=await store.grant(0.1))
        assert await anext(store.watch("/", revision=now)) == (Event("/a", None, now + 1),)

    run(tmp_path / "calico.db", test)


def test_file_stops_growing(tmp_path: Path) -> None:
    """A store that keeps being written does not grow beyond its content and history."""
    path = tmp_path / "calico.db"
    database = Database(path, busy=1, history=100, clock=lambda: 0.0, boot="")

    def size_after(writes: int) -> int:
        for _ in range(writes):
            database.put("/a", b"x" * 500, None, None)
        return path.stat().st_size + beside(path, "-wal").stat().st_size

    first = size_after(2500)
    assert size_after(4000) <= first * 1.25
    database.close()


def test_slow_reader_of_a_watch_is_too_old(tmp_path: Path) -> None:
    """A watch that is not read while history is compacted past it says so instead of leaving a gap."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        first = await store.create("/a", b"1")
        watch = store.watch("/", revision=first)
        other = SQLiteStore(path)
        now = await other.put("/a", b"2", revision=None)
        await other.compact(now)
        with pytest.raises(TooOld):
            await anext(watch)
        await other.close()

    run(path, test)


def test_reader_that_was_overtaken_by_compaction(tmp_path: Path) -> None:
    """When history is compacted past what the process has read, its watches are too old; new ones work."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        revision = await store.create("/a", b"1")
        watch = store.watch("/", revision=revision)
        async with listening(watch) as following:
            await watching(store)
            assert store._reader is not None
            store._reader.feed.position = revision - 1
            await store.compact(revision)
            with pytest.raises(TooOld):
                await following
        later = store.watch("/", revision=revision)
        await store.put("/a", b"2", revision=None)
        assert [event.value for event in await anext(later)] == [b"2"]

    run(path, test)


def test_loop_runs_while_a_long_listing_is_read(tmp_path: Path) -> None:
    """Other tasks of the loop run while a listing is read."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        for number in range(2000):
            await store.create(f"/{number:06}", b"x" * 100)
        listing = asyncio.create_task(store.list("/"))
        turns = 0
        while not listing.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(listing.result().entries) == 2000
        assert turns > 1

    run(path, test)


def test_cancelled_write_has_happened_or_not(tmp_path: Path) -> None:
    """A caller that gives up leaves a store that works, with the write or without it."""
    path = tmp_path / "calico.db"

    async def test(store: SQLiteStore) -> None:
        await store.get("/a")
        task = asyncio.create_task(store.create("/a", b"1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        revision = (await store.list("/")).revision
        assert revision == (1 if await store.get("/a") is None else 2)
        assert await store.put("/a", b"2", revision=None) == revision + 1

    run(path, test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_file_of_another_user(tmp_path: Path) -> None:
    """Who may not open the file is told to be its owner, and nothing is made elsewhere."""
    path = tmp_path / "calico.db"
    create(path, 1)

    async def test(store: SQLiteStore) -> None:
        os.seteuid(65534)
        try:
            with pytest.raises(Unavailable, match="run as its owner"):
                await store.get("/a")
        finally:
            os.seteuid(0)

    run(path, test)


def test_who_must_not_make_a_store_waits_for_it(tmp_path: Path) -> None:
    """With make=False a missing file is a lost store, nothing appears in its place, and it is read once it is there."""
    path = tmp_path / "data" / "calico.db"

    async def body() -> None:
        reader = SQLiteStore(path, make=False)
        with pytest.raises(Unavailable, match=r"calico\.db does not exist"):
            await reader.list("/")
        assert not path.parent.exists()
        writer = SQLiteStore(path)
        await writer.create("/a", b"1")
        assert [entry.path for entry in (await reader.list("/")).entries] == ["/a"]
        await writer.close()
        await reader.close()

    asyncio.run(body())
