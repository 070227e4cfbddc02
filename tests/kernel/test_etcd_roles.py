"""The roles on a real etcd: made by the very commands that are printed, used by our own programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner

from calico.cli.main import root as calicoctl_group
from calico.datastore.access import AGENT, HOST_ENDPOINTS, OPERATOR, READER
from calico.datastore.api import Denied, TooOld
from calico.datastore.etcd import EtcdStore
from calico.datastore.etcd_settings import EtcdSettings
from calico.datastore.typed import Resources
from calico.ipam.client import Client, Request
from calico.model import codec
from calico.model.address import Cidr
from calico.model.keys import ROOT, Key
from calico.model.validation import defaulted
from support.etcd import Certificates, Cluster, cluster, needs_etcd
from support.host import ALLOWING_PROFILE, Host, eventually, plug, reaches, workload_endpoint
from support.netns import namespaces, needs_root
from support.roles import paths

pytestmark = needs_etcd

T = TypeVar("T")
PATIENCE = 60.0
# In the order in which the script asks for their passwords.
USERS = {"host-1": AGENT, "host-2": AGENT, "keeper": HOST_ENDPOINTS, "alice": OPERATOR, "board": READER}
STRANGER = "host-9"
"""An agent of another cluster in the same etcd."""
OTHER = "/other"
"""Where that cluster stands."""
SOCKET = "m0:2379"
"""The server also listens here, in its directory: a test's host has no network to it."""


def password(user: str) -> str:
    return f"{user} enters"


def make_roles(server: Cluster, *words: str, passwords: str = "") -> None:
    """Run what ``calicoctl datastore roles`` prints, as an administrator does."""
    printed = CliRunner().invoke(calicoctl_group, ["datastore", "roles", *words])
    assert printed.exit_code == 0, printed.output
    script = server.directory / "roles.sh"
    script.write_text(printed.stdout)
    tls = server.members[0].tls
    here = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": str(server.members[0].endpoint)}
    if tls is not None:
        here |= {
            "ETCDCTL_CACERT": str(tls.authority),
            "ETCDCTL_CERT": str(tls.client),
            "ETCDCTL_KEY": str(tls.client_key),
        }
    done = subprocess.run(
        ["sh", "-e", str(script)], input=passwords, env={**os.environ, **here}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def ask_for_users(server: Cluster) -> None:
    """From now on whoever comes must say who they are."""
    server.control("user", "add", "root:secret")
    server.control("auth", "enable")
    server.user = "root:secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server with a user for each role, and one of another cluster."""
    made = Cluster.make(tmp_path_factory.mktemp("etcd"), 1)
    (member,) = made.members
    member.inside = ("env", "-C", str(made.directory))
    member.options += ("--listen-client-urls", f"{member.endpoint},unix://{SOCKET}")
    with made:
        words = [
            word for user, role in USERS.items() for word in (f"--{role.name.removeprefix('calico-')}", user)
        ]
        make_roles(made, *words, passwords="".join(f"{password(user)}\n" * 2 for user in USERS))
        make_roles(made, "--prefix", OTHER, "--agent", STRANGER, passwords=f"{password(STRANGER)}\n" * 2)
        ask_for_users(made)
        yield made


@pytest.fixture(autouse=True)
def empty(server: Cluster) -> Iterator[None]:
    """Each test leaves the cluster empty."""
    yield
    server.control("del", "--prefix", "/")


@contextlib.contextmanager
def without_rights(server: Cluster, user: str) -> Iterator[None]:
    """While the block runs the user has no role."""
    server.control("user", "revoke-role", user, USERS[user].name)
    try:
        yield
    finally:
        server.control("user", "grant-role", user, USERS[user].name)


@contextlib.asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(settings)
    try:
        yield store
    finally:
        await store.close()


def login(server: Cluster, user: str, prefix: str = "") -> EtcdSettings:
    word = "secret" if user == "root" else password(user)
    return server.settings(username=user, password=word, prefix=prefix)


def run(settings: EtcdSettings, work: Callable[[EtcdStore], Awaitable[T]]) -> T:
    async def session() -> T:
        async with asyncio.timeout(PATIENCE), opened(settings) as store:
            return await work(store)

    return asyncio.run(session())


def as_user(server: Cluster, user: str, work: Callable[[EtcdStore], Awaitable[T]], prefix: str = "") -> T:
    """What ``work`` gives with a store that ``user`` opened."""
    return run(login(server, user, prefix), work)


def apply(server: Cluster, user: str, text: str) -> None:
    """Write manifests as ``user``."""

    async def work(store: EtcdStore) -> None:
        for resource in codec.load(text, "test"):
            await Resources(store).apply(defaulted(resource))

    as_user(server, user, work)


def denied(user: str, what: str, path: str) -> Any:
    """The error that says who may not do what, and where."""
    return pytest.raises(Denied, match=re.escape(f"etcd does not let the user '{user}' {what} {path}; grant"))


async def fill(store: EtcdStore) -> dict[str, int]:
    """Something at every path, and its revision."""
    return {path: await store.put(path, b"{}", revision=None) for path in paths()}


# --- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
def test_what_a_role_may_write(server: Cluster, user: str) -> None:
    """etcd lets a user change, delete and create what its role says and nothing else, and an error says who and where."""
    role = USERS[user]
    revisions = as_user(server, "root", fill)

    async def test(store: EtcdStore) -> None:
        for path, revision in revisions.items():
            if role.may_write(path):
                changed = await store.put(path, b"1", revision=revision)
                await store.delete(path, revision=changed)
                await store.create(path, b"2")
                continue
            with denied(user, "write", path):
                await store.put(path, b"1", revision=revision)
            with denied(user, "write", path):
                await store.put(path, b"1", revision=None)
            with denied(user, "write", path):
                await store.delete(path, revision=None)
            with denied(user, "write", f"{path}-new"):
                await store.create(f"{path}-new", b"1")

    as_user(server, user, test)
    kept = {entry.path for entry in as_user(server, "root", lambda store: store.list(ROOT)).entries}
    assert kept == revisions.keys()


@pytest.mark.parametrize("user", USERS)
def test_what_a_role_may_read(server: Cluster, user: str) -> None:
    """Every role lists, gets and watches the whole cluster, and nothing beside it."""
    as_user(server, "root", fill)

    async def test(store: EtcdStore) -> None:
        listing = await store.list(ROOT)
        assert {entry.path for entry in listing.entries} == paths().keys()
        path = Key("Tier", "x").path
        assert await store.get(path)
        changes = store.watch(ROOT, revision=listing.revision)
        reading = asyncio.ensure_future(anext(changes))
        async with opened(login(server, "root")) as root:
            await root.put(path, b"new", revision=None)
        assert [(event.path, event.value) for event in await reading] == [(path, b"new")]
        with denied(user, "read", "/registry/x"):
            await store.get("/registry/x")
        with denied(user, "read", "/"):
            await store.list("/")
        with denied(user, "watch", "/"):
            await anext(store.watch("/", revision=1))

    as_user(server, user, test)


def test_clusters_that_share_an_etcd(server: Cluster) -> None:
    """An agent under a prefix does there what agents do, and has no rights in the cluster without one."""
    path = Key("Node", STRANGER).path

    async def at_home(store: EtcdStore) -> None:
        await store.create(path, b"{}")
        assert [entry.path for entry in (await store.list(ROOT)).entries] == [path]
        with denied(STRANGER, "write", Key("Tier", "x").path):
            await store.create(Key("Tier", "x").path, b"{}")

    async def elsewhere(store: EtcdStore) -> None:
        with denied(STRANGER, "write", path):
            await store.create(path, b"{}")
        with denied(STRANGER, "read", ROOT):
            await store.list(ROOT)

    as_user(server, STRANGER, at_home, OTHER)
    as_user(server, STRANGER, elsewhere)


def test_users_by_certificate(tmp_path: Path) -> None:
    """Who has a certificate with a user's name is that user, unless another one's password is given."""
    certificates = Certificates.make(tmp_path / "tls", client="administrator")
    mine = {"cert_file": str(tmp_path / "host.pem"), "key_file": str(tmp_path / "host.key")}
    certificates.issue(Path(mine["cert_file"]), Path(mine["key_file"]), "host-1", "DNS:host-1")
    with cluster(tmp_path, 1, tls=certificates) as made:
        make_roles(made, "--certificates", "--agent", "host-1")
        ask_for_users(made)

        async def test(store: EtcdStore) -> None:
            await store.create(Key("Node", "host-1").path, b"{}")
            with pytest.raises(Denied, match="grant a role to the user that its certificate names"):
                await store.create(Key("Tier", "x").path, b"{}")

        async def administer(store: EtcdStore) -> None:
            await store.create(Key("Tier", "x").path, b"{}")

        run(made.settings(**mine), test)
        run(made.settings(**mine, username="root", password="secret"), administer)


# --- what roles do not prevent, as docs/operate/access.md says ----------------------------------------


def test_an_agent_may_write_keys_of_another_host(server: Cluster) -> None:
    """Ranges do not narrow an agent to its own host: it overwrites and deletes what another host wrote."""
    theirs = (Key("Node", "host-2"), Key("BlockAffinity", "10.65.0.0/26", "host:host-2"))

    async def write(store: EtcdStore) -> None:
        for key in theirs:
            await store.create(key.path, b"{}")

    async def overwrite(store: EtcdStore) -> None:
        for key in theirs:
            await store.put(key.path, b"nonsense", revision=None)
            await store.delete(key.path, revision=None)

    as_user(server, "host-2", write)
    as_user(server, "host-1", overwrite)


def test_any_user_may_compact_and_keep_leases(server: Cluster) -> None:
    """A reader can take history away, and keep the lease of another alive, but not end one that holds keys."""

    async def leased(store: EtcdStore) -> tuple[int, int]:
        lease = await store.grant(60)
        return await store.create(Key("Node", "x").path, b"{}", lease=lease), lease

    revision, lease = as_user(server, "host-1", leased)

    async def test(store: EtcdStore) -> None:
        await store.keep_alive(lease)
        with pytest.raises(Denied, match="does not let the user 'board' revoke a lease"):
            await store.revoke(lease)
        await store.compact(revision)
        with pytest.raises(TooOld):
            await store.list(ROOT, revision=revision - 1)

    as_user(server, "board", test)


def test_a_watch_outlives_the_right_to_it(server: Cluster) -> None:
    """A right that is taken away ends no watch that is under way; a new one is denied."""

    async def test(store: EtcdStore) -> None:
        now = (await store.list(ROOT)).revision
        changes = store.watch(ROOT, revision=now)
        reading = asyncio.ensure_future(anext(changes))
        async with opened(login(server, "host-1")) as writer:
            await writer.create(Key("Node", "a").path, b"{}")
            await reading
            with without_rights(server, "board"):
                await writer.create(Key("Node", "b").path, b"{}")
                assert [event.path for event in await anext(changes)] == [Key("Node", "b").path]
                with denied("board", "watch", ROOT):
                    await anext(store.watch(ROOT, revision=now))

    as_user(server, "board", test)


# --- programs ----------------------------------------------------------------------------------------


POLICY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: close-b}
spec: {selector: app == 'b', types: [Ingress]}
---"""
NODE = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: host}
---"""
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.65.0.0/24, blockSize: 26}
---"""


def environment(server: Cluster, user: str, directory: Path) -> dict[str, str]:
    """What tells a program where etcd is, and as whom to come."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALICO_", "ETCD", "FELIX_"))
    }
    return clean | {
        "DATASTORE_TYPE": "etcdv3",
        "ETCD_ENDPOINTS": f"unix:{server.directory / SOCKET}",
        "ETCD_USERNAME": user,
        "ETCD_PASSWORD": password(user),
        "CALICO_RUN_DIR": str(directory),
        "CALICO_DATA_DIR": str(directory),
        "CALICO_CONFIG_DIR": str(directory),
    }


def calicoctl(
    server: Cluster, user: str, directory: Path, *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "calico.cli.main", *words], input=stdin, capture_output=True, text=True,
        timeout=PATIENCE, check=False, env=environment(server, user, directory),
    )  # fmt: skip


def test_calicoctl_of_a_reader(server: Cluster, tmp_path: Path) -> None:
    """A reader sees an empty cluster and a full one, and writes to neither: exit status 1, and a sentence for each resource."""
    assert calicoctl(server, "board", tmp_path, "get", "tiers").returncode == 0
    refused = calicoctl(server, "board", tmp_path, "apply", "-f", "-", stdin=NODE + POLICY)
    assert refused.returncode == 1
    for key in (Key("Node", "host"), Key("GlobalNetworkPolicy", "close-b")):
        assert f"etcd does not let the user 'board' write {key.path}; grant" in refused.stderr
    assert not as_user(server, "root", lambda store: store.list(ROOT)).entries

    written = calicoctl(server, "alice", tmp_path, "apply", "-f", "-", stdin=NODE + POLICY)
    assert written.returncode == 0, written.stderr
    shown = calicoctl(server, "board", tmp_path, "get", "gnp", "-o", "name")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "close-b" in calicoctl(server, "board", tmp_path, "get", "gnp").stdout
    for words in (["delete", "gnp", "close-b"], ["label", "node", "host", "a=b"], ["create", "-f", "-"]):
        refused = calicoctl(server, "board", tmp_path, *words, stdin=POOL)
        assert refused.returncode == 1
        assert "etcd does not let the user 'board' write /calico/resources/" in refused.stderr
    assert calicoctl(server, "alice", tmp_path, "delete", "gnp", "close-b").returncode == 0


def test_calicoctl_of_an_agents_user(server: Cluster, tmp_path: Path) -> None:
    """On a host calicoctl writes what the agent may, also where nobody has made the built-in tiers yet."""
    done = calicoctl(server, "host-1", tmp_path, "apply", "-f", "-", stdin=POLICY + NODE)
    assert done.returncode == 1
    assert f"does not let the user 'host-1' write {Key('GlobalNetworkPolicy', 'close-b').path}" in done.stderr
    assert "Tier" not in done.stderr
    assert calicoctl(server, "board", tmp_path, "get", "node", "host").returncode == 0


async def assign(store: EtcdStore) -> tuple[Cidr, ...]:
    request = Request(handle="a handle", ipv4=2, attributes={"node": "host"})
    return (await Client(store, "host").assign(request)).addresses


def test_addresses_of_an_agent(server: Cluster) -> None:
    """An agent's user assigns and releases addresses of an operator's pool; a reader is denied, and nothing is left."""
    apply(server, "alice", POOL + NODE)
    assert len(as_user(server, "host-1", assign)) == 2
    freed = as_user(server, "host-1", lambda store: Client(store, "host").release_by_handle("a handle"))
    assert len(freed) == 2
    with pytest.raises(Denied, match="does not let the user 'board' write /calico/ipam/v2/"):
        as_user(server, "board", assign)


class EtcdHost(Host):
    """A host whose agent comes to ``server`` as ``user``."""

    server: Cluster
    user: str

    def _environment(self) -> dict[str, str]:
        return environment(self.server, self.user, self.run_dir)


@pytest.mark.root
@needs_root
def test_agent_with_and_without_its_role(server: Cluster, tmp_path: Path) -> None:
    """With its role an agent does all its work; without, it says so and keeps what is programmed, until it has it again."""
    apply(server, "alice", POOL + NODE + ALLOWING_PROFILE)
    a4, b4 = (str(address.address) for address in as_user(server, "host-1", assign))
    with (
        namespaces("t-access-host", "t-access-a", "t-access-b") as (inside, a, b),
        EtcdHost(inside, "host", tmp_path) as host,
    ):
        host.server, host.user = server, "host-1"
        plug(host, a, "a", a4)
        plug(host, b, "b", b4)
        for name, address in (("a", a4), ("b", b4)):
            apply(server, "host-1", workload_endpoint("host", name, address, labels=f"{{app: {name}}}"))
        host.start()
        assert reaches(a, b4)
        apply(server, "alice", POLICY)
        eventually(lambda: not reaches(a, b4, wait=0.3), what="b is closed")

        host.kill()
        with without_rights(server, "host-1"):
            host.start(wait=False)
            told = eventually(
                lambda: (
                    (state := host.status().get("store", {}).get("state", "")).startswith("lost") and state
                ),
                what="the agent says what is wrong",
            )
            assert "does not let the user 'host-1' read /calico/" in told
            assert told.endswith("; what is known stays in force")
            shown = host.calicoctl("agent", "status")
            assert shown.returncode == 1
            assert "does not let the user 'host-1' read" in shown.stdout
            assert not reaches(a, b4, wait=0.3), "what was closed stays closed"
            assert reaches(b, a4), "what was open stays open"
        eventually(lambda: host.status().get("programmed"), within=30, what="the agent is back at work")
        assert reaches(b, a4)
        assert not reaches(a, b4, wait=0.3)
