"""A topology file, checked: from decoded YAML to a ``Topology``.

In:   what a YAML document says (mappings, lists, scalars), or the numbers of the command line.
Out:  ``Topology``, or ``TopologyError`` that names the field.
Next: ``scenario.up`` builds it.

The format is documented for users in docs/operate/lab.md.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Final

import msgspec

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
from calico.model.address import AddressError, parse_cidr

NODE_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,12}[a-z0-9])?")
"""Node names are interface names in their rack's router as well: 14 characters."""
WORKLOAD_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
LAB_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
"""Without a dash, so that ``calico-<lab>-<node>`` is read in one way only."""
RESERVED: Final = re.compile(r"tor[0-9]+|spine|border|internet|rack|lo")


class TopologyError(ValueError):
    """A topology that cannot be built; the sentence names the field."""


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


def describe(document: object) -> Topology:
    """The topology that a decoded document describes."""
    try:
        form = msgspec.convert(document, TopologyForm)
    except msgspec.ValidationError as error:
        raise TopologyError(f"the topology file is not understood: {error}") from None
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


def _rack(number: int, form: RackForm, whole: TopologyForm) -> Rack:
    listed = [HostForm() for _ in range(form.hosts)] if isinstance(form.hosts, int) else form.hosts
    return Rack(
        number, tuple(_host(number, position, host, whole) for position, host in enumerate(listed, start=1))
    )


def _host(rack: int, position: int, form: HostForm, whole: TopologyForm) -> Host:
    name = form.name or f"host{rack}-{position}"
    where = f"racks[{rack - 1}].hosts[{position - 1}]"
    if form.bare_metal and form.workloads:
        raise TopologyError(f"{where}: {name} is bare metal, and bare metal runs no workloads")
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
    pools = []
    for index, form in enumerate(forms):
        try:
            cidr = parse_cidr(form.cidr)
        except AddressError as error:
            raise TopologyError(f"pools[{index}].cidr: {error}") from None
        longest, default = (32, 26) if cidr.family == 4 else (128, 122)
        size = form.block_size if form.block_size is not None else default
        if not max(cidr.length, longest - 12) <= size <= longest:
            raise TopologyError(
                f"pools[{index}].blockSize: {size} does not fit {cidr}: it is a prefix length from "
                f"{max(cidr.length, longest - 12)} to {longest}"
            )
        pools.append(Pool(f"pool-{index + 1}", str(cidr), size))
    if {":" in pool.cidr for pool in pools} != {True, False}:
        raise TopologyError("pools: the lab needs at least one IPv4 and one IPv6 pool")
    return tuple(pools)


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
