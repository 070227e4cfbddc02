"""Who stands at the end of a flow: names and addresses -> endpoints and nodes.

In:   all facts, and the rows of the endpoints that are enforced.
Out:  ``Ends.find``: where a text leads to.
Next: ``analysis.world`` asks each end's endpoint.

Of several workloads with one address, the one to whom its host routes it is meant. Which host endpoint governs
an address of a host is a matter of interfaces, which resources tell only in part: see ``governor``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from calico.calculation.facts import endpoint_id
from calico.desired import EndpointId, EndpointRow
from calico.model.address import AddressError, Cidr, address_in, parse_address, parse_cidr
from calico.model.endpoint import ALL_INTERFACES, HostEndpoint, WorkloadEndpoint
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.resource import Resource


class UnknownEndError(LookupError):
    """An end names nothing of this world, or nothing that has an address."""


class End(NamedTuple):
    """One end of a flow."""

    address: Cidr
    endpoint: EndpointId | None
    """The endpoint whose address this is, or that governs it; None where policy has no hold."""
    node: str
    """The node that the endpoint is on, or whose own address this is; "" for the world outside."""

    @property
    def is_workload(self) -> bool:
        """Whether a workload stands here."""
        return self.endpoint is not None and self.endpoint.kind == "WorkloadEndpoint"


class HostPod(NamedTuple):
    """A pod that uses its host's network: no endpoint of its own, but a name for the host's addresses."""

    name: str
    """With its namespace: "namespace/name"."""
    node: str
    addresses: tuple[str, ...]


class Ends:
    """Everything that can be the end of a flow."""

    def __init__(
        self,
        facts: Mapping[Key, Resource],
        rows: Mapping[EndpointId, EndpointRow],
        host_pods: Iterable[HostPod] = (),
    ) -> None:
        self._by_name: dict[str, list[End]] = {}
        self._by_address: dict[Cidr, End] = {}
        hosts: dict[str, list[tuple[Key, HostEndpoint]]] = {}
        nodes: dict[str, Node] = {}
        workloads: list[tuple[Key, WorkloadEndpoint]] = []
        for key in sorted(facts):
            match facts[key]:
                case HostEndpoint() as host:
                    hosts.setdefault(host.spec.node, []).append((key, host))
                case Node() as node:
                    nodes[key.name] = node
                case WorkloadEndpoint() as workload:
                    workloads.append((key, workload))
        pods: dict[str, list[HostPod]] = {}
        for pod in host_pods:
            pods.setdefault(pod.node, []).append(pod)
        for name in sorted(nodes.keys() | hosts.keys() | pods.keys()):
            self._add_host(name, nodes.get(name), hosts.get(name, ()), pods.get(name, ()))
        # Whom its host routes to comes before those who are closed or have lost their interface to another.
        workloads.sort(key=lambda each: not _enforced(rows.get(endpoint_id(each[0]))))
        for key, workload in workloads:
            self._add_workload(key, workload)

    def find(self, text: str) -> Sequence[End]:
        """Where ``text`` leads to: an address, "namespace/name" of a Pod or WorkloadEndpoint, a HostEndpoint's name.

        One end for each address. Raises ``UnknownEndError``.
        """
        named = self._by_name.get(text)
        if named:
            return named
        if named is not None:
            raise UnknownEndError(
                f"{text} is known, but no address of it: give it one, or ask about an address instead"
            )
        try:
            address = parse_address(text)
        except AddressError:
            raise UnknownEndError(
                f"{text!r} is nothing of this world: write an address, namespace/name of a Pod or "
                "WorkloadEndpoint, or the name of a HostEndpoint"
            ) from None
        return [self._by_address.get(address, End(address, None, ""))]

    def _add_host(
        self,
        name: str,
        node: Node | None,
        endpoints: Sequence[tuple[Key, HostEndpoint]],
        pods: Sequence[HostPod],
    ) -> None:
        for key, _ in endpoints:
            self._by_name.setdefault(key.name, [])
        texts = []
        if node is not None:
            texts += [(text, False) for text in node.own_addresses()]
            texts += [(text, True) for text in node.tunnel_addresses()]
        texts += [(text, False) for _, host in endpoints for text in host.spec.expected_ips]
        texts += [(text, False) for pod in pods for text in pod.addresses]
        for text, tunnel in texts:
            address = address_in(text)
            if address is None or address in self._by_address:
                continue
            governing = governor(address, endpoints, tunnel=tunnel)
            end = End(address, None if governing is None else endpoint_id(governing), name)
            self._by_address[address] = end
            if governing is not None:
                self._by_name[governing.name].append(end)
        for pod in pods:
            known = (self._by_address.get(address) for text in pod.addresses if (address := address_in(text)))
            self._by_name[pod.name] = [end for end in known if end is not None]

    def _add_workload(self, key: Key, workload: WorkloadEndpoint) -> None:
        ends = []
        for text in workload.spec.ip_networks:
            with suppress(AddressError):  # the calculation closes the endpoint
                ends.append(End(parse_cidr(text), endpoint_id(key), workload.spec.node))
        for name in {key.name, workload.spec.pod, workload.spec.workload} - {""}:
            self._by_name.setdefault(f"{key.namespace}/{name}", []).extend(ends)
        for end in ends:
            self._by_address.setdefault(end.address, end)


def _enforced(row: EndpointRow | None) -> bool:
    return row is not None and row.active


def governor(address: Cidr, endpoints: Sequence[tuple[Key, HostEndpoint]], *, tunnel: bool) -> Key | None:
    """Which of a host's endpoints, in order of names, governs the interface that carries ``address``.

    The first that expects the address; else the first with an interface's name and no expectations, since that
    interface may be the one (a tunnel's is not); else the first for all interfaces (behaviour reference 3.6).
    """
    wildcard: Key | None = None
    possible: Key | None = None
    for key, host in endpoints:
        if host.spec.interface_name == ALL_INTERFACES:
            wildcard = wildcard or key
        elif any(address_in(text) == address for text in host.spec.expected_ips):
            return key
        elif host.spec.interface_name and not host.spec.expected_ips and not tunnel:
            possible = possible or key
    return possible or wildcard
