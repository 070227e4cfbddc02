"""Resources as Calico's first API had them (``apiVersion: v1``), read strictly and turned into ours.

In:   plain values of one document.
Out:  the resource that says the same today; or everything that is wrong, with its path.
Next: ``calicoctl convert`` prints it. ``model.v1_conversion`` knows what became of each field.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import field

from calico.model.errors import Finding, Findings
from calico.model.node import OrchRef
from calico.model.policy import ICMP, Port, Protocol
from calico.model.resource import API_VERSION, Resource, Strict
from calico.model.schema import Misfit, misfits, nearest, schema, shown, without_nulls

VERSION: Final = "v1"

# --- rules -------------------------------------------------------------------------------------------


class Entity(Strict, frozen=True, kw_only=True):
    """One side of a rule; ``tag`` and ``net`` are what is a selector and one of ``nets`` today."""

    tag: str = ""
    net: str = ""
    nets: list[str] = []
    selector: str = ""
    ports: list[Port] = []
    not_tag: str = ""
    not_net: str = ""
    not_nets: list[str] = []
    not_selector: str = ""
    not_ports: list[Port] = []


class Rule(Strict, frozen=True, kw_only=True):
    """One rule; its action in any case, ``next-tier`` for what is called Pass today."""

    action: str = ""
    ip_version: int | None = field(default=None, name="ipVersion")
    protocol: Protocol | None = None
    icmp: ICMP | None = None
    not_protocol: Protocol | None = None
    not_icmp: ICMP | None = field(default=None, name="notICMP")
    source: Entity = field(default_factory=Entity)
    destination: Entity = field(default_factory=Entity)


# --- the kinds ---------------------------------------------------------------------------------------


class Old(Strict, frozen=True, kw_only=True):
    """The base of the old kinds, which are what their documents say besides apiVersion and kind."""


class TierMetadata(Strict, frozen=True, kw_only=True):
    """See ``Tier``."""

    name: str


class TierSpec(Strict, frozen=True, kw_only=True):
    """See ``Tier``."""

    order: float | None = None


class Tier(Old, frozen=True, kw_only=True):
    """A tier."""

    metadata: TierMetadata
    spec: TierSpec = field(default_factory=TierSpec)


class PolicyMetadata(Strict, frozen=True, kw_only=True):
    """See ``Policy``."""

    name: str
    tier: str = ""
    annotations: dict[str, str] = {}


class PolicySpec(Strict, frozen=True, kw_only=True):
    """See ``Policy``."""

    order: float | None = None
    ingress: list[Rule] = []
    egress: list[Rule] = []
    selector: str = ""
    do_not_track: bool = False
    pre_dnat: bool = field(default=False, name="preDNAT")
    apply_on_forward: bool = False
    types: list[str] = []


class Policy(Old, frozen=True, kw_only=True):
    """A policy for the whole cluster: there were no others."""

    metadata: PolicyMetadata
    spec: PolicySpec = field(default_factory=PolicySpec)


class ProfileMetadata(Strict, frozen=True, kw_only=True):
    """See ``Profile``."""

    name: str
    tags: list[str] = []
    labels: dict[str, str] = {}


class ProfileSpec(Strict, frozen=True, kw_only=True):
    """See ``Profile``."""

    ingress: list[Rule] = []
    egress: list[Rule] = []


class Profile(Old, frozen=True, kw_only=True):
    """Rules for the endpoints that name it, and what these are given: labels, and tags, which are labels today."""

    metadata: ProfileMetadata
    spec: ProfileSpec = field(default_factory=ProfileSpec)


class EndpointPort(Strict, frozen=True, kw_only=True):
    """A named port."""

    name: str
    protocol: Protocol
    port: int


class HostEndpointMetadata(Strict, frozen=True, kw_only=True):
    """See ``HostEndpoint``."""

    name: str
    node: str
    labels: dict[str, str] = {}


class HostEndpointSpec(Strict, frozen=True, kw_only=True):
    """See ``HostEndpoint``."""

    interface_name: str = ""
    expected_ips: list[str] = field(default_factory=list, name="expectedIPs")
    profiles: list[str] = []
    ports: list[EndpointPort] = []


class HostEndpoint(Old, frozen=True, kw_only=True):
    """An interface of a host."""

    metadata: HostEndpointMetadata
    spec: HostEndpointSpec = field(default_factory=HostEndpointSpec)


class WorkloadEndpointMetadata(Strict, frozen=True, kw_only=True):
    """See ``WorkloadEndpoint``."""

    name: str
    workload: str
    orchestrator: str
    node: str
    active_instance_id: str = field(default="", name="activeInstanceID")
    labels: dict[str, str] = {}


class IPNAT(Strict, frozen=True, kw_only=True):
    """A floating address."""

    internal_ip: str = field(name="internalIP")
    external_ip: str = field(name="externalIP")


class WorkloadEndpointSpec(Strict, frozen=True, kw_only=True):
    """See ``WorkloadEndpoint``."""

    ip_networks: list[str] = []
    ip_nats: list[IPNAT] = field(default_factory=list, name="ipNATs")
    ipv4_gateway: str = field(default="", name="ipv4Gateway")
    ipv6_gateway: str = field(default="", name="ipv6Gateway")
    profiles: list[str] = []
    interface_name: str = ""
    mac: str = ""
    ports: list[EndpointPort] = []


class WorkloadEndpoint(Old, frozen=True, kw_only=True):
    """An interface of a workload."""

    metadata: WorkloadEndpointMetadata
    spec: WorkloadEndpointSpec = field(default_factory=WorkloadEndpointSpec)


class IPPoolMetadata(Strict, frozen=True, kw_only=True):
    """See ``IPPool``."""

    cidr: str


class IPIP(Strict, frozen=True, kw_only=True):
    """Encapsulation, where it is on."""

    enabled: bool = False
    mode: str = ""


class IPPoolSpec(Strict, frozen=True, kw_only=True):
    """See ``IPPool``."""

    ipip: IPIP | None = None
    nat_outgoing: bool = field(default=False, name="nat-outgoing")
    disabled: bool = False
    assignment_mode: Literal["Automatic", "Manual"] | None = None


class IPPool(Old, frozen=True, kw_only=True):
    """A pool, whose prefix was its name."""

    metadata: IPPoolMetadata
    spec: IPPoolSpec = field(default_factory=IPPoolSpec)


class BGPPeerMetadata(Strict, frozen=True, kw_only=True):
    """See ``BGPPeer``."""

    scope: str
    peer_ip: str = field(name="peerIP")
    node: str = ""


class BGPPeerSpec(Strict, frozen=True, kw_only=True):
    """See ``BGPPeer``."""

    as_number: int | str


class BGPPeer(Old, frozen=True, kw_only=True):
    """A peer of all nodes, or of one."""

    metadata: BGPPeerMetadata
    spec: BGPPeerSpec


class NodeMetadata(Strict, frozen=True, kw_only=True):
    """See ``Node``."""

    name: str


class NodeBGP(Strict, frozen=True, kw_only=True):
    """The BGP side of a node."""

    as_number: int | str | None = None
    ipv4_address: str = field(default="", name="ipv4Address")
    ipv6_address: str = field(default="", name="ipv6Address")


class NodeSpec(Strict, frozen=True, kw_only=True):
    """See ``Node``."""

    bgp: NodeBGP | None = None
    orch_refs: list[OrchRef] = []


class Node(Old, frozen=True, kw_only=True):
    """A host."""

    metadata: NodeMetadata
    spec: NodeSpec = field(default_factory=NodeSpec)


KINDS: Final[dict[str, type[Old]]] = {
    "bgpPeer": BGPPeer,
    "hostEndpoint": HostEndpoint,
    "ipPool": IPPool,
    "node": Node,
    "policy": Policy,
    "profile": Profile,
    "tier": Tier,
    "workloadEndpoint": WorkloadEndpoint,
}
"""The kinds as their documents call them; upper and lower case did not matter."""

_BY_WORD: Final = {word.lower(): kind for word, kind in KINDS.items()}


def judged(tree: Any) -> tuple[Resource | None, list[Misfit]]:
    """The resource of today that the tree says, and all that keeps it from being one.

    Whether that resource is valid is not asked here: the old API allowed what is refused today.
    """
    if not isinstance(tree, dict):
        finding = Finding(
            (), f"{shown(tree)} stands where a resource is expected", "write apiVersion, kind, metadata, spec"
        )
        return None, [Misfit(finding)]
    tree = without_nulls(tree)
    found = [Misfit(finding) for finding in _about_kind(tree)]
    word = tree.get("kind")
    kind = _BY_WORD.get(word.lower()) if isinstance(word, str) else None
    if kind is None or tree.get("apiVersion") == API_VERSION:
        return None, found
    body = {key: value for key, value in tree.items() if key not in {"apiVersion", "kind"}}
    try:
        old = msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        return None, [*found, *(misfits(body, schema(kind)) or [Misfit(Finding((), str(error), ""))])]
    from calico.model.v1_conversion import converted

    findings: list[Finding] = []
    resource = converted(old, findings)
    return resource, [*found, *map(Misfit, findings)]


def _about_kind(tree: dict[str, Any]) -> Findings:
    version, word = tree.get("apiVersion"), tree.get("kind")
    if version == API_VERSION:
        yield Finding(
            ("apiVersion",), "this is of today's format already", "leave it out, or apply it as it is"
        )
    elif version != VERSION:
        message = (
            "the apiVersion is missing"
            if version is None
            else f"apiVersion {shown(version)} is not the old one"
        )
        yield Finding(("apiVersion",), message, f"only {VERSION} is converted")
    if "kind" not in tree:
        yield Finding(("kind",), "the kind is missing", f"add one of {', '.join(KINDS)}")
    elif not isinstance(word, str) or word.lower() not in _BY_WORD:
        yield Finding(("kind",), f"there is no old kind {shown(word)}", nearest(str(word), list(KINDS)))
