"""The collector: one of a cluster's agents takes back what was left behind in address management.

In:   a store that all agents share.
Out:  the store without what ``ipam.reclaim`` finds due; a line in the log for each thing; ``report``.
Next: ``agent.collecting`` runs it in every agent.

Whose key stands under a lease collects, and the others watch that key: when its owner dies the lease ends and one of
them is next. A term begins without a memory, so everything has to be seen anew, twice. That two might collect at once
for a moment does no harm: each write is over exactly what was judged.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import structs

from calico.datastore.access import STATUS
from calico.datastore.api import Conflict, Denied, LeaseGone, Store, StoreError, TooOld
from calico.ipam import block as blocks
from calico.ipam.block import Release
from calico.ipam.claims import release_claim, settle_claim
from calico.ipam.errors import IPAMError
from calico.ipam.evidence import PREFIXES, Evidence, evidence
from calico.ipam.facts import read_settings
from calico.ipam.giving import thawed
from calico.ipam.reclaim import Drop, Due, Free, GiveUp, Memory, Recount, Settle, Thaw, observe
from calico.ipam.records import Records, Stored
from calico.ipam.releasing import release
from calico.model.ipam import IPAMBlock, IPAMHandle
from calico.model.keys import Key

PATH: Final = f"{STATUS}address-collector"
"""Where it stands who collects."""

TERM: Final = 30.0
"""Seconds that the key of a collector outlives it."""

PAUSE: Final = 10.0
"""Seconds between two attempts after the store was lost, on the average."""

DENIED_PAUSE: Final = 600.0
"""The same where the store lets this agent not collect."""

LONGEST: Final = 300.0
SHORTEST: Final = 1.0
"""Seconds between two sweeps at most and at least; between them it is half of what has to be waited for."""

BATCH: Final = 1000
"""How many deeds are done on the strength of one picture, at most; then the next is taken at once."""

TOGETHER: Final = 50
"""How many handles are released together."""

REMEMBERED: Final = 20
"""How many of the latest deeds the report names."""

log = logging.getLogger(__name__)


class _OutOfOffice(Exception):
    """The lease may have ended: somebody else may collect by now."""


class Collector:
    """What one agent does of it. ``clock`` gives nanoseconds since 1970, ``steady`` seconds that only grow."""

    def __init__(
        self,
        store: Store,
        node: str,
        *,
        term: float = TERM,
        clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._node = node
        self._term = term
        self._clock = clock
        self._steady = steady
        self._lease: int | None = None
        self._until = float("-inf")
        self._memory: Memory = {}
        self._who = ""
        self._error: str | None = None
        self._swept: str | None = None
        self._doubt = ""
        self._grace: float | None = None
        self._freed: Counter[str] = Counter()
        self._latest: deque[dict[str, str]] = deque(maxlen=REMEMBERED)

    @property
    def collects(self) -> bool:
        """Whether it is this agent who collects, as far as it knows."""
        return self._lease is not None and self._steady() < self._until

    def report(self) -> dict[str, Any]:
        """Who collects, and what this agent has done of it: plain data."""
        return {
            "node": self._who,
            "here": self.collects,
            "lastSweep": self._swept,
            "waits": None if self._grace is None else "never" if self._grace <= 0 else f"{self._grace:g} s",
            "suspected": len(self._memory),
            "done": dict(self._freed),
            "latest": list(self._latest),
            "doubt": self._doubt or None,
            "error": self._error,
        }

    async def run(self) -> None:
        """Collect whenever it is this agent's turn, until cancelled; the loss of the store ends nothing but a term."""
        while True:
            pause = PAUSE
            try:
                lease = await self._turn()
                await self._serve(lease)
            except _OutOfOffice:
                log.info("another agent may collect addresses: this one begins anew")
            except Denied as error:
                pause = DENIED_PAUSE
                self._failed(error)
            except (StoreError, OSError) as error:
                self._failed(error)
            finally:
                self._resign()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  jitter is no secret

    def _failed(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        if said != self._error:
            log.warning("addresses are not collected here for now: %s", said)
        self._error = said

    def _resign(self) -> None:
        self._lease = None
        self._until = float("-inf")
        self._memory = {}

    # --- whose turn it is --------------------------------------------------------------------------------

    async def _turn(self) -> int:
        """The lease of the key, as soon as that is this agent's; until then watch whose it is."""
        while (lease := await self._stand()) is None:
            listing = await self._store.list(PATH)
            held = next((entry for entry in listing.entries if entry.path == PATH), None)
            if held is None:
                continue
            self._who = _name(held.value)
            self._error = None
            changes = self._store.watch(PATH, revision=listing.revision)
            try:
                async for events in changes:
                    if any(event.path == PATH and event.value is None for event in events):
                        break
            except TooOld:
                continue
            finally:
                if isinstance(changes, AsyncGenerator):
                    await changes.aclose()
            # All see it at the same moment; so mostly one stands, and the others find it elected.
            await asyncio.sleep(self._term * random.uniform(0, 0.1))  # noqa: S311  jitter is no secret
        return lease

    async def _stand(self) -> int | None:
        """Put the key there if nobody's is; its lease, or None if it is another's."""
        if await self._store.get(PATH) is not None:
            return None
        asked = self._steady()
        lease = await self._store.grant(self._term)
        try:
            value = msgspec.json.encode({"node": self._node, "since": self._moment()})
            await self._store.create(PATH, value, lease=lease)
        except (Conflict, LeaseGone):
            with suppress(StoreError):
                await self._store.revoke(lease)
            return None
        self._lease = lease
        self._until = asked + self._term
        self._who = self._node
        self._error = None
        log.info("this agent collects addresses that were left behind, for the cluster")
        return lease

    async def _serve(self, lease: int) -> None:
        """Sweep for as long as the lease holds. Raises _OutOfOffice, or what the store raises."""
        keeping = asyncio.create_task(self._keep(lease), name="keep the lease of the collector")
        sweeping = asyncio.create_task(self._sweep_on(), name="sweep addresses")
        try:
            done, _ = await asyncio.wait({keeping, sweeping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (keeping, sweeping):
                task.cancel()
            await asyncio.gather(keeping, sweeping, return_exceptions=True)
            with suppress(StoreError, TimeoutError):  # else it ends by itself
                async with asyncio.timeout(1.0):
                    await self._store.revoke(lease)

    async def _keep(self, lease: int) -> None:
        while True:
            await asyncio.sleep(self._term / 3)
            asked = self._steady()
            try:
                await self._store.keep_alive(lease)
            except LeaseGone:
                raise _OutOfOffice from None
            self._until = asked + self._term

    # --- sweeping ----------------------------------------------------------------------------------------

    async def _sweep_on(self) -> None:
        while True:
            try:
                rest = await self.sweep()
            except TooOld:  # the store forgot the revision while it was read
                rest = SHORTEST
            await asyncio.sleep(rest)

    async def sweep(self) -> float:
        """Take a picture, and do what is due by it; how many seconds until the next one should be taken.

        Raises what the store raises; then all that was suspected is forgotten.
        """
        memory, self._memory = self._memory, {}  # what fails on the way leaves none
        seen = await self._look()
        if seen.doubt and seen.doubt != self._doubt:
            log.warning("no address is collected: %s", seen.doubt)
        self._doubt, self._grace = seen.doubt, seen.grace
        today = datetime.fromtimestamp(self._clock() / 1e9, UTC)
        due, remembered = await asyncio.to_thread(observe, seen, memory, self._steady(), today)
        await self._do(due[:BATCH])
        self._memory = remembered
        self._swept = self._moment()
        if len(due) > BATCH:
            return 0.0
        return min(max(seen.grace / 2, SHORTEST), LONGEST) if seen.grace > 0 else LONGEST

    async def _look(self) -> Evidence:
        """All that is to be known, as it is at one moment."""
        first = await self._store.list(PREFIXES[0])
        entries = [*first.entries]
        for prefix in PREFIXES[1:]:
            entries += (await self._store.list(prefix, revision=first.revision)).entries
        return await asyncio.to_thread(evidence, first.revision, entries)

    async def _do(self, due: Sequence[Due]) -> None:
        frees = [(each.deed, each.reason) for each in due if isinstance(each.deed, Free)]
        for start in range(0, len(frees), TOGETHER):
            await self._free(frees[start : start + TOGETHER])
        for deed, reason in due:
            if isinstance(deed, Free):
                continue
            self._in_office()
            try:
                said = await self._done(deed)
            except (
                Conflict,
                IPAMError,
                Denied,
            ) as error:  # mostly it moves: it is looked at again, from the start
                log.debug("left as it is for now: %s", error)
                continue
            if said:
                self._note(type(deed).__name__, said, reason)

    def _in_office(self) -> None:
        if self._lease is not None and self._steady() >= self._until:
            raise _OutOfOffice

    async def _free(self, frees: Sequence[tuple[Free, str]]) -> None:
        """Release the addresses of some handles; of one that was written meanwhile none."""
        self._in_office()
        records = Records(self._store)
        reasons: dict[str, str] = {}
        wanted: list[Release] = []
        for deed, reason in frees:
            try:
                record = await records.handle(deed.handle)
            except IPAMError:
                continue
            if (None if record is None else record.revision) == deed.revision:
                wanted += deed.releases
                reasons |= {each.address.address: f"{reason}; handle {deed.handle}" for each in deed.releases}
        try:
            released = await release(self._store, wanted, clock=self._clock)
        except IPAMError as error:
            log.warning("addresses that were left behind could not be released: %s", error)
            return
        for address in released.freed:
            self._note("Free", f"address {address.address}", reasons[address.address])

    async def _done(self, deed: Thaw | Settle | GiveUp | Drop | Recount) -> str:
        """Do a deed; what was done, in words, empty if it was no longer called for."""
        records = Records(self._store)
        match deed:
            case Thaw():
                return await self._thaw(records, deed)
            case Settle(claim=claim):
                now = await records.affinity(claim)
                if now is None or now.revision != deed.revision:
                    return ""
                kept = await settle_claim(self._store, claim)
                return f"claim of {claim.namespace} to {claim.name}, {'confirmed' if kept else 'deleted'}"
            case GiveUp(claim=claim):
                host = Key("Node", claim.namespace.removeprefix("host:"))
                if await self._store.get(host.path) is not None:
                    return ""
                await release_claim(self._store, claim, only_empty=False)
                return f"block {claim.name} of {claim.namespace}"
            case Drop():
                return await self._drop(records, deed)
            case Recount():
                return await self._recount(records, deed)

    async def _thaw(self, records: Records, deed: Thaw) -> str:
        block = await records.block(deed.block)
        if block is None:
            return ""
        changed = thawed(block.value, await read_settings(self._store), self._clock())
        if changed == block.value:
            return ""
        await records.put(block, changed)
        return f"block {deed.block}"

    async def _drop(self, records: Records, deed: Drop) -> str:
        if deed.owner:
            claim = Key("BlockAffinity", str(deed.block), deed.owner)
            gone = await release_claim(
                self._store, claim, only_empty=True, sequence_number=deed.sequence_number
            )
            return f"block {deed.block} of {deed.owner}" if gone else ""
        block = await records.block(deed.block)
        if (
            block is None
            or block.value.affinity
            or block.value.sequence_number != deed.sequence_number
            or not blocks.is_empty(block.value)
        ):
            return ""
        await records.delete(block)
        return f"block {deed.block}"

    async def _recount(self, records: Records, deed: Recount) -> str:
        """Write what a handle counts.

        Where it counts too much an assignment might yet be about to write the block, however long it has been. So the
        block is written first, for that assignment to look again; and looked at once more afterwards.
        """
        handle = await records.handle(deed.handle)
        if (None if handle is None else handle.revision) != deed.revision:
            return ""
        counts = dict(deed.counts)
        for cidr in {*counts, *deed.excessive}:
            block = await records.block(cidr)
            if _held(block, deed.handle) != counts.get(cidr, 0):
                return ""
            if block is not None and cidr in deed.excessive:
                await records.put(block, blocks.touched(block.value))
        said = {str(cidr): count for cidr, count in deed.counts}
        if handle is None:
            await records.create(Key("IPAMHandle", deed.handle).path, IPAMHandle(block=said))
        elif said:
            await records.put(handle, structs.replace(handle.value, block=said))
        else:
            await records.delete(handle)
        given = {
            cidr: _held(await records.block(cidr), deed.handle) - counts.get(cidr, 0)
            for cidr in deed.excessive
        }
        await records.count(deed.handle, {cidr: count for cidr, count in given.items() if count > 0})
        return f"handle {deed.handle}, {'counted anew' if said else 'deleted'}"

    def _note(self, kind: str, what: str, reason: str) -> None:
        log.info("collected: %s: %s", what, reason)
        self._freed[kind.lower()] += 1
        self._latest.append({"at": self._moment(), "what": what, "reason": reason})

    def _moment(self) -> str:
        return datetime.fromtimestamp(self._clock() / 1e9, UTC).isoformat(timespec="seconds")


def _held(block: Stored[IPAMBlock] | None, handle: str) -> int:
    return 0 if block is None else len(blocks.held(block.value, handle))


def _name(value: bytes) -> str:
    """Who wrote that it collects."""
    try:
        return str(msgspec.json.decode(value)["node"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        return "unknown"
