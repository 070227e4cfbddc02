"""Desired rows -> the firewall of both families, kept up to date by changes.

In:   ``Delta`` of the calculation, and the host's interfaces.
Out:  one ``Change`` for each family that changed; ``tables``: the whole.
Next: ``programming.backend`` carries the changes out.

Work is proportional to what changed: a member touches its set alone, a policy its own chains, an endpoint its
entries and chains. What is rendered depends on the current rows only, never on the order in which they came.
A chain of a policy is there while the chain of some endpoint jumps to it; if the policy's row is missing, it denies.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeVar

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    SetId,
)
from calico.model.address import Cidr, Family
from calico.model.endpoint import ALL_INTERFACES
from calico.model.settings import Settings
from calico.rendering import static
from calico.rendering.chains import RuleChain, RuleChains
from calico.rendering.endpoint import EndpointChain, chain_of, render_endpoint
from calico.rendering.host import govern
from calico.rendering.nat import Nat
from calico.rendering.own import Own
from calico.rendering.sets import FamilySets, Members, family_of
from calico.ruleset import ast
from calico.ruleset.diff import Draft
from calico.ruleset.merge import LEAST

K = TypeVar("K")
V = TypeVar("V")

FAMILIES: Final[tuple[Family, ...]] = (4, 6)
NOBODY: Final = EndpointId("HostEndpoint", "", "")
DOOR_BY_MAP: Final = {door.map: door for door in static.DOORS}

_INTERFACE_NAME: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,15}")


_Entry = EndpointChain | ast.Drop | ast.Return
"""Where an interface is sent: the chain of its endpoint, nowhere, or back, unjudged."""


class Renderer:
    """Follows the desired state; ``tables`` is what the kernel should hold now.

    Without IPv6 support the IPv6 table is still there, and knows no endpoint: nothing passes to or from workloads.
    ``least``: how many similar rules become one (``ruleset.merge``).
    """

    def __init__(self, settings: Settings, least: int = LEAST) -> None:
        self._settings = settings
        self._drafts = {family: Draft(family) for family in FAMILIES}
        self._policed = FAMILIES if settings.ipv6_support else FAMILIES[:1]
        self._known: dict[SetId, Members] = {}
        self._sets = {family: FamilySets(draft, self._known) for family, draft in self._drafts.items()}
        self._nat = {family: Nat(draft) for family, draft in self._drafts.items()}
        self._own = Own(self._drafts, settings)
        policed = {family: self._drafts[family] for family in self._policed}
        self._chains = RuleChains(policed, self._sets, settings, least)
        self._workloads: dict[EndpointId, EndpointRow] = {}
        self._by_interface: dict[str, set[EndpointId]] = {}
        self._hosts: dict[EndpointId, EndpointRow] = {}
        self._interfaces: Mapping[str, frozenset[Cidr]] = {}
        # What each (map, interface) holds; the chains for all other interfaces stand under "*".
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._endpoint_uses: Counter[EndpointChain] = Counter()
        for family, draft in self._drafts.items():
            for name in static.MAPS:
                draft.put_map(name)
            for name, chain in static.static_chains(family, settings).items():
                draft.put_chain(name, chain)

    @property
    def tables(self) -> Mapping[ast.TableFamily, ast.Table]:
        """The whole desired state; to be read only, and only until the next ``update``."""
        return {draft.table.family: draft.table for draft in (*self._drafts.values(), self._own.arp)}

    def update(
        self, delta: Delta, interfaces: Mapping[str, frozenset[Cidr]] | None = None
    ) -> list[ast.Change]:
        """Take in what changed; the changes of the families that it concerns.

        ``interfaces`` are the host's, with their addresses as full-length Cidrs; None: as before. The first
        update also brings everything that does not depend on rows.
        """
        self._update_sets(delta)
        for pool, row in delta.pools.items():
            self._nat[pool.family].put_pool(pool, row)
        for policy, rules in delta.policies.items():
            self._chains.put(policy, rules)
        for profile, rules in delta.profiles.items():
            self._chains.put(profile, rules)
        self._update_endpoints(delta.endpoints, interfaces)
        self._chains.render()
        changes = (draft.take() for draft in (*self._drafts.values(), self._own.arp))
        return [change for change in changes if change]

    def _update_sets(self, delta: Delta) -> None:
        for identifier, info in delta.set_infos.items():
            self._known.setdefault(identifier, Members()).info = info
        news = [
            (identifier, member, present is not None)
            for (identifier, member), present in delta.set_members.items()
            if self._known.setdefault(identifier, Members()).put(member, present=present is not None)
        ]
        touched = {(family_of(member), identifier) for identifier, member, _ in news}
        whole = set()
        for family, identifier in touched:
            users = self._sets[family].flipped(identifier)
            if users is not None:
                whole.add((family, identifier))
                self._chains.stale(users)
        for identifier, member, present in news:
            family = family_of(member)
            if (family, identifier) not in whole:
                self._sets[family].put_member(identifier, member, present=present)
        for identifier in {*delta.set_infos, *(name for name, _, _ in news)}:
            if not self._known[identifier]:
                del self._known[identifier]

    def _update_endpoints(
        self,
        endpoints: Mapping[EndpointId, EndpointRow | None],
        interfaces: Mapping[str, frozenset[Cidr]] | None,
    ) -> None:
        touched: set[str] = set()
        hosts_changed = interfaces is not None and interfaces != self._interfaces
        if interfaces is not None:
            self._interfaces = dict(interfaces)
        for endpoint, row in endpoints.items():
            if endpoint.kind == "HostEndpoint":
                hosts_changed = True
                _put(self._hosts, endpoint, row)
                continue
            before = self._workloads.get(endpoint)
            if before is not None:
                touched.add(before.interface)
                self._by_interface[before.interface].discard(endpoint)
            if row is not None:
                touched.add(row.interface)
                self._by_interface.setdefault(row.interface, set()).add(endpoint)
            _put(self._workloads, endpoint, row)
        for interface in touched:
            self._update_workload(interface)
        if hosts_changed:
            self._update_hosts()

    def _update_workload(self, interface: str) -> None:
        """Send a workload interface to its endpoint; of several, the one whose name sorts first has it."""
        owners = self._by_interface[interface]
        if not owners:
            del self._by_interface[interface]
        if not _INTERFACE_NAME.fullmatch(interface):
            # No such interface can exist here; the default of the dispatch is closed.
            return
        row = self._workloads[min(owners)] if owners else None
        wanted: tuple[_Entry | None, _Entry | None] = (None, None)
        if row is not None:
            wanted = (ast.Drop(), ast.Drop())
            if row.active:
                wanted = chain_of(row, "fw", self._settings), chain_of(row, "tw", self._settings)
        self._put_entry(static.FROM_WORKLOADS, interface, wanted[0])
        self._put_entry(static.TO_WORKLOADS, interface, wanted[1])
        self._own.put(interface, row, self._policed)

    def _update_hosts(self) -> None:
        """Host endpoints are few: who governs what is found out afresh, and only differences are written."""
        governed = govern(self._hosts, self._interfaces, self._settings)
        owners: dict[str, EndpointId] = {
            name: owner for name, owner in governed.interfaces.items() if _INTERFACE_NAME.fullmatch(name)
        }
        if governed.wildcard is not None:
            owners[ALL_INTERFACES] = governed.wildcard
        others = self._hosts.get(owners.get(ALL_INTERFACES, NOBODY))
        for door in static.DOORS:
            held = {name for entries, name in self._entries if entries == door.map}
            for name in sorted(held | owners.keys()):
                row = self._hosts[owners[name]] if name in owners else None
                wanted = None if row is None else self._host_entry(door, row, others)
                self._put_entry(door.map, name, wanted)
        for base, (door, chain) in static.on_demand(self._settings).items():
            needed = any(entries == door.map for entries, _ in self._entries)
            for family in self._policed:
                self._drafts[family].put_chain(base, chain if needed else None)

    def _host_entry(self, door: static.Door, row: EndpointRow, others: EndpointRow | None) -> _Entry | None:
        """Where a door leads for the interface that ``row`` governs; ``others`` governs the rest, if any does.

        Early layers are asked only where they have something to say: a chain there costs each packet. An endpoint with
        nothing to say still keeps its interface from the one for the others.
        """
        chain = chain_of(row, door.kind, self._settings)
        if chain.tiers or chain.layer in {"normal", "forward"}:
            return chain
        if others is None or others is row:
            return None
        return ast.Return() if chain_of(others, door.kind, self._settings).tiers else None

    def _put_entry(self, entries: str, interface: str, wanted: _Entry | None) -> None:
        before = self._entries.get((entries, interface))
        if before == wanted:
            return
        verdict: ast.Verdict | None = None
        if isinstance(wanted, EndpointChain):
            self._acquire(wanted)
            verdict = ast.Goto(wanted.name)
        elif wanted is not None:
            verdict = wanted
        _put(self._entries, (entries, interface), wanted)
        for family in self._policed:
            if interface != ALL_INTERFACES:
                self._drafts[family].put_entry(entries, interface, verdict)
            else:
                door = DOOR_BY_MAP[entries]
                self._drafts[family].put_chain(door.chain, static.host_dispatch(door, verdict))
        if isinstance(before, EndpointChain):
            self._release(before)

    def _acquire(self, chain: EndpointChain) -> None:
        self._endpoint_uses[chain] += 1
        if self._endpoint_uses[chain] > 1:
            return
        rendered = render_endpoint(chain, self._settings)
        for family in self._policed:
            self._drafts[family].put_chain(chain.name, rendered)
        for used in _rule_chains(chain):
            self._chains.use(used)

    def _release(self, chain: EndpointChain) -> None:
        self._endpoint_uses[chain] -= 1
        if self._endpoint_uses[chain]:
            return
        del self._endpoint_uses[chain]
        for family in self._policed:
            self._drafts[family].put_chain(chain.name, None)
        for used in _rule_chains(chain):
            self._chains.disuse(used)


def _rule_chains(chain: EndpointChain) -> set[RuleChain]:
    return {RuleChain(owner, chain.direction, chain.quiet) for owner in chain.owners}


def _put(rows: dict[K, V], key: K, row: V | None) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row
