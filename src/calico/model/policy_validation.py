"""What is wrong with policies, tiers and profiles, and with their rules (behaviour reference 1.1 to 1.4, 1.7).

In:   one policy, tier or profile, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings of the whole resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from calico.model import checks
from calico.model.address import AddressError, parse_cidr
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.numbers import (
    ICMP,
    ICMPV6,
    TCP,
    WITH_PORTS,
    PortRange,
    parse_port,
    protocol_number,
)
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW_PROFILE,
    DEFAULT_TIER,
    EntityRule,
    GlobalPolicySpec,
    HTTPMatch,
    PolicySpec,
    Profile,
    Rule,
    Tier,
    TieredPolicy,
)

RULES: Final = 1024
NETS: Final = 256
PORTS: Final = 50
HTTP_ITEMS: Final = 20
HTTP_PATH_LENGTH: Final = 1024

_POLICY_NAME: Final = re.compile(
    r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)?"
)
_FOREIGN_POLICIES: Final = ("knp.default.", "ossg.default.")
"""Policies made of those of an orchestrator: their names hold its names, dots included."""


def policy_name(name: str, *, namespaced: bool) -> Findings:
    """The name of a policy: one DNS label, or two, or the reserved forms of policies of a namespace."""
    path: Path = ("metadata", "name")
    for prefix in _FOREIGN_POLICIES:
        if namespaced and name.startswith(prefix):
            yield from checks.dns_subdomain(path, name.removeprefix(prefix))
            return
    if _POLICY_NAME.fullmatch(name) is None:
        yield Finding(
            path,
            f"{name!r} is no name of a policy",
            "write one DNS label (up to 63 lower-case letters, digits and '-'), or two with a dot between: tier.name",
        )


def policy(resource: TieredPolicy) -> Findings:
    """A policy, of a namespace or of all, enforced or staged."""
    path: Path = ("spec",)
    spec: PolicySpec = resource.spec
    yield from checks.dns_label((*path, "tier"), spec.tier)
    yield from checks.selector((*path, "selector"), spec.selector)
    yield from checks.selector((*path, "serviceAccountSelector"), spec.service_account_selector)
    if len(set(spec.types)) != len(spec.types):
        yield Finding((*path, "types"), "a type is listed twice", "name each once")
    for index, hint in enumerate(spec.performance_hints):
        yield from checks.one_of((*path, "performanceHints", index), hint, ("AssumeNeededOnEveryNode",))
    if isinstance(spec, GlobalPolicySpec):
        yield from _global(path, spec)
    for which, listed in (("ingress", spec.ingress), ("egress", spec.egress)):
        yield from _rules((*path, which), which, listed, namespaced=resource.NAMESPACED)


def _global(path: Path, spec: GlobalPolicySpec) -> Findings:
    yield from checks.selector((*path, "namespaceSelector"), spec.namespace_selector)
    if spec.do_not_track and spec.pre_dnat:
        yield Finding((*path, "preDNAT"), "preDNAT and doNotTrack exclude each other", "write two policies")
    for field, chosen in (("doNotTrack", spec.do_not_track), ("preDNAT", spec.pre_dnat)):
        if chosen and not spec.apply_on_forward:
            yield Finding(
                (*path, "applyOnForward"),
                f"a policy with {field} also applies to forwarded traffic",
                "set it to true",
            )
    if spec.pre_dnat and spec.egress:
        yield Finding(
            (*path, "egress"), "a policy with preDNAT has no egress rules", "move them to another policy"
        )
    if spec.pre_dnat and "Egress" in spec.types:
        yield Finding(
            (*path, "types"), "a policy with preDNAT is for ingress alone", "write types: [Ingress]"
        )


def tier(resource: Tier) -> Findings:
    """A tier; those that every cluster has keep their place."""
    built_in = BUILT_IN_TIERS.get(resource.metadata.name)
    if built_in is None:
        return
    order, action = built_in
    if resource.spec.order not in {None, order}:
        yield Finding(
            ("spec", "order"),
            f"tier {resource.metadata.name} has order {order:.0f}",
            "write that, or nothing",
        )
    if resource.metadata.name != DEFAULT_TIER and resource.spec.default_action not in {None, action}:
        yield Finding(
            ("spec", "defaultAction"),
            f"tier {resource.metadata.name} ends with {action}",
            "write that, or nothing",
        )


def profile(resource: Profile) -> Findings:
    """A profile; the one that allows everything is built in and can not be written."""
    if resource.metadata.name == DEFAULT_ALLOW_PROFILE:
        yield Finding(
            ("metadata", "name"), f"profile {DEFAULT_ALLOW_PROFILE} is built in", "choose another name"
        )
    for key, value in resource.spec.labels_to_apply.items():
        own = key.removeprefix("pcns.").removeprefix(
            "pcsa."
        )  # what the system puts before it may make it too long
        for finding in checks.labels((), {own: value}):
            yield finding._replace(path=("spec", "labelsToApply", key))
    for which, listed in (("ingress", resource.spec.ingress), ("egress", resource.spec.egress)):
        yield from _rules(("spec", which), which, listed, namespaced=False)


def _rules(path: Path, which: str, listed: list[Rule], *, namespaced: bool) -> Findings:
    yield from checks.at_most(path, listed, RULES, "rules")
    for index, rule in enumerate(listed):
        yield from _rule((*path, index), which, rule, namespaced=namespaced)


def _rule(path: Path, which: str, rule: Rule, *, namespaced: bool) -> Findings:
    if rule.ip_version not in {None, 4, 6}:
        yield Finding((*path, "ipVersion"), f"{rule.ip_version} is no IP version", "write 4 or 6")
    for field, protocol in (("protocol", rule.protocol), ("notProtocol", rule.not_protocol)):
        if protocol is not None:
            yield from checks.readable((*path, field), protocol_number, protocol)
            yield from _family_of_icmp((*path, field), protocol, rule.ip_version)
    yield from _icmp(path, rule)
    yield from _families(path, rule)
    if rule.http is not None:
        yield from _http((*path, "http"), which, rule, rule.http)
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        yield from _entity((*path, side), entity)
        yield from _ports((*path, side), entity, rule.protocol)
        if entity.services is not None:
            served = (which, side) in {("ingress", "source"), ("egress", "destination")}
            yield from _services((*path, side), entity, served=served, namespaced=namespaced)


def _number(protocol: int | str | None) -> int | None:
    """The protocol's number; None also where it has none, which is reported elsewhere."""
    try:
        return None if protocol is None else protocol_number(protocol)
    except ModelError:
        return None


def _family_of_icmp(path: Path, protocol: int | str, version: int | None) -> Findings:
    expected = {ICMP: 4, ICMPV6: 6}.get(_number(protocol) or 0)
    if expected and version not in {None, expected}:
        yield Finding(
            path,
            f"{protocol} is a protocol of IPv{expected}, and ipVersion is {version}",
            "make the two agree",
        )


def _icmp(path: Path, rule: Rule) -> Findings:
    for field, icmp in (("icmp", rule.icmp), ("notICMP", rule.not_icmp)):
        if icmp is None:
            continue
        yield from checks.within((*path, field, "type"), icmp.type, 0, 254)
        yield from checks.within((*path, field, "code"), icmp.code, 0, 255)
        if icmp.code is not None and icmp.type is None:
            yield Finding((*path, field, "code"), "a code has no meaning without a type", "add the type")
    if rule.icmp is not None and _number(rule.protocol) not in {ICMP, ICMPV6}:
        yield Finding(
            (*path, "icmp"), "an ICMP match needs an ICMP protocol", "add protocol: ICMP, or ICMPv6 for IPv6"
        )


def _families(path: Path, rule: Rule) -> Findings:
    """All prefixes of a rule are of one family: that of ``ipVersion`` and of the protocol, if these say one."""
    wanted: int | None = rule.ip_version if rule.ip_version in {4, 6} else None
    reason = f"ipVersion is {wanted}"
    if wanted is None:
        wanted = {ICMP: 4, ICMPV6: 6}.get(_number(rule.protocol) or 0)
        reason = f"protocol is {rule.protocol}"
    for where, text in _nets(path, rule):
        try:
            family = parse_cidr(text).family
        except AddressError:
            continue  # reported with its entity
        if wanted is None:
            wanted, reason = family, f"another prefix of the rule is IPv{family}"
        if family != wanted:
            yield Finding(
                where, f"{text!r} is IPv{family}, and {reason}", "write one rule for each IP version"
            )


def _nets(path: Path, rule: Rule) -> Iterator[tuple[Path, str]]:
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        for field, nets in (("nets", entity.nets), ("notNets", entity.not_nets)):
            for index, text in enumerate(nets):
                yield (*path, side, field, index), text


def _entity(path: Path, entity: EntityRule) -> Findings:
    yield from checks.selector((*path, "selector"), entity.selector)
    yield from checks.selector((*path, "notSelector"), entity.not_selector)
    yield from checks.selector((*path, "namespaceSelector"), entity.namespace_selector, may_be_global=True)
    for field, nets in (("nets", entity.nets), ("notNets", entity.not_nets)):
        yield from checks.at_most((*path, field), nets, NETS, "prefixes")
        for index, text in enumerate(nets):
            yield from checks.prefix((*path, field, index), text)
            if field == "notNets" and text.endswith("/0"):
                yield Finding(
                    (*path, field, index),
                    f"{text!r} excludes every address, so the rule can never match",
                    "remove it, or name a longer prefix",
                )
    if entity.service_accounts is not None:
        where = (*path, "serviceAccounts")
        yield from checks.selector((*where, "selector"), entity.service_accounts.selector)
        for index, name in enumerate(entity.service_accounts.names):
            yield from checks.dns_subdomain((*where, "names", index), name)


def _ports(path: Path, entity: EntityRule, protocol: int | str | None) -> Findings:
    number = _number(protocol)
    for field, ports in (("ports", entity.ports), ("notPorts", entity.not_ports)):
        yield from checks.at_most((*path, field), ports, PORTS, "ports")
        for index, port in enumerate(ports):
            yield from checks.readable((*path, field, index), parse_port, port)
        if not ports:
            continue
        if protocol is None and any(_is_numeric(port) for port in ports):
            yield Finding(
                (*path, field),
                "ports by number need a protocol",
                "add protocol: TCP, UDP or SCTP to the rule",
            )
        elif number is not None and number not in WITH_PORTS:
            yield Finding(
                (*path, field),
                f"protocol {protocol} has no ports",
                "remove them, or make it TCP, UDP or SCTP",
            )


def _is_numeric(port: int | str) -> bool:
    try:
        return isinstance(parse_port(port), PortRange)
    except ModelError:
        return False


def _services(path: Path, entity: EntityRule, *, served: bool, namespaced: bool) -> Findings:
    where = (*path, "services")
    services = entity.services
    assert services is not None
    if not served:
        yield Finding(
            where,
            "services can not be matched here",
            "they go into the source of ingress rules and the destination of egress rules",
        )
    if not services.name:
        yield Finding((*where, "name"), "a service needs a name", "add it")
    if not services.namespace and not namespaced:
        yield Finding(
            (*where, "namespace"), "a service of a policy without a namespace needs one", "add the service's"
        )
    others: dict[str, object] = {
        "selector": entity.selector,
        "notSelector": entity.not_selector,
        "namespaceSelector": entity.namespace_selector,
        "nets": entity.nets,
        "notNets": entity.not_nets,
        "serviceAccounts": entity.service_accounts,
    }
    if path[-1] == "destination":
        others |= {"ports": entity.ports, "notPorts": entity.not_ports}
    for field, value in others.items():
        if value:
            yield Finding(
                (*path, field), f"{field} can not stand beside services", "write two rules, or remove it"
            )


def _http(path: Path, which: str, rule: Rule, http: HTTPMatch) -> Findings:
    if rule.action != "Allow":
        yield Finding(
            path, f"HTTP can not be matched by a rule that says {rule.action}", "only Allow rules match it"
        )
    if which != "ingress":
        yield Finding(path, "HTTP can not be matched by an egress rule", "only ingress rules match it")
    if rule.protocol is not None and _number(rule.protocol) not in {None, TCP}:
        yield Finding(
            path, f"HTTP does not run over protocol {rule.protocol}", "make the protocol TCP, or leave it out"
        )
    yield from checks.at_most((*path, "methods"), http.methods, HTTP_ITEMS, "methods")
    if len(set(http.methods)) != len(http.methods):
        yield Finding((*path, "methods"), "a method is listed twice", "name each once")
    yield from checks.at_most((*path, "paths"), http.paths, HTTP_ITEMS, "paths")
    for index, each in enumerate(http.paths):
        where = (*path, "paths", index)
        if bool(each.exact) == bool(each.prefix):
            yield Finding(where, "a path needs exactly one of exact and prefix", "write one of them")
            continue
        field, text = ("exact", each.exact) if each.exact else ("prefix", each.prefix)
        if not text.startswith("/") or len(text) > HTTP_PATH_LENGTH or set("? #") & set(text):
            yield Finding(
                (*where, field),
                f"{text!r} is no path of a URL",
                f"begin with '/', leave out '?', '#' and blanks, and write at most {HTTP_PATH_LENGTH} characters",
            )
