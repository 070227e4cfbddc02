"""A topology file, checked: from decoded YAML to a ``Topology``.

In:   what a YAML document says (mappings, lists, scalars), or the numbers of the command line.
Out:  ``Topology``, or ``TopologyError`` that names the field.
Next: ``scenario.up`` builds it.

The format is documented for users in docs/operate/lab.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from calico.lab import resources
from calico.lab.topology import (
    DEFAULT_POOLS,
    MAX_HOSTS,
    MAX_RACKS,
    Host,
    Pool,
    Rack,
    Topology,
    Workload,
    example_workloads,
    tenants,
)
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.checks import dns_label
from calico.model.checks import labels as label_checks
from calico.model.validation import defaulted, problems_of
from calico.model.yaml_text import BadText, Places, documents

NODE_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,12}[a-z0-9])?")
"""Node names are interface names in their rack's router as well: 14 characters."""
WORKLOAD_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
RESERVED: Final = re.compile(r"tor[0-9]+|etcd[0-9]+|spine|border|internet|rack|lo")
TAKEN: Final = {
    "for the lab's racks and routers": ("10.0.0.0/15", "fd00:10::/47"),
    "for the lab's internet": ("203.0.113.0/24", "2001:db8:113::/64"),
    "for no workload": (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/8",
        "fe00::/7",
    ),
}
"""What pools must keep clear of, by what it is."""
_WHERE: Final = re.compile(r" - at `\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([A-Za-z0-9_-]+)|\[([0-9]+)\]|(\[\.\.\.\])")


class TopologyError(ValueError):
    """A topology that cannot be built; the sentence names the field. ``path`` leads there, as far as it is known."""

    def __init__(self, sentence: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(sentence)
        self.path = path


class _Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The base of the file's values."""


class PoolForm(_Form, frozen=True, kw_only=True):
    """``pools[]``."""

    cidr: str
    block_size: int | None = None


class WorkloadForm(_Form, frozen=True, kw_only=True):
    """``racks[].hosts[].workloads[]``."""

    name: str
    namespace: str
    labels: dict[str, str] = {}


class HostForm(_Form, frozen=True, kw_only=True):
    """``racks[].hosts[]``; workloads are listed, or counted."""

    name: str = ""
    bare_metal: bool = False
    labels: dict[str, str] = {}
    workloads: list[WorkloadForm] | Annotated[int, msgspec.Meta(ge=0, le=250)] | None = None


class RackForm(_Form, frozen=True, kw_only=True):
    """``racks[]``; hosts are listed, or counted."""

    hosts: list[HostForm] | Annotated[int, msgspec.Meta(ge=0, le=MAX_HOSTS)]


class NamespaceForm(_Form, frozen=True, kw_only=True):
    """``namespaces.<name>``."""

    labels: dict[str, str] = {}


class TopologyForm(_Form, frozen=True, kw_only=True):
    """The whole file."""

    racks: Annotated[list[RackForm], msgspec.Meta(min_length=1, max_length=MAX_RACKS)]
    namespaces: dict[str, NamespaceForm] = {}
    pools: list[PoolForm] = []
    mtu: Annotated[int, msgspec.Meta(ge=1280, le=65535)] = 1500
    workloads: Annotated[int, msgspec.Meta(ge=0, le=250)] = 3
    """Per host, where a host does not say it itself."""


def read(text: str) -> Topology:
    """The topology that the text of a file describes; TopologyError with the line, where that is known."""
    try:
        found = list(documents(text))
    except BadText as error:
        raise TopologyError(f"line {error.line}: {error}" if error.line else str(error)) from error
    while found and found[-1] is None:  # a marker at the end begins no document
        found.pop()
    if not found:
        raise TopologyError("the file is empty; it describes at least 'racks'")
    if len(found) > 1:
        raise TopologyError(f"there are {len(found)} documents; a lab is described by one")
    try:
        return describe(found[0])
    except TopologyError as error:
        line = Places(text).find(0, error.path).line if error.path else 0
        raise TopologyError(f"line {line}: {error}" if line else str(error)) from error


def describe(document: object) -> Topology:
    """The topology that a decoded document describes."""
    try:
        form = msgspec.convert(document, TopologyForm)
    except msgspec.ValidationError as error:
        raise _misunderstood(str(error)) from None
    topology = Topology(
        racks=tuple(_rack(number, rack, form) for number, rack in enumerate(form.racks, start=1)),
        namespaces={
            **tenants(),
            **{name: dict(namespace.labels) for name, namespace in form.namespaces.items()},
        },
        pools=_pools(form.pools),
        mtu=form.mtu,
    )
    check(topology)
    return topology


def _misunderstood(said: str) -> TopologyError:
    """What msgspec said, with its path in words and as steps."""
    where = _WHERE.search(said)
    sentence, field = (said[: where.start()], where[1].lstrip(".")) if where else (said, "")
    path: list[str | int] = []
    for name, index, unknown in _STEP.findall(where[1] if where else ""):
        if unknown:
            break
        path.append(name or int(index))
    return TopologyError(f"{field}: {sentence}" if field else sentence, tuple(path))


def _rack(number: int, form: RackForm, whole: TopologyForm) -> Rack:
    listed = [HostForm() for _ in range(form.hosts)] if isinstance(form.hosts, int) else form.hosts
    return Rack(
        number, tuple(_host(number, position, host, whole) for position, host in enumerate(listed, start=1))
    )


def _host(rack: int, position: int, form: HostForm, whole: TopologyForm) -> Host:
    name = form.name or f"host{rack}-{position}"
    where = f"racks[{rack - 1}].hosts[{position - 1}]"
    if form.bare_metal and form.workloads:
        raise TopologyError(
            f"{where}: {name} is bare metal, and bare metal runs no workloads",
            ("racks", rack - 1, "hosts", position - 1),
        )
    if isinstance(form.workloads, list):
        workloads = tuple(
            Workload(workload.name, workload.namespace, name, dict(workload.labels))
            for workload in form.workloads
        )
    else:
        count = whole.workloads if form.workloads is None else form.workloads
        workloads = () if form.bare_metal else example_workloads(name, f"{rack}-{position}", position, count)
    return Host(name, rack, position, workloads, form.bare_metal, dict(form.labels))


def _pools(forms: list[PoolForm]) -> tuple[Pool, ...]:
    if not forms:
        return DEFAULT_POOLS
    pools: list[Pool] = []
    for index, form in enumerate(forms):
        try:
            cidr = parse_cidr(form.cidr)
        except AddressError as error:
            raise TopologyError(f"pools[{index}].cidr: {error}", ("pools", index, "cidr")) from None
        for what, prefix in _conflicts(pools):
            if cidr.overlaps(prefix):
                raise TopologyError(
                    f"pools[{index}].cidr: {cidr} overlaps {prefix}, which is {what}",
                    ("pools", index, "cidr"),
                )
        longest, default = (32, 26) if cidr.family == 4 else (128, 122)
        size = form.block_size if form.block_size is not None else default
        if not max(cidr.length, longest - 12) <= size <= longest:
            raise TopologyError(
                f"pools[{index}].blockSize: {size} does not fit {cidr}: it is a prefix length from "
                f"{max(cidr.length, longest - 12)} to {longest}",
                ("pools", index, "blockSize"),
            )
        pools.append(Pool(f"pool-{index + 1}", str(cidr), size))
    if {":" in pool.cidr for pool in pools} != {True, False}:
        raise TopologyError("pools: the lab needs at least one IPv4 and one IPv6 pool", ("pools",))
    return tuple(pools)


def _conflicts(pools: list[Pool]) -> Iterator[tuple[str, Cidr]]:
    """What one more pool may not overlap, and what that is."""
    for what, prefixes in TAKEN.items():
        for prefix in prefixes:
            yield what, parse_cidr(prefix)
    for index, pool in enumerate(pools):
        yield f"pools[{index}]", parse_cidr(pool.cidr)


def check(topology: Topology) -> None:
    """Raise ``TopologyError`` where names clash, are too long, or point nowhere, or counts exceed the address plan."""
    if not 1 <= len(topology.racks) <= MAX_RACKS:
        raise TopologyError(f"a lab has 1 to {MAX_RACKS} racks, not {len(topology.racks)}")
    for rack in topology.racks:
        if len(rack.hosts) > MAX_HOSTS:
            raise TopologyError(f"{rack.name}: a rack has up to {MAX_HOSTS} hosts, not {len(rack.hosts)}")
    if not topology.hosts:
        raise TopologyError("racks: there is no host in any rack")
    for host in topology.hosts:
        if not NODE_NAME.fullmatch(host.name) or RESERVED.fullmatch(host.name):
            raise TopologyError(
                f"{host.name!r} cannot name a host: up to 14 lower-case letters, digits and dashes, "
                "and no name of a router"
            )
    for workload in topology.workloads:
        if not WORKLOAD_NAME.fullmatch(workload.name) or RESERVED.fullmatch(workload.name):
            raise TopologyError(
                f"{workload.name!r} cannot name a workload: up to 32 lower-case letters, digits and dashes, "
                "and no name of a router"
            )
        if workload.namespace not in topology.namespaces:
            raise TopologyError(
                f"workload {workload.name} is of namespace {workload.namespace!r}, which namespaces does not list"
            )
    twice = [name for name, count in Counter(topology.nodes).items() if count > 1]
    if twice:
        raise TopologyError(f"{', '.join(twice)}: every host and workload has a name of its own")
    _check_resources(topology)


def _check_resources(topology: Topology) -> None:
    """Raise ``TopologyError`` where names or labels are none that the store takes."""
    for namespace, labels in topology.namespaces.items():
        for finding in (*dns_label((), namespace), *label_checks((namespace,), labels)):
            raise TopologyError(
                f"namespaces.{namespace}: {finding.message}; {finding.remedy}", ("namespaces", namespace)
            )
    stored = (
        *resources.initial(topology),
        *(resources.workload_endpoint(workload, ()) for workload in topology.workloads),
    )
    for resource in stored:
        for finding in problems_of(defaulted(resource)):
            if finding.path[0] == "metadata":
                raise TopologyError(
                    f"{resource.kind} {resource.metadata.name}: {'.'.join(map(str, finding.path[1:]))}: "
                    f"{finding.message}; {finding.remedy}"
                )
