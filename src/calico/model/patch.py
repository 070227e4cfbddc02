"""Patches of resources as plain values: merge (RFC 7386), JSON patch (RFC 6902), and Kubernetes' strategic merge.

In:   the resource as plain values, and the patch, as JSON gave it.
Out:  new plain values; or ``PatchError``, with the operation that cannot be done. What was given is not changed.
Next: ``cli.patch`` has the result judged like any text, and writes it.

A strategic merge differs from a plain one in lists that have a merge strategy. Of all that Calico's types hold
these are Kubernetes' own: finalizers and owner references in the metadata, and conditions in the status.
Every other list is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from calico.model.errors import ModelError
from calico.model.schema import shown

MERGED_BY: Final[dict[tuple[str, ...], str]] = {
    ("metadata", "finalizers"): "",
    ("metadata", "ownerReferences"): "uid",
    ("status", "conditions"): "type",
}
"""The lists that a strategic merge adds to, and the field by which it knows their items; "" for plain values."""

DIRECTIVE: Final = "$patch"
RETAIN: Final = "$retainKeys"
DELETE: Final = "$deleteFromPrimitiveList/"
ORDER: Final = "$setElementOrder/"


class PatchError(ModelError):
    """A patch that cannot be applied to what it is for; nothing of it was."""


# --- merge -------------------------------------------------------------------------------------------


def merge(tree: Any, patch: Any) -> Any:
    """``tree`` with the fields of ``patch`` put in; null removes a field; lists and scalars are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(tree) if isinstance(tree, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


# --- strategic merge ---------------------------------------------------------------------------------


def strategic(tree: Any, patch: Any) -> Any:
    """``tree`` with ``patch`` merged in as Kubernetes does, directives included."""
    return _strategic(tree, patch, ())


def _strategic(tree: Any, patch: Any, path: tuple[str, ...]) -> Any:
    if isinstance(patch, list) and path in MERGED_BY:
        return _strategic_list(tree if isinstance(tree, list) else [], patch, MERGED_BY[path], path)
    if not isinstance(patch, dict):
        return patch
    fields = dict(patch)
    directive = fields.pop(DIRECTIVE, "merge")
    if directive not in {"merge", "replace", "delete"}:
        raise PatchError(
            f"{_where(path)}: {DIRECTIVE} is {shown(directive)}; it may be replace, delete or merge"
        )
    result = dict(tree) if isinstance(tree, dict) and directive == "merge" else {}
    if directive == "delete":
        return result
    retained = fields.pop(RETAIN, None)
    if retained is not None:
        if not isinstance(retained, list):
            raise PatchError(f"{_where(path)}: {RETAIN} is {shown(retained)}; a list of fields belongs there")
        result = {key: value for key, value in result.items() if key in retained}
    orders = {key.removeprefix(ORDER): fields.pop(key) for key in list(fields) if str(key).startswith(ORDER)}
    gone = {key.removeprefix(DELETE): fields.pop(key) for key in list(fields) if str(key).startswith(DELETE)}
    for name, values in gone.items():
        held = result.get(name)
        if isinstance(held, list) and isinstance(values, list):
            result[name] = [each for each in held if each not in values]
    for name, value in fields.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _strategic(result.get(name), value, (*path, str(name)))
    for name, order in orders.items():
        held = result.get(name)
        if isinstance(held, list) and isinstance(order, list):
            result[name] = _ordered(held, order, MERGED_BY.get((*path, name), ""))
    return result


def _strategic_list(held: list[Any], patch: list[Any], key: str, path: tuple[str, ...]) -> list[Any]:
    if not key:
        return [*held, *(each for each in patch if each not in held)]
    if any(isinstance(each, dict) and each.get(DIRECTIVE) == "replace" for each in patch):
        return [each for each in patch if not isinstance(each, dict) or DIRECTIVE not in each]
    result = list(held)
    for index, each in enumerate(patch):
        if not isinstance(each, dict) or key not in each:
            raise PatchError(f"{_where(path)}[{index}]: an item of this list is known by its {key}; add it")
        place = next(
            (at for at, one in enumerate(result) if isinstance(one, dict) and one.get(key) == each[key]), None
        )
        if each.get(DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(_strategic({}, each, (*path, key)))
        else:
            result[place] = _strategic(result[place], each, (*path, key))
    return result


def _ordered(held: list[Any], order: list[Any], key: str) -> list[Any]:
    """``held`` with those that ``order`` names first, in its order."""

    def rank(item: Any) -> int:
        wanted = {key: item.get(key)} if key and isinstance(item, dict) else item
        return order.index(wanted) if wanted in order else len(order)

    return sorted(held, key=rank)


def _where(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the patch"


# --- JSON patch --------------------------------------------------------------------------------------


def json_patch(tree: Any, operations: Any) -> Any:
    """``tree`` after all ``operations``, in order; if one cannot be done, none is."""
    if not isinstance(operations, list):
        raise PatchError(
            f"a JSON patch is a list of operations, not {shown(operations)}; write"
            ' [{"op": "replace", "path": "/spec/order", "value": 10}], or ask for another type with -t'
        )
    result = deepcopy(tree)
    for number, operation in enumerate(operations, 1):
        try:
            result = _operated(result, operation)
        except _Refusal as refusal:
            raise PatchError(f"operation {number} of the patch{refusal}; nothing was changed") from None
    return result


class _Refusal(Exception):
    """Why one operation cannot be done; begins with a blank and the operation, if it has one, or with a colon."""


def _operated(tree: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise _Refusal(f": {shown(operation)} is no operation; write a mapping with op and path")
    word = operation.get("op")
    if not isinstance(word, str) or word not in _OPERATIONS:
        raise _Refusal(f": op is {shown(word)}; it may be {', '.join(_OPERATIONS)}")
    needed, act = _OPERATIONS[word]
    for field in ("path", *needed):
        if field not in operation:
            raise _Refusal(f" ({word}): the field {field!r} is missing; add it")
    return act(tree, operation)


def _add(tree: Any, operation: Mapping[str, Any]) -> Any:
    return _put_in(tree, _tokens(operation, "path"), operation, deepcopy(operation["value"]))


def _remove(tree: Any, operation: Mapping[str, Any]) -> Any:
    return _taken_out(tree, operation, "path")[0]


def _replace(tree: Any, operation: Mapping[str, Any]) -> Any:
    tokens = _tokens(operation, "path")
    if not tokens:
        return deepcopy(operation["value"])
    _found(tree, tokens, operation, "path")
    holder = _found(tree, tokens[:-1], operation, "path")
    holder[_index(holder, tokens[-1])] = deepcopy(operation["value"])
    return tree


def _move(tree: Any, operation: Mapping[str, Any]) -> Any:
    source, target = _tokens(operation, "from"), _tokens(operation, "path")
    if target[: len(source)] == source and target != source:
        raise _Refusal(f" (move): {operation['path']} lies within {operation['from']}; move it elsewhere")
    tree, value = _taken_out(tree, operation, "from")
    return _put_in(tree, target, operation, value)


def _copy(tree: Any, operation: Mapping[str, Any]) -> Any:
    value = _found(tree, _tokens(operation, "from"), operation, "from")
    return _put_in(tree, _tokens(operation, "path"), operation, deepcopy(value))


def _test(tree: Any, operation: Mapping[str, Any]) -> Any:
    value = _found(tree, _tokens(operation, "path"), operation, "path")
    if not _same(value, operation["value"]):
        raise _Refusal(f" (test): {operation['path']} is {shown(value)} now, not {shown(operation['value'])}")
    return tree


_OPERATIONS: Final[dict[str, tuple[tuple[str, ...], Callable[[Any, Mapping[str, Any]], Any]]]] = {
    "add": (("value",), _add),
    "remove": ((), _remove),
    "replace": (("value",), _replace),
    "move": (("from",), _move),
    "copy": (("from",), _copy),
    "test": (("value",), _test),
}
"""The operations: the fields that each needs beside op and path, and what it does to a tree that is its own."""


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON means it: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _tokens(operation: Mapping[str, Any], field: str) -> list[str]:
    """The steps of a JSON pointer (RFC 6901)."""
    pointer = operation[field]
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise _Refusal(
            f" ({operation['op']}): {field} is {shown(pointer)}; write a pointer such as /spec/order"
        )
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _found(tree: Any, tokens: list[str], operation: Mapping[str, Any], field: str) -> Any:
    for depth, token in enumerate(tokens):
        index = _index(tree, token)
        if index is None:
            at = "/".join(["", *tokens[: depth + 1]])
            raise _Refusal(f" ({operation['op']}): there is nothing at {at}{_rest(operation, field, at)}")
        tree = tree[index]
    return tree


def _rest(operation: Mapping[str, Any], field: str, at: str) -> str:
    return "" if operation[field] == at else f", on the way to {operation[field]}"


def _index(tree: Any, token: str) -> Any:
    """What ``token`` means in a mapping or a list: a key or an index that is there, else None."""
    if isinstance(tree, dict):
        return token if token in tree else None
    if isinstance(tree, list) and token.isascii() and token.isdecimal() and token in {"0", token.lstrip("0")}:
        return int(token) if int(token) < len(tree) else None
    return None


def _put_in(tree: Any, tokens: list[str], operation: Mapping[str, Any], value: Any) -> Any:
    if not tokens:
        return value
    *way, last = tokens
    holder = _found(tree, way, operation, "path")
    if isinstance(holder, dict):
        holder[last] = value
        return tree
    index = None
    if isinstance(holder, list):
        index = len(holder) if last in {"-", str(len(holder))} else _index(holder, last)
    if index is None:
        what = (
            f"a list of {len(holder)}, to which '-' adds"
            if isinstance(holder, list)
            else "no mapping or list"
        )
        raise _Refusal(f" ({operation['op']}): {operation['path']} cannot be added to: above it is {what}")
    holder.insert(index, value)
    return tree


def _taken_out(tree: Any, operation: Mapping[str, Any], field: str) -> tuple[Any, Any]:
    tokens = _tokens(operation, field)
    if not tokens:
        return None, tree
    value = _found(tree, tokens, operation, field)
    holder = _found(tree, tokens[:-1], operation, field)
    del holder[_index(holder, tokens[-1])]
    return tree, value
