"""Real BIRDs on one link: what the fields of a peer do to its session and routes.

a and b are hosts of ours; c is a router whose configuration is not ours, in AS 65003, which announces 10.65.77.0/24
and a route that has been through AS 64512.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import convert

from calico.bgp.bird import render
from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPassword, SecretKeyRef
from calico.model.resource import Metadata, Resource
from support.birds import Host, eventually, rack
from support.netns import needs_root
from support.speakers import configuration, node, peer, pool, speaker

pytestmark = [pytest.mark.root, needs_root]

ROUTER = """\
router id 10.0.0.3;
timeformat protocol "%Y-%m-%dT%H:%M:%S";
protocol device {{ scan time 2; }}
protocol direct {{ ipv4; }}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol static {{
  ipv4;
  route 10.65.77.0/24 unreachable;
  route 10.65.78.0/24 unreachable {{ bgp_path.prepend(64512); }};
  route 10.96.7.7/32 unreachable;
}}
protocol bgp a {{
  local as 65003; {options}
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"""
PLAIN = "neighbor 10.0.0.1 as 64512; direct;"
POOLS = (pool("v4", "10.65.0.0/16"),)
NO_MESH = configuration(node_to_node_mesh_enabled=False)
SECRET = SecretKeyRef(name="bgp", key="router")
BLOCKS = {"a": ("10.65.1.0/26",), "b": ("10.65.2.0/26",)}

Hosts = dict[str, Host]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """The three, without configurations."""
    with rack("p", tmp_path_factory.mktemp("peers"), "a", "b", "c") as made:
        made["c"].namespace.run("ip", "address", "add", "10.9.0.1/32", "dev", "lo")
        yield made


def load(hosts: Hosts, options: str, *facts: Resource, **passwords: str) -> None:
    """Tell all three."""
    nodes = (node("a", "10.0.0.1", labels={"near": ""}), node("b", "10.0.0.2"))
    known = {SECRET: passwords["password"]} if passwords else {}
    hosts["c"].load(ROUTER.format(options=options))
    for name in ("a", "b"):
        mine = (*nodes, *POOLS, *facts)
        replaced = [fact for fact in mine if fact not in nodes or fact.metadata.name not in _names(facts)]
        hosts[name].load(render(speaker(name, *replaced, blocks=BLOCKS[name]), passwords=known))


def _names(facts: tuple[Resource, ...]) -> set[str]:
    """The nodes that are given anew."""
    return {fact.metadata.name for fact in facts if fact.kind == "Node"}


def router(**spec: Any) -> Resource:
    """a's peering with the router."""
    return peer("router", node="a", **{"peer_ip": "10.0.0.3", "as_number": 65003, **spec})


def up(host: Host) -> bool:
    """Whether the router's session is up."""
    return any(info == "Established" for info, _ in host.sessions().values())


def test_plain_session_is_refused_what_has_our_as(hosts: Hosts) -> None:
    """A route that has been through our own AS is a loop, unless the peer may announce such."""
    load(hosts, PLAIN, NO_MESH, router())
    eventually(lambda: hosts["a"].learned("Node_10_0_0_3") == {"10.65.77.0/24", "10.96.7.7/32"})

    load(hosts, PLAIN, NO_MESH, router(num_allowed_local_as_numbers=1))
    eventually(lambda: "10.65.78.0/24" in hosts["a"].learned("Node_10_0_0_3"))


def test_local_as_of_one_peer(hosts: Hosts) -> None:
    """The peer sees the AS that localASNumber says, in the session and in the path."""
    load(hosts, "neighbor 10.0.0.1 as 65100; direct;", NO_MESH, router(local_as_number=65100))

    eventually(lambda: "BGP.as_path: 65100\n" in hosts["c"].table("10.65.1.0/26"))


def test_ttl_security_needs_both_ends(hosts: Hosts) -> None:
    """A peer whose packets might come from far away is not spoken to; one that proves to be near is."""
    load(hosts, "neighbor 10.0.0.1 as 64512; direct; ttl security on;", NO_MESH, router(ttl_security=1))
    eventually(lambda: up(hosts["c"]) and up(hosts["a"]))

    load(hosts, "neighbor 10.0.0.1 as 64512; multihop 3;", NO_MESH, router(ttl_security=1))
    eventually(lambda: not up(hosts["a"]))
    for _ in range(20):
        assert not up(hosts["a"])


def test_password_has_to_be_the_same(hosts: Hosts) -> None:
    """The session is down without its password, down with another one, and up with the right one."""
    guarded = f'{PLAIN} password "right";'
    wanted = router(password=BGPPassword(secret_key_ref=SECRET))
    load(hosts, guarded, NO_MESH, wanted)
    eventually(lambda: not up(hosts["c"]))
    assert hosts["a"].sessions()["Node_10_0_0_3"][0] == ""

    load(hosts, guarded, NO_MESH, wanted, password="wrong")
    for _ in range(20):
        assert not up(hosts["a"])

    load(hosts, guarded, NO_MESH, wanted, password="right")
    eventually(lambda: up(hosts["a"]) and up(hosts["c"]))


def test_peer_behind_a_gateway_on_another_port(hosts: Hosts) -> None:
    """reachableBy says over which neighbour the peer is reached, and peerIP may have a port."""
    far = "local 10.9.0.1 port 1790; neighbor 10.0.0.1 as 64512; multihop; passive on;"
    load(hosts, far, NO_MESH, router(peer_ip="10.9.0.1:1790", reachable_by="10.0.0.3"))

    eventually(lambda: up(hosts["a"]))
    assert set(hosts["a"].sessions()) == {"Node_10_9_0_1_port_1790"}
    eventually(lambda: hosts["a"].routes("10.65.77.0/24"))


@pytest.mark.parametrize(("mode", "next_hop"), [("Auto", "10.0.0.3"), ("Self", "10.0.0.1")])
def test_next_hop_of_what_is_passed_on(hosts: Hosts, mode: str, next_hop: str) -> None:
    """A reflector passes the next hop on as it is, or says itself; what of services others announce it reflects, too."""
    spec = {"nodeToNodeMeshEnabled": False, "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]}
    settings = BGPConfiguration(metadata=Metadata(name="default"), spec=convert(spec, BGPConfigurationSpec))
    reflector = node("a", "10.0.0.1", cluster_id="1.0.0.1")
    client = peer("client", node="a", peer_ip="10.0.0.2", as_number=64512, next_hop_mode=mode)
    back = peer("back", node="b", peer_ip="10.0.0.1", as_number=64512)
    load(hosts, PLAIN, settings, reflector, router(), client, back)

    eventually(lambda: any(f"via {next_hop} " in line for line in hosts["b"].routes("10.65.77.0/24")))
    eventually(lambda: any(f"via {next_hop} " in line for line in hosts["b"].routes("10.96.7.7")))
    assert hosts["b"].routes("10.65.78.0/24") == []


def test_mesh_and_router_side_by_side(hosts: Hosts) -> None:
    """In the default mesh hosts reach each other, and the one with the router does not pass its routes on."""
    load(hosts, PLAIN, router())

    eventually(lambda: hosts["b"].routes("10.65.1.0/26"))
    eventually(lambda: hosts["a"].routes("10.65.77.0/24"))
    assert hosts["b"].routes("10.65.77.0/24") == []
    eventually(lambda: hosts["c"].learned("a") == {"10.65.1.0/26"})
