"""Real BIRDs on one link, configured by nothing but intent: the mesh, a route reflector, passwords, IPv6 alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from calico.bgp.bird import render
from calico.model.bgp import BGPPassword, SecretKeyRef
from calico.model.node import Node
from calico.model.resource import Resource
from support.birds import Host, eventually, rack
from support.netns import needs_root
from support.speakers import configuration, node, peer, pool, speaker

pytestmark = [pytest.mark.root, needs_root]

NAMES = ("a", "b", "c")
BLOCKS = {
    "a": ("10.65.1.0/26", "fd65::40/122"),
    "b": ("10.65.2.0/26", "fd65::80/122"),
    "c": ("10.65.3.0/26", "fd65::c0/122"),
}
POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))
NO_MESH = configuration(node_to_node_mesh_enabled=False)

Hosts = dict[str, Host]


def nodes(**special: Node) -> list[Node]:
    """The three nodes, some of them special."""
    return [
        special.get(name) or node(name, f"10.0.0.{number}", f"fd00::{number}")
        for number, name in enumerate(NAMES, start=1)
    ]


def load(hosts: Hosts, *facts: Resource, **options: Any) -> None:
    """Tell every host the same facts, and wait until all sessions are up."""
    for name, host in hosts.items():
        host.load(render(speaker(name, *POOLS, *facts, blocks=BLOCKS[name]), **options))
    for host in hosts.values():
        eventually(host.established)


def reach(host: Host, family: int) -> set[str]:
    """Whose blocks the host's kernel routes to."""
    at = 0 if family == 4 else 1
    return {name for name, blocks in BLOCKS.items() if any("via" in line for line in host.routes(blocks[at]))}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts on one switch."""
    with rack("m", tmp_path_factory.mktemp("mesh"), *NAMES) as made:
        yield made


def test_mesh_spreads_all_blocks(hosts: Hosts) -> None:
    """With the default mesh every host reaches every other one's blocks, in both families, from its node address."""
    load(hosts, *nodes())

    for name, host in hosts.items():
        eventually(lambda name=name, host=host: reach(host, 4) == set(NAMES) - {name})
        eventually(lambda name=name, host=host: reach(host, 6) == set(NAMES) - {name})
    assert hosts["a"].routes("10.65.2.0/26") == [
        "10.65.2.0/26 via 10.0.0.2 dev eth0 proto bird src 10.0.0.1 metric 32"
    ]


def test_reflector_spreads_blocks_without_a_mesh(hosts: Hosts) -> None:
    """With sessions to one reflecting node only, hosts reach each other directly: the next hop is kept."""
    reflector = node("c", "10.0.0.3", "fd00::3", cluster_id="1.0.0.1", labels={"reflector": "yes"})
    clients = peer("clients", node_selector="!has(reflector)", peer_selector="has(reflector)")

    load(hosts, *nodes(c=reflector), NO_MESH, clients)

    assert set(hosts["a"].sessions()) == {"Node_10_0_0_3", "Node_fd00__3"}
    eventually(
        lambda: (
            hosts["a"].routes("10.65.2.0/26")
            == ["10.65.2.0/26 via 10.0.0.2 dev eth0 proto bird src 10.0.0.1 metric 32"]
        )
    )
    eventually(lambda: reach(hosts["b"], 6) == {"a", "c"})


def test_reflector_passes_borrowed_addresses_of_its_own_block_on(hosts: Hosts) -> None:
    """An address of the reflector's block that a client has is reflected to the other clients."""
    reflector = node("c", "10.0.0.3", "fd00::3", cluster_id="1.0.0.1", labels={"reflector": "yes"})
    clients = peer("clients", node_selector="!has(reflector)", peer_selector="has(reflector)")
    load(hosts, *nodes(c=reflector), NO_MESH, clients)

    with hosts["a"].route("10.65.3.7", "dev", "cali1", "proto", "80", "metric", "1024"):
        eventually(lambda: any("via 10.0.0.1" in line for line in hosts["b"].routes("10.65.3.7")))


def test_mesh_of_nodes_without_ipv4(hosts: Hosts) -> None:
    """Nodes with IPv6 addresses alone find each other: their router ids differ."""
    load(hosts, *(node(name, ipv6=f"fd00::{number}") for number, name in enumerate(NAMES, start=1)))

    for name, host in hosts.items():
        eventually(lambda name=name, host=host: reach(host, 6) == set(NAMES) - {name})
        eventually(lambda host=host: reach(host, 4) == set())


def test_each_node_in_an_as_of_its_own(hosts: Hosts) -> None:
    """The mesh works over AS borders, and no host announces for another."""
    own = {
        name: node(name, f"10.0.0.{number}", f"fd00::{number}", as_number=65000 + number)
        for number, name in enumerate(NAMES, start=1)
    }
    load(hosts, *nodes(**own))

    eventually(lambda: reach(hosts["a"], 4) == {"b", "c"})
    assert len(hosts["a"].routes("10.65.2.0/26")) == 1
    assert hosts["a"].announced(4) == {"10.65.1.0/26"}


def test_sessions_with_a_password_and_another_port(hosts: Hosts) -> None:
    """TCP MD5 passwords and a moved port agree at both ends."""
    secret = SecretKeyRef(name="bgp", key="mesh")
    guarded = configuration(node_mesh_password=BGPPassword(secret_key_ref=secret), listen_port=1790)

    load(hosts, *nodes(), guarded, passwords={secret: "s3cret"})

    assert set(hosts["a"].sessions()) == {
        f"Mesh_{address}_port_1790" for address in ("10_0_0_2", "10_0_0_3", "fd00__2", "fd00__3")
    }


def test_listening_on_node_addresses_only(hosts: Hosts) -> None:
    """With bindMode NodeIP no socket listens on all addresses."""
    load(hosts, *nodes(), configuration(bind_mode="NodeIP"))

    listening = {line.split()[3] for line in hosts["a"].namespace.run("ss", "-Hltn").stdout.splitlines()}
    assert listening == {"10.0.0.1:179", "[fd00::1]:179"}
