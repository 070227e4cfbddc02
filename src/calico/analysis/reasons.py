"""Why a rule matched a packet, or did not, in sentences.

In:   a rule as it was written and as it was compiled, and a packet.
Out:  ``Reasons.matched``: what made it match; ``Reasons.missed``: the first condition that does not hold.
Next: ``analysis.trail`` puts them beside the steps.

Whether it matched is ``analysis.evaluate``'s to say. Here the conditions are looked at in the same order, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from calico.analysis.evaluate import Members, Packet, Step, matches
from calico.analysis.owners import Owner, Owners, mentioned
from calico.analysis.words import protocol_name
from calico.analysis.world import World
from calico.calculation.rules import port_range
from calico.calculation.scope import Scope
from calico.desired import ANY, Direction, RuleRow, Side
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.keys import Key
from calico.model.policy import EntityRule, Rule
from calico.model.selector import Selector


class Reasons:
    """Reasons in one world; ``owners`` says who has an address there."""

    def __init__(self, world: World) -> None:
        self._members: Members = world.picture.members
        self._problems = world.problems
        self.owners = Owners(world.facts)

    # --- why it matched --------------------------------------------------------------------------------

    def matched(self, rule: Rule, namespace: str, packet: Packet) -> Iterator[str]:
        """Selectors with who they found, nets, and named ports; nothing for what speaks for itself."""
        for end, entity, address, port in _ends(rule, packet):
            scope = Scope(namespace)
            try:
                selector = scope.entity(entity)
            except ValueError:
                return  # the step itself says that it is closed
            owners = self.owners.of(address)
            if selector is not None:
                owners = [owner for owner in owners if selector.matches(owner.labels)]
                for owner in owners:
                    yield f"{end} {address.address} is {_called(owner, selector)}: {selector}"
            if entity.services is not None:
                yield f"{end} {_listening(address, port)} is an endpoint of service {scope.service(entity.services)}"
            nets = [net for net in _nets(entity.nets) if net.contains(address)]
            if nets:
                yield f"{end} {address.address} is in {nets[0]}"
            yield from _named_ports(end, entity, owners, packet.protocol, port)

    # --- why it did not --------------------------------------------------------------------------------

    def missed(self, row: RuleRow, rule: Rule | None, step: Step, way: Direction, packet: Packet) -> str:
        """The first condition of ``row`` that does not hold; ``rule`` is None where it cannot be found again."""
        if row.never:
            return self.unusable(step, way) or "it can match no packet at all"
        if not matches(self._members, replace(row, source=ANY, destination=ANY), packet):
            return _about_protocol(row, packet)
        rows = (row.source, row.destination)
        for side, (end, entity, address, port) in zip(
            rows, _ends(rule or Rule(action="Deny"), packet), strict=True
        ):
            scope = Scope(step.namespace)
            reason = self._about_address(side, entity, scope, address)
            if not reason:
                reason = self._about_port(side, packet.protocol, address, port)
                if reason and entity.services is not None and side.port_sets:
                    service = scope.service(entity.services)
                    reason = f"{_listening(address, port)} is no endpoint of service {service}"
            if reason:
                return f"{end} {reason}"
        return "its conditions do not hold"

    def unusable(self, step: Step, way: Direction) -> str:
        """Why the rule of ``step`` cannot be understood, and what became of it; "" if it can be."""
        head = f"{Key(step.kind, step.name, step.namespace)}: "
        marker = f"{way} rule {step.rule} is not usable and "
        for problem in self._problems:
            _, found, rest = problem.partition(marker)
            if found and problem.startswith(head):
                return f"it cannot be understood and {rest.partition('; ')[0]}"
        return ""

    def _about_address(self, side: Side, entity: EntityRule, scope: Scope, address: Cidr) -> str:
        text = address.address
        if side.nets and not any(net.contains(address) for net in side.nets):
            return f"{text} is in none of its nets"
        for net in side.not_nets:
            if net.contains(address):
                return f"{text} is in {net}, which it excludes"
        lacking = [name for name in side.sets if not self._members.has_address(name, address)]
        if lacking:
            selector = scope.entity(entity)
            if entity.services is not None and (selector is None or selector.uid not in lacking):
                return f"{text} is no endpoint of service {scope.service(entity.services)}"
            return self._unselected(address, selector)
        if any(self._members.has_address(name, address) for name in side.not_sets):
            for selector in scope.excluded(entity):
                for owner in self.owners.of(address):
                    if selector.matches(owner.labels):
                        return f"{text} is {_called(owner, selector)}, which it excludes: {selector}"
            return f"{text} is excluded"
        return ""

    def _unselected(self, address: Cidr, selector: Selector | None) -> str:
        owners = self.owners.of(address)
        if not owners:
            return f"{address.address} belongs to no endpoint and no network set, so no selector matches it"
        if selector is None:
            return f"{address.address} is none that it selects"
        names = "; ".join(_called(owner, selector) for owner in owners)
        return f"{address.address} is {names}, and does not match {selector}"

    def _about_port(self, side: Side, protocol: int, address: Cidr, port: int | None) -> str:
        if (side.ports or side.port_sets) and not self._listed(
            side.ports, side.port_sets, protocol, address, port
        ):
            return (
                "port is not given, and it asks for one"
                if port is None
                else f"port {port} is none of its ports"
            )
        if self._listed(side.not_ports, side.not_port_sets, protocol, address, port):
            return f"port {port} is excluded"
        return ""

    def _listed(
        self,
        ranges: Sequence[tuple[int, int]],
        names: Sequence[str],
        protocol: int,
        address: Cidr,
        port: int | None,
    ) -> bool:
        return port is not None and (
            any(low <= port <= high for low, high in ranges)
            or any(self._members.has_port(name, address, protocol, port) for name in names)
        )


def _ends(rule: Rule, packet: Packet) -> Iterator[tuple[str, EntityRule, Cidr, int | None]]:
    yield "source", rule.source, packet.source, packet.source_port
    yield "destination", rule.destination, packet.destination, packet.destination_port


def _listening(address: Cidr, port: int | None) -> str:
    return address.address if port is None else f"{address.address} port {port}"


def _about_protocol(row: RuleRow, packet: Packet) -> str:
    if row.ip_version not in {None, packet.family}:
        return f"it is about IPv{row.ip_version} alone"
    protocol = protocol_name(packet.protocol)
    if row.protocol not in {None, packet.protocol}:
        return f"{protocol} is not {protocol_name(row.protocol or 0)}"
    if row.not_protocol == packet.protocol:
        return f"{protocol} is excluded"
    if row.icmp is None:
        return "the ICMP type is excluded"
    return "no ICMP type is given" if packet.icmp_type is None else "the ICMP type or code is another"


def _called(owner: Owner, selector: Selector) -> str:
    """The owner, with those of its labels that the selector speaks of."""
    name = owner.name if owner.net.is_address else f"in {owner.name} ({owner.net})"
    return f"{name}{labelled(mentioned(selector, owner.labels))}"


def labelled(labels: Mapping[str, str]) -> str:
    """`` (app=web, role=a)``, or nothing."""
    return f" ({', '.join(f'{name}={value}' for name, value in labels.items())})" if labels else ""


def _nets(texts: Sequence[str]) -> Iterator[Cidr]:
    for text in texts:
        with suppress(AddressError):
            yield parse_cidr(text)


def _named_ports(
    end: str, entity: EntityRule, owners: Sequence[Owner], protocol: int, port: int | None
) -> Iterator[str]:
    """Names of ports that the rule lists, and that an owner has given this port."""
    wanted = {str(each) for each in entity.ports if port_range(each) is None}
    for owner in owners if wanted else ():
        for name, number, listening in owner.ports:
            if name in wanted and (number, listening) == (protocol, port):
                yield f"{end} port {port} is {name} of {owner.name}"
