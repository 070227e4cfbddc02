"""The tree of a selector, and what can be read off it: text, predicate, restrictions.

In:   nodes, from ``model.selector``'s parser or built by hand.
Out:  canonical text, a compiled predicate on labels, the tree over other label names, label restrictions.
Next: ``model.selector`` wraps a tree and all of this into one ``Selector``.

Nodes are frozen and equal by content. Each function is one ``match`` over all of them, and mypy
proves that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from calico.model.errors import ModelError

Labels: TypeAlias = Mapping[str, str]
Predicate: TypeAlias = Callable[[Labels], bool]


@dataclass(frozen=True, slots=True)
class All:
    """``all()``: every label set."""


@dataclass(frozen=True, slots=True)
class Global:
    """``global()``: what has no namespace; true here, whoever scopes a selector rewrites it."""


@dataclass(frozen=True, slots=True)
class Has:
    """``has(label)``."""

    label: str


@dataclass(frozen=True, slots=True)
class Equal:
    """``label == "value"``."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Unequal:
    """``label != "value"``, true also where the label is missing."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Contains:
    """``label contains "value"``."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """``label starts with "value"``."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class EndsWith:
    """``label ends with "value"``."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class In:
    """``label in {"a", "b"}``; the values are sorted and differ."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotIn:
    """``label not in {"a", "b"}``, true also where the label is missing."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """``!operand``; the operand is no ``Not`` itself."""

    operand: Node


@dataclass(frozen=True, slots=True)
class And:
    """``(a && b)``, of two operands or more."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """``(a || b)``, of two operands or more."""

    operands: tuple[Node, ...]


Compare: TypeAlias = Equal | Unequal | Contains | StartsWith | EndsWith
Member: TypeAlias = In | NotIn
Node: TypeAlias = All | Global | Has | Compare | Member | Not | And | Or


def walk(node: Node) -> Iterator[Node]:
    """``node`` and all below it, parents first."""
    yield node
    match node:
        case Not(operand):
            yield from walk(operand)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from walk(operand)


@dataclass(frozen=True, slots=True)
class LabelRestriction:
    """What every label set that a selector matches has in common, for one label.

    ``values`` implies ``present``. A restriction that demands both presence and absence, or one
    value of none, can not be met: the selector matches nothing.
    """

    present: bool = False
    absent: bool = False
    values: frozenset[str] | None = None

    @property
    def impossible(self) -> bool:
        """Whether no label set meets this."""
        return (self.present and self.absent) or (self.values is not None and not self.values)


def quote(value: str) -> str:
    """``value`` as a literal of the language; there are no escapes, so it can not hold both kinds of quotes."""
    if '"' not in value:
        return f'"{value}"'
    if "'" in value:
        raise ModelError(f"{value!r} holds both kinds of quotes, which no selector can express")
    return f"'{value}'"


def text_of(node: Node) -> str:
    """The canonical text: single blanks, groups in brackets, double quotes where they can be, sets sorted."""
    match node:
        case All():
            return "all()"
        case Global():
            return "global()"
        case Has(label):
            return f"has({label})"
        case Equal(label, value):
            return f"{label} == {quote(value)}"
        case Unequal(label, value):
            return f"{label} != {quote(value)}"
        case Contains(label, value):
            return f"{label} contains {quote(value)}"
        case StartsWith(label, value):
            return f"{label} starts with {quote(value)}"
        case EndsWith(label, value):
            return f"{label} ends with {quote(value)}"
        case In(label, values):
            return f"{label} in {{{', '.join(map(quote, values))}}}"
        case NotIn(label, values):
            return f"{label} not in {{{', '.join(map(quote, values))}}}"
        case Not(operand):
            return f"!{text_of(operand)}"
        case And(operands):
            return f"({' && '.join(map(text_of, operands))})"
        case Or(operands):
            return f"({' || '.join(map(text_of, operands))})"


def predicate_of(node: Node) -> Predicate:
    """A function that evaluates the tree: closures, several times faster than walking it."""
    match node:
        case All() | Global():
            return lambda _: True
        case Has(label):
            return lambda labels: label in labels
        case Equal(label, value):
            return lambda labels: labels.get(label) == value
        case Unequal(label, value):
            return lambda labels: labels.get(label) != value
        case Contains(label, value):
            return lambda labels: (found := labels.get(label)) is not None and value in found
        case StartsWith(label, value):
            return lambda labels: (found := labels.get(label)) is not None and found.startswith(value)
        case EndsWith(label, value):
            return lambda labels: (found := labels.get(label)) is not None and found.endswith(value)
        case In(label, values):
            members = frozenset(values)
            return lambda labels: labels.get(label) in members
        case NotIn(label, values):
            others = frozenset(values)
            return lambda labels: labels.get(label) not in others
        case Not(operand):
            inner = predicate_of(operand)
            return lambda labels: not inner(labels)
        case And(operands):
            return _every([*map(predicate_of, operands)])
        case Or(operands):
            return _some([*map(predicate_of, operands)])


def _every(predicates: Sequence[Predicate]) -> Predicate:
    """All of them, as a balanced tree of pairs: a third of the cost of ``all()`` over a generator."""
    if len(predicates) == 1:
        return predicates[0]
    middle = len(predicates) // 2
    first, second = _every(predicates[:middle]), _every(predicates[middle:])
    return lambda labels: first(labels) and second(labels)


def _some(predicates: Sequence[Predicate]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]
    middle = len(predicates) // 2
    first, second = _some(predicates[:middle]), _some(predicates[middle:])
    return lambda labels: first(labels) or second(labels)


def prefixed(node: Node, prefix: str) -> Node:
    """The same tree over labels whose names begin with ``prefix``."""
    match node:
        case All() | Global():
            return node
        case Not(operand):
            return Not(prefixed(operand, prefix))
        case And(operands):
            return And(tuple(prefixed(operand, prefix) for operand in operands))
        case Or(operands):
            return Or(tuple(prefixed(operand, prefix) for operand in operands))
        case _:
            return replace(node, label=prefix + node.label)


def restrictions_of(node: Node, *, negated: bool) -> Mapping[str, LabelRestriction]:
    """What every label set has in common that the tree (or, ``negated``, its opposite) matches.

    Sound and not complete: a label without an entry may have any value or none.
    """
    match node:
        case Not(operand):
            return restrictions_of(operand, negated=not negated)
        case And(operands) | Or(operands):
            each = [restrictions_of(operand, negated=negated) for operand in operands]
            return _meet(each) if isinstance(node, And) is not negated else _join(each)
        case Has(label):
            return {label: LabelRestriction(present=not negated, absent=negated)}
        case Contains(label, _) | StartsWith(label, _) | EndsWith(label, _) if not negated:
            return {label: LabelRestriction(present=True)}
        case Equal(label, value) if not negated:
            return {label: _one_of(value)}
        case Unequal(label, value) if negated:
            return {label: _one_of(value)}
        case In(label, values) if not negated:
            return {label: _one_of(*values)}
        case NotIn(label, values) if negated:
            return {label: _one_of(*values)}
    return {}


def _one_of(*values: str) -> LabelRestriction:
    return LabelRestriction(present=True, values=frozenset(values))


def _meet(each: Sequence[Mapping[str, LabelRestriction]]) -> Mapping[str, LabelRestriction]:
    """What holds where all hold: everything that any of them demands."""
    result: dict[str, LabelRestriction] = {}
    for restrictions in each:
        for label, new in restrictions.items():
            old = result.get(label, LabelRestriction())
            values = new.values if old.values is None else old.values
            if old.values is not None and new.values is not None:
                values = old.values & new.values
            result[label] = LabelRestriction(old.present or new.present, old.absent or new.absent, values)
    return result


def _join(each: Sequence[Mapping[str, LabelRestriction]]) -> Mapping[str, LabelRestriction]:
    """What holds where any holds: only what all of them demand; branches that never match say nothing."""
    possible = [branch for branch in each if not any(one.impossible for one in branch.values())]
    if not possible:
        return each[0]
    result: dict[str, LabelRestriction] = {}
    for label in set.intersection(*map(set, possible)):
        ones = [branch[label] for branch in possible]
        present, absent = all(one.present for one in ones), all(one.absent for one in ones)
        if present or absent:
            sets = [one.values for one in ones if one.values is not None]
            values = frozenset[str]().union(*sets) if len(sets) == len(ones) else None
            result[label] = LabelRestriction(present, absent, values)
    return result
