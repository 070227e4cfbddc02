"""Turn a list-then-watch store into one ordered stream of updates.

In:   listings and watch events, as the store reports them; a decoder of its values.
Out:  ``Update`` for each fact that changed, and ``InSync`` once, when the first listing is complete.
Next: ``agent.loop`` hands both to ``calculation.network``.

After a broken watch a fresh listing is compared with what was last said, so the reader sees only the
difference, including facts that vanished meanwhile. While the store is lost nothing is said, and what was
said before stays true for the reader.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from calico.datastore.api import Entry, Event, Listing, Store, StoreError
from calico.model.fact import InSync, Update
from calico.model.ipam import Record
from calico.model.keys import ROOT, Key, parse_path
from calico.model.resource import Resource
from calico.model.salvage import salvaged

Batch: TypeAlias = tuple[Update | InSync, ...]
Decode: TypeAlias = Callable[[Key, bytes, int], Resource | Record]
Salvage: TypeAlias = Callable[[Key, bytes], Resource | None]
"""The value at a key, from its bytes and its revision; any exception means that it is no such value."""

CHUNK: Final = 1_000
"""How many updates of the first listing make one batch, so that a reader gets to do other things between."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""How many seconds to wait before trying again: at first, and at most; each time twice as long."""


@dataclass(slots=True)
class Status:
    """How the stream stands, for people to see; changed in place as it goes on."""

    connected: bool = False
    since: float = 0.0
    """The reading of the clock when ``connected`` last changed, or the stream began."""
    error: str = ""
    """Why the store was last lost; it stays when the store is back, for whoever asks afterwards."""
    losses: int = 0
    """How often the store was lost, or could not be reached on trying again."""
    revision: int = 0
    """The store's revision up to which everything has been said."""
    bad: dict[str, str] = field(default_factory=dict)
    """The paths whose values could not be decoded, why, and what stands in for them."""


async def updates(
    store: Store,
    *,
    decode: Decode,
    pause: Callable[[float], Awaitable[None]],
    clock: Callable[[], float],
    prefix: str = ROOT,
    status: Status | None = None,
    salvage: Salvage = salvaged,
) -> AsyncIterator[Batch]:
    """All facts under ``prefix``, and every change of them, until the store is closed.

    The first complete picture comes in batches of up to ``CHUNK`` updates, with ``InSync`` at the end of the
    last. After that a batch is what one wake-up or one fresh listing brought, with one update for each fact;
    steps in between are left out. A batch is never empty.

    Paths that are not a fact's own are passed over. In the place of a value that cannot be decoded stands what
    ``salvage`` makes of it, which never opens what the value may have closed; ``status.bad`` lists it.

    A store that is lost never ends the stream. Each trying again comes after ``pause``, which is told for how
    many seconds, doubling up to ``LONGEST_PAUSE``, and should add jitter; it starts anew when a watch has held
    for longer than that by ``clock``.
    """
    status = status or Status()
    status.since = clock()
    said = _Said(decode, salvage, status.bad)
    in_sync = False
    wait = FIRST_PAUSE
    while True:
        try:
            listing = await store.list(prefix)
            status.connected, status.since = True, clock()
            for batch in said.differences(listing) if in_sync else said.everything(listing):
                yield batch
            in_sync = True
            status.revision = listing.revision
            changes = store.watch(prefix, revision=listing.revision)
            try:
                async for events in changes:
                    news = said.news(events)
                    if news:
                        yield news
                    status.revision = events[-1].revision
            finally:
                if isinstance(changes, AsyncGenerator):
                    await changes.aclose()
        except StoreError as error:
            status.error = str(error)
        else:
            status.connected, status.since = False, clock()
            return
        status.losses += 1
        if status.connected:
            if clock() - status.since > LONGEST_PAUSE:
                wait = FIRST_PAUSE
            status.connected, status.since = False, clock()
        await pause(wait)
        wait = min(2 * wait, LONGEST_PAUSE)


async def picture(
    store: Store, *, decode: Decode, prefix: str = ROOT, salvage: Salvage = salvaged
) -> tuple[dict[Key, Resource | Record], dict[str, str]]:
    """All facts under ``prefix`` as they are now, read as ``updates`` reads them; and ``Status.bad`` of them.

    Raises what the store raises.
    """
    bad: dict[str, str] = {}
    listing = await store.list(prefix)
    said = _Said(decode, salvage, bad).news(listing.entries)
    return {update.key: update.value for update in said if update.value is not None}, bad


class _Said:
    """What the reader was told: for each path a fingerprint of the revision and the value."""

    def __init__(self, decode: Decode, salvage: Salvage, bad: dict[str, str]) -> None:
        self._decode = decode
        self._salvage = salvage
        self._bad = bad
        self._fingerprints: dict[str, int] = {}

    def everything(self, listing: Listing) -> Iterator[Batch]:
        """The first listing, in batches; ``InSync`` ends the last."""
        parts = [listing.entries[start : start + CHUNK] for start in range(0, len(listing.entries), CHUNK)]
        *earlier, last = parts or [()]
        for part in earlier:
            batch = self.news(part)
            if batch:
                yield batch
        yield (*self.news(last), InSync())

    def differences(self, listing: Listing) -> Iterator[Batch]:
        """How a fresh listing differs from what was said, in one batch, since halves of it were never true."""
        vanished = self._fingerprints.keys() - {entry.path for entry in listing.entries}
        deletions = (Event(path, None, listing.revision) for path in sorted(vanished))
        batch = self.news((*deletions, *listing.entries))
        if batch:
            yield batch

    def news(self, items: Iterable[Entry | Event]) -> tuple[Update, ...]:
        """What ``items`` tell that was not said yet; of several for a path the last counts."""
        latest: dict[str, Entry | Event] = {}
        for item in items:
            latest.pop(item.path, None)
            latest[item.path] = item
        candidates = (self._update(*item) for item in latest.values())
        return tuple(update for update in candidates if update is not None)

    def _update(self, path: str, value: bytes | None, revision: int) -> Update | None:
        key = parse_path(path)
        if key is None or key.path != path:
            return None
        if value is None:
            self._bad.pop(path, None)
            return None if self._fingerprints.pop(path, None) is None else Update(key, None)
        fingerprint = hash((revision, value))
        if self._fingerprints.get(path) == fingerprint:
            return None
        self._fingerprints[path] = fingerprint
        try:
            fact = self._decode(key, value, revision)
        except Exception as error:  # noqa: BLE001 - one writer's nonsense, of whatever kind, must not stop all others' facts
            rest = self._salvage(key, value)
            fate = (
                "as good as absent"
                if rest is None
                else "only what can be read of it counts, and it opens nothing"
            )
            self._bad[path] = f"{str(error) or type(error).__name__}; until then {fate}"
            return Update(key, rest)
        self._bad.pop(path, None)
        return Update(key, fact)
