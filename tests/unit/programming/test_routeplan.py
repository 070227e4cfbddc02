"""What differs between wanted and actual routes, without a kernel."""

from __future__ import annotations

import pytest

from calico.desired import RouteRow
from calico.model.address import parse_cidr
from calico.programming.routeplan import Kind, Placement, is_ours, place, survey
from calico.programming.rtnetlink import Link, Neighbour, Route, device_route

KIND = Kind(metric=1024, protocol=3)
ONE, SIX, BLOCK = parse_cidr("10.65.0.1"), parse_cidr("fd00:65::1"), parse_cidr("10.65.0.0/26")
CALI1, CALI2, ETH0 = 11, 12, 2
WORKLOADS = {CALI1: "cali1", CALI2: "cali2"}
MAC = "02:00:00:00:00:01"


def link(*, up: bool = True, running: bool = True) -> Link:
    return Link(CALI1, "cali1", up, running, 1500, "ee:ee:ee:ee:ee:ee")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "does not exist"),
        (link(up=False, running=False), "administratively down"),
        (link(running=False), "no carrier"),
    ],
)
def test_an_interface_that_is_not_ready_makes_its_routes_wait(found: Link | None, reason: str) -> None:
    """A route waits, with a sentence, until its interface exists, is up, and can carry packets."""
    waiting = place(RouteRow("cali1"), found)

    assert isinstance(waiting, str)
    assert "cali1" in waiting
    assert reason in waiting


def test_hardware_addresses_are_normalised_or_refused() -> None:
    """Spellings of one hardware address are equal; what is none keeps the route away, with a sentence."""
    assert place(RouteRow("cali1", "02-00-00-00-00-0A"), link()) == Placement(
        CALI1, "cali1", "02:00:00:00:00:0a"
    )
    wrong = place(RouteRow("cali1", "02:00"), link())
    assert isinstance(wrong, str)
    assert "02:00" in wrong


def test_ipv6_metric_zero_is_what_the_kernel_makes_of_it() -> None:
    """Metric 0 of an IPv6 route is 1024, and its scope is global: what we want equals what is read back."""
    assert device_route(SIX, CALI1, metric=0, protocol=3) == Route(SIX, CALI1, 1024, 3, scope=0)
    assert device_route(ONE, CALI1, metric=0, protocol=3) == Route(ONE, CALI1, 0, 3, scope=253)


@pytest.mark.parametrize("protocol", [2, 9, 12, 16, 186])
def test_routes_of_the_kernel_and_of_daemons_are_not_ours(protocol: int) -> None:
    """On a workload's interface too, routes of the kernel, BIRD and the like stay."""
    assert not is_ours(Route(ONE, CALI1, 0, protocol, scope=253), WORKLOADS)


@pytest.mark.parametrize(
    "route",
    [
        Route(ONE, ETH0, 0, 3, scope=253),
        Route(ONE, 0, 0, 3, scope=0),
        Route(ONE, CALI1, 0, 3, scope=253, table=77),
        Route(ONE, CALI1, 0, 3, scope=253, type=3),
        Route(parse_cidr("fe80::/64"), CALI1, 256, 3, scope=0),
        Route(parse_cidr("ff00::/8"), CALI1, 256, 3, scope=0),
    ],
    ids=["other interface", "no interface", "other table", "broadcast", "link-local", "multicast"],
)
def test_what_else_is_not_ours(route: Route) -> None:
    """Only unicast routes of the main table, out of a workload's interface, may be deleted."""
    assert not is_ours(route, WORKLOADS)
    assert is_ours(Route(ONE, CALI1, 0, 3, scope=253), WORKLOADS)


def test_a_right_picture_has_nothing_to_do() -> None:
    """Routes and neighbours as wanted give an empty survey."""
    wanted = {ONE: Placement(CALI1, "cali1", MAC)}

    found = survey(
        wanted, {ONE: "cali1"}, WORKLOADS, (), [KIND.route(ONE, CALI1)], [Neighbour(CALI1, ONE, MAC, 0x80)], KIND
    )  # fmt: skip

    assert (found.drift, found.drop_routes, found.drop_neighbours, found.put) == ([], [], [], {})
    assert found.moved == set()


def test_an_address_that_only_waits_keeps_its_connections() -> None:
    """A route whose interface is down goes at once, but the address has not left: nothing is forgotten."""
    found = survey({}, {ONE: "cali1"}, WORKLOADS, (CALI1,), [KIND.route(ONE, CALI1)], [], KIND)

    assert found.drop_routes == [KIND.route(ONE, CALI1)]
    assert found.moved == set()


def test_an_address_that_is_wanted_elsewhere_goes_without_grace() -> None:
    """A young interface's route to an address that we know to be elsewhere is wrong now, not later."""
    wanted = {ONE: Placement(CALI2, "cali2", "")}
    copy = Route(ONE, CALI1, 0, 3, scope=253)

    found = survey(wanted, {ONE: "cali2"}, WORKLOADS, (CALI1, CALI2), [copy], [], KIND)

    assert found.drop_routes == [copy]
    assert found.moved == {ONE}
    assert list(found.put) == [ONE]


def test_an_unknown_route_waits_for_its_grace_period() -> None:
    """On a young interface what we do not know stays, and the survey says that something waits."""
    unknown = Route(ONE, CALI1, 0, 3, scope=253)

    young = survey({}, {}, WORKLOADS, (CALI1,), [unknown], [Neighbour(CALI1, ONE, MAC, 0x80)], KIND)
    old = survey({}, {}, WORKLOADS, (), [unknown], [Neighbour(CALI1, ONE, MAC, 0x80)], KIND)

    assert young.grace
    assert (young.drift, young.drop_routes, young.drop_neighbours) == ([], [], [])
    assert not old.grace
    assert old.drop_routes == [unknown]
    assert old.moved == {ONE}
    assert len(old.drift) == 2


def test_a_block_route_is_not_a_workloads_route() -> None:
    """A route to a prefix whose first address is a workload's is compared with its length, not its address alone."""
    first = parse_cidr("10.65.0.0/32")
    wanted = {first: Placement(CALI1, "cali1", "")}
    block = Route(BLOCK, 0, 0, 80, scope=0, type=6)

    found = survey(wanted, {first: "cali1"}, WORKLOADS, (), [block, KIND.route(first, CALI1)], [], KIND)

    assert not found.drift
    assert not found.moved


def test_a_neighbour_with_the_wrong_hardware_address_is_written_again() -> None:
    """What is permanent but wrong is put right, and the report says what was there."""
    wanted = {ONE: Placement(CALI1, "cali1", MAC)}
    wrong = Neighbour(CALI1, ONE, "02:00:00:00:00:99", 0x80)

    found = survey(wanted, {ONE: "cali1"}, WORKLOADS, (), [KIND.route(ONE, CALI1)], [wrong], KIND)

    assert found.put == wanted
    assert [drift.found for drift in found.drift] == ["changed: 02:00:00:00:00:99"]


def test_an_ipv6_route_is_put_again_after_its_twin_was_dropped() -> None:
    """A gateway route like ours cannot be told apart when deleting: both go, and ours is written again."""
    wanted = {SIX: Placement(CALI1, "cali1", "")}
    right = KIND.route(SIX, CALI1)
    twin = right._replace(plain=False)

    found = survey(wanted, {SIX: "cali1"}, WORKLOADS, (), [right, twin], [], KIND)

    assert found.drop_routes == [twin, right]
    assert found.put == wanted


def test_neighbours_that_the_kernel_learned_are_left_alone() -> None:
    """Only permanent neighbours are compared; reachable, stale and failed ones come and go by themselves."""
    found = survey({}, {ONE: "cali1"}, WORKLOADS, (), [], [Neighbour(CALI1, ONE, MAC, 0x02)], KIND)

    assert found.drop_neighbours == []


def test_only_addresses_without_any_route_are_fresh() -> None:
    """An address that somebody routed already is not fresh, even if the route is not ours."""
    wanted = {ONE: Placement(CALI1, "cali1", ""), SIX: Placement(CALI1, "cali1", "")}
    copy = Route(ONE, CALI1, 0, 3, scope=253)

    found = survey(wanted, {ONE: "cali1", SIX: "cali1"}, WORKLOADS, (CALI1,), [copy], [], KIND)

    assert set(found.put) == {ONE, SIX}
    assert found.fresh == {SIX}
