"""Resources to and from text and bytes: strict on the way in from people, lossless on the way out.

In:   YAML or JSON that a person wrote; bytes of a store.
Out:  resources; or ``InvalidResources`` with every problem of every document, each with its line.
Next: ``cli`` and the agent's API store what ``load`` gives; ``datastore`` uses ``encode`` and ``decode``.

What only people's text needs (YAML, the rules of every kind) is imported when the first such text comes.

People's text is read strictly: an unknown field is an error. A store's bytes are read tolerantly: other
writers, newer or older than we are, share the store, and what we do not know we do not judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from calico.model.errors import Finding, InvalidResources, ModelError, Path, Problem, dotted
from calico.model.ipam import BlockAffinity, IPAMBlock, IPAMConfig, IPAMHandle, Record
from calico.model.ipam_kinds import VIEWS, View
from calico.model.keys import KINDS, Key
from calico.model.resource import API_VERSION, Resource
from calico.model.schema import Misfit, fitted, misfits, schema, without_nulls

if TYPE_CHECKING:
    from calico.model.yaml_text import BadText, Places

RECORDS: Final[dict[str, type[Record]]] = {
    "BlockAffinity": BlockAffinity,
    "IPAMBlock": IPAMBlock,
    "IPAMConfiguration": IPAMConfig,
    "IPAMHandle": IPAMHandle,
}
"""IPAM's records, by the kind of their keys."""

# --- people's text -----------------------------------------------------------------------------------

Judge: TypeAlias = Callable[[Any], tuple[Resource | None, list[Misfit]]]
"""What resource plain values are, if they are one, and everything that is wrong with them."""


class _Part(NamedTuple):
    """One candidate for a resource: the document it is in, the path to it there, and its plain values."""

    document: int
    prefix: Path
    tree: Any


class Located(NamedTuple):
    """A resource that a text holds, and how to say something about it with its place there."""

    resource: Resource
    problem: Callable[[Finding], Problem]
    """What a finding is in full: with source, line, column and the line itself."""

    def warning(self, finding: Finding) -> Problem:
        """A finding that forbids nothing, in full."""
        return dataclasses.replace(self.problem(finding), severity="warning")


def load(text: str, source: str = "<text>") -> list[Resource]:
    """The resources of ``text``; see ``read``."""
    return [located.resource for located in read(text, source)]


def read(text: str, source: str = "<text>") -> list[Located]:
    """The resources of ``text``, in order: YAML documents or JSON, one each, in lists, or in kinds like ``List``.

    Nothing is filled in (``validation.defaulted`` does that). Null fields count as absent. If anything is
    wrong anywhere, ``InvalidResources`` is raised with all that is wrong everywhere.
    """
    from calico.model.judgement import judged  # readers of a store judge nothing

    return read_as(text, source, judged)


def read_as(text: str, source: str, judge: Judge) -> list[Located]:
    """What ``read`` gives, where ``judge`` says what resource plain values are, and all that is wrong with them."""
    from calico.model.yaml_text import Places

    places = Places(text)
    problems: list[Problem] = []
    resources: list[Located] = []
    for part in _parts(text, source, places, problems):
        resource, found = _judged(part.tree, judge)
        problem = partial(_located, places, source, part)
        if resource is not None and not found:
            resources.append(Located(resource, problem))
        of_part = [problem(each.finding, at_key=each.at_key) for each in found]
        problems += sorted(of_part, key=lambda each: (each.line, each.column))
    if problems:
        raise InvalidResources(tuple(problems))
    return resources


def _located(places: Places, source: str, part: _Part, finding: Finding, *, at_key: bool = False) -> Problem:
    path = (*part.prefix, *finding.path)
    place = places.find(part.document, path, at_key=at_key or finding.at_key, offset=finding.offset)
    kind, name = _identity(part.tree)
    return Problem(
        message=finding.message,
        remedy=finding.remedy,
        path=finding.path,
        kind=kind,
        name=name,
        source=source,
        document=part.document,
        line=place.line,
        column=place.column,
        excerpt=place.excerpt,
    )


def from_builtins(tree: Mapping[str, Any]) -> Resource:
    """One resource from plain values, as strictly as ``load``; ``InvalidResources`` without lines."""
    from calico.model.judgement import judged

    resource, found = _judged(tree, judged)
    if resource is None or found:
        kind, name = _identity(tree)
        raise InvalidResources(
            tuple(
                Problem(message=each.message, remedy=each.remedy, path=each.path, kind=kind, name=name)
                for each in (misfit.finding for misfit in found)
            )
        )
    return resource


def _parts(text: str, source: str, places: Places, problems: list[Problem]) -> Iterator[_Part]:
    from calico.model.yaml_text import BadText, trees

    try:
        for index, document in enumerate(trees(text)):
            if isinstance(document, BadText):
                problems.append(unreadable(document, source, index, places))
            else:
                yield from _unpacked(index, (), document)
    except RecursionError:
        problems.append(
            Problem(message="lists nest too deep, or within themselves", remedy="flatten them", source=source)
        )


def unreadable(error: BadText, source: str, document: int = 0, places: Places | None = None) -> Problem:
    """What is wrong with a document, or a whole file, that is no text of resources."""
    place = places.at(error.line, error.column) if places else None
    return Problem(
        message=error.reason,
        remedy=error.remedy,
        source=source,
        document=document,
        line=error.line,
        column=error.column,
        excerpt=place.excerpt if place else error.excerpt,
    )


def _unpacked(document: int, prefix: Path, tree: Any) -> Iterator[_Part]:
    if tree is None:
        return
    if isinstance(tree, list):
        for index, each in enumerate(tree):
            yield from _unpacked(document, (*prefix, index), each)
        return
    kind = tree.get("kind") if isinstance(tree, dict) else None
    if kind == "List" and "items" in tree and tree["items"] is None:
        return  # as programs of Go write an empty one
    if isinstance(kind, str) and kind.endswith("List") and isinstance(tree.get("items"), list):
        common = {"apiVersion": tree.get("apiVersion"), "kind": kind.removesuffix("List")}
        for index, each in enumerate(tree["items"]):
            item = {**common, **each} if common["kind"] and isinstance(each, dict) else each
            yield from _unpacked(document, (*prefix, "items", index), item)
        return
    yield _Part(document, prefix, tree)


def _identity(tree: Any) -> tuple[str, str]:
    """Kind and ``namespace/name``, as far as the tree tells them."""
    if not isinstance(tree, dict):
        return "", ""
    metadata = tree.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    parts = (metadata.get("namespace"), metadata.get("name"))
    kind = tree.get("kind")
    return kind if isinstance(kind, str) else "", "/".join(
        part for part in parts if part and isinstance(part, str)
    )


def _judged(tree: Any, judge: Judge) -> tuple[Resource | None, list[Misfit]]:
    try:
        return judge(tree)
    except RecursionError:
        return None, [Misfit(Finding((), "values nest too deep, or within themselves", "flatten them"))]


# --- people's text, the other way --------------------------------------------------------------------


def to_builtins(resource: Resource) -> dict[str, Any]:
    """Plain values as YAML shows them: apiVersion, kind, metadata, spec, status; whole floats as whole numbers."""
    tree: dict[str, Any] = msgspec.to_builtins(resource)
    return {"apiVersion": resource.API_VERSION, "kind": tree["kind"]} | {
        key: _plain(value) for key, value in tree.items() if key not in {"apiVersion", "kind"}
    }


def to_yaml(resources: Iterable[Resource]) -> str:
    """One YAML document for each resource; ``load`` gives back the same resources."""
    from calico.model.yaml_text import dump

    return dump(map(to_builtins, resources))


def to_json(resources: Iterable[Resource]) -> str:
    """Indented JSON: the resource if there is one, else a ``List``; ``load`` gives back the same resources."""
    import json

    trees = [*map(to_builtins, resources)]
    tree = trees[0] if len(trees) == 1 else {"apiVersion": API_VERSION, "kind": "List", "items": trees}
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


# --- a store's bytes ---------------------------------------------------------------------------------

_encoder: Final = msgspec.json.Encoder(order="deterministic")


def encode(value: Resource | Record) -> bytes:
    """JSON for the store: apiVersion and kind first, no resourceVersion; equal values give equal bytes.

    Of a view of a record, the record.
    """
    if isinstance(value, View):
        value = value.to_record()
    if isinstance(value, Record):
        return _encoder.encode(value)
    bare = replace(
        value, api_version=value.API_VERSION, metadata=replace(value.metadata, resource_version=None)
    )
    head = f'{{"apiVersion":"{value.API_VERSION}",'.encode()
    return head + _encoder.encode(bare)[1:]  # msgspec leaves the default apiVersion out


def decode(key: Key, value: bytes, revision: int) -> Resource | Record:
    """What a store holds at ``key``; name and namespace are the key's, resourceVersion is ``revision``.

    Unknown fields and null are passed over. ``ModelError``, naming the key, for what is not of its kind.
    """
    kind = RECORDS.get(key.kind) or KINDS.get(key.kind)
    if kind is BlockAffinity and not value:
        return BlockAffinity(state="confirmed")  # as writers of old left it
    if kind is None:
        raise ModelError(
            f"{key}: there is no kind {key.kind!r}; whoever made this key is newer than this program"
        )
    try:
        found = _decoded(kind, value)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ModelError(
            f"{key}: {_unfit(kind, value, error)}; whoever wrote it has to correct it"
        ) from error
    if isinstance(found, Record):
        return found
    metadata = replace(
        found.metadata,
        name=key.name,
        namespace=key.namespace if found.NAMESPACED else None,
        resource_version=str(revision),
    )
    return replace(found, metadata=metadata)


def decode_resource(key: Key, value: bytes, revision: int) -> Resource:
    """What ``decode`` gives; a record of IPAM as the resource that is a view of it."""
    found = decode(key, value, revision)
    if isinstance(found, Resource):
        return found
    view = VIEWS[key.kind].from_record(key.name, key.namespace, found)
    return replace(view, metadata=replace(view.metadata, resource_version=str(revision)))


def _unfit(kind: type[Resource | Record], value: bytes, error: Exception) -> str:
    """Why a store's bytes are nothing of ``kind``: the field, and what is wrong with it, as of people's text."""
    try:
        tree = fitted(without_nulls(msgspec.json.decode(value)), schema(kind))
        found = [misfit.finding for misfit in misfits(tree, schema(kind))]
    except (msgspec.MsgspecError, RecursionError):
        found = []
    if not found:
        return f"this is no {kind.__name__}: {error}"
    first, more = found[0], len(found) - 1
    where = f"{dotted(first.path)}: " if first.path else ""
    return f"{where}{first.message}{f' (and {more} more)' if more else ''}"


def _decoded(kind: type[Resource | Record], value: bytes) -> Resource | Record:
    try:
        return _decoder(kind).decode(value)
    except msgspec.ValidationError:
        tree = msgspec.json.decode(value)
    return msgspec.convert(fitted(without_nulls(tree), schema(kind)), kind)


@lru_cache
def _decoder(kind: type[Resource | Record]) -> msgspec.json.Decoder[Resource | Record]:
    return msgspec.json.Decoder(kind)
