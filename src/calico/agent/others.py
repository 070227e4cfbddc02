"""Who else is in the packet filter: a former back end of ours, which goes, and others, whose drops are named.

In:   the host, once everything is programmed, and again when others have changed the packet filter.
Out:  nothing of the back ends that we no longer use; ``warnings``, a sentence for each chain of others that can drop
      what policy allows, with what to do.
Next: ``agent.loop`` calls ``look`` in its kernel thread, and reports the warnings.

A former back end is taken away only behind a complete new one: meanwhile a packet must please both, so that nothing is
open at any moment. Rules of others are read and never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from calico.programming.backend import ProgrammingError
from calico.programming.foreign import Foreign
from calico.ruleset.foreign import Finding

_IPTABLES_TABLES: Final = ("ip", "ip6")


class Others:
    """``remove_former`` takes our other back ends away, and says in words what it removed."""

    def __init__(self, backend: str, prefixes: Iterable[str], remove_former: Callable[[], list[str]]) -> None:
        self._prefixes = tuple(prefixes)
        self._foreign = Foreign(backend, self._prefixes)
        self._remove_former = remove_former
        self._alone = False
        self.warnings: tuple[str, ...] = ()

    def look(self) -> list[str]:
        """Take former back ends away if that was not done yet: what was removed; and bring the warnings up to date.

        Raises ProgrammingError where a former back end stays; to be called again.
        """
        removed: list[str] = []
        if not self._alone:
            removed = self._remove_former()
            self._alone = True
        try:
            found = self._foreign.findings()
        except ProgrammingError as error:
            self.warnings = (f"foreign: the rules of others cannot be read: {error}",)
        else:
            self.warnings = tuple(sentence(finding, self._prefixes) for finding in found)
        return removed


def sentence(finding: Finding, prefixes: Iterable[str]) -> str:
    """A finding for people: where, what, and the remedy that its owner's tool has."""
    what = f"the {finding.hook} chain {finding.chain} of table {finding.family} {finding.table}"
    return (
        f"foreign: {what} can drop what policy allows: {finding.what}. A drop of others wins over our accept, and we "
        f"never change their rules. {_remedy(finding, tuple(prefixes))}"
    )


def _remedy(finding: Finding, prefixes: tuple[str, ...]) -> str:
    if finding.table == "firewalld":
        added = " ".join(f"--add-interface={prefix}+" for prefix in prefixes)
        return f"Trust the workloads' interfaces: firewall-cmd --permanent --zone=trusted {added}; firewall-cmd --reload"
    if finding.family in _IPTABLES_TABLES and finding.table == "filter":
        program = "iptables" if finding.family == "ip" else "ip6tables"
        ways = ("-i", "-o") if finding.hook == "forward" else ("-i",)
        rules = [
            f"{program} -I {finding.chain} {way} {prefix}+ -j ACCEPT" for prefix in prefixes for way in ways
        ]
        where = (
            " (in Docker's DOCKER-USER, or with ufw in before.rules, they last)"
            if finding.hook == "forward"
            else ""
        )
        return f"Accept them there first{where}: {'; '.join(rules)}"
    keys = ("iifname", "oifname") if finding.hook == "forward" else ("iifname",)
    place = f"{finding.family} {finding.table} {finding.chain}"
    rules = [f"nft insert rule {place} {key} '\"{prefix}*\"' accept" for prefix in prefixes for key in keys]
    return f"Have them accepted there first: {'; '.join(rules)}"
