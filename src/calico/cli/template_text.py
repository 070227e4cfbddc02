"""The text of a template, as Go's text/template writes it, into a tree; a documented subset of it.

In:   the text between ``{{`` and ``}}``, and around it.
Out:  nodes: text, actions, and the blocks ``if``, ``range`` and ``with``; ``BadTemplate`` with line and column.
Next: ``cli.gotemplate`` runs them.

What Go has and this has not (``define``, ``template``, ``block``, methods, complex numbers) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

DEEPEST: Final = 100
"""So deep blocks and parentheses nest at most."""
LARGEST: Final = 2**64
"""What is larger than any number of a resource is a mistake."""

UNSUPPORTED: Final = frozenset({"define", "template", "block"})

_TRIM: Final = " \t\r\n"
_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<raw>`[^`]*`)
  | (?P<char>'(?:[^'\\\n]|\\.)+')
  | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))
  | (?P<variable>\$\w*)
  | (?P<field>\.[^\W\d]\w*)
  | (?P<dot>\.)
  | (?P<word>[^\W\d]\w*)
  | (?P<mark>:=|=|\||\(|\)|,)
    """,
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b"}
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")


class BadTemplate(ValueError):
    """A template that cannot be read or run: where, what is wrong, and what would be right."""

    def __init__(self, at: int, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.at = at
        """The index of the character at which it is wrong."""
        self.message = message
        self.remedy = remedy


# --- the tree ----------------------------------------------------------------------------------------


class Literal(NamedTuple):
    """A text, a number, true, false, or nil (None)."""

    at: int
    value: Any


class Chain(NamedTuple):
    """Fields of something: of the dot (None), of a variable by its name, or of the value of a pipeline."""

    at: int
    start: str | Pipeline | None
    fields: tuple[str, ...]


class Call(NamedTuple):
    """A function, or a lone operand (no name), and its arguments."""

    at: int
    name: str
    arguments: tuple[Operand, ...]


class Pipeline(NamedTuple):
    """Calls, each with the value of the one before as its last argument; assigned to variables, if any."""

    at: int
    calls: tuple[Call, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False


Operand: TypeAlias = Literal | Chain | Pipeline | Call


class Text(NamedTuple):
    """Text that stands for itself."""

    text: str


class Action(NamedTuple):
    """A pipeline whose value is printed, unless it is assigned."""

    pipeline: Pipeline


class Jump(NamedTuple):
    """``break`` or ``continue``."""

    at: int
    word: str


@dataclass(slots=True)
class Block:
    """``if``, ``range`` or ``with``, what stands in it, and after its ``else``."""

    word: str
    at: int
    pipeline: Pipeline
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


Node: TypeAlias = Text | Action | Jump | Block


# --- tokens ------------------------------------------------------------------------------------------


class Token(NamedTuple):
    """A word of an action."""

    kind: str
    text: str
    at: int
    spaced: bool
    """Whether blanks stand before it: ``.a.b`` is a path, ``.a .b`` are two."""


def _pieces(text: str) -> Iterator[tuple[int, str | list[Token]]]:
    """Text and actions in turn, each with its place; blanks at trim marks taken away, comments left out."""
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        plain = text[position:] if start < 0 else text[position:start]
        opens_trimmed = (
            start >= 0 and text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4] in _TRIM
        )
        if trim:
            plain = plain.lstrip(_TRIM)
        if opens_trimmed:
            plain = plain.rstrip(_TRIM)
        if plain:
            yield position, plain
        if start < 0:
            return
        inner = start + (3 if opens_trimmed else 2)
        comment = inner + (len(text[inner:]) - len(text[inner:].lstrip(_TRIM)) if opens_trimmed else 0)
        if text.startswith("/*", comment):
            end = text.find("*/", comment)
            if end < 0:
                raise BadTemplate(start, "the comment does not end", "write */ and }} after it")
            close = re.compile(r"(?:[ \t\r\n]+(-))?\}\}").match(text, end + 2)
            if close is None:
                raise BadTemplate(end, "a comment is not alone in its {{ }}", "give it its own")
            position, trim = close.end(), bool(close.group(1))
            continue
        tokens, position, trim = _action(text, start, inner)
        yield start, tokens


def _action(text: str, start: int, position: int) -> tuple[list[Token], int, bool]:
    tokens: list[Token] = []
    spaced = True
    while True:
        trimmed = text[position : position + 3] == "-}}" and spaced
        if trimmed or text.startswith("}}", position):
            return tokens, position + (3 if trimmed else 2), trimmed
        match = _TOKEN.match(text, position)
        if match is None:
            if position >= len(text):
                raise BadTemplate(start, "{{ has no }} after it", "close it")
            if text[position] in "\"'`":
                raise BadTemplate(position, "a text does not end", "close its quote on the same line")
            raise BadTemplate(position, f"{text[position]!r} makes no sense here", "remove it")
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, match.group(), position, spaced))
        spaced = kind == "space"
        position = match.end()


# --- parsing -----------------------------------------------------------------------------------------


def parse(text: str) -> list[Node]:
    """The tree of a template; ``BadTemplate`` at the first thing that is wrong."""
    root: list[Node] = []
    open_blocks: list[Block] = []
    # A block of "else if" ends together with the one whose "else" it is.
    joined: list[Block] = []
    into = root
    for at, piece in _pieces(text):
        if isinstance(piece, str):
            into.append(Text(piece))
            continue
        if not piece:
            raise BadTemplate(at, "nothing stands between {{ and }}", "write what to show there")
        word = piece[0].text if piece[0].kind == "word" else ""
        match word:
            case "if" | "range" | "with":
                if len(open_blocks) >= DEEPEST:
                    raise BadTemplate(at, f"blocks nest more than {DEEPEST} deep", "flatten them")
                block = _block(word, at, piece[1:])
                into.append(block)
                open_blocks.append(block)
                into = block.body
            case "else":
                if not open_blocks or into is not open_blocks[-1].body:
                    raise BadTemplate(at, "{{else}} has no open {{if}}, {{range}} or {{with}}", "remove it")
                outer = open_blocks[-1]
                into = outer.otherwise
                if len(piece) > 1:
                    if piece[1].text != outer.word or outer.word == "range":
                        raise BadTemplate(
                            piece[1].at, f"{{{{else {piece[1].text}}}}} is not understood", "write {{else}}"
                        )
                    if len(open_blocks) >= DEEPEST:
                        raise BadTemplate(at, f"more than {DEEPEST} branches follow each other", "use fewer")
                    block = _block(outer.word, at, piece[2:])
                    into.append(block)
                    joined.append(block)
                    open_blocks.append(block)
                    into = block.body
            case "end":
                if not open_blocks or len(piece) > 1:
                    raise BadTemplate(at, "{{end}} ends nothing here", "remove it")
                while any(open_blocks[-1] is each for each in joined):
                    open_blocks.pop()
                open_blocks.pop()
                into = _innermost(open_blocks, root)
            case "break" | "continue":
                if not any(block.word == "range" for block in open_blocks) or len(piece) > 1:
                    raise BadTemplate(at, f"{{{{{word}}}}} stands in no {{{{range}}}}", "remove it")
                into.append(Jump(at, word))
            case _ if word in UNSUPPORTED:
                raise BadTemplate(at, f"{{{{{word}}}}} is not supported", "write out what it stands for")
            case _:
                into.append(Action(_Parser(piece, at).whole()))
    if open_blocks:
        block = open_blocks[-1]
        raise BadTemplate(block.at, f"{{{{{block.word}}}}} has no {{{{end}}}}", "add it")
    return root


def _innermost(open_blocks: list[Block], root: list[Node]) -> list[Node]:
    if not open_blocks:
        return root
    block = open_blocks[-1]
    return block.otherwise or block.body


def _block(word: str, at: int, tokens: list[Token]) -> Block:
    if not tokens:
        raise BadTemplate(at, f"{{{{{word}}}}} says nothing of what", f"write as in {{{{{word} .Spec}}}}")
    return Block(word, at, _Parser(tokens, at).whole(loop=word == "range"))


class _Parser:
    """One action, from its tokens."""

    def __init__(self, tokens: list[Token], at: int) -> None:
        self._tokens = tokens
        self._at = at
        self._next = 0
        self._open = 0

    def whole(self, *, loop: bool = False) -> Pipeline:
        """The pipeline that all tokens make."""
        variables, declares = self._assignment(loop=loop)
        at = self._tokens[0].at if self._tokens else self._at
        pipeline = self._pipeline()._replace(at=at, variables=variables, declares=declares)
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            raise BadTemplate(token.at, f"{token.text!r} makes no sense here", "remove it")
        return pipeline

    def _assignment(self, *, loop: bool) -> tuple[tuple[str, ...], bool]:
        texts = [token.text for token in self._tokens[:4]]
        kinds = [token.kind for token in self._tokens[:4]]
        if kinds[:1] == ["variable"] and texts[1:2] in ([":="], ["="]):
            self._next = 2
            return (texts[0],), texts[1] == ":="
        if (
            loop
            and [kinds[0], *kinds[2:3]] == ["variable", "variable"]
            and texts[1] == ","
            and texts[3:4] in ([":="], ["="])
        ):
            self._next = 4
            return (texts[0], texts[2]), texts[3] == ":="
        return (), False

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _pipeline(self) -> Pipeline:
        first = self._peek()
        calls = [self._call()]
        while (token := self._peek()) is not None and token.text == "|":
            self._next += 1
            calls.append(self._call())
            if not calls[-1].name:
                raise BadTemplate(
                    calls[-1].at, "what stands after | is no function", "write one, as in | len"
                )
        return Pipeline(first.at if first else self._at, tuple(calls))

    def _call(self) -> Call:
        token = self._peek()
        if token is None or token.text in {"|", ")"}:
            at = token.at if token else self._tokens[-1].at if self._tokens else self._at
            raise BadTemplate(at, "a value is missing", "write what to show")
        if token.kind == "word" and token.text not in {"true", "false", "nil"}:
            self._next += 1
            arguments = []
            while (following := self._peek()) is not None and following.text not in {"|", ")"}:
                arguments.append(self._operand())
            return Call(token.at, token.text, tuple(arguments))
        operand = self._operand()
        following = self._peek()
        if following is not None and following.text not in {"|", ")"}:
            raise BadTemplate(
                following.at,
                f"{following.text!r} stands after a value that is no function",
                "put a function first, as in {{printf}}",
            )
        return Call(token.at, "", (operand,))

    def _operand(self) -> Operand:
        token = self._tokens[self._next]
        self._next += 1
        match token.kind:
            case "string" | "raw" | "char" | "number":
                return Literal(token.at, _constant(token))
            case "variable":
                return Chain(token.at, token.text, self._fields())
            case "dot":
                return Chain(token.at, None, ())
            case "field":
                return Chain(token.at, None, (token.text[1:], *self._fields()))
            case "word" if token.text in {"true", "false", "nil"}:
                return Literal(token.at, {"true": True, "false": False, "nil": None}[token.text])
            case "word":
                return Call(token.at, token.text, ())
            case "mark" if token.text == "(":
                self._open += 1
                if self._open > DEEPEST:
                    raise BadTemplate(token.at, f"parentheses nest more than {DEEPEST} deep", "flatten them")
                pipeline = self._pipeline()
                self._open -= 1
                closing = self._peek()
                if closing is None or closing.text != ")":
                    raise BadTemplate(token.at, "( has no ) after it", "close it")
                self._next += 1
                return Chain(token.at, pipeline, self._fields())
            case _:
                raise BadTemplate(token.at, f"{token.text!r} makes no sense here", "write a value")

    def _fields(self) -> tuple[str, ...]:
        names = []
        while (token := self._peek()) is not None and token.kind == "field" and not token.spaced:
            names.append(token.text[1:])
            self._next += 1
        return tuple(names)


def is_character(code: int) -> bool:
    """Whether there is a character of this code: none is beyond U+10FFFF, and a surrogate is but half of one."""
    return 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF


def _constant(token: Token) -> Any:
    match token.kind:
        case "raw":
            return token.text[1:-1].replace("\r", "")
        case "string":
            return _unescaped(token)
        case "char":
            letters = _unescaped(token)
            if len(letters) != 1:
                raise BadTemplate(
                    token.at, f"{token.text} is not one character", "use double quotes for text"
                )
            return ord(letters)
        case _:
            whole = not {".", "e", "E"} & set(token.text) or token.text.lower().lstrip("-+").startswith("0x")
            try:
                number = int(token.text, 0) if whole else float(token.text)
            except ValueError:
                remedy = "write it without zeros at its beginning"
                raise BadTemplate(token.at, f"{token.text!r} is no number", remedy) from None
            if abs(number) > LARGEST:
                raise BadTemplate(token.at, f"{token.text!r} is too large", "write a smaller number")
            return number


def _unescaped(token: Token) -> str:
    def letter(match: re.Match[str]) -> str:
        code = match.group(1) or match.group(2) or match.group(3)
        if code:
            if not is_character(int(code, 16)):
                raise BadTemplate(token.at, f"{match.group()} is no character", "write the character itself")
            return chr(int(code, 16))
        if match.group(4) not in _ESCAPES:
            raise BadTemplate(
                token.at, f"{match.group()} is not understood in a text", r"write \\ for a backslash"
            )
        return _ESCAPES[match.group(4)]

    return _ESCAPE.sub(letter, token.text[1:-1])
