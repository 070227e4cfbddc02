"""Where local addresses are, and pools."""

from __future__ import annotations

from calico.desired import PoolRow, RouteRow
from calico.model.address import parse_cidr
from support.builders import elsewhere, endpoint, host_endpoint, pool
from support.world import World


def test_each_local_address_is_behind_its_interface() -> None:
    """IPv4 and IPv6 addresses of local workloads have routes, with the neighbour's MAC where it is known."""
    world = World(
        endpoint("a", address=["10.0.0.1/32", "fd00::1/128"], mac="ee:ee:ee:ee:ee:ee"),
        endpoint("b", elsewhere, address="10.0.0.2"),
        host_endpoint("h", interface="eth0", address="192.0.2.1"),
    )
    row = RouteRow("cali-a", "ee:ee:ee:ee:ee:ee")
    assert world.state.routes == {parse_cidr("10.0.0.1"): row, parse_cidr("fd00::1"): row}


def test_an_address_given_twice_is_one() -> None:
    """An endpoint's addresses keep their order, and each is there once."""
    world = World(
        endpoint("a", address=["10.0.0.2", "10.0.0.1/32", "10.0.0.2/32"]),
        host_endpoint("h", address=["192.0.2.1", "192.0.2.1"]),
    )
    assert [len(row.addresses) for row in world.state.endpoints.values()] in ([2, 1], [1, 2])
    row = world.endpoint("a")
    assert row is not None
    assert [str(address) for address in row.addresses] == ["10.0.0.2/32", "10.0.0.1/32"]


def test_of_two_workloads_with_one_address_the_first_has_the_route() -> None:
    """The lower name wins whichever came first, and the other takes over."""
    world = World(endpoint("b", address="10.0.0.1"))
    world.add(endpoint("a", address="10.0.0.1"))
    assert world.routes() == {"10.0.0.1/32": "cali-a"}

    world.remove("a")
    assert world.routes() == {"10.0.0.1/32": "cali-b"}

    world.remove("b")
    assert world.routes() == {}


def test_an_address_moves_in_one_change() -> None:
    """An address that passes from one workload to another is one changed route, not a removal and an addition."""
    world = World(endpoint("a", address="10.0.0.1"), endpoint("b"))
    delta = world.add(endpoint("a"), endpoint("b", address="10.0.0.1"))
    assert delta.routes == {parse_cidr("10.0.0.1"): RouteRow("cali-b")}


def test_pools_by_prefix() -> None:
    """A pool is known by its prefix; of two with one prefix the first name counts, and unusable ones do not."""
    world = World(
        pool("b", "10.0.0.0/16"),
        pool("a", "10.0.0.7/16", nat_outgoing=True),
        pool("six", "fd00::/64"),
        pool("bad", "10.0.0.0/99"),
    )
    assert world.state.pools == {
        parse_cidr("10.0.0.0/16"): PoolRow(nat_outgoing=True),
        parse_cidr("fd00::/64"): PoolRow(nat_outgoing=False),
    }
    assert [key.name for key in world.network.problems] == ["bad"]

    world.remove("a")
    assert world.state.pools[parse_cidr("10.0.0.0/16")] == PoolRow(nat_outgoing=False)
