"""Kubernetes' objects by ``calicoctl``, on a SQLite store, where no Kubernetes holds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from support.calicoctl import Run, calicoctl_in

MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: shop}
secrets: [{name: token}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: host-1, serviceAccountName: robot, containers: [{name: web, image: nginx}]}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: nothing-from-afar}
spec:
  tier: Baseline
  priority: 10
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {selector: app == 'web'}
"""

NAMES = {
    "ns": ["shop"],
    "sa": ["robot"],
    "po": ["web"],
    "svc": ["web"],
    "endpointslices": ["web-1"],
    "netpol": ["web"],
    "networkpolicies.networking.k8s.io": ["web"],
    "clusternetworkpolicies": ["nothing-from-afar"],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


def names(result: Result) -> list[str]:
    """Of a list as JSON."""
    return [each["metadata"]["name"] for each in json.loads(result.stdout)["items"]]


def test_objects_are_applied_found_by_kubectls_words_and_deleted(run: Run) -> None:
    """One manifest, several groups; two kinds of network policy do not get into each other's way."""
    run("apply", "-f", "-", stdin=MANIFEST)
    assert {word: names(run("get", word, "-n", "shop", "-o", "json")) for word in NAMES} == NAMES
    assert "default.web" not in names(run("get", "netpol", "-A", "-o", "json"))
    run("delete", "netpol", "web", "-n", "shop")
    assert names(run("get", "netpol", "-A", "-o", "json")) == []
    assert names(run("get", "networkpolicies", "-n", "shop", "-o", "json")) == ["web"]
    run("delete", "-f", "-", "--skip-not-exists", stdin=MANIFEST)
    assert all(names(run("get", word, "-A", "-o", "json")) == [] for word in NAMES)


@pytest.mark.parametrize("word", NAMES)
def test_what_is_shown_can_be_applied_again(run: Run, word: str) -> None:
    """YAML of a list, and of one; what the store adds is metadata alone."""
    run("apply", "-f", "-", stdin=MANIFEST)
    written = {(each["apiVersion"], each["kind"]): each for each in yaml.safe_load_all(MANIFEST)}
    shown = run("get", word, *NAMES[word], "-n", "shop", "-o", "yaml").stdout
    tree = yaml.safe_load(shown)
    original = written[tree["apiVersion"], tree["kind"]]
    assert {**tree, "metadata": 0} == {**original, "metadata": 0}
    assert tree["metadata"].items() >= original["metadata"].items()
    for text in (shown, run("get", word, "-n", "shop", "-o", "yaml").stdout):
        run("apply", "-f", "-", stdin=text)


def test_a_broken_object_is_refused_with_its_place(run: Run) -> None:
    """And nothing of the file is written."""
    broken = MANIFEST.replace("{port: 80}]}]}", "{port: 80000}]}]}")
    result = run("apply", "-f", "-", stdin=broken, status=1)
    assert "NetworkPolicy/shop/web: spec.ingress[0].ports[0].port: " in result.stderr
    assert names(run("get", "ns", "-o", "json")) == []


def test_a_table_of_all_namespaces_names_them(run: Run) -> None:
    """Cluster-wide kinds have none."""
    run("apply", "-f", "-", stdin=MANIFEST)
    assert run("get", "pods", "-A").stdout.splitlines() == [
        "NAMESPACE   NAME   STATUS    IPS        NODE",
        "shop        web    Running   10.0.0.1   host-1",
    ]
    assert run("get", "namespaces", "-A").stdout.splitlines() == ["NAME   LABELS", "shop   team=a"]
