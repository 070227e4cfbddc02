"""Resources as text: tables with stable columns, YAML, JSON.

In:   resources.
Out:  text; nothing is printed here.
Next: ``cli.get`` prints it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from calico.model.resource import API_VERSION, Column, Resource, kind_word

NAMESPACE: Final = Column("NAMESPACE", lambda resource: resource.metadata.namespace or "")


def table(resources: Sequence[Resource], kind: type[Resource], *, wide: bool, namespaces: bool) -> str:
    """The resources of one kind as an aligned table, headings included, their namespaces first if asked for."""
    return aligned(rows_of(resources, columns_of(kind, wide=wide, namespaces=namespaces)))


def columns_of(kind: type[Resource], *, wide: bool, namespaces: bool) -> list[Column]:
    """The kind's own columns, their namespace first if asked for, where they have one."""
    columns = [column for column in kind.COLUMNS if wide or not column.wide]
    return [NAMESPACE, *columns] if namespaces and kind.NAMESPACED else columns


def rows_of(resources: Sequence[Resource], columns: Sequence[Column]) -> list[list[str]]:
    """A row of headings, and one for each resource."""
    return [
        [column.heading for column in columns],
        *([line(column.cell(resource)) for column in columns] for resource in resources),
    ]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns, three blanks apart, no trailing blanks."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def line(cell: str) -> str:
    """A cell on one line and harmless to a terminal, whatever was stored."""
    return cell if cell.isprintable() else "".join(c if c.isprintable() else " " for c in cell)


def document(resources: Sequence[Resource], kind: type[Resource] | None) -> dict[str, Any]:
    """What YAML and JSON show, as plain values that can be applied again.

    All of a ``kind`` are always a list, however many there are; of those that were asked for by name (kind
    None) one stands by itself, and several are a ``List``.
    """
    from calico.model.codec import to_builtins

    trees = [to_builtins(resource) for resource in resources]
    if kind is None and len(trees) == 1:
        return trees[0]
    name = f"{kind_word(kind)}List" if kind else "List"
    return {"apiVersion": kind.API_VERSION if kind else API_VERSION, "kind": name, "items": trees}


def yaml_text(tree: dict[str, Any]) -> str:
    """``tree`` as a YAML document."""
    from calico.model.yaml_text import dump

    return dump([tree])


def json_text(tree: dict[str, Any], *, indent: int | None = 2) -> str:
    """``tree`` as JSON, indented, that every program reads: bytes that are no UTF-8, as names may hold, are escaped."""
    import json

    text = json.dumps(tree, indent=indent, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()
