"""Rules as written -> rules as rows: names become numbers, selectors sets, nonsense closes."""

from __future__ import annotations

import pytest

from calico.calculation.rules import Compiled, compile_rules, net_set, port_set
from calico.desired import ANY, Origin, RuleRow
from calico.model.address import parse_cidr
from calico.model.policy import ICMP, HTTPMatch, Rule, ServiceMatch
from calico.model.selector import parse
from support.builders import rule

ORIGIN = Origin("NetworkPolicy", "default", "red", "p", "ingress")


def compiled(*rules: Rule, namespace: str = "red") -> Compiled:
    """The rules as ingress rules of a policy of ``namespace``."""
    return compile_rules(rules, (), ORIGIN, namespace)


def row(given: Rule, namespace: str = "red") -> RuleRow:
    """The row of one rule that is in order."""
    result = compiled(given, namespace=namespace)
    assert result.problems == ()
    (only,) = result.row.ingress
    return only


def cidrs(*texts: str) -> tuple:
    """Parsed prefixes."""
    return tuple(map(parse_cidr, texts))


def test_a_bare_rule_matches_everything() -> None:
    """A rule that asks for nothing has a row that asks for nothing, and says where it comes from."""
    assert row(rule("Deny")) == RuleRow("Deny", Origin("NetworkPolicy", "default", "red", "p", "ingress", 0))


def test_provenance_counts_rules_by_direction() -> None:
    """Each row names its policy, its direction and its place in that direction's list."""
    result = compile_rules([rule(), rule("Log")], [rule("Pass")], ORIGIN, "red")
    assert [
        (each.origin.direction, each.origin.rule) for each in (*result.row.ingress, *result.row.egress)
    ] == [
        ("ingress", 0),
        ("ingress", 1),
        ("egress", 0),
    ]


@pytest.mark.parametrize(
    ("protocol", "number"),
    [("TCP", 6), ("tcp", 6), ("UDP", 17), ("SCTP", 132), ("UDPLite", 136), (47, 47), ("47", 47), (255, 255)],
)
def test_protocols_are_numbers(protocol: str | int, number: int) -> None:
    """A protocol is given by name, number, or digits."""
    assert row(rule(protocol=protocol)).protocol == number
    assert row(rule(not_protocol=protocol)).not_protocol == number


@pytest.mark.parametrize(("protocol", "family"), [("ICMP", 4), (1, 4), ("ICMPv6", 6), (58, 6)])
def test_icmp_implies_its_family(protocol: str | int, family: int) -> None:
    """A rule about ICMP exists only in the family that this ICMP belongs to."""
    given = row(rule(protocol=protocol, icmp=ICMP(type=8), not_icmp=ICMP(type=3, code=1)))
    assert (given.ip_version, given.icmp, given.not_icmp) == (family, (8, None), (3, 1))


def test_not_icmp_says_nothing_about_other_protocols() -> None:
    """A TCP packet has no ICMP type, so excluding one excludes nothing."""
    assert row(rule(protocol="TCP", not_icmp=ICMP(type=8))).not_icmp is None


def test_ports_become_ranges() -> None:
    """Ports are sorted and merged into ranges that do not touch, and names into sets of who listens there."""
    given = row(
        rule(
            protocol="TCP",
            destination={"ports": ["8000:8010", 80, "81", "8005:8020", "http"], "not_ports": [22]},
        )
    )
    assert given.destination.ports == ((80, 81), (8000, 8020))
    assert given.destination.port_sets == (port_set(parse("all()"), "http", 6).id,)
    assert given.destination.not_ports == ((22, 22),)


def test_named_ports_are_limited_by_the_selector() -> None:
    """Only endpoints that the rule's side selects are asked for a port of that name."""
    result = compiled(rule(protocol="UDP", destination={"selector": "app == 'dns'", "ports": ["dns"]}))
    selector = parse("app == 'dns' && projectcalico.org/namespace == 'red'")
    assert {spec.id for spec in result.sets} == {net_set(selector).id, port_set(selector, "dns", 17).id}


def test_named_ports_without_a_protocol_mean_any() -> None:
    """Where the rule names no protocol, the endpoint's own declaration says which it is."""
    (spec,) = compiled(rule(destination={"ports": ["dns"]})).sets
    assert (spec.info.port_name, spec.info.protocol) == ("dns", None)


def test_nets_are_parsed_and_normal() -> None:
    """Host bits are cleared, bare addresses are full prefixes, each net is there once and in order."""
    given = row(rule(source={"nets": ["10.1.2.3/8", "10.0.0.0/8", "9.9.9.9"], "not_nets": ["10.5.0.0/16"]}))
    assert given.source.nets == cidrs("9.9.9.9", "10.0.0.0/8")
    assert given.source.not_nets == cidrs("10.5.0.0/16")
    assert given.destination == ANY


@pytest.mark.parametrize(
    ("source", "destination", "ip_version", "family", "never"),
    [
        (["10.0.0.0/8"], [], None, 4, False),
        ([], ["fd00::/8"], None, 6, False),
        (["10.0.0.0/8", "fd00::/8"], [], None, None, False),
        (["10.0.0.0/8", "fd00::/8"], ["fd00::/8"], None, 6, False),
        (["10.0.0.0/8"], ["fd00::/8"], None, None, True),
        (["10.0.0.0/8"], [], 6, None, True),
        ([], [], 6, 6, False),
    ],
)
def test_families_agree(
    source: list[str], destination: list[str], ip_version: int | None, family: int | None, never: bool
) -> None:
    """A rule exists in the families that all its parts can agree on; if there is none it matches nothing."""
    given = row(rule(source={"nets": source}, destination={"nets": destination}, ip_version=ip_version))
    assert (given.ip_version, given.never) == (family, never)


def test_excluding_a_whole_family_leaves_the_other() -> None:
    """Not 0.0.0.0/0 is no IPv4 at all."""
    assert row(rule(source={"not_nets": ["0.0.0.0/0"]})).ip_version == 6
    assert row(rule(source={"not_nets": ["0.0.0.0/0", "::/0"]})).never


BROKEN = [
    {"protocol": "nonsense"},
    {"protocol": 0},
    {"protocol": 256},
    {"ip_version": 5},
    {"protocol": "ICMP", "ip_version": 6},
    {"not_protocol": "ICMPv6", "ip_version": 4},
    {"protocol": "TCP", "icmp": ICMP(type=8)},
    {"protocol": "ICMP", "icmp": ICMP(code=1)},
    {"protocol": "ICMP", "icmp": ICMP(type=255)},
    {"source": {"nets": ["10.0.0.0/33"]}},
    {"source": {"not_nets": ["nonsense"]}},
    {"source": "app =="},
    {"source": {"not_selector": "app =="}},
    {"source": "global()"},
    {"source": {"namespace_selector": "global() && has(team)"}},
    {"destination": {"ports": [80]}},
    {"protocol": "ICMP", "destination": {"ports": ["http"]}},
    {"protocol": "TCP", "destination": {"ports": [0]}},
    {"protocol": "TCP", "destination": {"ports": ["9:8"]}},
    {"protocol": "TCP", "destination": {"ports": ["1:65536"]}},
    {"protocol": "TCP", "destination": {"not_ports": ["a:b"]}},
    {"http": HTTPMatch(methods=["GET"])},
    {"protocol": "TCP", "destination": {"ports": [80]}, "http": HTTPMatch()},
    {"source": {"services": ServiceMatch(namespace="red")}},
    {"destination": {"services": ServiceMatch(name="web")}},
]


@pytest.mark.parametrize("fields", BROKEN, ids=str)
def test_a_broken_rule_opens_nothing(fields: dict) -> None:
    """What would allow never matches, what would deny or pass denies everything; each is reported."""
    result = compiled(*(rule(action, **fields) for action in ("Allow", "Log", "Deny", "Pass")))
    origins = [Origin("NetworkPolicy", "default", "red", "p", "ingress", index) for index in range(4)]
    assert result.row.ingress == (
        RuleRow("Allow", origins[0], never=True),
        RuleRow("Log", origins[1], never=True),
        RuleRow("Deny", origins[2]),
        RuleRow("Deny", origins[3]),
    )
    assert result.sets == ()
    assert [problem.partition(" is not usable")[0] for problem in result.problems] == [
        f"ingress rule {index}" for index in range(4)
    ]


def test_one_broken_rule_leaves_the_others_alone() -> None:
    """The rules around a broken one mean what they say."""
    result = compiled(rule(protocol="TCP"), rule(protocol="nonsense"), rule("Deny"))
    assert [each.never for each in result.row.ingress] == [False, True, False]
    assert result.row.ingress[0].protocol == 6


def test_a_match_on_requests_is_refused_loudly() -> None:
    """A rule with http allows nothing, and whoever reads the problem learns which rule it is and why."""
    result = compiled(rule(), rule(http=HTTPMatch(methods=["GET"])))
    assert result.row.ingress[1].never
    (problem,) = result.problems
    assert problem.startswith(
        "ingress rule 1 is not usable and matches nothing: requests are not looked into"
    )
