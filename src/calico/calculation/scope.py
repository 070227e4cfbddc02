"""How far selectors reach: the rewrites of behaviour reference 3.4.

In:   the selector fields of a policy, or of one side of a rule.
Out:  one ``Selector`` over effective labels.
Next: ``calculation.rules`` turns those of rules into sets, ``calculation.matching`` evaluates all of them.

The selectors of a NetworkPolicy stay in its namespace unless a ``namespaceSelector`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from calico.calculation.labels import (
    NAMESPACE,
    NAMESPACE_PREFIX,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_PREFIX,
)
from calico.model.errors import SelectorError
from calico.model.policy import EntityRule, PolicySpec, ServiceAccountMatch, ServiceMatch
from calico.model.selector import ALL, GLOBAL, Selector, conjunction, from_tree, parse
from calico.model.selector_tree import All, And, Equal, Has, In, Node, Not, Or

_NAMESPACED: Final = Has(NAMESPACE)
_HAS_ACCOUNT: Final = Has(SERVICE_ACCOUNT)


class Scope:
    """The reach of one policy's selectors; ``namespace`` is "" for what is cluster-wide."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._own = from_tree(Equal(NAMESPACE, namespace)) if namespace else None

    def policy(self, spec: PolicySpec, namespace_selector: str = "") -> tuple[Selector, list[str]]:
        """Whom the policy selects, and what is wrong with its selectors.

        A selector that cannot be read does not narrow the policy: it selects too much rather than too little,
        and whoever uses the result has to close what it selects.
        """
        parts: list[Selector] = []
        problems: list[str] = []
        for field, text, read in (
            ("selector", spec.selector, plain),
            ("namespaceSelector", namespace_selector, _namespaces),
            ("serviceAccountSelector", spec.service_account_selector, _accounts),
        ):
            try:
                parts.append(read(text) if text else ALL)
            except ValueError as error:
                problems.append(f"{field}: {error}")
        if self._own is not None:
            parts.append(self._own)
        return conjunction(*parts), problems

    def entity(self, entity: EntityRule) -> Selector | None:
        """Whom one side of a rule means; None where it does not select by label at all."""
        parts = [plain(entity.selector)] if entity.selector else []
        accounts = entity.service_accounts
        if accounts is not None:
            parts.extend(_account_match(accounts))
        if entity.namespace_selector:
            parts.append(_entity_namespaces(entity.namespace_selector))
        elif self._own is not None and (parts or entity.not_selector):
            parts.append(self._own)
        return conjunction(*parts) if parts else None

    def service(self, match: ServiceMatch) -> str:
        """The service that one side of a rule means, as "namespace/name"; either is empty if nothing says it."""
        return f"{match.namespace or self._namespace}/{match.name}"

    @staticmethod
    def excluded(entity: EntityRule) -> Iterator[Selector]:
        """Whom one side of a rule does not mean; not narrowed, since it is ANDed with ``entity``."""
        if entity.not_selector:
            yield plain(entity.not_selector)


def plain(text: str) -> Selector:
    """A selector over the labels of endpoints; ``global()`` has no place in it."""
    if "global(" in text:
        raise SelectorError(
            text, text.index("global(") + 1, "global() is possible only as a rule's whole namespaceSelector"
        )
    return parse(text)


def _namespaces(text: str) -> Selector:
    return from_tree(_everything_is(plain(text).prefixed(NAMESPACE_PREFIX).node, _NAMESPACED))


def _entity_namespaces(text: str) -> Selector:
    if parse(text) == GLOBAL:
        return from_tree(Not(_NAMESPACED))
    return _namespaces(text)


def _accounts(text: str) -> Selector:
    return from_tree(_everything_is(plain(text).prefixed(SERVICE_ACCOUNT_PREFIX).node, _HAS_ACCOUNT))


def _account_match(accounts: ServiceAccountMatch) -> Iterator[Selector]:
    if accounts.names:
        yield from_tree(In(SERVICE_ACCOUNT, tuple(sorted(set(accounts.names)))))
    if accounts.selector:
        yield _accounts(accounts.selector)


def _everything_is(node: Node, everything: Node) -> Node:
    """The tree with ``everything`` in place of each ``all()``: "all namespaces" is whatever has one."""
    match node:
        case All():
            return everything
        case Not(operand):
            return Not(_everything_is(operand, everything))
        case And(operands):
            return And(tuple(_everything_is(operand, everything) for operand in operands))
        case Or(operands):
            return Or(tuple(_everything_is(operand, everything) for operand in operands))
        case _:
            return node
