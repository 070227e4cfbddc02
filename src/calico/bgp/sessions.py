"""Which BGP sessions a node should have.

In:   the node, the cluster's nodes and settings, and the facts.
Out:  ``Session`` values, one for an address, port and interface.
Next: ``bgp.plan`` puts them into the ``Speaker``. The values are in ``bgp.speaker``, the inputs' in ``bgp.cluster``.

There is at most one session to an address and port: explicit peers win over the mesh, global
ones over those for some nodes (behaviour reference 6.2). What cannot be planned becomes a
``Problem``, and everything else goes on.

Names are made of what a session is to, so that it keeps its name while anything else changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Final, NamedTuple

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
from calico.bgp.facts import Facts
from calico.bgp.speaker import BGP_PORT, WORKLOAD_PREFIX, Bfd, Problem, Session, SessionType
from calico.model import checks, selector
from calico.model.address import AddressError, Cidr, Family, parse_cidr
from calico.model.bgp import BGPPeerSpec
from calico.model.endpoint import WorkloadEndpoint
from calico.model.kubernetes import NAMESPACE_LABEL
from calico.model.numbers import MAX_PORT

_PREFIX: Final[Mapping[SessionType, str]] = {
    "NodeMesh": "Mesh",
    "NodePeer": "Node",
    "GlobalPeer": "Global",
}


class Planned(NamedTuple):
    """``interfaces`` are those behind which a router is looked for, whether it has been seen or not."""

    sessions: tuple[Session, ...]
    interfaces: tuple[str, ...]


def plan_sessions(
    own: Member, cluster: Cluster, settings: Settings, facts: Facts, problems: list[Problem]
) -> Planned:
    """The sessions of ``own``, in order of name; what is wrong is added to ``problems``."""
    sessions = _Sessions(own, cluster, settings, facts, problems)
    return Planned(sessions.all(), tuple(sorted(sessions.interfaces)))


class _Sessions:
    """The sessions of one node."""

    def __init__(
        self,
        own: Member,
        cluster: Cluster,
        settings: Settings,
        facts: Facts,
        problems: list[Problem],
    ) -> None:
        self._own = own
        self._cluster = cluster
        self._settings = settings
        self._facts = facts
        self._problems = problems
        self.interfaces: set[str] = set()
        """Where a router is looked for, once ``all`` has been called."""

    def all(self) -> tuple[Session, ...]:
        """One session an address, port and interface, in order of name; what is more explicit wins."""
        explicit = [session for name in sorted(self._facts.peers) for session in self._planned(name)]
        explicit.sort(key=lambda session: session.type)  # GlobalPeer before NodePeer, otherwise as they come
        chosen: dict[tuple[Cidr, int, str], Session] = {}
        for session in chain(explicit, self._mesh()):
            interface = session.interface if session.peer.family == 6 else ""
            chosen.setdefault((session.peer, session.port, interface), session)
        named = {session.name: session for session in chosen.values()}  # BIRD would refuse a second one
        return tuple(named[name] for name in sorted(named))

    def _planned(self, name: str) -> list[Session]:
        try:
            return list(self._explicit(name, self._facts.peers[name].spec))
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

    def _explicit(self, name: str, spec: BGPPeerSpec) -> Iterator[Session]:
        _check(spec)
        everywhere = not spec.node and not spec.node_selector
        ours = everywhere or self._own in self._near(spec)
        type_: SessionType = "GlobalPeer" if everywhere else "NodePeer"
        if not spec.peer_selector:
            if ours and spec.peer_ip:
                yield from self._fixed(spec, type_)
            elif ours and spec.peer_interface:
                yield from self._unnumbered(name, spec, type_)
            elif ours:
                yield from self._workloads(name, spec, type_)
            return
        far = list(self._cluster.selected(spec.peer_selector))
        if ours:
            yield from self._selected(spec, type_, far)
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

    def _unnumbered(self, name: str, spec: BGPPeerSpec, type_: SessionType) -> Iterator[Session]:
        """A peering with the router behind an interface, of which nothing need be known but that."""
        self.interfaces.add(spec.peer_interface)
        address = self._facts.routers.get(spec.peer_interface)
        if address is None:
            reason = (
                f"waits: no router has been seen behind {spec.peer_interface}; "
                "it shows itself by router advertisements or by any IPv6 packet from its link-local address"
            )
            self._problems.append(Problem(f"BGPPeer/{name}", reason))
            return
        number = None if spec.as_number is None else parse_as(spec.as_number)
        session = self._session(type_, spec, address, BGP_PORT, number)
        yield replace(
            session,
            name=f"{_PREFIX[type_]}_{spec.peer_interface}",
            description=f"{type_} {spec.peer_interface}",
            interface=spec.peer_interface,
            source=None,
            direct=True,
            bfd=_bfd(spec),
            families=(4, 6),
        )

    def _workloads(self, name: str, spec: BGPPeerSpec, type_: SessionType) -> Iterator[Session]:
        """Peerings with workloads of this node, which find us at an address that all hosts have for them."""
        if spec.as_number is None:
            raise ValueError("asNumber is needed, for all workloads that it selects")
        number = parse_as(spec.as_number)
        matches = selector.parse(spec.local_workload_selector).matches
        for place in sorted(self._facts.workloads):
            workload = self._facts.workloads[place]
            labels = {**workload.metadata.labels, NAMESPACE_LABEL: place[0]}
            if workload.spec.node == self._own.name and matches(labels):
                yield from self._workload(name, spec, type_, workload, number)

    def _workload(
        self, name: str, spec: BGPPeerSpec, type_: SessionType, workload: WorkloadEndpoint, number: int
    ) -> Iterator[Session]:
        for address in _first_addresses(workload.spec.ip_networks):
            field = f"localWorkloadPeeringIPV{address.family}"
            source = self._settings.of(self._own.name, f"local_workload_peering_ipv{address.family}")
            if not source:
                reason = f"has no session with {address.address}: set {field} in the BGPConfiguration"
                self._problems.append(Problem(f"BGPPeer/{name}", reason))
                continue
            session = self._session(type_, spec, address, BGP_PORT, number)
            yield replace(
                session,
                name=WORKLOAD_PREFIX + re.sub(r"[.:]", "_", address.address),
                description=f"{type_} workload {workload.metadata.name}",
                source=_source(field, source, address.family),
                direct=False,
                bfd="",
                next_hop="Self",
                workload=True,
            )

    def _session(
        self, type_: SessionType, spec: BGPPeerSpec, address: Cidr, port: int, peer_as: int | None
    ) -> Session:
        member = self._cluster.by_address.get(address)
        local_as = self._own.as_number if spec.local_as_number is None else parse_as(spec.local_as_number)
        equal = member is not None and member.cluster_id == self._own.cluster_id
        gateway = parse_speaker(spec.reachable_by) if spec.reachable_by else None
        if gateway and gateway.family != address.family:
            raise ValueError(f"reachableBy {spec.reachable_by} is not of the family of {address.address}")
        direct = bool(_bfd(spec)) and any(network.contains(address) for network in self._own.networks)
        return Session(
            name=_name(type_, address, port),
            type=type_,
            description=f"{type_} {member.name}" if member else type_,
            peer=address,
            port=port,
            peer_as=peer_as,
            local_as=local_as,
            source=None if spec.source_address == "None" else self._own.address(address.family),
            families=(address.family,),
            cluster_id=self._own.cluster_id if peer_as == local_as and not equal else "",
            next_hop="Keep" if spec.keep_original_next_hop else spec.next_hop_mode or "Auto",
            ttl_security=checked("ttlSecurity", spec.ttl_security or 0, 0, 255) or None,
            keepalive=parse_seconds("keepaliveTime", spec.keepalive_time, MAX_KEEPALIVE),
            restart_time=parse_seconds("maxRestartTime", spec.max_restart_time, MAX_RESTART),
            allowed_own_as=checked("numAllowedLocalASNumbers", spec.num_allowed_local_as_numbers or 0, 0, 255)
            or None,
            gateway=gateway,
            password=secret_of(spec.password),
            direct=direct,
            bfd=_bfd(spec) if direct else "",
            filters=tuple(spec.filters),
        )


def _check(spec: BGPPeerSpec) -> None:
    """ValueError unless ``spec`` says once who peers with whom."""
    far = (spec.peer_ip, spec.peer_selector, spec.local_workload_selector, spec.peer_interface)
    if sum(map(bool, far)) != 1:
        raise ValueError("it needs either peerIP or peerSelector, or localWorkloadSelector, or peerInterface")
    if spec.node and spec.node_selector:
        raise ValueError("node and nodeSelector exclude each other")
    if spec.peer_selector and spec.as_number is not None:
        raise ValueError("asNumber does not go with peerSelector; the nodes that it selects have their own")
    if spec.peer_interface and any(checks.interface(("spec", "peerInterface"), spec.peer_interface)):
        raise ValueError(f"{spec.peer_interface!r} is no name of an interface")
    if spec.reachable_by and not spec.peer_ip:
        raise ValueError("reachableBy goes with peerIP only")


def _source(field: str, text: str, family: Family) -> Cidr:
    address = parse_speaker(text)
    if address.family != family:
        raise ValueError(f"{field} is {text}, which is no IPv{family} address")
    return address


def _bfd(spec: BGPPeerSpec) -> Bfd:
    """Whether a direct peer is watched. With a time for restarts its silence is taken for a restart, which ends then."""
    if spec.failure_detection_mode != "BFDIfDirectlyConnected":
        return ""
    return "graceful" if spec.max_restart_time else "on"


def _first_addresses(texts: Iterable[str]) -> Iterator[Cidr]:
    """The first address of each family; what is none is passed over."""
    seen: set[Family] = set()
    for text in texts:
        try:
            cidr = parse_cidr(text)
            address = parse_speaker(cidr.address) if cidr.is_address else None
        except AddressError:
            continue
        if address is not None and address.family not in seen:
            seen.add(address.family)
            yield address


def _pairs(far: Member, own: Member) -> Iterator[tuple[Cidr, Cidr]]:
    """``far``'s address and ours, for each family that both have; nothing when both are one node."""
    for address in far.addresses:
        source = own.address(address.family)
        if source is not None and source != address:
            yield address, source


def _name(type_: SessionType, address: Cidr, port: int) -> str:
    words = re.sub(r"[.:]", "_", address.address)
    return f"{_PREFIX[type_]}_{words}" + (f"_port_{port}" if port != BGP_PORT else "")


def _peer_address(text: str) -> tuple[Cidr, int]:
    """``10.0.0.1``, ``10.0.0.1:1790``, ``fd00::1`` or ``[fd00::1]:1790``."""
    match = re.fullmatch(
        r"\[(?P<six>[^\]]+)\](?::(?P<port6>\d+))?|(?P<four>[\d.]+):(?P<port4>\d+)", text, re.ASCII
    )
    if not match:
        return parse_speaker(text), BGP_PORT
    port = int(match["port6"] or match["port4"] or BGP_PORT)
    return parse_speaker(match["six"] or match["four"]), checked("the port of peerIP", port, 1, MAX_PORT)
