"""Templates as ``calicoctl get -o go-template=...`` takes them: Go's text/template, a documented subset.

In:   a template's text, and what was found: a list, in which each is a resource asked for by name, or all of a kind.
Out:  text; ``BadTemplate`` with the place of what is wrong.
Next: ``cli.get`` prints it. ``docs/operate/calicoctl.md`` describes the subset; ``FUNCTIONS`` lists the functions.

As in Calico's own program the dot is a list of lists: ``{{range .}}{{range .Items}}{{.ObjectMeta.Name}} {{end}}{{end}}``.
It has ``.Items`` itself, too, all resources in one list, as users of kubectl write it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from calico.cli.fields import NO_VALUE, Listing, NoField, described, member
from calico.cli.template_functions import FUNCTIONS, Misused, printed, true
from calico.cli.template_text import (
    Action,
    BadTemplate,
    Block,
    Call,
    Chain,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    Text,
    parse,
)
from calico.model.resource import Resource

Found = Sequence[Resource | Listing]
Config = Callable[[str], str]


class _Jumped(Exception):  # not an error: how control leaves a block
    """``break`` or ``continue`` was met."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Template:
    """A template that was read; ``BadTemplate`` if it makes no sense, before anything is looked up for it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._nodes = parse(text)
        _check(self._nodes)

    def render(self, found: Found, config: Config | None = None) -> str:
        """The text for ``found``. ``config`` answers the function of that name, which knows ``asnumber`` alone."""
        output: list[str] = []
        run = _Run(output, config or (lambda _: "unknown"))
        run.nodes(self._nodes, _Root(found), [{"$": _Root(found)}])
        return "".join(output)

    def asks(self, function: str) -> bool:
        """Whether the template uses a function, so that what it needs can be read beforehand."""
        return any(call.name == function for call in _calls(self._nodes))


class _Root(list[Any]):
    """The dot at first: a list, with all its resources as ``Items``."""

    @property
    def everything(self) -> list[Resource]:
        return [
            resource for each in self for resource in (each.items if isinstance(each, Listing) else (each,))
        ]


def _calls(nodes: Sequence[Node]) -> Iterator[Call]:
    for node in nodes:
        match node:
            case Action(pipeline):
                yield from _calls_of(pipeline)
            case Block():
                yield from _calls_of(node.pipeline)
                yield from _calls(node.body)
                yield from _calls(node.otherwise)


def _calls_of(operand: Operand | str | None) -> Iterator[Call]:
    match operand:
        case Pipeline(calls=calls):
            for call in calls:
                yield from _calls_of(call)
        case Call(arguments=arguments):
            yield operand
            for argument in arguments:
                yield from _calls_of(argument)
        case Chain(start=start):
            yield from _calls_of(start)


def _check(nodes: Sequence[Node]) -> None:
    for call in _calls(nodes):
        if call.name and call.name not in FUNCTIONS and call.name not in _SPECIAL:
            from calico.model.schema import nearest

            known = sorted({*FUNCTIONS, *_SPECIAL})
            raise BadTemplate(call.at, f"there is no function {call.name!r}", nearest(call.name, known))


_SPECIAL: Final = frozenset({"and", "or", "config"})
"""Functions that do not take just values: two stop at the first that decides, one asks the store."""

ROUNDS: Final = 10_000
"""How often a range over a number goes round: what is in the store comes in lists, which may be longer."""

Scopes = list[dict[str, Any]]


class _Run:
    """One time that a template is rendered."""

    def __init__(self, output: list[str], config: Config) -> None:
        self._output = output
        self._config = config

    def nodes(self, nodes: Sequence[Node], dot: Any, scopes: Scopes) -> None:
        """Print ``nodes``; variables they declare end with them."""
        scopes = [*scopes, {}]
        for node in nodes:
            match node:
                case Text(text):
                    self._output.append(text)
                case Action(pipeline):
                    value = self._pipeline(pipeline, dot, scopes)
                    if not pipeline.variables:
                        self._output.append(printed(value))
                case Jump(_, word):
                    raise _Jumped(word)
                case Block(word="range"):
                    self._range(node, dot, scopes)
                case Block(word=word):
                    inner = [*scopes, {}]
                    value = self._pipeline(node.pipeline, dot, inner)
                    body = node.body if true(value) else node.otherwise
                    self.nodes(body, value if word == "with" and true(value) else dot, inner)

    def _range(self, block: Block, dot: Any, scopes: Scopes) -> None:
        over = self._pipeline(block.pipeline._replace(variables=()), dot, scopes)
        pairs: list[tuple[Any, Any]]
        match over:
            case None | _ if over is None or over is NO_VALUE:
                pairs = []
            case dict():
                pairs = sorted(over.items())
            case int() if not isinstance(over, bool):
                if over > ROUNDS:
                    raise BadTemplate(
                        block.at, f"{{{{range}}}} over {over} is too much", f"{ROUNDS} rounds are the most"
                    )
                pairs = [(index, index) for index in range(over)]
            case list() | tuple() if not isinstance(over, Listing):
                pairs = [*enumerate(over)]
            case _:
                hint = "range over its .Items" if isinstance(over, Listing) else "name a list in it"
                raise BadTemplate(block.at, f"{{{{range}}}} cannot go over {described(over)}", hint)
        if not pairs:
            self.nodes(block.otherwise, dot, scopes)
        for key, value in pairs:
            names = block.pipeline.variables
            values = (value,) if len(names) == 1 else (key, value)
            inner = [*scopes, {}]
            for name, each in zip(names, values, strict=False):
                self._assign(block.at, name, each, inner, declares=block.pipeline.declares)
            try:
                self.nodes(block.body, value, inner)
            except _Jumped as jumped:
                if jumped.word == "break":
                    return

    def _pipeline(self, pipeline: Pipeline, dot: Any, scopes: Scopes) -> Any:
        value = self._call(pipeline.calls[0], dot, scopes, ())
        for call in pipeline.calls[1:]:
            value = self._call(call, dot, scopes, (value,))
        for name in pipeline.variables:
            self._assign(pipeline.at, name, value, scopes, declares=pipeline.declares)
        return value

    def _assign(self, at: int, name: str, value: Any, scopes: Scopes, *, declares: bool) -> None:
        if declares:
            scopes[-1][name] = value
            return
        for scope in reversed(scopes):
            if name in scope:
                scope[name] = value
                return
        raise BadTemplate(at, f"there is no variable {name}", f"declare it with {name} := ...")

    def _call(self, call: Call, dot: Any, scopes: Scopes, last: tuple[Any, ...]) -> Any:
        if not call.name:
            return self._value(call.arguments[0], dot, scopes)
        if call.name in {"and", "or"}:
            return self._junction(call, dot, scopes, last)
        arguments = (*(self._value(each, dot, scopes) for each in call.arguments), *last)
        try:
            if call.name == "config":
                return self._ask(*arguments)
            return FUNCTIONS[call.name](*arguments)
        except Misused as error:
            raise BadTemplate(call.at, f"{call.name}: {error}", error.remedy) from error
        except TypeError as error:
            raise BadTemplate(
                call.at,
                f"{call.name} cannot be called with {len(arguments)} values",
                "see its use in the help",
            ) from error

    def _ask(self, name: Any) -> str:
        if str(name).lower() != "asnumber":
            raise Misused(f"there is no setting {name!r}", 'the only one is "asnumber"')
        return self._config("asnumber")

    def _junction(self, call: Call, dot: Any, scopes: Scopes, last: tuple[Any, ...]) -> Any:
        if not (call.arguments or last):
            raise BadTemplate(call.at, f"{call.name} has no values", "give it two or more")
        value: Any = None
        for argument in call.arguments:
            value = self._value(argument, dot, scopes)
            if true(value) != (call.name == "and"):
                return value
        return last[0] if last else value

    def _value(self, operand: Operand, dot: Any, scopes: Scopes) -> Any:
        match operand:
            case Literal(_, value):
                return value
            case Pipeline():
                return self._pipeline(operand, dot, scopes)
            case Call():
                return self._call(operand, dot, scopes, ())
            case Chain(at, start, fields):
                value = self._start(at, start, dot, scopes)
                for name in fields:
                    value = self._member(at, value, name)
                return value

    def _start(self, at: int, start: str | Pipeline | None, dot: Any, scopes: Scopes) -> Any:
        if start is None:
            return dot
        if isinstance(start, Pipeline):
            return self._pipeline(start, dot, scopes)
        for scope in reversed(scopes):
            if start in scope:
                return scope[start]
        raise BadTemplate(at, f"there is no variable {start}", f"declare it with {start} := ...")

    @staticmethod
    def _member(at: int, value: Any, name: str) -> Any:
        if isinstance(value, _Root):
            if name.lower() == "items":
                return value.everything
            raise BadTemplate(
                at,
                f"the dot is a list here, which has no .{name}",
                "go into it with {{range .}}, and into all of a kind with {{range .Items}}",
            )
        try:
            return member(value, name)
        except NoField as error:
            raise BadTemplate(at, str(error)) from error
