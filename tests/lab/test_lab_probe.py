"""Probing with real packets: a closed network is told from a dead one."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import pytest

from calico.lab import flows, namespaces, probe, scenario, wiring
from calico.lab.description import describe
from calico.lab.flows import Flow, Row, Service
from calico.lab.state import LabDirectory, State
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]

IRON = {
    "racks": [
        {"hosts": [{"name": "left", "bareMetal": True}]},
        {"hosts": [{"name": "right", "bareMetal": True}]},
    ]
}
SERVICES = (Service("TCP", 80), Service("UDP", 5000))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LabDirectory, State]]:
    """Two bare-metal hosts without agents, and the internet host, with listeners."""
    directory = LabDirectory(tmp_path_factory.mktemp("run") / "lab", f"t{os.getpid()}p")
    try:
        state = scenario.begin(directory, describe(IRON), "nftables", ())
        scenario.build_fabric(directory, state, print)
        scenario.start_responder(directory, state, [str(service) for service in SERVICES])
        wait_for_peace(state)
        yield directory, state
    finally:
        scenario.down(directory, print)


def look(
    state: State, services: Sequence[Service] = SERVICES, closed: tuple[str, str] | None = None
) -> tuple[Row, ...]:
    """A probe under a policy that allows everything but IPv4 from the one to the other of ``closed``."""
    everybody = flows.ends(state.topology, state.addresses)

    def expect(flow: Flow) -> Literal["allow", "deny"]:
        denied = flow.version == 4 and (flow.source.name, flow.destination.name) == closed
        return "deny" if denied else "allow"

    return probe.probe(state, flows.flows(flows.pairs(everybody), services), expect, patience=0.8)


def inside(state: State, node: str, *words: str) -> None:
    subprocess.run(
        namespaces.command(wiring.namespace(state.name, node), words),
        check=True,
        timeout=20,
        capture_output=True,
    )


def observed(rows: Sequence[Row], source: str, destination: str) -> set[tuple[int, str, str]]:
    return {
        (row.flow.version, row.flow.service.protocol, row.observed)
        for row in rows
        if (row.flow.source.name, row.flow.destination.name) == (source, destination)
    }


ALL = {(version, protocol) for version in (4, 6) for protocol in ("TCP", "UDP", "ICMP")}


def test_an_open_network_allows_everything(lab: tuple[LabDirectory, State]) -> None:
    """TCP, UDP and ICMP, IPv4 and IPv6, between all ordered pairs."""
    rows = look(lab[1])

    assert len(rows) == 6 * 2 * 3
    assert [row for row in rows if row.observed != "allow"] == []


def test_a_refusal_is_an_answer(lab: tuple[LabDirectory, State]) -> None:
    """Where nobody listens, the destination's own refusal shows that nothing was in the way."""
    rows = look(lab[1], (Service("TCP", 81), Service("UDP", 5001)))

    assert [row for row in rows if row.observed != "allow"] == []


@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_filter_at_either_end_is_seen_as_denial(lab: tuple[LabDirectory, State], hook: str) -> None:
    """What a host drops of one address family is denied, and only that."""
    state = lab[1]
    match = "ip saddr 10.0.1.11" if hook == "input" else "ip daddr 10.0.1.11"
    closed = ("left", "right") if hook == "input" else ("right", "left")
    inside(
        state,
        "right",
        "nft",
        f"add table ip closed; add chain ip closed c {{ type filter hook {hook} priority 0; }}; "
        f"add rule ip closed c {match} ct state new drop",
    )
    try:
        rows = look(state, closed=closed)
    finally:
        inside(state, "right", "nft", "delete table ip closed")

    assert observed(rows, *closed) == {(v, p, "deny" if v == 4 else "allow") for v, p in ALL}
    assert observed(rows, *reversed(closed)) == {(v, p, "allow") for v, p in ALL}
    assert not any(row.differs for row in rows)


WALL = "add table ip wall; add chain ip wall f { type filter hook forward priority 0; policy drop; }"


@pytest.mark.parametrize(
    ("node", "breaking", "mending", "words"),
    [
        ("spine", "ip link set tor2 down", "ip link set tor2 up", ""),
        ("left", "ip route del default", "ip route add default via 10.0.1.1 metric 4096", "no route"),
        ("spine", "sysctl -w net.ipv4.ip_forward=0", "sysctl -w net.ipv4.ip_forward=1", "does not forward"),
        ("spine", f"nft '{WALL}'", "nft 'delete table ip wall'", "cannot even ping"),
    ],
)
def test_a_dead_network_never_passes_for_a_closed_one(
    lab: tuple[LabDirectory, State], node: str, breaking: str, mending: str, words: str
) -> None:
    """A missing link, route or forwarding router, or a wall in the fabric, is an error with a reason, not a denial."""
    state = lab[1]
    inside(state, node, *shlex.split(breaking))
    try:
        rows = look(state)
    finally:
        inside(state, node, *shlex.split(mending))

    four = [
        row
        for row in rows
        if {row.flow.source.name, row.flow.destination.name} == {"left", "right"} and row.flow.version == 4
    ]
    assert {row.observed for row in four} == {"error"}
    assert all(words in row.reason for row in four)
    wait_for_peace(state)


def test_a_listener_that_does_not_answer_its_own_host_is_an_error(lab: tuple[LabDirectory, State]) -> None:
    """A frozen responder answers no datagram; that is not policy's doing."""
    directory, state = lab
    responder = next(process for process in directory.processes() if process.role == "responder")
    os.kill(responder.pid, signal.SIGSTOP)
    try:
        rows = look(state)
    finally:
        os.kill(responder.pid, signal.SIGCONT)

    silent = [row for row in rows if row.flow.service.protocol == "UDP"]
    assert {row.observed for row in silent} == {"error"}
    assert "does not answer its own host" in silent[0].reason


def wait_for_peace(state: State) -> None:
    """Until the fabric carries packets everywhere again, in both families."""
    deadline = time.monotonic() + 40
    others = ("10.0.2.11", "fd00:10:0:2::11")
    internet = ("203.0.113.10", "2001:db8:113::10")
    for node, target in [*product(["left"], (*others, *internet)), *product(["right"], internet)]:
        ping = namespaces.command(wiring.namespace(state.name, node), ["ping", "-c1", "-W1", target])
        while subprocess.run(ping, check=False, capture_output=True, timeout=20).returncode:
            assert time.monotonic() < deadline


def test_probing_leaves_no_connection_behind(lab: tuple[LabDirectory, State], tmp_path: Path) -> None:
    """Every probe resets what it opened."""
    state = lab[1]
    look(state)

    done = subprocess.run(
        namespaces.command(wiring.namespace(state.name, "right"), ["ss", "-Htn", "state", "connected"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ":80 " not in done.stdout
