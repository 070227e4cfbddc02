"""Where a host takes addresses from: which pools, and which block comes next.

In:   pools, the labels of the node, and the blocks that exist.
Out:  the pools that may be used, in order, and candidates for a new block.
Next: ``ipam.client`` tries them one by one.

Each host begins its search at a place of its own, so that hosts that need a block at the same
time seldom want the same one (behaviour reference 5.2).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from calico.model import selector
from calico.model.address import WIDTH, AddressError, Cidr, Family, parse_cidr
from calico.model.errors import SelectorError
from calico.model.pool import IPPool

Use = Literal["Workload", "Tunnel", "LoadBalancer"]

DEFAULT_BLOCK_LENGTH: Final[Mapping[int, int]] = {4: 26, 6: 122}
"""The prefix length of blocks in pools that do not say."""

_DEFAULT_USES: Final[Sequence[Use]] = ("Workload", "Tunnel")


class Pool(NamedTuple):
    """What matters of a pool when addresses are taken from it."""

    name: str
    cidr: Cidr
    block_length: int


def usable_pools(
    pools: Mapping[str, IPPool],
    family: Family,
    node_labels: Mapping[str, str],
    *,
    namespace_labels: Mapping[str, str] | None = None,
    use: Use = "Workload",
) -> tuple[Pool, ...]:
    """The pools of ``family`` that a node may take addresses from of its own accord, in order of name.

    Left out are disabled ones, those of other uses, those with assignmentMode Manual, and those whose selectors
    do not match; a pool that selects namespaces needs ``namespace_labels``. A pool that makes no sense (its CIDR,
    a selector, a block larger than itself) is left out too: what is wrong with it was said where it was written.
    """
    usable = []
    for name in sorted(pools):
        spec = pools[name].spec
        try:
            cidr = parse_cidr(spec.cidr)
            fits = (
                cidr.family == family
                and not spec.disabled
                and spec.assignment_mode != "Manual"
                and use in (spec.allowed_uses or _DEFAULT_USES)
                and _matches(spec.node_selector, node_labels)
                and _matches(spec.namespace_selector, namespace_labels)
            )
        except (AddressError, SelectorError):
            continue
        length = DEFAULT_BLOCK_LENGTH[family] if spec.block_size is None else spec.block_size
        if fits and cidr.length <= length <= WIDTH[family]:
            usable.append(Pool(name, cidr, length))
    return tuple(usable)


def own_blocks(pools: Iterable[Pool], blocks: Iterable[Cidr]) -> tuple[Cidr, ...]:
    """Those of a host's ``blocks`` that lie in ``pools``: by pool, then by address."""
    held = sorted(blocks)
    return tuple(block for pool in pools for block in held if pool.cidr.contains(block))


def new_blocks(pools: Iterable[Pool], node: str, existing: Container[Cidr]) -> Iterator[Cidr]:
    """Candidates for a new block of ``node``: every block of every pool that is not ``existing``, lazily."""
    for pool in pools:
        for block in _all_blocks(pool, node):
            if block not in existing:
                yield block


def fnv32(text: str) -> int:
    """The 32-bit FNV-1 hash of ``text``."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = value * 0x01000193 & 0xFFFFFFFF ^ byte
    return value


def _all_blocks(pool: Pool, node: str) -> Iterator[Cidr]:
    """All blocks of ``pool`` in order, from a place that ``node`` decides, round to just before it."""
    count = 1 << (pool.block_length - pool.cidr.length)
    size = 1 << (WIDTH[pool.cidr.family] - pool.block_length)
    start = fnv32(node) % count
    for index in range(start, start + count):
        yield Cidr(pool.cidr.family, pool.cidr.value + index % count * size, pool.block_length)


def _matches(text: str, labels: Mapping[str, str] | None) -> bool:
    if not text:
        return True
    return labels is not None and selector.parse(text).matches(labels)
