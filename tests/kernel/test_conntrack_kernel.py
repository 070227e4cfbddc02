"""Connections are forgotten by address, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from calico.model.address import Cidr, parse_address, parse_cidr
from calico.programming.conntrack import Deleted, Entry, entries, forget, forget_chosen
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

RULES = """
table ip track {
    chain zones { type filter hook output priority -300; ip daddr 127.7.0.0/16 ct zone set 7; }
    chain nat { type nat hook output priority -100; ip daddr 127.8.0.1 dnat to 127.0.8.8; }
    chain count { type filter hook output priority 0; ct state new accept; }
}
table ip6 track {
    chain count { type filter hook output priority 0; ct state new accept; }
}
"""

SEND = """
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        if sys.argv[1]:
            sender.bind((sys.argv[1], 0))
        sender.sendto(b"x", (address, 9))
"""


@pytest.fixture
def host() -> Iterator[Namespace]:
    with namespaces("t-conntrack-host") as (inside,):
        inside.run("nft", "-f", "-", stdin=RULES.replace("; }", "\n}").replace("; ", "\n"))
        yield inside


def send(host: Namespace, *addresses: str, source: str = "") -> None:
    """Open a connection to each address: one datagram."""
    host.run("python3", "-c", SEND, source, *addresses)


def tracked(host: Namespace) -> list[Entry]:
    """The datagrams' connections; what they were refused with is none of its own."""
    families = host.call(lambda: [*entries(4), *entries(6)])
    return [entry for entry in families if entry.protocol == 17]


def destinations(host: Namespace) -> set[str]:
    return {entry.destination.address for entry in tracked(host)}


def test_listing_shows_both_ends(host: Namespace) -> None:
    """An entry tells who opened it to whom, with protocol, ports and zone."""
    send(host, "127.7.0.1", source="127.0.0.5")

    (entry,) = tracked(host)

    assert (entry.source.address, entry.destination.address) == ("127.0.0.5", "127.7.0.1")
    assert (entry.protocol, entry.destination_port, entry.zone) == (17, 9, 7)
    assert (entry.replies_from, entry.replies_to) == (entry.destination, entry.source)


@pytest.mark.parametrize("others", [0, 20], ids=["few addresses", "many addresses"])
def test_only_the_given_addresses_are_forgotten(host: Namespace, others: int) -> None:
    """Connections that an address opened or answers go, all others stay, and the count is exact."""
    send(host, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    send(host, "127.0.0.9", source="127.0.0.2")
    addresses = [parse_cidr("127.0.0.2"), *(Cidr(4, (127 << 24) + 99000 + n, 32) for n in range(others))]

    assert host.call(lambda: forget(addresses)) == Deleted(2, 0)
    assert destinations(host) == {"127.0.0.3", "127.0.0.4"}
    assert host.call(lambda: forget(addresses)) == Deleted(0, 0)


@pytest.mark.parametrize("others", [0, 20], ids=["few addresses", "many addresses"])
def test_zones_translation_and_ipv6(host: Namespace, others: int) -> None:
    """Connections in a zone, to a translated address, and of IPv6 are forgotten too."""
    send(host, "127.7.0.1", "127.8.0.1", "::1", "127.0.0.3")
    addresses = [parse_address(text) for text in ("127.7.0.1", "127.0.8.8", "::1")]
    addresses += [Cidr(4, (127 << 24) + 99000 + n, 32) for n in range(others)]

    deleted = host.call(lambda: forget(addresses))

    assert deleted.refused == 0
    assert deleted.entries >= 3  # the refusal of the IPv6 datagram may be tracked as well
    assert destinations(host) == {"127.0.0.3"}


@pytest.mark.parametrize("entries_are_many", [False, True])
def test_the_kernels_filter_and_our_own_agree(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, entries_are_many: bool
) -> None:
    """Whether the kernel chooses the entries or we do, the same connections go."""
    monkeypatch.setattr("calico.programming.conntrack._MANY_ENTRIES", 1 if entries_are_many else 1_000_000)
    send(host, "127.0.0.2", "127.7.0.1", "127.8.0.1", "::1", "127.0.0.3", "127.9.0.2")
    send(host, "127.9.0.3", source="127.0.0.2")
    gone = [parse_address(text) for text in ("127.0.0.2", "127.7.0.1", "127.0.8.8", "::1")]

    deleted = host.call(lambda: forget(gone))

    assert deleted.refused == 0
    assert destinations(host) == {"127.0.0.3", "127.9.0.2"}


def test_an_empty_table_and_no_addresses(host: Namespace) -> None:
    """With nothing tracked, or nothing asked, nothing is deleted and nothing fails."""
    assert host.call(lambda: forget([parse_cidr("127.0.0.2"), parse_cidr("::1")])) == Deleted(0, 0)
    assert host.call(lambda: forget([])) == Deleted(0, 0)


def test_prefixes_are_refused(host: Namespace) -> None:
    """A prefix is an error of the caller, never a deletion of nothing."""
    with pytest.raises(ValueError, match="single addresses"):
        forget([parse_cidr("10.0.0.0/26")])


def test_many_connections_at_once(host: Namespace) -> None:
    """A thousand connections of one address among two thousand go in one call."""
    program = (
        "import socket\n"
        "for source in ('127.0.0.2', '127.0.0.3'):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((source, 0))\n"
        "    for n in range(1000): s.sendto(b'x', (f'127.2.{n // 250}.{n % 250 + 1}', 9))\n"
    )
    host.run("python3", "-c", program)

    assert host.call(lambda: forget([parse_cidr("127.0.0.2")])) == Deleted(1000, 0)
    assert {entry.source.address for entry in tracked(host)} == {"127.0.0.3"}


def connect(host: Namespace) -> None:
    """Open a TCP connection."""
    host.run(
        "python3",
        "-c",
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname())",
    )


def picks_up(host: Namespace) -> str:
    """Whether the kernel takes any TCP packet for the beginning of a connection."""
    return host.run("sysctl", "-n", "net.netfilter.nf_conntrack_tcp_loose").stdout.strip()


def test_chosen_connections_are_forgotten(host: Namespace) -> None:
    """Those that are chosen go, of the families asked for, and every other one stays the same one."""
    send(host, "127.0.0.3", "127.0.0.4", "127.8.0.1", "::1")
    before = {entry.destination.address: entry.id for entry in tracked(host)}
    gone = {"127.0.0.4", "127.0.8.8", "::1"}

    deleted = host.call(lambda: forget_chosen(lambda entry: entry.replies_from.address in gone, [4]))

    assert deleted.refused == 0
    assert deleted.entries >= 2  # what they were refused with may be tracked as well
    after = {entry.destination.address: entry.id for entry in tracked(host)}
    assert after == {address: before[address] for address in ("127.0.0.3", "::1")}
    assert len(set(before.values())) == len(before)


def test_a_kernel_setting_that_cannot_be_written(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection is forgotten all the same, and the caller learns that it may come back."""
    monkeypatch.setattr("calico.programming.conntrack._PICK_UP", tmp_path / "absent")
    connect(host)
    chosen = host.call(lambda: forget_chosen(lambda entry: entry.protocol == 6, [4]))
    assert chosen == Deleted(1, 0, resumable=True)


def test_forgotten_tcp_connections_begin_with_their_beginning(host: Namespace) -> None:
    """The kernel stops to pick up connections in their middle when the first one of TCP is forgotten, and not before."""
    assert picks_up(host) == "1"
    send(host, "127.0.0.3")
    assert host.call(lambda: forget_chosen(lambda entry: entry.protocol == 17, [4, 6])).entries == 1
    assert picks_up(host) == "1"
    connect(host)
    assert host.call(lambda: forget_chosen(lambda _: False, [4, 6])) == Deleted(0, 0)
    assert picks_up(host) == "1"
    assert host.call(lambda: forget_chosen(lambda entry: entry.protocol == 6, [4, 6])) == Deleted(1, 0)
    assert picks_up(host) == "0"


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", (1, 8, 0)), ("::1", (58, 128, 0))])
def test_a_ping_is_known_by_type_and_code(
    host: Namespace, address: str, expected: tuple[int, int, int]
) -> None:
    """An entry of ICMP tells what its first packet was; other entries tell nothing of the kind."""
    host.run("ping", "-n", "-q", "-c", "1", address)
    send(host, "127.0.0.3")
    found = host.call(lambda: [*entries(4), *entries(6)])
    assert {
        (each.protocol, each.icmp_type, each.icmp_code) for each in found if each.icmp_type in {8, 128}
    } == {expected}
    assert {(each.icmp_type, each.expected) for each in found if each.protocol == 17} == {(None, False)}
