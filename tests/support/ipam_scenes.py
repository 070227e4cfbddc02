"""Clients of address management at work in one store, each with a list of things to do, and what must hold throughout.

A scene names its pools, and for each client (``a/1`` is the first client of node ``a``) its acts, one after the other.
``play`` runs it under a chooser and raises ``Broken`` if anything was ever wrong: after any single write, or at
rest, after somebody cleared up what died or got no answer. ``Broken`` tells the whole story, call by call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random

import msgspec

from calico.datastore.api import Conflict, Entry, Store, Unavailable
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.ipam import cascade
from calico.ipam.batch import Batch
from calico.ipam.block import Release
from calico.ipam.client import Client, Request
from calico.ipam.errors import IPAMError
from calico.model.address import Cidr, parse_cidr
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from support.ipam_faults import Call, Chooser, Fate, PerilousStore, Turns, run_by, told
from support.ipam_ledger import IPAM, Ledger
from support.speakers import node, pool
from support.stores import World


class Broken(AssertionError):
    """Something was wrong; the story of how it came to be."""


@dataclass
class Scene:
    """See the module."""

    pools: Sequence[Resource]
    clients: Mapping[str, Sequence[Act]]
    settings: Sequence[Resource] = ()


@dataclass
class Company:
    """What all clients of a scene share with the test."""

    ledger: Ledger = field(default_factory=Ledger)
    doubtful: set[str] = field(default_factory=set)
    """Handles of which nobody knows what they have: an act for them has not come to its end."""
    unfinished: list[Callable[[Store], Awaitable[None]]] = field(default_factory=list)
    """What somebody has to do again, because it has not come to its end."""
    ticks: int = 0

    def clock(self) -> int:
        """Nanoseconds since 1970, later each time it is asked."""
        self.ticks += 1
        return int(asyncio.get_running_loop().time() * 1e9) + self.ticks * 1000


@dataclass
class Process:
    """One client: a process on a node."""

    node: str
    store: Store
    company: Company

    def __post_init__(self) -> None:
        self.ipam = Client(self.store, self.node, clock=self.company.clock)

    @contextmanager
    def about(self, handle: str) -> Iterator[None]:
        """Do something for ``handle``; unless it comes to its end, what it has is in doubt from now on."""
        doubtful = set(self.company.doubtful)
        self.company.doubtful.add(handle)
        yield
        self.company.doubtful &= doubtful | (self.company.doubtful - {handle})


Act = Callable[[Process], Awaitable[None]]


async def take(
    client: Client | Batch, handle: str, node: str, ipv4: int = 1, ipv6: int = 0
) -> Sequence[Cidr]:
    """Addresses for a workload on ``node``; as many as there are."""
    request = Request(handle=handle, ipv4=ipv4, ipv6=ipv6, attributes={"node": node})
    return (await client.assign(request)).addresses


def assign(handle: str, ipv4: int = 1, ipv6: int = 0) -> Act:
    """Addresses for a new workload."""

    async def act(process: Process) -> None:
        with process.about(handle):
            process.company.ledger.promise(handle, await take(process.ipam, handle, process.node, ipv4, ipv6))

    return act


def release_handle(handle: str) -> Act:
    """All that a workload has."""

    async def act(process: Process) -> None:
        process.company.ledger.forgive(handle=handle)
        with process.about(handle):
            await process.ipam.release_by_handle(handle)

    return act


def release_address(handle: str) -> Act:
    """What a workload was given, named by the addresses."""

    async def act(process: Process) -> None:
        promised = process.company.ledger.promised
        addresses = [parse_cidr(address) for address, owner in promised.items() if owner == handle]
        process.company.ledger.forgive(handle=handle)
        with process.about(handle):
            await process.ipam.release(Release(address, handle) for address in addresses)

    return act


def crowd(random: Random, *, clients: int) -> Scene:
    """Workloads that come and go by chance on nodes of two clients each, in pools that are too small for them."""
    acts: dict[str, list[Act]] = {}
    for number in range(clients):
        name = f"{NODES[number // 2]}/{number % 2}"
        acts[name] = []
        alive: list[str] = []
        for age in range(random.randint(3, 8)):
            if alive and random.random() < 0.4:
                handle = alive.pop(random.randrange(len(alive)))
                acts[name].append(random.choice((release_handle, release_address))(handle))
            else:
                alive.append(f"{name.replace('/', '-')}-{age}")
                acts[name].append(assign(alive[-1], random.randint(0, 3), random.randint(0, 1)))
    return Scene((pool("v4", "10.65.0.0/26", block_size=29), pool("v6", "fd65::/120", block_size=125)), acts)


NODES = "abcdefgh"


async def _no_pause(seconds: float) -> None:
    """Time is given by the order of calls."""


async def _delete(store: Store, kind: str, name: str) -> None:
    with suppress(Conflict):
        await cascade.delete(Resources(store), Key(kind, name), pause=_no_pause)


def delete(kind: str, name: str) -> Act:
    """A node or a pool goes, and what goes with it."""

    async def act(process: Process) -> None:
        async def again(store: Store) -> None:
            await _delete(store, kind, name)

        process.company.unfinished.append(again)
        await _delete(process.store, kind, name)
        process.company.unfinished.remove(again)

    return act


async def _live(process: Process, acts: Sequence[Act]) -> None:
    for act in acts:
        with suppress(Unavailable, IPAMError):
            await act(process)


async def _clear_up(store: Store, company: Company, nodes: Sequence[str]) -> None:
    """Bring to an end what died or got no answer, as others do in life.

    Deletions are repeated by who ordered them; workloads that never came to be are given back by the orchestrator;
    what a node left half claimed is seen to by its next start, or, if the node is gone, by deleting it again.
    """
    for again in company.unfinished:
        await again(store)
    for handle in sorted(company.doubtful):
        company.ledger.forgive(handle=handle)
        await Client(store, "elsewhere", clock=company.clock).release_by_handle(handle)
    for name in nodes:
        if await store.get(Key("Node", name).path):
            next_start = Client(store, name, clock=company.clock)
            await take(next_start, f"start-{name}", name, 1, 1)
            await next_start.release_by_handle(f"start-{name}")
        else:
            await _delete(store, "Node", name)


async def _fill(store: Store, scene: Scene) -> list[str]:
    nodes = sorted({name.partition("/")[0] for name in scene.clients})
    for resource in (*scene.pools, *scene.settings, *map(node, nodes)):
        await store.create(key_of(resource).path, msgspec.json.encode(resource))
    return nodes


def play(scene: Scene, chooser: Chooser) -> None:
    """Run ``scene`` once, in memory, every call in the order that ``chooser`` decides."""
    turns = Turns(chooser)
    company = Company()

    async def body() -> None:
        store = MemoryStore(clock=lambda: 0.0)
        nodes = await _fill(store, scene)

        async def wrote() -> None:
            entries = (await store.list(IPAM)).entries
            company.ledger.see(entries)
            company.ledger.keep(entries, company.ledger.promised)
            if company.ledger.wrong:
                raise Broken

        stores = {name: PerilousStore(store, name, turns.ask, wrote) for name in scene.clients}
        await _lives(scene, stores, company)
        await _clear_up(store, company, nodes)
        company.ledger.rest((await store.list(IPAM)).entries)

    try:
        run_by(turns, body())
    except Exception as error:
        raise Broken(_told(turns.story, company)) from error
    if company.ledger.wrong:
        raise Broken(_told(turns.story, company))


async def play_for_real(scene: Scene, chooser: Chooser, world: World) -> None:
    """Run ``scene`` once on a real store, each client on a connection of its own; the order of calls is the store's.

    Every single revision is judged, as a watch tells of them.
    """
    company = Company()
    story: list[str] = []
    nodes = await _fill(world.store, scene)

    async def ask(call: Call) -> Fate:
        fate = chooser.fate(call)
        story.append(told(call, fate))
        return fate

    async def wrote() -> None:
        before = dict(company.ledger.promised)
        entries = (await world.store.list(IPAM)).entries
        after = company.ledger.promised
        company.ledger.keep(
            entries, {address: handle for address, handle in before.items() if after.get(address) == handle}
        )

    judging = asyncio.create_task(_judge(world.another(), (await world.store.list(IPAM)).revision, company))
    stores = {name: PerilousStore(world.another(), name, ask, wrote) for name in scene.clients}
    await _lives(scene, stores, company)
    await _clear_up(world.store, company, nodes)
    company.ledger.rest((await world.store.list(IPAM)).entries)
    await world.store.create(END, b"{}")
    await judging
    if company.ledger.wrong:
        raise Broken(_told(story, company))


END = f"{IPAM}handle/the-end"
"""What is written last, so that the judge has heard everything before."""


async def _judge(store: Store, revision: int, company: Company) -> None:
    """Look at the records as they were at every revision."""
    records: dict[str, Entry] = {}
    async for events in store.watch(IPAM, revision=revision):
        for event in events:
            if event.path == END:
                return
            if event.value is None:
                del records[event.path]
            else:
                records[event.path] = Entry(event.path, event.value, event.revision)
            company.ledger.see(records.values())


async def _lives(scene: Scene, stores: Mapping[str, PerilousStore], company: Company) -> None:
    """All clients at once, until each has done all that it was to do, or died."""

    async def end(name: str, acts: Sequence[Act]) -> None:
        life = asyncio.create_task(_live(Process(name.partition("/")[0], stores[name], company), acts))
        death = asyncio.create_task(stores[name].dead.wait())
        try:
            await asyncio.wait([life, death], return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
        finally:
            life.cancel()
            death.cancel()

    async with asyncio.TaskGroup() as group:
        for name, acts in scene.clients.items():
            group.create_task(end(name, acts))


def _told(story: Sequence[str], company: Company) -> str:
    return "\n".join([*company.ledger.wrong, "", *story])
