"""Runs of similar rules -> rules that look a value up in a set: what a new flow costs no longer grows with the run.

In:   the rules of one chain, in order, and the nets behind the names of literal sets.
Out:  ``Merged``: rules that mean the same, and the sets that they look into, which belong to this chain alone.
Next: ``rendering.renderer`` puts both into the table.

A *run* is a stretch of rules of which any two could change places: they end in the same statements, or no packet
satisfies both of them. Within a run, rules that differ in one value only (see ``Kind``) and do the same become one,
in the place of the first of them. Fewer than ``LEAST`` stay as they are, so that a small policy can be read rule by rule.

A set's name says which chain it is for, what its rule does, and every rule that stands before it in the chain, but not
what is in it. So a changed value costs one element. And where a back end changes sets and chains in several steps
(iptables), a packet meets the old verdict or the new one between them: a set whose name is kept is asked about by both
chains in the same situation, and while it holds the members of both, each packet in it gets the verdict of the chain
whose member it is. That is so for one chain; what several policies of one change say together, iptables never takes up
at one moment where sets are involved.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import product
from typing import Final, Literal, NamedTuple

from calico.desired import PortMember
from calico.model.address import Cidr, Family
from calico.ruleset import ast, names
from calico.ruleset.provenance import describe_all

LEAST: Final = 8
"""Similar rules that are worth a set. Fewer cost a packet next to nothing, and are read more easily rule by rule."""

_LISTENER_PROTOCOLS: Final = (6, 17, 132, 136)
"""What a "port" set can hold: TCP, UDP, SCTP, UDPLite."""
_LISTENERS_A_RULE: Final = 64
"""Pairs of address and port that one rule may bring into a set, so that no rule of two long lists becomes their product."""

_PORTS_CLAIMED: Final = 64
"""Ports of a range up to which it is compared with others; a wider one may overlap anything."""

Port = tuple[int, int]
Value = Cidr | PortMember | Port


class Kind(NamedTuple):
    """What varies between rules of a run: an ``end``'s address, prefix, ports, or (address, protocol, port) at once.

    Addresses and prefixes are told apart, for a set of addresses is the faster one, and stays it.
    """

    what: Literal["listener", "address", "net", "ports"]
    end: ast.End


class Reading(NamedTuple):
    """A rule seen as values under conditions: ``frame`` has None where the match on one of ``values`` stands."""

    kind: Kind
    frame: tuple[ast.Match | None, ...]
    values: tuple[Value, ...]


_ORDER: Final[tuple[Kind, ...]] = (
    Kind("listener", "destination"),
    Kind("listener", "source"),
    Kind("address", "source"),
    Kind("address", "destination"),
    Kind("net", "source"),
    Kind("net", "destination"),
    Kind("ports", "destination"),
    Kind("ports", "source"),
)
"""Which of two readings that are as good is taken."""

Statements = tuple[ast.Statement, ...]
_Likeness = tuple[Statements, Kind, tuple[ast.Match | None, ...]]
"""What rules have in common that become one."""
SetContent = tuple[ast.Set, frozenset[ast.Member]]


@dataclass(frozen=True, slots=True)
class Merged:
    """Rules in place of others, and the sets that only they use, by name."""

    rules: tuple[ast.Rule, ...]
    sets: Mapping[str, SetContent] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """Rules that become one."""

    kind: Kind
    frame: tuple[ast.Match | None, ...]
    statements: Statements
    values: set[Value] = field(default_factory=set)
    members: list[ast.Rule] = field(default_factory=list)


def merge(
    chain: str,
    family: Family,
    rules: Sequence[ast.Rule],
    literals: Mapping[str, tuple[Cidr, ...]],
    least: int = LEAST,
) -> Merged:
    """``rules`` of ``chain`` with each run of at least ``least`` similar ones made one.

    ``literals``: the nets of the sets that stand for lists in a rule; a set that is not named here never varies.
    """
    parts = list(_parts(rules, literals, least)) if len(rules) >= least else list(rules)
    if not any(isinstance(part, _Group) for part in parts):
        return Merged(tuple(rules))
    result: list[ast.Rule] = []
    sets: dict[str, SetContent] = {}
    before = chain
    for part in parts:
        if isinstance(part, ast.Rule):
            rule = part
        else:
            rule, content = _written(part, before, family)
            if content is not None:
                name, described, held = content
                sets[name] = (ast.Set(described.type, f"values of similar rules of {chain}"), held)
        before = names.digest((before, repr(rule.matches), repr(rule.statements)), 43)
        result.append(rule)
    return Merged(tuple(result), sets)


def _written(
    group: _Group, before: str, family: Family
) -> tuple[ast.Rule, tuple[str, ast.Set, frozenset[ast.Member]] | None]:
    """The rule of a group; and the name, description and members of its set, if it takes one."""
    what, end = group.kind
    content = None
    match: ast.Match
    if what == "ports":
        match = ast.Ports(
            end, joined(value for value in group.values if not isinstance(value, Cidr | PortMember))
        )
    else:
        kind: names.SetType = "port" if what == "listener" else what
        identity = (before, repr(group.kind), repr(group.frame), repr(group.statements))
        name = names.set_name(family, "m:" + names.digest(identity, 21), kind)
        held = frozenset(value for value in group.values if isinstance(value, Cidr | PortMember))
        content = (name, ast.Set(kind), held)
        match = ast.PortInSet(end, name) if what == "listener" else ast.InSet(end, name)
    origins = tuple(rule.origin for rule in group.members if rule.origin is not None)
    rule = ast.Rule(
        tuple(match if part is None else part for part in group.frame),
        group.statements,
        comment=describe_all(origins),
        counted=any(member.counted for member in group.members),
        merged=origins,
    )
    return rule, content


def joined(ranges: Iterable[Port]) -> tuple[Port, ...]:
    """Ranges in ascending order, those that touch or overlap made one."""
    result: list[Port] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return tuple(result)


# --- runs


def _parts(
    rules: Sequence[ast.Rule], literals: Mapping[str, tuple[Cidr, ...]], least: int
) -> Iterator[ast.Rule | _Group]:
    """The rules, and in the place of some the group that stands for them, in order."""
    start = 0
    while start < len(rules):
        end = _alike(rules, start)
        if end < len(rules):
            end = max(
                [end, *(_apart(rules, literals, start, way) for way in _readings(rules[start], literals))]
            )
        if end - start < least:
            yield rules[start]
            start += 1
        else:
            parts, done = _grouped(rules[start:end], literals, least)
            yield from parts
            start += done


def _alike(rules: Sequence[ast.Rule], start: int) -> int:
    """Where the rules end that do the same as the one at ``start``; there, if a packet may go on behind it."""
    end = start
    while end < len(rules) and _is_final(rules[end]) and rules[end].statements == rules[start].statements:
        end += 1
    return end


def _is_final(rule: ast.Rule) -> bool:
    """Whether a packet that ``rule`` matches meets no other rule, and none of its matches counts packets."""
    return (
        bool(rule.statements)
        and isinstance(rule.statements[-1], ast.Accept | ast.Drop | ast.Reject | ast.Return | ast.Goto)
        and not any(isinstance(match, ast.Limit) for match in rule.matches)
    )


def _apart(
    rules: Sequence[ast.Rule], literals: Mapping[str, tuple[Cidr, ...]], start: int, way: Reading
) -> int:
    """Where the rules end that ask for the same as ``way`` but for values, which do not overlap if they act differently."""
    claims = _Claims()
    for index in range(start, len(rules)):
        ways = _readings(rules[index], literals)
        found = next((r for r in ways if _field(r) == _field(way) and r.frame == way.frame), None)
        if found is None or not claims.admit(found.values, rules[index].statements):
            return index
    return len(rules)


def _field(reading: Reading) -> Kind:
    """What the values are compared as: an address lies in a prefix."""
    return Kind("net", reading.kind.end) if reading.kind.what == "address" else reading.kind


class _Claims:
    """What is done about each value so far, by the rules that came first."""

    def __init__(self) -> None:
        self._exact: dict[PortMember | int, Statements] = {}
        self._nets: list[Cidr] = []
        self._actions: dict[Cidr, Statements] = {}
        self._lengths: set[int] = set()

    def admit(self, values: Iterable[Value], statements: Statements) -> bool:
        """Claim ``values``; False (and some of them may be claimed) if one overlaps what is treated differently."""
        return all(self._admit(value, statements) for value in values)

    def _admit(self, value: Value, statements: Statements) -> bool:
        if isinstance(value, Cidr):
            return self._admit_net(value, statements)
        if isinstance(value, PortMember):
            return self._exact.setdefault(value, statements) == statements
        low, high = value
        return high - low < _PORTS_CLAIMED and all(
            self._exact.setdefault(port, statements) == statements for port in range(low, high + 1)
        )

    def _admit_net(self, net: Cidr, statements: Statements) -> bool:
        for length in self._lengths:
            if length <= net.length:
                action = self._actions.get(_shortened(net, length))
                if action is not None and action != statements:
                    return False
        place = bisect_left(self._nets, net)
        for index in range(place, len(self._nets)):
            inner = self._nets[index]
            if not net.contains(inner):
                break
            if self._actions[inner] != statements:
                return False
        if net not in self._actions:
            insort(self._nets, net)
            self._actions[net] = statements
            self._lengths.add(net.length)
        return True


def _shortened(net: Cidr, length: int) -> Cidr:
    shift = (32 if net.family == 4 else 128) - length
    return Cidr(net.family, net.value >> shift << shift, length)


# --- groups


def _grouped(
    run: Sequence[ast.Rule], literals: Mapping[str, tuple[Cidr, ...]], least: int
) -> tuple[list[ast.Rule | _Group], int]:
    """The rules of a run, grouped, and how many that are: those behind the last grouped one may begin the next run.

    As listeners what can be, for whatever of the three changes then is one element.
    """
    leaders: dict[int, _Group] = {}
    taken: set[int] = set()
    for read in (_listeners, _others):
        candidates: dict[_Likeness, dict[int, Reading]] = {}
        for index, rule in enumerate(run):
            if index not in taken:
                for way in read(rule, literals):
                    candidates.setdefault((rule.statements, way.kind, way.frame), {})[index] = way
        for group in _chosen(list(candidates.values()), least):
            first, way = next(iter(group.items()))
            leaders[first] = made = _Group(way.kind, way.frame, run[first].statements)
            for index, found in group.items():
                made.values.update(found.values)
                made.members.append(run[index])
            taken.update(group)
    done = max(taken, default=len(run) - 1) + 1
    parts: list[ast.Rule | _Group] = []
    for index, rule in enumerate(run[:done]):
        if index in leaders:
            parts.append(leaders[index])
        elif index not in taken:
            parts.append(rule)
    return parts, done


def _chosen(candidates: list[dict[int, Reading]], least: int) -> Iterator[dict[int, Reading]]:
    """Groups of which no two share a rule: of two ways to group one the larger wins, sizes compared roughly.

    Roughly, so that one rule more or less seldom makes another way the best, which would change much at once.
    """
    queue = [(*_rank(ways), number) for number, ways in enumerate(candidates) if len(ways) >= least]
    heapify(queue)
    taken: set[int] = set()
    while queue:
        number = heappop(queue)[-1]
        left = {index: way for index, way in candidates[number].items() if index not in taken}
        if len(left) == len(candidates[number]):
            taken.update(left)
            yield left
        elif len(left) >= least:
            candidates[number] = left
            heappush(queue, (*_rank(left), number))


def _rank(ways: Mapping[int, Reading]) -> tuple[int, int, int]:
    """The smallest is the best; all of ``ways`` are of one kind."""
    first, way = next(iter(ways.items()))
    return -len(ways).bit_length(), _ORDER.index(way.kind), first


# --- readings


def _readings(rule: ast.Rule, literals: Mapping[str, tuple[Cidr, ...]]) -> Iterator[Reading]:
    """Every way to see ``rule`` as values under conditions."""
    if _is_final(rule):
        yield from _listeners(rule, literals)
        yield from _others(rule, literals)


def _others(rule: ast.Rule, literals: Mapping[str, tuple[Cidr, ...]]) -> Iterator[Reading]:
    """The ways in which one match varies."""
    for place, match in enumerate(rule.matches):
        if isinstance(match, ast.Ports):
            if not match.negate:
                yield Reading(Kind("ports", match.end), _frame(rule, place), match.ranges)
        elif isinstance(match, ast.Address | ast.InSet) and (nets := _nets(match, literals)):
            what: Literal["address", "net"] = "address" if _are_addresses(nets) else "net"
            yield Reading(Kind(what, match.end), _frame(rule, place), nets)


def _listeners(rule: ast.Rule, literals: Mapping[str, tuple[Cidr, ...]]) -> Iterator[Reading]:
    """The rule as (address, protocol, port) of one end, if it names single ones of all three, and says no more of them."""
    protocols = [match for match in rule.matches if isinstance(match, ast.Protocol)]
    ports = [match for match in rule.matches if isinstance(match, ast.Ports)]
    if len(protocols) != 1 or len(ports) != 1 or protocols[0].negate or ports[0].negate:
        return
    protocol, end, ranges = protocols[0].number, ports[0].end, ports[0].ranges
    if protocol not in _LISTENER_PROTOCOLS or any(low != high for low, high in ranges):
        return
    if any(isinstance(match, ast.PortInSet | ast.Icmp) for match in rule.matches):
        return
    for place, match in enumerate(rule.matches):
        if isinstance(match, ast.Address | ast.InSet) and match.end == end:
            nets = _nets(match, literals)
            if nets and _are_addresses(nets) and len(nets) * len(ranges) <= _LISTENERS_A_RULE:
                frame = tuple(
                    None if index == place else other
                    for index, other in enumerate(rule.matches)
                    if not isinstance(other, ast.Protocol | ast.Ports)
                )
                values = tuple(PortMember(net, protocol, port) for net, (port, _) in product(nets, ranges))
                yield Reading(Kind("listener", end), frame, values)


def _are_addresses(nets: Iterable[Cidr]) -> bool:
    return all(net.is_address for net in nets)


def _nets(match: ast.Address | ast.InSet, literals: Mapping[str, tuple[Cidr, ...]]) -> tuple[Cidr, ...]:
    """The prefixes of which one must hold; none where the match is another."""
    if match.negate:
        return ()
    return (match.net,) if isinstance(match, ast.Address) else literals.get(match.set, ())


def _frame(rule: ast.Rule, place: int) -> tuple[ast.Match | None, ...]:
    return (*rule.matches[:place], None, *rule.matches[place + 1 :])
