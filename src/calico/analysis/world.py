"""A world of resources that can be asked whether this may talk to that.

In:   documents as parsed from YAML or JSON (resources and Kubernetes objects), or facts of a store.
Out:  ``Decision`` for a flow: what the source's end and the destination's end say, each with its trail.
Next: ``lab probe``, tests in CI, people's own scripts.

Both ends decide independently, as their hosts do. Where no endpoint of the world stands at an end, that end
has no say. A host never polices its own traffic to its local workloads (behaviour reference 3.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from calico.analysis.evaluate import PORTED, Members, Packet, Picture, Step, Verdict, evaluate
from calico.calculation import oracle
from calico.desired import EndpointId, EndpointRow
from calico.model import codec, kubernetes
from calico.model.address import AddressError, Cidr, parse_address, parse_cidr
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.keys import Key, key_of
from calico.model.node import Node
from calico.model.policy import DEFAULT_TIER, DEFAULT_TIER_ORDER, Tier, TierSpec
from calico.model.resource import API_VERSION, Metadata, Resource
from calico.model.settings import Settings

PROTOCOLS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPV6": 58, "SCTP": 132, "UDPLITE": 136}


class UnknownEndError(LookupError):
    """An end names nothing of this world."""


class Decision(NamedTuple):
    """What becomes of a flow. ``egress`` and ``ingress`` are None where no endpoint of the world stands at that end."""

    egress: Verdict | None
    ingress: Verdict | None

    @property
    def allowed(self) -> bool:
        """Whether both ends let it pass."""
        return all(verdict is None or verdict.allowed for verdict in (self.egress, self.ingress))


class _End(NamedTuple):
    address: Cidr
    endpoint: EndpointId | None
    node: str
    """The node that the endpoint is on, or whose own address this is; "" for the world outside."""


class World:
    """Resources, and the policy that follows from them. Facts do not change after the first question."""

    def __init__(self, facts: Mapping[Key, Resource], settings: Settings | None = None) -> None:
        self._facts = dict(facts)
        self._facts.setdefault(
            Key("Tier", DEFAULT_TIER),
            Tier(metadata=Metadata(name=DEFAULT_TIER), spec=TierSpec(order=DEFAULT_TIER_ORDER)),
        )
        self._settings = settings or Settings()
        self._states: dict[str, tuple[oracle.State, Picture]] = {}
        self._workloads: dict[str, list[WorkloadEndpoint]] = {}
        self._by_address: dict[Cidr, _End] = {}
        self._index()

    @classmethod
    def load(cls, documents: Iterable[Mapping[str, Any]], settings: Settings | None = None) -> World:
        """A world of ``documents``: resources of projectcalico.org/v3 and Kubernetes objects, lists of them included.

        Raises ``InvalidResources`` where a resource is not valid.
        """
        facts: dict[Key, Resource] = {}
        for document in documents:
            for resource in resources_of(document):
                facts[key_of(resource)] = resource
        return cls(facts, settings)

    def decide(
        self,
        *,
        source: str,
        destination: str,
        protocol: str | int,
        port: int | None = None,
        source_port: int | None = None,
        icmp_type: int | None = None,
        icmp_code: int | None = None,
        ip_version: int | None = None,
    ) -> Decision:
        """What becomes of a new flow from ``source`` to ``destination``.

        An end is an address, "namespace/name" of a Pod or WorkloadEndpoint, or the name of a HostEndpoint.
        ``protocol`` is a name in any case or a number. Ends by name meet on ``ip_version`` (4 where both have it).
        Raises ``UnknownEndError`` for an end that is nothing of this world and no address.
        """
        sources, destinations = self._ends(source), self._ends(destination)
        for family in (4, 6) if ip_version is None else (ip_version,):
            first = next((end for end in sources if end.address.family == family), None)
            last = next((end for end in destinations if end.address.family == family), None)
            if first is not None and last is not None:
                number = _protocol(protocol, family)
                packet = Packet(
                    first.address,
                    last.address,
                    number,
                    source_port if number in PORTED else None,
                    port if number in PORTED else None,
                    icmp_type,
                    icmp_code,
                )
                return self._decide(first, last, packet)
        raise UnknownEndError(f"{source} and {destination} have no address family in common")

    def _decide(self, source: _End, destination: _End, packet: Packet) -> Decision:
        egress = ingress = None
        same_node = bool(source.node) and source.node == destination.node
        if source.endpoint is not None and not (same_node and source.endpoint.kind == "HostEndpoint"):
            egress = self._judge(source, "egress", packet)
            to_host = same_node and (
                destination.endpoint is None or destination.endpoint.kind == "HostEndpoint"
            )
            if source.endpoint.kind == "WorkloadEndpoint" and to_host:
                return Decision(self._to_host(egress), None)
        if destination.endpoint is not None:
            from_host = same_node and (source.endpoint is None or source.endpoint.kind == "HostEndpoint")
            if not from_host:
                ingress = self._judge(destination, "ingress", packet)
        return Decision(egress, ingress)

    def _to_host(self, egress: Verdict) -> Verdict:
        """A workload's traffic to its own host: after its egress policy the host's setting decides."""
        action = self._settings.default_endpoint_to_host_action
        if not egress.allowed or action == "Accept":
            return egress
        step = Step(
            "Host", "", "", "defaultEndpointToHostAction", None, "Deny" if action == "Drop" else "Allow"
        )
        return Verdict("deny" if action == "Drop" else "allow", (*egress.trail, step))

    def _judge(self, end: _End, direction: str, packet: Packet) -> Verdict:
        assert end.endpoint is not None
        assert direction in {"ingress", "egress"}
        state, picture = self._state(end.node)
        row: EndpointRow | None = state.endpoints.get(end.endpoint)
        if row is None:
            return Verdict(
                "deny", (Step("Endpoint", "", end.endpoint.namespace, end.endpoint.name, None, "Deny"),)
            )
        host = end.endpoint.kind == "HostEndpoint"
        if host and self._failsafe(direction, packet):
            return Verdict("allow", (Step("Failsafe", "", "", end.endpoint.name, None, "Allow"),))
        return evaluate(
            picture, row, "ingress" if direction == "ingress" else "egress", packet, workload=not host
        )

    def _failsafe(self, direction: str, packet: Packet) -> bool:
        settings = self._settings
        ports = settings.failsafe_inbound if direction == "ingress" else settings.failsafe_outbound
        far = packet.source if direction == "ingress" else packet.destination
        return any(
            (safe.protocol, safe.port) == (packet.protocol, packet.destination_port)
            and (safe.net is None or safe.net.contains(far))
            for safe in ports
        )

    def _state(self, node: str) -> tuple[oracle.State, Picture]:
        known = self._states.get(node)
        if known is None:
            state = oracle.desired(node, self._facts)
            known = state, Picture(state.policies, state.profiles, Members(state.set_members))
            self._states[node] = known
        return known

    def _ends(self, text: str) -> list[_End]:
        namespace, slash, name = text.partition("/")
        if slash and not name.isdigit():
            found = [
                self._end_of(endpoint, parse_cidr(net))
                for endpoint in self._workloads.get(text, ())[:1]
                for net in endpoint.spec.ip_networks
            ]
            if found:
                return found
            raise UnknownEndError(
                f"no Pod or WorkloadEndpoint {name!r} with an address is in namespace {namespace!r}"
            )
        try:
            address = parse_address(text)
        except AddressError:
            host = self._facts.get(Key("HostEndpoint", text))
            if isinstance(host, HostEndpoint):
                identity = EndpointId("HostEndpoint", "", text)
                return [end for end in self._by_address.values() if end.endpoint == identity]
            raise UnknownEndError(f"{text!r} is no address, no namespace/name and no HostEndpoint") from None
        return [self._by_address.get(address, _End(address, None, ""))]

    def _index(self) -> None:
        by_node: dict[str, list[HostEndpoint]] = {}
        for key in sorted(self._facts):
            resource = self._facts[key]
            if isinstance(resource, HostEndpoint):
                by_node.setdefault(resource.spec.node, []).append(resource)
        for key in sorted(self._facts):
            match self._facts[key]:
                case Node() as node:
                    self._index_node(node, by_node.get(node.metadata.name, ()))
                case WorkloadEndpoint() as workload:
                    self._index_workload(workload)
        for hosts in by_node.values():
            for host in hosts:
                for text in host.spec.expected_ips:
                    address = parse_address(text)
                    self._by_address[address] = _End(
                        address, EndpointId("HostEndpoint", "", host.metadata.name), host.spec.node
                    )

    def _index_node(self, node: Node, hosts: Iterable[HostEndpoint]) -> None:
        """A node's own addresses belong to its named interface's endpoint, else to its wildcard one, if it has either."""
        ordered = sorted(hosts, key=lambda host: (host.spec.interface_name in {"", "*"}, host.metadata.name))
        governing = next((host for host in ordered if host.spec.interface_name), None)
        endpoint = EndpointId("HostEndpoint", "", governing.metadata.name) if governing else None
        texts = [address.address for address in node.spec.addresses]
        if node.spec.bgp is not None:
            texts += [node.spec.bgp.ipv4_address, node.spec.bgp.ipv6_address]
        for text in filter(None, texts):
            address = parse_address(text.partition("/")[0])
            self._by_address[address] = _End(address, endpoint, node.metadata.name)

    def _index_workload(self, workload: WorkloadEndpoint) -> None:
        namespace = workload.metadata.namespace or "default"
        names = {workload.metadata.name, workload.spec.pod, workload.spec.workload} - {""}
        for name in names:
            self._workloads.setdefault(f"{namespace}/{name}", []).append(workload)
        for net in workload.spec.ip_networks:
            address = parse_cidr(net)
            self._by_address.setdefault(address, self._end_of(workload, address))

    def _end_of(self, workload: WorkloadEndpoint, address: Cidr) -> _End:
        identity = EndpointId("WorkloadEndpoint", workload.metadata.namespace or "", workload.metadata.name)
        return _End(address, identity, workload.spec.node)


def _protocol(protocol: str | int, family: int) -> int:
    """The number of a protocol; ICMP means ICMPv6 between IPv6 ends."""
    if isinstance(protocol, int) or protocol.isdigit():
        return int(protocol)
    name = protocol.upper()
    if name == "ICMP" and family == 6:
        name = "ICMPV6"
    if name not in PROTOCOLS:
        raise ValueError(f"{protocol!r} is no protocol; known are {', '.join(PROTOCOLS)} and numbers")
    return PROTOCOLS[name]


def resources_of(document: Mapping[str, Any]) -> list[Resource]:
    """The resources that one document (or list) is, or is converted to; ``InvalidResources`` if it is not valid."""
    if document.get("kind", "").endswith("List") and isinstance(document.get("items"), list):
        return [resource for item in document["items"] for resource in resources_of(item)]
    if document.get("apiVersion") == API_VERSION:
        return list(codec.load(json.dumps(document), "<document>"))
    return list(kubernetes.convert(document).resources)
