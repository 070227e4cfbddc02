"""Filters as functions of BIRD, and what each session does with them.

In:   the ``RouteFilter``s and ``Session``s of a ``Speaker``.
Out:  a function for each filter, family and direction; a filter for each session that names some.
Next: ``bgp.bird_sessions`` refers to the filters.

A filter stands apart from the sessions that name it: when it changes, BIRD judges the routes anew
and no session ends. A function that accepts or rejects ends the session's filter; one that does neither passes on.
A priority travels as local preference: 2147483647 minus the priority, as all of Calico's nodes have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from calico.bgp.bird_words import quoted, short, symbol
from calico.bgp.speaker import Community, RouteFilter, Rule, Session, Speaker
from calico.model.address import Family

Direction = Literal["import", "export"]

MAX_PREFERENCE = 2**31 - 1
"""The local preference of priority 0."""

_FAMILIES: tuple[Family, ...] = (4, 6)
_DIRECTIONS: tuple[Direction, ...] = ("import", "export")


def functions(speaker: Speaker) -> Iterator[str]:
    """The functions of all filters."""
    for each in speaker.filters:
        for family in _FAMILIES:
            for direction in _DIRECTIONS:
                yield ""
                yield f"function {_function(each.name, direction, family)}(bool is_internal) {{"
                yield from _body(each, direction, family)
                yield "}"


def session_filters(session: Session) -> Iterator[str]:
    """The filters of a session that needs some of its own: one a family and direction."""
    for family in session.families:
        for direction in _DIRECTIONS:
            if not own_filter(session, direction):
                continue
            yield f"filter {filter_name(session, direction, family)} {{"
            if direction == "export":
                yield f"  prioritise{family}();"
            internal = "true" if session.internal else "false"
            yield from (
                f"  {_function(name, direction, family)}({internal});"
                for name in dict.fromkeys(session.filters)
            )
            if direction == "export":
                yield f"  announce{family}();"
            elif session.workload:
                yield "  reject;  # a workload announces what a filter accepts, and nothing else"
            else:
                yield f"  believe{family}();"
            yield "}"
            yield ""


def own_filter(session: Session, direction: Direction) -> bool:
    """Whether a session does not do with the filter that all share."""
    return bool(session.filters) or (session.workload and direction == "import")


def filter_name(session: Session, direction: Direction, family: Family) -> str:
    """The filter that a session names."""
    if not own_filter(session, direction):
        return f"from_peers{family}" if direction == "import" else f"to_peers{family}"
    return symbol(f"{direction}{family}_{session.name}")


def _function(name: str, direction: Direction, family: Family) -> str:
    return f"'bgp_{short(name)}_{direction}FilterV{family}'"


def _body(each: RouteFilter, direction: Direction, family: Family) -> Iterator[str]:
    if each.rules is None:
        yield "  reject;  # what it should say is not known"
        return
    rules = each.rules[family]
    for rule in rules.imported if direction == "import" else rules.exported:
        statements = [*_operations(rule)]
        if rule.accept and direction == "import":
            statements.append(f"believe{family}();")
        else:
            statements.append("accept;" if rule.accept else "reject;")
        conditions = " && ".join(_conditions(rule))
        text = " ".join(statements)
        yield f"  if {conditions} then {{ {text} }}" if conditions else f"  {text}"
        if not conditions:
            return  # nothing comes as far as the rules behind


def _conditions(rule: Rule) -> Iterator[str]:
    if rule.cidr is not None:
        parts = [f"net {'~' if rule.inside else '='} {rule.cidr}"]
        if rule.lengths is not None:
            least, most = rule.lengths
            parts += [f"net.len >= {least}", f"net.len <= {most}"]
        text = " && ".join(parts)
        yield f"!({text})" if rule.unlike else text
    if rule.learned:
        yield "source = RTS_BGP"
    if rule.interface:
        yield f"ifname ~ {quoted(rule.interface)}"
    if rule.internal is not None:
        yield "is_internal" if rule.internal else "!is_internal"
    if rule.community is not None:
        yield f"{_pair(rule.community)} ~ {_attribute(rule.community)}"
    if rule.path:
        yield f"bgp_path ~ [= {_numbers(rule.path)} * =]"
    if rule.priority is not None:
        yield f"defined(bgp_local_pref) && bgp_local_pref = {MAX_PREFERENCE - rule.priority}"


def _operations(rule: Rule) -> Iterator[str]:
    for kind, numbers in rule.operations:
        match kind:
            case "community":
                yield f"{_attribute(numbers)}.add({_pair(numbers)});"
            case "prepend":
                yield from (f"bgp_path.prepend({number});" for number in reversed(numbers))
            case "priority":
                yield f"bgp_local_pref = {MAX_PREFERENCE - numbers[0]};"


def add_communities(communities: Iterable[Community]) -> str:
    """Statements that give a route communities."""
    return " ".join(f"{_attribute(numbers)}.add({_pair(numbers)});" for numbers in communities)


def _attribute(community: Community) -> str:
    return "bgp_community" if len(community) == 2 else "bgp_large_community"


def _pair(community: Community) -> str:
    return f"({', '.join(map(str, community))})"


def _numbers(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))
