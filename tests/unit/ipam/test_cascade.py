"""What goes with a node or a pool, also when the deletion is broken off and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from calico.datastore.api import Conflict, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.ipam.cascade import SETTLE, delete
from calico.ipam.client import Client, Request
from calico.model import codec
from calico.model.address import Cidr
from calico.model.bgp import BGPConfiguration, BGPPeer, BGPPeerSpec
from calico.model.felix import FelixConfiguration
from calico.model.ipam import IPAMBlock
from calico.model.keys import IPAM, Key, key_of
from calico.model.node import Node, NodeBGP, NodeSpec
from calico.model.resource import Metadata
from support.builders import endpoint, host_endpoint, pool

HERE, THERE = "here", "there"


async def assigned(client: Client, handle: str, attributes: dict[str, str]) -> tuple[Cidr, ...]:
    """An address, if there is one."""
    return (await client.assign(Request(handle=handle, ipv4=1, attributes=attributes))).addresses


class World:
    """A cluster of two hosts with everything that a host may have, in a store that may fail."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.resources = Resources(self.store)
        self.pauses: list[float] = []

    async def build(self) -> None:
        await self.resources.create(pool("pool", "10.0.0.0/16"))
        for name in (HERE, THERE):
            ipam = Client(self.store, name)
            (address,) = await assigned(ipam, f"web-{name}", {"node": name})
            (tunnel,) = await assigned(ipam, f"tunnel-{name}", {"node": name})
            spec = NodeSpec(bgp=NodeBGP(ipv4_address="192.0.2.1/24", ipv4_ipip_tunnel_addr=tunnel.address))
            for resource in (
                Node(metadata=Metadata(name=name), spec=spec),
                endpoint(f"web-{name}", name, address=address.address),
                host_endpoint(f"eth0-{name}", name, interface="eth0"),
                BGPPeer(
                    metadata=Metadata(name=f"rack-{name}"), spec=BGPPeerSpec(node=name, peer_ip="192.0.2.9")
                ),
                FelixConfiguration(metadata=Metadata(name=f"node.{name}")),
                BGPConfiguration(metadata=Metadata(name=f"node.{name}")),
            ):
                await self.resources.create(resource)
        await self.resources.create(
            BGPPeer(metadata=Metadata(name="all"), spec=BGPPeerSpec(peer_ip="192.0.2.8"))
        )

    async def delete(self, key: Key) -> None:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        await delete(self.resources, key, pause=pause)

    async def paths(self) -> list[str]:
        return [entry.path for entry in (await self.store.list("/")).entries]

    async def blocks(self) -> dict[str, tuple[str | None, int]]:
        """Each block: its affinity, and how many addresses are in use."""
        found = {}
        for entry in (await self.store.list(f"{IPAM}assignment/")).entries:
            block = codec.decode(Key("IPAMBlock", "any"), entry.value, 0)
            assert isinstance(block, IPAMBlock)
            found[block.cidr] = (block.affinity, len(block.allocations) - len(block.unallocated))
        return found


def run(work: Callable[[World], Awaitable[None]]) -> None:
    async def body() -> None:
        world = World()
        await world.build()
        await work(world)

    asyncio.run(body())


def test_with_a_node_goes_all_that_is_its_own() -> None:
    """Endpoints and their addresses, its tunnel's, its blocks, its peers and settings; nothing of the other host."""

    async def work(world: World) -> None:
        before = await world.paths()
        await world.delete(Key("Node", HERE))
        after = await world.paths()
        assert not [path for path in after if HERE in path.replace(THERE, "")]
        gone = set(before) - set(after)
        assert all(HERE in path.replace(THERE, "") or "/block/" in path for path in gone)
        assert {path for path in before if THERE in path} <= set(after)
        assert [affinity for affinity, _ in (await world.blocks()).values()] == [f"host:{THERE}"]

    run(work)


def test_an_address_of_another_host_stays() -> None:
    """An endpoint that names an address which IPAM gave to another host does not free it."""

    async def work(world: World) -> None:
        theirs = await world.resources.get(key_of(endpoint(f"web-{THERE}", THERE)))
        assert theirs is not None
        await world.resources.create(endpoint("thief", HERE, address=theirs.spec.ip_networks[0]))
        await world.delete(Key("Node", HERE))
        assert (await world.blocks()).popitem()[1] == (f"host:{THERE}", 2)

    run(work)


def test_addresses_that_no_endpoint_names_keep_their_block() -> None:
    """The block loses its host, and stays until its last address is released."""

    async def work(world: World) -> None:
        await assigned(Client(world.store, HERE), "lost", {"node": HERE})
        await world.delete(Key("Node", HERE))
        assert sorted((await world.blocks()).values(), key=str) == [(f"host:{THERE}", 2), (None, 1)]
        await Client(world.store, THERE).release_by_handle("lost")
        assert list((await world.blocks()).values()) == [(f"host:{THERE}", 2)]

    run(work)


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("kind", ["Node", "IPPool"])
def test_a_deletion_that_broke_off_is_finished_by_the_next(kind: str, happened: bool) -> None:
    """Wherever the store is lost, and whether or not its last write came through: the same is left in the end.

    All but a handle that may still count an address which is free: IPAM's own check finds those.
    """

    async def result(broken_at: int) -> tuple[list[str], dict[str, tuple[str | None, int]], bool]:
        world = World()
        await world.build()
        key = Key(kind, HERE if kind == "Node" else "pool")
        if kind == "IPPool":
            await Client(world.store, HERE).release_by_handle(f"web-{HERE}")
            await Client(world.store, HERE).release_by_handle(f"tunnel-{HERE}")
        writes = 0
        write = world.store.fail_next_write
        for method in ("put", "delete"):
            original = getattr(world.store, method)

            async def counted(
                *args: object, _original: Callable[..., Awaitable[int]] = original, **how: object
            ) -> int:
                nonlocal writes
                writes += 1
                if writes == broken_at:
                    write(happened=happened)
                return await _original(*args, **how)

            setattr(world.store, method, counted)
        try:
            await world.delete(key)
        except Unavailable:
            try:
                await world.delete(key)
            except Conflict:
                assert happened  # it was the last write that was lost, and it came through
        left = [path for path in await world.paths() if not path.startswith(f"{IPAM}handle/")]
        return left, await world.blocks(), writes >= broken_at > 0

    async def body() -> None:
        *expected, _ = await result(0)
        broken_at = 1
        while True:
            *found, lost = await result(broken_at)
            assert found == expected
            if not lost:
                break
            broken_at += 1
        assert broken_at > 3

    asyncio.run(body())


def test_with_a_pool_go_the_blocks_that_nobody_uses() -> None:
    """It is disabled first, and those who are at it get time to end; blocks in use stay with their hosts."""

    async def work(world: World) -> None:
        for handle in (f"web-{HERE}", f"tunnel-{HERE}"):
            await Client(world.store, HERE).release_by_handle(handle)
        assert len(await world.blocks()) == 2
        await world.delete(Key("IPPool", "pool"))
        assert world.pauses == [SETTLE]
        assert list((await world.blocks()).values()) == [(f"host:{THERE}", 2)]
        assert await world.resources.list("IPPool") == ()
        assert [path for path in await world.paths() if path.startswith(f"{IPAM}host/")] == [
            key_path for key_path in await world.paths() if f"{IPAM}host/{THERE}/" in key_path
        ]

    run(work)


def test_while_a_pool_goes_nobody_gets_an_address_of_it() -> None:
    """What is assigned before the pause is over keeps its block; after that there is nothing to assign from."""

    async def work(world: World) -> None:
        async def busy(_: float) -> None:
            stored = await world.resources.get(Key("IPPool", "pool"))
            assert stored is not None
            assert stored.spec.disabled
            assert await assigned(Client(world.store, HERE), "late", {"node": HERE}) == ()

        await delete(world.resources, Key("IPPool", "pool"), pause=busy)

    run(work)


def test_other_kinds_just_go() -> None:
    """And what is not there is a conflict, as for any store."""

    async def work(world: World) -> None:
        for key in (Key("BGPPeer", "all"), Key("Node", THERE)):
            await world.delete(key)
            with pytest.raises(Conflict):
                await world.delete(key)

    run(work)


def test_unreadable_resources_do_not_keep_a_node() -> None:
    """What cannot be read is not known to be the node's, and stays."""

    async def work(world: World) -> None:
        bad = Key("BGPPeer", "bad")
        await world.store.put(bad.path, b"{", revision=None)
        await world.store.put(Key("Node", HERE).path, b"{", revision=None)
        await world.delete(Key("Node", HERE))
        assert bad.path in await world.paths()
        assert not [path for path in await world.paths() if path.endswith(f"/{HERE}")]

    run(work)
