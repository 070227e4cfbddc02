"""Kubernetes' objects in a store, without a Kubernetes: calicoctl writes them, agents enforce them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.host import Cloud, Host, eventually, plug, reaches, workload_endpoint
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A4, B4 = "10.65.0.2", "10.65.0.3"
B6 = "fd00:65::3"

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: %s}
---"""

ONLY_TRUSTED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-trusted}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {trust: high}}
---"""

QUARANTINE = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: quarantine}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [10.65.0.3/32]}]}]
---"""


class World(NamedTuple):
    host: Host
    cloud: Cloud
    a: Namespace
    b: Namespace

    def apply(self, name: str, text: str) -> None:
        """Write a manifest, and apply it with calicoctl."""
        file = self.host.directory / f"{name}.yaml"
        file.write_text(text)
        done = self.host.calicoctl("apply", "-f", str(file))
        assert done.returncode == 0, done.stderr

    def delete(self, *words: str) -> None:
        done = self.host.calicoctl("delete", *words)
        assert done.returncode == 0, done.stderr

    def opens(self, what: str) -> None:
        eventually(lambda: reaches(self.a, B4, wait=0.3), what=what)

    def closes(self, what: str) -> None:
        eventually(lambda: not reaches(self.a, B4, wait=0.3), what=what)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host with two workloads of namespace default, which nobody has stored."""
    with (
        namespaces("t-kube-host", "t-kube-a", "t-kube-b") as (inside, a, b),
        Host(inside, "host", tmp_path) as host,
    ):
        plug(host, a, "a", A4, "fd00:65::2")
        plug(host, b, "b", B4, B6)
        cloud = Cloud(tmp_path)
        cloud.apply(
            workload_endpoint("host", "a", A4, "fd00:65::2", labels="{app: a}")
            + workload_endpoint("host", "b", B4, B6, labels="{app: b}")
        )
        host.start()
        yield World(host, cloud, a, b)


def test_a_namespace_and_its_policies_open_and_close(world: World) -> None:
    """Without its namespace a workload is closed; labels of the namespace decide; what is deleted lets go."""
    assert not reaches(world.a, B4, wait=0.3)
    world.apply("namespace", NAMESPACE % "{trust: low}")
    world.opens("the namespace lets its pods talk")
    assert reaches(world.a, B6)

    world.apply("policy", ONLY_TRUSTED)
    world.closes("the policy isolates b")
    assert not reaches(world.a, B6, wait=0.3)
    assert reaches(world.b, A4), "a is not isolated"

    world.apply("namespace", NAMESPACE % "{trust: high}")
    world.opens("the namespace has the label that the policy asks for")
    world.apply("namespace", NAMESPACE % "{trust: low}")
    world.closes("the label is gone")

    world.delete("netpol", "only-trusted")
    world.opens("the policy is gone")
    world.delete("ns", "default")
    world.closes("the namespace is gone")


def test_a_cluster_policy_denies_before_the_policies_of_namespaces(world: World) -> None:
    """Tier Admin comes first; where it says nothing, the rest decides."""
    world.apply("namespace", NAMESPACE % "{trust: high}" + ONLY_TRUSTED)
    world.opens("allowed by the namespace's policy")
    world.apply("cluster", QUARANTINE)
    world.closes("denied by the cluster's")
    assert reaches(world.a, B6), "another address"
    world.delete("clusternetworkpolicies", "quarantine")
    world.opens("the cluster's policy is gone")


def test_a_policy_of_kubernetes_that_cannot_be_read_opens_nothing(world: World) -> None:
    """What it closed stays closed when someone overwrites it with what is none."""
    world.apply("namespace", NAMESPACE % "{trust: low}" + QUARANTINE)
    world.closes("denied by the cluster's policy")
    world.cloud.overwrite("ClusterNetworkPolicy", "quarantine", b"{{{")
    eventually(lambda: "quarantine" in str(world.host.status()["problems"]), what="the status names it")
    assert not reaches(world.a, B4, wait=0.3)
    world.delete("clusternetworkpolicies", "quarantine")
    world.opens("the cluster's policy is gone")
