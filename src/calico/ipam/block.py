"""One block of addresses: who has which, and which is handed out next.

In:   a block as the store holds it, and what is asked of it.
Out:  the block as it should be written, and the addresses concerned.
Next: ``ipam.client`` writes it if nobody else has meanwhile.

An address is named by its ordinal, its distance from the block's first. Each ordinal is, exactly
once, either allocated (an index into ``attributes``) or queued in ``unallocated``. What was freed
longest ago is taken first, so a released address is used again as late as possible. While it cools
down, it is allocated to nobody: its attributes say only when it was released.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec import structs

from calico.ipam.errors import AlreadyAssigned
from calico.model.address import WIDTH, Cidr, parse_cidr
from calico.model.ipam import AllocationAttribute, IPAMBlock

WINDOWS: Final = "windows-reserved-ipam-handle"
"""The handle, in small letters, of addresses that a host with Windows keeps for itself in each of its blocks."""

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
    near = [prefix for prefix in reserved if prefix.overlaps(cidr)]
    taken: list[int] = []
    for ordinal in block.unallocated:
        if len(taken) >= count:
            break
        if not _within(near, address_at(cidr, ordinal)):
            taken.append(ordinal)
    if not taken:
        return block, ()
    return _given(block, taken, handle, attributes), tuple(address_at(cidr, ordinal) for ordinal in taken)


def assign_address(block: IPAMBlock, address: Cidr, handle: str, attributes: Mapping[str, str]) -> IPAMBlock:
    """The block with ``address``, one of its own, given to ``handle``, reserved or not.

    AlreadyAssigned if it has an owner or cools down.
    """
    ordinal = address.value - parse_cidr(block.cidr).value
    index = block.allocations[ordinal]
    if index is not None:
        taken = block.attributes[index]
        raise AlreadyAssigned(address, handle_of(taken) or None, taken.secondary or {})
    return _given(block, [ordinal], handle, attributes)


class Release(NamedTuple):
    """An address to free; only from ``handle``, or only if it was given at ``sequence_number``, where these are given."""

    address: Cidr
    handle: str | None = None
    sequence_number: int | None = None


class Refused(NamedTuple):
    """An address that was not freed because it is no longer what the request was about, and why in words."""

    address: Cidr
    reason: str


class Outcome(NamedTuple):
    """A block after releases, and what became of each address."""

    block: IPAMBlock
    freed: tuple[Cidr, ...]
    unallocated: tuple[Cidr, ...]
    """Addresses that nobody had: free, cooling down, or not of this block."""
    refused: tuple[Refused, ...]


def release(block: IPAMBlock, wanted: Iterable[Release], *, released_at: str | None = None) -> Outcome:
    """Free ``wanted``, in this order; an address that is named twice counts once.

    With ``released_at`` (RFC 3339) an address cools down: it stays allocated, to nobody, until ``thaw``. The new
    block is equal to the old one if nothing is freed.
    """
    cidr = parse_cidr(block.cidr)
    freed: dict[int, Cidr] = {}
    unallocated: list[Cidr] = []
    refused: list[Refused] = []
    for each in dict.fromkeys(wanted):
        ordinal = each.address.value - cidr.value
        if ordinal in freed:
            continue
        taken = owner(block, each.address)
        if taken is None or taken.released_at:
            unallocated.append(each.address)
        elif each.handle is not None and each.handle != handle_of(taken):
            refused.append(Refused(each.address, f"it is of handle {handle_of(taken)}, not of {each.handle}"))
        elif each.sequence_number not in {None, sequence_number_of(block, each.address)}:
            refused.append(Refused(each.address, "it was released and assigned anew since"))
        else:
            freed[ordinal] = each.address
    if not freed:
        return Outcome(block, (), tuple(unallocated), tuple(refused))
    allocations = list(block.allocations)
    attributes = list(block.attributes)
    if released_at is not None:
        cooling = AllocationAttribute(released_at=released_at)
        index = _index_of(cooling, attributes)
    for ordinal in freed:
        allocations[ordinal] = None if released_at is None else index
    sequence_numbers = dict(block.sequence_number_for_allocation)
    for ordinal in freed:
        sequence_numbers.pop(str(ordinal), None)
    allocations, attributes = _compacted(allocations, attributes)
    changed = structs.replace(
        block,
        allocations=allocations,
        unallocated=[*block.unallocated, *freed] if released_at is None else block.unallocated,
        attributes=attributes,
        sequence_number=block.sequence_number + 1,
        sequence_number_for_allocation=sequence_numbers,
    )
    return Outcome(changed, tuple(freed.values()), tuple(unallocated), tuple(refused))


def thaw(block: IPAMBlock, before: datetime) -> tuple[IPAMBlock, tuple[Cidr, ...]]:
    """Free what was released before ``before`` (with a time zone) and cools down since, released first first.

    What was released in the same second as ``before`` goes on, so nothing is free too early. A time that makes no
    sense is long ago. The second result is what was freed; if nothing, the block is the same.
    """
    times = {
        index: moment(attribute.released_at)
        for index, attribute in enumerate(block.attributes)
        if attribute.released_at
    }
    due = {index: time for index, time in times.items() if time < before.replace(microsecond=0)}
    found = [
        (due[index], ordinal)
        for ordinal, index in enumerate(block.allocations)
        if index is not None and index in due
    ]
    if not found:
        return block, ()
    freed = [ordinal for _, ordinal in sorted(found)]
    allocations = list(block.allocations)
    for ordinal in freed:
        allocations[ordinal] = None
    allocations, attributes = _compacted(allocations, block.attributes)
    cidr = parse_cidr(block.cidr)
    changed = structs.replace(
        block,
        allocations=allocations,
        unallocated=[*block.unallocated, *freed],
        attributes=attributes,
        sequence_number=block.sequence_number + 1,
    )
    return changed, tuple(address_at(cidr, ordinal) for ordinal in freed)


def disowned(block: IPAMBlock) -> IPAMBlock:
    """The block without an affinity: its addresses keep their owners, and it goes with the last of them."""
    return structs.replace(touched(block), affinity=None, affinity_claim_time=None)


def touched(block: IPAMBlock) -> IPAMBlock:
    """The block one sequence number on: whoever is about to write what was before will not."""
    return structs.replace(block, sequence_number=block.sequence_number + 1)


def held(block: IPAMBlock, handle: str) -> tuple[Cidr, ...]:
    """The addresses of ``handle`` in ``block``, lowest first."""
    cidr = parse_cidr(block.cidr)
    own = {index for index, attribute in enumerate(block.attributes) if handle_of(attribute) == handle}
    return tuple(address_at(cidr, ordinal) for ordinal, index in enumerate(block.allocations) if index in own)


def owner(block: IPAMBlock, address: Cidr) -> AllocationAttribute | None:
    """What is noted with an allocated ``address`` of ``block``; None if it is free, or not of this block."""
    cidr = parse_cidr(block.cidr)
    if not (cidr.contains(address) and address.is_address):
        return None
    index = block.allocations[address.value - cidr.value]
    return None if index is None else block.attributes[index]


def held_by(block: IPAMBlock, address: Cidr) -> str | None:
    """The handle that has ``address``, empty if it is allocated without one; None if it is free, or not of the block."""
    taken = owner(block, address)
    return None if taken is None else handle_of(taken)


def handle_of(attribute: AllocationAttribute) -> str:
    """The handle that is noted; empty if none is.

    Addresses that were migrated from another tool's files have handles with a carriage return and more after it,
    which are not part of it.
    """
    return (attribute.handle_id or "").partition("\r")[0]


def sequence_number_of(block: IPAMBlock, address: Cidr) -> int | None:
    """The sequence number at which ``address`` of ``block`` was given to its owner; None if none is noted."""
    return block.sequence_number_for_allocation.get(str(address.value - parse_cidr(block.cidr).value))


def has_room(block: IPAMBlock, reserved: Sequence[Cidr] = ()) -> bool:
    """Whether some address is free, and not ``reserved``."""
    if not reserved:
        return bool(block.unallocated)
    cidr = parse_cidr(block.cidr)
    near = [prefix for prefix in reserved if prefix.overlaps(cidr)]
    return any(not _within(near, address_at(cidr, ordinal)) for ordinal in block.unallocated)


def is_empty(block: IPAMBlock) -> bool:
    """Whether nobody has an address and none cools down; those that a host with Windows keeps do not count."""
    return all(
        index is None or handle_of(block.attributes[index]).lower() == WINDOWS for index in block.allocations
    )


def address_at(cidr: Cidr, ordinal: int) -> Cidr:
    """The address at ``ordinal`` of the block ``cidr``."""
    return Cidr(cidr.family, cidr.value + ordinal, WIDTH[cidr.family])


def moment(text: str | None) -> datetime:
    """The time that a record notes (RFC 3339), with a time zone; what makes no sense is long ago."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return _LONG_AGO
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _given(
    block: IPAMBlock, ordinals: Sequence[int], handle: str, attributes: Mapping[str, str]
) -> IPAMBlock:
    """The block with ``ordinals``, which are free, given to ``handle``."""
    known = list(block.attributes)
    attribute = AllocationAttribute(handle_id=handle, secondary=dict(attributes) or None)
    index = _index_of(attribute, known)
    allocations = list(block.allocations)
    for ordinal in ordinals:
        allocations[ordinal] = index
    taken = set(ordinals)
    return structs.replace(
        block,
        allocations=allocations,
        unallocated=[ordinal for ordinal in block.unallocated if ordinal not in taken],
        attributes=known,
        sequence_number=block.sequence_number + 1,
        sequence_number_for_allocation={
            **block.sequence_number_for_allocation,
            **{str(ordinal): block.sequence_number for ordinal in ordinals},
        },
    )


def _index_of(attribute: AllocationAttribute, known: list[AllocationAttribute]) -> int:
    """Where ``attribute`` stands in ``known``, to which it is added if it does not."""
    if attribute not in known:
        known.append(attribute)
    return known.index(attribute)


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
