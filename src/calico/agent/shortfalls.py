"""What stored resources ask of this agent that it does not do.

In:   updates, as the store reports them.
Out:  sentences for people, each thing once however many resources ask for it.
Next: ``agent.life`` puts them into its report.

The agent's own settings are no part of it: ``agent.directives`` knows which of them count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.cluster import CalicoNodeStatus, ClusterInformation, KubeControllersConfiguration
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.errors import Finding, dotted
from calico.model.fact import Update
from calico.model.felix import FelixConfiguration
from calico.model.keys import Key
from calico.model.node import Node
from calico.model.resource import Resource

NAMED: Final = 3
"""How many resources a sentence names."""
MOST: Final = 20
"""How many sentences a report has."""


class Shortfalls:
    """What is asked for in vain, as far as it concerns ``node``."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._found: dict[Key, tuple[Finding, ...]] = {}

    def take(self, update: Update) -> None:
        """Take a fact in."""
        key, value = update
        self._found.pop(key, None)
        if not isinstance(value, Resource) or type(value).not_done is Resource.not_done:
            return
        if _node_of(value) in {None, self._node} and (found := tuple(value.not_done())):
            self._found[key] = found

    def sentences(self) -> list[str]:
        """``kinds/names: field: what does not happen; what to do``, in order of the names."""
        alike: dict[Finding, list[Key]] = {}
        for key in sorted(self._found):
            for finding in self._found[key]:
                alike.setdefault(finding, []).append(key)
        sentences = list(_sentences(alike))
        rest = len(sentences) - MOST
        return sentences if rest <= 0 else [*sentences[:MOST], f"and {rest} more of the kind"]


def _sentences(alike: dict[Finding, list[Key]]) -> Iterator[str]:
    for finding, keys in alike.items():
        names = ", ".join(map(str, keys[:NAMED]))
        if len(keys) > NAMED:
            names += f" and {len(keys) - NAMED} more"
        yield f"{names}: {dotted(finding.path)}: {finding.message}; {finding.remedy}"


def _node_of(resource: Resource) -> str | None:
    """The node that a resource is for; None: every node, and "": none at all."""
    match resource:
        case WorkloadEndpoint() | HostEndpoint() | CalicoNodeStatus():
            return resource.spec.node
        case Node():
            return resource.metadata.name
        case BGPPeer():
            return resource.spec.node or None
        case BGPConfiguration() if resource.metadata.name.startswith("node."):
            return resource.metadata.name.removeprefix("node.")
        case FelixConfiguration() | ClusterInformation() | KubeControllersConfiguration():
            return ""
        case _:
            return None
