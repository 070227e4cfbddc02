"""Columns that people choose: ``-o custom-columns=NAME,CIDR`` or ``-o custom-columns=NAME:.metadata.name,...``.

In:   what stands after ``custom-columns=``.
Out:  a ``Chosen`` value, which makes the columns of a table for each kind; ``click.UsageError`` for what is wrong.
Next: ``cli.printers`` makes the table.

A column is one of a kind's own, by its heading (calicoctl's way), or a heading and a path (kubectl's way).
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any, Final, NamedTuple

import click

from calico.cli.fields import NO_VALUE, NoField, member, plain
from calico.cli.printers import NAMESPACE
from calico.model.resource import Column, Resource, listed, shown

NOTHING: Final = "<none>"
"""What stands in a column for what is not there, as with kubectl."""

_STEP: Final = re.compile(
    r"""
    \.?(?P<name>(?:\\.|[^.\[\]\\{}'"])+)
  | \[(?P<index>-?\d+)\]
  | \[(?P<all>\*)\]
  | \[(?P<quote>['"])(?P<key>[^'"]*)(?P=quote)\]
    """,
    re.VERBOSE,
)


class _All:
    """The step ``[*]``: into every entry."""


ALL: Final = _All()
Step = str | int | _All


class Chosen(NamedTuple):
    """The columns that were chosen, in order: a heading, and the path to what stands below it, if given."""

    columns: tuple[tuple[str, tuple[Step, ...] | None], ...]

    @classmethod
    def of(cls, text: str) -> Chosen:
        """The columns that ``text`` names."""
        columns: list[tuple[str, tuple[Step, ...] | None]] = []
        for part in text.split(","):
            heading, colon, path = part.strip().partition(":")
            if not heading or (colon and not path):
                raise click.UsageError(
                    f"custom-columns: {part!r} is no column; write headings as in NAME,CIDR,"
                    " or headings and paths as in NAME:.metadata.name"
                )
            columns.append((heading, _path(path) if colon else None))
        return cls(tuple(columns))

    def columns_of(self, kind: type[Resource]) -> list[Column]:
        """The columns of a table of ``kind``."""
        own = {column.heading: column for column in (NAMESPACE, *kind.COLUMNS)}
        if not kind.NAMESPACED:
            del own[NAMESPACE.heading]
        found = []
        for heading, path in self.columns:
            if path is not None:
                found.append(Column(heading, partial(_cell, path)))
            elif heading.upper() in own:
                found.append(own[heading.upper()])
            else:
                raise click.UsageError(
                    f"custom-columns: {kind.PLURAL} have no column {heading!r}; known are {', '.join(own)};"
                    f" anything else needs a path, as in {heading}:.spec.{heading.lower()}"
                )
        return found


def _cell(path: tuple[Step, ...], resource: Resource) -> str:
    """What stands at a path in a resource, as one cell."""
    try:
        return _text(_at(resource, path))
    except NoField as error:
        raise click.UsageError(f"custom-columns: {error}") from error


def _path(text: str) -> tuple[Step, ...]:
    """The steps of a path: ``.spec.nets[0]``, ``{.metadata.labels['a.b/c']}``, ``metadata.labels.a\\.b/c``."""
    inner = text.removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(inner):
        match = _STEP.match(inner, position)
        if match is None:
            raise click.UsageError(
                f"custom-columns: {text!r} is no path; write as in .spec.cidr, .spec.nets[0], .spec.nets[*]"
                " or .metadata.labels['a.b/c']"
            )
        if match["name"]:
            steps.append(re.sub(r"\\(.)", r"\1", match["name"]))
        elif match["index"]:
            steps.append(int(match["index"]))
        else:
            steps.append(ALL if match["all"] else match["key"])
        position = match.end()
    return tuple(steps)


def _at(value: Any, path: tuple[Step, ...]) -> Any:
    for index, step in enumerate(path):
        match step:
            case _All():
                inside = value.values() if isinstance(value, dict) else value
                if not isinstance(inside, list | tuple) and not isinstance(value, dict):
                    return NO_VALUE
                return [_at(each, path[index + 1 :]) for each in inside]
            case int():
                if not isinstance(value, list) or not -len(value) <= step < len(value):
                    return NO_VALUE
                value = value[step]
            case _:
                value = member(value, step)
    return value


def _text(value: Any) -> str:
    tree = plain(value)
    if tree is None or tree in ("", [], {}):
        return NOTHING
    match tree:
        case list() if not any(isinstance(each, dict | list) for each in tree):
            return listed(map(_text, tree))
        case dict() | list():
            return json.dumps(tree, ensure_ascii=False)
        case _:
            return shown(tree)
