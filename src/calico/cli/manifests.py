"""Resources from files: everything is read and judged before anybody acts on it.

In:   files, directories, ``-`` for standard input, and the namespace that the command line gives.
Out:  ``Manifest`` values, complete and valid; or ``BadManifests`` with all that is wrong with all files.
Next: ``cli.resources`` writes or deletes what they name, ``cli.get`` looks it up; what is refused then is said with
      the same places (``Manifest.problem``).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click
from msgspec.structs import replace

from calico.cli import problems
from calico.model import codec
from calico.model.errors import Finding, InvalidResources, Problem
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from calico.model.validation import defaulted

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
"""What a file must end in to be read from a directory; a file that is named itself may be called anything."""

STDIN: Final = "<stdin>"


class Manifest(NamedTuple):
    """A resource, complete, and where it stands: ``located`` is as it is written there."""

    resource: Resource
    located: codec.Located

    def problem(self, finding: Finding) -> Problem:
        """A finding about the resource, with its place in the file."""
        key = key_of(self.resource)
        subject = "/".join(part for part in (key.namespace, key.name) if part)
        return dataclasses.replace(self.located.problem(finding), kind=key.kind, name=subject)

    @property
    def source(self) -> str:
        """The file."""
        return self.problem(Finding((), "", "")).source


class BadManifests(click.ClickException):
    """Files that cannot be used, each problem with its place; nothing was done."""

    def __init__(self, found: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, found)))
        self.problems = tuple(found)
        self._as_json = problems.wants_json()  # who shows it has no command any more

    def show(self, file: IO[Any] | None = None) -> None:
        """The problems as they are: their first words are the places."""
        del file
        problems.report(self.problems, as_json=self._as_json)
        if not self._as_json:
            count = len(self.problems)
            what = "this problem" if count == 1 else f"these {count} problems"
            click.echo(f"Nothing was changed because of {what}.", err=True)


def load(
    files: Sequence[str], namespace: str | None, *, recursive: bool = False, skip_empty: bool = False
) -> list[Manifest]:
    """The resources of ``files`` in order, completed as clients store them; BadManifests if anything is wrong.

    One resource that stands twice is wrong, unless it is the same both times; then it counts once.
    """
    wrong: list[Problem] = []
    found: dict[Key, Manifest] = {}
    for source, text in texts(files, wrong, recursive=recursive):
        try:
            located = codec.read(text, source)
        except InvalidResources as error:
            wrong += error.problems
            continue
        if not located and not skip_empty:
            wrong.append(
                Problem(
                    message="there is no resource in it",
                    remedy="--skip-empty allows that",
                    source=source,
                )
            )
        for each in located:
            finding = _contradiction(each.resource, namespace)
            if finding is not None:
                wrong.append(each.problem(finding))
                continue
            manifest = Manifest(defaulted(_placed(each.resource, namespace)), each)
            other = found.setdefault(key_of(manifest.resource), manifest)
            if other.resource != manifest.resource:
                where = other.problem(Finding((), "", "")).place
                message = f"it stands at {where} too, with other content"
                wrong.append(manifest.problem(Finding((), message, "keep one of them")))
    if wrong:
        raise BadManifests(wrong)
    return list(found.values())


def _contradiction(resource: Resource, namespace: str | None) -> Finding | None:
    own = resource.metadata.namespace
    if namespace and resource.NAMESPACED and own and own != namespace:
        message = f"-n {namespace} contradicts its namespace {own!r}"
        return Finding(("metadata", "namespace"), message, "drop one of them")
    return None


def _placed(resource: Resource, namespace: str | None) -> Resource:
    """``resource`` in the namespace that ``-n`` gives, if it is of a kind that has namespaces."""
    if not namespace or not resource.NAMESPACED:
        return resource
    return replace(resource, metadata=replace(resource.metadata, namespace=namespace))


def texts(files: Sequence[str], wrong: list[Problem], *, recursive: bool) -> Iterator[tuple[str, str]]:
    """Name and content of each file, once; what cannot be read is added to ``wrong``."""
    from calico.model.yaml_text import BadText, text_of  # commands that read no file need no YAML

    seen: set[str] = set()
    for source in _sources(files, wrong, recursive=recursive):
        if source in seen:
            continue
        seen.add(source)
        try:
            content = _stdin() if source == STDIN else Path(source).read_bytes()
            yield source, text_of(content)
        except OSError as error:
            remedy = f"curl -L {source} | calicoctl ... -f - reads what is there" if "://" in source else ""
            wrong.append(Problem(message=error.strerror or str(error), remedy=remedy, source=source))
        except BadText as error:
            wrong.append(codec.unreadable(error, source))


def _sources(files: Sequence[str], wrong: list[Problem], *, recursive: bool) -> Iterator[str]:
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
                wrong.append(Problem(message=str(error.strerror), source=str(error.filename or name)))
                continue
            if not found:
                remedy = "" if recursive else "-R looks into its directories too"
                wrong.append(
                    Problem(message="no .yaml, .yml or .json file in it", remedy=remedy, source=name)
                )
            yield from found


def _within(directory: Path, *, recursive: bool) -> list[str]:
    entries = directory.rglob("*") if recursive else directory.iterdir()
    return [str(path) for path in sorted(entries) if path.suffix in SUFFIXES and _is_meant(path)]


def _is_meant(path: Path) -> bool:
    """Whether there is a file, or a link that leads nowhere: to pass that over would be to lose what it stood for."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _stdin() -> bytes:
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer.read()
