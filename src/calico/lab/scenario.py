"""Building a lab and taking it down.

In:   a name, a ``Topology``, a back end; or the directory of a lab that is there.
Out:  namespaces, routers, agents and a responder that run on after the command; or nothing left of them.
Next: ``probe`` asks whether the lab does what policy says.

Whatever is about to be made is written down first, so that ``down`` finds it after a crash at any point.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from calico.lab import (
    agents,
    flows,
    intent,
    limits,
    members,
    names,
    namespaces,
    probe,
    processes,
    responder,
    routers,
    wiring,
)
from calico.lab.state import (
    LabDirectory,
    LabError,
    NotBegun,
    Process,
    State,
    Unreadable,
    labs,
    remove_empty,
)
from calico.lab.topology import INTERNET, Topology
from calico.lab.wiring import namespace
from calico.model.resource import Resource

Say = Callable[[str], None]


CONVERGENCE: Final = 90.0
"""Seconds that BGP gets after the last agent is ready."""


def up(
    directory: LabDirectory,
    topology: Topology,
    backend: str,
    policy: Sequence[Resource],
    services: Sequence[str],
    say: Say,
) -> State:
    """Build a lab and wait until it works: agents have programmed what there is, BGP has spread the routes.

    Raises LabError, NamespaceError, or what the store raises; then what was made so far is there, for ``down``.
    """
    with directory.locked():
        state = begin(directory, topology, backend, services)
        say(f"fabric: {len(topology.routers)} routers, {len(topology.hosts)} hosts, the internet")
        build_fabric(directory, state, say)
        store = members.datastore(directory, topology)
        if topology.members:
            members.wait(directory, topology)
            say(f"etcd: {topology.members} members, a leader among them")
        say("store: nodes, pools, peers, profiles, policy; addresses for the workloads")
        addresses = intent.prepare(store, topology, policy)
        say(f"workloads: {len(topology.workloads)}")
        state = attach(directory, state, addresses, _quarters(say, "workloads attached"))
        intent.attach(store, topology, addresses)
        start_responder(directory, state, services)
        say(f"agents: one on each of {len(topology.hosts)} hosts, back end {backend}")
        agents.start(directory, state, _quarters(say, "agents ready"))
        say("waiting for BGP")
        converge(state)
        state = msgspec.structs.replace(state, phase="up")
        directory.write(state)
        say("every host has a route to every workload")
    return state


def converge(state: State) -> None:
    """Until every host and the internet reach every workload and host, policy aside; LabError with what is missing."""
    deadline = time.monotonic() + CONVERGENCE
    while trouble := probe.trouble(state):
        if time.monotonic() > deadline:
            raise LabError(f"the network did not converge within {CONVERGENCE:g} s: {trouble}")
        time.sleep(0.2)


def _quarters(say: Say, what: str) -> Callable[[int, int], None]:
    """Say how far it is, about four times."""
    said = 0

    def told(done: int, whole: int) -> None:
        nonlocal said
        if done * 4 // whole > said and whole > 4:
            said = done * 4 // whole
            say(f"  {what}: {done} of {whole}")

    return told


def begin(directory: LabDirectory, topology: Topology, backend: str, ports: Sequence[str]) -> State:
    """Write down what is going to be made. LabError where something of that name is there already."""
    try:
        known = directory.read()
    except Unreadable as error:
        raise NotBegun(str(error)) from error
    again = f"remove it first: calicoctl lab down --name {directory.name}"
    if known is not None:
        what = "is running" if known.phase == "up" else "was left half-built"
        raise NotBegun(f"lab {directory.name!r} {what}; {again}")
    state = State(
        name=directory.name,
        phase="building",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backend=backend,
        topology=topology,
        ports=tuple(ports),
        neighbour_entries=wiring.neighbour_entries(topology),
    )
    present = namespaces.existing().intersection(state.namespaces)
    if present:
        raise NotBegun(
            f"network namespaces of that name exist ({', '.join(sorted(present)[:3])}, ...); {again}"
        )
    directory.write(state)
    return state


def build_fabric(directory: LabDirectory, state: State, say: Say) -> None:
    """Routers, hosts and cables, BIRD on the routers, and the members of the store."""
    topology = state.topology
    limits.ensure(directory.root, _entries(directory.root), say)
    namespaces.build(wiring.fabric(topology, state.name), state.name)
    started = []
    for router in topology.routers:
        home = directory.router(router)
        home.mkdir(parents=True, exist_ok=True)
        configuration = home / "bird.conf"
        configuration.write_text(routers.configuration(topology, router))
        started.append(
            processes.start(
                "router",
                router,
                namespace(state.name, router),
                ["bird", "-f", "-c", str(configuration), "-s", str(bird_socket(directory, router))],
                log=home / "bird.log",
            )
        )
    remember(directory, started)
    remember(directory, members.start(directory, state))


def attach(
    directory: LabDirectory,
    state: State,
    addresses: Mapping[str, tuple[str, ...]],
    told: Callable[[int, int], None],
) -> State:
    """Give the workloads their namespaces, veths and ``addresses``; the state that knows them."""
    state = msgspec.structs.replace(state, addresses=dict(addresses))
    directory.write(state)
    machine = Path("/etc/hosts")
    known = machine.read_text(encoding="utf-8", errors="replace") if machine.exists() else ""
    directory.hosts_file.write_text(names.hosts_file(state.topology, addresses, known), encoding="utf-8")
    wires = wiring.attachments(state.topology.workloads, addresses, state.name, mtu=state.topology.mtu)
    hosts = len(wires.commands) - len(addresses)
    namespaces.build(wires, state.name, lambda done, whole: told(max(0, done - hosts), whole - hosts))
    return state


def bird_socket(directory: LabDirectory, router: str) -> Path:
    """Where a router's BIRD takes commands."""
    return directory.router(router) / "bird.ctl"


def remember(directory: LabDirectory, started: Sequence[Process]) -> None:
    """Add processes to those that ``down`` ends."""
    directory.write_processes((*directory.processes(), *started))


def down(directory: LabDirectory, say: Say) -> bool:
    """Take away all that there is of a lab, whole or half-built; whether there was anything.

    Namespaces are the lab's by its own record. Without a readable one, those whose name begins ``calico-<name>-`` are.
    """
    state = _record(directory)
    names = _present(directory, state)
    if state is None and not names and not directory.processes():
        directory.remove()
        _leave(directory, say)
        return False
    if state is not None and state.phase == "up":
        # Whoever looks meanwhile, or after an interruption, must not take it for a whole one.
        directory.write(msgspec.structs.replace(state, phase="building"))
    ended = processes.end(directory.processes(), names)
    left = namespaces.remove(names)
    if left:
        raise LabError(f"the kernel still holds {', '.join(left)}; call 'calicoctl lab down' again")
    if state is None or state.phase == "building":
        # A builder that was killed may have left programs that were still at work a moment ago.
        for _ in range(5):
            time.sleep(0.1)
            late = _present(directory, state)
            ended += processes.end((), late)
            namespaces.remove(late)
            names += late
    directory.remove()
    _leave(directory, say)
    say(f"lab {directory.name!r} is gone: {ended} processes ended, {len(names)} namespaces removed")
    return True


def _record(directory: LabDirectory) -> State | None:
    """The state of a lab as far as it can be read: a damaged record must not keep a lab from being removed."""
    try:
        return directory.read()
    except Unreadable:
        return None


def _present(directory: LabDirectory, state: State | None) -> tuple[str, ...]:
    """The namespaces that are there and the lab's."""
    present = namespaces.existing()
    if state is not None:
        return tuple(name for name in state.namespaces if name in present)
    return tuple(sorted(name for name in present if name.startswith(namespace(directory.name, ""))))


def _leave(directory: LabDirectory, say: Say) -> None:
    """What the last lab of the machine puts back."""
    if not labs(directory.root):
        limits.restore(directory.root, say)
        remove_empty(directory.root, directory.root.parent)


def _entries(root: Path) -> int:
    """Neighbour entries that all labs together need."""
    states = (_record(LabDirectory(root, name)) for name in labs(root))
    return sum(state.neighbour_entries for state in states if state is not None)


def start_responder(directory: LabDirectory, state: State, services: Sequence[str]) -> None:
    """Listeners for ``services`` inside everything that is probed; LabError if they are not ready within 30 seconds."""
    told = directory.responder
    ready = told.with_suffix(responder.READY)
    ready.unlink(missing_ok=True)
    spaces = tuple(namespace(state.name, end.name) for end in flows.ends(state.topology, state.addresses))
    told.write_bytes(msgspec.json.encode(responder.Assignment(spaces, tuple(services))))
    log = told.with_suffix(".log")
    process = processes.start(
        "responder",
        INTERNET,
        namespace(state.name, INTERNET),
        [sys.executable, "-m", "calico.lab.responder", str(told)],
        log=log,
        environment={**os.environ, **processes.python_environment()},
    )
    remember(directory, [process])
    deadline = time.monotonic() + 30
    while not ready.exists():
        if not processes.alive(process) or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise LabError(f"the responder of lab {state.name!r} does not run: {said[0]} (log: {log})")
        time.sleep(0.02)
