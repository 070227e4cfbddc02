"""Hosts with a real BIRD, each in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from calico.bgp.control import Refused
from calico.bgp.daemon import Bird
from support.netns import Namespace, link, namespaces

T = TypeVar("T")


def eventually(holds: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``holds``; a test fails that waits in vain."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not come true within {seconds} s: {holds.__doc__ or holds}"
        time.sleep(0.1)


class Host:
    """A host with one uplink (eth0, which is there already), a workload interface (cali1), and its BIRD."""

    def __init__(self, name: str, namespace: Namespace, run_dir: Path, *addresses: str) -> None:
        self.name = name
        self.namespace = namespace
        self.run_dir = run_dir
        self.bird = Bird(run_dir)
        run_dir.mkdir()
        for address in addresses:
            nodad = ("nodad",) if ":" in address else ()
            namespace.run("ip", "address", "add", address, "dev", "eth0", *nodad)
        namespace.run("ip", "link", "add", "cali1", "type", "veth", "peer", "name", "inside")
        namespace.run("ip", "link", "set", "cali1", "up")
        namespace.run("ip", "link", "set", "inside", "up")

    def do(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine inside the host."""
        return self.namespace.call(lambda: asyncio.run(body()))

    def load(self, text: str) -> str:
        """Bring BIRD to a configuration."""
        return self.do(lambda: self.bird.ensure(text))

    def routes(self, prefix: str) -> list[str]:
        """The kernel's routes to exactly ``prefix``, in one form."""
        family = "-6" if ":" in prefix else "-4"
        lines = self.namespace.run("ip", family, "route", "show", "exact", prefix).stdout.splitlines()
        return [" ".join(line.split()) for line in lines]

    def sessions(self) -> dict[str, tuple[str, str]]:
        """State and time stamp of each session."""
        return {one.name: (one.info, one.since) for one in self.do(self.bird.sessions)}

    def established(self) -> bool:
        """Whether all sessions are up."""
        sessions = self.sessions()
        return bool(sessions) and all(info == "Established" for info, _ in sessions.values())

    def table(self, prefix: str) -> str:
        """What BIRD knows of exactly ``prefix``, with all attributes; nothing if it has no such route."""
        try:
            lines = self.do(lambda: self.bird.control.ask(f"show route for {prefix} all"))
        except Refused:
            return ""
        text = "\n".join(line.text for line in lines)
        return text if text.lstrip().startswith(f"{prefix} ") or f"\n{prefix} " in text else ""

    def learned(self, session: str) -> set[str]:
        """The prefixes that came through a session and were let in."""
        lines = self.do(lambda: self.bird.control.ask(f"show route protocol {session}"))
        return {line.text.split()[0] for line in lines if "/" in line.text.split(" ")[0]}

    def announced(self, family: int) -> set[str]:
        """The prefixes that pass the filter towards peers."""
        lines = self.do(lambda: self.bird.control.ask(f"show route filter to_peers{family}"))
        return {line.text.split()[0] for line in lines if "/" in line.text.split(" ")[0]}

    def kill(self) -> None:
        """End BIRD as a crash would."""
        os.kill(int((self.run_dir / "bird.pid").read_text()), signal.SIGKILL)
        eventually(lambda: not self.do(self.bird.running))

    @contextlib.contextmanager
    def route(self, *words: str) -> Iterator[None]:
        """A route that is there for a while, as the agent would write it for a workload."""
        family = "-6" if any(":" in word for word in words[:2]) else "-4"
        self.namespace.run("ip", family, "route", "add", *words)
        try:
            yield
        finally:
            self.namespace.run("ip", family, "route", "del", *words)


@contextlib.contextmanager
def rack(mark: str, directory: Path, *names: str) -> Iterator[dict[str, Host]]:
    """Hosts on one switch, the first with 10.0.0.1 and fd00::1, and so on; ``mark`` tells namespaces apart."""
    spaces = [f"t-bgp-{mark}{number}-{os.getpid()}" for number in range(len(names) + 1)]
    with namespaces(*spaces) as (switch, *members):
        switch.run("ip", "link", "add", "rack", "type", "bridge")
        switch.run("ip", "link", "set", "rack", "up")
        made = {}
        for number, (name, member) in enumerate(zip(names, members, strict=True), start=1):
            link(member, "eth0", switch, f"to-{name}")
            switch.run("ip", "link", "set", f"to-{name}", "master", "rack")
            made[name] = Host(name, member, directory / name, f"10.0.0.{number}/24", f"fd00::{number}/64")
        yield made


class Watched:
    """What happens to the routes of a host between two moments."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file = host.run_dir / "monitor.txt"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._file.open("w") as out:
            self._process = self._host.namespace.popen("ip", "-o", "monitor", "route", stdout=out)
        self._sentinel("192.0.2.200", "Deleted 192.0.2.200")
        return self

    def _sentinel(self, address: str, expected: str) -> None:
        """Make sure that the monitor has seen everything up to now: it reports in order."""

        def seen() -> bool:
            with self._host.route(address, "dev", "cali1"):
                pass
            return expected in self._file.read_text()

        eventually(seen)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._sentinel("192.0.2.201", "Deleted 192.0.2.201")
        self._process.terminate()
        self._process.wait(10)

    def deleted(self) -> list[str]:
        """Routes of BIRD that were taken away.

        BIRD cannot replace an IPv6 route without a gateway in one step, and writes all its routes anew after a
        restart: an IPv6 blackhole is away for an instant, in which no workload is missed.
        """
        return [
            line
            for line in self._file.read_text().splitlines()
            if line.startswith("Deleted")
            and "proto bird" in line
            and not line.startswith("Deleted blackhole fd")
        ]
