"""Established flows, judged as their first packets would be judged now.

In:   one host's desired state, its settings and its own addresses; a flow as connection tracking describes it.
Out:  ``Judge.denies``: whether policy of this host would not let the flow begin now.
Next: ``agent.revocation`` ends the flows that it denies.

A flow is known by its addresses; where its packets came in and go out follows from them: workloads send from their
own addresses only, and the host answers by the interface that it routes by. Flows that meet no endpoint of this host
are nobody's here, and never denied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from calico.analysis.evaluate import PORTED, Members, Packet, Picture, evaluate, opinion
from calico.analysis.host import EARLY, failsafe
from calico.calculation.oracle import State
from calico.desired import Direction, EndpointId, EndpointRow, RuleRow
from calico.model.address import Cidr, parse_cidr
from calico.model.settings import Settings
from calico.rendering.host import govern

_LOOPBACK = parse_cidr("127.0.0.0/8")


class TrackedFlow(NamedTuple):
    """A flow in the direction in which it was opened.

    ``asked`` and ``asked_port`` are the destination on the wire, ``destination`` and ``destination_port`` who answers:
    they differ where the destination was translated. Ports and ICMP fields are None where the protocol has none.
    ``expected``: a helper of the kernel announced the flow, as it does for the data of FTP.
    """

    source: Cidr
    asked: Cidr
    destination: Cidr
    protocol: int
    source_port: int | None = None
    asked_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    expected: bool = False


class Surroundings(NamedTuple):
    """What a host's resources do not say about it."""

    interfaces: Mapping[str, frozenset[Cidr]]
    """Its own interfaces with their addresses: neither workloads' nor the loopback."""
    addresses: frozenset[Cidr]
    """All its own addresses, full length."""
    towards: Callable[[Cidr], str | None]
    """The interface by which it reaches an address, if any. Asked only where there are host endpoints."""


class Judge:
    """One host's policy, as of one moment. Values are read, never changed: any thread may ask it."""

    def __init__(self, state: State, settings: Settings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._picture = Picture(state.policies, state.profiles, Members(state.set_members))
        self._endpoints = state.endpoints
        workloads = {
            row.interface: id_ for id_, row in state.endpoints.items() if id_.kind == "WorkloadEndpoint"
        }
        self._workloads = {
            address: workloads[route.interface]
            for address, route in state.routes.items()
            if route.interface in workloads
        }
        hosts = {id_: row for id_, row in state.endpoints.items() if id_.kind == "HostEndpoint"}
        self._governed = govern(hosts, around.interfaces, settings) if hosts else None
        self._source_port_counts = any(
            _asks_source_port(rule)
            for rows in (state.policies, state.profiles)
            for row in rows.values()
            for rule in (*row.ingress, *row.egress)
        )
        self._said: dict[tuple[EndpointId, Direction, Packet], bool] = {}

    def denies(self, flow: TrackedFlow) -> bool:
        """Whether an endpoint of this host would not let the flow's first packet pass now."""
        sender, receiver = self._workloads.get(flow.source), self._workloads.get(flow.destination)
        from_host, to_host = self._is_own(flow.source), self._is_own(flow.destination)
        if from_host and (to_host or receiver):
            return False  # no host polices its traffic to itself and to its workloads
        packet = Packet(
            flow.source,
            flow.destination,
            flow.protocol,
            flow.source_port,
            flow.destination_port,
            flow.icmp_type,
            flow.icmp_code,
        )
        if sender is not None and not self._workload(sender, "egress", packet):
            return True
        if flow.expected:
            return False  # wherever a flow is not from a workload, related packets are accepted
        if sender is not None and to_host:
            return self._settings.default_endpoint_to_host_action == "Drop"
        if receiver is not None and not self._workload(receiver, "ingress", packet):
            return True
        if self._governed is None:
            return False
        if sender is None and not from_host:
            on_the_wire = packet._replace(destination=flow.asked, destination_port=flow.asked_port)
            row = self._host_endpoint(flow.source)
            if row is not None and not self._comes_in(row, on_the_wire, packet, to_host=to_host):
                return True
        if receiver is None and not to_host:
            row = self._host_endpoint(flow.destination)
            if row is not None and not self._goes_out(row, packet, from_host=from_host):
                return True
        return False

    def _is_own(self, address: Cidr) -> bool:
        return address in self._around.addresses or _LOOPBACK.contains(address)

    def _workload(self, endpoint: EndpointId, direction: Direction, packet: Packet) -> bool:
        """Whether a workload lets the packet pass. Flows that differ in a source port that nobody asks for are one question."""
        if not self._source_port_counts:
            packet = packet._replace(source_port=None)
        question = endpoint, direction, packet
        known = self._said.get(question)
        if known is None:
            row = self._endpoints[endpoint]
            known = evaluate(self._picture, row, direction, packet, workload=True).allowed
            self._said[question] = known
        return known

    def _host_endpoint(self, far: Cidr) -> EndpointRow | None:
        """The endpoint of the interface by which the host reaches ``far``."""
        interface = self._around.towards(far)
        if self._governed is None or interface is None or interface not in self._around.interfaces:
            return None
        endpoint = self._governed.interfaces.get(interface, self._governed.wildcard)
        return None if endpoint is None else self._endpoints[endpoint]

    def _comes_in(self, row: EndpointRow, on_the_wire: Packet, packet: Packet, *, to_host: bool) -> bool:
        """Whether a host endpoint lets in what comes to its host or passes through: layer after layer, as a packet meets them."""
        for layer in EARLY["ingress"]:
            if not failsafe("ingress", on_the_wire, self._settings, tracked=layer != "untracked"):
                said = opinion(self._picture, row, layer, "ingress", on_the_wire)
                if said.action is not None:
                    return said.action == "allow"
        if not to_host:
            return opinion(self._picture, row, "forward", "ingress", packet).action != "deny"
        return self._normal(row, "ingress", packet)

    def _goes_out(self, row: EndpointRow, packet: Packet, *, from_host: bool) -> bool:
        """Whether a host endpoint lets out what its host sends or passes on."""
        if not from_host:
            return opinion(self._picture, row, "forward", "egress", packet).action != "deny"
        if not failsafe("egress", packet, self._settings, tracked=False):
            said = opinion(self._picture, row, "untracked", "egress", packet)
            if said.action is not None:
                return said.action == "allow"
        return self._normal(row, "egress", packet)

    def _normal(self, row: EndpointRow, direction: Direction, packet: Packet) -> bool:
        return (
            failsafe(direction, packet, self._settings)
            or evaluate(self._picture, row, direction, packet, workload=False).allowed
        )


def ports(protocol: int, *numbers: int) -> tuple[int | None, ...]:
    """The numbers, where they are ports that policy can ask for."""
    return numbers if protocol in PORTED else (None,) * len(numbers)


def _asks_source_port(rule: RuleRow) -> bool:
    side = rule.source
    return bool(side.ports or side.port_sets or side.not_ports or side.not_port_sets)
