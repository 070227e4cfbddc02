"""The facts that BGP needs, and the BIRD configuration that follows from them.

In:   updates of nodes, BGP kinds, pools, services, workloads and this host's block affinities; routers behind
      interfaces, as the kernel sees them; passwords, from where they are kept.
Out:  the text of ``bird.conf``, whenever it may have changed.
Next: ``bgp.daemon`` checks and loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from calico.bgp import bird
from calico.bgp.bird_words import usable
from calico.bgp.facts import Facts
from calico.bgp.plan import plan
from calico.bgp.services import announces
from calico.bgp.speaker import Problem, Speaker
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.bgp import SecretKeyRef
from calico.model.endpoint import WorkloadEndpoint
from calico.model.fact import Update
from calico.model.ipam import BlockAffinity
from calico.model.keys import KINDS

_FIELDS: Final[Mapping[str, str]] = {
    "BFDConfiguration": "bfd",
    "BGPConfiguration": "configurations",
    "BGPFilter": "filters",
    "BGPPeer": "peers",
    "EndpointSlice": "slices",
    "IPPool": "pools",
    "Node": "nodes",
    "Service": "services",
    "WorkloadEndpoint": "workloads",
}
"""Where among ``Facts`` the resources of a kind are."""


class Routing:
    """What this node should tell BIRD."""

    def __init__(self, node: str, interface_prefix: tuple[str, ...], *, router_id: str = "") -> None:
        self._node = node
        self._interface_prefix = interface_prefix
        self._router_id = router_id
        self._owner = f"host:{node}"
        self._tables: dict[str, dict[Any, Any]] = {kind: {} for kind in _FIELDS}
        self._blocks: set[Cidr] = set()
        self._routers: dict[str, Cidr] = {}
        self._speaker: Speaker | None = None
        self.problems: tuple[str, ...] = ()
        """What of the intent could not be planned, for people."""

    def update(self, update: Update) -> bool:
        """Take a fact in; whether the configuration may differ now."""
        key, value = update
        if key.kind == "BlockAffinity":
            held = self._affinity(
                key.name, key.namespace, value if isinstance(value, BlockAffinity) else None
            )
            return held and self._changed()
        table = self._tables.get(key.kind)
        if table is None:
            return False
        kind = KINDS[key.kind]
        place = (key.namespace, key.name) if kind.NAMESPACED else key.name
        wanted = value if isinstance(value, kind) else None
        if isinstance(wanted, WorkloadEndpoint) and wanted.spec.node != self._node:
            wanted = None  # tens of thousands, none of which matters here
        if table.get(place) == wanted:
            return False
        if wanted is None:
            del table[place]
        else:
            table[place] = wanted
        return self._matters(key.kind) and self._changed()

    def see(self, routers: Mapping[str, Cidr]) -> bool:
        """Take note of the link-local addresses of routers, by interface; whether the configuration may differ now."""
        if dict(routers) == self._routers:
            return False
        self._routers = dict(routers)
        return self._changed()

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Behind which interfaces a router is looked for."""
        return self._plan().interfaces

    @property
    def secrets(self) -> frozenset[SecretKeyRef]:
        """The passwords that sessions need."""
        return frozenset(session.password for session in self._plan().sessions if session.password)

    def configuration(
        self,
        passwords: Mapping[SecretKeyRef, str] = MappingProxyType({}),
        reasons: Mapping[SecretKeyRef, str] = MappingProxyType({}),
    ) -> str:
        """The text of ``bird.conf``.

        A session whose password is not among ``passwords`` stays down, which is a problem, with ``reasons`` why.
        """
        speaker = self._plan()
        problems = [*speaker.problems, *_unprotected(speaker, passwords, reasons)]
        self.problems = tuple(str(problem) for problem in problems)
        return bird.render(speaker, interface_prefix=self._interface_prefix, passwords=passwords)

    def _matters(self, kind: str) -> bool:
        """Whether anything is planned by facts of ``kind``: some change all day long, and mostly concern nobody here."""
        if kind == "WorkloadEndpoint":
            return any(peer.spec.local_workload_selector for peer in self._tables["BGPPeer"].values())
        if kind in {"Service", "EndpointSlice"}:
            default = self._tables["BGPConfiguration"].get("default")
            return default is not None and announces(default.spec)
        return True

    def _changed(self) -> bool:
        self._speaker = None
        return True

    def _plan(self) -> Speaker:
        if self._speaker is None:
            facts = Facts(
                **{_FIELDS[kind]: table for kind, table in self._tables.items()},
                blocks=frozenset(self._blocks),
                routers=self._routers,
                router_id=self._router_id,
            )
            self._speaker = plan(self._node, facts)
        return self._speaker

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


def _unprotected(
    speaker: Speaker, passwords: Mapping[SecretKeyRef, str], reasons: Mapping[SecretKeyRef, str]
) -> list[Problem]:
    """The secrets that are missing, each once, with the sessions that stay down for it."""
    waiting: dict[SecretKeyRef, list[str]] = {}
    for session in speaker.sessions:
        if session.password is not None and not usable(passwords.get(session.password)):
            waiting.setdefault(session.password, []).append(session.name)
    return [
        Problem(
            f"Secret/{reference.name}",
            f"the password {reference.key!r} is not known, so these sessions stay down: {', '.join(names)}; "
            + reasons.get(reference, "it is missing, or holds what BIRD cannot be told"),
        )
        for reference, names in waiting.items()
    ]
