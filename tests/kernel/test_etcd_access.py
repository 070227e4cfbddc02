"""Who may use a real etcd: users and passwords, tokens that expire, roles, certificates; and leases in real time."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calico.datastore.api import LeaseGone, StoreError, Unavailable
from calico.datastore.etcd import EtcdStore
from calico.datastore.etcd_settings import Endpoint, EtcdSettings
from support.etcd import Certificates, Cluster, cluster, needs_etcd, own_prefix, shared

pytestmark = needs_etcd

PATIENCE = 60.0
PASSWORD = "correct horse"
AGENT = {"username": "agent", "password": PASSWORD}


def run(settings: Any, test: Callable[[EtcdStore], Awaitable[None]]) -> None:
    """Run ``test`` with a store, and close it."""

    async def body() -> None:
        store = EtcdStore(settings)
        try:
            async with asyncio.timeout(PATIENCE):
                await test(store)
        finally:
            await store.close()

    asyncio.run(body())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server with users, whose tokens live for a second; ``agent`` may read all under /a and write under /a/own/."""
    with cluster(tmp_path_factory.mktemp("etcd"), 1, options=("--auth-token-ttl", "1")) as made:
        made.control("user", "add", "root:secret")
        made.control("user", "add", f"agent:{PASSWORD}")
        made.control("role", "add", "agent")
        made.control("role", "grant-permission", "agent", "read", "--prefix=true", "/a")
        made.control("role", "grant-permission", "agent", "readwrite", "--prefix=true", "/a/own/")
        made.control("user", "grant-role", "agent", "agent")
        made.control("auth", "enable")
        made.user = "root:secret"
        yield made


async def expire() -> None:
    """Let tokens expire: they live for a second, and the server looks once a second."""
    await asyncio.sleep(2.5)


def test_user_reads_and_writes(guarded: Cluster) -> None:
    """A user with a password does what its roles let it do."""

    async def test(store: EtcdStore) -> None:
        revision = await store.put("/a/own/x", b"1", revision=None)
        assert [entry.revision for entry in (await store.list("/a/")).entries] == [revision]
        await store.delete("/a/own/x", revision=revision)

    run(guarded.settings(**AGENT), test)


def test_login_that_expired(guarded: Cluster) -> None:
    """When the token has expired, reads, writes, leases and watches log in again by themselves."""

    async def watched(store: EtcdStore) -> None:
        now = (await store.list("/a")).revision
        watch = store.watch("/a/own/", revision=now)
        await expire()
        pending = asyncio.ensure_future(anext(watch))
        await expire()
        await store.put("/a/own/x", b"1", revision=None)
        assert [event.path for event in await pending] == ["/a/own/x"]

    async def test(store: EtcdStore) -> None:
        await watched(store)
        lease = await store.grant(30)
        await store.keep_alive(lease)
        await expire()
        await store.revoke(lease)
        await asyncio.gather(*(store.get("/a") for _ in range(20)))
        await expire()
        await store.delete("/a/own/x", revision=None)

    run(guarded.settings(**AGENT), test)


def test_server_that_forgot_logins(guarded: Cluster) -> None:
    """A server that was restarted knows no tokens; the running watch and all calls go on."""

    async def test(store: EtcdStore) -> None:
        now = (await store.list("/a")).revision
        pending = asyncio.ensure_future(anext(store.watch("/a/own/", revision=now)))
        await asyncio.sleep(0.5)
        guarded.kill()
        await guarded.begin()
        while True:
            try:
                await store.put("/a/own/y", b"1", revision=None)
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        assert [event.path for event in await pending] == ["/a/own/y"]
        await store.delete("/a/own/y", revision=None)

    run(guarded.settings(**AGENT, resume_timeout=20.0), test)


def test_what_a_user_may_not_do(guarded: Cluster) -> None:
    """What the roles do not allow is told at once, by whom and where; a watch is never silent about it."""

    async def test(store: EtcdStore) -> None:
        for act in (
            store.put("/a/theirs", b"1", revision=None),
            store.get("/b"),
            store.list("/"),
            anext(store.watch("/b", revision=1)),
        ):
            with pytest.raises(
                Unavailable, match=r"does not let the user 'agent' (write|read|watch) /"
            ) as error:
                await act
            assert PASSWORD not in str(error.value)

    run(guarded.settings(**AGENT), test)


@pytest.mark.parametrize(
    ("login", "sentence"),
    [
        (
            {"username": "agent", "password": "wrong-one"},
            "does not accept the user 'agent' with this password",
        ),
        ({"username": "nobody", "password": "wrong-one"}, "does not accept the user 'nobody'"),
        ({}, "does not let a client without a login (read|write|watch) /a.*; set ETCD_USERNAME"),
    ],
)
def test_wrong_logins(guarded: Cluster, login: dict[str, str], sentence: str) -> None:
    """A wrong password and a missing login are told in words, for calls and for watches."""

    async def test(store: EtcdStore) -> None:
        for act in (
            store.get("/a"),
            store.create("/a/own/z", b""),
            anext(store.watch("/a", revision=1)),
        ):
            with pytest.raises(Unavailable, match=sentence) as error:
                await act
            assert "wrong-one" not in f"{error.value!r} {error.value.__cause__!r}"

    run(guarded.settings(**login), test)


def test_users_that_the_server_does_not_need() -> None:
    """A login is no obstacle where the server knows no users."""

    async def test(store: EtcdStore) -> None:
        await store.put("/x", b"1", revision=None)
        now = (await store.list("/")).revision
        assert await anext(store.watch("/", revision=now - 1))

    run(shared().settings(prefix=own_prefix(), **AGENT), test)


def test_users_that_are_introduced_meanwhile(tmp_path: Path) -> None:
    """A client that has a login goes on when the server begins to ask for one."""
    with cluster(tmp_path, 1) as made:

        async def test(store: EtcdStore) -> None:
            await store.put("/x", b"1", revision=None)
            made.control("user", "add", "root:secret")
            made.control("auth", "enable")
            await store.put("/x", b"2", revision=None)
            assert await anext(store.watch("/x", revision=1))

        run(made.settings(username="root", password="secret"), test)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def closed(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that talks only to who has a certificate of its authority."""
    with cluster(tmp_path_factory.mktemp("etcd"), 1, tls=certificates) as made:
        yield made


@pytest.mark.parametrize("inline", [False, True])
def test_certificates_on_both_sides(closed: Cluster, certificates: Certificates, inline: bool) -> None:
    """A client with a certificate reads, writes and watches, whether its PEM comes from files or as text."""
    given = (
        {
            "ca_cert": certificates.authority.read_text(encoding="ascii"),
            "cert": certificates.client.read_text(encoding="ascii"),
            "key": certificates.client_key.read_text(encoding="ascii"),
            "ca_cert_file": "",
            "cert_file": "",
            "key_file": "",
        }
        if inline
        else {}
    )

    async def test(store: EtcdStore) -> None:
        revision = await store.put("/x", b"1", revision=None)
        assert [event.revision for event in await anext(store.watch("/", revision=revision - 1))] == [
            revision
        ]

    run(closed.settings(**given), test)


def test_certificates_that_do_not_fit(closed: Cluster, tmp_path: Path) -> None:
    """No certificate, one of another authority, and a server of another authority: each is unavailable, and says so."""
    others = Certificates.make(tmp_path / "others")
    no_certificate = {"cert_file": "", "key_file": ""}
    strangers = {"cert_file": str(others.client), "key_file": str(others.client_key)}

    async def test(store: EtcdStore) -> None:
        with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1"):
            await store.get("/x")
        with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1"):
            await store.put("/x", b"", revision=None)

    for wrong in (no_certificate, strangers, {"ca_cert_file": str(others.authority)}):
        run(closed.settings(**wrong), test)

    async def refused(store: EtcdStore) -> None:
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1"):
            await store.get("/x")

    plain = Endpoint("127.0.0.1", closed.members[0].client_port)
    run(EtcdSettings(endpoints=(plain,), dial_timeout=1.0), refused)


def test_certificate_that_is_missing_and_then_renewed(
    closed: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    """A missing certificate file is named; new files are used without a restart when the old ones do not work."""
    others = Certificates.make(tmp_path / "others")
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"

    async def test(store: EtcdStore) -> None:
        with pytest.raises(Unavailable, match=r"client\.(key|pem) for etcd cannot be read"):
            await store.get("/x")
        shutil.copy(others.client, cert)
        shutil.copy(others.client_key, key)
        with pytest.raises(Unavailable):
            await store.get("/x")
        shutil.copy(certificates.client, cert)
        shutil.copy(certificates.client_key, key)
        await store.get("/x")

    run(closed.settings(cert_file=str(cert), key_file=str(key)), test)


def test_lease_in_real_time() -> None:
    """A lease that is not kept alive ends, and all that was put with it goes in one tuple."""

    async def test(store: EtcdStore) -> None:
        lease = await store.grant(2)
        await store.create("/a", b"", lease=lease)
        revision = await store.create("/b", b"", lease=lease)
        begun = time.monotonic()
        while time.monotonic() < begun + 3.5:
            await store.keep_alive(lease)
            await asyncio.sleep(0.3)
        gone = await anext(store.watch("/", revision=revision))
        assert [(event.path, event.value) for event in gone] == [("/a", None), ("/b", None)]
        with pytest.raises(LeaseGone):
            await store.keep_alive(lease)

    run(shared().settings(prefix=own_prefix()), test)


def test_value_that_is_too_large() -> None:
    """A value above the server's limit is an error that names the limit, not a store that is lost."""

    async def test(store: EtcdStore) -> None:
        with pytest.raises(StoreError, match="max-request-bytes") as error:
            await store.create("/a", b"x" * 2_000_000)
        assert not isinstance(error.value, Unavailable)

    run(shared().settings(prefix=own_prefix()), test)


def test_server_that_is_full(tmp_path: Path) -> None:
    """A server without space takes no writes, says why, and still answers."""
    with cluster(tmp_path, 1, options=("--quota-backend-bytes", "300000")) as made:

        async def test(store: EtcdStore) -> None:
            with pytest.raises(Unavailable, match="etcd is full"):  # noqa: PT012 - which write is too much is not ours
                for number in range(1000):
                    await store.put("/a", b"%d" % number * 20_000, revision=None)
            assert await store.get("/a") is not None

        run(made.settings(), test)


def test_listing_by_pages() -> None:
    """A listing of many pages is of one revision, whatever is written between them, and survives compaction."""

    async def test(store: EtcdStore) -> None:
        paths = [f"/p/{number:03}" for number in range(50)]
        for path in paths:
            await store.create(path, b"old")
        paged = EtcdStore(store.settings, page=7)

        async def disturb() -> None:
            for path in paths:
                await store.put(path, b"new", revision=None)
                await store.compact(await store.put("/q", b"", revision=None))

        disturbing = asyncio.create_task(disturb())
        try:
            while not disturbing.done():
                try:
                    listing = await paged.list("/p/")
                except Unavailable:
                    continue  # compacted too often, as it says
                values = [entry.value for entry in listing.entries]
                news = values.count(b"new")
                assert values == [b"new"] * news + [b"old"] * (len(paths) - news)
                assert all(entry.revision <= listing.revision for entry in listing.entries)
            await disturbing
            assert [entry.path for entry in (await paged.list("/p/")).entries] == paths
        finally:
            disturbing.cancel()
            await paged.close()

    run(shared().settings(prefix=own_prefix()), test)


def test_whole_key_space_without_a_prefix(tmp_path: Path) -> None:
    """Without a prefix of its own a store sees all keys, also those that are no text, as they are."""
    with cluster(tmp_path, 1) as made:

        async def test(store: EtcdStore) -> None:
            made.control("put", "plain", "1")
            made.control("put", "/calico/x", "2")
            await store.put("/\udcff\udcfe", b"3", revision=None)
            listing = await store.list("")
            assert [entry.path for entry in listing.entries] == ["/calico/x", "/\udcff\udcfe", "plain"]
            events = await anext(store.watch("", revision=listing.revision - 1))
            assert [event.path for event in events] == ["/\udcff\udcfe"]

        run(made.settings(), test)
