"""What one node does in BGP, as a value.

In:   ``bgp.sessions`` plans it from the facts.
Out:  ``Speaker``, with its ``Session``s, pools, blocks and problems; equal for equal facts.
Next: ``bgp.bird`` writes it down as BIRD's configuration; status sets it beside what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from calico.model.address import Cidr, Family
from calico.model.bgp import SecretKeyRef

BGP_PORT: Final = 179

SessionType = Literal["NodeMesh", "NodePeer", "GlobalPeer"]
"""Who asked for a session: the mesh, a peer for some nodes (or the reverse of any), a peer for all."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One BGP session; it carries the routes of the peer's own family. Times are in seconds, None is BIRD's default.

    ``source`` is our address in it, None leaves the choice to the kernel. ``passive``: the peer connects, we wait.
    ``cluster_id``: the peer is our route-reflection client in that cluster ("" is no client).
    ``ttl_security``: the largest number of hops that packets may have made; None does not check.
    ``gateway``: the peer is reached through this address. ``password``: where the TCP MD5 password is kept.
    """

    name: str
    type: SessionType
    description: str
    peer: Cidr
    port: int
    peer_as: int
    local_as: int
    source: Cidr | None
    passive: bool = False
    cluster_id: str = ""
    next_hop: Literal["Auto", "Self", "Keep"] = "Auto"
    ttl_security: int | None = None
    keepalive: int | None = None
    restart_time: int | None = None
    allowed_own_as: int | None = None
    gateway: Cidr | None = None
    password: SecretKeyRef | None = None

    @property
    def internal(self) -> bool:
        """Whether both ends are in one AS (iBGP)."""
        return self.peer_as == self.local_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """What one node does in BGP.

    ``blocks`` are its own, ``pools`` everybody's. ``addresses`` are the node's, at most one a family.
    ``reflector``: it passes on what it learned from others. ``bind_address``: listen on the node's addresses only.
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
    problems: tuple[Problem, ...] = ()

    def address(self, family: Family) -> Cidr | None:
        """The node's address of ``family``, if it has one."""
        return next((address for address in self.addresses if address.family == family), None)
