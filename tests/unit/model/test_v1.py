"""Resources of Calico's first API, and what they are called today."""

from __future__ import annotations

from textwrap import dedent

import pytest

from calico.model import codec, v1
from calico.model.errors import InvalidResources
from calico.model.resource import Resource
from calico.model.validation import problems_of


def _today(text: str) -> Resource:
    (resource,) = codec.load("apiVersion: projectcalico.org/v3\n" + dedent(text))
    return resource


CASES = {
    "policy": (
        """\
        apiVersion: v1
        kind: policy
        metadata: {name: allow.Web, annotations: {why: because}}
        spec:
          order: 100
          selector: calico/k8s_ns == 'shop' && note == 'calico/k8s_ns'
          ingress:
          - action: allow
            protocol: tcp
            source: {tag: web, selector: "role == 'a' || has(b)", net: 10.0.0.1/8, nets: [10.1.0.0/16]}
            destination: {ports: [80, "90:99"], notTag: old}
          - action: next-tier
            protocol: icmp
            icmp: {type: 8, code: 0}
          - action: pass
          - {}
          egress:
          - action: deny
            notICMP: {type: 1}
            notProtocol: udplite
        """,
        """\
        kind: GlobalNetworkPolicy
        metadata:
          name: default.allow-web-1e2d8447
          labels: {projectcalico.org/tier: default}
          annotations: {why: because}
        spec:
          tier: default
          order: 100
          selector: projectcalico.org/namespace == 'shop' && note == 'calico/k8s_ns'
          types: [Ingress, Egress]
          ingress:
          - action: Allow
            protocol: TCP
            source: {nets: [10.1.0.0/16, 10.0.0.0/8], selector: "(role == 'a' || has(b)) && web == ''"}
            destination: {notSelector: old == '', ports: [80, "90:99"]}
          - {action: Pass, protocol: ICMP, icmp: {type: 8, code: 0}}
          - {action: Pass}
          - {action: Allow}
          egress:
          - {action: Deny, notProtocol: UDPLite, notICMP: {type: 1}}
        """,
    ),
    "policy before DNAT": (
        """\
        apiVersion: v1
        kind: Policy
        metadata: {name: edge, tier: security}
        spec: {preDNAT: true, types: [ingress], selector: has(edge)}
        """,
        """\
        kind: GlobalNetworkPolicy
        metadata: {name: security.edge, labels: {projectcalico.org/tier: security}}
        spec: {tier: security, selector: has(edge), types: [Ingress], preDNAT: true, applyOnForward: true}
        """,
    ),
    "profile": (
        """\
        apiVersion: v1
        kind: profile
        metadata: {name: k8s_ns.shop, tags: [web], labels: {a: b}}
        spec: {ingress: [{action: allow, source: {tag: web}}], egress: [{action: allow}]}
        """,
        """\
        kind: Profile
        metadata: {name: kns.shop}
        spec:
          ingress: [{action: Allow, source: {selector: web == ''}}]
          egress: [{action: Allow}]
          labelsToApply: {a: b, web: ""}
        """,
    ),
    "hostEndpoint": (
        """\
        apiVersion: v1
        kind: hostEndpoint
        metadata: {name: eth0, node: Host_1, labels: {role: db}}
        spec:
          interfaceName: eth0
          expectedIPs: ["fd00::1", 10.0.0.1]
          profiles: [web, k8s_ns.shop]
          ports: [{name: http, protocol: tcp, port: 80}]
        """,
        """\
        kind: HostEndpoint
        metadata: {name: host-1.eth0, labels: {role: db}}
        spec:
          node: host-1
          interfaceName: eth0
          expectedIPs: [10.0.0.1, "fd00::1"]
          profiles: [web, kns.shop]
          ports: [{name: http, protocol: TCP, port: 80}]
        """,
    ),
    "workloadEndpoint of Kubernetes": (
        """\
        apiVersion: v1
        kind: workloadEndpoint
        metadata:
          name: eth0
          workload: shop.web-1
          orchestrator: k8s
          node: host-1
          activeInstanceID: abc
          labels: {calico/k8s_ns: shop, app: web}
        spec: {ipNetworks: [10.0.0.7/32], profiles: [k8s_ns.shop], interfaceName: cali1, mac: "02:00:00:00:00:01"}
        """,
        """\
        kind: WorkloadEndpoint
        metadata:
          name: host--1-k8s-web--1-eth0
          namespace: shop
          labels: {app: web, projectcalico.org/namespace: shop}
        spec:
          orchestrator: k8s
          node: host-1
          containerID: abc
          pod: web-1
          endpoint: eth0
          ipNetworks: [10.0.0.7/32]
          profiles: [kns.shop]
          interfaceName: cali1
          mac: "02:00:00:00:00:01"
        """,
    ),
    "ipPool": (
        """\
        apiVersion: v1
        kind: ipPool
        metadata: {cidr: 192.168.0.0/16}
        spec: {ipip: {enabled: true, mode: cross-subnet}, nat-outgoing: true}
        """,
        """\
        kind: IPPool
        metadata: {name: 192-168-0-0-16}
        spec:
          cidr: 192.168.0.0/16
          vxlanMode: Never
          ipipMode: CrossSubnet
          natOutgoing: true
          blockSize: 26
          nodeSelector: all()
          allowedUses: [Workload, Tunnel]
        """,
    ),
    "ipPool of IPv6": (
        """\
        apiVersion: v1
        kind: ipPool
        metadata: {cidr: "fd00::/64"}
        spec: {disabled: true}
        """,
        """\
        kind: IPPool
        metadata: {name: fd00---64}
        spec:
          cidr: "fd00::/64"
          vxlanMode: Never
          ipipMode: Never
          disabled: true
          blockSize: 122
          nodeSelector: all()
          allowedUses: [Workload, Tunnel]
        """,
    ),
    "bgpPeer of all": (
        """\
        apiVersion: v1
        kind: bgpPeer
        metadata: {scope: global, peerIP: 10.0.0.1}
        spec: {asNumber: "64512"}
        """,
        """\
        kind: BGPPeer
        metadata: {name: 10-0-0-1}
        spec: {peerIP: 10.0.0.1, asNumber: "64512"}
        """,
    ),
    "bgpPeer of one": (
        """\
        apiVersion: v1
        kind: bgpPeer
        metadata: {scope: node, node: Host-1, peerIP: "aa:bb::"}
        spec: {asNumber: 64512}
        """,
        """\
        kind: BGPPeer
        metadata: {name: host-1.00aa-00bb-0000-0000-0000-0000-0000-0000}
        spec: {node: host-1, peerIP: "aa:bb::", asNumber: 64512}
        """,
    ),
    "node": (
        """\
        apiVersion: v1
        kind: node
        metadata: {name: Host/1}
        spec: {bgp: {ipv4Address: 10.0.0.1/24, asNumber: 64512}, orchRefs: [{nodeName: h1, orchestrator: k8s}]}
        """,
        """\
        kind: Node
        metadata: {name: host.1}
        spec: {bgp: {asNumber: 64512, ipv4Address: 10.0.0.1/24}, orchRefs: [{nodeName: h1, orchestrator: k8s}]}
        """,
    ),
    "tier": (
        """\
        apiVersion: v1
        kind: tier
        metadata: {name: security}
        spec: {order: 100}
        """,
        """\
        kind: Tier
        metadata: {name: security}
        spec: {order: 100}
        """,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_conversion(case: str) -> None:
    """The whole resource of today, which is valid and can be applied."""
    old, new = CASES[case]
    (located,) = codec.read_as(dedent(old), "old.yaml", v1.judged)
    assert located.resource == _today(new)
    assert problems_of(located.resource) == []


def test_a_list_is_its_items() -> None:
    """As calicoctl of then printed several."""
    text = """\
    apiVersion: v1
    kind: tierList
    metadata: {}
    items:
    - {metadata: {name: a}, spec: {order: 1}}
    - {apiVersion: v1, kind: tier, metadata: {name: b}, spec: {}}
    """
    found = codec.read_as(dedent(text), "old.yaml", v1.judged)
    assert [each.resource.metadata.name for each in found] == ["a", "b"]


def test_names_that_differ_stay_different() -> None:
    """A changed name ends in a hash of what it was; one that is a name today stays."""

    def name(old: str) -> str:
        text = f"{{apiVersion: v1, kind: tier, metadata: {{name: '{old}'}}}}"
        return codec.read_as(text, "old.yaml", v1.judged)[0].resource.metadata.name

    assert name("a-b.c") == "a-b.c"
    changed = [name(old) for old in ("A", "a_", "a..", "-a")]
    assert len(set(changed)) == 4
    assert all(each.startswith("a-") for each in changed)


WRONG = {
    "{apiVersion: v1, kind: polcy, metadata: {name: a}}": "1:24: polcy/a: kind: there is no old kind 'polcy'; did you mean policy",
    "{apiVersion: v2, kind: tier, metadata: {name: a}}": "apiVersion 'v2' is not the old one; only v1 is converted",
    "{kind: tier, metadata: {name: a}}": "the apiVersion is missing",
    "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}": "of today's format already",
    "{apiVersion: v1, metadata: {name: a}}": "the kind is missing",
    "[1]": "1 stands where a resource is expected",
    "{apiVersion: v1, kind: tier, metadata: {}}": "metadata.name: the field is missing",
    "{apiVersion: v1, kind: tier, metadata: {name: a}, spec: {ordr: 1}}": "spec.ordr: there is no field 'ordr'; did you mean order",
    "{apiVersion: v1, kind: policy, metadata: {name: a}, spec: {ingress: [{action: alow}]}}": "spec.ingress[0].action: 'alow' is no action; did you mean allow",
    "{apiVersion: v1, kind: policy, metadata: {name: a}, spec: {types: [up]}}": "spec.types[0]: 'up' is no direction",
    "{apiVersion: v1, kind: policy, metadata: {name: a}, spec: {egress: [{source: {net: 10.0.0}}]}}": "spec.egress[0].source.net: '10.0.0' is no IPv4 or IPv6 address",
    "{apiVersion: v1, kind: profile, metadata: {name: a, tags: [x], labels: {x: y}}}": "metadata.tags[0]: the tag 'x' is a label, too",
    "{apiVersion: v1, kind: ipPool, metadata: {cidr: 10.0.0.0/33}}": "metadata.cidr: '10.0.0.0/33' has no valid prefix length",
    "{apiVersion: v1, kind: bgpPeer, metadata: {scope: rack, peerIP: 10.0.0.1}, spec: {asNumber: 1}}": "metadata.scope: 'rack' is no scope",
    "{apiVersion: v1, kind: bgpPeer, metadata: {scope: global, node: a, peerIP: 10.0.0.1}, spec: {asNumber: 1}}": "a global peer is of no node",
    "{apiVersion: v1, kind: bgpPeer, metadata: {scope: node, peerIP: x}, spec: {asNumber: 1}}": "a peer of a node needs one",
    "{apiVersion: v1, kind: node, metadata: {name: a}, spec: {bgp: {asNumber: 1}}}": "spec.bgp: it has no address",
    "{apiVersion: v1, kind: workloadEndpoint, metadata: {name: e, workload: web, orchestrator: k8s, node: a}}": "metadata.workload: 'web' is no pod",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_place(text: str) -> None:
    """In the words of the old format."""
    with pytest.raises(InvalidResources) as caught:
        codec.read_as(text, "old.yaml", v1.judged)
    assert WRONG[text] in str(caught.value)
