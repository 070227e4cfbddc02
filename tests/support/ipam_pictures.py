"""Stores of addresses in few words, for whoever looks at them: blocks, who has what, who uses what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from calico.datastore.api import Entry, Store
from calico.ipam.picture import Picture, picture
from calico.model import codec
from calico.model.address import WIDTH, parse_cidr
from calico.model.cluster import ClusterInformation, ClusterInformationSpec
from calico.model.ipam import AllocationAttribute, BlockAffinity, IPAMBlock, IPAMConfig, IPAMHandle, Record
from calico.model.keys import Key
from calico.model.node import Node, NodeSpec
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.reservation import IPReservation, IPReservationSpec
from calico.model.resource import Metadata, Resource
from support.builders import endpoint

GUID = "0123456789abcdef0123456789abcdef"
SEQUENCE = 1000


def attribute(handle: str | None, *, released_at: str | None = None, **values: str) -> AllocationAttribute:
    """What is noted with an address; ``values`` as in ``pod="web", namespace="shop"``."""
    return AllocationAttribute(handle_id=handle, secondary=values or None, released_at=released_at)


def block(
    cidr: str,
    affinity: str | None = "host:a",
    given: Mapping[int, AllocationAttribute] | None = None,
    **fields: object,
) -> IPAMBlock:
    """A block that agrees with itself and gave the ordinals of ``given``; ``fields`` replace what they name."""
    prefix = parse_cidr(cidr)
    given = given or {}
    size = 1 << (WIDTH[prefix.family] - prefix.length)
    attributes: list[AllocationAttribute] = []
    for each in given.values():
        if each not in attributes:
            attributes.append(each)
    made = IPAMBlock(
        cidr=cidr,
        affinity=affinity,
        allocations=[
            attributes.index(given[ordinal]) if ordinal in given else None for ordinal in range(size)
        ],
        unallocated=[ordinal for ordinal in range(size) if ordinal not in given],
        attributes=attributes,
        sequence_number=SEQUENCE,
        sequence_number_for_allocation={str(ordinal): SEQUENCE + ordinal for ordinal in given},
    )
    return msgspec.structs.replace(made, **fields)


class Content:
    """What a store holds, path by path."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add(self, *values: Resource | tuple[Key, Record | bytes]) -> Content:
        """Put resources, records or bytes where they belong; each gets the next revision."""
        for value in values:
            if isinstance(value, Resource):
                namespace = value.metadata.namespace or "" if value.NAMESPACED else ""
                key, raw = Key(value.kind, value.metadata.name, namespace), codec.encode(value)
            else:
                key, found = value
                raw = found if isinstance(found, bytes) else codec.encode(found)
            self.entries[key.path] = Entry(key.path, raw, len(self.entries) + 1)
        return self

    def block(self, made: IPAMBlock, *, claim: bool = True, handles: bool = True) -> Content:
        """A block, and, unless told otherwise, the claim to it and the records of its handles."""
        self.add((Key("IPAMBlock", made.cidr), made))
        if claim and made.affinity:
            self.add((Key("BlockAffinity", made.cidr, made.affinity), BlockAffinity(state="confirmed")))
        counts: dict[str, int] = {}
        for index in made.allocations:
            if index is not None and index < len(made.attributes):
                handle = made.attributes[index].handle_id
                if handle:
                    counts[handle] = counts.get(handle, 0) + 1
        for handle, count in counts.items() if handles else ():
            self.handle(handle, {made.cidr: count})
        return self

    def handle(self, name: str, counts: Mapping[str, int]) -> Content:
        """The record of a handle."""
        return self.add((Key("IPAMHandle", name), IPAMHandle(block=dict(counts))))

    def pool(self, name: str, cidr: str, **spec: object) -> Content:
        """A pool."""
        return self.add(IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, **spec)))

    def node(self, name: str, **spec: object) -> Content:
        """A node."""
        return self.add(Node(metadata=Metadata(name=name), spec=NodeSpec(**spec)))

    def workload(self, name: str, node: str, *addresses: str, **spec: object) -> Content:
        """An endpoint in namespace ``shop`` that uses ``addresses``."""
        nets = [f"{each}/{128 if ':' in each else 32}" for each in addresses]
        return self.add(endpoint(name, node, namespace="shop", address=nets, pod=name, **spec))

    def reservation(self, name: str, cidrs: Iterable[str]) -> Content:
        """Addresses that are kept free."""
        return self.add(
            IPReservation(metadata=Metadata(name=name), spec=IPReservationSpec(reserved_cidrs=list(cidrs)))
        )

    def configuration(self, **fields: object) -> Content:
        """The settings of IPAM."""
        return self.add(
            (Key("IPAMConfiguration", "default"), IPAMConfig(auto_allocate_blocks=True, **fields))
        )

    def cluster(self, *, locked: bool = True, guid: str = GUID) -> Content:
        """Which cluster it is, and the lock."""
        spec = ClusterInformationSpec(cluster_guid=guid, datastore_ready=not locked)
        return self.add(ClusterInformation(metadata=Metadata(name="default"), spec=spec))

    def picture(self) -> Picture:
        """What is known of all this."""
        return picture(len(self.entries), self.entries.values())


def sound() -> Content:
    """A cluster without any problem: nodes a and b, pool ``all``, one workload with one address."""
    return (
        Content()
        .node("a")
        .node("b")
        .pool("all", "10.65.0.0/16")
        .block(
            block("10.65.0.0/30", given={0: attribute("h.web", pod="web", namespace="shop", node="a")}),
        )
        .workload("web", "a", "10.65.0.0")
    )


async def fill(store: Store, content: Content) -> None:
    """Put everything into ``store``, over what is there."""
    for entry in content.entries.values():
        await store.put(entry.path, entry.value, revision=None)
