"""Following drops on a real kernel: whose doing each is said to be, and that looking changes and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.host import (
    ALLOWING_PROFILE,
    Cloud,
    Host,
    eventually,
    interface_of,
    plug,
    reaches,
    workload_endpoint,
)
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A4, B4, C4 = "10.65.0.2", "10.65.0.3", "10.65.0.4"
A6, B6 = "fd00:65::2", "fd00:65::3"
SPOOFED, SERVICE, HOST = "10.65.0.99", "10.99.0.1", "10.98.0.1"
TABLE = "calico-drops-"

POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  selector: app == 'b'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
  - {action: Deny, protocol: UDP, source: {selector: app == 'a'}, destination: {ports: [53]}}
"""
SIMILAR = "".join(
    f"  - {{action: Deny, protocol: UDP, source: {{nets: [10.65.0.{last}/32]}}}}\n" for last in range(2, 22)
)
MANY = "".join(
    f"""
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: many-{number}}}
spec:
  selector: app == 'c'
  types: [Ingress]
  ingress:
  - {{action: Deny, protocol: UDP, source: {{nets: [10.65.0.{number + 1}/32]}}}}
---
"""
    for number in range(9)
)


class World(NamedTuple):
    host: Host
    cloud: Cloud
    a: Namespace
    b: Namespace
    c: Namespace


@pytest.fixture(scope="module", params=["nftables", "iptables-nft"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with three workloads: a may send, b has a policy, the profile of c does not exist."""
    directory = tmp_path_factory.mktemp("drops")
    with (
        namespaces("t-drops-host", "t-drops-a", "t-drops-b", "t-drops-c") as (inside, a, b, c),
        Host(inside, "host", directory, backend=request.param) as host,
    ):
        cloud = Cloud(directory)
        inside.run("ip", "address", "add", f"{HOST}/32", "dev", "lo")
        plug(host, a, "a", A4, A6)
        plug(host, b, "b", B4, B6)
        plug(host, c, "c", C4)
        cloud.apply(
            ALLOWING_PROFILE
            + POLICY
            + SIMILAR
            + "---"
            + MANY
            + workload_endpoint("host", "a", A4, A6, labels="{app: a}")
            + workload_endpoint("host", "b", B4, B6, labels="{app: b}")
            + workload_endpoint("host", "c", C4, labels="{app: c}", profiles="[gone]")
        )
        host.start()
        eventually(lambda: reaches(b, A4, wait=0.3), what="b reaches a")
        yield World(host, cloud, a, b, c)


class Following:
    """A command that follows drops, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], said: Path) -> None:
        self.process = process
        self._said = said

    def lines(self) -> list[str]:
        return self._said.read_text().splitlines()

    def first(self, **fields: object) -> dict[str, Any]:
        """The first drop with these fields, waited for."""

        def find() -> dict[str, Any] | None:
            drops = [json.loads(line) for line in self.lines()]
            return next((drop for drop in drops if fields.items() <= drop.items()), None)

        found = eventually(find, what=f"a drop with {fields} among {self.lines()}")
        assert found is not None
        return found

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=40)


def tables(host: Host) -> str:
    return host.namespace.run("nft", "list", "tables").stdout


@contextlib.contextmanager
def following(world: World, directory: Path, *options: str, output: str = "json") -> Iterator[Following]:
    """Follow drops until the end of the block; it begins once the kernel traces."""
    said = directory / "drops"
    with said.open("w") as out, (directory / "errors").open("w") as errors:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", world.host.namespace.name),
                *(sys.executable, "-m", "calico.cli.main", "explain", "--drops", "-o", output, *options),
            ],
            env=world.host._environment(),
            stdout=out,
            stderr=errors,
            text=True,
        )
    try:
        eventually(
            lambda: TABLE in tables(world.host) or process.poll() is not None, what="the tracing begins"
        )
        assert process.poll() is None, (directory / "errors").read_text()
        yield Following(process, said)
    finally:
        process.kill()
        process.wait()


def send_udp(source: Namespace, address: str, port: int, *, count: int = 1) -> None:
    """Send datagrams of one flow from port 4000."""
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('', 4000))\n"
        "for _ in range(int(sys.argv[3])): s.sendto(b'x', (sys.argv[1], int(sys.argv[2])))\n"
    )
    source.run(sys.executable, "-c", code, address, str(port), str(count))


@pytest.mark.parametrize(("source", "destination"), [(A4, B4), (A6, B6)])
def test_a_drop_by_a_deny_rule_names_the_rule_its_words_and_both_endpoints(
    world: World, tmp_path: Path, source: str, destination: str
) -> None:
    """The rule is told as the operator wrote it, the interfaces with the endpoints that have them."""
    with following(world, tmp_path) as drops:
        send_udp(world.a, destination, 53)
        drop = drops.first(destinationPort=53)
    assert drop["by"] == "rule"
    assert drop["policy"] == {
        "kind": "NetworkPolicy",
        "tier": "default",
        "namespace": "default",
        "name": "web",
        "direction": "ingress",
        "rule": 1,
    }
    assert drop["reason"] == "NetworkPolicy default/web, ingress rule 1: Deny UDP from app == 'a' to ports 53"
    assert drop["in"] == {"interface": interface_of("a"), "endpoint": "default/a"}
    assert drop["out"] == {"interface": interface_of("b"), "endpoint": "default/b"}
    assert (drop["protocol"], drop["source"], drop["sourcePort"]) == ("UDP", source, 4000)
    assert drop["destination"] == destination


def test_of_rules_that_are_one_in_the_kernel_the_one_that_matched_is_named(
    world: World, tmp_path: Path
) -> None:
    """Similar rules are looked up in a set together; which of them it was follows from what is stored."""
    held = world.host.namespace.run("sh", "-c", "nft list ruleset; iptables-nft-save").stdout
    assert "NetworkPolicy default/web tier default ingress rules 2-21" in held
    with following(world, tmp_path) as drops:
        send_udp(world.a, B4, 54)
        drop = drops.first(destinationPort=54)
    assert drop["reason"] == f"NetworkPolicy default/web, ingress rule 2: Deny UDP from {A4}/32"
    assert drop["policy"]["rule"] == 2


def test_of_rules_of_many_policies_that_are_one_in_the_kernel_the_one_that_matched_is_named(
    world: World, tmp_path: Path
) -> None:
    """The many policies of a tier share a chain; which of them it was follows from what is stored."""
    held = world.host.namespace.run("sh", "-c", "nft list ruleset; iptables-nft-save").stdout
    assert "9 rules of 9 policies: GlobalNetworkPolicy many-0" in held
    with following(world, tmp_path) as drops:
        send_udp(world.a, C4, 55)
        drop = drops.first(destinationPort=55)
    assert drop["reason"] == f"GlobalNetworkPolicy many-1, ingress rule 0: Deny UDP from {A4}/32"


def test_a_drop_at_the_end_of_a_tier_names_the_policies_that_did_not_allow_it(
    world: World, tmp_path: Path
) -> None:
    """What no rule decided is said to be the tier's default, with the policies that brought it about."""
    with following(world, tmp_path, output="text") as drops:
        assert not reaches(world.a, B4, wait=0.3)
        (line,) = eventually(drops.lines, what="a line")
    assert line[8:] == (
        f" {interface_of('a')} (default/a) to {interface_of('b')} (default/b): ICMP type 8 code 0 {A4} -> {B4}:"
        " end of tier default: NetworkPolicy default/web does not allow it (ingress)"
    )


def test_a_drop_on_the_way_to_the_host_itself_says_so(world: World, tmp_path: Path) -> None:
    """Where a packet has no way out, it is told whether it was for this host."""
    with following(world, tmp_path, output="text") as drops:
        world.a.run("ping", "-c", "1", "-W", "0.3", HOST, check=False)
        (line,) = eventually(drops.lines, what="a line")
    assert line[8:] == (
        f" {interface_of('a')} (default/a) to this host: ICMP type 8 code 0 {A4} -> {HOST}: policy allows it,"
        " but not the way from a workload to its own host (defaultEndpointToHostAction: Drop)"
    )


def test_a_drop_for_want_of_a_profile_says_that_it_does_not_exist(world: World, tmp_path: Path) -> None:
    """A profile that is missing is named as such."""
    with following(world, tmp_path) as drops:
        assert not reaches(world.c, A4, wait=0.3)
        drop = drops.first(source=C4)
    assert drop["by"] == "missing"
    assert drop["reason"] == "Profile gone does not exist, and what is missing denies (egress)"
    assert drop["policy"]["name"] == "gone"


def test_a_drop_of_a_false_source_is_told_before_any_routing(world: World, tmp_path: Path) -> None:
    """Spoofed packets are dropped before connection tracking, and are seen there."""
    world.a.run("ip", "address", "add", f"{SPOOFED}/32", "dev", "eth0")
    try:
        with following(world, tmp_path) as drops:
            world.a.run("ping", "-c", "1", "-W", "0.3", "-I", SPOOFED, B4, check=False)
            drop = drops.first(source=SPOOFED)
    finally:
        world.a.run("ip", "address", "del", f"{SPOOFED}/32", "dev", "eth0")
    assert drop["by"] == "host"
    assert "spoofed" in drop["reason"]
    assert drop["in"]["endpoint"] == "default/a"


def test_a_drop_by_a_foreign_rule_names_its_table_chain_and_rule(world: World, tmp_path: Path) -> None:
    """What others drop is not blamed on policy, and their rule is quoted."""
    world.host.namespace.run(
        "nft",
        "-f",
        "-",
        stdin="table inet firewalld {\n chain filter_FORWARD {\n type filter hook forward priority 10;"
        " udp dport 80 counter drop\n }\n}\n",
    )
    try:
        with following(world, tmp_path) as drops:
            send_udp(world.b, A4, 80)
            drop = drops.first(destinationPort=80)
    finally:
        world.host.namespace.run("nft", "delete", "table", "inet", "firewalld")
    assert drop["by"] == "foreign"
    assert drop["reason"] == (
        "table inet firewalld, chain filter_FORWARD, rule 'udp dport 80 drop', which is not Calico's"
    )


def test_a_drop_by_a_foreign_rule_of_iptables_names_its_chain_and_comment(
    world: World, tmp_path: Path
) -> None:
    """Also where iptables is the back end, a rule beside ours is not taken for ours; refused is dropped too."""
    match = (
        "FORWARD",
        "-p",
        "udp",
        "--dport",
        "81",
        "-m",
        "comment",
        "--comment",
        "no games",
        "-j",
        "REJECT",
    )
    world.host.namespace.run("iptables-nft", "-w", "-I", *match)
    try:
        with following(world, tmp_path) as drops:
            send_udp(world.b, A4, 81)
            drop = drops.first(destinationPort=81)
    finally:
        world.host.namespace.run("iptables-nft", "-w", "-D", *match)
    assert drop["by"] == "foreign"
    assert drop["reason"].startswith("table ip filter, chain FORWARD, rule '")
    assert "no games" in drop["reason"]


def test_a_flow_that_is_dropped_again_is_counted_and_not_repeated(world: World, tmp_path: Path) -> None:
    """Ten packets of one flow are one line at first, and one more with the rest at the end."""
    with following(world, tmp_path) as drops:
        send_udp(world.a, B4, 53, count=10)
        drops.first(destinationPort=53)
        subprocess.run(["sleep", "0.5"], check=True)
        assert drops.end(signal.SIGTERM) == 0
        found = [json.loads(line) for line in drops.lines()]
    assert [(drop["count"], drop["total"]) for drop in found] == [(1, 1), (9, 10)]


def test_only_what_concerns_the_interface_of_an_endpoint_is_followed(world: World, tmp_path: Path) -> None:
    """--endpoint shows what comes from and goes to it, and nothing else."""
    with following(world, tmp_path, "--endpoint", "default/b") as drops:
        assert not reaches(world.c, A4, wait=0.3)
        assert not reaches(world.a, B4, wait=0.3)
        drop = drops.first(protocol="ICMP")
        assert len(drops.lines()) == 1
    assert drop["destination"] == B4


def test_what_is_translated_to_an_endpoint_is_followed_too(world: World, tmp_path: Path) -> None:
    """--endpoint also shows what was sent to the address of a service that leads to it."""
    world.host.namespace.run(
        "nft",
        "-f",
        "-",
        stdin="table ip services {\n chain translate {\n type nat hook prerouting priority -100;"
        f" ip daddr {SERVICE} dnat to {B4}\n }}\n}}\n",
    )
    try:
        with following(world, tmp_path, "--endpoint", "default/b") as drops:
            send_udp(world.a, SERVICE, 53)
            drop = drops.first(destinationPort=53)
    finally:
        world.host.namespace.run("nft", "delete", "table", "ip", "services")
    assert (drop["destination"], drop["policy"]["rule"]) == (B4, 1)


def test_what_others_have_the_kernel_trace_does_not_disturb(world: World, tmp_path: Path) -> None:
    """Someone else's trace is read over where it is about another interface, and stays as it is."""
    world.host.namespace.run(
        "nft",
        "-f",
        "-",
        stdin="table inet theirs {\n chain trace {\n type filter hook prerouting priority -400;"
        " udp dport 53 meta nftrace set 1\n }\n}\n",
    )
    try:
        before = _rules(world.host)
        with following(world, tmp_path, "--endpoint", "default/c") as drops:
            send_udp(world.a, B4, 53)
            assert not reaches(world.c, A4, wait=0.3)
            drop = drops.first(source=C4)
            assert len(drops.lines()) == 1
        eventually(lambda: TABLE not in tables(world.host), what="the table is gone")
        assert _rules(world.host) == before
    finally:
        world.host.namespace.run("nft", "delete", "table", "inet", "theirs")
    assert drop["in"]["endpoint"] == "default/c"


def test_nothing_is_said_where_nothing_is_dropped(world: World, tmp_path: Path) -> None:
    """Allowed flows leave no line, and the command ends by itself when its time is over."""
    with following(world, tmp_path, "--duration", "1") as drops:
        assert reaches(world.b, A4)
        assert drops.process.wait(timeout=40) == 0
        assert drops.lines() == []
    assert (tmp_path / "errors").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind_however_the_command_ends(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    """The kernel takes our table away with the process, and the rest of the ruleset is as before."""
    before, repairs = _rules(world.host), world.host.status()["repairs"]["count"]
    with following(world, tmp_path) as drops:
        send_udp(world.a, B4, 53)
        drops.first(destinationPort=53)
        drops.end(number)
        eventually(lambda: TABLE not in tables(world.host), what="the table is gone")
    assert _rules(world.host) == before
    assert world.host.status()["repairs"]["count"] == repairs


def test_the_command_ends_after_as_many_flows_as_asked_for(world: World, tmp_path: Path) -> None:
    """--count ends it."""
    with following(world, tmp_path, "--count", "2") as drops:
        send_udp(world.a, B4, 53)
        assert not reaches(world.a, B4, wait=0.3)
        assert drops.process.wait(timeout=40) == 0
        assert len(drops.lines()) == 2


def test_without_a_store_the_kernel_alone_tells_which_rule_it_was(world: World, tmp_path: Path) -> None:
    """The provenance in the rule is enough; that the store is missing is said once."""
    with following(world, tmp_path, "--datastore-path", str(tmp_path / "none.db")) as drops:
        send_udp(world.a, B4, 53)
        drop = drops.first(destinationPort=53)
    assert drop["reason"] == "NetworkPolicy default/web, ingress rule 1"
    assert len((tmp_path / "errors").read_text().splitlines()) == 1


def test_on_iptables_legacy_it_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    """The kernel traces nothing of that back end, which is said before anything is done."""
    with (
        namespaces("t-drops-legacy") as (inside,),
        Host(inside, "host", tmp_path, backend="iptables-legacy") as host,
    ):
        Cloud(tmp_path).apply(ALLOWING_PROFILE)
        host.start()
        done = host.calicoctl("explain", "--drops")
        assert done.returncode == 1
        assert "iptables-legacy -vnL" in done.stderr
        assert TABLE not in tables(host)


def _rules(host: Host) -> list[str]:
    """Everything in the packet filter but counts."""
    listed = host.namespace.run("nft", "list", "ruleset").stdout
    return re.sub(r"packets \d+ bytes \d+", "", listed).splitlines()
