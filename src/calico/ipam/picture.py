"""All that there is to know about addresses at one moment: IPAM's records, and who uses which address.

In:   what a store holds under ``PREFIXES``, all of one revision; each record is decoded once.
Out:  ``Picture``.
Next: ``ipam.audit`` judges it, ``ipam.utilisation`` counts, ``ipam.account`` answers about one address.

Addresses are keys as text, in the form that ``model.address`` gives them. What cannot be read is listed and never
passed over in silence: an endpoint that cannot be read may use an address that looks like nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from calico.datastore.api import Entry, Store, TooOld
from calico.datastore.lock import CLUSTER
from calico.model import codec
from calico.model.address import AddressError, Cidr, parse_address, parse_cidr
from calico.model.cluster import ClusterInformation
from calico.model.errors import ModelError
from calico.model.ipam import BlockAffinity, IPAMBlock, IPAMConfig, IPAMHandle
from calico.model.ipam_kinds import CONFIGURATION
from calico.model.keys import IPAM, Key, kind_prefix, parse_path
from calico.model.kubernetes_kinds import Pod, Service
from calico.model.node import Node
from calico.model.pool import IPPool
from calico.model.reservation import IPReservation

_ENDPOINTS: Final = kind_prefix("WorkloadEndpoint")
_HANDLES: Final = kind_prefix("IPAMHandle")

PREFIXES: Final = (
    IPAM,
    kind_prefix("IPPool"),
    kind_prefix("IPReservation"),
    kind_prefix("Node"),
    _ENDPOINTS,
    kind_prefix("Pod"),
    kind_prefix("Service"),
    CLUSTER.path,
)
"""Where everything stands that a picture is made of."""

_LOAD_BALANCER_CLASSES: Final = {None, "", "calico"}
_READINGS: Final = 5
"""How often reading is begun anew when the store forgets a revision meanwhile."""


class Handle(NamedTuple):
    """How many addresses an owner has in each block, by its own record."""

    counts: Mapping[str, int]
    revision: int


class Unreadable(NamedTuple):
    """A value of the store that is not what belongs there."""

    path: str
    reason: str


@dataclass(slots=True)
class Picture:
    """See the module. Nothing changes it once it is made."""

    revision: int
    blocks: dict[Cidr, IPAMBlock] = field(default_factory=dict)
    claims: dict[Cidr, dict[str, str]] = field(default_factory=dict)
    """For each block the states of the claims to it, by owner ("host:<node>")."""
    handles: dict[str, Handle] = field(default_factory=dict)
    configuration: IPAMConfig = field(default_factory=lambda: IPAMConfig(auto_allocate_blocks=True))
    pools: dict[str, IPPool] = field(default_factory=dict)
    reservations: dict[str, tuple[Cidr, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    uses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For each address that is in use, by whom: ``Workload(ns/name)``, ``Node(name)``, ``Service(ns/name)``."""
    pods: set[str] = field(default_factory=set)
    """The pods and workloads that exist, as ``ns/name``, whatever addresses they have."""
    cluster: ClusterInformation | None = None
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def reserved(self) -> tuple[Cidr, ...]:
        """What no address is given from."""
        return tuple(cidr for each in self.reservations.values() for cidr in each)


async def read(store: Store) -> Picture:
    """The picture of ``store`` as it is at one moment. StoreError where the store cannot be read."""
    for _ in range(_READINGS - 1):
        with suppress(TooOld):
            return picture(*await at_one_moment(store, PREFIXES))
    return picture(*await at_one_moment(store, PREFIXES))


async def at_one_moment(store: Store, prefixes: Sequence[str]) -> tuple[int, list[Entry]]:
    """A revision, and all that stands under ``prefixes`` as it was then. TooOld if the store forgets it meanwhile."""
    first = await store.list(prefixes[0])
    entries = [*first.entries]
    for prefix in prefixes[1:]:
        entries += (await store.list(prefix, revision=first.revision)).entries
    return first.revision, entries


def picture(revision: int, entries: Iterable[Entry]) -> Picture:
    """The picture that ``entries`` give; those that do not belong to it are passed over."""
    made = Picture(revision)
    users = _Users(made.uses)
    pods: list[Pod] = []
    for entry in entries:
        path = entry.path
        try:
            if path.startswith(_ENDPOINTS):
                _endpoint(made, users, path, entry.value)
            elif path.startswith(_HANDLES):
                name = path[len(_HANDLES) :]
                made.handles[name] = Handle(_counts(name, entry), entry.revision)
            elif (key := parse_path(path)) is not None:
                found = codec.decode(key, entry.value, entry.revision)
                if isinstance(found, Pod):
                    pods.append(found)
                else:
                    _take(made, users, key, found)
        except (ModelError, msgspec.MsgspecError) as error:
            made.unreadable.append(Unreadable(path, str(error)))
    for pod in pods:  # after the endpoints, of which some are theirs
        _pod(made, users, pod)
    return made


def address_text(text: str) -> str:
    """An address, perhaps with a length, in the one form that addresses have as keys; AddressError for what is none."""
    bare = text.partition("/")[0]
    return bare if _is_plain(bare) else parse_address(bare).address


def _is_plain(text: str) -> bool:
    """Whether this surely is an IPv4 address, in the only form that it has: a quick look, for the many."""
    parts = text.split(".")
    return len(parts) == 4 and all(part in _OCTETS for part in parts)


_OCTETS: Final = frozenset(map(str, range(256)))


# --- records and resources ---------------------------------------------------------------------------


def _take(made: Picture, users: _Users, key: Key, found: Any) -> None:
    """Put what stands at ``key`` in its place."""
    match found:
        case IPAMBlock():
            made.blocks[parse_cidr(key.name)] = found
        case BlockAffinity():
            state = found.state or "confirmed"  # as writers of old left it
            made.claims.setdefault(parse_cidr(key.name), {})[key.namespace] = state
        case IPAMHandle():
            raise AssertionError("handles are taken by their prefix")
        case IPAMConfig() if key.name == CONFIGURATION:
            made.configuration = found
        case IPPool():
            made.pools[key.name] = found
        case IPReservation():
            made.reservations[key.name] = tuple(map(parse_cidr, found.spec.reserved_cidrs))
        case Node():
            made.nodes[key.name] = found
            users.add(f"Node({key.name})", filter(None, found.tunnel_addresses()))
        case Service():
            users.add(f"Service({key.namespace}/{key.name})", _balanced(found))
        case ClusterInformation():
            made.cluster = found


class _Users:
    """Who uses which address, as it is collected."""

    def __init__(self, uses: dict[str, tuple[str, ...]]) -> None:
        self._uses = uses

    def add(self, who: str, addresses: Iterable[str]) -> None:
        """Note that ``who`` uses ``addresses``; what is no address uses none."""
        uses = self._uses
        for text in addresses:
            try:
                address = address_text(text)
            except AddressError:
                continue
            known = uses.get(address)
            if known is None:
                uses[address] = (who,)
            elif who not in known:
                uses[address] = (*known, who)


class _EndpointSpec(msgspec.Struct):
    ip_networks: list[str] | None = msgspec.field(default=None, name="ipNetworks")
    pod: str | None = None
    workload: str | None = None


class _Endpoint(msgspec.Struct):
    """What matters of an endpoint here: of the many, each is decoded in a fraction of the time."""

    spec: _EndpointSpec = msgspec.field(default_factory=_EndpointSpec)


_ENDPOINT: Final = msgspec.json.Decoder(_Endpoint)
_HANDLE: Final = msgspec.json.Decoder(IPAMHandle)


def _endpoint(made: Picture, users: _Users, path: str, value: bytes) -> None:
    namespace, _, name = path[len(_ENDPOINTS) :].partition("/")
    try:
        spec = _ENDPOINT.decode(value).spec
    except msgspec.ValidationError as error:
        made.unreadable.append(Unreadable(path, str(error)))
        spec = _salvaged(value)
    users.add(f"Workload({namespace}/{name})", spec.ip_networks or ())
    for workload in (spec.pod, spec.workload):
        if workload:
            made.pods.add(f"{namespace}/{workload}")


def _salvaged(value: bytes) -> _EndpointSpec:
    """The addresses of an endpoint that is wrong in other respects: what might be in use is in use."""
    tree = msgspec.json.decode(value)
    spec = tree.get("spec") if isinstance(tree, dict) else None
    networks = spec.get("ipNetworks") if isinstance(spec, dict) else None
    return _EndpointSpec(
        [each for each in networks if isinstance(each, str)] if isinstance(networks, list) else None
    )


def _counts(name: str, entry: Entry) -> Mapping[str, int]:
    """What a handle counts; the slow way where another writer left it in an unusual form."""
    try:
        return _HANDLE.decode(entry.value).block
    except msgspec.ValidationError:
        found = codec.decode(Key("IPAMHandle", name), entry.value, entry.revision)
        assert isinstance(found, IPAMHandle)
        return found.block


def _pod(made: Picture, users: _Users, pod: Pod) -> None:
    """A pod of Kubernetes uses its addresses, unless an endpoint of the pod does so in its name."""
    name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    if name in made.pods:
        return
    made.pods.add(name)
    for each in pod.conversion().resources:
        networks = getattr(getattr(each, "spec", None), "ip_networks", ())
        users.add(f"Pod({name})", networks)


def _balanced(service: Service) -> Iterator[str]:
    """The addresses of a service of type LoadBalancer, if they may be Calico's."""
    spec, status = service.spec or {}, service.status or {}
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") not in _LOAD_BALANCER_CLASSES:
        return
    balancer = status.get("loadBalancer")
    ingress = balancer.get("ingress") if isinstance(balancer, dict) else None
    for each in ingress if isinstance(ingress, list) else ():
        address = each.get("ip") if isinstance(each, dict) else None
        if isinstance(address, str):
            yield address
