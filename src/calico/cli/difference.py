"""What a command would change in the store, as a unified diff of YAML.

In:   the changes of a dry run.
Out:  text, coloured on a terminal; nothing for what only the system's own marks tell apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from typing import Any, Final

import click

from calico.datastore.api import Entry
from calico.datastore.snapshot import Change
from calico.model import codec
from calico.model.errors import ModelError
from calico.model.keys import Key, parse_path

NOISE: Final = ("uid", "creationTimestamp", "resourceVersion", "generation", "managedFields", "selfLink")
"""What the system writes into metadata with every change; nobody asks for a difference of that."""

_STYLES: Final[dict[str, dict[str, Any]]] = {
    "+++": {"bold": True},
    "---": {"bold": True},
    "@@": {"fg": "cyan"},
    "+": {"fg": "green"},
    "-": {"fg": "red"},
}


def show(changes: Iterable[Change]) -> bool:
    """Print the differences on standard output; whether there are any."""
    coloured = _coloured()
    different = False
    for change in changes:
        for line in lines(change):
            different = True
            click.echo(_styled(line) if coloured else line, color=coloured)
    return different


def lines(change: Change) -> Iterator[str]:
    """The unified diff of one change, with the key in the place of file names; ``/dev/null`` is nothing."""
    key = parse_path(change.path)
    name = str(key or change.path)
    before, after = (_text(key, entry) for entry in (change.before, change.after))
    yield from unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"stored/{name}" if change.before else os.devnull,
        f"wanted/{name}" if change.after else os.devnull,
        lineterm="",
    )


def _text(key: Key | None, entry: Entry | None) -> str:
    """The entry as YAML without noise; as it is if it cannot be read."""
    if entry is None:
        return ""
    if key is None:
        return entry.value.decode(errors="replace")
    try:
        tree = codec.to_builtins(codec.decode_resource(key, entry.value, entry.revision))
    except ModelError:
        return entry.value.decode(errors="replace")
    from calico.model.yaml_text import dump

    metadata = {name: value for name, value in tree["metadata"].items() if name not in NOISE}
    return dump([{**tree, "metadata": metadata}])


def _styled(line: str) -> str:
    return next(
        (click.style(line, **style) for start, style in _STYLES.items() if line.startswith(start)), line
    )


def _coloured() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
