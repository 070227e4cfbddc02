"""How long a virtual data centre takes to come, to be probed, and to go: the commands as a person types them. Markdown table."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from populated import need_root

NAME = "bench"


def calicoctl(environment: Mapping[str, str], *words: str) -> tuple[float, str]:
    """Seconds that a command took, and what it printed; it must succeed."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "calico.cli.main", *words],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - start
    if done.returncode:
        raise SystemExit(
            f"calicoctl {' '.join(words)} failed ({done.returncode}):\n{done.stdout}{done.stderr}"
        )
    return took, done.stdout


def measure(racks: int, hosts: int, workloads: int, backend: str) -> str:
    """One lab, as a row of the table."""
    shape = ("--racks", racks, "--hosts", hosts, "--workloads", workloads)
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "CALICO_RUN_DIR": directory}
        try:
            up, _ = calicoctl(
                environment, "lab", "up", "--name", NAME, "--no-probe", "--backend", backend, *map(str, shape)
            )
            probe, said = calicoctl(environment, "lab", "probe", "--name", NAME)
        finally:
            down, _ = calicoctl(environment, "lab", "down", "--name", NAME)
    summary = said.strip().splitlines()[-1]
    return (
        f"| {racks} x {hosts} x {workloads} | {racks * hosts} | {racks * hosts * workloads} "
        f"| {up:.1f} | {probe:.1f} | {down:.1f} | {summary} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="2x2x3,5x8x10", help="racks x hosts x workloads, separated by commas"
    )
    parser.add_argument("--backend", default="nftables")
    options = parser.parse_args()
    need_root()
    sizes = [re.fullmatch(r"(\d+)x(\d+)x(\d+)", size) for size in options.sizes.split(",")]
    if not all(sizes):
        parser.error("--sizes: write for example 2x2x3,5x8x10")
    print(f"{options.backend}; seconds on the clock\n")
    print("| racks x hosts x workloads | agents | workloads | up | probe | down | the probe says |")
    print("|---|--:|--:|--:|--:|--:|---|", flush=True)
    for size in sizes:
        assert size is not None
        print(measure(*map(int, size.groups()), options.backend), flush=True)


if __name__ == "__main__":
    main()
