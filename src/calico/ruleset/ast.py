"""A firewall as a value: tables of chains, sets and verdict maps, the same for nftables and iptables.

In:   ``rendering`` builds these values.
Out:  ``ruleset.nft`` and ``ruleset.iptables`` write them as text.
Next: ``programming`` brings the kernel to them.

One ``Table`` per address family; both families have chains of the same names. In nftables that is
``table ip calico`` and ``table ip6 calico``; in iptables each chain goes into every iptables table from
whose hooks it can be reached. A third one, ``table arp calico``, judges who may ask for hardware addresses in
whose name; iptables has nothing like it and leaves it out. A packet that falls off the end of a base chain goes
on to the host's own rules.

Set names, map names and chain names are unique within a family and short enough for both back ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from calico.desired import Origin, PortMember
from calico.model.address import Cidr, Family

End = Literal["source", "destination"]
TableFamily = Family | Literal["arp"]
"""What a table is about. In "arp" an address is the IPv4 one of an ARP packet's sender or target."""


def address_family(family: TableFamily) -> Family:
    """The family of the addresses that a table speaks of."""
    return 4 if family == "arp" else family


@dataclass(frozen=True, slots=True)
class Interface:
    """The packet's interface; ``name`` may end in "*" for a prefix."""

    direction: Literal["in", "out"]
    name: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """One address or prefix. Longer lists are sets."""

    end: End
    net: Cidr
    negate: bool = False


@dataclass(frozen=True, slots=True)
class InSet:
    """The address is in an "address" or "net" set."""

    end: End
    set: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class PortInSet:
    """(address, protocol, port) of this end is in a "port" set; the packet is TCP, UDP, SCTP or UDPLite."""

    end: End
    set: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """The layer-4 protocol number."""

    number: int
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """The port is in one of the ranges; the rule also matches a protocol that has ports."""

    end: End
    ranges: tuple[tuple[int, int], ...]
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Icmp:
    """The ICMP (ICMPv6) type, and code if given; negated as one pair. The rule also matches the protocol."""

    type: int
    code: int | None = None
    negate: bool = False


@dataclass(frozen=True, slots=True)
class CtState:
    """The conntrack state is one of these."""

    states: tuple[Literal["established", "related", "new", "invalid", "untracked"], ...]


@dataclass(frozen=True, slots=True)
class CtDnat:
    """Conntrack translated the destination (or, negated, did not)."""

    negate: bool = False


@dataclass(frozen=True, slots=True)
class CtSource:
    """Who sends in the flow that conntrack counts the packet to: ``original``: who began it, ``reply``: who answers.

    For an ICMP error that is the flow which it quotes.
    """

    direction: Literal["original", "reply"]
    net: Cidr


@dataclass(frozen=True, slots=True)
class Limit:
    """Not more than ``burst`` packets at once and ``rate`` a second came to this rule so far; it has a count of its own."""

    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class Mark:
    """``mark & mask == value`` (or, negated, not)."""

    value: int
    mask: int
    negate: bool = False


@dataclass(frozen=True, slots=True)
class ReversePathFails:
    """There is no route back to the source through the interface that the packet came in by (strict)."""


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """The address of this end is one of the host's own."""

    end: End
    negate: bool = False


Match = (
    Interface
    | Address
    | InSet
    | PortInSet
    | Protocol
    | Ports
    | Icmp
    | CtState
    | CtDnat
    | CtSource
    | Limit
    | Mark
    | ReversePathFails
    | LocalAddress
)


@dataclass(frozen=True, slots=True)
class SetMark:
    """``mark = (mark & ~mask) | value``."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class NoTrack:
    """Keep the packet out of conntrack (raw only)."""


@dataclass(frozen=True, slots=True)
class Log:
    """Log through the kernel log at level 5; not terminal.

    With a ``rate`` ("10/second", also minute, hour, day) the rest is not logged, beyond ``burst`` at once; such a
    statement is the last of its rule.
    """

    prefix: str
    rate: str = ""
    burst: int = 5


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept; in nftables the base chains of others still see the packet."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop silently."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse: TCP reset for TCP, else ICMP port unreachable (administratively prohibited)."""


@dataclass(frozen=True, slots=True)
class Return:
    """Back to the calling chain."""


@dataclass(frozen=True, slots=True)
class Jump:
    """Evaluate a chain, then come back."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Evaluate a chain, then come back to where *this* chain was called from."""

    chain: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Source NAT to the outgoing interface's address, fully random ports."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Look the interface up in a verdict map and do what it says; go on with the next rule when it is not there.

    The rules after a Dispatch are the default. iptables writes the map's entries in its place, as a tree.
    """

    direction: Literal["in", "out"]
    map: str


Verdict = Accept | Drop | Reject | Return | Jump | Goto
Statement = SetMark | NoTrack | Log | Masquerade | Dispatch | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """All ``matches`` hold: the ``statements`` are carried out in order; at most the last is a verdict.

    ``origin`` says which line of intent this rule is; ``comment`` is for rules that have none. A rule that stands
    for several (``ruleset.merge``) has all of theirs in ``merged``, and sums them up in its comment.
    """

    matches: tuple[Match, ...]
    statements: tuple[Statement, ...]
    origin: Origin | None = None
    comment: str = ""
    counted: bool = False
    merged: tuple[Origin, ...] = field(default=(), hash=False)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain hangs. ``append``: behind the host's own rules (iptables only; nftables has no need of it)."""

    table: Literal["raw", "mangle", "nat", "filter"]
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"]
    append: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order; a base chain has a ``hook`` and is named "<table>-<HOOK>", e.g. "filter-FORWARD"."""

    rules: tuple[Rule, ...]
    hook: Hook | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """What a set holds: "address" full-length Cidrs, "net" Cidrs of any length (which may overlap), "port" PortMembers.

    The type is part of the name, so that a name never changes its type.
    """

    type: Literal["address", "net", "port"]
    comment: str = ""


Member = Cidr | PortMember
VerdictMap = Mapping[str, Verdict]
"""Interface name to verdict."""


@dataclass(slots=True)
class Table:
    """The whole desired state of one family. The one mutable value here: owned by whoever made it."""

    family: TableFamily
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    members: dict[str, set[Member]] = field(default_factory=dict)
    """Members by set name; every set has an entry."""
    maps: dict[str, dict[str, Verdict]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemberChange:
    """What a set gains and loses; disjoint."""

    added: frozenset[Member] = frozenset()
    removed: frozenset[Member] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two states of one family's table, to be carried out as one transaction.

    ``None``: the object is to go. A new set's members are in ``members``; a removed set has no entry there.
    ``maps`` gives changed entries; ``new_maps`` and ``gone_maps`` name maps that appear and vanish.
    """

    family: TableFamily
    chains: Mapping[str, Chain | None] = field(default_factory=dict)
    sets: Mapping[str, Set | None] = field(default_factory=dict)
    members: Mapping[str, MemberChange] = field(default_factory=dict)
    maps: Mapping[str, Mapping[str, Verdict | None]] = field(default_factory=dict)
    new_maps: frozenset[str] = frozenset()
    gone_maps: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.chains or self.sets or self.members or self.maps or self.new_maps or self.gone_maps)
