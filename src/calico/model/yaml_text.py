"""YAML as people mean it: version 1.2's core types, no duplicate keys, and where each value stands.

In:   text, of one YAML document or many (JSON is such a text, too).
Out:  ``documents``: plain values; ``Places``: line and column of any value; ``dump``: text again.
Next: ``model.codec`` makes resources of the values, and problems of the places.

A MAC address, ``no``, ``12:30:45``, ``010`` and a date stay the text that they look like (YAML 1.1, and
PyYAML with it, makes numbers and booleans of them).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import yaml

from calico.model.errors import Path
from calico.model.yaml_mistakes import BREAK, BadNumber, BadText, DuplicateKey, explained, json_explained

__all__ = ["BadText", "Place", "Places", "documents", "dump", "readings", "text_of", "trees"]

Resolvers: TypeAlias = dict[str | None, list[tuple[str, re.Pattern[str]]]]

_CORE: Final = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[1-9][0-9]*[eE][-+]?[0-9]+",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""Type, how it is written, and the characters that it begins with. Infinity is no value of ours."""

_SHOWN: Final = 20
"""So many digits of a number are shown in an error."""

_MULTIPLIED: Final = 1_000_000
"""So many values at most a document may stand for, where it names values and repeats them."""

_LONE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""How an escape begins that is half of a character."""


def _core_resolvers() -> Resolvers:
    resolvers: Resolvers = {}
    for name, written, first in _CORE:
        for char in first:
            entry = (f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{written})\Z"))
            resolvers.setdefault("" if char == "\0" else char, []).append(entry)
    return resolvers


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers = _core_resolvers()

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise DuplicateKey(
                        None, None, f"the key {key.value!r} stands here a second time", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: Any) -> int:
        try:
            return super().construct_yaml_int(node)
        except ValueError:  # Python's own limit is thousands of digits
            raise _no_number(node, "has too many digits") from None

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if math.isinf(value):
            raise _no_number(node, "is too large")
        return value


def _no_number(node: Any, why: str) -> BadNumber:
    text = node.value if len(node.value) <= _SHOWN else f"{node.value[:_SHOWN]}..."
    return BadNumber(None, None, f"the number {text} {why}", node.start_mark)


for _type in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_type}", getattr(_Loader, f"construct_yaml_{_type}"))


class _Dumper(yaml.CSafeDumper):
    """Quotes what any reader, of YAML 1.1 or 1.2, would take for something else than text."""

    yaml_implicit_resolvers = {
        char: [
            *yaml.CSafeDumper.yaml_implicit_resolvers.get(char, []),
            *_Loader.yaml_implicit_resolvers.get(char, []),
        ]
        for char in {*yaml.CSafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_OTHER_ENCODINGS: Final = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def text_of(content: bytes) -> str:
    """The text of a file: UTF-8, with a byte order mark or without. ``BadText`` where it is anything else."""
    for mark, name in _OTHER_ENCODINGS:
        if content.startswith(mark):
            raise BadText(f"the file is {name}, not UTF-8", "save it as UTF-8", 1, 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = BREAK.split(content[: error.start].decode("utf-8-sig"))
        line, column = len(before), len(before[-1]) + 1
        reason = f"the byte 0x{content[error.start]:02X} is not UTF-8"
        excerpt = BREAK.split(content.decode("utf-8-sig", "replace"))[line - 1]
        raise BadText(reason, "save the file as UTF-8", line, column, excerpt=excerpt) from None


def trees(text: str) -> Iterator[Any]:
    """The documents of ``text``, JSON or YAML, in order; in the place of each that is neither a ``BadText``.

    JSON is a text of YAML, too; but JSON's own reader is a hundred times faster, and explains JSON better.
    """
    wrong: json.JSONDecodeError | None = None
    if text.lstrip()[:1] in {"{", "["}:
        try:
            tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
            if _LONE.search(text):
                json.dumps(tree, ensure_ascii=False).encode()  # half a character is no text
        except json.JSONDecodeError as error:
            wrong = error
        except (ValueError, RecursionError):
            pass  # the YAML reader knows the place
        else:
            yield tree
            return
    for index, found in enumerate(readings(text)):
        if index == 0 and wrong is not None and isinstance(found, BadText) and _is_json(text):
            yield json_explained(wrong)
            return
        yield found


def _is_json(text: str) -> bool:
    """Whether a text that is neither JSON nor YAML is meant to be JSON: its keys stand in double quotes."""
    return text.lstrip(" \t\r\n{[")[:1] == '"'


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key stands twice")
    return tree


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def documents(text: str) -> Iterator[Any]:
    """The documents of ``text``, in order, empty ones as None; ``BadText`` where it is no YAML any more."""
    for found in readings(text):
        if isinstance(found, BadText):
            raise found
        yield found


def readings(text: str) -> Iterator[Any]:
    """What ``documents`` gives, with a ``BadText`` in the place of each document that is no YAML, or not ours."""
    for found in _nodes(text):
        if isinstance(found, BadText):
            yield found
            continue
        loader, node = found
        try:
            if "*" in text:
                _judge_repeated(node)
            yield loader.construct_document(node)
        except yaml.YAMLError as error:
            yield explained(error, BREAK.split(text))
        except RecursionError:
            yield BadText("values nest too deep", "flatten them")
        except BadText as error:
            yield error


def _judge_repeated(root: Any) -> None:
    """Raise ``BadText`` where values that are named and repeated hold themselves, or come to more than anybody means.

    A few lines can stand for billions of values, which no reader lives to see.
    """
    counts: dict[int, int] = {}
    open_: set[int] = set()

    def count(node: Any) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        known = counts.get(id(node))
        if known is not None:
            return known
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        if id(node) in open_:
            raise BadText("the value holds itself", "write out what it is to hold", *place)
        open_.add(id(node))
        pairs = isinstance(node, yaml.MappingNode)
        total = sum(count(each) for pair in node.value for each in (pair if pairs else (pair,)))
        open_.remove(id(node))
        if total > _MULTIPLIED:
            raise BadText(
                "with all that is repeated in it by '*' it comes to millions of values",
                "write out what it is to hold",
                *place,
            )
        counts[id(node)] = total
        return total

    count(root)


def _nodes(text: str) -> Iterator[tuple[_Loader, Any] | BadText]:
    """The root of each document; after one that is no YAML, reading goes on behind the next ``---``."""
    first: int | None = 0
    lines: list[str] = []
    while first is not None:
        try:
            loader = _Loader("\n" * first + "\n".join(lines[first:]) if lines else text)
            while loader.check_node():
                yield loader, loader.get_node()
        except yaml.YAMLError as error:
            lines = lines or BREAK.split(text)
            yield explained(error, lines)
            mark = getattr(error, "problem_mark", None)
            stopped = max(first + 1, mark.line) if mark else len(lines)
            first = next((number for number in range(stopped, len(lines)) if _begins(lines[number])), None)
        except (RecursionError, UnicodeError) as error:
            deep = isinstance(error, RecursionError)
            yield (
                BadText("values nest too deep", "flatten them") if deep else BadText(str(error), "remove it")
            )
            return
        else:
            return


def _begins(line: str) -> bool:
    """Whether a document begins with this line."""
    return line[:3] == "---" and not line[3:4].strip()


def dump(values: Iterable[Any]) -> str:
    """One document for each value, the order of fields kept."""
    return str(
        yaml.dump_all(
            values,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=False,
            width=1 << 20,
        )
    )


class Place(NamedTuple):
    """Where something stands: line and column from 1, and the line's text. Zeros where that is not known."""

    line: int = 0
    column: int = 0
    excerpt: str = ""


class Places:
    """Lines and columns of a text. The text is read a second time at the first question: only errors pay for it."""

    def __init__(self, text: str) -> None:
        self._lines = BREAK.split(text)
        self._text = text
        self._roots: list[Any] | None = None

    def at(self, line: int, column: int) -> Place:
        """The place at a known line and column."""
        if not 1 <= line <= len(self._lines):
            return Place(line, column)
        return Place(line, column, self._lines[line - 1])

    def find(self, document: int, path: Path, *, at_key: bool = False, offset: int = 0) -> Place:
        """The place of a value, or of its key; of the nearest thing around it if it is not there.

        ``offset`` is how far into a text the place is, for texts that stand on one line as they are.
        """
        if self._roots is None:
            self._roots = [None if isinstance(each, BadText) else each[1] for each in _nodes(self._text)]
        if document >= len(self._roots) or self._roots[document] is None:
            return Place()
        node, mark = self._roots[document], self._roots[document].start_mark
        for step in path:
            found = _child(node, step)
            if found is None:
                return self.at(mark.line + 1, mark.column + 1)
            key, node = found
            mark = key.start_mark
        if isinstance(node, yaml.ScalarNode) and not at_key:
            mark = node.start_mark
            place = self.at(mark.line + 1, mark.column + 1)
            begin = mark.column + (node.style in {"'", '"'})
            as_it_is = place.excerpt[begin : begin + len(node.value)] == node.value
            return place._replace(column=begin + 1 + offset) if offset and as_it_is else place
        return self.at(mark.line + 1, mark.column + 1)


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    """The node of a key (or of the value itself, in a list) and of its value."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if pair[0].value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None
