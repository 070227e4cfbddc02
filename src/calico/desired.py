"""What this host should be, as rows; and the Delta between two such states.

In:   ``calculation`` fills the rows from facts.
Out:  ``Delta``: for every table, the rows that changed (``None``: the row is gone).
Next: ``rendering`` turns rows into a ruleset and routes, ``analysis`` answers questions about them.

Each table is keyed by the smallest thing that the kernel can be told; rows are frozen and compared
with ``==``. Rows keep their provenance (``Origin``) from here down to the kernel's rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal, NamedTuple

from calico.model.address import Cidr

Direction = Literal["ingress", "egress"]
Verdict = Literal["Allow", "Deny", "Log", "Pass"]
Layer = Literal["normal", "forward", "pre-dnat", "untracked"]
"""Where policy meets a packet. Workloads know the normal layer alone; see ``EndpointRow`` for the others."""


class PolicyId(NamedTuple):
    """A policy: ``kind`` is NetworkPolicy or GlobalNetworkPolicy."""

    kind: str
    namespace: str
    name: str


class EndpointId(NamedTuple):
    """An endpoint: ``kind`` is WorkloadEndpoint or HostEndpoint (whose namespace is "")."""

    kind: str
    namespace: str
    name: str


SetId = str
"""Names a set: "s:<hash>" of a selector's canonical text, "n:<hash>" of a named port, "v:<hash>" of a service."""


class PortMember(NamedTuple):
    """A member of a "port" set: who listens where. ``address`` is a full-length Cidr."""

    address: Cidr
    protocol: int
    port: int


class SetMember(NamedTuple):
    """One member of one set: a ``Cidr`` in a "net" set, a ``PortMember`` in a "port" set."""

    set: SetId
    member: Cidr | PortMember


@dataclass(frozen=True, slots=True)
class SetInfo:
    """What a set is: its type, and for people the selector (and port name), or the service, that fills it.

    ``service`` is "namespace/name". Of a service a "net" set holds the addresses, a "port" set each with its ports.
    """

    type: Literal["net", "port"]
    selector: str
    port_name: str = ""
    protocol: int | None = None
    service: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule comes from. ``rule`` counts from 0; None is the end of the tier, or of the profiles.

    ``kind`` is the policy's kind, "Profile", or "Tier" for a tier's default action; ``tier`` is "" for profiles.
    """

    kind: str
    tier: str
    namespace: str
    name: str
    direction: Direction
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What a rule asks of one end. All given fields are ANDed, entries of one field ORed.

    ``ports`` and ``port_sets`` are one list: a port matches if it is in a range or (address, protocol, port) in a
    set; likewise ``not_ports`` and ``not_port_sets``. ``sets``: the address is in *every* one of them.
    ``nets_given``: the resource named nets. Family filtering must never empty them into match-all.
    """

    nets: tuple[Cidr, ...] = ()
    not_nets: tuple[Cidr, ...] = ()
    sets: tuple[SetId, ...] = ()
    not_sets: tuple[SetId, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    port_sets: tuple[SetId, ...] = ()
    not_ports: tuple[tuple[int, int], ...] = ()
    not_port_sets: tuple[SetId, ...] = ()


ANY: Final = Side()


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule, compiled: selectors are sets, names are numbers.

    ``ip_version`` None means both families. A rule whose ``source.nets`` or ``destination.nets`` hold only the
    other family does not exist in this one. ``never`` marks a rule that can match nothing at this layer (an
    ``http`` match).
    """

    action: Verdict
    origin: Origin
    ip_version: Literal[4, 6] | None = None
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: tuple[int, int | None] | None = None
    not_icmp: tuple[int, int | None] | None = None
    source: Side = ANY
    destination: Side = ANY
    never: bool = False


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """The rules of one policy or profile that some local endpoint needs."""

    ingress: tuple[RuleRow, ...]
    egress: tuple[RuleRow, ...]


@dataclass(frozen=True, slots=True)
class TierRow:
    """One tier as it applies to one endpoint in one direction: never without policies."""

    name: str
    default_action: Literal["Deny", "Pass"]
    policies: tuple[PolicyId, ...]


class Tiers(NamedTuple):
    """The tiers of one layer, in both directions."""

    ingress: tuple[TierRow, ...] = ()
    egress: tuple[TierRow, ...] = ()


NO_TIERS: Final = Tiers()


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """Everything about one local endpoint: where it is, and in which order which policy applies.

    Workloads: ``interface`` is always set; ``active`` is False for an endpoint that is to be closed entirely.
    Hosts: ``interface`` is a name, "*" or "" (then ``addresses``, its expected IPs, find the interface).
    ``profiles`` names every profile in order, also those that do not exist: they deny.

    ``ingress`` and ``egress`` judge what begins or ends here. Hosts only: ``forward`` judges what merely passes
    through, ``pre_dnat`` what comes in, by the destination that it had on the wire, and ``untracked`` each packet
    by itself, before connection tracking. Profiles belong to the normal layer alone.
    """

    interface: str
    addresses: tuple[Cidr, ...]
    ingress: tuple[TierRow, ...]
    egress: tuple[TierRow, ...]
    profiles: tuple[str, ...]
    mac: str = ""
    active: bool = True
    forward: Tiers = NO_TIERS
    pre_dnat: Tiers = NO_TIERS
    untracked: Tiers = NO_TIERS

    def tiers(self, layer: Layer, direction: Direction) -> tuple[TierRow, ...]:
        """The tiers of one layer in one direction."""
        match layer:
            case "normal":
                return self.ingress if direction == "ingress" else self.egress
            case "forward":
                chosen = self.forward
            case "pre-dnat":
                chosen = self.pre_dnat
            case "untracked":
                chosen = self.untracked
        return chosen.ingress if direction == "ingress" else chosen.egress

    def all_tiers(self) -> Iterator[TierRow]:
        """The tiers of all layers and directions."""
        yield from self.ingress
        yield from self.egress
        for layer in (self.forward, self.pre_dnat, self.untracked):
            yield from layer.ingress
            yield from layer.egress


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route to a local workload: its address, on its interface; ``mac`` is its static neighbour, if known."""

    interface: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class PoolRow:
    """What the data path needs to know of a pool."""

    nat_outgoing: bool


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed between two pictures, by table. ``None`` as a row: gone."""

    set_infos: Mapping[SetId, SetInfo | None] = field(default_factory=dict)
    set_members: Mapping[SetMember, Literal[True] | None] = field(default_factory=dict)
    policies: Mapping[PolicyId, PolicyRow | None] = field(default_factory=dict)
    profiles: Mapping[str, PolicyRow | None] = field(default_factory=dict)
    endpoints: Mapping[EndpointId, EndpointRow | None] = field(default_factory=dict)
    routes: Mapping[Cidr, RouteRow | None] = field(default_factory=dict)
    pools: Mapping[Cidr, PoolRow | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return any(getattr(self, table.name) for table in fields(self))


ORDER: Final = ("set_infos", "set_members", "policies", "profiles", "endpoints", "pools", "routes")
"""The order in which additions of a Delta are applied; removals go in reverse."""
