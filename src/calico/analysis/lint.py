"""Warnings: what is valid and surely not meant.

In:   the resources of a batch; tiers, policies and host endpoints of the store, if they are at hand.
Out:  for each resource ``Finding`` values. Nothing here forbids anything.
Next: ``cli.problems`` shows them with their places.

No false alarms: each finding holds whatever labels and traffic there may be. What depends on other policies is
judged by those that are given, so the more are given the more is found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from calico.analysis.contradiction import contradiction
from calico.analysis.coverage import Reading, reading
from calico.analysis.hidden import DECISIVE, DIRECTIONS, Direction, Tiers, namespace_of, selected_by
from calico.analysis.untracked import Untracked
from calico.calculation.scope import Scope
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.policy import (
    GlobalNetworkPolicy,
    NetworkPolicy,
    PolicySpec,
    ProfileSpec,
)
from calico.model.resource import Resource
from calico.model.selector import parse
from calico.model.validation import defaulted

MOST_RULES: Final = 256
"""How many rules of one direction are compared with each other; of more only those that match everything count."""


def warnings(resources: Sequence[Resource], stored: Sequence[Resource] = ()) -> list[list[Finding]]:
    """What is surely not meant of each of ``resources``, in their order.

    What of ``stored`` has the key of one of them is taken for its former state.
    """
    resources = [*map(defaulted, resources)]
    tiers = Tiers(resources, stored)
    untracked = Untracked(resources, stored)
    found = []
    for each in resources:
        selectors = [*_selectors(each)]
        findings = [*selectors, *_rules_of(each, {finding.path for finding in selectors})]
        if isinstance(each, NetworkPolicy | GlobalNetworkPolicy):
            findings += tiers.hidden(each)
        findings += untracked.ignored(each)
        found.append(findings)
    return found


# --- selectors ---------------------------------------------------------------------------------------


def _selectors(resource: Resource) -> Findings:
    """Every selector that can never match; one that excludes may well exclude nothing."""
    spec = getattr(resource, "spec", None)
    if isinstance(spec, msgspec.Struct):
        for path, text in _texts(spec, ("spec",)):
            try:
                reason = contradiction(parse(text).node)
            except ModelError:
                continue  # that is an error, not a warning
            if reason is not None:
                yield Finding(
                    path,
                    f"the selector can never match: {reason}",
                    "write || between conditions of which one is enough",
                )


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """The selectors within a value, with their paths."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            if isinstance(each, msgspec.Struct):
                yield from _texts(each, (*path, index))
    elif isinstance(value, msgspec.Struct):
        for name, field in zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True):
            inner = getattr(value, field)
            if isinstance(inner, str):
                if inner and name.lower().endswith("selector") and name != "notSelector":
                    yield (*path, name), inner
            else:
                yield from _texts(inner, (*path, name))


# --- the rules of one policy or profile --------------------------------------------------------------


def _rules_of(resource: Resource, said: Collection[Path]) -> Findings:
    """What of the rules has no effect; ``said`` are the selectors of which it was said that they never match."""
    spec = getattr(resource, "spec", None)
    if not isinstance(spec, PolicySpec | ProfileSpec):
        return
    if isinstance(spec, PolicySpec):
        yield from _types(spec)
        yield from _own_namespace(resource, spec)
    for direction in DIRECTIONS:
        yield from _hidden_rules(direction, _read(resource, spec, direction), said)


def _types(spec: PolicySpec) -> Findings:
    """Rules of a direction that the policy does not have."""
    for direction, word, rules in (("ingress", "Ingress", spec.ingress), ("egress", "Egress", spec.egress)):
        if rules and spec.types and word not in spec.types:
            yield Finding(
                ("spec", direction),
                f"the {direction} rules have no effect: types names {spec.types[0]} alone",
                f"add {word} to types, or remove the rules",
            )


def _own_namespace(resource: Resource, spec: PolicySpec) -> Findings:
    """A policy that selects outside of its namespace, where it does not reach."""
    if not resource.NAMESPACED or not spec.selector:
        return
    try:
        alone, scoped = parse(spec.selector), selected_by(resource, spec)
    except ModelError:
        return
    if contradiction(alone.node) is None and (reason := contradiction(scoped.node)) is not None:
        yield Finding(
            ("spec", "selector"),
            f"the policy can never select anything: {reason}, and it stays in its namespace",
            "move it to the namespace of the endpoints, or make it a GlobalNetworkPolicy",
        )


def _read(resource: Resource, spec: PolicySpec | ProfileSpec, direction: Direction) -> list[Reading]:
    scope = Scope(namespace_of(resource) if isinstance(spec, PolicySpec) else "")
    try:
        return [reading(rule, scope) for rule in getattr(spec, direction)]
    except ModelError:
        return []  # of a stored policy that others wrote


def _hidden_rules(direction: Direction, rules: Sequence[Reading], said: Collection[Path]) -> Findings:
    """Rules that match nothing, and those that match nothing any more when their turn comes."""
    path: Path = ("spec", direction)
    before: list[int] = []
    for index, rule in enumerate(rules):
        never = rule.never()
        if never is not None:
            where = (*path, index, *never.path)
            if not any(each[: len(where) - 1] == where[:-1] for each in said):
                yield Finding(where, f"the rule can never match: {never.message}", never.remedy)
            continue
        candidates = before if index < MOST_RULES else [each for each in before if rules[each].unconditional]
        hiding = next((each for each in candidates if rules[each].covers(rule)), None)
        if hiding is None:
            if rule.rule.action in DECISIVE:
                before.append(index)
            continue
        yield _hidden(path, index, hiding, rules)
        if rules[hiding].unconditional:
            return  # so are all that follow


def _hidden(path: Path, index: int, hiding: int, rules: Sequence[Reading]) -> Finding:
    action, other = rules[index].rule.action, rules[hiding].rule.action
    earlier = f"{path[-1]}[{hiding}]"
    if rules[hiding].unconditional:
        rest = len(rules) - index - 1
        what = (
            "this rule"
            if not rest
            else f"this rule and the {rest} after it"
            if rest > 1
            else "this rule and the one after it"
        )
        verb = "are" if rest else "is"
        return Finding(
            (*path, index),
            f"{what} {verb} never reached: {earlier} matches everything and says {other}",
            f"put {earlier} last, or narrow it",
        )
    if action == other:
        return Finding(
            (*path, index),
            f"the rule adds nothing: {earlier} matches all that it matches and says {other}, too",
            "remove it",
        )
    return Finding(
        (*path, index),
        f"the rule is never reached: {earlier} matches all that it matches and says {other}",
        f"put it before {earlier}, or narrow that one",
    )
