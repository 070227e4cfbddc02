"""Requests for addresses in a store of few resources, and what the records say afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from calico.datastore.api import Listing, Store
from calico.datastore.memory import MemoryStore
from calico.ipam import block as blocks
from calico.ipam.client import Client, Request
from calico.model import codec
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import BlockAffinity, IPAMBlock, IPAMHandle
from calico.model.keys import key_of, parse_path
from calico.model.resource import Resource
from support.speakers import pool

T = TypeVar("T")

SMALL = pool("small", "10.65.0.0/28", block_size=30)
POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))


def run(body: Coroutine[Any, Any, T]) -> T:
    """What ``body`` returns."""
    return asyncio.run(body)


async def world(*resources: Resource) -> MemoryStore:
    """A store that holds ``resources``."""
    store = MemoryStore()
    for resource in resources:
        await store.create(key_of(resource).path, codec.encode(resource))
    return store


async def auto_assign(
    client: Client, ipv4: int, ipv6: int, handle: str, attributes: dict[str, str], **terms: Any
) -> list[Cidr]:
    """The addresses that a request gets, perhaps fewer than it wants."""
    request = Request(handle=handle, ipv4=ipv4, ipv6=ipv6, attributes=attributes, **terms)
    return list((await client.assign(request)).addresses)


class Picture:
    """All of address management's records."""

    def __init__(self, listing: Listing) -> None:
        self.blocks: dict[Cidr, IPAMBlock] = {}
        self.affinities: dict[tuple[Cidr, str], str] = {}
        self.handles: dict[str, dict[str, int]] = {}
        for entry in listing.entries:
            key = parse_path(entry.path)
            assert key is not None
            if key.kind == "IPAMBlock":
                self.blocks[parse_cidr(key.name)] = msgspec.json.decode(entry.value, type=IPAMBlock)
            elif key.kind == "BlockAffinity":
                state = msgspec.json.decode(entry.value, type=BlockAffinity).state
                self.affinities[parse_cidr(key.name), key.namespace] = state
            elif key.kind == "IPAMHandle":
                self.handles[key.name] = msgspec.json.decode(entry.value, type=IPAMHandle).block

    def counts(self) -> dict[str, dict[str, int]]:
        """What the blocks say of the handles."""
        found: dict[str, dict[str, int]] = {}
        for cidr, block in self.blocks.items():
            for handle in {attribute.handle_id for attribute in block.attributes}:
                assert handle is not None
                found.setdefault(handle, {})[str(cidr)] = len(blocks.held(block, handle))
        return found

    def assigned(self) -> list[Cidr]:
        """Every allocated address."""
        return [
            blocks.address_at(cidr, ordinal)
            for cidr, block in self.blocks.items()
            for ordinal, index in enumerate(block.allocations)
            if index is not None
        ]


async def picture(store: Store) -> Picture:
    """The records as they are now."""
    return Picture(await store.list("/calico/ipam/"))
