"""What is wrong with BGP intent (behaviour reference 1.11, 1.12).

In:   one BGP configuration or BGP peer, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings about metadata; ``model.bgpfilter_validation`` judges filters.
"""

from __future__ import annotations

import re
from typing import Final

from calico.model import checks
from calico.model.address import AddressError, Family, parse_address
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPassword, BGPPeer
from calico.model.errors import Finding, Findings, Path
from calico.model.numbers import MAX_PORT, as_number

MAX_PRIORITY: Final = 2**31 - 2
LISTED: Final = 500
COMMUNITIES: Final = 50
_COMMUNITY: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(?::([0-9]{1,10}))?")
_SEVERITIES: Final = ("Trace", "Debug", "Info", "Warning", "Error", "Fatal")
_PEER_ADDRESS: Final = re.compile(r"(?P<v4>[0-9.]+):(?P<v4port>[0-9]+)|\[(?P<v6>[^\]]+)\]:(?P<v6port>[0-9]+)")


def bgp_configuration(resource: BGPConfiguration) -> Findings:
    """The cluster's BGP settings (``default``), or those of one node (``node.<name>``)."""
    spec = resource.spec
    name = resource.metadata.name
    if name and name != "default" and not name.startswith("node."):
        yield Finding(
            ("metadata", "name"),
            f"no settings are called {name!r}",
            "write default, or node.<name of a node>",
        )
    if name.startswith("node."):
        yield from _only_default(spec)
    if spec.log_severity_screen.capitalize() not in {"", *_SEVERITIES}:
        yield from checks.one_of(("spec", "logSeverityScreen"), spec.log_severity_screen, _SEVERITIES)
    if spec.as_number is not None:
        yield from checks.readable(("spec", "asNumber"), as_number, spec.as_number)
    for field, blocks in (
        ("serviceClusterIPs", spec.service_cluster_ips),
        ("serviceExternalIPs", spec.service_external_ips),
        ("serviceLoadBalancerIPs", spec.service_load_balancer_ips),
    ):
        for index, block in enumerate(blocks):
            yield from checks.prefix(("spec", field, index, "cidr"), block.cidr)
    yield from checks.one_of(
        ("spec", "serviceLoadBalancerAggregation"),
        spec.service_load_balancer_aggregation,
        ("Enabled", "Disabled"),
    )
    yield from _communities(spec)
    yield from checks.within(("spec", "listenPort"), spec.listen_port, 1, MAX_PORT)
    yield from _password(("spec", "nodeMeshPassword"), spec.node_mesh_password)
    yield from checks.duration(("spec", "nodeMeshMaxRestartTime"), spec.node_mesh_max_restart_time)
    if spec.node_to_node_mesh_enabled is False:
        for field, value in (
            ("nodeMeshPassword", spec.node_mesh_password),
            ("nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time),
        ):
            if value is not None:
                yield Finding(
                    ("spec", field), "the node-to-node mesh is disabled", "remove it, or enable the mesh"
                )
    yield from checks.one_of(("spec", "bindMode"), spec.bind_mode, ("None", "NodeIP"))
    for index, pattern in enumerate(spec.ignored_interfaces):
        if not pattern or pattern == "*" or len(pattern) > 15:
            yield Finding(
                ("spec", "ignoredInterfaces", index),
                f"{pattern!r} is no pattern for interfaces",
                "write one as in eth*",
            )
    if spec.local_workload_peering_ipv4:
        yield from checks.address(("spec", "localWorkloadPeeringIPV4"), spec.local_workload_peering_ipv4, 4)
    if spec.local_workload_peering_ipv6:
        yield from checks.address(("spec", "localWorkloadPeeringIPV6"), spec.local_workload_peering_ipv6, 6)
    yield from checks.one_of(
        ("spec", "programClusterRoutes"),
        spec.program_cluster_routes,
        ("Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"),
    )
    yield from checks.within(
        ("spec", "ipv4NormalRoutePriority"), spec.ipv4_normal_route_priority, 1, MAX_PRIORITY
    )
    yield from checks.within(
        ("spec", "ipv6NormalRoutePriority"), spec.ipv6_normal_route_priority, 1, MAX_PRIORITY
    )


def _only_default(spec: BGPConfigurationSpec) -> Findings:
    for field, value in (
        ("nodeToNodeMeshEnabled", spec.node_to_node_mesh_enabled),
        ("asNumber", spec.as_number),
        ("serviceClusterIPs", spec.service_cluster_ips or None),
        ("serviceExternalIPs", spec.service_external_ips or None),
        ("serviceLoadBalancerIPs", spec.service_load_balancer_ips or None),
        ("nodeMeshPassword", spec.node_mesh_password),
        ("nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time),
    ):
        if value is not None:
            yield Finding(("spec", field), f"{field} is the same for all nodes", "set it in default")


def _communities(spec: BGPConfigurationSpec) -> Findings:
    yield from checks.at_most(("spec", "communities"), spec.communities, LISTED, "communities")
    yield from checks.at_most(
        ("spec", "prefixAdvertisements"), spec.prefix_advertisements, LISTED, "prefixes"
    )
    if spec.communities and not spec.prefix_advertisements:
        yield Finding(("spec", "communities"), "no prefix is announced with them", "add prefixAdvertisements")
    for index, named in enumerate(spec.communities):
        path: Path = ("spec", "communities", index)
        if not named.name:
            yield Finding(
                (*path, "name"), "the community has no name", "add one, for prefixAdvertisements to use"
            )
        yield from community((*path, "value"), named.value)
    names = {named.name for named in spec.communities}
    for index, announced in enumerate(spec.prefix_advertisements):
        path = ("spec", "prefixAdvertisements", index)
        yield from checks.prefix((*path, "cidr"), announced.cidr)
        yield from checks.at_most((*path, "communities"), announced.communities, COMMUNITIES, "communities")
        for number, text in enumerate(announced.communities):
            if text not in names:
                yield from community((*path, "communities", number), text)


def community(path: Path, text: str) -> Findings:
    """A community of two numbers, or a large one of three."""
    found = _COMMUNITY.fullmatch(text)
    parts = [int(part) for part in found.groups() if part] if found else []
    if not parts or max(parts) > (0xFFFF if len(parts) == 2 else 0xFFFFFFFF):
        yield Finding(
            path,
            f"{text!r} is no community",
            "write aa:nn (each up to 65535), aa:nn:mm (each up to 4294967295), or a name from communities",
        )


def bgp_peer(resource: BGPPeer) -> Findings:
    """Who peers with whom."""
    spec = resource.spec
    path: Path = ("spec",)
    for field, text in (
        ("nodeSelector", spec.node_selector),
        ("peerSelector", spec.peer_selector),
        ("localWorkloadSelector", spec.local_workload_selector),
    ):
        yield from checks.selector((*path, field), text)
    if spec.node and spec.node_selector:
        yield Finding((*path, "nodeSelector"), "the near side is named twice", "write node or nodeSelector")
    if spec.peer_ip and spec.peer_selector:
        yield Finding((*path, "peerSelector"), "the far side is named twice", "write peerIP or peerSelector")
    if not (spec.peer_ip or spec.peer_selector or spec.local_workload_selector or spec.peer_interface):
        yield Finding(path, "the far side is not named", "add peerIP, peerSelector or localWorkloadSelector")
    if spec.peer_interface:
        yield from _interface(resource)
    if spec.local_workload_selector:
        if spec.peer_ip or spec.peer_selector:
            yield Finding(
                (*path, "localWorkloadSelector"),
                "the far side is named twice",
                "peers are local workloads or others",
            )
        if spec.as_number is None:
            yield Finding((*path, "asNumber"), "the AS number of the workloads is not given", "add it")
    if spec.peer_selector and spec.as_number is not None:
        yield Finding(
            (*path, "asNumber"), "nodes that peerSelector selects have their own AS numbers", "remove it"
        )
    for field, number in (("asNumber", spec.as_number), ("localASNumber", spec.local_as_number)):
        if number is not None:
            yield from checks.readable((*path, field), as_number, number)
    if spec.next_hop_mode is not None and spec.keep_original_next_hop:
        yield Finding(
            (*path, "keepOriginalNextHop"), "nextHopMode says the same or the opposite", "remove it"
        )
    family = None
    if spec.peer_ip:
        family = _peer_family(spec.peer_ip)
        if family is None:
            yield Finding(
                (*path, "peerIP"),
                f"{spec.peer_ip!r} is no address of a peer",
                "write an address, or with a port 10.0.0.1:179 or [fd00::1]:179",
            )
    if spec.reachable_by:
        if not spec.peer_ip:
            yield Finding(
                (*path, "reachableBy"), "a gateway needs the address of the peer behind it", "add peerIP"
            )
        yield from checks.address((*path, "reachableBy"), spec.reachable_by, family)
    for index, name in enumerate(spec.filters):
        yield from checks.dns_subdomain((*path, "filters", index), name)
    yield from _password((*path, "password"), spec.password)
    yield from checks.duration((*path, "maxRestartTime"), spec.max_restart_time)
    yield from checks.duration((*path, "keepaliveTime"), spec.keepalive_time)
    yield from checks.within((*path, "ttlSecurity"), spec.ttl_security, 0, 255)
    yield from checks.within(
        (*path, "numAllowedLocalASNumbers"), spec.num_allowed_local_as_numbers, 0, 2**31 - 1
    )


def _interface(resource: BGPPeer) -> Findings:
    """A peer behind an interface: it has no other name, and is next to us."""
    spec = resource.spec
    if spec.peer_ip or spec.peer_selector or spec.local_workload_selector:
        yield Finding(
            ("spec", "peerInterface"),
            "the far side is named twice",
            "write peerInterface or how else the peer is found",
        )
    yield from checks.interface(("spec", "peerInterface"), spec.peer_interface)


def _peer_family(text: str) -> Family | None:
    found = _PEER_ADDRESS.fullmatch(text)
    address, port = (found["v4"] or found["v6"], found["v4port"] or found["v6port"]) if found else (text, "1")
    try:
        parsed = parse_address(address)
    except AddressError:
        return None
    bracketed = found is not None and found["v6"] is not None
    if (bracketed and parsed.family == 4) or len(port) > 5 or not 1 <= int(port) <= MAX_PORT:
        return None
    return parsed.family


def _password(path: Path, password: BGPPassword | None) -> Findings:
    if password is None:
        return
    reference = password.secret_key_ref
    if reference is None or not (reference.name and reference.key):
        yield Finding(
            (*path, "secretKeyRef"), "nothing says where the password is kept", "add name and key of a secret"
        )
