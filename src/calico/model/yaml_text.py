"""YAML as people mean it: version 1.2's core types, no duplicate keys, and where each value stands.

In:   text, of one YAML document or many (JSON is such a text, too).
Out:  ``documents``: plain values; ``Places``: line and column of any value; ``dump``: text again.
Next: ``model.codec`` makes resources of the values, and problems of the places.

A MAC address, ``no``, ``12:30:45``, ``010`` and a date stay the text that they look like (YAML 1.1, and
PyYAML with it, makes numbers and booleans of them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from calico.model.errors import ModelError, Path

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


def _core_resolvers() -> Resolvers:
    resolvers: Resolvers = {}
    for name, written, first in _CORE:
        for char in first:
            entry = (f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{written})\Z"))
            resolvers.setdefault("" if char == "\0" else char, []).append(entry)
    return resolvers


class DuplicateKey(yaml.constructor.ConstructorError):
    """A mapping has the same key twice, so one of the values would be lost."""


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


class BadText(ModelError):
    """Text that is no YAML, with the place where it stops being so (from 1; 0 where that is not known)."""

    def __init__(self, reason: str, remedy: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy
        self.line = line
        self.column = column


def documents(text: str) -> Iterator[Any]:
    """The documents of ``text``, in order, empty ones as None; ``BadText`` where it is no YAML any more."""
    try:
        yield from yaml.load_all(text, _Loader)
    except yaml.YAMLError as error:
        raise _bad_text(error) from error
    except RecursionError as error:
        raise BadText("values nest too deep", "flatten them") from error
    except ValueError as error:
        raise BadText(f"a number can not be read: {error}", "put it in quotes if it is text") from error


def _bad_text(error: yaml.YAMLError) -> BadText:
    if not isinstance(error, yaml.MarkedYAMLError):
        return BadText(f"the text is no YAML: {str(error).partition(chr(10))[0]}", "correct it")
    mark = error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    if isinstance(error, DuplicateKey):
        return BadText(reason, "keep one of the two", *place)
    return BadText(f"the text is no YAML: {reason}", "correct it here or shortly before", *place)


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


LONGEST_EXCERPT: Final = 200


class Places:
    """Lines and columns of a text. The text is read a second time at the first question: only errors pay for it."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._text = text
        self._roots: list[Any] | None = None

    def at(self, line: int, column: int) -> Place:
        """The place at a known line and column."""
        if not 1 <= line <= len(self._lines):
            return Place(line, column)
        excerpt = self._lines[line - 1].rstrip("\r")
        return Place(line, column, excerpt if len(excerpt) <= LONGEST_EXCERPT else "")

    def find(self, document: int, path: Path, *, at_key: bool = False) -> Place:
        """The place of a value, or of its key; of the nearest thing around it if it is not there."""
        if self._roots is None:
            self._roots = list(self._compose())
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
        return self.at(mark.line + 1, mark.column + 1)

    def _compose(self) -> Iterator[Any]:
        with suppress(yaml.YAMLError, RecursionError):  # what came before can be found all the same
            yield from yaml.compose_all(self._text, _Loader)


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    """The node of a key (or of the value itself, in a list) and of its value."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if pair[0].value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None
