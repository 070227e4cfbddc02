"""A world knows which services there are, and what rules mean by them."""

from __future__ import annotations

from typing import Any

import pytest

from calico.analysis import World

V3 = "projectcalico.org/v3"


def pod(name: str, address: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


def policy(name: str, app: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": V3,
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": f"app == '{app}'", **spec},
    }


SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
PODS = [
    pod("client", "10.0.0.1", app="client"),
    pod("web", "10.0.0.2", app="web"),
    pod("db", "10.0.0.3", app="db"),
]
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "web-abc",
        "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "web"},
        "ownerReferences": [{"kind": "Service", "name": "web"}],
        "managedFields": [{"manager": "kube-controller-manager"}],
    },
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "nodeName": "node-1"}],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
}
TO_WEB = policy(
    "to-web", "client", egress=[{"action": "Allow", "destination": {"services": {"name": "web"}}}]
)
FROM_WEB = policy("from-web", "db", ingress=[{"action": "Allow", "source": {"services": {"name": "web"}}}])
NOT_WEB = policy(
    "not-web",
    "client",
    egress=[{"action": "Deny", "destination": {"services": {"name": "web"}}}, {"action": "Allow"}],
)


def allows(
    made: World, source: str, destination: str, protocol: str = "TCP", port: int | None = 8080
) -> bool:
    return made.decide(
        source=f"shop/{source}", destination=f"shop/{destination}", protocol=protocol, port=port
    ).allowed


@pytest.mark.parametrize("documents", [[SLICE], [{"kind": "List", "apiVersion": "v1", "items": [SLICE]}]])
def test_egress_to_a_service_is_to_its_backends_on_its_ports(documents: list[Any]) -> None:
    """Another port, another protocol, another pod, or no port at all is not the service."""
    made = World.load([SHOP, *PODS, TO_WEB, *documents])
    assert allows(made, "client", "web")
    assert not allows(made, "client", "web", port=80)
    assert not allows(made, "client", "web", "UDP")
    assert not allows(made, "client", "web", "ICMP", None)
    assert not allows(made, "client", "db")
    assert made.problems == ()


def test_ingress_from_a_service_is_from_its_backends() -> None:
    """From whatever port, by whatever protocol; but from nobody else."""
    made = World.load([SHOP, *PODS, FROM_WEB, SLICE])
    assert allows(made, "web", "db", port=5432)
    assert allows(made, "web", "db", "ICMP", None)
    assert not allows(made, "client", "db")


def test_a_deny_by_service_denies_the_service_alone() -> None:
    """It does not open what it is meant to close, and closes nothing else."""
    made = World.load([SHOP, *PODS, NOT_WEB, SLICE])
    assert not allows(made, "client", "web")
    assert allows(made, "client", "web", port=80)
    assert allows(made, "client", "db")


def test_without_slices_a_service_is_nobody() -> None:
    """Also if the Service itself is there."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}}
    made = World.load([SHOP, *PODS, TO_WEB, service])
    assert not allows(made, "client", "web")


def test_a_slice_that_is_wrong_is_named() -> None:
    """What cannot be read as a slice is left out; what is wrong in one is told."""
    unreadable = SLICE | {"endpoints": "10.0.0.2"}
    made = World.load([SHOP, *PODS, TO_WEB, unreadable])
    assert not allows(made, "client", "web")
    assert any("endpoints" in problem for problem in made.problems)

    partly = SLICE | {"endpoints": [{"addresses": ["10.0.0.2", "here"]}]}
    made = World.load([SHOP, *PODS, TO_WEB, partly])
    assert allows(made, "client", "web")
    (problem,) = made.problems
    assert "'here'" in problem


def test_a_rule_that_looks_into_requests_is_named_and_allows_nothing() -> None:
    """The policy keeps isolating, its other rules count, and the problem says which rule of which policy it is."""
    http = {"action": "Allow", "protocol": "TCP", "http": {"methods": ["GET"]}}
    db = {"action": "Allow", "protocol": "TCP", "destination": {"ports": [5432]}}
    made = World.load([SHOP, *PODS, policy("api", "db", ingress=[http, db])])
    assert not allows(made, "client", "db", port=80)
    assert allows(made, "client", "db", port=5432)
    (problem,) = made.problems
    assert problem.startswith("NetworkPolicy/shop/api: ingress rule 0 ")
    assert "http" in problem
