"""Source NAT for what leaves the pools (behaviour reference 4.12).

In:   the pools.
Out:  the set of pools that are translated, the set of all pools, and the chain that uses both.
Next: ``rendering.renderer``; the chain exists only while some pool of the family asks for it.
"""

from __future__ import annotations

from typing import Final

from calico.desired import PoolRow
from calico.model.address import Cidr, Family
from calico.ruleset import ast, names
from calico.ruleset.diff import Draft

MASQUERADED: Final = "masq-ipam-pools"
POOLS: Final = "network-ip-pools"
CHAIN: Final = "nat-POSTROUTING"


class Nat:
    """The translation of one family."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._family: Family = ast.address_family(draft.table.family)
        self._pools: dict[Cidr, PoolRow] = {}
        self._active = False

    def put_pool(self, pool: Cidr, row: PoolRow | None) -> None:
        """Note a pool; None: it has gone."""
        if row is None:
            self._pools.pop(pool, None)
        else:
            self._pools[pool] = row
        active = any(held.nat_outgoing for held in self._pools.values())
        masqueraded, pools = (names.set_name(self._family, name, "net") for name in (MASQUERADED, POOLS))
        if active and not self._active:
            chosen = [net for net, held in self._pools.items() if held.nat_outgoing]
            self._draft.put_set(masqueraded, ast.Set("net", "pools with natOutgoing"), chosen)
            self._draft.put_set(pools, ast.Set("net", "all pools"), self._pools)
            self._draft.put_chain(CHAIN, nat_chain(masqueraded, pools))
        elif self._active and not active:
            self._draft.put_chain(CHAIN, None)
            self._draft.drop_set(masqueraded)
            self._draft.drop_set(pools)
        elif active:
            self._draft.put_member(masqueraded, pool, present=row is not None and row.nat_outgoing)
            self._draft.put_member(pools, pool, present=row is not None)
        self._active = active


def nat_chain(masqueraded: str, pools: str) -> ast.Chain:
    """What comes from a translated pool and leaves all pools gets the address of the interface that it leaves by."""
    rule = ast.Rule(
        (ast.InSet("source", masqueraded), ast.InSet("destination", pools, negate=True)),
        (ast.Masquerade(),),
        comment="natOutgoing",
        counted=True,
    )
    return ast.Chain((rule,), hook=ast.Hook("nat", "postrouting"))
