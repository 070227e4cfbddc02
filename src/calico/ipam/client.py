"""Assign and release addresses in the store, beside any number of others who do the same.

In:   how many addresses are wanted, and for whom (the handle).
Out:  the addresses; in the store: affinities, blocks and handles, as Calico's own tools write them.
Next: an orchestrator writes them into a WorkloadEndpoint; ``bgp`` announces the blocks.

There are no transactions over several records, only "write if nobody else did". So the order of
writes carries the safety, and an interruption anywhere leaves something that the next call can
go on with: an affinity is *pending* until its block is written; a handle counts an address before
the block gives it away, so that nothing is ever owned by a handle that does not know of it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

from msgspec import structs

from calico.datastore.api import Conflict, Denied, Entry, Store, Unavailable
from calico.ipam import block as blocks
from calico.ipam import plan
from calico.model import codec
from calico.model.address import Cidr, Family, parse_cidr
from calico.model.errors import ModelError
from calico.model.ipam import BlockAffinity, IPAMBlock, IPAMHandle, Record
from calico.model.keys import IPAM, Key, kind_prefix, parse_path
from calico.model.node import Node
from calico.model.pool import IPPool
from calico.model.resource import Resource
from calico.model.unknown import carried_bytes

ATTEMPTS: Final = 100
"""How often a record is read and written anew when others change it in between."""

BLOCKS_PER_HOST: Final = 20
"""A host claims no more blocks than that."""

_log = logging.getLogger(__name__)

_R = TypeVar("_R", bound=Record)
_K = TypeVar("_K", bound=Resource)


class IPAMError(Exception):
    """The base of what address management raises, besides the store's own errors."""


class Contended(IPAMError):
    """Others changed a record each of ``ATTEMPTS`` times in between; try again later."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path} was changed by others {ATTEMPTS} times while it was to be written; try again"
        )


class BadRecord(IPAMError):
    """What the store holds at ``path`` is no record of address management; nothing was changed."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} holds no valid record: {reason}; repair or delete it")


class _Stored(NamedTuple):
    """A block, its revision in the store, and its very bytes there."""

    value: IPAMBlock
    revision: int
    raw: bytes


class Client:
    """Address management for one host. Any number of clients, also of the same host, may work at once.

    ``clock`` gives the time in nanoseconds since 1970. All methods raise the store's ``Unavailable`` when it is
    lost; what had been done by then belongs to the handle, so ``release_by_handle`` clears it up.
    """

    def __init__(self, store: Store, node: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._node = node
        self._owner = f"host:{node}"
        self._clock = clock

    async def auto_assign(
        self, ipv4: int, ipv6: int, handle: str, attributes: Mapping[str, str]
    ) -> list[Cidr]:
        """Up to ``ipv4`` and ``ipv6`` free addresses of this host's pools, now owned by ``handle``.

        Own blocks come first, then new ones. Fewer come back when the pools are full or the host has
        ``BLOCKS_PER_HOST`` blocks; why is logged, and whether that will do is the caller's decision.
        """
        taken: list[Cidr] = []
        families: tuple[tuple[Family, int], ...] = ((4, ipv4), (6, ipv6))
        for family, count in families:
            if count > 0:
                taken += await self._assign(family, count, handle, attributes)
        return taken

    async def release_by_handle(self, handle: str) -> list[Cidr]:
        """Free every address of ``handle``, and forget it; what was freed. An unknown handle has none.

        Not to be called while addresses are being assigned to the same handle.
        """
        path = Key("IPAMHandle", handle).path
        freed: list[Cidr] = []
        entry = await self._store.get(path)
        if entry is None:
            return freed
        for name in sorted(_decode(path, entry.value, IPAMHandle).block):
            freed += await self._release(parse_cidr(name), handle)
            await self._count(handle, name, None)
        return freed

    async def release(self, addresses: Iterable[Cidr]) -> list[Cidr]:
        """Free those of ``addresses`` that this host has, whoever owns them there; what was freed.

        An address belongs to the host that the owner's attributes name (``node``); if they name none, to any.
        """
        freed: list[Cidr] = []
        for family in (4, 6):
            wanted = [address for address in addresses if address.family == family]
            if not wanted:
                continue
            anywhere = Key("IPAMBlock", str(wanted[0])).path.rpartition("/")[0]
            for entry in (await self._store.list(f"{anywhere}/")).entries:
                key = parse_path(entry.path)
                cidr = None if key is None else parse_cidr(key.name)
                inside = [address for address in wanted if cidr is not None and cidr.contains(address)]
                if cidr is not None and inside:
                    freed += await self._release_in(cidr, inside)
        return freed

    # Assigning

    async def _assign(
        self, family: Family, count: int, handle: str, attributes: Mapping[str, str]
    ) -> list[Cidr]:
        pools = await self._pools(family)
        own = await self._own_blocks(family)
        taken: list[Cidr] = []
        if not pools:
            _log.warning(
                "no pool of IPv%d may be used by node %s: no address for %s", family, self._node, handle
            )
            return taken
        for cidr in plan.own_blocks(pools, own):
            taken += await self._take(cidr, count - len(taken), handle, attributes)
            if len(taken) == count:
                return taken
        while len(taken) < count and (claimed := await self._claim(family, pools)) is not None:
            taken += await self._take(claimed, count - len(taken), handle, attributes)
        return taken

    async def _take(
        self, cidr: Cidr, count: int, handle: str, attributes: Mapping[str, str]
    ) -> tuple[Cidr, ...]:
        """Up to ``count`` addresses of the block ``cidr``; none if it is full, gone, or no longer ours."""
        path = Key("IPAMBlock", str(cidr)).path
        for _ in range(ATTEMPTS):
            stored = await self._block(cidr)
            if stored is None or stored.value.affinity != self._owner:
                return ()
            changed, addresses = blocks.assign(stored.value, handle, attributes, count)
            if not addresses:
                return ()
            await self._count(handle, str(cidr), len(addresses))
            try:
                await self._store.put(path, _over(stored.raw, changed), revision=stored.revision)
            except Conflict:
                pass
            except Denied:  # nothing was written, and will not be
                await self._count(handle, str(cidr), -len(addresses))
                raise
            except Unavailable:
                # It may have been written. What tells is the sequence number noted with each address.
                now = await self._block(cidr)
                if now is not None and _gave(now.value, handle, addresses, stored.value.sequence_number):
                    return addresses
            else:
                return addresses
            await self._count(handle, str(cidr), -len(addresses))
        raise Contended(path)

    # Claiming blocks

    async def _own_blocks(self, family: Family) -> list[Cidr]:
        """The blocks of this host, after claims that were cut off have been brought to an end."""
        own = []
        for entry in (await self._store.list(f"{IPAM}host/{self._node}/ipv{family}/block/")).entries:
            key = parse_path(entry.path)
            if key is None:
                continue
            affinity = _decode(entry.path, entry.value, BlockAffinity)
            cidr = parse_cidr(key.name)
            if affinity.state in {"confirmed", ""} or (
                affinity.state == "pending" and await self._claim_block(cidr)
            ):
                own.append(cidr)
        return own

    async def _claim(self, family: Family, pools: tuple[plan.Pool, ...]) -> Cidr | None:
        """A new block for this host; None when there is none to be had."""
        own = await self._store.list(f"{IPAM}host/{self._node}/ipv{family}/block/")
        if len(own.entries) >= BLOCKS_PER_HOST:
            _log.warning(
                "node %s has %d blocks of IPv%d and may have no more", self._node, len(own.entries), family
            )
            return None
        prefix = f"{IPAM}assignment/ipv{family}/block/"
        keys = (parse_path(entry.path) for entry in (await self._store.list(prefix)).entries)
        existing = {parse_cidr(key.name) for key in keys if key is not None}
        for cidr in plan.new_blocks(pools, self._node, existing):
            if await self._claim_block(cidr):
                return cidr
        _log.warning(
            "no free block of IPv%d for node %s in %s",
            family,
            self._node,
            ", ".join(pool.name for pool in pools),
        )
        return None

    async def _claim_block(self, cidr: Cidr) -> bool:
        """Make the block ``cidr`` this host's, from whatever stage the claim is in; False if another has it.

        The claim is looked at before the block, and confirmed only if nobody has changed it since: whoever gives a
        block up changes the claim first.
        """
        affinity = Key("BlockAffinity", str(cidr), self._owner).path
        path = Key("IPAMBlock", str(cidr)).path
        for _ in range(ATTEMPTS):
            try:
                pending = await self._begin(affinity)
                stored = await self._block(cidr)
                if stored is None:
                    await self._store.create(path, codec.encode(self._new_block(cidr)))
                elif stored.value.affinity != self._owner:
                    await self._abandon(affinity)
                    return False
                elif pending is not None:
                    # Somebody may be about to delete the block as it was when the claim was given up.
                    kept = structs.replace(stored.value, sequence_number=stored.value.sequence_number + 1)
                    await self._store.put(path, _over(stored.raw, kept), revision=stored.revision)
                if pending is not None:
                    confirmed = _over(pending.value, BlockAffinity(state="confirmed"))
                    await self._store.put(affinity, confirmed, revision=pending.revision)
            except Conflict:
                continue  # somebody was faster: look who
            return True
        raise Contended(affinity)

    async def _begin(self, affinity: str) -> Entry | None:
        """The claim, pending from now on; None if it is confirmed. Conflict: look again."""
        entry = await self._store.get(affinity)
        value = codec.encode(BlockAffinity(state="pending"))
        if entry is None:
            return Entry(affinity, value, await self._store.create(affinity, value))
        state = _decode(affinity, entry.value, BlockAffinity).state
        if state == "pendingDeletion":
            value = _over(entry.value, BlockAffinity(state="pending"))
            return Entry(affinity, value, await self._store.put(affinity, value, revision=entry.revision))
        return entry if state == "pending" else None

    def _new_block(self, cidr: Cidr) -> IPAMBlock:
        now = self._clock()
        moment = datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return blocks.create(cidr, self._owner, sequence_number=now, claimed_at=moment)

    async def _abandon(self, affinity: str) -> None:
        """Take a pending affinity back."""
        entry = await self._store.get(affinity)
        if entry is not None and _decode(affinity, entry.value, BlockAffinity).state == "pending":
            try:
                await self._store.delete(affinity, revision=entry.revision)
            except Conflict:
                _log.debug("%s was changed by another client of this host", affinity)

    # Releasing

    async def _release(self, cidr: Cidr, handle: str) -> tuple[Cidr, ...]:
        """Free what ``handle`` has in one block; a block without owner and addresses goes."""
        path = Key("IPAMBlock", str(cidr)).path
        for _ in range(ATTEMPTS):
            stored = await self._block(cidr)
            if stored is None:
                return ()
            changed, freed = blocks.release(stored.value, blocks.held(stored.value, handle))
            if not freed:
                return ()
            try:
                await self._put_block(path, changed, stored)
            except Conflict:
                continue
            return freed
        raise Contended(path)

    async def _release_in(self, cidr: Cidr, addresses: list[Cidr]) -> tuple[Cidr, ...]:
        """Free those of ``addresses``, all of one block, that this host has."""
        path = Key("IPAMBlock", str(cidr)).path
        for _ in range(ATTEMPTS):
            stored = await self._block(cidr)
            if stored is None:
                return ()
            owners = {address: blocks.owner(stored.value, address) for address in addresses}
            own = [
                address
                for address, owner in owners.items()
                if owner is not None and (owner.secondary or {}).get("node") in {None, self._node}
            ]
            changed, freed = blocks.release(stored.value, own)
            if not freed:
                return ()
            try:
                await self._put_block(path, changed, stored)
            except Conflict:
                continue
            handles = Counter(owner.handle_id for address in freed if (owner := owners[address]))
            for handle, count in handles.items():
                if handle is not None:
                    await self._count(handle, str(cidr), -count)
            return freed
        raise Contended(path)

    async def _put_block(self, path: str, block: IPAMBlock, before: _Stored) -> None:
        """Write a block after a release; one without owner and addresses goes."""
        if blocks.is_empty(block) and not block.affinity:
            await self._store.delete(path, revision=before.revision)
        else:
            await self._store.put(path, _over(before.raw, block), revision=before.revision)

    # Records

    async def _count(self, handle: str, cidr: str, change: int | None) -> None:
        """Add ``change`` to what ``handle`` counts in a block, or forget the block (None); a handle of none goes."""
        path = Key("IPAMHandle", handle).path
        for _ in range(ATTEMPTS):
            entry = await self._store.get(path)
            record = IPAMHandle() if entry is None else _decode(path, entry.value, IPAMHandle)
            count = 0 if change is None else record.block.get(cidr, 0) + change
            counts = {**record.block, cidr: count}
            if count <= 0:
                del counts[cidr]
            try:
                if entry is None:
                    if counts:
                        await self._store.create(path, codec.encode(structs.replace(record, block=counts)))
                elif counts:
                    await self._store.put(
                        path,
                        _over(entry.value, structs.replace(record, block=counts)),
                        revision=entry.revision,
                    )
                else:
                    await self._store.delete(path, revision=entry.revision)
            except Conflict:
                continue
            return
        raise Contended(path)

    async def _block(self, cidr: Cidr) -> _Stored | None:
        path = Key("IPAMBlock", str(cidr)).path
        entry = await self._store.get(path)
        return (
            None
            if entry is None
            else _Stored(_decode(path, entry.value, IPAMBlock), entry.revision, entry.value)
        )

    async def _pools(self, family: Family) -> tuple[plan.Pool, ...]:
        listing = await self._store.list(kind_prefix("IPPool"))
        pools = (_resource(entry, IPPool) for entry in listing.entries)
        entry = await self._store.get(Key("Node", self._node).path)
        node = None if entry is None else _resource(entry, Node)
        return plan.usable_pools(
            {pool.metadata.name: pool for pool in pools if pool is not None},
            family,
            {} if node is None else node.metadata.labels,
        )


def _over(raw: bytes, record: Record) -> bytes:
    """``record`` as it is written over ``raw``, with what only the writer of that knew."""
    return carried_bytes(raw, codec.encode(record), type(record))


def _gave(block: IPAMBlock, handle: str, addresses: tuple[Cidr, ...], sequence_number: int) -> bool:
    """Whether ``block`` gave ``addresses`` to ``handle`` in the write that started from ``sequence_number``."""
    first = parse_cidr(block.cidr).value
    noted = block.sequence_number_for_allocation
    return set(addresses) <= set(blocks.held(block, handle)) and all(
        noted.get(str(address.value - first)) == sequence_number for address in addresses
    )


def _resource(entry: Entry, kind: type[_K]) -> _K | None:
    """The resource in ``entry``; None, and a line in the log, where it makes no sense."""
    key = parse_path(entry.path)
    try:
        found = None if key is None else codec.decode(key, entry.value, entry.revision)
    except ModelError as error:
        _log.warning("left out of account: %s", error)
        return None
    return found if isinstance(found, kind) else None


def _decode(path: str, value: bytes, kind: type[_R]) -> _R:
    """The record at ``path``; an empty value is an old, confirmed affinity."""
    key = parse_path(path)
    try:
        found = None if key is None else codec.decode(key, value or b"{}", 0)
    except ModelError as error:
        raise BadRecord(path, str(error)) from error
    if not isinstance(found, kind):
        raise BadRecord(path, f"this is no place for a {kind.__name__}")
    return found
