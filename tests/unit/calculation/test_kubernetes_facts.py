"""Objects of Kubernetes among the facts: they count as what they stand for."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from calico.calculation.network import Network
from calico.calculation.translation import translated
from calico.desired import EndpointId, PolicyId
from calico.model.fact import InSync, Update
from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import (
    ClusterNetworkPolicy,
    EndpointSlice,
    KubernetesNetworkPolicy,
    KubernetesObject,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
)
from calico.model.resource import Resource
from calico.model.salvage import salvaged
from support.builders import elsewhere, endpoint, here, metadata, policy, profile, rule
from support.world import NOTHING, World

SHOP = Namespace(metadata=metadata("shop", labels={"team": "a"}))
ROBOT = ServiceAccount(metadata=metadata("robot", "shop", {"role": "bot"}))
WEB = Pod(
    metadata=metadata("web", "shop", {"app": "web"}),
    spec={
        "nodeName": here,
        "serviceAccountName": "robot",
        "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}],
    },
    status={"podIP": "10.0.0.1"},
)
CLOSED = KubernetesNetworkPolicy(metadata=metadata("closed", "shop"), spec={"podSelector": {}})
CLOSED_ID = PolicyId("NetworkPolicy", "shop", "knp.default.closed")
WEB_ID = EndpointId("WorkloadEndpoint", "shop", "here-k8s-web-eth0")


def cluster_policy(**spec: Any) -> ClusterNetworkPolicy:
    """A policy of tier Admin for every pod."""
    subject = {"namespaces": {}}
    return ClusterNetworkPolicy(
        metadata=metadata("rules"), spec={"tier": "Admin", "priority": 5, "subject": subject} | spec
    )


def actions(world: World, name: str) -> list[str]:
    """What the ingress rules of a policy do."""
    row = world.policy(name)
    assert row is not None
    return [each.action for each in row.ingress]


def test_objects_count_as_what_they_stand_for() -> None:
    """A pod is an endpoint, with the profiles of its namespace and account, and under the policies that select it."""
    world = World(SHOP, ROBOT, WEB, CLOSED)

    row = world.state.endpoints[WEB_ID]
    assert row.profiles == ("kns.shop", "ksa.shop.robot")
    assert world.order("here-k8s-web-eth0") == [("default", ["knp.default.closed"])]
    assert set(world.state.profiles) == {"kns.shop", "ksa.shop.robot"}
    assert world.routes() == {"10.0.0.1/32": row.interface}


def test_labels_of_namespaces_and_accounts_reach_their_pods() -> None:
    """A rule that selects by them finds the pod, also by its ports' names; a change of labels is one of members."""
    by_team = rule(protocol="TCP", source={"namespace_selector": "team == 'a'", "selector": "app == 'web'"})
    allowing = policy("by-team", namespace="shop", ingress=[by_team])
    world = World(SHOP, ROBOT, WEB, endpoint("db", namespace="shop"), allowing)
    selector = '(pcns.team == "a" && app == "web")'
    (found,) = (info.selector for info in world.state.set_infos.values())
    assert world.members(found) == {"10.0.0.1/32"}, selector
    world.add(Namespace(metadata=metadata("shop", labels={"team": "b"})))
    assert world.members(found) == set()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_stored_resource_counts_before_an_object_whichever_came_first(order: tuple[int, ...]) -> None:
    """An orchestrator's profile hides the namespace; when either goes, the other is what counts."""
    stored = profile("kns.shop", gives={"team": "z"}, ingress=[rule("Deny")])
    user = endpoint("w", namespace="shop", profiles=["kns.shop"])
    world = World()
    for index in order:
        world.add((stored, SHOP, user)[index])

    def action() -> str:
        (found,) = world.state.profiles["kns.shop"].ingress
        return found.action

    assert action() == "Deny"
    world.remove("kns.shop")
    assert action() == "Allow"
    world.add(stored)
    assert action() == "Deny"
    assert world.add(Namespace(metadata=metadata("shop", labels={"team": "c"}))) == NOTHING
    world.remove("shop")
    assert action() == "Deny"
    world.remove("kns.shop")
    assert world.state.profiles == {}


def test_a_stored_resource_that_is_no_good_counts_too() -> None:
    """An endpoint that is closed because it is broken is not opened by the pod of its name."""
    broken = endpoint("here-k8s-web-eth0", namespace="shop", address="10.0.0.300")
    for first, second in permutations((broken, WEB)):
        world = World(first, second)
        assert not world.state.endpoints[WEB_ID].active
        world.remove("here-k8s-web-eth0")
        assert world.state.endpoints[WEB_ID].active


def test_a_pod_moves_finishes_and_goes() -> None:
    """Its endpoint goes with its node, its addresses when it has finished."""
    world = World(SHOP, WEB)
    world.add(Pod(metadata=WEB.metadata, spec=WEB.spec, status={"phase": "Failed", "podIP": "10.0.0.1"}))
    assert world.state.endpoints[WEB_ID].addresses == ()
    world.add(Pod(metadata=WEB.metadata, spec={"nodeName": elsewhere}, status=WEB.status))
    assert WEB_ID not in world.state.endpoints
    world.add(WEB)
    world.remove("web")
    assert world.state.endpoints == {}


def test_a_pod_that_changes_its_node_changes_its_endpoints_name() -> None:
    """The old endpoint goes in the same batch."""
    world = World(WEB)
    moved = Pod(metadata=WEB.metadata, spec={**(WEB.spec or {}), "nodeName": "other"}, status=WEB.status)
    world.add(moved)
    assert len(world.network.facts.owners) == 1
    assert len(world.network.facts.translation) == 2


def test_a_cluster_policy_needs_no_stored_tier() -> None:
    """Its tiers are in every cluster: first comes Admin, last Baseline, and what they do not decide goes on."""
    admin = cluster_policy(ingress=[{"action": "Pass", "from": [{"namespaces": {}}]}])
    last = ClusterNetworkPolicy(
        metadata=metadata("rules-2"),
        spec={**(admin.spec or {}), "tier": "Baseline"},
    )
    world = World(SHOP, WEB, CLOSED, admin, last)
    row = world.state.endpoints[WEB_ID]
    assert [(tier.name, tier.default_action) for tier in row.ingress] == [
        ("kube-admin", "Pass"),
        ("default", "Deny"),
        ("kube-baseline", "Pass"),
    ]
    assert row.egress == ()


def test_what_cannot_be_said_is_among_the_problems_and_closes() -> None:
    """The object is named, with the field and what follows from it; when it is right again nothing is said."""
    bad = KubernetesNetworkPolicy(
        metadata=metadata("closed", "shop"),
        spec={"podSelector": {}, "ingress": [{"from": [{}]}, {"from": [{"podSelector": {}}]}]},
    )
    world = World(SHOP, WEB, bad)
    assert actions(world, "knp.default.closed") == ["Allow"]
    assert dict(world.network.problems) == {
        key_of(
            bad
        ): "KubernetesNetworkPolicy/shop/closed: spec.ingress[0].from[0]: the peer says nothing; write podSelector,"
        " namespaceSelector or ipBlock; until then the rule allows nothing"
    }
    world.add(CLOSED)
    assert dict(world.network.problems) == {}


def test_what_is_made_of_an_object_may_have_problems_of_its_own() -> None:
    """A pod with an address that is none is closed, under the name of its endpoint."""
    odd = Pod(
        metadata=WEB.metadata,
        spec={"nodeName": here, "containers": [{"ports": [{"name": "x", "containerPort": 99999}]}]},
        status={"podIP": "10.0.0.1"},
    )
    world = World(odd)
    assert not world.state.endpoints[WEB_ID].active
    (key,) = world.network.problems
    assert key == Key("WorkloadEndpoint", "here-k8s-web-eth0", "shop")
    world.remove("web")
    assert dict(world.network.problems) == {}


@pytest.mark.parametrize("value", [b"", b"{{{", b"[1]", b'{"kind": "Pod"}', b'{"spec": 5}', b"[" * 10_000])
@pytest.mark.parametrize(
    "key",
    [
        Key("KubernetesNetworkPolicy", "closed", "shop"),
        Key("ClusterNetworkPolicy", "rules"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_decoded_denies_everything(key: Key, value: bytes) -> None:
    """All that its key tells is where: in its namespace, or everywhere; it is the same for the oracle."""
    rest = salvaged(key, value)
    world = World(SHOP, WEB)
    world.change({key: rest})
    row = world.state.endpoints[WEB_ID]
    for direction in (row.ingress, row.egress):
        (tier,) = direction
        (id_,) = tier.policies
        rows = world.state.policies[id_]
        if key.kind == "KubernetesNetworkPolicy":
            assert (tier.default_action, rows.ingress, rows.egress) == ("Deny", (), ())
        else:
            assert [each.action for each in (*rows.ingress, *rows.egress)] == ["Deny", "Deny"]
    world.change({key: None})
    assert world.state.policies == {}


def test_what_can_be_read_of_a_policy_keeps_its_place() -> None:
    """Whom it selects, in which directions and tier; its rules are gone, and deny."""
    closed = salvaged(
        Key("KubernetesNetworkPolicy", "closed", "shop"),
        b'{"metadata": {"labels": {"a": 5}}, "spec": {"podSelector": {"matchLabels": {"app": "db"}},'
        b' "policyTypes": ["Egress"], "egress": [{}]}}',
    )
    assert closed is not None
    world = World(SHOP, WEB, closed)
    assert world.state.endpoints[WEB_ID].egress == ()
    everywhere = salvaged(
        Key("ClusterNetworkPolicy", "rules"),
        b'{"metadata": 5, "spec": {"tier": "Baseline", "priority": 7, "subject": {"namespaces": {}}, "egress": 5}}',
    )
    assert everywhere is not None
    world.add(everywhere)
    row = world.state.endpoints[WEB_ID]
    assert row.ingress == ()
    assert world.order("here-k8s-web-eth0", "egress") == [("kube-baseline", ["kcnp.kube-baseline.rules"])]


@pytest.mark.parametrize(
    "key", [Key("Namespace", "shop"), Key("Pod", "web", "shop"), Key("Service", "a", "shop")]
)
def test_of_other_objects_absence_is_the_closed_side(key: Key) -> None:
    """Without its namespace a pod is closed; without a pod there is nothing."""
    assert salvaged(key, b"{{{") is None


def test_an_object_that_nests_too_deep_closes() -> None:
    """It is kept, and its problem is said; nothing of it is read."""
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    bad: list[KubernetesObject] = [
        KubernetesNetworkPolicy(metadata=metadata("closed", "shop"), spec={"podSelector": deep}),
        ClusterNetworkPolicy(metadata=metadata("rules"), spec=deep),
        Pod(metadata=metadata("deep", "shop"), spec=deep),
        Namespace(metadata=metadata("deep"), spec=deep),
    ]
    world = World(SHOP, WEB, *bad)
    assert {key.kind for key in world.network.problems} == {type(each).__name__ for each in bad}
    assert all("too deep" in text for text in world.network.problems.values())
    assert set(world.state.policies) == {
        CLOSED_ID,
        PolicyId("GlobalNetworkPolicy", "", "kcnp.kube-admin.rules"),
    }


def test_services_that_no_rule_asks_for_change_nothing() -> None:
    """They stand for nothing, and nothing is wrong with them."""
    world = World(SHOP, WEB)
    service = Service(metadata=metadata("web", "shop"), spec={"ports": [{"port": 80}]})
    part = EndpointSlice(metadata=metadata("web-1", "shop"), endpoints=[{"addresses": ["10.0.0.1"]}])
    assert world.add(service, part) == NOTHING
    assert dict(world.network.problems) == {}


def test_of_two_objects_for_one_key_the_first_counts() -> None:
    """Nobody may write such names, but a store may hold them."""
    first = ServiceAccount(metadata=metadata("b.c", "a", {"who": "first"}))
    second = ServiceAccount(metadata=metadata("c", "a.b", {"who": "second"}))
    user = endpoint("w", namespace="a", profiles=["ksa.a.b.c"])
    for one, other in permutations((first, second)):
        world = World(user, one, other)
        assert world.network.facts.profiles.get("ksa.a.b.c").labels["pcsa.who"] == "first"
        world.change({key_of(first): None})
        assert world.network.facts.profiles.get("ksa.a.b.c").labels["pcsa.who"] == "second"
        world.change({key_of(second): None})
        assert world.network.facts.profiles.get("ksa.a.b.c") is None


def test_facts_translated_at_once_are_those_that_the_network_works_with() -> None:
    """Objects are gone, what they stand for is there, and stored resources have stayed."""
    stored = profile("kns.shop")
    facts: dict[Key, Resource] = {key_of(each): each for each in (SHOP, ROBOT, WEB, CLOSED, stored)}
    result = translated(facts)
    assert result.problems == {}
    assert result.facts[key_of(stored)] is stored
    assert {str(key) for key in result.facts} == {
        "NetworkPolicy/shop/knp.default.closed",
        "Profile/kns.shop",
        "Profile/ksa.shop.robot",
        "WorkloadEndpoint/shop/here-k8s-web-eth0",
    }


def test_nothing_is_remembered_of_objects_that_are_gone() -> None:
    """Also of those that a stored resource hides."""
    network = Network(here)
    facts = [SHOP, WEB, CLOSED, profile("kns.shop")]
    network.update([InSync(), *(Update(key_of(each), each) for each in facts)])
    assert len(network.facts.translation) > 0
    network.update([Update(key_of(each), None) for each in facts])
    assert len(network.facts.translation) == 0
