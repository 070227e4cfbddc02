"""Every parameter that Calico has for its agents, and one of our own; what this agent makes of them (behaviour reference 1.19).

In:   nothing; this is the one table of parameters.
Out:  ``PARAMETERS``: name, values, and either the setting that it becomes or why it has no effect here.
Next: ``model.felix`` makes the kind FelixConfiguration of it, ``model.settings_sources`` the agent's settings.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from calico.model import felix_values as v
from calico.model.felix_values import (
    BOOLEAN,
    COUNT,
    DURATION,
    PORT,
    PRIORITY,
    REGEX,
    SEVERITY,
    SWITCH,
    TEXT,
    Shape,
    words,
)


class Sets(NamedTuple):
    """The parameter is acted on: it becomes a field of ``settings.Settings``."""

    field: str


class Selects(NamedTuple):
    """The parameter says which nodes the resource is for."""


class Idle(NamedTuple):
    """The parameter has no effect: why, and what people can do.

    ``unless`` are values that ask for nothing but what is so anyway.
    """

    reason: str
    remedy: str
    unless: tuple[Any, ...] = ()

    def asks(self, value: Any) -> bool:
        """Whether ``value`` asks for something that does not happen."""
        if isinstance(value, str):
            return value.lower() not in {str(each).lower() for each in self.unless}
        return not any(
            value is each or (value == each and not isinstance(value, bool)) for each in self.unless
        )


Effect: TypeAlias = Sets | Selects | Idle


class Parameter(NamedTuple):
    """A parameter by its name in FelixConfiguration; the environment and the file take it in any case."""

    name: str
    shape: Shape
    effect: Effect
    text_name: str = ""
    """What the environment and the file call it besides, in lower case."""


def _but(idle: Idle, *unless: Any) -> Idle:
    return idle._replace(unless=unless)


_BPF = Idle("there is no eBPF data plane: nftables or iptables do the work", "leave it out")
_XDP = Idle("XDP is not used: the packet filter does all the work", "leave it out")
_TUNNEL = Idle("packets are routed without encapsulation", "let the fabric carry the pools' addresses")
_WIREGUARD = Idle(
    "traffic between hosts is not encrypted", "encrypt below, as with IPsec or MACsec, or above"
)
_DEBUG = Idle("it is a tool of the developers of Calico's own agent", "leave it out")
_GO = Idle("this agent is not written in Go", "limit its memory and processors with its service manager")
_FLOW_LOGS = Idle("no flow logs are written", "use rules with action Log")
_PROMETHEUS = Idle("no metrics are served", "ask the agent: calicoctl agent status -o json")
_HEALTH = Idle("no health port is served", "ask the agent: calicoctl agent status, and its exit status")
_REPORTS = Idle("no status is written to the store", "ask the agent: calicoctl agent status")
_USAGE = Idle("nothing is ever reported to anybody outside", "leave it out")
_LOG_FILE = Idle("the log goes to standard error", "let the agent's service manager keep it, or send it on")
_OPENSTACK = Idle("workloads of OpenStack are not served yet", "leave it out")
_ISTIO = Idle("there is no integration with a service mesh", "leave it out")
_MIGRATION = Idle("routes keep their priority while a workload moves", "leave it out")
_NAT = Idle(
    "what leaves a pool with natOutgoing gets the address of the interface it leaves by", "leave it out"
)
_LOOK = Idle("rules, sets, routes and interfaces are read back together", "set nftablesRefreshInterval")
_BACKEND = Idle("the back end is chosen where the agent is started", "use --backend, or CALICO_BACKEND")
_PASS_ON = Idle(
    "what policy allows is accepted after the host's other rules have seen it",
    "leave it out",
    unless=("Accept",),
)
_BEFORE_NAT = Idle("no policy is applied before destination NAT", "leave it out", unless=("Accept",))
_LOCKS = Idle(
    "changes by others are noticed when they happen, and waiting for a lock needs no tuning", "leave it out"
)
_TABLES = Idle("all routes are in the main table", "leave it out")
_OFFLOAD = Idle("no connection bypasses the packet filter", "leave it out")
_NEIGHBOURS = Idle(
    "requests for addresses of workloads on the host's own link are not answered", "announce them by BGP"
)
_DRIVER = Idle("the data plane is the agent's own", "leave it out")
_SERVICES = Idle("services are not served here", "leave it out")

_RATE = r"[1-9][0-9]{0,3}/(second|minute|hour|day)"

PARAMETERS: Final[tuple[Parameter, ...]] = tuple(
    Parameter(*row)
    for row in (
        ("allowIPIPPacketsFromWorkloads", BOOLEAN, _but(_TUNNEL, True)),
        ("allowVXLANPacketsFromWorkloads", BOOLEAN, _but(_TUNNEL, True)),
        (
            "awsSrcDstCheck",
            words("DoNothing", "Enable", "Disable", exact=True),
            Idle("nothing is asked of the cloud", "set it in the cloud itself", unless=("DoNothing",)),
        ),
        ("bpfAttachType", words("TCX", "TC", exact=True), _BPF),
        ("bpfCTLBLogFilter", TEXT, _BPF),
        (
            "bpfConnectTimeLoadBalancing",
            words("TCP", "Enabled", "Disabled", exact=True),
            _but(_BPF, "TCP", "Disabled"),
        ),
        ("bpfConnectTimeLoadBalancingEnabled", BOOLEAN, _but(_BPF, False)),
        ("bpfConntrackLogLevel", words("Off", "Debug", exact=True), _but(_BPF, "Off")),
        (
            "bpfConntrackMode",
            words("Auto", "Userspace", "BPFProgram", exact=True),
            _BPF,
            "bpfconntrackcleanupmode",
        ),
        ("bpfConntrackTimeouts", v.CONNTRACK_TIMEOUTS, _BPF),
        ("bpfDSROptoutCIDRs", v.nets(), _BPF),
        ("bpfDataIfacePattern", REGEX, _BPF),
        ("bpfDisableGROForIfaces", REGEX, _BPF),
        ("bpfDisableUnprivileged", BOOLEAN, _but(_BPF, False)),
        ("bpfEnabled", BOOLEAN, _but(_BPF, False)),
        ("bpfEnforceRPF", words("Disabled", "Strict", "Loose"), _BPF),
        ("bpfExcludeCIDRsFromNAT", v.nets(), _BPF),
        ("bpfExportBufferSizeMB", COUNT, _BPF),
        ("bpfExtToServiceConnmark", v.number(0, 2**32 - 1), _but(_BPF, 0)),
        ("bpfExternalServiceMode", words("Tunnel", "DSR"), _BPF),
        ("bpfForceTrackPacketsFromIfaces", v.INTERFACE_FILTERS, _BPF),
        ("bpfHostConntrackBypass", BOOLEAN, _but(_BPF, False)),
        ("bpfHostNetworkedNATWithoutCTLB", SWITCH, _but(_BPF, "Enabled", "Disabled")),
        ("bpfIPFragTimeout", DURATION, _BPF),
        ("bpfIPFragmentReassemblyEnabled", BOOLEAN, _but(_BPF, False)),
        ("bpfJITHardening", words("Auto", "Strict", exact=True), _BPF),
        ("bpfKubeProxyEndpointSlicesEnabled", BOOLEAN, _BPF),
        ("bpfKubeProxyHealthzPort", PORT, _but(_BPF, 0)),
        ("bpfKubeProxyIptablesCleanupEnabled", BOOLEAN, _but(_BPF, False)),
        ("bpfKubeProxyMinSyncPeriod", DURATION, _BPF),
        ("bpfL3IfacePattern", REGEX, _BPF),
        ("bpfLogFilters", v.TEXTS, _BPF),
        ("bpfLogLevel", words("Off", "Info", "Debug"), _but(_BPF, "Off")),
        ("bpfMaglevMaxEndpointsPerService", v.number(1, 3000), _BPF),
        ("bpfMaglevMaxServices", v.number(1, 3000), _BPF),
        ("bpfMapSizeConntrack", COUNT, _BPF),
        ("bpfMapSizeConntrackCleanupQueue", v.number(1, 2**63 - 1), _BPF),
        ("bpfMapSizeConntrackScaling", words("Disabled", "DoubleIfFull"), _BPF),
        ("bpfMapSizeIPSets", COUNT, _BPF),
        ("bpfMapSizeIfState", COUNT, _BPF),
        ("bpfMapSizeNATAffinity", COUNT, _BPF),
        ("bpfMapSizeNATBackend", COUNT, _BPF),
        ("bpfMapSizeNATFrontend", COUNT, _BPF),
        ("bpfMapSizePerCpuConntrack", COUNT, _but(_BPF, 0)),
        ("bpfMapSizeRoute", COUNT, _BPF),
        ("bpfOverlayHostSourceIP", words("TunnelAddress", "HostAddress", exact=True), _BPF),
        ("bpfPSNATPorts", v.PORT_RANGE, _BPF),
        ("bpfPolicyDebugEnabled", BOOLEAN, _but(_BPF, False)),
        ("bpfProfiling", SWITCH, _but(_BPF, "Disabled")),
        ("bpfRedirectToPeer", words("Enabled", "Disabled", "L2Only", exact=True), _but(_BPF, "Disabled")),
        ("cgroupV2Path", TEXT, _BPF),
        (
            "chainInsertMode",
            words("Insert", "Append"),
            Idle("chains of the agent always come first", "leave it out", unless=("Insert",)),
        ),
        ("dataplaneDriver", TEXT, _DRIVER),
        ("dataplaneWatchdogTimeout", DURATION, _HEALTH),
        ("debugDisableLogDropping", BOOLEAN, _but(_DEBUG, True, False)),
        ("debugHost", v.HOST, _DEBUG),
        ("debugMemoryProfilePath", TEXT, _DEBUG),
        ("debugPort", PORT, _but(_DEBUG, 0)),
        ("debugSimulateCalcGraphHangAfter", DURATION, _but(_DEBUG, "0s", "0")),
        ("debugSimulateDataplaneApplyDelay", DURATION, _but(_DEBUG, "0s", "0")),
        ("debugSimulateDataplaneHangAfter", DURATION, _but(_DEBUG, "0s", "0")),
        (
            "defaultEndpointToHostAction",
            words("Drop", "Accept", "Return"),
            Sets("default_endpoint_to_host_action"),
        ),
        ("deviceRouteProtocol", v.number(1, 255), Sets("device_route_protocol")),
        (
            "deviceRouteSourceAddress",
            v.address(4),
            Idle("the kernel chooses the host's address towards a workload", "leave it out"),
        ),
        (
            "deviceRouteSourceAddressIPv6",
            v.address(6),
            Idle("the kernel chooses the host's address towards a workload", "leave it out"),
        ),
        ("disableConntrackInvalidCheck", BOOLEAN, Sets("disable_conntrack_invalid_check")),
        ("endpointReportingDelay", DURATION, _REPORTS, "endpointreportingdelaysecs"),
        ("endpointReportingEnabled", BOOLEAN, _but(_REPORTS, False)),
        ("endpointStatusPathPrefix", TEXT, _REPORTS),
        # This project's own; Calico has no such parameter, and its agents ignore it.
        ("establishedFlows", words("Keep", "Revoke"), Sets("established_flows")),
        ("externalNodesList", v.nets(4), _TUNNEL, "externalnodescidrlist"),
        ("failsafeInboundHostPorts", v.FAILSAFE, Sets("failsafe_inbound")),
        ("failsafeOutboundHostPorts", v.FAILSAFE, Sets("failsafe_outbound")),
        (
            "featureDetectOverride",
            v.pattern(
                r"([A-Za-z0-9_-]+=(true|false|),)*([A-Za-z0-9_-]+=(true|false|))?",
                "write name=true or name=false, separated by commas",
            ),
            Idle("features of the kernel are tried, not guessed", "leave it out"),
        ),
        ("featureGates", v.KEY_VALUES, Idle("there are no features behind gates", "leave it out")),
        (
            "floatingIPs",
            SWITCH,
            Idle("floating addresses are not translated", "give workloads their own", unless=("Disabled",)),
        ),
        ("flowLogsCollectorDebugTrace", BOOLEAN, _but(_FLOW_LOGS, False)),
        ("flowLogsFlushInterval", DURATION, _FLOW_LOGS),
        ("flowLogsGoldmaneServer", TEXT, _FLOW_LOGS),
        ("flowLogsLocalReporter", SWITCH, _but(_FLOW_LOGS, "Disabled")),
        (
            "flowLogsPolicyEvaluationMode",
            words("None", "Continuous", exact=True),
            _but(_FLOW_LOGS, "None"),
        ),
        ("genericXDPEnabled", BOOLEAN, _but(_XDP, False)),
        ("goGCThreshold", v.number(-1, 2**63 - 1), _GO),
        ("goMaxProcs", v.number(-1, 2**63 - 1), _but(_GO, -1)),
        ("goMemoryLimitMB", v.number(-1, 2**63 - 1), _but(_GO, -1)),
        ("healthEnabled", BOOLEAN, _but(_HEALTH, False)),
        ("healthHost", v.HOST, _HEALTH),
        ("healthPort", PORT, _HEALTH),
        ("healthTimeoutOverrides", v.HEALTH_TIMEOUTS, _HEALTH),
        (
            "interfaceExclude",
            v.INTERFACE_EXCLUDE,
            Idle("no interface is hidden from host endpoints", "name the interfaces in the host endpoints"),
        ),
        ("interfacePrefix", v.PREFIXES, Sets("interface_prefix")),
        ("interfaceRefreshInterval", DURATION, _LOOK),
        ("ipForwarding", SWITCH, Sets("ip_forwarding")),
        ("ipipEnabled", BOOLEAN, _but(_TUNNEL, False), "ipinipenabled"),
        ("ipipMTU", COUNT, _but(_TUNNEL, 0), "ipinipmtu"),
        ("ipsetsRefreshInterval", DURATION, _LOOK),
        ("iptablesBackend", words("Legacy", "NFT", "Auto", exact=True), _but(_BACKEND, "Auto")),
        ("iptablesFilterAllowAction", words("Accept", "Return"), _PASS_ON),
        ("iptablesFilterDenyAction", words("Drop", "Reject"), Sets("filter_deny_action")),
        ("iptablesLockFilePath", TEXT, _LOCKS),
        ("iptablesLockProbeInterval", v.DURATION_MILLIS, _LOCKS, "iptableslockprobeintervalmillis"),
        ("iptablesLockTimeout", DURATION, _LOCKS, "iptableslocktimeoutsecs"),
        ("iptablesMangleAllowAction", words("Accept", "Return"), _BEFORE_NAT),
        ("iptablesMarkMask", v.MASK, Sets("mark_mask")),
        ("iptablesNATOutgoingInterfaceFilter", v.INTERFACE_FILTER, _NAT),
        ("iptablesPostWriteCheckInterval", DURATION, _LOCKS, "iptablespostwritecheckintervalsecs"),
        ("iptablesRefreshInterval", DURATION, Sets("refresh_interval")),
        ("ipv4ElevatedRoutePriority", PRIORITY, _MIGRATION),
        ("ipv4NormalRoutePriority", PRIORITY, Sets("route_metric")),
        ("ipv6ElevatedRoutePriority", PRIORITY, _MIGRATION),
        (
            "ipv6NormalRoutePriority",
            PRIORITY,
            Idle(
                "IPv6 routes have the priority of IPv4 routes",
                "set ipv4NormalRoutePriority, for both",
                unless=(1024,),
            ),
        ),
        ("ipv6Support", BOOLEAN, Sets("ipv6_support")),
        ("istioAmbientMode", SWITCH, _but(_ISTIO, "Disabled")),
        ("istioDSCPMark", v.DSCP, _ISTIO),
        ("kubeNodePortRanges", v.PORT_RANGES, _SERVICES),
        ("liveMigrationRouteConvergenceTime", DURATION, _MIGRATION),
        (
            "localSubnetL2Reachability",
            words("Disabled", "PodsAndLoadBalancers", exact=True),
            _but(_NEIGHBOURS, "Disabled"),
        ),
        ("localSubnetL2ReachabilityRefreshInterval", DURATION, _NEIGHBOURS),
        (
            "logActionRateLimit",
            v.pattern(_RATE, "write a number and a unit, as in 10/second or 100/hour"),
            Sets("log_rate"),
        ),
        ("logActionRateLimitBurst", v.number(0, 9999), Sets("log_burst")),
        ("logDebugFilenameRegex", REGEX, _DEBUG),
        ("logFilePath", TEXT, _LOG_FILE),
        (
            "logPrefix",
            v.pattern(r"[A-Za-z0-9%: /_-]*", "write letters, digits, blanks, '%', ':', '/', '_' and '-'"),
            Sets("log_prefix"),
        ),
        ("logSeverityFile", SEVERITY, _LOG_FILE),
        ("logSeverityScreen", SEVERITY, Sets("log_severity")),
        ("logSeveritySys", SEVERITY, _LOG_FILE),
        ("maxIpsetSize", COUNT, Idle("sets have a fixed limit of their own", "leave it out")),
        ("metadataAddr", TEXT, _OPENSTACK),
        ("metadataPort", PORT, _OPENSTACK),
        ("mtuIfacePattern", REGEX, _TUNNEL),
        ("natOutgoingAddress", v.address(4), _NAT),
        (
            "natOutgoingExclusions",
            words("IPPoolsOnly", "IPPoolsAndHostIPs", exact=True),
            _but(_NAT, "IPPoolsOnly"),
        ),
        ("natPortRange", v.PORT_RANGE, _NAT),
        (
            "netlinkTimeout",
            DURATION,
            Idle("requests to the kernel have their own time limit", "leave it out"),
            "netlinktimeoutsecs",
        ),
        ("nftablesFilterAllowAction", words("Accept", "Return"), _PASS_ON),
        ("nftablesFilterDenyAction", words("Drop", "Reject"), Sets("filter_deny_action")),
        ("nftablesFlowTableDataIfacePattern", REGEX, _OFFLOAD),
        (
            "nftablesFlowTableOffload",
            words("All", "Enabled", "Disabled", exact=True),
            _but(_OFFLOAD, "Disabled"),
        ),
        ("nftablesMangleAllowAction", words("Accept", "Return"), _BEFORE_NAT),
        ("nftablesMarkMask", v.MASK, Sets("mark_mask")),
        ("nftablesMode", words("Enabled", "Disabled", "Auto", exact=True), _but(_BACKEND, "Auto")),
        ("nftablesRefreshInterval", DURATION, Sets("refresh_interval")),
        ("nodeSelector", v.SELECTOR, Selects()),
        ("openstackRegion", v.REGION, _OPENSTACK),
        (
            "policySyncPathPrefix",
            TEXT,
            Idle("policy is not handed to proxies of workloads", "leave it out"),
        ),
        (
            "programClusterRoutes",
            words("Enabled", "Disabled", "EnabledIPIPOnly", exact=True),
            Idle(
                "routes to other hosts' workloads come by BGP",
                "leave it out",
                unless=("Disabled", "EnabledIPIPOnly"),
            ),
        ),
        ("prometheusGoMetricsEnabled", BOOLEAN, _but(_PROMETHEUS, False)),
        ("prometheusMetricsCAFile", TEXT, _PROMETHEUS),
        ("prometheusMetricsCertFile", TEXT, _PROMETHEUS),
        ("prometheusMetricsClientAuth", TEXT, _PROMETHEUS),
        ("prometheusMetricsEnabled", BOOLEAN, _but(_PROMETHEUS, False)),
        ("prometheusMetricsHost", v.HOST, _PROMETHEUS),
        ("prometheusMetricsKeyFile", TEXT, _PROMETHEUS),
        ("prometheusMetricsPort", PORT, _PROMETHEUS),
        ("prometheusProcessMetricsEnabled", BOOLEAN, _but(_PROMETHEUS, False)),
        ("prometheusWireGuardMetricsEnabled", BOOLEAN, _but(_PROMETHEUS, False)),
        (
            "removeExternalRoutes",
            BOOLEAN,
            Idle("what others route to workload interfaces is removed", "leave it out", unless=(True,)),
        ),
        ("reportingInterval", DURATION, _but(_REPORTS, "0s", "0"), "reportingintervalsecs"),
        ("reportingTTL", DURATION, _REPORTS, "reportingttlsecs"),
        ("requireMTUFile", BOOLEAN, _but(_TUNNEL, False)),
        ("routeRefreshInterval", DURATION, _LOOK),
        (
            "routeSource",
            words("WorkloadIPs", "CalicoIPAM"),
            Idle("routes to other hosts' workloads come by BGP", "leave it out", unless=("CalicoIPAM",)),
        ),
        (
            "routeSyncDisabled",
            BOOLEAN,
            Idle("routes to local workloads are always programmed", "leave it out", unless=(False,)),
        ),
        ("routeTableRange", v.TABLE_RANGE, _TABLES),
        ("routeTableRanges", v.TABLE_RANGES, _TABLES),
        (
            "serviceLoopPrevention",
            words("Drop", "Reject", "Disabled", exact=True),
            _but(_SERVICES, "Disabled"),
        ),
        ("sidecarAccelerationEnabled", BOOLEAN, _but(_ISTIO, False)),
        ("usageReportingEnabled", BOOLEAN, _but(_USAGE, False)),
        ("usageReportingInitialDelay", DURATION, _USAGE, "usagereportinginitialdelaysecs"),
        ("usageReportingInterval", DURATION, _USAGE, "usagereportingintervalsecs"),
        ("useInternalDataplaneDriver", BOOLEAN, _but(_DRIVER, True)),
        ("vxlanEnabled", BOOLEAN, _but(_TUNNEL, False)),
        ("vxlanMTU", COUNT, _but(_TUNNEL, 0)),
        ("vxlanMTUV6", COUNT, _but(_TUNNEL, 0)),
        ("vxlanPort", PORT, _TUNNEL),
        ("vxlanVNI", v.number(0, 2**24 - 1), _TUNNEL),
        (
            "windowsManageFirewallRules",
            SWITCH,
            Idle("there is no agent for Windows", "leave it out", unless=("Disabled",)),
        ),
        ("wireguardEnabled", BOOLEAN, _but(_WIREGUARD, False)),
        ("wireguardEnabledV6", BOOLEAN, _but(_WIREGUARD, False)),
        ("wireguardHostEncryptionEnabled", BOOLEAN, _but(_WIREGUARD, False)),
        ("wireguardInterfaceName", v.INTERFACE, _WIREGUARD),
        ("wireguardInterfaceNameV6", v.INTERFACE, _WIREGUARD),
        ("wireguardKeepAlive", DURATION, _but(_WIREGUARD, "0s", "0"), "wireguardpersistentkeepalive"),
        ("wireguardListeningPort", v.number(1, 65535), _WIREGUARD),
        ("wireguardListeningPortV6", v.number(1, 65535), _WIREGUARD),
        ("wireguardMTU", COUNT, _but(_WIREGUARD, 0)),
        ("wireguardMTUV6", COUNT, _but(_WIREGUARD, 0)),
        ("wireguardRoutingRulePriority", v.number(1, 32765), _WIREGUARD),
        ("wireguardThreadingEnabled", BOOLEAN, _but(_WIREGUARD, False)),
        (
            "workloadSourceSpoofing",
            words("Disabled", "Any", exact=True),
            Idle("a workload sends from its own addresses only", "leave it out", unless=("Disabled",)),
        ),
        ("xdpEnabled", BOOLEAN, _but(_XDP, False)),
        ("xdpRefreshInterval", DURATION, _XDP),
    )
)
"""In order of their names."""

BY_TEXT_NAME: Final[dict[str, Parameter]] = {
    name: parameter
    for parameter in PARAMETERS
    for name in (parameter.name.lower(), parameter.text_name)
    if name
}
"""The parameters by what the environment and the file call them, in lower case."""
