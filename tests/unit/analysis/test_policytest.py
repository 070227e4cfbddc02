"""Policy tests: what is read of them, and what they say of a world."""

from __future__ import annotations

import pytest

from calico.analysis.policytest import Case, Result, Suite, read
from calico.model.errors import InvalidResources
from calico.model.keys import key_of
from calico.model.kubernetes_kinds import Namespace
from calico.model.policy import ServiceAccountMatch
from calico.model.resource import Resource
from support.builders import endpoint, metadata, network_set, policy, profile, rule

OPEN = profile("open", ingress=[rule()], egress=[rule()])
WEB = endpoint("web", labels={"app": "web"}, address="10.0.0.1", profiles=["open"])
DB = endpoint("db", labels={"app": "db"}, address="10.0.0.2", profiles=["open"], ports=[("sql", "TCP", 5432)])
DOOR = policy("door", selector="app == 'db'", ingress=[rule(source="app == 'web'", protocol="TCP")])
WORLD = (OPEN, WEB, DB, DOOR)


def cases(*tests: str) -> list[Case]:
    """The cases of a file with these tests, each a mapping in braces."""
    return read("tests:\n" + "".join(f"- {test}\n" for test in tests), "tests.yaml")


def ran(*tests: str, world: tuple[Resource, ...] = WORLD) -> list[Result]:
    """What becomes of these tests."""
    return Suite(cases(*tests), {key_of(each): each for each in world}).run()


def outcomes(*tests: str, world: tuple[Resource, ...] = WORLD) -> list[str]:
    return [result.outcome for result in ran(*tests, world=world)]


def said(text: str) -> list[str]:
    """The places and messages of everything that is wrong with a file."""
    with pytest.raises(InvalidResources) as caught:
        read(text, "tests.yaml")
    return [f"{each.place}: {each.field}: {each.explanation}" for each in caught.value.problems]


# --- running -----------------------------------------------------------------------------------------


def test_a_test_passes_where_the_world_is_as_expected() -> None:
    """Allowed or denied: what counts is that it is what was expected; only what failed is explained."""
    good, bad = ran(
        "{name: in, from: default/web, to: default/db, port: sql, expect: allow}",
        "{from: 192.0.2.1, to: default/db, port: 5432, expect: allow}",
    )
    assert good.passed
    assert good.explanation is None
    assert (bad.passed, bad.outcome, bad.case.title) == (False, "deny", "192.0.2.1 -> default/db")
    assert bad.explanation is not None
    assert bad.explanation.destination.remarks[-1].title == "end of tier default"


def test_protocols_and_ports_are_those_of_explain() -> None:
    """By name or number; a type makes it ICMP only if the protocol says so."""
    assert outcomes(
        "{from: default/web, to: default/db, protocol: udp, port: 53, expect: allow}",
        "{from: default/web, to: default/db, protocol: 6, port: 53, sourcePort: 99, expect: allow}",
        "{from: default/web, to: default/db, protocol: icmp, icmpType: 8, icmpCode: 0, expect: allow}",
    ) == ["deny", "allow", "deny"]


def test_an_endpoint_that_there_could_be_is_judged_by_its_labels() -> None:
    """At either end, by the namespace that it would be in."""
    assert outcomes(
        "{from: {namespace: default, labels: {app: web}}, to: default/db, expect: allow}",
        "{from: {namespace: other, labels: {app: web}}, to: default/db, expect: allow}",
        "{from: default/web, to: {labels: {app: db}}, protocol: UDP, expect: allow}",
        "{from: default/web, to: {labels: {app: db}}, expect: allow}",
        "{from: {labels: {app: db}}, to: {labels: {app: db}}, expect: allow}",
    ) == ["allow", "deny", "deny", "allow", "deny"]


def test_the_namespace_of_such_an_endpoint_counts_with_its_labels() -> None:
    """Where the world has it its labels are known; where not it is one without labels, in which all is allowed."""
    shop = Namespace(metadata=metadata("shop", labels={"team": "x"}))
    team = policy(
        "team", selector="app == 'db'", ingress=[rule(source={"namespace_selector": "team == 'x'"})]
    )
    test = "{from: {namespace: shop}, to: default/db, expect: allow}"
    assert outcomes(test, world=(OPEN, DB, team, shop)) == ["allow"]
    assert outcomes(test, world=(OPEN, DB, team)) == ["deny"]
    assert outcomes("{from: {namespace: new}, to: {namespace: new}, expect: allow}", world=()) == ["allow"]


def test_such_an_endpoint_may_have_a_service_account() -> None:
    """Rules by service account find it."""
    robots = policy(
        "robots",
        selector="app == 'db'",
        ingress=[rule(source={"service_accounts": ServiceAccountMatch(names=["robot"])})],
    )
    assert outcomes(
        "{from: {serviceAccount: robot}, to: default/db, expect: allow}",
        "{from: {serviceAccount: human}, to: default/db, expect: allow}",
        world=(OPEN, DB, robots),
    ) == ["allow", "deny"]


def test_a_network_set_passes_only_as_a_whole() -> None:
    """If policy treats its parts differently, neither expectation is met."""
    half = policy("half", selector="app == 'db'", ingress=[rule(source={"nets": ["203.0.113.0/25"]})])
    world = (OPEN, DB, half, network_set("partners", "203.0.113.0/24"))
    results = ran(
        "{from: default/partners, to: default/db, expect: allow}",
        "{from: default/partners, to: default/db, expect: deny}",
        world=world,
    )
    assert [(result.outcome, result.passed) for result in results] == [("partly", False)] * 2


def test_ends_and_ports_that_are_not_there_are_mistakes_with_their_lines() -> None:
    """All of them are said at once, each at its field; nothing is judged as if it were the world outside."""
    with pytest.raises(InvalidResources) as caught:
        ran(
            "{from: default/wbe, to: default/db, expect: deny}",
            "{from: default/web, to: default/db, port: http, expect: deny}",
        )
    first, second = caught.value.problems
    assert (first.place, first.field) == ("tests.yaml:2:10", "tests[0].from")
    assert first.remedy == "did you mean default/web?"
    assert (second.place, second.field) == ("tests.yaml:3:45", "tests[1].port")
    assert "it has sql (TCP 5432)" in second.explanation


# --- reading -----------------------------------------------------------------------------------------


def test_every_mistake_is_said_with_its_line_and_what_is_meant() -> None:
    """Unknown fields, wrong words and numbers, in all tests of the file."""
    text = """\
tests:
- name: one
  form: default/web
  to: default/db
  expect: allowed
- {from: a, to: {namespaces: x}, protocol: tpc, port: 70000, icmpType: 256, expect: deny}
"""
    assert said(text) == [
        "tests.yaml:3:3: tests[0].form: there is no field 'form'; did you mean from?",
        "tests.yaml:5:11: tests[0].expect: 'allowed' is not allowed here; did you mean allow?",
        "tests.yaml:6:18: tests[1].to.namespaces: there is no field 'namespaces'; did you mean namespace?",
        "tests.yaml:6:44: tests[1].protocol: there is no protocol 'tpc'; did you mean tcp?",
        "tests.yaml:6:55: tests[1].port: 70000 is out of range; write a number from 1 to 65535",
        "tests.yaml:6:72: tests[1].icmpType: 256 is out of range; write a number from 0 to 255",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no tests in it"),
        ("tests: []\n", "there are no tests in it"),
        ("test: []\n", "there is no field 'test'; did you mean tests?"),
        ("[]\n", "a mapping"),
        ("tests: [{from: a, to: b}]\n", "the field is missing"),
        ("tests: [\n", "tests.yaml:"),
        ("tests: [1]\n", "tests[0]"),
        ("tests: [{from: a, from: b, to: c, expect: deny}]\n", "from"),
    ],
)
def test_what_is_no_file_of_tests_is_said(text: str, message: str) -> None:
    """Whatever it is instead."""
    assert message in "\n".join(said(text))


def test_a_file_may_have_several_documents_and_be_json() -> None:
    """Their tests are all meant."""
    test = "tests: [{from: a, to: b, expect: deny}]\n"
    assert len(read(f"{test}---\n{test}---\n", "tests.yaml")) == 2
    (case,) = read(
        '{"tests": [{"from": "a", "to": {"namespace": "x", "labels": {"k": "v"}}, "expect": "deny"}]}', "t"
    )
    assert case.title == "a -> x/{k=v}"
