"""Is there a way at all? Routing tables walked hop by hop, as packets would.

In:   every namespace's routes as ``namespaces.routes`` tells them, which of them forward, and who is on which link.
Out:  None where a packet would arrive, policy aside; else a sentence about where it would not.
Next: ``probe`` calls a flow denied only if there is a way there and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from calico.lab.topology import IPV4_GATEWAY
from calico.model.address import WIDTH, Cidr, parse_address, parse_cidr

_DEFAULT_METRIC: Final = {4: 0, 6: 1024}
_DEAD: Final = frozenset({"dead", "linkdown"})
_LONGEST_WAY: Final = 32


class Hop(NamedTuple):
    """Where a route leads: a device, and a gateway on it, or "" for what is on the link itself."""

    device: str
    gateway: str


class Route(NamedTuple):
    """One route; ``hops`` are those whose link is up."""

    kind: str
    prefix: Cidr
    metric: int
    hops: tuple[Hop, ...]


class Table:
    """A namespace's routes. Local addresses come first, as with the kernel's own rules."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.local: set[Cidr] = set()
        self._routes: dict[tuple[int, int], dict[int, Route]] = {}
        for row in rows:
            self._add(row)
        self._lengths = {
            family: sorted((length for known, length in self._routes if known == family), reverse=True)
            for family in WIDTH
        }

    def _add(self, row: Mapping[str, Any]) -> None:
        kind = row.get("type", "unicast")
        if kind in {"broadcast", "multicast", "anycast"}:
            return
        hops = tuple(_hops(row))
        prefix = Cidr(row["family"], 0, 0) if row["dst"] == "default" else parse_cidr(row["dst"])
        if kind == "local":
            self.local.add(prefix)
            return
        metric = int(row.get("metric", _DEFAULT_METRIC[prefix.family]))
        known = self._routes.setdefault((prefix.family, prefix.length), {})
        best = known.get(prefix.value)
        if best is None or metric < best.metric or not best.hops:
            known[prefix.value] = Route(kind, prefix, metric, hops)

    def owns(self, address: Cidr) -> bool:
        """Whether ``address`` is one of the namespace's own."""
        return address in self.local

    def lookup(self, address: Cidr) -> Route | None:
        """The route of the longest prefix, and of those the one of the lowest metric."""
        width = WIDTH[address.family]
        for length in self._lengths[address.family]:
            shift = width - length
            found = self._routes[address.family, length].get(address.value >> shift << shift)
            if found is not None:
                return found
        return None


def _hops(row: Mapping[str, Any]) -> Iterable[Hop]:
    for hop in row.get("nexthops") or (row,):
        if not _DEAD.intersection((*hop.get("flags", ()), *row.get("flags", ()))) and "dev" in hop:
            via = hop.get("via")
            yield Hop(hop["dev"], hop.get("gateway") or (via["host"] if via else ""))


class Network:
    """All namespaces of a lab, and the links between them. Answers are remembered: make a new one for a new look."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        forwards: Mapping[str, frozenset[int]],
        segments: Iterable[Sequence[tuple[str, str]]],
    ) -> None:
        self._tables = tables
        self._forwards = forwards
        self._segments = {port: segment for segment in segments for port in segment}
        self._known: dict[tuple[str, Cidr], str | None] = {}

    def problem(self, source: str, address: str) -> str | None:
        """Why a packet for ``address`` that leaves node ``source`` would not arrive, policy aside; None if it would."""
        target = parse_address(address)
        way: list[str] = []
        node = source
        verdict: str | None = None
        while True:
            if way and (node, target) in self._known:  # a source need not forward, others must
                verdict = self._known[node, target]
                break
            if node in way or len(way) > _LONGEST_WAY:
                verdict = f"packets for {address} go round in circles at {node}"
                break
            way.append(node)
            step = self._step(node, target, forwarding=len(way) > 1)
            if step is None:
                break
            if isinstance(step, Broken):
                verdict = step.reason
                break
            node = step
        for passed in way[1:]:
            self._known[passed, target] = verdict
        return verdict

    def default_only(self, node: str, address: str) -> bool:
        """Whether ``node`` would send packets for ``address`` along its default route."""
        target = parse_address(address)
        table = self._tables.get(node)
        if table is None or table.owns(target):
            return False
        route = table.lookup(target)
        return route is not None and route.prefix.length == 0

    def _step(self, node: str, target: Cidr, *, forwarding: bool) -> str | Broken | None:
        """The next node; None when the packet is there."""
        table = self._tables.get(node)
        if table is None:
            return Broken(f"nothing is known of {node}")
        if table.owns(target):
            return None
        if forwarding and target.family not in self._forwards.get(node, frozenset()):
            return Broken(f"{node} does not forward IPv{target.family}")
        route = table.lookup(target)
        if route is None:
            return Broken(f"{node} has no route to {target.address}")
        if route.kind != "unicast":
            return Broken(f"{node} has only a route of type {route.kind} to {target.address}")
        if not route.hops:
            return Broken(f"{node}'s route to {target.address} leads over a link that is down")
        return self._across(node, route.hops[0], target)

    def _across(self, node: str, hop: Hop, target: Cidr) -> str | Broken:
        """Who takes the packet at the other end of the link."""
        others = [
            other
            for other, device in self._segments.get((node, hop.device), ())
            if (other, device) != (node, hop.device)
        ]
        if hop.gateway == IPV4_GATEWAY and len(others) == 1:
            return others[0]  # nobody has this address: the host answers for it
        wanted = parse_address(hop.gateway) if hop.gateway else target
        for other in others:
            table = self._tables.get(other)
            if table is not None and table.owns(wanted):
                return other
        return Broken(f"nobody on {hop.device} of {node} has the address {wanted.address}")


class Broken(NamedTuple):
    """Where a way ends before its time."""

    reason: str
