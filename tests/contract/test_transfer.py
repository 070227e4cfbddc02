"""Everything of a store, moved to another one of any kind, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from calico.datastore.api import Store, Unavailable
from calico.datastore.lock import CLUSTER, is_locked, set_lock
from calico.datastore.transfer import (
    NotEmpty,
    Unequal,
    compare,
    fill,
    in_the_way,
    lasting,
    plan,
    replace,
)
from calico.model.errors import ModelError
from calico.model.keys import ROOT, Key, parse_path
from support.contents import CLUSTER as LOCKED
from support.contents import contents, locked_contents
from support.stores import STORES, World, run_in

FEW = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def resource(kind: str, name: str, namespace: str = "", **spec: Any) -> tuple[str, bytes]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    tree = {"kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": metadata, "spec": spec}
    return Key(kind, name, namespace).path, json.dumps(tree).encode()


CONTENT = dict(
    [
        resource("Tier", "security", order=1),
        resource("GlobalNetworkPolicy", "security.deny", tier="security"),
        resource("WorkloadEndpoint", "n1-k8s-pod-eth0", "red", node="n1"),
        resource("IPPool", "p", cidr="10.0.0.0/16"),
        resource("Node", "n1"),
        ("/calico/ipam/v2/handle/h", b'{"block":{}}'),
        ("/calico/newer/thing", b"\x00\xff"),
        LOCKED,
    ]
)
ALIVE = "/calico/felix/v2/no-region/host/n1/status"
TIER = resource("Tier", "security")[0]


async def held(store: Store) -> dict[str, bytes]:
    return {entry.path: entry.value for entry in (await store.list(ROOT)).entries}


@pytest.fixture(params=STORES)
def run(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    directories = (tmp_path / str(number) for number in range(1000))
    return lambda test: run_in(request.param, next(directories), test)


Run = Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]


def test_an_empty_store_is_filled(run: Run) -> None:
    """With everything, and a count of it; it stays locked."""

    async def test(world: World) -> None:
        advanced: list[None] = []
        kinds = await fill(world.store, CONTENT, ready=False, advance=lambda: advanced.append(None))
        assert await held(world.store) == {**CONTENT, CLUSTER.path: (await held(world.store))[CLUSTER.path]}
        assert await is_locked(world.store)
        assert kinds["Tier"] == kinds["IPAMHandle"] == kinds["other keys"] == kinds["ClusterInformation"] == 1
        assert len(advanced) == len(CONTENT) - 1

    run(test)


def test_what_lives_by_a_lease_is_not_moved(run: Run) -> None:
    """A host that is dead must not come to life by a restore."""

    async def test(world: World) -> None:
        await fill(world.store, {**CONTENT, ALIVE: b"{}"}, ready=True)
        assert await held(world.store) == CONTENT
        lasts = {"/calico/felix/v2/no-region/host/n1/last_reported_status": b"{}"}
        gone = {"/calico/felix/v1/host/n1/status": b"", "/calico/openstack/v2/r/neutron_election_x": b""}
        assert lasting({**lasts, **gone}) == lasts

    run(test)


@pytest.mark.parametrize("ready", [False, True])
def test_the_lock_is_in_the_end_as_asked(run: Run, ready: bool) -> None:
    """A restore brings back the lock of the file, or that there was none; an import always leaves one."""

    async def test(world: World) -> None:
        unlocked = LOCKED[1].replace(b"false", b"true")
        await fill(world.store, {**CONTENT, CLUSTER.path: unlocked}, ready=ready)
        assert await is_locked(world.store) is not ready
        assert json.loads((await held(world.store))[CLUSTER.path])["spec"]["clusterGUID"] == "deadbeef"

    async def without(world: World) -> None:
        await fill(world.store, {"/calico/x": b"1"}, ready=ready)
        assert await held(world.store) == {"/calico/x": b"1"} if ready else await is_locked(world.store)

    run(test)
    run(without)


def test_a_store_that_holds_something_else_is_left_alone(run: Run) -> None:
    """What is in the way is said, by kind and name; nothing is written."""

    async def test(world: World) -> None:
        stranger = dict([resource("NetworkPolicy", "web", "shop")])
        for path, value in {**stranger, "/calico/odd": b"", **dict([resource("Tier", "default")])}.items():
            await world.store.create(path, value)
        before = await held(world.store)
        with pytest.raises(
            NotEmpty, match=r"1 other keys, 1 NetworkPolicy \(/calico/odd, NetworkPolicy/shop/web\)"
        ):
            await fill(world.store, CONTENT, ready=True)
        assert await held(world.store) == before
        assert set(await in_the_way(world.store, CONTENT)) == {*stranger, "/calico/odd"}

    run(test)


def test_what_clients_make_by_themselves_is_not_in_the_way(run: Run) -> None:
    """The built-in tiers, and the cluster's identity, become those of the file."""

    async def test(world: World) -> None:
        await set_lock(world.store, locked=True)
        await set_lock(world.store, locked=False)
        for name in ("default", "kube-admin"):
            await world.store.create(*resource("Tier", name, order=5))
        await world.store.put(ALIVE, b"{}", revision=None)
        content = {**CONTENT, **dict([resource("Tier", "default", order=9)])}
        await fill(world.store, content, ready=True)
        assert await held(world.store) == {
            **content,
            ALIVE: b"{}",
            **dict([resource("Tier", "kube-admin", order=5)]),
        }

    run(test)


class Failing:
    """A store that is lost after some writes."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store = store
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        self._spend()
        return await self._store.create(path, value, lease=lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        self._spend()
        return await self._store.put(path, value, revision=revision, lease=lease)

    def _spend(self) -> None:
        if not self._left:
            raise Unavailable("lost")
        self._left -= 1


def test_a_filling_that_was_interrupted_is_gone_on_with(run: Run) -> None:
    """After any number of writes: the store is locked, and the same again completes it."""

    async def test(world: World) -> None:
        for writes in range(len(CONTENT)):
            store = Failing(world.store, writes)
            with pytest.raises(Unavailable, match="lost"):
                await fill(store, CONTENT, ready=False)
            assert await is_locked(world.store) is (writes > 0)
            await fill(world.store, CONTENT, ready=True)
            assert await held(world.store) == CONTENT
            for path in CONTENT:
                await world.store.delete(path, revision=None)

    run(test)


def test_what_others_write_meanwhile_is_noticed(run: Run) -> None:
    """Before, over or beside what is being stored: it is not overwritten, and the store stays locked."""

    async def test(world: World) -> None:
        waiting = {TIER: b"other", "/calico/new": b""}

        async def other() -> None:
            while waiting:
                path, value = waiting.popitem()
                await world.store.put(path, value, revision=None)

        with pytest.raises(Unequal, match=r"1 different, Tier/security; 1 too many, /calico/new"):
            await fill(_Slow(world.store, other), CONTENT, ready=True)
        assert await is_locked(world.store)
        assert (await held(world.store))[TIER] == b"other"

    run(test)


class _Slow(Failing):
    """A store that others write to before the last write."""

    def __init__(self, store: Store, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store, 1000)
        self._before = before

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        if path != CLUSTER.path:
            await self._before()
        return await super().create(path, value, lease=lease)


@FEW
@given(content=locked_contents)
def test_any_content_goes_into_any_store(run: Run, content: dict[str, bytes]) -> None:
    """Bytes for bytes, known or not."""

    async def test(world: World) -> None:
        await fill(world.store, content, ready=True)
        assert await held(world.store) == content

    run(test)


# --- over what is there ------------------------------------------------------------------------------


@FEW
@given(before=contents, after=contents)
def test_a_store_becomes_equal_to_the_content(
    run: Run, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """From anything to anything; a second time there is nothing to do."""

    async def test(world: World) -> None:
        for path, value in before.items():
            await world.store.create(path, value)
        assert not any(await replace(world.store, after, await plan(world.store, after)))
        reported = {path: value for path, value in before.items() if path.startswith("/calico/felix/")}
        kept = {path: value for path, value in after.items() if not path.startswith("/calico/felix/")}
        assert await held(world.store) == {**kept, **reported}
        assert (await plan(world.store, after)).size == 0

    run(test)


def test_changes_come_in_an_order_in_which_nothing_is_left_unprotected(run: Run) -> None:
    """Tiers, policies, endpoints; then what is removed: endpoints, policies, tiers."""

    async def test(world: World) -> None:
        old = dict(
            [
                resource("Tier", "old"),
                resource("NetworkPolicy", "old.p", "red", tier="old"),
                resource("WorkloadEndpoint", "old", "red"),
            ]
        )
        for path, value in old.items():
            await world.store.create(path, value)
        revision = (await world.store.list(ROOT)).revision
        await replace(world.store, CONTENT, await plan(world.store, CONTENT))
        order = []
        async for events in world.store.watch(ROOT, revision=revision):
            order += [(event.value is None, parse_path(event.path)) for event in events]
            if len(order) == len(CONTENT) + len(old):
                break
        kinds = [(gone, key.kind if key else "") for gone, key in order]
        assert [kind for kind in kinds if kind[1] in {"Tier", "GlobalNetworkPolicy", "WorkloadEndpoint"}] == [
            (False, "Tier"),
            (False, "GlobalNetworkPolicy"),
            (False, "WorkloadEndpoint"),
            (True, "WorkloadEndpoint"),
            (True, "Tier"),
        ]
        assert kinds.index((True, "NetworkPolicy")) == len(kinds) - 2

    run(test)


def test_what_changed_after_the_plan_is_not_overwritten(run: Run) -> None:
    """Nobody loses an update to a restore without anybody being told."""

    async def test(world: World) -> None:
        await world.store.create(TIER, b"before")
        await world.store.create("/calico/gone", b"before")
        todo = await plan(world.store, CONTENT)
        await world.store.put(TIER, b"newer", revision=None)
        await world.store.put("/calico/gone", b"newer", revision=None)
        difference = await replace(world.store, CONTENT, todo)
        assert difference == ((), (TIER,), ("/calico/gone",))
        assert (await held(world.store))[TIER] == b"newer"

    run(test)


# --- one moment --------------------------------------------------------------------------------------


def test_a_listing_is_of_one_moment_whatever_others_write(run: Run) -> None:
    """Two keys are always written one after the other; no listing has the second without the first."""

    async def test(world: World) -> None:
        other = world.another()
        ended = asyncio.Event()

        async def write() -> None:
            for number in range(40):
                for path in ("/calico/first", "/calico/second"):
                    await other.put(path, str(number).encode(), revision=None)
                    await asyncio.sleep(0)
            ended.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            seen = 0
            while not ended.is_set():
                content = await held(world.store)
                await asyncio.sleep(0)
                if "/calico/second" in content:
                    seen += 1
                    ahead = int(content["/calico/first"]) - int(content["/calico/second"])
                    assert ahead in {0, 1}
        assert seen

    run(test)


# --- the lock ----------------------------------------------------------------------------------------


def test_a_store_is_locked_and_unlocked(run: Run) -> None:
    """One that has no identity gets one with the lock; what newer writers put there stays."""

    async def test(world: World) -> None:
        assert not await is_locked(world.store)
        assert not await set_lock(world.store, locked=False)
        assert await held(world.store) == {}
        assert [await set_lock(world.store, locked=True) for _ in range(2)] == [True, False]
        tree = json.loads((await held(world.store))[CLUSTER.path])
        assert (len(tree["spec"]["clusterGUID"]), tree["spec"]["datastoreReady"]) == (32, False)
        tree["spec"]["newer"] = 1
        await world.store.put(CLUSTER.path, json.dumps(tree).encode(), revision=None)
        assert [await set_lock(world.store, locked=False) for _ in range(2)] == [True, False]
        assert not await is_locked(world.store)
        assert json.loads((await held(world.store))[CLUSTER.path])["spec"]["newer"] == 1

    run(test)


def test_a_lock_that_cannot_be_read_is_not_taken_for_open(run: Run) -> None:
    """Whoever wrote it has to say."""

    async def test(world: World) -> None:
        await world.store.create(CLUSTER.path, b"?")
        with pytest.raises(ModelError, match="ClusterInformation/default"):
            await is_locked(world.store)
        with pytest.raises(ModelError, match="ClusterInformation/default"):
            await set_lock(world.store, locked=True)

    run(test)


def test_values_are_compared_by_what_they_say() -> None:
    """1, 1.0 and true are three things; the order of fields and the way of writing are none."""
    wanted = {"a": b'{"x":1,"y":"&"}', "b": b"1", "c": b"1", "d": b"\xff", "e": b'{"a":1,"a":1}'}
    found = {"a": b'{"y":"\\u0026", "x":1}', "b": b"1.0", "c": b"true", "d": b"\xff", "e": b'{"a":1}'}
    assert compare(wanted, found).different == ("b", "c", "e")
