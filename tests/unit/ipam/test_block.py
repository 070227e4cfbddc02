"""A block of addresses, as a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.ipam import block as blocks
from calico.ipam.block import Release
from calico.model.address import Cidr, parse_address, parse_cidr
from calico.model.ipam import IPAMBlock

OWNER = "host:a"


def new(cidr: str = "10.65.0.0/30") -> IPAMBlock:
    return blocks.create(parse_cidr(cidr), OWNER, sequence_number=1000)


def release(block: IPAMBlock, addresses: Iterable[Cidr]) -> tuple[IPAMBlock, tuple[Cidr, ...]]:
    """The block without ``addresses``, and what was freed."""
    outcome = blocks.release(block, map(Release, addresses))
    return outcome.block, outcome.freed


def texts(addresses: tuple[Cidr, ...]) -> list[str]:
    return [address.address for address in addresses]


def test_new_block_hands_out_every_address_in_order() -> None:
    """All addresses of a block are given, from the first to the last, and then no more."""
    block, addresses = blocks.assign(new(), "h", {}, 9)

    assert texts(addresses) == ["10.65.0.0", "10.65.0.1", "10.65.0.2", "10.65.0.3"]
    assert blocks.assign(block, "h", {}, 1) == (block, ())
    assert not blocks.has_room(block)


def test_freed_addresses_are_used_again_as_late_as_possible() -> None:
    """What was freed first is taken first, after all that was never used."""
    block, addresses = blocks.assign(new(), "h", {}, 3)
    block, freed = release(block, [addresses[1], addresses[0]])
    assert freed == (addresses[1], addresses[0])

    _, again = blocks.assign(block, "h", {}, 9)

    assert texts(again) == ["10.65.0.3", "10.65.0.1", "10.65.0.0"]


def test_reserved_addresses_are_skipped_and_keep_their_place() -> None:
    """Reserved addresses are passed over now, and are next when no longer reserved."""
    reserved = [parse_cidr("10.65.0.0/31")]
    block, addresses = blocks.assign(new(), "h", {}, 1, reserved=reserved)

    assert texts(addresses) == ["10.65.0.2"]
    assert block.unallocated == [0, 1, 3]


def test_owner_is_noted_once_for_many_addresses() -> None:
    """Addresses of the same handle and attributes share one entry; it goes with the last of them."""
    block, one = blocks.assign(new(), "h", {"pod": "p"}, 1)
    block, two = blocks.assign(block, "h", {"pod": "p"}, 1)
    block, other = blocks.assign(block, "h", {"pod": "q"}, 1)
    assert [attribute.secondary for attribute in block.attributes] == [{"pod": "p"}, {"pod": "q"}]

    block, _ = release(block, one + two)

    assert [attribute.secondary for attribute in block.attributes] == [{"pod": "q"}]
    assert blocks.held(block, "h") == other


def test_each_write_counts_and_each_allocation_remembers() -> None:
    """The sequence number grows with every change, and an allocation notes the one it was made at."""
    block, addresses = blocks.assign(new(), "h", {}, 2)
    assert (block.sequence_number, block.sequence_number_for_allocation) == (1001, {"0": 1000, "1": 1000})

    block, _ = release(block, addresses[:1])

    assert (block.sequence_number, block.sequence_number_for_allocation) == (1002, {"1": 1000})


@pytest.mark.parametrize("text", ["10.65.0.3", "10.65.0.4", "fd00::", "10.65.0.0/30"])
def test_releasing_what_is_not_assigned_changes_nothing(text: str) -> None:
    """Free addresses, those of other blocks, and prefixes are passed over."""
    block, _ = blocks.assign(new(), "h", {}, 1)

    assert release(block, [parse_cidr(text)]) == (block, ())


def test_held_tells_handles_apart() -> None:
    """Only the addresses of the handle asked for are its own."""
    block, _ = blocks.assign(new(), "one", {}, 1)
    block, second = blocks.assign(block, "two", {}, 2)

    assert blocks.held(block, "two") == second
    assert blocks.held(block, "three") == ()


def test_ipv6_block() -> None:
    """IPv6 blocks work alike."""
    block, addresses = blocks.assign(new("fd00:65::40/122"), "h", {}, 2)

    assert texts(addresses) == ["fd00:65::40", "fd00:65::41"]
    assert len(block.allocations) == 64
    assert release(block, [parse_address("fd00:65::41")])[1] == (addresses[1],)


def test_json_is_laid_out_as_calico_writes_it() -> None:
    """The names in the JSON are those of Calico's etcd layout."""
    block, _ = blocks.assign(
        blocks.create(
            parse_cidr("10.65.0.0/31"), OWNER, sequence_number=7, claimed_at="2026-01-02T03:04:05Z"
        ),
        "h",
        {"pod": "p"},
        1,
    )

    assert msgspec.json.decode(msgspec.json.encode(block)) == {
        "cidr": "10.65.0.0/31",
        "affinity": "host:a",
        "affinity_claim_time": "2026-01-02T03:04:05Z",
        "allocations": [0, None],
        "unallocated": [1],
        "attributes": [
            {"handle_id": "h", "secondary": {"pod": "p"}, "alternateOwnerAttrs": None, "releasedAt": None}
        ],
        "sequenceNumber": 8,
        "sequenceNumberForAllocation": {"0": 7},
        "deleted": False,
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), st.sampled_from(["h", "i", "j"]), st.integers(min_value=0, max_value=5)),
        st.tuples(
            st.just("release"),
            st.just(""),
            st.integers(min_value=0, max_value=9),
        ),
        st.tuples(st.just("forget"), st.sampled_from(["h", "i", "j"]), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sets(st.integers(min_value=0, max_value=7), max_size=3))
def test_every_ordinal_is_free_or_allocated_exactly_once(
    steps: list[tuple[str, str, int]], reserved: set[int]
) -> None:
    """Whatever is assigned and released, the block agrees with a plain queue and a plain dictionary."""
    cidr = parse_cidr("10.65.0.0/29")
    block = blocks.create(cidr, OWNER, sequence_number=0)
    queue = [blocks.address_at(cidr, ordinal) for ordinal in range(8)]
    owners: dict[Cidr, str] = {}
    skipped = [blocks.address_at(cidr, ordinal) for ordinal in reserved]

    for step, handle, number in steps:
        before = block
        if step == "assign":
            block, got = blocks.assign(block, handle, {"for": handle}, number, reserved=skipped)
            expected = [address for address in queue if address not in skipped][:number]
            assert list(got) == expected
            owners.update(dict.fromkeys(expected, handle))
            queue = [address for address in queue if address not in expected]
        else:
            wanted = (
                blocks.held(block, handle) if step == "forget" else (blocks.address_at(cidr, number % 8),)
            )
            block, got = release(block, wanted)
            assert list(got) == [address for address in wanted if address in owners]
            queue += got
            for address in got:
                del owners[address]

        allocated = [ordinal for ordinal, index in enumerate(block.allocations) if index is not None]
        assert Counter(allocated + block.unallocated) == Counter(range(8))
        assert [blocks.address_at(cidr, ordinal) for ordinal in block.unallocated] == queue
        for name in ("h", "i", "j"):
            assert set(blocks.held(block, name)) == {
                address for address, owner in owners.items() if owner == name
            }
        assert {index for index in block.allocations if index is not None} == set(
            range(len(block.attributes))
        )
        assert set(block.sequence_number_for_allocation) == set(map(str, allocated))
        assert (block == before) == (not got)
        assert blocks.is_empty(block) == (not owners)
