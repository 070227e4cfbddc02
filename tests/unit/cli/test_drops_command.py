"""``calicoctl explain --drops``: what the command line allows, and how drops are counted and worded."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from calico.analysis.blame import Blame
from calico.cli.drops import REPEAT, Flows, packet_words
from calico.cli.main import root
from calico.model.address import parse_address
from calico.programming.tracejoin import Dropped, Packet, Place

TCP = Packet(4, 6, parse_address("10.0.0.1"), parse_address("10.0.0.2"), 40000, 80)
BLAME = Blame("host", "because")


def dropped(packet: Packet = TCP) -> Dropped:
    return Dropped(packet, Place("ip", "calico", "c", 1), ("filter-FORWARD",), 1, 2)


def test_a_flow_is_told_of_at_once_then_after_a_while_and_at_the_end() -> None:
    """What is dropped again and again is counted."""
    flows = Flows()
    first = flows.add(dropped(), BLAME, 0.0)
    assert first is not None
    assert (first.fresh, first.total) == (1, 1)
    assert [flows.add(dropped(), BLAME, 1.0) for _ in range(3)] == [None] * 3
    assert list(flows.due(REPEAT - 1)) == []
    assert [(report.fresh, report.total) for report in flows.due(REPEAT)] == [(3, 4)]
    assert list(flows.due(3 * REPEAT)) == []
    assert flows.add(dropped(), BLAME, REPEAT + 1) is None
    assert [(report.fresh, report.total) for report in flows.due(REPEAT + 2, final=True)] == [(1, 5)]
    assert flows.seen == 1


def test_attempts_from_another_source_port_are_the_same_flow_and_other_ends_are_not() -> None:
    """A client that tries again is one line; another port or another reason is another."""
    flows = Flows()
    reports = [
        flows.add(dropped(), BLAME, 0.0),
        flows.add(dropped(TCP._replace(source_port=40001)), BLAME, 0.0),
        flows.add(dropped(TCP._replace(destination_port=81)), BLAME, 0.0),
        flows.add(dropped(), Blame("host", "another reason"), 0.0),
    ]
    assert [report is not None for report in reports] == [True, False, True, True]
    (again,) = flows.due(0.0, final=True)
    assert again.dropped.packet.source_port == 40001


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (TCP, "TCP 10.0.0.1:40000 -> 10.0.0.2:80"),
        (
            Packet(6, 17, parse_address("fd00::1"), parse_address("fd00::2"), 1, 53),
            "UDP [fd00::1]:1 -> [fd00::2]:53",
        ),
        (
            Packet(4, 1, TCP.source, TCP.destination, icmp_type=8, icmp_code=0),
            "ICMP type 8 code 0 10.0.0.1 -> 10.0.0.2",
        ),
        (Packet(4, 89, TCP.source, TCP.destination), "protocol 89 10.0.0.1 -> 10.0.0.2"),
    ],
)
def test_a_packet_in_words(packet: Packet, words: str) -> None:
    """Protocol, ends and ports as people write them."""
    assert packet_words(packet) == words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--drops", "--from", "a"], "--drops follows what this host drops now"),
        (["--interface", "eth0", "--from", "a", "--to", "b"], "go with --drops"),
        (["--from", "a"], "name the flow with --from and --to"),
        ([], "name the flow with --from and --to"),
        (["--drops", "--count", "0"], "--count"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    """The command line is wrong, which is said before anything is asked of the kernel."""
    done = CliRunner().invoke(
        root, ["--datastore-path", str(tmp_path / "calico.db"), "explain", *arguments], prog_name="calicoctl"
    )
    assert done.exit_code == 2
    assert said in done.stderr


def test_without_rights_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user is told what is lacking."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = CliRunner().invoke(
        root, ["--datastore-path", str(tmp_path / "calico.db"), "explain", "--drops"], prog_name="calicoctl"
    )
    assert done.exit_code == 1
    assert "run this as root" in done.stderr
