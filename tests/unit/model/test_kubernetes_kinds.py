"""Kubernetes' own kinds as resources: kept as they are, called as kubectl calls them, judged where they matter."""

from __future__ import annotations

from textwrap import dedent

import pytest

from calico.cli import printers
from calico.cli.kinds import kind_called
from calico.model import codec
from calico.model.errors import InvalidResources
from calico.model.keys import KINDS, Key, key_of, kind_prefix, parse_path
from calico.model.kubernetes_kinds import KubernetesObject
from calico.model.resource import Metadata
from calico.model.validation import defaulted, problems_of

OBJECTS = {
    "Namespace": """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {team: a, kubernetes.io/metadata.name: shop}}
        spec: {finalizers: [kubernetes]}
        status: {phase: Active}
        """,
    "ServiceAccount": """
        apiVersion: v1
        kind: ServiceAccount
        metadata: {name: web.bot, namespace: shop, labels: {role: web}}
        secrets: [{name: token}]
        imagePullSecrets: [{name: registry}]
        automountServiceAccountToken: false
        """,
    "Pod": """
        apiVersion: v1
        kind: Pod
        metadata: {name: web-1, namespace: shop, labels: {app: web}, ownerReferences: [{kind: ReplicaSet, name: web}]}
        spec:
          nodeName: host-1
          serviceAccountName: web
          containers:
          - {name: web, image: "web:1", ports: [{name: http, containerPort: 80}], resources: {limits: {cpu: 0.5, memory: 1Gi}}}
          volumes: [{name: scratch, emptyDir: {}}]
          tomorrow: {anything: [1, true, {at: all}]}
        status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
        """,
    "Service": """
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop}
        spec:
          type: NodePort
          clusterIP: 10.96.0.1
          ports: [{port: 80, nodePort: 30080, targetPort: http}, {port: 53, protocol: UDP}]
        """,
    "EndpointSlice": """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-abc, namespace: shop, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        ports: [{name: http, port: 8080, protocol: TCP}]
        endpoints:
        - {addresses: [10.0.0.1], conditions: {ready: true}, nodeName: host-1}
        - {addresses: [10.0.0.2]}
        """,
    "KubernetesNetworkPolicy": """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: to-db, namespace: shop}
        spec:
          podSelector: {matchLabels: {app: db}, matchExpressions: [{key: old, operator: DoesNotExist}]}
          policyTypes: [Ingress]
          ingress: [{from: [{podSelector: {}}], ports: [{port: 5432}]}]
        """,
    "ClusterNetworkPolicy": """
        apiVersion: policy.networking.k8s.io/v1alpha2
        kind: ClusterNetworkPolicy
        metadata: {name: quarantine}
        spec:
          tier: Admin
          priority: 10
          subject: {namespaces: {matchLabels: {quarantine: "true"}}}
          ingress: [{name: nothing, action: Deny, from: [{namespaces: {}}]}]
        """,
}

PATHS = {
    "Namespace": "/calico/kubernetes/core/namespaces/shop",
    "ServiceAccount": "/calico/kubernetes/core/serviceaccounts/shop/web.bot",
    "Pod": "/calico/kubernetes/core/pods/shop/web-1",
    "Service": "/calico/kubernetes/core/services/shop/web",
    "EndpointSlice": "/calico/kubernetes/discovery.k8s.io/endpointslices/shop/web-abc",
    "KubernetesNetworkPolicy": "/calico/kubernetes/networking.k8s.io/networkpolicies/shop/to-db",
    "ClusterNetworkPolicy": "/calico/kubernetes/policy.networking.k8s.io/clusternetworkpolicies/quarantine",
}

TABLES = {
    "Namespace": """\
        NAME   LABELS
        shop   kubernetes.io/metadata.name=shop,team=a
        """,
    "ServiceAccount": """\
        NAME      LABELS
        web.bot   role=web
        """,
    "Pod": """\
        NAME    STATUS    IPS                NODE
        web-1   Running   10.0.0.1,fd00::1   host-1
        """,
    "Service": """\
        NAME   TYPE       CLUSTER-IP   PORTS
        web    NodePort   10.96.0.1    80:30080/TCP,53/UDP
        """,
    "EndpointSlice": """\
        NAME      ADDRESSTYPE   PORTS   ENDPOINTS
        web-abc   IPv4          8080    10.0.0.1,10.0.0.2
        """,
    "KubernetesNetworkPolicy": """\
        NAME    POD-SELECTOR
        to-db   app=db,!old
        """,
    "ClusterNetworkPolicy": """\
        NAME         TIER    PRIORITY
        quarantine   Admin   10
        """,
}

each_kind = pytest.mark.parametrize("kind", OBJECTS)


def read(kind: str) -> KubernetesObject:
    """The example of a kind."""
    (resource,) = codec.load(dedent(OBJECTS[kind]))
    assert isinstance(resource, KubernetesObject)
    return resource


def written(text: str) -> KubernetesObject:
    """A text's only object."""
    (resource,) = codec.load(dedent(text))
    assert isinstance(resource, KubernetesObject)
    return resource


def refused(text: str) -> str:
    """What is said of a text that holds something wrong."""
    with pytest.raises(InvalidResources) as error:
        codec.load(dedent(text))
    return str(error.value)


def test_every_kind_is_looked_at() -> None:
    """No kind of Kubernetes is without an example here."""
    assert set(OBJECTS) == {word for word, kind in KINDS.items() if issubclass(kind, KubernetesObject)}


@each_kind
def test_a_kind_has_its_place_in_the_store(kind: str) -> None:
    """Group, plural, namespace and name; the path leads back to the key."""
    key = key_of(read(kind))
    assert key.kind == kind
    assert key.path == PATHS[kind]
    assert parse_path(key.path) == key
    assert key.path.startswith(kind_prefix(kind, key.namespace))


@each_kind
def test_all_of_an_object_is_kept(kind: str) -> None:
    """What Kubernetes knows and this system does not is given back as it was written, by every way."""
    import yaml

    resource = read(kind)
    tree = yaml.safe_load(OBJECTS[kind])
    assert codec.to_builtins(resource) == tree
    assert codec.load(codec.to_yaml([resource])) == [resource]
    assert codec.load(codec.to_json([resource])) == [resource]
    assert defaulted(resource) == resource
    stored = codec.decode(key_of(resource), codec.encode(resource), 7)
    assert isinstance(stored, KubernetesObject)
    shown = codec.to_builtins(stored)
    assert shown["metadata"].pop("resourceVersion") == "7"
    assert shown == tree


def test_an_empty_field_is_not_the_same_as_none() -> None:
    """``spec: {}`` and ``secrets: []`` come back."""
    namespace = written("{apiVersion: v1, kind: Namespace, metadata: {name: a}, spec: {}}")
    account = written("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, secrets: []}")
    assert codec.to_builtins(namespace)["spec"] == {}
    assert codec.to_builtins(account)["secrets"] == []


@each_kind
def test_an_object_made_of_values_is_the_one_that_is_read(kind: str) -> None:
    """The apiVersion of a new object is its kind's."""
    made = KINDS[kind](metadata=Metadata(name="a"))
    stored = codec.decode(key_of(made), codec.encode(made), 0)
    assert isinstance(stored, KubernetesObject)
    assert stored.api_version == made.api_version
    assert codec.to_builtins(made)["apiVersion"] == made.api_version == made.API_VERSION
    assert codec.encode(made).count(b"apiVersion") == 1


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("ns", "Namespace"),
        ("namespace", "Namespace"),
        ("sa", "ServiceAccount"),
        ("po", "Pod"),
        ("pods", "Pod"),
        ("svc", "Service"),
        ("endpointslices", "EndpointSlice"),
        ("netpol", "KubernetesNetworkPolicy"),
        ("kubernetesnetworkpolicies", "KubernetesNetworkPolicy"),
        ("networkpolicies.networking.k8s.io", "KubernetesNetworkPolicy"),
        ("NetworkPolicy.networking.k8s.io", "KubernetesNetworkPolicy"),
        ("networkpolicy", "NetworkPolicy"),
        ("networkpolicies", "NetworkPolicy"),
        ("np", "NetworkPolicy"),
        ("cnp", "NetworkPolicy"),
        ("clusternetworkpolicies", "ClusterNetworkPolicy"),
    ],
)
def test_kinds_are_called_as_kubectl_calls_them(word: str, kind: str) -> None:
    """Calico's own words stay Calico's."""
    assert kind_called(word).__name__ == kind


@each_kind
def test_a_table_shows_what_people_look_for(kind: str) -> None:
    """Columns with headings as kubectl has them, as far as they are known here."""
    resource = read(kind)
    assert printers.table([resource], type(resource), wide=False, namespaces=False) + "\n" == dedent(
        TABLES[kind]
    )


@each_kind
@pytest.mark.parametrize("tree", [{}, {"spec": {}, "status": {}}, {"spec": {"ports": 5, "podSelector": 5}}])
def test_a_table_survives_whatever_is_stored(kind: str, tree: dict) -> None:
    """Others write to the store, too."""
    import json

    resource = codec.decode(
        Key(kind, "a", "b"), json.dumps({"kind": read(kind).document()["kind"], **tree}).encode(), 1
    )
    assert isinstance(resource, KubernetesObject)
    assert "a" in printers.table([resource], KINDS[kind], wide=True, namespaces=True)


@each_kind
def test_a_list_of_a_kind_is_one_of_kubernetes(kind: str) -> None:
    """``get KIND -o yaml`` is a list that kubectl would take, and that can be applied again."""
    resource = read(kind)
    tree = printers.document([resource], type(resource))
    word = resource.document()["kind"]
    assert (tree["apiVersion"], tree["kind"]) == (resource.API_VERSION, f"{word}List")
    assert codec.load(printers.yaml_text(tree)) == [resource]


def test_an_object_belongs_to_the_default_namespace_if_it_names_none() -> None:
    """As for kubectl without a context."""
    account = defaulted(written("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}"))
    namespace = defaulted(written("{apiVersion: v1, kind: Namespace, metadata: {name: a}}"))
    assert (account.metadata.namespace, namespace.metadata.namespace) == ("default", None)


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        ("Namespace", "a-1", True),
        ("Namespace", "a.b", False),
        ("Service", "a.b", False),
        ("Service", "a" * 64, False),
        ("Pod", "a.b", True),
        ("Pod", "A", False),
        ("ServiceAccount", "system.bot", True),
        ("EndpointSlice", "web-abc.1", True),
        ("KubernetesNetworkPolicy", "a.b.c", True),
        ("KubernetesNetworkPolicy", "a_b", False),
        ("ClusterNetworkPolicy", "a.b", True),
    ],
)
def test_names_are_kubernetes_own(kind: str, name: str, good: bool) -> None:
    """Namespaces and services have names of one word, the others may have dots."""
    found = problems_of(KINDS[kind](metadata=Metadata(name=name)))
    assert good == (("metadata", "name") not in [finding.path for finding in found])


def test_what_is_used_of_an_object_is_checked_with_its_place() -> None:
    """The conversion's problems are the object's, where they stand in the text."""
    said = refused(
        """\
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: web}
        spec:
          podSelector: {}
          ingress:
          - from:
            - ipBlock: {cidr: 10.0.0.0/33}
        """
    )
    assert said.startswith("<text>:8:23: NetworkPolicy/web: spec.ingress[0].from[0].ipBlock.cidr: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{apiVersion: v1, kind: Namespace, metadata: {name: a}, sepc: {}}", "did you mean spec"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: [1]}", "a mapping is expected"),
        ("{apiVersion: v2, kind: Pod, metadata: {name: a}}", "write v1"),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {x: {1: b}}}",
            'spec.x.1: the key is 1.*write "1"',
        ),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}}", "belongs to no namespace"),
    ],
)
def test_what_kubernetes_refuses_is_refused(text: str, sentence: str) -> None:
    """Unknown fields at the top, values of the wrong shape, keys that are no text."""
    import re

    assert re.search(sentence, refused(text))


def test_a_service_does_nothing_without_its_slices() -> None:
    """Whoever writes a Service is told that rules go by its EndpointSlices; of a slice there is nothing to tell."""
    (finding,) = read("Service").not_done()
    assert "EndpointSlices" in finding.message
    assert [*read("EndpointSlice").not_done()] == []


@pytest.mark.parametrize("kind", sorted(OBJECTS.keys() - {"Service", "EndpointSlice"}))
def test_the_other_kinds_take_effect(kind: str) -> None:
    """Nothing is to be warned of."""
    assert [*read(kind).not_done()] == []
    assert read(kind).conversion().resources
