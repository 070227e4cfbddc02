"""What of a table a packet of some interfaces can meet."""

from __future__ import annotations

from calico.model.address import parse_cidr
from calico.ruleset import ast
from calico.ruleset.reached import reached

HOOK = ast.Hook("filter", "forward")


def rule(*matches: ast.Match, then: ast.Statement) -> ast.Rule:
    return ast.Rule(matches, (then,))


def table() -> ast.Table:
    return ast.Table(
        4,
        chains={
            "filter-FORWARD": ast.Chain((rule(then=ast.Jump("dispatch")), rule(then=ast.Drop())), HOOK),
            "dispatch": ast.Chain((rule(then=ast.Dispatch("in", "map")),)),
            "one": ast.Chain((rule(ast.InSet("source", "friends"), then=ast.Jump("policy")),)),
            "two": ast.Chain((rule(ast.PortInSet("destination", "ports"), then=ast.Goto("policy")),)),
            "policy": ast.Chain(
                (rule(ast.Address("source", parse_cidr("10.0.0.1")), then=ast.Goto("policy")),)
            ),
            "orphan": ast.Chain((rule(ast.InSet("source", "nobody"), then=ast.Return()),)),
        },
        maps={"map": {"cali1": ast.Goto("one"), "cali2": ast.Goto("two"), "cali3": ast.Drop()}},
    )


def test_only_the_way_of_its_own_interface_is_met() -> None:
    """A dispatch leads to the chain of the interface, with what that chain asks and jumps to; loops end."""
    found = reached(table(), ["cali1"])
    assert found.chains == {"filter-FORWARD", "dispatch", "one", "policy"}
    assert (found.sets, found.maps) == ({"friends"}, {"map"})


def test_without_interfaces_every_way_is_met() -> None:
    """What is met by nobody at all is still left out."""
    found = reached(table(), [])
    assert found.chains == table().chains.keys() - {"orphan"}
    assert found.sets == {"friends", "ports"}
