"""Give addresses back: by address, whoever has them, or all of a handle.

In:   addresses, with what must still hold of them; or a handle; any store.
Out:  free addresses, or ones that cool down; handles that count what is left.
Next: ``ipam.client`` answers who asked; ``ipam.collector`` and ``calicoctl ipam release`` name what was lost.

The block is written first, then the handles: a handle may count too much for a while, never too little. For that
reason a write of a block without an answer is not taken for done: it is repeated, or left to who asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from calico.datastore.api import Conflict, Denied, Store, Unavailable
from calico.ipam import block as blocks
from calico.ipam.block import Refused, Release
from calico.ipam.claims import when
from calico.ipam.errors import Contended
from calico.ipam.facts import read_pools, read_settings
from calico.ipam.giving import thawed
from calico.ipam.plan import DEFAULT_BLOCK_LENGTH, Pool, prefix
from calico.ipam.records import ATTEMPTS, FAMILIES, Records, Stored, stored
from calico.model.address import Cidr, parse_cidr
from calico.model.ipam import IPAMBlock, IPAMConfig
from calico.model.keys import Key
from calico.model.pool import IPPool


class Released(NamedTuple):
    """What became of addresses that were to be released."""

    freed: tuple[Cidr, ...]
    unallocated: tuple[Cidr, ...]
    """Those that nobody had."""
    refused: tuple[Refused, ...]


async def release(
    store: Store, wanted: Iterable[Release], *, clock: Callable[[], int], node: str | None = None
) -> Released:
    """Release ``wanted``, whoever has them, also where no pool is left; one that is named twice counts once.

    With ``node`` only what was given to that node, or to none that is noted; the rest is refused. Unavailable
    says nothing of what was released; to call again is safe.
    """
    records = Records(store)
    settings = await read_settings(store)
    found, nowhere = await _by_block(records, list(dict.fromkeys(wanted)))
    freed: list[Cidr] = []
    unallocated = [each.address for each in nowhere]
    refused: list[Refused] = []
    for held, here in found:
        released = await _release_in(records, settings, held, here, clock=clock, node=node)
        freed += released.freed
        unallocated += released.unallocated
        refused += released.refused
    return Released(tuple(freed), tuple(unallocated), tuple(refused))


async def release_by_handle(store: Store, handle: str, *, clock: Callable[[], int]) -> list[Cidr]:
    """Free every address of ``handle``, and forget it; what was freed. An unknown handle has none.

    Not to be called while addresses are being assigned to the same handle: it may miss them. After Unavailable
    call it again.
    """
    records = Records(store)
    known = await records.handle(handle)
    if known is None:
        return []
    settings = await read_settings(store)
    freed: list[Cidr] = []
    for name in sorted(known.value.block):
        freed += await _release_all(records, settings, parse_cidr(name), handle, clock)
    if known.value.block:
        await records.count(handle, {parse_cidr(name): -count for name, count in known.value.block.items()})
    else:
        with suppress(Conflict):  # it counts something by now
            await records.delete(known)
    return freed


async def _release_in(
    records: Records,
    settings: IPAMConfig,
    held: Stored[IPAMBlock] | None,
    wanted: list[Release],
    *,
    clock: Callable[[], int],
    node: str | None,
) -> Released:
    """Release addresses of one block, and let their handles count less."""
    path = "" if held is None else held.path
    for _ in range(ATTEMPTS):
        if held is None:
            return Released((), tuple(each.address for each in wanted), ())
        cidr = parse_cidr(held.value.cidr)
        yours, others = _of_node(held.value, wanted, node)
        outcome = _released(held.value, yours, settings, clock())
        refused = (*outcome.refused, *others)
        if not outcome.freed or await _write(records, held, outcome.block):
            owners = Counter(blocks.held_by(held.value, address) for address in outcome.freed)
            for handle, count in owners.items():
                if handle:
                    await records.count(handle, {cidr: -count})
            return Released(outcome.freed, outcome.unallocated, refused)
        held = await records.block(cidr)
    raise Contended(path)


async def _release_all(
    records: Records, settings: IPAMConfig, cidr: Cidr, handle: str, clock: Callable[[], int]
) -> tuple[Cidr, ...]:
    """Free what ``handle`` has in one block."""
    for _ in range(ATTEMPTS):
        held = await records.block(cidr)
        if held is None:
            return ()
        wanted = [Release(address, handle) for address in blocks.held(held.value, handle)]
        outcome = _released(held.value, wanted, settings, clock())
        if not outcome.freed or await _write(records, held, outcome.block):
            return outcome.freed
    raise Contended(Key("IPAMBlock", str(cidr)).path)


def _released(block: IPAMBlock, wanted: Iterable[Release], settings: IPAMConfig, now: int) -> blocks.Outcome:
    """The block after a release, and after what has cooled down by now is free."""
    released_at = when(now) if settings.ip_cooldown_seconds else None
    return blocks.release(thawed(block, settings, now), wanted, released_at=released_at)


def _of_node(
    block: IPAMBlock, wanted: Iterable[Release], node: str | None
) -> tuple[list[Release], list[Refused]]:
    """What of ``wanted`` was given to ``node``, or to no node that is noted; and the rest, with the reason."""
    yours: list[Release] = []
    others: list[Refused] = []
    for each in wanted:
        taken = blocks.owner(block, each.address)
        given_to = (taken.secondary or {}).get("node") if taken is not None else None
        if node is None or given_to in {None, node}:
            yours.append(each)
        else:
            others.append(Refused(each.address, f"it was given to node {given_to}, not to {node}"))
    return yours, others


async def _write(records: Records, before: Stored[IPAMBlock], block: IPAMBlock) -> bool:
    """Write a block after a release, or let it go if it has neither owner nor addresses; False: read it again."""
    try:
        if blocks.is_empty(block) and not block.affinity:
            await records.delete(before)
        else:
            await records.put(before, block)
    except Conflict:
        return False
    except Denied:
        raise
    except Unavailable:
        now = await records.block(parse_cidr(block.cidr))
        if now is None or now.revision != before.revision:
            raise  # by us, or by another who released the same: the handles must not be told twice
        return False
    return True


async def _by_block(
    records: Records, wanted: list[Release]
) -> tuple[list[tuple[Stored[IPAMBlock], list[Release]]], list[Release]]:
    """The blocks that hold ``wanted``, each with its part; and what is in no block.

    Pools tell where most blocks are, without a look at all of them.
    """
    pools = [pool for pool in map(_pool, (await read_pools(records.store)).values()) if pool is not None]
    guesses: dict[Cidr, list[Release]] = {}
    rest: list[Release] = []
    for each in wanted:
        pool = next((pool for pool in pools if pool.cidr.contains(each.address)), None)
        if pool is None or not each.address.is_address:
            rest.append(each)
        else:
            guesses.setdefault(pool.block_of(each.address), []).append(each)
    found: list[tuple[Stored[IPAMBlock], list[Release]]] = []
    for cidr, here in guesses.items():
        held = await records.block(cidr)
        if held is None:
            rest += here
        else:
            found.append((held, here))
    for family in FAMILIES:
        mine = [each for each in rest if each.address.family == family and each.address.is_address]
        if not mine:
            continue
        for cidr, entry in (await records.blocks(family)).items():
            here = [each for each in mine if cidr.contains(each.address)]
            if here:
                found.append((stored(entry, IPAMBlock), here))
                rest = [each for each in rest if each not in here]
    return found, rest


def _pool(pool: IPPool) -> Pool | None:
    cidr = prefix(pool)
    if cidr is None:
        return None
    return Pool(pool.metadata.name, cidr, pool.spec.block_size or DEFAULT_BLOCK_LENGTH[cidr.family])
