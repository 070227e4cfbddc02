"""Settings that change under a running agent, and a store that is locked, on a real kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.host import (
    ALLOWING_PROFILE,
    Cloud,
    Host,
    eventually,
    pinging,
    plug,
    reaches,
    workload_endpoint,
)
from support.netns import Namespace, link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A4, B4 = "10.65.0.2", "10.65.0.3"
HOST4, OUTSIDE4 = "10.0.0.1", "10.0.0.2"
PORTS = (22, 8022)

CLOSED_HOST = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host-eth0}
spec: {node: host, interfaceName: eth0}
---"""
CLOSE_B = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: close-b}
spec:
  selector: app == 'b'
  types: [Ingress]
---"""


class World(NamedTuple):
    host: Host
    cloud: Cloud
    a: Namespace
    b: Namespace
    outside: Namespace


def felix(name: str, spec: str) -> str:
    return f"""
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {{name: {name}}}
spec: {spec}
---"""


def lock(*, ready: bool) -> str:
    return f"""
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {{name: default}}
spec: {{datastoreReady: {str(ready).lower()}}}
---"""


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A host with two workloads that may talk to each other, and a neighbour; its agent not started yet."""
    names = [f"t-settings-{name}-{os.getpid()}" for name in ("h", "a", "b", "o")]
    backend = getattr(request, "param", "nftables")
    with (
        namespaces(*names) as (inside, a, b, outside),
        Host(inside, "host", tmp_path, backend=backend) as host,
    ):
        link(inside, "eth0", outside, "eth0")
        inside.run("ip", "address", "add", f"{HOST4}/24", "dev", "eth0")
        outside.run("ip", "address", "add", f"{OUTSIDE4}/24", "dev", "eth0")
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A4)
        plug(host, b, "b", B4)
        cloud.apply(
            ALLOWING_PROFILE
            + workload_endpoint("host", "a", A4, labels="{app: a}")
            + workload_endpoint("host", "b", B4, labels="{app: b}")
        )
        yield World(host, cloud, a, b, outside)


def settings(host: Host) -> dict[str, tuple[str, str]]:
    """The settings of a host's agent that are not the built-in ones, with their sources."""
    found: list[dict[str, Any]] = host.status().get("settings", [])
    return {each["name"]: (each["value"], each["source"]) for each in found}


def opens(world: World, port: int) -> bool:
    """Whether the neighbour can connect to a port of the host."""

    def connect() -> bool:
        try:
            with socket.create_connection((HOST4, port), timeout=1.0):
                return True
        except TimeoutError:
            return False

    return world.outside.call(connect)


@pytest.mark.parametrize("world", ["nftables", "iptables-nft"], indirect=True)
def test_a_setting_takes_effect_at_once_and_the_strongest_source_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all nodes, for one, by the file, by the environment: each stronger than the one before; no packet is lost."""
    world.host.start()
    assert not reaches(world.a, HOST4, wait=0.3), "built in: workloads do not reach their host"
    with pinging(world.a, B4) as meanwhile:
        world.cloud.apply(felix("default", "{defaultEndpointToHostAction: Accept, bpfEnabled: true}"))
        eventually(lambda: reaches(world.a, HOST4, wait=0.3), what="the host is open")
        assert settings(world.host) == {
            "defaultEndpointToHostAction": ("Accept", "FelixConfiguration/default")
        }
        assert "bpfEnabled" in world.host.status()["noEffect"][0]

        world.cloud.apply(felix("node.host", "{defaultEndpointToHostAction: drop}"))
        eventually(lambda: not reaches(world.a, HOST4, wait=0.3), what="this host is closed")

        world.cloud.delete("FelixConfiguration", "node.host")
        eventually(lambda: reaches(world.a, HOST4, wait=0.3), what="the host is open again")

        (world.host.run_dir / "felix.cfg").write_text("[global]\nDefaultEndpointToHostAction = DROP\n")
        assert world.host.stop() == 0
        world.host.start()
        assert not reaches(world.a, HOST4, wait=0.3), "the file is stronger than the store"

        monkeypatch.setenv("FELIX_DEFAULTENDPOINTTOHOSTACTION", "RETURN")
        monkeypatch.setenv("FELIX_IPV6SUPPORT", "perhaps")
        assert world.host.stop() == 0
        world.host.start()
        assert reaches(world.a, HOST4), "the environment is stronger than the file"
        world.cloud.apply(felix("node.host", "{defaultEndpointToHostAction: Drop, logPrefix: mine}"))
        eventually(lambda: "logPrefix" in settings(world.host), what="the other parameter is taken")
        eventually(lambda: world.host.status().get("programmed"), what="programmed")
        assert reaches(world.a, HOST4)
        assert settings(world.host)["defaultEndpointToHostAction"] == ("Return", "the environment")
        sent, lost = meanwhile()
    assert sent > 100
    assert lost == 0
    status = world.host.calicoctl("agent", "status")
    assert "Setting:     logPrefix: mine (FelixConfiguration/node.host)" in status.stdout
    assert "FELIX_IPV6SUPPORT='perhaps' is not understood" in status.stdout
    assert "No effect:   FelixConfiguration/default: bpfEnabled: true has no effect" in status.stdout


def test_failsafe_ports_of_the_store_hold_from_the_first_moment_and_change_live(world: World) -> None:
    """An agent that starts never programs the built-in ones first; a changed list holds for the next connection."""
    world.cloud.apply(CLOSED_HOST + felix("default", "{failsafeInboundHostPorts: [{port: 8022}]}"))
    listeners = [
        world.host.namespace.call(lambda port=port: socket.create_server(("", port))) for port in PORTS
    ]
    try:
        assert all(opens(world, port) for port in PORTS)
        world.host.start()
        assert [opens(world, port) for port in PORTS] == [False, True]
        assert "starting over" not in world.host.log()
        assert world.host.log().count("is programmed") == 1

        world.cloud.apply(
            felix("default", "{failsafeInboundHostPorts: [{port: 22, protocol: TCP, net: 10.0.0.0/24}]}")
        )
        eventually(lambda: [opens(world, port) for port in PORTS] == [True, False], what="only 22 is open")
        world.cloud.apply(felix("default", "{failsafeInboundHostPorts: []}"))
        eventually(lambda: not any(opens(world, port) for port in PORTS), what="all is closed")
    finally:
        for listener in listeners:
            listener.close()


def test_a_change_of_the_routes_own_settings_loses_no_route(world: World) -> None:
    """Their priority and protocol change under traffic, and no route of the old kind is left."""
    world.host.start()

    def routes() -> list[str]:
        return world.host.namespace.run("ip", "route", "show", "exact", f"{B4}/32").stdout.split("\n")[:-1]

    with pinging(world.a, B4) as meanwhile:
        world.cloud.apply(felix("default", "{ipv4NormalRoutePriority: 7, deviceRouteProtocol: 80}"))
        eventually(
            lambda: ["metric 7" in route for route in routes()] == [True], what="one route, of metric 7"
        )
        assert "proto 80" in routes()[0]
        world.cloud.delete("FelixConfiguration", "default")
        eventually(
            lambda: ["metric 1024" in route for route in routes()] == [True], what="one, of metric 1024"
        )
        sent, lost = meanwhile()
    assert sent > 20
    assert lost == 0


def test_a_selector_matches_the_nodes_labels(world: World) -> None:
    """A resource for some nodes begins and ends to count as the node's labels change."""
    node = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: host, labels: {{{}}}}}
---"""
    world.cloud.apply(
        node.format("rack: r1")
        + felix("rack-1", "{nodeSelector: rack == 'r1', defaultEndpointToHostAction: Accept}")
    )
    world.host.start()
    assert reaches(world.a, HOST4)
    assert "starting over" not in world.host.log()
    world.cloud.apply(node.format("rack: r2"))
    eventually(lambda: not reaches(world.a, HOST4, wait=0.3), what="closed in the other rack")


def test_forwarding_is_left_alone_where_it_is_not_wanted(world: World) -> None:
    """A host without workloads may be protected without becoming a router."""
    world.cloud.apply(felix("default", "{ipForwarding: Disabled}"))
    world.host.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    world.host.start()
    assert world.host.namespace.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "0"
    world.cloud.delete("FelixConfiguration", "default")
    eventually(
        lambda: world.host.namespace.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "1",
        what="forwarding is on",
    )


def test_a_locked_store_is_waited_for(world: World) -> None:
    """Nothing is programmed from a store that is not ready, and the status says why."""
    world.cloud.apply(lock(ready=False))
    world.host.start(wait=False)
    eventually(lambda: world.host.status().get("store", {}).get("locked"), what="the lock is seen")
    assert "locked" in world.host.status()["store"]["state"]
    assert world.host.status()["programmed"] is False
    assert "calico" not in world.host.namespace.run("nft", "list", "tables").stdout
    assert not reaches(world.a, B4, wait=0.3)
    world.cloud.apply(lock(ready=True))
    eventually(lambda: world.host.status()["programmed"], what="programmed")
    assert reaches(world.a, B4)
    assert world.host.status()["store"]["locked"] is False


def test_nothing_changes_while_the_store_is_locked(world: World) -> None:
    """What was programmed stays, and is repaired; what was written meanwhile counts when the lock is gone."""
    world.host.start()
    with pinging(world.a, B4) as meanwhile:
        world.cloud.apply(lock(ready=False))
        eventually(lambda: world.host.status()["store"]["locked"], what="the lock is seen")
        world.cloud.apply(CLOSE_B + felix("default", "{defaultEndpointToHostAction: Accept}"))
        world.cloud.delete("WorkloadEndpoint", "host-k8s-a-eth0", "default")
        eventually(lambda: world.host.status()["store"]["held"] >= 3, what="the changes are held back")
        assert reaches(world.a, B4)
        assert not reaches(world.a, HOST4, wait=0.3)
        assert settings(world.host) == {}, "the status has the settings in force, not those that wait"
        sent, lost = meanwhile()
    assert sent > 5
    assert lost == 0
    world.host.namespace.run("nft", "delete", "table", "ip", "calico")
    eventually(
        lambda: "table ip calico" in world.host.namespace.run("nft", "list", "tables").stdout, what="repaired"
    )
    world.cloud.apply(
        workload_endpoint("host", "a", A4, labels="{app: a}") + lock(ready=True),
    )
    eventually(lambda: reaches(world.a, HOST4, wait=0.3), what="the new setting counts")
    assert not reaches(world.a, B4, wait=0.3)
