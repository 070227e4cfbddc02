"""The one family of exceptions of the model.

In:   what a person or another program wrote.
Out:  ``ModelError`` and its kinds; ``Problem`` says where something is wrong, what, and what would be right.
Next: ``cli`` prints them, the agent logs them and treats the resource as absent.

All are ``ValueError``: the value was wrong, and trying again unchanged is useless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where in a resource: field names as in YAML, and indexes of lists."""


class Finding(NamedTuple):
    """One thing to say about a resource: where, what is wrong, and what would be right.

    ``at_key``: it is about the name of the field, or the key, itself; ``offset``: so far into the text that is the value.
    """

    path: Path
    message: str
    remedy: str
    at_key: bool = False
    offset: int = 0


Findings: TypeAlias = Iterator[Finding]

Severity: TypeAlias = Literal["error", "warning"]
"""An error forbids what was asked for; a warning forbids nothing."""

LONGEST_SHOWN: Final = 100
"""How many characters of an offending line are shown; of a longer one those around the caret."""


class ModelError(ValueError):
    """Text or bytes that are no valid part of the model."""


class SelectorError(ModelError):
    """Text that is no selector.

    ``selector`` is the whole text, ``column`` (from 1) is where it stops making sense, ``reason`` says why.
    """

    def __init__(self, selector: str, column: int, reason: str) -> None:
        super().__init__(f"selector {selector!r}, column {column}: {reason}")
        self.selector = selector
        self.column = column
        self.reason = reason

    def __reduce__(self) -> tuple[type[SelectorError], tuple[str, int, str]]:
        return type(self), (self.selector, self.column, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with one resource, or surely not meant.

    ``source`` is the file, ``document`` counts its YAML documents from 0, ``line`` and ``column`` count from 1
    and are 0 where the text is not known. ``message`` says what is wrong, ``remedy`` what would be right;
    ``excerpt`` is the offending line. ``kind`` and ``name`` (with the namespace before it, if there is one) are
    empty where the text does not tell.
    """

    message: str
    remedy: str = ""
    path: Path = ()
    kind: str = ""
    name: str = ""
    source: str = ""
    document: int = 0
    line: int = 0
    column: int = 0
    excerpt: str = ""
    severity: Severity = "error"

    @property
    def field(self) -> str:
        """The path as people write it: ``spec.ingress[2].source.nets[0]``."""
        return dotted(self.path)

    @property
    def place(self) -> str:
        """``file:line:column``, as far as they are known."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def subject(self) -> str:
        """``kind/namespace/name``, as far as they are known."""
        return "/".join(part for part in (self.kind, self.name) if part)

    @property
    def explanation(self) -> str:
        """``what is wrong; what would be right``."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message

    def pointed(self) -> tuple[str, str]:
        """The offending line, or of a long one what stands around the place, and a line with a caret below it.

        The caret stands below the place also after tabs and wide characters. What would harm a terminal is replaced.
        """
        index = max(self.column - 1, 0)
        line = printable(self.excerpt, tabs=True)
        first = 0 if index < LONGEST_SHOWN * 2 // 3 else index - LONGEST_SHOWN // 2
        shown = line[first : first + LONGEST_SHOWN]
        before, after = "..." if first else "", "..." if first + LONGEST_SHOWN < len(line) else ""
        indent = " " * len(before) + _as_blanks(line[first:index])
        return f"{before}{shown}{after}", f"{indent}^"

    def __str__(self) -> str:
        """``file:line:column: kind/name: field: what is wrong; what would be right``, the line, and a caret.

        A warning says that it is one, after the place.
        """
        severity = self.severity if self.severity != "error" else ""
        parts = (self.place, severity, self.subject, self.field, self.explanation)
        sentence = printable(": ".join(part for part in parts if part))
        if not self.excerpt:
            return sentence
        line, caret = self.pointed()
        return f"{sentence}\n    {line}\n    {caret}"


def printable(text: str, *, tabs: bool = False) -> str:
    """``text`` on one line and harmless to a terminal, as long as before; tabs stay if they may."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (tabs and char == "\t") else "\ufffd" for char in text)


def _as_blanks(text: str) -> str:
    """Blanks as wide as ``text`` is on a terminal, tabs kept."""
    if text.isascii():
        return "".join("\t" if char == "\t" else " " for char in text)
    from unicodedata import combining, east_asian_width

    return "".join(
        "\t" if char == "\t" else "" if combining(char) else "  " if east_asian_width(char) in "WF" else " "
        for char in text
    )


class InvalidResources(ModelError):
    """Resources that may not be used, with everything that is wrong with all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def dotted(path: Path) -> str:
    """``path`` as people write it; a name that is no plain word is quoted: ``metadata.labels["a.b/c"]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("-", "").replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text
