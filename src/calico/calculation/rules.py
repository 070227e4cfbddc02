"""Rules as an operator writes them -> rules as the desired state has them.

In:   the rules of one policy or profile.
Out:  ``Compiled``: rows in which selectors are sets and names are numbers, the sets they need, and what
      was wrong with them.
Next: ``calculation.bindings`` decides which of them this host needs, ``calculation.sets`` fills the sets.

A rule that cannot be understood must not open anything. Where it would allow (or log) it stays as a row
that never matches; where it would deny or pass it denies everything, since what it meant to stop is unknown.
Everything else of the policy is kept: its place, its other rules, and the end of its tier.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha224
from typing import Final, Literal, NamedTuple, get_args

from calico.calculation.scope import Scope
from calico.desired import Direction, Origin, PolicyRow, RuleRow, SetId, SetInfo, Side
from calico.model.address import Cidr, Family, parse_cidr
from calico.model.policy import ICMP, EntityRule, Port, Protocol, Rule
from calico.model.selector import ALL, Selector, from_tree
from calico.model.selector_tree import In

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
PORTED: Final = frozenset({PROTOCOLS["tcp"], PROTOCOLS["udp"], PROTOCOLS["sctp"]})
"""Protocols that rules may name ports of (behaviour reference 1.1)."""

_NOBODY: Final = from_tree(In("", ()))
"""The selector of a set that labels have no part in."""
_ICMP_FAMILY: Final[dict[int | None, Family]] = {PROTOCOLS["icmp"]: 4, PROTOCOLS["icmpv6"]: 6}
_PORT_MAX: Final = 65535


class Unusable(ValueError):
    """A part of a resource that means nothing; the sentence says what and why. Treated closed by whoever catches it."""


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A set that a rule needs: its name, who belongs into it, and what people are told.

    Who serves a service belongs into the service's sets, and nobody by a label.
    """

    id: SetId
    selector: Selector
    info: SetInfo


class Compiled(NamedTuple):
    """The rules of one policy or profile, the sets that they refer to, and what could not be used."""

    row: PolicyRow
    sets: tuple[SetSpec, ...] = ()
    problems: tuple[str, ...] = ()


def compile_rules(
    ingress: Sequence[Rule], egress: Sequence[Rule], origin: Origin, namespace: str = ""
) -> Compiled:
    """Both rule lists of the policy or profile that ``origin`` names; its direction and index are filled in.

    ``namespace`` is that of a NetworkPolicy, whose selectors reach no further by default.
    """
    sets: dict[SetId, SetSpec] = {}
    problems: list[str] = []
    scope = Scope(namespace)

    def direction(rules: Sequence[Rule], name: Direction) -> tuple[RuleRow, ...]:
        rows = []
        for index, rule in enumerate(rules):
            where = replace(origin, direction=name, rule=index)
            try:
                row, needed = _compile(rule, where, scope)
            except ValueError as error:
                row, needed = _closed(rule, where), ()
                problems.append(f"{name} rule {index} is not usable and {_fate(row)}: {error}")
            rows.append(row)
            sets.update((spec.id, spec) for spec in needed)
        return tuple(rows)

    row = PolicyRow(direction(ingress, "ingress"), direction(egress, "egress"))
    return Compiled(row, tuple(sets[name] for name in sorted(sets)), tuple(problems))


def protocol_number(protocol: Protocol) -> int:
    """The number of a protocol given by name or number, 1 to 255; ``Unusable`` otherwise."""
    text = str(protocol)
    number = int(text) if text.isascii() and text.isdigit() else PROTOCOLS.get(text.lower(), 0)
    if not 1 <= number <= 255:
        raise Unusable(
            f"protocol {protocol!r} is unknown; use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
        )
    return number


def net_set(selector: Selector) -> SetSpec:
    """The set of all addresses whose owner ``selector`` selects."""
    return SetSpec(selector.uid, selector, SetInfo("net", str(selector)))


def port_set(selector: Selector, name: str, protocol: int | None) -> SetSpec:
    """The set of who listens on a port called ``name``, of those that ``selector`` selects; None is any protocol."""
    digest = _digest(str(selector), name, str(protocol))
    return SetSpec(f"n:{digest}", selector, SetInfo("port", str(selector), name, protocol))


def service_set(service: str, type_: Literal["net", "port"]) -> SetSpec:
    """The set of who serves ``service`` ("namespace/name"): addresses, or each with its ports."""
    return SetSpec(f"v:{_digest(type_, service)}", _NOBODY, SetInfo(type_, "", service=service))


def _digest(*parts: str) -> str:
    text = "\n".join(parts)
    return urlsafe_b64encode(sha224(text.encode(errors="surrogatepass")).digest()).decode().rstrip("=")


def _closed(rule: Rule, origin: Origin) -> RuleRow:
    if rule.action in {"Allow", "Log"}:
        return RuleRow(rule.action, origin, never=True)
    return RuleRow("Deny", origin)


def _fate(row: RuleRow) -> str:
    return "matches nothing" if row.never else "denies everything"


def _compile(rule: Rule, origin: Origin, scope: Scope) -> tuple[RuleRow, tuple[SetSpec, ...]]:
    protocol = None if rule.protocol is None else protocol_number(rule.protocol)
    not_protocol = None if rule.not_protocol is None else protocol_number(rule.not_protocol)
    icmp, not_icmp = _icmp(rule.icmp), _icmp(rule.not_icmp)
    if icmp is not None and protocol not in _ICMP_FAMILY:
        raise Unusable("an ICMP type needs protocol ICMP or ICMPv6")
    if protocol is not None and protocol not in _ICMP_FAMILY:
        not_icmp = None  # true of every packet of another protocol
    if rule.http is not None:
        raise Unusable("requests are not looked into (http); only addresses, protocols and ports are")
    ingress = origin.direction == "ingress"
    if (rule.destination if ingress else rule.source).services is not None:
        raise Unusable(
            "a service is matched at the far end: the source of ingress, the destination of egress"
        )
    source, source_sets = _side(rule.source, protocol, scope, "net")
    destination, destination_sets = _side(rule.destination, protocol, scope, "port")

    families = _families(rule, protocol, not_protocol)
    for side in (source, destination):
        families -= {net.family for net in side.not_nets if not net.length}
        if side.nets:
            families &= {net.family for net in side.nets}
    row = RuleRow(
        action=rule.action,
        origin=origin,
        ip_version=min(families) if len(families) == 1 else None,
        protocol=protocol,
        not_protocol=not_protocol,
        icmp=icmp,
        not_icmp=not_icmp,
        source=source,
        destination=destination,
        never=not families,
    )
    return row, (*source_sets, *destination_sets)


def _families(rule: Rule, protocol: int | None, not_protocol: int | None) -> set[Family]:
    """The families that a rule is about, as far as it says so itself; its nets may narrow them further."""
    families: set[Family] = {4, 6}
    if rule.ip_version is not None:
        if rule.ip_version not in get_args(Family):
            raise Unusable(f"ipVersion {rule.ip_version} does not exist; it is 4 or 6")
        families = {4} if rule.ip_version == 4 else {6}
    for number, name in ((protocol, "protocol"), (not_protocol, "notProtocol")):
        implied = _ICMP_FAMILY.get(number)
        if implied is not None and implied not in families:
            raise Unusable(f"{name} {number} belongs to IPv{implied}, but ipVersion is {rule.ip_version}")
    if protocol in _ICMP_FAMILY:
        families = {_ICMP_FAMILY[protocol]}
    return families


def _icmp(icmp: ICMP | None) -> tuple[int, int | None] | None:
    if icmp is None:
        return None
    if icmp.type is None:
        if icmp.code is not None:
            raise Unusable("an ICMP code needs a type")
        return None
    if not 0 <= icmp.type <= 254 or not (icmp.code is None or 0 <= icmp.code <= 255):
        raise Unusable("ICMP types go from 0 to 254 and codes from 0 to 255")
    return icmp.type, icmp.code


def _side(
    entity: EntityRule, protocol: int | None, scope: Scope, served: Literal["net", "port"]
) -> tuple[Side, list[SetSpec]]:
    """One side, and its sets; of a service it asks for the addresses, or for the ports there, too."""
    needed: list[SetSpec] = []

    def use(spec: SetSpec) -> SetId:
        needed.append(spec)
        return spec.id

    selector = scope.entity(entity)
    limit = ALL if selector is None else selector
    ports, names = _ports(entity.ports, protocol)
    not_ports, not_names = _ports(entity.not_ports, protocol)
    service: dict[str, tuple[SetId]] = {}
    if entity.services is not None:
        name = scope.service(entity.services)
        if name.startswith("/") or name.endswith("/"):
            raise Unusable("services needs a service's name, and its namespace where the policy has none")
        if served == "port" and entity.ports:
            raise Unusable("a service at the destination says itself which ports are meant: leave out ports")
        service[served] = (use(service_set(name, served)),)
    side = Side(
        nets=_nets(entity.nets),
        not_nets=_nets(entity.not_nets),
        sets=(*(() if selector is None else (use(net_set(selector)),)), *service.get("net", ())),
        not_sets=tuple(use(net_set(excluded)) for excluded in scope.excluded(entity)),
        ports=ports,
        port_sets=(*(use(port_set(limit, name, protocol)) for name in names), *service.get("port", ())),
        not_ports=not_ports,
        not_port_sets=tuple(use(port_set(limit, name, protocol)) for name in not_names),
    )
    return side, needed


def _nets(nets: Iterable[str]) -> tuple[Cidr, ...]:
    """Parsed, host bits cleared, sorted, each once."""
    return tuple(sorted({parse_cidr(net) for net in nets}))


def _ports(
    ports: Iterable[Port], protocol: int | None
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Numbers as disjoint ranges in order, and names in order."""
    ranges: set[tuple[int, int]] = set()
    names: set[str] = set()
    for port in ports:
        numbers = port_range(port)
        if numbers is None:
            names.add(str(port))
        else:
            ranges.add(numbers)
    if (ranges and protocol not in PORTED) or (names and protocol is not None and protocol not in PORTED):
        raise Unusable("ports need protocol TCP, UDP or SCTP; only names may stand without a protocol")
    return _merged(sorted(ranges)), tuple(sorted(names))


def port_range(port: Port) -> tuple[int, int] | None:
    """First and last number of a port or of a range "a:b"; None for a name, ``Unusable`` for numbers out of range."""
    text = str(port)
    first, colon, last = text.partition(":")
    if not (first.isascii() and first.isdigit() and (not colon or (last.isascii() and last.isdigit()))):
        if colon or text.startswith("-") or not text:
            raise Unusable(f"port {port!r} is no number, no range such as 8000:8999, and no name")
        return None
    low, high = int(first), int(last if colon else first)
    if not 1 <= low <= high <= _PORT_MAX:
        raise Unusable(f"port {port!r} is out of order or range; ports go from 1 to {_PORT_MAX}")
    return low, high


def _merged(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)
