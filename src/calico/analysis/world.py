"""A world of resources that can be asked whether this may talk to that.

In:   documents as parsed from YAML or JSON (resources and Kubernetes objects), or facts of a store.
Out:  ``Decision`` for a flow: what the source's end and the destination's end say, each with its trail.
Next: ``lab probe``, tests in CI, people's own scripts.

Both ends decide independently, as their hosts do, and so does what passes the packet on: host endpoints of the
workloads' hosts, and of hosts between. Where no endpoint of the world stands at an end, that end has no say. A host
never polices its own traffic to itself and to its local workloads (behaviour reference 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from calico.analysis.agents import Agents
from calico.analysis.between import Doors, Passage, passages
from calico.analysis.ends import End, Ends, HostPod, UnknownEndError
from calico.analysis.evaluate import ICMPV6, PORTED, Packet, Picture, Step, Verdict, evaluate
from calico.analysis.everywhere import Everywhere
from calico.analysis.host import judge_host
from calico.calculation.rules import PROTOCOLS
from calico.calculation.translation import translated
from calico.desired import Direction, EndpointId, EndpointRow
from calico.model.address import Family
from calico.model.errors import InvalidResources, Problem
from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import DISCOVERY, EndpointSlice, Pod
from calico.model.kubernetes_object import problem
from calico.model.resource import API_VERSION, Resource
from calico.model.settings import Settings
from calico.model.validation import DEFAULT_NAMESPACE, defaulted

_ROUTER_ADVERTISEMENT: Final = 134
_NEIGHBOURS: Final = frozenset({130, 131, 132, 133, 135, 136})
"""ICMPv6 types without which a workload and its host could not be neighbours; a host always takes them."""


class Decision(NamedTuple):
    """What becomes of a flow. ``egress`` and ``ingress`` are None where no endpoint of the world has a say."""

    egress: Verdict | None
    ingress: Verdict | None
    between: tuple[Passage, ...] = ()
    """The host endpoints that it passes on its way through hosts and that have policy about such packets, in order."""

    @property
    def allowed(self) -> bool:
        """Whether both ends, and all that it passes between, let it pass."""
        ways = (passage.verdict for passage in self.between)
        return all(verdict is None or verdict.allowed for verdict in (self.egress, self.ingress, *ways))


class Flow(NamedTuple):
    """A question as the world understands it: who stands at each end, and the first packet."""

    source: End
    destination: End
    packet: Packet
    through: tuple[str, ...] = ()
    """Nodes between the ends' own that pass it on, in order."""


class World:
    """Resources, and the policy that follows from them.

    ``facts`` are resources as a store holds them, under their keys, Kubernetes' objects among them (see
    ``datastore.resync.picture``); ``settings`` are those of every agent, by default what the facts say of each;
    ``host_pods`` are no resources, but may be asked about by name. ``problems`` says what of all this could not be used,
    and what became of it.
    """

    def __init__(
        self,
        facts: Mapping[Key, Resource],
        settings: Settings | None = None,
        *,
        host_pods: Iterable[HostPod] = (),
        problems: Iterable[str] = (),
    ) -> None:
        self._given = settings
        self._agents = Agents(facts, settings)
        meant = translated(facts)
        self._state = Everywhere(meant.facts)
        stored_pods = (
            pod for each in facts.values() if isinstance(each, Pod) for pod in _host_pod(each.document())
        )
        self._ends = Ends(meant.facts, self._state.endpoints, (*stored_pods, *host_pods))
        self._doors = Doors(meant.facts)
        self.facts: Mapping[Key, Resource] = meant.facts
        """What counts, Kubernetes' objects as what they stand for."""
        self.endpoints: Mapping[EndpointId, EndpointRow] = self._state.endpoints
        """The row of each endpoint that its node enforces."""
        self.picture: Picture = self._state.picture
        self.problems: tuple[str, ...] = (
            *problems,
            *(f"{key}: {sentence}" for key, sentence in meant.problems.items()),
            *self._state.problems,
        )

    @classmethod
    def load(cls, documents: Iterable[Mapping[str, Any]], settings: Settings | None = None) -> World:
        """A world of ``documents``: resources of projectcalico.org/v3 and Kubernetes objects, lists of them included.

        What a client fills in when it writes a resource is filled in here. A later document replaces an earlier one of
        the same kind and name; what a Kubernetes object stands for replaces no resource. Raises ``InvalidResources``
        with all that is wrong with all resources; what of Kubernetes' objects could not be converted falls to the
        closed side, and is among ``problems``.
        """
        read = _Documents(documents)
        return cls(
            {key_of(resource): resource for resource in (*read.converted, *read.resources)},
            settings,
            host_pods=read.host_pods,
            problems=map(str, read.unconverted),
        )

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
        through: Iterable[str] = (),
    ) -> Decision:
        """What becomes of a new flow from ``source`` to ``destination``.

        An end is an address, "namespace/name" of a Pod or WorkloadEndpoint, or the name of a HostEndpoint.
        ``protocol`` is a name in any case or a number; ICMP between IPv6 ends means ICMPv6. Ends that have both
        families meet on ``ip_version``; else on IPv4, or IPv6 where the protocol is ICMPv6. A port, type or code that is
        not given matches no rule that asks for one. ``through`` are nodes that pass the flow on between those of the
        ends, such as gateways: the world does not know them by itself. Raises ``UnknownEndError`` for an end that is
        nothing of this world and no address, for a node that is not of it, and for ends without a family in common;
        ``ValueError`` for an unknown protocol.
        """
        return self.judge(
            self.flow(
                source=source,
                destination=destination,
                protocol=protocol,
                port=port,
                source_port=source_port,
                icmp_type=icmp_type,
                icmp_code=icmp_code,
                ip_version=ip_version,
                through=through,
            )
        )

    def flow(
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
        through: Iterable[str] = (),
    ) -> Flow:
        """The question that ``decide`` answers, understood; raises what it raises."""
        number = _protocol(protocol)
        sources, destinations = self._ends.find(source), self._ends.find(destination)
        first, last = _meeting(sources, destinations, _families(number, ip_version), (source, destination))
        if number == PROTOCOLS["icmp"] and last.address.family == 6:
            number = ICMPV6
        ported = number in PORTED
        packet = Packet(
            first.address,
            last.address,
            number,
            source_port if ported else None,
            port if ported else None,
            icmp_type,
            icmp_code,
        )
        way = tuple(through)
        for node in way:
            if not self._doors.known(node):
                raise UnknownEndError(f"{node!r} is no node of this world: it cannot pass anything on")
        return Flow(first, last, packet, way)

    def find(self, text: str) -> Sequence[End]:
        """Where ``text``, an end as ``decide`` knows them, leads to; raises UnknownEndError."""
        return self._ends.find(text)

    def instead(self, facts: Mapping[Key, Resource]) -> World:
        """A world of other facts, with the same settings if this one was given any."""
        return World(facts, self._given)

    def settings_at(self, node: str) -> Settings:
        """The settings of a node's agent; of "", which is no node, what all have in common."""
        return self._agents.of(node)

    def judge(self, flow: Flow) -> Decision:
        """What becomes of ``flow``."""
        source, destination, packet, through = flow
        local = bool(source.node) and source.node == destination.node
        if local and not source.is_workload:
            return Decision(None, None)
        between = tuple(
            passages(
                self._doors,
                self.picture,
                self.endpoints,
                self.settings_at,
                source,
                destination,
                packet,
                through,
            )
        )
        if local and not destination.is_workload:
            return Decision(self._to_own_host(source, packet), None, between)
        return Decision(
            self._judge(source, "egress", packet), self._judge(destination, "ingress", packet), between
        )

    def _to_own_host(self, source: End, packet: Packet) -> Verdict | None:
        """A workload's traffic to its host: after its egress policy the host's setting decides, and no host endpoint."""
        if packet.protocol == ICMPV6 and packet.icmp_type in _NEIGHBOURS:
            return _fixed("Host", "neighbours", "Allow")
        verdict = self._judge(source, "egress", packet)
        if verdict is None or not verdict.allowed:
            return verdict
        drops = self.settings_at(source.node).default_endpoint_to_host_action == "Drop"
        action = "Deny" if drops else "Allow"
        host = _fixed("Host", "defaultEndpointToHostAction", action)
        return host._replace(trail=(*verdict.trail, *host.trail))

    def _judge(self, end: End, direction: Direction, packet: Packet) -> Verdict | None:
        """What the endpoint at ``end`` says, if there is one."""
        endpoint = end.endpoint
        if endpoint is None:
            return None
        row = self._state.endpoints.get(endpoint)
        if row is None or not row.active:
            step = Step("Endpoint", "", endpoint.namespace, endpoint.name, None, "Deny")
            return Verdict("deny", (step,))
        if end.is_workload:
            if (
                direction == "egress"
                and packet.protocol == ICMPV6
                and packet.icmp_type == _ROUTER_ADVERTISEMENT
            ):
                return _fixed("Router", row.interface, "Deny")
            return evaluate(self.picture, row, direction, packet, workload=True)
        return judge_host(self.picture, row, endpoint.name, direction, packet, self.settings_at(end.node))


def resources_of(document: Mapping[str, Any]) -> list[Resource]:
    """The resources that one document (or list) is, or is converted to, as a client stores them.

    ``InvalidResources`` if a resource is not valid. What of Kubernetes' objects cannot be converted is left out.
    """
    read = _Documents([document])
    return [*read.converted, *read.resources]


class _Documents:
    """What documents are: resources, as a client stores them, what Kubernetes' objects stand for, and what is neither.

    ``InvalidResources`` with everything that is wrong with resources.
    """

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.resources: list[Resource] = []
        self.converted: list[Resource] = []
        self.host_pods: list[HostPod] = []
        self.unconverted: list[Problem] = []
        self._wrong: list[Problem] = []
        for document in filter(None, documents):  # between two markers of YAML there may be nothing
            self._take(document)
        if self._wrong:
            raise InvalidResources(tuple(self._wrong))

    def _take(self, document: Mapping[str, Any]) -> None:
        from calico.model import codec, kubernetes

        kind, version = document.get("kind", ""), document.get("apiVersion", "")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
            common = {} if kind == "List" else {"apiVersion": version, "kind": kind.removesuffix("List")}
            for item in document["items"]:
                # What is no object has no kind either, which is what the conversion will say.
                self._take({**common, **item} if isinstance(item, Mapping) else {})
            return
        plain = _plain(document)
        if version == API_VERSION:
            try:
                self.resources.append(defaulted(codec.from_builtins(plain)))
            except InvalidResources as error:
                self._wrong += error.problems
            return
        if (version, kind) == (DISCOVERY, EndpointSlice.__name__):
            self._slice(plain)
            return
        conversion = kubernetes.convert(plain)
        self.converted += map(defaulted, conversion.resources)
        self.unconverted += conversion.problems
        if (version, kind) == ("v1", "Pod") and not conversion.resources and not conversion.problems:
            self.host_pods += _host_pod(plain)

    def _slice(self, plain: Any) -> None:
        """Rules go by slices as they are; of one that is wrong in part the rest counts."""
        import msgspec

        try:
            self.resources.append(defaulted(msgspec.convert(plain, EndpointSlice)))
        except msgspec.ValidationError as error:
            remedy = "write it as Kubernetes has it; until then it is as good as absent"
            self.unconverted.append(problem(plain, str(error), remedy, ()))


def _host_pod(pod: Mapping[str, Any]) -> Iterator[HostPod]:
    """The pod, if it is one that uses its host's network."""
    match pod:
        case {"metadata": {"name": name, **metadata}, "spec": {"hostNetwork": True, "nodeName": str(node)}}:
            status = pod.get("status")
            given = (
                []
                if not isinstance(status, dict)
                else [*(status.get("podIPs") or ()), {"ip": status.get("podIP")}]
            )
            found = (each["ip"] for each in given if isinstance(each, dict) and each.get("ip"))
            addresses = tuple(dict.fromkeys(map(str, found)))
            yield HostPod(f"{metadata.get('namespace') or DEFAULT_NAMESPACE}/{name}", node, addresses)


def _plain(tree: Any) -> Any:
    """``tree`` as JSON would have it: YAML's readers make times of what is a text."""
    match tree:
        case dict():
            return {key: _plain(value) for key, value in tree.items()}
        case list():
            return [_plain(value) for value in tree]
        case date():
            return tree.isoformat()
        case _:
            return tree


def _fixed(kind: str, name: str, action: str) -> Verdict:
    return Verdict("allow" if action == "Allow" else "deny", (Step(kind, "", "", name, None, action),))


def _protocol(protocol: str | int) -> int:
    text = str(protocol)
    number = int(text) if text.isascii() and text.isdigit() else PROTOCOLS.get(text.lower(), -1)
    if not 0 <= number <= 255:
        raise ValueError(
            f"{protocol!r} is no protocol: write {', '.join(PROTOCOLS)} in any case, or a number from 0 to 255"
        )
    return number


def _families(protocol: int, ip_version: int | None) -> tuple[int, ...]:
    """The families that a flow may be of, the preferred one first."""
    if ip_version is not None:
        return (ip_version,)
    return (6, 4) if protocol == ICMPV6 else (4, 6)


def _meeting(
    sources: Iterable[End], destinations: Iterable[End], families: Iterable[int], asked: tuple[str, str]
) -> tuple[End, End]:
    firsts: dict[Family, End] = {}
    lasts: dict[Family, End] = {}
    for ends, by_family in ((sources, firsts), (destinations, lasts)):
        for end in ends:
            by_family.setdefault(end.address.family, end)
    for family in families:
        if family in firsts and family in lasts:
            return firsts[family], lasts[family]
    raise UnknownEndError(
        f"{asked[0]} and {asked[1]} have no addresses of one family (asked for: IPv{' or IPv'.join(map(str, families))})"
    )
