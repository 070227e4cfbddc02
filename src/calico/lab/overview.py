"""How a lab is: its hosts, routers, BGP sessions and workloads, as they are now.

In:   a lab's directory and ``State``.
Out:  ``Overview``, plain values.
Next: ``cli.lab`` prints it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from calico.bgp.control import BirdError, Control, Protocol
from calico.lab import agents, processes, routers, scenario
from calico.lab.state import LabDirectory, State
from calico.lab.topology import bare, member_link


class HostStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A host. ``agent`` is None where none answers, else the pid; ``problem`` says what is not in order."""

    name: str
    rack: str
    addresses: tuple[str, ...]
    kind: str
    agent: int | None
    programmed: bool
    endpoints: int
    sessions: str
    problem: str


class RouterStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A router of the fabric."""

    name: str
    as_number: int
    router_id: str
    running: bool
    sessions: str
    routes: int


class MemberStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A member of the store."""

    name: str
    address: str
    running: bool


class SessionStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One BGP session, as the router at its one end sees it."""

    router: str
    neighbour: str
    address: str
    as_number: int
    state: str
    since: str
    imported: int
    exported: int


class WorkloadStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A workload."""

    name: str
    namespace: str
    host: str
    addresses: tuple[str, ...]
    interface: str
    labels: dict[str, str]


class Overview(msgspec.Struct, frozen=True, rename="camel"):
    """A whole lab."""

    name: str
    phase: str
    backend: str
    responder: bool
    hosts: tuple[HostStatus, ...]
    routers: tuple[RouterStatus, ...]
    members: tuple[MemberStatus, ...]
    sessions: tuple[SessionStatus, ...]
    workloads: tuple[WorkloadStatus, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything is as it should be."""
        return (
            self.phase == "up"
            and self.responder
            and all(host.programmed and not host.problem for host in self.hosts)
            and all(router.running for router in self.routers)
            and all(member.running for member in self.members)
            and all(session.state == "Established" for session in self.sessions)
        )


def overview(directory: LabDirectory, state: State) -> Overview:
    """Ask every agent and every router's BIRD."""
    topology = state.topology
    spoken = asyncio.run(_protocols(directory, topology.routers))
    sessions = tuple(
        session for router in topology.routers for session in _sessions(state, router, spoken[router] or ())
    )
    return Overview(
        name=state.name,
        phase=state.phase,
        backend=state.backend,
        responder=any(
            process.role == "responder" and processes.alive(process) for process in directory.processes()
        ),
        hosts=tuple(_host(directory, state, host.name) for host in topology.hosts),
        routers=tuple(_router(state, router, spoken[router], sessions) for router in topology.routers),
        members=tuple(_members(directory, state)),
        sessions=sessions,
        workloads=tuple(
            WorkloadStatus(
                workload.name,
                workload.namespace,
                workload.node,
                tuple(state.addresses.get(workload.name, ())),
                workload.interface,
                dict(workload.labels),
            )
            for workload in topology.workloads
        ),
    )


def _host(directory: LabDirectory, state: State, name: str) -> HostStatus:
    host = next(host for host in state.topology.hosts if host.name == name)
    said = agents.report(directory, name)
    bgp: list[dict[str, Any]] = [] if said is None else list(said.get("bgp", {}).get("sessions", ()))
    established = sum(bool(session.get("established")) for session in bgp)
    return HostStatus(
        name=name,
        rack=state.topology.rack_of(host).name,
        addresses=tuple(bare(address) for address in host.addresses),
        kind="bare metal" if host.bare_metal else f"{len(host.workloads)} workloads",
        agent=None if said is None else said.get("pid"),
        programmed=bool(said and said.get("programmed")),
        endpoints=0 if said is None else said.get("counts", {}).get("endpoints", 0),
        sessions=f"{established}/{len(bgp)}",
        problem=_problem(said),
    )


def _problem(said: dict[str, Any] | None) -> str:
    if said is None:
        return "no agent answers"
    troubles = [f"{what}: {text}" for what, text in dict(said.get("errors", {})).items()]
    if not dict(said.get("store", {})).get("connected", True):
        troubles.append("the store is lost; what is known stays in force")
    troubles += [str(problem) for problem in said.get("problems", ())]
    return "; ".join(troubles)


def _router(
    state: State, router: str, protocols: Sequence[Protocol] | None, sessions: Sequence[SessionStatus]
) -> RouterStatus:
    own = [session for session in sessions if session.router == router]
    return RouterStatus(
        router,
        routers.as_number(state.topology, router),
        routers.router_id(state.topology, router),
        protocols is not None,
        f"{sum(session.state == 'Established' for session in own)}/{len(own)}",
        sum(protocol.exported for protocol in protocols or () if protocol.type == "Kernel"),
    )


def _members(directory: LabDirectory, state: State) -> Iterator[MemberStatus]:
    alive = {
        process.node
        for process in directory.processes()
        if process.role == "store" and processes.alive(process)
    }
    for number, name in enumerate(state.topology.member_names, 1):
        yield MemberStatus(name, bare(member_link(number)[1]), name in alive)


def _sessions(state: State, router: str, protocols: Sequence[Protocol]) -> list[SessionStatus]:
    by_name = {protocol.name: protocol for protocol in protocols}
    found = []
    for family_index, family in enumerate(routers.FAMILIES):
        for neighbour in routers.neighbours(state.topology, router):
            protocol = by_name.get(routers.session_name(neighbour.name, family))
            found.append(
                SessionStatus(
                    router,
                    neighbour.name,
                    neighbour.addresses[family_index],
                    neighbour.as_number,
                    "down" if protocol is None else (protocol.info.split(" ")[0] or protocol.state),
                    "" if protocol is None else protocol.since,
                    0 if protocol is None else protocol.imported,
                    0 if protocol is None else protocol.exported,
                )
            )
    return found


async def _protocols(directory: LabDirectory, names: Sequence[str]) -> dict[str, tuple[Protocol, ...] | None]:
    async def one(name: str) -> tuple[Protocol, ...] | None:
        try:
            return await Control(scenario.bird_socket(directory, name)).protocols()
        except BirdError:
            return None

    return dict(zip(names, await asyncio.gather(*(one(name) for name in names)), strict=True))
