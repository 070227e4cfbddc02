"""What every store must do: one suite for all."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from calico.datastore.api import Conflict, Entry, Event, LeaseGone, Listing, TooOld, Unavailable
from support.stores import STORES, World, caught_up, collect, events_of, listening, run_in


def contract(test: Callable[[World], Awaitable[None]]) -> Callable[[str, Path], None]:
    """A test of the contract, to be run on every store."""

    @pytest.mark.parametrize("kind", STORES)
    @functools.wraps(test)
    def run(kind: str, tmp_path: Path) -> None:
        run_in(kind, tmp_path, test)

    del run.__wrapped__
    return run


@contract
async def test_new_store_is_empty(world: World) -> None:
    """A new store holds nothing, and says at which revision that was so."""
    listing = await world.store.list("/")

    assert listing.entries == ()
    assert await world.store.list("/", revision=listing.revision) == listing
    assert await world.store.get("/a") is None


@contract
async def test_created_value_is_read_back(world: World) -> None:
    """What was created is there, at the revision that was returned."""
    revision = await world.store.create("/a", b"one")

    assert await world.store.get("/a") == Entry("/a", b"one", revision)
    assert await world.store.list("/") == Listing(revision, (Entry("/a", b"one", revision),))


@contract
async def test_any_bytes_are_a_value(world: World) -> None:
    """Empty values, zero bytes and large values are kept as they are."""
    values = [b"", b"\0", b"\xff\xfe", b"x" * 300_000]
    for number, value in enumerate(values):
        await world.store.create(f"/{number}", value)

    assert [entry.value for entry in (await world.store.list("/")).entries] == values


@contract
async def test_create_refuses_what_exists(world: World) -> None:
    """Creating over something is a conflict that tells its revision, and changes nothing."""
    revision = await world.store.create("/a", b"one")

    with pytest.raises(Conflict) as conflict:
        await world.store.create("/a", b"two")

    assert (conflict.value.path, conflict.value.current) == ("/a", revision)
    assert await world.store.get("/a") == Entry("/a", b"one", revision)
    assert (await world.store.list("/")).revision == revision


@contract
async def test_revisions_grow_by_one(world: World) -> None:
    """Each change has the next revision, whatever it changed."""
    first = await world.store.create("/a", b"1")
    second = await world.store.put("/b", b"2", revision=None)
    third = await world.store.delete("/a", revision=first)

    assert (second, third) == (first + 1, first + 2)
    assert (await world.store.list("/")).revision == third


@contract
async def test_put_over_the_expected_revision(world: World) -> None:
    """A put that knows the current revision succeeds, one that knows an older is a conflict."""
    first = await world.store.create("/a", b"1")
    second = await world.store.put("/a", b"2", revision=first)

    with pytest.raises(Conflict) as conflict:
        await world.store.put("/a", b"3", revision=first)

    assert conflict.value.current == second
    assert await world.store.get("/a") == Entry("/a", b"2", second)


@contract
async def test_put_over_nothing(world: World) -> None:
    """A put that expects a revision is a conflict where there is nothing; one that expects none succeeds."""
    for expected in (0, 1, 5):
        with pytest.raises(Conflict) as conflict:
            await world.store.put("/a", b"1", revision=expected)
        assert conflict.value.current is None

    revision = await world.store.put("/a", b"1", revision=None)

    assert await world.store.get("/a") == Entry("/a", b"1", revision)


@contract
async def test_delete(world: World) -> None:
    """A deletion needs the current revision or none, and something to delete."""
    first = await world.store.create("/a", b"1")
    second = await world.store.put("/a", b"2", revision=first)

    with pytest.raises(Conflict) as stale:
        await world.store.delete("/a", revision=first)
    assert stale.value.current == second
    await world.store.delete("/a", revision=second)
    assert await world.store.get("/a") is None
    for expected in (None, second):
        with pytest.raises(Conflict) as gone:
            await world.store.delete("/a", revision=expected)
        assert gone.value.current is None


@contract
async def test_path_can_be_created_again_after_deletion(world: World) -> None:
    """A path that was deleted is free."""
    await world.store.create("/a", b"1")
    await world.store.delete("/a", revision=None)

    revision = await world.store.create("/a", b"2")

    assert await world.store.get("/a") == Entry("/a", b"2", revision)


@contract
async def test_list_is_by_prefix_in_order_of_path(world: World) -> None:
    """A listing has exactly the paths that start with the prefix, in order of their code points."""
    paths = ["/a", "/a/b", "/a/b/c", "/a-b", "/ab", "/b", "/A", "/ä", "/a/%_*?[", "/a/\U0001f600"]
    for path in paths:
        await world.store.create(path, b"")

    async def listed(prefix: str) -> list[str]:
        return [entry.path for entry in (await world.store.list(prefix)).entries]

    for prefix in ("", "/", "/a", "/a/", "/a/b", "/a/b/", "/a/%", "/nothing", "/\U0010ffff"):
        assert await listed(prefix) == sorted(path for path in paths if path.startswith(prefix))


@contract
async def test_list_at_an_older_revision(world: World) -> None:
    """A listing at a revision shows what was there then, whatever happened since."""
    store = world.store
    pictures = [await store.list("/")]
    first = await store.create("/a", b"1")
    pictures.append(await store.list("/"))
    await store.create("/b", b"1")
    pictures.append(await store.list("/"))
    await store.put("/a", b"2", revision=first)
    pictures.append(await store.list("/"))
    await store.delete("/b", revision=None)
    pictures.append(await store.list("/"))
    await store.create("/b", b"3")

    assert [await store.list("/", revision=picture.revision) for picture in pictures] == pictures


@contract
async def test_future_is_not_known(world: World) -> None:
    """A revision that the store has not reached is of another history: neither listed, nor watched from, nor compacted to."""
    now = await world.store.create("/a", b"1")

    with pytest.raises(TooOld):
        await world.store.list("/", revision=now + 1)
    with pytest.raises(TooOld):
        await anext(world.store.watch("/", revision=now + 1))
    with pytest.raises(TooOld):
        await world.store.compact(now + 1)


@contract
async def test_watch_from_a_listing_leaves_no_gap(world: World) -> None:
    """A watch from a listing's revision says all that happened after it, in order, also before the watch began."""
    await world.store.create("/a", b"1")
    listing = await world.store.list("/")
    await world.store.put("/a", b"2", revision=None)
    await world.store.create("/b", b"1")
    watch = world.store.watch("/", revision=listing.revision)

    past = await collect(watch, lambda heard: len(heard) == 2)
    await world.store.delete("/a", revision=None)
    later = await collect(watch, lambda heard: len(heard) == 1)

    assert past + later == [
        Event("/a", b"2", listing.revision + 1),
        Event("/b", b"1", listing.revision + 2),
        Event("/a", None, listing.revision + 3),
    ]


@contract
async def test_watch_is_by_prefix(world: World) -> None:
    """A watch says nothing of other paths."""
    watch = world.store.watch("/a/", revision=(await world.store.list("/")).revision)
    async with listening(watch) as following:
        for path in ("/a", "/b/a/", "/a/x", "/ab"):
            await world.store.create(path, b"")
        assert [event.path for event in await following] == ["/a/x"]


@contract
async def test_watch_hears_other_clients(world: World) -> None:
    """A watch hears what another client of the same data writes."""
    watch = world.store.watch("/", revision=(await world.store.list("/")).revision)
    async with listening(watch) as following:
        await world.another().create("/a", b"1")
        assert [event.path for event in await following] == ["/a"]


@contract
async def test_many_watches_each_hear_all(world: World) -> None:
    """Watches do not take events from each other, and may begin at different revisions."""
    revisions = [(await world.store.list("/")).revision]
    revisions += [await world.store.put("/a", b"%d" % number, revision=None) for number in range(3)]
    watches = [world.store.watch("/", revision=revision) for revision in revisions]

    collected = asyncio.gather(
        *(collect(watch, lambda heard: heard[-1].value == b"last") for watch in watches)
    )
    last = await world.store.put("/a", b"last", revision=None)

    heard = [[event.revision for event in events] for events in await collected]
    assert heard == [list(range(revision + 1, last + 1)) for revision in revisions]


@contract
async def test_watch_beyond_its_backlog_follows_idle_history(world: World) -> None:
    """A watch whose prefix is idle survives that the rest of the store moves on and is compacted."""
    watch = world.store.watch("/idle/", revision=(await world.store.list("/")).revision)
    async with listening(watch) as following:
        for number in range(5):
            now = await world.store.put("/busy", b"%d" % number, revision=None)
            await asyncio.sleep(0)
        await caught_up(world.store)
        await world.store.compact(now)
        await world.store.create("/idle/a", b"1")
        assert [event.path for event in await following] == ["/idle/a"]


@contract
async def test_compaction_keeps_current_values(world: World) -> None:
    """Compacting forgets older states and nothing else; the state at the compacted revision is still listed."""
    store = world.store
    old = await store.create("/a", b"1")
    await store.create("/b", b"1")
    await store.put("/a", b"2", revision=old)
    middle = await store.delete("/b", revision=None)
    then = await store.list("/")
    await store.create("/c", b"1")
    now = await store.list("/")

    await store.compact(middle)

    assert await store.list("/") == now
    assert await store.list("/", revision=middle) == then
    with pytest.raises(TooOld) as error:
        await store.list("/", revision=old)
    assert (error.value.asked, error.value.oldest) == (old, middle)


@contract
async def test_watch_from_a_compacted_revision(world: World) -> None:
    """A watch from before the compacted revision is too old, one from it hears what followed."""
    first = await world.store.create("/a", b"1")
    second = await world.store.create("/b", b"1")
    third = await world.store.create("/c", b"1")
    await world.store.compact(second)

    with pytest.raises(TooOld):
        await anext(world.store.watch("/", revision=first))
    assert await anext(world.store.watch("/", revision=second)) == (Event("/c", b"1", third),)


@contract
async def test_deletion_at_the_compacted_revision(world: World) -> None:
    """A watch that would have to begin with a deletion that was compacted is too old, and does not swallow it."""
    first = await world.store.create("/a", b"1")
    second = await world.store.delete("/a", revision=None)
    third = await world.store.create("/b", b"1")
    await world.store.compact(second)

    with pytest.raises(TooOld):
        await anext(world.store.watch("/", revision=first))
    assert await anext(world.store.watch("/", revision=second)) == (Event("/b", b"1", third),)


@contract
async def test_compacting_twice(world: World) -> None:
    """Compacting to an older revision than before changes nothing."""
    first = await world.store.create("/a", b"1")
    second = await world.store.create("/b", b"1")
    await world.store.compact(second)

    await world.store.compact(first)

    with pytest.raises(TooOld):
        await world.store.list("/", revision=first)


@contract
async def test_revisions_go_on_after_compacting_everything(world: World) -> None:
    """A store whose whole history is forgotten still knows its revision."""
    now = await world.store.create("/a", b"1")
    await world.store.compact(now)

    assert (await world.store.list("/")).revision == now
    assert await world.store.create("/b", b"1") == now + 1


@contract
async def test_lease_deletes_its_paths_when_it_expires(world: World) -> None:
    """When a lease is not kept alive its paths go, all in one revision and one tuple; others stay."""
    lease = await world.store.grant(10)
    await world.store.create("/b", b"1", lease=lease)
    await world.store.put("/a", b"1", revision=None, lease=lease)
    now = await world.store.create("/c", b"1")
    watch = world.store.watch("/", revision=now)
    async with listening(watch) as following:
        await world.elapse(9)
        assert await world.store.get("/a") is not None
        await world.elapse(2)
        assert await following == (Event("/a", None, now + 1), Event("/b", None, now + 1))

    assert [entry.path for entry in (await world.store.list("/")).entries] == ["/c"]
    with pytest.raises(LeaseGone):
        await world.store.keep_alive(lease)


@contract
async def test_lease_that_is_kept_alive(world: World) -> None:
    """Keeping a lease alive starts its time anew."""
    lease = await world.store.grant(10)
    await world.store.create("/a", b"1", lease=lease)
    for _ in range(3):
        await world.elapse(8)
        await world.store.keep_alive(lease)

    assert await world.store.get("/a") is not None
    await world.elapse(11)
    assert await world.store.get("/a") is None


@contract
async def test_anyone_ends_leases(world: World) -> None:
    """A lease ends also when only others than its owner use the store."""
    lease = await world.store.grant(10)
    await world.store.create("/a", b"1", lease=lease)
    world.clock.now += 11

    assert await world.another().get("/a") is None


@contract
async def test_revoked_lease(world: World) -> None:
    """Revoking a lease deletes its paths at once; revoking twice is an error, and so is writing with it."""
    lease = await world.store.grant(10)
    await world.store.create("/a", b"1", lease=lease)

    await world.store.revoke(lease)

    assert await world.store.get("/a") is None
    for act in (
        world.store.revoke(lease),
        world.store.keep_alive(lease),
        world.store.put("/a", b"", revision=None, lease=lease),
        world.store.create("/a", b"", lease=lease),
    ):
        with pytest.raises(LeaseGone):
            await act
    assert await world.store.get("/a") is None


@contract
async def test_lease_without_paths_ends_silently(world: World) -> None:
    """A lease that holds nothing makes no revision when it ends."""
    before = (await world.store.list("/")).revision
    await world.store.revoke(await world.store.grant(10))
    await world.store.grant(10)
    await world.elapse(11)

    assert (await world.store.list("/")).revision == before


@contract
async def test_last_writer_decides_about_the_lease(world: World) -> None:
    """A path belongs to the lease of its last put, and to none if that had none."""
    first, second = await world.store.grant(10), await world.store.grant(20)
    for path in ("/kept", "/moved", "/gone"):
        await world.store.create(path, b"1", lease=first)
    await world.store.put("/kept", b"2", revision=None)
    await world.store.put("/moved", b"2", revision=None, lease=second)
    await world.elapse(11)
    assert [entry.path for entry in (await world.store.list("/")).entries] == ["/kept", "/moved"]
    await world.elapse(10)
    assert [entry.path for entry in (await world.store.list("/")).entries] == ["/kept"]


@contract
async def test_path_of_a_lease_that_was_deleted_and_made_anew(world: World) -> None:
    """A path that was deleted no longer belongs to its lease."""
    lease = await world.store.grant(10)
    await world.store.create("/a", b"1", lease=lease)
    await world.store.delete("/a", revision=None)
    await world.store.create("/a", b"2")
    await world.elapse(11)

    assert await world.store.get("/a") is not None


@contract
async def test_close_ends_watches(world: World) -> None:
    """Closing ends watches after they said what they had, and nothing works any more; closing twice is no error."""
    now = (await world.store.list("/")).revision
    waiting = world.store.watch("/", revision=now)
    async with listening(waiting) as following:
        await world.store.create("/a", b"1")
        await following
        await world.store.close()
        assert [events async for events in waiting] == []

    await world.store.close()
    with pytest.raises(Unavailable):
        await world.store.get("/a")
    with pytest.raises(Unavailable):
        await world.store.list("/")
    with pytest.raises(Unavailable):
        await anext(world.store.watch("/", revision=now))


@contract
async def test_abandoned_watch_leaves_others_alone(world: World) -> None:
    """A watch that is cancelled while it waits does not disturb another."""
    now = (await world.store.list("/")).revision
    watch = world.store.watch("/", revision=now)
    async with listening(watch):
        async with listening(world.store.watch("/", revision=now)):
            pass
        await world.store.create("/a", b"1")
    assert await events_of(world.store.watch("/", revision=now), 1) == [("/a", b"1")]


@contract
async def test_concurrent_writers_lose_no_update(world: World) -> None:
    """Writers that put only over what they read, and read again on conflict, together count right."""
    await world.store.create("/counter", b"0")

    async def count(times: int) -> None:
        store = world.another()
        while times:
            entry = await store.get("/counter")
            assert entry is not None
            try:
                await store.put("/counter", b"%d" % (int(entry.value) + 1), revision=entry.revision)
            except Conflict:
                continue
            times -= 1

    await asyncio.gather(*(count(10) for _ in range(4)))

    final = await world.store.get("/counter")
    assert final is not None
    assert final.value == b"40"


@contract
async def test_history_is_forgotten_by_itself(world: World) -> None:
    """A store that is written for long forgets old revisions every thousand, and keeps as many as it was told."""
    if world.history is None:
        pytest.skip("this store's history is compacted by its server's own settings")
    first = await world.store.create("/a", b"")
    while (now := await world.store.put("/a", b"", revision=None)) % 1000:
        pass

    for forgotten in (first, now - world.history - 1):
        with pytest.raises(TooOld):
            await world.store.list("/", revision=forgotten)
    assert (await world.store.list("/", revision=now - world.history)).revision == now - world.history
