"""Resources from files: everything is read and judged before anybody acts on it.

In:   files, directories, ``-`` for standard input, and the namespace that the command line gives.
Out:  ``Manifest`` values, complete and valid; or ``BadManifests`` with all that is wrong with all files.
Next: ``cli.resources`` writes or deletes what they name, ``cli.get`` looks it up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click
from msgspec.structs import replace

from calico.model import codec
from calico.model.errors import InvalidResources
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from calico.model.validation import defaulted

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
"""What a file must end in to be read from a directory; a file that is named itself may be called anything."""

STDIN: Final = "<stdin>"


class Manifest(NamedTuple):
    """A resource, and the file that it stands in."""

    resource: Resource
    source: str


class BadManifests(click.ClickException):
    """Files that cannot be used, each problem with its place; nothing was done."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.count = len(problems)

    def show(self, file: IO[Any] | None = None) -> None:
        """The problems as they are: their first words are the places."""
        what = "this problem" if self.count == 1 else f"these {self.count} problems"
        click.echo(f"{self.message}\nNothing was changed because of {what}.", file=file, err=True)


def load(
    files: Sequence[str], namespace: str | None, *, recursive: bool = False, skip_empty: bool = False
) -> list[Manifest]:
    """The resources of ``files`` in order, completed as clients store them; BadManifests if anything is wrong.

    One resource that stands twice is wrong, unless it is the same both times; then it counts once.
    """
    problems: list[str] = []
    found: dict[Key, Manifest] = {}
    for source, text in _texts(files, problems, recursive=recursive):
        try:
            resources = codec.load(text, source)
        except InvalidResources as error:
            problems += map(str, error.problems)
            continue
        if not resources and not skip_empty:
            problems.append(f"{source}: there is no resource in it; --skip-empty allows that")
        for resource in resources:
            contradiction = _contradiction(resource, namespace)
            if contradiction:
                problems.append(f"{source}: {contradiction}")
                continue
            manifest = Manifest(defaulted(_placed(resource, namespace)), source)
            key = key_of(manifest.resource)
            other = found.setdefault(key, manifest)
            if other.resource != manifest.resource:
                where = "before" if other.source == source else f"in {other.source}"
                problems.append(f"{source}: {key} stands {where} too, with other content; keep one of them")
    if problems:
        raise BadManifests(problems)
    return list(found.values())


def _contradiction(resource: Resource, namespace: str | None) -> str:
    own = resource.metadata.namespace
    if namespace and resource.NAMESPACED and own and own != namespace:
        return f"{key_of(resource)}: -n {namespace} contradicts its namespace {own!r}; drop one of them"
    return ""


def _placed(resource: Resource, namespace: str | None) -> Resource:
    """``resource`` in the namespace that ``-n`` gives, if it is of a kind that has namespaces."""
    if not namespace or not resource.NAMESPACED:
        return resource
    return replace(resource, metadata=replace(resource.metadata, namespace=namespace))


def _texts(files: Sequence[str], problems: list[str], *, recursive: bool) -> Iterator[tuple[str, str]]:
    """Name and content of each file, once; what cannot be read is added to ``problems``."""
    seen: set[str] = set()
    for source in _sources(files, problems, recursive=recursive):
        if source in seen:
            continue
        seen.add(source)
        try:
            content = _stdin() if source == STDIN else Path(source).read_bytes()
            yield source, content.decode("utf-8-sig")
        except OSError as error:
            problems.append(f"{source}: {error.strerror or error}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problems.append(f"{source}:{line}: byte {error.start} is not UTF-8; save the file as UTF-8 text")


def _sources(files: Sequence[str], problems: list[str], *, recursive: bool) -> Iterator[str]:
    for name in files:
        path = Path(name)
        if name == "-":
            yield STDIN
        elif not path.is_dir():
            yield name
        else:
            try:
                found = _within(path, recursive=recursive)
            except OSError as error:
                problems.append(f"{error.filename or name}: {error.strerror}")
                continue
            if not found:
                also = "" if recursive else "; -R looks into its directories too"
                problems.append(f"{name}: no .yaml, .yml or .json file in it{also}")
            yield from found


def _within(directory: Path, *, recursive: bool) -> list[str]:
    entries = directory.rglob("*") if recursive else directory.iterdir()
    return [str(path) for path in sorted(entries) if path.suffix in SUFFIXES and path.is_file()]


def _stdin() -> bytes:
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer.read()
