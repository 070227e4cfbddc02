"""What is stored but not acted on is said: which field, what is the case instead, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert

from calico.model.keys import KINDS
from calico.model.resource import API_VERSION

ALLOW_HTTP = [{"action": "Allow", "http": {"methods": ["GET"]}}]
SERVICE = [{"action": "Deny", "source": {"services": {"name": "a"}}}]
ENDPOINT = {"node": "n", "orchestrator": "k8s", "pod": "p", "endpoint": "eth0"}


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("NetworkPolicy", {"ingress": [{"action": "Allow"}]}, {}),
        ("NetworkPolicy", {"ingress": ALLOW_HTTP}, {"ingress.0.http": "allows nothing"}),
        ("NetworkPolicy", {"ingress": SERVICE}, {}),
        ("GlobalNetworkPolicy", {"applyOnForward": True}, {}),
        ("GlobalNetworkPolicy", {"applyOnForward": True, "doNotTrack": True}, {}),
        ("GlobalNetworkPolicy", {"applyOnForward": True, "preDNAT": True}, {}),
        ("WorkloadEndpoint", ENDPOINT | {"qosControls": {"ingressBandwidth": 1000, "dscp": 0}}, {"qosControls.ingressBandwidth": "not held to it", "qosControls.dscp": "not held to it"}),
        ("WorkloadEndpoint", ENDPOINT | {"ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "192.0.2.1"}]}, {"ipNATs": "nothing is translated"}),
        ("IPPool", {"cidr": "10.0.0.0/16", "ipipMode": "Never", "vxlanMode": "Never"}, {}),
        ("IPPool", {"cidr": "10.0.0.0/16", "ipipMode": "Always"}, {"ipipMode": "without encapsulation"}),
        ("IPPool", {"cidr": "10.0.0.0/16", "vxlanMode": "CrossSubnet"}, {"vxlanMode": "without encapsulation"}),
        ("IPPool", {"cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"]}, {"allowedUses": "services"}),
        ("Node", {"bgp": {"ipv4Address": "10.0.0.1/24"}}, {}),
        ("Node", {"bgp": {"ipv4IPIPTunnelAddr": "10.0.0.1"}, "ipv6VXLANTunnelAddr": "fd00::1"}, {"ipv6VXLANTunnelAddr": "without encapsulation", "bgp.ipv4IPIPTunnelAddr": "without encapsulation"}),
        ("Node", {"wireguard": {"interfaceIPv4Address": "10.0.0.1"}}, {"wireguard": "encrypted"}),
        ("BGPConfiguration", {"asNumber": 64512, "listenPort": 179, "bindMode": "NodeIP"}, {}),
        ("BGPConfiguration", {"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]}, {}),
        ("BGPConfiguration", {"localWorkloadPeeringIPV4": "169.254.2.1"}, {"localWorkloadPeeringIPV4": "somebody adds it"}),
        ("BGPConfiguration", {"programClusterRoutes": "Disabled"}, {"programClusterRoutes": "always installs"}),
        ("BGPConfiguration", {"programClusterRoutes": "EnabledIPIPOnly"}, {"programClusterRoutes": "always installs"}),
        ("BGPConfiguration", {"programClusterRoutes": "Enabled"}, {}),
        ("BGPConfiguration", {"programClusterRoutes": "EnabledNoEncapOnly"}, {}),
        ("BGPConfiguration", {"logSeverityScreen": "Info"}, {"logSeverityScreen": "logs everything"}),
        ("BGPPeer", {"peerIP": "10.0.0.1", "asNumber": 64512}, {}),
        ("BGPPeer", {"peerIP": "10.0.0.1", "filters": ["a"]}, {}),
        ("BGPPeer", {"localWorkloadSelector": "all()", "asNumber": 1}, {}),
        ("BGPPeer", {"peerInterface": "eth0"}, {"peerInterface": "no session"}),
        ("BGPFilter", {}, {}),
        ("IPReservation", {"reservedCIDRs": ["10.0.0.0/30"]}, {}),
        ("IPAMConfiguration", {"strictAffinity": True, "maxBlocksPerHost": 3, "autoAllocateBlocks": False, "ipCooldownSeconds": 9}, {}),
        ("IPAMConfiguration", {"kubeVirtVMAddressPersistence": "Enabled"}, {"kubeVirtVMAddressPersistence": "virtual machines"}),
        ("LiveMigration", {}, {"": "routes"}),
        ("Tier", {"order": 1, "defaultAction": "Pass"}, {}),
        ("StagedNetworkPolicy", {"ingress": ALLOW_HTTP}, {}),
    ],
)  # fmt: skip
def test_warnings(kind: str, spec: dict[str, Any], expected: dict[str, str]) -> None:
    """Each thing that has no effect is named once, with a sentence that says what is the case, and a way out."""
    tree = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "default"}, "spec": spec}
    findings = [*convert(tree, KINDS[kind]).not_done()]

    assert [".".join(map(str, finding.path[1:])) for finding in findings] == [*expected]
    assert all(expected[".".join(map(str, each.path[1:]))] in each.message for each in findings)
    assert all(finding.remedy for finding in findings)
