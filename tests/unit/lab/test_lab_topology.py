"""Topologies: the regular one, and what a file may say."""

from __future__ import annotations

import pytest

from calico.lab.description import TopologyError, check, describe
from calico.lab.topology import Workload, regular


def test_the_default_is_two_racks_with_two_hosts_three_workloads_each_and_a_bare_metal_host() -> None:
    """Without a word, a lab is what the README shows."""
    topology = regular()

    assert [host.name for host in topology.hosts] == ["host1-1", "host1-2", "host2-1", "host2-2", "metal"]
    assert [host.name for host in topology.hosts if host.bare_metal] == ["metal"]
    assert [workload.name for workload in topology.workloads] == [
        f"{tenant}{place}" for place in ("1-1", "1-2", "2-1", "2-2") for tenant in ("shop", "bank", "lab")
    ]
    assert topology.routers == ("tor1", "tor2", "spine", "border")


def test_an_interface_is_named_as_the_cni_plugin_names_it() -> None:
    """cali and the first 11 digits of SHA-1 of namespace, dot, name."""
    assert Workload("web-0", "shop", "host1-1").interface == "calia4fc3c48bd8"


def test_an_endpoint_name_doubles_the_dashes_of_its_parts() -> None:
    """The parts of a name can be told apart again."""
    assert Workload("web-0", "shop", "host1-1").endpoint == "host1--1-k8s-web--0-eth0"


@pytest.mark.parametrize(("racks", "hosts", "workloads"), [(1, 1, 0), (5, 8, 10), (100, 1, 1)])
def test_regular_topologies_are_valid_and_no_address_is_used_twice(
    racks: int, hosts: int, workloads: int
) -> None:
    """Every size within the bounds gives names and addresses that are unique."""
    topology = regular(racks, hosts, workloads)
    check(topology)

    addresses = [address for cable in topology.cables for port in cable for address in port.addresses] + [
        gateway for rack in topology.racks for gateway in rack.gateways
    ]
    assert len(set(addresses)) == len(addresses)
    interfaces = [(port.node, port.interface) for cable in topology.cables for port in cable]
    interfaces += [(workload.node, workload.interface) for workload in topology.workloads]
    assert len(set(interfaces)) == len(interfaces)
    assert all(len(interface) <= 15 for _, interface in interfaces)


def test_a_file_may_count_or_list() -> None:
    """Hosts and workloads are either a number of regular ones, or a list."""
    topology = describe(
        {
            "mtu": 9000,
            "workloads": 1,
            "namespaces": {"ops": {"labels": {"team": "ops"}}},
            "racks": [
                {"hosts": 2},
                {
                    "hosts": [
                        {
                            "name": "big",
                            "workloads": [{"name": "cron", "namespace": "ops", "labels": {"a": "b"}}],
                        },
                        {"name": "iron", "bareMetal": True},
                    ]
                },
            ],
        }
    )

    assert [host.name for host in topology.hosts] == ["host1-1", "host1-2", "big", "iron"]
    assert [workload.name for workload in topology.workloads] == ["shop1-1", "shop1-2", "cron"]
    assert topology.workloads[2] == Workload("cron", "ops", "big", {"a": "b"})
    assert topology.mtu == 9000
    assert topology.namespaces["ops"] == {"team": "ops"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "racks"),
        ({"racks": []}, "racks"),
        ({"racks": [{"hosts": 0}]}, "no host"),
        ({"racks": [{"hosts": 1}], "mut": 1500}, "mut"),
        ({"racks": [{"hosts": [{"name": "Big"}]}]}, "'Big'"),
        ({"racks": [{"hosts": [{"name": "spine"}]}]}, "'spine'"),
        ({"racks": [{"hosts": [{"name": "a"}, {"name": "a"}]}]}, "a: every host"),
        ({"racks": [{"hosts": [{"name": "a-host-with-a-long-name"}]}]}, "14"),
        ({"racks": [{"hosts": [{"bareMetal": True, "workloads": 1}]}]}, r"racks\[0\].hosts\[0\]"),
        ({"racks": [{"hosts": [{"workloads": [{"name": "w", "namespace": "none"}]}]}]}, "'none'"),
        ({"racks": [{"hosts": 1}], "pools": [{"cidr": "10.9.0.0/16"}]}, "IPv6"),
        ({"racks": [{"hosts": 1}], "pools": [{"cidr": "10.9.0.0/16", "blockSize": 8}]}, "blockSize"),
        ({"racks": [{"hosts": 1}], "pools": [{"cidr": "ten"}]}, r"pools\[0\].cidr"),
        ({"racks": [{"hosts": 1}], "pools": [{"cidr": "10.1.0.0/16"}]}, "overlaps 10.0.0.0/15"),
        ({"racks": [{"hosts": 1}], "pools": [{"cidr": "ff00::/64"}]}, "for no workload"),
        (
            {"racks": [{"hosts": 1}], "pools": [{"cidr": "10.9.0.0/16"}, {"cidr": "10.9.1.0/24"}]},
            r"is pools\[0\]",
        ),
        ({"racks": [{"hosts": [{"labels": {"a b": "c"}}]}]}, "Node host1-1: labels"),
        ({"racks": [{"hosts": 1}], "namespaces": {"No": {}}}, "namespaces.No"),
        ({"racks": [{"hosts": 1}], "namespaces": {"ops": {"labels": {"a": "b c"}}}}, "namespaces.ops"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_in_it(document: object, message: str) -> None:
    """The sentence names the field, or the name that cannot be."""
    with pytest.raises(TopologyError, match=message):
        describe(document)
