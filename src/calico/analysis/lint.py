"""Warnings: what is valid and surely not meant.

In:   the resources of a batch; tiers and policies of the store, if they are at hand.
Out:  for each resource ``Finding`` values. Nothing here forbids anything.
Next: ``cli.problems`` shows them with their places.

No false alarms: each finding holds whatever labels and traffic there may be. What depends on other policies is
judged by those that are given, so the more are given the more is found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from calico.analysis.contradiction import contradiction, implies
from calico.analysis.coverage import Reading, reading
from calico.calculation.facts import tier as tier_fact
from calico.calculation.scope import Scope
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_TIER,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    ProfileSpec,
    Tier,
)
from calico.model.resource import Resource
from calico.model.selector import Selector, parse
from calico.model.validation import DEFAULT_NAMESPACE, defaulted

Direction: TypeAlias = Literal["ingress", "egress"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")
DECISIVE: Final = frozenset({"Allow", "Deny", "Pass"})
"""Actions after which no further rule of a policy is asked."""
MOST_RULES: Final = 256
"""How many rules of one direction are compared with each other; of more only those that match everything count."""


def warnings(resources: Sequence[Resource], stored: Sequence[Resource] = ()) -> list[list[Finding]]:
    """What is surely not meant of each of ``resources``, in their order.

    What of ``stored`` has the key of one of them is taken for its former state.
    """
    resources = [*map(defaulted, resources)]
    tiers = _Tiers(resources, stored)
    found = []
    for each in resources:
        selectors = [*_selectors(each)]
        findings = [*selectors, *_rules_of(each, {finding.path for finding in selectors})]
        if isinstance(each, NetworkPolicy | GlobalNetworkPolicy):
            findings += tiers.hidden(each)
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
        alone, scoped = parse(spec.selector), _selected(resource, spec)
    except ModelError:
        return
    if contradiction(alone.node) is None and (reason := contradiction(scoped.node)) is not None:
        yield Finding(
            ("spec", "selector"),
            f"the policy can never select anything: {reason}, and it stays in its namespace",
            "move it to the namespace of the endpoints, or make it a GlobalNetworkPolicy",
        )


def _read(resource: Resource, spec: PolicySpec | ProfileSpec, direction: Direction) -> list[Reading]:
    scope = Scope(_namespace(resource) if isinstance(spec, PolicySpec) else "")
    try:
        return [reading(rule, scope) for rule in getattr(spec, direction)]
    except ModelError:
        return []  # of a stored policy that others wrote


def _namespace(resource: Resource) -> str:
    return (resource.metadata.namespace or DEFAULT_NAMESPACE) if resource.NAMESPACED else ""


def _selected(resource: Resource, spec: PolicySpec) -> Selector:
    """Whom the policy is for; ``ModelError`` if that cannot be read."""
    namespaces = spec.namespace_selector if isinstance(spec, GlobalPolicySpec) else ""
    selector, problems = Scope(_namespace(resource)).policy(spec, namespaces)
    if problems:
        raise ModelError(problems[0])
    return selector


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


# --- policies and tiers ------------------------------------------------------------------------------


class _Policy(NamedTuple):
    """A policy, and what of it matters for those after it."""

    place: tuple[float, str]
    """Its order within its tier."""
    name: str
    spec: PolicySpec
    selected: Selector
    rules: Mapping[Direction, Sequence[Reading]]

    def applies(self, direction: Direction) -> bool:
        """Whether it is for that direction."""
        word = "Ingress" if direction == "ingress" else "Egress"
        return not self.spec.types or word in self.spec.types

    def ordinary(self) -> bool:
        """Whether it is enforced where most are: not before connection tracking, nor before NAT."""
        return not (
            isinstance(self.spec, GlobalPolicySpec) and (self.spec.do_not_track or self.spec.pre_dnat)
        )

    def on_forward(self) -> bool:
        """Whether it is also for what a host only forwards."""
        return isinstance(self.spec, GlobalPolicySpec) and self.spec.apply_on_forward

    def end(self, direction: Direction) -> Reading | None:
        """The first rule that matches everything and decides it."""
        return next(
            (each for each in self.rules[direction] if each.unconditional and each.rule.action in DECISIVE),
            None,
        )

    def passes(self, direction: Direction) -> bool:
        """Whether any of its rules passes anything to the next tier."""
        return any(rule.action == "Pass" for rule in getattr(self.spec, direction))

    def reaches(self, other: _Policy) -> bool:
        """Whether it is for everything that the other is for."""
        return (
            self.ordinary()
            and other.ordinary()
            and (self.on_forward() or not other.on_forward())
            and implies(other.selected.node, self.selected.node)
        )


class _Tiers:
    """All tiers and policies that are known, in the order in which they are asked."""

    def __init__(self, resources: Iterable[Resource], stored: Iterable[Resource]) -> None:
        known = {_id(each): each for each in (*stored, *resources)}
        self._tiers = {name: tier_fact(None, name) for name in BUILT_IN_TIERS}
        self._policies: dict[str, list[_Policy]] = {}
        self._by_id: dict[tuple[str, str, str], _Policy] = {}
        self._open = set(BUILT_IN_TIERS) - {DEFAULT_TIER}  # Kubernetes' policies stand there, too
        for id_, each in known.items():
            if isinstance(each, Tier):
                self._tiers[each.metadata.name] = tier_fact(each, each.metadata.name)
            elif isinstance(each, NetworkPolicy | GlobalNetworkPolicy):
                policy = _policy(each)
                if policy is None:
                    self._open.add(each.spec.tier)  # for it may pass anything
                else:
                    self._policies.setdefault(each.spec.tier, []).append(policy)
                    self._by_id[id_] = policy
        for policies in self._policies.values():
            policies.sort(key=lambda policy: policy.place)

    def hidden(self, resource: NetworkPolicy | GlobalNetworkPolicy) -> Findings:
        """Directions of a policy that never get their turn."""
        policy = self._by_id.get(_id(resource))
        if policy is None or contradiction(policy.selected.node) is not None:
            return
        reasons = {
            direction: reason
            for direction in DIRECTIONS
            if policy.applies(direction) and (reason := self._before(policy, direction))
        }
        whole = len(reasons) == sum(map(policy.applies, DIRECTIONS))
        if whole and len(set(reasons.values())) == 1:
            yield _unreached(("spec",), "the policy is", reasons[next(iter(reasons))])
            return
        for direction, reason in reasons.items():
            yield _unreached(("spec", direction), f"its {direction} rules are", reason)

    def _before(self, policy: _Policy, direction: Direction) -> str:
        """What decides everything before the policy is asked; empty if nothing surely does."""
        tier = policy.spec.tier
        for other in self._policies[tier]:
            if other.place >= policy.place:
                break
            end = other.end(direction) if other.applies(direction) and other.reaches(policy) else None
            if end is not None:
                return f"{other.name}, before it in tier {tier}, says {end.rule.action} to everything"
        mine = self._place(tier)
        if mine is None:
            return ""
        earlier = [
            (place, name)
            for name in self._policies.keys() - self._open
            if (place := self._place(name)) is not None and place < mine
        ]
        reasons = (self._decided(name, policy, direction) for _, name in sorted(earlier))
        return next(filter(None, reasons), "")

    def _place(self, tier: str) -> tuple[float, str] | None:
        fact = self._tiers.get(tier)
        return None if fact is None else (fact.order, tier)

    def _decided(self, tier: str, policy: _Policy, direction: Direction) -> str:
        """Why nothing that the policy is for leaves the tier; empty if something may."""
        policies = [each for each in self._policies[tier] if each.applies(direction)]
        fact = self._tiers[tier]
        denies = fact is not None and fact.default_action == "Deny"
        for index, other in enumerate(policies):
            if not other.reaches(policy):
                continue
            end = other.end(direction)
            earlier = policies[: index + 1]
            if end is not None and end.rule.action != "Pass" and not any(map(_passing(direction), earlier)):
                return f"{other.name}, in the earlier tier {tier}, says {end.rule.action} to everything"
            if denies and not any(map(_passing(direction), policies)):
                return (
                    f"{other.name} is for all that it is for, and what reaches the end of its tier {tier},"
                    " which is earlier, is denied"
                )
        return ""


def _passing(direction: Direction) -> Callable[[_Policy], bool]:
    return lambda policy: policy.passes(direction)


def _unreached(path: Path, what: str, reason: str) -> Finding:
    return Finding(
        path,
        f"{what} never reached: {reason}",
        "give it an earlier place, or let the other one Pass what it is for",
    )


def _id(resource: Resource) -> tuple[str, str, str]:
    return resource.kind, _namespace(resource), resource.metadata.name


def _policy(resource: NetworkPolicy | GlobalNetworkPolicy) -> _Policy | None:
    """The policy, read; None if that is not possible."""
    spec: PolicySpec = resource.spec
    try:
        selected = _selected(resource, spec)
    except ModelError:
        return None
    namespace, name = _namespace(resource), resource.metadata.name
    shown = "/".join(part for part in (resource.kind, namespace, name) if part)
    return _Policy(
        (inf if spec.order is None else spec.order, f"{name}/{namespace}/{resource.kind}"),
        shown,
        spec,
        selected,
        {direction: _read(resource, spec, direction) for direction in DIRECTIONS},
    )
