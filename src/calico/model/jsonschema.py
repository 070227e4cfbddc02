"""The kinds as JSON Schema (draft 2020-12), for editors.

In:   kinds.
Out:  a schema, as plain values, that every resource which ``model.codec`` accepts fits: fields, types, words.
Next: ``calicoctl schema`` prints it.

It says what the types say, and what is cheap to know of names. What holds between fields, and selectors, ports
and prefixes, are judged by ``calicoctl validate`` alone. Null, which counts as nothing, is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from calico.model.checks import NAME_LENGTH
from calico.model.resource import Resource, kind_word

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

_REFERENCE: Final = "#/$defs/"


def schema_of(kinds: Sequence[type[Resource]]) -> dict[str, Any]:
    """The schema of one kind, or of documents that may be of any of several."""
    _, found = msgspec.json.schema_components(kinds, ref_template=f"{_REFERENCE}{{name}}")
    definitions: dict[str, Any] = {name: _tidy(tree) for name, tree in found.items()}
    metadata = definitions.pop("Metadata")
    for kind in kinds:
        own = definitions[kind.__name__]
        own["title"] = kind_word(kind)
        own["properties"] = {
            "apiVersion": {"const": kind.API_VERSION},
            "kind": {"const": kind_word(kind)},
            **{name: of for name, of in own["properties"].items() if name not in {"apiVersion", "kind"}},
            "metadata": _metadata(kind, metadata),
        }
        own["required"] = ["apiVersion", "kind", "metadata", *own["required"][1:]]
    if len(kinds) == 1:
        (kind,) = kinds
        top = definitions.pop(kind.__name__)
    else:
        top = _any_of(kinds)
    return {"$schema": DRAFT, **top, "$defs": dict(sorted(definitions.items()))}


def _any_of(kinds: Sequence[type[Resource]]) -> dict[str, Any]:
    """Each document by its own kind, so that an editor says what is wrong with it as such."""

    def of(kind: type[Resource]) -> dict[str, Any]:
        is_it = {"apiVersion": {"const": kind.API_VERSION}, "kind": {"const": kind_word(kind)}}
        return {
            "if": {"properties": is_it, "required": ["apiVersion", "kind"]},
            "then": {"$ref": f"{_REFERENCE}{kind.__name__}"},
        }

    return {
        "title": "Resource",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"enum": sorted({kind.API_VERSION for kind in kinds})},
            "kind": {"enum": sorted({kind_word(kind) for kind in kinds})},
        },
        "allOf": [of(kind) for kind in kinds],
    }


def _metadata(kind: type[Resource], common: dict[str, Any]) -> dict[str, Any]:
    """``metadata`` of a kind: which names it may have, and whether it has a namespace."""
    properties = {
        name: of for name, of in common["properties"].items() if name != "namespace" or kind.NAMESPACED
    }
    if kind.ONLY:
        properties["name"] = {"const": kind.ONLY}
    elif kind.name_problems is Resource.name_problems:
        properties["name"] = {"type": "string", "pattern": SUBDOMAIN, "maxLength": NAME_LENGTH}
    # Whether there must be a name: a kind whose names are made of the spec has nothing against an empty one.
    named = any(kind.name_problems(Resource()))
    return {**common, "properties": properties, "required": ["name"] if named else []}


def _tidy(tree: Any) -> Any:
    """Without null, and without defaults that say nothing."""
    match tree:
        case {"anyOf": list() as choices, **more} if {"type": "null"} in choices:
            others = [_tidy(each) for each in choices if each != {"type": "null"}]
            rest = {key: value for key, value in more.items() if key != "default" or value is not None}
            return {**others[0], **rest} if len(others) == 1 else {"anyOf": others, **rest}
        case dict():
            return {
                key: value.replace("``", "`")
                if key == "description" and isinstance(value, str)
                else _tidy(value)
                for key, value in tree.items()
                if not (key == "default" and value in (None, "", [], {}, False))
            }
        case list():
            return [_tidy(each) for each in tree]
        case _:
            return tree
