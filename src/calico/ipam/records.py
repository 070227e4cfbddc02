"""Address management's records in a store: read, and written over exactly what was read.

In:   any store; blocks, affinities and handles as values.
Out:  ``Stored``: a value with the revision and the bytes that it stands in; a write fails with Conflict if others wrote.
Next: ``ipam.claims``, ``ipam.assigning``, ``ipam.releasing`` and ``ipam.collector`` build on it.

Fields that only another writer knows stay where they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import field, structs

from calico.datastore.api import Conflict, Entry, Store
from calico.ipam.errors import BadRecord, Contended
from calico.model import codec
from calico.model.address import Cidr, Family, parse_cidr
from calico.model.errors import ModelError
from calico.model.ipam import AllocationAttribute, BlockAffinity, IPAMBlock, IPAMHandle, Record
from calico.model.keys import IPAM, Key, parse_path
from calico.model.unknown import carried_bytes

ATTEMPTS: Final = 100
"""How often a record is read and written anew when others change it in between."""

FAMILIES: Final[tuple[Family, Family]] = (4, 6)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Stored(Generic[R]):
    """A record as it stands in the store."""

    value: R
    path: str
    revision: int
    raw: bytes


class Records:
    """The records in ``store``. All methods raise the store's errors, and BadRecord for what cannot be read."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Blocks

    async def block(self, cidr: Cidr) -> Stored[IPAMBlock] | None:
        """The block ``cidr``, or None."""
        entry = await self.store.get(Key("IPAMBlock", str(cidr)).path)
        return None if entry is None else stored(entry, IPAMBlock)

    async def blocks(self, family: Family) -> dict[Cidr, Entry]:
        """All blocks of a family, not decoded yet; what stands elsewhere among them is no block."""
        listing = await self.store.list(f"{IPAM}assignment/ipv{family}/block/")
        keys = ((parse_path(entry.path), entry) for entry in listing.entries)
        return {parse_cidr(key.name): entry for key, entry in keys if key is not None}

    # Affinities

    async def affinity(self, key: Key) -> Stored[BlockAffinity] | None:
        """The claim ``key``, or None."""
        entry = await self.store.get(key.path)
        return None if entry is None else stored(entry, BlockAffinity)

    async def affinities(self, owner: str, family: Family | None = None) -> dict[Cidr, Stored[BlockAffinity]]:
        """The claims of ``owner`` ("host:<node>"), of both families if none is said."""
        found = {}
        prefix = f"{IPAM}{owner.replace(':', '/', 1)}/"
        for entry in (await self.store.list(f"{prefix}ipv{family}/" if family else prefix)).entries:
            key = parse_path(entry.path)
            if key is not None:
                found[parse_cidr(key.name)] = stored(entry, BlockAffinity)
        return found

    # Writing

    async def create(self, path: str, value: R) -> Stored[R]:
        """Write a record where none is."""
        raw = codec.encode(value)
        return Stored(value, path, await self.store.create(path, raw), raw)

    async def put(self, before: Stored[R], value: R) -> Stored[R]:
        """Write ``value`` over ``before``."""
        raw = codec.encode(value)
        if not _is_known(before.raw):
            raw = carried_bytes(before.raw, raw, type(value))
        return Stored(
            value, before.path, await self.store.put(before.path, raw, revision=before.revision), raw
        )

    async def delete(self, before: Stored[R]) -> None:
        """Remove ``before``."""
        await self.store.delete(before.path, revision=before.revision)

    # Handles

    async def handle(self, name: str) -> Stored[IPAMHandle] | None:
        """The handle ``name``, or None."""
        entry = await self.store.get(Key("IPAMHandle", name).path)
        return None if entry is None else stored(entry, IPAMHandle)

    async def count(self, handle: str, changes: Mapping[Cidr, int], *, new: bool = False) -> None:
        """Change what ``handle`` counts in some blocks, all in one write; a handle that counts nothing goes.

        A count never falls below none. ``new`` saves a reading where there is probably no such handle yet.
        """
        wanted = {str(cidr): change for cidr, change in changes.items() if change}
        path = Key("IPAMHandle", handle).path
        if not wanted:
            return
        for _ in range(ATTEMPTS):
            try:
                before = None if new else await self.handle(handle)
                counts = _counted({} if before is None else before.value.block, wanted)
                if before is None:
                    if counts:
                        await self.create(path, IPAMHandle(block=counts))
                elif counts:
                    await self.put(before, structs.replace(before.value, block=counts))
                else:
                    await self.delete(before)
            except Conflict:
                new = False
                continue
            return
        raise Contended(path)


def stored(entry: Entry, kind: type[R]) -> Stored[R]:
    """The record in ``entry``; an empty value is an old, confirmed affinity. BadRecord if it is none."""
    key = parse_path(entry.path)
    try:
        found = None if key is None else codec.decode(key, entry.value or b"{}", 0)
    except ModelError as error:
        raise BadRecord(entry.path, str(error)) from error
    if not isinstance(found, kind):
        raise BadRecord(entry.path, f"this is no place for a {kind.__name__}")
    return Stored(found, entry.path, entry.revision, entry.value)


class _KnownAttribute(AllocationAttribute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes without fields that only another writer knows."""


class _KnownBlock(IPAMBlock, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block without fields that only another writer knows."""

    attributes: list[_KnownAttribute] = field(default_factory=list)  # type: ignore[assignment]  # is only read


_known_blocks: Final = msgspec.json.Decoder(_KnownBlock)


def _is_known(raw: bytes) -> bool:
    """Whether ``raw`` is certainly a block that we know all of; much quicker than to carry nothing over."""
    try:
        _known_blocks.decode(raw)
    except msgspec.MsgspecError:
        return False
    return True


def _counted(counts: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
    changed = {cidr: counts.get(cidr, 0) + changes.get(cidr, 0) for cidr in {**counts, **changes}}
    return {cidr: count for cidr, count in changed.items() if count > 0}
