"""Whatever the kernel holds, one repair is enough: surveys carried out on a model of the kernel's tables."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from calico.model.address import Cidr, parse_cidr
from calico.programming.routeplan import Kind, Placement, Survey, is_ours, survey
from calico.programming.rtnetlink import Neighbour, Route

KIND = Kind(metric=1024, protocol=3)
WORKLOADS = {11: "cali1", 12: "cali2"}
ADDRESSES = [parse_cidr(text) for text in ("10.65.0.1", "fd00:65::1")]
MACS = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
PERMANENT, REACHABLE = 0x80, 0x02

PLACEMENTS = st.builds(
    lambda number, mac: Placement(number, WORKLOADS[number], mac),
    st.sampled_from(sorted(WORKLOADS)),
    st.sampled_from(["", *MACS]),
)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """A route as the kernel could hold it, ours or anybody's, plain or not."""
    destination = draw(st.sampled_from([*ADDRESSES, *ADDRESSES, parse_cidr("10.65.0.0/26")]))
    six = destination.family == 6
    return Route(
        destination,
        draw(st.sampled_from([11, 11, 12, 2])),
        draw(st.sampled_from([1024, 1024, 512] if six else [1024, 1024, 0])),
        draw(st.sampled_from([3, 3, 3, 4, 2, 12])),
        0 if six else draw(st.sampled_from([253, 253, 0])),
        plain=draw(st.booleans()),
    )


class Tables:
    """The kernel's tables, as far as they matter: what replaces what."""

    def __init__(self, held: list[Route], neighbours: list[Neighbour]) -> None:
        self.routes: list[Route] = []
        for route in held:
            self.put(route)
        self.neighbours = {(one.interface, one.address): one for one in neighbours}

    def put(self, route: Route) -> None:
        """IPv4 keeps one route for a destination, metric and type of service. IPv6 one for each gateway, too."""
        gateway = route.destination.family == 6 and not route.plain

        def key(one: Route) -> tuple[Cidr, int, int, bool]:
            return one.destination, one.metric, one.tos, one.destination.family == 6 and not one.plain

        same = (route.destination, route.metric, route.tos, gateway)
        self.routes = [one for one in self.routes if key(one) != same] + [route]

    def carry_out(self, found: Survey) -> None:
        for route in found.drop_routes:
            # The kernel takes the first that fits what was said: a gateway or an MTU was not.
            fits = [one for one in self.routes if one._replace(plain=True) == route._replace(plain=True)]
            self.routes.remove(fits[0])
        for one in found.drop_neighbours:
            del self.neighbours[one.interface, one.address]
        for address, placement in found.put.items():
            self.put(KIND.route(address, placement.interface))
            if placement.mac:
                key = placement.interface, address
                self.neighbours[key] = Neighbour(*key, placement.mac, PERMANENT)


OURS = KIND.route(ADDRESSES[1], 11)


@settings(max_examples=150, deadline=None)
@example(
    wanted={ADDRESSES[1]: Placement(11, "cali1", "")},
    waiting={},
    held=[OURS, OURS._replace(plain=False)],
    neighbours=[],
    young=set(),
)
@given(
    wanted=st.dictionaries(st.sampled_from(ADDRESSES), PLACEMENTS),
    waiting=st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["cali1", "cali2", "cali3", ""])),
    held=st.lists(routes(), max_size=8),
    neighbours=st.lists(
        st.builds(
            Neighbour,
            st.sampled_from([11, 12, 2]),
            st.sampled_from(ADDRESSES),
            st.sampled_from(MACS),
            st.sampled_from([PERMANENT, REACHABLE]),
        ),
        max_size=6,
    ),
    young=st.sets(st.sampled_from(sorted(WORKLOADS))),
)
def test_one_repair_is_enough(
    wanted: dict[Cidr, Placement],
    waiting: dict[Cidr, str],
    held: list[Route],
    neighbours: list[Neighbour],
    young: set[int],
) -> None:
    """After what a survey says is carried out, everything wanted is there, the next survey is empty, and others' objects stay."""
    kernel = Tables(held, neighbours)
    before, neighbours_before = list(kernel.routes), dict(kernel.neighbours)
    names = waiting | {address: placement.name for address, placement in wanted.items()}

    def look() -> Survey:
        return survey(wanted, names, WORKLOADS, young, kernel.routes, kernel.neighbours.values(), KIND)

    first = look()
    kernel.carry_out(first)
    second = look()

    assert (second.drift, second.put, second.drop_routes, second.drop_neighbours) == ([], {}, [], [])
    assert bool(first.drift) == bool(first.put or first.drop_routes or first.drop_neighbours)
    for address, placement in wanted.items():
        assert KIND.route(address, placement.interface) in kernel.routes
        if placement.mac:
            assert kernel.neighbours[placement.interface, address].mac == placement.mac
    ours = {KIND.route(address, placement.interface) for address, placement in wanted.items()}
    taken = {(route.destination, route.metric, route.tos) for route in ours}
    for route in before:
        if not is_ours(route, WORKLOADS) and (route.destination, route.metric, route.tos) not in taken:
            assert route in kernel.routes
    for key, one in neighbours_before.items():
        if key[0] not in WORKLOADS or (one.state == REACHABLE and key[1] not in wanted):
            assert kernel.neighbours[key] == one
