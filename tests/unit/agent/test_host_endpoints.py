"""An agent's keeping of its node's automatic host endpoints, on a store in memory and a clockwork."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from msgspec import convert
from msgspec.structs import replace

from calico.agent.hostendpoints import HostEndpoints
from calico.calculation.automatic import CREATED_BY, CREATOR
from calico.datastore import resync
from calico.datastore.api import Denied
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.model import codec
from calico.model.cluster import KubeControllersConfiguration
from calico.model.endpoint import HostEndpoint
from calico.model.keys import Key
from calico.model.resource import Resource
from support import clockwork
from support.builders import host_endpoint
from support.clockwork import now
from support.speakers import node

MARK = {CREATED_BY: CREATOR}
CONFIGURATION = Key("KubeControllersConfiguration", "default")


def switched(auto_create: str = "Enabled", **host_endpoints: Any) -> Resource:
    spec = {"controllers": {"node": {"hostEndpoint": {"autoCreate": auto_create, **host_endpoints}}}}
    tree = {"kind": "KubeControllersConfiguration", "metadata": {"name": "default"}, "spec": spec}
    return convert({"apiVersion": "projectcalico.org/v3", **tree}, KubeControllersConfiguration)


class Guarded(FaultyStore):
    """A store that may refuse every write of host endpoints, and counts those that it gets."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(clock=time.monotonic))
        self.closed = False
        self.writes: list[str] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What somebody else does just before the next write."""

    async def _meet(self, path: str) -> None:
        self.writes.append(path)
        if self.closed:
            raise Denied(f"you may not write {path}")
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        await self._meet(path)
        return await super().create(path, value, lease=lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        await self._meet(path)
        return await super().put(path, value, revision=revision, lease=lease)

    async def delete(self, path: str, *, revision: int | None) -> int:
        await self._meet(path)
        return await super().delete(path, revision=revision)


class Cluster:
    """A store, and the keeping of some hosts that follow it."""

    def __init__(self) -> None:
        self.guarded = Guarded()
        self.resources = Resources(self.guarded.store)
        self.status = resync.Status()

    @contextlib.asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[dict[str, HostEndpoints]]:
        """Agents of these names, the first of which is the quickest to clear up behind others."""
        kept = {
            name: HostEndpoints(
                name, lambda key: key.path in self.status.bad, rest=lambda number=number: 1.0 + number
            )
            for number, name in enumerate(names)
        }
        tasks = [asyncio.create_task(each.run(self.guarded)) for each in kept.values()]
        tasks += [asyncio.create_task(self._follow(each)) for each in kept.values()]
        try:
            yield kept
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()

    async def _follow(self, kept: HostEndpoints) -> None:
        async for batch in resync.updates(
            self.guarded.store, decode=codec.decode, pause=asyncio.sleep, clock=now, status=self.status
        ):
            kept.take(batch)

    async def apply(self, *resources: Resource) -> None:
        for each in resources:
            await self.resources.apply(each)

    async def delete(self, kind: str, name: str) -> None:
        await self.resources.delete(Key(kind, name))

    async def stored(self, *, after: float = 60.0) -> dict[str, HostEndpoint]:
        """The host endpoints that there are after some seconds."""
        await asyncio.sleep(after)
        found = await self.resources.list("HostEndpoint")
        return {each.metadata.name: each for each in found if isinstance(each, HostEndpoint)}


def run(body: Callable[[Cluster], Awaitable[None]]) -> None:
    async def session() -> None:
        await body(Cluster())

    clockwork.run(session())


def test_what_is_asked_for_is_made_follows_the_node_and_goes() -> None:
    """Created with the setting, updated with labels and addresses, removed with the setting; nothing is written twice."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(node("one", "172.16.0.1", labels={"role": "db"}))
        async with cluster.running("one"):
            assert await cluster.stored() == {}
            await cluster.apply(switched())
            (made,) = (await cluster.stored()).values()
            assert made.metadata.name == "one-auto-hep"
            assert made.metadata.uid
            assert made.metadata.labels == {"role": "db", **MARK}
            assert len(cluster.guarded.writes) == 1

            await cluster.apply(node("one", "172.16.0.2", labels={"role": "web"}))
            (changed,) = (await cluster.stored()).values()
            assert changed.metadata.labels == {"role": "web", **MARK}
            assert changed.spec.expected_ips == ["172.16.0.2"]
            assert changed.metadata.uid == made.metadata.uid
            assert len(cluster.guarded.writes) == 2

            await cluster.apply(switched("Disabled"))
            assert await cluster.stored() == {}

    run(body)


def test_each_agent_sees_to_its_own_node() -> None:
    """Two agents make two, one each, and without any Conflict."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one", "172.16.0.1"), node("two", "172.16.0.2"))
        async with cluster.running("one", "two"):
            assert sorted(await cluster.stored()) == ["one-auto-hep", "two-auto-hep"]
            assert len(cluster.guarded.writes) == 2

    run(body)


def test_nothing_is_written_before_the_facts_are_complete() -> None:
    """Of half a picture nobody can say what is too much."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(host_endpoint("one-auto-hep", "one", labels=MARK, interface="*"))
        kept = HostEndpoints("one", rest=lambda: 0.0)
        task = asyncio.create_task(kept.run(cluster.guarded))
        async for batch in resync.updates(
            cluster.guarded.store, decode=codec.decode, pause=asyncio.sleep, clock=now
        ):
            kept.take(batch[:-1])
            break
        await asyncio.sleep(600)
        task.cancel()
        assert cluster.guarded.writes == []

    run(body)


def test_what_people_change_or_remove_is_restored() -> None:
    """They are a function of the node and the setting alone; annotations of others stay."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one", "172.16.0.1"))
        async with cluster.running("one"):
            (made,) = (await cluster.stored()).values()
            metadata = replace(made.metadata, annotations={"example.com/a": "b"}, resource_version=None)
            await cluster.apply(replace(made, metadata=metadata, spec=replace(made.spec, profiles=[])))
            (restored,) = (await cluster.stored()).values()
            assert restored.spec == made.spec
            assert restored.metadata.annotations == {"example.com/a": "b"}
            await cluster.delete("HostEndpoint", "one-auto-hep")
            assert list(await cluster.stored()) == ["one-auto-hep"]

    run(body)


def test_what_somebody_else_made_is_never_touched() -> None:
    """Whatever its name: one in the way is told of, and once it is gone the automatic one is made."""
    theirs = host_endpoint("one-auto-hep", "one", interface="eth0")

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one", "172.16.0.1"), theirs)
        await cluster.apply(host_endpoint("other", "gone", interface="eth0"))
        async with cluster.running("one") as kept:
            assert (await cluster.stored())["one-auto-hep"].spec == theirs.spec
            assert any("HostEndpoint/one-auto-hep was made by somebody" in it for it in kept["one"].problems)
            await cluster.apply(switched("Disabled"))
            assert sorted(await cluster.stored()) == ["one-auto-hep", "other"]
            assert kept["one"].problems == ()
            await cluster.apply(switched())
            await cluster.delete("HostEndpoint", "one-auto-hep")
            assert (await cluster.stored())["one-auto-hep"].spec.interface_name == "*"
            assert kept["one"].problems == ()

    run(body)


def test_what_somebody_takes_over_meanwhile_is_not_removed() -> None:
    """Between the look and the write the label may go: then the write is none."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one", "172.16.0.1"))
        async with cluster.running("one"):
            await cluster.stored()
            mine = host_endpoint("one-auto-hep", "one", interface="eth7")
            cluster.guarded.meanwhile = lambda: cluster.apply(mine)
            await cluster.apply(switched("Disabled"))
            assert (await cluster.stored())["one-auto-hep"].spec == mine.spec

    run(body)


def test_what_a_node_leaves_behind_is_cleared_up_by_others() -> None:
    """Whether or not anything is made any more; mostly by one of them, and what people made stays."""

    async def body(cluster: Cluster) -> None:
        left = host_endpoint("gone-auto-hep", "gone", labels=MARK, interface="*")
        await cluster.apply(node("one"), node("two"), left, host_endpoint("mine", "gone", interface="eth0"))
        async with cluster.running("one", "two") as kept:
            assert list(await cluster.stored()) == ["mine"]
            assert len(cluster.guarded.writes) == 1
            assert all(each.error is None for each in kept.values())

    run(body)


def test_a_node_that_goes_takes_its_own_along() -> None:
    """Also while its agent still runs, which then makes no new one."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one"), node("two"))
        async with cluster.running("one", "two"):
            assert len(await cluster.stored()) == 2
            await cluster.delete("Node", "one")
            assert list(await cluster.stored()) == ["two-auto-hep"]

    run(body)


def test_what_cannot_be_read_is_not_gone() -> None:
    """A setting or a node that is damaged takes no host endpoint away; what is made comes with its repair."""

    async def body(cluster: Cluster) -> None:
        await cluster.apply(switched(), node("one", "172.16.0.1"), node("two", "172.16.0.2"))
        async with cluster.running("one", "two"):
            made = await cluster.stored()
            assert len(made) == 2
            for key in (CONFIGURATION, Key("Node", "one"), Key("Node", "two")):
                await cluster.guarded.store.put(key.path, b"{", revision=None)
            assert await cluster.stored() == made
            await cluster.guarded.store.delete(Key("Node", "one").path, revision=None)
            await cluster.apply(node("one", "172.16.0.9"), switched())
            assert (await cluster.stored())["one-auto-hep"].spec.expected_ips == ["172.16.0.9"]

    run(body)


def test_names_that_two_nodes_share_are_no_contest() -> None:
    """Node a with template b-c and node a-b with template c: the first that is there has it, the other is told."""
    cidrs = {"interfaceCIDRs": ["0.0.0.0/0"]}
    setting = switched(
        createDefaultHostEndpoint="Disabled",
        templates=[
            {"generateName": "b-c", "nodeSelector": "n == 'a'", **cidrs},
            {"generateName": "c", "nodeSelector": "n == 'a-b'", **cidrs},
        ],
    )

    async def body(cluster: Cluster) -> None:
        await cluster.apply(
            setting,
            node("a", "172.16.0.1", labels={"n": "a"}),
            node("a-b", "172.16.0.2", labels={"n": "a-b"}),
        )
        async with cluster.running("a", "a-b") as kept:
            assert list(await cluster.stored()) == ["a-b-c-auto-hep"]
            assert len(cluster.guarded.writes) <= 3
            assert [bool(each.problems) for each in kept.values()].count(True) == 1

    run(body)


def test_a_right_that_is_missing_is_told_and_waited_for() -> None:
    """The error says which role it takes; when it is there, everything is made up for."""

    async def body(cluster: Cluster) -> None:
        cluster.guarded.closed = True
        await cluster.apply(switched(), node("one", "172.16.0.1"))
        async with cluster.running("one") as kept:
            assert await cluster.stored(after=3600) == {}
            assert "calico-host-endpoints" in (kept["one"].error or "")
            assert len(cluster.guarded.writes) < 200
            cluster.guarded.closed = False
            assert list(await cluster.stored()) == ["one-auto-hep"]
            assert kept["one"].error is None

    run(body)


def test_a_write_that_may_have_happened_is_looked_at_again() -> None:
    """Lost answers make no second one, and no error that stays."""

    async def body(cluster: Cluster) -> None:
        for happened in (True, False):
            cluster.guarded.fail_next_write(happened=happened)
            await cluster.apply(switched(), node("one", "172.16.0.1"))
            async with cluster.running("one") as kept:
                assert list(await cluster.stored()) == ["one-auto-hep"]
                assert kept["one"].error is None
                await cluster.delete("HostEndpoint", "one-auto-hep")

    run(body)
