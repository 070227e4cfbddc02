"""One rule of a policy or profile -> rules of a chain.

In:   ``RuleRow``, the family, and ``SetNames``, which names sets and notes which are used.
Out:  ``ast.Rule`` values that together match exactly what the row says in that family, and carry its ``Origin``.
Next: ``rendering.renderer`` keeps the chain of each policy and direction.

Conditions are ANDed, so a row whose alternatives cannot be one match (a number or a name for a port) becomes
several rules; for one packet they all say the same. Filtering by family never widens: a row that lists only
nets of the other family does not exist in this one, and a row that can match nothing renders nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, NamedTuple, Protocol

from calico.desired import Origin, RuleRow, SetId, Side
from calico.model.address import Cidr, Family
from calico.model.settings import Settings
from calico.ruleset import ast

PORTED: Final = (6, 17, 132, 136)
"""Protocols whose packets have ports, as policy sees it: TCP, UDP, SCTP, UDPLite."""
ICMP: Final[dict[Family, int]] = {4: 1, 6: 58}
_SHORT_KIND: Final = {"NetworkPolicy": "np", "GlobalNetworkPolicy": "gnp", "Profile": "pro"}
"""Kinds, as Calico shortens them in logs."""
_SPECIFIER: Final = re.compile("%[tknp]")
_OTHER: Final = 0
"""Stands for: known to be a protocol without ports."""


class SetNames(Protocol):
    """Names of the sets of one family."""

    def addresses(self, identifier: SetId) -> str:
        """The set of a selector's addresses."""
        ...

    def ports(self, identifier: SetId) -> str:
        """The set of a named port."""
        ...

    def literal(self, nets: tuple[Cidr, ...]) -> str:
        """A set of just these, which are two or more."""
        ...


class _Case(NamedTuple):
    """One way in which the protocol part of a rule can hold; ``protocol`` None: not known."""

    matches: tuple[ast.Match, ...]
    protocol: int | None


def deny(settings: Settings) -> ast.Verdict:
    """What Deny does in the filter table."""
    return ast.Reject() if settings.filter_deny_action == "Reject" else ast.Drop()


def statements(row: RuleRow, settings: Settings) -> tuple[ast.Statement, ...]:
    """What a rule does. Allow and Pass travel as marks to the endpoint's chain, which acts on them."""
    match row.action:
        case "Allow":
            return ast.SetMark(settings.accept_mark, settings.accept_mark), ast.Return()
        case "Pass":
            return ast.SetMark(settings.pass_mark, settings.pass_mark), ast.Return()
        case "Deny":
            return (deny(settings),)
        case "Log":
            return (ast.Log(f"{log_prefix(row.origin, settings)}: ", settings.log_rate, settings.log_burst),)


def log_prefix(origin: Origin, settings: Settings) -> str:
    """What a logged packet begins with: ``logPrefix``, with the rule's own words in the place of %t, %k, %n and %p."""
    name = origin.name
    words = {
        "%t": origin.tier,
        "%k": _SHORT_KIND.get(origin.kind, origin.kind),
        "%n": name,
        "%p": f"{origin.namespace}/{name}" if origin.namespace else name,
    }
    return _SPECIFIER.sub(lambda found: words[found[0]], settings.log_prefix)


def render_rules(
    rows: Iterable[RuleRow], family: Family, settings: Settings, names: SetNames
) -> tuple[ast.Rule, ...]:
    """The rules of one direction of a policy or profile, in order."""
    return tuple(
        rule
        for row in rows
        for matches in render_matches(row, family, names)
        for rule in _rules(row, matches, settings)
    )


def _rules(row: RuleRow, matches: tuple[ast.Match, ...], settings: Settings) -> Iterator[ast.Rule]:
    """The rule itself; before it, where it excludes several protocols, a look at the protocol.

    iptables can say one protocol a rule. What is excluded gets the scratch mark, and the rule asks for its absence:
    the chain stays flat, for a kernel follows only 16 chains into each other.
    """
    excluded = [match for match in matches if isinstance(match, ast.Protocol) and match.negate]
    if len(excluded) > 1:
        scratch = settings.scratch_mark
        yield ast.Rule((), (ast.SetMark(0, scratch),), comment="Protocols that the next rule excludes")
        for protocol in excluded:
            yield ast.Rule((ast.Protocol(protocol.number),), (ast.SetMark(scratch, scratch),))
        matches = (*(match for match in matches if match not in excluded), ast.Mark(0, scratch))
    yield ast.Rule(matches, statements(row, settings), origin=row.origin, counted=True)


def render_matches(row: RuleRow, family: Family, names: SetNames) -> list[tuple[ast.Match, ...]]:
    """Each way in which ``row`` matches in this family; none if it cannot."""
    if row.never or row.ip_version not in {None, family}:
        return []
    other_icmp = ICMP[6 if family == 4 else 4]
    if row.protocol == other_icmp or (row.icmp is not None and row.protocol not in {None, ICMP[family]}):
        return []
    # A list of nets is settled before any set is named, so that a rule that vanishes leaves no unused set.
    sides = []
    for end, side in _ends(row):
        nets = _side_nets(side, family)
        if nets is None:
            return []
        sides.append((end, side, *nets))

    addresses: list[ast.Match] = []
    for end, side, nets_in, nets_out in sides:
        addresses += _addresses(end, side, nets_in, nets_out, names)
    excluded: tuple[ast.Match, ...] = ()
    if row.not_protocol is not None:
        excluded = (ast.Protocol(row.not_protocol, negate=True),)
    return [
        (*case.matches, *excluded, *ports, *addresses)
        for case in _cases(row, family)
        for ports in _ports(row, case.protocol, names)
    ]


def _ends(row: RuleRow) -> Iterator[tuple[ast.End, Side]]:
    yield "source", row.source
    yield "destination", row.destination


def _side_nets(side: Side, family: Family) -> tuple[list[Cidr], list[Cidr]] | None:
    """The nets of this family that the address must and must not be in; None: it can never be."""
    wanted = [net for net in side.nets if net.family == family]
    if side.nets and not wanted:
        return None
    if any(net.length == 0 for net in wanted):
        wanted = []
    unwanted = [net for net in side.not_nets if net.family == family]
    if any(net.length == 0 for net in unwanted):
        return None
    return wanted, unwanted


def _addresses(
    end: ast.End, side: Side, wanted: list[Cidr], unwanted: list[Cidr], names: SetNames
) -> Iterator[ast.Match]:
    for nets, negate in ((wanted, False), (unwanted, True)):
        if len(nets) == 1:
            yield ast.Address(end, nets[0], negate)
        elif nets:
            yield ast.InSet(end, names.literal(tuple(sorted(set(nets)))), negate)
    for identifier in side.sets:
        yield ast.InSet(end, names.addresses(identifier))
    for identifier in side.not_sets:
        yield ast.InSet(end, names.addresses(identifier), negate=True)


def _cases(row: RuleRow, family: Family) -> list[_Case]:
    """The protocol part: mostly one case. Without a protocol, ports and ``not_icmp`` are told apart by it."""
    icmp = ICMP[family]
    if row.icmp is not None:
        not_icmp = (ast.Icmp(*row.not_icmp, negate=True),) if row.not_icmp else ()
        return [_Case((ast.Protocol(icmp), ast.Icmp(*row.icmp), *not_icmp), icmp)]
    if row.protocol is not None:
        if row.not_icmp is not None and row.protocol == icmp:
            return [_Case((ast.Protocol(icmp), ast.Icmp(*row.not_icmp, negate=True)), icmp)]
        return [_Case((ast.Protocol(row.protocol),), row.protocol)]
    sides = (row.source, row.destination)
    numbers = any(side.ports or side.not_ports for side in sides)
    wanted = any(side.ports or side.port_sets for side in sides)
    unwanted = any(side.not_ports or side.not_port_sets for side in sides)
    cases = []
    if numbers:
        cases = [_Case((ast.Protocol(number),), number) for number in PORTED]
    elif wanted or unwanted:
        cases = [_Case((), None)]
    if not wanted:
        # Packets without ports: none of them is one that is excluded.
        portless = tuple(ast.Protocol(number, negate=True) for number in PORTED) if unwanted else ()
        known = _OTHER if unwanted else None
        if row.not_icmp is None:
            cases.append(_Case(portless, known))
        else:
            cases.append(_Case((*portless, ast.Protocol(icmp, negate=True)), known))
            cases.append(_Case((ast.Protocol(icmp), ast.Icmp(*row.not_icmp, negate=True)), icmp))
    return cases


def _ports(row: RuleRow, protocol: int | None, names: SetNames) -> Iterator[tuple[ast.Match, ...]]:
    """Each combination of one alternative of either end, with everything that is excluded."""
    ported = protocol in PORTED
    alternatives: list[list[ast.Match]] = []
    excluded: list[ast.Match] = []
    for end, side in _ends(row):
        if side.ports or side.port_sets:
            choices: list[ast.Match] = []
            if ported and side.ports:
                choices.append(ast.Ports(end, side.ports))
            if ported or protocol is None:
                choices += [ast.PortInSet(end, names.ports(name)) for name in side.port_sets]
            alternatives.append(choices)
        if ported and side.not_ports:
            excluded.append(ast.Ports(end, side.not_ports, negate=True))
        if ported or protocol is None:
            excluded += [ast.PortInSet(end, names.ports(name), negate=True) for name in side.not_port_sets]
    return ((*choice, *excluded) for choice in product(*alternatives))
