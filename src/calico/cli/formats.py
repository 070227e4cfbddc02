"""The ways in which ``get`` shows resources: ``-o``, and what it makes of what was found.

In:   the word after ``-o``; what was found, kind by kind.
Out:  text; nothing is printed here.
Next: ``cli.get`` and ``cli.watch`` print it. Templates and chosen columns are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import click

from calico.cli import printers
from calico.model.resource import Column, Resource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from calico.cli.columns import Chosen
    from calico.cli.gotemplate import Template
    from calico.cli.template_text import BadTemplate

PLAIN: Final = ("ps", "wide", "yaml", "json", "name")
WITH_VALUE: Final = ("custom-columns=", "go-template=", "go-template-file=")
METAVAR: Final = "ps|wide|yaml|json|name|custom-columns=...|go-template=...|go-template-file=FILE"


class BadFormat(click.UsageError):
    """What was asked for cannot be shown so; the sentence says where it goes wrong."""

    def show(self, file: IO[Any] | None = None) -> None:
        """The sentence alone: how the command is written is not to blame."""
        click.echo(f"Error: {self.message}", file=file, err=True)


class Batch(NamedTuple):
    """Resources that are shown together: all of a ``kind``, or (None) those that were asked for by name."""

    kind: type[Resource] | None
    resources: Sequence[Resource]


class Format(NamedTuple):
    """How to show resources; ``columns`` or ``template`` where the word has them."""

    word: str
    columns: Chosen | None = None
    template: Template | None = None
    source: str = ""
    """Where the template stands, for what is wrong with it."""

    @property
    def is_table(self) -> bool:
        """Whether rows are shown, of which each stands for a resource."""
        return self.word in {"ps", "wide", "custom-columns"}

    @property
    def needs_as_number(self) -> bool:
        """Whether the cluster's AS number may be shown in the place of a node's own."""
        if self.template is not None:
            return self.template.asks("config")
        return self.word == "wide" or self.columns is not None

    def columns_of(self, kind: type[Resource], *, namespaces: bool, as_number: str = "") -> list[Column]:
        """The columns of a table of ``kind``; the namespace stands first where it is asked for."""
        if self.columns is not None:
            columns = self.columns.columns_of(kind)
        else:
            columns = printers.columns_of(kind, wide=self.word == "wide", namespaces=namespaces)
        if kind.__name__ != "Node":
            return columns
        return [_with_default(each, as_number) if each.heading == "ASN" else each for each in columns]

    def text(self, batches: Sequence[Batch], *, namespaces: bool, as_number: str = "") -> str:
        """All ``batches``, without a line end after the last line; empty where there is nothing to show."""
        if self.is_table:
            tables = [
                printers.rows_of(resources, self.columns_of(kind, namespaces=namespaces, as_number=as_number))
                for batch in batches
                for kind, resources in _by_kind(batch)
            ]
            return "\n\n".join(map(printers.aligned, tables))
        everything = [resource for batch in batches for resource in batch.resources]
        if self.word == "name":
            return "\n".join(map(name_of, everything))
        if self.template is not None:
            return self.rendered(batches, as_number)
        whole = batches[0].kind if len(batches) == 1 else None
        if not everything and whole is None:
            return ""
        tree = printers.document(everything, whole)
        return (printers.yaml_text(tree) if self.word == "yaml" else printers.json_text(tree)).rstrip("\n")

    def rendered(self, batches: Sequence[Batch], as_number: str) -> str:
        """What the template makes of ``batches``; ``BadFormat`` where it cannot."""
        from calico.cli.fields import Listing
        from calico.cli.template_text import BadTemplate

        assert self.template is not None
        found: list[Resource | Listing] = []
        for kind, resources in batches:
            found += resources if kind is None else [Listing(kind, resources)]
        try:
            return self.template.render(found, lambda _: as_number)
        except BadTemplate as error:
            raise _bad_template(error, self.template.text, self.source) from error


def name_of(resource: Resource) -> str:
    """``kind/name``, as ``get`` and ``delete`` take it."""
    return f"{type(resource).__name__.lower()}/{printers.line(resource.metadata.name)}"


def _with_default(column: Column, as_number: str) -> Column:
    """The column of the nodes' AS numbers: in parentheses where a node uses the cluster's."""

    def cell(node: Any) -> str:
        own: str = column.cell(node)
        return own or (f"({as_number})" if as_number and node.spec.bgp else "")

    return column._replace(cell=cell)


def _by_kind(batch: Batch) -> list[tuple[type[Resource], list[Resource]]]:
    """The tables to show: one a kind, also an empty one for a kind that was asked for as a whole."""
    grouped: dict[type[Resource], list[Resource]] = {} if batch.kind is None else {batch.kind: []}
    for resource in batch.resources:
        grouped.setdefault(type(resource), []).append(resource)
    return list(grouped.items())


# --- the option --------------------------------------------------------------------------------------


def parsed(text: str) -> Format:
    """The format that ``text`` names; ``click.UsageError`` or ``BadFormat`` if there is no such."""
    word, equals, value = text.partition("=")
    if not equals and (word in PLAIN or word == "yml"):
        return Format("yaml" if word == "yml" else word)
    if word.startswith("jsonpath"):
        raise click.UsageError(
            f"there is no output format {word!r}; custom-columns=NAME:.metadata.name has paths, go-template=... texts"
        )
    if f"{word}=" not in WITH_VALUE:
        from calico.model.schema import nearest

        raise click.UsageError(
            f"there is no output format {text!r}; {nearest(word, [*PLAIN, *(each[:-1] for each in WITH_VALUE)])}"
        )
    if not value:
        raise click.UsageError(f"-o {word} needs a value: write {word}=...")
    if word == "custom-columns":
        from calico.cli.columns import Chosen

        return Format(word, columns=Chosen.of(value))
    source = word
    if word == "go-template-file":
        word, source = "go-template", value
        value = _file(value)
    from calico.cli.gotemplate import Template
    from calico.cli.template_text import BadTemplate

    try:
        return Format(word, template=Template(value), source=source)
    except BadTemplate as error:
        raise _bad_template(error, value, source) from error


def _file(name: str) -> str:
    try:
        with open(name, encoding="utf-8") as file:  # noqa: PTH123  pathlib costs start-up time
            return file.read()
    except OSError as error:
        raise BadFormat(f"{name}: {error.strerror or error} (given by -o go-template-file)") from error
    except UnicodeDecodeError as error:
        raise BadFormat(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error


def _bad_template(error: BadTemplate, text: str, source: str) -> BadFormat:
    """The error with line and column, and the line itself."""
    from calico.model.errors import Problem

    before = text[: error.at]
    line = before.count("\n") + 1
    column = error.at - (before.rfind("\n") + 1) + 1
    excerpt = text.split("\n")[line - 1].rstrip("\r")
    return BadFormat(
        str(
            Problem(
                message=error.message,
                remedy=error.remedy,
                source=source,
                line=line,
                column=column,
                excerpt=excerpt,
            )
        )
    )


def _chosen(ctx: click.Context, param: click.Parameter, value: str) -> Format | None:
    del param
    return None if ctx.resilient_parsing else parsed(value)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del ctx, param
    from click.shell_completion import CompletionItem

    return [CompletionItem(each) for each in (*PLAIN, *WITH_VALUE) if each.startswith(incomplete)]


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``-o``; the command gets a ``Format`` as ``output``."""
    return click.option(
        "-o",
        "--output",
        metavar=METAVAR,
        default="ps",
        help="How to show what is found; default: ps, a table.",
        callback=_chosen,
        shell_complete=_complete,
    )(function)
