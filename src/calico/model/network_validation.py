"""What is wrong with pools and nodes (behaviour reference 1.9, 1.17).

In:   one pool or node, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings about metadata.
"""

from __future__ import annotations

from typing import Final

from calico.model import checks
from calico.model.address import AddressError, Cidr, Family, parse_cidr
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.node import Node, NodeBGP
from calico.model.numbers import as_number
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.selector import ALL, parse

BLOCK_SIZES: Final[dict[Family, tuple[int, int, int]]] = {4: (20, 32, 26), 6: (116, 128, 122)}
"""Least and greatest prefix length of a pool's blocks, and the default, by family."""

_LINK_LOCAL: Final = (parse_cidr("169.254.0.0/16"), parse_cidr("fe80::/10"))


def pool(resource: IPPool) -> Findings:
    """A pool of addresses."""
    spec = resource.spec
    yield from checks.selector(("spec", "nodeSelector"), spec.node_selector)
    yield from checks.selector(("spec", "namespaceSelector"), spec.namespace_selector)
    if _encapsulated(spec.ipip_mode) and _encapsulated(spec.vxlan_mode):
        yield Finding(
            ("spec", "vxlanMode"),
            "a pool has one encapsulation, and ipipMode says another",
            "set one to Never",
        )
    yield from _uses(spec)
    if "/" not in spec.cidr:
        yield Finding(
            ("spec", "cidr"), f"{spec.cidr!r} is no prefix", "write one with a length, such as 10.0.0.0/16"
        )
        return
    try:
        cidr = parse_cidr(spec.cidr)
    except AddressError:
        yield from checks.prefix(("spec", "cidr"), spec.cidr)
        return
    for reserved in _LINK_LOCAL:
        if cidr.overlaps(reserved):
            yield Finding(
                ("spec", "cidr"),
                f"{spec.cidr!r} overlaps the link-local range {reserved}",
                "choose another range",
            )
    if cidr.family == 6 and _encapsulated(spec.ipip_mode):
        yield Finding(
            ("spec", "ipipMode"), "IP in IP carries no IPv6", "set it to Never, and vxlanMode if needed"
        )
    yield from _blocks(spec, cidr)


def pool_changes(before: IPPool, now: IPPool) -> Findings:
    """What of a stored pool may not change."""
    old, new = before.spec, now.spec
    if _masked(old.cidr) != _masked(new.cidr):
        yield Finding(
            ("spec", "cidr"), f"a pool's prefix cannot change ({old.cidr} is stored)", "make a new pool"
        )
    elif None not in {old.block_size, new.block_size} and old.block_size != new.block_size:
        yield Finding(
            ("spec", "blockSize"),
            f"a pool's block size cannot change ({old.block_size} is stored)",
            "make a new pool",
        )
    if "LoadBalancer" in old.allowed_uses and "LoadBalancer" not in new.allowed_uses:
        yield Finding(
            ("spec", "allowedUses"), "a pool for load balancers stays one", "make a new pool for other uses"
        )


def _masked(text: str) -> Cidr | str:
    try:
        return parse_cidr(text)
    except AddressError:
        return text


def _blocks(spec: IPPoolSpec, cidr: Cidr) -> Findings:
    least, most, default = BLOCK_SIZES[cidr.family]
    size = spec.block_size or default
    if wrong := [*checks.within(("spec", "blockSize"), spec.block_size, least, most)]:
        yield from wrong
    elif cidr.length > size and not spec.disabled:
        yield Finding(
            ("spec", "cidr"),
            f"{spec.cidr!r} is smaller than one block (/{size})",
            "widen the prefix, raise blockSize, or disable the pool",
        )


def _uses(spec: IPPoolSpec) -> Findings:
    uses: Path = ("spec", "allowedUses")
    if "Tunnel" in spec.allowed_uses and spec.namespace_selector:
        yield Finding(
            ("spec", "namespaceSelector"),
            "tunnel addresses belong to no namespace",
            "remove it, or Tunnel of allowedUses",
        )
    if "LoadBalancer" not in spec.allowed_uses:
        return
    if set(spec.allowed_uses) != {"LoadBalancer"}:
        yield Finding(uses, "LoadBalancer can not be combined with other uses", "make two pools")
    for field, mode in (("ipipMode", spec.ipip_mode), ("vxlanMode", spec.vxlan_mode)):
        if _encapsulated(mode):
            yield Finding(
                ("spec", field), "addresses of load balancers are not encapsulated", "set it to Never"
            )
    if spec.disable_bgp_export:
        yield Finding(
            ("spec", "disableBGPExport"),
            "addresses of load balancers have to be announced",
            "set it to false",
        )
    if spec.node_selector and _parsed(spec.node_selector) not in {None, ALL}:
        yield Finding(
            ("spec", "nodeSelector"),
            "addresses of load balancers belong to no node",
            "write all(), or nothing",
        )


def _encapsulated(mode: str | None) -> bool:
    return mode not in {None, "Never"}


def _parsed(text: str) -> object:
    try:
        return parse(text)
    except ModelError:
        return None


def node(resource: Node) -> Findings:
    """A host."""
    spec = resource.spec
    if spec.bgp is not None:
        yield from _node_bgp(spec.bgp)
    if spec.ipv4_vxlan_tunnel_addr:
        yield from checks.address(("spec", "ipv4VXLANTunnelAddr"), spec.ipv4_vxlan_tunnel_addr, 4)
    if spec.ipv6_vxlan_tunnel_addr:
        yield from checks.address(("spec", "ipv6VXLANTunnelAddr"), spec.ipv6_vxlan_tunnel_addr, 6)
    for field, mac in (
        ("vxlanTunnelMACAddr", spec.vxlan_tunnel_mac_addr),
        ("vxlanTunnelMACAddrV6", spec.vxlan_tunnel_mac_addr_v6),
    ):
        if mac:
            yield from checks.mac(("spec", field), mac)
    for index, each in enumerate(spec.addresses):
        yield from checks.prefix(("spec", "addresses", index, "address"), each.address)
        yield from checks.one_of(
            ("spec", "addresses", index, "type"), each.type, ("CalicoNodeIP", "InternalIP", "ExternalIP")
        )
    if spec.wireguard is not None:
        where: Path = ("spec", "wireguard")
        if spec.wireguard.interface_ipv4_address:
            yield from checks.address(
                (*where, "interfaceIPv4Address"), spec.wireguard.interface_ipv4_address, 4
            )
        if spec.wireguard.interface_ipv6_address:
            yield from checks.address(
                (*where, "interfaceIPv6Address"), spec.wireguard.interface_ipv6_address, 6
            )
    for index, interface in enumerate(spec.interfaces):
        for number, text in enumerate(interface.addresses):
            yield from checks.prefix(("spec", "interfaces", index, "addresses", number), text)
    for index, text in enumerate(resource.status.pod_cidrs if resource.status else ()):
        yield from checks.prefix(("status", "podCIDRs", index), text)


def _node_bgp(bgp: NodeBGP) -> Findings:
    path: Path = ("spec", "bgp")
    if bgp == NodeBGP():
        yield Finding(path, "the BGP side of the node is empty", "fill it in, or remove it")
    if bgp.as_number is not None:
        yield from checks.readable((*path, "asNumber"), as_number, bgp.as_number)
    if bgp.ipv4_address:
        yield from checks.prefix((*path, "ipv4Address"), bgp.ipv4_address, 4)
    if bgp.ipv6_address:
        yield from checks.prefix((*path, "ipv6Address"), bgp.ipv6_address, 6)
    if bgp.ipv4_ipip_tunnel_addr:
        yield from checks.address((*path, "ipv4IPIPTunnelAddr"), bgp.ipv4_ipip_tunnel_addr, 4)
    if bgp.route_reflector_cluster_id:
        yield from checks.address((*path, "routeReflectorClusterID"), bgp.route_reflector_cluster_id, 4)
