"""A small judge of JSON Schema: the words that our schemas use, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "required"),
    *(
        "additionalProperties",
        "items",
        "enum",
        "const",
        "pattern",
        "maxLength",
        "anyOf",
        "allOf",
        "if",
        "then",
    ),
    *("minimum", "maximum", "examples"),
}


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every place where the value does not fit the schema."""
    unknown = set(schema) - KNOWN
    assert not unknown, unknown
    if "$ref" in schema:
        definition = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        yield from violations(value, definition, root, path)
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: {value!r} does not match"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{path}: {value!r} is too long"
    if _is(value, "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value!r} is out of range"
    if isinstance(value, dict):
        yield from _members(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from violations(each, schema["items"], root, f"{path}[{index}]")
    if "anyOf" in schema and all(any(violations(value, each, root)) for each in schema["anyOf"]):
        yield f"{path}: {value!r} fits nothing of anyOf"
    for each in schema.get("allOf", ()):
        yield from violations(value, each, root, path)
    if "if" in schema and not any(violations(value, schema["if"], root)):
        yield from violations(value, schema["then"], root, path)


def _members(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}: {name} is missing"
    for name, each in value.items():
        if name in known:
            yield from violations(each, known[name], root, f"{path}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{path}: {name} is not known"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from violations(each, schema["additionalProperties"], root, f"{path}.{name}")


def _is(value: Any, name: str) -> bool:
    if name in {"integer", "number"}:
        whole = isinstance(value, int) or name == "number"
        return isinstance(value, int | float) and not isinstance(value, bool) and whole
    return isinstance(value, TYPES[name])
