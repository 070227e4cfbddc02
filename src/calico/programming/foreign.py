"""Read what others have in the packet filter that can drop what we accept. Nothing is ever written.

In:   the kernel's packet filter, in the network namespace of the calling thread; which back end is ours.
Out:  ``Finding`` for each base chain of others in the way.
Next: ``agent.others`` puts them into words.

Only tables with a base chain in the forward or input hook are read. Those of kube-proxy refuse what its services refuse,
and are left out. Tables of the iptables that is our own back end are left out too: there our accept stands in the
same chain, behind the rules of others, which is where their owner put them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from shutil import which
from typing import Final

from calico.model.address import Family
from calico.programming.backend import ProgrammingError
from calico.programming.command import run
from calico.programming.iptables import has_legacy_table
from calico.programming.libnftables import Runner, runner
from calico.ruleset.foreign import Finding, findings, tables_in_the_way
from calico.ruleset.nft import TABLE

_IPTABLES_TABLES: Final = frozenset({"filter", "mangle", "nat", "raw", "security"})
_NOT_IN_THE_WAY: Final = frozenset({"kube-proxy"})
_LEGACY: Final[dict[Family, str]] = {4: "iptables-legacy-save", 6: "ip6tables-legacy-save"}
_NFT_FAMILY: Final[dict[Family, str]] = {4: "ip", 6: "ip6"}


class Foreign:
    """Reads the tables of others. Use one from one thread, in one network namespace."""

    def __init__(self, backend: str, prefixes: Iterable[str], run_nft: Runner | None = None) -> None:
        self._backend = backend
        self._prefixes = tuple(prefixes)
        self._runner = run_nft

    def findings(self) -> list[Finding]:
        """What can drop packets of workloads though policy allows them. Raises ProgrammingError."""
        found: list[Finding] = []
        if self._runner is None and which("nft") is not None:
            self._runner = runner()
        if self._runner is not None:
            for family, table in list(tables_in_the_way(self._runner.list_chains(), TABLE)):
                if table in _NOT_IN_THE_WAY or (
                    self._backend == "iptables-nft" and family != "inet" and table in _IPTABLES_TABLES
                ):
                    continue
                listed = self._runner.list_table(family, table)
                if listed is not None:
                    found += findings(listed, self._prefixes)
        if self._backend == "nftables":
            found += self._legacy()
        return found

    def _legacy(self) -> Iterator[Finding]:
        """Policies of the older iptables, which nftables does not show."""
        for family, program in _LEGACY.items():
            if not has_legacy_table(family, "filter") or which(program) is None:
                continue
            try:
                saved = run(program, "-t", "filter")
            except ProgrammingError:
                continue  # it went while we looked
            if any(line.startswith(":FORWARD DROP") for line in saved.splitlines()):
                yield Finding(_NFT_FAMILY[family], "filter", "FORWARD", "forward", "its policy, drop")
