"""What one node does in BGP, as a value.

In:   ``bgp.plan`` makes it of the facts.
Out:  ``Speaker``, with its ``Session``s, filters, pools, blocks and problems; equal for equal facts.
Next: ``bgp.bird`` writes it down as BIRD's configuration; status sets it beside what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from calico.model.address import Cidr, Family
from calico.model.bgp import SecretKeyRef

BGP_PORT: Final = 179
NORMAL_PRIORITY: Final = 1024
"""The kernel's metric of ordinary routes, where nothing else is configured; less is more."""
WORKLOAD_PREFIX: Final = "Local_Workload_"
"""How the names of sessions with workloads of this host begin."""

SessionType = Literal["NodeMesh", "NodePeer", "GlobalPeer"]
"""Who asked for a session: the mesh, a peer for some nodes (or the reverse of any), a peer for all."""
Bfd = Literal["", "on", "graceful"]
"""No BFD; one whose alarm ends the session at once; one whose alarm is taken for a restart of the peer."""
Community: TypeAlias = tuple[int, ...]
"""Two numbers, or three for a large one."""


class Problem(NamedTuple):
    """Something that could not be planned: ``subject`` is the resource ("BGPPeer/rack-1"), ``message`` says why."""

    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


class PoolExport(NamedTuple):
    """A pool, and whether its routes may be announced."""

    cidr: Cidr
    exported: bool


class Advertisement(NamedTuple):
    """What prefixes within ``cidr`` are announced with."""

    cidr: Cidr
    communities: tuple[Community, ...]


class BfdInterface(NamedTuple):
    """BFD's timing on the interfaces that ``pattern`` matches, in milliseconds."""

    pattern: str
    receive: int
    send: int
    idle: int
    multiplier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a filter. What is None, empty or "" matches everything.

    ``inside``: the prefix is compared with In or NotIn, else with Equal or NotEqual; ``unlike``: with one of the
    negative ones, which hold for what does not match prefix and ``lengths`` together. ``learned``: other peers
    announced it. ``internal``: the peer is in our AS. ``operations``: ("community", numbers), ("prepend", AS numbers)
    or ("priority", (number,)), in order.
    """

    accept: bool
    cidr: Cidr | None = None
    inside: bool = False
    unlike: bool = False
    lengths: tuple[int, int] | None = None
    learned: bool = False
    interface: str = ""
    internal: bool | None = None
    community: Community | None = None
    path: tuple[int, ...] = ()
    priority: int | None = None
    operations: tuple[tuple[Literal["community", "prepend", "priority"], tuple[int, ...]], ...] = ()


class Rules(NamedTuple):
    """The rules of one filter for one family; no rules: everything passes on to the next filter."""

    exported: tuple[Rule, ...] = ()
    imported: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFilter:
    """A filter by name; ``rules`` is None for one that does not exist or makes no sense: it lets nothing pass."""

    name: str
    rules: dict[Family, Rules] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One BGP session; it carries the routes of ``families``. Times are in seconds, None is BIRD's default.

    ``peer_as`` is None for any AS but ours. ``interface``: the peer is right behind it, and ``peer`` may be link-local.
    ``source`` is our address in it, None leaves the choice to the kernel. ``passive``: the peer connects, we wait.
    ``cluster_id``: the peer is our route-reflection client in that cluster ("" is no client). ``direct``: the peer
    is in a network of ours, and only there. ``ttl_security``: the largest number of hops that packets may have
    made; None does not check. ``gateway``: the peer is reached through this address. ``password``: where the TCP MD5
    password is kept. ``filters``: names of ``RouteFilter``s, in order. ``workload``: the peer is a workload here.
    """

    name: str
    type: SessionType
    description: str
    peer: Cidr
    port: int
    peer_as: int | None
    local_as: int
    source: Cidr | None
    families: tuple[Family, ...]
    interface: str = ""
    passive: bool = False
    cluster_id: str = ""
    next_hop: Literal["Auto", "Self", "Keep"] = "Auto"
    direct: bool = False
    ttl_security: int | None = None
    keepalive: int | None = None
    restart_time: int | None = None
    allowed_own_as: int | None = None
    gateway: Cidr | None = None
    password: SecretKeyRef | None = None
    bfd: Bfd = ""
    filters: tuple[str, ...] = ()
    workload: bool = False

    @property
    def internal(self) -> bool:
        """Whether both ends are in one AS (iBGP)."""
        return self.peer_as == self.local_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """What one node does in BGP.

    ``blocks`` are its own, ``pools`` everybody's. ``addresses`` are the node's, at most one a family.
    ``reflector``: it passes on what it learned from others. ``bind_address``: listen on the node's addresses only.
    ``interfaces``: where we show ourselves to a router that we know by nothing else.
    ``services``: prefixes of services to announce; ``service_ranges``: where others' may be.
    ``priorities``: what ordinary routes have, by family. ``bfd``: timing, the first pattern that matches counts.
    """

    node: str
    router_id: str
    local_as: int
    listen_port: int
    addresses: tuple[Cidr, ...]
    sessions: tuple[Session, ...]
    pools: tuple[PoolExport, ...]
    blocks: tuple[Cidr, ...]
    reflector: bool = False
    bind_address: bool = False
    ignored_interfaces: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    filters: tuple[RouteFilter, ...] = ()
    services: tuple[Cidr, ...] = ()
    service_ranges: tuple[Cidr, ...] = ()
    advertisements: tuple[Advertisement, ...] = ()
    priorities: tuple[int, int] = (NORMAL_PRIORITY, NORMAL_PRIORITY)
    bfd: tuple[BfdInterface, ...] = ()
    problems: tuple[Problem, ...] = ()

    def address(self, family: Family) -> Cidr | None:
        """The node's address of ``family``, if it has one."""
        return next((address for address in self.addresses if address.family == family), None)

    def priority(self, family: Family) -> int:
        """The priority of ordinary routes of ``family``."""
        return self.priorities[family == 6]
