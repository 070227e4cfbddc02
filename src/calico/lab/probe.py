"""Real connections between all ends of a lab, and what to make of those that fail.

In:   a lab's ``State``, the flows to try, and a function that says what policy says of each.
Out:  a ``Row`` for each flow.
Next: ``matrix`` shows them; ``cli.lab`` prints them.

Silence means "denied" only when all of this holds: the listener answers its own host, which no policy forbids; so
does the source; the two hosts can ping each other, where policy lets them; and routing tables lead from the source to the
destination and back. Otherwise the network is broken, and the flow is an ``error``. Whatever differs from what policy says is tried once more before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from calico.lab import namespaces
from calico.lab.connections import ANSWER, PATIENCE, Attempt, Outcome, attempt_all
from calico.lab.flows import ICMP, End, Flow, Observed, Row, Service, Verdict, ends
from calico.lab.paths import Network, Table
from calico.lab.state import State
from calico.lab.topology import INTERNET, bare
from calico.lab.wiring import namespace

Expect = Callable[[Flow], Verdict]
_ANSWERED: Final = ANSWER.kind


def probe(
    state: State, flows: Sequence[Flow], expect: Expect, *, patience: float = PATIENCE
) -> tuple[Row, ...]:
    """Try every flow, and set what was observed beside what policy says, in the order of ``flows``.

    ``patience`` is how many seconds an answer may take.
    """
    rows = _judge(state, flows, expect, patience)
    doubtful = [index for index, row in enumerate(rows) if row.differs]
    if doubtful:
        again = _judge(state, [flows[index] for index in doubtful], expect, patience)
        for index, row in zip(doubtful, again, strict=True):
            rows[index] = row
    return tuple(rows)


def _judge(state: State, flows: Sequence[Flow], expect: Expect, patience: float) -> list[Row]:
    outcomes = attempt_all(
        [_attempt(state, flow.source.name, flow.destination, flow) for flow in flows], patience=patience
    )
    failed = [flow for flow, outcome in zip(flows, outcomes, strict=True) if outcome.kind != _ANSWERED]
    excuses = _Excuses(state, failed, expect, patience) if failed else None
    rows = []
    for flow, outcome in zip(flows, outcomes, strict=True):
        observed: Observed = "allow"
        reason = ""
        if outcome.kind != _ANSWERED:
            assert excuses is not None
            reason = excuses.of(flow, outcome)
            observed = "error" if reason else "deny"
        rows.append(Row(flow, expect(flow), observed, reason))
    return rows


def _attempt(state: State, source: str, destination: End, flow: Flow) -> Attempt:
    return Attempt(
        namespace(state.name, source),
        flow.version,
        destination.address(flow.version),
        flow.service.protocol,
        flow.service.port,
    )


class _Excuses:
    """Why flows may have failed that policy has nothing to do with."""

    def __init__(self, state: State, failed: Sequence[Flow], expect: Expect, patience: float) -> None:
        self._network = look(state, {end for flow in failed for end in _names(flow)})
        self._homes = _homes(state)
        asked: dict[tuple[str, int, Service], Flow] = {}
        controls: dict[tuple[str, str, int], Flow] = {}
        for flow in failed:
            asked.setdefault((flow.destination.name, flow.version, flow.service), flow)
            back = Flow(flow.destination, flow.source, flow.version, ICMP)
            asked.setdefault((flow.source.name, flow.version, ICMP), back)
            one, other = self._homes[flow.source.home], self._homes[flow.destination.home]
            control = Flow(one, other, flow.version, ICMP)
            if (
                one != other
                and (one.name, other.name, flow.version) not in controls
                and expect(control) == "allow"
            ):
                controls[one.name, other.name, flow.version] = control
        outcomes = iter(
            attempt_all(
                [_attempt(state, flow.destination.home, flow.destination, flow) for flow in asked.values()]
                + [_attempt(state, flow.source.name, flow.destination, flow) for flow in controls.values()],
                patience=patience,
            )
        )
        self._at_home = {key: next(outcomes) for key in asked}
        self._controls = {key: next(outcomes) for key in controls}

    def of(self, flow: Flow, outcome: Outcome) -> str:
        """The reason, or "" where policy is the only one left."""
        there = self._network.problem(flow.source.name, flow.destination.address(flow.version))
        if there:
            return there
        back = self._network.problem(flow.destination.name, flow.source.address(flow.version))
        if back:
            return f"on the way back {back}"
        for end, service in ((flow.destination, flow.service), (flow.source, ICMP)):
            if self._at_home[end.name, flow.version, service].kind != _ANSWERED:
                return f"{end.name} does not answer its own host {end.home} on {service}"
        control = self._controls.get((flow.source.home, flow.destination.home, flow.version), ANSWER)
        if control.kind != _ANSWERED:
            return (
                f"{flow.source.home} cannot even ping {flow.destination.home}, which policy allows: "
                "something between the hosts drops packets"
            )
        if outcome.kind == "unreachable":
            return f"the network says: {outcome.detail}"
        return ""


def _homes(state: State) -> dict[str, End]:
    """The hosts themselves, and the internet, as ends."""
    internet = next(end for end in ends(state.topology, {}) if end.name == INTERNET)
    hosts = (
        End(host.name, host.name, host.name, *map(bare, host.addresses)) for host in state.topology.hosts
    )
    return {end.name: end for end in (*hosts, internet)}


def _names(flow: Flow) -> Iterable[str]:
    return flow.source.name, flow.destination.name


def look(state: State, ends: Iterable[str]) -> Network:
    """The routing tables of the fabric, the hosts, and the ``ends``, as they are now."""
    return _observe(state, {*_fabric(state), *ends}, {})


def trouble(state: State) -> str | None:
    """Why some host, or the internet, does not reach some workload or host yet, policy aside; None when all do.

    Hosts must know better than their default route: what BGP brings has to be in their kernels.
    """
    topology = state.topology
    network = _observe(state, _fabric(state), state.addresses)
    targets = [
        (workload.node, workload.name, state.addresses.get(workload.name, ()))
        for workload in topology.workloads
    ]
    targets += [(host.name, host.name, tuple(map(bare, host.addresses))) for host in topology.hosts]
    for source in (*(host.name for host in topology.hosts), INTERNET):
        for home, name, addresses in targets:
            for address in addresses:
                problem = network.problem(source, address)
                if problem is None and name != home and network.default_only(source, address):
                    problem = f"{source} knows no route but its default one"
                if problem:
                    return f"{source} to {name} ({address}): {problem}"
    return None


def _fabric(state: State) -> tuple[str, ...]:
    topology = state.topology
    return (*topology.routers, INTERNET, *(host.name for host in topology.hosts))


def _observe(state: State, nodes: Iterable[str], assumed: Mapping[str, Iterable[str]]) -> Network:
    """Routing tables as they are now; ``assumed`` nodes are taken to have their addresses, and are not looked at.

    A namespace that is gone is one that nothing is known of.
    """
    present = namespaces.existing()
    spaces = {name: node for node in nodes if (name := namespace(state.name, node)) in present}
    tables = {
        node: Table({"type": "local", "dst": address} for address in addresses)
        for node, addresses in assumed.items()
    }
    tables |= {spaces[name]: Table(rows) for name, rows in namespaces.routes(spaces).items()}
    forwards = {spaces[name]: families for name, families in namespaces.forwards(spaces).items()}
    return Network(tables, forwards, state.topology.segments)
