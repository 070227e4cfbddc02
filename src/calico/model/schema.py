"""Trees of plain values against the model's types: everything that does not fit, or what does.

In:   dicts, lists and scalars, as YAML or JSON gave them, and a type of the model.
Out:  ``misfits``: each value of the wrong type, each unknown and each missing field, with a remedy;
      ``fitted``: the tree without the fields that the type does not know.
Next: ``model.codec`` asks here after msgspec, which is fast and names the first misfit only, has refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import inspect

from calico.model.errors import Finding, Path

LONGEST_SHOWN: Final = 60


class Misfit(NamedTuple):
    """A finding about types; ``at_key``: the field itself is wrong, not its value."""

    finding: Finding
    at_key: bool = False


@lru_cache
def schema(of: type) -> inspect.Type:
    """The description of a type of the model."""
    return inspect.type_info(of)


def nearest(word: str, known: list[str]) -> str:
    """``did you mean <the most similar>?``, or all that are known."""
    same = [each for each in known if each.lower() == word.lower()]
    close = same or get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def without_nulls(tree: Any) -> Any:
    """The tree without fields that are null: in a mapping null says the same as nothing."""
    if isinstance(tree, dict):
        return {key: without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [without_nulls(value) for value in tree]
    return tree


def fitted(tree: Any, of: inspect.Type) -> Any:
    """The tree without the fields that the type does not know, at any depth."""
    match of, tree:
        case inspect.StructType(fields=fields, tag_field=tag_field), dict():
            known = {field.encode_name: field.type for field in fields}
            return {
                key: fitted(value, known[key]) if key in known else value
                for key, value in tree.items()
                if key in known or key == tag_field
            }
        case (inspect.ListType(item_type=item), list()):
            return [fitted(value, item) for value in tree]
        case (inspect.DictType(value_type=value_type), dict()):
            return {key: fitted(value, value_type) for key, value in tree.items()}
        case (inspect.UnionType(types=types), dict() | list()):
            containers = [each for each in types if not isinstance(each, inspect.NoneType)]
            return fitted(tree, containers[0]) if len(containers) == 1 else tree
    return tree


def misfits(tree: Any, of: inspect.Type, path: Path = ()) -> Iterator[Misfit]:
    """Every place where the tree does not fit the type."""
    match of:
        case inspect.StructType():
            yield from _struct(tree, of, path)
        case inspect.UnionType(types=types):
            yield from _union(tree, types, path)
        case inspect.ListType(item_type=item):
            if not isinstance(tree, list):
                yield _wrong(tree, path, "a list", "write one entry a line, each after '- '")
                return
            for index, value in enumerate(tree):
                yield from misfits(value, item, (*path, index))
        case inspect.DictType(value_type=value_type):
            yield from _mapping(tree, value_type, path)
        case inspect.LiteralType(values=values):
            if tree not in values:
                words = list(map(str, values))
                yield Misfit(Finding(path, f"{shown(tree)} is not allowed here", nearest(str(tree), words)))
        case inspect.Metadata(type=plain):  # says more for editors only
            yield from misfits(tree, plain, path)
        case _:
            yield from _scalar(tree, of, path)


def _struct(tree: Any, of: inspect.StructType, path: Path) -> Iterator[Misfit]:
    if not isinstance(tree, dict):
        yield _wrong(tree, path, "a mapping", "write fields and values, as in 'name: value'")
        return
    known = {field.encode_name: field for field in of.fields}
    for key, value in tree.items():
        if key in known:
            yield from misfits(value, known[key].type, (*path, key))
        elif key != of.tag_field:
            yield Misfit(
                Finding((*path, str(key)), f"there is no field {key!r}", nearest(str(key), list(known))),
                at_key=True,
            )
    for name, field in known.items():
        if field.required and name not in tree:
            yield Misfit(Finding((*path, name), "the field is missing", "add it"), at_key=True)


def _mapping(tree: Any, value_type: inspect.Type, path: Path) -> Iterator[Misfit]:
    if not isinstance(tree, dict):
        yield _wrong(tree, path, "a mapping", "write keys and values, as in 'key: value'")
        return
    for key, value in tree.items():
        where = (*path, str(key))
        if not isinstance(key, str):
            yield Misfit(
                Finding(where, f"the key is {shown(key)}, where text is expected", f'write "{key}"'),
                at_key=True,
            )
        yield from misfits(value, value_type, where)


def _union(tree: Any, types: tuple[inspect.Type, ...], path: Path) -> Iterator[Misfit]:
    others = [each for each in types if not isinstance(each, inspect.NoneType)]
    if tree is None and len(others) < len(types):
        return
    if len(others) == 1:
        yield from misfits(tree, others[0], path)
    elif all(any(misfits(tree, each, path)) for each in others):
        yield _wrong(tree, path, "a whole number or text", _in_quotes(tree))


_SCALARS: Final[dict[type[inspect.Type], tuple[Callable[[Any], bool], str]]] = {
    inspect.StrType: (lambda tree: isinstance(tree, str), "text"),
    inspect.BoolType: (lambda tree: isinstance(tree, bool), "true or false"),
    inspect.IntType: (lambda tree: isinstance(tree, int) and not isinstance(tree, bool), "a whole number"),
    inspect.FloatType: (
        lambda tree: isinstance(tree, int | float) and not isinstance(tree, bool),
        "a number",
    ),
}


def _scalar(tree: Any, of: inspect.Type, path: Path) -> Iterator[Misfit]:
    if type(of) not in _SCALARS:
        return  # Any
    fits, expected = _SCALARS[type(of)]
    if not fits(tree):
        yield _wrong(tree, path, expected, _in_quotes(tree) if expected == "text" else f"write {expected}")


def _wrong(tree: Any, path: Path, expected: str, remedy: str) -> Misfit:
    return Misfit(Finding(path, f"{shown(tree)} stands where {expected} is expected", remedy))


def _in_quotes(tree: Any) -> str:
    return (
        "write plain text"
        if isinstance(tree, dict | list | None)
        else "put it in quotes, just as you wrote it"
    )


def shown(tree: Any) -> str:
    """A value as sentences name it."""
    match tree:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true" if tree else "false"
        case str() if len(tree) > LONGEST_SHOWN:
            return repr(tree[:LONGEST_SHOWN] + "...")
        case _:
            return repr(tree)
