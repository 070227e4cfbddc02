"""Our reading of the kernel against an independent one: pyroute2's."""

from __future__ import annotations

import socket

import pytest
from pyroute2 import IPRoute

from calico.model.address import parse_address, parse_cidr
from calico.programming.netlink import ROUTE, Channel
from calico.programming.rtnetlink import (
    device_route,
    list_addresses,
    list_links,
    list_neighbours,
    list_routes,
    put_neighbour,
    put_route,
)
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]


def furnish(inside: Namespace) -> None:
    """Interfaces, addresses, routes and neighbours of many kinds."""
    inside.run("sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=1")
    for words in (
        "link add cali1 type veth peer name p1",
        "link set cali1 up",
        "link set p1 up mtu 1400",
        "addr add 192.168.7.1/24 dev p1",
        "addr add fd00:7::1/64 dev p1 nodad",
        "route add 10.1.0.0/16 via 192.168.7.2 metric 7 proto bird",
        "route add 10.2.0.0/16 proto static nexthop via 192.168.7.2 nexthop via 192.168.7.3",
        "route add 10.4.0.1 dev cali1 mtu 900 src 192.168.7.1",
        "route add blackhole 10.3.0.0/26 proto 80",
        "route add default via 192.168.7.2",
        "route add 10.5.0.0/16 via inet6 fe80::7 dev p1",
        "-6 route add fd00:1::/64 via fd00:7::2 proto bird",
        "-6 route add fd00:3::/64 nexthop via fd00:7::2 nexthop via fd00:7::3",
        "-6 route add blackhole fd00:2::/122",
        "neigh replace 192.168.7.2 lladdr 02:00:00:00:00:07 dev p1 nud permanent",
        "-6 neigh replace fd00:7::2 lladdr 02:00:00:00:00:07 dev p1 nud permanent",
    ):
        inside.run("ip", *words.split())


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[object, object]]:
    """What we read, and what pyroute2 reads, of one namespace."""
    with namespaces("t-routes-oracle") as (inside,):
        furnish(inside)
        return inside.call(both)


def both() -> dict[str, tuple[object, object]]:
    with Channel(ROUTE) as channel:
        index = {link.name: link.number for link in list_links(channel)}["cali1"]
        for text in ("10.65.0.1", "fd00:65::1"):
            address = parse_address(text)
            channel.transact(
                [
                    put_route(device_route(address, index, metric=1024, protocol=3)),
                    put_neighbour(index, address, "02:00:00:00:00:01"),
                ]
            )
        ours = {
            "links": {
                (link.number, link.name, link.up, link.running, link.mtu, link.mac)
                for link in list_links(channel)
            },
            "addresses": {(one.interface, one.address) for one in list_addresses(channel)},
            "routes": {
                (r.destination, r.interface, r.metric, r.protocol, r.scope, r.tos, r.type, r.plain)
                for r in [*list_routes(channel, 4), *list_routes(channel, 6)]
            },
            "neighbours": {
                (n.interface, n.address, n.mac, n.state)
                for n in [*list_neighbours(channel, 4), *list_neighbours(channel, 6)]
                if n.state & 0x80
            },
        }
    theirs = oracle()
    return {name: (ours[name], theirs[name]) for name in ours}


def oracle() -> dict[str, object]:
    not_plain = ("RTA_GATEWAY", "RTA_VIA", "RTA_PREFSRC", "RTA_METRICS", "RTA_MULTIPATH", "RTA_NH_ID")
    empty = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
    with IPRoute() as kernel:
        return {
            "links": {
                (
                    link["index"],
                    link.get_attr("IFLA_IFNAME"),
                    bool(link["flags"] & 1),
                    bool(link["flags"] & 0x40),
                    link.get_attr("IFLA_MTU"),
                    link.get_attr("IFLA_ADDRESS"),
                )
                for link in kernel.get_links()
            },
            "addresses": {
                (one["index"], parse_address(one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")))
                for one in kernel.get_addr()
            },
            "routes": {
                (
                    parse_cidr(f"{r.get_attr('RTA_DST') or empty[r['family']]}/{r['dst_len']}"),
                    r.get_attr("RTA_OIF") or 0,
                    r.get_attr("RTA_PRIORITY") or 0,
                    r["proto"],
                    r["scope"],
                    r["tos"],
                    r["type"],
                    all(r.get_attr(name) is None for name in not_plain),
                )
                for family in (socket.AF_INET, socket.AF_INET6)
                for r in kernel.get_routes(family=family, table=254)
            },
            "neighbours": {
                (n["ifindex"], parse_address(n.get_attr("NDA_DST")), n.get_attr("NDA_LLADDR"), n["state"])
                for family in (socket.AF_INET, socket.AF_INET6)
                for n in kernel.get_neighbours(family=family)
                if n["state"] & 0x80
            },
        }


@pytest.mark.parametrize("kind", ["links", "addresses", "routes", "neighbours"])
def test_both_read_the_same(pictures: dict[str, tuple[object, object]], kind: str) -> None:
    """Every object of the namespace, of whatever kind, reads the same both ways."""
    ours, theirs = pictures[kind]

    assert ours == theirs
    assert ours
