"""The steps by which a pool is split, from the first or from wherever they were broken off."""

from __future__ import annotations

import pytest

from calico.ipam.split import CannotSplit, Split, split
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata

POOL = IPPool(
    metadata=Metadata(name="all", labels={"a": "b"}, uid="u", resource_version="7", creation_timestamp="t"),
    spec=IPPoolSpec(cidr="10.65.0.0/16", nat_outgoing=True, node_selector="all()"),
)


def _cidrs(steps: Split) -> list[str]:
    return [each.spec.cidr for each in steps.parts]


def test_the_parts_are_the_pool_in_smaller() -> None:
    """All settings and labels are the old pool's, its identity is not; Calico's names."""
    steps = split(POOL, 4, {"all": POOL})
    assert _cidrs(steps) == ["10.65.0.0/18", "10.65.64.0/18", "10.65.128.0/18", "10.65.192.0/18"]
    assert [each.metadata for each in steps.create] == [
        Metadata(name=f"split-all-{number}", labels={"a": "b"}) for number in range(4)
    ]
    assert all(each.spec.nat_outgoing and not each.spec.disabled for each in steps.create)
    assert steps.disable is not None
    assert steps.disable.spec.disabled
    assert (steps.disable.metadata.resource_version, steps.delete) == ("7", "all")


def test_what_is_done_already_is_not_done_again() -> None:
    """After a crash at any step the rest remains."""
    steps = split(POOL, 2, {"all": POOL})
    assert steps.disable is not None
    pools = {"all": steps.disable}
    for number, part in enumerate(steps.parts):
        resumed = split(steps.disable, 2, pools)
        assert (resumed.disable, len(resumed.create)) == (None, 2 - number)
        pools[part.metadata.name] = part
    assert split(steps.disable, 2, pools).create == ()


def test_long_names_are_cut() -> None:
    """As Calico cuts them where its own way leads to a valid name, and to fit elsewhere."""
    long = IPPool(metadata=Metadata(name="x" * 253), spec=IPPoolSpec(cidr="fd00::/48"))
    names = [each.metadata.name for each in split(long, 16, {}).parts]
    assert (names[0], names[15]) == (f"split-{'x' * 245}-0", f"split-{'x' * 244}-15")
    assert len(set(names)) == 16


@pytest.mark.parametrize(
    ("parts", "cidr", "size", "sentence"),
    [
        (0, "10.0.0.0/16", None, "no power of 2"),
        (1, "10.0.0.0/16", None, "no power of 2"),
        (-2, "10.0.0.0/16", None, "no power of 2"),
        (6, "10.0.0.0/16", None, "no power of 2"),
        (2, "10.0.0.0/26", None, "can be split into 1 parts at most"),
        (64, "10.0.0.0/24", 29, "blocks of /29, so it can be split into 32 parts at most"),
        (2, "10.0.0.0/30", 26, "1 parts at most"),
        (2048, "10.0.0.0/8", None, "more than the 1024"),
    ],
)
def test_splits_that_cannot_be(parts: int, cidr: str, size: int | None, sentence: str) -> None:
    """A part must hold at least one block: else no address could ever be given from it."""
    pool = IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr=cidr, block_size=size))
    with pytest.raises(CannotSplit, match=sentence):
        split(pool, parts, {})


def test_a_strange_pool_of_a_new_name_is_not_touched() -> None:
    """It has another prefix, so it is not ours from before."""
    strange = IPPool(metadata=Metadata(name="split-all-1"), spec=IPPoolSpec(cidr="192.0.2.0/24"))
    with pytest.raises(CannotSplit, match=r"IPPool split-all-1 already, and it has 192\.0\.2\.0/24"):
        split(POOL, 2, {"split-all-1": strange})
