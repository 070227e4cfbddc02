"""The hosts' agents: the very program that a real host runs, each in its host's namespace.

In:   the hosts of a lab, and their shared store.
Out:  processes that run on after this one; what they say of themselves.

There is nothing of the lab in an agent: it is told its node's name, its directories and its store by the
command line and the environment, as on a real host.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from calico.agent.status import AgentUnreachableError, ask
from calico.lab import members, processes
from calico.lab.state import LabDirectory, LabError, Process, State
from calico.lab.topology import Host
from calico.lab.wiring import namespace
from calico.paths import AGENT_SOCKET

WAVE: Final = 4
"""How many agents start at once: more would only wait for each other's processor."""
_PATIENCE: Final = 60.0
"""Seconds that one wave, or the slowest agent after the last, may take without any progress."""

Told = Callable[[int, int], None]


def start(directory: LabDirectory, state: State, told: Told) -> None:
    """Start the agents, a wave at a time, each wave when the one before answers. ``told`` hears of progress."""
    hosts = state.topology.hosts
    for first in range(0, len(hosts), WAVE):
        wave = hosts[first : first + WAVE]
        started = [_start(directory, state, host) for host in wave]
        directory.write_processes((*directory.processes(), *started))
        wait(directory, state, wave, started=started)
        told(first + len(wave), len(hosts))


def _start(directory: LabDirectory, state: State, host: Host) -> Process:
    home = directory.host(host.name)
    for part in ("run", "data", "etc"):
        (home / part).mkdir(parents=True, exist_ok=True)
    return processes.start(
        "agent",
        host.name,
        namespace(state.name, host.name),
        [sys.executable, "-m", "calico.cli.main", "agent", "--node", host.name],
        log=home / "agent.log",
        environment=environment(directory, state, host) | processes.python_environment(),
    )


def environment(directory: LabDirectory, state: State, host: Host) -> dict[str, str]:
    """What a host's programs find in their environment."""
    home = directory.host(host.name)
    return {
        "PATH": os.pathsep.join(
            # The last one has calicoctl itself, wherever it was installed.
            (
                os.environ.get("PATH", ""),
                "/usr/sbin",
                "/sbin",
                "/usr/bin",
                "/bin",
                str(Path(sys.executable).parent),
            )
        ),
        "LANG": "C.UTF-8",
        **members.environment(directory, state.topology),
        "CALICO_RUN_DIR": str(home / "run"),
        "CALICO_DATA_DIR": str(home / "data"),
        "CALICO_CONFIG_DIR": str(home / "etc"),
        "CALICO_BACKEND": state.backend,
        "NODENAME": host.name,
        "XTABLES_LOCKFILE": str(home / "run" / "xtables.lock"),
    }


def report(directory: LabDirectory, host: str) -> dict[str, Any] | None:
    """What a host's agent says of itself; None where none answers."""
    try:
        return ask(directory.host(host) / "run" / AGENT_SOCKET, {"command": "status"})
    except AgentUnreachableError:
        return None


def wait(
    directory: LabDirectory,
    state: State,
    hosts: tuple[Host, ...],
    *,
    started: Sequence[Process] = (),
) -> None:
    """Until each host's agent has programmed all its endpoints; LabError, with what it says, where one does not.

    ``started`` are processes whose end is noticed at once.
    """
    waiting = {host.name: host for host in hosts}
    by_node = {process.node: process for process in started}
    deadline = time.monotonic() + _PATIENCE
    while waiting:
        for name, host in [*waiting.items()]:
            if ready(report(directory, name), host):
                del waiting[name]
                deadline = time.monotonic() + _PATIENCE
            elif name in by_node and not processes.alive(by_node[name]):
                raise LabError(f"the agent of {name} has ended: {_last_words(directory, name)}")
        if waiting and time.monotonic() > deadline:
            raise LabError("; ".join(_complaint(directory, state, host) for host in waiting.values()))
        if waiting:
            time.sleep(0.1)


def ready(said: Mapping[str, Any] | None, host: Host) -> bool:
    """Whether an agent that says this has done all that there is to do for ``host``."""
    if said is None or not said.get("programmed") or said.get("pendingRoutes"):
        return False
    expected = len(host.workloads) + host.bare_metal
    return bool(said.get("counts", {}).get("endpoints", expected) >= expected)


def _complaint(directory: LabDirectory, state: State, host: Host) -> str:
    said = report(directory, host.name)
    if said is None:
        return f"the agent of {host.name} does not answer: {_last_words(directory, host.name)}"
    troubles = [f"{what}: {text}" for what, text in dict(said.get("errors", {})).items()]
    troubles += [str(problem) for problem in said.get("problems", ())]
    troubles += [f"{cidr}: {why}" for cidr, why in dict(said.get("pendingRoutes", {})).items()]
    return f"the agent of {host.name} in lab {state.name!r} is not done: {'; '.join(troubles) or 'it does not say why'}"


def _last_words(directory: LabDirectory, host: str) -> str:
    log = directory.host(host) / "agent.log"
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return f"{lines[-1] if lines else 'it said nothing'} (log: {log})"
