"""Real etcd for tests: members that are started, killed, paused, cut off and restored, and gone after the test.

Data is in the test's directory, ports are free ones of loopback. A member dies with the thread that started it,
which is why tests start members in their main thread, and only wait in others.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from calico.datastore.api import Entry, Event, LeaseGone, Listing, Store
from calico.datastore.etcd_settings import Endpoint, EtcdSettings

STARTING = 30.0
"""After how many seconds a member that does not serve has failed to start."""

_QUICK = ("--heartbeat-interval", "50", "--election-timeout", "500")
_SINGLE = ("--heartbeat-interval", "10", "--election-timeout", "100")

installed = all(shutil.which(program) for program in ("etcd", "etcdctl", "setpriv"))
needs_etcd = pytest.mark.skipif(not installed, reason="needs etcd: make system installs it")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Member:
    """One etcd server."""

    name: str
    directory: Path
    address: str
    client_port: int
    peer_port: int
    tls: Certificates | None = None
    options: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    """The command that runs its program somewhere else, such as ``ip netns exec``."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address, self.client_port, tls=self.tls is not None)

    @property
    def peer(self) -> str:
        return f"http://{self.address}:{self.peer_port}"

    @property
    def data(self) -> Path:
        return self.directory / f"{self.name}.data"

    def start(self, members: Sequence[Member]) -> None:
        """Start the server; a member of the cluster of ``members``."""
        command = [
            *self.inside, "setpriv", "--pdeathsig", "KILL",
            "etcd",
            "--name", self.name,
            "--data-dir", str(self.data),
            "--listen-client-urls", str(self.endpoint),
            "--advertise-client-urls", str(self.endpoint),
            "--listen-peer-urls", self.peer,
            "--initial-advertise-peer-urls", self.peer,
            "--initial-cluster", initial_cluster(members),
            "--logger", "zap", "--log-level", "warn",
            *self.options,
        ]  # fmt: skip
        if self.tls is not None:
            command += [
                "--cert-file", str(self.tls.server), "--key-file", str(self.tls.server_key),
                "--trusted-ca-file", str(self.tls.authority), "--client-cert-auth",
            ]  # fmt: skip
        with (self.directory / f"{self.name}.log").open("ab") as log:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        """Stop the process where it stands: connections stay open, nobody answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]


def initial_cluster(members: Sequence[Member]) -> str:
    return ",".join(f"{member.name}={member.peer}" for member in members)


@dataclass
class Cluster:
    """Some etcd servers that are one store."""

    directory: Path
    members: list[Member] = field(default_factory=list)
    user: str = ""
    """As whom etcdctl speaks, with its password, where the servers know users."""

    @classmethod
    def make(
        cls,
        directory: Path,
        size: int,
        *,
        tls: Certificates | None = None,
        options: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> Cluster:
        """``size`` members that are not started; each at an address of its own if there are ``addresses``."""
        ports = free_ports(2 * size)
        quick = _SINGLE if size == 1 else _QUICK
        return cls(
            directory,
            [
                Member(
                    f"m{number}",
                    directory,
                    addresses[number] if addresses else "127.0.0.1",
                    ports[2 * number],
                    ports[2 * number + 1],
                    tls,
                    (*quick, *options),
                )
                for number in range(size)
            ],
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start all that do not run, and wait until they serve."""
        self._launch()
        self.wait()

    async def begin(self) -> None:
        """The same while others go on."""
        self._launch()
        await asyncio.to_thread(self.wait)

    def _launch(self) -> None:
        for member in self.members:
            if member.process is None:
                member.start(self.members)

    def wait(self) -> None:
        """Wait until every member serves."""
        deadline = time.monotonic() + STARTING
        while self.control("endpoint", "health", check=False).returncode:
            for member in self.members:
                if member.process is not None and member.process.poll() is not None:
                    raise AssertionError(f"{member.name} ended: {member.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"etcd does not serve: {self.members[0].log()}")
            time.sleep(0.05)

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def control(
        self, *arguments: str, check: bool = True, endpoint: Endpoint | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run etcdctl, at one endpoint or all."""
        tls = self.members[0].tls
        endpoints = [endpoint] if endpoint else [member.endpoint for member in self.members]
        command = ["etcdctl", "--endpoints", ",".join(map(str, endpoints)), "--command-timeout", "3s"]
        if self.user:
            command += ["--user", self.user]
        if tls is not None:
            command += [
                "--cacert",
                str(tls.authority),
                "--cert",
                str(tls.client),
                "--key",
                str(tls.client_key),
            ]
        done = subprocess.run(
            [*command, *arguments], check=False, capture_output=True, text=True, timeout=60,
            env={**os.environ, "ETCDCTL_API": "3"},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"etcdctl {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done

    def settings(self, **more: Any) -> EtcdSettings:
        """How to reach the cluster, with short times."""
        tls = self.members[0].tls
        if tls is not None:
            more = {
                "ca_cert_file": str(tls.authority),
                "cert_file": str(tls.client),
                "key_file": str(tls.client_key),
                **more,
            }
        return EtcdSettings(
            **{
                "endpoints": tuple(member.endpoint for member in self.members),
                "dial_timeout": 1.0,
                "request_timeout": 3.0,
                "heartbeat": 1.0,
                **more,
            }
        )

    def leader(self) -> Member:
        """The member that leads now."""
        for member in self.members:
            if member.process is None:
                continue
            done = self.control("endpoint", "status", "-w", "fields", endpoint=member.endpoint, check=False)
            fields = dict(line.split(" : ", 1) for line in done.stdout.splitlines() if " : " in line)
            if fields and fields.get('"Leader"') == fields.get('"MemberID"'):
                return member
        raise AssertionError("the cluster has no leader")

    def backup(self) -> Path:
        """A snapshot of what the cluster holds now."""
        path = self.directory / "backup.db"
        path.unlink(missing_ok=True)
        self.control("snapshot", "save", str(path), endpoint=self.members[0].endpoint)
        return path

    def restore(self, backup: Path, *, token: str = "etcd-cluster") -> None:
        """Put ``backup`` in the place of the data of all members, none of which runs."""
        for member in self.members:
            shutil.rmtree(member.data)
            subprocess.run(
                [
                    "etcdctl", "snapshot", "restore", str(backup),
                    "--name", member.name,
                    "--data-dir", str(member.data),
                    "--initial-cluster", initial_cluster(self.members),
                    "--initial-advertise-peer-urls", member.peer,
                    "--initial-cluster-token", token,
                ],
                check=True, capture_output=True, timeout=60, env={**os.environ, "ETCDCTL_API": "3"},
            )  # fmt: skip


@dataclass
class Certificates:
    """An authority, and certificates of a server at 127.0.0.1 and of a client by it."""

    authority: Path
    authority_key: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def make(cls, directory: Path, *, client: str = "client") -> Certificates:
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(
            *(directory / f"{name}.{end}" for name in ("ca", "server", "client") for end in ("pem", "key"))
        )
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", made.authority_key, "-out", made.authority, "-days", "2", "-subj", "/CN=test authority",
        )  # fmt: skip
        made.issue(made.server, made.server_key, "server", "IP:127.0.0.1,DNS:localhost")
        made.issue(made.client, made.client_key, client, "DNS:client")
        return made

    def issue(self, certificate: Path, key: Path, name: str, alternative: str) -> None:
        """A certificate of ``name`` by the authority."""
        request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        extensions.write_text(
            f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth,clientAuth\n", encoding="ascii"
        )
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", self.authority_key,
            "-CAcreateserial", "-out", certificate, "-days", "2", "-extfile", extensions,
        )  # fmt: skip


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@functools.cache
def shared() -> Cluster:
    """One server for all tests of this process that do no harm to it; each takes a prefix of its own."""
    directory = tempfile.TemporaryDirectory(prefix="calico-etcd-")
    cluster = Cluster.make(Path(directory.name), 1)
    atexit.register(directory.cleanup)
    atexit.register(cluster.kill)
    cluster.start()
    return cluster


_numbers = itertools.count()


def own_prefix() -> str:
    """A prefix that no other test has."""
    return f"/test-{os.getpid()}-{next(_numbers)}"


class LeasesByClock:
    """A store whose leases end when the test's clock says so: the wrapper revokes those that are due.

    The server's own clock cannot be moved, and would make tests wait.
    """

    def __init__(self, store: Store, clock: Any, leases: dict[int, tuple[float, float]]) -> None:
        self.store = store
        self._clock = clock
        self._leases = leases
        """Of each lease, for how long it was granted and when it is due; shared by all clients."""

    async def _ready(self) -> Store:
        for lease, (_, due) in list(self._leases.items()):
            if due <= self._clock():
                del self._leases[lease]
                with contextlib.suppress(LeaseGone):
                    await self.store.revoke(lease)
        return self.store

    async def caught_up(self) -> None:
        """Wait until the server says what is new at once to all watches that were begun before.

        A watch is told the past first, which the server does for all such watches together, every 100 ms.
        """
        now = (await self.store.list("")).revision
        async for _ in self.store.watch("", revision=now - 1):
            return

    async def get(self, path: str) -> Entry | None:
        return await (await self._ready()).get(path)

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        return await (await self._ready()).create(path, value, lease=lease)

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        return await (await self._ready()).put(path, value, revision=revision, lease=lease)

    async def delete(self, path: str, *, revision: int | None) -> int:
        return await (await self._ready()).delete(path, revision=revision)

    def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        return self.store.watch(prefix, revision=revision)

    async def grant(self, seconds: float) -> int:
        lease = await (await self._ready()).grant(100 * seconds)
        self._leases[lease] = (seconds, self._clock() + seconds)
        return lease

    async def keep_alive(self, lease: int) -> None:
        await (await self._ready()).keep_alive(lease)
        seconds, _ = self._leases[lease]
        self._leases[lease] = (seconds, self._clock() + seconds)

    async def revoke(self, lease: int) -> None:
        await (await self._ready()).revoke(lease)
        self._leases.pop(lease, None)

    async def compact(self, revision: int) -> None:
        await (await self._ready()).compact(revision)

    async def close(self) -> None:
        await self.store.close()

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        return await (await self._ready()).list(prefix, revision=revision)


@contextlib.contextmanager
def cluster(directory: Path, size: int, **options: Any) -> Iterator[Cluster]:
    """A cluster that serves while the block runs."""
    with Cluster.make(directory, size, **options) as made:
        yield made


async def soon(condition: Any, *, within: float = 30.0) -> Any:
    """What ``condition``, a coroutine function, gives once that is true."""
    async with asyncio.timeout(within):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)
