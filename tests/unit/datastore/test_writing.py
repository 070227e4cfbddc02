"""What people write: admitted, compared and stored, also when many write at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from calico.datastore.admission import NotAdmitted
from calico.datastore.api import Conflict, Store, Unavailable
from calico.datastore.faulty import FaultyStore
from calico.datastore.memory import MemoryStore
from calico.datastore.sqlite import SQLiteStore
from calico.datastore.typed import ATTEMPTS, Resources
from calico.datastore.writing import CHANGES, Absent, Batch, Verb, change, exists, write
from calico.model import codec
from calico.model.keys import Key, key_of
from calico.model.networkset import GlobalNetworkSet
from calico.model.node import Node, NodeStatus
from calico.model.policy import GlobalNetworkPolicy, GlobalPolicySpec
from calico.model.pool import IPPool
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted
from support.builders import pool, tier

SET = Key("GlobalNetworkSet", "shared")


def network_set(name: str = "shared", **labels: str) -> GlobalNetworkSet:
    return GlobalNetworkSet(metadata=Metadata(name=name, labels=labels))


def run(work: Callable[[Store, Resources], Awaitable[None]], store: Store | None = None) -> None:
    async def body() -> None:
        used = store or MemoryStore()
        await work(used, Resources(used))

    asyncio.run(body())


class Rival(FaultyStore):
    """A store in which somebody else acts before each of the next ``times`` writes."""

    def __init__(self, act: Callable[[Store], Awaitable[object]], times: int) -> None:
        super().__init__(MemoryStore())
        self.act = act
        self.times = times

    async def _first(self) -> None:
        if self.times:
            self.times -= 1
            await self.act(self.store)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        await self._first()
        return await super().put(path, value, revision=revision, lease=lease)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        await self._first()
        return await super().create(path, value, lease=lease)


# --- one ---------------------------------------------------------------------------------------------


def test_the_verbs_differ_in_what_may_be_there() -> None:
    """create wants nothing, replace something, apply takes either."""

    async def work(_: Store, client: Resources) -> None:
        with pytest.raises(Absent, match="GlobalNetworkSet/shared does not exist"):
            await write(client, network_set(), Verb.REPLACE)
        first = await write(client, network_set(a="1"), Verb.CREATE)
        with pytest.raises(Conflict) as conflict:
            await write(client, network_set(a="2"), Verb.CREATE)
        assert exists(conflict.value)
        for verb, value in ((Verb.REPLACE, "3"), (Verb.APPLY, "4")):
            written = await write(client, network_set(a=value), verb)
            assert written == await client.get(SET)
            assert (written.metadata.labels, written.metadata.uid) == ({"a": value}, first.metadata.uid)

    run(work)


def test_the_same_again_is_not_stored_again() -> None:
    """Nobody who watches is woken by an apply that changes nothing."""

    async def work(store: Store, client: Resources) -> None:
        first = await write(client, network_set(a="1"), Verb.APPLY)
        assert await write(client, network_set(a="1"), Verb.APPLY) == first
        assert await change(client, SET, lambda before: before) == first
        assert (await store.list("/")).revision == int(first.metadata.resource_version or 0)

    run(work)


def test_a_version_is_a_condition_of_an_update() -> None:
    """One that is no longer stored is a conflict at once; the stored one, or none, is not."""

    async def work(_: Store, client: Resources) -> None:
        first = await write(client, network_set(a="1"), Verb.APPLY)
        second = await write(
            client, replace(first, metadata=replace(first.metadata, labels={})), Verb.REPLACE
        )
        for verb in (Verb.REPLACE, Verb.APPLY):
            with pytest.raises(Conflict):
                await write(client, first, verb)
        with pytest.raises(Conflict):
            await change(client, SET, lambda _: first)
        assert await client.get(SET) == second

    run(work)


@pytest.mark.parametrize("times", [ATTEMPTS - 1, ATTEMPTS])
def test_others_are_quicker_so_many_times_and_no_more(times: int) -> None:
    """A write without a version is judged and tried again, five times in all."""
    number = iter(range(100))

    async def act(store: Store) -> None:
        await Resources(store).apply(network_set(rival=str(next(number))))

    async def work(_: Store, client: Resources) -> None:
        if times == ATTEMPTS:
            with pytest.raises(Conflict):
                await write(client, network_set(mine="1"), Verb.APPLY)
            return
        written = await write(client, network_set(mine="1"), Verb.APPLY)
        assert written.metadata.labels == {"mine": "1"}

    run(work, Rival(act, times))


def test_a_change_is_patient() -> None:
    """It is made anew of what others wrote, far more often than a text is written again, and loses nothing of that."""
    number = iter(range(100))

    async def act(store: Store) -> None:
        await Resources(store).apply(network_set(rival=str(next(number))))

    def how(before: Resource) -> Resource:
        labels = {**before.metadata.labels, "mine": "1"}
        return replace(before, metadata=replace(before.metadata, labels=labels))

    rival = Rival(act, CHANGES - 1)

    async def work(_: Store, client: Resources) -> None:
        await act(rival.store)
        changed = await change(client, SET, how)
        assert changed.metadata.labels == {"rival": str(CHANGES - 1), "mine": "1"}

    run(work, rival)


def test_a_status_is_not_for_people_to_write() -> None:
    """A new resource has none, whatever the text says; an update keeps the one that is stored."""
    theirs = Node(metadata=Metadata(name="a"), status=NodeStatus(wireguard_public_key="theirs"))

    async def work(_: Store, client: Resources) -> None:
        made = await write(client, theirs, Verb.APPLY)
        assert made.status is None
        ours = NodeStatus(wireguard_public_key="ours")
        await client.modify(Key("Node", "a"), lambda node: replace(node, status=ours))
        for text in (theirs, replace(theirs, status=None, metadata=Metadata(name="a", labels={"x": "1"}))):
            assert (await write(client, text, Verb.APPLY)).status == ours
        assert (
            await change(client, Key("Node", "a"), lambda node: replace(node, status=None))
        ).status == ours

    run(work)


def test_a_change_is_admitted_like_anything_else() -> None:
    """A pool's prefix cannot be changed in any way, also when it changed under the writer's hands."""

    async def work(_: Store, client: Resources) -> None:
        await write(client, defaulted(pool("one", "10.1.0.0/16")), Verb.CREATE)
        other = defaulted(pool("one", "10.2.0.0/16"))
        with pytest.raises(NotAdmitted, match="prefix cannot change"):
            await write(client, other, Verb.APPLY)
        with pytest.raises(NotAdmitted, match="prefix cannot change"):
            await change(client, Key("IPPool", "one"), lambda _: other)
        with pytest.raises(Absent):
            await change(client, Key("IPPool", "two"), lambda _: other)

    run(work)


def test_what_is_judged_again_is_judged_by_what_is_there_then() -> None:
    """A pool that appears under the same name, with another prefix, between look and write is not overwritten."""

    async def act(store: Store) -> None:
        await Resources(store).create(defaulted(pool("one", "10.9.0.0/16")))

    async def work(store: Store, _: Resources) -> None:
        (failure,) = await Batch(store).write([defaulted(pool("one", "10.1.0.0/16"))], Verb.APPLY)
        assert isinstance(failure, NotAdmitted)
        assert "prefix cannot change (10.9.0.0/16" in str(failure)

    rival = Rival(act, 0)

    async def body(store: Store, client: Resources) -> None:
        await Batch(store).write([], Verb.APPLY)  # the built-in resources are there
        rival.times = 1
        await work(store, client)

    run(body, rival)


# --- many --------------------------------------------------------------------------------------------


def test_a_batch_writes_all_that_it_can() -> None:
    """Tiers and pools first, in whatever order they come; what is refused stops nobody; order of results is kept."""
    policies = [
        defaulted(
            GlobalNetworkPolicy(
                metadata=Metadata(name=f"p{number}"), spec=GlobalPolicySpec(tier=f"t{number % 2}")
            )
        )
        for number in range(20)
    ]

    async def work(store: Store, client: Resources) -> None:
        done: list[int] = []
        outcomes = await Batch(store).write(
            [*policies, defaulted(tier("t0", 1))], Verb.APPLY, advance=lambda: done.append(1)
        )
        assert [outcome is None for outcome in outcomes] == [number % 2 == 0 for number in range(20)] + [True]
        assert all(isinstance(each, NotAdmitted) for each in outcomes if each)
        assert len(done) == 21
        assert len(await client.list("GlobalNetworkPolicy")) == 10
        assert await client.get(Key("ClusterInformation", "default")) is not None

    run(work)


def test_a_batch_asks_little_of_the_store() -> None:
    """A thousand resources cost a thousand writes and a handful of listings; the same again no write at all."""

    class Counting(FaultyStore):
        asked = 0

        async def get(self, path: str):
            self.asked += 1
            return await super().get(path)

        async def list(self, prefix: str, *, revision: int | None = None):
            self.asked += 1
            return await super().list(prefix, revision=revision)

        async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
            self.asked += 1
            return await super().create(path, value, lease=lease)

        async def put(
            self, path: str, value: bytes, *, revision: int | None, lease: int | None = None
        ) -> int:
            self.asked += 1
            return await super().put(path, value, revision=revision, lease=lease)

    store = Counting(MemoryStore())
    sets = [network_set(f"s{number}") for number in range(1000)]

    async def work(used: Store, _: Resources) -> None:
        assert await Batch(used).write(sets, Verb.APPLY) == [None] * 1000
        assert store.asked < 1000 + 20
        store.asked = 0
        assert await Batch(used).write(sets, Verb.APPLY) == [None] * 1000
        assert store.asked < 10

    run(work, store)


def test_a_lost_store_ends_a_batch() -> None:
    """Nothing more is asked of a store that is gone; each resource says that it was not tried."""
    store = FaultyStore(MemoryStore())
    sets = [network_set(f"s{number}") for number in range(40)]

    async def work(used: Store, _: Resources) -> None:
        await Batch(used).write(sets[:1], Verb.APPLY)
        store.fail_next_write(happened=False)
        outcomes = await Batch(used).write(sets[1:], Verb.APPLY)
        lost = [each for each in outcomes if each]
        assert all(isinstance(each, Unavailable) for each in lost)
        assert sum("not tried" in str(each) for each in lost) == len(lost) - 1 > 20

    run(work, store)


def test_two_clients_cannot_make_overlapping_pools() -> None:
    """Whoever finds the other's pool after writing its own takes it back, and says so; nothing overlaps."""
    theirs, ours = defaulted(pool("theirs", "10.0.0.0/8")), defaulted(pool("ours", "10.1.0.0/16"))

    async def act(store: Store) -> None:
        await Resources(store).create(theirs)

    rival = Rival(act, 0)

    async def work(store: Store, client: Resources) -> None:
        await Batch(store).write([], Verb.APPLY)
        rival.times = 1
        beside = defaulted(pool("beside", "192.168.0.0/16"))
        failure, fine = await Batch(store).write([ours, beside], Verb.APPLY)
        assert isinstance(failure, NotAdmitted)
        assert "overlaps with pool 'theirs' (10.0.0.0/8), which another client made" in str(failure)
        assert fine is None
        assert [each.metadata.name for each in await client.list("IPPool")] == ["beside", "theirs"]

    run(work, rival)


def test_a_dry_run_judges_all_and_writes_nothing() -> None:
    """A policy may count on the tier that the same batch would make, and be refused for what is stored."""
    batch = [
        defaulted(codec.from_builtins({"apiVersion": "projectcalico.org/v3", **tree}))
        for tree in (
            {"kind": "GlobalNetworkPolicy", "metadata": {"name": "good"}, "spec": {"tier": "new"}},
            {"kind": "GlobalNetworkPolicy", "metadata": {"name": "bad"}, "spec": {"tier": "none"}},
            {"kind": "Tier", "metadata": {"name": "new"}, "spec": {"order": 1}},
        )
    ]

    async def work(store: Store, _: Resources) -> None:
        rehearsal = Batch(store, dry_run=True)
        outcomes = await rehearsal.write(batch, Verb.CREATE)
        assert [outcome is None for outcome in outcomes] == [True, False, True]
        assert [each.path.rpartition("/")[2] for each in rehearsal.view.changes()] == ["good", "new"]
        assert (await store.list("/")).entries == ()

    run(work)


# --- at once -----------------------------------------------------------------------------------------

ACTS = st.lists(
    st.lists(st.sampled_from(["label", "modify", "apply", "versioned", "create"]), min_size=1, max_size=4),
    min_size=2,
    max_size=5,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_writers_that_race_never_lose_an_update(
    tmp_path_factory: pytest.TempPathFactory, acts: list[list[str]]
) -> None:
    """Whatever many clients of one SQLite file do at once, each change that was said to be stored is there."""
    path = tmp_path_factory.mktemp("race") / "calico.db"

    async def writer(name: str, mine: list[str]) -> set[str]:
        """What this client was told is stored."""
        store: Store = SQLiteStore(path)
        client = Resources(store)
        kept: set[str] = set()
        try:
            for number, act in enumerate(mine):
                label = f"{name}-{number}"
                try:
                    await _add(client, label, act)
                except (Conflict, Absent):
                    continue
                kept.add(label)
        finally:
            await store.close()
        return kept

    async def body() -> None:
        store = SQLiteStore(path)
        try:
            await Resources(store).create(network_set())
            told = await asyncio.gather(*(writer(f"w{index}", mine) for index, mine in enumerate(acts)))
            stored = await Resources(store).get(SET)
            assert stored is not None
            names = {str(key_of(each).name) for each in await Resources(store).list("GlobalNetworkSet")}
            assert {label for each in told for label in each} <= {*stored.metadata.labels, *names}
        finally:
            await store.close()

    asyncio.run(body())


async def _add(client: Resources, label: str, act: str) -> None:
    """Put a label on the shared set, each act by its own way; or make a set of that name."""

    def labelled(before: Resource) -> Resource:
        labels = {**before.metadata.labels, label: ""}
        return replace(before, metadata=replace(before.metadata, labels=labels))

    match act:
        case "label":
            await change(client, SET, labelled)
        case "modify":
            await client.modify(SET, labelled)
        case "versioned":
            before = await client.get(SET)
            assert before is not None
            await write(client, labelled(before), Verb.REPLACE)
        case "apply":
            before = await Batch(client.store).resources.get(SET)
            assert before is not None
            (failure,) = await Batch(client.store).write([labelled(before)], Verb.APPLY)
            if isinstance(failure, Conflict):
                raise failure
            assert failure is None
        case "create":
            await write(client, network_set(label), Verb.CREATE)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.sampled_from([8, 12, 16]), min_size=2, max_size=5),
)
def test_clients_that_race_never_make_overlapping_pools(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    """Of pools that overlap at most one stays, and whoever was told that it is stored finds it there."""
    path = tmp_path_factory.mktemp("pools") / "calico.db"

    async def maker(index: int, length: int) -> bool:
        store = SQLiteStore(path)
        try:
            made = defaulted(pool(f"p{index}", f"10.0.0.0/{length}"))
            return await Batch(store).write([made], Verb.APPLY) == [None]
        finally:
            await store.close()

    async def body() -> None:
        told = await asyncio.gather(*(maker(*each) for each in enumerate(lengths)))
        store = SQLiteStore(path)
        stored = await Resources(store).list("IPPool")
        await store.close()
        assert [f"p{index}" for index, kept in enumerate(told) if kept] == [
            each.metadata.name for each in stored if isinstance(each, IPPool)
        ]
        assert len(stored) <= 1

    asyncio.run(body())
