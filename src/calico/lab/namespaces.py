"""Network namespaces of a lab: built from ``Wiring``, entered, read, and taken away.

In:   names of namespaces, ``Wiring``.
Out:  namespaces under /run/netns as ip-netns(8) makes them; what their routing tables hold.
Next: ``scenario`` starts routers and agents in them, ``probe`` opens its sockets there.

Commands go to iproute2 in batches, one process for a namespace and none for an object, four at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from calico.lab.wiring import Settings, Wiring, namespace

HOME: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_AT_ONCE: Final = 4
_TIMEOUT: Final = 120.0
_FAILED_LINE: Final = re.compile(r"Command failed -:([0-9]+)")


class NamespaceError(Exception):
    """iproute2 or the kernel refused a step; what was made before it is still there, ``lab down`` removes it."""


def existing() -> frozenset[str]:
    """The names of the machine's network namespaces."""
    try:
        return frozenset(entry.name for entry in HOME.iterdir())
    except FileNotFoundError:
        return frozenset()


def enter(name: str) -> None:
    """Move the calling thread into a namespace, for good. FileNotFoundError if there is none."""
    with (HOME / name).open("rb") as handle:
        _setns(handle.fileno())


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread is inside ``name`` for the length of the block; sockets opened there stay there."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        enter(name)
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def command(name: str, words: Iterable[str]) -> list[str]:
    """The command line that runs ``words`` inside ``name``, with the /sys that belongs to it."""
    return ["ip", "netns", "exec", name, *words]


def build(wiring: Wiring, lab: str, told: Callable[[int, int], None] | None = None) -> None:
    """Make the namespaces that do not exist yet, lay the cables, and run every namespace's commands.

    ``told`` hears how many namespaces are ready, and of how many.
    """
    present = existing()
    nodes = [node for node in wiring.settings if namespace(lab, node) not in present]
    _batch(["ip", "-batch", "-"], [f"netns add {namespace(lab, node)}" for node in nodes])
    for node, settings in wiring.settings.items():
        with inside(namespace(lab, node)):
            write(settings)
    _batch(["ip", "-batch", "-"], wiring.cables)

    def run(item: tuple[str, tuple[str, ...]]) -> None:
        node, lines = item
        _batch(["ip", "-n", namespace(lab, node), "-batch", "-"], lines)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, _ in enumerate(pool.map(run, wiring.commands.items()), start=1):
            if told is not None:
                told(done, len(wiring.commands))


def write(settings: Settings) -> None:
    """Write kernel settings of the namespace that the calling thread is in; those the kernel lacks are passed over."""
    for path, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net", path).write_text(value)


def _batch(words: list[str], lines: Iterable[str]) -> None:
    lines = tuple(lines)
    if not lines:
        return
    done = subprocess.run(
        words,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip()
        found = _FAILED_LINE.search(said)
        line = lines[int(found[1]) - 1] if found and int(found[1]) <= len(lines) else "the batch"
        where = f" in {words[2]}" if words[1] == "-n" else ""
        raise NamespaceError(
            f"ip refused '{line}'{where}: {said.splitlines()[0] if said else 'no reason given'}"
        )


def occupants(names: Collection[str]) -> dict[int, str]:
    """The processes that live in the namespaces: pid, and the namespace's name."""
    homes = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            homes[(HOME / name).stat().st_ino] = name
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inode = (entry / "ns" / "net").stat().st_ino
        except OSError:  # gone meanwhile
            continue
        if inode in homes:
            found[int(entry.name)] = homes[inode]
    return found


def remove(names: Iterable[str]) -> tuple[str, ...]:
    """Delete namespaces, with all that is in them; those that do not exist are passed over. What could not be deleted."""
    present = existing()
    doomed = [name for name in names if name in present]
    if not doomed:
        return ()
    subprocess.run(
        ["ip", "-force", "-batch", "-"],
        input="".join(f"netns del {name}\n" for name in doomed),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    left = existing()
    return tuple(name for name in doomed if name in left)


def routes(names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Every route of every table of each namespace, as ``ip -json route`` tells them, with ``family`` 4 or 6 added."""

    def read(name: str) -> tuple[str, list[dict[str, Any]]]:
        rows: list[dict[str, Any]] = []
        for family in (4, 6):
            text = _output("ip", "-n", name, f"-{family}", "-json", "route", "show", "table", "all")
            rows += [{**row, "family": family} for row in json.loads(text or "[]")]
        return name, rows

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(pool.map(read, names))


def forwards(names: Iterable[str]) -> dict[str, frozenset[int]]:
    """The address families that each namespace forwards."""
    result = {}
    for name in names:
        with inside(name):
            result[name] = frozenset(
                family
                for family, path in ((4, "ipv4/ip_forward"), (6, "ipv6/conf/all/forwarding"))
                if Path("/proc/sys/net", path).read_text().strip() == "1"
            )
    return result


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise NamespaceError(f"{' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout
