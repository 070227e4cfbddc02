"""Routes and neighbours of workloads, on the real kernel."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence

import pytest

from calico.desired import RouteRow
from calico.model.address import Cidr, parse_cidr
from calico.model.settings import Settings
from calico.programming import conntrack
from calico.programming.backend import Busy
from calico.programming.netlink import Answer, Channel, Request
from calico.programming.routes import Routes
from support.netns import Namespace, link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

SETTINGS = Settings()
MAC = "02:00:00:00:00:01"
ONE, SIX = parse_cidr("10.65.0.1"), parse_cidr("fd00:65::1")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Host:
    """A host's namespace, the routes under test, and what the kernel shows of them."""

    def __init__(self, inside: Namespace, far: Namespace) -> None:
        self.inside, self.far = inside, far
        self.clock = Clock()
        self.routes = Routes(SETTINGS, clock=self.clock)

    def ip(self, *words: str) -> str:
        return self.inside.run("ip", *words).stdout

    def workload(self, name: str, peer: str | None = None) -> None:
        """A workload's interface, up at both ends."""
        link(self.inside, name, self.far, peer or f"p-{name}")

    def apply(self, changes: dict[Cidr, RouteRow | None]) -> None:
        self.inside.call(lambda: self.routes.apply(changes))

    def sync(self, desired: dict[Cidr, RouteRow]) -> list[str]:
        return [f"{d.what}: {d.found}" for d in self.inside.call(lambda: self.routes.sync(desired))]

    def check(self, desired: dict[Cidr, RouteRow]) -> list[str]:
        return [f"{d.what}: {d.found}" for d in self.inside.call(lambda: self.routes.check(desired))]

    def links_changed(self, *names: str) -> None:
        touched = {self.number(name) for name in names}
        self.inside.call(lambda: self.routes.links_changed(touched))

    def number(self, name: str) -> int:
        return int(json.loads(self.ip("-j", "link", "show", name))[0]["ifindex"])

    def shown(self, family: str = "-4") -> list[str]:
        """The main table as ip(8) prints it, without the routes that the kernel makes for addresses."""
        lines = self.ip(family, "route", "show").splitlines()
        return sorted(" ".join(line.split()) for line in lines if "proto kernel" not in line)

    def neighbours(self) -> list[str]:
        lines = self.ip("neigh", "show", "nud", "permanent").splitlines()
        return sorted(" ".join(line.split()) for line in lines)

    def state(self) -> list[str]:
        return [
            *self.ip("-4", "route", "show", "table", "all").splitlines(),
            *self.ip("-6", "route", "show", "table", "all").splitlines(),
            *self.neighbours(),
        ]


@pytest.fixture
def host() -> Iterator[Host]:
    with namespaces("t-routes-host", "t-routes-far") as (inside, far):
        # Link-local addresses come and go by themselves; without them two pictures can be compared.
        for one in (inside, far):
            one.run("sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=1")
        yield Host(inside, far)


def test_route_and_neighbour_look_as_documented(host: Host) -> None:
    """A workload's address is a link-scope device route of metric 1024 in both families, with a permanent neighbour."""
    host.workload("cali1")

    host.apply({ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)})

    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]
    assert host.shown("-6") == ["fd00:65::1 dev cali1 metric 1024 pref medium"]
    assert json.loads(host.ip("-j", "-d", "-4", "route"))[0]["protocol"] == "boot"
    assert host.neighbours() == [
        f"10.65.0.1 dev cali1 lladdr {MAC} PERMANENT",
        f"fd00:65::1 dev cali1 lladdr {MAC} PERMANENT",
    ]
    assert host.routes.pending == {}


def test_apply_then_revert_leaves_what_was_there(host: Host) -> None:
    """Withdrawing everything leaves the tables exactly as they were before."""
    host.workload("cali1")
    before = host.state()
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}

    host.apply(dict(rows))
    between = host.state()
    host.apply(dict.fromkeys(rows))

    assert between != before
    assert host.state() == before
    assert host.routes.programmed == 0


def test_applying_twice_changes_nothing(host: Host) -> None:
    """The second of two equal applies and syncs writes nothing, and nothing is reported."""
    host.workload("cali1")
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", "")}
    host.apply(dict(rows))
    before = host.state()

    host.apply(dict(rows))

    assert host.sync(rows) == []
    assert host.check(rows) == []
    assert host.state() == before


def test_first_sync_takes_over_what_a_former_run_left(host: Host) -> None:
    """A fresh start finds a former run's routes right, and changes nothing."""
    host.workload("cali1")
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}
    host.apply(dict(rows))
    before = host.state()

    host.routes = Routes(SETTINGS, clock=host.clock)

    assert host.sync(rows) == []
    assert host.state() == before


@pytest.mark.parametrize(
    ("spoil", "reported"),
    [
        (("-4", "route", "del", "10.65.0.1", "dev", "cali1"), ["route 10.65.0.1/32 on cali1: missing"]),
        (("-6", "route", "del", "fd00:65::1", "dev", "cali1"), ["route fd00:65::1/128 on cali1: missing"]),
        (
            ("-4", "route", "change", "10.65.0.1", "dev", "cali1", "scope", "link", "metric", "1024", "mtu", "900"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-4", "route", "replace", "10.65.0.1", "dev", "cali2", "scope", "link", "metric", "1024"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-4", "route", "append", "10.65.0.1", "dev", "cali2", "scope", "link", "metric", "1024"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-4", "route", "prepend", "10.65.0.1", "dev", "cali2", "scope", "link", "metric", "1024"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-6", "route", "append", "fd00:65::1", "dev", "cali2", "metric", "1024"),
            ["route fd00:65::1/128 on cali1: changed"],
        ),
        (
            ("-4", "route", "replace", "10.65.0.1", "via", "192.168.7.2", "metric", "1024"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-4", "route", "replace", "10.65.0.1", "metric", "1024", "nexthop", "via", "192.168.7.2", "nexthop", "via", "192.168.7.3"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-4", "route", "replace", "blackhole", "10.65.0.1", "metric", "1024"),
            ["route 10.65.0.1/32 on cali1: changed"],
        ),
        (
            ("-6", "route", "replace", "fd00:65::1", "dev", "cali2", "metric", "1024"),
            ["route fd00:65::1/128 on cali1: changed"],
        ),
        (
            ("-6", "route", "replace", "fd00:65::1", "dev", "cali1", "metric", "1024", "mtu", "1300"),
            ["route fd00:65::1/128 on cali1: changed"],
        ),
        (("neigh", "del", "10.65.0.1", "dev", "cali1"), ["neighbour 10.65.0.1 on cali1: missing"]),
        (
            ("neigh", "replace", "10.65.0.1", "lladdr", "02:00:00:00:00:99", "dev", "cali1", "nud", "permanent"),
            ["neighbour 10.65.0.1 on cali1: changed: 02:00:00:00:00:99"],
        ),
        (
            ("neigh", "replace", "10.65.0.1", "lladdr", MAC, "dev", "cali1", "nud", "reachable"),
            ["neighbour 10.65.0.1 on cali1: missing"],
        ),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_others_changed_in_place_is_repaired(
    host: Host, spoil: tuple[str, ...], reported: list[str]
) -> None:
    """Whatever others do to our routes and neighbours, one sync says it, restores it, and the next is silent."""
    host.workload("cali1")
    host.workload("cali2")
    host.ip("link", "add", "up1", "type", "veth", "peer", "name", "up2")
    host.ip("link", "set", "up1", "up")
    host.ip("addr", "add", "192.168.7.1/24", "dev", "up1")
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}
    host.sync(rows)
    before = host.state()
    host.ip(*spoil)
    assert host.state() != before

    assert host.check(rows) == reported
    assert host.sync(rows) == reported
    assert host.state() == before
    assert host.sync(rows) == []


def test_routes_of_others_are_never_touched(host: Host) -> None:
    """Kernel, BIRD, static, multipath, blackhole and foreign-table routes survive apply, sync and withdrawal."""
    host.workload("cali1")
    for words in (
        "link add up1 type veth peer name up2",
        "link set up1 up",
        "addr add 192.168.7.1/24 dev up1",
        "addr add fd00:7::1/64 dev up1 nodad",
        "addr add 10.9.9.9/32 dev cali1",
        "addr add fd00:9::9/128 dev cali1 nodad",
        "addr add 10.9.8.1/24 dev cali1",
        "addr add fe80::1/64 dev cali1 nodad",
        "route add 10.1.0.0/16 via 192.168.7.2 proto bird",
        "route add 10.2.0.0/16 proto static nexthop via 192.168.7.2 nexthop via 192.168.7.3",
        "route add blackhole 10.65.0.0/26 proto 80",
        "route add 10.66.0.1/32 dev cali1 proto bird",
        "route add 10.66.0.2/32 dev cali1 table 77",
        "route add 10.66.0.3/32 dev up1",
        "-6 route add fd00:1::/64 via fd00:7::2 proto bird",
        "-6 route add fd00:66::1/128 dev cali1 proto bird",
        "-6 route add fd00:66::2/128 dev cali1 table 77",
        "neigh replace 192.168.7.2 lladdr 02:00:00:00:00:07 dev up1 nud permanent",
    ):
        host.ip(*words.split())
    before = host.state()
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}

    host.sync(rows)
    host.clock.now += 60
    assert host.sync(rows) == []
    host.apply(dict.fromkeys(rows))
    assert host.sync({}) == []

    assert host.state() == before


def test_unexpected_routes_have_a_grace_period(host: Host) -> None:
    """A route that we did not ask for stays ten seconds from when its interface was first seen, then goes."""
    host.workload("cali1")
    host.ip("route", "add", "10.65.0.7", "dev", "cali1")
    host.ip("neigh", "replace", "10.65.0.7", "lladdr", MAC, "dev", "cali1", "nud", "permanent")

    assert host.sync({}) == []
    due = host.routes.next_due()
    host.clock.now += 9.9
    assert host.sync({}) == []
    assert host.shown() == ["10.65.0.7 dev cali1 scope link"]

    host.clock.now += 0.2
    assert due is not None
    assert due <= host.clock.now
    assert host.sync({}) == [
        "route 10.65.0.7/32 on cali1: unexpected",
        "neighbour 10.65.0.7 on cali1: unexpected",
    ]
    assert host.shown() == []
    assert host.neighbours() == []
    assert host.routes.next_due() is None


def test_a_grace_period_starts_anew_with_an_interface_that_returns(host: Host) -> None:
    """An interface deleted and made again under its name is a new one: what is on it gets its own ten seconds."""
    host.workload("cali1")
    host.sync({})
    host.clock.now += 60
    host.ip("link", "del", "cali1")
    host.workload("cali1")
    host.ip("route", "add", "10.65.0.7", "dev", "cali1")

    assert host.sync({}) == []
    assert host.shown() == ["10.65.0.7 dev cali1 scope link"]


def test_an_address_moves_between_interfaces(host: Host) -> None:
    """After a move exactly one route is left, on the new interface, also of the copy without metric that CNI adds."""
    host.workload("cali1")
    host.workload("cali2")
    host.apply({ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)})
    host.ip("route", "add", "10.65.0.1", "dev", "cali1")

    host.apply({ONE: RouteRow("cali2", MAC), SIX: RouteRow("cali2", MAC)})

    assert host.shown() == ["10.65.0.1 dev cali2 scope link metric 1024"]
    assert host.shown("-6") == ["fd00:65::1 dev cali2 metric 1024 pref medium"]
    assert host.neighbours() == [
        f"10.65.0.1 dev cali2 lladdr {MAC} PERMANENT",
        f"fd00:65::1 dev cali2 lladdr {MAC} PERMANENT",
    ]


def test_addresses_swap_interfaces_in_one_change(host: Host) -> None:
    """Two addresses that change places in one batch both end on their new interface."""
    two = parse_cidr("10.65.0.2")
    host.workload("cali1")
    host.workload("cali2")
    host.apply({ONE: RouteRow("cali1"), two: RouteRow("cali2")})

    host.apply({ONE: RouteRow("cali2"), two: RouteRow("cali1")})

    assert host.shown() == [
        "10.65.0.1 dev cali2 scope link metric 1024",
        "10.65.0.2 dev cali1 scope link metric 1024",
    ]


def test_a_move_while_the_agent_was_down_is_put_right_at_once(host: Host) -> None:
    """What a known address has on another interface goes without a grace period."""
    host.workload("cali1")
    host.workload("cali2")
    host.apply({ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)})
    host.ip("route", "add", "10.65.0.1", "dev", "cali1")
    host.routes = Routes(SETTINGS, clock=host.clock)

    host.sync({ONE: RouteRow("cali2"), SIX: RouteRow("cali2")})

    assert host.shown() == ["10.65.0.1 dev cali2 scope link metric 1024"]
    assert host.shown("-6") == ["fd00:65::1 dev cali2 metric 1024 pref medium"]
    assert host.neighbours() == []


def test_a_changed_hardware_address_reaches_the_neighbour(host: Host) -> None:
    """A new mac replaces the old neighbour; without a mac the kernel resolves the address itself."""
    host.workload("cali1")
    host.apply({ONE: RouteRow("cali1", MAC)})

    host.apply({ONE: RouteRow("cali1", "02-00-00-00-00-02")})
    assert host.neighbours() == ["10.65.0.1 dev cali1 lladdr 02:00:00:00:00:02 PERMANENT"]

    host.apply({ONE: RouteRow("cali1")})
    assert host.neighbours() == []
    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]


def test_a_late_interface_gets_its_route_when_it_comes(host: Host) -> None:
    """A route waits for its interface to exist, to be up and to have a carrier, and says for which."""
    host.apply({ONE: RouteRow("cali1")})
    assert host.routes.pending[ONE].reason == "The interface cali1 does not exist yet."

    host.ip("link", "add", "cali1", "type", "veth", "peer", "name", "p1", "netns", host.far.name)
    host.links_changed("cali1")
    assert host.routes.pending[ONE].reason == "The interface cali1 is administratively down."

    host.ip("link", "set", "cali1", "up")
    host.links_changed("cali1")
    assert host.routes.pending[ONE].reason == "The interface cali1 has no carrier: its other end is down."
    assert host.shown() == []

    host.far.run("ip", "link", "set", "p1", "up")
    host.links_changed("cali1")
    assert host.routes.pending == {}
    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]


def test_an_interface_that_goes_down_loses_its_routes(host: Host) -> None:
    """Administratively or by its carrier: the route is withdrawn, and returns with the interface."""
    rows = {ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)}
    host.workload("cali1")
    host.apply(dict(rows))
    before = host.state()

    for owner, name in ((host.far, "p-cali1"), (host.inside, "cali1")):
        owner.run("ip", "link", "set", name, "down")
        host.links_changed("cali1")
        assert host.shown() == []
        assert host.shown("-6") == []
        assert set(host.routes.pending) == {ONE, SIX}
        owner.run("ip", "link", "set", name, "up")
        host.links_changed("cali1")
        assert host.routes.pending == {}
        assert sorted(host.state()) == sorted(before)


def test_a_flap_that_nobody_saw_is_repaired(host: Host) -> None:
    """An interface that was down for a moment lost its routes; being touched is enough to get them again."""
    host.workload("cali1")
    host.apply({ONE: RouteRow("cali1", MAC), SIX: RouteRow("cali1", MAC)})
    before = host.state()
    host.ip("link", "set", "cali1", "down")
    host.ip("link", "set", "cali1", "up")

    host.links_changed("cali1")

    assert sorted(host.state()) == sorted(before)


def test_a_renamed_interface_is_another_one(host: Host) -> None:
    """A route follows the name, not the number: it leaves the renamed interface and waits for its own."""
    host.workload("cali1")
    host.apply({ONE: RouteRow("cali1")})
    host.ip("link", "set", "cali1", "down")
    host.ip("link", "set", "cali1", "name", "cali2")
    host.ip("link", "set", "cali2", "up")

    host.links_changed("cali2")
    assert host.shown() == []
    assert host.routes.pending[ONE].waits

    host.workload("cali1", "p-again")
    host.links_changed("cali1")
    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]
    assert host.routes.pending == {}


def test_an_interface_made_again_gets_its_routes(host: Host) -> None:
    """An interface deleted and made again under its name, with another number, has its route again."""
    host.workload("cali1")
    host.apply({ONE: RouteRow("cali1")})
    before = host.number("cali1")
    host.ip("link", "del", "cali1")
    host.workload("cali1")
    assert host.number("cali1") != before

    host.links_changed("cali1")

    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]
    assert host.routes.pending == {}


@pytest.mark.parametrize("change", ["gone", "made again", "down"])
def test_a_change_that_apply_finds_out_first(host: Host, change: str) -> None:
    """When a later change is what shows that an interface is not what it was, its other addresses follow too."""
    two = parse_cidr("10.65.0.2")
    host.workload("cali1")
    host.apply({ONE: RouteRow("cali1")})
    if change == "down":
        host.ip("link", "set", "cali1", "down")
    else:
        host.ip("link", "del", "cali1")
    if change == "made again":
        host.workload("cali1")

    host.apply({two: RouteRow("cali1")})

    expected = {"10.65.0.1", "10.65.0.2"} if change == "made again" else set()
    assert {line.split()[0] for line in host.shown()} == expected
    assert set(host.routes.pending) == ({ONE, two} - {parse_cidr(text) for text in expected})


def test_interfaces_of_others_get_no_routes(host: Host) -> None:
    """A row that names an interface without a workload prefix is never programmed, and says why."""
    host.workload("eth7")

    host.apply({ONE: RouteRow("eth7")})

    assert host.shown() == []
    assert "cali" in host.routes.pending[ONE].reason
    assert host.sync({ONE: RouteRow("eth7")}) == []


def test_without_ipv6_support_only_ipv4_is_touched(host: Host) -> None:
    """With ipv6Support off, IPv6 rows are passed over and IPv6 routes are nobody's business."""
    host.workload("cali1")
    host.ip("-6", "route", "add", "fd00:65::7", "dev", "cali1")
    host.routes = Routes(Settings(ipv6_support=False), clock=host.clock)

    host.sync({ONE: RouteRow("cali1"), SIX: RouteRow("cali1")})
    host.clock.now += 60
    assert host.sync({ONE: RouteRow("cali1"), SIX: RouteRow("cali1")}) == []

    assert host.shown("-6") == ["fd00:65::7 dev cali1 metric 1024 pref medium"]
    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]
    assert host.routes.pending == {}


def test_a_refused_route_is_pending_and_retried(host: Host) -> None:
    """What the kernel refuses is named with its reason, does not stop the others, and is retried when due."""
    host.workload("cali1")
    host.inside.run("sysctl", "-qw", "net.ipv6.conf.cali1.disable_ipv6=1")

    host.apply({SIX: RouteRow("cali1"), ONE: RouteRow("cali1")})
    assert host.shown() == ["10.65.0.1 dev cali1 scope link metric 1024"]
    assert "fd00:65::1/128" in host.routes.pending[SIX].reason
    assert not host.routes.pending[SIX].waits

    host.inside.run("sysctl", "-qw", "net.ipv6.conf.cali1.disable_ipv6=0")
    due = host.routes.next_due()
    assert due is not None
    host.inside.call(host.routes.retry)
    assert SIX in host.routes.pending
    host.clock.now = due
    host.inside.call(host.routes.retry)
    assert host.routes.pending == {}
    assert host.shown("-6") == ["fd00:65::1 dev cali1 metric 1024 pref medium"]


@pytest.mark.parametrize("failing", range(8))
def test_a_kernel_that_does_not_answer_is_asked_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Whichever exchange with the kernel fails, before or after it took effect, a retry ends where all went well."""
    host.workload("cali1")
    host.workload("cali2")
    two, three = parse_cidr("10.65.0.2"), parse_cidr("10.65.0.3")
    host.sync({})
    host.apply({ONE: RouteRow("cali1", MAC), two: RouteRow("cali1", MAC)})
    exchanges: list[int] = []
    transact = Channel.transact

    def sometimes(channel: Channel, requests: Sequence[Request]) -> list[Answer]:
        exchanges.append(len(requests))
        if len(exchanges) == failing // 2 + 1:
            if failing % 2:
                transact(channel, requests)
            raise Busy("not now")
        return transact(channel, requests)

    monkeypatch.setattr(Channel, "transact", sometimes)

    with contextlib.suppress(Busy):
        host.apply({ONE: None, two: RouteRow("cali2", MAC), three: RouteRow("cali2")})
    for _ in range(3):
        host.clock.now += 60
        host.inside.call(host.routes.retry)

    assert host.shown() == [
        "10.65.0.2 dev cali2 scope link metric 1024",
        "10.65.0.3 dev cali2 scope link metric 1024",
    ]
    assert host.neighbours() == [f"10.65.0.2 dev cali2 lladdr {MAC} PERMANENT"]
    assert host.routes.pending == {}
    assert host.routes.next_due() is None


def test_churn_leaves_no_memory(host: Host) -> None:
    """After many workloads came and went, nothing about them is remembered."""
    host.sync({})
    for round_ in range(5):
        host.workload(f"cali{round_}")
        rows = {Cidr(4, (10 << 24) + n, 32): RouteRow(f"cali{round_}", MAC) for n in range(200)}
        host.apply(dict(rows))
        host.apply(dict.fromkeys(rows))
        host.ip("link", "del", f"cali{round_}")
        host.inside.call(lambda: host.routes.links_changed(set()))

    remembered = {
        name: len(value)
        for name, value in vars(host.routes).items()
        if isinstance(value, dict | set | list) and value
    }
    assert remembered == {}


def track(host: Host) -> None:
    """Have the host track connections, as its packet filter would."""
    host.inside.run("nft", "add", "table", "ip", "track")
    host.inside.run("nft", "add", "chain", "ip", "track", "o", "{ type filter hook output priority 0; }")
    host.inside.run("nft", "add", "rule", "ip", "track", "o", "ct", "state", "new", "accept")


def connect(host: Host, *addresses: str) -> None:
    """Send one datagram to each address from the host."""
    program = (
        "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "for a in sys.argv[1:]: s.sendto(b'x',(a,9))"
    )
    host.inside.run("python3", "-c", program, *addresses)


def connections(host: Host) -> set[str]:
    return {
        entry.destination.address
        for entry in host.inside.call(lambda: conntrack.entries(4))
        if entry.protocol == 17
    }


@pytest.mark.parametrize("leave", ["withdrawn", "moved", "interface deleted", "while down"])
def test_connections_are_forgotten_when_an_address_leaves(host: Host, leave: str) -> None:
    """However an address leaves its interface, its connections go with it, and nobody else's do."""
    host.workload("cali1")
    host.workload("cali2")
    host.ip("addr", "add", "10.65.9.9/32", "dev", "lo")
    host.sync({})
    two = parse_cidr("10.65.0.2")
    host.apply({ONE: RouteRow("cali1", MAC), two: RouteRow("cali2", MAC)})
    track(host)
    connect(host, "10.65.0.1", "10.65.0.2")
    assert connections(host) == {"10.65.0.1", "10.65.0.2"}

    if leave == "withdrawn":
        host.apply({ONE: None})
    elif leave == "moved":
        host.apply({ONE: RouteRow("cali2", MAC)})
    elif leave == "interface deleted":
        host.ip("link", "del", "cali1")
        host.inside.call(lambda: host.routes.links_changed(set()))
    else:
        host.routes = Routes(SETTINGS, clock=host.clock, grace=0.0)
        host.sync({two: RouteRow("cali2", MAC)})

    assert connections(host) == {"10.65.0.2"}


def test_connections_survive_a_flap_and_a_restart(host: Host) -> None:
    """An interface that is down for a moment, a route that others deleted, and a restart forget no connection."""
    host.workload("cali1")
    host.ip("addr", "add", "10.65.9.9/32", "dev", "lo")
    rows = {ONE: RouteRow("cali1", MAC)}
    host.sync(rows)
    track(host)
    connect(host, "10.65.0.1")

    host.ip("link", "set", "cali1", "down")
    host.links_changed("cali1")
    host.ip("link", "set", "cali1", "up")
    host.links_changed("cali1")
    host.ip("route", "del", "10.65.0.1")
    host.sync(rows)
    host.routes = Routes(SETTINGS, clock=host.clock)
    host.sync(rows)

    assert connections(host) == {"10.65.0.1"}


def test_two_thousand_routes(host: Host) -> None:
    """Two thousand addresses are applied, found right, repaired and withdrawn, all of them."""
    for n in range(4):
        host.workload(f"cali{n}")
    rows = {Cidr(4, (10 << 24) + n, 32): RouteRow(f"cali{n % 4}", MAC) for n in range(1000)}
    rows |= {Cidr(6, (0xFD << 120) + n, 128): RouteRow(f"cali{n % 4}", MAC) for n in range(1000)}

    def timed() -> dict[str, float]:
        took = {}
        for name, act in (
            ("apply", lambda: host.routes.apply(rows)),
            ("sync", lambda: host.routes.sync(rows)),
            ("withdraw", lambda: host.routes.apply(dict.fromkeys(rows))),
        ):
            start = time.perf_counter()
            act()
            took[name] = round((time.perf_counter() - start) * 1000, 1)
            if name == "apply":
                assert len(host.inside.run("ip", "route").stdout.splitlines()) == 1000
        return took

    print("2,000 routes and neighbours, ms:", host.inside.call(timed))
    assert host.shown() == []
    assert host.shown("-6") == []
    assert host.neighbours() == []
