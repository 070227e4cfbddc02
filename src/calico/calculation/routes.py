"""Where local addresses are, and what the data path must know of pools.

In:   the endpoints that are enforced here; pools.
Out:  ``routes``, an address to an interface; ``pools`` by prefix.
Next: ``rendering`` makes routes, neighbours and the sets of source NAT of them.

Routes to other hosts come from BGP, and are not calculated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from calico.calculation.facts import PoolFact
from calico.desired import EndpointId, EndpointRow, PoolRow, RouteRow
from calico.model.address import Cidr
from calico.tables.derived import Derived, On, Stage
from calico.tables.table import Index, Table


class Routes:
    """From enforced endpoints and pools to ``routes`` and ``pools``."""

    def __init__(self, endpoints: Table[EndpointId, EndpointRow], pool_facts: Table[str, PoolFact]) -> None:
        self._endpoints, self._pool_facts = endpoints, pool_facts
        self._by_address = Index(endpoints, _addresses)
        self._by_cidr = Index(pool_facts, lambda _, pool: (pool.cidr,))
        self.routes: Table[Cidr, RouteRow] = Table()
        self.pools: Table[Cidr, PoolRow] = Table()

        self.tables: tuple[Table[Any, Any], ...] = (self.routes, self.pools)
        self.stages: tuple[Stage, ...] = (
            Derived(self.routes, self._route, On(endpoints, _touched)),
            Derived(
                self.pools,
                self._pool,
                On(pool_facts, lambda _, before, now: (pool.cidr for pool in (before, now) if pool)),
            ),
        )

    def _route(self, address: Cidr) -> RouteRow | None:
        """A workload's address leads to its interface; of two workloads with one address to the first's, by name."""
        row = self._endpoints.get(min(self._by_address[address])) if address in self._by_address else None
        return RouteRow(row.interface, row.mac) if row is not None else None

    def _pool(self, cidr: Cidr) -> PoolRow | None:
        """The pool of this prefix; of two the first, by name."""
        pool = self._pool_facts.get(min(self._by_cidr[cidr])) if cidr in self._by_cidr else None
        return pool.row if pool is not None else None


def _addresses(id_: EndpointId, row: EndpointRow) -> tuple[Cidr, ...]:
    return row.addresses if id_.kind == "WorkloadEndpoint" else ()


def _touched(id_: EndpointId, before: EndpointRow | None, now: EndpointRow | None) -> Iterator[Cidr]:
    for row in (before, now):
        if row is not None:
            yield from _addresses(id_, row)
