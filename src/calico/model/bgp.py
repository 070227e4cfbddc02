"""BGP intent: the cluster's settings and its peers (behaviour reference 1.11, 1.12)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from calico.model.errors import Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, shown

DEFAULT_AS = 64512


class SecretKeyRef(Strict, frozen=True, kw_only=True):
    """A key of a named secret."""

    name: str
    key: str
    optional: bool | None = None


class BGPPassword(Strict, frozen=True, kw_only=True):
    """Where a session's TCP MD5 password is kept."""

    secret_key_ref: SecretKeyRef | None = None


class CommunityValue(Strict, frozen=True, kw_only=True):
    """A named community."""

    name: str = ""
    value: str = ""


class PrefixAdvertisement(Strict, frozen=True, kw_only=True):
    """Communities that a prefix is announced with."""

    cidr: str = ""
    communities: list[str] = []


class ServiceBlock(Strict, frozen=True, kw_only=True):
    """A range of service addresses."""

    cidr: str = ""


class BGPConfigurationSpec(Strict, frozen=True, kw_only=True):
    """Settings for all nodes (``default``) or one (``node.<name>``)."""

    log_severity_screen: str = ""
    node_to_node_mesh_enabled: bool | None = None
    as_number: int | str | None = None
    service_cluster_ips: list[ServiceBlock] = field(default_factory=list, name="serviceClusterIPs")
    service_external_ips: list[ServiceBlock] = field(default_factory=list, name="serviceExternalIPs")
    service_load_balancer_ips: list[ServiceBlock] = field(default_factory=list, name="serviceLoadBalancerIPs")
    service_load_balancer_aggregation: str | None = None
    communities: list[CommunityValue] = []
    prefix_advertisements: list[PrefixAdvertisement] = []
    listen_port: int | None = None
    node_mesh_password: BGPPassword | None = None
    node_mesh_max_restart_time: str | None = None
    bind_mode: str | None = None
    ignored_interfaces: list[str] = []
    local_workload_peering_ipv4: str = field(default="", name="localWorkloadPeeringIPV4")
    local_workload_peering_ipv6: str = field(default="", name="localWorkloadPeeringIPV6")
    program_cluster_routes: str | None = None
    ipv4_normal_route_priority: int | None = field(default=None, name="ipv4NormalRoutePriority")
    ipv6_normal_route_priority: int | None = field(default=None, name="ipv6NormalRoutePriority")


class BGPConfiguration(Resource, frozen=True, kw_only=True, tag=True):
    """Cluster-wide or per-node BGP settings."""

    PLURAL: ClassVar[str] = "bgpconfigurations"
    SHORT: ClassVar[tuple[str, ...]] = ("bgpconfig", "bgpconfigs")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("LOGSEVERITY", lambda r: r.spec.log_severity_screen),
        Column("MESHENABLED", lambda r: shown(r.spec.node_to_node_mesh_enabled)),
        Column("ASNUMBER", lambda r: shown(r.spec.as_number)),
    )

    spec: BGPConfigurationSpec = field(default_factory=BGPConfigurationSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.bgp_validation import bgp_configuration

        return bgp_configuration(self)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import bgp_configuration

        return bgp_configuration(self.spec)


class BGPPeerSpec(Strict, frozen=True, kw_only=True):
    """Who peers with whom: ``node`` or ``node_selector`` on our side, an address or ``peer_selector`` on theirs."""

    node: str = ""
    node_selector: str = ""
    peer_ip: str = field(default="", name="peerIP")
    peer_selector: str = ""
    as_number: int | str | None = None
    local_as_number: int | str | None = field(default=None, name="localASNumber")
    next_hop_mode: Literal["Auto", "Self", "Keep"] | None = None
    keep_original_next_hop: bool = False
    password: BGPPassword | None = None
    source_address: Literal["UseNodeIP", "None"] | None = None
    max_restart_time: str | None = None
    keepalive_time: str | None = None
    num_allowed_local_as_numbers: int | None = field(default=None, name="numAllowedLocalASNumbers")
    ttl_security: int | None = None
    reachable_by: str = ""
    filters: list[str] = []
    local_workload_selector: str = ""
    reverse_peering: Literal["Auto", "Manual"] | None = None
    failure_detection_mode: Literal["None", "BFDIfDirectlyConnected"] | None = None
    """A field of Calico's commercial edition."""
    peer_interface: str = ""
    """Beyond Calico: the router behind this interface, at the link-local address that it has there."""


class BGPPeer(Resource, frozen=True, kw_only=True, tag=True):
    """A BGP peering, global or for some nodes."""

    PLURAL: ClassVar[str] = "bgppeers"
    SHORT: ClassVar[tuple[str, ...]] = ("bgpp", "bgpps", "bp", "bps")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("PEERIP", lambda r: r.spec.peer_ip or r.spec.peer_selector or r.spec.peer_interface),
        Column("NODE", lambda r: r.spec.node or r.spec.node_selector or "(global)"),
        Column("ASN", lambda r: shown(r.spec.as_number)),
    )

    spec: BGPPeerSpec = field(default_factory=BGPPeerSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.bgp_validation import bgp_peer

        return bgp_peer(self)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import bgp_peer

        return bgp_peer(self.spec)
