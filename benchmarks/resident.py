"""What an agent and its BIRD cost a host that nothing happens on: memory and processor time. Markdown table.

Two agents are measured, each in a network namespace: one with nothing in its store, and one with 100 workloads of its own and
1,000 elsewhere. BIRD has no neighbours: what a session costs, the lab shows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from populated import NODE, Size, fill, furnish, need_root

from calico.agent.status import AgentUnreachableError, ask
from support.host import Cloud, eventually
from support.netns import Namespace, namespaces

TICKS = os.sysconf("SC_CLK_TCK")


EMPTY = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}}"
"""A store must be there: an agent makes none."""


class Cost(NamedTuple):
    """Of one process: resident and private memory in MiB, and processor time in milliseconds for each second."""

    resident: float
    private: float
    processor: float


def memory(pid: int) -> tuple[float, float]:
    """Resident memory, and what of it no other process shares, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return sizes["Rss"] / 1024, (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024


def spent(pid: int) -> float:
    """Processor time of a process and of the programs that it ran, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


@contextlib.contextmanager
def agent(inside: Namespace, directory: Path, backend: str) -> Iterator[subprocess.Popen[str]]:
    """An agent that also runs BIRD; both are gone at the end with the namespace."""
    places = {f"CALICO_{name}_DIR": str(directory) for name in ("RUN", "DATA", "CONFIG")}
    environment = {
        **os.environ,
        **places,
        "DATASTORE_TYPE": "sqlite",
        "CALICO_SQLITE_PATH": str(directory / "calico.db"),
    }
    command = (sys.executable, "-m", "calico.cli.main", "agent", "--node", NODE, "--backend", backend)
    with (directory / "agent.log").open("w") as log:
        process = inside.popen(*command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def programmed(directory: Path) -> bool:
    """Whether the agent has done all that it has to do, BIRD included."""
    try:
        status = ask(directory / "agent.sock", {"command": "status"})
    except AgentUnreachableError:
        return False
    return bool(status["programmed"] and status["bgp"]["running"])


def measure(size: Size | None, backend: str, seconds: float) -> dict[str, Cost]:
    """One host at rest: the agent and BIRD."""
    with (
        tempfile.TemporaryDirectory() as name,
        namespaces(f"bench-{os.getpid()}-rest") as (inside,),
    ):
        directory = Path(name)
        if size is not None:
            furnish(inside, size)
            fill(directory / "calico.db", size)
        else:
            Cloud(directory).apply(EMPTY)
        with agent(inside, directory, backend) as process:
            eventually(lambda: programmed(directory), within=120, what="everything is programmed")
            time.sleep(min(seconds, 10.0))
            pids = {"agent": process.pid, "BIRD": int((directory / "bird.pid").read_text())}
            before = {what: spent(pid) for what, pid in pids.items()}
            time.sleep(seconds)
            return {
                what: Cost(*memory(pid), (spent(pid) - before[what]) / seconds * 1e3)
                for what, pid in pids.items()
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=200, help="how long to watch (two full refreshes fit in)"
    )
    parser.add_argument("--local", type=int, default=100)
    parser.add_argument("--remote", type=int, default=1000)
    parser.add_argument("--policies", type=int, default=50)
    parser.add_argument("--backend", default="nftables")
    options = parser.parse_args()
    need_root()
    full = Size(options.local, options.remote, options.policies)
    print(f"{options.backend}, watched for {options.seconds:g} s after everything was programmed\n")
    print("| host | process | resident MiB | private MiB | processor ms/s |")
    print("|---|---|--:|--:|--:|", flush=True)
    for name, size in (
        ("nothing to do", None),
        (f"{full.local:,} workloads of {full.local + full.remote:,}, {full.policies:,} policies", full),
    ):
        for what, cost in measure(size, options.backend, options.seconds).items():
            print(
                f"| {name} | {what} | {cost.resident:.1f} | {cost.private:.1f} | {cost.processor:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
