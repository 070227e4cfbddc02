"""Take addresses for one or more owners at once: own blocks, new ones, others' empty ones, borrowed ones.

In:   wants: for whom, and how many; the facts that decide; any store.
Out:  each want with what it got; why there was no more.
Next: ``ipam.client`` answers who asked; ``ipam.batch`` lets many share one write of a block.

The order of the search is that of behaviour reference 5.2. Other hosts search at the same time: what is read here is
what was so, and each block is asked again when it is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from calico.datastore.api import Entry, Store
from calico.ipam import block as blocks
from calico.ipam import claims, plan
from calico.ipam.errors import BadRecord
from calico.ipam.facts import Facts
from calico.ipam.giving import Given, Want, at, give, thawed
from calico.ipam.records import Records, Stored, stored
from calico.model.address import Cidr, Family
from calico.model.ipam import BlockAffinity, IPAMBlock
from calico.model.keys import Key


@dataclass(frozen=True)
class Terms:
    """On what terms addresses are taken: they decide which pools and blocks serve."""

    node: str
    use: plan.Use = "Workload"
    pools: tuple[str, ...] = ()
    max_blocks: int = 0

    @property
    def owner(self) -> str:
        """Whose a new block becomes."""
        return plan.owner(self.node, self.use)


class Search:
    """One search for addresses of one family, for all ``wants``; the first has precedence."""

    def __init__(
        self,
        store: Store,
        terms: Terms,
        facts: Facts,
        family: Family,
        wants: Sequence[Want],
        clock: Callable[[], int],
    ) -> None:
        self.messages: list[str] = []
        """Why there were no more addresses, in words."""
        self.limited = False
        """Whether the limit of blocks was the reason."""
        self._store = store
        self._records = Records(store)
        self._terms = terms
        self._facts = facts
        self._family = family
        self.wants = wants
        self._clock = clock
        self._own: dict[Cidr, Stored[BlockAffinity]] = {}
        self._existing: dict[Cidr, Entry] | None = None

    async def run(self) -> None:
        """Serve the wants as far as possible. NoSuchPool if a pool that is asked for may not be used."""
        pools = plan.usable_pools(
            self._facts.pools,
            self._family,
            self._facts.node_labels,
            namespace_labels=self._facts.namespace_labels,
            use=self._terms.use,
            requested=self._terms.pools,
        )
        self._own = await self._records.affinities(self._terms.owner, self._family)
        await self._tidy(pools)
        if not pools:
            self.messages.append(
                f"no pool of IPv{self._family} may be used by node {self._terms.node} for this:"
                " make one, enable it, or let its selectors, allowedUses and assignmentMode admit it"
            )
            return
        for cidr in plan.own_blocks(pools, self._own):
            await self._take(cidr, await self._held(cidr), own=True)
            if self._done:
                return
        exhausted = await self._claim_more(pools)
        if exhausted and not self._facts.settings.strict_affinity:
            await self._borrow(pools)
        if exhausted and not self._done:
            self.messages.append(self._exhausted(pools))

    @property
    def _done(self) -> bool:
        return not any(want.missing for want in self.wants)

    # Own blocks

    async def _tidy(self, pools: Sequence[plan.Pool]) -> None:
        """End claims that were cut off, and give up empty blocks in pools that select other hosts now."""
        useful = set(plan.own_blocks(pools, self._own))
        for cidr, claim in list(self._own.items()):
            if claim.value.state in {"confirmed", ""}:
                continue
            if cidr in useful and claim.value.state == "pending":  # perhaps another client is at it: share it
                held = await claims.claim_block(self._store, self._terms.owner, cidr, clock=self._clock)
                kept = held is not None
            else:
                kept = await claims.settle_claim(self._store, self._affinity(cidr))
            if not kept:
                del self._own[cidr]
        if self._terms.pools or self._terms.use == "LoadBalancer":
            return
        for cidr in plan.unselected(self._facts.pools, self._facts.node_labels, self._own):
            block = await self._records.block(cidr)
            if (block is None or blocks.is_empty(block.value)) and await claims.release_claim(
                self._store, self._affinity(cidr), only_empty=True
            ):
                del self._own[cidr]

    async def _held(self, cidr: Cidr) -> Stored[IPAMBlock] | None:
        """The own block ``cidr``; where the claim has outlived it, it is made anew."""
        block = await self._records.block(cidr)
        if block is not None and block.value.affinity == self._terms.owner:
            return block
        return await claims.claim_block(self._store, self._terms.owner, cidr, clock=self._clock)

    # New blocks

    async def _claim_more(self, pools: Sequence[plan.Pool]) -> bool:
        """Claim blocks and take from them until all is served; whether no more blocks are to be had."""
        settings = self._facts.settings
        if not settings.auto_allocate_blocks:
            return True
        limit = plan.block_limit(self._terms.max_blocks, settings.max_blocks_per_host)
        have = len(self._own)
        if have < limit:
            async for cidr, block in self._claimed(pools):
                have += 1
                await self._take(cidr, block, own=True)
                if self._done:
                    return False
                if have >= limit:
                    break
        if have < limit:
            return True
        self.limited = True
        self.messages.append(
            f"node {self._terms.node} has {have} blocks of IPv{self._family} and may have no more than {limit}"
            " (maxBlocksPerHost)"
        )
        return False

    async def _claimed(self, pools: Sequence[plan.Pool]) -> AsyncIterator[tuple[Cidr, Stored[IPAMBlock]]]:
        """Blocks that were not this host's and are now, one by one as they are asked for."""
        listed = await self._listed()
        for cidr in self._free(pools, listed):
            if (block := await self._claim(cidr)) is not None:
                yield cidr, block
        for cidr, entry in self._in_order(pools, listed):
            if await self._reclaimed(cidr, entry) and (block := await self._claim(cidr)) is not None:
                yield cidr, block

    def _free(self, pools: Sequence[plan.Pool], listed: Mapping[Cidr, Entry]) -> Iterator[Cidr]:
        """Blocks that may be claimed: of this host, but without a claim; then those that do not exist."""
        word = self._terms.owner.encode()
        for cidr, entry in self._in_order(pools, listed):
            block = _readable(entry) if cidr not in self._own and word in entry.value else None
            if block is not None and block.value.affinity == self._terms.owner:
                yield cidr
        for pool in pools:
            yield from plan.new_blocks(pool, self._start(pool), listed, self._facts.reserved)

    async def _claim(self, cidr: Cidr) -> Stored[IPAMBlock] | None:
        block = await claims.claim_block(self._store, self._terms.owner, cidr, clock=self._clock)
        if block is None:  # others are at it: what was listed is no longer so
            self._existing = None
        return block

    async def _reclaimed(self, cidr: Cidr, entry: Entry) -> bool:
        """Whether an empty block of somebody else was given up for us."""
        block = _readable(entry)
        if block is None or not block.value.affinity:
            return False
        if not plan.reclaimable(block.value, self._terms.owner, at(self._clock()), self._facts.reserved):
            return False
        self._existing = None
        return await claims.release_claim(
            self._store,
            Key("BlockAffinity", str(cidr), block.value.affinity),
            only_empty=True,
            sequence_number=block.value.sequence_number,
        )

    # Borrowing

    async def _borrow(self, pools: Sequence[plan.Pool]) -> None:
        """Take from blocks of others, as each host begins at a place of its own."""
        for cidr, entry in self._in_order(pools, await self._listed()):
            block = _readable(entry)
            if block is not None and self._is_promising(block.value):
                await self._take(cidr, block, own=False)
                if self._done:
                    return

    def _is_promising(self, block: IPAMBlock) -> bool:
        return blocks.has_room(self._thawed(block), self._facts.reserved)

    async def _listed(self) -> Mapping[Cidr, Entry]:
        """All blocks of the family, read once, and again when others have changed them."""
        if self._existing is None:
            self._existing = await self._records.blocks(self._family)
        return self._existing

    def _in_order(
        self, pools: Sequence[plan.Pool], listed: Mapping[Cidr, Entry]
    ) -> Iterator[tuple[Cidr, Entry]]:
        for pool in pools:
            for cidr in plan.in_order(pool, self._start(pool), listed):
                yield cidr, listed[cidr]

    def _start(self, pool: plan.Pool) -> int:
        return plan.start(pool, self._terms.node, self._clock())

    def _exhausted(self, pools: Sequence[plan.Pool]) -> str:
        settings = self._facts.settings
        hints = ""
        if not settings.auto_allocate_blocks:
            hints += "; no block is claimed because autoAllocateBlocks is false"
        if settings.strict_affinity:
            hints += "; nothing is borrowed from other hosts because strictAffinity is true"
        names = ", ".join(pool.name for pool in pools)
        return f"no free address of IPv{self._family} for node {self._terms.node} in {names}{hints}"

    # Blocks

    async def _take(self, cidr: Cidr, held: Stored[IPAMBlock] | None, *, own: bool) -> None:
        """Take what is missing from a block, as far as it has it; nothing if it is gone, or no longer ``own``."""

        def planned(block: IPAMBlock) -> tuple[IPAMBlock, Given]:
            changed = self._thawed(block)
            given: Given = []
            for want in self.wants if not own or block.affinity == self._terms.owner else ():
                changed, addresses = blocks.assign(
                    changed, want.handle, want.attributes, want.missing, reserved=self._facts.reserved
                )
                if addresses:
                    given.append((want, addresses))
            return changed, given

        await give(self._records, cidr, held, planned)

    def _thawed(self, block: IPAMBlock) -> IPAMBlock:
        return thawed(block, self._facts.settings, self._clock())

    def _affinity(self, cidr: Cidr) -> Key:
        return Key("BlockAffinity", str(cidr), self._terms.owner)


def _readable(entry: Entry) -> Stored[IPAMBlock] | None:
    """A block of somebody; None if it cannot be read, which stops nobody else."""
    try:
        return stored(entry, IPAMBlock)
    except BadRecord:
        return None
