"""Which packets a rule matches (behaviour reference 3.4, 3.5)."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model.policy import ICMP, EntityRule, HTTPMatch, Rule, ServiceMatch
from calico.model.resource import Resource
from support.analysis import judged
from support.builders import elsewhere, endpoint, network_set, policy, rule, side

DB = endpoint("db", address=["10.0.0.1", "fd00::1"], labels={"role": "db"})
WEB = endpoint(
    "web",
    elsewhere,
    address=["10.0.0.7", "fd00::7"],
    labels={"app": "web"},
    ports=[("http", "TCP", 8080), ("http", "UDP", 9090), ("dns", "UDP", 53)],
)
FAR = endpoint("web", elsewhere, namespace="other", address="10.0.0.8", labels={"app": "web"})


def matches(
    allow: Rule,
    *others: Resource,
    direction: str = "ingress",
    namespace: str | None = "default",
    **flow: Any,
) -> bool:
    """Whether a rule that allows, of a policy in ``namespace``, is the one that decides on a flow of "db"."""
    way = {direction: [allow]}
    only = policy("p", namespace=namespace, selector="role == 'db'", types=[direction.capitalize()], **way)
    return judged(only, DB, *others, direction=direction, **flow).allowed


def test_a_rule_without_conditions_matches_everything() -> None:
    """Any protocol, port and family."""
    for protocol in ("TCP", "udp", "ICMP", "SCTP", 1, 47, "253"):
        for version in (4, 6):
            assert matches(rule(), protocol=protocol, version=version, port=80, icmp_type=8)


@pytest.mark.parametrize(
    ("fields", "tcp", "udp", "icmp"),
    [
        ({"protocol": "TCP"}, True, False, False),
        ({"protocol": 6}, True, False, False),
        ({"not_protocol": "TCP"}, False, True, True),
        ({"not_protocol": 17}, True, False, True),
        ({"protocol": "TCP", "not_protocol": "TCP"}, False, False, False),
    ],
)
def test_protocols(fields: dict[str, Any], *, tcp: bool, udp: bool, icmp: bool) -> None:
    """``protocol`` and ``notProtocol``, by name or number, ANDed."""
    for protocol, expected in (("TCP", tcp), ("UDP", udp), ("ICMP", icmp)):
        assert matches(rule(**fields), protocol=protocol) == expected


@pytest.mark.parametrize("version", [4, 6])
def test_ip_version(version: int) -> None:
    """A rule for one family matches no packet of the other."""
    assert matches(rule(ip_version=version), version=version)
    assert not matches(rule(ip_version=version), version=10 - version)


@pytest.mark.parametrize(
    ("fields", "ping", "other_code", "reply", "unknown"),
    [
        ({"icmp": ICMP(type=8)}, True, True, False, False),
        ({"icmp": ICMP(type=8, code=0)}, True, False, False, False),
        ({"not_icmp": ICMP(type=8)}, False, False, True, True),
        ({"not_icmp": ICMP(type=8, code=0)}, False, True, True, True),
    ],
)
def test_icmp(fields: dict[str, Any], *, ping: bool, other_code: bool, reply: bool, unknown: bool) -> None:
    """A type alone matches any code; type and code are negated as a pair; an unknown type is no type."""
    for (type_, code), expected in (
        ((8, 0), ping),
        ((8, 3), other_code),
        ((0, 0), reply),
        ((None, None), unknown),
    ):
        asked = {"protocol": "ICMP", "icmp_type": type_, "icmp_code": code}
        assert matches(rule(protocol="ICMP", **fields), **asked) == expected


def test_icmp_belongs_to_a_family() -> None:
    """A rule for ICMP matches IPv4 packets only, one for ICMPv6 those of IPv6; the question's ICMP fits the ends."""
    v4, v6 = rule(protocol="ICMP", icmp=ICMP(type=8)), rule(protocol="ICMPv6", icmp=ICMP(type=128))

    assert matches(v4, protocol="icmp", icmp_type=8)
    assert matches(v6, protocol="icmp", icmp_type=128, version=6)
    assert matches(v6, protocol="ICMPv6", icmp_type=128, version=6)
    assert not matches(v4, protocol="icmp", icmp_type=8, version=6)
    assert not matches(v6, protocol=58, icmp_type=128)


def test_an_excluded_icmp_type_says_nothing_about_other_protocols() -> None:
    """``notICMP`` is true of every packet that is no ICMP."""
    assert matches(rule(not_icmp=ICMP(type=8)), protocol="TCP")
    assert not matches(rule(not_icmp=ICMP(type=8)), protocol="ICMP", icmp_type=8)


@pytest.mark.parametrize(
    ("ports", "matching"),
    [
        ({"ports": [80]}, {80}),
        ({"ports": ["79:81", 443]}, {79, 80, 81, 443}),
        ({"not_ports": [80]}, {79, 81, 443}),
        ({"ports": ["1:65535"], "not_ports": ["80:81"]}, {79, 443}),
    ],
)
@pytest.mark.parametrize("end", ["source", "destination"])
def test_ports(ports: dict[str, Any], matching: set[int], end: str) -> None:
    """Numbers and ranges are ORed, ``notPorts`` ANDed with them, on either side."""
    name = "source_port" if end == "source" else "port"
    wanted = rule(protocol="TCP", **{end: ports})

    assert {port for port in (79, 80, 81, 443) if matches(wanted, **{name: port})} == matching
    assert not matches(wanted, protocol="UDP", **{name: min(matching)})


def test_a_port_that_is_not_known_is_no_port() -> None:
    """A question without a port meets no rule that asks for one, and every rule that excludes some."""
    assert not matches(rule(protocol="TCP", destination={"ports": [80]}))
    assert matches(rule(protocol="TCP", destination={"not_ports": [80]}))


@pytest.mark.parametrize(
    ("nets", "inside", "outside"),
    [
        ({"nets": ["192.0.2.0/24"]}, True, False),
        ({"nets": ["203.0.113.0/24", "192.0.2.1"]}, True, False),
        ({"not_nets": ["192.0.2.0/24"]}, False, True),
        ({"nets": ["192.0.0.0/8"], "not_nets": ["192.0.2.0/31"]}, False, False),
    ],
)
def test_nets(nets: dict[str, Any], inside: bool, outside: bool) -> None:
    """Prefixes are ORed, ``notNets`` ANDed with them."""
    assert matches(rule(source=nets)) == inside
    assert matches(rule(source=nets), source="198.51.100.1") == outside
    assert matches(rule(destination=nets), direction="egress") == inside
    assert matches(rule(destination=nets), direction="egress", destination="198.51.100.1") == outside


def test_nets_of_one_family_never_match_all_of_the_other() -> None:
    """A rule whose nets are all of IPv4 does not exist in IPv6; excluded ones exclude nothing there."""
    assert not matches(rule(source={"nets": ["0.0.0.0/0"]}), version=6)
    assert not matches(rule(source={"nets": ["192.0.2.0/24"]}), version=6)
    assert matches(rule(source={"not_nets": ["192.0.2.0/24"]}), version=6)
    assert not matches(rule(source={"not_nets": ["0.0.0.0/0"]}))


def test_a_selector_means_the_addresses_that_it_selects() -> None:
    """In its policy's own namespace, unless a namespaceSelector says otherwise; what is unknown is not selected."""
    web = rule(source="app == 'web'")
    anywhere = rule(source={"selector": "app == 'web'", "namespace_selector": "all()"})

    assert matches(web, WEB, FAR, source="default/web")
    assert matches(web, WEB, FAR, source="fd00::7", version=6)
    assert not matches(web, WEB, FAR, source="other/web")
    assert not matches(web, WEB, FAR)
    assert matches(anywhere, WEB, FAR, source="other/web")


def test_an_excluded_selector_is_not_in_that_set() -> None:
    """Unknown addresses are not in it; but a NetworkPolicy's ``notSelector`` means its own namespace only."""
    others = rule(source={"not_selector": "app == 'web'"})

    assert matches(others, WEB, namespace=None)
    assert not matches(others, WEB, FAR, namespace=None, source="default/web")
    assert not matches(others, WEB, FAR, namespace=None, source="other/web")
    assert not matches(others, WEB)
    assert not matches(others, FAR, source="other/web")


def test_selector_and_excluded_selector_are_both_asked() -> None:
    """All fields of one side are ANDed."""
    both = rule(source={"selector": "has(app)", "not_selector": "app == 'web'"})
    api = endpoint("api", elsewhere, address="10.0.0.9", labels={"app": "api"})

    assert matches(both, WEB, api, source="default/api")
    assert not matches(both, WEB, api, source="default/web")


def test_a_network_set_is_selected_by_its_labels() -> None:
    """Its prefixes are the addresses."""
    partners = network_set("partners", "192.0.2.0/24", namespace=None, labels={"kind": "partner"})
    theirs = rule(source={"selector": "kind == 'partner'", "namespace_selector": "global()"})

    assert matches(theirs, partners)
    assert not matches(theirs, partners, source="198.51.100.1")


@pytest.mark.parametrize(
    ("port", "flow", "expected"),
    [
        ({"ports": ["http"]}, {"port": 8080}, True),
        ({"ports": ["http"]}, {"port": 9090}, False),
        ({"ports": ["http"]}, {"port": 8080, "destination": "192.0.2.1"}, False),
        ({"ports": ["http", 443]}, {"port": 443, "destination": "192.0.2.1"}, True),
        ({"ports": ["http"], "selector": "app == 'other'"}, {"port": 8080}, False),
        ({"ports": ["dns"]}, {"port": 53}, False),
        ({"not_ports": ["http"]}, {"port": 8080}, False),
        ({"not_ports": ["http"]}, {"port": 8081}, True),
    ],
)
def test_named_ports(port: dict[str, Any], flow: dict[str, Any], expected: bool) -> None:
    """A name is whoever declares it, at their address, protocol and number; ORed with numbers, limited by selectors."""
    wanted = rule(protocol="TCP", destination=port)

    assert matches(wanted, WEB, direction="egress", **{"destination": "default/web", **flow}) == expected


def test_a_named_port_without_protocol_is_of_any() -> None:
    """Without a protocol the name stands for each of its protocols, with that protocol's number."""
    wanted = rule(destination={"ports": ["http"]})

    def reached(protocol: str, port: int) -> bool:
        return matches(
            wanted, WEB, direction="egress", destination="default/web", protocol=protocol, port=port
        )

    assert reached("TCP", 8080)
    assert reached("UDP", 9090)
    assert not reached("TCP", 9090)
    assert not reached("UDP", 8080)


def test_a_named_port_of_the_source_is_the_source_s() -> None:
    """In a rule's source a name refers to endpoints that send."""
    wanted = rule(protocol="TCP", source={"ports": ["http"]})

    assert matches(wanted, WEB, source="default/web", source_port=8080, port=1)
    assert not matches(wanted, WEB, source="default/web", source_port=1, port=8080)


def test_both_sides_are_asked() -> None:
    """Source and destination of a rule are ANDed."""
    wanted = rule(
        protocol="TCP", source="app == 'web'", destination=side({"nets": ["10.0.0.1"], "ports": [5432]})
    )

    assert matches(wanted, WEB, source="default/web", port=5432)
    assert not matches(wanted, WEB, source="default/web", port=5433)
    assert not matches(wanted, WEB, port=5432)


def test_what_layer_four_cannot_see_matches_nothing() -> None:
    """A rule with an http match, or for a service that nobody knows, allows nothing."""
    assert not matches(rule(protocol="TCP", http=HTTPMatch(methods=["GET"])), port=80)
    services = ServiceMatch(name="api", namespace="default")
    assert not matches(
        Rule(action="Allow", destination=EntityRule(services=services)), direction="egress", port=80
    )
