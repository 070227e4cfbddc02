"""Kubernetes' NetworkPolicy as Calico's (behaviour reference 3.8).

In:   an object of kind NetworkPolicy, networking.k8s.io/v1.
Out:  a policy ``knp.default.<name>`` in the default tier, of the same meaning; and the rules that have none.
Next: ``model.kubernetes`` offers this beside the other kinds.

Missing information falls to the closed side: a rule that can not be converted is left out and the policy
still isolates; a policy whose pods can not be told isolates its whole namespace and allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from calico.model.address import AddressError, parse_cidr
from calico.model.errors import ModelError
from calico.model.kubernetes_object import (
    Conversion,
    Object,
    Origin,
    Unconvertible,
    at,
    items,
    only,
    part,
    text,
)
from calico.model.kubernetes_selector import namespaces, pods
from calico.model.numbers import PortRange, parse_port
from calico.model.policy import EntityRule, NetworkPolicy, PolicySpec, PolicyType, Port, Rule
from calico.model.schema import nearest, shown

POLICY_PREFIX: Final = "knp.default."
POLICY_ORDER: Final = 1000.0

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TYPES: Final[tuple[PolicyType, ...]] = ("Ingress", "Egress")


def network_policy(document: Object) -> Conversion:
    """A network policy becomes policy ``knp.default.<name>`` of the same namespace, at order 1000."""
    origin = Origin.of(document)
    selector, types, ingress, egress = pods({}, "podSelector"), [*_TYPES], list[Rule](), list[Rule]()
    try:
        spec = part(origin.body, "spec")
        with at("spec"):
            selector = pods(spec, "podSelector")
    except Unconvertible as error:
        origin.report(error, consequence="every pod of the namespace is isolated")
    else:
        try:
            only(spec, "podSelector", "ingress", "egress", "policyTypes")
        except Unconvertible as error:
            origin.report(error, "spec", consequence="it is passed over")
        types = _types(origin, spec)
        ingress = [*_rules(origin, spec, "ingress", "from")]
        egress = [*_rules(origin, spec, "egress", "to")]
    return origin.became(
        NetworkPolicy(
            metadata=origin.metadata(POLICY_PREFIX + origin.name, origin.namespace),
            spec=PolicySpec(
                order=POLICY_ORDER, selector=selector, types=types, ingress=ingress, egress=egress
            ),
        )
    )


def _types(origin: Origin, spec: Object) -> list[PolicyType]:
    """The directions that are isolated; both if that can not be told."""
    listed = spec.get("policyTypes") or (_TYPES if spec.get("egress") else ("Ingress",))
    unknown = (
        [each for each in listed if each not in _TYPES] if isinstance(listed, list | tuple) else [listed]
    )
    if unknown:
        wrong = Unconvertible(f"there is no policy type {shown(unknown[0])}", "write Ingress, Egress or both")
        origin.report(wrong, "spec", "policyTypes", consequence="both are isolated")
        return [*_TYPES]
    return [each for each in _TYPES if each in listed]


def _rules(origin: Origin, spec: Object, direction: str, side: str) -> Iterator[Rule]:
    listed = spec.get(direction, [])
    for index, rule in enumerate(listed if isinstance(listed, list) else [listed]):
        try:
            yield from [*_rule(only(rule, side, "ports"), side)]  # all of it or nothing
        except Unconvertible as error:
            origin.report(error, "spec", direction, index, consequence="the rule allows nothing")


def _rule(rule: Object, side: str) -> Iterator[Rule]:
    """One rule for each protocol and peer; no peers: any address, no ports: any protocol."""
    peers = []
    for index, peer in enumerate(items(rule, side)):
        with at(side, index):
            peers.append(_peer(only(peer, "podSelector", "namespaceSelector", "ipBlock")))
    for protocol, ports in _ports(rule).items():
        for far in peers or [{}]:
            if side == "from":
                yield Rule(
                    action="Allow",
                    protocol=protocol,
                    source=EntityRule(**far),
                    destination=EntityRule(ports=ports),
                )
            else:
                yield Rule(action="Allow", protocol=protocol, destination=EntityRule(**far, ports=ports))


def _peer(peer: Object) -> dict[str, Any]:
    """The fields of the entity that a peer is: a block of addresses, or pods by label, of namespaces by label."""
    if "ipBlock" in peer:
        if len(peer) > 1:
            raise Unconvertible("a peer is a block of addresses or pods, not both", "write two peers")
        with at("ipBlock"):
            return _block(only(peer["ipBlock"], "cidr", "except"))
    if not {"podSelector", "namespaceSelector"} & set(peer):
        raise Unconvertible("the peer says nothing", "write podSelector, namespaceSelector or ipBlock")
    entity = {"selector": pods(peer, "podSelector")}
    if "namespaceSelector" in peer:
        entity["namespace_selector"] = namespaces(peer, "namespaceSelector")
    return entity


def _block(block: Object) -> dict[str, Any]:
    with at("cidr"):
        cidr = _cidr(text(block, "cidr"))
    return {"nets": [cidr], "not_nets": cidrs(block, "except")}


def cidrs(tree: Object, name: str) -> list[str]:
    """A field that lists prefixes, empty if it is not there."""
    found = []
    for index, each in enumerate(items(tree, name)):
        with at(name, index):
            found.append(_cidr(str(each)))
    return found


def _cidr(value: str) -> str:
    try:
        return str(parse_cidr(value))
    except AddressError as error:
        raise Unconvertible(str(error), "write a prefix such as 10.0.0.0/16") from error


# --- ports -------------------------------------------------------------------------------------------


def _ports(rule: Object) -> dict[str | None, list[Port]]:
    return by_protocol([*_named(rule)])


def _named(rule: Object) -> Iterator[tuple[str, PortRange | str | None]]:
    """Each port of a rule with its protocol."""
    for index, each in enumerate(items(rule, "ports")):
        with at("ports", index):
            port = only(each, "protocol", "port", "endPort")
            protocol = text(port, "protocol") or "TCP"
            if protocol not in PROTOCOLS:
                raise Unconvertible(
                    f"{protocol!r} has no ports", nearest(protocol, [*PROTOCOLS]), ("protocol",)
                )
            yield protocol, _port(port)


def by_protocol(
    ports: Sequence[tuple[str, PortRange | str | None]],
) -> dict[str | None, list[Port]]:
    """Ports by protocol, in order of appearance; an empty list: all ports. No ports at all: any protocol.

    None stands for all ports of its protocol. Ranges are in order, and those that touch or overlap are merged.
    """
    if not ports:
        return {None: []}
    found: dict[str | None, list[Port]] = {}
    for protocol in dict.fromkeys(protocol for protocol, _ in ports):
        mine = dict.fromkeys(port for other, port in ports if other == protocol)
        ranges = [port for port in mine if isinstance(port, PortRange)]
        names = [port for port in mine if isinstance(port, str)]
        found[protocol] = [] if None in mine else [*_written(ranges), *names]
    return found


def _port(port: Object) -> PortRange | str | None:
    value, last = port.get("port"), port.get("endPort")
    if value is None and last is None:
        return None
    if not isinstance(value, int | str) or isinstance(value, bool) or ":" in str(value):
        raise Unconvertible(f"{shown(value)} is no port", "write a number or a name", ("port",))
    if last is not None and not (isinstance(value, int) and isinstance(last, int)):
        raise Unconvertible("a range does not have a number at both ends", "write numbers", ("endPort",))
    try:
        return parse_port(value if last is None else f"{value}:{last}")
    except ModelError as error:
        message, _, remedy = str(error).partition("; ")
        raise Unconvertible(message, remedy, ("port",)) from error


def _written(ranges: list[PortRange]) -> Iterator[Port]:
    merged: list[PortRange] = []
    for each in sorted(ranges):
        if merged and each.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, each.last))
        else:
            merged.append(each)
    for first, last in merged:
        yield first if first == last else f"{first}:{last}"
