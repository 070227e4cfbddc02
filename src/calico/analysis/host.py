"""What a host endpoint says to a flow of its host's, or through its host: layer after layer (behaviour reference 3.3, 3.6).

In:   the endpoint's row, a packet, and the settings with the failsafe ports.
Out:  ``Verdict``, with the trail through all layers that had something to say.
Next: ``analysis.world`` asks it for ends that are hosts, ``analysis.between`` for hosts that pass a packet on.

A packet meets untracked policy first, then, coming in, policy before destination NAT, then normal policy. What an
early layer allows or denies, no later one is asked about. In each layer failsafe ports come before policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from calico.analysis.evaluate import ICMPV6, Opinion, Packet, Picture, Step, Verdict, evaluate, opinion
from calico.desired import Direction, EndpointRow, Layer
from calico.model.address import Cidr
from calico.model.settings import FailsafePort, Settings

_NEIGHBOURS: Final = frozenset({130, 131, 132, 133, 134, 135, 136, 143})
"""ICMPv6 types without which a host and its routers could not be neighbours; host policy never closes them."""
EARLY: Final[dict[Direction, tuple[Layer, ...]]] = {
    "ingress": ("untracked", "pre-dnat"),
    "egress": ("untracked",),
}


def judge_host(
    picture: Picture, row: EndpointRow, name: str, direction: Direction, packet: Packet, settings: Settings
) -> Verdict:
    """What the host endpoint ``name`` says to a new flow that comes to its host (ingress) or from it (egress)."""
    early = _early(picture, row, direction, packet, settings)
    if early.action is not None:
        return Verdict(early.action, early.trail)
    if failsafe(direction, packet, settings):
        return Verdict("allow", (*early.trail, Step("Failsafe", "", "", name, None, "Allow")))
    verdict = evaluate(picture, row, direction, packet, workload=False)
    return verdict._replace(trail=(*early.trail, *verdict.trail))


def judge_forwarded(
    picture: Picture,
    row: EndpointRow,
    direction: Direction,
    packet: Packet,
    settings: Settings,
    *,
    passes: bool = True,
) -> Verdict | None:
    """What a host endpoint says to a packet that comes in by it (ingress), or that its host passes on by it (egress).

    None where it has no policy about such packets. Not ``passes``: the packet came in, and goes to the host itself, but
    from a workload, so that normal policy is not asked. There are no failsafe ports on the way through a host.
    """
    said = Opinion(None, ())
    if direction == "ingress":
        said = _early(picture, row, direction, packet, settings)
        if said.action is not None:
            return Verdict(said.action, said.trail)
    trail = said.trail
    if passes and row.tiers("forward", direction):
        said = opinion(picture, row, "forward", direction, packet)
        return Verdict("deny" if said.action == "deny" else "allow", (*trail, *said.trail))
    return Verdict("allow", trail) if trail else None


def _early(
    picture: Picture, row: EndpointRow, direction: Direction, packet: Packet, settings: Settings
) -> Opinion:
    """What the layers before connection tracking and destination NAT say."""
    trail: tuple[Step, ...] = ()
    for layer in EARLY[direction]:
        if not failsafe(direction, packet, settings, tracked=layer != "untracked"):
            said = opinion(picture, row, layer, direction, packet)
            trail += said.trail
            if said.action is not None:
                return Opinion(said.action, trail)
    return Opinion(None, trail)


def failsafe(direction: Direction, packet: Packet, settings: Settings, *, tracked: bool = True) -> bool:
    """Whether host policy never closes what this packet asks for, or, before tracking (not ``tracked``), answers."""
    if packet.protocol == ICMPV6 and packet.icmp_type in _NEIGHBOURS:
        return True
    asked, answered = settings.failsafe_inbound, settings.failsafe_outbound
    far = packet.source
    if direction == "egress":
        asked, answered, far = answered, asked, packet.destination
    return _open(asked, packet.protocol, packet.destination_port, far) or (
        not tracked and _open(answered, packet.protocol, packet.source_port, far)
    )


def _open(ports: Iterable[FailsafePort], protocol: int, port: int | None, far: Cidr) -> bool:
    return any(
        (safe.protocol, safe.port) == (protocol, port) and (safe.net is None or safe.net.contains(far))
        for safe in ports
    )
