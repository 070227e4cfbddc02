"""Network namespaces for tests: made by a test, gone after it, also when it fails."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: network namespaces and the packet filter"
)


class Namespace:
    """A named network namespace with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 30,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; output is captured as text, a failure shows it."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=timeout,
            env=None if env is None else {**os.environ, **env},
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} in {self.name} failed ({done.returncode}): {done.stdout}{done.stderr}"
            )
        return done

    def popen(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start a command inside; the caller ends it."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], text=True, **options)  # type: ignore[call-overload, no-any-return]

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` in a thread of its own that is inside; its result, or its exception raised here."""
        result: list[T] = []
        problem: list[BaseException] = []

        def body() -> None:
            try:
                _enter(self.path)
                result.append(function())
            except BaseException as error:  # noqa: BLE001 - all of them are raised again, in the caller's thread
                problem.append(error)

        thread = threading.Thread(target=body, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if problem:
            raise problem[0]
        return result[0]

    def remove(self) -> None:
        """Kill what still runs inside, then delete the namespace."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.name], check=False, capture_output=True, text=True
        ).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def _enter(path: str) -> None:
    with Path(path).open("rb") as handle:
        if _LIBC.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[list[Namespace]]:
    """Several namespaces, all removed at the end."""
    made: list[Namespace] = []
    try:
        made.extend(Namespace(name) for name in names)
        yield made
    finally:
        for namespace in made:
            namespace.remove()


def link(one: Namespace, one_name: str, other: Namespace, other_name: str) -> None:
    """Join two namespaces by a veth pair, both ends up."""
    subprocess.run(
        [
            "ip",
            "link",
            "add",
            one_name,
            "netns",
            one.name,
            "type",
            "veth",
            "peer",
            "name",
            other_name,
            "netns",
            other.name,
        ],
        check=True,
    )
    one.run("ip", "link", "set", one_name, "up")
    other.run("ip", "link", "set", other_name, "up")
