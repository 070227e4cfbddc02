"""BGPFilters, read and checked.

In:   the filters that some session names, as operators write them.
Out:  ``RouteFilter`` values, and what was wrong as problems.
Next: ``bgp.bird_filters`` writes them down as functions.

A filter that is missing or makes no sense lets nothing pass: without it too much might be announced or believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from calico.bgp.cluster import checked, parse_as
from calico.bgp.speaker import Advertisement, Community, Problem, RouteFilter, Rule, Rules
from calico.model.address import WIDTH, Cidr, Family, parse_cidr
from calico.model.bgp import BGPConfigurationSpec
from calico.model.bgp_validation import MAX_PRIORITY
from calico.model.bgpfilter import BGPFilter, FilterOperation, FilterRule, PrefixLengths
from calico.model.bgpfilter_validation import INTERFACES

_SHORT: Final = 0xFFFF
_LONG: Final = 0xFFFFFFFF

_Operation = tuple[Literal["community", "prepend", "priority"], tuple[int, ...]]


def read(
    names: Iterable[str], filters: Mapping[str, BGPFilter], problems: list[Problem]
) -> tuple[RouteFilter, ...]:
    """The filters called ``names``, by name; what is wrong is added to ``problems``."""
    found = []
    for name in sorted(set(names)):
        rules: dict[Family, Rules] | None = None
        if name not in filters:
            problems.append(
                Problem(
                    f"BGPFilter/{name}",
                    "does not exist, so peers that name it get and give no routes; create it",
                )
            )
        else:
            spec = filters[name].spec
            try:
                rules = {
                    4: Rules(_rules(spec.export_v4, 4), _rules(spec.import_v4, 4)),
                    6: Rules(_rules(spec.export_v6, 6), _rules(spec.import_v6, 6)),
                }
            except ValueError as error:
                problems.append(
                    Problem(f"BGPFilter/{name}", f"peers that name it get and give no routes: {error}")
                )
        found.append(RouteFilter(name=name, rules=rules))
    return tuple(found)


def advertisements(
    name: str, spec: BGPConfigurationSpec, problems: list[Problem]
) -> tuple[Advertisement, ...]:
    """What prefixes are announced with, in the order of the BGP configuration called ``name``."""
    named = {each.name: each.value for each in spec.communities}
    found = []
    for each in spec.prefix_advertisements:
        try:
            numbers = tuple(parse_community(named.get(text, text)) for text in each.communities)
            found.append(Advertisement(parse_cidr(each.cidr), numbers))
        except ValueError as error:
            problems.append(
                Problem(f"BGPConfiguration/{name}", f"a prefix is announced without communities: {error}")
            )
    return tuple(each for each in found if each.communities)


def parse_community(text: str) -> Community:
    """``aa:nn``, or ``aa:nn:mm`` for a large one."""
    parts = text.split(":")
    if all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        numbers = tuple(map(int, parts))
        if (len(numbers) == 2 and max(numbers) <= _SHORT) or (len(numbers) == 3 and max(numbers) <= _LONG):
            return numbers
    raise ValueError(f"{text!r} is no community; write aa:nn or aa:nn:mm")


def _rules(rules: Iterable[FilterRule], family: Family) -> tuple[Rule, ...]:
    return tuple(_rule(rule, family) for rule in rules)


def _rule(rule: FilterRule, family: Family) -> Rule:
    if rule.communities is not None and len(rule.communities.values) != 1:
        raise ValueError("communities.values needs exactly one community")
    if bool(rule.cidr) != bool(rule.match_operator):
        raise ValueError("cidr and matchOperator go together")
    if rule.prefix_length is not None and not rule.cidr:
        raise ValueError("prefixLength needs a cidr")
    if rule.interface and INTERFACES.fullmatch(rule.interface) is None:
        raise ValueError(f"interface {rule.interface!r} is no pattern for interfaces")
    if rule.operations and rule.action != "Accept":
        raise ValueError("operations go with Accept only")
    return Rule(
        accept=rule.action == "Accept",
        cidr=_prefix(rule.cidr, family) if rule.cidr else None,
        inside=rule.match_operator in {"In", "NotIn"},
        unlike=rule.match_operator in {"NotEqual", "NotIn"},
        lengths=_lengths(rule.prefix_length, family) if rule.prefix_length else None,
        learned=rule.source is not None,
        interface=rule.interface,
        internal=None if rule.peer_type is None else rule.peer_type == "iBGP",
        community=parse_community(rule.communities.values[0]) if rule.communities else None,
        path=tuple(map(parse_as, rule.as_path_prefix)),
        priority=None if rule.priority is None else checked("priority", rule.priority, 1, MAX_PRIORITY),
        operations=tuple(map(_operation, rule.operations)),
    )


def _prefix(text: str, family: Family) -> Cidr:
    cidr = parse_cidr(text)
    if cidr.family != family:
        raise ValueError(f"{text} is not of IPv{family}")
    return cidr


def _lengths(lengths: PrefixLengths, family: Family) -> tuple[int, int]:
    width = WIDTH[family]
    least = 0 if lengths.min is None else checked("prefixLength.min", lengths.min, 0, width)
    most = width if lengths.max is None else checked("prefixLength.max", lengths.max, 0, width)
    if least > most:
        raise ValueError(f"prefixLength.min is {least}, which is more than max, {most}")
    return least, most


def _operation(operation: FilterOperation) -> _Operation:
    given = (operation.add_community, operation.prepend_as_path, operation.set_priority)
    if sum(each is not None for each in given) > 1:
        raise ValueError("an operation does only one thing; write each as an operation of its own")
    if operation.add_community is not None:
        return "community", parse_community(operation.add_community.value)
    if operation.prepend_as_path is not None:
        return "prepend", tuple(map(parse_as, operation.prepend_as_path.prefix))
    if operation.set_priority is not None:
        return "priority", (checked("setPriority", operation.set_priority.value, 1, MAX_PRIORITY),)
    raise ValueError("an operation needs addCommunity, prependASPath or setPriority")
