"""What the lab writes as an orchestrator would."""

from __future__ import annotations

from collections import Counter

from calico.lab.resources import initial, workload_endpoint
from calico.lab.topology import regular
from calico.model.endpoint import HostEndpoint
from calico.model.keys import key_of
from calico.model.node import Node
from calico.model.policy import Profile


def test_every_kind_is_written_once_per_thing() -> None:
    """Tiers, BGP, pools, one node a host, one profile a namespace, one endpoint a bare-metal host; nothing twice."""
    resources = initial(regular())

    assert Counter(resource.kind for resource in resources) == {
        "Tier": 3,
        "BGPConfiguration": 1,
        "IPPool": 2,
        "BGPPeer": 4,
        "Node": 5,
        "Profile": 3,
        "HostEndpoint": 1,
    }
    assert len({key_of(resource) for resource in resources}) == len(resources)


def test_a_node_has_its_racks_as_and_label() -> None:
    """Peers select nodes by their rack."""
    node = next(r for r in initial(regular()) if isinstance(r, Node) and r.metadata.name == "host2-1")

    assert node.metadata.labels["rack"] == "rack2"
    assert node.spec.bgp is not None
    assert (node.spec.bgp.as_number, node.spec.bgp.ipv4_address) == (65002, "10.0.2.11/24")
    assert node.spec.bgp.ipv6_address == "fd00:10:0:2::11/64"


def test_profiles_allow_and_carry_the_namespaces_labels() -> None:
    """As Kubernetes has it: labels with the prefix pcns., allow both ways."""
    profile = next(r for r in initial(regular()) if isinstance(r, Profile) and r.metadata.name == "kns.shop")

    assert profile.spec.labels_to_apply == {"pcns.tenant": "shop", "pcns.projectcalico.org/name": "shop"}
    assert [rule.action for rule in (*profile.spec.ingress, *profile.spec.egress)] == ["Allow", "Allow"]


def test_the_bare_metal_endpoint_names_its_interface_and_addresses() -> None:
    """Policy finds the interface by name, selectors find the addresses."""
    endpoint = next(r for r in initial(regular()) if isinstance(r, HostEndpoint))

    assert (endpoint.spec.node, endpoint.spec.interface_name) == ("metal", "eth0")
    assert endpoint.spec.expected_ips == ["10.0.2.13", "fd00:10:0:2::13"]
    assert endpoint.spec.profiles == []


def test_a_workload_endpoint_is_what_kubernetes_would_have() -> None:
    """Full-length prefixes, the namespace's profile, the interface of its name."""
    workload = regular().workloads[0]

    endpoint = workload_endpoint(workload, ("10.244.0.1", "fd00:244::1"))

    assert endpoint.metadata.name == "host1--1-k8s-shop1--1-eth0"
    assert endpoint.spec.ip_networks == ["10.244.0.1/32", "fd00:244::1/128"]
    assert endpoint.spec.profiles == ["kns.shop"]
    assert endpoint.spec.interface_name == workload.interface
    assert endpoint.metadata.labels["tenant"] == "shop"
