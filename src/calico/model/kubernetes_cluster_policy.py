"""Kubernetes' ClusterNetworkPolicy as Calico's GlobalNetworkPolicy (behaviour reference 3.9).

In:   an object of kind ClusterNetworkPolicy, policy.networking.k8s.io/v1alpha2.
Out:  a policy ``kcnp.<tier>.<name>`` in tier kube-admin or kube-baseline, of the same meaning; none without rules.
Next: ``model.kubernetes`` offers this beside the other kinds.

Missing information falls to the closed side: an Accept that can not be converted is left out, a Deny or a Pass
becomes a deny of everything, and so does a rule whose action can not be told. Where it can not be told whom the
policy is for, or where it stands, all its rules are such rules, for every pod and before all other policies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeGuard, TypeVar

from calico.model.kubernetes_object import (
    Conversion,
    Object,
    Origin,
    Unconvertible,
    Unsupported,
    at,
    items,
    mapping,
    only,
    part,
    text,
)
from calico.model.kubernetes_policy import PROTOCOLS, by_protocol, cidrs
from calico.model.kubernetes_selector import namespaces, pods
from calico.model.numbers import MAX_PORT, PortRange
from calico.model.policy import (
    Action,
    EntityRule,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    PolicyType,
    Rule,
    RuleMetadata,
)
from calico.model.schema import nearest, shown

T = TypeVar("T")

TIERS: Final = {"Admin": "kube-admin", "Baseline": "kube-baseline"}
ACTIONS: Final[dict[str, Action]] = {"Accept": "Allow", "Deny": "Deny", "Pass": "Pass"}
PREFIX: Final = "kcnp."
LAST_PRIORITY: Final = 1000
FIRST: Final = -1.0
"""The order of a policy whose place can not be told: before all priorities, which begin at 0."""
NAME_ANNOTATION: Final = "name"

_PEERS: Final = {
    "from": ("namespaces", "pods"),
    "to": ("namespaces", "pods", "networks", "nodes", "domainNames"),
}
_UNSUPPORTED: Final = {"nodes": "select their addresses by networks", "domainNames": "write networks"}
_EVERY_POD: Final[Object] = {"namespaces": {}}


def cluster_network_policy(document: Object) -> Conversion:
    """A cluster-wide policy of Kubernetes becomes a global one in the tier of its own tier, at its priority."""
    origin = Origin.of(document)
    spec = _read(origin, lambda: part(origin.body, "spec"))
    if spec is None:
        spec = {"ingress": None, "egress": None}
        tier = order = whom = None
    else:
        tier = _read(origin, lambda: _tier(spec), "spec")
        order = _read(origin, lambda: _priority(spec), "spec")
        whom = _read(origin, lambda: _subject(spec), "spec")
    known = None not in {tier, order} and whom is not None
    tier = TIERS["Admin"] if tier is None else tier
    ingress = [*_rules(origin, spec, "ingress", "from", known=known)]
    egress = [*_rules(origin, spec, "egress", "to", known=known)]
    types: list[PolicyType] = ["Ingress"] if ingress else []
    if egress:
        types.append("Egress")
    if not types:
        return origin.became()
    return origin.became(
        GlobalNetworkPolicy(
            metadata=origin.metadata(f"{PREFIX}{tier}.{origin.name}"),
            spec=GlobalPolicySpec(
                tier=tier,
                order=FIRST if order is None or not known else order,
                types=types,
                **(_pods(_EVERY_POD) if whom is None else whom),
                ingress=ingress,
                egress=egress,
            ),
        )
    )


def _read(origin: Origin, read: Callable[[], T], *path: str) -> T | None:
    """A part of what the whole policy hangs on; None, and a problem, where it can not be read."""
    try:
        return read()
    except Unconvertible as error:
        consequence = "its rules other than Accept deny everything, and those allow nothing"
        origin.report(error, *path, consequence=consequence)
        return None


def _tier(spec: Object) -> str:
    word = text(spec, "tier")
    if word not in TIERS:
        raise Unconvertible(f"there is no tier {shown(word)}", nearest(word, [*TIERS]), ("tier",))
    return TIERS[word]


def _priority(spec: Object) -> float:
    priority = spec.get("priority")
    if not _is_number(priority) or not 0 <= priority <= LAST_PRIORITY:
        raise Unconvertible(f"{shown(priority)} is no priority", f"write 0 to {LAST_PRIORITY}", ("priority",))
    return float(priority)


def _subject(spec: Object) -> dict[str, Any]:
    with at("subject"):
        subject = mapping(spec.get("subject", {}))
        _only_one(subject, _PEERS["from"])
        return _pods(subject)


def _pods(tree: Object) -> dict[str, Any]:
    """The selectors of the pods of some namespaces, all of them or some."""
    if "pods" not in tree:
        return {"selector": pods({}, ""), "namespace_selector": namespaces(tree, "namespaces")}
    with at("pods"):
        both = only(tree["pods"], "podSelector", "namespaceSelector")
        return {
            "selector": pods(both, "podSelector"),
            "namespace_selector": namespaces(both, "namespaceSelector"),
        }


def _only_one(tree: Object, allowed: tuple[str, ...]) -> str:
    """The only field of ``tree``, which must be one of those that are allowed."""
    for name in tree:
        if name not in allowed:
            raise Unconvertible(f"there is no field {name!r}", nearest(str(name), [*allowed]), (name,))
    if len(tree) != 1:
        what = f"{' and '.join(tree)} exclude each other" if tree else "nothing is said"
        raise Unconvertible(what, f"write one of {', '.join(allowed)}")
    return next(iter(tree))


# --- rules -------------------------------------------------------------------------------------------


def _rules(origin: Origin, spec: Object, direction: str, side: str, *, known: bool) -> Iterator[Rule]:
    """The rules of a direction; of those that can not be converted, or where nobody knows for whom, a deny remains."""
    listed = spec.get(direction, [])
    for index, rule in enumerate(listed if isinstance(listed, list) else [listed]):
        accepts = isinstance(rule, dict) and rule.get("action") == "Accept"
        if known:
            try:
                yield from [
                    *_rule(only(rule, "action", "name", side, "protocols"), side)
                ]  # all of it or nothing
            except Unconvertible as error:
                consequence = "the rule allows nothing" if accepts else "it denies everything"
                origin.report(error, "spec", direction, index, consequence=consequence)
            else:
                continue
        if not accepts:
            yield Rule(action="Deny")


def _rule(rule: Object, side: str) -> Iterator[Rule]:
    """One rule for each protocol and peer."""
    action, name = text(rule, "action"), text(rule, "name")
    if action not in ACTIONS:
        raise Unconvertible(f"there is no action {shown(action)}", nearest(action, [*ACTIONS]), ("action",))
    peers: list[dict[str, Any]] = []
    for index, each in enumerate(items(rule, side)):
        with at(side, index):
            peers += _peer(mapping(each), side)
    if not peers:
        raise Unconvertible("the rule is about nobody", "write at least one peer", (side,))
    named = any("destinationNamedPort" in mapping(each) for each in items(rule, "protocols"))
    if named and any("nets" in peer for peer in peers):
        raise Unconvertible("networks have no ports with names", "write the port's number", ("protocols",))
    for protocol, ports in by_protocol([*_ports(rule)]).items():
        for far in peers:
            near = EntityRule(ports=ports) if side == "from" else EntityRule(**far, ports=ports)
            yield Rule(
                action=ACTIONS[action],
                protocol=protocol,
                source=EntityRule(**far) if side == "from" else EntityRule(),
                destination=near,
                metadata=RuleMetadata(annotations={NAME_ANNOTATION: name}) if name else None,
            )


def _peer(peer: Object, side: str) -> list[dict[str, Any]]:
    """The fields of the entities that a peer is: pods of namespaces, or blocks of addresses, by family."""
    field = _only_one(peer, _PEERS[side])
    if field in _UNSUPPORTED:
        raise Unsupported(f"peers by {field} are not supported", _UNSUPPORTED[field], (field,))
    if field != "networks":
        return [_pods(peer)]
    nets = cidrs(peer, field)
    if not nets:
        raise Unconvertible("no network is listed", "write at least one", (field,))
    families = ([net for net in nets if ":" not in net], [net for net in nets if ":" in net])
    return [{"nets": mine} for mine in families if mine]


def _ports(rule: Object) -> Iterator[tuple[str, PortRange | str | None]]:
    """Each port of a rule with its protocol; a port with a name may be of any of them."""
    fields = (*map(str.lower, PROTOCOLS), "destinationNamedPort")
    for index, each in enumerate(items(rule, "protocols")):
        with at("protocols", index):
            protocol = mapping(each)
            field = _only_one(protocol, fields)
            if field == "destinationNamedPort":
                for word in PROTOCOLS:
                    yield word, text(protocol, field)
            else:
                with at(field):
                    yield field.upper(), _port(mapping(protocol[field]))


def _port(protocol: Object) -> PortRange | None:
    """The ports of one protocol; None: all of them."""
    for name in protocol:
        if name != "destinationPort":
            raise Unconvertible(f"there is no field {name!r}", "write destinationPort", (name,))
    if not protocol:
        return None
    with at("destinationPort"):
        port = mapping(protocol["destinationPort"])
        if _only_one(port, ("number", "range")) == "number":
            first = last = port["number"]
        else:
            with at("range"):
                ends = mapping(port["range"])
            first, last = ends.get("start"), ends.get("end")
        if not (_is_number(first) and _is_number(last) and 1 <= first <= last <= MAX_PORT):
            said = shown(first) if first == last else f"{shown(first)} to {shown(last)}"
            raise Unconvertible(f"{said} is no port", f"write numbers from 1 to {MAX_PORT}, the lower first")
        return PortRange(first, last)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
