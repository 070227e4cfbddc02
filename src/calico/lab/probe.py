"""Real connections between all ends of a lab, and what to make of those that fail.

In:   a lab's ``State``, the flows to try, and a function that says what policy says of each.
Out:  a ``Row`` for each flow.
Next: ``matrix`` shows them; ``cli.lab`` prints them.

Silence means "denied" only when three things hold: the listener answers its own host, which no policy forbids; so
does the source; and routing tables lead from the source to the destination and back. Otherwise the network is broken, and the
flow is an ``error``. Whatever differs from what policy says is tried once more before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from calico.lab import namespaces
from calico.lab.connections import ANSWER, Attempt, Outcome, attempt_all
from calico.lab.flows import ICMP, End, Flow, Observed, Row, Service, Verdict
from calico.lab.paths import Network, Table
from calico.lab.state import State
from calico.lab.topology import Topology
from calico.lab.wiring import namespace

Expect = Callable[[Flow], Verdict]
_ANSWERED: Final = ANSWER.kind


def probe(state: State, flows: Sequence[Flow], expect: Expect) -> tuple[Row, ...]:
    """Try every flow, and set what was observed beside what policy says, in the order of ``flows``."""
    expected = [expect(flow) for flow in flows]
    rows = _judge(state, flows, expected)
    doubtful = [index for index, row in enumerate(rows) if row.differs]
    if doubtful:
        again = _judge(state, [flows[index] for index in doubtful], [expected[index] for index in doubtful])
        for index, row in zip(doubtful, again, strict=True):
            rows[index] = row
    return tuple(rows)


def _judge(state: State, flows: Sequence[Flow], expected: Sequence[Verdict]) -> list[Row]:
    outcomes = attempt_all([_attempt(state, flow.source.name, flow.destination, flow) for flow in flows])
    failed = [flow for flow, outcome in zip(flows, outcomes, strict=True) if outcome.kind != _ANSWERED]
    excuses = _Excuses(state, failed) if failed else None
    rows = []
    for flow, verdict, outcome in zip(flows, expected, outcomes, strict=True):
        observed: Observed = "allow"
        reason = ""
        if outcome.kind != _ANSWERED:
            assert excuses is not None
            reason = excuses.of(flow, outcome)
            observed = "error" if reason else "deny"
        rows.append(Row(flow, verdict, observed, reason))
    return rows


def _attempt(state: State, source: str, destination: End, flow: Flow) -> Attempt:
    return Attempt(
        namespace(state.name, source),
        flow.version,
        destination.addresses[flow.version],
        flow.service.protocol,
        flow.service.port,
    )


class _Excuses:
    """Why flows may have failed that policy has nothing to do with."""

    def __init__(self, state: State, failed: Sequence[Flow]) -> None:
        self._network = look(state, {end for flow in failed for end in _names(flow)})
        asked: dict[tuple[str, int, Service], Flow] = {}
        for flow in failed:
            asked.setdefault((flow.destination.name, flow.version, flow.service), flow)
            back = Flow(flow.destination, flow.source, flow.version, ICMP)
            asked.setdefault((flow.source.name, flow.version, ICMP), back)
        outcomes = attempt_all(
            [_attempt(state, flow.destination.home, flow.destination, flow) for flow in asked.values()]
        )
        self._at_home = dict(zip(asked, outcomes, strict=True))

    def of(self, flow: Flow, outcome: Outcome) -> str:
        """The reason, or "" where policy is the only one left."""
        there = self._network.problem(flow.source.name, flow.destination.addresses[flow.version])
        if there:
            return there
        back = self._network.problem(flow.destination.name, flow.source.addresses[flow.version])
        if back:
            return f"on the way back {back}"
        for end, service in ((flow.destination, flow.service), (flow.source, ICMP)):
            if self._at_home[end.name, flow.version, service].kind != _ANSWERED:
                return f"{end.name} does not answer its own host {end.home} on {service}"
        if outcome.kind == "unreachable":
            return f"the network says: {outcome.detail}"
        return ""


def _names(flow: Flow) -> Iterable[str]:
    return flow.source.name, flow.destination.name


def look(state: State, ends: Iterable[str]) -> Network:
    """The routing tables of the fabric, the hosts, and the ``ends``, as they are now."""
    topology = state.topology
    nodes = {*topology.routers, *(host.name for host in topology.hosts), *ends}
    return observe(state.name, topology, nodes)


def observe(lab: str, topology: Topology, nodes: Iterable[str]) -> Network:
    """The routing tables of ``nodes`` as they are now; a namespace that is gone is one that nothing is known of."""
    present = namespaces.existing()
    spaces = {namespace(lab, node): node for node in nodes if namespace(lab, node) in present}
    tables = {spaces[name]: Table(rows) for name, rows in namespaces.routes(spaces).items()}
    forwards = {spaces[name]: families for name, families in namespaces.forwards(spaces).items()}
    return Network(tables, forwards, topology.segments)
