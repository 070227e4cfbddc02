"""Where a host takes addresses from: which pools, and which block comes next.

In:   pools, labels, settings, the blocks that exist, the time.
Out:  the pools that may be used, in order; candidates for a new block, for reclaiming, for borrowing; the limit.
Next: ``ipam.assigning`` tries them one by one.

Each host begins its search at a place of its own, so that hosts that need a block at the same
time seldom want the same one (behaviour reference 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from calico.ipam import block as blocks
from calico.ipam.errors import NoSuchPool
from calico.model import selector
from calico.model.address import WIDTH, AddressError, Cidr, Family, parse_cidr
from calico.model.errors import SelectorError
from calico.model.ipam import IPAMBlock
from calico.model.pool import IPPool

Use = Literal["Workload", "Tunnel", "LoadBalancer"]

DEFAULT_BLOCK_LENGTH: Final[Mapping[int, int]] = {4: 26, 6: 122}
"""The prefix length of blocks in pools that do not say."""

BLOCKS_PER_HOST: Final = 20
"""A host claims no more blocks of a family than that, unless it is said how many."""

RECLAIM_AGE: Final = timedelta(minutes=1)
"""How long a host has a block for itself before others may take it if it is empty."""

_DEFAULT_USES: Final[Sequence[Use]] = ("Workload", "Tunnel")


class Pool(NamedTuple):
    """What matters of a pool when addresses are taken from it."""

    name: str
    cidr: Cidr
    block_length: int

    def block_of(self, address: Cidr) -> Cidr:
        """The block that ``address``, one of the pool's, lies in."""
        shift = WIDTH[address.family] - self.block_length
        return Cidr(address.family, address.value >> shift << shift, self.block_length)


def owner(node: str, use: Use) -> str:
    """Whose a block becomes that ``node`` claims: addresses of load balancers belong to no host."""
    return "virtual:load-balancer" if use == "LoadBalancer" else f"host:{node}"


# --- pools -------------------------------------------------------------------------------------------


def usable_pools(
    pools: Mapping[str, IPPool],
    family: Family,
    node_labels: Mapping[str, str],
    *,
    namespace_labels: Mapping[str, str] | None = None,
    use: Use = "Workload",
    requested: Sequence[str] = (),
) -> tuple[Pool, ...]:
    """The pools of ``family`` that a node may take addresses from: as ``requested``, else in order of name.

    Without a request those with assignmentMode Manual are left out, and those whose selectors do not match; a
    pool that selects namespaces needs ``namespace_labels``. ``requested`` names pools by name or prefix, those
    of the other family count for nothing here; NoSuchPool if one of ``family`` may not be used. Either way a pool
    is left out that is disabled or goes, is for other uses, or makes no sense (its CIDR, a selector, a block
    larger than itself): what is wrong with it was said where it was written.
    """
    if requested and (named := _requested(pools, family, requested, use)):
        return named
    return tuple(
        pool
        for name in sorted(pools)
        if (pool := _allocatable(name, pools[name], family)) is not None
        and _serves(pools[name], use)
        and pools[name].spec.assignment_mode != "Manual"
        and selects(pools[name].spec.node_selector, node_labels)
        and selects(pools[name].spec.namespace_selector, namespace_labels)
    )


def pool_of(pools: Mapping[str, IPPool], address: Cidr, use: Use | None) -> Pool | str:
    """The pool that gives ``address`` to whoever names it, or why none does."""
    for name in sorted(pools):
        pool = _allocatable(name, pools[name], address.family)
        if pool is not None and pool.cidr.contains(address):
            if use is not None and not _serves(pools[name], use):
                return f"pool {name} is not for use as {use} (allowedUses)"
            return pool
    return "it lies in no pool that is enabled"


def selects(text: str, labels: Mapping[str, str] | None) -> bool:
    """Whether a pool's selector, perhaps empty, matches; what is no selector matches nothing."""
    if not text:
        return True
    try:
        return labels is not None and selector.parse(text).matches(labels)
    except SelectorError:
        return False


def unselected(
    pools: Mapping[str, IPPool], node_labels: Mapping[str, str], held: Iterable[Cidr]
) -> list[Cidr]:
    """Those of a host's blocks that lie in a pool whose nodeSelector no longer matches the host."""
    others = [
        cidr
        for pool in pools.values()
        if not selects(pool.spec.node_selector, node_labels) and (cidr := prefix(pool)) is not None
    ]
    return [block for block in held if any(cidr.contains(block) for cidr in others)]


def _requested(
    pools: Mapping[str, IPPool], family: Family, requested: Sequence[str], use: Use
) -> tuple[Pool, ...]:
    """The pools of ``family`` that are named; empty if all that are named are of the other family."""
    found: list[Pool] = []
    refused = ""
    by_prefix = {str(cidr): name for name, pool in pools.items() if (cidr := prefix(pool)) is not None}
    for text in dict.fromkeys(requested):
        name = text if text in pools else by_prefix.get(_canonical(text), "")
        if not name:
            if "/" in text and (":" in text) != (family == 6):
                continue
            raise NoSuchPool(text, "there is no pool of that name or prefix")
        cidr = prefix(pools[name])
        if cidr is None or cidr.family != family:
            continue
        pool = _allocatable(name, pools[name], family)
        if pool is None:
            raise NoSuchPool(text, "it is disabled, or cannot be allocated from")
        if _serves(pools[name], use):
            found.append(pool)
        else:
            refused = text
    if refused and not found:
        raise NoSuchPool(refused, f"it is not for use as {use} (allowedUses)")
    return tuple(found)


def prefix(pool: IPPool) -> Cidr | None:
    """The pool's prefix; None if that makes no sense."""
    try:
        return parse_cidr(pool.spec.cidr)
    except AddressError:
        return None


def _canonical(text: str) -> str:
    try:
        return str(parse_cidr(text))
    except AddressError:
        return text


def _serves(pool: IPPool, use: Use) -> bool:
    return use in (pool.spec.allowed_uses or _DEFAULT_USES)


def _allocatable(name: str, pool: IPPool, family: Family) -> Pool | None:
    """The pool, if it is of ``family`` and anybody may get addresses of it."""
    cidr = prefix(pool)
    if cidr is None or cidr.family != family or pool.spec.disabled or pool.metadata.deletion_timestamp:
        return None
    conditions = pool.status.conditions if pool.status is not None else []
    if any(each.type == "Allocatable" and each.status == "False" for each in conditions):
        return None
    length = DEFAULT_BLOCK_LENGTH[family] if pool.spec.block_size is None else pool.spec.block_size
    return Pool(name, cidr, length) if cidr.length <= length <= WIDTH[family] else None


# --- blocks ------------------------------------------------------------------------------------------


def own_blocks(pools: Iterable[Pool], held: Iterable[Cidr]) -> tuple[Cidr, ...]:
    """Those of a host's blocks that lie in ``pools``: by pool, then by address."""
    in_order = sorted(held)
    return tuple(block for pool in pools for block in in_order if pool.cidr.contains(block))


def start(pool: Pool, node: str, moment: int) -> int:
    """The index of the block of ``pool`` at which ``node`` begins to look for one.

    Where blocks are single addresses, a host needs many soon, so it begins somewhere else each ``moment``.
    """
    count = 1 << (pool.block_length - pool.cidr.length)
    seed = str(moment) if pool.block_length == WIDTH[pool.cidr.family] else node
    return fnv32(seed) % count


def new_blocks(
    pool: Pool, begin: int, existing: Iterable[Cidr], reserved: Sequence[Cidr] = ()
) -> Iterator[Cidr]:
    """Candidates for a new block: all of ``pool`` from index ``begin`` round, lazily.

    Left out are those that overlap one that exists, of whatever size, and those that are wholly ``reserved``.
    """
    here = [block for block in existing if block.overlaps(pool.cidr)]
    taken = {block for block in here if block.length == pool.block_length}
    odd = [block for block in here if block.length != pool.block_length]
    near = [prefix for prefix in reserved if prefix.overlaps(pool.cidr)]
    for block in _all_blocks(pool, begin):
        if (
            block not in taken
            and not any(block.overlaps(other) for other in odd)
            and not any(prefix.contains(block) for prefix in near)
        ):
            yield block


def in_order(pool: Pool, begin: int, existing: Iterable[Cidr]) -> list[Cidr]:
    """Those of the blocks that lie in ``pool``, in the order of ``new_blocks``."""
    count = 1 << (pool.block_length - pool.cidr.length)
    shift = WIDTH[pool.cidr.family] - pool.block_length

    def place(block: Cidr) -> int:
        return (((block.value - pool.cidr.value) >> shift) - begin) % count

    return sorted((block for block in existing if pool.cidr.contains(block)), key=place)


def reclaimable(block: IPAMBlock, owner: str, now: datetime, reserved: Sequence[Cidr] = ()) -> bool:
    """Whether ``owner`` may take ``block`` over from the one who has it: it is empty and was not claimed just now."""
    return (
        block.affinity not in {None, owner}
        and blocks.is_empty(block)
        and blocks.has_room(block, reserved)
        and now - blocks.moment(block.affinity_claim_time) >= RECLAIM_AGE
    )


def block_limit(requested: int, configured: int) -> int:
    """How many blocks of a family a host may have: the smaller of what is said, where anything is."""
    return min((limit for limit in (requested, configured) if limit > 0), default=BLOCKS_PER_HOST)


def fnv32(text: str) -> int:
    """The 32-bit FNV-1 hash of ``text``."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = value * 0x01000193 & 0xFFFFFFFF ^ byte
    return value


def _all_blocks(pool: Pool, begin: int) -> Iterator[Cidr]:
    """All blocks of ``pool`` in order, from index ``begin`` round to just before it."""
    count = 1 << (pool.block_length - pool.cidr.length)
    size = 1 << (WIDTH[pool.cidr.family] - pool.block_length)
    for index in range(begin, begin + count):
        yield Cidr(pool.cidr.family, pool.cidr.value + index % count * size, pool.block_length)
