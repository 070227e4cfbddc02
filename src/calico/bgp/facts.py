"""Everything that one node's BGP depends on.

In:   resources, from the store; what the node's agent knows of itself.
Out:  ``Facts``, one frozen value.
Next: ``bgp.plan`` makes a ``Speaker`` of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from calico.model.address import Cidr
from calico.model.bfd import BFDConfiguration
from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.bgpfilter import BGPFilter
from calico.model.endpoint import WorkloadEndpoint
from calico.model.kubernetes_kinds import EndpointSlice, Service
from calico.model.node import Node
from calico.model.pool import IPPool

Place: TypeAlias = tuple[str, str]
"""Namespace and name."""


def _none() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Resources by name, those with a namespace by namespace and name; what is left out does not exist.

    ``workloads`` may be those of all nodes. ``blocks`` are the prefixes whose affinity the node holds, or single
    addresses. ``routers``: by interface, the link-local address of the router behind it, as far as known.
    ``router_id``: an IPv4 address to use, "hash" for one made of the node's name, "" for the node's own address.
    """

    nodes: Mapping[str, Node] = field(default_factory=_none)
    configurations: Mapping[str, BGPConfiguration] = field(default_factory=_none)
    peers: Mapping[str, BGPPeer] = field(default_factory=_none)
    filters: Mapping[str, BGPFilter] = field(default_factory=_none)
    pools: Mapping[str, IPPool] = field(default_factory=_none)
    bfd: Mapping[str, BFDConfiguration] = field(default_factory=_none)
    services: Mapping[Place, Service] = field(default_factory=_none)
    slices: Mapping[Place, EndpointSlice] = field(default_factory=_none)
    workloads: Mapping[Place, WorkloadEndpoint] = field(default_factory=_none)
    blocks: frozenset[Cidr] = frozenset()
    routers: Mapping[str, Cidr] = field(default_factory=_none)
    router_id: str = ""
