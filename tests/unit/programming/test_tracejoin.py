"""Joining the kernel's trace messages into drops."""

from __future__ import annotations

import struct

import pytest

from calico.model.address import parse_address
from calico.programming.netlink import attribute
from calico.programming.trace import table_text
from calico.programming.tracejoin import Dropped, Joiner, Packet, Place

ACCEPT, DROP, CONTINUE, JUMP, RETURN = 1, 0, -1, -3, -5
POLICY, RULE = 1, 3
SYN_V4 = (
    bytes.fromhex("4500003ce87a400040063e2d0a0900010a090002"),
    bytes.fromhex("88840050c24042b400000000a002faf014430000"),
)
TCP_V4 = Packet(4, 6, parse_address("10.9.0.1"), parse_address("10.9.0.2"), 34948, 80)
FILTER = Place("ip", "calico", "filter-FORWARD", 7)


def message(
    place: Place,
    kind: int = RULE,
    verdict: int = CONTINUE,
    *,
    number: int = 1,
    to: str = "",
    headers: tuple[bytes, bytes] | None = None,
    interfaces: tuple[int, int] = (2, 3),
    policy: int | None = None,
) -> bytes:
    """A trace message as the kernel writes it."""
    family = {"inet": 1, "ip": 2, "ip6": 10}[place.family]
    body = bytes([family, 0, 0, 0])
    body += attribute(4, struct.pack(">I", kind)) + attribute(6, struct.pack(">I", number))
    body += attribute(1, place.table.encode() + b"\0") + attribute(2, place.chain.encode() + b"\0")
    if place.handle is not None:
        body += attribute(3, struct.pack(">Q", place.handle))
    if kind == RULE:
        target = attribute(2, to.encode() + b"\0") if to else b""
        body += attribute(5, attribute(1, struct.pack(">i", verdict)) + target)
    if policy is not None:
        body += attribute(16, struct.pack(">I", policy))
    if headers is not None:
        body += attribute(8, headers[0]) + attribute(9, headers[1])
        body += b"".join(
            attribute(kind, struct.pack(">I", index))
            for kind, index in zip((10, 12), interfaces, strict=True)
            if index
        )
    return body


def feed(*messages: bytes) -> list[Dropped]:
    joiner = Joiner()
    return [dropped for each in messages if (dropped := joiner.feed(each))]


def test_a_packet_is_joined_over_jumps_until_the_rule_that_drops_it() -> None:
    """The headers come with a base chain's first message, the verdict with a later one; the way between is kept."""
    policy = Place("ip", "calico", "cali-pi-gnp/x", 9)
    assert feed(
        message(FILTER, verdict=JUMP, to="cali-tw-1", headers=SYN_V4),
        message(Place("ip", "calico", "cali-tw-1", 8), verdict=JUMP, to="cali-pi-gnp/x"),
        message(policy, verdict=DROP),
    ) == [Dropped(TCP_V4, policy, ("filter-FORWARD", "cali-tw-1", "cali-pi-gnp/x"), 2, 3)]


def test_a_base_chains_policy_drops_without_a_rule() -> None:
    """A chain's own policy is a place without a handle."""
    chain = Place("inet", "foreign", "forward", None)
    assert feed(message(chain, verdict=RETURN, headers=SYN_V4), message(chain, POLICY, policy=DROP)) == [
        Dropped(TCP_V4, chain, ("forward",), 2, 3)
    ]


def test_accepted_packets_are_no_drops_and_leave_nothing_behind() -> None:
    """After an accept, or an accepting policy, the number belongs to nobody."""
    joiner = Joiner()
    assert joiner.feed(message(FILTER, verdict=ACCEPT, headers=SYN_V4)) is None
    assert joiner.feed(message(FILTER, verdict=DROP)) is None
    assert joiner.feed(message(FILTER, headers=SYN_V4)) is None
    assert joiner.feed(message(FILTER, POLICY, policy=ACCEPT)) is None
    assert joiner.feed(message(FILTER, verdict=DROP)) is None


def test_packets_on_their_way_at_one_time_are_told_apart_by_their_numbers() -> None:
    """Messages of two packets may come mixed."""
    dropped = feed(
        message(FILTER, headers=SYN_V4, number=1),
        message(FILTER, headers=SYN_V4, number=2, interfaces=(4, 0)),
        message(FILTER, verdict=ACCEPT, number=1),
        message(FILTER, verdict=DROP, number=2),
    )
    assert [(each.came_in, each.goes_out) for each in dropped] == [(4, 0)]


def test_a_packet_whose_beginning_was_lost_is_left_out() -> None:
    """Without headers there is nothing to tell; a message that makes no sense is no reason to stop."""
    assert feed(message(FILTER, verdict=DROP), b"", b"\2\0\0\0\1\0") == []


def test_packets_without_an_end_are_forgotten_in_time() -> None:
    """When the ends of many packets were lost, the oldest are given up."""
    joiner = Joiner()
    for number in range(5000):
        joiner.feed(message(FILTER, headers=SYN_V4, number=number))
    assert joiner.feed(message(FILTER, verdict=DROP, number=0)) is None
    assert joiner.feed(message(FILTER, verdict=DROP, number=4999)) is not None


@pytest.mark.parametrize(
    ("network", "transport", "packet"),
    [
        (
            "450000546e9340004001b8010a0900010a090002",
            "080013f32cea0001",
            Packet(4, 1, TCP_V4.source, TCP_V4.destination, icmp_type=8, icmp_code=0),
        ),
        (
            "6000000000203aff" + "0" * 31 + "1" + "fe80" + "0" * 27 + "2",
            "870029cf00000000",
            Packet(6, 58, parse_address("::1"), parse_address("fe80::2"), icmp_type=135, icmp_code=0),
        ),
        (
            "4500001e67d700b94011bee30a0900010a090002",
            "a3d10063000a1430",
            Packet(4, 17, TCP_V4.source, TCP_V4.destination),
        ),
        (
            "4500001e67d740004059bee30a0900010a090002",
            "",
            Packet(4, 89, TCP_V4.source, TCP_V4.destination),
        ),
    ],
    ids=["icmp", "icmpv6", "later fragment", "without ports"],
)
def test_what_a_packet_says_of_itself_is_read_as_far_as_it_goes(
    network: str, transport: str, packet: Packet
) -> None:
    """Types of ICMP, addresses of both families; a later fragment has no ports, whatever its bytes are."""
    headers = bytes.fromhex(network), bytes.fromhex(transport)
    (dropped,) = feed(message(FILTER, verdict=DROP, headers=headers))
    assert dropped.packet == packet


def test_the_table_that_traces_is_owned_by_its_socket_and_judges_nothing() -> None:
    """The kernel removes it with the process, and no rule of it has a verdict on a packet's fate."""
    text = table_text("calico-drops-1", None, 500)
    assert text.splitlines()[:10] == [
        "table inet calico-drops-1 {",
        "\tflags owner;",
        "\tchain early-prerouting {",
        "\t\ttype filter hook prerouting priority -350; policy accept;",
        '\t\tiifname != "lo" fib saddr . iif oif missing limit rate 100/second burst 100 packets meta nftrace set 1',
        "\t\tmeta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return",
        "\t\tlimit rate 100/second burst 100 packets meta nftrace set 1",
        "\t}",
        "\tchain tracked-prerouting {",
        "\t\ttype filter hook prerouting priority -199; policy accept;",
    ]
    assert not {"drop", "reject", "accept"} & set(text.replace("policy accept", "").split())


def test_what_is_asked_of_one_interface_is_chosen_by_the_kernel() -> None:
    """What comes in by it, and what the routes lead out by it, also after its destination was translated."""
    lines = [line.strip() for line in table_text("t", "cali1", 9).splitlines()]
    traced = "limit rate 9/second burst 9 packets meta nftrace set 1"
    assert [line for line in lines if line.endswith(traced) and "prerouting" not in line] == [
        f'ct state new,invalid,untracked iifname "cali1" {traced}',
        f'ct state new,invalid,untracked fib daddr oifname "cali1" {traced}',
        f'ct state new,invalid,untracked ct status dnat fib daddr oifname "cali1" {traced}',
        f'ct state new,invalid,untracked oifname "cali1" {traced}',
        f'ct state new,invalid,untracked ct status dnat oifname "cali1" {traced}',
    ]
