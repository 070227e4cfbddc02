"""What became of each field of Calico's first API (``apiVersion: v1``).

In:   one resource of then, well typed.
Out:  the resource of today that says the same, as Calico's own conversion made it; findings where there is none.
Next: ``model.v1`` hands it on; names that are no names today get one, so that equal names stay equal.

Tags are labels without a value today, and a tag of a rule is a selector for that label. All policies were for
the whole cluster, and hold the tier in their name now.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha1
from ipaddress import IPv6Address
from typing import Final, cast

from calico.model import bgp, endpoint, node, policy, pool, v1
from calico.model.address import AddressError, cidr_word, parse_address, parse_cidr
from calico.model.errors import Finding, Path
from calico.model.names import BadName, EndpointName
from calico.model.resource import Metadata, Resource
from calico.model.schema import nearest, shown

NAMESPACE_LABEL: Final = "projectcalico.org/namespace"
OLD_NAMESPACE_LABEL: Final = "calico/k8s_ns"
NAMESPACE_PROFILE: Final = "kns."
OLD_NAMESPACE_PROFILE: Final = "k8s_ns."

ACTIONS: Final = {
    "": "Allow",
    "allow": "Allow",
    "deny": "Deny",
    "log": "Log",
    "next-tier": "Pass",
    "pass": "Pass",
}
TYPES: Final = {"ingress": "Ingress", "egress": "Egress"}
PROTOCOLS: Final = {word.lower(): word for word in ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")}
DEFAULT_BLOCKS: Final = {4: 26, 6: 122}

_NOT_IN_NAMES: Final = re.compile(r"[^-.a-z0-9]+")
_DOTS: Final = re.compile(r"[.-]*\.[.-]*")
_OLD_LABEL: Final = re.compile(rf"'[^']*'|\"[^\"]*\"|{OLD_NAMESPACE_LABEL}(?![-./\w])")

Findings = list[Finding]


def converted(old: v1.Old, wrong: Findings) -> Resource | None:
    """The resource of today; None, or not the whole truth, where something is added to ``wrong``."""
    match old:
        case v1.Tier():
            return policy.Tier(
                metadata=Metadata(name=_name(old.metadata.name)), spec=policy.TierSpec(order=old.spec.order)
            )
        case v1.Policy():
            return _policy(old, wrong)
        case v1.Profile():
            return _profile(old, wrong)
        case v1.HostEndpoint():
            return _host_endpoint(old)
        case v1.WorkloadEndpoint():
            return _workload_endpoint(old, wrong)
        case v1.IPPool():
            return _pool(old, wrong)
        case v1.BGPPeer():
            return _peer(old, wrong)
        case v1.Node():
            return _node(old, wrong)
        case _:
            raise TypeError(f"{type(old).__name__} is no old kind")


# --- names -------------------------------------------------------------------------------------------


def node_name(name: str) -> str:
    """A name in lower case, its other characters replaced by ``-`` and ``.``; two names may become one."""
    lower = _NOT_IN_NAMES.sub("-", name.lower().replace("/", "."))
    return _DOTS.sub(".", lower).strip(".-")


def _name(name: str, *, dots: bool = True) -> str:
    """The name, if it is one today; else what is left of it, and a hash that keeps different names apart."""
    new = node_name(name) if dots else node_name(name).replace(".", "-")
    if new == name:
        return name
    # SHA-1 is no secret here; it is what Calico's conversion computes.
    return f"{new}-{sha1(name.encode(), usedforsecurity=False).hexdigest()[:8]}"


def _profile_name(name: str) -> str:
    if name.startswith(OLD_NAMESPACE_PROFILE):
        name = NAMESPACE_PROFILE + name.removeprefix(OLD_NAMESPACE_PROFILE)
    return _name(name)


# --- policies ----------------------------------------------------------------------------------------


def _policy(old: v1.Policy, wrong: Findings) -> policy.GlobalNetworkPolicy:
    spec = old.spec
    tier = _name(old.metadata.tier, dots=False) or policy.DEFAULT_TIER
    types = []
    for index, word in enumerate(spec.types):
        if word.lower() in TYPES:
            types.append(TYPES[word.lower()])
        else:
            wrong.append(
                Finding(
                    ("spec", "types", index), f"{shown(word)} is no direction", nearest(word, list(TYPES))
                )
            )
    if not spec.types:
        types = ["Ingress"] if spec.ingress or not spec.egress else []
        types += ["Egress"] if spec.egress else []
    return policy.GlobalNetworkPolicy(
        metadata=Metadata(
            name=f"{tier}.{_name(old.metadata.name, dots=False)}",
            labels={policy.TIER_LABEL: tier},
            annotations=old.metadata.annotations,
        ),
        spec=policy.GlobalPolicySpec(
            tier=tier,
            order=spec.order,
            ingress=_rules(("spec", "ingress"), spec.ingress, wrong),
            egress=_rules(("spec", "egress"), spec.egress, wrong),
            selector=_selector(spec.selector),
            do_not_track=spec.do_not_track,
            pre_dnat=spec.pre_dnat,
            apply_on_forward=spec.apply_on_forward or spec.do_not_track or spec.pre_dnat,
            types=cast("list[policy.PolicyType]", types),
        ),
    )


def _profile(old: v1.Profile, wrong: Findings) -> policy.Profile:
    labels = dict(old.metadata.labels)
    for index, tag in enumerate(old.metadata.tags):
        if tag in old.metadata.labels:
            wrong.append(
                Finding(
                    ("metadata", "tags", index),
                    f"the tag {tag!r} is a label, too; tags are labels without a value today",
                    "rename the label, and where it is selected",
                )
            )
        labels[tag] = ""
    return policy.Profile(
        metadata=Metadata(name=_profile_name(old.metadata.name)),
        spec=policy.ProfileSpec(
            ingress=_rules(("spec", "ingress"), old.spec.ingress, wrong),
            egress=_rules(("spec", "egress"), old.spec.egress, wrong),
            labels_to_apply=labels,
        ),
    )


def _rules(path: Path, rules: Sequence[v1.Rule], wrong: Findings) -> list[policy.Rule]:
    return [_rule((*path, index), rule, wrong) for index, rule in enumerate(rules)]


def _rule(path: Path, rule: v1.Rule, wrong: Findings) -> policy.Rule:
    action = ACTIONS.get(rule.action.lower())
    if action is None:
        known = [word for word in ACTIONS if word]
        wrong.append(
            Finding((*path, "action"), f"{shown(rule.action)} is no action", nearest(rule.action, known))
        )
    return policy.Rule(
        action=cast("policy.Action", action or "Deny"),
        ip_version=rule.ip_version,
        protocol=_protocol(rule.protocol),
        not_protocol=_protocol(rule.not_protocol),
        icmp=rule.icmp,
        not_icmp=rule.not_icmp,
        source=_entity((*path, "source"), rule.source, wrong),
        destination=_entity((*path, "destination"), rule.destination, wrong),
    )


def _entity(path: Path, entity: v1.Entity, wrong: Findings) -> policy.EntityRule:
    return policy.EntityRule(
        nets=_nets(path, "nets", entity.nets, "net", entity.net, wrong),
        not_nets=_nets(path, "notNets", entity.not_nets, "notNet", entity.not_net, wrong),
        selector=_with_tag(_selector(entity.selector), entity.tag),
        not_selector=_with_tag(_selector(entity.not_selector), entity.not_tag),
        ports=entity.ports,
        not_ports=entity.not_ports,
    )


def _nets(path: Path, many: str, nets: Sequence[str], one: str, net: str, wrong: Findings) -> list[str]:
    """The prefixes of a list, and the single one after them; their addresses masked."""
    found = []
    places: list[tuple[Path, str]] = [((*path, many, index), each) for index, each in enumerate(nets)]
    for place, text in [*places, *([((*path, one), net)] if net else [])]:
        try:
            found.append(str(parse_cidr(text)))
        except AddressError as error:
            wrong.append(Finding(place, str(error), "write an address, or a prefix as in 10.0.0.0/8"))
    return found


def _selector(text: str) -> str:
    """The selector, with the label of the namespace as it is called today; what is in quotes stays."""
    return _OLD_LABEL.sub(
        lambda match: NAMESPACE_LABEL if match.group() == OLD_NAMESPACE_LABEL else match.group(), text
    )


def _with_tag(selector: str, tag: str) -> str:
    if not tag:
        return selector
    return f"({selector}) && {tag} == ''" if selector else f"{tag} == ''"


def _protocol(protocol: policy.Protocol | None) -> policy.Protocol | None:
    return PROTOCOLS.get(protocol.lower(), protocol) if isinstance(protocol, str) else protocol


# --- endpoints ---------------------------------------------------------------------------------------


def _host_endpoint(old: v1.HostEndpoint) -> endpoint.HostEndpoint:
    host = node_name(old.metadata.node)
    v4_first = sorted(old.spec.expected_ips, key=lambda address: ":" in address)
    return endpoint.HostEndpoint(
        metadata=Metadata(name=_name(f"{host}.{old.metadata.name}"), labels=old.metadata.labels),
        spec=endpoint.HostEndpointSpec(
            node=host,
            interface_name=old.spec.interface_name,
            expected_ips=v4_first,
            profiles=[_profile_name(name) for name in old.spec.profiles],
            ports=[
                endpoint.EndpointPort(name=port.name, protocol=_protocol(port.protocol) or "", port=port.port)
                for port in old.spec.ports
            ],
        ),
    )


def _workload_endpoint(old: v1.WorkloadEndpoint, wrong: Findings) -> endpoint.WorkloadEndpoint | None:
    namespace, pod, container, workload = "default", "", "", ""
    match old.metadata.orchestrator:
        case "k8s":
            namespace, dot, pod = old.metadata.workload.partition(".")
            container = old.metadata.active_instance_id
            if not dot:
                wrong.append(
                    Finding(
                        ("metadata", "workload"),
                        f"{shown(old.metadata.workload)} is no pod",
                        "workloads of Kubernetes are <namespace>.<pod>",
                    )
                )
        case "cni":
            container = old.metadata.workload
        case "libnetwork":
            workload = "libnetwork"
        case _:
            workload = _name(old.metadata.workload)
    labels = dict(old.metadata.labels)
    if OLD_NAMESPACE_LABEL in labels:
        labels[NAMESPACE_LABEL] = labels.pop(OLD_NAMESPACE_LABEL)
    spec = endpoint.WorkloadEndpointSpec(
        orchestrator=_name(old.metadata.orchestrator),
        workload=workload,
        node=node_name(old.metadata.node),
        container_id=container,
        pod=pod,
        endpoint=_name(old.metadata.name),
        ip_networks=_nets(("spec",), "ipNetworks", old.spec.ip_networks, "", "", wrong),
        ip_nats=[
            endpoint.IPNAT(internal_ip=nat.internal_ip, external_ip=nat.external_ip)
            for nat in old.spec.ip_nats
        ],
        ipv4_gateway=old.spec.ipv4_gateway,
        ipv6_gateway=old.spec.ipv6_gateway,
        profiles=[_profile_name(name) for name in old.spec.profiles],
        interface_name=old.spec.interface_name,
        mac=old.spec.mac,
        ports=[
            endpoint.WorkloadPort(name=port.name, protocol=_protocol(port.protocol) or "", port=port.port)
            for port in old.spec.ports
        ],
    )
    if wrong:
        return None
    try:
        name = EndpointName.of(spec).text()
    except BadName as error:
        wrong.append(Finding(("metadata",), f"no name can be made of it: {error}", "complete it"))
        return None
    return endpoint.WorkloadEndpoint(
        metadata=Metadata(name=name, namespace=namespace, labels=labels), spec=spec
    )


# --- addresses, routing, hosts -----------------------------------------------------------------------


def _pool(old: v1.IPPool, wrong: Findings) -> pool.IPPool | None:
    try:
        cidr = parse_cidr(old.metadata.cidr)
    except AddressError as error:
        wrong.append(Finding(("metadata", "cidr"), str(error), "write a prefix as in 10.0.0.0/16"))
        return None
    ipip = old.spec.ipip or v1.IPIP()
    mode: pool.Encapsulation = "Never"
    if ipip.enabled:
        mode = "CrossSubnet" if ipip.mode.lower() == "cross-subnet" else "Always"
    return pool.IPPool(
        metadata=Metadata(name=cidr_word(cidr)),
        spec=pool.IPPoolSpec(
            cidr=str(cidr),
            ipip_mode=mode,
            vxlan_mode="Never",
            nat_outgoing=old.spec.nat_outgoing,
            disabled=old.spec.disabled,
            node_selector="all()",
            allowed_uses=["Workload", "Tunnel"],
            block_size=DEFAULT_BLOCKS[cidr.family],
            assignment_mode=old.spec.assignment_mode,
        ),
    )


def _peer(old: v1.BGPPeer, wrong: Findings) -> bgp.BGPPeer | None:
    metadata = old.metadata
    match metadata.scope, bool(metadata.node):
        case ("global", False) | ("node", True):
            pass
        case "global", _:
            wrong.append(
                Finding(("metadata", "node"), "a global peer is of no node", "remove it, or set scope: node")
            )
        case "node", _:
            wrong.append(
                Finding(("metadata", "node"), "a peer of a node needs one", "add it, or set scope: global")
            )
        case scope, _:
            wrong.append(
                Finding(
                    ("metadata", "scope"), f"{shown(scope)} is no scope", nearest(scope, ["global", "node"])
                )
            )
    try:
        address = parse_address(metadata.peer_ip)
    except AddressError as error:
        wrong.append(Finding(("metadata", "peerIP"), str(error), "write an address as in 10.0.0.1"))
        return None
    whole = address.address if address.family == 4 else IPv6Address(address.value).exploded
    word = whole.replace(".", "-").replace(":", "-")
    host = node_name(metadata.node)
    return bgp.BGPPeer(
        metadata=Metadata(name=f"{host}.{word}" if host else word),
        spec=bgp.BGPPeerSpec(peer_ip=address.address, as_number=old.spec.as_number, node=host),
    )


def _node(old: v1.Node, wrong: Findings) -> node.Node:
    speaker = None
    if old.spec.bgp is not None:
        speaker = node.NodeBGP(
            as_number=old.spec.bgp.as_number,
            ipv4_address=old.spec.bgp.ipv4_address,
            ipv6_address=old.spec.bgp.ipv6_address,
        )
        if not (speaker.ipv4_address or speaker.ipv6_address):
            wrong.append(Finding(("spec", "bgp"), "it has no address", "add ipv4Address or ipv6Address"))
    return node.Node(
        metadata=Metadata(name=node_name(old.metadata.name)),
        spec=node.NodeSpec(bgp=speaker, orch_refs=old.spec.orch_refs),
    )
