"""The chain of an endpoint in one direction: which policies judge it, in which order, and what happens between.

In:   ``EndpointChain``: tiers and profiles, as the calculation ordered them.
Out:  ``ast.Chain`` that jumps to the chains of policies and profiles; and the names of these.
Next: ``rendering.renderer`` puts it into the dispatch maps. Endpoints of equal content share one chain.

A packet comes back from a chain of the normal layer with the accept mark, or does not come back: whatever is not
accepted is denied at the end (behaviour reference 3.2, 4.5). From the other layers of a host endpoint it may come back
without the mark: they have said nothing about it (3.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from calico.desired import Direction, EndpointRow, Layer, Origin, TierRow
from calico.model.numbers import UDP
from calico.model.settings import Settings
from calico.rendering.groups import Owner, chain_name, of_tier
from calico.rendering.own import ERRORS_CHAIN
from calico.rendering.policy import deny
from calico.ruleset import ast, names

FAILSAFE_CHAIN: Final[dict[names.EndpointChainKind, str]] = {
    "fh": "cali-failsafe-in",
    "th": "cali-failsafe-out",
    "thnat": "cali-failsafe-out",
    "fhpd": "cali-failsafe-in",
    "fhut": "cali-failsafe-in-raw",
    "thut": "cali-failsafe-out-raw",
}
"""What is always let through; forwarded packets are not among it."""
VXLAN_PORT: Final = 4789
IP_IN_IP: Final = 4

DIRECTION: Final[dict[names.EndpointChainKind, Direction]] = {
    "fw": "egress",
    "tw": "ingress",
    "fh": "ingress",
    "th": "egress",
    "thnat": "egress",
    "fhfw": "ingress",
    "thfw": "egress",
    "fhpd": "ingress",
    "fhut": "ingress",
    "thut": "egress",
}
"""What leaves a workload is its egress; what comes in from beyond a host endpoint is the host's ingress."""
LAYER: Final[dict[names.EndpointChainKind, Layer]] = {
    "fhfw": "forward",
    "thfw": "forward",
    "fhpd": "pre-dnat",
    "fhut": "untracked",
    "thut": "untracked",
}
"""The layer of a kind; the normal one if it is not here."""
_TRACKED: Final[frozenset[names.EndpointChainKind]] = frozenset({"fw", "tw", "fh", "th", "fhfw", "thfw"})
"""Chains that packets of known flows come to as well."""
_QUIET: Final[frozenset[names.EndpointChainKind]] = frozenset({"thnat", "fhpd", "fhut", "thut"})
"""Chains outside of the filter table, where nothing can be refused, only dropped."""


@dataclass(frozen=True, slots=True)
class EndpointChain:
    """The content of an endpoint's chain, without the content of the policies: equal ones are one chain."""

    kind: names.EndpointChainKind
    tiers: tuple[TierRow, ...]
    profiles: tuple[str, ...]
    quiet: bool = False
    """It drops what the settings would have refused; so do chains of policies and profiles of its own."""

    @property
    def direction(self) -> Direction:
        """Which rules of the policies count."""
        return DIRECTION[self.kind]

    @property
    def layer(self) -> Layer:
        """Which of the endpoint's layers it is."""
        return LAYER.get(self.kind, "normal")

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
    def owners(self) -> tuple[Owner, ...]:
        """Whose chains it jumps to."""
        return (*(owner for tier in self.tiers for owner in of_tier(tier)), *self.profiles)


def chain_of(row: EndpointRow, kind: names.EndpointChainKind, settings: Settings) -> EndpointChain:
    """The chain that ``row`` needs for ``kind``."""
    layer = LAYER.get(kind, "normal")
    return EndpointChain(
        kind,
        row.tiers(layer, DIRECTION[kind]),
        row.profiles if layer == "normal" else (),
        quiet=kind in _QUIET and settings.filter_deny_action != "Drop",
    )


def quieter(settings: Settings, *, quiet: bool) -> Settings:
    """The settings by which a chain is rendered: in a quiet one Deny drops."""
    return structs.replace(settings, filter_deny_action="Drop") if quiet else settings


def render_endpoint(chain: EndpointChain, settings: Settings) -> ast.Chain:
    """The rules of ``chain``; the same for both families."""
    accept, pass_ = settings.accept_mark, settings.pass_mark
    layer = chain.layer
    if layer == "forward" and not chain.tiers:
        allowed = ast.Rule(
            (), (ast.SetMark(accept, accept), ast.Return()), comment="No policy is about forwarded packets"
        )
        return ast.Chain((allowed,))
    denied = deny(quieter(settings, quiet=chain.quiet))
    rules = list(_state_rules(chain, settings))
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

    accepted = ast.Rule(
        (ast.Mark(accept, accept),),
        (ast.NoTrack(), ast.Return()) if layer == "untracked" else (ast.Return(),),
    )
    not_passed = (ast.Mark(0, pass_),)
    for number, tier in enumerate(chain.tiers):
        if number:
            rules.append(ast.Rule((), (ast.SetMark(0, pass_),), comment=f"Tier {tier.name}"))
        for place, owner in enumerate(of_tier(tier)):
            jump = ast.Jump(chain_name(owner, chain.direction, quiet=chain.quiet))
            rules += [ast.Rule(not_passed if place else (), (jump,)), accepted]
        if tier.default_action == "Deny" and layer in {"normal", "forward"}:
            origin = Origin("Tier", tier.name, "", tier.name, chain.direction)
            rules.append(ast.Rule(not_passed, (denied,), origin=origin, counted=True))
    for profile in chain.profiles:
        jump = ast.Jump(chain_name(profile, chain.direction, quiet=chain.quiet))
        rules += [ast.Rule((), (jump,)), accepted]
    if layer == "normal":
        origin = Origin("Profile", "", "", "", chain.direction)
        rules.append(ast.Rule((), (denied,), origin=origin, counted=True))
    return ast.Chain(tuple(rules))


def _state_rules(chain: EndpointChain, settings: Settings) -> Iterator[ast.Rule]:
    """Packets of known flows are accepted outright, so that rules of the host's own cannot lose the replies.

    They stand here, behind the test of the interface: what is none of ours is neither accepted nor dropped.
    What a workload relates to a flow must be one of its own: anybody can quote a flow in an ICMP error. Errors that
    reach a workload quote its own, for the kernel compares the address that they are sent to. What a host endpoint
    lets through its host goes on: it has yet to come to the endpoint at the other side, which may be closed.
    """
    accept = settings.accept_mark
    known = (ast.SetMark(accept, accept), ast.Return() if chain.layer == "forward" else ast.Accept())
    if chain.kind == "fw":
        yield ast.Rule((ast.CtState(("established",)),), known, comment="Known flows")
        yield ast.Rule(
            (ast.CtState(("related",)),), (ast.Jump(ERRORS_CHAIN),), comment="About flows of its own"
        )
    elif chain.kind in _TRACKED:
        yield ast.Rule((ast.CtState(("established", "related")),), known, comment="Known flows")
    if chain.layer != "untracked" and not settings.disable_conntrack_invalid_check:
        yield ast.Rule(
            (ast.CtState(("invalid",)),), (ast.Drop(),), comment="Packets of no valid flow", counted=True
        )
