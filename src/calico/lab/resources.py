"""What an orchestrator would write into the store for a topology, as resources.

In:   a ``Topology``, and the workloads' addresses once IPAM has given them.
Out:  resources, in an order in which they may be written.
Next: ``intent`` writes them.

A namespace's profile ``kns.<namespace>`` allows everything, as in Kubernetes: policy is what isolates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from calico.lab.topology import UPLINK, Host, Pool, Rack, Topology, Workload, bare
from calico.model.bgp import DEFAULT_AS, BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec
from calico.model.endpoint import HostEndpoint, HostEndpointSpec, WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.node import Node, NodeAddress, NodeBGP, NodeSpec, OrchRef
from calico.model.policy import DEFAULT_TIER_ORDER, Profile, ProfileSpec, Rule, Tier, TierSpec
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata, Resource

ORCHESTRATOR: Final = "k8s"


def initial(topology: Topology) -> tuple[Resource, ...]:
    """Everything but the workloads: tiers, BGP, pools, nodes, profiles, host endpoints."""
    return tuple(_initial(topology))


def _initial(topology: Topology) -> Iterator[Resource]:
    yield _tier("kube-admin", 1_000.0, "Pass")
    yield _tier("default", DEFAULT_TIER_ORDER, "Deny")
    yield _tier("kube-baseline", 10_000_000.0, "Pass")
    yield BGPConfiguration(
        metadata=Metadata(name="default"),
        spec=BGPConfigurationSpec(node_to_node_mesh_enabled=False, as_number=DEFAULT_AS),
    )
    for pool in topology.pools:
        yield _pool(pool)
    for rack in topology.racks:
        yield from _peers(rack)
    for host in topology.hosts:
        yield _node(topology.rack_of(host), host)
    for name, labels in topology.namespaces.items():
        yield profile(name, labels)
    for host in topology.hosts:
        if host.bare_metal:
            yield host_endpoint(host)


def _tier(name: str, order: float, default_action: Literal["Deny", "Pass"]) -> Tier:
    return Tier(metadata=Metadata(name=name), spec=TierSpec(order=order, default_action=default_action))


def _pool(pool: Pool) -> IPPool:
    return IPPool(
        metadata=Metadata(name=pool.name),
        spec=IPPoolSpec(
            cidr=pool.cidr,
            block_size=pool.block_size,
            vxlan_mode="Never",
            ipip_mode="Never",
            nat_outgoing=False,
            node_selector="all()",
            allowed_uses=["Workload", "Tunnel"],
            assignment_mode="Automatic",
        ),
    )


def _peers(rack: Rack) -> Iterator[BGPPeer]:
    for family, gateway in zip(("ipv4", "ipv6"), rack.gateways, strict=True):
        yield BGPPeer(
            metadata=Metadata(name=f"{rack.router}-{family}"),
            spec=BGPPeerSpec(
                node_selector=f"rack == '{rack.name}'", peer_ip=bare(gateway), as_number=rack.as_number
            ),
        )


def _node(rack: Rack, host: Host) -> Node:
    ipv4, ipv6 = host.addresses
    return Node(
        metadata=Metadata(
            name=host.name, labels={"kubernetes.io/hostname": host.name, "rack": rack.name, **host.labels}
        ),
        spec=NodeSpec(
            bgp=NodeBGP(as_number=rack.as_number, ipv4_address=ipv4, ipv6_address=ipv6),
            orch_refs=[OrchRef(node_name=host.name, orchestrator=ORCHESTRATOR)],
            addresses=[NodeAddress(address=bare(address), type="InternalIP") for address in (ipv4, ipv6)],
        ),
    )


def profile(namespace: str, labels: Mapping[str, str]) -> Profile:
    """The profile that Kubernetes' namespace of this name would have (behaviour reference 3.8)."""
    return Profile(
        metadata=Metadata(name=f"kns.{namespace}"),
        spec=ProfileSpec(
            ingress=[Rule(action="Allow")],
            egress=[Rule(action="Allow")],
            labels_to_apply={
                **{f"pcns.{key}": value for key, value in labels.items()},
                "pcns.projectcalico.org/name": namespace,
            },
        ),
    )


def host_endpoint(host: Host) -> HostEndpoint:
    """The endpoint of a bare-metal host's uplink."""
    return HostEndpoint(
        metadata=Metadata(name=f"{host.name}-{UPLINK}", labels={"role": "metal", **host.labels}),
        spec=HostEndpointSpec(
            node=host.name,
            interface_name=UPLINK,
            expected_ips=[bare(address) for address in host.addresses],
        ),
    )


def workload_endpoint(workload: Workload, addresses: tuple[str, ...]) -> WorkloadEndpoint:
    """The endpoint of a workload with its addresses (without lengths)."""
    return WorkloadEndpoint(
        metadata=Metadata(
            name=workload.endpoint,
            namespace=workload.namespace,
            labels={
                **workload.labels,
                "projectcalico.org/namespace": workload.namespace,
                "projectcalico.org/orchestrator": ORCHESTRATOR,
            },
        ),
        spec=WorkloadEndpointSpec(
            orchestrator=ORCHESTRATOR,
            node=workload.node,
            pod=workload.name,
            endpoint=UPLINK,
            ip_networks=[f"{address}/{128 if ':' in address else 32}" for address in addresses],
            profiles=[f"kns.{workload.namespace}"],
            interface_name=workload.interface,
        ),
    )
