"""Nodes: the hosts, with what BGP needs to know of them (behaviour reference 1.17)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from msgspec import field

from calico.model.errors import Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, shown


class NodeBGP(Strict, frozen=True, kw_only=True):
    """The BGP side of a node; addresses are CIDRs with the subnet's length."""

    as_number: int | str | None = None
    ipv4_address: str = field(default="", name="ipv4Address")
    ipv6_address: str = field(default="", name="ipv6Address")
    ipv4_ipip_tunnel_addr: str = field(default="", name="ipv4IPIPTunnelAddr")
    route_reflector_cluster_id: str = field(default="", name="routeReflectorClusterID")


class NodeAddress(Strict, frozen=True, kw_only=True):
    """One address of a node and what it is."""

    address: str
    type: str = ""


class OrchRef(Strict, frozen=True, kw_only=True):
    """The node's name in an orchestrator."""

    node_name: str = ""
    orchestrator: str = ""


class NodeWireguard(Strict, frozen=True, kw_only=True):
    """The addresses of a node's WireGuard interfaces."""

    interface_ipv4_address: str = field(default="", name="interfaceIPv4Address")
    interface_ipv6_address: str = field(default="", name="interfaceIPv6Address")


class NodeInterface(Strict, frozen=True, kw_only=True):
    """One interface of a node, with its addresses."""

    name: str = ""
    addresses: list[str] = []


class NodeStatus(Strict, frozen=True, kw_only=True):
    """What a node's agent and its orchestrator say of it."""

    wireguard_public_key: str = ""
    wireguard_public_key_v6: str = ""
    pod_cidrs: list[str] = field(default_factory=list, name="podCIDRs")


class NodeSpec(Strict, frozen=True, kw_only=True):
    """A host."""

    bgp: NodeBGP | None = None
    ipv4_vxlan_tunnel_addr: str = field(default="", name="ipv4VXLANTunnelAddr")
    vxlan_tunnel_mac_addr: str = field(default="", name="vxlanTunnelMACAddr")
    ipv6_vxlan_tunnel_addr: str = field(default="", name="ipv6VXLANTunnelAddr")
    vxlan_tunnel_mac_addr_v6: str = field(default="", name="vxlanTunnelMACAddrV6")
    orch_refs: list[OrchRef] = []
    addresses: list[NodeAddress] = []
    wireguard: NodeWireguard | None = None
    interfaces: list[NodeInterface] = []


class Node(Resource, frozen=True, kw_only=True, tag=True):
    """A host, by the name that its agent uses."""

    PLURAL: ClassVar[str] = "nodes"
    SHORT: ClassVar[tuple[str, ...]] = ("no", "nos")
    STATUS: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("ASN", lambda r: shown(r.spec.bgp.as_number) if r.spec.bgp else "", wide=True),
        Column("IPV4", lambda r: r.spec.bgp.ipv4_address if r.spec.bgp else "", wide=True),
        Column("IPV6", lambda r: r.spec.bgp.ipv6_address if r.spec.bgp else "", wide=True),
    )

    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus | None = None

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.network_validation import node

        return node(self)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import node

        return node(self.spec)

    def own_addresses(self) -> Iterator[str]:
        """The addresses by which others reach it, BGP's first, as they are written; some may be empty or names."""
        if self.spec.bgp is not None:
            yield self.spec.bgp.ipv4_address
            yield self.spec.bgp.ipv6_address
        yield from (each.address for each in self.spec.addresses)

    def tunnel_addresses(self) -> Iterator[str]:
        """The addresses of its tunnels, as they are written; some may be empty."""
        spec = self.spec
        if spec.bgp is not None:
            yield spec.bgp.ipv4_ipip_tunnel_addr
        yield spec.ipv4_vxlan_tunnel_addr
        yield spec.ipv6_vxlan_tunnel_addr
        if spec.wireguard is not None:
            yield spec.wireguard.interface_ipv4_address
            yield spec.wireguard.interface_ipv6_address
