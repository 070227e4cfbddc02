"""What speaks for the life of an address's owner, beyond who uses it: all that the collector has to know before it takes.

In:   what a store holds under ``PREFIXES``, all of one revision.
Out:  ``Evidence``, with a reason for doubt where it is not complete.
Next: ``ipam.reclaim`` judges by it.

The picture says who uses which address; people are shown that. To take an address away more is asked: here also count
addresses of any service, a node's own ones, those that a pod's status names beside its endpoint's, and workloads that
exist without an address. In doubt everybody lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from calico.datastore.api import Entry
from calico.ipam import picture as pictures
from calico.ipam.audit import contradictions
from calico.ipam.picture import Picture, address_text
from calico.model import codec
from calico.model.address import AddressError
from calico.model.cluster import KubeControllersConfiguration
from calico.model.errors import ModelError
from calico.model.keys import IPAM, Key, kind_prefix, parse_path

CONFIGURATION: Final = Key("KubeControllersConfiguration", "default")
"""What says how long an address without an owner waits."""

PREFIXES: Final = (*pictures.PREFIXES, CONFIGURATION.path)
"""Where everything stands that evidence is made of."""

GRACE: Final = 900.0
"""Seconds that an address without an owner waits, where nothing is configured: 15 minutes."""

_ENDPOINTS: Final = kind_prefix("WorkloadEndpoint")
_PODS: Final = kind_prefix("Pod")
_SERVICES: Final = kind_prefix("Service")
_BESIDE_THE_POINT: Final = (kind_prefix("IPPool"), kind_prefix("IPReservation"))
SIGNS: Final = tuple(prefix for prefix in PREFIXES if prefix not in {IPAM, *_BESIDE_THE_POINT})
"""Where what stands speaks for life, or for taking nothing: all but IPAM's own records."""

_FINISHED: Final = ("Succeeded", "Failed")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


@dataclass(slots=True)
class Evidence:
    """See the module. Nothing changes it once it is made."""

    picture: Picture
    doubt: str = ""
    """Why nothing may be concluded from it; empty: it is complete."""
    grace: float = GRACE
    """How many seconds what looks left behind waits; 0: nothing is collected."""
    used: set[str] = field(default_factory=set)
    """Addresses in use beside those of the picture's ``uses``, as text in the same form."""
    workloads: dict[str, set[str]] = field(default_factory=dict)
    """The workloads that exist, as ``ns/name``, and their containers; "" stands for one that any handle may be of."""
    hosts: set[str] = field(default_factory=set)
    """The hosts that exist: nodes, and where endpoints are."""
    claims: dict[Key, int] = field(default_factory=dict)
    """The revisions of claims."""

    def is_gone(self, host: str) -> bool:
        """Whether a host does not exist any more. Where no host exists they are not noted here, and none is gone."""
        return bool(host and self.hosts) and host not in self.hosts


def evidence(revision: int, entries: Iterable[Entry]) -> Evidence:
    """What ``entries``, all of ``revision``, say."""
    entries = list(entries)
    made = Evidence(pictures.picture(revision, entries))
    doubts = [
        f"{path} cannot be read: {reason}"
        for path, reason in made.picture.unreadable
        if not path.startswith(_BESIDE_THE_POINT)
    ]
    for entry in entries:
        try:
            _take(made, entry)
        except (ModelError, msgspec.MsgspecError, RecursionError) as error:
            doubts.append(f"{entry.path} cannot be read: {error}")
    for node in made.picture.nodes.values():
        made.hosts.add(node.metadata.name)
        made.used |= set(_addresses(msgspec.to_builtins(node.spec)))
    for cidr, block in made.picture.blocks.items():
        doubts += [f"block {cidr} {what}" for what in contradictions(cidr, block)]
    cluster = made.picture.cluster
    if cluster is not None and cluster.locked:
        doubts.insert(0, "the store is locked")
    made.doubt = doubts[0] + (f", and {len(doubts) - 1} more" if len(doubts) > 1 else "") if doubts else ""
    return made


def seconds(text: str | None) -> float | None:
    """A span of time as resources have it ("1m30s", "0"); None for what is none."""
    if text is None or (text != "0" and (not text or _PART.sub("", text))):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


# --- what stands in the store ------------------------------------------------------------------------


class _EndpointSpec(msgspec.Struct):
    node: str | None = None
    pod: str | None = None
    workload: str | None = None
    container_id: str | None = msgspec.field(default=None, name="containerID")
    ip_networks: list[str] | None = msgspec.field(default=None, name="ipNetworks")
    ip_nats: list[dict[str, Any]] | None = msgspec.field(default=None, name="ipNATs")


class _Endpoint(msgspec.Struct):
    """What matters of an endpoint here."""

    spec: _EndpointSpec = msgspec.field(default_factory=_EndpointSpec)


class _Metadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct):
    """What matters of an object of Kubernetes here."""

    metadata: _Metadata | None = None
    spec: dict[str, Any] | None = None
    status: dict[str, Any] | None = None


_ENDPOINT: Final = msgspec.json.Decoder(_Endpoint)
_OBJECT: Final = msgspec.json.Decoder(_Object)


def _take(made: Evidence, entry: Entry) -> None:
    path = entry.path
    if path.startswith(_ENDPOINTS):
        _endpoint(made, path[len(_ENDPOINTS) :].partition("/")[0], _ENDPOINT.decode(entry.value).spec)
    elif path.startswith(_PODS):
        found = _OBJECT.decode(entry.value)
        if (found.status or {}).get("phase") in _FINISHED:
            return
        own = {*_addresses(found.status), *_noted(found)}
        made.used |= own
        if not own:
            made.workloads.setdefault(path[len(_PODS) :], set()).add("")
    elif path.startswith(_SERVICES):
        found = _OBJECT.decode(entry.value)
        made.used |= {*_addresses(found.spec), *_addresses(found.status), *_noted(found)}
    elif path == CONFIGURATION.path:
        configuration = codec.decode(CONFIGURATION, entry.value, entry.revision)
        assert isinstance(configuration, KubeControllersConfiguration)
        made.grace = _grace(configuration)
    elif (key := parse_path(path)) is not None and key.kind == "BlockAffinity":
        made.claims[key] = entry.revision


def _endpoint(made: Evidence, namespace: str, spec: _EndpointSpec) -> None:
    if spec.node:
        made.hosts.add(spec.node)
    made.used |= set(_addresses(spec.ip_nats))
    container = (spec.container_id or "") if spec.ip_networks else ""
    for workload in filter(None, (spec.pod, spec.workload)):
        made.workloads.setdefault(f"{namespace}/{workload}", set()).add(container)


def _grace(configuration: KubeControllersConfiguration) -> float:
    controllers = configuration.spec.controllers
    text = controllers.node.leak_grace_period if controllers is not None and controllers.node else None
    if text is None:
        return GRACE
    found = seconds(text)
    if found is None:
        raise ModelError(f"leakGracePeriod: {text!r} is no duration")
    return found


def _noted(found: _Object) -> Iterator[str]:
    """The addresses that annotations of an object name."""
    annotations = found.metadata.annotations if found.metadata is not None else None
    for value in (annotations or {}).values():
        yield from _addresses(re.split(r'[\s,"\[\]]+', value) if "." in value or ":" in value else None)


def _addresses(tree: Any) -> Iterator[str]:
    """Everything in ``tree`` that is an address, perhaps with a length."""
    match tree:
        case str():
            if "." in tree or ":" in tree:
                try:
                    yield address_text(tree)
                except AddressError:
                    return
        case dict():
            for value in tree.values():
                yield from _addresses(value)
        case list():
            for value in tree:
                yield from _addresses(value)
