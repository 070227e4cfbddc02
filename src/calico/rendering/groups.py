"""Many policies of one tier as one chain: what they cost a new flow does not grow with their number.

In:   the policies of a tier in their order, and the rules of each.
Out:  the rules of the group's chain, before similar ones are merged (``ruleset.merge``).
Next: ``rendering.renderer`` keeps the chain, which the chains of endpoints with these policies in this tier share.

A jump to a policy and the question whether it has decided are two rules; so a policy of no more rules than that stands
in the group's chain itself, where it can become one lookup with its neighbours. Larger ones are jumped to.
From the group's chain a packet comes back as it does from a policy's: accepted, passed on, or undecided.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from calico.desired import Direction, PolicyId, TierRow
from calico.model.settings import Settings
from calico.ruleset import ast, names
from calico.ruleset.merge import LEAST

INLINE: Final = 2
"""Rules up to which a policy stands in its group's chain."""


class Group(NamedTuple):
    """Policies that follow each other in a tier."""

    policies: tuple[PolicyId, ...]


Owner = PolicyId | Group | str
"""Whose rules a chain holds: a policy's, a group's, or those of the profile of that name."""


def of_tier(tier: TierRow) -> tuple[PolicyId | Group, ...]:
    """Where the chain of an endpoint jumps to for a tier: to each policy, or to the group of many."""
    return (Group(tier.policies),) if len(tier.policies) >= LEAST else tier.policies


def chain_name(owner: Owner, direction: Direction, *, quiet: bool) -> str:
    """The chain of an owner's rules in one direction."""
    match owner:
        case PolicyId():
            return names.policy_chain(owner, direction, quiet=quiet)
        case Group():
            prefix = f"cali-{'q' if quiet else ''}{'gi' if direction == 'ingress' else 'go'}-"
            content = [part for policy in owner.policies for part in policy]
            return prefix + names.digest(content, names.CHAIN_LIMIT - len(prefix))
        case _:
            return names.profile_chain(owner, direction, quiet=quiet)


def jump(chain: str, settings: Settings) -> Iterable[ast.Rule]:
    """Ask a policy that has a chain of its own, and go back if it has decided or passed."""
    decided = settings.accept_mark | settings.pass_mark
    yield ast.Rule((), (ast.Jump(chain),))
    yield ast.Rule((ast.Mark(0, decided, negate=True),), (ast.Return(),))
