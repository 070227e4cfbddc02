"""The collector in a store: what it takes, what it leaves, who collects, and what becomes of it when the store is lost."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from calico.datastore.api import Store, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.ipam import block as blocks
from calico.ipam import collector as collectors
from calico.ipam.client import Client, Request
from calico.ipam.collector import PATH, Collector
from calico.ipam.evidence import GRACE, Evidence
from calico.ipam.records import Records
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from calico.model.kubernetes_kinds import Pod, Service
from calico.model.node import NodeBGP
from calico.model.resource import Metadata
from support.ipam_pictures import Content, attribute, block, fill, sound
from support.stores import STORES, World, run_in, until

OLD = attribute("net.old", pod="old", namespace="shop", node="b")
SMALL = "10.65.0.4/30"


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def leaking() -> Content:
    return sound().block(block(SMALL, "host:b", {0: OLD}))


async def collected(store: Store, *, meanwhile: Content | None = None, time: Time | None = None) -> Collector:
    """A collector that has seen the same twice, after the time; ``meanwhile`` is written after its last look."""
    time = time or Time()
    collector = Collector(store, "a", steady=time)
    await collector.sweep()
    time.now = GRACE
    if meanwhile is not None:
        _after_look(collector, lambda: fill(store, meanwhile))
    await collector.sweep()
    return collector


def _after_look(collector: Collector, act) -> None:
    """Let something happen between a look of ``collector`` and what it does then."""
    look = collector._look

    async def look_and_act() -> Evidence:
        found = await look()
        await act()
        return found

    collector._look = look_and_act  # type: ignore[method-assign]


async def given(store: Store, cidr: str, handle: str) -> tuple[Cidr, ...]:
    """What ``handle`` has in a block."""
    held = await Records(store).block(parse_cidr(cidr))
    return () if held is None else blocks.held(held.value, handle)


@pytest.mark.parametrize("kind", STORES)
def test_what_was_left_behind_is_taken_back(kind: str, tmp_path: Path, caplog) -> None:
    """The address is free, its handle gone, and one line says which and why; what lives stays."""

    async def test(world: World) -> None:
        await fill(world.store, leaking())
        collector = await collected(world.store)
        assert await given(world.store, SMALL, "net.old") == ()
        assert await Records(world.store).handle("net.old") is None
        assert await given(world.store, "10.65.0.0/30", "h.web") == (parse_cidr("10.65.0.0"),)
        report = collector.report()
        assert report["done"] == {"free": 1}
        assert report["latest"][0]["what"] == "address 10.65.0.4"

    with caplog.at_level(logging.INFO, collectors.__name__):
        run_in(kind, tmp_path, test)
    assert [record.getMessage() for record in caplog.records if "collected" in record.getMessage()] == [
        "collected: address 10.65.0.4: it was given to shop/old, which is gone; handle net.old"
    ]


def test_a_host_that_is_gone_is_cleaned_up_whole() -> None:
    """Addresses, handles, claims and blocks; a borrowed address that lives keeps its place in a block of nobody."""

    async def test() -> None:
        store = MemoryStore()
        content = sound().block(
            block(SMALL, "host:c", {0: attribute("net.x", pod="x", namespace="shop", node="c")})
        )
        content.block(
            block("10.65.0.8/30", "host:c", {0: attribute("net.y", pod="y", namespace="shop", node="a")})
        )
        await fill(store, content.workload("y", "a", "10.65.0.8"))
        await collected(store)
        records = Records(store)
        assert await records.affinities("host:c") == {}
        assert await records.block(parse_cidr(SMALL)) is None
        lent = await records.block(parse_cidr("10.65.0.8/30"))
        assert lent is not None
        assert lent.value.affinity is None
        assert await given(store, "10.65.0.8/30", "net.y") == (parse_cidr("10.65.0.8"),)
        assert await records.handle("net.x") is None

    asyncio.run(test())


def test_what_was_assigned_anew_at_the_last_moment_survives() -> None:
    """The same address of the same handle, at another sequence number; or one more address of that handle."""

    async def test() -> None:
        store = MemoryStore()
        await fill(store, leaking())
        anew = block(SMALL, "host:b", {0: OLD}, sequence_number_for_allocation={"0": 7})
        content = Content()
        content.add((Key("IPAMBlock", SMALL), anew))
        await collected(store, meanwhile=content)
        assert len(await given(store, SMALL, "net.old")) == 1

        store = MemoryStore()
        await fill(store, leaking())
        await collected(store, meanwhile=Content().handle("net.old", {SMALL: 2}))
        assert len(await given(store, SMALL, "net.old")) == 1

    asyncio.run(test())


@pytest.mark.parametrize(
    "sign",
    [Content().node("c"), Content().workload("x", "c"), Content().cluster()],
    ids=["node", "endpoint", "lock"],
)
def test_a_host_that_is_back_at_the_last_moment_keeps_its_blocks(sign: Content) -> None:
    """Its node and its endpoints are looked for once more before its claims go; a lock keeps them, too."""

    async def test() -> None:
        store = MemoryStore()
        await fill(store, sound().block(block(SMALL, "host:c")))
        await collected(store, meanwhile=sign)
        assert list(await Records(store).affinities("host:c")) == [parse_cidr(SMALL)]

    asyncio.run(test())


@pytest.mark.parametrize(
    "sign",
    [
        Content().workload("old", "b"),
        Content().workload("new", "a", "10.65.0.4"),
        Content().add(Pod(metadata=Metadata(name="old", namespace="shop"))),
        Content().add(
            Service(metadata=Metadata(name="x", namespace="shop"), spec={"externalIPs": ["10.65.0.4"]})
        ),
        Content().node("b", bgp=NodeBGP(ipv4_ipip_tunnel_addr="10.65.0.4")),
        Content().add((Key("WorkloadEndpoint", "x", "shop"), b"{")),
        Content().cluster(),
    ],
    ids=["its-endpoint", "another-has-it", "its-pod", "a-service", "a-node", "unreadable", "locked"],
)
def test_a_sign_of_life_at_the_last_moment_keeps_an_address(sign: Content) -> None:
    """None of them writes a record of address management; so all are looked for once more, right before."""

    async def test() -> None:
        store = MemoryStore()
        await fill(store, leaking())
        await collected(store, meanwhile=sign)
        assert len(await given(store, SMALL, "net.old")) == 1

    asyncio.run(test())


def test_a_sign_of_life_at_the_last_moment_begins_the_time_anew() -> None:
    """Also if it is gone again before the next picture."""

    async def test() -> None:
        store, time = MemoryStore(), Time()
        await fill(store, leaking())
        sign = Content().workload("old", "b", "10.65.0.4")
        collector = await collected(store, meanwhile=sign, time=time)
        for path in sign.entries:
            await store.delete(path, revision=None)
        collector._look = Collector._look.__get__(collector)  # type: ignore[method-assign]
        for now in (GRACE + 1, 2 * GRACE):
            time.now = now
            await collector.sweep()
            assert len(await given(store, SMALL, "net.old")) == 1
        time.now = 2 * GRACE + 1
        await collector.sweep()
        assert await given(store, SMALL, "net.old") == ()

    asyncio.run(test())


def test_a_host_that_is_back_at_the_last_moment_keeps_its_addresses() -> None:
    """Also while its node does not name them; and what another one wrote meanwhile keeps nothing."""

    async def test() -> None:
        tunnel = attribute("ipip-tunnel-addr-c", node="c", type="ipipTunnelAddress")
        for back, kept in (("c", 1), ("d", 0)):
            store = MemoryStore()
            await fill(store, sound().block(block(SMALL, "host:b", {0: tunnel})))
            await collected(store, meanwhile=Content().node(back))
            assert len(await given(store, SMALL, "ipip-tunnel-addr-c")) == kept

    asyncio.run(test())


def test_a_block_of_nobody_goes_only_if_it_is_empty() -> None:
    """Whatever its sequence number says: another writer might not count."""

    async def test() -> None:
        store = MemoryStore()
        await fill(store, sound().block(block(SMALL, None)))
        living = Content().block(block(SMALL, None, {0: OLD})).workload("old", "b", "10.65.0.4")
        await collected(store, meanwhile=living)
        assert len(await given(store, SMALL, "net.old")) == 1

    asyncio.run(test())


def test_claims_handles_and_blocks_that_crashes_left() -> None:
    """A claim gets its block or goes; handles count what there is; what can be spared is free for others."""

    async def test() -> None:
        store = MemoryStore()
        content = sound().block(block(SMALL, "host:b"), claim=False).block(block("10.65.0.8/30", "host:b"))
        content.add((Key("BlockAffinity", SMALL, "host:b"), BlockAffinity(state="pending")))
        content.add((Key("BlockAffinity", "10.65.0.12/30", "host:b"), BlockAffinity(state="pending")))
        content.handle("h.web", {"10.65.0.0/30": 3}).handle("left", {SMALL: 1})
        await fill(store, content)
        await collected(store)
        records = Records(store)
        claims = await records.affinities("host:b")
        assert {str(cidr): claim.value.state for cidr, claim in claims.items()} == {SMALL: "confirmed"}
        assert await records.block(parse_cidr("10.65.0.8/30")) is None
        web = await records.handle("h.web")
        assert web is not None
        assert web.value.block == {"10.65.0.0/30": 1}
        assert await records.handle("left") is None

    asyncio.run(test())


def test_a_handle_without_a_record_gets_one() -> None:
    """So that whoever deletes the workload by its handle finds its addresses."""

    async def test() -> None:
        store = MemoryStore()
        content = leaking().workload("old", "b", "10.65.0.4")
        del content.entries[Key("IPAMHandle", "net.old").path]
        await fill(store, content)
        await collected(store)
        assert await Client(store, "b").release_by_handle("net.old") == [parse_cidr("10.65.0.4")]

    asyncio.run(test())


def test_addresses_that_have_cooled_down_come_back() -> None:
    """Also in a block that nobody else writes."""

    async def test() -> None:
        store = MemoryStore()
        cools = attribute(None, released_at="2026-01-01T00:00:00Z")
        await fill(store, sound().block(block(SMALL, "host:b", {0: cools})))
        await collected(store)
        held = await Records(store).block(parse_cidr(SMALL))
        assert held is not None
        assert len(held.value.unallocated) == 4

    asyncio.run(test())


def test_an_assignment_that_was_under_way_all_the_time_is_counted() -> None:
    """Its handle was taken for one without addresses; the block makes it look again, or its address is counted."""

    class Slow(FaultyStore):
        """Stands still before it writes a block."""

        def __init__(self, store: Store) -> None:
            super().__init__(store)
            self.there, self.go = asyncio.Event(), asyncio.Event()

        async def put(
            self, path: str, value: bytes, *, revision: int | None, lease: int | None = None
        ) -> int:
            if "/assignment/" in path and not self.there.is_set():
                self.there.set()
                await self.go.wait()
            return await super().put(path, value, revision=revision, lease=lease)

    async def test() -> None:
        store = MemoryStore()
        await fill(store, sound().workload("new", "b"))
        slow = Slow(store)
        client = Client(slow, "b")
        request = Request(
            handle="net.new", ipv4=1, attributes={"pod": "new", "namespace": "shop", "node": "b"}
        )
        work = asyncio.create_task(client.assign(request))
        await slow.there.wait()
        await collected(store)
        slow.go.set()
        (address,) = (await work).addresses
        await collected(store)
        assert await client.release_by_handle("net.new") == [address]

    asyncio.run(test())


def test_nothing_is_taken_while_the_store_is_locked_and_all_begins_anew_after() -> None:
    """The report says what the doubt is."""

    async def test() -> None:
        store, time = MemoryStore(), Time()
        await fill(store, leaking())
        collector = Collector(store, "a", steady=time)
        await collector.sweep()
        await fill(store, Content().cluster())
        time.now = GRACE
        await collector.sweep()
        assert collector.report()["doubt"] == "the store is locked"
        await fill(store, Content().cluster(locked=False))
        await collector.sweep()
        assert len(await given(store, SMALL, "net.old")) == 1
        time.now = 2 * GRACE
        await collector.sweep()
        assert await given(store, SMALL, "net.old") == ()

    asyncio.run(test())


def test_a_look_that_failed_makes_it_begin_anew() -> None:
    """Nobody knows what was missed."""

    async def test() -> None:
        store, time = FaultyStore(MemoryStore()), Time()
        await fill(store, leaking())
        collector = Collector(store, "a", steady=time)
        await collector.sweep()
        look, collector._look = collector._look, _lost  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await collector.sweep()
        collector._look = look  # type: ignore[method-assign]
        time.now = GRACE
        await collector.sweep()
        assert len(await given(store, SMALL, "net.old")) == 1

    asyncio.run(test())


async def _lost() -> Evidence:
    raise Unavailable("lost")


# --- who collects ------------------------------------------------------------------------------------


async def _who(store: Store) -> str:
    entry = await store.get(PATH)
    return "" if entry is None else json.loads(entry.value)["node"]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("kind", STORES)
def test_one_collects_and_another_takes_over(kind: str, tmp_path: Path) -> None:
    """As soon as the first one goes; everybody knows who it is."""

    async def test(world: World) -> None:
        first, second = Collector(world.store, "a"), Collector(world.another(), "b", term=0.3)
        tasks = [asyncio.create_task(first.run())]
        await until(lambda: first.collects)
        tasks.append(asyncio.create_task(second.run()))
        await until(lambda: second.report()["node"] == "a")
        assert not second.collects
        await _end(tasks[0])
        await until(lambda: second.collects)
        assert await _who(world.store) == "b"
        assert not first.collects
        await _end(tasks[1])
        assert await _who(world.store) == ""

    run_in(kind, tmp_path, test)


def test_a_collector_that_dies_is_followed_when_its_lease_ends() -> None:
    """It gives nothing back; the store forgets it. Who believed to collect learns that it does not."""

    async def test() -> None:
        clock = Time()
        store = MemoryStore(clock=clock)
        lease = await store.grant(30)
        await store.create(PATH, b'{"node": "dead"}', lease=lease)
        collector = Collector(store, "a", term=0.3)
        task = asyncio.create_task(collector.run())
        await until(lambda: collector.report()["node"] == "dead")
        clock.now = 31
        await store.get("/")
        await until(lambda: collector.collects)
        clock.now = 62
        await until(lambda: not collector.collects)
        await _end(task)

    asyncio.run(test())


def test_the_loss_of_the_store_ends_a_term_and_nothing_else(monkeypatch) -> None:
    """It says so, once; with the store back it stands again, without any memory."""
    monkeypatch.setattr(collectors, "PAUSE", 0.01)

    async def test() -> None:
        inner = MemoryStore()
        await fill(inner, leaking())
        store = _Cut(inner)
        collector = Collector(store, "a", term=0.1)
        task = asyncio.create_task(collector.run())
        await until(lambda: collector.collects and collector.report()["suspected"] == 1)
        store.cut = True
        await until(lambda: collector.report()["error"] == "cut off")
        assert not collector.collects
        assert collector.report()["suspected"] == 0
        store.cut = False
        await until(lambda: collector.collects)
        assert collector.report()["error"] is None
        await _end(task)

    asyncio.run(test())


class _Cut:
    """A store that can be cut off, and then answers nothing but that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut = False

    def __getattr__(self, name: str):
        if self.cut:
            raise Unavailable("cut off")
        return getattr(self._store, name)


def test_a_sweep_that_outlives_its_lease_takes_nothing() -> None:
    """Between what was seen and what is done somebody else may have been elected."""

    async def test() -> None:
        store, time = MemoryStore(), Time()
        await fill(store, leaking())
        collector = Collector(store, "a", steady=time)
        await collector._stand()
        await collector.sweep()
        time.now = GRACE
        with pytest.raises(collectors._OutOfOffice):
            await collector.sweep()
        assert len(await given(store, SMALL, "net.old")) == 1

    asyncio.run(test())


def test_many_leaks_go_in_portions(monkeypatch) -> None:
    """Each on the strength of a fresh picture, one right after the other."""
    monkeypatch.setattr(collectors, "BATCH", 2)

    async def test() -> None:
        store, time = MemoryStore(), Time()
        gone = {
            number: attribute(f"net.{number}", pod=f"p{number}", namespace="shop", node="a")
            for number in range(3)
        }
        await fill(store, sound().block(block(SMALL, "host:a", gone)))
        collector = Collector(store, "a", steady=time)
        await collector.sweep()
        time.now = GRACE
        assert await collector.sweep() == 0
        assert collector.report()["done"] == {"free": 2}
        assert await collector.sweep() > 0
        assert collector.report()["done"]["free"] == 3

    asyncio.run(test())
