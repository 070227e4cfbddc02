"""How a command that writes went: its sentences and its exit status (behaviour reference 8.2).

In:   what was asked for, and for each part that failed a ``Problem`` that says why.
Out:  one sentence on standard output, or problems on standard error; or all of it as JSON.

The exit status is 1 if anything failed. Of a ``--diff`` it is, as of kubectl diff, 0 for no difference, 1 for
some, and 2 if something failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from calico.cli import problems
from calico.datastore.api import Conflict
from calico.model.errors import Finding, Problem
from calico.model.keys import Key

if TYPE_CHECKING:
    from calico.datastore.snapshot import Change
    from calico.datastore.writing import Failure

FAILED: Final = 1
DIFFERENT: Final = 1
DIFF_FAILED: Final = 2


class Mode(NamedTuple):
    """How far a command goes: to the end, or only as far as to see what would become of it."""

    dry_run: str | None = None
    """``client``: nothing is asked of the store; ``server``: all is judged by what it holds."""
    diff: bool = False

    @property
    def offline(self) -> bool:
        """Whether the store is left alone altogether."""
        return self.dry_run == "client" and not self.diff

    @property
    def rehearsal(self) -> bool:
        """Whether nothing is written."""
        return self.diff or self.dry_run is not None

    @property
    def remark(self) -> str:
        """What a sentence about success adds."""
        return {None: "", "client": " (dry run)", "server": " (server dry run)"}[self.dry_run]

    @contextmanager
    def judged(self) -> Iterator[None]:
        """What ends the command within ends it with the exit status of a failure."""
        try:
            yield
        except click.ClickException as error:
            if not self.diff:
                raise
            error.show()
            sys.exit(DIFF_FAILED)


class Verb(NamedTuple):
    """A verb as sentences have it."""

    plain: str
    past: str
    several: bool = True
    """Whether it may be asked of several resources at once."""


def subject(key: Key) -> str:
    """Namespace and name, as problems have it."""
    return "/".join(part for part in (key.namespace, key.name) if part)


def problem_of(key: Key, finding: Finding) -> Problem:
    """A finding about what no file names; errors of the model name the key themselves, which is said once."""
    return Problem(
        message=finding.message.removeprefix(f"{key}: "),
        remedy=finding.remedy,
        path=finding.path,
        kind=key.kind,
        name=subject(key),
    )


def findings_of(failure: Failure, *, given: str | None = None, creating: bool = False) -> Iterator[Finding]:
    """Why something could not be written, as findings about it.

    ``given`` is the resourceVersion that it came with; ``creating``: nothing was to be there before.
    """
    from calico.datastore.admission import NotAdmitted
    from calico.datastore.writing import Absent

    match failure:
        case NotAdmitted():
            yield from failure.findings
        case Absent():
            yield Finding(("metadata", "name"), "it does not exist", "create or apply makes it")
        case Conflict(current=current) if creating and current is not None:
            yield Finding(
                ("metadata", "name"),
                "it exists already",
                "apply updates what exists, create --skip-exists leaves it as it is",
            )
        case Conflict(current=current) if given is not None:
            yield Finding(
                ("metadata", "resourceVersion"),
                f"it was changed since it was read: its resourceVersion is {current} now, not {given}",
                "get it again and repeat your change, or remove the resourceVersion to overwrite it",
            )
        case Conflict():
            yield Finding((), "others keep changing it", "try again")
        case _:
            yield Finding((), str(failure), "")


def conclude(
    verb: Verb,
    keys: Sequence[Key],
    failures: Sequence[Sequence[Problem]],
    mode: Mode,
    *,
    changes: Sequence[Change] = (),
    warnings: Sequence[Problem] = (),
    note: str = "",
) -> None:
    """Say how it went, and end the program with the exit status of that; ``note`` goes after the count."""
    if mode.diff:
        from calico.cli.difference import show

        different = show(changes)
        _report([*warnings, *(problem for each in failures for problem in each)])
        sys.exit(DIFF_FAILED if failures else DIFFERENT if different else 0)
    if problems.wants_json():
        problems.report([*warnings, *(problem for each in failures for problem in each)])
    else:
        problems.report(warnings)
        _say(verb, keys, failures, mode, note)
    if failures:
        sys.exit(FAILED)


def _report(found: Sequence[Problem]) -> None:
    problems.report(found, as_json=False)


def _say(
    verb: Verb, keys: Sequence[Key], failures: Sequence[Sequence[Problem]], mode: Mode, note: str
) -> None:
    kinds = {key.kind for key in keys}
    kind = f"'{kinds.pop()}' " if len(kinds) == 1 else ""
    succeeded = len(keys) - len(failures)
    if not failures:
        noun = "resource(s)" if verb.several else "resource"
        click.echo(f"Successfully {verb.past} {succeeded} {kind}{noun}{note}{mode.remark}")
        return
    if succeeded:
        click.echo(
            f"Partial success: {verb.past} {succeeded} out of {len(keys)} {kind}resource(s){note}{mode.remark}:",
            err=True,
        )
    elif len(keys) == 1:
        click.echo(f"Failed to {verb.plain} {kind}resource:", err=True)
    else:
        click.echo(f"Failed to {verb.plain} any {kind}resources:", err=True)
    for each in failures:
        for problem in each:
            click.echo("hit error: ", nl=False, err=True)
            problems.report([problem], as_json=False)
