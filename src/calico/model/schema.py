"""Trees of plain values against the model's types: everything that does not fit, or what does.

In:   dicts, lists and scalars, as YAML or JSON gave them, and a type of the model.
Out:  ``misfits``: each value of the wrong type, each unknown and each missing field, with a remedy, and with what
      the tree would be if the remedy were followed; ``fitted``: the tree without the fields that the type does not know.
Next: ``model.judgement`` asks here after msgspec, which is fast and names the first misfit only, has refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import inspect

from calico.model.errors import Finding, Path
from calico.model.hints import CERTAIN, FOREIGN_FIELDS, near, nearest

__all__ = ["Mend", "Misfit", "fitted", "misfits", "nearest", "schema", "shown", "without_nulls"]

LONGEST_SHOWN: Final = 60
DEEPEST: Final = 12
"""How deep the fields of a kind are looked at, if they nest without end."""

_NUMBER: Final = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


class Mend(NamedTuple):
    """How the tree would be without a misfit, so that the rest of it can be looked at.

    ``moves``: the value belongs there; ``value``: this one belongs here; ``of``: some value of this type does.
    What is not ``sure`` may as well be left out.
    """

    moves: tuple[Path, ...] = ()
    value: Any = None
    of: inspect.Type | None = None
    sure: bool = True


class Misfit(NamedTuple):
    """A finding about types; ``at_key``: the field itself is wrong, not its value.

    Without ``mend`` the field is best left out.
    """

    finding: Finding
    at_key: bool = False
    mend: Mend | None = None


@lru_cache
def schema(of: type) -> inspect.Type:
    """The description of a type of the model."""
    return inspect.type_info(of)


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
        case inspect.Metadata(type=inner), _:
            return fitted(tree, inner)
        case (inspect.UnionType(types=types), dict() | list()):
            containers = [each for each in types if not isinstance(each, inspect.NoneType)]
            return fitted(tree, containers[0]) if len(containers) == 1 else tree
    return tree


def misfits(
    tree: Any, of: inspect.Type, path: Path = (), root: inspect.Type | None = None
) -> Iterator[Misfit]:
    """Every place where the tree does not fit the type; ``root`` is the type of the whole resource around it."""
    root = root or of
    match of:
        case inspect.Metadata(type=inner):
            yield from misfits(tree, inner, path, root)
        case inspect.StructType():
            yield from _struct(tree, of, path, root)
        case inspect.UnionType(types=types):
            yield from _union(tree, of, types, path, root)
        case inspect.ListType(item_type=item):
            if not isinstance(tree, list):
                yield _no_list(tree, of, item, path)
                return
            for index, value in enumerate(tree):
                yield from misfits(value, item, (*path, index), root)
        case inspect.DictType(value_type=value_type):
            yield from _mapping(tree, of, value_type, path, root)
        case inspect.LiteralType(values=values):
            if tree not in values:
                words = list(map(str, values))
                meant = near(str(tree), words)
                yield Misfit(
                    Finding(path, f"{shown(tree)} is not allowed here", nearest(str(tree), words)),
                    mend=Mend(value=values[words.index(meant)]) if meant else Mend(of=of, sure=False),
                )
        case _:
            yield from _scalar(tree, of, path)


def _struct(tree: Any, of: inspect.StructType, path: Path, root: inspect.Type) -> Iterator[Misfit]:
    if not isinstance(tree, dict):
        yield _wrong(tree, of, path, "a mapping", "write fields and values, as in 'name: value'")
        return
    known = {field.encode_name: field for field in of.fields}
    for key, value in tree.items():
        if key in known:
            yield from misfits(value, known[key].type, (*path, key), root)
        elif key != of.tag_field:
            yield _unknown(str(key), tree, known, path, root)
    for name, field in known.items():
        if field.required and name not in tree:
            meant = any(near(str(key), [name]) for key in tree if key not in known and key != of.tag_field)
            if not meant:
                yield Misfit(
                    Finding((*path, name), "the field is missing", "add it"),
                    at_key=True,
                    mend=Mend(of=field.type),
                )


def _unknown(
    key: str, tree: Mapping[Any, Any], known: Mapping[str, inspect.Field], path: Path, root: inspect.Type
) -> Misfit:
    """A field that the type does not have: misspelt, or at home elsewhere, or a word of another format."""
    where = (*path, key)
    message = f"there is no field {key!r}"
    if near(key, known, 1.0) is None:
        if key.lower() in FOREIGN_FIELDS:
            return Misfit(Finding(where, message, FOREIGN_FIELDS[key.lower()]), at_key=True)
        homes = _homes_of(key, path, root)
        if homes:
            places = [home[len(path) :] if home[: len(path)] == path else home for home in homes]
            remedy = f"write {' or '.join(dict.fromkeys(map(_pattern, places)))}"
            moves = tuple(home for home in homes if "[]" not in home)
            finding = Finding(where, f"{message} here", remedy)
            return Misfit(finding, at_key=True, mend=Mend(moves=moves, sure=False))
    meant = near(key, known)
    mend: Mend | None = None
    if meant and meant not in tree:
        mend = Mend(moves=((*path, meant),), sure=near(key, [meant], CERTAIN) is not None)
    return Misfit(Finding(where, message, nearest(key, list(known))), at_key=True, mend=mend)


def _homes_of(key: str, path: Path, root: inspect.Type) -> list[Path]:
    """Where a field of that name belongs: below this place, or beside or above it, or in ``metadata`` or ``spec``."""
    here = tuple("[]" if isinstance(step, int) else step for step in path)
    homes = _homes(root.cls).get(key.lower(), []) if isinstance(root, inspect.StructType) else []
    below = [home for home in homes if home[: len(here)] == here]
    around = [home for home in homes if home[:-1] == here[: len(home) - 1] or len(home) <= 2]
    if not below and not around:
        return []
    shortest = min(map(len, below), default=0)
    nearby = [home for home in below if len(home) == shortest] or [max(around, key=len)]
    same = [0 if step != mine else 1 for step, mine in zip(nearby[0], here, strict=False)]
    shared = same.index(0) if 0 in same else len(same)
    return [(*path[:shared], *home[shared:]) for home in nearby]


def _pattern(home: Path) -> str:
    """A path as people write it, ``[]`` for any entry of a list."""
    return "".join(
        "[]" if step == "[]" else f"[{step}]" if isinstance(step, int) else f".{step}" for step in home
    )[1:]


@lru_cache
def _homes(root: type) -> Mapping[str, list[tuple[str, ...]]]:
    """The places of all fields of a resource, by their names in lower case; ``[]`` stands for an entry of a list."""
    found: dict[str, list[tuple[str, ...]]] = {}

    def visit(of: inspect.Type, path: tuple[str, ...]) -> None:
        if len(path) > DEEPEST:
            return
        match of:
            case inspect.StructType(fields=fields):
                for field in fields:
                    place = (*path, field.encode_name)
                    found.setdefault(field.encode_name.lower(), []).append(place)
                    visit(field.type, place)
            case inspect.UnionType(types=types):
                for each in types:
                    visit(each, path)
            case inspect.Metadata(type=inner):
                visit(inner, path)
            case inspect.ListType(item_type=item):
                visit(item, (*path, "[]"))

    visit(schema(root), ())
    return found


def _mapping(
    tree: Any, of: inspect.Type, value_type: inspect.Type, path: Path, root: inspect.Type
) -> Iterator[Misfit]:
    if not isinstance(tree, dict):
        yield _wrong(tree, of, path, "a mapping", "write keys and values, as in 'key: value'")
        return
    for key, value in tree.items():
        where = (*path, str(key))
        if not isinstance(key, str):
            yield Misfit(
                Finding(where, f"the key is {shown(key)}, where text is expected", f'write "{key}"'),
                at_key=True,
                mend=Mend(moves=(where,)),
            )
        yield from misfits(value, value_type, where, root)


def _union(
    tree: Any, of: inspect.Type, types: tuple[inspect.Type, ...], path: Path, root: inspect.Type
) -> Iterator[Misfit]:
    others = [each for each in types if not isinstance(each, inspect.NoneType)]
    if tree is None and len(others) < len(types):
        return
    if len(others) == 1:
        yield from misfits(tree, others[0], path, root)
    elif all(any(misfits(tree, each, path, root)) for each in others):
        yield _wrong(tree, of, path, "a whole number or text", _in_quotes(tree))


def _no_list(tree: Any, of: inspect.Type, item: inspect.Type, path: Path) -> Misfit:
    """One value where a list of such values belongs is a list of one; else nobody knows."""
    if not (isinstance(tree, dict) and isinstance(item, inspect.StructType)) and any(
        misfits([tree], of, path)
    ):
        return _wrong(tree, of, path, "a list", "write one entry a line, each after '- '")
    remedy = "write '- ' before its first field" if isinstance(tree, dict) else f"write [{_entry(tree)}]"
    return _wrong(tree, of, path, "a list", remedy)._replace(mend=Mend(value=[tree]))


def _entry(tree: Any) -> str:
    """A scalar as it stands in a list within brackets."""
    text = tree if isinstance(tree, str) else shown(tree)
    return f'"{text}"' if isinstance(tree, str) and set(text) & set(",[]{}:#&*!|>'%@` ") else text


class _Scalar(NamedTuple):
    """A type of scalars: what is of it, how it is called, and what text that says one stands for."""

    fits: Callable[[Any], bool]
    name: str
    read: Callable[[str], Any]


_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _number(text: str) -> float:
    return float(text if _NUMBER.fullmatch(text) else "no number")


_SCALARS: Final[dict[type[inspect.Type], _Scalar]] = {
    inspect.StrType: _Scalar(lambda tree: isinstance(tree, str), "text", str),
    inspect.BoolType: _Scalar(
        lambda tree: isinstance(tree, bool), "true or false", lambda text: _BOOLEANS[text.lower()]
    ),
    inspect.IntType: _Scalar(
        lambda tree: isinstance(tree, int) and not isinstance(tree, bool), "a whole number", int
    ),
    inspect.FloatType: _Scalar(
        lambda tree: isinstance(tree, int | float) and not isinstance(tree, bool), "a number", _number
    ),
}


def _scalar(tree: Any, of: inspect.Type, path: Path) -> Iterator[Misfit]:
    if type(of) not in _SCALARS:
        return  # Any
    fits, expected, read = _SCALARS[type(of)]
    if fits(tree):
        return
    if expected == "text":
        misfit = _wrong(tree, of, path, expected, _in_quotes(tree))
        yield misfit if isinstance(tree, dict | list) else misfit._replace(mend=Mend(value=shown(tree)))
        return
    try:
        value = read(tree.strip()) if isinstance(tree, str) else None
    except (ValueError, KeyError):
        value = None
    if value is None:
        yield _wrong(tree, of, path, expected, f"write {expected}")
        return
    right = shown(value) if isinstance(value, bool) else str(tree).strip()
    remedy = f"write {right}, without quotes" if right == tree else f"write {right}"
    yield _wrong(tree, of, path, f"{expected}", remedy)._replace(mend=Mend(value=value))


def _wrong(tree: Any, of: inspect.Type, path: Path, expected: str, remedy: str) -> Misfit:
    message = f"{shown(tree)} stands where {expected} is expected"
    return Misfit(Finding(path, message, remedy), mend=Mend(of=of, sure=False))


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
