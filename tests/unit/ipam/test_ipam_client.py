"""Assigning addresses in a store: alone, beside others, and across failures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.datastore.api import Conflict, Denied, Entry, Listing, Store, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.ipam import block as blocks
from calico.ipam import claims, giving
from calico.ipam.block import Release
from calico.ipam.client import Assignment, Client, Request
from calico.ipam.errors import BadRecord
from calico.ipam.plan import BLOCKS_PER_HOST
from calico.ipam.records import Records
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from support.ipam_requests import POOLS, SMALL, Picture, auto_assign, picture, run, world
from support.speakers import node, pool

T = TypeVar("T")


class Jostled:
    """A store whose every call waits a random number of turns, so that its users overtake each other."""

    def __init__(self, store: Store, random: Random) -> None:
        self._store = store
        self._random = random

    async def _wait(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            await self._wait()
            result = await getattr(self._store, name)(*arguments, **options)
            await self._wait()
            return result

        return call


class Breaking(FaultyStore):
    """A store that works for a number of calls; the one after them is lost, done or not done."""

    def __init__(self, store: Store, calls: int, *, happened: bool) -> None:
        super().__init__(store)
        self._left = calls
        self._happened = happened

    async def _maybe(self, call: Coroutine[Any, Any, T]) -> T:
        self._left -= 1
        if self._left != -1:
            return await call
        if self._happened:
            await call
        else:
            call.close()
        raise Unavailable("the connection broke")

    async def get(self, path: str) -> Entry | None:
        return await self._maybe(super().get(path))

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        return await self._maybe(super().list(prefix, revision=revision))

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        return await self._maybe(super().create(path, value, lease=lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        return await self._maybe(super().put(path, value, revision=revision, lease=lease))

    async def delete(self, path: str, *, revision: int | None) -> int:
        return await self._maybe(super().delete(path, revision=revision))


def test_first_address_claims_a_block() -> None:
    """A host without blocks claims one in each family; affinity, block and handle all say so."""

    async def body() -> None:
        store = await world(*POOLS)
        addresses = await auto_assign(
            Client(store, "a", clock=lambda: 1_700_000_000_000_000_000), 1, 1, "h", {"pod": "p"}
        )

        now = await picture(store)
        assert [address.family for address in addresses] == [4, 6]
        assert sorted(now.assigned()) == sorted(addresses)
        assert set(now.affinities) == {(cidr, "host:a") for cidr in now.blocks}
        assert set(now.affinities.values()) == {"confirmed"}
        assert now.handles["h"] == {str(cidr): 1 for cidr in now.blocks}
        assert {block.affinity_claim_time for block in now.blocks.values()} == {"2023-11-14T22:13:20Z"}
        assert {block.attributes[0].secondary["pod"] for block in now.blocks.values()} == {"p"}

    run(body())


def test_next_address_comes_from_the_own_block() -> None:
    """A host with room claims nothing new, also when another client asks on its behalf."""

    async def body() -> None:
        store = await world(*POOLS)
        [first] = await auto_assign(Client(store, "a"), 1, 0, "h", {})
        [second] = await auto_assign(Client(store, "a"), 1, 0, "i", {})

        assert second.value == first.value + 1
        assert len((await picture(store)).blocks) == 1

    run(body())


def test_full_block_is_followed_by_another() -> None:
    """When its blocks are full the host claims the next, within one request too."""

    async def body() -> None:
        store = await world(SMALL)
        addresses = await auto_assign(Client(store, "a"), 6, 0, "h", {})

        assert len(set(addresses)) == 6
        assert sorted((await picture(store)).handles["h"].values()) == [2, 4]

    run(body())


def test_full_pool_gives_what_is_left() -> None:
    """A pool that runs out gives fewer than asked for, and the answer says why."""

    async def body() -> None:
        store = await world(SMALL)
        assert len(await auto_assign(Client(store, "a"), 20, 0, "h", {})) == 16
        answer = await Client(store, "b").assign(Request(handle="i", ipv4=1, attributes={}))
        assert answer == Assignment((), ("no free address of IPv4 for node b in small",))

    run(body())


def test_host_claims_a_limited_number_of_blocks() -> None:
    """One host cannot take all blocks of a pool; it does not borrow instead, and the answer says so."""

    async def body() -> Assignment:
        store = await world(pool("p", "10.65.0.0/24", block_size=31))
        await auto_assign(Client(store, "b"), 1, 0, "theirs", {})
        return await Client(store, "a").assign(Request(handle="h", ipv4=100, attributes={}))

    answer = run(body())
    assert len(answer.addresses) == 2 * BLOCKS_PER_HOST
    assert answer.limited
    assert answer.messages == (
        "node a has 20 blocks of IPv4 and may have no more than 20 (maxBlocksPerHost)",
    )


def test_no_pool_no_address() -> None:
    """Without a pool for the node nothing is assigned, and the answer says so."""

    async def body() -> Assignment:
        store = await world(
            node("a", labels={"rack": "1"}), pool("other", "10.65.0.0/16", node_selector="rack == '2'")
        )
        return await Client(store, "a").assign(Request(handle="h", ipv4=1, attributes={}))

    answer = run(body())
    assert answer.addresses == ()
    assert "no pool of IPv4 may be used by node a" in answer.messages[0]


def test_labels_of_the_node_choose_the_pool() -> None:
    """A pool that selects the node's labels is used by it and not by others."""

    async def body() -> None:
        store = await world(
            node("a", labels={"rack": "1"}),
            node("b", labels={"rack": "2"}),
            pool("rack-1", "10.1.0.0/16", node_selector="rack == '1'"),
            pool("rack-2", "10.2.0.0/16", node_selector="rack == '2'"),
        )
        [here] = await auto_assign(Client(store, "a"), 1, 0, "h", {})
        [there] = await auto_assign(Client(store, "b"), 1, 0, "i", {})

        assert parse_cidr("10.1.0.0/16").contains(here)
        assert parse_cidr("10.2.0.0/16").contains(there)

    run(body())


def test_release_frees_all_of_a_handle_and_nothing_else() -> None:
    """Releasing a handle frees its addresses in all blocks and families, and forgets it; the block stays claimed."""

    async def body() -> None:
        store = await world(SMALL, pool("v6", "fd65::/48"))
        client = Client(store, "a")
        mine = await auto_assign(client, 5, 1, "mine", {})
        others = await auto_assign(client, 2, 1, "others", {})

        assert sorted(await client.release_by_handle("mine")) == sorted(mine)

        now = await picture(store)
        assert sorted(now.assigned()) == sorted(others)
        assert now.handles == now.counts()
        assert set(now.handles) == {"others"}
        assert set(now.affinities.values()) == {"confirmed"}
        assert await client.release_by_handle("mine") == []

    run(body())


def test_empty_block_without_owner_goes_with_its_last_address() -> None:
    """A block whose affinity was taken away is deleted when its last address is released."""

    async def body() -> None:
        store = await world(SMALL)
        client = Client(store, "a")
        [address] = await auto_assign(client, 1, 0, "h", {})
        [block] = (await picture(store)).blocks.values()
        path = Key("IPAMBlock", block.cidr).path
        await store.put(
            path, msgspec.json.encode(msgspec.structs.replace(block, affinity=None)), revision=None
        )

        assert await client.release_by_handle("h") == [address]
        assert await store.get(path) is None

    run(body())


def test_old_affinity_without_a_value_counts_as_confirmed() -> None:
    """Old Calico wrote affinities as empty values."""

    async def body() -> None:
        store = await world(*POOLS)
        block = blocks.create(parse_cidr("10.65.7.0/26"), "host:a", sequence_number=1)
        await store.create(Key("IPAMBlock", block.cidr).path, msgspec.json.encode(block))
        await store.create(Key("BlockAffinity", block.cidr, "host:a").path, b"")

        assert await auto_assign(Client(store, "a"), 1, 0, "h", {}) == [parse_cidr("10.65.7.0/32")]

    run(body())


def test_claim_that_was_lost_is_taken_back() -> None:
    """A pending affinity to a block that another host owns is removed, and another block is claimed."""

    async def body() -> None:
        store = await world(SMALL)
        [theirs] = await auto_assign(Client(store, "b"), 1, 0, "h", {})
        [cidr] = (await picture(store)).blocks
        await store.create(
            Key("BlockAffinity", str(cidr), "host:a").path,
            msgspec.json.encode(BlockAffinity(state="pending")),
        )

        [ours] = await auto_assign(Client(store, "a"), 1, 0, "i", {})

        now = await picture(store)
        assert not cidr.contains(ours)
        assert cidr.contains(theirs)
        assert (cidr, "host:a") not in now.affinities

    run(body())


@pytest.mark.parametrize(
    ("state", "how"), [("pending", "claimed"), ("pending", "settled"), ("pendingDeletion", "claimed")]
)
def test_confirmed_claim_keeps_its_block_from_who_was_about_to_delete_it(state: str, how: str) -> None:
    """Whoever takes a claim back may have died in between, so a pending one tells nothing of who deletes the block."""

    async def body() -> None:
        records = Records(await world(SMALL))
        fresh = blocks.create(parse_cidr("10.65.0.0/30"), "host:a", sequence_number=1)
        key = Key("BlockAffinity", fresh.cidr, "host:a")
        about_to_delete = await records.create(Key("IPAMBlock", fresh.cidr).path, fresh)
        await records.create(key.path, BlockAffinity(state=state))

        if how == "claimed":
            await claims.claim_block(records.store, "host:a", parse_cidr(fresh.cidr), clock=lambda: 1)
        else:
            assert await claims.settle_claim(records.store, key)

        with pytest.raises(Conflict):
            await records.delete(about_to_delete)
        claim = await records.affinity(key)
        assert claim is not None
        assert claim.value == claims.CONFIRMED

    run(body())


def test_record_that_makes_no_sense_is_named() -> None:
    """A broken record stops the request with its path, rather than being overwritten."""

    async def body() -> None:
        store = await world(*POOLS)
        await store.create(Key("BlockAffinity", "10.65.0.0/26", "host:a").path, b"{")
        with pytest.raises(BadRecord, match=r"/calico/ipam/v2/host/a/ipv4/block/10\.65\.0\.0-26"):
            await auto_assign(Client(store, "a"), 1, 0, "h", {})

    run(body())


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_hosts_that_assign_at_once_never_share_an_address(seed: int) -> None:
    """However the calls of several hosts, and of several clients of one host, interleave, all records agree."""
    random = Random(seed)

    async def body() -> None:
        memory = await world(pool("p", "10.65.0.0/26", block_size=30))
        store: Store = Jostled(memory, random)  # type: ignore[assignment]
        taken: list[Cidr] = []

        async def worker(name: str, number: int) -> None:
            client = Client(store, name)
            kept = await auto_assign(client, random.randrange(1, 4), 0, f"{name}-{number}", {})
            gone = await auto_assign(client, random.randrange(3), 0, f"{name}-{number}-gone", {})
            assert sorted(await client.release_by_handle(f"{name}-{number}-gone")) == sorted(gone)
            taken.extend(kept)

        await asyncio.gather(*(worker(name, number) for name in "abc" for number in range(3)))

        now = await picture(memory)
        assert max(Counter(taken).values()) == 1
        assert sorted(now.assigned()) == sorted(taken)
        assert now.handles == now.counts()
        assert set(now.affinities.values()) == {"confirmed"}
        assert {(cidr, block.affinity) for cidr, block in now.blocks.items()} == set(now.affinities)

    run(body())


@pytest.mark.parametrize("happened", [False, True], ids=["before", "after"])
def test_request_that_breaks_anywhere_can_be_cleared_and_repeated(happened: bool) -> None:
    """Wherever the store is lost, releasing the handle frees everything, and the claim is gone on with."""

    async def body(calls: int) -> bool:
        memory = await world(SMALL)
        broken = False
        try:
            addresses = await auto_assign(
                Client(Breaking(memory, calls, happened=happened), "a"), 6, 0, "h", {}
            )
            assert len(addresses) == 6  # the loss was survived, or came too late to matter
            assert sorted((await picture(memory)).assigned()) == sorted(addresses)
        except Unavailable:
            broken = True
        now = await picture(memory)
        counted = now.counts().get("h", {})
        assert all(number <= now.handles.get("h", {}).get(cidr, 0) for cidr, number in counted.items())

        await Client(memory, "a").release_by_handle("h")
        assert (await picture(memory)).assigned() == []
        assert (await picture(memory)).handles == {}

        again = await auto_assign(Client(memory, "a"), 16, 0, "i", {})
        now = await picture(memory)
        assert len(set(again)) == 16
        assert now.handles == now.counts()
        assert {(cidr, block.affinity) for cidr, block in now.blocks.items()} == set(now.affinities)
        assert set(now.affinities.values()) == {"confirmed"}
        return broken

    outcomes = [run(body(calls)) for calls in range(40)]
    assert any(outcomes)
    assert not all(outcomes)


def test_address_whose_answer_was_lost_is_counted_also_when_its_block_lost_its_owner() -> None:
    """Whether the write was done is asked before whose the block is now: the node may be deleted at just that moment."""

    class Cut(FaultyStore):
        """Does the first write of a block with addresses, then takes the node's claims away, and never answers."""

        cut = False

        async def put(
            self, path: str, value: bytes, *, revision: int | None, lease: int | None = None
        ) -> int:
            written = await super().put(path, value, revision=revision, lease=lease)
            if "/assignment/" in path and not self.cut:
                self.cut = True
                await claims.release_host(self.store, "a")
                raise Unavailable("the connection broke")
            return written

    async def body() -> None:
        store = await world(SMALL)

        [address] = await auto_assign(Client(Cut(store), "a"), 1, 0, "h", {})

        now = await picture(store)
        assert now.affinities == {}
        assert await Client(store, "a").addresses("h") == (address,)
        assert await Client(store, "b").release_by_handle("h") == [address]
        assert (await picture(store)).blocks == {}

    run(body())


def test_last_attempt_whose_answer_was_lost_is_looked_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its address would be given, and counted by nobody."""
    monkeypatch.setattr(giving, "ATTEMPTS", 1)

    class Deaf(FaultyStore):
        """Does each write over a block, and answers none."""

        async def put(
            self, path: str, value: bytes, *, revision: int | None, lease: int | None = None
        ) -> int:
            written = await super().put(path, value, revision=revision, lease=lease)
            if "/assignment/" in path:
                raise Unavailable("the connection broke")
            return written

    async def body() -> None:
        store = await world(SMALL)
        [address] = await auto_assign(Client(Deaf(store), "a"), 1, 0, "h", {})
        assert await Client(store, "a").release_by_handle("h") == [address]

    run(body())


@pytest.mark.parametrize("happened", [False, True], ids=["before", "after"])
def test_release_that_breaks_anywhere_can_be_repeated(happened: bool) -> None:
    """Wherever the store is lost, releasing again finishes it, and frees nothing of others."""

    async def body(calls: int) -> None:
        memory = await world(SMALL)
        await auto_assign(Client(memory, "a"), 6, 0, "h", {})
        others = await auto_assign(Client(memory, "a"), 2, 0, "others", {})
        try:
            await Client(Breaking(memory, calls, happened=happened), "a").release_by_handle("h")
        except Unavailable:
            await Client(memory, "a").release_by_handle("h")

        now = await picture(memory)
        assert sorted(now.assigned()) == sorted(others)
        assert set(now.handles) == {"others"}
        assert now.handles == now.counts()

    for calls in range(16):
        run(body(calls))


def test_what_a_newer_writer_noted_is_kept() -> None:
    """Fields of a block, a handle and an affinity that this program does not know stay through every change."""

    async def body() -> None:
        store = await world(*POOLS, node("n"))
        client = Client(store, "n")
        await auto_assign(client, 1, 0, "first", {"node": "n"})
        for entry in (await store.list("/calico/ipam/")).entries:
            tree = {**msgspec.json.decode(entry.value), "fromTomorrow": entry.path}
            if "state" in tree:
                tree["state"] = "pending"
            await store.put(entry.path, msgspec.json.encode(tree), revision=entry.revision)
        await auto_assign(client, 1, 0, "first", {"node": "n"})
        await auto_assign(client, 1, 0, "second", {"node": "n"})
        await client.release_by_handle("second")
        left = [msgspec.json.decode(entry.value) for entry in (await store.list("/calico/ipam/")).entries]
        assert len(left) == 3
        assert all("fromTomorrow" in tree for tree in left)

    run(body())


def test_release_says_what_became_of_each_address() -> None:
    """By address, whoever owns it; with a node only what was given to it; handles count what is left."""

    async def body() -> None:
        store = await world(*POOLS, node("n"), node("m"))
        mine, theirs = Client(store, "n"), Client(store, "m")
        one = await auto_assign(mine, 2, 1, "one", {"node": "n"})
        other = await auto_assign(theirs, 1, 0, "other", {"node": "m"})
        unnamed = await auto_assign(mine, 1, 0, "unnamed", {})
        free, nowhere = parse_cidr("10.65.0.77"), parse_cidr("192.0.2.1")
        wanted = [Release(each) for each in (one[0], one[2], *other, *unnamed, free, nowhere)]
        done = await mine.release(wanted, node="n")
        assert sorted(done.freed) == sorted([one[0], one[2], *unnamed])
        assert sorted(done.unallocated) == sorted([free, nowhere])
        assert [each.address for each in done.refused] == other
        picture = Picture(await store.list("/calico/ipam/"))
        assert {handle: sum(counts.values()) for handle, counts in picture.handles.items()} == {
            "one": 1,
            "other": 1,
        }
        assert (await mine.release(Release(each) for each in done.freed)).freed == ()
        assert (await mine.release([Release(other[0])])).freed == tuple(other)

    run(body())


def test_who_may_not_write_blocks_is_told_at_once() -> None:
    """No block is read again to see whether it was written after all, and the handle counts nothing."""

    class Guarded(FaultyStore):
        async def put(
            self, path: str, value: bytes, *, revision: int | None, lease: int | None = None
        ) -> int:
            if "/assignment/" in path:
                self.calls.clear()
                raise Denied("this user may not do this")
            return await super().put(path, value, revision=revision, lease=lease)

    async def body() -> None:
        memory = await world(SMALL)
        guarded = Guarded(memory)
        with pytest.raises(Denied):
            await auto_assign(Client(guarded, "a"), 1, 0, "h", {})
        assert guarded.calls == ["get", "delete"]  # of the handle
        assert (await picture(memory)).handles == {}

    run(body())
