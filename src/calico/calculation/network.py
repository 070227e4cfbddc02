"""Facts -> what this host should be, incrementally: every table in order, on one page.

In:   ``Update`` for each fact that changed, in any order and any number, and ``InSync`` once.
Out:  ``Delta`` from each ``settle``: everything that changed since the last one, and nothing before ``InSync``.
Next: ``agent.loop`` gives the Delta to ``rendering``.

What is desired depends on the current facts alone: not on the order in which they came, nor on facts that were
there and went. ``calculation.oracle`` says what the result has to be; histories in the tests prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from calico.calculation.bindings import Bindings
from calico.calculation.intake import Intake
from calico.calculation.labels import Inheritance
from calico.calculation.oracle import State
from calico.calculation.routes import Routes
from calico.calculation.sets import Sets
from calico.desired import Delta
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.tables.derived import settle
from calico.tables.table import Table

V = TypeVar("V")
W = TypeVar("W")


class Network:
    """The calculation of one ``node``. Synchronous, without I/O; one owner, no threads."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.in_sync = False
        self.facts = facts = Intake(node)
        self.problems: Mapping[Key, str] = facts.problems
        """Facts that could not be used as they are: what is wrong, and what became of them."""

        # Each from those above it, and nothing from those below.
        self.inheritance = Inheritance(facts.owners, facts.profiles, facts.interner)
        self.bindings = Bindings(facts.locals, facts.policies, facts.tiers, facts.profiles, self.inheritance)
        self.sets = Sets(
            self.bindings.policies, self.bindings.profiles, facts.owners, facts.backends, self.inheritance
        )
        self.routes = Routes(self.bindings.endpoints, facts.pools)

        parts = (self.inheritance, self.bindings, self.sets, self.routes)
        self.stages = tuple(stage for part in parts for stage in part.stages)
        self.tables: tuple[Table[Any, Any], ...] = (
            *facts.tables,
            *(table for part in parts for table in part.tables),
        )

    def update(self, updates: Iterable[Update | InSync]) -> None:
        """Take note of facts. Later ones replace earlier ones; kinds that do not concern a host are ignored.

        Never raises for what a fact says: see ``problems``.
        """
        take = self.facts.take
        for update in updates:
            if isinstance(update, InSync):
                self.in_sync = True
            else:
                take(update)

    def settle(self) -> Delta:
        """Everything that changed since the last settle, coalesced; nothing before the facts are complete."""
        if not self.in_sync:
            return Delta()
        settle(self.stages)
        delta = Delta(
            set_infos=_changes(self.sets.specs, lambda spec: spec.info),
            set_members=_changes(self.sets.members, _itself),
            policies=_changes(self.bindings.policies, lambda compiled: compiled.row),
            profiles=_changes(self.bindings.profiles, lambda compiled: compiled.row),
            endpoints=_changes(self.bindings.endpoints, _itself),
            routes=_changes(self.routes.routes, _itself),
            pools=_changes(self.routes.pools, _itself),
        )
        for table in self.tables:
            table.forget()
        return delta

    def counts(self) -> dict[str, int]:
        """How many rows each table of the picture has; cheap."""
        return {
            "set_infos": len(self.sets.specs),
            "set_members": len(self.sets.members),
            "policies": len(self.bindings.policies),
            "profiles": len(self.bindings.profiles),
            "endpoints": len(self.bindings.endpoints),
            "routes": len(self.routes.routes),
            "pools": len(self.routes.pools),
        }

    def state(self) -> State:
        """The complete picture as of the last settle; costs as much as it is large."""
        return State(
            set_infos={id_: spec.info for id_, spec in self.sets.specs.items()},
            set_members=dict(self.sets.members.items()),
            policies={id_: compiled.row for id_, compiled in self.bindings.policies.items()},
            profiles={name: compiled.row for name, compiled in self.bindings.profiles.items()},
            endpoints=dict(self.bindings.endpoints.items()),
            routes=dict(self.routes.routes.items()),
            pools=dict(self.routes.pools.items()),
        )


def _changes(table: Table[Any, V], row: Callable[[V], W]) -> dict[Any, W | None]:
    return {key: None if now is None else row(now) for key, _, now in table.changes()}


def _itself(row: V) -> V:
    return row
