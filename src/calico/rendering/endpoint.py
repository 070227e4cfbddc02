"""The chain of an endpoint in one direction: which policies judge it, in which order, and what happens between.

In:   ``EndpointChain``: tiers and profiles, as the calculation ordered them.
Out:  ``ast.Chain`` that jumps to the chains of policies and profiles; and the names of these.
Next: ``rendering.renderer`` puts it into the dispatch maps. Endpoints of equal content share one chain.

A packet comes back from a chain with the accept mark, or does not come back: whatever is not accepted is denied
at the end (behaviour reference 3.2, 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from calico.desired import Direction, EndpointRow, Origin, PolicyId, TierRow
from calico.model.numbers import UDP
from calico.model.settings import Settings
from calico.rendering.own import ERRORS_CHAIN
from calico.rendering.policy import deny
from calico.ruleset import ast, names

FAILSAFE_CHAIN: Final[dict[names.EndpointChainKind, str]] = {
    "fh": "cali-failsafe-in",
    "th": "cali-failsafe-out",
}
VXLAN_PORT: Final = 4789
IP_IN_IP: Final = 4

DIRECTION: Final[dict[names.EndpointChainKind, Direction]] = {
    "fw": "egress",
    "tw": "ingress",
    "fh": "ingress",
    "th": "egress",
}
"""What leaves a workload is its egress; what comes in from beyond a host endpoint is the host's ingress."""


@dataclass(frozen=True, slots=True)
class EndpointChain:
    """The content of an endpoint's chain, without the content of the policies: equal ones are one chain."""

    kind: names.EndpointChainKind
    tiers: tuple[TierRow, ...]
    profiles: tuple[str, ...]

    @property
    def direction(self) -> Direction:
        """Which rules of the policies count."""
        return DIRECTION[self.kind]

    @property
    def name(self) -> str:
        """Its name, from its content."""
        content = []
        for tier in self.tiers:
            content += ["tier", tier.name, tier.default_action]
            for policy in tier.policies:
                content += ["policy", *policy]
        for profile in self.profiles:
            content += ["profile", profile]
        return names.endpoint_chain(self.kind, content)

    @property
    def policies(self) -> tuple[PolicyId, ...]:
        """The policies that it jumps to."""
        return tuple(policy for tier in self.tiers for policy in tier.policies)


def chain_of(row: EndpointRow, kind: names.EndpointChainKind) -> EndpointChain:
    """The chain that ``row`` needs for ``kind``."""
    return EndpointChain(kind, row.ingress if DIRECTION[kind] == "ingress" else row.egress, row.profiles)


def render_endpoint(chain: EndpointChain, settings: Settings) -> ast.Chain:
    """The rules of ``chain``; the same for both families."""
    accept, pass_ = settings.accept_mark, settings.pass_mark
    denied = deny(settings)
    rules = _state_rules(settings, from_workload=chain.kind == "fw")
    if failsafe := FAILSAFE_CHAIN.get(chain.kind):
        rules.append(ast.Rule((), (ast.Jump(failsafe),)))
    rules.append(ast.Rule((), (ast.SetMark(0, accept | pass_),)))
    if chain.kind == "fw":
        rules += [
            ast.Rule(
                (ast.Protocol(UDP), ast.Ports("destination", ((VXLAN_PORT, VXLAN_PORT),))),
                (denied,),
                comment="Workloads may not send VXLAN",
                counted=True,
            ),
            ast.Rule(
                (ast.Protocol(IP_IN_IP),),
                (denied,),
                comment="Workloads may not send IP in IP",
                counted=True,
            ),
        ]

    accepted = ast.Rule((ast.Mark(accept, accept),), (ast.Return(),))
    not_passed = (ast.Mark(0, pass_),)
    for number, tier in enumerate(chain.tiers):
        if number:
            rules.append(ast.Rule((), (ast.SetMark(0, pass_),), comment=f"Tier {tier.name}"))
        for place, policy in enumerate(tier.policies):
            jump = ast.Jump(names.policy_chain(policy, chain.direction))
            rules += [ast.Rule(not_passed if place else (), (jump,)), accepted]
        if tier.default_action == "Deny":
            origin = Origin("Tier", tier.name, "", tier.name, chain.direction)
            rules.append(ast.Rule(not_passed, (denied,), origin=origin, counted=True))
    for profile in chain.profiles:
        rules += [ast.Rule((), (ast.Jump(names.profile_chain(profile, chain.direction)),)), accepted]
    origin = Origin("Profile", "", "", "", chain.direction)
    rules.append(ast.Rule((), (denied,), origin=origin, counted=True))
    return ast.Chain(tuple(rules))


def _state_rules(settings: Settings, *, from_workload: bool) -> list[ast.Rule]:
    """Packets of known flows are accepted outright, so that rules of the host's own cannot lose the replies.

    They stand here, behind the test of the interface: what is none of ours is neither accepted nor dropped.
    What a workload relates to a flow must be one of its own: anybody can quote a flow in an ICMP error. Errors that
    reach a workload quote its own, for the kernel compares the address that they are sent to.
    """
    accept = settings.accept_mark
    known = (ast.SetMark(accept, accept), ast.Accept())
    if from_workload:
        rules = [
            ast.Rule((ast.CtState(("established",)),), known, comment="Known flows"),
            ast.Rule(
                (ast.CtState(("related",)),), (ast.Jump(ERRORS_CHAIN),), comment="About flows of its own"
            ),
        ]
    else:
        rules = [ast.Rule((ast.CtState(("established", "related")),), known, comment="Known flows")]
    if not settings.disable_conntrack_invalid_check:
        rules.append(
            ast.Rule(
                (ast.CtState(("invalid",)),), (ast.Drop(),), comment="Packets of no valid flow", counted=True
            )
        )
    return rules
