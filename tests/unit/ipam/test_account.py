"""What is known of one address, whatever its state; and how full pools, blocks and hosts are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from calico.ipam.account import Account, Queue, account
from calico.ipam.utilisation import HostUse, Use, utilisation
from calico.model.address import parse_address
from support.ipam_pictures import SEQUENCE, Content, attribute, block, sound

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def of(content: Content, address: str) -> Account:
    return account(content.picture(), parse_address(address), NOW)


def test_an_address_in_use_has_an_owner_that_lives() -> None:
    """Handle, node, block, pool, time, sequence number and who uses it."""
    owner = attribute("h.web", pod="web", namespace="shop", node="a", timestamp="2025-12-31")
    found = of(sound().block(block("10.65.0.0/30", given={0: owner})), "10.65.0.0")
    assert (found.state, found.handle, found.node, found.since) == ("allocated", "h.web", "a", "2025-12-31")
    assert (found.block, found.affinity, found.sequence_number) == ("10.65.0.0/30", "host:a", SEQUENCE)
    assert found.pool is not None
    assert tuple(found.pool) == ("all", "10.65.0.0/16", False)
    assert found.life is not None
    assert (found.life.alive, found.life.reason) == (True, "Workload(shop/web) uses it")
    assert (found.borrowed_from, found.problems) == ("", ())


@pytest.mark.parametrize(
    ("values", "alive", "reason"),
    [
        ({"pod": "web", "namespace": "shop", "node": "a"}, False, "shop/web exists, but does not use it"),
        ({"pod": "old", "namespace": "shop", "node": "a"}, False, "shop/old is gone"),
        ({"pod": "old", "node": "z"}, False, "node z is gone, too"),
        ({"type": "vxlanTunnelAddress", "node": "a"}, False, "node a exists, but names it nowhere"),
        ({"type": "vxlanTunnelAddress", "node": "z"}, False, "that node is gone"),
        ({"service": "shop/lb"}, False, "no service has it"),
        ({"vmi-name": "vm", "namespace": "shop"}, None, "kept for VirtualMachine(shop/vm)"),
        ({}, False, "no endpoint, node or service uses it"),
    ],
)
def test_an_owner_that_does_not_use_its_address(
    values: dict[str, str], alive: bool | None, reason: str
) -> None:
    """Each way in which it may be gone has its reason; what cannot be known is not claimed."""
    found = of(sound().block(block("10.65.0.4/30", given={0: attribute("h", **values)})), "10.65.0.4")
    assert found.life is not None
    assert (found.life.alive, reason in found.life.reason) == (alive, True), found.life.reason


def test_windows_keeps_addresses() -> None:
    """They are nobody's leak."""
    kept = attribute("windows-reserved-ipam-handle")
    found = of(sound().block(block("10.65.0.4/30", given={0: kept}), handles=False), "10.65.0.4")
    assert found.life is not None
    assert found.life.alive is True
    assert found.problems == ()


def test_a_borrowed_address_names_the_lender() -> None:
    """The block is another host's, or nobody's."""
    given = {0: attribute("h", node="b")}
    assert of(sound().block(block("10.65.0.4/30", "host:a", given)), "10.65.0.4").borrowed_from == "a"
    assert of(sound().block(block("10.65.0.4/30", None, given)), "10.65.0.4").borrowed_from == "nobody"


def test_a_free_address_knows_its_turn() -> None:
    """Reserved ones before it in the queue are not given, and do not count."""
    content = sound().reservation("r", ["10.65.0.1/32"])
    assert of(content, "10.65.0.3").queue == Queue(1, 2)
    reserved = of(content, "10.65.0.1")
    assert (reserved.state, reserved.reserved_by, reserved.queue) == ("reserved", ("r",), None)


@pytest.mark.parametrize(
    ("address", "state"),
    [("10.65.0.1", "free"), ("10.65.9.9", "unclaimed"), ("192.0.2.1", "outside"), ("10.65.0.2", "lost")],
)
def test_addresses_that_nobody_has(address: str, state: str) -> None:
    """Free in a block, in no block yet, in no pool, forgotten by a block that contradicts itself."""
    content = sound()
    content.block(msgspec.structs.replace(block("10.65.0.0/30"), unallocated=[0, 1, 3]))
    assert of(content, address).state == state


def test_an_address_that_cools_down() -> None:
    """Until when, by the settings of now; afterwards it is free to be given."""
    cools = attribute(None, released_at="2026-01-01T00:00:30Z")
    content = sound().block(block("10.65.0.4/30", given={0: cools}))
    found = of(content.configuration(ip_cooldown_seconds=90), "10.65.0.4")
    assert (found.state, found.cool_until, found.life) == ("cooling", "2026-01-01T00:02:00Z", None)
    assert of(content.configuration(ip_cooldown_seconds=10), "10.65.0.4").cool_until == ""


def test_use_without_an_allocation_is_a_problem() -> None:
    """It is free, so another may get it; the account says so."""
    content = sound().workload("thief", "b", "10.65.0.1")
    found = of(content, "10.65.0.1")
    assert (found.state, found.users) == ("free", ("Workload(shop/thief)",))
    assert found.problems == (
        "Workload(shop/thief) uses it, though IPAM gave it to nobody, and may give it to another",
    )


def test_a_missing_or_wrong_count_is_told() -> None:
    """Of its handle in its block."""
    assert "counts 5 in block" in of(sound().handle("h.web", {"10.65.0.0/30": 5}), "10.65.0.0").problems[0]
    content = sound().block(block("10.65.0.4/30", given={0: attribute("h.none")}), handles=False)
    assert of(content, "10.65.0.4").problems == ("its handle h.none has no record",)


# --- utilisation -------------------------------------------------------------------------------------


def test_counts_of_pools_blocks_and_hosts() -> None:
    """In use includes what cools; what is both reserved and in use counts as both, and is subtracted once."""
    cools = attribute(None, released_at="2026-01-01T00:00:30Z")
    given: dict[int, Any] = {0: attribute("h", node="b"), 1: cools}
    content = sound().block(block("10.65.0.4/30", "host:a", given)).reservation("r", ["10.65.0.4/31"])
    content.reservation("same", ["10.65.0.4/32", "10.65.1.0/24"]).block(block("172.16.0.0/30", "host:gone"))
    found = utilisation(content.picture())
    pool, orphans = found.pools
    assert pool.use == Use(total=65536, in_use=3, reserved=258, cooling=1, free=65536 - 3 - 258 + 2)
    assert [each.use for each in pool.blocks] == [Use(4, 1, 0, 0, 3), Use(4, 2, 2, 1, 2)]
    assert (orphans.name, orphans.cidr, orphans.use) == ("", None, Use(4, 0, 0, 0, 4))
    assert found.hosts == [
        HostUse("a", blocks=2, total=8, in_use=3, free=5, lent=1),
        HostUse("b", borrowed=1),
        HostUse("gone", exists=False, blocks=1, total=4, free=4),
    ]


def test_blocks_count_for_the_smallest_pool_around_them() -> None:
    """While a pool is split, both the old and the new one hold them."""
    found = utilisation(sound().pool("part", "10.65.0.0/17").picture())
    assert {each.name: len(each.blocks) for each in found.pools} == {"all": 0, "part": 1}


def test_a_pool_of_ipv6_is_counted_exactly() -> None:
    """However many addresses it has."""
    found = utilisation(sound().pool("six", "fd00::/48").picture())
    assert {each.name: each.use.free for each in found.pools}["six"] == 1 << 80
