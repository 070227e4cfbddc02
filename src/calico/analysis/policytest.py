"""Policy tests: who is meant to reach whom, written down and checked against a world.

In:   the text of a file, ``tests: [{name, from, to, protocol, port, expect}]``; and the facts of a world.
Out:  ``read``: ``Case`` values, or every mistake with its line; ``Suite.run``: a ``Result`` for each case.
Next: ``cli.policy_test`` prints them.

An end is what ``analysis.explain`` understands, or an endpoint that there could be: a namespace and labels. Such
a one is put into the world beside the others, on a host of its own, with addresses that nobody has. Its namespace is
taken to exist: where the facts do not say what is allowed in it by default, everything is, as in any of Kubernetes'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import field

from calico.analysis.explain import Explainer, Explanation, Question, Unanswerable
from calico.analysis.world import World
from calico.calculation.rules import PROTOCOLS
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.errors import Finding, InvalidResources, Path, Problem
from calico.model.hints import nearest
from calico.model.keys import Key, key_of
from calico.model.resource import Metadata, Resource, Strict
from calico.model.schema import Misfit, misfits, schema, without_nulls
from calico.model.settings import Settings

HYPOTHETICAL: Final = "hypothetical-"
"""How the names of endpoints begin that are put into the world."""
_NAMESPACE_PROFILE: Final = "kns."


class HypotheticalEnd(Strict, frozen=True, kw_only=True):
    """An endpoint that there could be."""

    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    service_account: str = ""


class Assertion(Strict, frozen=True, kw_only=True):
    """One test as it is written."""

    name: str = ""
    source: str | HypotheticalEnd = field(name="from")
    destination: str | HypotheticalEnd = field(name="to")
    protocol: str | int = "TCP"
    port: int | str | None = None
    source_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    ip_version: Literal[4, 6] | None = None
    expect: Literal["allow", "deny"]


class Tests(Strict, frozen=True, kw_only=True):
    """A document of tests."""

    tests: list[Assertion]


Locate = Callable[[Finding], Problem]


class Case(NamedTuple):
    """One test, and how to say something about it with its place."""

    assertion: Assertion
    title: str
    problem: Locate


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case; ``explanation`` is there where it failed."""

    case: Case
    outcome: Literal["allow", "deny", "partly"]
    """"partly": of a network set some parts are allowed, and some are denied."""
    explanation: Explanation | None

    @property
    def passed(self) -> bool:
        """Whether it is as expected."""
        return self.outcome == self.case.assertion.expect


# --- files -------------------------------------------------------------------------------------------


def read(text: str, source: str) -> list[Case]:
    """The tests of all documents of ``text``; InvalidResources with everything that is wrong with them."""
    from calico.model.codec import unreadable
    from calico.model.yaml_text import BadText, Places, trees

    places = Places(text)
    problems: list[Problem] = []
    cases: list[Case] = []
    for index, tree in enumerate(trees(text)):
        if isinstance(tree, BadText):
            problems.append(unreadable(tree, source, index, places))
            continue
        if tree is None:
            continue
        whole = without_nulls(tree)

        def problem(
            finding: Finding, *, at_key: bool = False, document: int = index, tree: Any = whole
        ) -> Problem:
            place = places.find(
                document, finding.path, at_key=at_key or finding.at_key, offset=finding.offset
            )
            return Problem(
                message=finding.message,
                remedy=finding.remedy,
                path=finding.path,
                kind="test" if finding.path[:1] == ("tests",) and len(finding.path) > 1 else "",
                name=_title(tree, finding.path),
                source=source,
                document=document,
                line=place.line,
                column=place.column,
                excerpt=place.excerpt,
            )

        found = [*_wrong(whole)]
        if not found:
            cases += _cases(msgspec.convert(whole, Tests), whole, problem)
        problems += sorted(
            (problem(each.finding, at_key=each.at_key) for each in found),
            key=lambda each: (each.line, each.column),
        )
    if not cases and not problems:
        problems.append(
            Problem(message="there are no tests in it", remedy="write tests: [...]", source=source)
        )
    if problems:
        raise InvalidResources(tuple(problems))
    return cases


def _cases(tests: Tests, tree: Any, problem: Callable[..., Problem]) -> Iterator[Case]:
    for index, assertion in enumerate(tests.tests):

        def of(finding: Finding, index: int = index) -> Problem:
            return problem(finding._replace(path=("tests", index, *finding.path)))

        yield Case(assertion, _title(tree, ("tests", index)), of)


def _title(tree: Any, path: Path) -> str:
    """What a test is called: its name, else what it asks."""
    match path:
        case ("tests", int(index), *_):
            try:
                test = tree["tests"][index]
            except (KeyError, IndexError, TypeError):
                return ""
            if isinstance(test, dict):
                return str(test.get("name") or f"{_end(test.get('from'))} -> {_end(test.get('to'))}")
    return ""


def _end(end: Any) -> str:
    if isinstance(end, dict):
        labels = end.get("labels")
        words = (
            ",".join(f"{key}={value}" for key, value in labels.items()) if isinstance(labels, dict) else ""
        )
        return f"{end.get('namespace', 'default')}/{{{words}}}"
    return str(end)


def _wrong(tree: Any) -> Iterator[Misfit]:
    """Everything that is wrong with a document."""
    found = [
        misfit
        for each in misfits(tree, schema(Tests))
        for misfit in (_within(tree, each.finding.path) if _is_end(tree, each.finding.path) else (each,))
    ]
    yield from found
    tests = tree.get("tests") if isinstance(tree, dict) else None
    for index, test in enumerate(tests if isinstance(tests, list) else []):
        if isinstance(test, dict):
            for finding in _about(test):
                if not any(each.finding.path[:3] == ("tests", index, finding.path[0]) for each in found):
                    yield Misfit(finding._replace(path=("tests", index, *finding.path)))


def _is_end(tree: Any, path: Path) -> bool:
    """Whether an end is meant that there could be: then it is to be said what is wrong within it."""
    match path:
        case ("tests", int(index), "from" | "to" as role):
            return isinstance(tree["tests"][index].get(role), dict)
    return False


def _within(tree: Any, path: Path) -> Iterator[Misfit]:
    value = tree
    for step in path:
        value = value[step]
    return misfits(value, schema(HypotheticalEnd), path)


def _about(test: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with a test, beyond the types of its fields."""
    protocol = test.get("protocol", "TCP")
    text = str(protocol).lower()
    if text not in PROTOCOLS and not (text.isascii() and text.isdigit() and int(text) <= 255):
        yield Finding(
            ("protocol",), f"there is no protocol {protocol!r}", nearest(str(protocol), [*PROTOCOLS])
        )
    for name, lowest, highest in (
        ("port", 1, 65535),
        ("sourcePort", 1, 65535),
        ("icmpType", 0, 255),
        ("icmpCode", 0, 255),
    ):
        value = test.get(name)
        if isinstance(value, int) and not lowest <= value <= highest:
            yield Finding((name,), f"{value} is out of range", f"write a number from {lowest} to {highest}")


# --- running -----------------------------------------------------------------------------------------


class Suite:
    """Cases, and the world that they are checked against: ``facts``, and the endpoints that cases think up.

    Raises InvalidResources where a case speaks of what is not there.
    """

    def __init__(
        self, cases: Iterable[Case], facts: Mapping[Key, Resource], settings: Settings | None = None
    ) -> None:
        self._cases = [*cases]
        made = _Hypothetical(facts)
        self._questions = [_question(case.assertion, made) for case in self._cases]
        self.world = World({**facts, **made.facts}, settings)
        self._explainer = Explainer(self.world)

    def run(self) -> list[Result]:
        """What becomes of each case, in order."""
        results: list[Result] = []
        wrong: list[Problem] = []
        for case, question in zip(self._cases, self._questions, strict=True):
            try:
                results.append(self._one(case, question))
            except Unanswerable as error:
                message, _, remedy = str(error).partition("; ")
                wrong.append(case.problem(Finding(self._blamed(question), message, remedy)))
        if wrong:
            raise InvalidResources(tuple(wrong))
        return results

    def _one(self, case: Case, question: Question) -> Result:
        flows = self._explainer.understood(question).flows
        fates = {self.world.judge(flow).allowed for flow in flows}
        outcome: Literal["allow", "deny", "partly"] = (
            "partly" if len(fates) > 1 else "allow" if True in fates else "deny"
        )
        passed = outcome == case.assertion.expect
        return Result(case, outcome, None if passed else self._explainer.explain(question))

    def _blamed(self, question: Question) -> Path:
        """The field that a question could not be answered for."""
        for name, end in (("from", question.source), ("to", question.destination)):
            try:
                self._explainer.names.end(end, question.namespace)
            except LookupError:
                return (name,)
        return ("port",) if isinstance(question.port, str) else ()


def _question(assertion: Assertion, made: _Hypothetical) -> Question:
    return Question(
        source=made.name(assertion.source, "from"),
        destination=made.name(assertion.destination, "to"),
        protocol=assertion.protocol,
        port=assertion.port,
        source_port=assertion.source_port,
        icmp_type=assertion.icmp_type,
        icmp_code=assertion.icmp_code,
        ip_version=assertion.ip_version,
    )


class _Hypothetical:
    """The endpoints that cases think up; equal ones at the same end are one."""

    def __init__(self, facts: Mapping[Key, Resource]) -> None:
        self._given = facts
        self._known: dict[str, str] = {}
        self.facts: dict[Key, Resource] = {}

    def name(self, end: str | HypotheticalEnd, role: str) -> str:
        """What the world calls an end."""
        if isinstance(end, str):
            return end
        identity = f"{role} {end.namespace} {end.service_account} {sorted(end.labels.items())}"
        if identity not in self._known:
            number = len(self._known) + 1
            endpoint = WorkloadEndpoint(
                metadata=Metadata(name=f"{HYPOTHETICAL}{number}", namespace=end.namespace, labels=end.labels),
                spec=WorkloadEndpointSpec(
                    node=f"{HYPOTHETICAL}{number}",
                    orchestrator="k8s",
                    interface_name=f"cali{number}",
                    ip_networks=[_ipv4(number), f"100::{number:x}/128"],
                    profiles=[*self._profiles(end)],
                    service_account_name=end.service_account,
                ),
            )
            self.facts[key_of(endpoint)] = endpoint
            self._known[identity] = f"{end.namespace}/{endpoint.metadata.name}"
        return self._known[identity]

    def _profiles(self, end: HypotheticalEnd) -> Iterator[str]:
        """The profiles of a pod in the namespace; the namespace's is made where it is missing."""
        from calico.model.kubernetes import convert

        name = f"{_NAMESPACE_PROFILE}{end.namespace}"
        yield name
        if Key("Profile", name) not in self._given and Key("Namespace", end.namespace) not in self._given:
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": end.namespace}}
            self.facts |= {key_of(resource): resource for resource in convert(document).resources}
        if end.service_account:
            account = f"ksa.{end.namespace}.{end.service_account}"
            there = Key("ServiceAccount", end.service_account, end.namespace) in self._given
            if there or Key("Profile", account) in self._given:
                yield account


def _ipv4(number: int) -> str:
    """An address of the range that is reserved, and routed nowhere."""
    return f"{240 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/32"


def summary(results: Sequence[Result]) -> str:
    """``998 passed, 2 failed``."""
    failed = sum(not result.passed for result in results)
    words = f"{len(results) - failed} passed"
    return f"{words}, {failed} failed" if failed else words
