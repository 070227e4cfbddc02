"""What people do wrong in YAML, in their words: the parser knows only what it did not expect, and where.

In:   an error of PyYAML, and the lines of the text.
Out:  ``BadText``: where the mistake is, which may be before the place where it was noticed, and what to do.
Next: ``model.yaml_text`` raises it, ``model.codec`` makes a ``Problem`` of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from json import JSONDecodeError
from typing import Final, NamedTuple

import yaml

from calico.model.errors import ModelError

BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line in YAML."""

_KEY: Final = re.compile(r"[ ]*(?:- +)*[A-Za-z_][\w./-]*\s*:(?:\s|$)")
_TEMPLATE: Final = re.compile(r"\{\{|\{%")
_SPECIAL: Final = {
    "!": "names a type",
    "&": "names the value for later use",
    "*": "stands for a value that was named before",
    "@": "is reserved",
    "`": "is reserved",
    "%": "begins a directive",
    "|": "begins a text of several lines",
    ">": "begins a text of several lines",
}
"""What a character means in YAML where a value begins."""


class BadText(ModelError):
    """Text that is no YAML, with the place where it stops being so (from 1; 0 where that is not known).

    ``excerpt`` is the line, where only bytes are there to take it from.
    """

    def __init__(
        self, reason: str, remedy: str, line: int = 0, column: int = 0, *, excerpt: str = ""
    ) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy
        self.line = line
        self.column = column
        self.excerpt = excerpt


class BadNumber(yaml.constructor.ConstructorError):
    """A number that no number of ours can be."""


class DuplicateKey(yaml.constructor.ConstructorError):
    """A mapping has the same key twice, so one of the values would be lost."""


_JSON: Final = {
    "Expecting ',' delimiter": ("a comma is missing before this", "write it, or close what is open"),
    "Expecting ':' delimiter": ("a colon is missing before this", "write it between the key and its value"),
    "Expecting value": ("a value is missing here", "write it, or remove the comma before it"),
    "Expecting property name enclosed in double quotes": (
        "a key in double quotes is missing here",
        "write it, or remove the comma before it",
    ),
    "Illegal trailing comma before end of object": ("nothing follows this comma", "remove it"),
    "Illegal trailing comma before end of array": ("nothing follows this comma", "remove it"),
    "Invalid control character at": (
        "a text does not go on in the next line",
        'close it with ", or write \\n',
    ),
    "Unterminated string starting at": ('nothing closes the quote " that opens here', 'close it with "'),
    "Extra data": ("the document is over before this, and more text follows it", "put several into a list"),
}
"""What Python's JSON reader says, and what people may make of it."""


def json_explained(error: JSONDecodeError) -> BadText:
    """The mistake behind an error of JSON."""
    reason, remedy = _JSON.get(
        error.msg, (f"the text is no JSON: {error.msg}", "correct it here or shortly before")
    )
    return BadText(reason, remedy, error.lineno, error.colno)


class _Seen(NamedTuple):
    """What the parser says, and the text around it."""

    problem: str
    context: str
    place: tuple[int, int]
    start: tuple[int, int]
    """Where what it was reading begins."""
    lines: Sequence[str]

    def line(self, number: int) -> str:
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""

    def char(self) -> str:
        line, column = self.place
        return self.line(line)[column - 1 : column]


def explained(error: yaml.YAMLError, lines: Sequence[str]) -> BadText:
    """The mistake behind ``error`` in a text of these ``lines``."""
    if isinstance(error, yaml.reader.ReaderError):
        return _unreadable(error, lines)
    if not isinstance(error, yaml.MarkedYAMLError):
        return BadText(f"the text is no YAML: {str(error).partition(chr(10))[0]}", "correct it")
    mark = error.problem_mark or error.context_mark
    start = error.context_mark or mark
    place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    seen = _Seen(
        str(error.problem or ""),
        str(error.context or ""),
        place,
        (start.line + 1, start.column + 1) if start else place,
        lines,
    )
    if isinstance(error, BadNumber):
        return BadText(seen.problem, "write another one, or put it in quotes if it is text", *place)
    if isinstance(error, DuplicateKey):
        return BadText(seen.problem, "keep one of the two", *place)
    return (
        _tab(seen)
        or _template(seen)
        or _unclosed(seen)
        or _special(seen)
        or _value(seen)
        or _indentation(seen)
        or BadText(
            f"the text is no YAML: {', '.join(part for part in (seen.context, seen.problem) if part)}",
            "correct it here or shortly before",
            *place,
        )
    )


def _unreadable(error: yaml.reader.ReaderError, lines: Sequence[str]) -> BadText:
    """A character that no YAML may hold; the parser tells only which, not where."""
    char = chr(error.character) if isinstance(error.character, int) else ""
    for number, line in enumerate(lines, 1):
        if char and char in line:
            return BadText(
                f"the control character U+{ord(char):04X} stands in the text",
                "remove it",
                number,
                line.index(char) + 1,
            )
    return BadText("a control character stands in the text", "remove it")


def _tab(seen: _Seen) -> BadText | None:
    """A tab that indents."""
    line = seen.line(seen.place[0])
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" not in indent or not (seen.char() == "\t" or "tab" in seen.problem):
        return None
    return BadText(
        "a tab indents the line, and YAML counts only blanks",
        "write blanks in its place",
        seen.place[0],
        indent.index("\t") + 1,
    )


def _template(seen: _Seen) -> BadText | None:
    """A template that nobody has filled in."""
    for number in dict.fromkeys((seen.place[0], seen.start[0])):
        found = _TEMPLATE.search(seen.line(number))
        if found is not None:
            return BadText(
                f"{found[0]!r} begins a placeholder of a template",
                "fill the template in first, or put the value in quotes if the braces are meant",
                number,
                found.start() + 1,
            )
    return None


def _unclosed(seen: _Seen) -> BadText | None:
    """Quotes and brackets that nothing closes; the place is where they open."""
    if "quoted scalar" in seen.context and "unexpected" in seen.problem:
        line, column = seen.start
        mark = seen.line(line)[column - 1 : column]
        return BadText(
            f"nothing closes the quote {mark} that opens here", f"close it with {mark}", line, column
        )
    if "flow node" in seen.context:
        return _still_open(seen)
    closing = {"flow sequence": ("[", "]"), "flow mapping": ("{", "}")}
    for what, (opening, mark) in closing.items():
        if what in seen.context and "expected" in seen.problem:
            line, column = seen.start
            if line == seen.place[0]:
                return BadText(
                    f"a comma or {mark!r} is missing here, in what {opening!r} opened in column {column}",
                    "write it, or put the value in quotes if it holds such characters itself",
                    *seen.place,
                )
            return BadText(
                f"nothing closes the {opening!r} that opens here, or a comma is missing in it before line {seen.place[0]}",
                f"close it with {mark!r}, or write the comma",
                line,
                column,
            )
    return None


def _still_open(seen: _Seen) -> BadText | None:
    """The bracket that is open where the text ends, or where a value is missing."""
    line, column = seen.place
    depth = 0
    for number in range(line, 0, -1):
        text = seen.line(number)[: column - 1] if number == line else seen.line(number)
        for index in range(len(text) - 1, -1, -1):
            depth += (text[index] in "]}") - (text[index] in "[{")
            if depth < 0:
                mark = "]" if text[index] == "[" else "}"
                return BadText(
                    f"nothing closes the {text[index]!r} that opens here",
                    f"close it with {mark!r}",
                    number,
                    index + 1,
                )
    return None


def _special(seen: _Seen) -> BadText | None:
    """A value that begins with a character that means something to YAML, as unquoted selectors do."""
    line, column = seen.place if "constructor" in seen.problem or "token" in seen.problem else seen.start
    text = seen.line(line)
    char = text[column - 1 : column]
    if "constructor" in seen.problem:
        tag = re.split(r"[\s,\]}]", text[column - 1 :], maxsplit=1)[0]
        if tag.startswith("!!"):
            return BadText(f"the type {tag!r} has no place here", "leave it out", line, column)
    elif "undefined alias" in seen.problem:
        return BadText(
            f"{text[column - 1 :].split()[0]!r} stands for a value that was not named before with '&'",
            "put it in quotes if it is text",
            line,
            column,
        )
    elif "Unicode" in seen.problem:
        before, after = seen.place[1] - 3, seen.place[1] + 7
        escape = re.match(r"\\[uU][0-9a-fA-F]+", text[before:after])
        return BadText(
            f"{escape[0] if escape else 'this'} is no character by itself",
            "write the character as it is, or double the backslash",
            line=seen.place[0],
            column=before + 1,
        )
    elif "escape" in seen.problem:
        return BadText(
            f"{text[seen.place[1] - 1 : seen.place[1] + 1]} is no escape that double quotes know",
            "double the backslash, or put the text in single quotes",
            *seen.place,
        )
    elif not any(word in seen.context for word in ("anchor", "alias", "tag", "token", "block scalar")):
        return None
    if char not in _SPECIAL or text[: column - 1].rstrip()[-1:] in {'"', "'"}:
        return None
    return BadText(
        f"{char!r} at the beginning of a value {_SPECIAL[char]} in YAML",
        f"put the whole value in quotes, as in {_quoted(text[column - 1 :].strip())}",
        line,
        column,
    )


def _value(seen: _Seen) -> BadText | None:
    """Text after a value that was over, merges of what is no mapping, and keys without a colon."""
    line, column = seen.place
    text = seen.line(line)
    if "for merging" in seen.problem:
        return BadText(
            "'<<' merges mappings, and this is none", "write an alias, as in '<<: *name'", line, column
        )
    if "unhashable" in seen.problem:
        return BadText("a list or a mapping stands where a key is expected", "write text", line, column)
    if "could not find expected ':'" in seen.problem:
        line, column = seen.start
        return BadText(
            f"{_shortened(seen.line(line).strip())!r} is neither a key nor an entry of a list",
            "write 'key: value', or '- ' before an entry",
            line,
            column,
        )
    if "mapping values" in seen.problem and _KEY.match(text) is not None:
        first = _KEY.match(text)
        if first is not None and first.end() < column:
            rest = text[first.end() :].strip()
            return BadText(
                "': ' stands in this value, which makes a key of what is before it",
                f"put the whole value in quotes, as in {_quoted(rest)}",
                line,
                column,
            )
    if any(word in seen.context for word in ("anchor", "alias", "tag")):
        line, column = seen.start
    before = seen.line(line)[: column - 1].rstrip()
    if before[-1:] in {'"', "'"} and before.count(before[-1]) >= 2:
        return BadText(
            "the quoted value is over before this, and more text follows it",
            "put the whole value in quotes of the other kind, or leave out those around it",
            line,
            column,
        )
    return None


def _indentation(seen: _Seen) -> BadText | None:
    """A line that is indented as none around it."""
    if not any(what in seen.problem for what in ("mapping values", "expected key", "expected '-' indicator")):
        return None
    number = seen.place[0]
    line = seen.line(number)
    column = len(line) - len(line.lstrip()) + 1
    if "expected '-'" in seen.problem:
        return BadText(
            "a key stands among the entries of a list",
            "indent it less or more, or write '- ' before it",
            number,
            column,
        )
    return BadText(
        "the indentation of this line fits no line before it",
        "indent it exactly as the fields that it belongs with",
        number,
        column,
    )


def _quoted(text: str) -> str:
    text = _shortened(text)
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
