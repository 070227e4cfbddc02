"""Whether a selector can match anything at all, and whether one matches whatever another does.

In:   trees of selectors (``model.selector_tree``).
Out:  ``contradiction``: why no labels satisfy a tree, as a sentence; ``implies``: one tree follows from another.
Next: ``analysis.coverage`` and ``analysis.lint`` ask.

Both are sound and not complete: a contradiction, or an implication, that is claimed holds for all labels that
there may be. The tree is opened into alternatives, each a list of conditions; those on one label either have a
value (or its absence) that meets them all or have none. Trees with too many alternatives are given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from calico.model.selector_tree import (
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has,
    In,
    Node,
    Not,
    NotIn,
    Or,
    StartsWith,
    Unequal,
    text_of,
)

MOST: Final = 256
"""How many alternatives are looked at."""

_IS_GLOBAL: Final = Has("global()")
"""``global()`` as a condition on a label that there is not."""


class _TooMany(Exception):
    """The tree has more alternatives than anybody wants to look at."""


class _Condition(NamedTuple):
    """One condition on one label, or its opposite."""

    atom: Has | Equal | Unequal | Contains | StartsWith | EndsWith | In | NotIn
    negated: bool

    def __str__(self) -> str:
        return f"!({text_of(self.atom)})" if self.negated else text_of(self.atom)

    def allows(self, value: str | None) -> bool:
        """Whether a label of that value, or one that is absent, meets it."""
        return _holds(self.atom, value) is not self.negated

    def among(self) -> frozenset[str] | None:
        """The only values that meet it, or None where there is no end to them."""
        match self.atom, self.negated:
            case (Equal(_, value), False) | (Unequal(_, value), True):
                return frozenset({value})
            case (In(_, values), False) | (NotIn(_, values), True):
                return frozenset(values)
        return None


def contradiction(node: Node) -> str | None:
    """Why no labels whatever satisfy ``node``; None where some may."""
    return _contradiction(node)


def implies(first: Node, second: Node) -> bool:
    """Whether all labels that satisfy ``first`` surely satisfy ``second``."""
    return first == second or _contradiction(And((first, Not(second)))) is not None


@lru_cache(maxsize=1 << 12)
def _contradiction(node: Node) -> str | None:
    try:
        alternatives = _alternatives(node, negated=False)
    except _TooMany:
        return None
    reasons: list[str] = []
    for conditions in alternatives:
        reason = _conflict(conditions)
        if reason is None:
            return None
        reasons.append(reason)
    if not reasons:
        return f"nothing satisfies {text_of(node)}"
    return (
        reasons[0]
        if len(reasons) == 1
        else f"none of its alternatives can be met; of the first, {reasons[0]}"
    )


def _alternatives(node: Node, *, negated: bool) -> list[tuple[_Condition, ...]]:
    """The tree as alternatives, each of which is a list of conditions that must all be met."""
    match node:
        case Not(operand):
            return _alternatives(operand, negated=not negated)
        case And(operands) | Or(operands):
            each = [_alternatives(operand, negated=negated) for operand in operands]
            if isinstance(node, And) is negated:
                found = [alternative for alternatives in each for alternative in alternatives]
            else:
                found = [()]
                for alternatives in each:
                    found = [(*one, *other) for one in found for other in alternatives]
                    if len(found) > MOST:
                        raise _TooMany
        case All():
            return [] if negated else [()]
        case Global():
            return [(_Condition(_IS_GLOBAL, negated),)]
        case _:
            return [(_Condition(node, negated),)]
    if len(found) > MOST:
        raise _TooMany
    return found


def _conflict(conditions: Iterable[_Condition]) -> str | None:
    """Which of the conditions exclude each other, as a sentence; None if none surely do."""
    by_label: dict[str, list[_Condition]] = {}
    for condition in conditions:
        by_label.setdefault(condition.atom.label, []).append(condition)
    for on_label in by_label.values():
        if _possible(on_label):
            continue
        mine = list(dict.fromkeys(on_label))
        for condition in mine:
            if not _possible([condition]):
                return f"nothing satisfies {condition}"
        for pair in combinations(mine, 2):
            if not _possible(pair):
                return f"nothing satisfies both {pair[0]} and {pair[1]}"
        return f"nothing satisfies all of {', '.join(map(str, mine))}"
    return None


def _possible(conditions: Iterable[_Condition]) -> bool:
    """Whether a label may meet all conditions, which are on one label; False only where it surely cannot."""
    conditions = list(conditions)
    if all(condition.allows(None) for condition in conditions):
        return True
    sets = [values for condition in conditions if (values := condition.among()) is not None]
    if sets:
        values = frozenset.intersection(*sets)
        return any(all(condition.allows(value) for condition in conditions) for value in values)
    return _some_text(conditions)


def _some_text(conditions: Iterable[_Condition]) -> bool:
    """Whether some text meets all conditions, where none of them names the text itself."""
    positive = [condition.atom for condition in conditions if not condition.negated]
    negative = [condition.atom for condition in conditions if condition.negated]
    begins = [atom.value for atom in positive if isinstance(atom, StartsWith)]
    ends = [atom.value for atom in positive if isinstance(atom, EndsWith)]
    first, last = max(begins, key=len, default=""), max(ends, key=len, default="")
    if not (all(map(first.startswith, begins)) and all(map(last.endswith, ends))):
        return False
    pieces = [first, last, *(atom.value for atom in positive if isinstance(atom, Contains))]
    for atom in negative:
        match atom:
            case Has():
                return False
            case Contains(_, value) if any(value in piece for piece in pieces):
                return False
            case StartsWith(_, value) if first.startswith(value):
                return False
            case EndsWith(_, value) if last.endswith(value):
                return False
    return True


def _holds(
    atom: Has | Equal | Unequal | Contains | StartsWith | EndsWith | In | NotIn, value: str | None
) -> bool:
    match atom:
        case Has():
            return value is not None
        case Equal(_, wanted):
            return value == wanted
        case Unequal(_, wanted):
            return value != wanted
        case Contains(_, piece):
            return value is not None and piece in value
        case StartsWith(_, piece):
            return value is not None and value.startswith(piece)
        case EndsWith(_, piece):
            return value is not None and value.endswith(piece)
        case In(_, values):
            return value in values
        case NotIn(_, values):
            return value not in values
