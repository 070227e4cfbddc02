"""What others change in the kernel is heard of; what we change is not."""

from __future__ import annotations

import asyncio
import ctypes
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calico.desired import RouteRow
from calico.model.address import Cidr, parse_cidr
from calico.model.settings import Settings
from calico.programming.links import take_inventory
from calico.programming.monitor import Changes, Monitor, Writer
from calico.programming.netlink import ROUTE, Channel
from calico.programming.routes import Routes
from calico.programming.rtnetlink import device_route, drop_route, put_route
from support.host import eventually
from support.netns import Namespace, link, namespaces, needs_root

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""Its inode, a constant of the kernel."""

pytestmark = [pytest.mark.root, needs_root]

ONE, SIX = parse_cidr("10.65.0.1"), parse_cidr("fd00:65::1")
MAC = "02:00:00:00:00:01"


@pytest.fixture
def inside() -> Iterator[Namespace]:
    with namespaces("t-monitor-host", "t-monitor-far") as (host, far):
        for one in (host, far):  # without link-local addresses, which would be changes of their own
            one.run("sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=1")
        link(host, "cali1", far, "eth0")
        # The kernel tells of the carrier on its own time, perhaps only when a monitor listens already: until then, wait.
        eventually(lambda: "state UP" in host.run("ip", "link", "show", "cali1").stdout, what="cali1 is up")
        host.run("ip", "link", "set", "cali1", "up")  # waits for the kernel's lock, under which it tells
        yield host


@pytest.fixture
def monitor(inside: Namespace) -> Iterator[Monitor]:
    with inside.call(Monitor) as opened:
        yield opened


def heard(monitor: Monitor) -> Changes:
    """The next report; an empty one if there is none within twenty seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        select.select(monitor.filenos(), [], [], deadline - time.monotonic())
        report = monitor.read()
        if report:
            return report
    return Changes()


def number(inside: Namespace, name: str) -> int:
    return inside.call(take_inventory).links[name].number


@pytest.mark.parametrize(
    ("words", "destination"),
    [
        ("route add 10.1.2.3 dev cali1", "10.1.2.3"),
        ("route del 10.65.0.1 dev cali1", "10.65.0.1"),
        ("route change 10.65.0.1 dev cali1 scope link metric 1024 mtu 900", "10.65.0.1"),
        ("-6 route del fd00:65::1 dev cali1", "fd00:65::1"),
    ],
)
def test_routes_of_others_are_heard(
    inside: Namespace, monitor: Monitor, words: str, destination: str
) -> None:
    """A route that somebody else adds, changes or deletes is reported by its destination."""
    routes = Routes(Settings())
    inside.call(lambda: routes.apply({ONE: RouteRow("cali1"), SIX: RouteRow("cali1")}))
    assert monitor.read() == Changes()

    inside.run("ip", *words.split())

    assert heard(monitor) == Changes(routes=frozenset({parse_cidr(destination)}))


def test_own_routes_and_neighbours_are_not_heard(inside: Namespace, monitor: Monitor) -> None:
    """What this process programs is no change to look after, whichever thread does it."""
    routes = Routes(Settings())
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}

    inside.call(lambda: routes.apply(dict(rows)))
    inside.call(lambda: routes.sync(rows))
    inside.call(lambda: routes.apply(dict.fromkeys(rows)))

    assert monitor.read() == Changes()


def test_neighbours_of_others_are_heard(inside: Namespace, monitor: Monitor) -> None:
    """A neighbour that somebody else deletes is reported by its address."""
    routes = Routes(Settings())
    inside.call(lambda: routes.apply({ONE: RouteRow("cali1", MAC)}))
    inside.run("ip", "neigh", "del", "10.65.0.1", "dev", "cali1")

    assert ONE in heard(monitor).neighbours
    assert routes.concerns({ONE})


@pytest.mark.parametrize(
    "words",
    [
        "link set cali1 down",
        "link set cali1 mtu 1400",
        "addr add 10.9.9.9/32 dev cali1",
        "-6 addr add fd00:9::9/64 dev cali1 nodad",
        "link del cali1",
    ],
)
def test_interfaces_and_their_addresses_are_heard(inside: Namespace, monitor: Monitor, words: str) -> None:
    """An interface that changes, gets an address, or goes is reported by its number."""
    index = number(inside, "cali1")

    inside.run("ip", *words.split())

    assert index in heard(monitor).links


def test_a_new_interface_is_heard(inside: Namespace, monitor: Monitor) -> None:
    """An interface that appears is reported by its number."""
    inside.run("ip", "link", "add", "cali2", "type", "veth", "peer", "name", "p2")

    assert number(inside, "cali2") in heard(monitor).links


def test_packet_filter_changes_of_others_name_the_process(inside: Namespace, monitor: Monitor) -> None:
    """A ruleset that another process loads, however large, is one report that names the process."""
    elements = ", ".join(f"10.{n >> 8}.{n & 255}.1" for n in range(5000))
    inside.run(
        "nft",
        "-f",
        "-",
        stdin=f"table ip x {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}; }}\n",
    )

    report = heard(monitor)

    assert {writer.name for writer in report.writers} == {"nft"}
    assert not report.lost


def test_packet_filter_changes_of_a_known_program_are_own(inside: Namespace) -> None:
    """Whoever starts programs that write for it can say which writers are its own."""
    seen: list[Writer] = []

    def is_own(writer: Writer) -> bool:
        seen.append(writer)
        return writer.name == "nft"

    with inside.call(lambda: Monitor(is_own)) as monitor:
        inside.run("nft", "add", "table", "ip", "x")
        select.select(monitor.filenos(), [], [], 5)

        assert monitor.read() == Changes()
        assert [writer.name for writer in seen] == ["nft"]


@pytest.mark.skipif(
    Path("/proc/self/ns/pid").stat().st_ino != _FIRST_PID_NAMESPACE,
    reason="the kernel tells process ids of the machine, which this PID namespace hides: own changes cost a look",
)
def test_packet_filter_changes_of_own_threads_are_not_heard(inside: Namespace, monitor: Monitor) -> None:
    """A transaction that a living thread of this process commits is our own."""
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]

    def commit_and_look() -> tuple[int, Changes]:
        context = library.nft_ctx_new(0)
        status = library.nft_run_cmd_from_buffer(context, b"add table ip x")
        library.nft_ctx_free(context)
        return status, monitor.read()

    assert inside.call(commit_and_look) == (0, Changes())
    assert "table ip x" in inside.run("nft", "list", "tables").stdout


def test_an_overrun_is_reported_and_survived(inside: Namespace, monitor: Monitor) -> None:
    """When more happens than the socket holds, everything counts as changed; after that single changes are heard again."""
    index = number(inside, "cali1")

    def flood() -> None:
        routes = [
            device_route(Cidr(4, (10 << 24) + n, 32), index, metric=5, protocol=4) for n in range(16000)
        ]
        with Channel(ROUTE) as channel:
            channel.transact([put_route(route) for route in routes])
            channel.transact([drop_route(route) for route in routes])

    inside.call(flood)
    assert monitor.read().lost

    inside.run("ip", "route", "add", "10.1.2.3", "dev", "cali1")
    assert heard(monitor) == Changes(routes=frozenset({parse_cidr("10.1.2.3")}))


def test_reports_come_as_they_happen(inside: Namespace, monitor: Monitor) -> None:
    """The stream first asks for a full look, then reports each burst; a deleted route is back soon after."""
    routes = Routes(Settings())
    rows = {ONE: RouteRow("cali1")}

    async def watch() -> list[Changes]:
        reports: list[Changes] = []
        async for report in monitor.changes():
            reports.append(report)
            if report.lost or routes.concerns(report.routes):
                await asyncio.to_thread(inside.call, lambda: routes.sync(rows))
            if report.lost:
                await asyncio.to_thread(inside.run, "ip", "route", "del", "10.65.0.1", "dev", "cali1")
            else:
                return reports
        return reports

    async def bounded() -> list[Changes]:
        async with asyncio.timeout(10):
            return await watch()

    assert asyncio.run(bounded()) == [Changes(lost=True), Changes(routes=frozenset({ONE}))]
    assert "10.65.0.1 dev cali1" in inside.run("ip", "route").stdout
