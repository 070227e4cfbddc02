"""Whether one rule matches all that another matches; by the text of both alone.

In:   two rules of one direction of one policy or profile, and the namespace that their selectors stay in.
Out:  ``Reading.covers``: surely, or perhaps not; ``Reading.never``: why a rule surely matches nothing.
Next: ``analysis.lint`` warns of rules that are never reached.

Sound and not complete: each condition of the wider rule has to follow from a condition of the narrower one. Rules
that are not enforced as written (HTTP, services) cover nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from calico.analysis.contradiction import contradiction, implies
from calico.calculation.scope import Scope
from calico.model import numbers
from calico.model.address import Cidr, parse_cidr
from calico.model.errors import Finding
from calico.model.numbers import PortRange, parse_port, protocol_number
from calico.model.policy import ICMP, EntityRule, Rule
from calico.model.selector import Selector


class _Ports(NamedTuple):
    """Ports by number, in order and merged where they touch, and ports by name."""

    ranges: tuple[PortRange, ...]
    names: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.ranges or self.names)

    def within(self, other: _Ports) -> bool:
        """Whether all of these are among the others."""
        return self.names <= other.names and all(
            any(wide.first <= each.first and each.last <= wide.last for wide in other.ranges)
            for each in self.ranges
        )


class _Side(NamedTuple):
    """One side of a rule, read."""

    nets: tuple[Cidr, ...]
    not_nets: tuple[Cidr, ...]
    selected: Selector | None
    """Over effective labels, namespaces and service accounts included; None where labels do not matter."""
    excluded: Selector | None
    ports: _Ports
    not_ports: _Ports

    def covers(self, other: _Side) -> bool:
        """Whether all that the other side matches is matched by this."""
        return (
            self._covers_nets(other)
            and (
                self.selected is None
                or (other.selected is not None and implies(other.selected.node, self.selected.node))
            )
            and (
                self.excluded is None
                or (other.excluded is not None and implies(self.excluded.node, other.excluded.node))
            )
            and (not self.ports or (bool(other.ports) and other.ports.within(self.ports)))
            and (not self.not_ports or self.not_ports.within(other.not_ports))
        )

    def _covers_nets(self, other: _Side) -> bool:
        if self.nets and not (other.nets and _all_within(other.nets, self.nets)):
            return False
        return all(
            _all_within([excluded], other.not_nets)
            or (other.nets and not any(excluded.overlaps(net) for net in other.nets))
            for excluded in self.not_nets
        )


class Reading(NamedTuple):
    """One rule, read once for all comparisons."""

    rule: Rule
    version: int | None
    """The IP version of all that it matches, if it is surely one."""
    only: int | None
    """The only IP version that it may be enforced for, if it says so in any way."""
    protocol: int | None
    not_protocol: int | None
    source: _Side
    destination: _Side

    @property
    def enforced(self) -> bool:
        """Whether the rule matches what it says."""
        rule = self.rule
        return rule.http is None and rule.source.services is None and rule.destination.services is None

    @property
    def unconditional(self) -> bool:
        """Whether the rule matches every packet."""
        return unconditional(self.rule)

    def covers(self, other: Reading) -> bool:
        """Whether this rule surely matches all that the other matches; what is closed instead of enforced may match more."""
        return (
            self.enforced
            and (other.enforced or self.unconditional)
            and self.only in {None, other.version}
            and self.protocol in {None, other.protocol}
            and self._covers_not_protocol(other)
            and _covers_icmp(self.rule.icmp, other.rule.icmp)
            and (self.rule.not_icmp is None or self.rule.not_icmp == other.rule.not_icmp)
            and self.source.covers(other.source)
            and self.destination.covers(other.destination)
        )

    def _covers_not_protocol(self, other: Reading) -> bool:
        if self.not_protocol is None or self.not_protocol == other.not_protocol:
            return True
        return other.protocol is not None and other.protocol != self.not_protocol

    def never(self) -> Finding | None:
        """Where the rule contradicts itself, so that it matches nothing; None where it may match."""
        if self.protocol is not None and self.protocol == self.not_protocol:
            return Finding(("notProtocol",), "protocol and notProtocol are the same", "remove one of the two")
        for name, side, entity in (
            ("source", self.source, self.rule.source),
            ("destination", self.destination, self.rule.destination),
        ):
            finding = _never(side, entity)
            if finding is not None:
                return finding._replace(path=(name, *finding.path))
        return None


def _never(side: _Side, entity: EntityRule) -> Finding | None:
    if side.nets and _all_within(side.nets, side.not_nets):
        return Finding(("notNets",), "notNets excludes all of nets", "narrow notNets, or widen nets")
    if side.ports and side.ports.within(side.not_ports):
        return Finding(("notPorts",), "notPorts excludes all of ports", "narrow notPorts, or widen ports")
    if side.selected is None:
        return None
    reason = contradiction(side.selected.node)
    if reason is not None:
        field = (
            "selector"
            if entity.selector
            else "serviceAccounts"
            if entity.service_accounts
            else "namespaceSelector"
        )
        return Finding(
            (field,),
            reason,
            "write || where either will do; other namespaces are reached with namespaceSelector",
        )
    if side.excluded is not None and implies(side.selected.node, side.excluded.node):
        return Finding(
            ("notSelector",),
            "notSelector excludes all that is selected",
            "narrow notSelector, or widen selector",
        )
    return None


_ANYBODY: Final = EntityRule()


def unconditional(rule: Rule) -> bool:
    """Whether the rule has no conditions at all, so that it matches every packet."""
    return (
        rule.source == rule.destination == _ANYBODY
        and (rule.protocol, rule.not_protocol, rule.ip_version, rule.http) == (None, None, None, None)
        and not (rule.icmp or rule.not_icmp)
    )


def reading(rule: Rule, scope: Scope) -> Reading:
    """``rule``, read; ``ValueError`` if it is not valid."""
    source, destination = _side(rule.source, scope), _side(rule.destination, scope)
    protocol = None if rule.protocol is None else protocol_number(rule.protocol)
    version: int | None = rule.ip_version or {numbers.ICMP: 4, numbers.ICMPV6: 6}.get(protocol or 0)
    for net in (*source.nets, *destination.nets):
        version = version or net.family
    only = version
    for net in (*source.not_nets, *destination.not_nets):
        only = only or net.family
    return Reading(
        rule,
        version,
        only,
        protocol,
        None if rule.not_protocol is None else protocol_number(rule.not_protocol),
        source,
        destination,
    )


def _side(entity: EntityRule, scope: Scope) -> _Side:
    return _Side(
        tuple(map(parse_cidr, entity.nets)),
        tuple(map(parse_cidr, entity.not_nets)),
        scope.entity(entity),
        next(scope.excluded(entity), None),
        _ports(entity.ports),
        _ports(entity.not_ports),
    )


def _ports(listed: Sequence[int | str]) -> _Ports:
    found = [parse_port(port) for port in listed]
    merged: list[PortRange] = []
    for each in sorted(port for port in found if isinstance(port, PortRange)):
        if merged and each.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, each.last))
        else:
            merged.append(each)
    return _Ports(tuple(merged), frozenset(port for port in found if isinstance(port, str)))


def _all_within(nets: Iterable[Cidr], wider: Iterable[Cidr]) -> bool:
    wide = tuple(wider)
    return all(any(each.contains(net) for each in wide) for net in nets)


def _covers_icmp(wide: ICMP | None, narrow: ICMP | None) -> bool:
    if wide is None or wide.type is None:
        return True
    return narrow is not None and narrow.type == wide.type and wide.code in {None, narrow.code}
