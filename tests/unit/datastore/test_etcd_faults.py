"""What the etcd store makes of members that lag, lie, fall silent, or fail in the middle of a write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from calico.datastore.api import Event, TooOld, Unavailable
from calico.datastore.etcd import EtcdStore, pb
from calico.datastore.etcd_settings import Endpoint
from support.etcd_fake import FakeEtcd, Say, error, header, put, settings
from support.stores import until

PATIENCE = 20.0
NOWHERE = Endpoint("127.0.0.1", 1)


def run(*fakes: FakeEtcd, test: Callable[..., Awaitable[None]], **times: Any) -> None:
    """Run ``test`` with a store over ``fakes``, which are tried in this order."""

    async def body() -> None:
        async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
            endpoints = [await stack.enter_async_context(fake.serving()) for fake in fakes]
            store = EtcdStore(settings(*endpoints, **times), pick=lambda count: 0)
            try:
                await test(store)
            finally:
                await store.close()

    asyncio.run(body())


def says(*responses: pb.WatchResponse) -> Callable[[pb.WatchCreateRequest, Say], Awaitable[None]]:
    """A watch that says these things, and then nothing."""

    async def watch(request: pb.WatchCreateRequest, say: Say) -> None:
        for response in responses:
            await say(response)

    return watch


def breaks(*responses: pb.WatchResponse) -> Callable[[pb.WatchCreateRequest, Say], Awaitable[None]]:
    """A watch that says these things, and then breaks."""

    async def watch(request: pb.WatchCreateRequest, say: Say) -> None:
        for response in responses:
            await say(response)
        raise error("UNAVAILABLE", "etcdserver: server stopped")

    return watch


def created(revision: int = 10, **more: int) -> pb.WatchResponse:
    return pb.WatchResponse(header=header(revision, **more), created=True)


def news(revision: int, *events: pb.Event, fragment: bool = False) -> pb.WatchResponse:
    return pb.WatchResponse(header=header(revision), events=events, fragment=fragment)


def test_fragments_are_one_tuple() -> None:
    """A message that the server sent in pieces is one tuple, so that no revision is split."""
    fake = FakeEtcd(
        watches=[
            says(
                created(),
                news(11, put("/a", b"1", 11), fragment=True),
                news(11, put("/b", b"1", 11), fragment=True),
                news(11, put("/c", b"1", 11)),
            )
        ]
    )

    async def test(store: EtcdStore) -> None:
        assert await anext(store.watch("/", revision=10)) == tuple(
            Event(path, b"1", 11) for path in ("/a", "/b", "/c")
        )

    run(fake, test=test)


def test_broken_watch_goes_on_after_what_it_said() -> None:
    """A watch that breaks, also within a fragmented message, goes on elsewhere, and says each event once."""
    first = FakeEtcd(
        watches=[
            breaks(
                created(),
                news(11, put("/a", b"1", 11)),
                news(13, put("/a", b"2", 12), fragment=True),
            )
        ]
    )
    second = FakeEtcd(
        watches=[
            says(created(13), news(13, put("/a", b"1", 11), put("/a", b"2", 12), put("/a", b"3", 13))),
        ]
    )

    async def test(store: EtcdStore) -> None:
        watch = store.watch("/", revision=10)
        assert await anext(watch) == (Event("/a", b"1", 11),)
        assert await anext(watch) == (Event("/a", b"2", 12), Event("/a", b"3", 13))
        assert [request.create_request.start_revision for request in second.asked] == [11]

    run(first, second, test=test)


def test_silent_member_is_left() -> None:
    """A member that does not answer whether it is alive is left for the next."""
    silent = FakeEtcd(alive=False)
    other = FakeEtcd(watches=[says(created(), news(11, put("/a", b"1", 11)))])

    async def test(store: EtcdStore) -> None:
        assert await anext(store.watch("/", revision=10)) == (Event("/a", b"1", 11),)

    run(silent, other, test=test, heartbeat=0.05)


def test_quiet_member_is_kept() -> None:
    """A member that has nothing to say but answers is kept, however long it is quiet."""
    quiet = FakeEtcd()
    other = FakeEtcd()

    async def test(store: EtcdStore) -> None:
        watch = asyncio.ensure_future(anext(store.watch("/", revision=10)))
        await until(lambda: len(quiet.asked) >= 6)
        assert not watch.done()
        assert other.asked == []
        watch.cancel()

    run(quiet, other, test=test, heartbeat=0.02)


def test_all_members_lost() -> None:
    """A watch that no member keeps up is unavailable in the end, and says why of each."""
    fakes = [FakeEtcd(watches=[breaks(created())] * 100) for _ in range(2)]

    async def test(store: EtcdStore) -> None:
        with pytest.raises(Unavailable) as failure:
            await anext(store.watch("/", revision=10))
        for fake in fakes:
            assert f"http://127.0.0.1:{fake.port}: " in str(failure.value)

    run(*fakes, test=test)


def test_lagging_member_has_the_same_history() -> None:
    """A member that has not heard all yet is no restored backup: what all agree on decides."""
    lagging = FakeEtcd(at=header(10), watches=[says(created(8), news(11, put("/a", b"1", 11)))])

    async def test(store: EtcdStore) -> None:
        assert await anext(store.watch("/", revision=10)) == (Event("/a", b"1", 11),)

    run(lagging, test=test)


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (header(9, cluster=1, term=3), "the revision went back"),
        (header(50, cluster=2, term=3), "another cluster"),
        (header(50, cluster=1, term=2), "the term of office went back"),
    ],
)
def test_other_history_on_the_next_member(later: pb.ResponseHeader, why: str) -> None:
    """A watch that is to go on over another history ends, whatever gives that history away."""
    member = FakeEtcd(
        at=later,
        watches=[
            breaks(
                created(10, term=3),
                pb.WatchResponse(header=header(11, term=3), events=[put("/a", b"1", 11)]),
            ),
            says(pb.WatchResponse(header=later, created=True), news(60, put("/a", b"9", 60))),
        ],
    )

    async def test(store: EtcdStore) -> None:
        watch = store.watch("/", revision=10)
        assert await anext(watch) == (Event("/a", b"1", 11),)
        with pytest.raises(TooOld) as failure:
            await anext(watch)
        assert failure.value.asked == 11

    run(member, test=test)


def test_other_history_between_a_listing_and_its_watch() -> None:
    """A watch from a listing of another cluster is too old, though the revision exists here too."""
    member = FakeEtcd(at=header(10), watches=[says(created(50, cluster=2))])

    async def test(store: EtcdStore) -> None:
        listing = await store.list("/")
        with pytest.raises(TooOld):
            await anext(store.watch("/", revision=listing.revision))

    run(member, test=test)


def test_compacted_watch_without_a_reason() -> None:
    """A watch that is cancelled with a compacted revision and no words is too old."""
    gone = pb.WatchResponse(header=header(30), canceled=True, compact_revision=20)
    member = FakeEtcd(at=header(30), watches=[says(created(30), gone)])

    async def test(store: EtcdStore) -> None:
        with pytest.raises(TooOld) as failure:
            await anext(store.watch("/", revision=10))
        assert (failure.value.asked, failure.value.oldest) == (10, 20)

    run(member, test=test)


def test_notice_of_the_server_moves_the_watch_on() -> None:
    """What a server's own notice of progress covers need not be asked for again, so compaction does no harm to it."""
    notice = pb.WatchResponse(header=header(40))
    first = FakeEtcd(watches=[breaks(created(), notice)])
    second = FakeEtcd(at=header(40), watches=[says(created(40), news(41, put("/a", b"1", 41)))])

    async def test(store: EtcdStore) -> None:
        assert await anext(store.watch("/", revision=10)) == (Event("/a", b"1", 41),)
        assert second.asked[0].create_request.start_revision == 40

    run(first, second, test=test)


def test_write_of_unknown_fate_is_sent_once() -> None:
    """A write that a member took and did not answer for is not sent again, and its writer is told."""

    def dies(request: pb.TxnRequest) -> pb.TxnResponse:
        raise error("UNAVAILABLE", "etcdserver: request timed out")

    first, second = FakeEtcd(txn=dies), FakeEtcd(txn=dies)

    async def test(store: EtcdStore) -> None:
        with pytest.raises(Unavailable, match="may have happened"):
            await store.create("/a", b"1")
        assert (len(first.asked), len(second.asked)) == (1, 0)
        with pytest.raises(Unavailable, match="may have happened"):
            await store.create("/a", b"1")
        assert (len(first.asked), len(second.asked)) == (1, 1)

    run(first, second, test=test)


def test_write_that_is_not_answered_in_time() -> None:
    """A write to a member that hangs ends with its fate unknown, and the next goes to another."""

    async def hangs(request: pb.TxnRequest) -> pb.TxnResponse:
        await asyncio.sleep(PATIENCE)
        return pb.TxnResponse()

    def done(request: pb.TxnRequest) -> pb.TxnResponse:
        return pb.TxnResponse(header=header(11), succeeded=True)

    first, second = FakeEtcd(txn=hangs), FakeEtcd(txn=done)

    async def test(store: EtcdStore) -> None:
        with pytest.raises(Unavailable, match="no answer in time"):
            await store.create("/a", b"1")
        assert await store.create("/a", b"1") == 11

    run(first, second, test=test, request_timeout=0.1)


def test_write_that_was_certainly_not_done_goes_elsewhere() -> None:
    """A member without a leader does nothing; the write goes to the next, and is done once."""

    def no_leader(request: pb.TxnRequest) -> pb.TxnResponse:
        raise error("UNAVAILABLE", "etcdserver: no leader")

    def done(request: pb.TxnRequest) -> pb.TxnResponse:
        return pb.TxnResponse(header=header(11), succeeded=True)

    first, second = FakeEtcd(txn=no_leader), FakeEtcd(txn=done)

    async def test(store: EtcdStore) -> None:
        assert await store.create("/a", b"1") == 11
        assert (len(first.asked), len(second.asked)) == (1, 1)

    run(first, second, test=test)


def test_election_is_waited_for() -> None:
    """While all members are without a leader a write waits for a while, since nothing was done yet."""
    votes = iter(range(100))

    def electing(request: pb.TxnRequest) -> pb.TxnResponse:
        if next(votes) < 2:
            raise error("UNAVAILABLE", "etcdserver: no leader")
        return pb.TxnResponse(header=header(11), succeeded=True)

    async def test(store: EtcdStore) -> None:
        assert await store.create("/a", b"1") == 11

    run(FakeEtcd(txn=electing), FakeEtcd(txn=electing), test=test, resume_timeout=5.0)


def test_endpoint_that_refuses_connections_is_passed_over() -> None:
    """Reads and writes go to the first endpoint that can be connected."""

    def done(request: pb.TxnRequest) -> pb.TxnResponse:
        return pb.TxnResponse(header=header(11), succeeded=True)

    async def body() -> None:
        async with asyncio.timeout(PATIENCE), FakeEtcd(txn=done).serving() as endpoint:
            store = EtcdStore(settings(NOWHERE, endpoint), pick=lambda count: 0)
            assert await store.create("/a", b"1") == 11
            assert await store.get("/a") is None
            await store.close()

    asyncio.run(body())


def test_nothing_is_connected_before_the_first_call() -> None:
    """A store can be made and closed while its servers are lost and its certificates missing; a call says why."""

    async def body() -> None:
        store = EtcdStore(settings(Endpoint("127.0.0.1", 1, tls=True), ca_cert_file="/nowhere/ca.pem"))
        with pytest.raises(Unavailable, match=r"/nowhere/ca\.pem"):
            await store.get("/a")
        await store.close()
        lost = EtcdStore(settings(NOWHERE))
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1: .*refused"):
            await lost.get("/a")
        await lost.close()

    asyncio.run(body())


def test_closing_ends_what_is_under_way() -> None:
    """Closing ends calls with an error of the store, not as if their task had been cancelled."""

    async def hangs(request: pb.TxnRequest) -> pb.TxnResponse:
        await asyncio.sleep(PATIENCE)
        return pb.TxnResponse()

    fake = FakeEtcd(txn=hangs)

    async def test(store: EtcdStore) -> None:
        writing = asyncio.ensure_future(store.create("/a", b"1"))
        await until(lambda: bool(fake.asked))
        await store.close()
        with pytest.raises(Unavailable, match="closed"):
            await writing

    run(fake, test=test)


def test_cancelled_call_is_cancelled() -> None:
    """Who cancels a call gets a cancelled task, and the store goes on."""

    async def hangs(request: pb.TxnRequest) -> pb.TxnResponse:
        await asyncio.sleep(PATIENCE)
        return pb.TxnResponse()

    fake = FakeEtcd(txn=hangs)

    async def test(store: EtcdStore) -> None:
        writing = asyncio.ensure_future(store.create("/a", b"1"))
        await until(lambda: bool(fake.asked))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await store.get("/a") is None

    run(fake, test=test)
