"""Resources in a store, as values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from calico.datastore.api import Conflict, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import ATTEMPTS, Resources
from calico.model.endpoint import WorkloadEndpoint
from calico.model.errors import ModelError
from calico.model.keys import Key, key_of
from calico.model.node import Node
from calico.model.policy import NetworkPolicy, PolicySpec
from calico.model.resource import Metadata, Resource

NOW = "2026-01-02T03:04:05Z"
A = Key("Node", "a")


def node(name: str = "a", **metadata: object) -> Node:
    return Node(metadata=Metadata(name=name, **metadata))


def label(resource: Resource, value: str) -> Resource:
    return replace(resource, metadata=replace(resource.metadata, labels={"value": value}))


class Rival(FaultyStore):
    """A store in which somebody else is quicker: before each of the next ``times`` puts it puts something itself."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.times = 0
        self.act: Callable[[], Awaitable[object]] | None = None

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        if self.times and self.act is not None:
            self.times -= 1
            await self.act()
        return await super().put(path, value, revision=revision, lease=lease)


def run(test: Callable[[Rival, Resources], Awaitable[None]]) -> None:
    numbers = iter(range(100))
    store = Rival()
    resources = Resources(store, now=lambda: NOW, uid=lambda: f"uid-{next(numbers)}")
    asyncio.run(test(store, resources))


def test_created_resource_is_stamped() -> None:
    """A new resource gets a uid and a creation time, and its revision as resourceVersion, which is not stored."""

    async def test(store: Rival, resources: Resources) -> None:
        created = await resources.create(node(resource_version="77"))
        stored = await store.get(A.path)
        assert stored is not None
        assert created == node(uid="uid-0", creation_timestamp=NOW, resource_version=str(stored.revision))
        assert await resources.get(A) == created
        assert json.loads(stored.value)["metadata"] == {"name": "a", "uid": "uid-0", "creationTimestamp": NOW}

    run(test)


def test_identity_that_a_resource_brings_is_kept() -> None:
    """A resource that is created with a uid and a time, say from a backup, keeps them."""

    async def test(_: Rival, resources: Resources) -> None:
        created = await resources.create(node(uid="mine", creation_timestamp="2020-01-01T00:00:00Z"))
        assert (created.metadata.uid, created.metadata.creation_timestamp) == ("mine", "2020-01-01T00:00:00Z")

    run(test)


def test_create_refuses_what_exists() -> None:
    """Creating what exists is a conflict."""

    async def test(_: Rival, resources: Resources) -> None:
        await resources.create(node())
        with pytest.raises(Conflict):
            await resources.create(node())

    run(test)


def test_missing_resource() -> None:
    """What is not there is None when read, and a conflict when updated, changed or deleted."""

    async def test(_: Rival, resources: Resources) -> None:
        assert await resources.get(A) is None
        for act in (
            resources.update(node()),
            resources.update(node(resource_version="1")),
            resources.modify(A, lambda resource: resource),
            resources.delete(A),
            resources.delete(A, resource_version="1"),
            resources.delete(A, resource_version="x"),
        ):
            with pytest.raises(Conflict) as conflict:
                await act
            assert conflict.value.current is None

    run(test)


def test_update_keeps_the_identity() -> None:
    """An update without uid and time, or with those of another cluster, keeps the stored ones."""

    async def test(_: Rival, resources: Resources) -> None:
        created = await resources.create(node())
        for given in (
            node(labels={"x": "1"}),
            node(labels={"x": "2"}, uid="other", creation_timestamp="2020"),
        ):
            updated = await resources.update(given)
            assert updated.metadata.labels == given.metadata.labels
            assert (updated.metadata.uid, updated.metadata.creation_timestamp) == ("uid-0", NOW)
            assert updated == await resources.get(A)
        assert updated.metadata.resource_version != created.metadata.resource_version

    run(test)


def test_stale_version_is_a_conflict() -> None:
    """An update or deletion of a version that is no longer the stored one fails, and changes nothing."""

    async def test(_: Rival, resources: Resources) -> None:
        first = await resources.create(node())
        second = await resources.update(label(first, "2"))
        for version in (first.metadata.resource_version, "nonsense"):
            stale = node(resource_version=version)
            for act in (
                resources.update(stale),
                resources.apply(stale),
                resources.delete(A, resource_version=version),
            ):
                with pytest.raises(Conflict) as conflict:
                    await act
                assert str(conflict.value.current) == second.metadata.resource_version
        assert await resources.get(A) == second
        await resources.delete(A, resource_version=second.metadata.resource_version)
        assert await resources.get(A) is None

    run(test)


def test_apply_creates_or_updates() -> None:
    """Applying makes what is missing, and replaces what is there."""

    async def test(_: Rival, resources: Resources) -> None:
        created = await resources.apply(node())
        applied = await resources.apply(node(labels={"x": "1"}))
        assert applied.metadata.uid == created.metadata.uid
        assert await resources.get(A) == applied

    run(test)


def test_apply_survives_deletion_in_between() -> None:
    """Applying what another deletes between the look and the write creates it anew."""

    async def test(store: Rival, resources: Resources) -> None:
        await resources.create(node())
        store.act, store.times = lambda: store.delete(A.path, revision=None), 1
        applied = await resources.apply(node(labels={"x": "1"}))
        assert applied.metadata.uid == "uid-2"
        assert await resources.get(A) == applied

    run(test)


@pytest.mark.parametrize("verb", ["update", "modify"])
def test_write_is_tried_again_when_others_are_quicker(verb: str) -> None:
    """A write without a version of its own reads again and succeeds, unless others are quicker each time."""

    async def test(store: Rival, resources: Resources) -> None:
        created = await resources.create(node())
        other = Resources(store.store)

        async def write(value: str) -> Resource:
            if verb == "update":
                return await resources.update(node(labels={"value": value}))
            return await resources.modify(A, lambda resource: label(resource, value))

        store.act = lambda: other.update(node(labels={"value": "other"}))
        store.times = ATTEMPTS - 1
        written = await write("mine")
        assert written.metadata.labels == {"value": "mine"}
        assert written.metadata.uid == created.metadata.uid
        store.times = ATTEMPTS
        with pytest.raises(Conflict):
            await write("too late")
        current = await resources.get(A)
        assert current is not None
        assert current.metadata.labels == {"value": "other"}

    run(test)


def test_modify_sees_what_is_stored() -> None:
    """Each attempt of a modification starts from what is stored then, so no other change is lost."""

    async def test(store: Rival, resources: Resources) -> None:
        await resources.create(node())
        seen = []

        def add(resource: Resource) -> Resource:
            seen.append(dict(resource.metadata.labels))
            labels = {**resource.metadata.labels, "mine": "1"}
            return replace(resource, metadata=replace(resource.metadata, labels=labels))

        store.act, store.times = lambda: Resources(store.store).update(node(labels={"other": "1"})), 1
        assert (await resources.modify(A, add)).metadata.labels == {"mine": "1", "other": "1"}
        assert seen == [{}, {"other": "1"}]

    run(test)


def test_modification_that_changes_nothing_is_not_written() -> None:
    """When nothing changes nothing is written."""

    async def test(_: Rival, resources: Resources) -> None:
        created = await resources.create(node())
        assert await resources.modify(A, lambda resource: resource) == created

    run(test)


def test_list_is_by_kind_and_namespace() -> None:
    """A listing has all of a kind, or all of a namespace."""

    async def test(_: Rival, resources: Resources) -> None:
        def endpoint(namespace: str, name: str) -> WorkloadEndpoint:
            return WorkloadEndpoint(metadata=Metadata(name=name, namespace=namespace))

        await resources.create(node())
        for namespace, name in (("y", "a"), ("x", "b"), ("x", "a"), ("xx", "a")):
            await resources.create(endpoint(namespace, name))

        async def listed(namespace: str = "") -> list[str]:
            return [str(key_of(found)) for found in await resources.list("WorkloadEndpoint", namespace)]

        assert await listed("x") == ["WorkloadEndpoint/x/a", "WorkloadEndpoint/x/b"]
        assert len(await listed()) == 4
        assert await listed("z") == []

    run(test)


def test_bad_values_in_a_listing() -> None:
    """A value that is no resource fails a listing, or is told to whoever wants to go on."""

    async def test(store: Rival, resources: Resources) -> None:
        good = await resources.create(node())
        bad_key = Key("Node", "b")
        await store.put(bad_key.path, b"nonsense", revision=None)
        with pytest.raises(ModelError):
            await resources.list("Node")
        with pytest.raises(ModelError):
            await resources.get(bad_key)
        told = []
        assert await resources.list("Node", bad=lambda key, _: told.append(key)) == (good,)
        assert told == [bad_key]
        await resources.apply(node("b"))
        assert len(await resources.list("Node")) == 2

    run(test)


def test_record_is_seen_as_a_resource() -> None:
    """IPAM's records are shown as the kinds that are views of them."""

    async def test(store: Rival, resources: Resources) -> None:
        key = Key("BlockAffinity", "10.0.0.0/26", "host:a")
        await store.put(key.path, b'{"state":"confirmed"}', revision=None)
        found = await resources.get(key)
        assert found is not None
        assert (found.kind, found.metadata.name) == ("BlockAffinity", "a-10-0-0-0-26")

    run(test)


def test_lost_answer_is_passed_on() -> None:
    """A write whose answer is lost is not silently repeated: its caller has to look."""

    async def test(store: Rival, resources: Resources) -> None:
        store.fail_next_write(happened=True)
        with pytest.raises(Unavailable):
            await resources.create(node())
        assert await resources.get(A) is not None
        store.fail_next_write(happened=False)
        with pytest.raises(Unavailable):
            await resources.create(node("b"))
        assert await resources.get(Key("Node", "b")) is None

    run(test)


def test_stamps_by_default() -> None:
    """Without other instructions uids differ, and times are UTC to the second."""

    async def test() -> None:
        resources = Resources(MemoryStore())
        first, second = await resources.create(node("a")), await resources.create(node("b"))
        assert first.metadata.uid != second.metadata.uid
        stamp = first.metadata.creation_timestamp
        assert stamp is not None
        assert len(stamp) == len(NOW)
        assert stamp.endswith("Z")

    asyncio.run(test())


# --- what other writers left -------------------------------------------------------------------------

POLICY = "/calico/resources/v3/projectcalico.org/networkpolicies/shop/"
OLD = b'{"kind":"NetworkPolicy","metadata":{"name":"default.web","uid":"u"},"spec":{"order":1,"hue":"blue"}}'


def web(order: int, tier: str = "default", name: str = "web") -> NetworkPolicy:
    return NetworkPolicy(
        metadata=Metadata(name=name, namespace="shop"), spec=PolicySpec(tier=tier, order=order)
    )


@pytest.mark.parametrize("verb", ["update", "apply", "modify"])
def test_what_a_newer_writer_stored_is_kept(verb: str) -> None:
    """A field that this program does not know stays, however the resource is written."""

    async def test(store: Rival, resources: Resources) -> None:
        await store.put(A.path, b'{"kind":"Node","spec":{"rack":7},"metadata":{"name":"a"}}', revision=None)
        if verb == "modify":
            await resources.modify(A, lambda resource: label(resource, "x"))
        else:
            await getattr(resources, verb)(node(labels={"value": "x"}))
        entry = await store.get(A.path)
        assert entry is not None
        tree = json.loads(entry.value)
        assert (tree["spec"]["rack"], tree["metadata"]["labels"]) == (7, {"value": "x"})

    run(test)


@pytest.mark.parametrize("verb", ["update", "apply", "modify"])
def test_a_policy_of_an_old_store_is_changed_in_its_place(verb: str) -> None:
    """Asked for web, default.web is meant where web itself is not; there is never a second copy."""

    async def test(store: Rival, resources: Resources) -> None:
        await store.put(f"{POLICY}default.web", OLD, revision=None)
        key = Key("NetworkPolicy", "web", "shop")
        found = await resources.get(key)
        assert found is not None
        assert found.metadata.name == "default.web"
        with pytest.raises(Conflict):
            await resources.create(web(2))
        if verb == "modify":
            await resources.modify(key, lambda resource: replace(resource, spec=PolicySpec(order=2)))
        else:
            await getattr(resources, verb)(web(2))
        (entry,) = (await store.list("/")).entries
        tree = json.loads(entry.value)
        assert (entry.path, tree["metadata"]["name"]) == (f"{POLICY}default.web", "default.web")
        assert (tree["metadata"]["uid"], tree["spec"]["order"], tree["spec"]["hue"]) == ("u", 2, "blue")
        await resources.delete(key)
        assert (await store.list("/")).entries == ()

    run(test)


def test_only_a_policy_of_the_default_tier_had_another_name() -> None:
    """A policy of another tier is another policy; one that is stored under the plain name is meant first."""

    async def test(store: Rival, resources: Resources) -> None:
        await store.put(f"{POLICY}default.web", OLD, revision=None)
        await resources.apply(web(3, tier="security"))
        found = await resources.get(Key("NetworkPolicy", "web", "shop"))
        assert found is not None
        assert found.metadata.name == "web"
        await resources.delete(Key("NetworkPolicy", "web", "shop"))
        assert [each.metadata.name for each in await resources.list("NetworkPolicy")] == ["default.web"]

    run(test)
