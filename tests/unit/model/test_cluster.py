"""The kinds about the cluster as a whole: its identity, questions to nodes, central controllers."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model import codec
from calico.model.cluster import ClusterInformation
from calico.model.errors import InvalidResources
from calico.model.keys import KINDS, Key, key_of
from calico.model.resource import Resource


def load(kind: str, spec: dict[str, Any], name: str = "default", **rest: Any) -> Resource:
    return codec.from_builtins(
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
            **rest,
        }
    )


def refused(kind: str, spec: dict[str, Any], name: str = "default") -> list[str]:
    with pytest.raises(InvalidResources) as caught:
        load(kind, spec, name)
    return [problem.field for problem in caught.value.problems]


CONTROLLERS = {
    "logSeverityScreen": "Info",
    "healthChecks": "Enabled",
    "etcdV3CompactionPeriod": "10m",
    "prometheusMetricsPort": 9094,
    "debugProfilePort": 9095,
    "controllers": {
        "node": {
            "reconcilerPeriod": "5m",
            "syncLabels": "Enabled",
            "leakGracePeriod": "15m",
            "hostEndpoint": {
                "autoCreate": "Enabled",
                "createDefaultHostEndpoint": "Disabled",
                "templates": [
                    {
                        "generateName": "outside",
                        "interfaceCIDRs": ["10.0.0.0/8"],
                        "interfacePattern": "eth.*",
                        "labels": {"side": "outside"},
                        "nodeSelector": "has(edge)",
                    }
                ],
            },
        },
        "policy": {"reconcilerPeriod": "5m"},
        "loadBalancer": {"assignIPs": "RequestedServicesOnly"},
        "migration": {"policyNameMigrator": "Enabled"},
        "policyMigration": {"enabled": "Disabled"},
    },
}
STATUS = {
    "lastUpdated": "2026-01-01T00:00:00Z",
    "agent": {"birdV4": {"state": "Ready", "version": "2", "routerID": "10.0.0.1"}},
    "bgp": {
        "numberEstablishedV4": 1,
        "peersV4": [{"peerIP": "10.0.0.2", "type": "NodeMesh", "state": "Established", "since": "10:00"}],
    },
    "routes": {
        "routesV6": [
            {
                "type": "FIB",
                "destination": "fd00::/64",
                "learnedFrom": {"sourceType": "BGPPeer", "peerIP": "10.0.0.2"},
            }
        ]
    },
}


@pytest.mark.parametrize(
    ("kind", "spec", "rest"),
    [
        ("KubeControllersConfiguration", CONTROLLERS, {}),
        ("KubeControllersConfiguration", {}, {"status": {"runningConfig": CONTROLLERS, "environmentVars": {"A": "1"}}}),
        ("ClusterInformation", {"clusterGUID": "ab" * 16, "clusterType": "k8s,bgp", "calicoVersion": "v3.30.0", "datastoreReady": False, "variant": "Calico"}, {}),
        ("CalicoNodeStatus", {"node": "one", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 10}, {"status": STATUS}),
    ],
)  # fmt: skip
def test_every_field_comes_back_from_the_store(kind: str, spec: dict[str, Any], rest: dict[str, Any]) -> None:
    """Nothing is lost between a manifest, the store's bytes and a manifest again."""
    resource = load(kind, spec, **rest)
    stored = codec.decode(key_of(resource), codec.encode(resource), 5)
    assert isinstance(stored, Resource)
    shown = codec.to_builtins(stored)
    assert shown.get("spec", {}) == spec
    assert {name: shown[name] for name in rest} == rest


@pytest.mark.parametrize("kind", ["ClusterInformation", "KubeControllersConfiguration"])
def test_there_is_only_one(kind: str) -> None:
    """Both kinds know one name only."""
    assert refused(kind, {}, "other") == ["metadata.name"]


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, ["spec.node", "spec.classes", "spec.updatePeriodSeconds"]),
        ({"node": "one", "classes": ["BGP", "BGP"], "updatePeriodSeconds": 0}, ["spec.classes"]),
        ({"node": "one", "classes": ["CPU"], "updatePeriodSeconds": 0}, ["spec.classes[0]"]),
        ({"node": "one", "classes": ["BGP"], "updatePeriodSeconds": 86401}, ["spec.updatePeriodSeconds"]),
        ({"node": "Ä", "classes": ["BGP"], "updatePeriodSeconds": 1}, ["spec.node"]),
    ],
)
def test_a_question_to_a_node_says_who_what_and_how_often(spec: dict[str, Any], fields: list[str]) -> None:
    """All three are needed, and each class once."""
    assert refused("CalicoNodeStatus", spec, "ask") == fields


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"logSeverityScreen": "Loud"}, "spec.logSeverityScreen"),
        ({"etcdV3CompactionPeriod": "often"}, "spec.etcdV3CompactionPeriod"),
        ({"prometheusMetricsPort": 70000}, "spec.prometheusMetricsPort"),
        ({"controllers": {"policy": {"reconcilerPeriod": "x"}}}, "spec.controllers.policy.reconcilerPeriod"),
        ({"controllers": {"node": {"leakGracePeriod": "x"}}}, "spec.controllers.node.leakGracePeriod"),
        (
            {"controllers": {"node": {"hostEndpoint": {"templates": [{"interfacePattern": "*"}]}}}},
            "spec.controllers.node.hostEndpoint.templates[0].interfacePattern",
        ),
    ],
)
def test_wrong_settings_of_controllers_are_refused(spec: dict[str, Any], field: str) -> None:
    """Each in its place."""
    assert refused("KubeControllersConfiguration", spec) == [field]


@pytest.mark.parametrize(("ready", "locked"), [(True, False), (False, True), (None, False)])
def test_a_store_is_locked_only_when_it_says_so(ready: bool | None, locked: bool) -> None:
    """A store that says nothing about itself is ready."""
    resource = load("ClusterInformation", {} if ready is None else {"datastoreReady": ready})
    assert isinstance(resource, ClusterInformation)
    assert resource.locked is locked


def test_people_may_not_write_the_cluster_and_are_told_who_does() -> None:
    """The sentence names the commands that change the lock."""
    assert "migrate lock" in ClusterInformation.READ_ONLY


@pytest.mark.parametrize("kind", ["CalicoNodeStatus", "KubeControllersConfiguration"])
def test_what_nobody_acts_on_yet_is_said(kind: str) -> None:
    """Accepted, stored, and warned of."""
    spec = {"node": "one", "classes": ["BGP"], "updatePeriodSeconds": 0} if "Node" in kind else {}
    (finding,) = load(kind, spec).not_done()
    assert "it is stored, but" in finding.message


def test_of_the_controllers_settings_agents_read_two() -> None:
    """Automatic host endpoints, and how long what looks leaked waits; of whatever stands beside them it is said that nobody reads it."""
    asked = {"node": {"hostEndpoint": {"autoCreate": "Enabled"}}}
    for read in (
        asked,
        {"node": {"leakGracePeriod": "5m"}},
        {"node": {**asked["node"], "leakGracePeriod": "0"}},
    ):
        assert [*load("KubeControllersConfiguration", {"controllers": read}).not_done()] == []
    for rest in (
        {"controllers": asked, "healthChecks": "Enabled"},
        {"controllers": {**asked, "migration": {"policyNameMigrator": "Enabled"}}},
        {"controllers": {"node": {**asked["node"], "syncLabels": "Enabled"}}},
    ):
        (finding,) = load("KubeControllersConfiguration", rest).not_done()
        assert finding.message.startswith(
            "agents read hostEndpoint and leakGracePeriod of controllers.node; the rest is stored, but"
        )


def test_the_store_has_calicos_paths() -> None:
    """Other readers of the store find them."""
    prefix = "/calico/resources/v3/projectcalico.org"
    assert Key("ClusterInformation", "default").path == f"{prefix}/clusterinformations/default"
    assert Key("FelixConfiguration", "node.a").path == f"{prefix}/felixconfigurations/node.a"
    assert KINDS["CalicoNodeStatus"].PLURAL == "caliconodestatuses"
