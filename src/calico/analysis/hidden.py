"""Policies that never get their turn: others before them decide everything that they are for.

In:   all tiers and policies that are known.
Out:  ``Tiers.hidden``: findings for one policy.
Next: ``analysis.lint`` adds them to what else is surely not meant of it.

Sound as far as the known policies go: a policy that is not known may let something through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final, Literal, NamedTuple, TypeAlias

from calico.analysis.contradiction import contradiction, implies
from calico.analysis.coverage import unconditional
from calico.calculation.facts import tier as tier_fact
from calico.calculation.labels import NAMESPACE
from calico.calculation.scope import Scope
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_TIER,
    Action,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    Rule,
    Tier,
)
from calico.model.resource import Resource
from calico.model.selector import Selector
from calico.model.validation import DEFAULT_NAMESPACE

Direction: TypeAlias = Literal["ingress", "egress"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")
DECISIVE: Final = frozenset({"Allow", "Deny", "Pass"})
"""Actions after which no further rule of a policy is asked."""


def namespace_of(resource: Resource) -> str:
    """Where the resource is, as clients store it; empty where it is in no namespace."""
    return (resource.metadata.namespace or DEFAULT_NAMESPACE) if resource.NAMESPACED else ""


def selected_by(resource: Resource, spec: PolicySpec) -> Selector:
    """Whom the policy is for; ``ModelError`` if that cannot be read."""
    namespaces = spec.namespace_selector if isinstance(spec, GlobalPolicySpec) else ""
    selector, problems = Scope(namespace_of(resource)).policy(spec, namespaces)
    if problems:
        raise ModelError(problems[0])
    return selector


class _Policy(NamedTuple):
    """A policy, and what of it matters for those after it."""

    place: tuple[float, str]
    """Its order within its tier."""
    name: str
    spec: PolicySpec
    selected: Selector
    ends: Mapping[Direction, Action | None]
    """What the first rule says that matches everything, if there is one."""

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


def _by_place(policy: _Policy) -> tuple[float, str]:
    return policy.place


_Demand: TypeAlias = tuple[str, str]
"""A label, and the value that it must have."""


def _demands(selector: Selector) -> list[_Demand]:
    """The labels that must have one certain value where the selector matches, as far as that is known."""
    return [
        (label, next(iter(one.values)))
        for label, one in selector.restrictions().items()
        if one.values is not None and len(one.values) == 1
    ]


class _Queue:
    """The policies of one tier for one direction, in order."""

    def __init__(self, policies: Iterable[_Policy], direction: Direction) -> None:
        self._direction: Direction = direction
        self._by_demand: dict[_Demand | None, list[_Policy]] = {}
        mine = sorted((each for each in policies if each.applies(direction)), key=_by_place)
        for each in mine:
            demands = _demands(each.selected)
            rarest = next((one for one in demands if one[0] != NAMESPACE), demands[0] if demands else None)
            self._by_demand.setdefault(rarest, []).append(each)
        self.first_pass = next((each.place for each in mine if each.passes(direction)), None)
        """The place of the first policy that passes anything to the next tier."""

    def around(self, policy: _Policy) -> list[_Policy]:
        """Those that are for everything that the policy is for, in order.

        One that demands a value of a label can only be so if the policy demands the same: only those are
        compared, so that thousands of policies are no millions of pairs.
        """
        demands: list[_Demand | None] = [None, *_demands(policy.selected)]
        candidates = [each for demand in demands for each in self._by_demand.get(demand, ())]
        around = (each for each in candidates if each.name != policy.name and each.reaches(policy))
        return sorted(around, key=_by_place)

    def decides(self, policy: _Policy, *, denies: bool) -> str:
        """Why nothing that the policy is for leaves the tier; empty if something may."""
        for other in self.around(policy):
            end = other.ends[self._direction]
            before_any_pass = self.first_pass is None or other.place < self.first_pass
            if end is not None and end != "Pass" and before_any_pass:
                return f"{other.name}, in the earlier tier {other.spec.tier}, says {end} to everything"
            if denies and self.first_pass is None:
                return (
                    f"{other.name} is for all that it is for, and what reaches the end of its tier"
                    f" {other.spec.tier}, which is earlier, is denied"
                )
        return ""


class Tiers:
    """All tiers and policies that are known, in the order in which they are asked."""

    def __init__(self, resources: Iterable[Resource], stored: Iterable[Resource]) -> None:
        known = {_id(each): each for each in (*stored, *resources)}
        self._tiers = {name: tier_fact(None, name) for name in BUILT_IN_TIERS}
        self._by_id: dict[tuple[str, str, str], _Policy] = {}
        self._open = set(BUILT_IN_TIERS) - {DEFAULT_TIER}  # Kubernetes' policies stand there, too
        policies: dict[str, list[_Policy]] = {}
        for id_, each in known.items():
            if isinstance(each, Tier):
                self._tiers[each.metadata.name] = tier_fact(each, each.metadata.name)
            elif isinstance(each, NetworkPolicy | GlobalNetworkPolicy):
                policy = _policy(each)
                if policy is None:
                    self._open.add(each.spec.tier)  # for it may pass anything
                else:
                    policies.setdefault(each.spec.tier, []).append(policy)
                    self._by_id[id_] = policy
        self._queues = {
            (tier, direction): _Queue(inside, direction)
            for tier, inside in policies.items()
            for direction in DIRECTIONS
        }

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
        for other in self._queues[tier, direction].around(policy):
            if other.place < policy.place and other.ends[direction] is not None:
                return f"{other.name}, before it in tier {tier}, says {other.ends[direction]} to everything"
        mine = self._place(tier)
        if mine is None:
            return ""
        earlier = [
            (place, queue, fact)
            for (name, way), queue in self._queues.items()
            if way == direction
            and name not in self._open
            and (fact := self._tiers.get(name)) is not None
            and (place := (fact.order, name)) < mine
        ]
        for _, queue, fact in sorted(earlier, key=lambda each: each[0]):
            reason = queue.decides(policy, denies=fact.default_action == "Deny")
            if reason:
                return reason
        return ""

    def _place(self, tier: str) -> tuple[float, str] | None:
        fact = self._tiers.get(tier)
        return None if fact is None else (fact.order, tier)


def _unreached(path: Path, what: str, reason: str) -> Finding:
    return Finding(
        path,
        f"{what} never reached: {reason}",
        "give it an earlier place, or let the other one Pass what it is for",
    )


def _id(resource: Resource) -> tuple[str, str, str]:
    return resource.kind, namespace_of(resource), resource.metadata.name


def _policy(resource: NetworkPolicy | GlobalNetworkPolicy) -> _Policy | None:
    """The policy, read; None if that is not possible."""
    spec: PolicySpec = resource.spec
    try:
        selected = selected_by(resource, spec)
    except ModelError:
        return None
    namespace, name = namespace_of(resource), resource.metadata.name
    shown = "/".join(part for part in (resource.kind, namespace, name) if part)
    return _Policy(
        (inf if spec.order is None else spec.order, f"{name}/{namespace}/{resource.kind}"),
        shown,
        spec,
        selected,
        {direction: _end(getattr(spec, direction)) for direction in DIRECTIONS},
    )


def _end(rules: Iterable[Rule]) -> Action | None:
    """What the first rule says that matches everything and decides it."""
    return next((each.action for each in rules if each.action in DECISIVE and unconditional(each)), None)
