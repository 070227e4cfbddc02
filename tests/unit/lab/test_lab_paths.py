"""Walking routing tables: where packets would arrive, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from calico.lab.paths import Network, Table

BOTH = frozenset({4, 6})


def local(address: str) -> dict[str, Any]:
    return {"type": "local", "dst": address, "dev": "lo", "table": "local", "family": 4}


def route(dst: str, dev: str, gateway: str = "", **more: Any) -> dict[str, Any]:
    family = 6 if ":" in gateway + dst else 4
    return {
        "dst": dst,
        "dev": dev,
        "family": family,
        "flags": [],
        **({"gateway": gateway} if gateway else {}),
        **more,
    }


def network(**changes: list[dict[str, Any]]) -> Network:
    """A workload w behind host a, router r, host b."""
    tables = {
        "w": [local("10.9.0.1"), route("169.254.1.1", "eth0"), route("default", "eth0", "169.254.1.1")],
        "a": [local("10.0.0.1"), route("10.9.0.1", "caliw"), route("default", "eth0", "10.0.0.2")],
        "r": [
            local("10.0.0.2"),
            local("10.0.1.2"),
            route("10.0.0.0/24", "left"),
            route("10.0.1.0/24", "right"),
            route("10.9.0.0/26", "left", "10.0.0.1"),
        ],
        "b": [local("10.0.1.1"), route("default", "eth0", "10.0.1.2")],
        **changes,
    }
    return Network(
        {node: Table(rows) for node, rows in tables.items()},
        {"a": BOTH, "r": BOTH, "w": frozenset(), "b": frozenset()},
        [
            (("w", "eth0"), ("a", "caliw")),
            (("a", "eth0"), ("r", "left")),
            (("r", "right"), ("b", "eth0")),
        ],
    )


def test_packets_find_their_way_there_and_back() -> None:
    """Over a gateway that nobody has, a host, a router; ends need not forward."""
    world = network()

    assert world.problem("w", "10.0.1.1") is None
    assert world.problem("b", "10.9.0.1") is None


@pytest.mark.parametrize(
    ("changes", "source", "target", "words"),
    [
        ({"a": [local("10.0.0.1")]}, "w", "10.0.1.1", "a has no route"),
        ({"r": [local("10.0.0.2"), route("10.0.0.0/24", "left")]}, "w", "10.0.1.1", "r has no route"),
        (
            {"r": [local("10.0.0.2"), route("default", "left", type="unreachable")]},
            "w",
            "10.0.1.1",
            "r has only a route of type unreachable",
        ),
        ({"b": [local("10.0.1.7")]}, "w", "10.0.1.1", "nobody on right of r has the address 10.0.1.1"),
        (
            {"r": [local("10.0.0.2"), route("10.0.1.0/24", "right", flags=["linkdown"])]},
            "w",
            "10.0.1.1",
            "link that is down",
        ),
        (
            {"r": [local("10.0.0.2"), route("10.0.0.0/24", "left"), route("default", "left", "10.0.0.1")]},
            "w",
            "10.7.7.7",
            "round in circles",
        ),
    ],
)
def test_where_a_way_ends_is_said(
    changes: dict[str, list[dict[str, Any]]], source: str, target: str, words: str
) -> None:
    """No route, a refusing one, nobody there, a dead link, a loop."""
    problem = network(**changes).problem(source, target)

    assert problem is not None
    assert words in problem


def test_a_node_that_does_not_forward_stops_others_packets_only() -> None:
    """What holds for a node on the way does not hold for it as a source, in whichever order one asks."""
    world = Network(
        {
            "w": Table([local("10.9.0.1"), route("default", "eth0", "10.0.0.1")]),
            "a": Table([local("10.0.0.1"), route("10.0.1.0/24", "eth0")]),
            "b": Table([local("10.0.1.1")]),
        },
        {},
        [(("w", "eth0"), ("a", "in")), (("a", "eth0"), ("b", "eth0"))],
    )

    assert world.problem("w", "10.0.1.1") == "a does not forward IPv4"
    assert world.problem("a", "10.0.1.1") is None
    assert world.problem("w", "10.0.1.1") == "a does not forward IPv4"


def test_the_longest_prefix_wins_then_the_lowest_metric() -> None:
    """As in the kernel; routes over dead links lose to those that live."""
    table = Table(
        [
            route("default", "d", "10.0.0.9"),
            route("10.0.0.0/8", "worse", metric=20),
            route("10.0.0.0/8", "better", metric=10),
            route("10.1.0.0/16", "dead", flags=["dead"], metric=0),
            route("10.1.0.0/16", "alive", metric=9),
        ]
    )

    def device(address: str) -> str:
        from calico.model.address import parse_address

        found = table.lookup(parse_address(address))
        assert found is not None
        return found.hops[0].device

    assert [device(a) for a in ("192.0.2.1", "10.2.0.1", "10.1.0.1")] == ["d", "better", "alive"]


def test_a_host_with_nothing_but_its_default_route_is_noticed() -> None:
    """BGP has not brought what it should."""
    world = network()

    assert world.default_only("b", "10.9.0.1")
    assert not world.default_only("r", "10.9.0.1")
    assert not world.default_only("b", "10.0.1.1")


def test_several_next_hops_and_gateways_of_the_other_family_are_understood() -> None:
    """Routes as BGP over IPv6 makes them: nexthops, and via an IPv6 gateway."""
    world = Network(
        {
            "a": Table(
                [
                    {
                        "dst": "10.9.0.0/26",
                        "family": 4,
                        "nexthops": [
                            {"dev": "one", "gateway": "10.0.0.1", "flags": ["dead"]},
                            {"dev": "two", "via": {"family": "inet6", "host": "fe80::2"}, "flags": []},
                        ],
                    }
                ]
            ),
            "b": Table([local("fe80::2"), local("10.9.0.1")]),
        },
        {},
        [(("a", "two"), ("b", "eth0"))],
    )

    assert world.problem("a", "10.9.0.1") is None
