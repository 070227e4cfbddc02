"""What is wrong with BGP filters (behaviour reference 1.13).

In:   one filter, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings about metadata.
"""

from __future__ import annotations

import re
from typing import Final

from calico.model import checks
from calico.model.address import WIDTH, Family
from calico.model.bgp_validation import MAX_PRIORITY, community
from calico.model.bgpfilter import BGPFilter, FilterOperation, FilterRule, PrefixLengths
from calico.model.errors import Finding, Findings, Path
from calico.model.numbers import as_number

OPERATIONS: Final = 10
PREPENDED: Final = 10

INTERFACES: Final = re.compile(r"[A-Za-z0-9_.*-]{1,15}")
"""A pattern for names of interfaces."""


def bgp_filter(resource: BGPFilter) -> Findings:
    """A filter: each of its rules."""
    spec = resource.spec
    lists: tuple[tuple[str, Family, list[FilterRule]], ...] = (
        ("exportV4", 4, spec.export_v4),
        ("importV4", 4, spec.import_v4),
        ("exportV6", 6, spec.export_v6),
        ("importV6", 6, spec.import_v6),
    )
    for field, family, rules in lists:
        for index, rule in enumerate(rules):
            yield from _rule(("spec", field, index), rule, family)


def _rule(path: Path, rule: FilterRule, family: Family) -> Findings:
    if rule.cidr:
        if "/" in rule.cidr:
            yield from checks.prefix((*path, "cidr"), rule.cidr, family)
        else:
            yield Finding(
                (*path, "cidr"), f"{rule.cidr!r} is no prefix", "write one with a length, such as 10.0.0.0/16"
            )
        if rule.match_operator is None:
            yield Finding(
                (*path, "matchOperator"),
                "nothing says how the prefix is compared",
                "add Equal, NotEqual, In or NotIn",
            )
    elif rule.match_operator is not None:
        yield Finding(
            (*path, "cidr"), "there is no prefix to compare with", "add it, or remove matchOperator"
        )
    if rule.prefix_length is not None:
        if not rule.cidr:
            yield Finding(
                (*path, "cidr"), "lengths are those of prefixes within one", "add it, or remove prefixLength"
            )
        yield from _lengths((*path, "prefixLength"), rule.prefix_length, WIDTH[family])
    if rule.interface and INTERFACES.fullmatch(rule.interface) is None:
        yield Finding(
            (*path, "interface"),
            f"{rule.interface!r} is no pattern for interfaces",
            "write 1 to 15 letters, digits, '_', '.' and '-', and '*' for any",
        )
    if rule.communities is not None:
        if len(rule.communities.values) != 1:
            yield Finding(
                (*path, "communities", "values"),
                f"there are {len(rule.communities.values)} communities",
                "write exactly one, and a rule for each further one",
            )
        for index, text in enumerate(rule.communities.values):
            yield from community((*path, "communities", "values", index), text)
    for index, number in enumerate(rule.as_path_prefix):
        yield from checks.readable((*path, "asPathPrefix", index), as_number, number)
    yield from checks.within((*path, "priority"), rule.priority, 1, MAX_PRIORITY)
    yield from _operations((*path, "operations"), rule)


def _lengths(path: Path, lengths: PrefixLengths, width: int) -> Findings:
    yield from checks.within((*path, "min"), lengths.min, 0, width)
    yield from checks.within((*path, "max"), lengths.max, 0, width)
    if lengths.min is not None and lengths.max is not None and lengths.min > lengths.max:
        yield Finding((*path, "max"), f"{lengths.max} is less than min, so nothing matches", "exchange them")


def _operations(path: Path, rule: FilterRule) -> Findings:
    if rule.operations and rule.action != "Accept":
        yield Finding(path, "a route that is rejected cannot be changed", "remove them, or accept the route")
    yield from checks.at_most(path, rule.operations, OPERATIONS, "operations")
    for index, operation in enumerate(rule.operations):
        yield from _operation((*path, index), operation)


def _operation(path: Path, operation: FilterOperation) -> Findings:
    given = [operation.add_community, operation.prepend_as_path, operation.set_priority]
    if sum(each is not None for each in given) != 1:
        yield Finding(
            path, "an operation does exactly one thing", "write addCommunity, prependASPath or setPriority"
        )
    if operation.add_community is not None:
        yield from community((*path, "addCommunity", "value"), operation.add_community.value)
    if operation.prepend_as_path is not None:
        where = (*path, "prependASPath", "prefix")
        if not operation.prepend_as_path.prefix:
            yield Finding(where, "no AS number is put before the path", f"write 1 to {PREPENDED}")
        yield from checks.at_most(where, operation.prepend_as_path.prefix, PREPENDED, "AS numbers")
        for index, number in enumerate(operation.prepend_as_path.prefix):
            yield from checks.readable((*where, index), as_number, number)
    if operation.set_priority is not None:
        yield from checks.within(
            (*path, "setPriority", "value"), operation.set_priority.value, 1, MAX_PRIORITY
        )
