"""What all of Kubernetes' objects have in common, and how their parts are read.

In:   plain values of an object, which may be misshapen: they were written by others.
Out:  ``Origin``: who the object is; ``mapping`` and ``items``: its parts; ``Conversion``: what came of it.
Next: ``model.kubernetes`` and ``model.kubernetes_policy`` convert the kinds.

A part that has not the shape that it should have raises ``Unconvertible``; whoever can do without that part catches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from calico.model.errors import ModelError, Path, Problem, dotted
from calico.model.resource import Metadata, Resource
from calico.model.schema import nearest, shown, without_nulls

Object: TypeAlias = Mapping[str, Any]

CONSEQUENCE: Final = "; until then "
"""What stands in a problem's remedy before that which follows from the problem until it is corrected."""


class Conversion(NamedTuple):
    """What an object became, and what of it could not be converted."""

    resources: tuple[Resource, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Errors: what Kubernetes would refuse, too; warnings: what is right there, and has no counterpart here."""


class Unconvertible(ModelError):
    """A part of an object that has no counterpart: where it is in the object, what is wrong, what would be right."""

    def __init__(self, message: str, remedy: str, path: Path = ()) -> None:
        super().__init__(f"{dotted(path)}: {message}; {remedy}")
        self.message = message
        self.remedy = remedy
        self.path = path


class Unsupported(Unconvertible):
    """A part of an object that is right in Kubernetes, and has no counterpart here."""


@contextmanager
def at(*path: str | int) -> Iterator[None]:
    """Inside, what is unconvertible is at ``path``."""
    try:
        yield
    except Unconvertible as error:
        raise type(error)(error.message, error.remedy, (*path, *error.path)) from error


def mapping(tree: Any) -> Object:
    """``tree`` itself, if it is a mapping."""
    if not isinstance(tree, dict):
        raise Unconvertible(f"{shown(tree)} stands where a mapping is expected", "write fields and values")
    return tree


def part(tree: Object, name: str) -> Object:
    """A field that is a mapping, empty if it is not there."""
    with at(name):
        return mapping(tree.get(name, {}))


def only(tree: Any, *known: str) -> Object:
    """``tree`` itself, if it is a mapping with none but ``known`` fields.

    For parts that mean more the less they say: a field that is passed over, perhaps for a slip of the pen, would
    widen them.
    """
    for name in mapping(tree):
        if name not in known:
            raise Unconvertible(f"there is no field {name!r}", nearest(str(name), [*known]), (str(name),))
    return mapping(tree)


def items(tree: Object, name: str) -> list[Any]:
    """A field that is a list, empty if it is not there."""
    found = tree.get(name, [])
    if not isinstance(found, list):
        raise Unconvertible(f"{shown(found)} stands where a list is expected", "write a list", (name,))
    return found


def text(tree: Object, name: str) -> str:
    """A field that is text, empty if it is not there."""
    found = tree.get(name, "")
    if not isinstance(found, str):
        raise Unconvertible(f"{shown(found)} stands where text is expected", "put it in quotes", (name,))
    return found


def texts(tree: Object, name: str) -> dict[str, str]:
    """A field that maps text to text, empty if it is not there."""
    found = part(tree, name)
    with at(name):
        return {str(key): text(found, key) for key in found}


@dataclass
class Origin:
    """An object of Kubernetes: its body without nulls, who it is, and what was found wrong with it so far."""

    body: Object
    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: str | None
    uid: str | None
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, document: Object) -> Origin:
        """The object that ``document`` describes; ``Unconvertible`` if it does not even have a name."""
        body = mapping(without_nulls(dict(document)))
        metadata = part(body, "metadata")
        with at("metadata"):
            name = text(metadata, "name")
            if not name:
                raise Unconvertible("the object has no name", "add metadata.name")
            return cls(
                body=body,
                kind=str(body.get("kind", "")),
                name=name,
                namespace=text(metadata, "namespace") or "default",
                labels=texts(metadata, "labels"),
                annotations=texts(metadata, "annotations"),
                created=text(metadata, "creationTimestamp") or None,
                uid=text(metadata, "uid") or None,
            )

    def report(self, error: Unconvertible, *path: str | int, consequence: str = "") -> None:
        """Keep what is wrong, with what follows from it until it is corrected."""
        remedy = f"{error.remedy}{CONSEQUENCE}{consequence}" if consequence else error.remedy
        found = problem(self.body, error.message, remedy, (*path, *error.path))
        self.problems.append(replace(found, severity="warning") if isinstance(error, Unsupported) else found)

    def metadata(self, name: str, namespace: str | None = None) -> Metadata:
        """The metadata of what the object becomes: as old as it, and with a uid of its own that follows from its uid."""
        return Metadata(
            name=name,
            namespace=namespace,
            creation_timestamp=self.created,
            uid=None if self.uid is None else derived_uid(self.uid),
        )

    def became(self, *resources: Resource) -> Conversion:
        """The conversion's result."""
        return Conversion(resources, tuple(self.problems))


def problem(document: Any, message: str, remedy: str, path: Path) -> Problem:
    """A problem of the object that ``document`` describes, as far as it does."""
    tree = document if isinstance(document, dict) else {}
    metadata = tree.get("metadata")
    names = [metadata.get("namespace"), metadata.get("name")] if isinstance(metadata, dict) else []
    return Problem(
        message=message,
        remedy=remedy,
        path=path,
        kind=str(tree.get("kind", "")),
        name="/".join(str(name) for name in names if name),
    )


def derived_uid(uid: str) -> str:
    """The uid of what an object becomes: its own with the bits reversed, so that the two differ; text that is no uid stays."""
    try:
        value = UUID(uid).int
    except ValueError:
        return uid
    return str(UUID(int=int(f"{value:0128b}"[::-1], 2)))
