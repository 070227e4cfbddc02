"""How the changes of a store reach the watches of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from calico.datastore.api import Event, TooOld, Unavailable
from calico.datastore.feed import COMPACT_EVERY, Feed, horizon


def event(revision: int, path: str = "/a") -> Event:
    return Event(path, b"%d" % revision, revision)


async def nothing(_: int) -> tuple[Event, ...]:
    return ()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(body())


def test_backlog_and_news_meet_without_gap_or_repetition() -> None:
    """What is published while the backlog is read follows it, each event once."""

    async def test() -> None:
        feed = Feed(3)

        async def backlog(position: int) -> tuple[Event, ...]:
            feed.publish([event(4)], 4)
            return tuple(event(revision) for revision in range(2, position + 1))

        watch = feed.watch("/", 1, backlog)
        assert await anext(watch) == (event(2), event(3))
        feed.publish([event(5)], 5)
        assert await anext(watch) == (event(4), event(5))

    run(test)


def test_watch_from_a_revision_that_the_feed_has_not_reached() -> None:
    """A watch from a later revision than was published leaves out what lies before."""

    async def test() -> None:
        feed = Feed(3)
        watch = feed.watch("/", 5, nothing)
        following = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        feed.publish([event(4), event(5), event(6)], 6)
        assert await following == (event(6),)

    run(test)


def test_what_was_received_comes_before_the_error() -> None:
    """A watch delivers what it has before it says that the store is lost, and then nothing any more."""

    async def test() -> None:
        feed = Feed(1)
        watch = feed.watch("/", 1, nothing)
        following = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        feed.publish([event(2)], 2)
        feed.fail(lambda seen: TooOld(seen, 9))
        feed.publish([event(3)], 3)
        assert await following == (event(2),)
        with pytest.raises(TooOld) as error:
            await anext(watch)
        assert error.value.asked == 2

    run(test)


def test_what_was_received_comes_before_the_end() -> None:
    """A watch delivers what it has before it ends, and an error after the end changes nothing."""

    async def test() -> None:
        feed = Feed(1)
        watch = feed.watch("/", 1, nothing)
        following = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        feed.publish([event(2)], 2)
        feed.end()
        feed.fail(lambda _: Unavailable("late"))
        assert await following == (event(2),)
        assert [events async for events in watch] == []

    run(test)


def test_reader_that_does_not_keep_up() -> None:
    """A watch that is not read is ended instead of growing for ever; others go on."""

    async def test() -> None:
        feed = Feed(1, limit=10)

        async def first(_: int) -> tuple[Event, ...]:
            return (event(1),)

        slow, quick = feed.watch("/", 0, first), feed.watch("/", 0, first)
        await anext(slow)
        await anext(quick)
        for revision in range(2, 20):
            feed.publish([event(revision)], revision)
            assert await anext(quick) == (event(revision),)
        with pytest.raises(TooOld):
            await anext(slow)

    run(test)


def test_watch_that_ends_leaves_the_feed() -> None:
    """A watch that is closed takes no part any more."""

    async def test() -> None:
        feed = Feed(1)
        watch = feed.watch("/", 1, nothing)
        following = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        assert len(feed._subscriptions) == 1
        following.cancel()
        await asyncio.wait([following])
        assert len(feed._subscriptions) == 0

    run(test)


def test_when_history_is_forgotten() -> None:
    """History is forgotten now and then, never more than was promised to be kept."""
    assert horizon(COMPACT_EVERY, COMPACT_EVERY) is None
    assert horizon(2 * COMPACT_EVERY, COMPACT_EVERY) == COMPACT_EVERY
    assert horizon(2 * COMPACT_EVERY + 1, COMPACT_EVERY) is None
