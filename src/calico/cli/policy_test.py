"""``calicoctl test``: policy tests, offline.

In:   files of tests, and manifests.
Out:  what failed, with its whole trail; or JSON, or JUnit's XML for a CI.
Next: ``analysis.policytest`` reads and runs them, ``cli.offline`` reads the manifests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from calico.cli import options

if TYPE_CHECKING:
    from calico.analysis.policytest import Case, Result
    from calico.cli.explanation import Place
    from calico.cli.offline import Offline


@click.command(
    epilog="Exit status: 0 all is as expected; 1 something is not; 2 the tests, the manifests or the command line are"
    " wrong, and standard error says what."
)
@click.argument("tests", metavar="FILES", nargs=-1, required=True, type=click.Path(allow_dash=True))
@options.files("The manifests to test; may be repeated. '-' is standard input.", required=True)
@options.recursive
@click.option("-v", "--verbose", is_flag=True, help="Name what passed, too; show rules that did not match.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "junit"]), default="text", show_default=True
)
def test(tests: Sequence[str], files: Sequence[str], output: str, *, recursive: bool, verbose: bool) -> None:
    """Check who may reach whom by manifests, without a store and without a cluster.

    FILES are YAML or JSON, or directories of them: a list 'tests' of name, from, to, protocol (TCP if none is given),
    port, expect (allow or deny); also sourcePort, icmpType, icmpCode, ipVersion. An end is namespace/name of a pod or
    WorkloadEndpoint, an address, the name of a HostEndpoint, a network set; or {namespace, labels, serviceAccount} of
    an endpoint that there could be.

    \b
    Examples:
      calicoctl test policy-tests.yaml -f manifests/ -R
      calicoctl test tests/ -f manifests/ -R -o junit > report.xml
    """
    from calico.analysis.policytest import Suite, summary
    from calico.cli import problems
    from calico.cli.offline import BadFiles, passed_over_words, read
    from calico.model.errors import InvalidResources

    try:
        cases = _cases(tests)
        offline = read(files, recursive=recursive)
        suite = Suite(cases, offline.facts)
        results = suite.run()
    except (BadFiles, InvalidResources) as bad:
        problems.report(bad.problems, as_json=False)
        sys.exit(2)
    if offline.passed_over:
        click.echo(passed_over_words(offline.passed_over), err=True)
    for problem in suite.world.problems:
        click.echo(f"not usable as it is: {problem}", err=True)
    match output:
        case "json":
            click.echo(json.dumps(_data(results, offline), indent=2, ensure_ascii=False))
        case "junit":
            click.echo(_junit(results, offline.place))
        case _:
            for line in _lines(results, offline, verbose=verbose):
                click.echo(line)
            click.echo(summary(results))
    if not all(result.passed for result in results):
        sys.exit(1)


def _cases(files: Sequence[str]) -> list[Case]:
    """The tests of all files; BadFiles with everything that is wrong with them."""
    from calico.analysis.policytest import read
    from calico.cli.manifests import texts
    from calico.cli.offline import BadFiles
    from calico.model.errors import InvalidResources, Problem

    wrong: list[Problem] = []
    cases: list[Case] = []
    for source, text in texts(files, wrong, recursive=True):
        try:
            cases += read(text, source)
        except InvalidResources as error:
            wrong += error.problems
    if wrong:
        raise BadFiles(wrong)
    return cases


def _where(result: Result) -> str:
    from calico.model.errors import Finding

    problem = result.case.problem(Finding((), "", ""))
    return f"{problem.source}:{problem.line}"


def _said(result: Result) -> str:
    outcome = {"allow": "it is allowed", "deny": "it is denied", "partly": "only parts of it are allowed"}
    return f"expected {result.case.assertion.expect}, but {outcome[result.outcome]}"


def _trail(result: Result, place: Place, *, verbose: bool = False) -> Iterator[str]:
    from calico.cli import explanation

    if result.explanation is not None:
        yield from explanation.lines(result.explanation, place, {}, verbose=verbose)


def _lines(results: Sequence[Result], offline: Offline, *, verbose: bool) -> Iterator[str]:
    from calico.model.errors import printable

    for result in results:
        if result.passed:
            if verbose:
                yield printable(f"ok    {result.case.title}")
            continue
        yield printable(f"FAIL  {result.case.title}  ({_where(result)})")
        yield f"      {_said(result)}"
        for line in _trail(result, offline.place, verbose=verbose):
            yield f"      {line}" if line else ""
        yield ""


def _data(results: Sequence[Result], offline: Offline) -> dict[str, Any]:
    from calico.cli import explanation

    return {
        "passed": sum(result.passed for result in results),
        "failed": sum(not result.passed for result in results),
        "tests": [
            {
                "name": result.case.title,
                "place": _where(result),
                "passed": result.passed,
                "expect": result.case.assertion.expect,
                "outcome": result.outcome,
                **(
                    {"explanation": explanation.data(result.explanation, offline.place, {})}
                    if result.explanation is not None
                    else {}
                ),
            }
            for result in results
        ],
    }


def _junit(results: Sequence[Result], place: Place) -> str:
    """JUnit's XML, as CI systems read it."""
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    from calico.model.errors import printable

    failures = sum(not result.passed for result in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": "0"}
    root = Element("testsuites", counts)
    suite = SubElement(root, "testsuite", {"name": "calicoctl test", **counts})
    for result in results:
        problem_place = _where(result)
        source, _, line = problem_place.rpartition(":")
        case = SubElement(
            suite,
            "testcase",
            {
                "name": printable(result.case.title),
                "classname": printable(source),
                "file": printable(source),
                "line": line,
            },
        )
        if not result.passed:
            failure = SubElement(case, "failure", {"message": _said(result), "type": result.outcome})
            failure.text = "\n".join(_trail(result, place))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")
