"""Starting and ending the processes of a lab.

In:   a command line and a namespace; or the list of what was started.
Out:  ``Process`` records, for the lab's directory.

A process is known by its pid and start time, or by the namespace that it lives in; never by its name.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import calico
from calico.lab import namespaces
from calico.lab.state import Process

_PATIENCE: Final = 5.0
"""Seconds that processes get to end by themselves."""


def python_environment() -> dict[str, str]:
    """What keeps Python from leaving root's files in a checkout that a user owns."""
    owner = Path(calico.__file__).stat().st_uid
    return {} if owner == os.geteuid() else {"PYTHONDONTWRITEBYTECODE": "1"}


def start(
    role: Literal["router", "store", "agent", "responder"],
    node: str,
    inside: str,
    words: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path = Path("/"),
) -> Process:
    """Start ``words`` inside a namespace, in a session and a ``directory`` of its own, with its output appended to ``log``."""
    with log.open("ab") as output:
        # It is to outlive this command: its end is waited for by `lab down`, not by a context.
        child = subprocess.Popen(
            namespaces.command(inside, words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=directory,
            env=None if environment is None else dict(environment),
        )
    return Process(role, node, child.pid, started(child.pid) or 0)


def started(pid: int) -> int | None:
    """When ``pid`` was started, in clock ticks since boot; None if it does not run (a zombie does not)."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: Process) -> bool:
    """Whether the very process that was started still runs."""
    return process.started != 0 and started(process.pid) == process.started


def end(processes: Iterable[Process], inhabited: Sequence[str]) -> int:
    """End the recorded processes, and whatever else lives in the namespaces; how many there were.

    They are asked first, and killed after five seconds. New ones that appear meanwhile are found too.
    """
    doomed = {process.pid for process in processes if alive(process)} | set(namespaces.occupants(inhabited))
    count = len(doomed)
    _signal(doomed, signal.SIGTERM)
    doomed = _wait(doomed, _PATIENCE)
    for _ in range(10):
        doomed |= set(namespaces.occupants(inhabited))
        if not doomed:
            break
        _signal(doomed, signal.SIGKILL)
        doomed = _wait(doomed, 1.0)
    return count


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(pids: set[int], seconds: float) -> set[int]:
    """Those of ``pids`` that still run after ``seconds``, or earlier none."""
    deadline = time.monotonic() + seconds
    handles: dict[int, int] = {}
    poller = select.poll()
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                handles[handle] = pid
                poller.register(handle, select.POLLIN)
        while handles and (left := deadline - time.monotonic()) > 0:
            for handle, _ in poller.poll(left * 1000):
                poller.unregister(handle)
                os.close(handle)
                _reap(handles.pop(handle))
        return set(handles.values())
    finally:
        for handle in handles:
            os.close(handle)


def _reap(pid: int) -> None:
    """Collect a child of our own; others' children are theirs to collect."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
