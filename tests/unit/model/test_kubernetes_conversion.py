"""Kubernetes' objects as Calico's resources."""

import copy

import pytest

from calico.model.codec import decode, encode
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec, WorkloadPort
from calico.model.keys import key_of
from calico.model.kubernetes import convert, network_policy
from calico.model.policy import EntityRule, NetworkPolicy, PolicySpec, Profile, ProfileSpec, Rule
from calico.model.resource import Metadata
from calico.model.selector import parse
from calico.model.validation import defaulted, problems_of

K8S = 'projectcalico.org/orchestrator == "k8s"'


def policy(spec, **metadata):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": spec,
    }


def converted(document):
    resources, problems = convert(document)
    assert problems == ()
    (resource,) = resources
    assert problems_of(defaulted(resource)) == []
    assert encode(decode(key_of(resource), encode(resource), 1)) == encode(resource)
    return resource


def rules(rule, direction="ingress"):
    found = converted(policy({direction: [rule]})).spec
    return found.ingress if direction == "ingress" else found.egress


def test_namespace():
    """A namespace becomes a profile that allows everything and hands on its labels, and its name."""
    document = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"team": "a", "example.com/env": "prod"}},
    }

    assert converted(document) == Profile(
        metadata=Metadata(name="kns.shop"),
        spec=ProfileSpec(
            ingress=[Rule(action="Allow")],
            egress=[Rule(action="Allow")],
            labels_to_apply={
                "pcns.team": "a",
                "pcns.example.com/env": "prod",
                "pcns.projectcalico.org/name": "shop",
            },
        ),
    )


def test_service_account():
    """A service account becomes a profile without rules that hands on its labels, and its name."""
    document = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "cashier", "namespace": "shop", "labels": {"role": "money"}},
    }

    assert converted(document) == Profile(
        metadata=Metadata(name="ksa.shop.cashier"),
        spec=ProfileSpec(labels_to_apply={"pcsa.role": "money", "pcsa.projectcalico.org/name": "cashier"}),
    )


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-0",
        "namespace": "shop",
        "labels": {"app": "web", "projectcalico.org/namespace": "forged"},
        "annotations": {"cni.projectcalico.org/containerID": "0123abcd"},
    },
    "spec": {
        "nodeName": "host-1.example.com",
        "serviceAccountName": "cashier",
        "initContainers": [
            {"restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15001}]},
            {"ports": [{"name": "setup", "containerPort": 1}]},
        ],
        "containers": [
            {
                "ports": [
                    {"name": "http", "containerPort": 80},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    {"containerPort": 81},
                    {"containerPort": 82, "hostPort": 8082, "hostIP": "10.0.0.1"},
                ]
            },
            {},
        ],
    },
    "status": {"phase": "Running", "podIP": "10.65.0.2", "podIPs": [{"ip": "10.65.0.2"}, {"ip": "fd00::2"}]},
}


def pod(**parts):
    document = copy.deepcopy(POD)
    for name, part in parts.items():
        document[name].update(part)
    return document


def test_pod():
    """A pod becomes its endpoint, with its labels, profiles, addresses, ports, and the name of its interface."""
    assert converted(POD) == WorkloadEndpoint(
        metadata=Metadata(
            name="host--1.example.com-k8s-web--0-eth0",
            namespace="shop",
            labels={
                "app": "web",
                "projectcalico.org/namespace": "shop",
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "cashier",
            },
        ),
        spec=WorkloadEndpointSpec(
            orchestrator="k8s",
            node="host-1.example.com",
            pod="web-0",
            container_id="0123abcd",
            endpoint="eth0",
            service_account_name="cashier",
            ip_networks=["10.65.0.2/32", "fd00::2/128"],
            profiles=["kns.shop", "ksa.shop.cashier"],
            interface_name="calia4fc3c48bd8",
            ports=[
                WorkloadPort(name="mesh", port=15001),
                WorkloadPort(name="http", port=80),
                WorkloadPort(name="dns", port=53, protocol="UDP"),
                WorkloadPort(port=82, host_port=8082, host_ip="10.0.0.1"),
            ],
        ),
    )


@pytest.mark.parametrize(
    "part",
    [{"nodeName": None}, {"nodeName": ""}, {"hostNetwork": True}],
    ids=["unscheduled", "", "host network"],
)
def test_pods_without_endpoint(part):
    """A pod that has no node yet, or uses its host's network, has no endpoint, and that is no problem."""
    assert convert(pod(spec=part)) == ((), ())


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pods_lose_their_addresses(phase):
    """Another pod may have the address of one that has finished."""
    assert converted(pod(status={"phase": phase})).spec.ip_networks == []


@pytest.mark.parametrize(
    ("status", "annotations", "expected"),
    [
        ({"podIPs": [], "podIP": "10.0.0.9"}, {}, ["10.0.0.9/32"]),
        (
            {"podIPs": None, "podIP": None},
            {"cni.projectcalico.org/podIPs": "10.0.0.1/32, fd00::1/128"},
            ["10.0.0.1/32", "fd00::1/128"],
        ),
        ({"podIPs": [], "podIP": ""}, {"cni.projectcalico.org/podIP": "10.0.0.1/32"}, ["10.0.0.1/32"]),
        ({"podIPs": [], "podIP": ""}, {"vpc.amazonaws.com/pod-ips": "10.0.0.7"}, ["10.0.0.7/32"]),
        ({"podIPs": [], "podIP": ""}, {}, []),
        ({"podIPs": [{"ip": "10.0.0.1"}]}, {"cni.projectcalico.org/podIP": "10.0.0.2/32"}, ["10.0.0.1/32"]),
    ],
)
def test_where_addresses_come_from(status, annotations, expected):
    """A pod's addresses come from the first place that knows any: its status, or what the CNI plugin noted."""
    document = pod(status=status)
    document["metadata"]["annotations"] = annotations

    assert converted(document).spec.ip_networks == expected


def test_long_names_of_service_accounts():
    """A service account's name that is too long for a label still gives its profile."""
    account = "a" * 64
    endpoint = converted(pod(spec={"serviceAccountName": account}))

    assert "projectcalico.org/serviceaccount" not in endpoint.metadata.labels
    assert endpoint.spec.profiles == ["kns.shop", f"ksa.shop.{account}"]
    assert converted(pod(spec={"serviceAccountName": None})).spec.profiles == ["kns.shop"]


def test_misshapen_pods():
    """What of a pod can not be understood is reported, and the rest is kept."""
    document = pod(status={"podIPs": [{"ip": "10.0.0.300"}, {"ip": "10.0.0.0/24"}, {"ip": "10.0.0.1"}]})
    document["spec"]["containers"].append({"ports": [{"name": "x", "containerPort": "many"}]})

    resources, problems = convert(document)

    assert resources[0].spec.ip_networks == ["10.0.0.1/32"]
    assert [problem.field for problem in problems] == [
        "status.podIPs",
        "status.podIPs",
        "spec.containers[2].ports[0].containerPort",
    ]
    assert problems[0].kind == "Pod"
    assert problems[0].name == "shop/web-0"


def test_policy():
    """A policy keeps its name behind a prefix, stands at order 1000, and selects pods only."""
    document = policy(
        {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
        creationTimestamp="2020-01-01T00:00:00Z",
        uid="80000000-0000-0000-0000-000000000001",
    )

    assert converted(document) == NetworkPolicy(
        metadata=Metadata(
            name="knp.default.web",
            namespace="shop",
            creation_timestamp="2020-01-01T00:00:00Z",
            uid="80000000-0000-0000-0000-000000000001",
        ),
        spec=PolicySpec(
            tier="default",
            order=1000.0,
            selector=f'({K8S} && app == "web")',
            types=["Ingress"],
            ingress=[Rule(action="Allow")],
        ),
    )


def test_uids_differ():
    """What a policy becomes has another uid, that follows from the policy's."""
    uid = converted(policy({}, uid="30316465-6365-4463-ad63-3564622d3638")).metadata.uid

    assert uid == "1c6cb446-26ac-c6b5-c622-a6c6a6268c0c"
    assert converted(policy({}, uid="no uid")).metadata.uid == "no uid"


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": []}, ["Ingress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
        ({"policyTypes": ["Egress", "Ingress"]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, ["Ingress"]),
    ],
)
def test_policy_types(spec, types):
    """Ingress is isolated unless the policy says otherwise; egress if it says so or has egress rules."""
    assert converted(policy(spec)).spec.types == types


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, K8S),
        (None, K8S),
        ({"matchLabels": {"b": "2", "a": "1"}}, f'({K8S} && a == "1" && b == "2")'),
        (
            {
                "matchLabels": {"a": "1"},
                "matchExpressions": [
                    {"key": "b", "operator": "In", "values": ["y", "x"]},
                    {"key": "c", "operator": "NotIn", "values": ["z"]},
                    {"key": "d", "operator": "Exists"},
                    {"key": "example.com/e", "operator": "DoesNotExist", "values": None},
                ],
            },
            f'({K8S} && a == "1" && b in {{"x", "y"}} && c not in {{"z"}} && has(d) && !has(example.com/e))',
        ),
    ],
)
def test_pod_selectors(selector, expected):
    """A label selector becomes a selector of the same meaning, for pods."""
    found = converted(policy({"podSelector": selector})).spec.selector

    assert found == expected
    assert str(parse(found)) == expected


PODS = {"podSelector": {"matchLabels": {"role": "client"}}}
CLIENTS = f'({K8S} && role == "client")'


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (PODS, EntityRule(selector=CLIENTS)),
        ({"podSelector": {}}, EntityRule(selector=K8S)),
        ({"namespaceSelector": {}}, EntityRule(selector=K8S, namespace_selector="all()")),
        (
            {"namespaceSelector": {"matchLabels": {"team": "a"}}},
            EntityRule(selector=K8S, namespace_selector='team == "a"'),
        ),
        (
            {**PODS, "namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}},
            EntityRule(selector=CLIENTS, namespace_selector="has(x)"),
        ),
        ({"ipBlock": {"cidr": "10.0.0.1/8"}}, EntityRule(nets=["10.0.0.0/8"])),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}},
            EntityRule(nets=["10.0.0.0/8"], not_nets=["10.1.0.0/16", "10.2.0.0/16"]),
        ),
    ],
)
def test_peers(peer, expected):
    """Peers are pods of the policy's own namespace, pods of selected namespaces, or blocks of addresses."""
    assert rules({"from": [peer]}) == [Rule(action="Allow", source=expected)]
    assert rules({"to": [peer]}, "egress") == [Rule(action="Allow", destination=expected)]


@pytest.mark.parametrize("rule", [{}, {"from": []}, {"from": None}, {"ports": []}, {"ports": None}])
def test_empty_rules_allow_everything(rule):
    """A rule without peers is for any address, in the cluster or not, and one without ports for any protocol."""
    assert rules(rule) == [Rule(action="Allow")]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"port": 80}], [("TCP", [80])]),
        ([{"port": 53, "protocol": "UDP"}], [("UDP", [53])]),
        ([{"protocol": "SCTP"}], [("SCTP", [])]),
        ([{}], [("TCP", [])]),
        ([{"port": 80}, {}], [("TCP", [])]),
        ([{"port": "http"}], [("TCP", ["http"])]),
        ([{"port": 80}, {"port": "http"}, {"port": 443}, {"port": "http"}], [("TCP", [80, 443, "http"])]),
        ([{"port": 8000, "endPort": 8080}], [("TCP", ["8000:8080"])]),
        ([{"port": 80, "endPort": 80}], [("TCP", [80])]),
        ([{"port": 82}, {"port": 80}, {"port": 81}, {"port": 90}, {"port": 80}], [("TCP", ["80:82", 90])]),
        ([{"port": 10, "endPort": 20}, {"port": 12, "endPort": 15}, {"port": 21}], [("TCP", ["10:21"])]),
        (
            [{"port": 53, "protocol": "UDP"}, {"port": 53}, {"port": 54, "protocol": "UDP"}],
            [("UDP", ["53:54"]), ("TCP", [53])],
        ),
    ],
)
def test_ports(ports, expected):
    """Ports are grouped by protocol, TCP if none is given; those that touch become ranges."""
    assert rules({"ports": ports}) == [
        Rule(action="Allow", protocol=protocol, destination=EntityRule(ports=found))
        for protocol, found in expected
    ]
    assert rules({"ports": ports}, "egress") == rules({"ports": ports})


def test_a_rule_for_each_protocol_and_peer():
    """Every peer may use every port, and on egress both belong to the destination."""
    rule = {
        "to": [PODS, {"ipBlock": {"cidr": "fd00::/64"}}],
        "ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}],
    }

    assert rules(rule, "egress") == [
        Rule(action="Allow", protocol="TCP", destination=EntityRule(selector=CLIENTS, ports=[53])),
        Rule(action="Allow", protocol="TCP", destination=EntityRule(nets=["fd00::/64"], ports=[53])),
        Rule(action="Allow", protocol="UDP", destination=EntityRule(selector=CLIENTS, ports=[53])),
        Rule(action="Allow", protocol="UDP", destination=EntityRule(nets=["fd00::/64"], ports=[53])),
    ]


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"from": [{}]}, "from[0]"),
        ({"from": [PODS, {"ipBlock": {"cidr": "10.0.0.0/33"}}]}, "from[1].ipBlock.cidr"),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9", "x"]}}]},
            "from[0].ipBlock.except[1]",
        ),
        ({"from": [{**PODS, "ipBlock": {"cidr": "10.0.0.0/8"}}]}, "from[0]"),
        ({"from": {"podSelector": {}}}, "from"),
        ({"from": [{"podSelector": "all"}]}, "from[0].podSelector"),
        (
            {
                "from": [
                    {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}
                ]
            },
            "from[0].podSelector.matchExpressions[0].operator",
        ),
        ({"from": [{"podSelector": {"matchLabels": {"a b": "c"}}}]}, "from[0].podSelector"),
        ({"from": [{"podSelector": {"matchLabels": {"a": "'\""}}}]}, "from[0].podSelector"),
        ({"from": [{"podSelector": {"matchLabels": {"a": 1}}}]}, "from[0].podSelector.matchLabels.a"),
        (
            {"from": [{"namespaceSelector": {"matchLabels": {'a == "x" || b': "c"}}}]},
            "from[0].namespaceSelector",
        ),
        ({"ports": [{"port": 80}, {"port": 0}]}, "ports[1].port"),
        ({"ports": [{"port": "1:2"}]}, "ports[0].port"),
        ({"ports": [{"port": "a b"}]}, "ports[0].port"),
        ({"ports": [{"port": 1.5}]}, "ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "tcp"}]}, "ports[0].protocol"),
        ({"ports": [{"port": 81, "endPort": 80}]}, "ports[0].port"),
        ({"ports": [{"port": "http", "endPort": 80}]}, "ports[0].endPort"),
        ({"ports": [{"endPort": 80}]}, "ports[0].port"),
        ("allow", ""),
    ],
)
def test_rules_that_can_not_be_converted(rule, field):
    """Such a rule is left out as a whole and reported; the other rules stay, and the policy isolates."""
    ((found,), (problem,)) = convert(policy({"ingress": [{"ports": [{"port": 1}]}, rule]}))

    assert found.spec.ingress == [Rule(action="Allow", protocol="TCP", destination=EntityRule(ports=[1]))]
    assert found.spec.types == ["Ingress"]
    assert problem.field == ".".join(filter(None, ["spec.ingress[1]", field]))
    assert problem.name == "shop/web"
    assert "until then the rule allows nothing" in problem.remedy


@pytest.mark.parametrize("spec", [{"podSelector": [], "ingress": [{}]}, "everything"])
def test_policies_for_unknown_pods(spec):
    """A policy whose pods can not be told isolates every pod of its namespace, and allows nothing."""
    ((found,), (problem,)) = convert(policy(spec))

    assert (found.spec.selector, found.spec.types) == (K8S, ["Ingress", "Egress"])
    assert found.spec.ingress == found.spec.egress == []
    assert "every pod of the namespace is isolated" in problem.remedy


@pytest.mark.parametrize("types", [["ingress"], "Ingress", {"a": 1}])
def test_unknown_policy_types(types):
    """A policy whose directions can not be told isolates both, and keeps its rules."""
    ((found,), (problem,)) = convert(policy({"policyTypes": types, "ingress": [{}]}))

    assert found.spec.types == ["Ingress", "Egress"]
    assert found.spec.ingress == [Rule(action="Allow")]
    assert problem.field == "spec.policyTypes"


def test_lists():
    """Lists are converted item by item, whether the items say what they are or the list does."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "n"}}
    untyped = {"metadata": {"name": "ns"}}

    resources, problems = convert({"apiVersion": "v1", "kind": "List", "items": [account, POD, 3]})
    assert [resource.metadata.name for resource in resources] == [
        "ksa.n.a",
        "host--1.example.com-k8s-web--0-eth0",
    ]
    assert [problem.field for problem in problems] == ["items[2]"]

    resources, problems = convert({"apiVersion": "v1", "kind": "NamespaceList", "items": [untyped]})
    assert [resource.metadata.name for resource in resources] == ["kns.ns"]
    assert problems == ()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "kind"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, "kind"),
        ({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "c"}}, "kind"),
        ({"apiVersion": "v1", "kind": "Namespace"}, "metadata"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": "x"}, "metadata"),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"b": 1}}},
            "metadata.labels.b",
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "-a"}, "spec": {"nodeName": "n"}},
            "metadata.name",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": []}, "spec"),
    ],
)
def test_objects_that_become_nothing(document, field):
    """What is no object that we know becomes a problem and no resource."""
    resources, problems = convert(document)

    assert resources == ()
    assert [problem.field for problem in problems] == [field]


def test_without_namespace():
    """An object that names no namespace is in the one called default."""
    document = policy({})
    del document["metadata"]["namespace"]

    assert network_policy(document).resources[0].metadata.namespace == "default"


@pytest.mark.parametrize(
    ("rule", "field", "near"),
    [
        ({"form": [PODS]}, "form", "from"),
        ({"from": [PODS], "port": [{"port": 80}]}, "port", "ports"),
        (
            {"from": [{"podSelector": {"matchLabls": {"a": "b"}}}]},
            "from[0].podSelector.matchLabls",
            "matchLabels",
        ),
        (
            {"from": [{"namespaceSelector": {"matchExpression": []}}]},
            "from[0].namespaceSelector.matchExpression",
            "matchExpressions",
        ),
        ({"from": [{**PODS, "namespaceSelecter": {}}]}, "from[0].namespaceSelecter", "namespaceSelector"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "expect": []}}]}, "from[0].ipBlock.expect", "except"),
        ({"ports": [{"prot": 80}]}, "ports[0].prot", "port"),
    ],
)
def test_slips_of_the_pen_widen_no_rule(rule, field, near):
    """A rule with a field that is none allows nothing: without that field it might allow everything."""
    resources, problems = convert(policy({"ingress": [rule]}))

    [problem] = problems
    assert (problem.field, problem.severity) == (f"spec.ingress[0].{field}", "error")
    assert f"did you mean {near}" in problem.remedy
    assert resources[0].spec.ingress == []


def test_slips_of_the_pen_in_a_policy():
    """A policy that may not be for those that are meant is refused, and isolates those that it seems to be for."""
    resources, problems = convert(policy({"podSelecter": {}, "ingress": [{}]}))
    assert [problem.field for problem in problems] == ["spec.podSelecter"]
    assert resources[0].spec.selector == K8S

    resources, problems = convert(policy({"podSelector": {"matchLabls": {"a": "b"}}, "ingress": [{}]}))
    assert [problem.field for problem in problems] == ["spec.podSelector.matchLabls"]
    assert resources[0].spec.ingress == []
