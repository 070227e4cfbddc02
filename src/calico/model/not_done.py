"""What is valid, stored and given back, but not acted on by this version: one sentence and a way out each.

In:   the spec of one resource.
Out:  ``Finding`` for each thing that has no effect, or less than it says.
Next: ``calicoctl apply`` warns of it. Whoever teaches the agent one of these removes its sentence here.

Where something closes and does not (a rule that should deny, say), the sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import to_builtins

from calico.model.bgp import BGPConfigurationSpec, BGPPeerSpec
from calico.model.endpoint import WorkloadEndpointSpec
from calico.model.errors import Finding, Findings, Path
from calico.model.node import NodeSpec
from calico.model.policy import PolicySpec, ProfileSpec, Rule
from calico.model.pool import IPPoolSpec

_WITHOUT_ENCAPSULATION: Final = "packets are routed without encapsulation"

_NOT_OF_BGP: Final = {
    "localWorkloadPeeringIPV4": "no host has the address until somebody adds it to an interface there",
    "localWorkloadPeeringIPV6": "no host has the address until somebody adds it to an interface there",
    "programClusterRoutes": "BIRD always installs the cluster's routes",
    "logSeverityScreen": "BIRD logs everything that it has to say",
}
"""What of a BGP configuration has no effect, and what is the case instead."""
_BIRD_INSTALLS: Final = {"Enabled", "EnabledNoEncapOnly"}
"""What ``programClusterRoutes`` may say and be right: no route here has an encapsulation."""


def policy(spec: PolicySpec) -> Findings:
    """Matches of rules that are not made."""
    yield from _rules(spec.ingress, ("spec", "ingress"))
    yield from _rules(spec.egress, ("spec", "egress"))


def profile(spec: ProfileSpec) -> Findings:
    """Matches of rules that are not made."""
    yield from _rules(spec.ingress, ("spec", "ingress"))
    yield from _rules(spec.egress, ("spec", "egress"))


def _rules(rules: Iterable[Rule], path: Path) -> Findings:
    for index, rule in enumerate(rules):
        where = (*path, index)
        if rule.http is not None:
            yield Finding(
                (*where, "http"),
                "requests are not looked into, so the rule matches nothing and allows nothing",
                "if the whole port may be allowed, write the rule without http",
            )


def workload_endpoint(spec: WorkloadEndpointSpec) -> Findings:
    """Limits and floating addresses."""
    if spec.qos_controls is not None:
        for field in to_builtins(spec.qos_controls):
            yield Finding(
                ("spec", "qosControls", field),
                "the limit is stored, but traffic is not held to it",
                "limit the workload by other means, or remove it",
            )
    if spec.ip_nats:
        yield Finding(
            ("spec", "ipNATs"),
            "floating addresses are stored, but nothing is translated to or from them",
            "give the workload the address itself, or translate outside of the host",
        )


def pool(spec: IPPoolSpec) -> Findings:
    """Encapsulation, and addresses for load balancers."""
    for field, mode in (("ipipMode", spec.ipip_mode), ("vxlanMode", spec.vxlan_mode)):
        if mode not in {None, "Never"}:
            yield Finding(
                ("spec", field),
                f"{mode} is stored, but {_WITHOUT_ENCAPSULATION}",
                "set it to Never, and let the fabric carry the pool's addresses",
            )
    if "LoadBalancer" in spec.allowed_uses:
        yield Finding(
            ("spec", "allowedUses"),
            "the pool is stored, but nothing gives its addresses to services",
            "set the addresses of load balancers by hand",
        )


def node(spec: NodeSpec) -> Findings:
    """Tunnels' ends, and WireGuard."""
    if spec.wireguard is not None:
        yield Finding(
            ("spec", "wireguard"),
            "the addresses are stored, but nothing between nodes is encrypted",
            "encrypt in the fabric or in the workloads",
        )
    tunnels = {
        ("ipv4VXLANTunnelAddr",): spec.ipv4_vxlan_tunnel_addr,
        ("ipv6VXLANTunnelAddr",): spec.ipv6_vxlan_tunnel_addr,
        ("bgp", "ipv4IPIPTunnelAddr"): spec.bgp.ipv4_ipip_tunnel_addr if spec.bgp else "",
    }
    for path, address in tunnels.items():
        if address:
            yield Finding(
                ("spec", *path),
                f"the address is stored, but {_WITHOUT_ENCAPSULATION}",
                "nothing has to be done where the fabric carries the pools' addresses; else remove it",
            )


def bgp_configuration(spec: BGPConfigurationSpec) -> Findings:
    """What BIRD is not told."""
    given = to_builtins(spec)
    if spec.program_cluster_routes in _BIRD_INSTALLS:
        del given["programClusterRoutes"]
    for field, instead in _NOT_OF_BGP.items():
        if field in given:
            yield Finding(("spec", field), f"it is stored, but {instead}", "remove it, or do not rely on it")


def bgp_peer(spec: BGPPeerSpec) -> Findings:
    """Routers that nobody looks for."""
    if spec.peer_interface:
        yield Finding(
            ("spec", "peerInterface"),
            "this version's agent does not look for the router by itself: there is no session",
            "give the router an address, and write it as peerIP",
        )
