"""Nodes, peers and pools for tests of BGP, in few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import convert

from calico.bgp.facts import Facts
from calico.bgp.plan import plan
from calico.bgp.speaker import Session, Speaker
from calico.model.address import parse_cidr
from calico.model.bfd import BFDConfiguration
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec
from calico.model.bgpfilter import BGPFilter, BGPFilterSpec
from calico.model.endpoint import WorkloadEndpoint
from calico.model.kubernetes_kinds import EndpointSlice, Service
from calico.model.node import Node, NodeBGP, NodeSpec
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata, Resource


def node(
    name: str,
    ipv4: str = "",
    ipv6: str = "",
    *,
    as_number: int | str | None = None,
    cluster_id: str = "",
    labels: dict[str, str] | None = None,
) -> Node:
    """A node with a BGP part."""
    bgp = NodeBGP(
        as_number=as_number,
        ipv4_address=ipv4 and f"{ipv4}/24",
        ipv6_address=ipv6 and f"{ipv6}/64",
        route_reflector_cluster_id=cluster_id,
    )
    return Node(metadata=Metadata(name=name, labels=labels or {}), spec=NodeSpec(bgp=bgp))


def configuration(name: str = "default", **spec: Any) -> BGPConfiguration:
    """A BGP configuration."""
    return BGPConfiguration(metadata=Metadata(name=name), spec=BGPConfigurationSpec(**spec))


def peer(name: str, **spec: Any) -> BGPPeer:
    """A BGP peer."""
    return BGPPeer(metadata=Metadata(name=name), spec=BGPPeerSpec(**spec))


def pool(name: str, cidr: str, **spec: Any) -> IPPool:
    """A pool."""
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, **spec))


def route_filter(name: str, **rules: Any) -> BGPFilter:
    """A BGP filter, from lists of rules as YAML has them."""
    return BGPFilter(metadata=Metadata(name=name), spec=convert(rules, BGPFilterSpec))


def speaker(name: str, *resources: Resource, blocks: tuple[str, ...] = (), **more: Any) -> Speaker:
    """What the node ``name`` does in BGP in the world of ``resources``, holding ``blocks``."""
    return plan(name, facts(*resources, blocks=blocks, **more))


def facts(
    *resources: Resource,
    blocks: tuple[str, ...] = (),
    routers: Mapping[str, str] | None = None,
    router_id: str = "",
) -> Facts:
    """The world of ``resources``."""

    def of(kind: type) -> dict[str, Any]:
        return {one.metadata.name: one for one in resources if isinstance(one, kind)}

    def placed(kind: type) -> dict[tuple[str, str], Any]:
        return {
            (one.metadata.namespace, one.metadata.name): one for one in resources if isinstance(one, kind)
        }

    return Facts(
        nodes=of(Node),
        configurations=of(BGPConfiguration),
        peers=of(BGPPeer),
        filters=of(BGPFilter),
        pools=of(IPPool),
        bfd=of(BFDConfiguration),
        services=placed(Service),
        slices=placed(EndpointSlice),
        workloads=placed(WorkloadEndpoint),
        blocks=frozenset(map(parse_cidr, blocks)),
        routers={interface: parse_cidr(address) for interface, address in (routers or {}).items()},
        router_id=router_id,
    )


def session(of: Speaker, name: str) -> Session:
    """The session called ``name``."""
    return next(one for one in of.sessions if one.name == name)


def names(of: Speaker) -> list[str]:
    """The names of all sessions."""
    return [one.name for one in of.sessions]
