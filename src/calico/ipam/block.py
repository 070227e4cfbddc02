"""One block of addresses: who has which, and which is handed out next.

In:   a block as the store holds it, and what is asked of it.
Out:  the block as it should be written, and the addresses concerned.
Next: ``ipam.client`` writes it if nobody else has meanwhile.

An address is named by its ordinal, its distance from the block's first. Each ordinal is, exactly
once, either allocated (an index into ``attributes``) or queued in ``unallocated``. What was freed
longest ago is taken first, so a released address is used again as late as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from calico.model.address import WIDTH, Cidr, parse_cidr
from calico.model.ipam import AllocationAttribute, IPAMBlock


def create(
    cidr: Cidr, affinity: str | None, *, sequence_number: int, claimed_at: str | None = None
) -> IPAMBlock:
    """A block with all addresses free, also the first and the last: nothing is held back.

    ``affinity`` is "host:<node>". ``sequence_number`` must be larger than any that an earlier block of the same
    prefix had (Calico takes the time in nanoseconds). ``claimed_at`` is in RFC 3339.
    """
    size = 1 << (WIDTH[cidr.family] - cidr.length)
    return IPAMBlock(
        cidr=str(cidr),
        affinity=affinity,
        affinity_claim_time=claimed_at,
        allocations=[None] * size,
        unallocated=list(range(size)),
        sequence_number=sequence_number,
    )


def assign(
    block: IPAMBlock,
    handle: str,
    attributes: Mapping[str, str],
    count: int,
    *,
    reserved: Sequence[Cidr] = (),
) -> tuple[IPAMBlock, tuple[Cidr, ...]]:
    """Take up to ``count`` free addresses from ``block`` for ``handle``, and note ``attributes`` with them.

    First freed, first taken, skipping those in ``reserved``, which keep their place in the queue. Fewer come
    back when the block runs out; an empty tuple means it has none, which is no error. ``block`` itself is not
    changed: the new block is the first result, and is equal to the old one if nothing was taken.
    """
    cidr = parse_cidr(block.cidr)
    taken: list[int] = []
    left: list[int] = []
    for ordinal in block.unallocated:
        free = len(taken) < count and not _within(reserved, address_at(cidr, ordinal))
        (taken if free else left).append(ordinal)
    if not taken:
        return block, ()
    attribute = AllocationAttribute(handle_id=handle, secondary=dict(attributes) or None)
    known = block.attributes if attribute in block.attributes else [*block.attributes, attribute]
    index = known.index(attribute)
    allocations = list(block.allocations)
    for ordinal in taken:
        allocations[ordinal] = index
    changed = structs.replace(
        block,
        allocations=allocations,
        unallocated=left,
        attributes=known,
        sequence_number=block.sequence_number + 1,
        sequence_number_for_allocation={
            **block.sequence_number_for_allocation,
            **{str(ordinal): block.sequence_number for ordinal in taken},
        },
    )
    return changed, tuple(address_at(cidr, ordinal) for ordinal in taken)


def release(block: IPAMBlock, addresses: Iterable[Cidr]) -> tuple[IPAMBlock, tuple[Cidr, ...]]:
    """Free ``addresses``, in this order; those that are free already, or not of this block, are passed over.

    The second result is what was freed. The new block is equal to the old one if that is nothing.
    """
    cidr = parse_cidr(block.cidr)
    allocations = list(block.allocations)
    freed: list[int] = []
    for address in addresses:
        if cidr.contains(address) and address.is_address:
            ordinal = address.value - cidr.value
            if allocations[ordinal] is not None:
                allocations[ordinal] = None
                freed.append(ordinal)
    if not freed:
        return block, ()
    allocations, attributes = _compacted(allocations, block.attributes)
    sequence_numbers = dict(block.sequence_number_for_allocation)
    for ordinal in freed:
        sequence_numbers.pop(str(ordinal), None)
    changed = structs.replace(
        block,
        allocations=allocations,
        unallocated=[*block.unallocated, *freed],
        attributes=attributes,
        sequence_number=block.sequence_number + 1,
        sequence_number_for_allocation=sequence_numbers,
    )
    return changed, tuple(address_at(cidr, ordinal) for ordinal in freed)


def held(block: IPAMBlock, handle: str) -> tuple[Cidr, ...]:
    """The addresses of ``handle`` in ``block``, lowest first."""
    cidr = parse_cidr(block.cidr)
    own = {index for index, attribute in enumerate(block.attributes) if attribute.handle_id == handle}
    return tuple(address_at(cidr, ordinal) for ordinal, index in enumerate(block.allocations) if index in own)


def owner(block: IPAMBlock, address: Cidr) -> AllocationAttribute | None:
    """What is noted with an allocated ``address`` of ``block``; None if it is free, or not of this block."""
    cidr = parse_cidr(block.cidr)
    if not (cidr.contains(address) and address.is_address):
        return None
    index = block.allocations[address.value - cidr.value]
    return None if index is None else block.attributes[index]


def has_room(block: IPAMBlock) -> bool:
    """Whether some address is free (it may still be reserved)."""
    return bool(block.unallocated)


def is_empty(block: IPAMBlock) -> bool:
    """Whether no address is allocated."""
    return len(block.unallocated) == len(block.allocations)


def address_at(cidr: Cidr, ordinal: int) -> Cidr:
    """The address at ``ordinal`` of the block ``cidr``."""
    return Cidr(cidr.family, cidr.value + ordinal, WIDTH[cidr.family])


def _within(prefixes: Sequence[Cidr], address: Cidr) -> bool:
    return any(prefix.contains(address) for prefix in prefixes)


def _compacted(
    allocations: Sequence[int | None], attributes: Sequence[AllocationAttribute]
) -> tuple[list[int | None], list[AllocationAttribute]]:
    """The same allocations without attributes that nobody uses."""
    used = sorted({index for index in allocations if index is not None})
    renamed = {old: new for new, old in enumerate(used)}
    return (
        [None if index is None else renamed[index] for index in allocations],
        [attributes[index] for index in used],
    )
