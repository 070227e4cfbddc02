"""Why a packet passes, or does not: both ends, what it passes between them, and what staged policies would change.

In:   a world, and a ``Question``: ends in people's words, a protocol, ports by number or name.
Out:  ``Explanation``: the decision of ``World.decide``, each trail told, the hops between; or ``Unanswerable``.
Next: ``cli.explain`` and ``cli.policy_test`` print it.

An end may be a whole network set. Then every part of it that policy could treat in a way of its own is judged; the
explanation is about the first part, and ``parts`` says what becomes of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from calico.analysis.between import Passage
from calico.analysis.ends import End, UnknownEndError
from calico.analysis.evaluate import PORTED, Verdict
from calico.analysis.named import Asked, Names
from calico.analysis.path import Hop, hops
from calico.analysis.staged import Enforced, enforced
from calico.analysis.trail import Narrator, Remark
from calico.analysis.words import protocol_name
from calico.analysis.world import Decision, Flow, World
from calico.calculation.rules import PROTOCOLS
from calico.desired import Direction, EndpointId, PolicyId
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.keys import Key
from calico.model.policy import Protocol


class Unanswerable(LookupError):
    """A question about something that is not there, or that does not say enough; the sentence says what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A flow in people's words. ``port`` is a number, or the name of a port of the destination.

    Without a protocol it is TCP, or ICMP where a type is given. ``namespace`` is that of names without one.
    """

    source: str
    destination: str
    protocol: str | int | None = None
    port: str | int | None = None
    source_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    ip_version: int | None = None
    namespace: str = "default"
    through: tuple[str, ...] = ()
    """Nodes that pass it on between those of its ends, in order."""


class Understood(NamedTuple):
    """A question in the world's words: what its ends are called, and the flows that it is about, one at least."""

    asked: tuple[str, str]
    flows: tuple[Flow, ...]


class Side(NamedTuple):
    """One end, and what it says."""

    asked: str
    """The end as it was asked for."""
    end: End
    direction: Direction
    verdict: Verdict | None
    remarks: tuple[Remark, ...]
    note: str
    """Why this end has no say; "" where it has one."""


class Between(NamedTuple):
    """A host endpoint on the way of what hosts only pass on, and what it says."""

    passage: Passage
    remarks: tuple[Remark, ...]


class Staged(NamedTuple):
    """What would become of the flow if everything staged were enforced."""

    decision: Decision
    source: Side
    destination: Side
    between: tuple[Between, ...]
    origins: Mapping[PolicyId, Key]
    """The staged policies that policies of that world stem from."""
    deleted: Mapping[PolicyId, Key]
    """The staged policies that would take a policy away."""
    changes: bool
    """Whether any step of the trails is another one."""


class Part(NamedTuple):
    """One part of the network sets that were asked about: its first addresses, and its fate."""

    source: str
    destination: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, whole."""

    flow: Flow
    decision: Decision
    source: Side
    destination: Side
    hops: tuple[Hop, ...]
    between: tuple[Between, ...]
    staged: Staged | None
    parts: tuple[Part, ...]

    @property
    def allowed(self) -> bool:
        """Whether both ends, and all that it passes between, let it pass."""
        return self.decision.allowed


class Explainer:
    """Answers about one world; what several answers need is made once, when the first of them needs it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = Names(world)
        self._narrator = Narrator(world)
        self._then: _Then | None = None
        self._looked = False

    def explain(self, question: Question) -> Explanation:
        """The answer to ``question``; raises Unanswerable."""
        meant = self.understood(question)
        flow = meant.flows[0]
        decision = self.world.judge(flow)
        first, last = _sides(self._narrator, flow, decision, meant.asked)
        parts = tuple(
            Part(
                each.source.address.address, each.destination.address.address, self.world.judge(each).allowed
            )
            for each in meant.flows
            if len(meant.flows) > 1
        )
        staged = self._staged(flow, decision, meant.asked)
        between = _between(self._narrator, flow, decision)
        return Explanation(flow, decision, first, last, hops(self.world, flow), between, staged, parts)

    def understood(self, question: Question) -> Understood:
        """What is asked; raises Unanswerable."""
        try:
            source = self.names.end(question.source, question.namespace)
            destination = self.names.end(question.destination, question.namespace)
            flows = tuple(_flows(self.world, question, source, destination))
        except (UnknownEndError, ValueError) as error:
            raise Unanswerable(str(error)) from error
        return Understood((source.text, destination.text), flows)

    def _staged(self, flow: Flow, decision: Decision, asked: tuple[str, str]) -> Staged | None:
        if not self._looked:
            self._looked = True
            after = enforced(self.world.facts)
            self._then = None if after is None else _Then(after, self.world.instead(after.facts))
        if self._then is None:
            return None
        after, world, narrator = self._then.after, self._then.world, self._then.narrator
        decided = world.judge(flow)
        first, last = _sides(narrator, flow, decided, asked)
        touched = any(
            PolicyId(step.kind, step.namespace, step.name) in after.set
            for verdict in (decided.egress, decided.ingress, *(each.verdict for each in decided.between))
            for step in (verdict.trail if verdict is not None else ())
        )
        between = _between(narrator, flow, decided)
        return Staged(decided, first, last, between, after.set, after.deleted, touched or decided != decision)


class _Then:
    """The world in which what is staged is enforced."""

    def __init__(self, after: Enforced, world: World) -> None:
        self.after = after
        self.world = world
        self.narrator = Narrator(world)


def explain(world: World, question: Question) -> Explanation:
    """The answer to one question; raises Unanswerable."""
    return Explainer(world).explain(question)


def _sides(narrator: Narrator, flow: Flow, decision: Decision, asked: tuple[str, str]) -> tuple[Side, Side]:
    """Both ends of ``flow``, told."""
    return (
        _side(narrator, flow, flow.source, "egress", decision.egress, asked[0]),
        _side(narrator, flow, flow.destination, "ingress", decision.ingress, asked[1]),
    )


def _between(narrator: Narrator, flow: Flow, decision: Decision) -> tuple[Between, ...]:
    """What the flow passes on its way, told."""
    return tuple(
        Between(
            passage,
            narrator.tell(passage.endpoint, passage.direction, passage.verdict, flow.packet, "forward"),
        )
        for passage in decision.between
    )


def _side(
    narrator: Narrator, flow: Flow, end: End, direction: Direction, verdict: Verdict | None, asked: str
) -> Side:
    if verdict is None or end.endpoint is None:
        return Side(asked, end, direction, verdict, (), _silence(flow, end))
    remarks = narrator.tell(end.endpoint, direction, verdict, flow.packet)
    return Side(asked, end, direction, verdict, remarks, "")


def _silence(flow: Flow, end: End) -> str:
    """Why an end has no say."""
    if end.endpoint is not None:
        return f"both ends are on {end.node}, and a host does not police what it sends to itself and its workloads"
    if end.node:
        return f"an address of host {end.node} that no host endpoint governs"
    other = flow.destination if end == flow.source else flow.source
    where = "" if other.node else ", nor that of the other end"
    return f"no endpoint and no host has this address{where}: policy has no hold here"


def _flows(world: World, question: Question, source: Asked, destination: Asked) -> Iterator[Flow]:
    """The flow that is meant; where an end is a network set, one for each part of it."""
    protocol = question.protocol
    if protocol is None:
        protocol = "icmp" if question.icmp_type is not None else "tcp"
    found = False
    failure: UnknownEndError | None = None
    for first in source.ends:
        for last in destination.ends:
            try:
                flow = world.flow(
                    source=first,
                    destination=last,
                    protocol=protocol,
                    source_port=question.source_port,
                    icmp_type=question.icmp_type,
                    icmp_code=question.icmp_code,
                    ip_version=question.ip_version,
                    through=question.through,
                )
            except UnknownEndError as error:
                failure = error
                continue
            found = True
            port = _port(world, question, flow)
            packet = flow.packet._replace(destination_port=port if flow.packet.protocol in PORTED else None)
            yield flow._replace(packet=packet)
            if not (source.parts or destination.parts):
                return
    if not found:
        assert failure is not None, "an end without addresses is no end"
        raise failure


def _port(world: World, question: Question, flow: Flow) -> int | None:
    """The port that is asked for; a name is looked up at the destination."""
    if question.port is None:
        return None
    text = str(question.port)
    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= 65535:
            raise Unanswerable(f"{text} is no port: they go from 1 to 65535")
        return int(text)
    endpoint = flow.destination.endpoint
    named = {} if endpoint is None else _named_ports(world, endpoint)
    protocol = flow.packet.protocol
    found = sorted({port for (name, number), port in named.items() if (name, number) == (text, protocol)})
    if not found:
        known = ", ".join(
            f"{name} ({protocol_name(number)} {port})" for (name, number), port in named.items()
        )
        raise Unanswerable(
            f"{question.destination} has no {protocol_name(protocol)} port that is called {text}"
            f"{'; it has ' + known if known else ''}"
        )
    return found[0]


def _named_ports(world: World, endpoint: EndpointId) -> dict[tuple[str, int], int]:
    resource = world.facts.get(Key(endpoint.kind, endpoint.name, endpoint.namespace))
    if not isinstance(resource, WorkloadEndpoint | HostEndpoint):
        return {}
    return {
        (port.name, number): port.port
        for port in resource.spec.ports
        if port.name and (number := _number(port.protocol)) is not None
    }


def _number(protocol: Protocol) -> int | None:
    text = str(protocol).lower()
    return int(text) if text.isdigit() else PROTOCOLS.get(text)
