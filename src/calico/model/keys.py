"""One frozen key per fact, with its path in the store (Calico's etcd layout).

In:   a kind, a name, a namespace for kinds that have one; or a path of the store.
Out:  the path, or the key; ``None`` for paths that are not ours to understand.
Next: ``model.codec`` turns the value at the path into a resource and back.

For IPAM's keys ``name`` is the block's CIDR or the handle's id, and ``namespace`` of a
``BlockAffinity`` is the owner, "host:<node>" or "virtual:<name>".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.node import Node
from calico.model.policy import GlobalNetworkPolicy, NetworkPolicy, Profile, Tier
from calico.model.pool import IPPool
from calico.model.resource import Resource, kind_word

KINDS: Final[dict[str, type[Resource]]] = {
    kind.__name__: kind
    for kind in (
        BGPConfiguration,
        BGPPeer,
        GlobalNetworkPolicy,
        GlobalNetworkSet,
        HostEndpoint,
        IPPool,
        NetworkPolicy,
        NetworkSet,
        Node,
        Profile,
        Tier,
        WorkloadEndpoint,
    )
}
"""Every resource kind, by the name of its class. A new kind is one class in a file of its subject, and one line here."""

ROOT: Final = "/calico/"
IPAM: Final = "/calico/ipam/v2/"

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
                return f"{IPAM}assignment/{_family(self.name)}/block/{self.name.replace('/', '-')}"
            case "BlockAffinity":
                owner_type, _, owner = self.namespace.partition(":")
                return f"{IPAM}{owner_type}/{owner}/{_family(self.name)}/block/{self.name.replace('/', '-')}"
            case "IPAMHandle":
                return f"{IPAM}handle/{self.name}"
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
            case ["assignment", "ipv4" | "ipv6", "block", block]:
                return Key("IPAMBlock", _cidr(block))
            case [("host" | "virtual") as owner_type, owner, "ipv4" | "ipv6", "block", block]:
                return Key("BlockAffinity", _cidr(block), f"{owner_type}:{owner}")
            case ["handle", handle]:
                return Key("IPAMHandle", handle)
        return None
    for depth in (1, 2):  # names hold no "/"
        prefix, *rest = path.rsplit("/", depth)
        kind = _BY_PREFIX.get(f"{prefix}/")
        if kind is not None and depth == 1 + kind.NAMESPACED and all(rest):
            return Key(kind.__name__, rest[-1], rest[0] if kind.NAMESPACED else "")
    return None


def _prefix(kind: type[Resource]) -> str:
    return f"{kind.STORED}{kind.SEGMENT or kind.PLURAL}/"


_BY_PREFIX: Final = {_prefix(kind): kind for kind in KINDS.values()}


def _family(cidr: str) -> str:
    return "ipv6" if ":" in cidr else "ipv4"


def _cidr(segment: str) -> str:
    address, _, length = segment.rpartition("-")
    return f"{address}/{length}"
