"""What a newer writer stored and this program does not know stays where it was when something known changes.

In:   a value as it is stored, the value that is to be stored in its place, both as plain values, and their type.
Out:  the latter, with what only the former's writer understands.
Next: ``datastore.typed`` writes it.

A field that we know follows the new value alone: one that is gone stays gone, and takes with it what was
inside. In a list an unknown field stays with its item: the one that is equal in all that we know, wherever it
is now, else the one of the same name (or CIDR, or whatever else tells the items apart).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from calico.model.schema import fitted, schema, without_nulls

IDENTITIES: Final = ("name", "uid", "key", "cidr", "peerIP", "address")
"""Fields that tell the items of a list apart, where all have one and no two have the same."""


def carried_bytes(before: bytes, after: bytes, of: type[msgspec.Struct]) -> bytes:
    """``carried`` for JSON; ``after`` itself where ``before`` holds nothing unknown, or is no JSON."""
    if _is_known(before, of):
        return after
    try:
        new = msgspec.json.decode(after)
        result = carried(msgspec.json.decode(before), new, schema(of))
    except (msgspec.MsgspecError, RecursionError):
        return after
    return after if result == new else msgspec.json.encode(result)


def _is_known(value: bytes, of: type[msgspec.Struct]) -> bool:
    """Whether ``value`` certainly holds nothing unknown; quick, and the usual case."""
    if not of.__struct_config__.forbid_unknown_fields:
        return False
    try:
        _decoder(of).decode(value)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


@lru_cache
def _decoder(of: type) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of)


def carried(before: Any, after: Any, of: inspect.Type) -> Any:
    """``after`` with all fields of ``before`` that the type does not know, at any depth where both have a struct.

    ``after`` fits the type. Of ``before`` nothing is expected: what does not fit is passed over.
    """
    match of, before, after:
        case inspect.StructType(fields=fields, tag_field=tag), dict(), dict():
            known = {field.encode_name: field.type for field in fields}
            unknown = {
                key: value
                for key, value in before.items()
                if key not in known and key not in after and key != tag
            }
            return {**_members(before, after, known), **unknown}
        case inspect.DictType(value_type=each), dict(), dict():
            return _members(before, after, dict.fromkeys(after, each))
        case inspect.ListType(item_type=item), list(), list():
            pairs = _paired(before, after, item)
            return [
                carried(before[pairs[index]], value, item) if index in pairs else value
                for index, value in enumerate(after)
            ]
        case inspect.UnionType(types=types), dict() | list(), dict() | list():
            containers = [each for each in types if not isinstance(each, inspect.NoneType)]
            return carried(before, after, containers[0]) if len(containers) == 1 else after
    return after


def _members(before: dict[str, Any], after: dict[str, Any], known: dict[str, inspect.Type]) -> dict[str, Any]:
    return {
        key: carried(before[key], value, known[key]) if key in before and key in known else value
        for key, value in after.items()
    }


def _paired(before: Sequence[Any], after: Sequence[Any], item: inspect.Type) -> dict[int, int]:
    """Which item of ``before`` each of ``after`` goes on from, by their indexes; no item twice."""
    if not isinstance(item, inspect.StructType):
        return {}
    old = [_understood(each, item) for each in before]
    new = [_understood(each, item) for each in after]
    pairs = {index: index for index, value in enumerate(new[: len(old)]) if value == old[index] is not None}
    free = [index for index, value in enumerate(old) if value is not None and index not in pairs]
    for index, value in enumerate(new):
        if index not in pairs:
            match = next((each for each in free if old[each] == value), None)
            if match is not None:
                pairs[index] = match
                free.remove(match)
    for name in IDENTITIES:
        theirs, ours = _by_identity(before, name), _by_identity(after, name)
        if theirs and ours:
            for identity, index in ours.items():
                match = theirs.get(identity)
                if index not in pairs and match in free:
                    pairs[index] = match
                    free.remove(match)
            break
    return pairs


def _understood(value: Any, of: inspect.StructType) -> Any:
    """The item as we understand it, defaults filled in; None if we do not."""
    try:
        return msgspec.convert(fitted(without_nulls(value), of), of.cls)
    except msgspec.ValidationError:
        return None


def _by_identity(items: Sequence[Any], name: str) -> dict[Any, int]:
    """The places of the items by a field; empty unless all have it, each its own."""
    values = [each.get(name) if isinstance(each, dict) else None for each in items]
    unique = all(isinstance(each, str) and each for each in values) and len(set(values)) == len(values)
    return {value: index for index, value in enumerate(values)} if unique else {}
