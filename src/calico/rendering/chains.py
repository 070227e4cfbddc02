"""The chains of policies, groups of policies and profiles: each there while some chain jumps to it, and as its rows say.

In:   rows of policies and profiles, and which of their chains the chains of endpoints jump to.
Out:  edits of both families' drafts: chains, and the sets that they use.
Next: ``rendering.renderer`` takes the changes.

A chain whose row is missing denies. What is to be rendered again is noted and rendered once, in ``render``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from calico.desired import Direction, PolicyId, PolicyRow, RuleRow
from calico.model.address import Family
from calico.model.settings import Settings
from calico.rendering import groups
from calico.rendering.endpoint import quieter
from calico.rendering.policy import deny, render_rules
from calico.rendering.sets import FamilySets, Uses
from calico.ruleset import ast
from calico.ruleset.diff import Draft
from calico.ruleset.merge import merge

DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")


class RuleChain(NamedTuple):
    """The chain of one direction of a policy, a group of policies or a profile, refusing or ``quiet``."""

    owner: groups.Owner
    direction: Direction
    quiet: bool

    @property
    def name(self) -> str:
        """Its name."""
        return groups.chain_name(self.owner, self.direction, quiet=self.quiet)


class RuleChains:
    """Follows rows and uses; ``drafts`` are those of the families in which there is policy at all.

    ``least``: how many similar rules become one (``ruleset.merge``).
    """

    def __init__(
        self,
        drafts: Mapping[Family, Draft],
        sets: Mapping[Family, FamilySets],
        settings: Settings,
        least: int,
    ) -> None:
        self._drafts = drafts
        self._sets = sets
        self._settings = settings
        self._least = least
        self._rows: dict[PolicyId | str, PolicyRow] = {}
        self._uses: Counter[RuleChain] = Counter()
        self._named: dict[str, RuleChain] = {}
        self._dirty: set[RuleChain] = set()
        self._groups: dict[PolicyId, set[RuleChain]] = {}
        self._jumps: dict[RuleChain, frozenset[RuleChain]] = {}

    def put(self, owner: PolicyId | str, row: PolicyRow | None) -> None:
        """The rules of a policy or profile; None: it is not there."""
        if row is None:
            self._rows.pop(owner, None)
        else:
            self._rows[owner] = row
        chains = (RuleChain(owner, way, quiet) for way in DIRECTIONS for quiet in (False, True))
        self._dirty.update(chain for chain in chains if chain in self._uses)
        if isinstance(owner, PolicyId):
            self._dirty.update(self._groups.get(owner, ()))

    def stale(self, names: Iterable[str]) -> None:
        """A set that the chains of these names use has another name now."""
        self._dirty.update(self._named[name] for name in names)

    def use(self, chain: RuleChain) -> None:
        """One chain more jumps to ``chain``."""
        self._uses[chain] += 1
        if self._uses[chain] > 1:
            return
        self._named[chain.name] = chain
        self._dirty.add(chain)
        if isinstance(chain.owner, groups.Group):
            for policy in chain.owner.policies:
                self._groups.setdefault(policy, set()).add(chain)

    def disuse(self, chain: RuleChain) -> None:
        """One chain less jumps to ``chain``."""
        self._uses[chain] -= 1
        if self._uses[chain]:
            return
        del self._uses[chain]
        name = chain.name
        del self._named[name]
        self._dirty.discard(chain)
        for family, draft in self._drafts.items():
            draft.put_chain(name, None)
            self._sets[family].use(name, ())
            self._sets[family].own(name, {})
        if isinstance(chain.owner, groups.Group):
            for policy in chain.owner.policies:
                self._groups[policy].discard(chain)
                if not self._groups[policy]:
                    del self._groups[policy]
            for jumped in self._jumps.pop(chain, ()):
                self.disuse(jumped)

    def render(self) -> None:
        """Render what has changed. Groups first: what they jump to depends on the policies' rows."""
        for chain in tuple(self._dirty):
            if isinstance(chain.owner, groups.Group):
                self._render_group(chain, chain.owner)
        for chain in self._dirty:
            if not isinstance(chain.owner, groups.Group):
                for family in self._drafts:
                    uses = Uses(self._sets[family])
                    self._put(chain, family, self._rules(chain, family, uses), uses)
        self._dirty.clear()

    def _render_group(self, chain: RuleChain, group: groups.Group) -> None:
        jumped = set()
        for family in self._drafts:
            uses = Uses(self._sets[family])
            rules: list[ast.Rule] = []
            for policy in group.policies:
                single = RuleChain(policy, chain.direction, chain.quiet)
                small = self._small(single, family, uses)
                if small is None:
                    jumped.add(single)
                    rules += groups.jump(single.name, self._settings)
                else:
                    rules += small
            self._put(chain, family, rules, uses)
        before = self._jumps.pop(chain, frozenset())
        if jumped:
            self._jumps[chain] = frozenset(jumped)
        for single in jumped - before:
            self.use(single)
        for single in before - jumped:
            self.disuse(single)

    def _small(self, chain: RuleChain, family: Family, uses: Uses) -> Sequence[ast.Rule] | None:
        """The rules of a policy, their sets noted in ``uses``; None if they are too many for a group's chain."""
        if len(self._row_rules(chain) or ()) > groups.INLINE:
            return None
        own = Uses(self._sets[family])
        rules = self._rules(chain, family, own)
        if len(rules) > groups.INLINE:
            return None
        uses.take(own)
        return rules

    def _rules(self, chain: RuleChain, family: Family, uses: Uses) -> Sequence[ast.Rule]:
        """The rules of a policy or profile."""
        settings = quieter(self._settings, quiet=chain.quiet)
        rows = self._row_rules(chain)
        return (_missing(chain, settings),) if rows is None else render_rules(rows, family, settings, uses)

    def _row_rules(self, chain: RuleChain) -> Sequence[RuleRow] | None:
        if isinstance(chain.owner, groups.Group) or (row := self._rows.get(chain.owner)) is None:
            return None
        return row.ingress if chain.direction == "ingress" else row.egress

    def _put(self, chain: RuleChain, family: Family, rules: Sequence[ast.Rule], uses: Uses) -> None:
        name = chain.name
        merged = merge(name, family, rules, uses.literals, self._least)
        self._sets[family].use(name, uses.still(merged.rules))
        self._sets[family].own(name, merged.sets)
        self._drafts[family].put_chain(name, ast.Chain(merged.rules))


def _missing(chain: RuleChain, settings: Settings) -> ast.Rule:
    """What stands for a policy or profile that is not there: it denies."""
    owner = chain.owner
    words = f"Profile {owner}" if isinstance(owner, str) else " ".join(str(part) for part in owner if part)
    return ast.Rule((), (deny(settings),), comment=f"{words} does not exist", counted=True)
