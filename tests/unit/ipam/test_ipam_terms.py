"""Which pools and blocks serve a request, by its own terms and the cluster's settings."""

from __future__ import annotations

from typing import Any

import pytest

from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.ipam.block import Release
from calico.ipam.client import Client, Request
from calico.ipam.errors import (
    AlreadyAssigned,
    BadRecord,
    NoSuchPool,
    NotInPool,
    NotOurs,
    Short,
)
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import IPAMConfig
from calico.model.ipam_kinds import IPAMConfiguration, IPAMConfigurationSpec
from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import Namespace
from calico.model.reservation import IPReservation, IPReservationSpec
from calico.model.resource import Metadata, Resource
from support.ipam_requests import POOLS, SMALL, auto_assign, picture, run, world
from support.speakers import node, pool

TINY = pool("tiny", "10.65.0.0/29", block_size=30)
"""Two blocks of four addresses."""


class Clock:
    """Nanoseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: int) -> None:
        self.now += seconds * 10**9


def configuration(**spec: Any) -> IPAMConfiguration:
    return IPAMConfiguration(metadata=Metadata(name="default"), spec=IPAMConfigurationSpec(**spec))


def reservation(*cidrs: str) -> IPReservation:
    return IPReservation(metadata=Metadata(name="r"), spec=IPReservationSpec(reserved_cidrs=list(cidrs)))


def texts(addresses: list[Cidr] | tuple[Cidr, ...]) -> list[str]:
    return [each.address for each in addresses]


async def take(client: Client, ipv4: int = 1, ipv6: int = 0, handle: str = "h", **terms: Any) -> list[Cidr]:
    return await auto_assign(client, ipv4, ipv6, handle, {"node": client.node}, **terms)


async def configure(store: MemoryStore, **spec: Any) -> None:
    await Resources(store).apply(configuration(**spec))


# --- pools -------------------------------------------------------------------------------------------


def test_requested_pools_are_used_in_the_order_of_the_request() -> None:
    """By name or prefix, whatever their selectors and assignmentMode; a family of which none is named takes any."""

    async def body() -> None:
        store = await world(
            pool("a", "10.1.0.0/30", block_size=31),
            pool("b", "10.2.0.0/31", block_size=31, assignment_mode="Manual"),
            pool("c", "10.3.0.0/31", block_size=31, node_selector="none == 'here'"),
            pool("six", "fd65::/48"),
        )
        got = await take(Client(store, "n"), 5, 1, pools=("c", "10.2.0.0/31", "a"))
        assert [each.address.rpartition(".")[0] for each in got[:5]] == ["10.3.0"] * 2 + ["10.2.0"] * 2 + [
            "10.1.0"
        ]
        assert parse_cidr("fd65::/48").contains(got[5])

    run(body())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "no pool of that name"),
        ("10.9.0.0/16", "no pool of that name"),
        ("off", "disabled"),
        ("services", "not for use as Workload"),
    ],
)
def test_pool_that_may_not_be_requested(name: str, reason: str) -> None:
    """A pool that does not exist, is disabled or is for others is an error that names it, and nothing is assigned."""

    async def body() -> None:
        store = await world(
            *POOLS,
            pool("off", "10.2.0.0/16", disabled=True),
            pool("services", "10.3.0.0/16", allowed_uses=["LoadBalancer"]),
        )
        with pytest.raises(NoSuchPool, match=reason):
            await take(Client(store, "n"), pools=(name,))
        assert (await picture(store)).blocks == {}

    run(body())


def test_pools_select_namespaces_by_their_labels() -> None:
    """Only a request for a namespace whose labels match gets addresses of a pool that selects namespaces."""

    async def body() -> None:
        store = await world(
            pool("red", "10.1.0.0/16", namespace_selector="team == 'red'"),
            pool("rest", "10.2.0.0/16"),
            Namespace(metadata=Metadata(name="shop", labels={"team": "red"})),
            Namespace(metadata=Metadata(name="other")),
        )
        client = Client(store, "n")
        red = parse_cidr("10.1.0.0/16")
        assert red.contains((await take(client, namespace="shop"))[0])
        for namespace in ("other", "unknown", None):
            assert not red.contains((await take(client, namespace=namespace))[0])

    run(body())


def test_addresses_of_load_balancers_belong_to_no_host() -> None:
    """They come from pools for that use, in blocks that no host owns, whoever asks; and no workload gets them."""

    async def body() -> None:
        store = await world(pool("services", "10.3.0.0/24", allowed_uses=["LoadBalancer"]))
        first = await take(Client(store, "a"), use="LoadBalancer")
        second = await take(Client(store, "b"), use="LoadBalancer")
        assert await take(Client(store, "a")) == []
        now = await picture(store)
        assert {owner for _, owner in now.affinities} == {"virtual:load-balancer"}
        assert second[0].value == first[0].value + 1

    run(body())


def test_pool_that_cannot_be_allocated_from_or_goes_is_left_out() -> None:
    """The status says so, or the time of its deletion."""

    async def body() -> None:
        from calico.model.status import Condition, Conditions

        broken = pool("a", "10.1.0.0/16")
        broken = type(broken)(
            metadata=broken.metadata,
            spec=broken.spec,
            status=Conditions(
                conditions=[Condition(type="Allocatable", status="False", reason="CIDROverlap")]
            ),
        )
        going = pool("b", "10.2.0.0/16")
        going = type(going)(
            metadata=Metadata(name="b", deletion_timestamp="2026-01-01T00:00:00Z"), spec=going.spec
        )
        assert await take(Client(await world(broken, going), "n")) == []

    run(body())


def test_empty_block_in_a_pool_that_selects_others_now_is_given_up() -> None:
    """When a node's labels change its empty blocks there go; one with addresses stays until it has none."""

    async def body() -> None:
        here, there = "rack == '1'", "rack == '2'"
        store = await world(
            node("n", labels={"rack": "1"}),
            pool("one", "10.1.0.0/28", block_size=30, node_selector=here),
            pool("two", "10.2.0.0/28", block_size=30, node_selector=there),
        )
        client = Client(store, "n")
        kept = await take(client, 5, handle="kept")
        await client.release(map(Release, kept[4:]))
        await Resources(store).apply(node("n", labels={"rack": "2"}))
        await take(client)
        prefixes = sorted(str(cidr)[:5] for cidr in (await picture(store)).blocks)
        assert prefixes == ["10.1.", "10.2."]
        await client.release_by_handle("kept")
        await take(client)
        now = await picture(store)
        assert [str(cidr)[:5] for cidr in now.blocks] == ["10.2."]
        assert set(now.affinities) == {(cidr, "host:n") for cidr in now.blocks}

    run(body())


# --- others' blocks ----------------------------------------------------------------------------------


def test_when_there_are_no_more_blocks_addresses_are_borrowed() -> None:
    """The block stays its owner's; unless strict affinity forbids it, which the answer says."""

    async def body() -> None:
        store = await world(TINY)
        await take(Client(store, "a"), 5)
        assert len(await take(Client(store, "b"), 9, handle="i")) == 3
        assert {owner for _, owner in (await picture(store)).affinities} == {"host:a"}

        strict = await world(TINY, configuration(strict_affinity=True))
        await take(Client(strict, "a"), 5)
        answer = await Client(strict, "b").assign(Request(handle="i", ipv4=1, attributes={}))
        assert answer.addresses == ()
        assert "strictAffinity is true" in answer.messages[0]

    run(body())


def test_empty_block_of_another_host_is_taken_over_after_a_minute() -> None:
    """Before that it is its own, and its addresses are borrowed."""

    async def body() -> None:
        clock = Clock()
        store = await world(TINY)
        await take(Client(store, "a", clock=clock), 8, handle="all")
        await Client(store, "a").release_by_handle("all")
        clock.pass_seconds(59)
        await take(Client(store, "b", clock=clock))
        assert {owner for _, owner in (await picture(store)).affinities} == {"host:a"}
        clock.pass_seconds(1)
        await take(Client(store, "c", clock=clock), handle="i")
        now = await picture(store)
        assert {owner for _, owner in now.affinities} == {"host:a", "host:c"}
        assert set(now.affinities) == {(cidr, block.affinity) for cidr, block in now.blocks.items()}
        assert set(now.affinities.values()) == {"confirmed"}

    run(body())


def test_blocks_of_single_addresses_wander_to_whoever_needs_them() -> None:
    """With /32 blocks a host that needs one takes over another's empty one, even where it must not borrow."""

    async def body() -> None:
        clock = Clock()
        store = await world(pool("p", "10.65.0.0/30", block_size=32), configuration(strict_affinity=True))
        assert len(await take(Client(store, "a", clock=clock), 9)) == 4
        await Client(store, "a").release_by_handle("h")
        clock.pass_seconds(60)
        assert len(await take(Client(store, "b", clock=clock), 9)) == 4

    run(body())


@pytest.mark.parametrize(
    ("configured", "requested", "blocks"), [(0, 0, 2), (1, 0, 1), (0, 1, 1), (2, 1, 1), (1, 2, 1)]
)
def test_limit_of_blocks_is_the_smaller_of_what_is_said(configured: int, requested: int, blocks: int) -> None:
    """A request and the settings may both set it; where it stops the host, that is said and nothing is borrowed."""

    async def body() -> None:
        store = await world(
            TINY, configuration(strict_affinity=configured > 0, max_blocks_per_host=configured)
        )
        request = Request(handle="h", ipv4=8, attributes={}, max_blocks=requested)
        answer = await Client(store, "a").assign(request)
        assert len(answer.addresses) == 4 * blocks
        assert answer.limited == (blocks == 1)

    run(body())


def test_hosts_claim_no_blocks_where_that_is_off() -> None:
    """autoAllocateBlocks false: addresses come from blocks that somebody else gave to the host."""

    async def body() -> None:
        store = await world(TINY)
        await take(Client(store, "a"))
        await configure(store, strict_affinity=True, auto_allocate_blocks=False)
        assert len(await take(Client(store, "a"), 9)) == 3
        answer = await Client(store, "b").assign(Request(handle="i", ipv4=1, attributes={}))
        assert "autoAllocateBlocks is false" in answer.messages[0]

    run(body())


# --- reservations and cool-down ----------------------------------------------------------------------


def test_reserved_addresses_are_given_to_nobody_who_does_not_name_them() -> None:
    """Not from own blocks, nor as whole blocks, nor borrowed; by name they are."""

    async def body() -> None:
        store = await world(TINY, reservation("10.65.0.0/31", "10.65.0.4/30"))
        assert texts(await take(Client(store, "a"), 9)) == ["10.65.0.2", "10.65.0.3"]
        assert [str(cidr) for cidr in (await picture(store)).blocks] == ["10.65.0.0/30"]
        await Client(store, "b").assign_address(parse_cidr("10.65.0.1"), "i", {})
        assert await Client(store, "b").addresses("i") == (parse_cidr("10.65.0.1/32"),)

    run(body())


def test_reservation_that_cannot_be_read_stops_assignments() -> None:
    """Nobody can know what must not be given away; the sentence names the reservation."""

    async def body() -> None:
        store = await world(*POOLS)
        path = Key("IPReservation", "bad").path
        await store.create(path, b"{")
        with pytest.raises(BadRecord, match=path):
            await take(Client(store, "a"))

    run(body())


def test_released_address_cools_down() -> None:
    """It is nobody's, and not given again before the time is over; then it is the last in the queue."""

    async def body() -> None:
        clock = Clock()
        store = await world(pool("p", "10.65.0.0/30", block_size=30), configuration(ip_cooldown_seconds=30))
        client = Client(store, "a", clock=clock)
        got = await take(client, 4)
        assert (await client.release(map(Release, got[:2]))).freed == tuple(got[:2])
        [block] = (await picture(store)).blocks.values()
        cooling = [each for each in block.attributes if each.released_at]
        assert [(each.handle_id, each.secondary, each.released_at) for each in cooling] == [
            (None, None, "2023-11-14T22:13:20Z")
        ]
        assert (await picture(store)).handles == {"h": {"10.65.0.0/30": 2}}
        assert await take(client, handle="i") == []
        with pytest.raises(AlreadyAssigned, match="cools down"):
            await client.assign_address(got[0], "i", {})
        assert (await client.release([Release(got[0])])).unallocated == (got[0],)
        clock.pass_seconds(31)
        await client.release_by_handle("h")
        assert await take(client, 4, handle="i") == got[:2]
        clock.pass_seconds(31)
        assert await take(client, 4, handle="j") == got[2:]

    run(body())


def test_cooling_addresses_keep_a_block_from_others() -> None:
    """A block of which addresses cool down is not empty: it is not taken over."""

    async def body() -> None:
        clock = Clock()
        store = await world(TINY, configuration(ip_cooldown_seconds=1200, strict_affinity=True))
        await take(Client(store, "a", clock=clock), 8)
        await Client(store, "a", clock=clock).release_by_handle("h")
        clock.pass_seconds(600)
        assert await take(Client(store, "b", clock=clock)) == []

    run(body())


# --- certain addresses, and all or nothing -----------------------------------------------------------


def test_certain_address() -> None:
    """Its block is claimed if nobody has it, whatever selectors say; who owns it is told to who comes second."""

    async def body() -> None:
        store = await world(pool("p", "10.65.0.0/16", assignment_mode="Manual", node_selector="x == 'y'"))
        address = parse_cidr("10.65.3.7")
        await Client(store, "a").assign_address(address, "h", {"pod": "p"})
        now = await picture(store)
        assert set(now.affinities) == {(parse_cidr("10.65.3.0/26"), "host:a")}
        assert now.handles == now.counts() == {"h": {"10.65.3.0/26": 1}}
        for handle in ("h", "i"):
            with pytest.raises(AlreadyAssigned, match=r"handle h has it \(pod=p\)"):
                await Client(store, "b").assign_address(address, handle, {})
        assert (await picture(store)).handles == now.handles

    run(body())


def test_certain_address_of_no_pool() -> None:
    """Outside of all pools, in one that is disabled, or for another use: it cannot be assigned."""

    async def body() -> None:
        store = await world(pool("p", "10.1.0.0/16", disabled=True), pool("q", "10.2.0.0/16"))
        client = Client(store, "a")
        for text in ("10.1.0.1", "10.9.0.1", "fd00::1"):
            with pytest.raises(NotInPool, match="no pool"):
                await client.assign_address(parse_cidr(text), "h", {})
        with pytest.raises(NotInPool, match="LoadBalancer"):
            await client.assign_address(parse_cidr("10.2.0.1"), "h", {}, use="LoadBalancer")
        assert (await picture(store)).handles == {}

    run(body())


def test_certain_address_of_another_hosts_block() -> None:
    """It is borrowed, unless strict affinity forbids it, which names block and owner."""

    async def body() -> None:
        store = await world(TINY)
        [address] = await take(Client(store, "a"))
        beside = Cidr(4, address.value + 1, 32)
        await Client(store, "b").assign_address(beside, "i", {})
        await configure(store, strict_affinity=True)
        with pytest.raises(NotOurs, match="host:a"):
            await Client(store, "b").assign_address(Cidr(4, address.value + 2, 32), "j", {})
        assert "j" not in (await picture(store)).handles

    run(body())


def test_certain_address_in_a_block_of_another_size() -> None:
    """A block that is there counts, not the size that the pool says now: no two blocks overlap."""

    async def body() -> None:
        store = await world(pool("p", "10.65.0.0/24", block_size=28))
        await take(Client(store, "a"))
        await Resources(store).apply(pool("p", "10.65.0.0/24", block_size=30))
        [cidr] = (await picture(store)).blocks
        await Client(store, "b").assign_address(Cidr(4, cidr.value + 9, 32), "i", {})
        assert list((await picture(store)).blocks) == [cidr]

    run(body())


@pytest.mark.parametrize("world_of", [(POOLS[0],), (POOLS[1],), ()])
def test_whole_request_gets_both_families_or_nothing(world_of: tuple[Resource, ...]) -> None:
    """Where one family is missing the other is given back, and the error says what was missing."""

    async def body() -> None:
        store = await world(*world_of)
        request = Request(handle="h", ipv4=1, ipv6=1, attributes={})
        with pytest.raises(Short, match="2 addresses were wanted") as short:
            await Client(store, "a").assign_whole(request)
        assert short.value.got == len(world_of)
        now = await picture(store)
        assert (now.assigned(), now.handles) == ([], {})

    run(body())


def test_whole_request_that_is_short_gives_back_only_what_it_got() -> None:
    """What the handle had before stays its own."""

    async def body() -> None:
        store = await world(SMALL)
        before = await take(Client(store, "a"), 2)
        with pytest.raises(Short):
            await Client(store, "a").assign_whole(Request(handle="h", ipv4=20, attributes={}))
        assert await Client(store, "a").addresses("h") == tuple(before)
        whole = await Client(store, "a").assign_whole(Request(handle="h", ipv4=14, attributes={}))
        assert len(whole.addresses) == 14

    run(body())


@pytest.mark.parametrize("handle", ["", "a/b"])
def test_handle_that_no_record_can_have(handle: str) -> None:
    """It is refused before anything is written."""

    async def body() -> None:
        store = await world(*POOLS)
        with pytest.raises(ValueError, match="is no handle"):
            await take(Client(store, "a"), handle=handle)
        with pytest.raises(ValueError, match="is no handle"):
            await Client(store, "a").assign_address(parse_cidr("10.65.0.1"), handle, {})
        assert (await picture(store)).blocks == {}

    run(body())


# --- releases ----------------------------------------------------------------------------------------


def test_release_of_what_has_another_owner_now_is_refused() -> None:
    """Handle and sequence number tell the assignment that was meant from a later one."""

    async def body() -> None:
        store = await world(pool("p", "10.65.0.0/32", block_size=32))
        client = Client(store, "a")
        [address] = await take(client)
        [block] = (await picture(store)).blocks.values()
        number = block.sequence_number_for_allocation["0"]
        await client.release_by_handle("h")
        await take(client)
        for wanted, reason in (
            (Release(address, "i"), "of handle h"),
            (Release(address, "h", number), "anew"),
        ):
            done = await client.release([wanted])
            assert done.freed == ()
            assert reason in done.refused[0].reason
        assert (await client.release([Release(address, "h")])).freed == (address,)

    run(body())


def test_release_finds_blocks_where_no_pool_is_left() -> None:
    """A pool that is deleted keeps nobody from giving its addresses back."""

    async def body() -> None:
        store = await world(*POOLS)
        got = await take(Client(store, "a"), 1, 1)
        for each in POOLS:
            await store.delete(key_of(each).path, revision=None)
        done = await Client(store, "b").release(map(Release, got))
        assert sorted(done.freed) == sorted(got)
        assert (await picture(store)).handles == {}

    run(body())


def test_settings_of_old_writers_count_as_written() -> None:
    """A record without autoAllocateBlocks means off, as Calico reads it; without a record it is on."""
    assert IPAMConfig().auto_allocate_blocks is False

    async def body() -> None:
        store = await world(TINY)
        await store.create(Key("IPAMConfiguration", "default").path, b'{"strict_affinity":true}')
        assert await take(Client(store, "a")) == []

    run(body())
