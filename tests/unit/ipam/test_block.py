"""A block of addresses, as a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.ipam import block as blocks
from calico.ipam.block import Release
from calico.ipam.errors import AlreadyAssigned
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


def at(second: int) -> datetime:
    """So many seconds after some beginning."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def text(second: int) -> str:
    return at(second).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_release_goes_by_handle_and_sequence_number() -> None:
    """What has another owner now, or was given anew, is refused; the rest of the same request is freed."""
    block, (one, two, three) = blocks.assign(new(), "h", {}, 3)
    outcome = blocks.release(
        block,
        [
            Release(one, "i"),
            Release(two, "h", 999),
            Release(three, "h", 1000),
            Release(three),
            Release(parse_address("10.65.0.3")),
        ],
    )

    assert outcome.freed == (three,)
    assert [address for address, _ in outcome.refused] == [one, two]
    assert "handle h, not of i" in outcome.refused[0].reason
    assert [each.address for each in outcome.unallocated] == ["10.65.0.3"]


def test_handle_ends_at_a_carriage_return() -> None:
    """Handles that were migrated from another tool's files have more after it, which is not part of them."""
    block, addresses = blocks.assign(new(), "h\reth0", {}, 1)

    assert blocks.held(block, "h") == addresses
    assert blocks.release(block, [Release(addresses[0], "h")]).freed == addresses


def test_certain_address_is_given_wherever_it_stands_in_the_queue() -> None:
    """The queue closes up behind it; it cannot be given twice, also not while it cools down."""
    address = parse_address("10.65.0.2")
    block = blocks.assign_address(new(), address, "h", {"pod": "p"})

    assert block.unallocated == [0, 1, 3]
    assert blocks.held(block, "h") == (address,)
    with pytest.raises(AlreadyAssigned) as taken:
        blocks.assign_address(block, address, "i", {})
    assert (taken.value.handle, taken.value.attributes) == ("h", {"pod": "p"})
    cooling = blocks.release(block, [Release(address)], released_at=text(0)).block
    with pytest.raises(AlreadyAssigned) as cools:
        blocks.assign_address(cooling, address, "i", {})
    assert cools.value.handle is None


def test_cooling_ends_when_the_time_is_surely_over() -> None:
    """Times are noted to the second, so the second of the release itself has to be over; nonsense is long ago."""
    block, addresses = blocks.assign(new(), "h", {}, 2)
    block = blocks.release(block, [Release(addresses[0])], released_at=text(5)).block
    block = blocks.release(block, [Release(addresses[1])], released_at="soon").block

    assert blocks.thaw(block, at(0))[1] == (addresses[1],)
    assert blocks.thaw(block, at(5) + timedelta(milliseconds=999))[1] == (addresses[1],)
    thawed, freed = blocks.thaw(block, at(6))
    assert freed == (addresses[1], addresses[0])
    assert thawed.unallocated == [2, 3, 1, 0]
    assert blocks.is_empty(thawed)
    assert not blocks.is_empty(block)


def test_addresses_that_windows_keeps_do_not_make_a_block_used() -> None:
    """A host with Windows reserves some in each block; the block counts as empty all the same."""
    block, _ = blocks.assign(new(), "Windows-Reserved-IPAM-Handle", {"note": "windows host rsvd"}, 3)

    assert blocks.is_empty(block)
    assert not blocks.is_empty(blocks.assign(block, "h", {}, 1)[0])


def test_block_without_an_owner() -> None:
    """Owner and time of the claim go, addresses stay, and the sequence number tells of the write."""
    block = blocks.create(parse_cidr("10.65.0.0/30"), OWNER, sequence_number=7, claimed_at=text(0))
    block, addresses = blocks.assign(block, "h", {}, 1)
    orphan = blocks.disowned(block)

    assert (orphan.affinity, orphan.affinity_claim_time, orphan.sequence_number) == (None, None, 9)
    assert blocks.held(orphan, "h") == addresses


HANDLES = st.sampled_from(["h", "i", "j"])
ORDINALS = st.integers(min_value=0, max_value=7)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), HANDLES, st.integers(min_value=0, max_value=5)),
        st.tuples(st.just("name"), HANDLES, ORDINALS),
        st.tuples(st.just("release"), st.sampled_from(["", "h", "i", "j"]), ORDINALS),
        st.tuples(st.just("cool"), st.just(""), ORDINALS),
        st.tuples(st.just("thaw"), st.just(""), st.integers(min_value=0, max_value=10)),
        st.tuples(st.just("forget"), HANDLES, st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sets(ORDINALS, max_size=3))
def test_every_ordinal_is_free_allocated_or_cooling_exactly_once(
    steps: list[tuple[str, str, int]], reserved: set[int]
) -> None:
    """Whatever is assigned and released, the block agrees with a plain queue and plain dictionaries."""
    cidr = parse_cidr("10.65.0.0/29")
    every = [blocks.address_at(cidr, ordinal) for ordinal in range(8)]
    block = blocks.create(cidr, OWNER, sequence_number=0)
    queue = list(every)
    owners: dict[Cidr, str] = {}
    numbers: dict[Cidr, int] = {}
    cooling: dict[Cidr, int] = {}
    skipped = [every[ordinal] for ordinal in reserved]

    for second, (step, handle, number) in enumerate(steps):
        before = block
        got: tuple[Cidr, ...] = ()
        if step == "assign":
            block, got = blocks.assign(block, handle, {"for": handle}, number, reserved=skipped)
            assert list(got) == [address for address in queue if address not in skipped][:number]
        elif step == "name":
            if every[number] in queue:
                block, got = (
                    blocks.assign_address(block, every[number], handle, {"for": handle}),
                    (every[number],),
                )
            else:
                with pytest.raises(AlreadyAssigned):
                    blocks.assign_address(block, every[number], handle, {})
        elif step == "thaw":
            block, got = blocks.thaw(block, at(second - number))
            due = sorted((since, address) for address, since in cooling.items() if since < second - number)
            assert list(got) == [address for _, address in due]
        else:
            wanted = blocks.held(block, handle) if step == "forget" else (every[number],)
            cool = text(second) if step == "cool" else None
            outcome = blocks.release(
                block, [Release(each, handle or None) for each in wanted], released_at=cool
            )
            block, got = outcome.block, outcome.freed
            assert list(got) == [
                each for each in wanted if owners.get(each) in {handle or owners.get(each)} - {None}
            ]
        if step in {"assign", "name"}:
            owners.update(dict.fromkeys(got, handle))
            numbers.update(dict.fromkeys(got, before.sequence_number))
            queue = [address for address in queue if address not in got]
        elif step == "thaw":
            queue += got
            cooling = {address: since for address, since in cooling.items() if address not in got}
        else:
            for address in got:
                del owners[address], numbers[address]
            if step == "cool":
                cooling.update(dict.fromkeys(got, second))
            else:
                queue += got

        allocated = [ordinal for ordinal, index in enumerate(block.allocations) if index is not None]
        assert Counter(allocated + block.unallocated) == Counter(range(8))
        assert {every[ordinal] for ordinal in allocated} == set(owners) | set(cooling)
        assert [every[ordinal] for ordinal in block.unallocated] == queue
        for address in every:
            assert blocks.held_by(block, address) == ("" if address in cooling else owners.get(address))
            assert blocks.sequence_number_of(block, address) == numbers.get(address)
        used = {index for index in block.allocations if index is not None}
        assert used == set(range(len(block.attributes)))
        assert len({msgspec.json.encode(each) for each in block.attributes}) == len(block.attributes)
        assert block.sequence_number == before.sequence_number + bool(got)
        assert (block == before) == (not got)
        assert blocks.is_empty(block) == (not owners and not cooling)
        assert blocks.has_room(block, skipped) == any(address not in skipped for address in queue)
