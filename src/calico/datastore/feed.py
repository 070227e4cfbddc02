"""Hand the changes of one store to all watches of a process.

In:   events in order of revision, said once by whoever reads the store's history.
Out:  for each watch the events under its prefix, in order, each once.
Next: ``datastore.memory`` and ``datastore.sqlite`` give them out from ``watch``.

What a watch has received is delivered before it learns that the store is lost. A watch whose reader does not
keep up is ended with ``TooOld`` instead of growing for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from calico.datastore.api import Event, StoreError, TooOld

HISTORY = 10_000
"""How many revisions of history a store keeps by itself, at the least."""

COMPACT_EVERY = 1_000
"""Every how many revisions a store forgets what is older than its history."""

PENDING = 100_000
"""How many events may wait for one watch's reader."""


def horizon(revision: int, history: int) -> int | None:
    """The revision to compact to now that ``revision`` was written; None: nothing to do yet."""
    if revision % COMPACT_EVERY or revision <= history:
        return None
    return revision - history


class Subscription:
    """One watch's place in the feed."""

    def __init__(self, prefix: str, after: int, limit: int) -> None:
        import asyncio  # who only looks at a store once has no need of it

        self._prefix = prefix
        self._limit = limit
        self._pending: list[Event] = []
        self._changed = asyncio.Event()
        self._error: StoreError | None = None
        self._ended = False
        self.seen = after
        """The last revision that was considered for this watch, whether or not it touched the prefix."""

    def offer(self, events: Iterable[Event], revision: int) -> None:
        """Take what is new and under the prefix from ``events``, which reach up to ``revision``."""
        if self._error is not None or self._ended:
            return
        new = [
            event for event in events if event.revision > self.seen and event.path.startswith(self._prefix)
        ]
        self.seen = max(self.seen, revision)
        if not new:
            return
        self._pending += new
        if len(self._pending) > self._limit:
            first = self._pending[0].revision
            self._pending.clear()
            self.fail(TooOld(first, self.seen))
        self._changed.set()

    def fail(self, error: StoreError) -> None:
        """Raise ``error`` in the watch, after it has received what waits for it."""
        if not self._ended:
            self._error = self._error or error
        self._changed.set()

    def end(self) -> None:
        """End the watch, after it has received what waits for it."""
        self._ended = True
        self._changed.set()

    async def take(self) -> tuple[Event, ...]:
        """All that waits, as soon as something does; empty when the watch has ended."""
        while True:
            if self._pending:
                events = tuple(self._pending)
                self._pending.clear()
                return events
            if self._error is not None:
                raise self._error
            if self._ended:
                return ()
            self._changed.clear()
            await self._changed.wait()


class Feed:
    """The subscriptions of one process, and the ``position``: the revision up to which all has been said."""

    def __init__(self, position: int, *, limit: int = PENDING) -> None:
        self.position = position
        self._limit = limit
        self._subscriptions: set[Subscription] = set()

    def publish(self, events: Iterable[Event], revision: int) -> None:
        """Say all events after ``position`` up to ``revision``."""
        events = tuple(events)
        self.position = revision
        for subscription in self._subscriptions:
            subscription.offer(events, revision)

    def fail(self, error: Callable[[int], StoreError]) -> None:
        """End all watches with an error each, made from the last revision that the watch has seen."""
        for subscription in self._subscriptions:
            subscription.fail(error(subscription.seen))

    def end(self) -> None:
        """End all watches."""
        for subscription in self._subscriptions:
            subscription.end()

    async def watch(
        self, prefix: str, revision: int, backlog: Callable[[int], Awaitable[tuple[Event, ...]]]
    ) -> AsyncIterator[tuple[Event, ...]]:
        """The events under ``prefix`` after ``revision``.

        ``backlog`` reads from history the events after ``revision`` up to the revision that it is given,
        and raises ``TooOld`` where the store cannot tell. What is published meanwhile follows.
        """
        position = self.position
        subscription = Subscription(prefix, revision, self._limit)
        self._subscriptions.add(subscription)
        try:
            past = await backlog(position)
            if past:
                yield past
            while events := await subscription.take():
                yield events
        finally:
            self._subscriptions.discard(subscription)
