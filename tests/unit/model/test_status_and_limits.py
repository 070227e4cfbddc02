"""Limits of policies, typed status and further fields, reservations and migrations."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model.codec import from_builtins, load, to_yaml
from calico.model.errors import InvalidResources
from calico.model.resource import API_VERSION

NAMES = {"WorkloadEndpoint": "n-k8s-p-eth0", "BGPConfiguration": "default"}
ENDPOINT = {"node": "n", "orchestrator": "k8s", "pod": "p", "endpoint": "eth0", "interfaceName": "cali1"}
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "OK", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}  # fmt: skip
WEP = {"hostname": "a", "orchestratorID": "openstack", "workloadID": "b/c", "endpointID": "d"}


def wrong(kind: str, spec: dict[str, Any], **parts: Any) -> list[str]:
    """The fields that are wrong with a resource; nothing: it is read again as it is written."""
    tree = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": NAMES.get(kind, "a")},
        "spec": spec,
        **parts,
    }
    try:
        resource = from_builtins(tree)
    except InvalidResources as error:
        return [problem.field.removeprefix("spec.") for problem in error.problems]
    assert load(to_yaml([resource])) == [resource]
    return []


def rule(**parts: Any) -> dict[str, Any]:
    """The spec of a policy with one rule."""
    return {"ingress": [{"action": "Allow", **parts}]}


@pytest.mark.parametrize(
    ("path", "just", "more"),
    [
        ("ingress", {"ingress": [{"action": "Allow"}] * 1024}, {"ingress": [{"action": "Allow"}] * 1025}),
        ("egress", {"egress": [{"action": "Allow"}] * 1024}, {"egress": [{"action": "Allow"}] * 1025}),
        ("ingress[0].source.nets", rule(source={"nets": ["10.0.0.1"] * 256}), rule(source={"nets": ["10.0.0.1"] * 257})),
        ("ingress[0].destination.notNets", rule(destination={"notNets": ["10.0.0.1"] * 256}), rule(destination={"notNets": ["10.0.0.1"] * 257})),
        ("ingress[0].source.ports", rule(source={"ports": ["a"] * 50}), rule(source={"ports": ["a"] * 51})),
        ("ingress[0].destination.notPorts", rule(destination={"notPorts": ["a"] * 50}), rule(destination={"notPorts": ["a"] * 51})),
        ("selector", {"selector": f"has({'a' * 63})" + " || has(b)" * 95 + "  "}, {"selector": "has(a)" + " " * 1019}),
        ("ingress[0].source.selector", rule(source={"selector": "has(a)"}), rule(source={"selector": "has(a)" + " " * 1019})),
        ("ingress[0].source.serviceAccounts.selector", rule(source={"serviceAccounts": {"selector": "has(a)"}}), rule(source={"serviceAccounts": {"selector": "has(a)" + " " * 1019}})),
        ("ingress[0].http.methods", rule(http={"methods": [f"A{number}" for number in range(20)]}), rule(http={"methods": [f"A{number}" for number in range(21)]})),
        ("ingress[0].http.paths", rule(http={"paths": [{"prefix": "/"}] * 20}), rule(http={"paths": [{"prefix": "/"}] * 21})),
        ("ingress[0].http.paths[0].exact", rule(http={"paths": [{"exact": "/" * 1024}]}), rule(http={"paths": [{"exact": "/" * 1025}]})),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy"])
def test_limits(kind: str, path: str, just: dict[str, Any], more: dict[str, Any]) -> None:
    """Lists and texts of a policy have their greatest lengths."""
    assert wrong(kind, just) == []
    assert wrong(kind, more) == [path]


@pytest.mark.parametrize(
    ("net", "good"), [("0.0.0.0/0", False), ("::/0", False), ("0.0.0.0/1", True), ("10.0.0.0/8", True)]
)
def test_nets_that_exclude_everything(net: str, good: bool) -> None:
    """A rule that excludes every address could never match."""
    assert (wrong("NetworkPolicy", rule(source={"notNets": [net]})) == []) is good
    assert wrong("NetworkPolicy", rule(source={"nets": [net]})) == []


@pytest.mark.parametrize(
    ("limit", "least", "most"),
    [
        ("Bandwidth", 1_000, 10**15),
        ("Burst", 1_000, 34_359_738_360),
        ("PacketRate", 1, 10_000),
        ("PacketBurst", 1, 10_000),
        ("MaxConnections", 1, 2**32 - 1),
    ],
)
@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_qos(side: str, limit: str, least: int, most: int) -> None:
    """Each limit has its bounds; 0 is no limit."""
    field = side + limit

    def found(value: int) -> list[str]:
        return wrong("WorkloadEndpoint", ENDPOINT | {"qosControls": {field: value}})

    assert found(0) == found(least) == found(most) == []
    assert found(-1) == found(most + 1) == [f"qosControls.{field}"]
    assert least == 1 or found(least - 1) == [f"qosControls.{field}"]


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"egressBandwidth": 1_000, "egressPeakrate": 1_010}, []),
        ({"egressBandwidth": 2_000, "egressPeakrate": 2_000}, ["egressPeakrate"]),
        ({"egressPeakrate": 1_009}, ["egressPeakrate"]),
        ({"ingressMinburst": 1_000, "ingressPeakrate": 1_010_000_000_000_000}, []),
        ({"ingressMinburst": 1_000}, ["ingressMinburst"]),
        ({"ingressMinburst": 100_000_001, "ingressPeakrate": 2_000}, ["ingressMinburst"]),
        ({"dscp": 63}, []),
        ({"dscp": "af43"}, []),
        ({"dscp": 64}, ["dscp"]),
        ({"speed": 1}, ["speed"]),
        ({"ingressBandwidth": "1M"}, ["ingressBandwidth"]),
    ],
)
def test_qos_of_several(controls: dict[str, Any], expected: list[str]) -> None:
    """Limits that need or exceed each other, marks, and words that are none."""
    assert wrong("WorkloadEndpoint", ENDPOINT | {"qosControls": controls}) == [
        f"qosControls.{field}" for field in expected
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"),
    [
        ("Tier", {}, READY, []),
        ("Tier", {}, {"conditions": [{"type": "Ready", "status": "Yes"}]}, ["status.conditions[0].status"]),
        ("IPPool", {"cidr": "10.0.0.0/16"}, READY, []),
        ("IPPool", {"cidr": "10.0.0.0/16"}, {"ready": True}, ["status.ready"]),
        ("Node", {}, {"wireguardPublicKey": "a", "wireguardPublicKeyV6": "b", "podCIDRs": ["10.0.0.0/24"]}, []),
        ("Node", {}, {"podCIDRs": ["x"]}, ["status.podCIDRs[0]"]),
    ],
)  # fmt: skip
def test_status(kind: str, spec: dict[str, Any], status: dict[str, Any], expected: list[str]) -> None:
    """What the system says of a resource has its types, too."""
    assert wrong(kind, spec, status=status) == expected


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Node", {"interfaces": [{"name": "eth0", "addresses": ["10.0.0.1"]}]}, []),
        ("Node", {"interfaces": [{"name": "eth0", "addresses": ["x"]}]}, ["interfaces[0].addresses[0]"]),
        ("Node", {"wireguard": {"interfaceIPv4Address": "fd00::1", "interfaceIPv6Address": "10.0.0.1"}}, ["wireguard.interfaceIPv4Address", "wireguard.interfaceIPv6Address"]),
        ("Node", {"wireguard": {"publicKey": "x"}}, ["wireguard.publicKey"]),
        ("BGPPeer", {"peerIP": "10.0.0.1", "filters": ["a.b", "A"]}, ["filters[1]"]),
        ("BGPPeer", {"peerIP": "10.0.0.1", "failureDetectionMode": "x"}, ["failureDetectionMode"]),
        ("IPReservation", {"reservedCIDRs": ["10.0.0.0/30", "fd00::/126", "10.0.0.1/32"]}, []),
        ("IPReservation", {"reservedCIDRs": ["10.0.0.1", "fd00::1", "x/1"]}, [f"reservedCIDRs[{number}]" for number in range(3)]),
        ("LiveMigration", {"source": {"workloadEndpoint": WEP}, "target": {"workloadEndpoint": WEP}}, []),
        ("LiveMigration", {"source": {"workload": {"orchestratorID": "k8s", "workloadID": "a/b"}}, "target": {"selector": "has(a)"}}, []),
        ("LiveMigration", {}, ["source", "target"]),
        ("LiveMigration", {"source": {}, "target": {"selector": "has(", "workloadEndpoint": WEP}}, ["source", "target", "target.selector"]),
        ("LiveMigration", {"source": {"workload": {"orchestratorID": "openstack"}}, "target": {"workloadEndpoint": {"orchestratorID": "k8s"}}}, ["source.workload.hostname", "source.workload.workloadID", "target.workloadEndpoint.workloadID", "target.workloadEndpoint.endpointID"]),
    ],
)  # fmt: skip
def test_specs(kind: str, spec: dict[str, Any], expected: list[str]) -> None:
    """Each field, and each pair that excludes or needs each other."""
    assert wrong(kind, spec) == expected
