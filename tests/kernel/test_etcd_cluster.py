"""A real etcd of three members: killed, paused, cut off, compacted, restored; and what its clients make of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from calico.datastore.api import TooOld, Unavailable
from calico.datastore.etcd import EtcdStore
from support import cut_off
from support.etcd import Cluster, Member, cluster, free_ports, needs_etcd, own_prefix, soon
from support.following import SETS, Reader, Writer, traffic
from support.netns import link, namespaces, needs_root

pytestmark = needs_etcd

PATIENCE = 120.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("etcd"), 3) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of one member that the test may damage."""
    with cluster(tmp_path, 1) as made:
        yield made


def first(cluster: Cluster, member: Member, prefix: str = "") -> EtcdStore:
    """A client that uses ``member`` as long as it can."""
    others = [other.endpoint for other in cluster.members if other is not member]
    settings = cluster.settings(endpoints=(member.endpoint, *others), prefix=prefix)
    return EtcdStore(settings, pick=lambda count: 0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(body())


def role(cluster: Cluster, name: str) -> Member:
    leader = cluster.leader()
    return leader if name == "leader" else next(m for m in cluster.members if m is not leader)


async def progress(reader: Reader, writer: Writer) -> None:
    """Wait until the writer wrote a good deal more, and the reader heard of it."""
    target, revision = writer.written + 50, reader.status.revision + 50

    async def moved() -> bool:
        return writer.written >= target and reader.status.revision >= revision

    await soon(moved)


@pytest.mark.parametrize("which", ["leader", "follower"])
@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_one_member_of_three_fails(three: Cluster, fault: str, which: str) -> None:
    """While the member in use is dead or paused its clients go on with the others; no watch begins anew."""
    victim = role(three, which)
    prefix = own_prefix()
    reading, writing = first(three, victim, prefix), first(three, victim, prefix)

    async def test() -> None:
        try:
            async with traffic(reading, writing) as (reader, writer):
                victim.kill() if fault == "killed" else victim.pause()
                await progress(reader, writer)
                if fault == "killed":
                    await three.begin()
                else:
                    victim.resume()
                await progress(reader, writer)
            assert reader.status.losses == 0, reader.status.error
        finally:
            await reading.close()
            await writing.close()

    try:
        run(test)
    finally:
        victim.kill()
        three.start()


def test_two_members_of_three_fail(three: Cluster) -> None:
    """Without a majority nothing is written and the reader is told; when the members are back it catches up."""
    prefix = own_prefix()
    reading, writing = (first(three, three.members[0], prefix) for _ in range(2))

    async def test() -> None:
        try:
            async with traffic(reading, writing) as (reader, writer):
                for member in three.members[1:]:
                    member.kill()

                async def lost() -> bool:
                    return not reader.status.connected

                await soon(lost)
                assert "etcd" in reader.status.error
                with pytest.raises(Unavailable):
                    await reading.get(f"{SETS}n1")
                await three.begin()
                await progress(reader, writer)
        finally:
            await reading.close()
            await writing.close()

    try:
        run(test)
    finally:
        three.start()


def test_compaction_under_load(three: Cluster) -> None:
    """A history that is forgotten all the time while many write costs no event and no end."""
    prefix = own_prefix()
    reading, writing = (EtcdStore(three.settings(prefix=prefix)) for _ in range(2))

    async def test() -> None:
        try:
            async with traffic(reading, writing) as (reader, writer):
                writer.pause = 0
                for _ in range(40):
                    now = (await writing.list(SETS)).revision
                    await writing.compact(now)
                    await asyncio.sleep(0.02)
                await progress(reader, writer)
        finally:
            await reading.close()
            await writing.close()

    run(test)


@pytest.mark.parametrize(
    ("token", "overtaken"), [("etcd-cluster", False), ("another", False), ("another", True)]
)
def test_restored_backup(own: Cluster, token: str, overtaken: bool) -> None:
    """A watch over a cluster that was restored from a backup ends; a resync goes on with a fresh listing.

    So it is when the backup has the old cluster's name, and when new writes have passed the old revision.
    """

    async def test() -> None:
        store, other = (EtcdStore(own.settings(resume_timeout=60.0)) for _ in range(2))
        try:
            await store.create(f"{SETS}kept", b"1")
            backup = own.backup()
            for number in range(10):
                last = await store.put(f"{SETS}lost", b"%d" % number, revision=None)
            reader = Reader(store)
            following = asyncio.create_task(reader.follow())
            watch = asyncio.create_task(heard(store, (await store.list(SETS)).revision))

            async def synced() -> bool:
                return bool(reader.synced)

            await soon(synced)
            member = own.members[0]
            port = member.client_port
            own.kill()
            if overtaken:
                (member.client_port,) = free_ports(1)
            own.restore(backup, token=token)
            await own.begin()
            writing = EtcdStore(own.settings())
            for _ in range(30 if overtaken else 1):
                await writing.put(f"{SETS}new", b"2", revision=None)
            await writing.close()
            if overtaken:
                own.kill()
                member.client_port = port
                await own.begin()
            with pytest.raises(TooOld) as error:
                await watch
            assert error.value.asked >= last

            async def agree() -> bool:
                return reader.said == {f"{SETS}kept": b"1", f"{SETS}new": b"2"}

            await soon(agree)
            assert reader.synced == 1
            following.cancel()
            await asyncio.wait([following])
        finally:
            await store.close()
            await other.close()

    run(test)


async def heard(store: EtcdStore, revision: int) -> None:
    async for _ in store.watch(SETS, revision=revision):
        pass


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("cut", ["everybody", "members"])
def test_one_member_of_three_is_cut_off(tmp_path: Path, cut: str) -> None:
    """Who uses a member that is cut off from all, or from the other members, goes on with the others."""
    with namespaces("t-etcd-here", "t-etcd-there") as (here, there):
        link(here, "there", there, "here")
        here.run("ip", "address", "add", f"{cut_off.HERE}/24", "dev", "there")
        there.run("ip", "address", "add", f"{cut_off.THERE}/24", "dev", "here")
        command = (sys.executable, cut_off.__file__, str(tmp_path), there.name, "there", cut)
        print(here.run(*command, timeout=2 * PATIENCE).stdout)
