"""The functions of templates, and how values look in them: as in Go, where Go makes sense to people.

In:   values of resources.
Out:  values; ``Misused`` where a function cannot do anything with what it was given.
Next: ``cli.gotemplate`` calls them.

Unlike in Go whole numbers have no point and no exponent, however large they are, and parts of resources are
shown as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from calico.cli.fields import NO_VALUE, Listing, described, plain
from calico.cli.template_text import is_character

WIDEST: Final = 10_000
"""The largest width and precision that a format may have."""

_DIRECTIVE: Final = re.compile(r"%([-+ 0#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])?")


class Misused(ValueError):
    """A function was given what it has no use for."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def true(value: Any) -> bool:
    """Whether ``value`` counts as true: not false, zero, empty or nothing."""
    return isinstance(value, msgspec.Struct | Listing) or bool(value)


def printed(value: Any) -> str:
    """How a value looks."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case dict():
            return f"map[{' '.join(f'{key}:{printed(each)}' for key, each in sorted(value.items()))}]"
        case msgspec.Struct() | Listing():
            return json.dumps(plain(value), ensure_ascii=False)
        case list() | tuple():
            return f"[{' '.join(map(printed, value))}]"
        case _:
            return str(value)


# --- text --------------------------------------------------------------------------------------------


def _print(*values: Any) -> str:
    """Blanks stand between values of which neither is text, as in Go."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += printed(value)
    return text


def _println(*values: Any) -> str:
    return " ".join(map(printed, values)) + "\n"


def _printf(pattern: Any, *values: Any) -> str:
    if not isinstance(pattern, str):
        raise Misused(f"{described(pattern)} is no pattern", 'write one first, as in "%s\\n"')
    waiting = list(values)

    def replacement(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if verb is None:
            raise Misused("a % at the end of the pattern says nothing", "write %% for a percent sign")
        if not waiting:
            raise Misused(f"there is no value for {match.group()}", "give one for each % of the pattern")
        return _formatted(waiting.pop(0), flags, width or "", precision, verb)

    text = _DIRECTIVE.sub(replacement, pattern)
    if waiting:
        raise Misused(f"{len(waiting)} values have no % in the pattern", "add one for each")
    return text


def _formatted(value: Any, flags: str, width: str, precision: str | None, verb: str) -> str:
    if max(int(width or 0), int(precision or 0)) > WIDEST:
        raise Misused(f"nothing is shown wider than {WIDEST} characters", "write a smaller number")
    python = flags.replace("#", "") + width
    match verb:
        case "s" | "v":
            text = printed(value)
            return (
                f"%{python.replace('0', '', flags.count('0'))}s"
                % text[: int(precision) if precision else None]
            )
        case "q":
            return f"%{python}s" % json.dumps(printed(value), ensure_ascii=False)
        case "t" if isinstance(value, bool):
            return f"%{python}s" % printed(value)
        case "d" | "x" | "X" | "o" if isinstance(value, int | float) and not isinstance(value, bool):
            return f"%{python}{verb}" % int(value)
        case "x" | "X" if isinstance(value, str):
            digits = value.encode().hex()
            return digits if verb == "x" else digits.upper()
        case "c" if isinstance(value, int) and not isinstance(value, bool) and is_character(value):
            return chr(value)
        case "e" | "f" | "g" | "E" | "F" | "G" if isinstance(value, int | float):
            point = f".{precision}" if precision is not None else ""
            return f"%{python}{point}{verb}" % value
    raise Misused(f"%{verb} cannot show {described(value)}", "use %v, which shows anything")


def _join(values: Any, separator: Any) -> str:
    return _join_and_truncate(values, separator, 0)


def _join_and_truncate(values: Any, separator: Any, longest: Any) -> str:
    match values:
        case None | "":
            return ""
        case dict():
            parts = sorted(f"{key}={printed(value)}" for key, value in values.items())
        case list() | tuple() if not isinstance(values, Listing):
            parts = [printed(value) for value in values]
        case _:
            parts = [] if values is NO_VALUE else [printed(values)]
    text = printed(separator).join(parts)
    return f"{text[: longest - 3]}..." if longest > 0 and len(text) > longest else text


# --- numbers, lists, mappings ------------------------------------------------------------------------


def _len(value: Any) -> int:
    if value is None or value is NO_VALUE:
        return 0
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict | list | tuple) and not isinstance(value, Listing):
        return len(value)
    raise Misused(f"{described(value)} has no length", "lists, mappings and text have one")


def _index(value: Any, *steps: Any) -> Any:
    for step in steps:
        match value:
            case dict():
                value = value.get(step, "")
            case list() | tuple() if isinstance(step, int) and not isinstance(value, Listing):
                if not 0 <= step < len(value):
                    raise Misused(
                        f"{step} is beyond the list, which has {len(value)} entries", "count from 0"
                    )
                value = value[step]
            case _:
                raise Misused(
                    f"{described(value)} has nothing at {step!r}", "lists have numbers, mappings keys"
                )
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if (
        not isinstance(value, str | list)
        or len(bounds) > 2
        or not all(isinstance(each, int) for each in bounds)
    ):
        raise Misused(f"{described(value)} cannot be sliced so", "give a list or text, and up to two numbers")
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= start <= end <= len(value):
        raise Misused(f"{start} to {end} is beyond its length of {len(value)}", "count from 0")
    return value[start:end]


# --- comparison --------------------------------------------------------------------------------------


def _equal(one: Any, other: Any, *more: Any) -> bool:
    """Whether the first is equal to any of the others; a number and text never are."""
    return any(_same(one, each) for each in (other, *more))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and (type(one) is type(other) or _both_numbers(one, other))


def _both_numbers(one: Any, other: Any) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def decide(one: Any, other: Any) -> bool:
        if not (_both_numbers(one, other) or (isinstance(one, str) and isinstance(other, str))):
            raise Misused(
                f"{described(one)} and {described(other)} have no order", "compare two numbers, or two texts"
            )
        return compare(one, other)

    return decide


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "eq": _equal,
    "ge": _ordered(lambda one, other: one >= other),
    "gt": _ordered(lambda one, other: one > other),
    "index": _index,
    "join": _join,
    "joinAndTruncate": _join_and_truncate,
    "le": _ordered(lambda one, other: one <= other),
    "len": _len,
    "lt": _ordered(lambda one, other: one < other),
    "ne": lambda one, other: not _equal(one, other),
    "not": lambda value: not true(value),
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
}
"""What templates can call, besides ``and``, ``or`` and ``config``."""


def names() -> Sequence[str]:
    """All functions, for help."""
    return sorted({*FUNCTIONS, "and", "or", "config"})
