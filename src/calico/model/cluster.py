"""What the system says about itself, and the settings of its central controllers (behaviour reference 1.14 to 1.16)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from calico.model.errors import Finding, Findings, Path
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, listed, shown

DEFAULT = "default"
DAY = 86400

Switch = Literal["Enabled", "Disabled"]


# --- the cluster -------------------------------------------------------------------------------------


class ClusterInformationSpec(Strict, frozen=True, kw_only=True):
    """Which cluster this is, and whether its store may be relied on."""

    cluster_guid: str = field(default="", name="clusterGUID")
    cluster_type: str = ""
    calico_version: str = ""
    datastore_ready: bool | None = None
    """False locks the store: agents change nothing until it is true again."""
    variant: str = ""


class ClusterInformation(Resource, frozen=True, kw_only=True, tag=True):
    """The cluster's identity, and the lock of its store."""

    PLURAL: ClassVar[str] = "clusterinformations"
    SHORT: ClassVar[tuple[str, ...]] = ("clusterinfo", "clusterinfos")
    ONLY: ClassVar[str] = DEFAULT
    READ_ONLY: ClassVar[str] = (
        "the system keeps it; calicoctl datastore migrate lock and unlock change its lock, nothing else is for people"
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("CLUSTERGUID", lambda r: r.spec.cluster_guid),
        Column("CLUSTERTYPE", lambda r: r.spec.cluster_type),
        Column("CALICOVERSION", lambda r: r.spec.calico_version),
        Column("DATASTOREREADY", lambda r: shown(r.spec.datastore_ready)),
    )

    spec: ClusterInformationSpec = field(default_factory=ClusterInformationSpec)

    @property
    def locked(self) -> bool:
        """Whether the store is locked."""
        return self.spec.datastore_ready is False


# --- the state of a node -----------------------------------------------------------------------------


class BirdStatus(Strict, frozen=True, kw_only=True):
    """How a routing daemon is."""

    state: str = ""
    version: str = ""
    router_id: str = field(default="", name="routerID")
    last_boot_time: str = ""
    last_reconfiguration_time: str = ""


class AgentStatus(Strict, frozen=True, kw_only=True):
    """How the node's routing daemons are."""

    bird_v4: BirdStatus | None = None
    bird_v6: BirdStatus | None = None


class PeerStatus(Strict, frozen=True, kw_only=True):
    """How one session is."""

    peer_ip: str = field(default="", name="peerIP")
    type: str = ""
    state: str = ""
    since: str = ""


class SessionsStatus(Strict, frozen=True, kw_only=True):
    """How the node's sessions are."""

    number_established_v4: int = 0
    number_established_v6: int = 0
    number_not_established_v4: int = 0
    number_not_established_v6: int = 0
    peers_v4: list[PeerStatus] = []
    peers_v6: list[PeerStatus] = []


class RouteOrigin(Strict, frozen=True, kw_only=True):
    """Where a route comes from."""

    source_type: str = ""
    peer_ip: str = field(default="", name="peerIP")


class RouteStatus(Strict, frozen=True, kw_only=True):
    """One route of the node."""

    type: str = ""
    destination: str = ""
    gateway: str = ""
    interface: str = ""
    learned_from: RouteOrigin | None = None


class RoutesStatus(Strict, frozen=True, kw_only=True):
    """The node's routes."""

    routes_v4: list[RouteStatus] = []
    routes_v6: list[RouteStatus] = []


class NodeStatus(Strict, frozen=True, kw_only=True):
    """What the node reported, as far as it was asked."""

    last_updated: str | None = None
    agent: AgentStatus | None = None
    bgp: SessionsStatus | None = None
    routes: RoutesStatus | None = None


class CalicoNodeStatusSpec(Strict, frozen=True, kw_only=True):
    """Which node is asked, for what, and how often (0: once)."""

    node: str = ""
    classes: list[Literal["Agent", "BGP", "Routes"]] = []
    update_period_seconds: int | None = None


class CalicoNodeStatus(Resource, frozen=True, kw_only=True, tag=True):
    """A question to a node about its state, and the answer."""

    PLURAL: ClassVar[str] = "caliconodestatuses"
    SHORT: ClassVar[tuple[str, ...]] = ("nodestatus", "nodestatuses")
    STATUS: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("NODE", lambda r: r.spec.node),
        Column("CLASSES", lambda r: listed(r.spec.classes), wide=True),
        Column("INTERVAL", lambda r: shown(r.spec.update_period_seconds), wide=True),
        Column("LASTUPDATED", lambda r: shown(r.status.last_updated) if r.status else "", wide=True),
    )

    spec: CalicoNodeStatusSpec = field(default_factory=CalicoNodeStatusSpec)
    status: NodeStatus | None = None

    def problems(self) -> Findings:
        """The node, what is asked, and the period must be said."""
        from calico.model import checks

        spec = self.spec
        if spec.node:
            yield from checks.dns_subdomain(("spec", "node"), spec.node)
        else:
            yield Finding(("spec", "node"), "no node is asked", "write the node's name")
        if not spec.classes:
            yield Finding(
                ("spec", "classes"), "nothing is asked", "write Agent, BGP, Routes, or some of them"
            )
        if len(set(spec.classes)) < len(spec.classes):
            yield Finding(("spec", "classes"), "a class stands twice", "write each once")
        if spec.update_period_seconds is None:
            yield Finding(
                ("spec", "updatePeriodSeconds"),
                "the period is missing",
                f"write 1 to {DAY} seconds, or 0 for a single answer",
            )
        yield from checks.within(("spec", "updatePeriodSeconds"), spec.update_period_seconds, 0, DAY)

    def not_done(self) -> Findings:
        """Nodes do not answer yet."""
        yield Finding(
            ("spec",),
            "it is stored, but agents do not fill in its status yet",
            "ask on the node: calicoctl agent status",
        )


# --- the central controllers -------------------------------------------------------------------------


class Reconciler(Strict, frozen=True, kw_only=True):
    """How often a controller compares everything."""

    reconciler_period: str | None = None


class HostEndpointTemplate(Strict, frozen=True, kw_only=True):
    """A host endpoint that nodes get."""

    generate_name: str = ""
    interface_cidrs: list[str] = field(default_factory=list, name="interfaceCIDRs")
    interface_pattern: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: str = ""


class AutoHostEndpoint(Strict, frozen=True, kw_only=True):
    """Which host endpoints nodes get by themselves."""

    auto_create: Switch | None = None
    create_default_host_endpoint: Switch | None = None
    templates: list[HostEndpointTemplate] = []


class NodeController(Strict, frozen=True, kw_only=True):
    """What follows nodes: labels, addresses that nobody uses any more, host endpoints."""

    reconciler_period: str | None = None
    sync_labels: Switch | None = None
    leak_grace_period: str | None = None
    host_endpoint: AutoHostEndpoint | None = None


class LoadBalancerController(Strict, frozen=True, kw_only=True):
    """Which services get addresses."""

    assign_ips: Literal["AllServices", "RequestedServicesOnly"] | None = field(default=None, name="assignIPs")


class MigrationController(Strict, frozen=True, kw_only=True):
    """Whether policies lose the prefixes of their old names."""

    policy_name_migrator: Switch | None = None


class PolicyMigrationController(Strict, frozen=True, kw_only=True):
    """The same by its older name."""

    enabled: Switch | None = None


class Controllers(Strict, frozen=True, kw_only=True):
    """The controllers that run, and how."""

    node: NodeController | None = None
    policy: Reconciler | None = None
    workload_endpoint: Reconciler | None = None
    service_account: Reconciler | None = None
    namespace: Reconciler | None = None
    load_balancer: LoadBalancerController | None = None
    migration: MigrationController | None = None
    policy_migration: PolicyMigrationController | None = None


class KubeControllersConfigurationSpec(Strict, frozen=True, kw_only=True):
    """Settings of the central controllers."""

    log_severity_screen: str = ""
    health_checks: Switch | None = None
    etcd_v3_compaction_period: str | None = field(default=None, name="etcdV3CompactionPeriod")
    prometheus_metrics_port: int | None = None
    debug_profile_port: int | None = None
    controllers: Controllers | None = None


class KubeControllersConfigurationStatus(Strict, frozen=True, kw_only=True):
    """What the controllers run with."""

    running_config: KubeControllersConfigurationSpec | None = None
    environment_vars: dict[str, str] = {}


class KubeControllersConfiguration(Resource, frozen=True, kw_only=True, tag=True):
    """Settings of the controllers that a Kubernetes cluster has once."""

    PLURAL: ClassVar[str] = "kubecontrollersconfigurations"
    SHORT: ClassVar[tuple[str, ...]] = ("kcc", "kccs", "kubecontrollersconfig", "kubecontrollersconfigs")
    ONLY: ClassVar[str] = DEFAULT
    STATUS: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("LOGSEVERITY", lambda r: r.spec.log_severity_screen, wide=True),
    )

    spec: KubeControllersConfigurationSpec = field(default_factory=KubeControllersConfigurationSpec)
    status: KubeControllersConfigurationStatus | None = None

    def problems(self) -> Findings:
        """Severities, ports, spans of time, and templates of host endpoints."""
        from calico.model import checks

        spec, path = self.spec, ("spec",)
        severities = ("None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic")
        yield from checks.one_of((*path, "logSeverityScreen"), spec.log_severity_screen, severities)
        yield from checks.duration((*path, "etcdV3CompactionPeriod"), spec.etcd_v3_compaction_period)
        yield from checks.within((*path, "prometheusMetricsPort"), spec.prometheus_metrics_port, 0, 65535)
        yield from checks.within((*path, "debugProfilePort"), spec.debug_profile_port, 0, 65535)
        if spec.controllers is not None:
            yield from _controllers((*path, "controllers"), spec.controllers)

    def not_done(self) -> Findings:
        """There are no such controllers yet; of what they do, agents see to host endpoints of nodes and lost addresses."""
        from msgspec import to_builtins

        given = to_builtins(self.spec)
        node = given.get("controllers", {}).get("node", {})
        read = [node.pop(name, None) for name in ("hostEndpoint", "leakGracePeriod")]
        if read == [None, None]:
            yield Finding(
                ("spec",),
                "it is stored, but no controller reads it yet",
                "keep it for Calico's own controllers",
            )
        elif node or given["controllers"].keys() > {"node"} or given.keys() > {"controllers"}:
            yield Finding(
                ("spec",),
                "agents read hostEndpoint and leakGracePeriod of controllers.node; the rest is stored, but no controller"
                " reads it yet",
                "keep the rest for Calico's own controllers",
            )


def _controllers(path: Path, controllers: Controllers) -> Findings:
    from calico.model import checks

    for name, controller in (
        ("policy", controllers.policy),
        ("workloadEndpoint", controllers.workload_endpoint),
        ("serviceAccount", controllers.service_account),
        ("namespace", controllers.namespace),
        ("node", controllers.node),
    ):
        if controller is not None:
            yield from checks.duration((*path, name, "reconcilerPeriod"), controller.reconciler_period)
    if controllers.node is not None:
        where = (*path, "node")
        yield from checks.duration((*where, "leakGracePeriod"), controllers.node.leak_grace_period)
        templates = controllers.node.host_endpoint.templates if controllers.node.host_endpoint else []
        for index, template in enumerate(templates):
            yield from _template((*where, "hostEndpoint", "templates", index), template)


def _template(path: Path, template: HostEndpointTemplate) -> Findings:
    from calico.model import checks
    from calico.model.felix_values import REGEX

    if template.generate_name:
        yield from checks.dns_subdomain((*path, "generateName"), template.generate_name)
    if template.node_selector:
        yield from checks.selector((*path, "nodeSelector"), template.node_selector)
    if template.interface_pattern:
        yield from REGEX.check((*path, "interfacePattern"), template.interface_pattern)
    for index, text in enumerate(template.interface_cidrs):
        yield from checks.prefix((*path, "interfaceCIDRs", index), text)
    yield from checks.labels((*path, "labels"), template.labels)
