"""Two hosts and their pods on the real kernel, policed by the real calculation, rendering and back end.

What an agent does is done here in the test's own process, one step after the other, so that a case can be
applied and judged in a fraction of a second. Host "n1" and "n2" route to each other; pods alternate between them.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from calico.calculation.network import Network
from calico.desired import RouteRow
from calico.model.address import Cidr
from calico.model.endpoint import WorkloadEndpoint
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.programming.links import Links
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from calico.rendering.renderer import Renderer
from support.backends import make_backend
from support.host import GATEWAY_MAC
from support.netns import Namespace, link, namespaces
from support.packets import Probe, build

HOSTS: Final = {"n1": "10.0.0.1", "n2": "10.0.0.2"}
PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}
_QUIET = 0.12
"""Seconds of silence after which no more packets are expected: all ways are within this machine."""
_PATIENCE = 3
"""How often a packet that should have arrived is sent again before it counts as dropped: neighbours resolve, and machines stall."""
_tokens = itertools.count(1 << 40)


class Flow(NamedTuple):
    """A first packet from one pod to another."""

    source: str
    destination: str
    protocol: str
    port: int


class _Host:
    def __init__(self, node: str, namespace: Namespace, backend: str, directory: Path) -> None:
        settings = Settings()
        self.namespace = namespace
        self.network = Network(node)
        self.renderer = Renderer(settings)
        self.backend = make_backend(backend, directory / f"{node}.lock")
        self.routes = Routes(settings, grace=0.0)
        self.links = Links(settings)
        self.sysctls = Sysctls()
        self.wanted: dict[Cidr, RouteRow] = {}
        self.in_sync = False

    def follow(self, updates: Iterable[Update]) -> None:
        """Take facts in and bring the kernel to them."""
        self.network.update(updates)
        if not self.in_sync:
            self.network.update([InSync()])
        delta = self.network.settle()
        changes = self.renderer.update(delta)
        for cidr, row in delta.routes.items():
            if row is None:
                self.wanted.pop(cidr, None)
            else:
                self.wanted[cidr] = row

        def program() -> None:
            if self.in_sync:
                self.backend.apply(changes)
            else:
                self.backend.sync(self.renderer.tables)
                self.sysctls.prepare_host()
            self.links.sync()
            self.routes.sync(self.wanted)

        self.namespace.call(program)
        self.in_sync = True


class Cluster:
    """Hosts with pods; ``become`` makes the facts true, ``reach`` sends packets."""

    def __init__(self, hosts: Mapping[str, _Host], pods: Mapping[str, Namespace]) -> None:
        self._hosts = hosts
        self._pods = pods
        self._facts: dict[Key, Resource] = {}
        self._address: dict[str, str] = {}
        self._senders = {address: space.call(_sender) for address, space in pods.items()}
        self._taps = {space.call(_tap): address for address, space in pods.items()}

    def close(self) -> None:
        for opened in (*self._senders.values(), *self._taps):
            opened.close()

    def become(self, resources: Sequence[Resource], pods: Iterable[Mapping[str, Any]]) -> None:
        """Have exactly these resources in force; only what differs from before is told to the hosts."""
        from calico.model.keys import key_of

        self._address = {f"{pod['namespace']}/{pod['name']}": pod["ip"] for pod in pods}
        facts = {key_of(one): self._placed(one) for one in resources}
        updates = [Update(key, None) for key in self._facts.keys() - facts.keys()]
        updates += [Update(key, value) for key, value in facts.items() if self._facts.get(key) != value]
        self._facts = facts
        for host in self._hosts.values():
            host.follow(updates)

    def _placed(self, resource: Resource) -> Resource:
        """A workload on the host that its pod was plugged into, by the interface that it has there."""
        if not isinstance(resource, WorkloadEndpoint):
            return resource
        address = resource.spec.ip_networks[0].partition("/")[0]
        index = list(self._pods).index(address)
        spec = replace(resource.spec, node=_node(index), interface_name=_interface(index))
        return replace(resource, spec=spec)

    def reach(self, flows: Sequence[Flow], expected: Sequence[bool]) -> list[bool]:
        """For each flow whether its first packet arrives; what is expected to but does not is tried again."""
        arrived = [False] * len(flows)
        for attempt in range(_PATIENCE):
            again = [
                index for index, want in enumerate(expected) if not arrived[index] and (attempt == 0 or want)
            ]
            if not again:
                break
            seen = self._send([flows[index] for index in again])
            for index, came in zip(again, seen, strict=True):
                arrived[index] = came
        return arrived

    def _send(self, flows: Sequence[Flow]) -> list[bool]:
        self._collect(0.0)
        tokens = [next(_tokens).to_bytes(8, "big") for _ in flows]
        for flow, token in zip(flows, tokens, strict=True):
            source, destination = self._address[flow.source], self._address[flow.destination]
            probe = Probe(
                "w1",
                "w2",
                4,
                protocol=PROTOCOLS[flow.protocol],
                dport=flow.port,
                claimed=source,
                towards=destination,
            )
            with contextlib.suppress(PermissionError):
                self._senders[source].sendto(build(probe, token), (destination, 0))
        seen = self._collect(_QUIET)
        return [
            (token, self._address[flow.destination]) in seen
            for flow, token in zip(flows, tokens, strict=True)
        ]

    def _collect(self, quiet: float) -> set[tuple[bytes, str]]:
        """What arrives at the pods, by token and pod's address, until nothing has come for ``quiet`` seconds."""
        seen: set[tuple[bytes, str]] = set()
        while True:
            ready, _, _ = select.select(list(self._taps), [], [], quiet)
            if not ready:
                return seen
            for tap in ready:
                data, address = tap.recvfrom(4096)
                if address[2] != socket.PACKET_OUTGOING:
                    seen.add((data[-8:], self._taps[tap]))


@contextlib.contextmanager
def cluster(prefix: str, addresses: Sequence[str], backend: str, directory: Path) -> Iterator[Cluster]:
    """A cluster with a pod plugged in for each IPv4 address, without any policy or endpoint yet."""
    names = [f"{prefix}-{node}" for node in HOSTS] + [f"{prefix}-p{index}" for index in range(len(addresses))]
    with namespaces(*names) as made:
        hosts = {
            node: _Host(node, space, backend, directory) for node, space in zip(HOSTS, made[:2], strict=True)
        }
        _join(made[0], made[1])
        for index, (address, space) in enumerate(zip(addresses, made[2:], strict=True)):
            node = _node(index)
            _plug(hosts[node].namespace, space, _interface(index), address)
            for other, host in hosts.items():
                if other != node:
                    host.namespace.run("ip", "route", "add", f"{address}/32", "via", HOSTS[node])
        made_cluster = Cluster(hosts, dict(zip(addresses, made[2:], strict=True)))
        try:
            yield made_cluster
        finally:
            made_cluster.close()


def _node(index: int) -> str:
    return list(HOSTS)[index % 2]


def _interface(index: int) -> str:
    return f"cali{index:011x}"


def _join(one: Namespace, other: Namespace) -> None:
    link(one, "eth0", other, "eth0")
    for namespace, own, far in ((one, "n1", "n2"), (other, "n2", "n1")):
        namespace.run("ip", "address", "add", f"{HOSTS[own]}/24", "dev", "eth0")
        namespace.run("ip", "route", "add", "default", "via", HOSTS[far])


def _plug(host: Namespace, pod: Namespace, interface: str, address: str) -> None:
    link(host, interface, pod, "eth0")
    host.run("ip", "link", "set", interface, "address", GATEWAY_MAC)
    pod.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    pod.run("ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
    pod.run("ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")


def _sender() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _tap() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
