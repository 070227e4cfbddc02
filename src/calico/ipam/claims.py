"""Claims on blocks: how a host comes to have one, and how it loses it.

In:   whose a block is to be, or to be no longer.
Out:  in the store: an affinity that says so, and a block that says the same.
Next: ``ipam.assigning`` claims what it needs; ``ipam.cascade``, the collector, and hosts in need release.

Two records cannot be written at once, so the affinity goes first and last: it is *pending* until its block is
written, and *pendingDeletion* before its block is given up. Whoever changes a claim knows its revision from
before the block was looked at, so of two who are at it one has to begin again. *confirmed* means: there is a block,
and it is this owner's. Whatever is cut off can be gone on with by anybody from where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from calico.datastore.api import Conflict, Store
from calico.ipam import block as blocks
from calico.ipam.errors import BadRecord, Contended
from calico.ipam.records import ATTEMPTS, FAMILIES, Records, Stored, stored
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import BlockAffinity, IPAMBlock
from calico.model.keys import Key

PENDING: Final = BlockAffinity(state="pending")
CONFIRMED: Final = BlockAffinity(state="confirmed")
LEAVING: Final = BlockAffinity(state="pendingDeletion")

UNSETTLED: Final = (PENDING.state, LEAVING.state)
"""How a claim is that was cut off. One that is pending may have been leaving before: then somebody may still be about to
give up its block, and has to be kept from it before the claim is confirmed."""


def when(nanoseconds: int) -> str:
    """A time in nanoseconds since 1970 as records note it: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def claim_block(
    store: Store, owner: str, cidr: Cidr, *, clock: Callable[[], int]
) -> Stored[IPAMBlock] | None:
    """Make the block ``cidr`` that of ``owner``, from whatever stage the claim is in; None if another has it.

    ``owner`` is "host:<node>" or "virtual:<name>"; ``clock`` gives nanoseconds since 1970. Contended after
    ``ATTEMPTS``.
    """
    affinity = Key("BlockAffinity", str(cidr), owner)
    for _ in range(ATTEMPTS):
        with suppress(Conflict):  # somebody changed one of the two: look who
            return await _claim(Records(store), affinity, clock)
    raise Contended(affinity.path)


async def settle_claim(store: Store, affinity: Key) -> bool:
    """Bring a claim that was cut off to an end without making a block; whether there is a claim now.

    It is confirmed if it has a block, and, if it was being given up, only if that has addresses.
    """
    for _ in range(ATTEMPTS):
        with suppress(Conflict):
            return await _settle(Records(store), affinity)
    raise Contended(affinity.path)


async def release_claim(
    store: Store, affinity: Key, *, only_empty: bool, sequence_number: int | None = None
) -> bool:
    """Give up the claim ``affinity``, and with it its block if that is empty; whether there is no claim now.

    A block with addresses loses its owner and goes with the last of them; with ``only_empty`` it stays as it is.
    With ``sequence_number`` it also stays if it was written since it had that. A block whose owner has lost its
    claim is treated alike. Contended after ``ATTEMPTS``.
    """
    for _ in range(ATTEMPTS):
        with suppress(Conflict):
            return await _release(
                Records(store), affinity, only_empty=only_empty, sequence_number=sequence_number
            )
    raise Contended(affinity.path)


async def release_host(store: Store, node: str) -> None:
    """Give up all blocks of ``node``, also those that it has without a claim; those with addresses stay, nobody's."""
    records = Records(store)
    owner = f"host:{node}"
    for cidr in sorted({*await records.affinities(owner), *await _owned(records, owner)}):
        await release_claim(store, Key("BlockAffinity", str(cidr), owner), only_empty=False)


async def _claim(records: Records, affinity: Key, clock: Callable[[], int]) -> Stored[IPAMBlock] | None:
    owner, cidr = affinity.namespace, parse_cidr(affinity.name)
    claim = await records.affinity(affinity)
    cut_off = claim is not None and claim.value.state in UNSETTLED
    if claim is None:
        claim = await records.create(affinity.path, PENDING)
    elif claim.value.state == LEAVING.state:
        claim = await records.put(claim, PENDING)
    block = await records.block(cidr)
    if block is not None and block.value.affinity != owner:
        await records.delete(claim)
        return None
    if block is None:
        if claim.value.state != PENDING.state:  # the block went: nobody may believe in it meanwhile
            claim = await records.put(claim, PENDING)
        now = clock()
        fresh = blocks.create(cidr, owner, sequence_number=now, claimed_at=when(now))
        block = await records.create(Key("IPAMBlock", str(cidr)).path, fresh)
    elif cut_off:  # whoever was about to delete or disown it has to look again
        block = await records.put(block, blocks.touched(block.value))
    if claim.value.state == PENDING.state:
        await records.put(claim, CONFIRMED)
    return block


async def _settle(records: Records, affinity: Key) -> bool:
    claim = await records.affinity(affinity)
    if claim is None:
        return False
    if claim.value.state == LEAVING.state:
        return not await _release(records, affinity, only_empty=True)
    block = await records.block(parse_cidr(affinity.name))
    if block is None or block.value.affinity != affinity.namespace:
        await records.delete(claim)
        return False
    await _keep(records, claim, block)
    return True


async def _keep(records: Records, claim: Stored[BlockAffinity], block: Stored[IPAMBlock]) -> None:
    """Confirm a claim on its own block, also if it was about to be given up."""
    if claim.value.state not in UNSETTLED:
        return
    if claim.value.state == LEAVING.state:
        claim = await records.put(claim, PENDING)
    await records.put(block, blocks.touched(block.value))
    await records.put(claim, CONFIRMED)


async def _release(
    records: Records, affinity: Key, *, only_empty: bool, sequence_number: int | None = None
) -> bool:
    claim = await records.affinity(affinity)
    block = await records.block(parse_cidr(affinity.name))
    if block is None or block.value.affinity != affinity.namespace:
        if claim is not None:
            await records.delete(claim)
        return True
    empty = blocks.is_empty(block.value)
    written = sequence_number not in {None, block.value.sequence_number}
    if written or (only_empty and not empty):
        if claim is not None and claim.value.state == LEAVING.state:  # we, or somebody, began too early
            await _keep(records, claim, block)
        return False
    if claim is None:  # whoever claims it now has to wait for us
        claim = await records.create(affinity.path, LEAVING)
    else:
        claim = await records.put(claim, LEAVING)
    if empty:
        await records.delete(block)
    else:
        await records.put(block, blocks.disowned(block.value))
    await records.delete(claim)
    return True


async def _owned(records: Records, owner: str) -> list[Cidr]:
    """The blocks that name ``owner``; what cannot be read names nobody."""
    word = owner.encode()
    found = []
    for family in FAMILIES:
        for cidr, entry in (await records.blocks(family)).items():
            with suppress(BadRecord):
                if word in entry.value and stored(entry, IPAMBlock).value.affinity == owner:
                    found.append(cidr)
    return found
