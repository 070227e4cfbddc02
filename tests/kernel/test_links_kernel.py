"""Workload interfaces are found, made ready, and carry packets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from calico.desired import RouteRow
from calico.model.address import parse_cidr
from calico.model.settings import Settings
from calico.programming.links import IPV6_GATEWAY, WORKLOAD_MAC, Links, take_inventory
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from support.netns import Namespace, link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]


@pytest.fixture
def host() -> Iterator[Namespace]:
    with namespaces("t-links-host") as (inside,):
        inside.run("ip", "link", "add", "cali1", "type", "veth", "peer", "name", "p1")
        inside.run("ip", "link", "set", "p1", "up")
        inside.run("ip", "link", "set", "cali1", "up")
        yield inside


def value(inside: Namespace, path: str) -> str | None:
    return inside.call(lambda: Sysctls().read(path))


def test_inventory_knows_states_and_addresses(host: Namespace) -> None:
    """Each interface with its state, and full-length addresses whatever prefix they were given with."""
    host.run("ip", "link", "add", "up1", "type", "veth", "peer", "name", "tap7")
    host.run("ip", "link", "set", "up1", "up")
    host.run("ip", "addr", "add", "192.168.7.1/24", "dev", "up1")
    host.run("ip", "addr", "add", "192.168.7.9", "peer", "192.168.8.9", "dev", "up1")
    host.run("ip", "link", "set", "up1", "mtu", "1400", "address", "02:00:00:00:00:09")

    inventory = host.call(take_inventory)

    up1 = inventory.links["up1"]
    assert (up1.up, up1.running, up1.mtu, up1.mac) == (True, False, 1400, "02:00:00:00:00:09")
    assert inventory.is_up("cali1")
    assert not inventory.is_up("up1")
    assert not inventory.is_up("none")
    assert list(inventory.workloads(("cali",))) == ["cali1"]
    found = inventory.host_interfaces(("cali", "tap"))
    assert set(found) == {"up1", "p1"}
    assert found["up1"] == {parse_cidr("192.168.7.1"), parse_cidr("192.168.7.9")}


def test_a_workload_interface_is_prepared_once_it_is_up(host: Namespace) -> None:
    """Proxy ARP without delay, forwarding, no router advertisements, and the gateway's address; only where a workload is."""
    links = Links(Settings())

    assert host.call(links.changed) == {"lo", "cali1", "p1"}

    assert {
        path: value(host, path)
        for path in (
            "ipv4/conf/cali1/proxy_arp",
            "ipv4/neigh/cali1/proxy_delay",
            "ipv4/conf/cali1/route_localnet",
            "ipv4/conf/cali1/forwarding",
            "ipv6/conf/cali1/proxy_ndp",
            "ipv6/conf/cali1/forwarding",
            "ipv6/conf/cali1/accept_ra",
            "ipv4/conf/p1/proxy_arp",
        )
    } == {
        "ipv4/conf/cali1/proxy_arp": "1",
        "ipv4/neigh/cali1/proxy_delay": "0",
        "ipv4/conf/cali1/route_localnet": "1",
        "ipv4/conf/cali1/forwarding": "1",
        "ipv6/conf/cali1/proxy_ndp": "1",
        "ipv6/conf/cali1/forwarding": "1",
        "ipv6/conf/cali1/accept_ra": "0",
        "ipv4/conf/p1/proxy_arp": "0",
    }
    assert IPV6_GATEWAY in host.call(take_inventory).addresses["cali1"]
    assert IPV6_GATEWAY not in host.call(take_inventory).addresses["p1"]
    assert links.problems == {}
    assert set(links.host_interfaces) == {"p1"}


def test_changed_names_what_differs(host: Namespace) -> None:
    """Only interfaces that came, went, changed state or addresses are named."""
    links = Links(Settings())
    host.call(links.changed)
    host.call(links.changed)  # the gateway's address, which the first look gave

    host.run("ip", "addr", "add", "10.9.9.9/32", "dev", "p1")
    host.run("ip", "link", "add", "new0", "type", "veth", "peer", "name", "new1")
    named = host.call(links.changed)
    host.run("ip", "link", "del", "new0")

    assert named >= {"p1", "new0", "new1"}
    assert "lo" not in named
    assert host.call(links.changed) >= {"new0", "new1"}


def test_sync_repairs_settings_of_a_prepared_interface(host: Namespace) -> None:
    """What others changed is put back and reported; a new interface is prepared without a report."""
    links = Links(Settings())
    assert host.call(links.sync) == []
    assert host.call(links.sync) == []
    host.run("sysctl", "-qw", "net.ipv4.conf.cali1.proxy_arp=0")
    host.run("ip", "addr", "del", f"{IPV6_GATEWAY.address}/64", "dev", "cali1")

    drift = [f"{one.what}: {one.found}" for one in host.call(links.sync)]

    assert drift == [
        "setting ipv4/conf/cali1/proxy_arp: changed: 0",
        f"address {IPV6_GATEWAY.address} on cali1: missing",
    ]
    assert value(host, "ipv4/conf/cali1/proxy_arp") == "1"
    assert host.call(links.sync) == []


def test_an_interface_made_again_is_prepared_again(host: Namespace) -> None:
    """A new interface under an old name starts with the kernel's defaults, and is prepared anew."""
    links = Links(Settings())
    host.call(links.changed)
    host.run("ip", "link", "del", "cali1")
    host.run("ip", "link", "add", "cali1", "type", "veth", "peer", "name", "p1")
    host.run("ip", "link", "set", "p1", "up")
    host.call(links.changed)
    assert value(host, "ipv4/conf/cali1/proxy_arp") == "0"

    host.run("ip", "link", "set", "cali1", "up")
    host.call(links.changed)

    assert value(host, "ipv4/conf/cali1/proxy_arp") == "1"


def test_the_gateway_address_answers_at_once(host: Namespace) -> None:
    """The address that the kernel makes from the usual mac, and would first check for a second, is usable at once."""
    host.run("ip", "link", "set", "cali1", "down")
    host.run("ip", "link", "set", "cali1", "address", WORKLOAD_MAC)
    host.run("sysctl", "-qw", "net.ipv6.conf.cali1.dad_transmits=20")
    host.run("ip", "link", "set", "cali1", "up")
    assert "tentative" in host.run("ip", "-6", "addr", "show", "dev", "cali1").stdout
    links = Links(Settings())

    host.call(links.changed)

    shown = host.run("ip", "-6", "addr", "show", "dev", "cali1").stdout
    assert f"inet6 {IPV6_GATEWAY.address}/64 scope link nodad" in shown
    assert "tentative" not in shown
    assert host.call(links.sync) == []


def test_without_ipv6_support_advertisements_are_refused_all_the_same(host: Namespace) -> None:
    """With ipv6Support off nothing of IPv6 is set up, but a workload still cannot advertise itself as a router."""
    links = Links(Settings(ipv6_support=False))

    host.call(links.changed)

    assert value(host, "ipv6/conf/cali1/accept_ra") == "0"
    assert value(host, "ipv6/conf/cali1/proxy_ndp") == "0"
    assert IPV6_GATEWAY not in host.call(take_inventory).addresses["cali1"]


def test_where_ipv6_is_disabled_an_interface_is_still_ready(host: Namespace) -> None:
    """An interface with IPv6 disabled by the operator is no problem."""
    host.run("sysctl", "-qw", "net.ipv6.conf.cali1.disable_ipv6=1")
    links = Links(Settings())

    host.call(links.changed)

    assert links.problems == {}
    assert host.call(links.sync) == []


@pytest.mark.parametrize("mac", ["", WORKLOAD_MAC], ids=["any mac", "usual mac"])
def test_workloads_reach_each_other_through_their_gateways(mac: str) -> None:
    """Proxy ARP answers for 169.254.1.1, the gateway's address for IPv6, and two workloads ping each other in both families."""
    names = ("t-links-ping", "t-links-ping1", "t-links-ping2")
    with namespaces(*names) as (host, *workloads):
        rows = {}
        for n, workload in enumerate(workloads, 1):
            # No duplicate address detection: addresses are unique by assignment, and tests do not wait.
            workload.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            link(host, f"cali{n}", workload, "eth0")
            if mac:
                host.run("ip", "link", "set", f"cali{n}", "address", mac)
            own = workload.call(take_inventory).links["eth0"].mac
            for address in (f"10.65.0.{n}", f"fd00:65::{n}"):
                rows[parse_cidr(address)] = RouteRow(f"cali{n}", own if n == 1 else "")
            workload.run("ip", "addr", "add", f"10.65.0.{n}/32", "dev", "eth0")
            workload.run("ip", "addr", "add", f"fd00:65::{n}/128", "dev", "eth0", "nodad")
            workload.run("ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
            workload.run("ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
            workload.run("ip", "-6", "route", "add", "default", "via", IPV6_GATEWAY.address, "dev", "eth0")

        host.call(lambda: Sysctls().prepare_host())
        # Proxy ARP answers for what is routed elsewhere: the host needs a route to the gateway's address, as hosts have.
        host.run("ip", "route", "add", "default", "dev", "lo")
        links, routes = Links(Settings()), Routes(Settings())
        host.call(links.sync)
        host.call(lambda: routes.sync(rows))

        one, two = workloads
        one.run("ping", "-c1", "-W5", "10.65.0.2")
        two.run("ping", "-c1", "-W5", "10.65.0.1")
        one.run("ping", "-6", "-c1", "-W5", "fd00:65::2")
        two.run("ping", "-6", "-c1", "-W5", "fd00:65::1")
        neighbour = one.run("ip", "neigh", "show", "169.254.1.1").stdout
        assert host.call(take_inventory).links["cali1"].mac in neighbour
