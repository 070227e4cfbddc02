"""What an EndpointSlice says about who serves a service, whatever stands in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from calico.model.address import parse_address
from calico.model.kubernetes_kinds import EndpointSlice
from calico.model.kubernetes_service import Backends, backends

TCP, UDP, SCTP = 6, 17, 132


def written(**fields: Any) -> EndpointSlice:
    """A slice of service shop/web with one address and one port, but for what is said otherwise."""
    tree = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}],
    }
    return msgspec.convert(tree | fields, EndpointSlice)


def found(**fields: Any) -> tuple[list[str], list[tuple[int, int]]]:
    """The addresses and ports of such a slice."""
    served, _ = backends(written(**fields))
    assert served is not None
    return [each.address for each in served.addresses], [*served.ports]


def problems(**fields: Any) -> list[str]:
    """What is wrong with such a slice, by place."""
    _, found = backends(written(**fields))
    assert found == written(**fields).conversion().problems
    return [".".join(map(str, each.path)) for each in found]


def test_each_address_serves_on_each_port() -> None:
    """A port without a protocol is TCP; what is said twice is said once."""
    endpoints = [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.1", "fd00::1"]}]
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}, {"port": 80}]
    assert backends(written(endpoints=endpoints, ports=ports))[0] == Backends(
        "shop/web",
        tuple(map(parse_address, ("10.0.0.1", "10.0.0.2", "fd00::1"))),
        ((TCP, 80), (UDP, 53), (SCTP, 9)),
    )


@pytest.mark.parametrize("condition", ["ready", "serving", "terminating"])
@pytest.mark.parametrize("value", [True, False, None])
def test_conditions_of_an_endpoint_do_not_matter(condition: str, value: bool | None) -> None:
    """Who is not ready, or is just going down, still has connections that must end well."""
    assert found(endpoints=[{"addresses": ["10.0.0.1"], "conditions": {condition: value}}])[0] == ["10.0.0.1"]


def test_a_slice_without_a_service_serves_none() -> None:
    """The label says which service it is, and its namespace is the slice's own."""
    assert backends(written(metadata={"name": "web-1", "namespace": "shop"})) == (None, ())
    labels = {"kubernetes.io/service-name": "web"}
    served, _ = backends(written(metadata={"name": "web-1", "labels": labels}))
    assert served is not None
    assert served.service == "default/web"


@pytest.mark.parametrize("ports", [None, [], [{"name": "any"}], [{"port": None, "protocol": "TCP"}]])
def test_no_port_is_no_port(ports: Any) -> None:
    """A slice that leaves its ports open, as a headless service's may, names addresses only."""
    assert found(ports=ports) == (["10.0.0.1"], [])
    assert problems(ports=ports) == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"ports": [{"port": 0}, {"port": 80}]}, "ports.0.port"),
        ({"ports": [{"port": 80}, {"port": 65536}]}, "ports.1.port"),
        ({"ports": [{"port": "http"}, {"port": 80}]}, "ports.0.port"),
        ({"ports": [{"port": True}, {"port": 80}]}, "ports.0.port"),
        ({"ports": [{"port": 80}, {"port": 81, "protocol": "ICMP"}]}, "ports.1.protocol"),
        ({"endpoints": [{"addresses": ["10.0.0.1", "nonsense"]}]}, "endpoints.0.addresses.1"),
        ({"endpoints": [{"addresses": [5, "10.0.0.1"]}]}, "endpoints.0.addresses.0"),
        ({"endpoints": [{"addresses": ["10.0.0.0/8"]}, {"addresses": ["10.0.0.1"]}]}, "endpoints.0.addresses.0"),
        ({"endpoints": [{"addresses": "10.0.0.2"}, {"addresses": ["10.0.0.1"]}]}, "endpoints.0.addresses"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_part_takes_only_itself_away(fields: dict[str, Any], where: str) -> None:
    """What is no address or no port is left out and told; the rest counts."""
    assert found(**fields) == (["10.0.0.1"], [(TCP, 80)])
    assert problems(**fields) == [where]


def test_names_are_no_addresses() -> None:
    """A slice of names is right in Kubernetes, and matches no packet."""
    assert found(addressType="FQDN", endpoints=[{"addresses": ["example.org"]}])[0] == []
    (problem,) = written(addressType="FQDN").conversion().problems
    assert problem.severity == "warning"


def test_what_nests_without_end_serves_nothing() -> None:
    """A slice that nobody can read to its end is told of, and does no harm."""
    deep: Any = {}
    for _ in range(100_000):
        deep = {"in": deep}
    served, (problem,) = backends(
        EndpointSlice(metadata=written().metadata, endpoints=[{"addresses": ["10.0.0.1"], "hints": deep}])
    )
    assert served is None
    assert "too deep" in problem.message
