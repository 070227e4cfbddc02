"""Assign and release addresses in the store, beside any number of others who do the same.

In:   how many addresses are wanted, for whom (the handle) and on what terms.
Out:  the addresses; in the store: affinities, blocks and handles, as Calico's own tools write them.
Next: an orchestrator writes them into a WorkloadEndpoint; ``bgp`` announces the blocks.

There are no transactions over several records, only "write if nobody else did". So the order of writes
carries the safety (``ipam.claims``, ``ipam.assigning``, ``ipam.releasing`` say which), and an interruption anywhere
leaves something that the next call can go on with. No lock is held across the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from calico.datastore.api import Store
from calico.ipam import block as blocks
from calico.ipam import claims, plan, releasing
from calico.ipam.assigning import Search, Terms
from calico.ipam.block import Release
from calico.ipam.errors import Contended, NotInPool, NotOurs, Short
from calico.ipam.facts import read_facts
from calico.ipam.giving import Given, Want, give, thawed
from calico.ipam.records import ATTEMPTS, Records, Stored, stored
from calico.ipam.releasing import Released
from calico.model.address import Cidr, Family, parse_cidr
from calico.model.ipam import IPAMBlock
from calico.model.keys import Key


@dataclass(frozen=True, kw_only=True)
class Request:
    """Addresses that somebody wants: how many of each family, for whom, and on what terms."""

    handle: str
    ipv4: int = 0
    ipv6: int = 0
    attributes: Mapping[str, str]
    """What is noted with the addresses; ``node``, ``namespace``, ``pod`` and ``timestamp`` have their meaning."""
    use: plan.Use = "Workload"
    pools: tuple[str, ...] = ()
    """Pools by name or prefix, of either family; a family of which none is named takes any that may be used."""
    namespace: str | None = None
    """The namespace whose labels pools may select."""
    max_blocks: int = 0
    """How many blocks of a family the host may have for this to claim one; 0: as the settings say."""

    @property
    def count(self) -> int:
        """How many addresses are wanted in all."""
        return self.ipv4 + self.ipv6


@dataclass(frozen=True)
class Assignment:
    """The addresses that a request got, perhaps fewer than it wanted, and why in words."""

    addresses: tuple[Cidr, ...]
    messages: tuple[str, ...] = ()
    limited: bool = False
    """Whether the limit of the host's blocks was the reason."""


class Client:
    """Address management for one host. Any number of clients, also of the same host, may work at once.

    ``clock`` gives the time in nanoseconds since 1970. All methods raise the store's ``Unavailable`` when it is
    lost; what had been done by then belongs to the handle, so ``release_by_handle`` clears it up. They raise
    Contended if others were quicker all the time, and BadRecord for what cannot be read.
    """

    def __init__(self, store: Store, node: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.store = store
        self.node = node
        self._clock = clock

    async def assign(self, request: Request) -> Assignment:
        """As many addresses as there are, up to what is wanted, now owned by the handle; IPv4 first.

        Own blocks come first, then new ones, then others' empty ones, then borrowed addresses. Whether fewer will
        do is the caller's decision. NoSuchPool if a pool that is asked for may not be used.
        """
        return (await self.assign_together([request]))[0]

    async def assign_together(self, requests: Sequence[Request]) -> list[Assignment]:
        """What ``assign`` gives, for several requests that differ in handles, attributes and numbers alone.

        They share the writes of blocks; where addresses run out, the first has precedence.
        """
        first = requests[0]
        terms = Terms(self.node, first.use, first.pools, first.max_blocks)
        facts = await read_facts(self.store, self.node, first.namespace)
        wants = {
            4: [Want(each.handle, each.attributes, each.ipv4) for each in requests],
            6: [Want(each.handle, each.attributes, each.ipv6) for each in requests],
        }
        searches = [
            Search(self.store, terms, facts, family, wants[family], self._clock)
            for family in families(requests)
        ]
        for search in searches:
            await search.run()
            for index, want in enumerate(search.wants):
                wants[6][index].known |= want.known
        assignments = []
        for index, request in enumerate(requests):
            taken = tuple(address for family in wants.values() for address in family[index].taken)
            short = [search for search in searches if search.wants[index].missing]
            messages = tuple(message for search in short for message in search.messages)
            assignments.append(Assignment(taken, messages, any(search.limited for search in short)))
            assert len(taken) <= request.count
        return assignments

    async def assign_whole(self, request: Request) -> Assignment:
        """All addresses that are wanted, of both families, or none: Short then, and what there was is given back."""
        return await self.whole(request, await self.assign(request))

    async def whole(self, request: Request, assignment: Assignment) -> Assignment:
        """``assignment``, if it is all that ``request`` wanted; else it is given back, and Short is raised."""
        got = assignment.addresses
        if len(got) == request.count:
            return assignment
        await self.release(Release(address, request.handle) for address in got)
        raise Short(request.count, len(got), assignment.messages)

    async def assign_address(
        self,
        address: Cidr,
        handle: str,
        attributes: Mapping[str, str],
        *,
        use: plan.Use | None = None,
    ) -> None:
        """Give just this ``address`` to ``handle``, also a reserved one.

        Its pool must be enabled, and for ``use`` if that is said: NotInPool; selectors and assignmentMode do not
        count. A block that nobody has is claimed. AlreadyAssigned if the address has an owner or cools down;
        NotOurs if strict affinity forbids to take it from another's block.
        """
        facts = await read_facts(self.store, self.node)
        pool = plan.pool_of(facts.pools, address, use)
        if isinstance(pool, str):
            raise NotInPool(address, pool)
        owner = plan.owner(self.node, use or "Workload")
        want = Want(handle, attributes, 1)

        def planned(block: IPAMBlock) -> tuple[IPAMBlock, Given]:
            if facts.settings.strict_affinity and block.affinity != owner:
                raise NotOurs(address, parse_cidr(block.cidr), block.affinity)
            ready = thawed(block, facts.settings, self._clock())
            return blocks.assign_address(ready, address, handle, attributes), [(want, (address,))]

        records = Records(self.store)
        for _ in range(ATTEMPTS):
            held = await self._block_for(records, pool, address, owner)
            if held is not None and await give(records, parse_cidr(held.value.cidr), held, planned):
                return
        raise Contended(Key("IPAMBlock", str(pool.block_of(address))).path)

    async def release(self, wanted: Iterable[Release], *, node: str | None = None) -> Released:
        """Release addresses of whatever host; see ``releasing.release``."""
        return await releasing.release(self.store, wanted, clock=self._clock, node=node)

    async def release_by_handle(self, handle: str) -> list[Cidr]:
        """Release all that ``handle`` has; see ``releasing.release_by_handle``."""
        return await releasing.release_by_handle(self.store, handle, clock=self._clock)

    async def addresses(self, handle: str) -> tuple[Cidr, ...]:
        """The addresses of ``handle``, by block, lowest first; an unknown handle has none."""
        records = Records(self.store)
        known = await records.handle(handle)
        found: list[Cidr] = []
        for name in sorted(known.value.block) if known is not None else ():
            held = await records.block(parse_cidr(name))
            found += () if held is None else blocks.held(held.value, handle)
        return tuple(found)

    async def _block_for(
        self, records: Records, pool: plan.Pool, address: Cidr, owner: str
    ) -> Stored[IPAMBlock] | None:
        """The block that holds ``address``, made this host's if there is none; None if another was quicker."""
        cidr = pool.block_of(address)
        held = await records.block(cidr)
        if held is not None:
            return held
        for other, entry in (await records.blocks(address.family)).items():
            if other.contains(address):
                return stored(entry, IPAMBlock)
        return await claims.claim_block(self.store, owner, cidr, clock=self._clock)


def families(requests: Sequence[Request]) -> list[Family]:
    """The families of which some request wants addresses."""
    wanted: dict[Family, int] = {
        4: sum(each.ipv4 for each in requests),
        6: sum(each.ipv6 for each in requests),
    }
    return [family for family, count in wanted.items() if count > 0]
