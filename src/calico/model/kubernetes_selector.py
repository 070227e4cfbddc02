"""Kubernetes' label selectors as Calico's.

In:   a field that holds a label selector: matchLabels and matchExpressions.
Out:  a selector's text that selects the same, and nothing else.
Next: ``model.kubernetes_policy`` and ``model.kubernetes_cluster_policy`` put them into rules.

A selector of pods says that it is of Kubernetes' pods, so that it selects no host and no set of addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from calico.model.errors import ModelError
from calico.model.kubernetes_object import Object, Unconvertible, at, items, only, text, texts
from calico.model.schema import nearest, shown
from calico.model.selector import from_tree, parse
from calico.model.selector_tree import All, And, Equal, Has, In, Node, Not, NotIn

ORCHESTRATOR_LABEL: Final = "projectcalico.org/orchestrator"
ORCHESTRATOR: Final = "k8s"


def pods(tree: Object, name: str) -> str:
    """The selector of pods, and of nothing else, that a label selector says; absent or empty: all pods."""
    with at(name):
        selector = tree.get(name, {})
        return _text([Equal(ORCHESTRATOR_LABEL, ORCHESTRATOR), *_requirements(selector)])


def namespaces(tree: Object, name: str) -> str:
    """The selector of namespaces that a label selector says; empty: all namespaces."""
    with at(name):
        return _text([*_requirements(tree.get(name, {}))])


def _requirements(tree: Any) -> Iterator[Node]:
    selector = only(tree, "matchLabels", "matchExpressions")
    for key, value in sorted(texts(selector, "matchLabels").items()):
        yield Equal(key, value)
    for index, each in enumerate(items(selector, "matchExpressions")):
        with at("matchExpressions", index):
            yield _expression(only(each, "key", "operator", "values"))


def _expression(expression: Object) -> Node:
    key, values = text(expression, "key"), items(expression, "values")
    if not all(isinstance(value, str) for value in values):
        raise Unconvertible("a value is no text", "put it in quotes", ("values",))
    operands = tuple(sorted(set(values)))
    match expression.get("operator"):
        case "In":
            return In(key, operands)
        case "NotIn":
            return NotIn(key, operands)
        case "Exists":
            return Has(key)
        case "DoesNotExist":
            return Not(Has(key))
        case other:
            raise Unconvertible(
                f"there is no operator {shown(other)}",
                nearest(str(other), ["In", "NotIn", "Exists", "DoesNotExist"]),
                ("operator",),
            )


def _text(nodes: list[Node]) -> str:
    """All of the requirements, as text that is read as just these: names of labels may hold anything until now."""
    node = And(tuple(nodes)) if len(nodes) > 1 else nodes[0] if nodes else All()
    try:
        selector = from_tree(node)
        understood = parse(str(selector)) == selector
    except ModelError as error:
        raise Unconvertible(f"a label can not be selected: {error}", "choose another label") from error
    if not understood:
        raise Unconvertible(f"{selector} would select something else", "choose other labels")
    return str(selector)
