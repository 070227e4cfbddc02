"""Cutting a pool into smaller ones that hold the same addresses.

In:   the pool, the number of parts, and all pools that there are.
Out:  the steps, as values: disable the old pool, create the new ones, delete the old one.
Next: ``cli.ipam_split`` does them, in this order, on a locked store.

Names, order and result are Calico's. Whatever can be wrong is wrong before the first step. After a crash the
same command goes on: new pools that are there already are left alone, and the old one goes last. Blocks and addresses
are not touched: they lie in the new pools as they lay in the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from calico.ipam.plan import DEFAULT_BLOCK_LENGTH
from calico.model.address import WIDTH, Cidr, parse_cidr
from calico.model.checks import NAME_LENGTH
from calico.model.errors import ModelError
from calico.model.pool import IPPool
from calico.model.resource import Metadata

MOST_PARTS: Final = 1024
"""A pool for each of more parts would help nobody, and could not be undone."""


class CannotSplit(ModelError):
    """The pool cannot be split so; nothing was changed."""


class Split(NamedTuple):
    """The steps."""

    disable: IPPool | None
    """The old pool as it is to be written; None if it is disabled already."""
    create: tuple[IPPool, ...]
    """The new pools that are not there yet."""
    parts: tuple[IPPool, ...]
    """All new pools."""
    delete: str
    """The name of the old pool."""


def split(pool: IPPool, parts: int, pools: Mapping[str, IPPool]) -> Split:
    """The steps that split ``pool`` into ``parts``; CannotSplit where that is impossible."""
    name, cidr = pool.metadata.name, parse_cidr(pool.spec.cidr)
    made = []
    for index, each in enumerate(_parts(cidr, parts, _block_length(pool, cidr))):
        suffix = f"-{index}"
        new = f"split-{name}"[: NAME_LENGTH - len(suffix)] + suffix
        metadata = Metadata(name=new, labels=pool.metadata.labels, annotations=pool.metadata.annotations)
        spec = replace(pool.spec, cidr=str(each), disabled=False)
        made.append(IPPool(metadata=metadata, spec=spec))
    there = {each.metadata.name for each in made if _is_there(each, pools)}
    return Split(
        disable=None if pool.spec.disabled else replace(pool, spec=replace(pool.spec, disabled=True)),
        create=tuple(each for each in made if each.metadata.name not in there),
        parts=tuple(made),
        delete=name,
    )


def _is_there(part: IPPool, pools: Mapping[str, IPPool]) -> bool:
    found = pools.get(part.metadata.name)
    if found is None:
        return False
    if parse_cidr(found.spec.cidr) != parse_cidr(part.spec.cidr):
        raise CannotSplit(
            f"there is an IPPool {part.metadata.name} already, and it has {found.spec.cidr}, not {part.spec.cidr};"
            " nothing was changed; rename or delete it first"
        )
    return True


def _block_length(pool: IPPool, cidr: Cidr) -> int:
    return pool.spec.block_size or DEFAULT_BLOCK_LENGTH[cidr.family]


def _parts(cidr: Cidr, parts: int, block_length: int) -> tuple[Cidr, ...]:
    """Equal parts of a prefix, in order."""
    if parts < 2 or parts & (parts - 1):
        raise CannotSplit(f"{parts} is no power of 2 from 2 on; a pool is split into 2, 4, 8, ... parts")
    length = cidr.length + parts.bit_length() - 1
    if length > block_length:
        most = 1 << (block_length - cidr.length) if block_length >= cidr.length else 1
        raise CannotSplit(
            f"{cidr} has blocks of /{block_length}, so it can be split into {most} parts at most, not {parts}"
        )
    if parts > MOST_PARTS:
        raise CannotSplit(f"{parts} parts are more than the {MOST_PARTS} that one split may make")
    size = 1 << (WIDTH[cidr.family] - length)
    return tuple(Cidr(cidr.family, cidr.value + index * size, length) for index in range(parts))
