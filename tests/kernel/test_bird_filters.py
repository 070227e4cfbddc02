"""Real BIRDs on one link: what filters, communities, priorities and services make of routes.

a and b are hosts of ours, in ASes of their own; c is a router whose configuration is not ours, AS 65003.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import convert

from calico.bgp.bird import render
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec
from calico.model.resource import Metadata, Resource
from support.birds import Host, eventually, rack
from support.netns import needs_root
from support.speakers import node, peer, pool, route_filter, speaker

pytestmark = [pytest.mark.root, needs_root]

ROUTER = """\
router id 10.0.0.3;
timeformat protocol "%Y-%m-%dT%H:%M:%S";
protocol device { scan time 2; }
protocol direct { ipv4; ipv6; }
protocol static static4 {
  ipv4;
  route 192.0.2.0/24 unreachable { bgp_community.add((65003, 1)); };
  route 198.51.100.0/24 unreachable { bgp_community.add((65003, 2)); };
  route 203.0.113.0/24 unreachable { bgp_large_community.add((65003, 0, 3)); bgp_path.prepend(64999); };
}
protocol static static6 { ipv6; route 2001:db8::/32 unreachable; }
template bgp host {
  local as 65003; direct;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
}
protocol bgp a4 from host { neighbor 10.0.0.1 as 65001; ipv4 { import all; export where source = RTS_STATIC; next hop self; }; }
protocol bgp a6 from host { neighbor fd00::1 as 65001; ipv6 { import all; export where source = RTS_STATIC; next hop self; }; }
"""

NODES = (node("a", "10.0.0.1", "fd00::1", as_number=65001), node("b", "10.0.0.2", "fd00::2", as_number=65001))
POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))
BLOCKS = {"a": ("10.65.1.0/26", "fd65::40/122"), "b": ("10.65.2.0/26", "fd65::80/122")}
MINE = {"10.65.1.0/26"}
THEIRS = {"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"}

Hosts = dict[str, Host]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """The three, the router with its configuration."""
    with rack("f", tmp_path_factory.mktemp("filters"), "a", "b", "c") as made:
        made["c"].load(ROUTER)
        yield made


def text(name: str, *facts: Resource, filters: tuple[str, ...] = ()) -> str:
    """The configuration of a host; the router is a's peer in both families, with filters."""
    routers = [
        peer(ip, node="a", peer_ip=ip, as_number=65003, filters=list(filters))
        for ip in ("10.0.0.3", "fd00::3")
    ]
    return render(speaker(name, *NODES, *POOLS, *routers, *facts, blocks=BLOCKS[name]))


def load(hosts: Hosts, *facts: Resource, filters: tuple[str, ...] = ()) -> None:
    """Tell a and b, and wait until the sessions are up."""
    for name in ("a", "b"):
        hosts[name].load(text(name, *facts, filters=filters))
    eventually(lambda: all(hosts[name].established() for name in ("a", "b", "c")))


def settings(**spec: Any) -> BGPConfiguration:
    """A BGP configuration, as YAML has it."""
    return BGPConfiguration(metadata=Metadata(name="default"), spec=convert(spec, BGPConfigurationSpec))


def test_filters_decide_before_our_rules(hosts: Hosts) -> None:
    """Exactly what the filters let pass is announced and believed; what no rule matches goes by our own rules."""
    load(
        hosts,
        route_filter(
            "f",
            importV4=[
                {"action": "Accept", "communities": {"values": ["65003:1"]}},
                {"action": "Reject", "cidr": "198.51.100.0/24", "matchOperator": "Equal"},
            ],
            exportV4=[
                {
                    "action": "Accept",
                    "cidr": "10.77.0.0/16",
                    "matchOperator": "In",
                    "prefixLength": {"min": 32},
                }
            ],
            exportV6=[{"action": "Reject", "cidr": "fd65::/48", "matchOperator": "In"}],
        ),
        filters=("f",),
    )

    with (
        hosts["a"].route("10.77.0.1", "dev", "cali1", "metric", "1024"),
        hosts["a"].route("10.77.1.0/24", "dev", "cali1", "metric", "1024"),
        hosts["a"].route("10.78.0.1", "dev", "cali1", "metric", "1024"),
    ):
        eventually(lambda: hosts["c"].learned("a4") == MINE | {"10.77.0.1/32"})
    eventually(lambda: hosts["a"].learned("Node_10_0_0_3") == THEIRS - {"198.51.100.0/24"})
    eventually(lambda: hosts["a"].routes("192.0.2.0/24"))
    assert hosts["a"].routes("198.51.100.0/24") == []
    assert hosts["c"].learned("a6") == set()


def test_matches_of_filters(hosts: Hosts) -> None:
    """AS paths, large communities and NotIn are matched as they are written."""
    load(
        hosts,
        route_filter(
            "f",
            importV4=[
                {"action": "Accept", "asPathPrefix": [65003, 64999]},
                {
                    "action": "Accept",
                    "cidr": "192.0.2.0/23",
                    "matchOperator": "In",
                    "prefixLength": {"max": 23},
                },
                {"action": "Reject", "peerType": "iBGP"},
                {"action": "Reject", "source": "RemotePeers"},
            ],
        ),
        filters=("f",),
    )

    eventually(lambda: hosts["a"].learned("Node_10_0_0_3") == {"203.0.113.0/24"})
    hosts["a"].load(
        text(
            "a",
            route_filter(
                "f",
                importV4=[
                    {"action": "Reject", "communities": {"values": ["65003:0:3"]}},
                    {"action": "Reject", "cidr": "192.0.2.0/24", "matchOperator": "NotIn"},
                ],
            ),
            filters=("f",),
        )
    )
    eventually(lambda: hosts["a"].learned("Node_10_0_0_3") == {"192.0.2.0/24"})


def test_a_changed_filter_ends_no_session(hosts: Hosts) -> None:
    """Filters come, change and go, and routes with them, while every session goes on."""
    load(hosts, filters=())
    eventually(lambda: hosts["c"].learned("a4") == MINE)
    before = {name: host.sessions() for name, host in hosts.items()}

    reject = [{"action": "Reject"}]
    for rules, given, taken in (
        ({"exportV4": reject}, set(), THEIRS),
        ({"importV4": reject}, MINE, set()),
        (None, set(), set()),
        ({}, MINE, THEIRS),
    ):
        more = [] if rules is None else [route_filter("f", **rules)]
        assert hosts["a"].load(text("a", *more, filters=("f",))) == "reloaded"
        eventually(lambda given=given: hosts["c"].learned("a4") == given)
        eventually(lambda taken=taken: hosts["a"].learned("Node_10_0_0_3") == taken)
    assert {name: host.sessions() for name, host in hosts.items()} == before


def test_operations_are_seen_by_the_peer(hosts: Hosts) -> None:
    """Communities and AS numbers that a filter adds arrive, as do the communities of prefixAdvertisements."""
    changed = [{"addCommunity": {"value": "65001:7"}}, {"prependASPath": {"prefix": [64901, 64902]}}]
    load(
        hosts,
        settings(
            communities=[{"name": "pods", "value": "65001:100"}],
            prefixAdvertisements=[
                {"cidr": "10.65.1.0/24", "communities": ["pods", "65001:0:9"]},
                {"cidr": "10.66.0.0/16", "communities": ["65001:101"]},
            ],
        ),
        route_filter("f", exportV4=[{"action": "Accept", "interface": "cali*", "operations": changed}]),
        filters=("f",),
    )

    with hosts["a"].route("10.65.200.1", "dev", "cali1", "metric", "1024"):
        eventually(lambda: "BGP.as_path: 65001 64901 64902" in hosts["c"].table("10.65.200.1/32"))
        assert "BGP.community: (65001,7)" in hosts["c"].table("10.65.200.1/32")
    eventually(lambda: "BGP.community: (65001,100)" in hosts["c"].table("10.65.1.0/26"))
    assert "BGP.large_community: (65001, 0, 9)" in hosts["c"].table("10.65.1.0/26")
    assert "BGP.as_path: 65001\n" in hosts["c"].table("10.65.1.0/26")


def test_priority_of_a_filter_decides_between_routes(hosts: Hosts) -> None:
    """A route that is taken in with a better priority than usual wins over the host's own of the same prefix."""
    urgent = [{"action": "Accept", "cidr": "192.0.2.0/24", "matchOperator": "Equal", "operations": [{"setPriority": {"value": 700}}]}]  # fmt: skip
    load(hosts, route_filter("f", importV4=urgent), filters=("f",))

    with hosts["a"].route("192.0.2.0/24", "dev", "cali1", "metric", "1024"):
        eventually(lambda: any("via 10.0.0.3" in line for line in hosts["a"].routes("192.0.2.0/24")))
    with hosts["a"].route("198.51.100.0/24", "dev", "cali1", "metric", "1024"):
        eventually(lambda: not any("via 10.0.0.3" in line for line in hosts["a"].routes("198.51.100.0/24")))


def test_urgent_workload_is_announced_out_of_its_block_and_wins(hosts: Hosts) -> None:
    """A workload's route with a priority better than usual goes out by itself, and others follow it at once."""
    load(hosts)

    with hosts["b"].route("10.65.1.9", "dev", "cali1", "proto", "80", "metric", "1024"):
        with hosts["a"].route("10.65.1.9", "dev", "cali1", "proto", "80", "metric", "512"):
            expected = "10.65.1.9 via 10.0.0.1 dev eth0 proto bird src 10.0.0.2 metric 32"
            eventually(lambda: expected in hosts["b"].routes("10.65.1.9"))
        eventually(
            lambda: hosts["b"].routes("10.65.1.9") == ["10.65.1.9 dev cali1 proto 80 scope link metric 1024"]
        )
    with hosts["a"].route("10.65.1.9", "dev", "cali1", "proto", "80", "metric", "1024"):
        eventually(lambda: hosts["a"].table("10.65.1.9/32"))
        assert hosts["a"].announced(4) == MINE


def test_services_are_announced_and_not_swallowed(hosts: Hosts) -> None:
    """Ranges of services reach the router, and never the kernel of the hosts."""
    load(hosts, settings(serviceClusterIPs=[{"cidr": "10.96.0.0/12"}, {"cidr": "fd96::/108"}]))

    eventually(lambda: hosts["c"].learned("a4") == MINE | {"10.96.0.0/12"})
    eventually(lambda: hosts["c"].learned("a6") == {"fd65::40/122", "fd96::/108"})
    eventually(lambda: hosts["a"].routes("10.65.2.0/26"))
    assert [
        hosts[name].routes(prefix) for name in ("a", "b") for prefix in ("10.96.0.0/12", "fd96::/108")
    ] == [[]] * 4


def test_hold_time_goes_with_keepalives(hosts: Hosts) -> None:
    """With keepaliveTime the hold time is three times as long: a silent peer is given up by then."""
    quick = peer("q", node="a", peer_ip="10.0.0.3", as_number=65003, keepalive_time="2s")
    hosts["a"].load(render(speaker("a", *NODES, *POOLS, quick, blocks=BLOCKS["a"])))

    def agreed() -> bool:
        lines = hosts["a"].do(lambda: hosts["a"].bird.control.ask("show protocols all Node_10_0_0_3"))
        return any("Hold timer" in line.text and line.text.endswith("/6") for line in lines)

    eventually(agreed)
