"""Flows, samples, and what is shown of them."""

from __future__ import annotations

import json

import pytest

from calico.lab import matrix
from calico.lab.flows import ICMP, LARGEST, End, Flow, Row, Service, ends, flows, pairs, parse_services
from calico.lab.names import hosts_file
from calico.lab.topology import Topology, regular


def addresses(topology: Topology) -> dict[str, tuple[str, str]]:
    return {
        workload.name: (f"10.244.{index // 250}.{index % 250}", f"fd00:244::{index + 1:x}")
        for index, workload in enumerate(topology.workloads)
    }


def everybody(topology: Topology) -> tuple[End, ...]:
    return ends(topology, addresses(topology))


def test_the_default_lab_has_182_ordered_pairs() -> None:
    """Twelve workloads, the bare-metal host, the internet."""
    known = everybody(regular())

    assert len(known) == 14
    assert len(pairs(known)) == 182
    assert len(flows(pairs(known), parse_services(["TCP/80", "UDP/53"]))) == 182 * 2 * 3


def test_a_large_lab_is_sampled_the_same_way_each_time_unless_all_is_asked() -> None:
    """2,000 pairs, whatever the order in which the ends are listed; everybody takes part."""
    known = everybody(regular(5, 8, 3))

    sample = pairs(known)

    assert len(sample) == LARGEST
    assert set(sample) == set(pairs(tuple(reversed(known))))
    assert {end for pair in sample for end in pair} == set(known)
    assert len(pairs(known, whole=True)) == len(known) * (len(known) - 1)


@pytest.mark.parametrize("text", ["", "TCP/0", "TCP/65536", "SCTP/80", "tcp/x", "TCP/8_0", "ICMP"])
def test_what_is_no_service_is_refused(text: str) -> None:
    """A protocol with ports, and a port."""
    with pytest.raises(ValueError, match="no service"):
        parse_services([text])


def test_services_are_read_in_any_case_and_counted_once() -> None:
    """A bare number is TCP."""
    assert parse_services(["tcp/80", "80", "udp/53"]) == (Service("TCP", 80), Service("UDP", 53))


A = End("a", "h1", "shop", "10.0.0.1", "fd00::1")
B = End("b", "h2", "bank", "10.0.0.2", "fd00::2")
WEB = Service("TCP", 80)


def test_a_row_in_json_has_the_promised_fields() -> None:
    """port is null for ICMP; the reason of an error is for people."""
    row = Row(Flow(A, B, 6, ICMP), "allow", "error", "no route")

    assert json.loads(json.dumps(row.document())) == {
        "source": "a",
        "destination": "b",
        "ipVersion": 6,
        "protocol": "ICMP",
        "port": None,
        "expected": "allow",
        "observed": "error",
    }


def test_the_table_shows_each_service_and_marks_what_differs() -> None:
    """One sign a service: allowed, denied, one family only, error."""
    rows = [
        Row(Flow(A, B, 4, WEB), "allow", "allow"),
        Row(Flow(A, B, 6, WEB), "allow", "allow"),
        Row(Flow(A, B, 4, ICMP), "deny", "deny"),
        Row(Flow(A, B, 6, ICMP), "deny", "deny"),
        Row(Flow(B, A, 4, WEB), "allow", "deny"),
        Row(Flow(B, A, 6, WEB), "allow", "allow"),
        Row(Flow(B, A, 4, ICMP), "allow", "error", "no route"),
        Row(Flow(B, A, 6, ICMP), "allow", "allow"),
    ]

    assert list(matrix.table(rows, lambda text: f"<{text}>"))[2:] == [
        "from, to   1  2",
        "1 a          +-",
        "2 b       <6!>",
    ]
    assert list(matrix.differences(rows)) == [
        "b -> a IPv4 TCP/80: policy says allow, observed deny",
        "b -> a IPv4 ICMP: policy says allow, observed error (no route)",
    ]
    assert matrix.summary(rows) == "8 connections: 4 allowed, 3 denied, 1 error; 2 differ from policy"


def test_many_ends_are_counted_by_their_groups() -> None:
    """Allowed of tried; a group with a difference is marked."""
    known = everybody(regular(2, 8, 3))
    rows = [
        Row(flow, "allow", "deny" if flow.destination.name == "metal" else "allow")
        for flow in flows(pairs(known), (WEB,))
    ]

    lines = list(matrix.table(rows, lambda text: f"<{text.strip()}>"))

    assert lines[2].split() == ["from,", "to", "bank", "internet", "lab", "metal", "shop"]
    assert "<0/" in lines[3]


def test_names_of_nodes_are_as_in_etc_hosts() -> None:
    """The machine's own lines stay first; a router has all its addresses."""
    topology = regular(1, 1, 1)

    lines = hosts_file(
        topology, {"shop1-1": ("10.244.0.1", "fd00:244::1")}, "127.0.0.1 localhost\n"
    ).splitlines()

    assert lines[0] == "127.0.0.1 localhost"
    assert "10.244.0.1\tshop1-1" in lines
    assert {line.split()[0] for line in lines if line.endswith("\ttor1")} == {
        "10.0.1.1",
        "fd00:10:0:1::1",
        "10.1.0.1",
        "fd00:10:1:1::1",
    }
