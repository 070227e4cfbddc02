"""Which BGP sessions a node should have, and what it should announce on them.

In:   nodes, BGP configurations, BGP peers and pools, and the blocks that this node holds.
Out:  ``Speaker``: the node's side of BGP as one frozen value, equal for equal facts.
Next: ``bgp.bird`` writes it down as BIRD's configuration. The values are in ``bgp.speaker``, the inputs' in ``bgp.cluster``.

There is at most one session to an address and port: explicit peers win over the mesh, global
ones over those for some nodes (behaviour reference 6.2). What cannot be planned becomes a
``Problem``, and everything else goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from typing import Final

from msgspec import structs

from calico.bgp.cluster import (
    MAX_KEEPALIVE,
    MAX_RESTART,
    Cluster,
    Member,
    Settings,
    checked,
    parse_as,
    parse_seconds,
    parse_speaker,
    secret_of,
)
from calico.bgp.speaker import BGP_PORT, PoolExport, Problem, Session, SessionType, Speaker
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.bgp import BGPConfiguration, BGPPeer, BGPPeerSpec
from calico.model.node import Node
from calico.model.numbers import MAX_PORT
from calico.model.pool import IPPool

_PREFIX: Final[Mapping[SessionType, str]] = {
    "NodeMesh": "Mesh",
    "NodePeer": "Node",
    "GlobalPeer": "Global",
}


def plan(
    node: str,
    nodes: Mapping[str, Node],
    configurations: Mapping[str, BGPConfiguration],
    peers: Mapping[str, BGPPeer],
    pools: Mapping[str, IPPool],
    blocks: Iterable[Cidr],
) -> Speaker:
    """What ``node`` does in BGP, from all facts; mappings are by name, ``blocks`` are those that the node holds.

    A node that is unknown or has no BGP part gets no sessions, which is said as a problem; its blocks and pools
    are still planned, so that its kernel keeps their routes. Never raises for what an operator wrote.
    """
    settings = Settings(configurations)
    cluster = Cluster(nodes, settings)
    own = cluster.members.get(node)
    problems = [*settings.problems, *cluster.problems]
    sessions: tuple[Session, ...] = ()
    if own is not None and own.addresses:
        sessions = _Sessions(own, cluster, settings, peers, problems).all()
    else:
        problems.extend(_no_sessions(node, nodes, own))
    return Speaker(
        node=node,
        router_id=_router_id(node, own),
        local_as=own.as_number if own else settings.default_as,
        listen_port=own.port if own else BGP_PORT,
        addresses=own.addresses if own else (),
        sessions=sessions,
        pools=_pools(pools, problems),
        blocks=tuple(sorted(set(blocks))),
        reflector=bool(own and own.cluster_id),
        bind_address=settings.of(node, "bind_mode") == "NodeIP",
        ignored_interfaces=tuple(settings.of(node, "ignored_interfaces") or ()),
        problems=tuple(problems),
    )


class _Sessions:
    """The sessions of one node."""

    def __init__(
        self,
        own: Member,
        cluster: Cluster,
        settings: Settings,
        peers: Mapping[str, BGPPeer],
        problems: list[Problem],
    ) -> None:
        self._own = own
        self._cluster = cluster
        self._settings = settings
        self._peers = peers
        self._problems = problems

    def all(self) -> tuple[Session, ...]:
        """One session an address and port, in order of name; what is more explicit wins."""
        explicit = [session for name in sorted(self._peers) for session in self._planned(name)]
        explicit.sort(key=lambda session: session.type)  # GlobalPeer before NodePeer, otherwise as they come
        chosen: dict[tuple[Cidr, int], Session] = {}
        for session in chain(explicit, self._mesh()):
            chosen.setdefault((session.peer, session.port), session)
        return tuple(sorted(chosen.values(), key=lambda session: session.name))

    def _planned(self, name: str) -> list[Session]:
        try:
            return list(self._explicit(self._peers[name].spec))
        except ValueError as error:
            self._problems.append(Problem(f"BGPPeer/{name}", f"is left out: {error}"))
            return []

    def _mesh(self) -> Iterator[Session]:
        if not self._settings.mesh or self._own.cluster_id:
            return
        template = BGPPeerSpec()
        for member in self._cluster.members.values():
            if member is not self._own and not member.cluster_id:
                for address, source in _pairs(member, self._own):
                    session = self._session("NodeMesh", template, address, member.port, member.as_number)
                    yield replace(
                        session,
                        source=source,
                        passive=address.address > source.address,
                        password=self._settings.mesh_password,
                        restart_time=self._settings.mesh_restart_time,
                    )

    def _explicit(self, spec: BGPPeerSpec) -> Iterator[Session]:
        if spec.local_workload_selector:
            raise ValueError("peering with local workloads is not supported; remove localWorkloadSelector")
        if spec.filters:
            raise ValueError(
                "BGP filters are not supported, and without them it would announce too much; remove filters"
            )
        if bool(spec.peer_ip) == bool(spec.peer_selector):
            raise ValueError("it needs either peerIP or peerSelector")
        if spec.node and spec.node_selector:
            raise ValueError("node and nodeSelector exclude each other")
        if spec.peer_selector and spec.as_number is not None:
            raise ValueError("asNumber goes with peerIP only; the nodes of peerSelector have their own")
        everywhere = not spec.node and not spec.node_selector
        ours = everywhere or self._own in self._near(spec)
        if spec.peer_ip:
            if ours:
                yield from self._fixed(spec, "GlobalPeer" if everywhere else "NodePeer")
            return
        far = list(self._cluster.selected(spec.peer_selector))
        if ours:
            yield from self._selected(spec, "GlobalPeer" if everywhere else "NodePeer", far)
        if spec.reverse_peering != "Manual" and self._own in far:
            yield from self._reverse(spec, self._cluster.members.values() if everywhere else self._near(spec))

    def _near(self, spec: BGPPeerSpec) -> list[Member]:
        """The nodes on whose side ``spec`` is written."""
        if spec.node:
            return [member for member in self._cluster.members.values() if member.name == spec.node]
        return list(self._cluster.selected(spec.node_selector))

    def _fixed(self, spec: BGPPeerSpec, type_: SessionType) -> Iterator[Session]:
        address, port = _peer_address(spec.peer_ip)
        if address in self._own.addresses:
            return
        member = self._cluster.by_address.get(address)
        if spec.as_number is not None:
            number = parse_as(spec.as_number)
        elif member:
            number = member.as_number
        else:
            raise ValueError(f"asNumber is needed, as {address.address} is no node's address")
        yield self._session(type_, spec, address, port, number)

    def _selected(self, spec: BGPPeerSpec, type_: SessionType, far: Iterable[Member]) -> Iterator[Session]:
        for member in far:
            for address, source in _pairs(member, self._own):
                session = self._session(type_, spec, address, member.port, member.as_number)
                # With a reverse session at the far end, one of the two waits, as in the mesh.
                waits = spec.reverse_peering != "Manual" and address.address > source.address
                yield replace(session, passive=waits)

    def _reverse(self, spec: BGPPeerSpec, near: Iterable[Member]) -> Iterator[Session]:
        """The far ends' side of a peering that was written for ``near``."""
        mirrored = structs.replace(spec, local_as_number=None)
        for member in near:
            number = member.as_number if spec.local_as_number is None else parse_as(spec.local_as_number)
            for address, source in _pairs(member, self._own):
                session = self._session("NodePeer", mirrored, address, member.port, number)
                yield replace(session, passive=address.address > source.address)

    def _session(
        self, type_: SessionType, spec: BGPPeerSpec, address: Cidr, port: int, peer_as: int
    ) -> Session:
        member = self._cluster.by_address.get(address)
        local_as = self._own.as_number if spec.local_as_number is None else parse_as(spec.local_as_number)
        equal = member is not None and member.cluster_id == self._own.cluster_id
        gateway = parse_speaker(spec.reachable_by) if spec.reachable_by else None
        if gateway and gateway.family != address.family:
            raise ValueError(f"reachableBy {spec.reachable_by} is not of the family of {address.address}")
        return Session(
            name=_name(type_, address, port),
            type=type_,
            description=f"{type_} {member.name}" if member else type_,
            peer=address,
            port=port,
            peer_as=peer_as,
            local_as=local_as,
            source=None if spec.source_address == "None" else self._own.address(address.family),
            cluster_id=self._own.cluster_id if peer_as == local_as and not equal else "",
            next_hop="Keep" if spec.keep_original_next_hop else spec.next_hop_mode or "Auto",
            ttl_security=checked("ttlSecurity", spec.ttl_security or 0, 0, 255) or None,
            keepalive=parse_seconds("keepaliveTime", spec.keepalive_time, MAX_KEEPALIVE),
            restart_time=parse_seconds("maxRestartTime", spec.max_restart_time, MAX_RESTART),
            allowed_own_as=checked("numAllowedLocalASNumbers", spec.num_allowed_local_as_numbers or 0, 0, 255)
            or None,
            gateway=gateway,
            password=secret_of(spec.password),
        )


def _pairs(far: Member, own: Member) -> Iterator[tuple[Cidr, Cidr]]:
    """``far``'s address and ours, for each family that both have; nothing when both are one node."""
    for address in far.addresses:
        source = own.address(address.family)
        if source is not None and source != address:
            yield address, source


def _name(type_: SessionType, address: Cidr, port: int) -> str:
    words = re.sub(r"[.:]", "_", address.address)
    return f"{_PREFIX[type_]}_{words}" + (f"_port_{port}" if port != BGP_PORT else "")


def _no_sessions(node: str, nodes: Mapping[str, Node], own: Member | None) -> Iterator[Problem]:
    """Why a node has no sessions at all, unless that was said when its addresses were read."""
    if node not in nodes:
        reason = "does not exist, so there are no BGP sessions; create the Node"
    elif nodes[node].spec.bgp is None:
        reason = "has no spec.bgp, so there are no BGP sessions; give it an address there"
    elif own is not None:
        reason = "has no BGP address, so there are no BGP sessions; set ipv4Address or ipv6Address"
    else:
        return
    yield Problem(f"Node/{node}", reason)


def _router_id(node: str, own: Member | None) -> str:
    """The node's IPv4 address; else a hash of its name that is a plausible unicast address."""
    address = own.address(4) if own else None
    if address:
        return address.address
    digest = sha256(node.encode()).digest()
    return ".".join(map(str, (1 + digest[0] % 223, *digest[1:4])))


def _pools(pools: Mapping[str, IPPool], problems: list[Problem]) -> tuple[PoolExport, ...]:
    exports = []
    for name in sorted(pools):
        try:
            exports.append(
                PoolExport(parse_cidr(pools[name].spec.cidr), not pools[name].spec.disable_bgp_export)
            )
        except AddressError as error:
            problems.append(Problem(f"IPPool/{name}", f"is not announced: {error}"))
    return tuple(sorted(exports))


def _peer_address(text: str) -> tuple[Cidr, int]:
    """``10.0.0.1``, ``10.0.0.1:1790``, ``fd00::1`` or ``[fd00::1]:1790``."""
    match = re.fullmatch(
        r"\[(?P<six>[^\]]+)\](?::(?P<port6>\d+))?|(?P<four>[\d.]+):(?P<port4>\d+)", text, re.ASCII
    )
    if not match:
        return parse_speaker(text), BGP_PORT
    port = int(match["port6"] or match["port4"] or BGP_PORT)
    return parse_speaker(match["six"] or match["four"]), checked("the port of peerIP", port, 1, MAX_PORT)
