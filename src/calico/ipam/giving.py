"""One block gives addresses to one or more owners in one write, and their handles know of it before.

In:   a block as it was read, and a function that says what it gives.
Out:  who got what; in the store: the block, and handles that count what they have.
Next: ``ipam.assigning`` goes from block to block with it; ``ipam.client`` gives a certain address with it.

A handle counts an address before the block gives it away, so nothing is ever owned by a handle that does not
know of it. What a handle counted in vain is taken back, at once or, after a failure, when the handle is released.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from calico.datastore.api import Conflict, Denied, Unavailable
from calico.ipam import block as blocks
from calico.ipam.errors import Contended, IPAMError
from calico.ipam.records import ATTEMPTS, Records, Stored
from calico.model.address import Cidr
from calico.model.ipam import IPAMBlock, IPAMConfig
from calico.model.keys import Key


@dataclass
class Want:
    """Addresses of one family for one owner: ``count`` in all, ``taken`` so far.

    ValueError if the handle is empty or has a slash: no record can have that name.
    """

    handle: str
    attributes: Mapping[str, str]
    count: int
    taken: list[Cidr] = field(default_factory=list)
    known: bool = False
    """Whether the handle has something, as far as we know; else it is probably new."""

    def __post_init__(self) -> None:
        """See the class."""
        if not self.handle or "/" in self.handle:
            raise ValueError(f"{self.handle!r} is no handle: write text without '/'")

    @property
    def missing(self) -> int:
        """How many are still to be had."""
        return self.count - len(self.taken)


Given: TypeAlias = list[tuple[Want, tuple[Cidr, ...]]]
"""Who gets what of a block."""

Planned: TypeAlias = Callable[[IPAMBlock], tuple[IPAMBlock, Given]]
"""What a block gives, and how it is afterwards; it gives nothing where it may not. May raise an IPAMError."""


def thawed(block: IPAMBlock, settings: IPAMConfig, now: int) -> IPAMBlock:
    """The block with what has cooled down free; ``now`` is in nanoseconds since 1970."""
    before = at(now) - timedelta(seconds=settings.ip_cooldown_seconds or 0)
    return blocks.thaw(block, before)[0]


def at(now: int) -> datetime:
    """A time in nanoseconds since 1970, to the second."""
    return datetime.fromtimestamp(now // 1_000_000_000, UTC)


async def give(records: Records, cidr: Cidr, held: Stored[IPAMBlock] | None, planned: Planned) -> bool:
    """Let the block ``cidr``, which was read as ``held``, give what is ``planned``; whether it gave anything.

    What is given is noted in the wants. The plan is made anew for the block as it is then whenever others were
    quicker. Contended after ``ATTEMPTS``; Unavailable only if nobody can tell whether the block was written.
    """
    counts = _Counts(records, cidr)
    given: Given = []
    try:
        given = await _give(records, cidr, held, planned, counts)
    except (IPAMError, Denied):  # nothing was given, and will not be
        await counts.settle([])
        raise
    await counts.settle(given)
    for want, addresses in given:
        want.taken += addresses
        want.known = True
    return bool(given)


async def _give(
    records: Records, cidr: Cidr, held: Stored[IPAMBlock] | None, planned: Planned, counts: _Counts
) -> Given:
    unanswered: list[tuple[IPAMBlock, Given]] = []
    for attempt in range(ATTEMPTS + 1):
        if held is None:
            return []
        for written, given in unanswered:
            if _gave(held.value, written, given):  # only the answer was lost
                return given
        if attempt == ATTEMPTS:
            break
        changed, given = planned(held.value)
        if not given:
            return []
        await counts.reserve(given)
        try:
            await records.put(held, changed)
        except Conflict:
            pass
        except Denied:
            raise
        except Unavailable:
            unanswered.append((changed, given))
        else:
            return given
        held = await records.block(cidr)
    raise Contended(Key("IPAMBlock", str(cidr)).path)


def _gave(block: IPAMBlock, written: IPAMBlock, given: Given) -> bool:
    """Whether ``block`` came from ``written``, which gave ``given``: only one write notes these sequence numbers."""
    return all(
        blocks.held_by(block, address) == want.handle
        and blocks.sequence_number_of(block, address) == blocks.sequence_number_of(written, address)
        for want, addresses in given
        for address in addresses
    )


class _Counts:
    """What handles have counted for addresses of one block that it has not given yet."""

    def __init__(self, records: Records, cidr: Cidr) -> None:
        self._records = records
        self._cidr = cidr
        self._counted: Counter[str] = Counter()

    async def reserve(self, given: Given) -> None:
        """Let the handles count what they are about to get, if they have not yet."""
        missing = _by_handle(given) - self._counted
        known = {want.handle for want, _ in given if want.known} | self._counted.keys()
        self._counted += missing
        await self._change(missing, known)

    async def settle(self, given: Given) -> None:
        """Let the handles forget what they counted beyond what they got."""
        excess = self._counted - _by_handle(given)
        self._counted -= excess
        await self._change({handle: -count for handle, count in excess.items()}, excess.keys())

    async def _change(self, changes: Mapping[str, int], known: AbstractSet[str]) -> None:
        calls = [
            self._records.count(handle, {self._cidr: change}, new=handle not in known)
            for handle, change in changes.items()
        ]
        if len(calls) < 2:
            for call in calls:
                await call
            return
        import asyncio

        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


def _by_handle(given: Given) -> Counter[str]:
    counts: Counter[str] = Counter()
    for want, addresses in given:
        counts[want.handle] += len(addresses)
    return counts
