"""What is wrong with resources beyond their types, and what a client fills in."""

import pytest
from msgspec import convert

from calico.model.codec import from_builtins
from calico.model.errors import InvalidResources
from calico.model.keys import KINDS
from calico.model.resource import API_VERSION, Metadata
from calico.model.validation import defaulted, problems_of

POLICY = {"selector": "all()"}
GOOD = {
    "NetworkPolicy": POLICY,
    "GlobalNetworkPolicy": POLICY,
    "Tier": {"order": 10},
    "Profile": {},
    "NetworkSet": {"nets": ["10.0.0.1/8", "fd00::1", "1.2.3.4"]},
    "GlobalNetworkSet": {"nets": ["10.0.0.0/8"]},
    "HostEndpoint": {"node": "n", "interfaceName": "eth0"},
    "WorkloadEndpoint": {
        "node": "n",
        "orchestrator": "k8s",
        "pod": "p",
        "endpoint": "eth0",
        "interfaceName": "cali1",
        "ipNetworks": ["10.0.0.1/32", "fd00::1/128"],
    },
    "IPPool": {"cidr": "10.0.0.0/16"},
    "Node": {"bgp": {"ipv4Address": "10.0.0.1/24"}},
    "BGPConfiguration": {"asNumber": 64512},
    "BGPPeer": {"peerIP": "10.0.0.1", "asNumber": 64512},
}


def resource(kind, spec=None, **metadata):
    """A good resource of a kind, with some of its spec and metadata replaced."""
    name = {"WorkloadEndpoint": "n-k8s-p-eth0", "BGPConfiguration": "default"}.get(kind, "a")
    return convert(
        {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": GOOD[kind] | (spec or {}),
        },
        KINDS[kind],
    )


def fields(found):
    return [".".join(map(str, finding.path)) for finding in problems_of(found)]


@pytest.mark.parametrize("kind", GOOD)
def test_good_resources(kind):
    """An ordinary resource of each kind has no problems, also when everything is filled in."""
    assert problems_of(resource(kind)) == []
    assert problems_of(defaulted(resource(kind))) == []


@pytest.mark.parametrize("kind", GOOD)
def test_sentences(kind):
    """Every finding says what is wrong, and what would be right."""
    findings = problems_of(resource(kind, name="A B", labels={"-": "a b"}, namespace="-"))

    assert len(findings) >= 3
    assert all(finding.message and finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        ("Node", "", False),
        ("Node", "host-1.example.com", True),
        ("Node", "Host", False),
        ("Node", "a..b", False),
        ("Node", "a" * 254, False),
        ("IPPool", "a_b", False),
        ("Tier", "a.b", False),
        ("Tier", "a" * 63, True),
        ("Tier", "a" * 64, False),
        ("NetworkPolicy", "web", True),
        ("NetworkPolicy", "tier.web", True),
        ("NetworkPolicy", "a.b.c", False),
        ("NetworkPolicy", "knp.default.a.b.c", True),
        ("NetworkPolicy", "ossg.default.a", True),
        ("NetworkPolicy", "knp.default.", False),
        ("GlobalNetworkPolicy", "knp.default.a.b", False),
        ("GlobalNetworkPolicy", "a" * 64, False),
        ("WorkloadEndpoint", "", True),
        ("WorkloadEndpoint", "n-k8s-q-eth0", False),
        ("BGPConfiguration", "default", True),
        ("BGPConfiguration", "other", False),
        ("Profile", "projectcalico-default-allow", False),
        ("Profile", "kns.default", True),
    ],
)
def test_names(kind, name, good):
    """Names are those of DNS; some kinds allow fewer."""
    assert (fields(resource(kind, name=name)) == []) is good


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"labels": {"example.com/Role": "a.B_c-1", "x": ""}}, []),
        ({"labels": {"Example.com/role": "a"}}, ["metadata.labels.Example.com/role"]),
        ({"labels": {"a/b/c": "a"}}, ["metadata.labels.a/b/c"]),
        ({"labels": {"a": "x" * 63}}, []),
        ({"labels": {"a": "x" * 64}}, ["metadata.labels.a"]),
        ({"labels": {"a": "-x"}}, ["metadata.labels.a"]),
        ({"labels": {"x" * 64: ""}}, ["metadata.labels." + "x" * 64]),
        ({"annotations": {"Example.com/Any": "any text at all, \n also long" * 9}}, []),
        ({"annotations": {"a b": ""}}, ["metadata.annotations.a b"]),
        ({"annotations": {"a": "x" * 262_144}}, ["metadata.annotations"]),
        ({"namespace": "n"}, ["metadata.namespace"]),
    ],
)
def test_metadata(metadata, expected):
    """Labels, annotations and namespace of a kind without namespace."""
    assert fields(resource("Node", **metadata)) == expected


def rule(direction="ingress", action="Allow", **parts):
    return {direction: [{"action": action, **parts}]}


SERVICE = {"services": {"name": "s"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (rule(), []),
        (rule(ipVersion=5), ["ipVersion"]),
        (rule(protocol=0), ["protocol"]),
        (rule(protocol="tcp"), ["protocol"]),
        (rule(notProtocol="256"), ["notProtocol"]),
        (rule(protocol="ICMP", ipVersion=4), []),
        (rule(protocol="ICMP", ipVersion=6), ["protocol"]),
        (rule(protocol=58, ipVersion=4), ["protocol"]),
        (rule(notProtocol="ICMPv6", ipVersion=4), ["notProtocol"]),
        (rule(protocol="ICMP", icmp={"type": 8, "code": 0}), []),
        (rule(protocol="58", icmp={"type": 128}), []),
        (rule(icmp={"type": 8}), ["icmp"]),
        (rule(protocol="TCP", icmp={"type": 8}), ["icmp"]),
        (rule(notICMP={"type": 8}), []),
        (rule(protocol=1, icmp={"code": 0}), ["icmp.code"]),
        (rule(protocol=1, icmp={"type": 255}), ["icmp.type"]),
        (rule(protocol=1, notICMP={"type": 1, "code": 256}), ["notICMP.code"]),
        (rule(source={"nets": ["10.0.0.1", "10.0.0.0/8"]}), []),
        (rule(source={"nets": ["10.0.0.0/33"]}), ["source.nets.0"]),
        (rule(source={"nets": ["010.0.0.0/8"]}), ["source.nets.0"]),
        (rule(source={"nets": ["10.0.0.0/8"]}, destination={"notNets": ["fd00::/8"]}), ["destination.notNets.0"]),
        (rule(ipVersion=6, source={"nets": ["10.0.0.0/8"]}), ["source.nets.0"]),
        (rule(protocol="ICMPv6", source={"nets": ["10.0.0.0/8"]}), ["source.nets.0"]),
        (rule(source={"notNets": ["0.0.0.0/0"]}), ["source.notNets.0"]),
        (rule(source={"nets": ["0.0.0.0/0"]}), []),
        (rule(source={"nets": ["10.0.0.1"] * 257}), ["source.nets"]),
        (rule(source={"selector": "a ="}), ["source.selector"]),
        (rule(source={"notSelector": "global()"}), ["source.notSelector"]),
        (rule(source={"namespaceSelector": "global()"}), []),
        (rule(source={"namespaceSelector": "global() && has(a)"}), ["source.namespaceSelector"]),
        (rule(source={"selector": f'a == "{"x" * 1024}"'}), ["source.selector"]),
        (rule(source={"serviceAccounts": {"names": ["a", "A"], "selector": "a"}}), ["source.serviceAccounts.selector", "source.serviceAccounts.names.1"]),
        (rule(protocol="TCP", destination={"ports": [80, "1:2", "http", "443"]}), []),
        (rule(destination={"ports": ["http"]}), []),
        (rule(destination={"ports": ["http", 80]}), ["destination.ports"]),
        (rule(destination={"notPorts": [80]}), ["destination.notPorts"]),
        (rule(protocol="ICMP", destination={"ports": ["http"]}), ["destination.ports"]),
        (rule(protocol="UDPLite", source={"ports": [1]}), ["source.ports"]),
        (rule(protocol=132, source={"ports": [1]}), []),
        (rule(protocol="TCP", source={"ports": [0, "2:1", "a b"]}), ["source.ports.0", "source.ports.1", "source.ports.2"]),
        (rule(protocol="TCP", source={"ports": [1] * 51}), ["source.ports"]),
        (rule(source=SERVICE), []),
        (rule(destination=SERVICE), ["destination.services"]),
        (rule("egress", destination=SERVICE), []),
        (rule("egress", source=SERVICE), ["source.services"]),
        (rule(source={"services": {}}), ["source.services.name"]),
        (rule(source=SERVICE | {"nets": ["10.0.0.1"], "selector": "all()"}), ["source.selector", "source.nets"]),
        (rule("egress", protocol="TCP", destination=SERVICE | {"ports": [1]}), ["destination.ports"]),
        (rule(http={"methods": ["GET"], "paths": [{"exact": "/a"}, {"prefix": "/b/"}]}), []),
        (rule(protocol="TCP", http={}), []),
        (rule(protocol="UDP", http={}), ["http"]),
        (rule(action="Deny", http={}), ["http"]),
        (rule("egress", http={}), ["http"]),
        (rule(http={"methods": ["GET", "GET"]}), ["http.methods"]),
        (rule(http={"methods": list(map(str, range(21)))}), ["http.methods"]),
        (rule(http={"paths": [{}, {"exact": "/", "prefix": "/"}, {"exact": "a"}, {"prefix": "/a?b"}]}), [f"http.paths.{end}" for end in ("0", "1", "2.exact", "3.prefix")]),
    ],
)  # fmt: skip
def test_rules(spec, expected):
    """Each field of a rule, and each pair that excludes each other."""
    ((direction, _),) = spec.items()

    assert fields(resource("NetworkPolicy", spec)) == [f"spec.{direction}.0.{field}" for field in expected]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"types": ["Ingress", "Ingress"]}, ["types"]),
        ({"tier": "A"}, ["tier"]),
        ({"selector": "global()"}, ["selector"]),
        ({"serviceAccountSelector": "a"}, ["serviceAccountSelector"]),
        ({"namespaceSelector": "global()"}, ["namespaceSelector"]),
        ({"performanceHints": ["AssumeNeededOnEveryNode", "Hurry"]}, ["performanceHints.1"]),
        ({"doNotTrack": True, "applyOnForward": True}, []),
        ({"doNotTrack": True}, ["applyOnForward"]),
        ({"preDNAT": True}, ["applyOnForward"]),
        ({"preDNAT": True, "doNotTrack": True, "applyOnForward": True}, ["preDNAT"]),
        ({"preDNAT": True, "applyOnForward": True, "egress": [{"action": "Allow"}]}, ["egress"]),
        ({"preDNAT": True, "applyOnForward": True, "types": ["Egress"]}, ["types"]),
        ({"ingress": [{"action": "Log"}] * 1025}, ["ingress"]),
        (rule(source=SERVICE), ["ingress.0.source.services.namespace"]),
    ],
)
def test_global_policies(spec, expected):
    """Fields of a policy, and those that only global ones have."""
    assert fields(resource("GlobalNetworkPolicy", spec)) == [f"spec.{field}" for field in expected]


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("a", {"order": -5, "defaultAction": "Pass"}, []),
        ("default", {"order": 1_000_000}, []),
        ("default", {"order": 5}, ["order"]),
        ("kube-admin", {"order": 1000, "defaultAction": "Pass"}, []),
        ("kube-admin", {"order": 1000, "defaultAction": "Deny"}, ["defaultAction"]),
        ("kube-baseline", {"order": 10, "defaultAction": "Deny"}, ["order", "defaultAction"]),
    ],
)
def test_tiers(name, spec, expected):
    """The tiers that every cluster has keep their place."""
    assert fields(resource("Tier", spec, name=name)) == [f"spec.{field}" for field in expected]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Profile", {"labelsToApply": {"pcns." + "x" * 63: "a"}}, []),
        ("Profile", {"labelsToApply": {"pcsa.a b": "a"}}, ["labelsToApply.pcsa.a b"]),
        ("Profile", {"egress": [{"action": "Allow", "protocol": 0}]}, ["egress.0.protocol"]),
        ("GlobalNetworkSet", {"nets": ["10.0.0.1", "a", "fd00::/129"]}, ["nets.1", "nets.2"]),
        ("HostEndpoint", {"node": "", "interfaceName": ""}, ["node", ""]),
        ("HostEndpoint", {"interfaceName": "*"}, []),
        ("HostEndpoint", {"interfaceName": "a" * 16}, ["interfaceName"]),
        ("HostEndpoint", {"interfaceName": "", "expectedIPs": ["10.0.0.1", "10.0.0.1/32"]}, ["expectedIPs.1"]),
        ("HostEndpoint", {"profiles": [".a", "a.b"]}, ["profiles.0"]),
        ("HostEndpoint", {"ports": [{"name": "", "protocol": "ICMP", "port": 0}]}, [f"ports.0.{field}" for field in ("name", "protocol", "port")]),
        ("HostEndpoint", {"ports": [{"name": "a", "protocol": "tcp", "port": 1}]}, ["ports.0.protocol"]),
        ("WorkloadEndpoint", {"ipNetworks": ["10.0.0.0/24", "x"]}, ["ipNetworks.0", "ipNetworks.1"]),
        ("WorkloadEndpoint", {"interfaceName": ""}, ["interfaceName"]),
        ("WorkloadEndpoint", {"containerID": "-a"}, ["containerID"]),
        ("WorkloadEndpoint", {"mac": "11:22:33:44:55:6"}, ["mac"]),
        ("WorkloadEndpoint", {"mac": "ee-EE-ee-ee-ee-ee"}, []),
        ("WorkloadEndpoint", {"ipv4Gateway": "fd00::1", "ipv6Gateway": "10.0.0.1"}, ["ipv4Gateway", "ipv6Gateway"]),
        ("WorkloadEndpoint", {"ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "1.2.3.4"}]}, []),
        ("WorkloadEndpoint", {"ipNATs": [{"internalIP": "10.0.0.2", "externalIP": "fd00::9"}]}, ["ipNATs.0.internalIP", "ipNATs.0.externalIP"]),
        ("WorkloadEndpoint", {"ipNATs": [{"internalIP": "a", "externalIP": "b"}]}, ["ipNATs.0.internalIP", "ipNATs.0.externalIP"]),
        ("WorkloadEndpoint", {"ports": [{"port": 80}]}, ["ports.0"]),
        ("WorkloadEndpoint", {"ports": [{"port": 80, "hostPort": 70000, "hostIP": "x"}]}, ["ports.0.hostPort", "ports.0.hostIP"]),
        ("WorkloadEndpoint", {"ports": [{"name": "a", "port": 0}]}, ["ports.0.port"]),
        ("WorkloadEndpoint", {"allowSpoofedSourcePrefixes": ["10.0.0.0/8", "x"]}, ["allowSpoofedSourcePrefixes.1"]),
        ("WorkloadEndpoint", {"qosControls": {"ingressBandwidth": 1000, "dscp": "EF", "egressPacketRate": 0}}, []),
        ("WorkloadEndpoint", {"qosControls": {"ingressBandwidth": 1, "dscp": 99, "egressPacketRate": 10_001}}, [f"qosControls.{field}" for field in ("ingressBandwidth", "egressPacketRate", "dscp")]),
        ("WorkloadEndpoint", {"qosControls": {"ingressBandwidth": 2000, "ingressPeakrate": 2000}}, ["qosControls.ingressPeakrate"]),
        ("WorkloadEndpoint", {"qosControls": {"egressMinburst": 2000}}, ["qosControls.egressMinburst"]),
        ("IPPool", {"cidr": "10.0.0.0"}, ["cidr"]),
        ("IPPool", {"cidr": "10.0.0.0/16", "blockSize": 19}, ["blockSize"]),
        ("IPPool", {"cidr": "fd00::/64", "blockSize": 26}, ["blockSize"]),
        ("IPPool", {"cidr": "10.0.0.0/27", "blockSize": 28}, []),
        ("IPPool", {"cidr": "169.0.0.0/8"}, ["cidr"]),
        ("IPPool", {"cidr": "fd00::/64", "ipipMode": "CrossSubnet"}, ["ipipMode"]),
        ("IPPool", {"ipipMode": "Always", "vxlanMode": "CrossSubnet"}, ["vxlanMode"]),
        ("IPPool", {"nodeSelector": "a", "namespaceSelector": "global()"}, ["nodeSelector", "namespaceSelector"]),
        ("IPPool", {"allowedUses": ["LoadBalancer"], "nodeSelector": "has(a)", "disableBGPExport": True, "vxlanMode": "Always"}, ["vxlanMode", "disableBGPExport", "nodeSelector"]),
        ("IPPool", {"allowedUses": ["LoadBalancer", "Tunnel"], "namespaceSelector": "has(a)"}, ["namespaceSelector", "allowedUses"]),
        ("Node", {"bgp": {}}, ["bgp"]),
        ("Node", {"bgp": {"asNumber": "1.2.3", "ipv4Address": "fd00::1", "ipv6Address": "10.0.0.1", "ipv4IPIPTunnelAddr": "x", "routeReflectorClusterID": "300.0.0.1"}}, [f"bgp.{field}" for field in ("asNumber", "ipv4Address", "ipv6Address", "ipv4IPIPTunnelAddr", "routeReflectorClusterID")]),
        ("Node", {"ipv4VXLANTunnelAddr": "x", "ipv6VXLANTunnelAddr": "10.0.0.1", "vxlanTunnelMACAddr": "x"}, ["ipv4VXLANTunnelAddr", "ipv6VXLANTunnelAddr", "vxlanTunnelMACAddr"]),
        ("Node", {"addresses": [{"address": "10.0.0.1/24", "type": "CalicoNodeIP"}, {"address": "x", "type": "Y"}]}, ["addresses.1.address", "addresses.1.type"]),
        ("Node", {"wireguard": {"interfaceIPv4Address": "x"}}, ["wireguard.interfaceIPv4Address"]),
        ("BGPPeer", {"node": "a", "nodeSelector": "all()"}, ["nodeSelector"]),
        ("BGPPeer", {"peerSelector": "all()"}, ["peerSelector", "asNumber"]),
        ("BGPPeer", {"peerIP": ""}, [""]),
        ("BGPPeer", {"peerIP": "10.0.0.1:179"}, []),
        ("BGPPeer", {"peerIP": "[fd00::1]:179"}, []),
        ("BGPPeer", {"peerIP": "[10.0.0.1]:179"}, ["peerIP"]),
        ("BGPPeer", {"peerIP": "10.0.0.1:0"}, ["peerIP"]),
        ("BGPPeer", {"peerIP": "10.0.0.0/24"}, ["peerIP"]),
        ("BGPPeer", {"reachableBy": "fd00::1"}, ["reachableBy"]),
        ("BGPPeer", {"localWorkloadSelector": "all()", "asNumber": None}, ["localWorkloadSelector", "asNumber"]),
        ("BGPPeer", {"nextHopMode": "Self", "keepOriginalNextHop": True}, ["keepOriginalNextHop"]),
        ("BGPPeer", {"asNumber": -1, "localASNumber": "x"}, ["asNumber", "localASNumber"]),
        ("BGPPeer", {"password": {}}, ["password.secretKeyRef"]),
        ("BGPPeer", {"ttlSecurity": 256, "maxRestartTime": "soon", "keepaliveTime": "1m30s"}, ["maxRestartTime", "ttlSecurity"]),
        ("BGPConfiguration", {"asNumber": "65536.0", "logSeverityScreen": "info"}, ["asNumber"]),
        ("BGPConfiguration", {"logSeverityScreen": "Loud", "bindMode": "X", "listenPort": 0}, ["logSeverityScreen", "listenPort", "bindMode"]),
        ("BGPConfiguration", {"communities": [{"name": "c", "value": "1:2"}]}, ["communities"]),
        ("BGPConfiguration", {"communities": [{"name": "c", "value": "1:70000"}], "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "70000:1:2", "d"]}]}, ["communities.0.value", "prefixAdvertisements.0.communities.2"]),
        ("BGPConfiguration", {"nodeToNodeMeshEnabled": False, "nodeMeshMaxRestartTime": "60s"}, ["nodeMeshMaxRestartTime"]),
        ("BGPConfiguration", {"serviceClusterIPs": [{"cidr": "x"}], "ignoredInterfaces": ["eth*", "*"]}, ["serviceClusterIPs.0.cidr", "ignoredInterfaces.1"]),
    ],
)  # fmt: skip
def test_specs(kind, spec, expected):
    """Each field of each kind, and each pair that excludes each other."""
    found = [field.removeprefix("spec").removeprefix(".") for field in fields(resource(kind, spec))]

    assert found == expected


def test_settings_of_one_node():
    """What is the same for all nodes can not be set for one."""
    found = resource("BGPConfiguration", {"logSeverityScreen": "Debug"}, name="node.host-1")

    assert fields(found) == ["spec.asNumber"]


def test_the_system_label_of_sets():
    """The label that places a network set in its namespace is not for people to write."""
    found = resource("NetworkSet", labels={"projectcalico.org/namespace": "x"})

    assert fields(found) == ["metadata.labels.projectcalico.org/namespace"]


def test_names_are_made_of_the_spec():
    """An endpoint whose spec does not name it is refused, with the field that lacks."""
    (finding,) = problems_of(resource("WorkloadEndpoint", {"pod": ""}))

    assert finding.path == ("metadata", "name")
    assert "pod is missing" in finding.message


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        (rule("ingress"), ["Ingress"]),
        (rule("egress"), ["Egress"]),
        (rule("ingress") | rule("egress"), ["Ingress", "Egress"]),
        ({"types": ["Egress"]} | rule("ingress"), ["Egress"]),
    ],
)
def test_default_types(spec, types):
    """A policy that does not say its types has those of its rules, and ingress if it has none."""
    assert defaulted(resource("NetworkPolicy", spec)).spec.types == types


def test_defaults_of_policies():
    """A policy without namespace goes to the default one, and carries its tier as a label."""
    found = defaulted(resource("NetworkPolicy", {"tier": "security"}, labels={"a": "b"}))

    assert found.metadata == Metadata(
        name="a", namespace="default", labels={"a": "b", "projectcalico.org/tier": "security"}
    )
    assert defaulted(resource("NetworkPolicy", namespace="shop")).metadata.namespace == "shop"
    assert defaulted(resource("GlobalNetworkPolicy")).metadata.namespace is None


@pytest.mark.parametrize(
    ("name", "given", "order", "action"),
    [
        ("a", {"order": None}, 1_000_000, "Deny"),
        ("a", {"order": 0, "defaultAction": "Pass"}, 0, "Pass"),
        ("kube-admin", {"order": None}, 1_000, "Pass"),
    ],
)
def test_defaults_of_tiers(name, given, order, action):
    """A tier has the default order and denies at its end; those of Kubernetes have their own."""
    spec = defaulted(resource("Tier", given, name=name)).spec

    assert (spec.order, spec.default_action) == (order, action)


def test_of_a_block_size_out_of_range_nothing_follows():
    """That no such block fits into the pool is no mistake of its own."""
    assert fields(resource("IPPool", {"cidr": "10.0.0.0/16", "blockSize": 12})) == ["spec.blockSize"]


def test_defaults_of_pools():
    """A pool gets its mode, block size, selector and uses; host bits of its prefix are cleared."""
    spec = defaulted(resource("IPPool", {"cidr": "10.0.1.2/16"})).spec

    assert (spec.cidr, spec.block_size, spec.node_selector) == ("10.0.0.0/16", 26, "all()")
    assert (spec.ipip_mode, spec.vxlan_mode, spec.assignment_mode) == ("Never", "Never", "Automatic")
    assert spec.allowed_uses == ["Workload", "Tunnel"]
    assert defaulted(resource("IPPool", {"cidr": "fd00::/64"})).spec.block_size == 122
    assert defaulted(resource("IPPool", {"namespaceSelector": "has(a)"})).spec.allowed_uses == ["Workload"]
    assert defaulted(resource("IPPool", {"cidr": "nonsense"})) == resource("IPPool", {"cidr": "nonsense"})


def test_default_names_of_endpoints():
    """An endpoint without a name gets the one that its spec makes, if it does."""
    assert defaulted(resource("WorkloadEndpoint", name="")).metadata.name == "n-k8s-p-eth0"
    assert defaulted(resource("WorkloadEndpoint", {"node": ""}, name="")).metadata.name == ""


@pytest.mark.parametrize("kind", GOOD)
def test_defaults_are_final(kind):
    """Filling in what is filled in changes nothing."""
    once = defaulted(resource(kind))

    assert defaulted(once) == once


def test_problems_of_plain_values():
    """Reading plain values reports the same problems."""
    tree = {"apiVersion": API_VERSION, "kind": "Tier", "metadata": {"name": "a.b"}}

    with pytest.raises(InvalidResources, match=r"Tier/a\.b: metadata\.name: 'a\.b' is no DNS label"):
        from_builtins(tree)
