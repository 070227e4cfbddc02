"""The reference semantics: a packet and an endpoint's row -> verdict, with its trail.

In:   rows of ``calico.desired`` (from the calculation, or its oracle) and a packet.
Out:  ``Verdict``: allow or deny, and each step that led there.
Next: ``analysis.world`` asks both ends of a flow; ``lab probe`` compares with what real packets did.

This is the obvious implementation (behaviour reference 3.2 and 3.5): no marks, no sets of the kernel, no
clever order. It judges new flows; replies belong to the flow that they answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from calico.desired import (
    Direction,
    EndpointRow,
    Layer,
    PolicyId,
    PolicyRow,
    PortMember,
    RuleRow,
    SetId,
    SetMember,
    Side,
    TierRow,
)
from calico.model.address import WIDTH, Cidr, Family

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
PORTED: Final = frozenset({TCP, UDP, 132, 136})
"""Protocols whose packets have ports: TCP, UDP, SCTP, UDPLite."""

_IP_IN_IP: Final = 4
_VXLAN_PORT: Final = 4789


class Packet(NamedTuple):
    """The first packet of a flow; ports and ICMP fields are None where the protocol has none, or they are unknown."""

    source: Cidr
    destination: Cidr
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None

    @property
    def family(self) -> Family:
        """4 or 6."""
        return self.destination.family


class Step(NamedTuple):
    """One step of a trail: what was met, and what it said.

    ``kind`` is the policy's kind, "Tier" (its end: ``rule`` is None), "Profile", or one of the fixed steps
    "Failsafe", "Tunnel", "Router" (an advertisement from a workload), "Host", "Endpoint" (closed), "Forward" (no
    policy is about what a host passes on). ``rule`` counts
    from 0. ``action``: Allow, Deny, Log, Pass. The last step is the one that decides.
    """

    kind: str
    tier: str
    namespace: str
    name: str
    rule: int | None
    action: str


class Verdict(NamedTuple):
    """What one end decides."""

    action: Literal["allow", "deny"]
    trail: tuple[Step, ...]

    @property
    def allowed(self) -> bool:
        """Whether the packet passes this end."""
        return self.action == "allow"


class Opinion(NamedTuple):
    """What one layer of a host endpoint says; without an ``action`` nothing, and the packet goes on."""

    action: Literal["allow", "deny"] | None
    trail: tuple[Step, ...]


class Members:
    """The members of all sets, arranged for look-up."""

    def __init__(self, members: Iterable[SetMember]) -> None:
        self._members: dict[SetId, set[Cidr | PortMember]] = {}
        self._lengths: dict[SetId, set[tuple[Family, int]]] = {}
        for name, member in members:
            self._members.setdefault(name, set()).add(member)
            if isinstance(member, Cidr):
                self._lengths.setdefault(name, set()).add((member.family, member.length))

    def has_address(self, name: SetId, address: Cidr) -> bool:
        """Whether ``address`` is in the set, itself or by a prefix."""
        members = self._members.get(name, ())
        return any(
            family == address.family and _prefix(address, length) in members
            for family, length in self._lengths.get(name, ())
        )

    def has_port(self, name: SetId, address: Cidr, protocol: int, port: int | None) -> bool:
        """Whether (address, protocol, port) is in the named-port set."""
        return port is not None and PortMember(address, protocol, port) in self._members.get(name, ())


class Picture(NamedTuple):
    """What the evaluation reads of a desired state."""

    policies: Mapping[PolicyId, PolicyRow]
    profiles: Mapping[str, PolicyRow]
    members: Members


def evaluate(
    picture: Picture, endpoint: EndpointRow, direction: Direction, packet: Packet, *, workload: bool
) -> Verdict:
    """What the normal policy of ``endpoint`` says to a new flow's ``packet`` in ``direction``.

    ``workload``: the endpoint is a workload, which may not send tunnel packets (behaviour reference 4.5).
    """
    trail: list[Step] = []
    if not endpoint.active:
        return Verdict("deny", (Step("Endpoint", "", "", endpoint.interface, None, "Deny"),))
    if workload and direction == "egress" and _is_tunnel(packet):
        return Verdict("deny", (Step("Tunnel", "", "", endpoint.interface, None, "Deny"),))
    for tier in endpoint.ingress if direction == "ingress" else endpoint.egress:
        decided = _tier(picture, tier, direction, packet, trail)
        if decided is not None:
            return Verdict(decided, tuple(trail))
    for name in endpoint.profiles:
        row = picture.profiles.get(name)
        if row is None:
            trail.append(Step("Profile", "", "", name, None, "Deny"))
            return Verdict("deny", tuple(trail))
        action = _rules(picture, row.ingress if direction == "ingress" else row.egress, packet, trail)
        if action in {"Allow", "Deny"}:
            return Verdict("allow" if action == "Allow" else "deny", tuple(trail))
    trail.append(Step("Profile", "", "", "", None, "Deny"))
    return Verdict("deny", tuple(trail))


def opinion(
    picture: Picture, endpoint: EndpointRow, layer: Layer, direction: Direction, packet: Packet
) -> Opinion:
    """What a host endpoint's policy of ``layer`` says to a packet; no profiles and no failsafe ports (3.6).

    Forwarded packets are allowed where no policy is about them; where one is, tiers end as everywhere. Before
    destination NAT and connection tracking tiers have no end: what no rule decides is left to the layers behind.
    """
    tiers = endpoint.tiers(layer, direction)
    if layer == "forward" and not tiers:
        return Opinion("allow", (Step("Forward", "", "", endpoint.interface, None, "Allow"),))
    trail: list[Step] = []
    for tier in tiers:
        decided = _tier(picture, tier, direction, packet, trail, ends=layer in {"normal", "forward"})
        if decided is not None:
            return Opinion(decided, tuple(trail))
    return Opinion(None, tuple(trail))


def _tier(
    picture: Picture,
    tier: TierRow,
    direction: Direction,
    packet: Packet,
    trail: list[Step],
    *,
    ends: bool = True,
) -> Literal["allow", "deny"] | None:
    """The tier's decision, or None: on to the next tier. ``ends``: its default action counts."""
    for policy in tier.policies:
        row = picture.policies.get(policy)
        if row is None:
            trail.append(Step(policy.kind, tier.name, policy.namespace, policy.name, None, "Deny"))
            return "deny"
        action = _rules(picture, row.ingress if direction == "ingress" else row.egress, packet, trail)
        if action == "Pass":
            return None
        if action is not None:
            return "allow" if action == "Allow" else "deny"
    if not ends:
        return None
    trail.append(Step("Tier", tier.name, "", tier.name, None, tier.default_action))
    return None if tier.default_action == "Pass" else "deny"


def _rules(picture: Picture, rules: tuple[RuleRow, ...], packet: Packet, trail: list[Step]) -> str | None:
    """The action of the first rule that matches and decides; None if none does."""
    for rule in rules:
        if matches(picture.members, rule, packet):
            origin = rule.origin
            trail.append(
                Step(origin.kind, origin.tier, origin.namespace, origin.name, origin.rule, rule.action)
            )
            if rule.action != "Log":
                return rule.action
    return None


def matches(members: Members, rule: RuleRow, packet: Packet) -> bool:
    """Whether every condition of ``rule`` holds for ``packet``."""
    if rule.never or rule.ip_version not in {None, packet.family}:
        return False
    if rule.protocol is not None and rule.protocol != packet.protocol:
        return False
    if rule.not_protocol is not None and rule.not_protocol == packet.protocol:
        return False
    if rule.icmp is not None and not _icmp(rule.icmp, packet):
        return False
    if rule.not_icmp is not None and _icmp(rule.not_icmp, packet):
        return False
    return _side(members, rule.source, packet, packet.source, packet.source_port) and _side(
        members, rule.destination, packet, packet.destination, packet.destination_port
    )


def _prefix(address: Cidr, length: int) -> Cidr:
    shift = WIDTH[address.family] - length
    return Cidr(address.family, address.value >> shift << shift, length)


def _icmp(wanted: tuple[int, int | None], packet: Packet) -> bool:
    type_, code = wanted
    return (
        packet.protocol == (ICMP if packet.family == 4 else ICMPV6)
        and packet.icmp_type == type_
        and code in {None, packet.icmp_code}
    )


def _side(members: Members, side: Side, packet: Packet, address: Cidr, port: int | None) -> bool:
    protocol = packet.protocol
    if side.nets and not any(net.contains(address) for net in side.nets):
        return False
    if any(net.contains(address) for net in side.not_nets):
        return False
    if not all(members.has_address(name, address) for name in side.sets):
        return False
    if any(members.has_address(name, address) for name in side.not_sets):
        return False
    if (side.ports or side.port_sets) and not (
        _in_ranges(side.ports, protocol, port)
        or any(members.has_port(name, address, protocol, port) for name in side.port_sets)
    ):
        return False
    return not (
        _in_ranges(side.not_ports, protocol, port)
        or any(members.has_port(name, address, protocol, port) for name in side.not_port_sets)
    )


def _in_ranges(ranges: tuple[tuple[int, int], ...], protocol: int, port: int | None) -> bool:
    return port is not None and protocol in PORTED and any(low <= port <= high for low, high in ranges)


def _is_tunnel(packet: Packet) -> bool:
    return packet.protocol == _IP_IN_IP or (packet.protocol == UDP and packet.destination_port == _VXLAN_PORT)
