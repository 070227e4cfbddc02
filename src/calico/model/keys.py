"""One frozen key per fact, with its path in the store (Calico's etcd layout).

In:   a kind, a name, a namespace for kinds that have one; or a path of the store.
Out:  the path, or the key; ``None`` for paths that are not ours to understand.
Next: ``model.codec`` turns the value at the path into a resource and back.

For IPAM's keys ``name`` is the block's CIDR or the handle's id, and ``namespace`` of a
``BlockAffinity`` is the owner, "host:<node>" or "virtual:<name>". As a resource a block has another name,
without dots and slash: a key takes that, too. An affinity's name as a resource does not say where its owner
ends, so a key with that has no path of its own; ``datastore.typed`` looks for it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from calico.model.address import AddressError, parse_cidr, parse_cidr_word
from calico.model.bfd import BFDConfiguration
from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.bgpfilter import BGPFilter
from calico.model.cluster import CalicoNodeStatus, ClusterInformation, KubeControllersConfiguration
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.felix import FelixConfiguration
from calico.model.ipam_kinds import CONFIGURATION, BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMHandle
from calico.model.kubernetes_kinds import (
    ClusterNetworkPolicy,
    EndpointSlice,
    KubernetesNetworkPolicy,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
)
from calico.model.livemigration import LiveMigration
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.node import Node
from calico.model.policy import GlobalNetworkPolicy, NetworkPolicy, Profile, Tier
from calico.model.pool import IPPool
from calico.model.reservation import IPReservation
from calico.model.resource import Resource, kind_word
from calico.model.staged import (
    StagedGlobalNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    StagedNetworkPolicy,
)

KINDS: Final[dict[str, type[Resource]]] = {
    kind.__name__: kind
    for kind in (
        BFDConfiguration,
        BGPConfiguration,
        BGPFilter,
        BGPPeer,
        BlockAffinity,
        CalicoNodeStatus,
        ClusterInformation,
        ClusterNetworkPolicy,
        EndpointSlice,
        FelixConfiguration,
        GlobalNetworkPolicy,
        GlobalNetworkSet,
        HostEndpoint,
        IPAMBlock,
        IPAMConfiguration,
        IPAMHandle,
        IPPool,
        IPReservation,
        KubeControllersConfiguration,
        KubernetesNetworkPolicy,
        LiveMigration,
        Namespace,
        NetworkPolicy,
        NetworkSet,
        Node,
        Pod,
        Profile,
        Service,
        ServiceAccount,
        StagedGlobalNetworkPolicy,
        StagedKubernetesNetworkPolicy,
        StagedNetworkPolicy,
        Tier,
        WorkloadEndpoint,
    )
}
"""Every resource kind, by the name of its class. A new kind is one class in a file of its subject, and one line here."""

ROOT: Final = "/calico/"
IPAM: Final = "/calico/ipam/v2/"

_BLOCKS: Final = f"{IPAM}assignment/"
_HANDLES: Final = f"{IPAM}handle/"
_CONFIGURATION: Final = f"{IPAM}config"
_IPAM_PREFIXES: Final = {
    "BlockAffinity": IPAM,
    "IPAMBlock": _BLOCKS,
    "IPAMConfiguration": _CONFIGURATION,
    "IPAMHandle": _HANDLES,
}
"""Where the records are that IPAM's kinds are views of; affinities of hosts and of others have no nearer one."""

BY_TYPE: Final[dict[tuple[str, str], type[Resource]]] = {
    (kind.API_VERSION, kind_word(kind)): kind for kind in KINDS.values()
}
"""The kinds by what people write: apiVersion and kind."""


class Key(NamedTuple):
    """Which fact: kind, name, and namespace ("" for cluster-wide kinds)."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        """``Kind/namespace/name`` as messages print it."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    @property
    def path(self) -> str:
        """The key's path in the store."""
        match self.kind:
            case "IPAMBlock":
                cidr = _block(self.name)
                return f"{_BLOCKS}{_family(cidr)}/block/{cidr.replace('/', '-')}"
            case "BlockAffinity":
                owner_type, _, owner = self.namespace.partition(":")
                return f"{IPAM}{owner_type}/{owner}/{_family(self.name)}/block/{self.name.replace('/', '-')}"
            case "IPAMHandle":
                return f"{_HANDLES}{self.name}"
            case "IPAMConfiguration":
                return _CONFIGURATION if self.name == CONFIGURATION else f"{_CONFIGURATION}/{self.name}"
        kind = KINDS[self.kind]
        middle = f"{self.namespace}/" if kind.NAMESPACED else ""
        return f"{_prefix(kind)}{middle}{self.name}"


def key_of(resource: Resource) -> Key:
    """The key that ``resource`` is stored under."""
    return Key(resource.kind, *resource.place())


def kind_prefix(kind: str, namespace: str = "") -> str:
    """The path prefix under which all of a resource kind (in one namespace) are stored."""
    cls = KINDS[kind]
    return _prefix(cls) + (f"{namespace}/" if namespace and cls.NAMESPACED else "")


def parse_path(path: str) -> Key | None:
    """The key stored at ``path``, or None where the path holds nothing that we know."""
    if path.startswith(IPAM):
        match path[len(IPAM) :].split("/"):
            case ["assignment", "ipv4" | "ipv6", "block", block] if cidr := _cidr(block):
                return Key("IPAMBlock", cidr)
            case [("host" | "virtual") as owner_type, owner, "ipv4" | "ipv6", "block", block] if (
                cidr := _cidr(block)
            ):
                return Key("BlockAffinity", cidr, f"{owner_type}:{owner}")
            case ["handle", handle]:
                return Key("IPAMHandle", handle)
            case ["config"]:
                return Key("IPAMConfiguration", CONFIGURATION)
        return None
    for depth in (1, 2):  # names hold no "/"
        prefix, *rest = path.rsplit("/", depth)
        kind = _BY_PREFIX.get(f"{prefix}/")
        if kind is not None and depth == 1 + kind.NAMESPACED and all(rest):
            return Key(kind.__name__, rest[-1], rest[0] if kind.NAMESPACED else "")
    return None


def _prefix(kind: type[Resource]) -> str:
    return _IPAM_PREFIXES.get(kind.__name__) or f"{kind.STORED}{kind.SEGMENT or kind.PLURAL}/"


_BY_PREFIX: Final = {_prefix(kind): kind for kind in KINDS.values()}


def _family(cidr: str) -> str:
    return "ipv6" if ":" in cidr else "ipv4"


def _cidr(segment: str) -> str:
    """The prefix that a block's path ends in; empty where that is none, which is no block and stops nobody."""
    address, _, length = segment.rpartition("-")
    cidr = f"{address}/{length}"
    try:
        parse_cidr(cidr)
    except AddressError:
        return ""
    return cidr


def _block(name: str) -> str:
    """The CIDR of a block that is called by it, or by its name as a resource."""
    try:
        return name if "/" in name else str(parse_cidr_word(name))
    except AddressError:
        return name  # nothing is stored there
