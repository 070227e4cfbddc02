"""A whole lab for tests, as somebody at a terminal has it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calico.lab import namespaces
from calico.lab.wiring import namespace

ISOLATE = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: isolate-bank}
spec:
  order: 10
  selector: tenant == 'bank'
  types: [Ingress, Egress]
  ingress: [{action: Allow, source: {selector: tenant == 'bank'}}, {action: Deny}]
  egress: [{action: Allow, destination: {selector: tenant == 'bank'}}, {action: Deny}]
"""


class Lab:
    """A lab as somebody at a terminal has it."""

    def __init__(self, run: Path, name: str) -> None:
        self.name = name
        self.root = run
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("CALICO_", "DATASTORE_"))
        }
        self.environment = {**kept, "CALICO_RUN_DIR": str(run)}

    def calicoctl(
        self, *words: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            env=self.environment,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "calico.cli.main", "--lab", self.name, *words]

    def inside(self, node: str, *words: str, check: bool = True) -> str:
        return self.calicoctl("lab", "exec", node, "--", *words, check=check).stdout

    def address(self, node: str, version: int = 4) -> str:
        found = self.status()["workloads"]
        addresses = next(workload["addresses"] for workload in found if workload["name"] == node)
        return str(addresses[version == 6])

    def status(self, *, check: bool = True) -> dict[str, Any]:
        shown = self.calicoctl("lab", "status", "-o", "json", check=check).stdout
        report: dict[str, Any] = json.loads(shown)
        return report

    def spaces(self) -> list[str]:
        return [name for name in namespaces.existing() if name.startswith(namespace(self.name, ""))]


@contextlib.contextmanager
def small_lab(directory: Path, mark: str, *options: str) -> Iterator[Lab]:
    """Two racks with one host each, two tenants on each, and the bare-metal host; gone without a trace at the end."""
    made = Lab(directory, f"t{os.getpid()}{mark}")
    size = ("--racks", "2", "--hosts", "1", "--workloads", "2")
    try:
        assert (
            "all as policy says" in made.calicoctl("lab", "up", "--name", made.name, *size, *options).stdout
        )
        yield made
    finally:
        made.calicoctl("lab", "down")
        assert made.spaces() == []
        assert list(made.root.iterdir()) == [] if made.root.exists() else True


def until(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come to be within {seconds} s"
        time.sleep(0.1)


def pings(lab: Lab, source: str, target: str) -> bool:
    return "1 received" in lab.inside(source, "ping", "-4", "-c1", "-W1", target, check=False)
