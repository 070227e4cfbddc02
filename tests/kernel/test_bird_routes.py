"""Real BIRD in network namespaces: two hosts, and a router between them that reflects and gives a default route.

a 10.0.1.11 --- 10.0.1.1 router 10.0.2.1 --- 10.0.2.11 b      (and fd00:1::/64, fd00:2::/64 alike)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from calico.bgp.bird import render
from calico.bgp.control import Control, Silent
from calico.bgp.daemon import Bird
from calico.bgp.processes import listening_at
from support.birds import Host, Watched, eventually
from support.netns import Namespace, link, namespaces, needs_root
from support.speakers import configuration, node, peer, pool, speaker

pytestmark = [pytest.mark.root, needs_root]

ROUTER = """\
router id 10.0.1.1;
protocol device { }
protocol direct { ipv4; ipv6; }
protocol static default4 { ipv4; route 0.0.0.0/0 unreachable; }
protocol static default6 { ipv6; route ::/0 unreachable; }
protocol kernel { ipv4 { export where source = RTS_BGP; }; }
protocol kernel { ipv6 { export where source = RTS_BGP; }; }
template bgp host {
  local as 65001; rr client; direct; graceful restart on;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
}
protocol bgp a4 from host { neighbor 10.0.1.11 as 65001; ipv4 { import all; export where source ~ [RTS_BGP, RTS_STATIC]; next hop self; }; }
protocol bgp b4 from host { neighbor 10.0.2.11 as 65001; ipv4 { import all; export where source ~ [RTS_BGP, RTS_STATIC]; next hop self; }; }
protocol bgp a6 from host { neighbor fd00:1::11 as 65001; ipv6 { import all; export where source ~ [RTS_BGP, RTS_STATIC]; next hop self; }; }
protocol bgp b6 from host { neighbor fd00:2::11 as 65001; ipv6 { import all; export where source ~ [RTS_BGP, RTS_STATIC]; next hop self; }; }
"""

RACK = {"as_number": 65001}
FACTS = (
    node("a", "10.0.1.11", "fd00:1::11", as_number=65001),
    node("b", "10.0.2.11", "fd00:2::11", as_number=65001),
    configuration(node_to_node_mesh_enabled=False),
    peer("a4", node="a", peer_ip="10.0.1.1", **RACK),
    peer("a6", node="a", peer_ip="fd00:1::1", **RACK),
    peer("b4", node="b", peer_ip="10.0.2.1", **RACK),
    peer("b6", node="b", peer_ip="fd00:2::1", **RACK),
    pool("v4", "10.65.0.0/16"),
    pool("v6", "fd65::/48"),
)
BLOCKS = {"a": ("10.65.1.0/26", "fd65::40/122"), "b": ("10.65.2.0/26", "fd65::80/122")}


def text(name: str, *more: Any) -> str:
    """The configuration of a host."""
    return render(speaker(name, *FACTS, *more, blocks=BLOCKS[name]))


class World:
    """Two hosts and the router."""

    def __init__(self, a: Host, b: Host, router: Namespace) -> None:
        self.a = a
        self.b = b
        self.router = router


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The three namespaces, with everything converged."""
    directory = tmp_path_factory.mktemp("bird")
    mark = os.getpid()
    with namespaces(f"t-bgp-a-{mark}", f"t-bgp-r-{mark}", f"t-bgp-b-{mark}") as (a, router, b):
        hosts = {}
        for name, number, namespace in (("a", 1, a), ("b", 2, b)):
            link(namespace, "eth0", router, f"to-{name}")
            router.run("ip", "address", "add", f"10.0.{number}.1/24", "dev", f"to-{name}")
            router.run("ip", "address", "add", f"fd00:{number}::1/64", "dev", f"to-{name}", "nodad")
            hosts[name] = Host(
                name, namespace, directory / name, f"10.0.{number}.11/24", f"fd00:{number}::11/64"
            )
        (directory / "router.conf").write_text(ROUTER)
        options = ("-c", f"{directory}/router.conf", "-s", f"{directory}/r.ctl", "-P", f"{directory}/r.pid")
        router.run("bird", *options)
        for host in hosts.values():
            assert host.load(text(host.name)) == "started"
        for host in hosts.values():
            eventually(host.established)
        yield World(hosts["a"], hosts["b"], router)


def test_blocks_reach_the_far_kernel(world: World) -> None:
    """Each host's kernel has a route to the other's block, in both families, sourced from its node address."""
    eventually(
        lambda: (
            world.b.routes("10.65.1.0/26")
            == ["10.65.1.0/26 via 10.0.2.1 dev eth0 proto bird src 10.0.2.11 metric 32"]
        )
    )
    eventually(
        lambda: any(
            line.startswith("fd65::40/122 via fd00:2::1 dev eth0 proto bird src fd00:2::11")
            for line in world.b.routes("fd65::40/122")
        )
    )
    eventually(lambda: world.a.routes("10.65.2.0/26"))
    eventually(lambda: world.a.routes("fd65::80/122"))


def test_default_routes_of_the_router_are_used(world: World) -> None:
    """The default routes that the top-of-rack router announces are in the kernel, and the host uses its node address."""
    eventually(lambda: world.a.routes("default"))
    eventually(lambda: world.a.routes("::/0"))

    used = world.a.namespace.run("ip", "route", "get", "203.0.113.1").stdout
    assert "via 10.0.1.1 dev eth0 src 10.0.1.11" in used
    assert "src fd00:1::11" in world.a.namespace.run("ip", "-6", "route", "get", "2001:db8::1").stdout


def test_own_blocks_are_blackholes(world: World) -> None:
    """What is not assigned in a host's own block goes nowhere, although there is a default route."""
    eventually(lambda: world.a.routes("10.65.1.0/26") == ["blackhole 10.65.1.0/26 proto bird metric 32"])
    eventually(lambda: any(line.startswith("blackhole") for line in world.a.routes("fd65::40/122")))
    assert (
        world.a.namespace.run("ip", "route", "get", "10.65.1.9", check=False).stderr.strip()
        == "RTNETLINK answers: Invalid argument"
    )


@pytest.mark.parametrize("address", ["10.65.1.5", "fd65::45"])
def test_workload_in_the_own_block_stays_local(world: World, address: str) -> None:
    """A workload's own route is learned, wins over the blackhole, and is not announced beside its block."""
    family = 6 if ":" in address else 4
    length = 128 if family == 6 else 32
    with world.a.route(address, "dev", "cali1", "proto", "80", "metric", "1024"):
        eventually(
            lambda: any(
                f"{address}/{length}" in line.text
                for line in world.a.do(lambda: world.a.bird.control.ask("show route"))
            )
        )
        assert world.a.announced(family) == {BLOCKS["a"][family == 6]}
        assert "dev cali1" in world.a.namespace.run("ip", "route", "get", address).stdout


@pytest.mark.parametrize("address", ["10.65.1.7", "fd65::47"])
def test_borrowed_address_is_announced_by_itself(world: World, address: str) -> None:
    """A workload in another host's block is announced by the host that has it, and wins over the block everywhere."""
    with world.b.route(address, "dev", "cali1", "proto", "80", "metric", "1024"):
        eventually(lambda: any("via" in line for line in world.a.routes(address)))
    eventually(lambda: not world.a.routes(address))


def test_local_workload_wins_over_what_others_announce(world: World) -> None:
    """While a workload is here, another host that announces its address does not draw its traffic away."""
    words = ("10.65.1.5", "dev", "cali1", "proto", "80", "metric", "1024")
    with world.a.route(*words):
        eventually(
            lambda: any(
                "cali1" in line.text
                for line in world.a.do(lambda: world.a.bird.control.ask("show route 10.65.1.5/32 all"))
            )
        )
        with world.b.route(*words):

            def heard() -> bool:
                lines = world.a.do(lambda: world.a.bird.control.ask("show route 10.65.1.5/32"))
                return any("Node_10_0_1_1" in line.text for line in lines)

            eventually(heard)
            assert world.a.routes("10.65.1.5") == ["10.65.1.5 dev cali1 proto 80 scope link metric 1024"]


def test_nothing_outside_the_pools_is_announced(world: World) -> None:
    """Neither the operator's own routes nor what was learned from the fabric is announced; blocks are."""
    with (
        world.a.route("192.0.2.0/24", "via", "10.0.1.1", "proto", "static"),
        world.a.route("2001:db8:9::/48", "via", "fd00:1::1", "proto", "static"),
    ):

        def learned() -> bool:
            lines = [line.text for line in world.a.do(lambda: world.a.bird.control.ask("show route"))]
            return all(
                any(prefix in line for line in lines)
                for prefix in ("192.0.2.0/24", "2001:db8:9::/48", "0.0.0.0/0")
            )

        eventually(learned)
        assert world.a.announced(4) == {"10.65.1.0/26"}
        assert world.a.announced(6) == {"fd65::40/122"}


def test_only_workloads_addresses_are_announced_of_what_is_in_a_pool(world: World) -> None:
    """Routes of others into a pool stay here: networks, single addresses elsewhere, and networks on workload interfaces."""
    with (
        world.a.route("10.65.200.0/24", "via", "10.0.1.1", "proto", "static"),
        world.a.route("10.65.201.9", "via", "10.0.1.1", "proto", "static"),
        world.a.route("10.65.202.0/24", "dev", "cali1", "proto", "static"),
        world.a.route("blackhole", "10.65.0.0/16", "proto", "static"),
        world.a.route("fd65:0:0:9::/64", "via", "fd00:1::1", "proto", "static"),
        world.a.route("10.65.203.3", "dev", "cali1", "proto", "80", "metric", "1024"),
    ):

        def learned() -> bool:
            lines = [line.text for line in world.a.do(lambda: world.a.bird.control.ask("show route"))]
            prefixes = (
                "10.65.200.0/24",
                "10.65.202.0/24",
                "10.65.0.0/16",
                "fd65:0:0:9::/64",
                "10.65.203.3/32",
            )
            return all(any(prefix in line for line in lines) for prefix in prefixes)

        eventually(learned)
        assert world.a.announced(4) == {"10.65.1.0/26", "10.65.203.3/32"}
        assert world.a.announced(6) == {"fd65::40/122"}


def test_many_changes_of_peers_leave_the_other_sessions_alone(world: World) -> None:
    """Forty peers come, change and go in quick succession; the sessions that were there keep their time stamps."""
    before = world.a.sessions()
    for number in range(40):
        more = peer("more", node="a", peer_ip=f"10.0.1.{100 + number % 20}", as_number=65100 + number % 3)
        assert world.a.load(text("a", more)) == "reloaded"
    assert world.a.load(text("a")) == "reloaded"
    assert world.a.sessions() == before


def test_a_bird_without_its_socket_is_replaced_without_losing_a_route(world: World) -> None:
    """Somebody removes the control socket and the pid file: the old BIRD ends, a new one takes over, routes stay."""
    eventually(lambda: world.b.routes("10.65.1.0/26"))
    with Watched(world.a) as here, Watched(world.b) as there:
        (world.a.run_dir / "bird.ctl").unlink()
        (world.a.run_dir / "bird.pid").unlink()
        assert world.a.load(text("a")) == "started"
        running = world.a.namespace.call(lambda: listening_at(world.a.run_dir / "bird.ctl"))
        assert running == [int((world.a.run_dir / "bird.pid").read_text())]
        eventually(world.a.established)
        eventually(lambda: not world.a.do(world.a.bird.control.status).recovering)

    assert here.deleted() == []
    assert there.deleted() == []


def test_a_stopped_bird_is_reported_with_what_to_do(world: World) -> None:
    """A BIRD that hangs is not touched; the sentence names it, and doing as it says mends it."""
    pid = int((world.a.run_dir / "bird.pid").read_text())
    quick = Bird(world.a.run_dir)
    quick.control = Control(world.a.run_dir / "bird.ctl", timeout=0.3)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Silent, match=rf"kill -9 {pid}\)"):
            world.a.do(lambda: quick.ensure(text("a")))
    finally:
        os.kill(pid, signal.SIGKILL)
    assert world.a.load(text("a")) == "started"
    eventually(world.a.established)


def test_reload_adds_a_peer_without_flap(world: World) -> None:
    """A new peer leaves the sessions and the kernel routes of the others as they were."""
    before = world.a.sessions()
    with Watched(world.a) as watched:
        more = peer("more", node="a", peer_ip="10.0.1.99", as_number=65099)
        assert world.a.load(text("a", more)) == "reloaded"
        assert set(world.a.sessions()) - set(before) == {"Node_10_0_1_99"}
        assert world.a.load(text("a")) == "reloaded"

    assert world.a.sessions() == before
    assert watched.deleted() == []


def test_new_block_is_announced_at_once(world: World) -> None:
    """A reload with another block announces it, and withdraws it with the next one."""
    blocks = (*BLOCKS["a"], "10.65.3.0/26")
    assert world.a.load(render(speaker("a", *FACTS, blocks=blocks))) == "reloaded"
    eventually(lambda: world.b.routes("10.65.3.0/26"))
    world.a.load(text("a"))
    eventually(lambda: not world.b.routes("10.65.3.0/26"))


def test_what_may_be_announced_can_change_without_a_flap(world: World) -> None:
    """A pool that is kept out of BGP is withdrawn, and announced again later, in sessions that stay as they are."""
    hidden = [
        pool("v4", "10.65.0.0/16", disable_bgp_export=True) if fact.metadata.name == "v4" else fact
        for fact in FACTS
    ]
    before = world.a.sessions()
    eventually(lambda: world.b.routes("10.65.1.0/26"))
    assert world.a.load(render(speaker("a", *hidden, blocks=BLOCKS["a"]))) == "reloaded"
    eventually(lambda: not world.b.routes("10.65.1.0/26"))
    assert world.b.routes("fd65::40/122")
    assert world.a.load(text("a")) == "reloaded"
    eventually(lambda: world.b.routes("10.65.1.0/26"))
    assert world.a.sessions() == before


def test_crash_and_restart_lose_no_route(world: World) -> None:
    """BIRD is killed and started again; no kernel route is ever taken away, here or at the other host."""
    eventually(lambda: world.b.routes("10.65.1.0/26"))
    with Watched(world.a) as here, Watched(world.b) as there:
        world.a.kill()
        assert world.a.routes("10.65.2.0/26") != []
        assert world.a.load(text("a")) == "started"
        eventually(world.a.established)
        eventually(lambda: not world.a.do(world.a.bird.control.status).recovering)
        # Two scans of the kernel's table later anything wrongly held for stale would be gone.
        time.sleep(4)

    assert here.deleted() == []
    assert world.a.routes("fd65::40/122") != []
    assert there.deleted() == []


def test_stop_leaves_routes_here_and_at_peers(world: World) -> None:
    """After a graceful stop all routes go on; the next start takes them over without a gap."""
    with Watched(world.a) as here, Watched(world.b) as there:
        world.a.do(world.a.bird.stop)
        assert not world.a.do(world.a.bird.running)
        assert world.a.routes("10.65.2.0/26") != []
        assert world.a.load(text("a")) == "started"
        eventually(world.a.established)
        eventually(lambda: not world.a.do(world.a.bird.control.status).recovering)

    assert here.deleted() == []
    assert there.deleted() == []
