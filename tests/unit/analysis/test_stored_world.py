"""A world from a store says what a world from documents says, and what agents do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from calico.analysis import World
from calico.datastore.api import StoreError
from calico.datastore.memory import MemoryStore
from calico.datastore.resync import picture
from calico.datastore.typed import Resources
from calico.model import codec
from calico.model.keys import Key
from calico.model.resource import Resource
from calico.model.validation import defaulted


def pod(name: str, address: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": "node-1", "containers": [], **spec},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}}
OTHER = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
PODS = [pod("web", "10.0.0.1"), pod("db", "10.0.0.2"), pod("far", "10.0.0.3", "other")]
AGENT = pod("agent", "192.0.2.1", hostNetwork=True)
ONLY_SHOP = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "db", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}],
    },
}
NO_WEB = {
    "apiVersion": "policy.networking.k8s.io/v1alpha2",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "no-web"},
    "spec": {
        "tier": "Admin",
        "priority": 1,
        "subject": {"pods": {"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
    },
}
DOCUMENTS = [SHOP, OTHER, *PODS, AGENT, ONLY_SHOP, NO_WEB]
CLOSING = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "Profile",
    "metadata": {"name": "kns.shop"},
    "spec": {"egress": [{"action": "Deny"}]},
}


def stored(*documents: dict[str, Any], **values: bytes) -> tuple[dict[Key, Resource], dict[str, str]]:
    """What a store holds after ``documents`` were applied, and ``values`` put at the keys of global policies."""

    async def work() -> tuple[dict[Key, Resource], dict[str, str]]:
        store = MemoryStore()
        client = Resources(store)
        for document in documents:
            await client.apply(defaulted(codec.from_builtins(document)))
        for kind, value in values.items():
            name, namespace = ("db", "shop") if kind == "KubernetesNetworkPolicy" else ("broken", "")
            await store.put(Key(kind, name, namespace).path, value, revision=None)
        facts, bad = await picture(store, decode=codec.decode)
        return {key: fact for key, fact in facts.items() if isinstance(fact, Resource)}, bad

    return asyncio.run(work())


def reach(world: World) -> dict[tuple[str, str], bool]:
    """Who reaches whom on a port."""
    names = ["shop/web", "shop/db", "other/far", "shop/agent"]
    return {
        (source, destination): world.decide(
            source=source, destination=destination, protocol="TCP", port=80
        ).allowed
        for source in names
        for destination in names
        if source != destination
    }


@pytest.mark.parametrize("documents", [DOCUMENTS, [*DOCUMENTS, CLOSING], [CLOSING, *DOCUMENTS]])
def test_a_store_says_what_documents_say(documents: list[dict[str, Any]]) -> None:
    """Of the same objects; a stored resource counts before an object that stands for its like."""
    facts, bad = stored(*documents)
    assert bad == {}
    from_store, from_documents = World(facts), World.load(documents)
    assert reach(from_store) == reach(from_documents)
    assert from_store.problems == from_documents.problems == ()
    closed = CLOSING in documents
    assert reach(from_store)["shop/web", "shop/db"] != closed
    assert not reach(from_store)["other/far", "shop/db"]
    assert not reach(from_store)["other/far", "shop/web"]
    assert reach(from_store)["shop/agent", "other/far"]


def test_what_an_object_could_not_say_is_among_the_problems() -> None:
    """With its kind, name and field."""
    peer = {"to": [{"domainNames": ["example.com"]}]}
    document = {**NO_WEB, "spec": {**NO_WEB["spec"], "egress": [{"action": "Accept", **peer}]}}
    facts, _ = stored(document)
    (problem,) = World(facts).problems
    assert problem.startswith("ClusterNetworkPolicy/no-web: spec.egress[0].to[0].domainNames: ")


@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "KubernetesNetworkPolicy", "ClusterNetworkPolicy"])
def test_a_policy_that_cannot_be_read_denies_as_agents_do(kind: str) -> None:
    """What it may have closed is closed; the store's reader is told which it is."""
    facts, bad = stored(SHOP, OTHER, *PODS, **{kind: b"{{{"})
    assert [*bad] == [Key(kind, *(("db", "shop") if kind == "KubernetesNetworkPolicy" else ("broken",))).path]
    world = World(facts)
    decision = world.decide(source="other/far", destination="shop/db", protocol="TCP", port=80)
    assert not decision.allowed


def test_a_lost_store_is_no_empty_one() -> None:
    """What the store raises reaches whoever asked."""

    async def work() -> None:
        store = MemoryStore()
        await store.close()
        await picture(store, decode=codec.decode)

    with pytest.raises(StoreError):
        asyncio.run(work())
