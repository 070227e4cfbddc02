"""Matches of the ruleset value as options of iptables.

In:   the matches of one ``ast.Rule``, and the family.
Out:  ``Condition``: option strings of which exactly one applies to a packet that all matches accept; ``None`` for
      matches that no packet can satisfy.
Next: ``ruleset.iptables`` puts verdicts behind them.

iptables is poorer than the value: a rule names one protocol, one interface a direction and one prefix an end,
ports need a protocol, and fifteen ports fit in one match. What is a choice becomes *alternatives*: rules that
exclude each other, so that no packet meets a statement twice. What is several exclusions of one kind becomes
*escapes*: options that, after an alternative has matched, say that the rule did not apply after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from typing import Final, assert_never

from calico.model.address import WIDTH, Cidr, Family
from calico.ruleset import ast
from calico.ruleset.ipset import kernel_set_name

TCP: Final = 6
_LOOKED_UP: Final = frozenset({6, 17, 132, 136})
"""TCP, UDP, SCTP and UDPLite: what a port set can hold."""
_PORTED: Final = _LOOKED_UP | {33}
"""And DCCP: what a match on ports is about."""
_ICMP: Final = {4: 1, 6: 58}
_SLOTS: Final = 15
"""Ports that one multiport match holds; a range takes two."""
_INTERFACE_LENGTH: Final = 15
_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/,!+-=@")
_ADDRESS: Final = {4: IPv4Address, 6: IPv6Address}


@dataclass(frozen=True, slots=True)
class Condition:
    """When a rule applies: one of ``alternatives`` matches, and then none of ``escapes`` does."""

    alternatives: tuple[str, ...]
    escapes: tuple[str, ...] = ()


def quote(text: str) -> str:
    """``text`` as one word of iptables-restore. Control characters cannot be written and become blanks."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    if clean and all(character in _SAFE for character in clean):
        return clean
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def possible_interface(name: str) -> bool:
    """Whether an interface may be called this, and iptables can say so (there a final "+" is a wildcard)."""
    return (
        0 < len(name.encode()) <= _INTERFACE_LENGTH
        and not any(character.isspace() or character == "/" for character in name)
        and not name.endswith("+")
    )


def interface_matches(match: ast.Interface, name: str) -> bool:
    """Whether an interface called ``name`` satisfies ``match``."""
    return _covers(match.name, name) is not match.negate


def condition(matches: Sequence[ast.Match], family: Family) -> Condition | None:
    """All ``matches`` together, or None when no packet can satisfy them."""
    protocols = _protocols(matches, family)
    if protocols is None:
        return None
    escapes: list[str] = list(protocols.escapes)
    fixed: list[str] = []
    for direction, option in (("in", "-i"), ("out", "-o")):
        interfaces = _interfaces(
            [m for m in matches if isinstance(m, ast.Interface) and m.direction == direction]
        )
        if interfaces is None:
            return None
        fixed += [f"{_not(negate)}{option} {_pattern(name)}" for name, negate in interfaces[:1]]
        escapes += [f"{option} {_pattern(name)}" for name, _ in interfaces[1:]]
    addresses = _addresses([m for m in matches if isinstance(m, ast.Address)], family)
    if addresses is None:
        return None
    fixed += addresses
    fixed += [text for match in matches if (text := _simple(match, family)) is not None]
    ports = [_ports(match) for match in matches if isinstance(match, ast.Ports)]
    alternatives = tuple(
        " ".join(part for part in (protocol, *fixed, *choice) if part)
        for protocol in protocols.alternatives
        for choice in product(*ports)
    )
    return Condition(alternatives, tuple(escapes)) if alternatives else None


def _not(negate: bool) -> str:
    return "! " if negate else ""


# --- protocols


def _protocols(matches: Iterable[ast.Match], family: Family) -> Condition | None:
    """The protocol options: "-p" can be said once, so several exclusions become escapes."""
    allowed: set[int] | None = None
    denied: set[int] = set()
    for match in matches:
        match match:
            case ast.Protocol(number, negate=True):
                denied.add(number)
            case ast.Protocol(number):
                allowed = {number} if allowed is None else allowed & {number}
            case ast.Icmp():
                number = _ICMP[family]
                allowed = {number} if allowed is None else allowed & {number}
            case _:
                pass
    for match in matches:
        ported = isinstance(match, ast.Ports)
        if ported or (isinstance(match, ast.PortInSet) and match.negate):
            having = _PORTED if ported else _LOOKED_UP
            allowed = set(having) if allowed is None else allowed & having
    if allowed is not None:
        # "-p 0" would mean every protocol; no packet that policy sees has the number 0.
        left = sorted(allowed - denied - {0})
        return Condition(tuple(f"-p {number}" for number in left)) if left else None
    first, *others = sorted(denied - {0}) or [0]
    return Condition((f"! -p {first}" if first else "",), tuple(f"-p {number}" for number in others))


# --- interfaces


def _pattern(name: str) -> str:
    return quote(f"{name[:-1]}+" if name.endswith("*") else name)


def _covers(pattern: str, name: str) -> bool:
    """Whether every interface that ``name`` (a name or a pattern) means is one that ``pattern`` means."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == name


def _overlap(one: str, other: str) -> bool:
    return _covers(one, other) or _covers(other, one)


def _interfaces(matches: Sequence[ast.Interface]) -> list[tuple[str, bool]] | None:
    """The fewest (name, negated) that say the same; None if they contradict each other."""
    narrowest: str | None = None
    excluded: list[str] = []
    for match in matches:
        name = match.name
        if not possible_interface(name.removesuffix("*") or "any"):
            if match.negate:
                continue
            return None
        if match.negate:
            excluded.append(name)
        elif narrowest is None or _covers(narrowest, name):
            narrowest = name
        elif not _covers(name, narrowest):
            return None
    if "*" in excluded or (narrowest is not None and any(_covers(name, narrowest) for name in excluded)):
        return None
    kept = [
        name
        for index, name in enumerate(excluded)
        if (narrowest is None or _overlap(name, narrowest))
        and not any(
            _covers(other, name) and (other != name or position < index)
            for position, other in enumerate(excluded)
            if position != index
        )
    ]
    positive = [] if narrowest in {None, "*"} else [(str(narrowest), False)]
    return positive + [(name, True) for name in kept]


# --- addresses


def _addresses(matches: Sequence[ast.Address], family: Family) -> list[str] | None:
    """The first prefix of each end as -s or -d, further ones as address ranges; None if none can match."""
    options: list[str] = []
    used: set[ast.End] = set()
    for match in matches:
        everything = match.net.family == family and match.net.length == 0
        if match.net.family != family or everything:
            if everything is match.negate:
                return None
            continue
        if match.end in used:
            side = "src" if match.end == "source" else "dst"
            options.append(f"-m iprange {_not(match.negate)}--{side}-range {_range(match.net)}")
        else:
            used.add(match.end)
            options.append(f"{_not(match.negate)}{'-s' if match.end == 'source' else '-d'} {match.net}")
    return options


def _range(net: Cidr) -> str:
    last = net.value | ((1 << (WIDTH[net.family] - net.length)) - 1)
    address = _ADDRESS[net.family]
    return f"{address(net.value)}-{address(last)}"


# --- ports


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _ports(match: ast.Ports) -> list[str]:
    """One option for each alternative: several for a long list, one (of several parts) for a negated one."""
    chunks: list[list[str]] = []
    room = 0
    for low, high in _merged(match.ranges):
        slots = 1 if low == high else 2
        if slots > room:
            chunks.append([])
            room = _SLOTS
        chunks[-1].append(str(low) if low == high else f"{low}:{high}")
        room -= slots
    side = "sports" if match.end == "source" else "dports"
    options = [f"-m multiport {_not(match.negate)}--{side} {','.join(chunk)}" for chunk in chunks]
    return [" ".join(options)] if match.negate else options


# --- everything that translates one to one


def _simple(match: ast.Match, family: Family) -> str | None:
    match match:
        case ast.InSet(end, name, negate):
            side = "src" if end == "source" else "dst"
            return f"-m set {_not(negate)}--match-set {kernel_set_name(family, name)} {side}"
        case ast.PortInSet(end, name, negate):
            sides = "src,src" if end == "source" else "dst,dst"
            return f"-m set {_not(negate)}--match-set {kernel_set_name(family, name)} {sides}"
        case ast.Icmp():
            return _icmp(match, family)
        case ast.CtState(states):
            return f"-m conntrack --ctstate {','.join(state.upper() for state in states)}"
        case ast.CtDnat(negate):
            return f"-m conntrack {_not(negate)}--ctstate DNAT"
        case ast.CtSource(direction, net):
            return f"-m conntrack --ct{'orig' if direction == 'original' else 'repl'}src {net}"
        case ast.Limit(rate, burst):
            return f"-m limit --limit {rate}/sec --limit-burst {burst}"
        case ast.Mark(value, mask, negate):
            return f"-m mark {_not(negate)}--mark {value:#x}/{mask:#x}"
        case ast.ReversePathFails():
            return "-m rpfilter --validmark --invert"
        case ast.LocalAddress(end, negate):
            return f"-m addrtype {_not(negate)}--{'src' if end == 'source' else 'dst'}-type LOCAL"
        case ast.Interface() | ast.Address() | ast.Protocol() | ast.Ports():
            return None
        case _:
            assert_never(match)


def _icmp(match: ast.Icmp, family: Family) -> str:
    code = "" if match.code is None else f"/{match.code}"
    if family == 6:
        return f"-m icmp6 {_not(match.negate)}--icmpv6-type {match.type}{code}"
    if match.type == 255:
        # To xt_icmp 255 is "any type"; the first bytes behind the IP header say it exactly.
        mask, value = (
            ("0xFF000000", 0xFF000000)
            if match.code is None
            else ("0xFFFF0000", 0xFF << 24 | match.code << 16)
        )
        return f'-m u32 {_not(match.negate)}--u32 "0>>22&0x3C@0&{mask}={value:#x}"'
    return f"-m icmp {_not(match.negate)}--icmp-type {match.type}{code}"
