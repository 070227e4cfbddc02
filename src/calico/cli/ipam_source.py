"""Where the commands of ``calicoctl ipam`` look, and the shapes in which they show what they find.

In:   the store's location, or a file that an export or a backup wrote.
Out:  ``ipam.picture.Picture``; addresses from the command line; tables with borders, bars, JSON and YAML.
Next: each command asks what it wants to know of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from calico.cli.stores import Location

if TYPE_CHECKING:
    from calico.ipam.picture import Picture
    from calico.model.address import Cidr

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

BAR: Final = 20
"""How many characters a bar has, full and empty."""

EPILOG: Final = (
    "Exit status: 0 done; 1 it could not be done, and standard error says why; 2 the command line is wrong."
)


def source_option(function: Decorated) -> Decorated:
    """``-f``: look into a file, and ask no store; passes ``files``."""
    return click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE",
        type=click.Path(readable=False),
        help="Look into what 'datastore migrate export' or 'backup' wrote, and ask no store.",
    )(function)


def output_option(function: Decorated) -> Decorated:
    """``-o ps|wide|yaml|json``; passes ``output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["ps", "wide", "yaml", "json"]),
        default="ps",
        show_default=True,
        callback=_chosen,
        help="How to show it: for people, with more columns, or for programs.",
    )(function)


def _chosen(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Failures are shown as JSON, too, where the answer would be."""
    del ctx, param
    if value == "json":
        from calico.cli.problems import choose

        choose("json")
    return value


def picture_of(location: Location | None, file: str | None) -> Picture:
    """The picture of the store, or of what ``file`` holds; an error of the command where there is none."""
    from calico.ipam.picture import picture, read

    if location is not None:
        from calico.cli.session import look

        return look(location, lambda client: read(client.store))
    from calico.datastore.api import Entry

    assert file is not None
    content = _content(file)
    return picture(0, [Entry(path, value, 0) for path, value in sorted(content.items())])


def _content(file: str) -> Mapping[str, bytes]:
    from pathlib import Path

    from calico.cli.problems import Failure
    from calico.datastore import backup_file, exported
    from calico.datastore.api import StoreError
    from calico.datastore.typed import timestamp
    from calico.model.errors import ModelError

    try:
        found = Path(file).read_bytes()
        if backup_file.looks_like_one(found):
            return backup_file.parse(found, file).content
        return exported.parse(found.decode(), file, stamp=timestamp()).content
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is neither an export nor a backup: byte {error.start} is not UTF-8") from error
    except (StoreError, ModelError) as error:
        raise Failure(str(error)) from error


def address_of(text: str) -> Cidr:
    """The single address that a person wrote; an error of the command line if it is none."""
    from calico.model.address import AddressError, parse_cidr

    try:
        found = parse_cidr(text)
    except AddressError as error:
        raise click.UsageError(f"{error}; write one address, as in 10.65.0.7") from error
    if not found.is_address:
        raise click.UsageError(f"{text} is a prefix with many addresses; write one, as in {found.address}")
    return found


# --- shapes ------------------------------------------------------------------------------------------


def bordered(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """A table with borders, as Calico prints those of IPAM; columns in ``right`` are numbers."""
    from calico.cli.printers import line

    cells = [[line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    border = "+".join(["", *("-" * (width + 2) for width in widths), ""])

    def shown(row: Sequence[str]) -> str:
        sides = zip(headings, row, widths, strict=True)
        return (
            "| "
            + " | ".join(
                cell.rjust(width) if heading in right else cell.ljust(width) for heading, cell, width in sides
            )
            + " |"
        )

    return "\n".join([border, shown(headings), border, *map(shown, cells), border])


def bar(part: int, total: int) -> str:
    """How much of ``total`` is ``part``, to be seen at a glance; a little is not nothing, and nearly all is not all."""
    if not total:
        return "." * BAR
    full = part * BAR // total
    full = min(max(full, 1), BAR - 1) if 0 < part < total else min(full, BAR)
    return "#" * full + "." * (BAR - full)


def count(number: int) -> str:
    """A number of addresses in at most five digits, as Calico has it."""
    return f"{float(number):.5g}"


def share(part: int, total: int) -> str:
    """A number of addresses, and which part of ``total`` that is."""
    return f"{count(part)} ({100 * part / total:.0f}%)" if total else count(part)


def emit(tree: dict[str, Any], output: str) -> None:
    """Print plain values as JSON or YAML."""
    from calico.cli.printers import json_text, yaml_text

    click.echo(json_text(tree) if output == "json" else yaml_text(tree), nl=False)
