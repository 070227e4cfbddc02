"""What a lab remembers of itself, on disk: written before each thing is made, read by every later command.

In:   the directory of all labs (/run/calico/lab), a lab's name.
Out:  ``LabDirectory``: the lab's files, its ``State``, the processes it started, and a lock.
Next: ``scenario`` fills it; ``cli.stores`` finds the store in it.

A lab that was interrupted half-way has a ``state.json`` that names everything it may have made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from calico.lab.topology import LAB_NAME, Topology
from calico.lab.wiring import namespace
from calico.paths import DATABASE

STATE: Final = "state.json"
PROCESSES: Final = "processes.json"


class LabError(Exception):
    """A lab cannot do what was asked; the sentence says why, and what to do."""


class NotBegun(LabError):
    """A lab of that name cannot be built, or is there already; nothing was touched."""


class Unreadable(LabError):
    """A lab's record is damaged, or another version wrote it. ``lab down`` removes the lab all the same."""


class Process(msgspec.Struct, frozen=True):
    """A process of the lab. ``started`` is its start time in clock ticks since boot: pids are used again, pairs are not."""

    role: Literal["router", "store", "agent", "responder"]
    node: str
    pid: int
    started: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is, or may be, there. ``addresses`` maps workloads to theirs, without lengths."""

    name: str
    phase: Literal["building", "up"]
    created: str
    backend: str
    topology: Topology
    addresses: Mapping[str, tuple[str, ...]] = {}
    ports: tuple[str, ...] = ()
    neighbour_entries: int = 0

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The network namespaces that it may have made."""
        return tuple(namespace(self.name, node) for node in self.topology.nodes)


class LabDirectory:
    """The files of one lab, under ``root / name``.

    NotBegun where ``name`` cannot name a lab: no name leads to a directory that is somebody else's.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not LAB_NAME.fullmatch(name):
            raise NotBegun(
                f"{name!r} cannot name a lab: a lower-case letter, then up to 15 lower-case letters and digits"
            )
        self.root = root
        self.name = name
        self.path = root / name

    @property
    def store(self) -> Path:
        """The store that its hosts share, if it is embedded."""
        return self.path / DATABASE

    @property
    def hosts_file(self) -> Path:
        """What programs inside the lab find as /etc/hosts."""
        return self.path / "hosts.txt"

    @property
    def responder(self) -> Path:
        """What the responder was told, and beside it its log."""
        return self.path / "responder.json"

    def router(self, name: str) -> Path:
        """The directory of a router's BIRD."""
        return self.path / "routers" / name

    def member(self, name: str) -> Path:
        """The directory of a member of the store, with its data."""
        return self.path / "members" / name

    def host(self, name: str) -> Path:
        """The directory of a host: its ``run``, ``data`` and ``etc``, and its agent's log."""
        return self.path / "hosts" / name

    def exists(self) -> bool:
        """Whether anything of the lab is on disk."""
        return self.path.exists()

    def read(self) -> State | None:
        """The state, or None where none was written. Unreadable where what is there is no state."""
        try:
            return msgspec.json.decode((self.path / STATE).read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise Unreadable(
                f"the record of lab {self.name!r}, {self.path / STATE}, is damaged or of another version ({error}); "
                f"remove the lab: calicoctl lab down --name {self.name}"
            ) from error

    def write(self, state: State) -> None:
        """Replace the state, whole or not at all."""
        self._replace(STATE, msgspec.json.encode(state))

    def processes(self) -> tuple[Process, ...]:
        """The processes that were started and not yet seen to end; none where the list cannot be read."""
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self.path / PROCESSES).read_bytes(), type=tuple[Process, ...])
        return ()

    def write_processes(self, processes: tuple[Process, ...]) -> None:
        """Replace the list of processes."""
        self._replace(PROCESSES, msgspec.json.encode(processes))

    def _replace(self, name: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        fresh = self.path / f".{name}"
        fresh.write_bytes(content)
        fresh.replace(self.path / name)

    def remove(self) -> None:
        """Delete the lab's files, and the directories above that are left empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        remove_empty(self.root, self.root.parent)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else builds or removes this lab for the length of the block. NotBegun if somebody does already."""
        descriptor = self._lock()
        try:
            yield
        finally:
            # While it is still locked: whoever waits for this directory finds that it is another one now.
            remove_empty(self.path, self.root, self.root.parent)
            os.close(descriptor)

    def _lock(self) -> int:
        """The lab's directory, open and locked; it is the one that stands there, not one that was removed meanwhile."""
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == self.path.stat().st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(descriptor)
                raise NotBegun(
                    f"another command is building or removing lab {self.name!r}; wait for it to end"
                ) from None
            os.close(descriptor)


def remove_empty(*directories: Path) -> None:
    """Delete directories, innermost first, as long as they are empty."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:  # it holds something, or is gone
            if directory.exists():
                return


def labs(root: Path) -> tuple[str, ...]:
    """The names of all labs, half-built ones too."""
    if not root.is_dir():
        return ()
    return tuple(
        sorted(
            entry.name
            for entry in root.iterdir()
            if LAB_NAME.fullmatch(entry.name) and (entry / STATE).exists()
        )
    )
