"""Whether the kernel holds what is meant for one endpoint, as an answer to whoever asks.

In:   what the back end found different, the tables as they should be, and the endpoint's interfaces.
Out:  ``concerned``: the differences on the endpoint's way, in words, with the rules at stake; and those elsewhere.
Next: ``agent.loop`` answers with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from calico.programming.backend import Drift
from calico.ruleset import ast
from calico.ruleset.provenance import describe
from calico.ruleset.reached import Reached, reached

MOST_RULES: Final = 5
"""Rules of a chain that are named, where it is not known which of them is another one."""


class Concerned(NamedTuple):
    """Differences in words: those that packets of the endpoint can meet, and how many others there are."""

    differences: tuple[str, ...]
    elsewhere: int


def concerned(
    drifts: Iterable[Drift], tables: Mapping[ast.TableFamily, ast.Table], interfaces: Collection[str]
) -> Concerned:
    """The differences that concern an endpoint with these interfaces; with none, any interface is meant."""
    met = {family: reached(table, interfaces) for family, table in tables.items()}
    mine: list[str] = []
    elsewhere = 0
    for drift in drifts:
        table = tables[drift.family]
        if _on_the_way(drift.what, table, met[drift.family]):
            family = "ARP" if drift.family == "arp" else f"IPv{drift.family}"
            mine.append(f"{family} {drift.what}: {drift.found}{_rules(drift.what, table)}")
        else:
            elsewhere += 1
    return Concerned(tuple(mine), elsewhere)


def _on_the_way(what: str, table: ast.Table, met: Reached) -> bool:
    """Whether an object is met; what is not known to be elsewhere counts as met."""
    kind, _, rest = what.partition(" ")
    name = rest.partition(" ")[0]
    match kind:
        case "chain":
            return name in met.chains
        case "set":
            return name in met.sets or name not in table.sets
        case "map":
            return name in met.maps or name not in table.maps
    return True


def _rules(what: str, table: ast.Table) -> str:
    """The operator's rules that a chain consists of."""
    kind, _, rest = what.partition(" ")
    chain = table.chains.get(rest.partition(" ")[0]) if kind == "chain" else None
    if chain is None:
        return ""
    origins = [
        origin for rule in chain.rules for origin in (rule.merged or (rule.origin,)) if origin is not None
    ]
    named = [*dict.fromkeys(map(describe, origins))]
    if not named:
        return ""
    more = f" and {len(named) - MOST_RULES} more" if len(named) > MOST_RULES else ""
    return f" (the chain is: {'; '.join(named[:MOST_RULES])}{more})"
