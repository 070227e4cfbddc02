"""What people call resources: kinds by any of their names, resources as ``KIND NAME`` or ``KIND/NAME``.

In:   words of the command line.
Out:  ``Wanted`` values; or a ``click.UsageError`` that names what was probably meant.
Next: ``cli.get`` reads them, ``cli.resources`` deletes them; ``cli.completion`` offers the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from calico.model.keys import KINDS
from calico.model.resource import Resource

METAVAR: Final = "KIND [NAME]... | KIND/NAME..."


class Wanted(NamedTuple):
    """One kind, and the names of those that are asked for; no names mean all."""

    kind: type[Resource]
    names: tuple[str, ...]


def kind_names() -> dict[str, type[Resource]]:
    """Every word that means a kind, in lower case."""
    return {word: kind for name, kind in KINDS.items() for word in (name.lower(), kind.PLURAL, *kind.SHORT)}


def overview() -> str:
    """The kinds as help shows them: plural, and the shortest other word."""
    return ", ".join(
        f"{kind.PLURAL} ({min(kind.SHORT, key=len)})" if kind.SHORT else kind.PLURAL
        for kind in sorted(KINDS.values(), key=lambda kind: kind.PLURAL)
    )


def kind_called(word: str) -> type[Resource]:
    """The kind that ``word`` means, in any case, singular, plural or short."""
    names = kind_names()
    found = names.get(word.lower())
    if found is not None:
        return found
    if "," in word:
        raise click.UsageError(f"{word!r} names several kinds; ask for one at a time")
    import difflib

    # Short words resemble everything, so only whole names are suggested.
    whole = [name for name in names if len(name) > 3]
    near = difflib.get_close_matches(word.lower(), whole, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {overview()}"
    raise click.UsageError(f"there is no kind {word!r}; {hint}")


def wanted(words: Sequence[str]) -> list[Wanted]:
    """What ``words`` ask for: a kind and names of it, or any number of ``KIND/NAME``, each once."""
    if "/" not in words[0]:
        kind, *names = words
        for name in names:
            if "/" in name:
                raise click.UsageError(f"{name!r} is no name; write KIND NAME... or KIND/NAME..., not both")
            if not name:
                raise click.UsageError("a name is empty; leave it out to ask for all")
        return [Wanted(kind_called(kind), tuple(dict.fromkeys(names)))]
    grouped: dict[type[Resource], dict[str, None]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not name or "/" in name:
            raise click.UsageError(f"{word!r} is not KIND/NAME, as the others are")
        grouped.setdefault(kind_called(kind), {})[name] = None
    return [Wanted(each, tuple(found)) for each, found in grouped.items()]
