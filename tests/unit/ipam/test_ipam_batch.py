"""Many requests at once on one host."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from calico.datastore.api import Unavailable
from calico.datastore.faulty import FaultyStore
from calico.ipam.batch import Batch
from calico.ipam.client import Client, Request
from calico.ipam.errors import NoSuchPool, Short
from support.ipam_requests import POOLS, SMALL, picture, run, world
from support.speakers import pool


def request(number: int = 0, ipv4: int = 1, ipv6: int = 0, **terms: object) -> Request:
    return Request(handle=f"h{number}", ipv4=ipv4, ipv6=ipv6, attributes={"node": "a"}, **terms)  # type: ignore[arg-type]


def test_hundred_at_once_are_few_writes_of_blocks() -> None:
    """Each gets addresses of its own; the blocks are written a few times, and each handle once a block."""

    async def body() -> None:
        store = FaultyStore(await world(*POOLS))
        batch = Batch(Client(store, "a"))
        answers = await asyncio.gather(*(batch.assign(request(number, 1, 1)) for number in range(100)))
        addresses = [address for answer in answers for address in answer.addresses]
        assert len(set(addresses)) == 200
        now = await picture(store)
        assert now.handles == now.counts()
        assert len(now.handles) == 100
        called = Counter(store.calls)
        assert called["put"] - 100 <= 20  # a handle is put once more, for its second family
        assert called["create"] - 100 <= 10
        assert called["list"] + called["get"] - 100 <= 60

    run(body())


def test_requests_of_different_terms_are_served_apart() -> None:
    """Who asks for what does not exist is told so, and the others are served."""

    async def body() -> None:
        batch = Batch(Client(await world(*POOLS), "a"))
        wrong, right = await asyncio.gather(
            batch.assign(request(1, pools=("none",))), batch.assign(request(2)), return_exceptions=True
        )
        assert isinstance(wrong, NoSuchPool)
        assert not isinstance(right, BaseException)
        assert len(right.addresses) == 1

    run(body())


def test_first_come_first_served() -> None:
    """Where addresses run out, who came last gets none, and is told why; whole requests are given back."""

    async def body() -> None:
        store = await world(pool("p", "10.65.0.0/30", block_size=30))
        batch = Batch(Client(store, "a"))
        answers = await asyncio.gather(
            *(batch.assign_whole(request(number, 2)) for number in range(3)), return_exceptions=True
        )
        assert [isinstance(answer, Short) for answer in answers] == [False, False, True]
        assert set((await picture(store)).handles) == {"h0", "h1"}

    run(body())


def test_store_that_is_lost_is_told_to_all_who_wait() -> None:
    """And whoever comes later is served again."""

    async def body() -> None:
        store = FaultyStore(await world(SMALL))
        batch = Batch(Client(store, "a"))
        store.lose()
        lost = await asyncio.gather(*(batch.assign(request(n)) for n in range(3)), return_exceptions=True)
        assert all(isinstance(each, Unavailable) for each in lost)
        store.recover()
        assert len((await batch.assign(request())).addresses) == 1

    run(body())


class Slow(FaultyStore):
    """A store that lets others have a turn before each write of a block."""

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().put(path, value, revision=revision, lease=lease)


@pytest.mark.parametrize("kind", [FaultyStore, Slow])
def test_who_does_not_wait_keeps_nothing(kind: type[FaultyStore]) -> None:
    """Cancelled in the queue, while being served or just when it is: the address is free, and others are served."""

    async def body() -> None:
        store = kind(await world(SMALL))
        batch = Batch(Client(store, "a"))
        served = asyncio.create_task(batch.assign(request(1)))
        await asyncio.sleep(0)  # it is served now
        queued = asyncio.create_task(batch.assign(request(2)))
        await asyncio.sleep(0)
        served.cancel()
        queued.cancel()
        assert len((await batch.assign(request(3))).addresses) == 1
        now = await picture(store)
        assert set(now.handles) == {"h3"}
        assert now.handles == now.counts()
        with pytest.raises(asyncio.CancelledError):
            await served

    run(body())
