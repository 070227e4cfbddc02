"""Why an address is where it is: everything that is known about one address.

In:   ``picture.Picture``, an address, and the time.
Out:  ``Account``: whose it is or was, since when and by which request, or why it is nobody's and when it will be given.
Next: ``cli.ipam_why`` and ``cli.ipam_show`` print it; ``cli.ipam_release`` asks it before it frees anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from calico.ipam.audit import active_pools, contradictions, placed
from calico.ipam.block import handle_of
from calico.ipam.ownership import Life, host_of, is_cooling, is_windows, life, node_of, noted
from calico.ipam.picture import Picture
from calico.ipam.prefixes import Prefixes
from calico.model.address import WIDTH, Cidr
from calico.model.ipam import AllocationAttribute, IPAMBlock
from calico.model.pool import IPPool

State: TypeAlias = Literal["allocated", "cooling", "reserved", "free", "unclaimed", "outside", "lost"]
"""What an address is: given to somebody; released, and not given again yet; kept free by an IPReservation; free in a
block; in a pool, in no block yet; in no pool and no block; in a block that neither gave it away nor ever will."""


class Place(NamedTuple):
    """The pool around an address."""

    name: str
    cidr: str
    disabled: bool


class Queue(NamedTuple):
    """When a free address is given: how many addresses of its block are given before it, of how many that are free."""

    before: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """See the module. What does not apply is empty or None."""

    address: str
    state: State
    pool: Place | None = None
    block: str = ""
    affinity: str = ""
    """Whose the block is: ``host:<node>``, ``virtual:<name>``, or nobody's."""
    handle: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    alternate: Mapping[str, str] = field(default_factory=dict)
    """The attributes of the owner that it moves to, while a virtual machine migrates."""
    node: str = ""
    borrowed_from: str = ""
    """The host whose block it is, where that is not its node."""
    since: str = ""
    """When it was given, as the request noted it."""
    sequence_number: int | None = None
    users: tuple[str, ...] = ()
    life: Life | None = None
    reserved_by: tuple[str, ...] = ()
    """The IPReservations around it."""
    released_at: str = ""
    cool_until: str = ""
    queue: Queue | None = None
    problems: tuple[str, ...] = ()
    """What is wrong with it or its block."""


def account(picture: Picture, address: Cidr, now: datetime) -> Account:
    """Everything about ``address``, a single one; ``now`` knows its time zone."""
    text = address.address
    found = Prefixes(picture.blocks.items()).find(address)
    pool = Prefixes(placed(picture.pools.values())).find(address)
    common = _Common(picture, address, None if pool is None else pool[1])
    if found is None:
        state: State = "outside" if pool is None else "reserved" if common.reserved_by else "unclaimed"
        return Account(
            address=text,
            state=state,
            pool=common.place,
            users=common.users,
            reserved_by=common.reserved_by,
            problems=tuple(_unaccounted(picture, address, common.users)),
        )
    cidr, block = found
    ordinal = address.value - cidr.value
    index = block.allocations[ordinal] if ordinal < len(block.allocations) else None
    broken = [f"block {cidr} {what}" for what in contradictions(cidr, block)]
    if index is None:
        queued = ordinal in block.unallocated
        return Account(
            address=text,
            state="reserved" if common.reserved_by else "free" if queued else "lost",
            pool=common.place,
            block=str(cidr),
            affinity=block.affinity or "",
            users=common.users,
            reserved_by=common.reserved_by,
            queue=_queue(picture, cidr, block, ordinal) if queued and not common.reserved_by else None,
            problems=(*_unaccounted(picture, address, common.users), *broken),
        )
    attribute = block.attributes[index] if 0 <= index < len(block.attributes) else None
    values = noted(attribute)
    node = node_of(block, attribute)
    host = host_of(block.affinity)
    cooling = is_cooling(attribute)
    released_at = (attribute.released_at or "") if attribute is not None else ""
    return Account(
        address=text,
        state="cooling" if cooling else "allocated",
        pool=common.place,
        block=str(cidr),
        affinity=block.affinity or "",
        handle=(handle_of(attribute) or None) if attribute is not None else None,
        attributes=values,
        alternate=(attribute.alternate_owner_attrs or {}) if attribute is not None else {},
        node="" if cooling else node,
        borrowed_from=(host or block.affinity or "nobody") if node != host and not cooling else "",
        since=values.get("timestamp", ""),
        sequence_number=block.sequence_number_for_allocation.get(str(ordinal)),
        users=common.users,
        life=None if cooling else life(picture, text, block, attribute),
        reserved_by=common.reserved_by,
        released_at=released_at,
        cool_until=_cool_until(picture, released_at, now) if cooling else "",
        problems=(
            *(_unaccounted(picture, address, common.users) if cooling else ()),
            *_handle_problems(picture, str(cidr), block, attribute),
            *broken,
        ),
    )


class _Common:
    """What is asked of every address."""

    def __init__(self, picture: Picture, address: Cidr, pool: IPPool | None) -> None:
        self.users = picture.uses.get(address.address, ())
        self.reserved_by = tuple(
            name
            for name, cidrs in sorted(picture.reservations.items())
            if any(cidr.contains(address) for cidr in cidrs)
        )
        self.place = None if pool is None else Place(pool.metadata.name, pool.spec.cidr, pool.spec.disabled)


def _queue(picture: Picture, cidr: Cidr, block: IPAMBlock, ordinal: int) -> Queue:
    """The place of a free address among those of its block that may be given."""
    reserved = [each for each in picture.reserved if each.overlaps(cidr)]
    width = WIDTH[cidr.family]

    def kept(each: int) -> bool:
        address = Cidr(cidr.family, cidr.value + each, width)
        return any(prefix.contains(address) for prefix in reserved)

    given = [each for each in block.unallocated if not (reserved and kept(each))]
    return Queue(given.index(ordinal), len(given))


def _cool_until(picture: Picture, released_at: str, now: datetime) -> str:
    """When an address that cools down may be given again; empty where that is now, or cannot be told."""
    try:
        released = datetime.fromisoformat(released_at)
    except ValueError:
        return ""
    if released.tzinfo is None:
        released = released.replace(tzinfo=UTC)
    until = released + timedelta(seconds=picture.configuration.ip_cooldown_seconds or 0)
    return until.astimezone(UTC).strftime(_TIME) if until > now else ""


_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def _unaccounted(picture: Picture, address: Cidr, users: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with an address that somebody uses and nobody was given."""
    if not users:
        return
    who = " and ".join(users)
    if active_pools(picture.pools.values()).find(address) is None:
        yield f"{who} {_uses(users)} it, and it is in no active IP pool"
    else:
        yield f"{who} {_uses(users)} it, though IPAM gave it to nobody, and may give it to another"


def _handle_problems(
    picture: Picture, name: str, block: IPAMBlock, attribute: AllocationAttribute | None
) -> Iterator[str]:
    """What is wrong with the handle of an allocation."""
    if attribute is None:
        yield "the block does not say whose it is"
        return
    handle = handle_of(attribute)
    if not handle or is_windows(attribute) or attribute.released_at:
        return
    record = picture.handles.get(handle)
    if record is None:
        yield f"its handle {handle} has no record"
        return
    own = {index for index, each in enumerate(block.attributes) if handle_of(each) == handle}
    held = sum(index in own for index in block.allocations if index is not None)
    if record.counts.get(name, 0) != held:
        yield f"its handle counts {record.counts.get(name, 0)} in block {name}, which gave it {held}"


def _uses(users: tuple[str, ...]) -> str:
    return "uses" if len(users) == 1 else "use"
