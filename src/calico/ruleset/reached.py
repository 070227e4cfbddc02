"""What of a table a packet of some interfaces can meet.

In:   a table, and the names of interfaces.
Out:  ``Reached``: the chains, sets and maps on the way from the hooks.
Next: ``agent.proof`` tells differences that concern an endpoint from all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from calico.ruleset import ast


class Reached(NamedTuple):
    """Names of objects of one table."""

    chains: frozenset[str]
    sets: frozenset[str]
    maps: frozenset[str]


def reached(table: ast.Table, interfaces: Collection[str]) -> Reached:
    """All that can be met from the hooks on; of maps only the entries of ``interfaces``, or all if there are none."""
    waiting = [name for name, chain in table.chains.items() if chain.hook is not None]
    chains: set[str] = set()
    sets: set[str] = set()
    maps: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in chains or name not in table.chains:
            continue
        chains.add(name)
        for rule in table.chains[name].rules:
            sets |= {match.set for match in rule.matches if isinstance(match, ast.InSet | ast.PortInSet)}
            for statement in rule.statements:
                if isinstance(statement, ast.Dispatch):
                    maps.add(statement.map)
                waiting += _targets(table, statement, interfaces)
    return Reached(frozenset(chains), frozenset(sets), frozenset(maps))


def _targets(table: ast.Table, statement: ast.Statement, interfaces: Collection[str]) -> Iterator[str]:
    match statement:
        case ast.Jump(chain) | ast.Goto(chain):
            yield chain
        case ast.Dispatch(map=name):
            for interface, verdict in table.maps.get(name, {}).items():
                if not interfaces or interface in interfaces:
                    yield from _targets(table, verdict, interfaces)
