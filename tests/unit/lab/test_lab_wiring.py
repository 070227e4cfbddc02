"""The commands that build a lab."""

from __future__ import annotations

from dataclasses import replace

from calico.lab import wiring
from calico.lab.description import describe
from calico.lab.topology import regular


def test_a_workload_is_attached_as_the_cni_plugin_does_it() -> None:
    """The host's end has a fixed MAC; inside there are full-length addresses and a gateway on no subnet."""
    workload = regular().workloads[0]

    wires = wiring.attachments([workload], {workload.name: ("10.244.0.1", "fd00:244::1")}, "l", mtu=1500)

    assert wires.cables == (
        "link add name eth0 mtu 1500 netns calico-l-shop1-1 type veth "
        f"peer name {workload.interface} address ee:ee:ee:ee:ee:ee mtu 1500 netns calico-l-host1-1",
    )
    assert wires.commands == {
        "host1-1": (f"link set dev {workload.interface} up",),
        "shop1-1": (
            "link set dev lo up",
            "link set dev eth0 up",
            "addr add 10.244.0.1/32 dev eth0",
            "addr add fd00:244::1/128 dev eth0 nodad",
            "route add 169.254.1.1 dev eth0 scope link",
            "route add default via 169.254.1.1 dev eth0",
            "route add default via fe80::ecee:eeff:feee:eeee dev eth0",
        ),
    }


def test_a_host_is_as_its_installer_leaves_it() -> None:
    """An address, a default route of little weight, and no forwarding: that is for its agent to switch on."""
    wires = wiring.fabric(regular(), "l")

    assert wires.commands["host2-1"] == (
        "link set dev lo up",
        "addr add 10.0.2.11/24 dev eth0",
        "addr add fd00:10:0:2::11/64 dev eth0 nodad",
        "link set dev eth0 up",
        "route add default via 10.0.2.1 metric 4096",
        "route add default via fd00:10:0:2::1 metric 4096",
    )
    assert wires.settings["host2-1"]["ipv4/ip_forward"] == "0"
    assert wires.settings["tor2"]["ipv4/ip_forward"] == "1"


def test_no_host_has_a_bridge() -> None:
    """Only a rack's router has one: its switch."""
    wires = wiring.fabric(regular(), "l")

    assert [
        node for node, lines in wires.commands.items() if any("type bridge" in line for line in lines)
    ] == [
        "tor1",
        "tor2",
    ]


def test_the_mtu_is_everywhere() -> None:
    """Every link of the fabric and of the workloads has the fabric's MTU."""
    topology = regular(mtu=9000)
    given = {workload.name: ("10.244.0.1",) for workload in topology.workloads}

    cables = (
        *wiring.fabric(topology, "l").cables,
        *wiring.attachments(topology.workloads, given, "l", mtu=topology.mtu).cables,
    )

    assert all(cable.count("mtu 9000") == 2 for cable in cables)


def test_the_internet_finds_pools_that_lie_outside_the_private_ranges() -> None:
    """Private ranges are known already; others get a route each."""
    topology = describe(
        {"racks": [{"hosts": 1}], "pools": [{"cidr": "198.18.0.0/16"}, {"cidr": "fd00:9::/48"}]}
    )

    routes = [
        line for line in wiring.fabric(topology, "l").commands["internet"] if line.startswith("route add")
    ]

    assert routes == [
        "route add 10.0.0.0/8 via 203.0.113.1",
        "route add fd00::/8 via 2001:db8:113::1",
        "route add 198.18.0.0/16 via 203.0.113.1",
    ]


def test_the_need_for_neighbour_entries_grows_with_the_lab() -> None:
    """A small lab stays far below the kernel's limits, a large one does not."""
    assert wiring.neighbour_entries(regular()) < 100
    assert wiring.neighbour_entries(regular(5, 8, 10)) > 1000


def test_members_of_the_store_hang_on_the_spine() -> None:
    """Each has a namespace, a link of its own with two addresses, and its way out over the spine."""
    topology = replace(regular(1, 1, 0), members=3)
    wires = wiring.fabric(topology, "x")

    assert topology.member_names == ("etcd1", "etcd2", "etcd3")
    assert set(topology.member_names) < set(topology.nodes)
    assert wires.commands["etcd2"] == (
        "link set dev lo up",
        "addr add 10.1.2.3/31 dev eth0",
        "link set dev eth0 up",
        "route add default via 10.1.2.2",
    )
    assert "addr add 10.1.2.2/31 dev etcd2" in wires.commands["spine"]
    assert wiring.fabric(replace(topology, members=0), "x").commands.keys() == wires.commands.keys() - {
        *topology.member_names
    }
