"""Which pools and which blocks a host may use."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.ipam import block as blocks
from calico.ipam.errors import NoSuchPool
from calico.ipam.plan import (
    BLOCKS_PER_HOST,
    Pool,
    block_limit,
    fnv32,
    in_order,
    new_blocks,
    own_blocks,
    reclaimable,
    start,
    usable_pools,
)
from calico.model.address import parse_cidr
from calico.model.ipam import IPAMBlock
from support.speakers import pool


def usable(*pools, family=4, labels=None, **options) -> list[str]:
    found = usable_pools({one.metadata.name: one for one in pools}, family, labels or {}, **options)
    return [one.name for one in found]


def test_pools_come_in_order_of_name_with_default_block_sizes() -> None:
    """Pools are used alphabetically; blocks are /26 and /122 unless the pool says otherwise."""
    pools = {
        "b": pool("b", "10.1.0.0/16"),
        "a": pool("a", "10.2.0.0/16", block_size=28),
        "c": pool("c", "fd00::/48"),
    }

    assert usable_pools(pools, 4, {}) == (
        Pool("a", parse_cidr("10.2.0.0/16"), 28),
        Pool("b", parse_cidr("10.1.0.0/16"), 26),
    )
    assert usable_pools(pools, 6, {}) == (Pool("c", parse_cidr("fd00::/48"), 122),)


@pytest.mark.parametrize(
    "spec",
    [
        {"disabled": True},
        {"assignment_mode": "Manual"},
        {"allowed_uses": ["Tunnel"]},
        {"allowed_uses": ["LoadBalancer"]},
        {"node_selector": "rack == '2'"},
        {"namespace_selector": "team == 'red'"},
        {"node_selector": "rack =="},
        {"block_size": 8},
        {"block_size": 33},
    ],
)
def test_pool_that_may_not_be_used(spec: dict[str, object]) -> None:
    """Disabled, manual, for other uses, for other nodes or namespaces, or senseless: not used."""
    assert usable(pool("p", "10.0.0.0/16", **spec), labels={"rack": "1"}) == []


def test_pool_with_a_senseless_prefix_is_left_out() -> None:
    """A pool whose CIDR cannot be read costs nobody else anything."""
    assert usable(pool("bad", "10.0.0.0/99"), pool("good", "10.0.0.0/16")) == ["good"]


def test_selectors_and_uses_that_match() -> None:
    """Pools that select the node, the namespace or the use are used."""
    assert usable(pool("p", "10.0.0.0/16", node_selector="rack == '1'"), labels={"rack": "1"}) == ["p"]
    red = pool("p", "10.0.0.0/16", namespace_selector="team == 'red'")
    assert usable(red, namespace_labels={"team": "red"}) == ["p"]
    assert usable(pool("p", "10.0.0.0/16"), use="Tunnel") == ["p"]
    assert usable(pool("p", "10.0.0.0/16", allowed_uses=["LoadBalancer"]), use="LoadBalancer") == ["p"]


def test_fnv_is_the_published_one() -> None:
    """The hash is 32-bit FNV-1: its published value for the empty text, and one step worked out by hand."""
    assert fnv32("") == 2166136261
    assert fnv32("a") == (2166136261 * 16777619) % 2**32 ^ ord("a")


@given(st.text(max_size=20), st.integers(min_value=0, max_value=6))
def test_search_visits_every_block_once(name: str, bits: int) -> None:
    """Wherever a host begins, it comes to every block of the pool exactly once, going round at the end."""
    pool_ = Pool("p", parse_cidr("10.65.0.0/20"), 20 + bits)
    found = list(new_blocks(pool_, start(pool_, name, 0), ()))

    assert len(set(found)) == len(found) == 2**bits
    assert all(pool_.cidr.contains(block) and block.length == 20 + bits for block in found)
    ordered = sorted(found)
    begin = ordered.index(found[0])
    assert found == ordered[begin:] + ordered[:begin]
    assert in_order(pool_, start(pool_, name, 0), reversed(ordered)) == found


def test_hosts_begin_at_different_places() -> None:
    """Hosts with different names seldom want the same block first; a host always begins at the same place."""
    pool_ = Pool("p", parse_cidr("10.65.0.0/16"), 26)

    assert len({start(pool_, f"host-{index}", 0) for index in range(20)}) > 15
    assert len({start(pool_, "host", moment) for moment in range(20)}) == 1


def test_single_addresses_are_looked_for_somewhere_else_each_time() -> None:
    """Where blocks are single addresses, time decides where a host begins: it will need many of them."""
    pool_ = Pool("p", parse_cidr("10.65.0.0/22"), 32)

    assert len({start(pool_, "host", moment) for moment in range(20)}) > 15


def test_existing_and_reserved_blocks_are_no_candidates() -> None:
    """Blocks that exist are passed over, those that overlap one of another size, and those that are wholly reserved."""
    pool_ = Pool("p", parse_cidr("10.0.0.0/28"), 30)
    existing = [parse_cidr(text) for text in ("10.0.0.0/30", "10.0.0.6/31", "10.9.0.0/30")]
    reserved = [parse_cidr("10.0.0.8/29"), parse_cidr("10.0.0.4/32")]

    assert list(new_blocks(pool_, 0, existing)) == [parse_cidr("10.0.0.8/30"), parse_cidr("10.0.0.12/30")]
    assert list(new_blocks(pool_, 0, (), reserved)) == [parse_cidr("10.0.0.0/30"), parse_cidr("10.0.0.4/30")]


def test_huge_pools_are_searched_lazily() -> None:
    """An IPv6 pool with 2^74 blocks gives its first candidates at once, and orders those that exist."""
    pool_ = Pool("p", parse_cidr("fd00::/48"), 122)
    few = list(islice(new_blocks(pool_, 2**74 - 2, ()), 3))

    assert [str(block) for block in few] == [
        "fd00::ffff:ffff:ffff:ffff:ff80/122",
        "fd00::ffff:ffff:ffff:ffff:ffc0/122",
        "fd00::/122",
    ]
    assert in_order(pool_, 2**74 - 2, sorted(few)) == few


def test_own_blocks_follow_the_order_of_pools() -> None:
    """A host's own blocks are tried by pool, then by address; those outside usable pools are not."""
    pools = [Pool("a", parse_cidr("10.2.0.0/16"), 26), Pool("b", parse_cidr("10.1.0.0/16"), 26)]
    held = [parse_cidr(text) for text in ("10.1.0.64/26", "10.2.0.0/26", "10.1.0.0/26", "10.3.0.0/26")]

    assert [str(block) for block in own_blocks(pools, held)] == ["10.2.0.0/26", "10.1.0.0/26", "10.1.0.64/26"]


def test_block_may_be_taken_over_when_it_is_empty_and_not_new() -> None:
    """Not one's own, not nobody's, not one with addresses, not wholly reserved, not before a minute is over."""
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    cidr = parse_cidr("10.0.0.0/30")

    def block(owner: str | None, claimed_at: str | None = "2026-01-01T00:00:00Z") -> IPAMBlock:
        return blocks.create(cidr, owner, sequence_number=1, claimed_at=claimed_at)

    assert reclaimable(block("host:b"), "host:a", now)
    assert reclaimable(block("host:b", None), "host:a", now)
    assert not reclaimable(block("host:a"), "host:a", now)
    assert not reclaimable(block(None), "host:a", now)
    assert not reclaimable(block("host:b", "2026-01-01T00:00:01Z"), "host:a", now)
    assert not reclaimable(blocks.assign(block("host:b"), "h", {}, 1)[0], "host:a", now)
    assert not reclaimable(block("host:b"), "host:a", now, [parse_cidr("10.0.0.0/24")])


@pytest.mark.parametrize(
    ("requested", "configured", "limit"),
    [(0, 0, BLOCKS_PER_HOST), (3, 0, 3), (0, 500, 500), (3, 5, 3), (9, 5, 5)],
)
def test_limit_of_blocks(requested: int, configured: int, limit: int) -> None:
    """The smaller of what the request and the settings say; the built-in limit where neither does."""
    assert block_limit(requested, configured) == limit


POOL_NAMES = st.lists(st.sampled_from("abcd"), unique=True, max_size=4)


@given(POOL_NAMES, POOL_NAMES, st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_choice_of_pools(
    stored: list[str], requested: list[str], disabled: set[str], manual: set[str]
) -> None:
    """Requested ones in their order, or an error if one is not to be had; else all that are automatic, by name."""
    pools = {
        name: pool(
            name,
            f"10.{ord(name)}.0.0/16",
            disabled=name in disabled,
            assignment_mode="Manual" if name in manual else None,
        )
        for name in stored
    }
    good = [name for name in stored if name not in disabled]
    if requested and not set(requested) <= set(good):
        with pytest.raises(NoSuchPool):
            usable_pools(pools, 4, {}, requested=requested)
        return
    found = [each.name for each in usable_pools(pools, 4, {}, requested=requested)]
    assert found == (requested or sorted(set(good) - manual))
