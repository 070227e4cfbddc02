"""A packet filter that runs a ``ruleset.ast.Table`` in Python: the meaning of every node, written down plainly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from calico.desired import PortMember
from calico.model.address import Cidr
from calico.ruleset import ast

PORTED = {6, 17, 33, 132, 136}
LOOKED_UP = {6, 17, 132, 136}
PRIORITY = ["raw", "mangle", "nat", "filter"]


@dataclass
class Packet:
    source: Cidr
    destination: Cidr
    protocol: int = 6
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    way_in: str = ""
    way_out: str = ""
    state: str = "new"
    dnat: bool = False
    flow: tuple[Cidr, Cidr] | None = None
    """Of the flow that it belongs to: who began it, and who answers."""
    false_source: bool = False
    local: frozenset[Cidr] = frozenset()
    mark: int = 0
    log: list[str] = field(default_factory=list)

    def address(self, end: ast.End) -> Cidr:
        return self.source if end == "source" else self.destination

    def port(self, end: ast.End) -> int | None:
        return self.source_port if end == "source" else self.destination_port


Outcome = Literal["accept", "drop", "reject", "return", "end"]


def cross(table: ast.Table, hook: str, packet: Packet) -> Outcome:
    """What becomes of ``packet`` (whose mark is changed) at one hook; "accept" also if nothing decided."""
    bases = [
        (chain.hook, name) for name, chain in table.chains.items() if chain.hook and chain.hook.hook == hook
    ]
    for base, name in sorted(bases, key=lambda item: (PRIORITY.index(item[0].table), item[0].append)):
        if base.append:
            continue
        outcome = _chain(table, name, packet)
        if outcome in {"drop", "reject"}:
            return outcome
    return "accept"


def forward(table: ast.Table, packet: Packet) -> bool:
    """Whether ``packet`` is routed through the host, and leaves it with the accept mark if workloads are concerned."""
    inbound = replace(packet, way_out="")
    if cross(table, "prerouting", inbound) != "accept":
        return False
    packet.mark = inbound.mark
    return cross(table, "forward", packet) == "accept"


def _chain(table: ast.Table, name: str, packet: Packet, depth: int = 0) -> Outcome:
    assert depth < 16, "chains call each other in a circle"
    for rule in table.chains[name].rules:
        if all(holds(table, match, packet) for match in rule.matches):
            outcome = _statements(table, rule.statements, packet, depth)
            if outcome is not None:
                return outcome
    return "end"


def _statements(
    table: ast.Table, statements: tuple[ast.Statement, ...], packet: Packet, depth: int
) -> Outcome | None:
    for statement in statements:
        verdict = statement
        match statement:
            case ast.SetMark(value, mask):
                packet.mark = (packet.mark & ~mask) | value
            case ast.Log(prefix):
                packet.log.append(prefix)
            case ast.Dispatch(direction, entries):
                found = table.maps[entries].get(packet.way_in if direction == "in" else packet.way_out)
                if found is None:
                    continue
                verdict = found
            case _:
                pass
        match verdict:
            case ast.Accept():
                return "accept"
            case ast.Drop():
                return "drop"
            case ast.Reject():
                return "reject"
            case ast.Return():
                return "return"
            case ast.Goto(chain):
                return _chain(table, chain, packet, depth + 1)
            case ast.Jump(chain):
                outcome = _chain(table, chain, packet, depth + 1)
                if outcome in {"accept", "drop", "reject"}:
                    return outcome
            case _:
                pass
    return None


def holds(table: ast.Table, match: ast.Match, packet: Packet) -> bool:
    """Whether one condition holds."""
    match match:
        case ast.Interface(direction, name, negate):
            actual = packet.way_in if direction == "in" else packet.way_out
            same = actual.startswith(name[:-1]) if name.endswith("*") else actual == name
            return same != negate
        case ast.Address(end, net, negate):
            return net.contains(packet.address(end)) != negate
        case ast.InSet(end, name, negate):
            return any(net.contains(packet.address(end)) for net in table.members[name]) != negate
        case ast.PortInSet(end, name, negate):
            if packet.protocol not in LOOKED_UP:
                return False
            member = PortMember(packet.address(end), packet.protocol, packet.port(end) or 0)
            return (member in table.members[name]) != negate
        case ast.Protocol(number, negate):
            return (packet.protocol == number) != negate
        case ast.Ports(end, ranges, negate):
            port = packet.port(end)
            if packet.protocol not in PORTED or port is None:
                return False
            return any(low <= port <= high for low, high in ranges) != negate
        case ast.Icmp(kind, code, negate):
            if packet.protocol != (1 if table.family == 4 else 58):
                return False
            return (packet.icmp_type == kind and code in {None, packet.icmp_code}) != negate
        case ast.CtState(states):
            return packet.state in states
        case ast.CtDnat(negate):
            return packet.dnat != negate
        case ast.CtSource(direction, net):
            return packet.flow is not None and net.contains(packet.flow[direction == "reply"])
        case ast.Limit():
            return True
        case ast.Mark(value, mask, negate):
            return (packet.mark & mask == value) != negate
        case ast.ReversePathFails():
            return packet.false_source
        case ast.LocalAddress(end, negate):
            return (packet.address(end) in packet.local) != negate
