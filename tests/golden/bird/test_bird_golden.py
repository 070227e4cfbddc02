"""The whole of bird.conf for worlds that occur; each file beside this one is what a node's BIRD would read.

After a wanted change, run with UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec import convert

from calico.bgp.bird import render
from calico.bgp.speaker import Speaker
from calico.model.bfd import BFDConfiguration, BFDConfigurationSpec, BFDInterface
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPassword, SecretKeyRef
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.kubernetes_kinds import EndpointSlice, Service
from calico.model.resource import Metadata
from support.speakers import configuration, node, peer, pool, route_filter, speaker

HERE = Path(__file__).parent
BIRD = shutil.which("bird", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")

POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))
NO_MESH = configuration(node_to_node_mesh_enabled=False)


def mesh_of_three() -> Speaker:
    """Three nodes, the default full mesh, both families on two of them."""
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1", "fd00::1"),
        node("host-b", "10.0.0.2", "fd00::2"),
        node("host-c", "10.0.0.3"),
        *POOLS,
        blocks=("10.65.0.0/26", "10.65.3.64/26", "fd65::/122"),
    )


def as_per_rack() -> Speaker:
    """A host that peers with its rack's router, which has the rack's AS and reflects, once per family."""
    rack = {"node_selector": "rack == 'rack1'", "as_number": 65001}
    return speaker(
        "host-a",
        node("host-a", "10.0.1.11", "fd00:10:0:1::11", as_number=65001, labels={"rack": "rack1"}),
        node("host-b", "10.0.1.12", "fd00:10:0:1::12", as_number=65001, labels={"rack": "rack1"}),
        node("host-c", "10.0.2.11", "fd00:10:0:2::11", as_number=65002, labels={"rack": "rack2"}),
        NO_MESH,
        peer("rack1-ipv4", peer_ip="10.0.1.1", **rack),
        peer("rack1-ipv6", peer_ip="fd00:10:0:1::1", **rack),
        peer("rack2-ipv4", peer_ip="10.0.2.1", node_selector="rack == 'rack2'", as_number=65002),
        *POOLS,
        blocks=("10.65.0.0/26", "fd65::/122"),
    )


def route_reflector() -> Speaker:
    """A reflecting node with two clients, another reflector of its cluster, and an external uplink."""
    return speaker(
        "reflector-1",
        node("reflector-1", "10.0.0.101", cluster_id="1.0.0.1", labels={"reflector": "yes"}),
        node("reflector-2", "10.0.0.102", cluster_id="1.0.0.1", labels={"reflector": "yes"}),
        node("host-a", "10.0.0.1"),
        node("host-b", "10.0.0.2"),
        NO_MESH,
        peer("clients", node_selector="!has(reflector)", peer_selector="has(reflector)"),
        peer("reflectors", node_selector="has(reflector)", peer_selector="has(reflector)"),
        peer("uplink", node_selector="has(reflector)", peer_ip="10.0.0.254", as_number=65001),
        *POOLS,
        blocks=("10.65.9.0/26",),
    )


def borrowed_address() -> Speaker:
    """A node that holds single addresses besides a block: workloads in blocks of other hosts go out one by one."""
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1"),
        node("host-b", "10.0.0.2"),
        *POOLS,
        blocks=("10.65.0.0/26", "10.65.7.5/32"),
    )


def pool_kept_out_of_bgp() -> Speaker:
    """A pool with disableBGPExport beside one without, and a block in each."""
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1"),
        node("host-b", "10.0.0.2"),
        pool("shown", "10.65.0.0/16"),
        pool("hidden", "10.66.0.0/16", disable_bgp_export=True),
        blocks=("10.65.0.0/26", "10.66.0.0/26"),
    )


def ipv6_only() -> Speaker:
    """A node without IPv4: its router id is a hash, and its IPv4 half is empty."""
    return speaker(
        "host-a",
        node("host-a", ipv6="fd00::1"),
        node("host-b", ipv6="fd00::2"),
        *POOLS,
        blocks=("fd65::/122",),
    )


def filters_and_communities() -> Speaker:
    """Two filters on a router's session, one of them with changes of routes; communities by prefix."""
    spec = convert(
        {
            "nodeToNodeMeshEnabled": False,
            "communities": [{"name": "pods", "value": "65000:100"}],
            "prefixAdvertisements": [{"cidr": "10.65.0.0/16", "communities": ["pods", "65000:1:2"]}],
        },
        BGPConfigurationSpec,
    )
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1", "fd00::1"),
        BGPConfiguration(metadata=Metadata(name="default"), spec=spec),
        peer("tor", peer_ip="10.0.0.254", as_number=65001, filters=["uplink", "no-default"]),
        route_filter(
            "uplink",
            exportV4=[
                {"action": "Reject", "cidr": "10.65.128.0/17", "matchOperator": "In"},
                {
                    "action": "Accept",
                    "cidr": "192.0.2.0/24",
                    "matchOperator": "In",
                    "prefixLength": {"min": 28},
                    "interface": "dummy*",
                    "operations": [
                        {"addCommunity": {"value": "65000:200"}},
                        {"prependASPath": {"prefix": [65000, 65000]}},
                    ],
                },
            ],
            importV4=[
                {
                    "action": "Accept",
                    "communities": {"values": ["65001:7"]},
                    "operations": [{"setPriority": {"value": 512}}],
                }
            ],
        ),
        route_filter(
            "no-default", importV4=[{"action": "Reject", "cidr": "0.0.0.0/0", "matchOperator": "Equal"}]
        ),
        *POOLS,
        blocks=("10.65.0.0/26",),
    )


def services() -> Speaker:
    """Ranges of services, and one that is served here only."""
    spec = convert(
        {"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}]},
        BGPConfigurationSpec,
    )
    service = Service(
        metadata=Metadata(name="web", namespace="shop"),
        spec={
            "type": "NodePort",
            "clusterIP": "10.96.0.5",
            "externalIPs": ["192.0.2.5"],
            "externalTrafficPolicy": "Local",
        },
    )
    served = EndpointSlice(
        metadata=Metadata(name="web-1", namespace="shop", labels={"kubernetes.io/service-name": "web"}),
        address_type="IPv4",
        endpoints=[{"addresses": ["10.65.0.7"], "nodeName": "host-a", "conditions": {"ready": True}}],
    )
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1"),
        node("host-b", "10.0.0.2"),
        BGPConfiguration(metadata=Metadata(name="default"), spec=spec),
        service,
        served,
        *POOLS,
        blocks=("10.65.0.0/26",),
    )


def two_routers_with_bfd() -> Speaker:
    """A host in an AS of its own behind two top-of-rack routers that it watches; one survives its own restarts."""
    watched = {"as_number": 65001, "failure_detection_mode": "BFDIfDirectlyConnected", "ttl_security": 1}
    timing = BFDInterface(
        match_pattern="eth*", minimum_recv_interval="100ms", minimum_send_interval="100ms", multiplier=3
    )
    return speaker(
        "host-a",
        node("host-a", "10.0.1.11", as_number=65011),
        NO_MESH,
        peer("tor-1", peer_ip="10.0.1.1", keepalive_time="3s", **watched),
        peer("tor-2", peer_ip="10.0.1.2", max_restart_time="3s", **watched),
        BFDConfiguration(metadata=Metadata(name="racks"), spec=BFDConfigurationSpec(interfaces=[timing])),
        *POOLS,
        blocks=("10.65.0.0/26",),
    )


def unnumbered() -> Speaker:
    """A host with two uplinks without addresses, each to a router of which only the interface is known."""
    return speaker(
        "host-a",
        node("host-a", "10.0.9.1", "fd00::1", as_number=65011),
        NO_MESH,
        peer("tor-1", peer_interface="eth0", failure_detection_mode="BFDIfDirectlyConnected"),
        peer("tor-2", peer_interface="eth1", as_number=65002),
        *POOLS,
        blocks=("10.65.0.0/26", "fd65::/122"),
        routers={"eth0": "fe80::1", "eth1": "fe80::2"},
    )


def workload_peering() -> Speaker:
    """A router among the workloads, which announces addresses of a pool; its password is in a secret."""
    router = WorkloadEndpoint(
        metadata=Metadata(name="r", namespace="apps", labels={"role": "router"}),
        spec=WorkloadEndpointSpec(node="host-a", ip_networks=["10.65.0.5/32"], interface_name="cali1"),
    )
    return speaker(
        "host-a",
        node("host-a", "10.0.0.1"),
        node("host-b", "10.0.0.2"),
        configuration(local_workload_peering_ipv4="169.254.2.1"),
        peer(
            "routers",
            local_workload_selector="role == 'router'",
            as_number=65200,
            filters=["children"],
            password=BGPPassword(secret_key_ref=SecretKeyRef(name="bgp", key="children")),
        ),
        route_filter(
            "children", importV4=[{"action": "Accept", "cidr": "10.65.200.0/24", "matchOperator": "In"}]
        ),
        router,
        *POOLS,
        blocks=("10.65.0.0/26",),
    )


WORLDS = (
    mesh_of_three,
    as_per_rack,
    route_reflector,
    borrowed_address,
    pool_kept_out_of_bgp,
    ipv6_only,
    filters_and_communities,
    services,
    two_routers_with_bfd,
    unnumbered,
    workload_peering,
)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_bird_conf_is_as_written(world) -> None:
    """The configuration of each world is, to the letter, the file of its name."""
    planned = world()
    text = render(planned)
    golden = HERE / f"{world.__name__}.conf"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)

    assert planned.problems == ()
    assert text == golden.read_text()


@pytest.mark.skipif(BIRD is None, reason="needs BIRD 2 (package bird2)")
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_bird_accepts_the_golden_file(world) -> None:
    """BIRD's own parser is content with each golden file."""
    golden = HERE / f"{world.__name__}.conf"
    done = subprocess.run(
        [str(BIRD), "-p", "-c", golden], check=False, capture_output=True, text=True, timeout=10
    )

    assert (done.returncode, done.stderr) == (0, "")
