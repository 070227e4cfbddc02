"""Which addresses of services a node announces."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert

from calico.bgp.bird import render
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec
from calico.model.kubernetes_kinds import EndpointSlice, Service
from calico.model.resource import Metadata
from support.speakers import node, speaker

HERE = node("a", "10.0.0.1", "fd00::1")
RANGES = {
    "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {"cidr": "fd96::/108"}],
    "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "198.51.100.7/32"}],
    "serviceLoadBalancerIPs": [{"cidr": "203.0.113.0/24"}],
}
WHOLE = ["10.96.0.0/12", "192.0.2.0/24", "203.0.113.0/24", "fd96::/108"]


def settings(**more: Any) -> BGPConfiguration:
    """The ranges, and other settings."""
    return BGPConfiguration(
        metadata=Metadata(name="default"), spec=convert(RANGES | more, BGPConfigurationSpec)
    )


def service(policy: str | None = "Local", *, type_: str = "LoadBalancer", **spec: Any) -> Service:
    """A service with an address of each kind."""
    whole = {
        "type": type_,
        "clusterIP": "10.96.0.5",
        "clusterIPs": ["10.96.0.5", "fd96::5"],
        "externalIPs": ["192.0.2.5", "198.51.100.7", "198.51.100.8"],
        "externalTrafficPolicy": policy,
    }
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"hostname": "x"}, {"ip": "8.8.8.8"}]}}
    return Service(metadata=Metadata(name="web", namespace="shop"), spec=whole | spec, status=status)


def endpoints(
    where: str = "a", *, ready: bool | None = True, family: str = "IPv4", namespace: str = "shop"
) -> EndpointSlice:
    """One endpoint of the service."""
    return EndpointSlice(
        metadata=Metadata(
            name=f"web-{family}", namespace=namespace, labels={"kubernetes.io/service-name": "web"}
        ),
        address_type=family,
        endpoints=[{"addresses": ["10.65.0.1"], "nodeName": where, "conditions": {"ready": ready}}],
    )


def routes(*world: Any) -> list[str]:
    """What node a announces for services."""
    return [str(prefix) for prefix in speaker("a", *world).services]


def test_ranges_are_announced_from_every_node() -> None:
    """The ranges go out whole, but for those of one address, which go with their service."""
    assert routes(HERE, settings()) == WHOLE


def test_nothing_is_announced_without_ranges() -> None:
    """A service alone announces nothing."""
    assert routes(HERE, service(), endpoints()) == []


def test_local_service_is_announced_where_it_is_served() -> None:
    """With externalTrafficPolicy Local each address within the ranges is announced from nodes with a ready endpoint."""
    single = ["10.96.0.5/32", "192.0.2.5/32", "198.51.100.7/32", "203.0.113.5/32"]

    assert routes(HERE, settings(), service(), endpoints()) == sorted([*WHOLE[:3], *single]) + WHOLE[3:]
    assert routes(HERE, settings(), service(), endpoints("b")) == WHOLE
    assert routes(HERE, settings(), service(), endpoints(ready=False)) == WHOLE
    assert routes(HERE, settings(), service(), endpoints(namespace="other")) == WHOLE
    assert len(routes(HERE, settings(), service(), endpoints(ready=None))) == len(WHOLE) + 4


def test_wide_ranges_alone_say_nothing_of_single_services() -> None:
    """Where every range goes out whole, only a service that is Local adds addresses of its own."""
    wide = settings(serviceExternalIPs=[{"cidr": "192.0.2.0/24"}])
    single = ["10.96.0.5/32", "192.0.2.5/32", "203.0.113.5/32"]

    assert routes(HERE, wide, service("Cluster"), endpoints()) == WHOLE
    assert routes(HERE, wide, service(), endpoints()) == sorted([*WHOLE[:3], *single]) + WHOLE[3:]


def test_each_family_is_announced_where_it_is_served() -> None:
    """An IPv6 address needs an IPv6 endpoint here."""
    assert "fd96::5/128" not in routes(HERE, settings(), service(), endpoints())
    six = routes(HERE, settings(), service(), endpoints(family="IPv6"))
    assert "fd96::5/128" in six
    assert "10.96.0.5/32" not in six


def test_single_addresses_are_announced_with_cluster_policy_too() -> None:
    """A range of one address is announced wherever its service exists, as every node serves it."""
    assert routes(HERE, settings(), service("Cluster")) == sorted([*WHOLE[:3], "198.51.100.7/32"]) + WHOLE[3:]
    assert routes(HERE, settings(), service(None)) == routes(HERE, settings(), service("Cluster"))


def test_load_balancers_one_by_one() -> None:
    """Without aggregation each load balancer's address goes out by itself, and the range does not."""
    apart = settings(serviceLoadBalancerAggregation="Disabled")

    assert routes(HERE, apart) == ["10.96.0.0/12", "192.0.2.0/24", "fd96::/108"]
    assert "203.0.113.5/32" in routes(HERE, apart, service("Cluster"))
    assert "203.0.113.5/32" not in routes(HERE, apart, service("Local"), endpoints("b"))


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type_": "ExternalName"}])
def test_services_without_an_address_of_their_own_are_not_announced(spec: dict[str, Any]) -> None:
    """Headless services and names of others are nobody's addresses."""
    assert routes(HERE, settings(), service(**spec), endpoints()) == WHOLE


def test_excluded_node_announces_no_services() -> None:
    """A node that load balancers shall not use announces none, not even ranges."""
    excluded = node(
        "a", "10.0.0.1", labels={"node.kubernetes.io/exclude-from-external-load-balancers": "true"}
    )

    assert routes(excluded, settings(), service(), endpoints()) == []


def test_objects_may_hold_anything() -> None:
    """What is no address, no list or no range is passed over; a broken range is a problem."""
    odd = Service(
        metadata=Metadata(name="web", namespace="shop"),
        spec={
            "clusterIP": "x",
            "clusterIPs": 7,
            "externalIPs": [None, {}, "y"],
            "externalTrafficPolicy": "Local",
        },
        status={"loadBalancer": []},
    )
    broken = settings(serviceExternalIPs=[{"cidr": "192.0.2.0/33"}])
    slices = EndpointSlice(
        metadata=endpoints().metadata, address_type="IPv4", endpoints=[{}, {"nodeName": "a"}]
    )
    planned = speaker("a", HERE, broken, odd, slices)

    assert [problem.subject for problem in planned.problems] == ["BGPConfiguration/default"]
    assert [str(prefix) for prefix in planned.services] == ["10.96.0.0/12", "203.0.113.0/24", "fd96::/108"]


def test_routes_of_services_are_announced_and_kept_out_of_the_kernel() -> None:
    """The static routes exist to be announced: in the kernel they would swallow the services' traffic."""
    text = render(speaker("a", HERE, settings()))

    assert "  route 10.96.0.0/12 blackhole;\n" in text
    kernel = text.partition("filter to_kernel4 {")[2].partition("\n}")[0]
    assert 'if proto = "services4" then reject;' in kernel
    assert 'if proto = "services4" then accept;' in text.partition("function announce4() {")[2]


def test_reflector_passes_services_of_others_on() -> None:
    """A route reflector accepts what others announce of the ranges."""
    reflector = node("a", "10.0.0.1", cluster_id="1.0.0.1")

    assert (
        "if source = RTS_BGP && net ~ [ 10.96.0.0/12+, 192.0.2.0/24+, 198.51.100.7/32+, 203.0.113.0/24+ ] then accept;"
        in render(speaker("a", reflector, settings()))
    )
