"""Real BIRDs on uplinks: BFD, routers known by nothing but the interface, two of them at once, and workloads that peer.

host has two links, eth0 to tor1 and eth1 to tor2; each router announces 192.0.2.0/24 and its own 198.51.100.<n>/32.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calico.bgp.bird import render
from calico.model.bfd import BFDConfiguration, BFDConfigurationSpec, BFDInterface
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.resource import Metadata, Resource
from support.birds import Host, eventually
from support.netns import Namespace, link, namespaces, needs_root
from support.speakers import configuration, node, peer, pool, route_filter, speaker

pytestmark = [pytest.mark.root, needs_root]

ROUTER = """\
router id 198.51.100.{number};
timeformat protocol "%Y-%m-%dT%H:%M:%S";
protocol device {{ scan time 2; }}
protocol direct {{ ipv4; ipv6; }}
protocol static {{ ipv4; route 192.0.2.0/24 unreachable; route 198.51.100.{number}/32 unreachable; }}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol kernel {{ ipv6 {{ export where source = RTS_BGP; }}; }}
protocol bfd {{ interface "*" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }}; }}
template bgp host {{ local as 65001; direct; connect delay time 1; connect retry time 1; error wait time 1, 2; {options} }}
{session}
"""
NUMBERED = """\
protocol bgp host4 from host {{ neighbor 10.0.{number}.11 as 65011;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}
"""
UNNUMBERED = """\
protocol bgp hosts from host { neighbor range fe80::/10 external; interface "to-host"; dynamic name "nb";
  ipv4 { import all; export where source = RTS_STATIC; extended next hop on; next hop self; };
  ipv6 { import all; export where source = RTS_STATIC; }; }
"""
POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))
NO_MESH = configuration(node_to_node_mesh_enabled=False)
WATCHED = {"failure_detection_mode": "BFDIfDirectlyConnected"}
TIMING = BFDConfiguration(
    metadata=Metadata(name="racks"),
    spec=BFDConfigurationSpec(
        node_selector="all()",
        interfaces=[
            BFDInterface(
                match_pattern="eth*",
                minimum_recv_interval="100ms",
                minimum_send_interval="100ms",
                multiplier=3,
            )
        ],
    ),
)
HERE = node("host", "10.0.1.11", as_number=65011)


class Router:
    """A top-of-rack router, whose configuration is not ours."""

    def __init__(self, number: int, namespace: Namespace, directory: Path) -> None:
        self.number = number
        self.namespace = namespace
        self._files = directory / f"tor{number}"

    def start(self, session: str, options: str = "") -> None:
        """Start its BIRD anew."""
        self.end()
        config = self._files.with_suffix(".conf")
        text = session.format(number=self.number) if "{number}" in session else session
        config.write_text(ROUTER.format(number=self.number, session=text, options=options))
        paths = [str(self._files.with_suffix(suffix)) for suffix in (".conf", ".ctl", ".pid")]
        self.namespace.run("bird", "-c", paths[0], "-s", paths[1], "-P", paths[2])

    @property
    def pid(self) -> int | None:
        """Its BIRD, if it runs."""
        try:
            return int(self._files.with_suffix(".pid").read_text())
        except FileNotFoundError:
            return None

    def end(self) -> None:
        """Kill its BIRD, if it runs."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: not Path(f"/proc/{pid}").exists())
            self._files.with_suffix(".pid").unlink()

    def routes(self, prefix: str) -> list[str]:
        """The kernel's routes to exactly ``prefix``."""
        family = "-6" if ":" in prefix else "-4"
        lines = self.namespace.run("ip", family, "route", "show", "exact", prefix).stdout.splitlines()
        return [" ".join(line.split()) for line in lines]

    def link_local(self) -> str:
        """Its link-local address towards the host, once it may be used."""

        def addresses() -> list[str]:
            words = self.namespace.run(
                "ip", "-6", "-o", "address", "show", "dev", "to-host", "scope", "link"
            ).stdout
            return [word.partition("/")[0] for word in words.split() if word.startswith("fe80::")]

        eventually(addresses)
        return addresses()[0]


class World:
    """A host and its two routers."""

    def __init__(self, host: Host, *routers: Router) -> None:
        self.host = host
        self.routers = routers

    def load(self, *facts: Resource, **more: Any) -> None:
        """Tell the host."""
        blocks = ("10.65.0.0/26", "fd65::/122")
        self.host.load(render(speaker("host", HERE, *POOLS, *facts, blocks=blocks, **more)))

    def next_hops(self, prefix: str) -> int:
        """How many ways the host's kernel has to a prefix."""
        return sum(line.count("via") for line in self.host.routes(prefix))

    def watched(self, address: str) -> bool:
        """Whether BFD sees the router at ``address``; before that it cannot notice that it has gone."""
        lines = self.host.do(lambda: self.host.bird.control.ask("show bfd sessions"))
        return any(f"{address} " in line.text and " Up " in line.text for line in lines)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The namespaces; the routers' BIRDs are started by the tests."""
    directory = tmp_path_factory.mktemp("up")
    mark = os.getpid()
    with namespaces(*(f"t-bgp-u{number}-{mark}" for number in range(3))) as (inside, *outside):
        routers = []
        for number, namespace in enumerate(outside, start=1):
            link(inside, f"eth{number - 1}", namespace, "to-host")
            namespace.run("ip", "address", "add", f"10.0.{number}.1/24", "dev", "to-host")
            routers.append(Router(number, namespace, directory))
        inside.run("ip", "address", "add", "10.0.2.11/24", "dev", "eth1")
        yield World(Host("host", inside, directory / "host", "10.0.1.11/24"), *routers)
        for router in routers:
            router.end()


def numbered(number: int, **more: Any) -> Resource:
    """The peering with a router by its address."""
    source = {} if number == 1 else {"source_address": "None"}
    return peer(f"tor{number}", peer_ip=f"10.0.{number}.1", as_number=65001, **source, **more)


def test_silent_router_is_noticed_by_bfd(world: World) -> None:
    """A router that stops without a word loses its routes long before the hold time of four minutes is over."""
    first = world.routers[0]
    first.start(NUMBERED, "bfd on;")
    world.load(NO_MESH, numbered(1, **WATCHED), TIMING)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 1)
    eventually(lambda: world.watched("10.0.1.1"))
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    eventually(lambda: world.host.routes("192.0.2.0/24") == [])
    os.kill(first.pid, signal.SIGCONT)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 1)
    eventually(lambda: first.routes("10.65.0.0/26"))


def test_two_routers_are_used_side_by_side(world: World) -> None:
    """What both routers announce has two next hops, until one of them ends; what one announces has one."""
    for router in world.routers:
        router.start(NUMBERED, "bfd on;")
    second = node("host", "10.0.1.11", as_number=65011)
    world.load(second, NO_MESH, numbered(1, **WATCHED), numbered(2), TIMING)

    eventually(lambda: world.next_hops("192.0.2.0/24") == 2)
    assert world.next_hops("198.51.100.1") == 1
    world.routers[1].end()
    eventually(lambda: world.next_hops("192.0.2.0/24") == 1)


def test_routers_known_by_the_interface_alone(world: World) -> None:
    """Two routers without addresses carry IPv4 and IPv6 over their link-local ones, side by side, watched by BFD."""
    for router in world.routers:
        router.start(UNNUMBERED, "bfd on;")
    seen = {"eth0": world.routers[0].link_local(), "eth1": world.routers[1].link_local()}
    peers = [peer(f"t{number}", peer_interface=f"eth{number}", **WATCHED) for number in range(2)]
    world.load(NO_MESH, *peers, TIMING, routers=seen)

    eventually(world.host.established)
    assert set(world.host.sessions()) == {"Global_eth0", "Global_eth1"}
    eventually(lambda: world.next_hops("192.0.2.0/24") == 2)
    text = " ".join(world.host.routes("192.0.2.0/24"))
    assert all(f"via inet6 {address} dev {interface}" in text for interface, address in seen.items())
    for router in world.routers:
        eventually(
            lambda router=router: any("via inet6 fe80::" in line for line in router.routes("10.65.0.0/26"))
        )
        eventually(lambda router=router: any("via fe80::" in line for line in router.routes("fd65::/122")))

    pid = world.routers[1].pid
    assert pid is not None
    eventually(lambda: world.watched(seen["eth1"]))
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 1)
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 2)


def test_link_that_goes_down_takes_its_routes_along(world: World) -> None:
    """When a link fails visibly the other one carries everything at once, without BFD."""
    for router in world.routers:
        router.start(UNNUMBERED)
    seen = {"eth0": world.routers[0].link_local(), "eth1": world.routers[1].link_local()}
    world.load(NO_MESH, *(peer(f"t{n}", peer_interface=f"eth{n}") for n in range(2)), routers=seen)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 2)

    world.routers[1].namespace.run("ip", "link", "set", "to-host", "down")
    eventually(lambda: world.next_hops("192.0.2.0/24") == 1)
    world.routers[1].namespace.run("ip", "link", "set", "to-host", "up")
    seen["eth1"] = world.routers[1].link_local()
    world.load(NO_MESH, *(peer(f"t{n}", peer_interface=f"eth{n}") for n in range(2)), routers=seen)
    eventually(lambda: world.next_hops("192.0.2.0/24") == 2)


def test_a_peering_more_leaves_the_others_alone(world: World) -> None:
    """BFD, a filter and another peer come and go; the session that none of them concerns keeps its time stamp."""
    for router in world.routers:
        router.start(NUMBERED)
    world.load(NO_MESH, numbered(1))
    eventually(world.host.established)
    before = world.host.sessions()

    world.load(NO_MESH, numbered(1), numbered(2, filters=["f"]), route_filter("f"), TIMING)
    eventually(world.host.established)
    unnumbered = peer("waits", peer_interface="eth7")
    world.load(NO_MESH, numbered(1), numbered(2, keepalive_time="9s", **WATCHED), TIMING, unnumbered)
    eventually(world.host.established)
    world.load(NO_MESH, numbered(1))

    assert world.host.sessions() == before


def test_workload_announces_what_a_filter_accepts(world: World) -> None:
    """A workload of the host peers with it: of what it announces only what a filter accepts goes on to the fabric."""
    first = world.routers[0]
    first.start(NUMBERED)
    world.routers[1].end()
    host = world.host.namespace
    with namespaces(f"t-bgp-w-{os.getpid()}") as (inside,):
        link(host, "cali2", inside, "eth0")
        inside.run("ip", "address", "add", "10.65.0.5/32", "dev", "eth0")
        inside.run("ip", "route", "add", "169.254.2.1", "dev", "eth0")
        inside.run("ip", "route", "add", "default", "via", "169.254.2.1", "dev", "eth0")
        host.run("ip", "address", "add", "169.254.2.1/32", "dev", "cali2")
        host.run("ip", "route", "add", "10.65.0.5", "dev", "cali2", "proto", "80", "metric", "1024")
        workload = Host("w", inside, world.host.run_dir.parent / "w")
        try:
            workload.load(
                'timeformat protocol "%Y-%m-%dT%H:%M:%S"; router id 10.65.0.5; protocol device {}\n'
                "protocol static { ipv4; route 10.65.200.0/24 unreachable; route 10.1.0.0/16 unreachable; }\n"
                "protocol bgp up { local 10.65.0.5 as 65200; neighbor 169.254.2.1 as 65011; multihop;\n"
                "  connect delay time 1; connect retry time 1; ipv4 { import all; export all; }; }\n"
            )
            world.load(
                NO_MESH,
                numbered(1),
                configuration(node_to_node_mesh_enabled=False, local_workload_peering_ipv4="169.254.2.1"),
                peer("routers", local_workload_selector="has(router)", as_number=65200, filters=["children"]),
                route_filter(
                    "children",
                    importV4=[{"action": "Accept", "cidr": "10.65.200.0/24", "matchOperator": "In"}],
                ),
                WorkloadEndpoint(
                    metadata=Metadata(name="w", namespace="apps", labels={"router": ""}),
                    spec=WorkloadEndpointSpec(
                        node="host", ip_networks=["10.65.0.5/32"], interface_name="cali2"
                    ),
                ),
            )
            eventually(lambda: world.host.learned("Local_Workload_10_65_0_5") == {"10.65.200.0/24"})
            eventually(lambda: any("dev cali2" in line for line in world.host.routes("10.65.200.0/24")))
            eventually(lambda: first.routes("10.65.200.0/24"))
            eventually(lambda: "10.65.0.0/26" in workload.learned("up"))
            assert first.routes("10.1.0.0/16") == []
            assert world.host.routes("10.1.0.0/16") == []
        finally:
            workload.do(workload.bird.remove)
