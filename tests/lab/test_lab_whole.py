"""A whole lab by the command line: real agents, real BIRD, real packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lab import ISOLATE, Lab, pings, small_lab, until
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]

APART = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: bank-without-shop}
spec:
  order: 5
  selector: tenant == 'bank'
  types: [Ingress, Egress]
  ingress: [{action: Deny, source: {selector: tenant == 'shop'}}]
  egress: [{action: Deny, destination: {selector: tenant == 'shop'}}, {action: Allow}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shop-without-bank}
spec:
  order: 5
  selector: tenant == 'shop'
  types: [Ingress, Egress]
  ingress: [{action: Deny, source: {selector: tenant == 'bank'}}]
  egress: [{action: Deny, destination: {selector: tenant == 'bank'}}, {action: Allow}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two racks with one host each, two tenants on each, and the bare-metal host."""
    with small_lab(tmp_path_factory.mktemp("w"), "w") as made:
        yield made


def test_the_lab_says_that_it_is_well(lab: Lab) -> None:
    """Every host programmed, every session established, every workload with two addresses."""
    seen = lab.status()

    assert [host["name"] for host in seen["hosts"]] == ["host1-1", "host2-1", "metal"]
    assert all(host["programmed"] and not host["problem"] for host in seen["hosts"])
    assert {session["state"] for session in seen["sessions"]} == {"Established"}
    assert all(len(workload["addresses"]) == 2 for workload in seen["workloads"])


def test_the_probe_has_a_row_for_every_flow(lab: Lab) -> None:
    """Six ends, thirty ordered pairs, two families, three services and ICMP; observed is what is expected."""
    done = lab.calicoctl("lab", "probe", "-o", "json")
    rows = json.loads(done.stdout)

    assert len(rows) == 30 * 2 * 4
    assert set(rows[0]) == {
        *("source", "destination", "ipVersion", "protocol", "port", "expected", "observed"),
    }
    assert {row["observed"] for row in rows} == {"allow", "deny"}
    assert all(row["observed"] == row["expected"] for row in rows)
    assert {row["port"] for row in rows if row["protocol"] == "ICMP"} == {None}


def test_a_policy_isolates_a_tenant_until_it_is_deleted(lab: Lab) -> None:
    """Applied and deleted by calicoctl; the probe agrees with policy each time."""

    def bank_to_shop() -> set[str]:
        rows = json.loads(lab.calicoctl("lab", "probe", "-o", "json").stdout)
        return {
            row["observed"] for row in rows if (row["source"], row["destination"]) == ("bank1-1", "shop2-1")
        }

    assert bank_to_shop() == {"allow", "deny"}
    lab.calicoctl("apply", "-f", "-", stdin=ISOLATE)
    try:
        assert bank_to_shop() == {"deny"}
    finally:
        lab.calicoctl("delete", "-f", "-", stdin=ISOLATE)
    assert bank_to_shop() == {"allow", "deny"}


def test_a_trace_shows_every_router_by_its_address(lab: Lab) -> None:
    """Between racks and tenants, in both families, to the internet and from it."""
    shown = lab.inside("shop1-1", "traceroute", "-4", "-n", "-q1", "bank2-1").splitlines()[1:]
    assert [line.split()[1] for line in shown] == [
        *("10.0.1.11", "10.0.1.1", "10.1.0.0", "10.1.0.3", "10.0.2.11"),
        lab.address("bank2-1"),
    ]
    shown = lab.inside("shop1-1", "traceroute", "-6", "-n", "-q1", "internet").splitlines()[1:]
    assert [line.split()[1] for line in shown] == [
        *("fd00:10:0:1::11", "fd00:10:0:1::1", "fd00:10:1:1::", "fd00:10:1:fff::1", "2001:db8:113::10"),
    ]
    shown = lab.inside("internet", "traceroute", "-4", "-n", "-q1", "shop2-1").splitlines()[1:]
    assert [line.split()[1] for line in shown] == [
        *("203.0.113.1", "10.1.1.0", "10.1.0.3", "10.0.2.11"),
        lab.address("shop2-1"),
    ]


def test_a_packet_is_the_same_plain_ip_packet_throughout(lab: Lab, tmp_path: Path) -> None:
    """Captured at the source, on a spine link and at the destination: equal but for MAC, TTL and checksum."""
    places = {"source": ("shop1-1", "eth0"), "spine": ("spine", "tor2"), "destination": ("bank2-1", "eth0")}
    files = {place: tmp_path / f"{place}.pcap" for place in places}
    for file in files.values():
        file.touch(mode=0o666)
    taking = [
        subprocess.Popen(
            lab.command(
                *("lab", "exec", node, "--", "tcpdump", "-U", "-Z", "root", "-i", interface, "-c", "4"),
                *("-w", str(files[place]), "icmp[icmptype] == icmp-echo or icmp6[icmp6type] == icmp6-echo"),
            ),
            stderr=subprocess.PIPE,
            text=True,
            env=lab.environment,
        )
        for place, (node, interface) in places.items()
    ]
    for process in taking:
        assert process.stderr is not None
        assert any("listening on" in line for line in process.stderr)
    for version in ("-4", "-6"):
        lab.inside("shop1-1", "ping", version, "-c2", "-i0.2", "-M", "do", "-s", "1400", "bank2-1")
    for process in taking:
        process.communicate(timeout=20)

    fields = (
        "frame.len",
        "ip.src",
        "ip.dst",
        "ip.id",
        "ip.flags",
        "ip.proto",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.flow",
    )
    fields += ("ipv6.nxt", "icmp.seq", "icmpv6.echo.sequence_number", "data.data")
    asked = [word for field in fields for word in ("-e", field)]
    seen = {
        place: subprocess.run(
            ["tshark", "-r", str(file), "-T", "fields", *asked], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for place, file in files.items()
    }
    assert len(seen["source"]) == 4
    assert seen["source"] == seen["spine"] == seen["destination"]


def test_the_mtu_is_the_fabrics(lab: Lab) -> None:
    """A packet of 1,500 bytes passes in one piece, a larger one does not leave."""
    whole = lab.inside("shop1-1", "ping", "-4", "-c1", "-W1", "-M", "do", "-s", "1472", "bank2-1")
    larger = lab.calicoctl(
        *("lab", "exec", "shop1-1", "--", "ping", "-4", "-c1", "-W1", "-M", "do", "-s", "1473", "bank2-1"),
        check=False,
    )

    assert "1 received" in whole
    assert "message too long" in larger.stderr + larger.stdout


@pytest.mark.parametrize(("version", "forged"), [("-4", "10.244.99.99"), ("-6", "fd00:244::bad:cafe")])
def test_a_forged_source_address_never_leaves_its_host(lab: Lab, version: str, forged: str) -> None:
    """Packets from an address that is not the workload's own are not seen on the host's uplink; honest ones are."""
    length = "128" if version == "-6" else "32"
    # Deprecated, so that nothing but the forger chooses it.
    kind = ("nodad", "preferred_lft", "0") if version == "-6" else ()
    lab.inside("shop1-1", "ip", "addr", "add", f"{forged}/{length}", "dev", "eth0", *kind)
    watch = subprocess.Popen(
        lab.command(
            *("lab", "exec", "host1-1", "--", "tcpdump", "--immediate-mode", "-lni", "eth0", "-Q", "out"),
            "icmp[icmptype] == icmp-echo or icmp6[icmp6type] == icmp6-echo",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.environment,
    )
    assert watch.stderr is not None
    assert any("listening on" in line for line in watch.stderr)
    try:
        lab.inside("shop1-1", "ping", version, "-c2", "-i0.2", "-W1", "-I", forged, "shop2-1", check=False)
        lab.inside("shop1-1", "ping", version, "-c1", "-W1", "shop2-1")
    finally:
        watch.terminate()
        seen = watch.communicate(timeout=20)[0]
        lab.inside("shop1-1", "ip", "addr", "del", f"{forged}/{length}", "dev", "eth0")

    assert forged not in seen
    assert lab.address("shop1-1", 6 if version == "-6" else 4) in seen


@pytest.mark.parametrize("flushed", ["host1-1", "host2-1"])
def test_either_end_alone_still_denies(lab: Lab, flushed: str) -> None:
    """With one host's rules gone and not repaired, the other one still says no."""
    lab.calicoctl("apply", "-f", "-", stdin=APART)
    try:
        until(lambda: not pings(lab, "shop1-1", "bank2-1"), "the policy")
        lab.inside(flushed, "calicoctl", "agent", "pause-repair", "30")
        lab.inside(flushed, "nft", "flush", "ruleset")
        assert not pings(lab, "shop1-1", "bank2-1")
        assert not pings(lab, "bank1-1", "shop2-1")
        lab.inside(flushed, "calicoctl", "agent", "pause-repair", "0")
        until(lambda: "calico" in lab.inside(flushed, "nft", "list", "tables"), "the repair")
    finally:
        lab.calicoctl("delete", "-f", "-", stdin=APART)
    until(lambda: pings(lab, "shop1-1", "bank2-1"), "the way back to normal")


def test_killing_an_agent_loses_no_packet(lab: Lab) -> None:
    """Killed hard in the middle of traffic, and started again: every ping is answered, and nothing opens."""
    agent = next(host["agent"] for host in lab.status()["hosts"] if host["name"] == "host1-1")
    words = lab.command("lab", "exec", "shop1-1", "--", "ping", "-4", "-i", "0.02", "-c", "150", "bank2-1")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=lab.environment) as ping:
        time.sleep(0.7)
        os.kill(agent, signal.SIGKILL)
        time.sleep(0.5)
        fresh = subprocess.Popen(
            lab.command("lab", "exec", "host1-1", "--", sys.executable, "-m", "calico.cli.main", "agent"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=lab.environment,
            start_new_session=True,
        )
        shown = ping.communicate(timeout=60)[0]

    assert "150 received, 0% packet loss" in shown
    until(lambda: lab.status()["hosts"][0]["programmed"], "the new agent")
    assert fresh.poll() is None
    assert not pings(lab, "metal", "bank1-1")


def test_a_second_up_is_refused(lab: Lab) -> None:
    """The name is taken; nothing is touched."""
    done = lab.calicoctl("lab", "up", "--name", lab.name, check=False)

    assert done.returncode == 1
    assert "lab down" in done.stderr
    assert pings(lab, "shop1-1", "shop2-1")


def test_exec_says_which_node_there_is_not(lab: Lab) -> None:
    """And suggests what may have been meant."""
    done = lab.calicoctl("lab", "exec", "shop11", "--", "true", check=False)

    assert done.returncode == 1
    assert "shop1-1" in done.stderr


def test_exec_hands_on_the_commands_exit_status(lab: Lab) -> None:
    """As ssh does."""
    assert lab.calicoctl("lab", "exec", "internet", "--", "sh", "-c", "exit 7", check=False).returncode == 7


@pytest.mark.parametrize("line", ["fabric", "workloads", "agents"])
def test_down_cleans_up_after_up_was_killed(tmp_path: Path, line: str) -> None:
    """Killed -9 at any stage: down removes every namespace, process and file, and can be called again."""
    doomed = Lab(tmp_path / "run", f"t{os.getpid()}k")
    words = doomed.command(
        "lab", "up", "--name", doomed.name, "--racks", "1", "--hosts", "2", "--workloads", "1"
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=doomed.environment) as building:
        assert building.stdout is not None
        for said in building.stdout:
            if said.startswith(line):
                break
        building.kill()

    doomed.calicoctl("lab", "down")

    assert doomed.spaces() == []
    assert not (tmp_path / "run").exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert left == ""
    assert "nothing to do" in doomed.calicoctl("lab", "down").stdout


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
def test_a_lab_works_with_iptables_too(tmp_path_factory: pytest.TempPathFactory, backend: str) -> None:
    """The same policy, observed the same way, with the other back end."""
    other = Lab(tmp_path_factory.mktemp("i"), f"t{os.getpid()}i")  # short: sockets' paths are limited
    try:
        size = ("--racks", "1", "--hosts", "1", "--workloads", "2")
        shown = other.calicoctl("lab", "up", "--name", other.name, "--backend", backend, *size).stdout
        assert "all as policy says" in shown
    finally:
        other.calicoctl("lab", "down")
    assert other.spaces() == []
