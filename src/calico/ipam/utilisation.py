"""How full pools, blocks and hosts are.

In:   ``picture.Picture``.
Out:  counts for each pool with its blocks, for blocks in no pool, and for each host.
Next: ``cli.ipam_show`` prints them.

As in Calico's own table an address that cools down is in use until it may be given again, and one that was given
before it was reserved counts as both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from calico.ipam.audit import placed
from calico.ipam.ownership import host_of, is_cooling, node_of
from calico.ipam.picture import Picture
from calico.ipam.prefixes import Prefixes, disjoint
from calico.model.address import WIDTH, Cidr
from calico.model.ipam import IPAMBlock


class Use(NamedTuple):
    """Counts of addresses."""

    total: int
    in_use: int
    reserved: int
    cooling: int
    free: int


class BlockUse(NamedTuple):
    """A block, whose it is (``host:<node>``; empty if nobody's), and its counts."""

    cidr: Cidr
    owner: str
    use: Use


class PoolUse(NamedTuple):
    """A pool with its counts and blocks; without name and prefix: the blocks that lie in no pool."""

    name: str
    cidr: Cidr | None
    disabled: bool
    use: Use
    blocks: tuple[BlockUse, ...]


@dataclass
class HostUse:
    """A host: what its own blocks hold, and what it has in those of others."""

    name: str
    exists: bool = True
    blocks: int = 0
    total: int = 0
    in_use: int = 0
    free: int = 0
    lent: int = 0
    """Addresses of its blocks that other nodes have."""
    borrowed: int = 0
    """Addresses that it has in blocks that are not its own."""


@dataclass
class Utilisation:
    """Everything, pools in order of names, hosts too."""

    pools: list[PoolUse] = field(default_factory=list)
    hosts: list[HostUse] = field(default_factory=list)


def utilisation(picture: Picture) -> Utilisation:
    """Count everything once."""
    reserved = disjoint(picture.reserved)
    pools = dict(placed(picture.pools.values()))
    around = Prefixes(pools.items())
    within: dict[Cidr | None, list[BlockUse]] = {cidr: [] for cidr in pools}
    hosts = {name: HostUse(name) for name in picture.nodes}
    for cidr in sorted(picture.blocks):
        block = picture.blocks[cidr]
        use = _block(cidr, block, reserved)
        found = around.find(cidr)
        within.setdefault(found[0] if found else None, []).append(BlockUse(cidr, block.affinity or "", use))
        _count_for_hosts(hosts, block, use)
    made = Utilisation(hosts=[hosts[name] for name in sorted(hosts)])
    for cidr, pool in sorted(pools.items(), key=lambda each: each[1].metadata.name):
        blocks = tuple(within[cidr])
        total = 1 << (WIDTH[cidr.family] - cidr.length)
        use = _sum(total, _shared(cidr, reserved), blocks)
        made.pools.append(PoolUse(pool.metadata.name, cidr, pool.spec.disabled, use, blocks))
    if orphans := tuple(within.get(None, ())):
        total = sum(each.use.total for each in orphans)
        use = _sum(total, sum(each.use.reserved for each in orphans), orphans)
        made.pools.append(PoolUse("", None, disabled=False, use=use, blocks=orphans))
    return made


def _block(cidr: Cidr, block: IPAMBlock, reserved: Sequence[Cidr]) -> Use:
    allocated = [ordinal for ordinal, index in enumerate(block.allocations) if index is not None]
    cools = {index for index, each in enumerate(block.attributes) if is_cooling(each)}
    cooling = sum(block.allocations[ordinal] in cools for ordinal in allocated) if cools else 0
    total = 1 << (WIDTH[cidr.family] - cidr.length)
    kept = _shared(cidr, reserved)
    both = 0
    if kept:
        width = WIDTH[cidr.family]
        both = sum(
            any(each.contains(Cidr(cidr.family, cidr.value + ordinal, width)) for each in reserved)
            for ordinal in allocated
        )
    return Use(total, len(allocated), kept, cooling, max(total - len(allocated) - kept + both, 0))


def _sum(total: int, reserved: int, blocks: Iterable[BlockUse]) -> Use:
    """A pool's counts: of its blocks, and of what no block has yet."""
    in_use = cooling = both = 0
    for each in blocks:
        use = each.use
        in_use += use.in_use
        cooling += use.cooling
        both += use.in_use + use.reserved + use.free - use.total
    return Use(total, in_use, reserved, cooling, max(total - in_use - reserved + both, 0))


def _shared(cidr: Cidr, reserved: Iterable[Cidr]) -> int:
    """How many addresses of ``cidr`` lie in ``reserved`` prefixes, which have none in common."""
    width = WIDTH[cidr.family]
    return sum(1 << (width - max(each.length, cidr.length)) for each in reserved if each.overlaps(cidr))


def _count_for_hosts(hosts: dict[str, HostUse], block: IPAMBlock, use: Use) -> None:
    owner = host_of(block.affinity)
    if owner:
        host = hosts.setdefault(owner, HostUse(owner, exists=False))
        host.blocks += 1
        host.total += use.total
        host.in_use += use.in_use
        host.free += use.free
    nodes = [node_of(block, each) for each in block.attributes]
    strange = {index for index, node in enumerate(nodes) if node != owner}
    if not strange:
        return
    for index in block.allocations:
        if index in strange and not is_cooling(block.attributes[index]):
            hosts.setdefault(nodes[index], HostUse(nodes[index], exists=False)).borrowed += 1
            if owner:
                hosts[owner].lent += 1
