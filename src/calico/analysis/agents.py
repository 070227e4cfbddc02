"""The settings that the facts give each agent.

In:   all facts, FelixConfigurations and the labels of nodes among them.
Out:  ``Agents``: the settings of each node, and what all have in common.
Next: ``analysis.world`` judges each end by its own: failsafe ports, and what becomes of traffic from workloads to their hosts.

What a node's own file and environment add is not in the store, and left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from calico.model.felix import FelixConfiguration
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.model.settings_sources import applying, resolve

_BUILT_IN: Final = Settings()


class Agents:
    """The settings of all agents. ``given`` are those of every node, in the place of what ``facts`` say."""

    def __init__(self, facts: Mapping[Key, Resource], given: Settings | None = None) -> None:
        self._facts = facts
        self._given = given
        self._configurations = [each for each in facts.values() if isinstance(each, FelixConfiguration)]
        self._known: dict[str, Settings] = {}

    def of(self, node: str) -> Settings:
        """What the agent of ``node`` goes by; of "", which is no node, what all have in common."""
        if self._given is not None:
            return self._given
        if not self._configurations:
            return _BUILT_IN
        if node not in self._known:
            found = self._facts.get(Key("Node", node)) if node else None
            labels = found.metadata.labels if isinstance(found, Node) else None
            stored, _ = applying(self._configurations, node, labels)
            self._known[node] = resolve(stored, backend="nftables").settings
        return self._known[node]
