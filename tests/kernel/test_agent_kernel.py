"""The agent on a real kernel: what it promises while it starts, runs, stops, crashes and loses things."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.host import (
    ALLOWING_PROFILE,
    Cloud,
    Host,
    eventually,
    interface_of,
    pinging,
    plug,
    reaches,
    workload_endpoint,
)
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A4, B4 = "10.65.0.2", "10.65.0.3"
A6, B6 = "fd00:65::2", "fd00:65::3"

DENY_B = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: close-b}
spec:
  selector: app == 'b'
  types: [Ingress]
"""


class World(NamedTuple):
    host: Host
    cloud: Cloud
    a: Namespace
    b: Namespace


@pytest.fixture(params=["nftables", "iptables-nft"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A host with two workloads that may talk to each other, its agent not started yet."""
    with (
        namespaces("t-agent-host", "t-agent-a", "t-agent-b") as (inside, a, b),
        Host(inside, "host", tmp_path, backend=request.param) as host,
    ):
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A4, A6)
        plug(host, b, "b", B4, B6)
        cloud.apply(
            ALLOWING_PROFILE
            + workload_endpoint("host", "a", A4, A6, labels="{app: a}")
            + workload_endpoint("host", "b", B4, B6, labels="{app: b}")
        )
        yield World(host, cloud, a, b)


def test_a_workload_has_network_once_it_is_programmed_and_loses_it_with_its_endpoint(world: World) -> None:
    """Attached means enforced: nothing before the agent, all of it afterwards, nothing once the endpoint is gone."""
    assert not reaches(world.a, B4, wait=0.3)
    world.host.start()
    assert reaches(world.a, B4)
    assert reaches(world.a, B6)
    world.cloud.delete("WorkloadEndpoint", "host-k8s-b-eth0", "default")
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is cut off")
    assert not reaches(world.a, B6, wait=0.3)


def test_a_policy_closes_what_a_profile_opened_and_its_deletion_opens_it_again(world: World) -> None:
    """A change of intent is in the kernel without a restart, and the status tells how long it took."""
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    assert not reaches(world.a, B6, wait=0.3)
    assert reaches(world.b, A4), "only b's ingress is closed"
    assert world.host.status()["lastChange"]["milliseconds"] > 0
    world.cloud.delete("GlobalNetworkPolicy", "close-b")
    eventually(lambda: reaches(world.a, B4), what="b is open again")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_end_and_the_next_start_of_an_agent_lose_no_packet_and_open_nothing(
    world: World, end: str
) -> None:
    """A crash, a stop and the start after it leave open paths without loss and closed paths closed."""
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    with pinging(world.b, A4) as open_path, pinging(world.a, B4, interval=0.02) as closed_path:
        if end == "kill":
            world.host.kill()
        else:
            assert world.host.stop() == 0
        assert not reaches(world.a, B6, wait=0.3)
        world.host.start()
        sent, lost = open_path()
        tried, dropped = closed_path()
    assert sent > 20
    assert lost == 0
    assert tried > 10
    assert dropped == tried


def test_rules_that_someone_deletes_come_back_and_the_repair_is_reported(world: World) -> None:
    """Our table or chains are taken away by hand: the agent puts them back and says what was missing."""
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    assert world.host.status()["repairs"]["count"] == 0, "the agent's own changes are no repairs"
    if world.host.backend == "nftables":
        world.host.namespace.run("nft", "delete", "table", "ip", "calico")
        what = "IPv4 table calico: missing"
    else:
        world.host.namespace.run("iptables-nft", "-F", "cali-FORWARD")
        what = "IPv4 chain filter-FORWARD in table filter: changed"
    repaired = eventually(lambda: world.host.status()["repairs"]["latest"], what="a repair is reported")
    assert not reaches(world.a, B4, wait=0.3)
    assert [repair["what"] for repair in repaired] == [what]


def test_a_paused_repair_leaves_a_flushed_filter_alone_until_the_pause_ends(world: World) -> None:
    """pause-repair keeps the agent's hands off what others did; afterwards it repairs."""
    world.host.start()
    world.host.ask({"command": "pause-repair", "seconds": 3600})
    flush = ["nft", "flush", "chain", "ip", "calico", "filter-FORWARD"]
    if world.host.backend != "nftables":
        flush = ["iptables-nft", "-F", "cali-FORWARD"]
    world.host.namespace.run(*flush)
    # Long enough for a repair, had it not been paused: the repair test takes a fraction of it.
    subprocess.run(["sleep", "1"], check=True)
    assert world.host.status()["repairs"]["count"] == 0
    world.host.ask({"command": "pause-repair", "seconds": 0})
    eventually(lambda: world.host.status()["repairs"]["count"] > 0, what="the repair after the pause")


def test_a_route_that_someone_deletes_comes_back(world: World) -> None:
    """A workload's route is desired state like any rule."""
    world.host.start()
    world.host.namespace.run("ip", "route", "del", f"{B4}/32", "dev", interface_of("b"))
    eventually(lambda: reaches(world.a, B4, wait=0.3), what="the route is back")


def test_a_lost_store_changes_nothing_and_is_reported(world: World) -> None:
    """The store's file vanishes under a running agent: traffic and policy go on, and the status says so."""
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    for path in world.host.directory.glob("calico.db*"):
        path.rename(path.with_name(f"moved-{path.name}"))
    eventually(lambda: world.host.status()["store"]["losses"] > 0, what="the loss is noticed")
    eventually(lambda: "the store is lost" in world.host.log(), what="the log tells of it")
    assert reaches(world.b, A4)
    assert not reaches(world.a, B4, wait=0.3)

    for path in world.host.directory.glob("moved-calico.db*"):
        path.rename(path.with_name(path.name.removeprefix("moved-")))
    eventually(lambda: "the store is back" in world.host.log(), what="the log tells of its return", within=40)


@pytest.mark.parametrize(("family", "forged", "victim"), [(4, "10.65.0.99", B4), (6, "fd00:65::99", B6)])
def test_a_forged_source_address_never_leaves_its_host(
    world: World, family: int, forged: str, victim: str
) -> None:
    """What a workload sends from an address that is not its own is seen by nobody."""
    world.host.start()
    width = 32 if family == 4 else 128
    world.a.run(
        "ip", "address", "add", f"{forged}/{width}", "dev", "eth0", *(["nodad"] if family == 6 else [])
    )
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    receiver = world.b.call(lambda: socket.socket(kind, socket.SOCK_DGRAM))
    with contextlib.closing(receiver):
        receiver.bind((victim, 7777))
        receiver.settimeout(0.5)

        def send(source: str) -> None:
            def body() -> None:
                with socket.socket(kind, socket.SOCK_DGRAM) as sender:
                    sender.bind((source, 0))
                    sender.sendto(source.encode(), (victim, 7777))

            world.a.call(body)

        own = A4 if family == 4 else A6
        send(own)
        assert receiver.recv(100) == own.encode()
        for _ in range(3):
            send(forged)
        with pytest.raises(TimeoutError):
            receiver.recv(100)


def test_an_interface_that_nobody_knows_is_closed(world: World) -> None:
    """A workload interface without an endpoint gets nothing through, whatever routes exist."""
    with namespaces("t-agent-c") as (stranger,):
        world.host.start()
        plug(world.host, stranger, "c", "10.65.0.4")
        world.host.namespace.run("ip", "route", "add", "10.65.0.4/32", "dev", interface_of("c"))
        assert not reaches(stranger, A4, wait=0.5)
        assert not reaches(world.a, "10.65.0.4", wait=0.5)


def test_foreign_rules_and_routes_survive_the_agent_untouched(world: World) -> None:
    """Tables, chains and routes of others are byte for byte the same after start, change and stop."""
    world.host.namespace.run("ip", "route", "add", "blackhole", "192.0.2.0/24", "proto", "static")
    world.host.namespace.run(
        "nft",
        "-f",
        "-",
        stdin="table ip theirs { chain c { type filter hook forward priority 5; ip saddr 192.0.2.1 drop\n }\n}\n",
    )

    def foreign() -> str:
        table = world.host.namespace.run("nft", "list", "table", "ip", "theirs").stdout
        return table + world.host.namespace.run("ip", "route", "show", "proto", "static").stdout

    before = foreign()
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    world.host.stop()
    assert foreign() == before


def test_the_gateway_answers_for_itself_alone(world: World) -> None:
    """A host without a default route answers for the gateway, and what is sent to it goes round no loop."""
    world.host.start()
    assert reaches(world.a, B4)
    world.host.namespace.run("nft", "-f", "-", stdin=_COUNT_LOOPBACK)
    world.a.run("ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "1", "169.254.1.1", check=False)
    counted = world.host.namespace.run("nft", "list", "table", "ip", "watch").stdout
    assert "counter packets 0 " in counted


_COUNT_LOOPBACK = """table ip watch {
\tchain c {
\t\ttype filter hook prerouting priority -400
\t\tiifname "lo" ip daddr 169.254.1.1 counter
\t}
}
"""


def test_what_is_ours_can_be_removed_without_a_trace(world: World) -> None:
    """After the agent's end and its removal the host's rules and routes are as before the first start."""
    inside = world.host.namespace

    def state() -> list[str]:
        listing = inside.run("nft", "list", "ruleset").stdout.splitlines()
        # iptables leaves its own empty tables behind, as it does for everyone.
        rules = [line for line in listing if "calico" in line or "cali-" in line]
        sets = inside.run("ipset", "list", "-n").stdout.splitlines()
        listed = "".join(inside.run("ip", family, "route", "show").stdout for family in ("-4", "-6"))
        routes = [line for line in listed.splitlines() if "proto kernel" not in line]
        neighbours = inside.run("ip", "neigh", "show", "nud", "permanent").stdout.splitlines()
        return [*rules, *sets, *routes, *neighbours]

    before = state()
    world.host.start()
    assert reaches(world.a, B4)
    assert world.host.calicoctl("agent", "remove", "--yes").returncode == 1, "a running agent is left alone"
    assert reaches(world.a, B4)
    world.host.stop()
    assert state() != before
    removed = world.host.calicoctl("agent", "remove", "--yes")
    assert (removed.returncode, removed.stderr) == (0, "")
    assert state() == before


@pytest.mark.parametrize(
    "value", [b"{{{", b'{"spec": {"selector": "app == \'b\'", "ingress": [{"action": "Surprise"}]}}']
)
def test_a_policy_that_cannot_be_read_opens_nothing(world: World, value: bytes) -> None:
    """What a policy denied stays denied when someone overwrites it with what is none; the status says so."""
    world.host.start()
    world.cloud.apply(DENY_B)
    eventually(lambda: not reaches(world.a, B4, wait=0.3), what="b is closed")
    world.cloud.overwrite("GlobalNetworkPolicy", "close-b", value)
    eventually(lambda: "close-b" in str(world.host.status()["problems"]), what="the status names the policy")
    assert not reaches(world.a, B4, wait=0.3)
    assert not reaches(world.a, B6, wait=0.3)
    world.cloud.delete("GlobalNetworkPolicy", "close-b")
    eventually(lambda: reaches(world.a, B4), what="b is open again")
