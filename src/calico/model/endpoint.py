"""Endpoints: the interfaces that policy applies to (behaviour reference 1.6, 1.8)."""

from __future__ import annotations

from typing import ClassVar, Final, Self, TypeGuard

from msgspec import field
from msgspec.structs import replace

from calico.model.errors import Findings
from calico.model.policy import Protocol
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, listed

ALL_INTERFACES: Final = "*"
"""What a host endpoint for every interface without one of its own has in the place of an interface's name."""


class EndpointPort(Strict, frozen=True, kw_only=True):
    """A named port of a host endpoint."""

    name: str
    protocol: Protocol
    port: int


class HostEndpointSpec(Strict, frozen=True, kw_only=True):
    """An interface of a host, by name, by address, or ``ALL_INTERFACES``."""

    node: str
    interface_name: str = ""
    expected_ips: list[str] = field(default_factory=list, name="expectedIPs")
    profiles: list[str] = []
    ports: list[EndpointPort] = []


class HostEndpoint(Resource, frozen=True, kw_only=True, tag=True):
    """Policy's hold on an interface of a host."""

    PLURAL: ClassVar[str] = "hostendpoints"
    SHORT: ClassVar[tuple[str, ...]] = ("hep", "heps")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("NODE", lambda r: r.spec.node),
        Column("INTERFACE", lambda r: r.spec.interface_name, wide=True),
        Column("IPS", lambda r: listed(r.spec.expected_ips), wide=True),
        Column("PROFILES", lambda r: listed(r.spec.profiles), wide=True),
    )

    spec: HostEndpointSpec

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.endpoint_validation import host_endpoint

        return host_endpoint(self)


def is_for_all(resource: Resource) -> TypeGuard[HostEndpoint]:
    """Whether it is a host endpoint for all interfaces that have none of their own."""
    return isinstance(resource, HostEndpoint) and resource.spec.interface_name == ALL_INTERFACES


class WorkloadPort(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """A port of a workload, with a name that rules may use or a host port; written in full, for other readers."""

    name: str = ""
    protocol: Protocol = "TCP"
    port: int = 0
    host_port: int = 0
    host_ip: str = field(default="", name="hostIP")


class IPNAT(Strict, frozen=True, kw_only=True):
    """A floating address: ``external_ip`` stands for ``internal_ip``."""

    internal_ip: str = field(name="internalIP")
    external_ip: str = field(name="externalIP")


class QoSControls(Strict, frozen=True, kw_only=True):
    """Limits on a workload's traffic, bits, bytes, packets or connections (behaviour reference 1.8); 0 is none."""

    ingress_bandwidth: int = 0
    ingress_burst: int = 0
    ingress_peakrate: int = 0
    ingress_minburst: int = 0
    ingress_packet_rate: int = 0
    ingress_packet_burst: int = 0
    ingress_max_connections: int = 0
    egress_bandwidth: int = 0
    egress_burst: int = 0
    egress_peakrate: int = 0
    egress_minburst: int = 0
    egress_packet_rate: int = 0
    egress_packet_burst: int = 0
    egress_max_connections: int = 0
    dscp: int | str | None = None


class WorkloadEndpointSpec(Strict, frozen=True, kw_only=True):
    """One interface of one workload on one node; ``ip_networks`` are /32 and /128."""

    orchestrator: str = ""
    workload: str = ""
    node: str = ""
    container_id: str = field(default="", name="containerID")
    pod: str = ""
    endpoint: str = ""
    service_account_name: str = ""
    ip_networks: list[str] = []
    ip_nats: list[IPNAT] = field(default_factory=list, name="ipNATs")
    ipv4_gateway: str = field(default="", name="ipv4Gateway")
    ipv6_gateway: str = field(default="", name="ipv6Gateway")
    profiles: list[str] = []
    interface_name: str = ""
    mac: str = ""
    ports: list[WorkloadPort] = []
    allow_spoofed_source_prefixes: list[str] = []
    qos_controls: QoSControls | None = None


class WorkloadEndpoint(Resource, frozen=True, kw_only=True, tag=True):
    """The attachment of a workload to the network."""

    PLURAL: ClassVar[str] = "workloadendpoints"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("wep", "weps")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("NAME", lambda r: r.metadata.name, wide=True),
        Column("WORKLOAD", lambda r: r.spec.workload or r.spec.pod or r.metadata.name),
        Column("NODE", lambda r: r.spec.node),
        Column("NETWORKS", lambda r: listed(r.spec.ip_networks)),
        Column("INTERFACE", lambda r: r.spec.interface_name),
        Column("PROFILES", lambda r: listed(r.spec.profiles), wide=True),
        Column("NATS", lambda r: listed([nat.external_ip for nat in r.spec.ip_nats]), wide=True),
    )

    spec: WorkloadEndpointSpec = field(default_factory=WorkloadEndpointSpec)

    def name_problems(self) -> Findings:
        """None: the name is made of the spec, and compared with it there."""
        yield from ()

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.endpoint_validation import workload_endpoint

        return workload_endpoint(self)

    def defaulted(self) -> Self:
        """The name, which is made of the spec, where it is not given."""
        from calico.model.names import BadName, EndpointName

        if self.metadata.name:
            return self
        try:
            name = EndpointName.of(self.spec).text()
        except BadName:  # the same is among its problems
            return self
        return replace(self, metadata=replace(self.metadata, name=name))

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import workload_endpoint

        return workload_endpoint(self.spec)
