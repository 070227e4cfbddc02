"""Problems and warnings, as people and programs read them.

In:   ``model.errors.Problem``, errors and warnings alike, of files or of what became of their resources.
Out:  text on standard error, coloured only on a terminal; or, with ``-o json``, one JSON document on standard output.
Next: nobody: this is where they end. The verbs that read files call ``report``.

For a verb, in three steps::

    @problems.output_option                     # -o text|json; passes no parameter
    def apply(...):
        manifests = load(...)                   # raises: BadManifests shows itself through ``report``
        warnings = problems.warnings_of(...)    # not done, and lint
        ...
        problems.report([*warnings, *failures]) # once, at the end: all that there is to say

With ``-o json`` a command prints exactly one document, ``{"problems": [...]}``, on standard output, also when there
is nothing to say, and no sentence about its success. ``problems.wants_json()`` tells which it is. Warnings never
change the exit status. A store that is lost or refuses is a ``Failure``, which keeps to that.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeVar

import click

from calico.model.errors import Finding, Problem, printable

if TYPE_CHECKING:
    from calico.model.resource import Resource

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_CHOICE: Final = "calico.cli.problems.output"

# --- the option --------------------------------------------------------------------------------------


def choose(output: str) -> None:
    """Let what the current command reports be ``text`` or ``json``, for a verb with an ``-o`` of its own."""
    click.get_current_context().meta[_CHOICE] = output


def wants_json() -> bool:
    """Whether the current command was asked for JSON."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and ctx.meta.get(_CHOICE) == "json"


def _chosen(ctx: click.Context, param: click.Parameter, value: str) -> None:
    del param
    ctx.meta[_CHOICE] = value


def output_option(command: Decorated) -> Decorated:
    """``-o text|json``: how problems and warnings are reported. It passes no parameter to the command."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        expose_value=False,
        callback=_chosen,
        help="How to report problems and warnings: as sentences, or as one JSON document on standard output.",
    )(command)


class Failure(click.ClickException):
    """What ends the command before it could do anything: a sentence, or with ``-o json`` a problem like others."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._as_json = wants_json()  # who shows it has no command any more

    def show(self, file: IO[Any] | None = None) -> None:
        """On standard error; as JSON on standard output."""
        if self._as_json:
            report([Problem(message=self.message)], as_json=True)
        else:
            super().show(file)


# --- what there is to say ----------------------------------------------------------------------------


class Placed(Protocol):
    """A resource, and how to say something about it with its place: ``codec.Located``, or a manifest."""

    @property
    def resource(self) -> Resource:
        """The resource."""

    @property
    def problem(self) -> Callable[[Finding], Problem]:
        """A finding about it in full."""


def warnings_of(read: Sequence[Placed], stored: Sequence[Resource] = ()) -> list[Problem]:
    """What is valid, but not acted on, or surely not meant, of the resources that were read, in their order.

    ``stored`` are tiers, policies and host endpoints of the store, if there is one at hand: with them more can be told.
    """
    resources = [each.resource for each in read]
    found: list[Problem] = []
    for each, unmeant in zip(read, _lint(resources, stored), strict=True):
        mine = [each.problem(finding) for finding in (*each.resource.not_done(), *unmeant)]
        mine.sort(key=lambda problem: (problem.line, problem.column))
        found += [dataclasses.replace(problem, severity="warning") for problem in mine]
    return found


def _lint(resources: Sequence[Resource], stored: Sequence[Resource]) -> Sequence[Sequence[Finding]]:
    """What lint says; it is asked, and imported, only where there is something that it might speak of."""
    if not any(_may_be_unmeant(each) for each in resources):
        return [()] * len(resources)
    from calico.analysis.lint import warnings

    return warnings(resources, stored)


def _may_be_unmeant(resource: Resource) -> bool:
    """Whether a resource has rules, or any selector, or is an endpoint that policies may have no effect on."""
    spec = getattr(resource, "spec", None)
    return getattr(spec, "interface_name", "") == "*" or any(
        field in {"ingress", "egress"} or (field.endswith("selector") and getattr(spec, field))
        for field in getattr(spec, "__struct_fields__", ())
    )


def report(found: Iterable[Problem], *, as_json: bool | None = None) -> None:
    """Say everything that there is to say; once for each command (see the module).

    ``as_json`` decides in the place of the command's ``-o``.
    """
    if wants_json() if as_json is None else as_json:
        from calico.cli.printers import json_text

        click.echo(json_text({"problems": [*map(as_data, found)]}), nl=False)
        return
    colour = _coloured()
    for problem in found:
        click.echo(text(problem, colour=colour), err=True, color=colour)


# --- how it looks ------------------------------------------------------------------------------------


def text(problem: Problem, *, colour: bool = False) -> str:
    """The problem as ``str`` gives it; or in colours, and then an error says, as a warning always does, what it is."""
    plain = str(problem)
    if not colour:
        return plain
    sentence, *pointed = plain.split("\n")
    hue = "yellow" if problem.severity == "warning" else "red"
    words = f"{problem.severity}: "
    place = printable(problem.place)
    head = f"{click.style(place, bold=True)}: " if place else ""
    rest = sentence.removeprefix(f"{place}: ").removeprefix(words)
    lines = [*pointed[:-1], *(click.style(line, fg=hue, bold=True) for line in pointed[-1:])]
    return "\n".join([f"{head}{click.style(words, fg=hue, bold=True)}{rest}", *lines])


def as_data(problem: Problem) -> dict[str, Any]:
    """The problem for programs. What is not known is empty, or 0 for line and column."""
    namespace, slash, name = problem.name.rpartition("/")
    return {
        "severity": problem.severity,
        "source": problem.source,
        "document": problem.document,
        "line": problem.line,
        "column": problem.column,
        "kind": problem.kind,
        "name": name,
        **({"namespace": namespace} if slash else {}),
        "path": list(problem.path),
        "field": problem.field,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _coloured() -> bool:
    """Whether standard error is a terminal that may be coloured (https://no-color.org)."""
    import os

    return (
        sys.stderr is not None
        and sys.stderr.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
