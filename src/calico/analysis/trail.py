"""A verdict's trail, step by step in the operator's words.

In:   a world, an endpoint, and what it said to a packet.
Out:  ``Remark`` for each step of the trail, and between them for each rule that was asked in vain.
Next: ``analysis.explain`` shows them.

Nothing is decided here: ``analysis.evaluate`` has decided, and this only tells. The steps of the trail are found
again among all rules that the endpoint has, in order; what stands between two steps, and was not jumped over by a
Pass, did not match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from calico.analysis.evaluate import Packet, Step, Verdict
from calico.analysis.host import EARLY, failsafe
from calico.analysis.reasons import Reasons
from calico.analysis.words import rule_words
from calico.analysis.world import World
from calico.desired import Direction, EndpointId, EndpointRow, Layer, RuleRow
from calico.model.endpoint import HostEndpoint
from calico.model.errors import Path
from calico.model.keys import Key
from calico.model.policy import GlobalNetworkPolicy, NetworkPolicy, Profile, Rule


@dataclass(frozen=True, slots=True)
class Remark:
    """One step of a trail, or one rule that was asked in vain (``matched`` is False)."""

    step: Step
    matched: bool
    title: str
    """What was met: ``tier default: NetworkPolicy shop/db, ingress rule 0``."""
    words: str
    """The rule as it was written, or what the step means where it is no rule."""
    reasons: tuple[str, ...]
    """Why it matched, or the first reason why it did not."""
    place: tuple[Key, Path] | None
    """The resource, and where in it."""


_PROFILES: Final = ("normal", "")


class _Met(NamedTuple):
    """Something that a packet meets in turn: ``step`` without its action; ``row`` None: it is no rule.

    ``group`` is what a Pass leaves: a tier of a layer.
    """

    group: tuple[str, str]
    step: tuple[str, str, str, str, int | None]
    row: RuleRow | None = None


class Narrator:
    """Tells the trails of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reasons = Reasons(world)

    def tell(
        self,
        endpoint: EndpointId,
        direction: Direction,
        verdict: Verdict,
        packet: Packet,
        layer: Layer = "normal",
    ) -> tuple[Remark, ...]:
        """The whole trail of ``verdict``, with what was asked in vain.

        ``layer`` is the one behind the early ones: forward where a host endpoint's host passes the packet on.
        """
        in_order = [*self._in_order(endpoint, direction, packet, layer)]
        remarks: list[Remark] = []
        start = 0
        for step in verdict.trail:
            places = (place for place in range(start, len(in_order)) if in_order[place].step == step[:5])
            place = next(places, None)
            group = None if place is None else in_order[place].group
            if place is not None:
                passed = (each for each in in_order[start:place] if each.row is not None)
                remarks += [self._in_vain(each.row, direction, packet) for each in passed if each.row]
                start = place + 1
            remarks.append(self._reached(step, endpoint, direction, packet, layer))
            if step.action == "Pass":
                while start < len(in_order) and in_order[start].group == group:
                    start += 1
        return tuple(remarks)

    def _in_order(
        self, endpoint: EndpointId, direction: Direction, packet: Packet, last: Layer
    ) -> Iterator[_Met]:
        """Everything that a packet may meet at the endpoint, in the order in which it is asked."""
        row = self._world.endpoints.get(endpoint)
        if row is None:
            return
        host = self._world.facts.get(Key(endpoint.kind, endpoint.name))
        if isinstance(host, HostEndpoint) and (last == "normal" or direction == "ingress"):
            settings = self._world.settings_at(host.spec.node)
            for layer in EARLY[direction]:
                if not failsafe(direction, packet, settings, tracked=layer != "untracked"):
                    yield from self._layer(row, layer, direction)
        yield from self._layer(row, last, direction)
        if last != "normal":
            return
        for name in row.profiles:
            profile = self._world.picture.profiles.get(name)
            if profile is None:
                yield _Met(_PROFILES, ("Profile", "", "", name, None))
            else:
                rules = profile.ingress if direction == "ingress" else profile.egress
                yield from (_rule(rule, _PROFILES) for rule in rules)
        yield _Met(_PROFILES, ("Profile", "", "", "", None))

    def _layer(self, row: EndpointRow, layer: Layer, direction: Direction) -> Iterator[_Met]:
        """The tiers of one layer; before connection tracking and destination NAT a tier has no end."""
        policies = self._world.picture.policies
        for tier in row.tiers(layer, direction):
            group = (layer, tier.name)
            for policy in tier.policies:
                rules = policies.get(policy)
                if rules is None:
                    yield _Met(group, (policy.kind, tier.name, policy.namespace, policy.name, None))
                    continue
                in_direction = rules.ingress if direction == "ingress" else rules.egress
                yield from (_rule(rule, group) for rule in in_direction)
            if layer in {"normal", "forward"}:
                yield _Met(group, ("Tier", tier.name, "", tier.name, None))

    def _reached(
        self, step: Step, endpoint: EndpointId, direction: Direction, packet: Packet, layer: Layer
    ) -> Remark:
        if step.rule is None:
            title, words = _meaning(step, endpoint)
            if step.kind != "Tier":
                return Remark(step, True, title, words, (), None)
            selecting = self._policies(step.name, endpoint, direction, layer)
            reasons: tuple[str, ...] = (
                (f"{', '.join(selecting)} of this tier selects it",) if selecting else ()
            )
            return Remark(step, True, title, words, reasons, (Key("Tier", step.name), ("spec",)))
        key, rule = self._written(step, direction)
        if why := self.reasons.unusable(step, direction):
            reasons = (why,)
        else:
            reasons = tuple(self.reasons.matched(rule, step.namespace, packet)) if rule else ()
        words = rule_words(rule) if rule is not None else step.action
        return Remark(step, True, _title(step, direction), words, reasons, (key, _path(step, direction)))

    def _policies(self, tier: str, endpoint: EndpointId, direction: Direction, layer: Layer) -> list[str]:
        """The policies of a tier that apply to the endpoint."""
        row = self._world.endpoints.get(endpoint)
        tiers = () if row is None else row.tiers(layer, direction)
        found = (policy for each in tiers if each.name == tier for policy in each.policies)
        return [f"{policy.kind} {'/'.join(part for part in policy[1:] if part)}" for policy in found]

    def _in_vain(self, row: RuleRow, direction: Direction, packet: Packet) -> Remark:
        step = Step(*_rule(row).step, row.action)
        key, rule = self._written(step, direction)
        reason = self.reasons.missed(row, rule, step, direction, packet)
        words = rule_words(rule) if rule is not None else step.action
        return Remark(step, False, _title(step, direction), words, (reason,), (key, _path(step, direction)))

    def _written(self, step: Step, direction: Direction) -> tuple[Key, Rule | None]:
        """The rule as it was written; None where it stands for something that could not be read."""
        key = Key(step.kind, step.name, step.namespace)
        rules: Sequence[Rule] = ()
        match self._world.facts.get(key):
            case NetworkPolicy(spec=spec) | GlobalNetworkPolicy(spec=spec) | Profile(spec=spec):
                rules = spec.ingress if direction == "ingress" else spec.egress
        index = step.rule
        return key, rules[index] if index is not None and index < len(rules) else None


def _rule(row: RuleRow, group: tuple[str, str] = ("", "")) -> _Met:
    origin = row.origin
    return _Met(group, (origin.kind, origin.tier, origin.namespace, origin.name, origin.rule), row)


def _path(step: Step, direction: Direction) -> Path:
    return ("spec", direction, step.rule) if step.rule is not None else ("spec",)


def _title(step: Step, direction: Direction) -> str:
    name = f"{step.namespace}/{step.name}" if step.namespace else step.name
    tier = f"tier {step.tier}: " if step.tier else ""
    number = f", {direction} rule {step.rule}" if step.rule is not None else ""
    return f"{tier}{step.kind} {name}{number}"


def _meaning(step: Step, endpoint: EndpointId) -> tuple[str, str]:
    """Title and meaning of a step that is no rule."""
    match step.kind:
        case "Tier" if step.action == "Pass":
            return f"end of tier {step.name}", "none of its rules decided, and its default action is Pass"
        case "Tier":
            return f"end of tier {step.name}", "none of its rules decided, and its default action is Deny"
        case "Profile" if step.name:
            return f"profile {step.name}", "there is no such profile, and what is missing denies"
        case "Profile":
            return "end of profiles", "no policy and no profile allows it"
        case "Failsafe":
            return "failsafe port", "it is always open, so that nobody is locked out of the host"
        case "Tunnel":
            return "tunnel", "a workload may not send IP in IP or VXLAN"
        case "Router":
            return "router advertisement", "a workload may not pose as a router"
        case "Host" if step.name == "neighbours":
            return "neighbours", "a host always takes what it and its workloads need to find each other"
        case "Host":
            return "workload to its own host", f"the setting defaultEndpointToHostAction says {step.action}"
        case "Endpoint":
            name = f"{endpoint.namespace}/{endpoint.name}" if endpoint.namespace else endpoint.name
            closed = "it is closed: it cannot be used as it is, or another endpoint has its interface"
            return f"{endpoint.kind} {name}", closed
    return _title(step, "ingress"), "what is missing denies"
