"""Which sets this host needs, and who is in them."""

from __future__ import annotations

from calico.calculation.rules import net_set
from calico.desired import SetInfo
from calico.model.selector import parse
from support.builders import (
    elsewhere,
    endpoint,
    here,
    host_endpoint,
    network_set,
    policy,
    profile,
    rule,
)
from support.world import NOTHING, World

WEB = '(app == "web" && projectcalico.org/namespace == "default")'


def test_shared_address_outlives_one_owner() -> None:
    """An address stays in a set until the last endpoint that brought it has gone."""
    world = World(
        policy("allow-web", selector="role == 'db'", source="app == 'web'"),
        endpoint("db", here, labels={"role": "db"}),
        endpoint("web-1", elsewhere, labels={"app": "web"}, address="10.0.0.7"),
        endpoint("web-2", elsewhere, labels={"app": "web"}, address="10.0.0.7"),
    )

    delta = world.remove("web-1")

    assert delta == NOTHING
    assert world.members(WEB) == {"10.0.0.7/32"}

    world.remove("web-2")
    assert world.members(WEB) == set()


def test_an_address_may_change_hands_in_one_batch() -> None:
    """Removed with one owner and added with another in the same batch, in either order, a member stays."""
    world = World(
        policy("p", source="app == 'web'"),
        endpoint("db", here),
        endpoint("old", elsewhere, labels={"app": "web"}, address="10.0.0.7"),
    )
    new = endpoint("new", elsewhere, labels={"app": "web"}, address="10.0.0.7")
    (old,) = (key for key in world.facts if key.name == "old")
    assert world.change({old._replace(name="new"): new, old: None}) == NOTHING
    assert world.change({old._replace(name="new"): None, old: new}) == NOTHING
    assert world.members(WEB) == {"10.0.0.7/32"}


def test_everyone_with_addresses_can_be_a_member() -> None:
    """Workloads of all nodes, host endpoints by expected address, and network sets: what the labels select."""
    labels = {"app": "web"}
    world = World(
        policy("p", namespace=None, source="app == 'web'"),
        endpoint("db", here, address="10.0.0.1"),
        endpoint("near", here, labels=labels, address=["10.0.0.2", "fd00::2"]),
        endpoint("far", elsewhere, labels=labels, address="10.0.0.3"),
        endpoint("bare", elsewhere, labels=labels),
        host_endpoint("host", elsewhere, labels=labels, interface="eth0", address="192.0.2.1"),
        network_set("own", "198.51.100.7/24", labels=labels),
        network_set("all", "203.0.113.0/24", "203.0.113.5", namespace=None, labels=labels),
        network_set("other", "192.0.2.128/25", labels={"app": "db"}),
    )
    assert world.members('app == "web"') == {
        "10.0.0.2/32",
        "fd00::2/128",
        "10.0.0.3/32",
        "192.0.2.1/32",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "203.0.113.5/32",
    }


def test_namespaces_and_what_has_none() -> None:
    """``all()`` as a namespaceSelector means whatever has a namespace, ``global()`` whatever has none."""
    world = World(
        policy(
            "p",
            ingress=[
                rule(source={"namespace_selector": "all()"}),
                rule(source={"namespace_selector": "global()"}),
                rule(source={"namespace_selector": "team == 'x'"}),
            ],
        ),
        profile("kns.red", gives={"pcns.team": "x"}),
        endpoint("db", here),
        endpoint("w", elsewhere, namespace="red", address="10.0.0.1", profiles=["kns.red"]),
        endpoint("forger", elsewhere, namespace="blue", address="10.0.0.2", labels={"pcns.team": "x"}),
        network_set("s", "10.1.0.0/16", namespace="red"),
        network_set("forged", "10.2.0.0/16", namespace="blue", labels={"pcns.team": "x"}),
        network_set("g", "10.3.0.0/16", namespace=None),
        host_endpoint("h", elsewhere, address="192.0.2.1"),
    )
    assert world.members("has(projectcalico.org/namespace)") == {
        "10.0.0.1/32",
        "10.0.0.2/32",
        "10.1.0.0/16",
        "10.2.0.0/16",
    }
    assert world.members("!has(projectcalico.org/namespace)") == {"10.3.0.0/16", "192.0.2.1/32"}
    assert world.members('pcns.team == "x"') == {"10.0.0.1/32", "10.1.0.0/16"}


def test_a_named_port_is_who_listens_where() -> None:
    """Members are address, protocol and port of each endpoint that declares the name for the rule's protocol."""
    world = World(
        policy(
            "p",
            ingress=[
                rule(protocol="TCP", destination={"ports": ["http"]}),
                rule(protocol="UDP", destination={"ports": ["http"], "selector": "app == 'web'"}),
            ],
        ),
        endpoint(
            "w", here, address=["10.0.0.1", "fd00::1"], ports=[("http", "TCP", 80), ("http", "UDP", 81)]
        ),
        endpoint("x", elsewhere, labels={"app": "web"}, address="10.0.0.2", ports=[("http", "UDP", 443)]),
        endpoint("y", elsewhere, labels={"app": "web"}, address="10.0.0.3", ports=[("dns", "UDP", 53)]),
        host_endpoint("h", elsewhere, address="192.0.2.1", ports=[("http", "TCP", 8080)]),
    )
    assert world.members("all()", "http") == {"10.0.0.1 6:80", "fd00::1 6:80", "192.0.2.1 6:8080"}
    assert world.members(WEB, "http") == {"10.0.0.2 17:443"}

    world.add(endpoint("w", here, address="10.0.0.1", ports=[("http", "TCP", 8000)]))
    assert world.members("all()", "http") == {"10.0.0.1 6:8000", "192.0.2.1 6:8080"}


def test_a_port_without_a_name_is_nobodys_business() -> None:
    """A workload may declare host ports only: rules cannot name them, and they need no number of their own."""
    world = World(
        policy("p", ingress=[rule(protocol="TCP", destination={"ports": ["http"]})]),
        endpoint("w", here, address="10.0.0.1", ports=[("", "TCP", 0), ("http", "TCP", 80)]),
    )
    assert world.members("all()", "http") == {"10.0.0.1 6:80"}
    assert world.network.problems == {}


def test_a_shared_port_outlives_one_owner() -> None:
    """Of two endpoints with one address, the one that declares the port keeps it in the set."""
    ports = [("http", "TCP", 80)]
    world = World(
        policy("p", ingress=[rule(protocol="TCP", destination={"ports": ["http"]})]),
        endpoint("db", here),
        endpoint("a", elsewhere, address="10.0.0.1", ports=ports),
        endpoint("b", elsewhere, address="10.0.0.1", ports=ports),
        endpoint("c", elsewhere, address="10.0.0.1"),
    )
    assert world.remove("a") == NOTHING
    world.remove("b")
    assert world.members("all()", "http") == set()


def test_sets_are_shared_and_come_and_go_with_their_rules() -> None:
    """Rules that mean the same share a set, in policies and profiles; it goes with the last of them."""
    spec = net_set(parse("app == 'web'"))
    world = World(
        policy("p", namespace=None, source="app == 'web'"),
        profile("q", ingress=[rule(source='(app == "web")')]),
        endpoint("db", here, profiles=["q"]),
        endpoint("web", elsewhere, labels={"app": "web"}, address="10.0.0.2"),
    )
    assert world.state.set_infos == {spec.id: SetInfo("net", 'app == "web"')}
    assert spec.id == parse("app == 'web'").uid

    assert not world.remove("p").set_infos
    delta = world.remove("q")
    assert delta.set_infos == {spec.id: None}
    assert list(delta.set_members.values()) == [None]


def test_relabelling_moves_an_address_between_sets() -> None:
    """One changed label is one member less here and one more there, and nothing else."""
    world = World(
        policy("p", namespace=None, source="app == 'web'", destination="app == 'db'"),
        endpoint("x", here),
        endpoint("w", elsewhere, labels={"app": "web"}, address="10.0.0.2"),
    )
    delta = world.add(endpoint("w", elsewhere, labels={"app": "db"}, address="10.0.0.2"))
    assert sorted(str(row) for row in delta.set_members.values()) == ["None", "True"]
    assert delta.set_infos == delta.policies == delta.endpoints == {}
    assert world.members('app == "web"') == set()
    assert world.members('app == "db"') == {"10.0.0.2/32"}


def test_rules_of_an_unneeded_direction_need_no_set() -> None:
    """A policy for ingress only brings no set for the egress rules that it may hold."""
    world = World(
        policy("p", types=["Ingress"], egress=[rule(destination="app == 'web'")]), endpoint("w", here)
    )
    assert world.state.set_infos == {}


def test_a_shadowed_or_foreign_endpoint_is_a_member_all_the_same() -> None:
    """Whose interface it is does not matter to what others may reach."""
    world = World(
        policy("p", source="app == 'web'"),
        endpoint("a", interface="cali1", address="10.0.0.1"),
        endpoint("b", interface="cali1", address="10.0.0.2", labels={"app": "web"}),
    )
    assert world.members(WEB) == {"10.0.0.2/32"}
