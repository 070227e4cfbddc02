"""Do what the collector found due, over exactly what was judged.

In:   deeds of ``ipam.reclaim``; the store.
Out:  the store without what was left behind; what was done, in words.
Next: ``ipam.collector`` tells of it.

What was written since it was judged is left alone: it is judged again, from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import structs

from calico.datastore.api import Store
from calico.ipam import block as blocks
from calico.ipam.block import Release
from calico.ipam.claims import release_claim, settle_claim
from calico.ipam.errors import BadRecord
from calico.ipam.facts import read_settings
from calico.ipam.giving import thawed
from calico.ipam.reclaim import Drop, Due, Free, GiveUp, Recount, Repair, Settle, Thaw
from calico.ipam.records import R, Records, Stored
from calico.ipam.releasing import release
from calico.model.ipam import IPAMBlock, IPAMHandle
from calico.model.keys import Key

Clock: TypeAlias = Callable[[], int]
"""Nanoseconds since 1970."""


async def free(store: Store, due: Sequence[Due], *, clock: Clock) -> list[tuple[str, str]]:
    """Release the addresses of some handles together, of one that was written meanwhile none; what, and why."""
    records = Records(store)
    reasons: dict[str, str] = {}
    wanted: list[Release] = []
    for deed, reason in due:
        if isinstance(deed, Free) and await _stands(records, deed.handle, deed.revision):
            wanted += deed.releases
            reasons |= {each.address.address: f"{reason}; handle {deed.handle}" for each in deed.releases}
    released = await release(store, wanted, clock=clock)
    return [(f"address {each.address}", reasons[each.address]) for each in released.freed]


async def do(store: Store, deed: Repair, *, clock: Clock) -> str:
    """Do one of the other deeds; what was done, in words, empty if it is no longer called for.

    Conflict if somebody else writes at the same moment.
    """
    records = Records(store)
    match deed:
        case Thaw():
            return await _thaw(records, deed, clock)
        case Settle(claim=claim):
            if _revision(await records.affinity(claim)) != deed.revision:
                return ""
            kept = await settle_claim(store, claim)
            return f"claim of {claim.namespace} to {claim.name}, {'confirmed' if kept else 'deleted'}"
        case GiveUp(claim=claim):
            if await store.get(Key("Node", claim.namespace.removeprefix("host:")).path) is not None:
                return ""
            await release_claim(store, claim, only_empty=False)
            return f"block {claim.name} of {claim.namespace}"
        case Drop():
            return await _drop(records, deed)
        case Recount():
            return await _recount(records, deed)


async def _thaw(records: Records, deed: Thaw, clock: Clock) -> str:
    block = await records.block(deed.block)
    if block is None:
        return ""
    changed = thawed(block.value, await read_settings(records.store), clock())
    if changed == block.value:
        return ""
    await records.put(block, changed)
    return f"block {deed.block}"


async def _drop(records: Records, deed: Drop) -> str:
    if deed.owner:
        claim = Key("BlockAffinity", str(deed.block), deed.owner)
        number = deed.sequence_number
        gone = await release_claim(records.store, claim, only_empty=True, sequence_number=number)
        return f"block {deed.block} of {deed.owner}" if gone else ""
    block = await records.block(deed.block)
    if block is None or block.value.affinity or block.value.sequence_number != deed.sequence_number:
        return ""
    if not blocks.is_empty(block.value):  # some writer does not count its writes
        return ""
    await records.delete(block)
    return f"block {deed.block}"


async def _recount(records: Records, deed: Recount) -> str:
    """Write what a handle counts.

    Where it counts too much an assignment might yet be about to write the block, however long it has been. So the
    block is written first, for that assignment to look again; and looked at once more afterwards.
    """
    handle = await records.handle(deed.handle)
    if _revision(handle) != deed.revision:
        return ""
    counts = dict(deed.counts)
    for cidr in {*counts, *deed.excessive}:
        block = await records.block(cidr)
        if _held(block, deed.handle) != counts.get(cidr, 0):
            return ""
        if block is not None and cidr in deed.excessive:
            await records.put(block, blocks.touched(block.value))
    said = {str(cidr): count for cidr, count in deed.counts}
    if handle is None:
        await records.create(Key("IPAMHandle", deed.handle).path, IPAMHandle(block=said))
    elif said:
        await records.put(handle, structs.replace(handle.value, block=said))
    else:
        await records.delete(handle)
    given = {
        cidr: _held(await records.block(cidr), deed.handle) - counts.get(cidr, 0) for cidr in deed.excessive
    }
    await records.count(deed.handle, {cidr: count for cidr, count in given.items() if count > 0})
    return f"handle {deed.handle}, {'counted anew' if said else 'deleted'}"


async def _stands(records: Records, handle: str, revision: int | None) -> bool:
    try:
        return _revision(await records.handle(handle)) == revision
    except BadRecord:
        return False


def _revision(record: Stored[R] | None) -> int | None:
    return None if record is None else record.revision


def _held(block: Stored[IPAMBlock] | None, handle: str) -> int:
    return 0 if block is None else len(blocks.held(block.value, handle))
