"""What a world is made of, and how it is asked."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from calico.analysis import Decision, Step, UnknownEndError, World
from calico.model.errors import InvalidResources
from calico.model.settings import Settings
from support.analysis import world
from support.builders import elsewhere, endpoint, host_endpoint, policy, profile, rule

V3 = "projectcalico.org/v3"
OPEN = profile("open", ingress=[rule()], egress=[rule()])


def pod(name: str, *addresses: str, namespace: str = "shop", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": address} for address in addresses]},
    }


SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
WEB, DB = pod("web-1", "10.0.0.1", app="web"), pod("0", "10.0.0.2", app="db")
TO_DB = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "db", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                "ports": [{"port": 5432}],
            }
        ],
    },
}


def ask(made: World, port: int = 5432, **flow: Any) -> Decision:
    return made.decide(
        **{"source": "shop/web-1", "destination": "shop/0", "protocol": "TCP", "port": port, **flow}
    )


def test_kubernetes_objects_make_a_world() -> None:
    """Pods are found by namespace and name; each end's decision has its trail."""
    made = World.load([SHOP, WEB, DB, TO_DB])

    allowed, denied = ask(made), ask(made, 80)

    assert allowed.allowed
    assert allowed.egress is not None
    assert allowed.egress.trail == (("Profile", "", "", "kns.shop", 0, "Allow"),)
    assert allowed.ingress is not None
    assert allowed.ingress.action == "allow"
    assert allowed.ingress.trail[-1].rule == 0
    assert not denied.allowed
    assert denied.ingress is not None
    assert denied.ingress.action == "deny"
    assert denied.ingress.trail == (("Tier", "default", "", "default", None, "Deny"),)


@pytest.mark.parametrize(
    "documents",
    [
        [{"apiVersion": "v1", "kind": "List", "items": [SHOP, WEB, DB, TO_DB]}],
        [
            None,
            SHOP,
            {
                "apiVersion": "v1",
                "kind": "PodList",
                "items": [{k: v for k, v in each.items() if k[0] in "ms"} for each in (WEB, DB)],
            },
            {"apiVersion": TO_DB["apiVersion"], "kind": "NetworkPolicyList", "items": [TO_DB]},
        ],
    ],
)
def test_lists_are_their_items(documents: list[Any]) -> None:
    """Lists of all kinds and lists of one kind, whose items need not say it; empty documents are nothing."""
    made = World.load(documents)

    assert ask(made).allowed
    assert not ask(made, 80).allowed
    assert made.problems == ()


def test_resources_get_what_a_client_fills_in() -> None:
    """A policy without types is for the directions that it has rules for, one without namespace is of the default one."""
    documents = [
        {
            "apiVersion": V3,
            "kind": "WorkloadEndpoint",
            "metadata": {"name": "node--1-k8s-db-eth0"},
            "spec": {
                "node": "node-1",
                "orchestrator": "k8s",
                "pod": "db",
                "endpoint": "eth0",
                "interfaceName": "cali1",
                "ipNetworks": ["10.0.0.1/32"],
                "profiles": ["projectcalico-default-allow"],
            },
        },
        {
            "apiVersion": V3,
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "creationTimestamp": datetime(2024, 5, 1, tzinfo=UTC)},
            "spec": {"ingress": [{"action": "Deny"}]},
        },
    ]
    made = World.load(documents)
    flow = {"protocol": "TCP", "port": 80}

    out = made.decide(source="default/db", destination="192.0.2.1", **flow)
    into = made.decide(source="192.0.2.1", destination="default/db", **flow)

    assert out.allowed
    assert into.ingress is not None
    assert into.ingress.trail == (Step("NetworkPolicy", "default", "default", "p", 0, "Deny"),)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Resources that are not valid are refused together."""
    tier = {"apiVersion": V3, "kind": "Tier", "metadata": {"name": "ok"}, "spec": {"colour": "red"}}
    unknown = {"apiVersion": V3, "kind": "Teir", "metadata": {"name": "t"}}

    with pytest.raises(InvalidResources) as caught:
        World.load([{"apiVersion": V3, "kind": "List", "items": [tier, SHOP, unknown]}])

    assert {problem.kind for problem in caught.value.problems} == {"Tier", "Teir"}


def test_what_could_not_be_used_is_named() -> None:
    """Kubernetes' objects that mean nothing here, and facts that are closed, are among the problems."""
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}

    loaded = World.load([deployment, SHOP])
    made = world(policy("p", selector="app =="))

    assert "Deployment" in "".join(loaded.problems)
    assert "NetworkPolicy/default/p" in "".join(made.problems)


def test_a_later_document_replaces_an_earlier_one() -> None:
    """As a store would have it."""
    made = World.load([SHOP, WEB, DB, TO_DB, {**TO_DB, "spec": {"podSelector": {}}}])

    assert not ask(made).allowed


def test_ends_by_address_and_by_name_are_the_same() -> None:
    """An address of an endpoint is that endpoint."""
    made = World.load([SHOP, WEB, DB, TO_DB])

    assert ask(made) == ask(made, source="10.0.0.1", destination="10.0.0.2")
    assert ask(made, source="10.0.0.9").egress is None


def test_a_workload_endpoint_has_its_own_name_too() -> None:
    """By the endpoint's name, by the pod's, by the workload's."""
    made = world(OPEN, endpoint("db", address="10.0.0.1", workload="vm-7", profiles=["open"]))
    flow = {"source": "192.0.2.1", "protocol": "TCP"}

    assert made.decide(destination="default/db", **flow) == made.decide(destination="default/vm-7", **flow)


def test_ends_meet_in_a_family_that_both_have() -> None:
    """IPv4 where both have it, unless asked otherwise or the protocol is ICMPv6; else the family in common."""
    only_v4 = policy("p", namespace="shop", ingress=[rule(ip_version=4)], types=["Ingress"])
    both, v6 = (
        endpoint("both", namespace="shop", address=["10.0.0.1", "fd00::1"], profiles=["open"]),
        [
            endpoint(name, elsewhere, namespace="shop", address=address, profiles=["open"])
            for name, address in (("v6", ["fd00::2"]), ("dual", ["fd00::3", "10.0.0.3"]))
        ],
    )
    made = world(OPEN, only_v4, both, *v6)

    def reaches(target: str, **flow: Any) -> bool:
        return made.decide(
            **{"source": "shop/both", "destination": target, "protocol": "TCP", **flow}
        ).allowed

    assert reaches("shop/dual")
    assert not reaches("shop/dual", ip_version=6)
    assert not reaches("shop/dual", protocol="ICMPv6")
    assert not reaches("shop/v6")
    with pytest.raises(UnknownEndError, match="no addresses of one family"):
        reaches("shop/v6", ip_version=4)
    with pytest.raises(UnknownEndError, match="no addresses of one family"):
        reaches("fd00::9", source="10.0.0.1")


def test_ends_that_are_nothing_of_this_world() -> None:
    """Unknown names are errors that say what may be written; so is a pod without an address."""
    made = World.load([SHOP, WEB, pod("done")])

    for name in ("shop/nobody", "web-1", "10.0.0.300", "10.0.0.0/8"):
        with pytest.raises(UnknownEndError, match="nothing of this world"):
            ask(made, destination=name)
    with pytest.raises(UnknownEndError, match="no address"):
        ask(made, destination="shop/done")


def test_a_host_endpoint_is_an_end_by_its_name() -> None:
    """It stands for the addresses that it governs."""
    made = world(host_endpoint("eth", address="172.16.0.1"))
    flow = {"source": "192.0.2.1", "protocol": "TCP", "port": 80}

    assert made.decide(destination="eth", **flow) == made.decide(destination="172.16.0.1", **flow)
    assert not made.decide(destination="eth", **flow).allowed


@pytest.mark.parametrize("protocol", ["tcp", "TCP", "Tcp", 6, "6"])
def test_protocols_are_names_in_any_case_or_numbers(protocol: str | int) -> None:
    """All ways of writing a protocol are the same question."""
    assert ask(World.load([SHOP, WEB, DB, TO_DB]), protocol=protocol).allowed


@pytest.mark.parametrize("protocol", ["tpc", "", "-6", 256, "٦"])
def test_unknown_protocols_are_errors(protocol: str | int) -> None:
    """Rather than a protocol that no rule matches."""
    with pytest.raises(ValueError, match="no protocol"):
        ask(World.load([SHOP, WEB, DB]), protocol=protocol)


def test_of_two_endpoints_with_one_address_the_routed_one_is_meant() -> None:
    """The one that its host routes to: not one that is closed, or has lost its interface."""
    lost = endpoint("b", address="10.0.0.1", interface="cali1", profiles=["open"])
    first = endpoint("a", address="10.0.0.9", interface="cali1", profiles=["open"])
    routed = endpoint("c", address="10.0.0.1", interface="cali2", profiles=["open"])
    made = world(OPEN, lost, first, routed)

    assert made.decide(source="192.0.2.1", destination="10.0.0.1", protocol="TCP").allowed


def test_an_endpoint_whose_address_moved_is_found_at_the_new_one() -> None:
    """A world knows current facts only."""
    made = world(OPEN, endpoint("a", address="10.0.0.1"), endpoint("a", address="10.0.0.2"))

    assert made.decide(source="192.0.2.1", destination="10.0.0.1", protocol="TCP").ingress is None
    assert made.decide(source="192.0.2.1", destination="10.0.0.2", protocol="TCP").ingress is not None


def test_a_pod_on_its_host_s_network_is_its_host() -> None:
    """It is found by its name, no policy of its namespace is asked about it, and it reaches its host's pods."""
    agent = pod("agent", "172.16.0.1", namespace="system")
    agent["spec"]["hostNetwork"] = True
    closing = {**TO_DB, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
    far = pod("far", "10.0.0.3")
    far["spec"]["nodeName"] = "node-2"
    made = World.load([SHOP, WEB, far, closing, agent])

    assert ask(made, source="system/agent", destination="shop/web-1") == Decision(None, None)
    assert ask(made, source="172.16.0.1", destination="shop/web-1") == Decision(None, None)
    assert not ask(made, source="system/agent", destination="shop/far").allowed
    assert made.problems == ()


def test_asking_needs_few_modules() -> None:
    """A script that imports ``World`` does not pay for files, sockets or event loops."""
    script = "import sys; from calico.analysis import World; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert not {"yaml", "asyncio", "sqlite3", "click", "logging"} & set(loaded.stdout.split())


def test_the_settings_of_the_agents_are_among_the_documents() -> None:
    """What FelixConfiguration says counts, unless other settings are given."""
    here = {
        "apiVersion": V3,
        "kind": "Node",
        "metadata": {"name": "node-1"},
        "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}},
    }
    felix = {
        "apiVersion": V3,
        "kind": "FelixConfiguration",
        "metadata": {"name": "default"},
        "spec": {"defaultEndpointToHostAction": "Accept"},
    }
    flow = {"source": "shop/web-1", "destination": "192.0.2.1", "protocol": "TCP", "port": 80}
    assert not World.load([SHOP, WEB, here]).decide(**flow).allowed
    assert World.load([SHOP, WEB, here, felix]).decide(**flow).allowed
    assert not World.load([SHOP, WEB, here, felix], Settings()).decide(**flow).allowed
