"""The collector: one of a cluster's agents takes back what was left behind in address management.

In:   a store that all agents share.
Out:  the store without what ``ipam.reclaim`` finds due; a line in the log for each thing; ``report``.
Next: ``agent.collecting`` runs it in every agent.

Whose key stands under a lease collects, and the others watch that key: when its owner dies the lease ends and one of
them is next. A term begins without a memory, so everything has to be seen anew, twice. That two might collect at once
for a moment does no harm: each write is over exactly what was judged. Who comes to life writes none of that, so right
before anything is done all that was written since the picture is looked at once more.
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

from calico.datastore.access import STATUS
from calico.datastore.api import Conflict, Denied, Entry, LeaseGone, Store, StoreError, TooOld
from calico.ipam.deeds import do, free
from calico.ipam.errors import IPAMError
from calico.ipam.evidence import PREFIXES, SIGNS, Evidence, evidence
from calico.ipam.picture import at_one_moment
from calico.ipam.reclaim import Deed, Due, Free, Memory, Repair, is_contradicted, observe

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
"""How many deeds are done on the strength of one look for signs of life; of these, handles are released together."""

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
        contradicted = await self._do(due[:BATCH], seen.picture.revision)
        self._memory = {deed: since for deed, since in remembered.items() if deed not in contradicted}
        self._swept = self._moment()
        if len(due) > BATCH:
            return 0.0
        return min(max(seen.grace / 2, SHORTEST), LONGEST) if seen.grace > 0 else LONGEST

    async def _look(self) -> Evidence:
        """All that is to be known, as it is at one moment."""
        return await asyncio.to_thread(evidence, *await at_one_moment(self._store, PREFIXES))

    async def _newer(self, revision: int) -> Evidence:
        """What was written since ``revision`` that may speak for somebody's life."""
        newer: list[Entry] = []
        for prefix in SIGNS:
            newer += (
                entry for entry in (await self._store.list(prefix)).entries if entry.revision > revision
            )
        return await asyncio.to_thread(evidence, revision, newer)

    async def _do(self, due: Sequence[Due], revision: int) -> set[Deed]:
        """Do what is due by the picture of ``revision``, but for what has been contradicted since: the result."""
        contradicted: set[Deed] = set()
        for start in range(0, len(due), TOGETHER):
            newer = await self._newer(revision)  # nobody who comes to life writes the records that are judged
            batch = due[start : start + TOGETHER]
            contradicted |= {deed for deed, _ in batch if is_contradicted(deed, newer)}
            still = [each for each in batch if each.deed not in contradicted]
            if frees := [each for each in still if isinstance(each.deed, Free)]:
                await self._free(frees)
            for deed, reason in still:
                if not isinstance(deed, Free):
                    await self._repair(deed, reason)
        return contradicted

    async def _free(self, due: Sequence[Due]) -> None:
        self._in_office()
        try:
            done = await free(self._store, due, clock=self._clock)
        except IPAMError as error:
            log.warning("addresses that were left behind could not be released: %s", error)
            return
        for what, reason in done:
            self._note("Free", what, reason)

    async def _repair(self, deed: Repair, reason: str) -> None:
        self._in_office()
        try:
            said = await do(self._store, deed, clock=self._clock)
        except (
            Conflict,
            IPAMError,
            Denied,
        ) as error:  # mostly it moves: it is looked at again, from the start
            log.debug("left as it is for now: %s", error)
            return
        if said:
            self._note(type(deed).__name__, said, reason)

    def _in_office(self) -> None:
        if self._lease is not None and self._steady() >= self._until:
            raise _OutOfOffice

    def _note(self, kind: str, what: str, reason: str) -> None:
        log.info("collected: %s: %s", what, reason)
        self._freed[kind.lower()] += 1
        self._latest.append({"at": self._moment(), "what": what, "reason": reason})

    def _moment(self) -> str:
        return datetime.fromtimestamp(self._clock() / 1e9, UTC).isoformat(timespec="seconds")


def _name(value: bytes) -> str:
    """Who wrote that it collects."""
    try:
        return str(msgspec.json.decode(value)["node"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        return "unknown"
