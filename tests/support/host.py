"""A host for tests: a namespace, directories of its own, a store, the real agent, and workloads beside it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from calico.agent.status import AgentUnreachableError, ask
from calico.datastore.sqlite import SQLiteStore
from calico.datastore.typed import Resources
from calico.model import codec
from calico.model.keys import Key
from calico.model.validation import defaulted
from support.netns import Namespace, link

T = TypeVar("T")
GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY_V6 = "fe80::ecee:eeff:feee:eeee"


def eventually(condition: Callable[[], T], *, within: float = 40.0, what: str = "the condition") -> T:
    """The first true value of ``condition``, polled; a failure that says what did not come true."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s")
        time.sleep(0.02)


class Host:
    """One host called ``node``, on the store of ``directory``, with an agent that tests start, kill and ask."""

    def __init__(
        self,
        namespace: Namespace,
        node: str,
        directory: Path,
        *,
        backend: str = "nftables",
        bgp: bool = False,
    ) -> None:
        self.namespace = namespace
        self.node = node
        self.directory = directory
        self.backend = backend
        self.bgp = bgp
        self.database = directory / "calico.db"
        self.run_dir = directory / node
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start the agent; by default wait until everything is programmed."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.namespace.name,
                    sys.executable,
                    "-m",
                    "calico.cli.main",
                    "agent",
                    "--node",
                    self.node,
                    "--bgp" if self.bgp else "--no-bgp",
                    "--backend",
                    self.backend,
                ],
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        if wait:
            eventually(lambda: self.status().get("programmed"), what=f"agent of {self.node} is programmed")

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATASTORE_TYPE": "sqlite",
            "CALICO_SQLITE_PATH": str(self.database),
            "CALICO_RUN_DIR": str(self.run_dir),
            "CALICO_DATA_DIR": str(self.run_dir),
            "CALICO_CONFIG_DIR": str(self.run_dir),
        }

    def calicoctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run calicoctl on this host, on its store."""
        command = [sys.executable, "-m", "calico.cli.main", *arguments]
        return self.namespace.run(*command, check=False, env=self._environment())

    def status(self) -> dict[str, Any]:
        """The agent's report; empty while none answers."""
        try:
            return ask(self.run_dir / "agent.sock", {"command": "status"})
        except AgentUnreachableError:
            return {}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return ask(self.run_dir / "agent.sock", request)

    def kill(self) -> None:
        """End the agent as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        """End the agent as an operator does; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=40)
        self.process = None
        return status

    def log(self) -> str:
        return (self.run_dir / "agent.log").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Cloud:
    """The store that the hosts of one test share, and writes to it."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "calico.db"

    def apply(self, text: str) -> None:
        """Apply manifests, as ``calicoctl apply`` would."""

        async def write(client: Resources) -> None:
            for resource in codec.load(text, "test"):
                await client.apply(defaulted(resource))

        self._with(write)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        async def write(client: Resources) -> None:
            await client.delete(Key(kind, name, namespace))

        self._with(write)

    def overwrite(self, kind: str, name: str, value: bytes) -> None:
        """Put any bytes where a cluster-wide resource is."""

        async def write(client: Resources) -> None:
            await client.store.put(Key(kind, name).path, value, revision=None)

        self._with(write)

    def _with(self, work: Callable[[Resources], Awaitable[T]]) -> T:
        async def session() -> T:
            store = SQLiteStore(self.database)
            try:
                return await work(Resources(store))
            finally:
                await store.close()

        return asyncio.run(session())


def interface_of(name: str) -> str:
    """The host's end of workload ``name`` of namespace default."""
    return "cali" + hashlib.sha1(f"default.{name}".encode(), usedforsecurity=False).hexdigest()[:11]


def plug(host: Host, workload: Namespace, name: str, *addresses: str) -> None:
    """Join a workload's namespace to its host, set up as a container is, with these addresses."""
    interface = interface_of(name)
    link(host.namespace, interface, workload, "eth0")
    host.namespace.run("ip", "link", "set", interface, "address", GATEWAY_MAC)
    workload.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
    for family in ("ipv4", "ipv6"):
        # Who asked for its gateway in vain asks again at once, not a second later: a ping may follow the attachment.
        neighbours = f"net.{family}.neigh.eth0"
        workload.run("sysctl", "-qw", f"{neighbours}.retrans_time_ms=50", f"{neighbours}.mcast_solicit=60")
    for address in addresses:
        width = 128 if ":" in address else 32
        workload.run(
            "ip", "address", "add", f"{address}/{width}", "dev", "eth0", *(["nodad"] if width == 128 else [])
        )
    workload.run("ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
    workload.run("ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
    workload.run("ip", "-6", "route", "add", "default", "via", GATEWAY_V6, "dev", "eth0")


def workload_endpoint(
    node: str, name: str, *addresses: str, labels: str = "{}", profiles: str = "[kns.default]"
) -> str:
    """The manifest of a workload endpoint in namespace default."""
    nets = ", ".join(f"{address}/{128 if ':' in address else 32}" for address in addresses)
    return f"""
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {{name: {node}-k8s-{name}-eth0, namespace: default, labels: {labels}}}
spec:
  orchestrator: k8s
  node: {node}
  pod: {name}
  endpoint: eth0
  interfaceName: {interface_of(name)}
  ipNetworks: [{nets.replace(":", ":")}]
  profiles: {profiles}
---"""


ALLOWING_PROFILE = """
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.default}
spec:
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
---"""


@contextlib.contextmanager
def pinging(
    source: Namespace, address: str, *, interval: float = 0.01
) -> Iterator[Callable[[], tuple[int, int]]]:
    """Ping all the while; the function that is given ends it and says (sent, lost)."""
    process = source.popen(
        "ping",
        "-n",
        "-q",
        "-i",
        str(interval),
        "-W",
        "1",
        address,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def finish() -> tuple[int, int]:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=40)
        summary = next(line for line in out.splitlines() if "packets transmitted" in line)
        sent, received = (int(part.split()[0]) for part in summary.split(", ")[:2])
        return sent, sent - received

    try:
        yield finish
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def reaches(source: Namespace, address: str, *, count: int = 1, wait: float = 1.0) -> bool:
    """Whether a ping is answered."""
    return (
        source.run("ping", "-n", "-q", "-c", str(count), "-W", str(wait), address, check=False).returncode
        == 0
    )
