"""The one family of exceptions of the model.

In:   what a person or another program wrote.
Out:  ``ModelError`` and its kinds; ``Problem`` says where something is wrong, what, and what would be right.
Next: ``cli`` prints them, the agent logs them and treats the resource as absent.

All are ``ValueError``: the value was wrong, and trying again unchanged is useless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where in a resource: field names as in YAML, and indexes of lists."""


class Finding(NamedTuple):
    """One thing to say about a resource: where, what is wrong, and what would be right."""

    path: Path
    message: str
    remedy: str


Findings: TypeAlias = Iterator[Finding]


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
    """One thing that is wrong with one resource.

    ``source`` is the file, ``document`` counts its YAML documents from 0, ``line`` and ``column`` count from 1
    and are 0 where the text is not known. ``message`` says what is wrong, ``remedy`` what would be right;
    ``excerpt`` is the offending line. ``kind`` and ``name`` are empty where the text does not tell.
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

    @property
    def field(self) -> str:
        """The path as people write it: ``spec.ingress[2].source.nets[0]``."""
        return dotted(self.path)

    def __str__(self) -> str:
        """``file:line:column: kind/name: field: what is wrong; what would be right``, the line, and a caret."""
        place = self.source
        if self.line:
            place = f"{self.source}:{self.line}:{self.column}"
        subject = "/".join(part for part in (self.kind, self.name) if part)
        what = f"{self.message}; {self.remedy}" if self.remedy else self.message
        sentence = ": ".join(part for part in (place, subject, self.field, what) if part)
        if not self.excerpt:
            return sentence
        indent = "".join("\t" if char == "\t" else " " for char in self.excerpt[: self.column - 1])
        return f"{sentence}\n    {self.excerpt}\n    {indent}^"


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
