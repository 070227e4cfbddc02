"""Does every address have exactly one owner, and every owner its addresses? A judgement of the whole of IPAM.

In:   ``picture.Picture``.
Out:  ``Audit``: each allocation with who uses it, each handle without addresses, all that is wrong, by class.
Next: ``cli.ipam_check`` prints it; ``ipam.report`` writes it to a file, and says by several of those what may be freed.

The classes are those of Calico's own check (behaviour reference 8.4), and those that it lacks: addresses that stand in
two blocks, counts that differ, blocks that contradict themselves, claims that contradict blocks. A hundred thousand
addresses are judged in a fraction of a second: each is looked up once, as text, and compared with nothing but its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from calico.ipam.block import handle_of
from calico.ipam.ownership import host_of, is_cooling, is_windows, keeper, node_of
from calico.ipam.picture import Picture
from calico.ipam.prefixes import Prefixes
from calico.model.address import WIDTH, AddressError, Cidr, parse_address, parse_cidr
from calico.model.ipam import AllocationAttribute, IPAMBlock
from calico.model.pool import IPPool

LEAKED: Final = "leaked"
OUTSIDE: Final = "outsidePools"
UNALLOCATED: Final = "notAllocated"
SHARED: Final = "multipleOwners"
EMPTY_HANDLES: Final = "handlesWithoutAddresses"
MISSING_HANDLES: Final = "missingHandles"
COUNTS: Final = "countsThatDiffer"
BROKEN: Final = "invalidBlocks"
CLAIMS: Final = "invalidClaims"
UNREADABLE: Final = "unreadable"

CLASSES: Final = (
    LEAKED, OUTSIDE, UNALLOCATED, SHARED, EMPTY_HANDLES, MISSING_HANDLES, COUNTS, BROKEN, CLAIMS, UNREADABLE,
)  # fmt: skip
"""The classes of problems, in the order in which they are reported."""


class Wrong(NamedTuple):
    """One thing that is wrong: with what (an address, a handle, a block), and what."""

    subject: str
    what: str

    def __str__(self) -> str:
        """Both, as a sentence."""
        return f"{self.subject} {self.what}"


class Allocation(NamedTuple):
    """An address that a block says is given away, and who has it. What cools down is none."""

    address: str
    block: Cidr
    attribute: AllocationAttribute | None
    """What is noted with it; None where the block does not say."""
    handle: str
    """The handle that it was given to; empty if it has none."""
    sequence_number: int | None
    node: str
    """The node that has it, as far as that is known."""
    borrowed: bool
    """Whether it is from a block of another host than its node."""
    owners: tuple[str, ...]
    """Who uses it, or keeps it; empty if it is leaked."""


@dataclass(slots=True)
class Audit:
    """See the module. ``problems`` has every class, also without a problem."""

    picture: Picture
    allocations: list[Allocation] = field(default_factory=list)
    cooling: int = 0
    """How many addresses were released and are not given again yet."""
    leaked_handles: list[str] = field(default_factory=list)
    problems: dict[str, list[Wrong]] = field(default_factory=lambda: {each: [] for each in CLASSES})

    @property
    def count(self) -> int:
        """How many problems there are."""
        return sum(map(len, self.problems.values()))

    def by_node(self) -> list[tuple[str, int]]:
        """How many addresses each node has, the most first; the node is empty where it is not known."""
        counts = Counter(each.node for each in self.allocations)
        return sorted(counts.items(), key=lambda each: (-each[1], each[0]))

    def sorted(self) -> None:
        """Put the problems of each class in order of their subjects, addresses by number."""
        for found in self.problems.values():
            found.sort(key=_order)


def audit(picture: Picture) -> Audit:
    """Judge everything."""
    made = Audit(picture)
    held = _blocks(made)
    _handles(made, held)
    _users(made)
    _claims(made)
    made.problems[UNREADABLE] += [
        Wrong(each.path, f"cannot be read: {each.reason}") for each in picture.unreadable
    ]
    made.sorted()
    return made


def active_pools(pools: Iterable[IPPool]) -> Prefixes[IPPool]:
    """The pools that are not disabled, by their prefixes."""
    return Prefixes(placed(each for each in pools if not each.spec.disabled))


def placed(pools: Iterable[IPPool]) -> Iterator[tuple[Cidr, IPPool]]:
    """Each pool with its prefix; one whose prefix makes no sense is left out, as by everybody."""
    for pool in pools:
        try:
            yield parse_cidr(pool.spec.cidr), pool
        except AddressError:
            continue


def texts(cidr: Cidr) -> Sequence[str] | None:
    """All addresses of a small block of IPv4, as text; None of others, whose addresses are made one by one."""
    if cidr.family == 4 and cidr.length >= 24:
        start, _, last = cidr.address.rpartition(".")
        first = int(last)
        return [f"{start}.{number}" for number in range(first, first + (1 << (32 - cidr.length)))]
    return None


# --- blocks ------------------------------------------------------------------------------------------

Held = dict[str, dict[str, int]]
"""How many addresses each handle has in each block, by the blocks."""


def _blocks(made: Audit) -> Held:
    held: Held = {}
    seen: dict[str, Cidr] = {}
    overlapping = _overlapping(made)
    for cidr, block in made.picture.blocks.items():
        made.problems[BROKEN] += [Wrong(str(cidr), what) for what in contradictions(cidr, block)]
        counts: Counter[str] = Counter()
        for each in _allocations(made, cidr, block):
            made.allocations.append(each)
            handle = each.handle
            if handle:
                counts[handle] += 1
            if cidr in overlapping:
                other = seen.setdefault(each.address, cidr)
                if other != cidr:
                    what = f"is given away twice: by block {other} and by block {cidr}"
                    made.problems[SHARED].append(Wrong(each.address, what))
        name = str(cidr)
        for handle, count in counts.items():
            held.setdefault(handle, {})[name] = count
    return held


def _allocations(made: Audit, cidr: Cidr, block: IPAMBlock) -> Iterator[Allocation]:
    """What a block has given away, in order; what cools down is counted."""
    uses = made.picture.uses
    attributes = block.attributes
    number_of = block.sequence_number_for_allocation
    host = host_of(block.affinity)
    nodes = [node_of(block, each) for each in attributes]
    handles = ["" if is_windows(each) else handle_of(each) for each in attributes]
    names = texts(cidr)
    width = WIDTH[cidr.family]
    size = 1 << (width - cidr.length)
    for ordinal, index in enumerate(block.allocations):
        if index is None or ordinal >= size:
            continue
        known = 0 <= index < len(attributes)
        attribute = attributes[index] if known else None
        if is_cooling(attribute):
            made.cooling += 1
            continue
        address = names[ordinal] if names else Cidr(cidr.family, cidr.value + ordinal, width).address
        owners = uses.get(address)
        if owners is None:
            kept = keeper(attribute)
            owners = (kept,) if kept else ()
        elif len(owners) > 1 and not _migrates(owners, attribute):
            made.problems[SHARED].append(Wrong(address, f"is used by {' and '.join(owners)}"))
        node = nodes[index] if known else host
        if not owners:
            made.problems[LEAKED].append(Wrong(address, f"leaked; attrs {described(attribute)}"))
        handle = handles[index] if known else ""
        number = number_of.get(str(ordinal))
        yield Allocation(address, cidr, attribute, handle, number, node, node != host, owners)


def _migrates(owners: Sequence[str], attribute: AllocationAttribute | None) -> bool:
    """Whether the two who use an address are one machine on its way between hosts."""
    return len(owners) == 2 and attribute is not None and bool(attribute.alternate_owner_attrs)


def contradictions(cidr: Cidr, block: IPAMBlock) -> Iterator[str]:
    """In which ways a block contradicts itself, or the key ``cidr`` where it is stored."""
    if block.cidr != str(cidr) and not _names(block.cidr, cidr):
        yield f"says that it is the block {block.cidr!r}"
    size = 1 << (WIDTH[cidr.family] - cidr.length)
    if len(block.allocations) != size:
        yield f"has {len(block.allocations)} entries for {size} addresses"
    known = len(block.attributes)
    free = set()
    for ordinal, index in enumerate(block.allocations):
        if index is None:
            free.add(ordinal)
        elif not 0 <= index < known:
            yield f"gives address {_at(cidr, ordinal)} to attribute {index}, of which it has {known}"
    queued = set(block.unallocated)
    if len(queued) != len(block.unallocated):
        twice = sorted(each for each, count in Counter(block.unallocated).items() if count > 1)
        yield f"would give the same address twice: {_list(cidr, twice)}"
    if queued != free:
        if both := sorted(each for each in queued - free if 0 <= each < len(block.allocations)):
            yield f"calls addresses free that it has given away: {_list(cidr, both)}"
        if beyond := sorted(each for each in queued - free if not 0 <= each < len(block.allocations)):
            yield f"calls addresses free that are not its own: ordinals {', '.join(map(str, beyond))}"
        if lost := sorted(free - queued):
            yield f"will never give these addresses, which are neither free nor given away: {_list(cidr, lost)}"


def _names(text: str, cidr: Cidr) -> bool:
    try:
        return parse_cidr(text) == cidr
    except AddressError:
        return False


def _at(cidr: Cidr, ordinal: int) -> str:
    return Cidr(cidr.family, cidr.value + ordinal, WIDTH[cidr.family]).address


def _list(cidr: Cidr, ordinals: Sequence[int]) -> str:
    shown = ", ".join(_at(cidr, each) for each in ordinals[:3])
    return shown if len(ordinals) <= 3 else f"{shown} and {len(ordinals) - 3} more"


def _overlapping(made: Audit) -> set[Cidr]:
    """The blocks that have addresses in common with another; said of the inner one."""
    blocks = made.picture.blocks
    around = Prefixes((cidr, None) for cidr in blocks)
    found: set[Cidr] = set()
    if len({(cidr.family, cidr.length) for cidr in blocks}) == len({cidr.family for cidr in blocks}):
        return found  # blocks of one size do not overlap
    for cidr in blocks:
        for outer, _ in around.around(cidr):
            if outer != cidr:
                made.problems[BROKEN].append(Wrong(str(cidr), f"lies within another block, {outer}"))
                found |= {cidr, outer}
    return found


# --- handles -----------------------------------------------------------------------------------------


def _handles(made: Audit, held: Held) -> None:
    handles = made.picture.handles
    for handle, counts in held.items():
        record = handles.get(handle)
        if record is None:
            what = f"is in use in a block but doesn't exist; the block is {', '.join(counts)}"
            made.problems[MISSING_HANDLES].append(Wrong(handle, what))
        elif record.counts != counts:
            made.problems[COUNTS] += [Wrong(handle, what) for what in differences(record.counts, counts)]
    for handle, record in handles.items():
        if handle not in held:
            made.leaked_handles.append(handle)
            counted = sum(record.counts.values())
            what = "doesn't have any active IPs" + (f", though it counts {counted}" if counted else "")
            made.problems[EMPTY_HANDLES].append(Wrong(handle, what))
    made.leaked_handles.sort()


def differences(said: Mapping[str, int], held: Mapping[str, int]) -> Iterator[str]:
    """Where the record of a handle counts otherwise than the blocks do."""
    counted: dict[str, int] = {}
    for text, count in said.items():
        try:
            counted[str(parse_cidr(text))] = count
        except AddressError:
            counted[text] = count
    for block in sorted(counted.keys() | held.keys()):
        one, other = counted.get(block, 0), held.get(block, 0)
        if one != other:
            yield f"counts {one} in block {block}, which gave it {other}"


# --- who uses addresses ------------------------------------------------------------------------------


def _users(made: Audit) -> None:
    """Addresses that are used, and that no block gave."""
    given = {each.address for each in made.allocations}
    active = active_pools(made.picture.pools.values())
    for address, owners in made.picture.uses.items():
        if address in given:
            continue
        inside = active.find(parse_address(address))
        if inside is None:
            # A balancer's address may be anybody's: it is ours only where a pool of ours is.
            found = [owner for owner in owners if not owner.startswith("Service(")]
            made.problems[OUTSIDE] += [
                Wrong(address, f"in use by {owner} is not in any active IP pool") for owner in found[:1]
            ]
        else:
            what = f"in use by {' and '.join(owners)} and in active IP pool {inside[1].metadata.name} but has no IPAM allocation"
            made.problems[UNALLOCATED].append(Wrong(address, what))
            if len(owners) > 1:
                made.problems[SHARED].append(Wrong(address, f"is used by {' and '.join(owners)}"))


# --- claims ------------------------------------------------------------------------------------------


def _claims(made: Audit) -> None:
    """Claims and blocks that contradict each other; a claim that is under way contradicts nothing."""
    picture, problems = made.picture, made.problems[CLAIMS]
    for cidr, claims in picture.claims.items():
        block = picture.blocks.get(cidr)
        owner = block.affinity if block is not None else None
        for claimant, state in claims.items():
            host = host_of(claimant)
            if host and host not in picture.nodes:
                problems.append(Wrong(str(cidr), f"is claimed by {host}, which is no node any more"))
            elif state != "confirmed":
                continue
            elif block is None:
                problems.append(Wrong(str(cidr), f"is claimed by {claimant}, but there is no such block"))
            elif owner != claimant:
                problems.append(Wrong(str(cidr), f"is claimed by {claimant}, but is {owner or 'nobody'}'s"))
    for cidr, block in picture.blocks.items():
        if block.affinity and block.affinity not in picture.claims.get(cidr, {}):
            problems.append(Wrong(str(cidr), f"is {block.affinity}'s, who has no claim to it"))


# --- words -------------------------------------------------------------------------------------------


def described(attribute: AllocationAttribute | None) -> str:
    """What is noted with an address, on one line, as Calico's check has it."""
    if attribute is None:
        return "<missing>"
    values = ",".join(f"{key}={value}" for key, value in sorted((attribute.secondary or {}).items()))
    return f"Main:{'<none>' if attribute.handle_id is None else attribute.handle_id} Extra:{values}"


def _order(wrong: Wrong) -> tuple[int, int, int, str]:
    text = wrong.subject
    if text[:1].isdigit() or ":" in text:
        try:
            cidr = parse_cidr(text)
        except AddressError:
            pass
        else:
            return (0, cidr.family, cidr.value, wrong.what)
    return (1, 0, 0, text)
