"""Selectors: parse, print, canonicalise and evaluate (behaviour reference 2).

In:   the text of a selector, as an operator writes it.
Out:  ``Selector``: a predicate on labels, its canonical text, its identity, and a tree to walk.
Next: ``calculation.matching`` evaluates it; ``calculation.sets`` names address sets after its ``uid``.

Selectors of the same canonical text are equal, and those met recently are one object, so a
dictionary or a cache keyed by ``Selector`` works across policies that write the same thing differently.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha224
from typing import Final

from calico.model.errors import SelectorError
from calico.model.selector_tree import (
    All,
    And,
    Compare,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has,
    In,
    LabelRestriction,
    Node,
    Not,
    NotIn,
    Or,
    Predicate,
    StartsWith,
    Unequal,
    predicate_of,
    prefixed,
    restrictions_of,
    text_of,
)


class Selector:
    """A parsed selector: immutable, compared and hashed by its canonical text."""

    __slots__ = ("_restrictions", "_text", "_uid", "matches", "node")

    node: Node
    """The tree (``model.selector_tree``), for code that reads selectors rather than evaluates them."""
    matches: Predicate
    """Whether a label set is selected; a plain function, free of lookups on the hot path."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.matches = predicate_of(node)
        self._text = text_of(node)
        self._uid: str | None = None
        self._restrictions: Mapping[str, LabelRestriction] | None = None

    @property
    def uid(self) -> str:
        """A name as good as the canonical text, of fixed length: ``s:`` and 38 characters."""
        if self._uid is None:
            digest = sha224(f"s:{self._text}".encode(errors="surrogatepass")).digest()
            self._uid = f"s:{urlsafe_b64encode(digest).decode().rstrip('=')}"
        return self._uid

    def restrictions(self) -> Mapping[str, LabelRestriction]:
        """What must hold of single labels wherever this matches; never too strict, and empty when nothing is known."""
        if self._restrictions is None:
            self._restrictions = restrictions_of(self.node, negated=False)
        return self._restrictions

    def prefixed(self, prefix: str) -> Selector:
        """The same selector over labels whose names begin with ``prefix``: ``pcns.`` or ``pcsa.``."""
        return from_tree(prefixed(self.node, prefix))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"parse({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Selector) and self._text == other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Callable[[Node], Selector], tuple[Node]]:
        return from_tree, (self.node,)


@lru_cache(maxsize=1 << 12)
def from_tree(node: Node) -> Selector:
    """The selector of a tree; the same object for the same tree, while it is remembered."""
    return Selector(node)


@lru_cache(maxsize=1 << 12)
def parse(text: str) -> Selector:
    """The selector that ``text`` says; empty text selects everything. ``SelectorError`` if it says none."""
    return from_tree(_Parser(text).parse())


def conjunction(*selectors: Selector) -> Selector:
    """What all of ``selectors`` select; of none, everything. The order is kept, ``all()`` is left out."""
    operands: list[Node] = []
    for each in selectors:
        match each.node:
            case All():
                pass
            case And(inner):
                operands.extend(inner)
            case node:
                operands.append(node)
    if not operands:
        return ALL
    return from_tree(operands[0] if len(operands) == 1 else And(tuple(operands)))


ALL: Final = from_tree(All())
"""``all()``, and what the empty text says."""
GLOBAL: Final = from_tree(Global())
"""``global()``."""


_LABEL_LENGTH: Final = 512
_DEPTH: Final = 100
"""How deep brackets may nest; far beyond what people write, and well within Python's stack."""

_BLANKS: Final = re.compile(r"[ \t]*")
_LABEL: Final = re.compile(r"[A-Za-z0-9_./-]+")
_OPERATOR: Final = re.compile(
    r"==|!=|(?:contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)(?![A-Za-z0-9_./-])"
)
_WORDS: Final = {"and": "&&", "or": "||"}
"""Words of other languages, and ours."""
_COMPARISONS: Final[dict[str, type[Compare]]] = {
    "==": Equal,
    "!=": Unequal,
    "contains": Contains,
    "startswith": StartsWith,
    "endswith": EndsWith,
}


class _Parser:
    """Recursive descent over one text; ``position`` stands at the next unread, non-blank character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def parse(self) -> Node:
        self._skip_blanks()
        if self.position == len(self.text):
            return All()
        node = self._either()
        if self.position < len(self.text):
            word = _LABEL.match(self.text, self.position)
            if word is not None and word[0].lower() in _WORDS:
                raise self._error(f"found {word[0]!r}, which selectors write '{_WORDS[word[0].lower()]}'")
            raise self._error(f"found {self._here()} where '&&', '||' or the end was expected")
        return node

    def _either(self) -> Node:
        operands = [self._both()]
        while self._take("||"):
            operands.append(self._both())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _both(self) -> Node:
        operands = [self._operation()]
        while self._take("&&"):
            operands.append(self._operation())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _operation(self) -> Node:
        negated = False
        while self._take("!"):
            negated = not negated
        node = self._primary()
        if not negated:
            return node
        return node.operand if isinstance(node, Not) else Not(node)

    def _primary(self) -> Node:
        if self._take("has("):
            label = self._label("the name of a label, as in has(app)")
            self._expect(")", "has(")
            return Has(label)
        if self._take("all("):
            self._expect(")", "all(")
            return All()
        if self._take("global("):
            self._expect(")", "global(")
            return Global()
        if self._take("("):
            self.depth += 1
            if self.depth > _DEPTH:
                raise self._error(f"brackets nest more than {_DEPTH} deep; split the selector")
            node = self._either()
            self._expect(")", "(")
            self.depth -= 1
            return node
        return self._condition(self._label("a label name, has(), all(), '!' or '('"))

    def _condition(self, label: str) -> Node:
        start = self.position
        found = _OPERATOR.match(self.text, start)
        if found is None:
            if label in {"has", "all", "global"} and self.text.startswith("(", start):
                raise self._error(f"the bracket of {label}() follows it directly, without a blank")
            if self.text.startswith("=", start):
                raise self._error("a single '=' compares nothing; write '=='")
            raise self._error(
                f"found {self._here()} after label {label!r}; one of ==, !=, in, not in, contains, starts with, "
                f"ends with follows a label, and has({label}) asks for its presence"
            )
        self.position = found.end()
        self._skip_blanks()
        word = found[0].replace(" ", "").replace("\t", "")
        match word:
            case "in":
                return In(label, self._values())
            case "notin":
                return NotIn(label, self._values())
        return _COMPARISONS[word](label, self._literal())

    def _values(self) -> tuple[str, ...]:
        if not self._take("{"):
            raise self._error(f'found {self._here()} where a set such as {{"a", "b"}} was expected')
        values: set[str] = set()
        while not self._take("}"):
            values.add(self._literal())
            if not self._take(","):
                self._expect("}", "{")
                break
        return tuple(sorted(values))

    def _literal(self) -> str:
        mark = self.text[self.position : self.position + 1]
        if mark not in {'"', "'"}:
            word = _LABEL.match(self.text, self.position)
            example = f', as in "{word[0]}"' if word is not None else ""
            raise self._error(f"found {self._here()} where a value in quotes was expected{example}")
        end = self.text.find(mark, self.position + 1)
        if end < 0:
            raise self._error(f"the value that begins here lacks its closing {mark}")
        value = self.text[self.position + 1 : end]
        self.position = end + 1
        self._skip_blanks()
        return value

    def _label(self, expected: str) -> str:
        found = _LABEL.match(self.text, self.position)
        if found is None:
            raise self._error(f"found {self._here()} where {expected} was expected")
        label = found[0]
        if len(label) > _LABEL_LENGTH:
            raise self._error(
                f"the label that begins here has {len(label)} characters; {_LABEL_LENGTH} is the most"
            )
        self.position = found.end()
        self._skip_blanks()
        return label

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        self._skip_blanks()
        return True

    def _expect(self, token: str, opening: str) -> None:
        if not self._take(token):
            raise self._error(f"found {self._here()} where {token!r} was expected, to close {opening!r}")

    def _skip_blanks(self) -> None:
        found = _BLANKS.match(self.text, self.position)
        if found is not None:
            self.position = found.end()

    def _here(self) -> str:
        if self.position == len(self.text):
            return "the end"
        char = self.text[self.position]
        if char in "\r\n":
            return "a line break (only blanks and tabs may separate words)"
        word = _LABEL.match(self.text, self.position)
        return repr(word[0] if word else char)

    def _error(self, reason: str) -> SelectorError:
        return SelectorError(self.text, self.position + 1, reason)
