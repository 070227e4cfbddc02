"""What the store tells an agent about itself: its settings, and whether it may change anything.

In:   the local sources of settings; updates of FelixConfiguration, of the node itself, and of ClusterInformation.
Out:  ``resolved``: the settings in force, with where they are from; ``locked``; and, by ``Gate``, what the loop may know.
Next: ``agent.life`` is begun with the settings, and puts the gate between the store and the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from calico.agent.lives import Renewal
from calico.model.cluster import ClusterInformation
from calico.model.fact import InSync, Update
from calico.model.felix import FelixConfiguration
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.settings import Settings
from calico.model.settings_sources import Resolved, Source, applying, resolve


class Directives:
    """What is known so far. ``local`` are the environment and the file, strongest first."""

    def __init__(self, node: str, backend: str, local: Sequence[Source]) -> None:
        self._node = node
        self._backend = backend
        self._local = tuple(local)
        self._configurations: dict[str, FelixConfiguration] = {}
        self._labels: Mapping[str, str] | None = None
        self._resolved: Resolved | None = None
        self.locked = False
        """Whether the store says that it is not to be relied on. One that says nothing is ready."""

    @property
    def resolved(self) -> Resolved:
        """The settings in force, as far as the store is known."""
        if self._resolved is None:
            stored, problems = applying(self._configurations.values(), self._node, self._labels)
            found = resolve((*self._local, *stored), backend=self._backend)
            self._resolved = found._replace(problems=(*found.problems, *problems))
        return self._resolved

    @property
    def selective(self) -> bool:
        """Whether it matters which labels the node has."""
        return any("nodeSelector" in each.given() for each in self._configurations.values())

    def take(self, update: Update) -> None:
        """Take a fact in; most do not matter here."""
        key, value = update
        match key.kind:
            case "FelixConfiguration":
                self._configurations.pop(key.name, None)
                if isinstance(value, FelixConfiguration):
                    self._configurations[key.name] = value
                self._resolved = None
            case "Node" if key.name == self._node:
                self._labels = value.metadata.labels if isinstance(value, Node) else None
                self._resolved = None
            case "ClusterInformation":
                self.locked = isinstance(value, ClusterInformation) and value.locked


class Gate:
    """Between the store and the loop of a life that was begun with ``settings``.

    A locked store's facts are held back: whoever locked it is about to change many things, of which no half was ever
    meant. What was passed on before stays in force, and is repaired.
    """

    def __init__(self, directives: Directives, settings: Settings) -> None:
        self._directives = directives
        self._settings = settings
        self._in_sync = False
        self._held: dict[Key, Update] = {}
        self._held_sync = False

    @property
    def held(self) -> int:
        """How many facts wait for the store to be unlocked."""
        return len(self._held)

    def through(self, batch: Iterable[Update | InSync]) -> list[Update | InSync]:
        """What the loop may know now; raises Renewal if it was begun with settings that are not in force.

        Facts that come before the picture is complete pass, for the loop does nothing before; its completion does not,
        unless the settings are right and the store is not locked.
        """
        completes = False
        updates = []
        for item in batch:
            if isinstance(item, InSync):
                completes = self._in_sync = True
            else:
                self._directives.take(item)
                updates.append(item)
        if not self._in_sync:
            return [*updates]
        if self._directives.locked:
            self._held |= {update.key: update for update in updates}
            self._held_sync |= completes
            return []
        if self._directives.resolved.settings != self._settings:
            raise Renewal(_difference(self._directives.resolved))
        if self._held:
            updates = [*(self._held | {update.key: update for update in updates}).values()]
        passed: list[Update | InSync] = [*updates]
        if completes or self._held_sync:
            passed.append(InSync())
        self._held, self._held_sync = {}, False
        return passed


def _difference(resolved: Resolved) -> str:
    chosen = ", ".join(f"{each.name} {each.value} ({each.source})" for each in resolved.chosen)
    return f"the settings changed: {chosen or 'built-in ones'}"
