"""The facts that BGP needs, and the BIRD configuration that follows from them.

In:   updates of nodes, BGP kinds, pools and this host's block affinities.
Out:  the text of ``bird.conf``, whenever it may have changed.
Next: ``bgp.daemon`` checks and loads it.
"""

from __future__ import annotations

from typing import TypeVar

from calico.bgp import bird, sessions
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.bgp import BGPConfiguration, BGPPeer
from calico.model.fact import Update
from calico.model.ipam import BlockAffinity
from calico.model.node import Node
from calico.model.pool import IPPool

T = TypeVar("T")


class Routing:
    """What this node should tell BIRD."""

    def __init__(self, node: str, interface_prefix: tuple[str, ...]) -> None:
        self._node = node
        self._interface_prefix = interface_prefix
        self._owner = f"host:{node}"
        self._nodes: dict[str, Node] = {}
        self._configurations: dict[str, BGPConfiguration] = {}
        self._peers: dict[str, BGPPeer] = {}
        self._pools: dict[str, IPPool] = {}
        self._blocks: set[Cidr] = set()
        self.problems: tuple[str, ...] = ()
        """What of the intent could not be planned, for people."""

    def update(self, update: Update) -> bool:
        """Take a fact in; whether the configuration may differ now."""
        key, value = update
        match key.kind:
            case "BlockAffinity":
                return self._affinity(
                    key.name, key.namespace, value if isinstance(value, BlockAffinity) else None
                )
            case "Node":
                _put(self._nodes, key.name, value if isinstance(value, Node) else None)
            case "BGPConfiguration":
                _put(self._configurations, key.name, value if isinstance(value, BGPConfiguration) else None)
            case "BGPPeer":
                _put(self._peers, key.name, value if isinstance(value, BGPPeer) else None)
            case "IPPool":
                _put(self._pools, key.name, value if isinstance(value, IPPool) else None)
            case _:
                return False
        return True

    def configuration(self) -> str:
        """The text of ``bird.conf``."""
        speaker = sessions.plan(
            self._node, self._nodes, self._configurations, self._peers, self._pools, sorted(self._blocks)
        )
        self.problems = tuple(str(problem) for problem in speaker.problems)
        return bird.render(speaker, interface_prefix=self._interface_prefix)

    def _affinity(self, cidr: str, owner: str, value: BlockAffinity | None) -> bool:
        if owner != self._owner:
            return False
        try:
            block = parse_cidr(cidr)
        except AddressError:
            return False
        held = value is not None and value.state in {"confirmed", ""} and not value.deleted
        if held == (block in self._blocks):
            return False
        (self._blocks.add if held else self._blocks.discard)(block)
        return True


def _put(table: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
