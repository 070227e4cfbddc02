"""How long a person waits for calicoctl: whole processes, from start to exit, and what they import.

    python -m benchmarks cli [--runs N] [--resources N]

On SQLite, then on an etcd of three members on loopback. Prints a markdown table each; each value is the median of N runs
(15), the first of each kind not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.etcd import Cluster, installed

CALICOCTL = [sys.executable, "-m", "calico.cli.main"]


def policies(count: int) -> str:
    return "".join(
        "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n"
        f"metadata: {{name: policy-{number}, namespace: shop}}\n"
        f"spec: {{order: {number}, selector: app == 'web-{number}', ingress: [{{action: Allow, protocol: TCP, "
        "destination: {ports: [80]}}]}\n"
        for number in range(count)
    )


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds on the clock and on the processor."""
    before = os.times()
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    spent = time.perf_counter() - began
    after = os.times()
    busy = after.children_user - before.children_user + after.children_system - before.children_system
    return spent * 1e3, busy * 1e3


def modules(command: list[str], environment: dict[str, str]) -> int:
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stderr.count("import time:")


def row(name: str, command: list[str], environment: dict[str, str], runs: int) -> None:
    run(command, environment)
    clock, busy = zip(*(run(command, environment) for _ in range(runs)), strict=True)
    print(
        f"| {name} | {statistics.median(clock):.0f} ms | {statistics.median(busy):.0f} ms"
        f" | {modules(command, environment)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--resources", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        places = {"DATA": "data", "RUN": "run", "CONFIG": "etc"}
        environment = os.environ | {
            f"CALICO_{key}_DIR": f"{directory}/{name}" for key, name in places.items()
        }
        (Path(directory) / "one.yaml").write_text(policies(1))
        (Path(directory) / "many.yaml").write_text(policies(options.resources))
        print("SQLite\n")
        measure(directory, environment, options)
        if installed:
            with Cluster.make(Path(directory), 3) as cluster:
                endpoints = ",".join(str(member.endpoint) for member in cluster.members)
                print("\netcd, 3 members\n")
                measure(
                    directory,
                    environment | {"DATASTORE_TYPE": "etcdv3", "ETCD_ENDPOINTS": endpoints},
                    options,
                )


def measure(directory: str, environment: dict[str, str], options: argparse.Namespace) -> None:
    """All commands on one store."""
    count = options.resources
    many = [*CALICOCTL, "apply", "-f", f"{directory}/many.yaml"]
    first, _ = run(many, environment)
    completing = environment | {
        "_CALICOCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "calicoctl get np -n shop policy-1",
        "COMP_CWORD": "5",
    }
    print("| command | clock | processor | modules |\n|---|--:|--:|--:|")
    row("python -c pass", [sys.executable, "-c", "pass"], environment, options.runs)
    row("calicoctl --help", [*CALICOCTL, "--help"], environment, options.runs)
    row("calicoctl version", [*CALICOCTL, "version", "--client"], environment, options.runs)
    row("calicoctl get nodes (none)", [*CALICOCTL, "get", "nodes"], environment, options.runs)
    row(f"calicoctl get np -A ({count})", [*CALICOCTL, "get", "np", "-A"], environment, options.runs)
    row(
        f"calicoctl get np -A -o yaml ({count})",
        [*CALICOCTL, "get", "np", "-A", "-o", "yaml"],
        environment,
        options.runs,
    )
    row("completion of a name", CALICOCTL, completing, options.runs)
    print(f"| calicoctl apply ({count} new, once) | {first:.0f} ms | | |")
    row(
        "calicoctl apply (1, unchanged)",
        [*CALICOCTL, "apply", "-f", f"{directory}/one.yaml"],
        environment,
        options.runs,
    )
    row(f"calicoctl apply ({count}, unchanged)", many, environment, options.runs)


if __name__ == "__main__":
    main()
