"""What 10 to 10,000 policies are in the kernel: rules, set members, the size of a transaction and how long it takes.

Run as root: ``python -m benchmarks policies``, or quickly ``python -m benchmarks policies --sizes 10 100``.
Works in a network namespace of its own, which goes with the process.

All policies are of one tier and apply to one endpoint; each allows one address one port. For both back ends: everything
at once, then one policy that changes its port and one that comes, medians of a few. "rendering" is from rows to the
change; "kernel" is until the back end has the kernel's word for it. The rows "one by one" are without merging.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    Side,
    TierRow,
)
from calico.model.address import Cidr
from calico.model.settings import Settings
from calico.programming import ipset, iptables
from calico.programming.command import run
from calico.programming.libnftables import runner
from calico.programming.nft import Nftables
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from calico.ruleset.iptables import Compiler
from calico.ruleset.merge import LEAST
from support.backends import NAMES, make_backend

CLONE_NEWNET = 0x40000000
TIMES = 5
NEVER = 1 << 30
ENDPOINT = EndpointId("WorkloadEndpoint", "default", "w")


def policy(number: int) -> PolicyId:
    """The policy of this number."""
    return PolicyId("GlobalNetworkPolicy", "", f"policy-{number}")


def rows(number: int, port: int = 80) -> PolicyRow:
    """One rule: this address may come to this port."""
    rule = RuleRow(
        "Allow",
        Origin("GlobalNetworkPolicy", "default", "", f"policy-{number}", "ingress", 0),
        protocol=6,
        source=Side(nets=(Cidr(4, (10 << 24) + number, 32),)),
        destination=Side(ports=((port, port),)),
    )
    return PolicyRow((rule,), ())


def endpoint(size: int) -> EndpointRow:
    """An endpoint to which the first policies apply."""
    tier = TierRow("default", "Deny", tuple(policy(number) for number in range(size)))
    return EndpointRow("cali1", (), (tier,), (), ())


class Counting:
    """Counts the bytes that are handed to nft, iptables-restore and ipset."""

    def __init__(self) -> None:
        self.bytes = 0
        self._nft = runner()
        self.list_table, self.list_chains = self._nft.list_table, self._nft.list_chains

    def run(self, text: str) -> None:
        """As ``libnftables`` does."""
        self.bytes += len(text)
        self._nft.run(text)

    def program(
        self, *command: str, stdin: str | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """As ``command.run`` does."""
        self.bytes += len(stdin or "")
        return run(*command, stdin=stdin, environment=environment)


def rules_in(table: ast.Table, backend: str) -> int:
    """Rules that the kernel has of a table."""
    if backend == "nftables":
        return sum(len(chain.rules) for chain in table.chains.values())
    images = Compiler(table).images()
    return sum(len(rules) for image in images.values() for rules in image.chains.values())


def measured(name: str, size: int, *, merged: bool, directory: Path) -> list[str]:
    """A row of the table."""
    counting = Counting()
    iptables.run = ipset.run = counting.program  # type: ignore[assignment]
    backend = Nftables(counting) if name == "nftables" else make_backend(name, directory / "xtables.lock")
    renderer = Renderer(Settings(), LEAST if merged else NEVER)
    backend.sync({family: ast.Table(family) for family in renderer.tables})
    numbers = count(1)
    changes: dict[str, Callable[[], Delta]] = {
        "all": lambda: Delta(
            policies={policy(number): rows(number) for number in range(size)},
            endpoints={ENDPOINT: endpoint(size)},
        ),
        "a port": lambda: Delta(policies={policy(size // 2): rows(size // 2, 1000 + next(numbers))}),
        "one more": lambda: Delta(
            policies={policy(size + (new := next(numbers))): rows(size + new)},
            endpoints={ENDPOINT: endpoint(size + new + 1)},
        ),
    }
    cells: list[str] = []
    for what, make in changes.items():
        rendering, kernel, sizes = [], [], []
        for _ in range(1 if what == "all" else TIMES):
            delta, counting.bytes = make(), 0
            start = time.perf_counter()
            change = renderer.update(delta)
            middle = time.perf_counter()
            backend.apply(change)
            rendering.append(middle - start)
            kernel.append(time.perf_counter() - middle)
            sizes.append(counting.bytes)
        if what == "all":
            table = renderer.tables[4]
            cells += [f"{rules_in(table, name):,}", f"{sum(len(held) for held in table.members.values()):,}"]
        cells += [
            f"{statistics.median(sizes):,.0f}",
            f"{statistics.median(rendering) * 1e3:.1f}",
            f"{statistics.median(kernel) * 1e3:.1f}",
        ]
    backend.remove()
    return cells


def main() -> None:
    """Read the options, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000], help="policies")
    parser.add_argument("--backends", nargs="+", choices=NAMES, default=["nftables", "iptables-nft"])
    options = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit(f"no namespace of its own: {os.strerror(ctypes.get_errno())}; run as root")
    head = ["back end", "policies", "rules", "members"]
    for what in ("all", "a port", "one more"):
        head += [f"{what}: bytes", "rendering ms", "kernel ms"]
    print("Policies of one tier for one endpoint, each of one rule\n")
    print(f"| {' | '.join(head)} |\n|---|---{'|--:' * (len(head) - 2)}|")
    with tempfile.TemporaryDirectory() as directory:
        for name in options.backends:
            for merged in (False, True):
                for size in options.sizes:
                    cells = measured(name, size, merged=merged, directory=Path(directory))
                    words = f"{size:,}, {'merged' if merged else 'one by one'}"
                    print(f"| {' | '.join([name, words, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
