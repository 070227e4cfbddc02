"""A store that fails at a chosen call, and a scheduler that chooses: which client goes next, and what befalls it.

In:   a store that works; a chooser, which is a script of choices or chance.
Out:  every order of the clients' calls and every failure at each of them, within bounds; each exactly repeatable.
Next: ``support.ipam_scenes`` runs clients of address management under it, and ``support.ipam_ledger`` judges every step.

A client is a coroutine that stops before each call of its store. Whenever no client can go on by itself, one of those
that wait is let through (``Turns``), so that a history is one sequence of choices. ``histories`` runs a scene again
and again, each time with another sequence, until all are done that need no more than so many switches and failures.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from calico.datastore.api import Conflict, Entry, Event, LeaseGone, Listing, Store, Unavailable

T = TypeVar("T")


class Fate(Enum):
    """What befalls a call."""

    WELL = "well"
    LOST_UNDONE = "no answer, and not done"
    LOST_DONE = "no answer, but done"
    CRASH_BEFORE = "the client dies just before"
    CRASH_AFTER = "the client dies just after"


READING = (Fate.WELL, Fate.LOST_UNDONE)
"""What may befall a read. A client that dies at one could have died after the write before."""

WRITING = tuple(Fate)


class Call(NamedTuple):
    """One call of a store that is about to be made."""

    client: str
    method: str
    path: str

    @property
    def writes(self) -> bool:
        return self.method not in {"get", "list"}

    def __str__(self) -> str:
        return f"{self.client:<10} {self.method:<7} {self.path.removeprefix('/calico/')}"


def told(call: Call, fate: Fate) -> str:
    """A line of a story."""
    return f"{call}" if fate is Fate.WELL else f"{call}   ** {fate.value} **"


class PerilousStore:
    """``store`` as one client sees it.

    ``ask`` is awaited before each call and decides its fate; ``wrote`` after each write that was done, before the
    client hears of it. A client that died waits for ever in its next call, so that not even its ``finally`` gets
    anything done.
    """

    def __init__(
        self,
        store: Store,
        client: str,
        ask: Callable[[Call], Awaitable[Fate]],
        wrote: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._ask = ask
        self._wrote = wrote
        self.dead = asyncio.Event()

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        return await self._call("get", path, lambda: self._store.get(path))

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        return await self._call("create", path, lambda: self._store.create(path, value, lease=lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        return await self._call(
            "put", path, lambda: self._store.put(path, value, revision=revision, lease=lease)
        )

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        return await self._call("delete", path, lambda: self._store.delete(path, revision=revision))

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``; lost, as any call may be, before each of its tuples."""
        async for events in self._store.watch(prefix, revision=revision):
            await self._call("list", prefix, _nothing)
            yield events

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        return await self._call("grant", "", lambda: self._store.grant(seconds))

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        await self._call("keep", str(lease), lambda: self._store.keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        await self._call("revoke", str(lease), lambda: self._store.revoke(lease))

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        await self._store.compact(revision)

    async def close(self) -> None:
        """Nothing: others use the store too."""

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        return await self._call("list", prefix, lambda: self._store.list(prefix, revision=revision))

    async def _call(self, method: str, path: str, act: Callable[[], Awaitable[T]]) -> T:
        if self.dead.is_set():
            await asyncio.get_running_loop().create_future()
        call = Call(self._client, method, path)
        fate = await self._ask(call)
        if fate is Fate.WELL:
            result = await act()
            if call.writes:
                await self._wrote()
            return result
        if fate in {Fate.LOST_DONE, Fate.CRASH_AFTER}:
            try:
                await act()
                await self._wrote()
            except (Conflict, LeaseGone):
                pass  # refused, which nobody hears of either
        if fate in {Fate.CRASH_BEFORE, Fate.CRASH_AFTER}:
            self.dead.set()
            await asyncio.get_running_loop().create_future()
        raise Unavailable("no answer came; the call may or may not have been done")


async def _nothing() -> None:
    """What a watch does while it is told of a change."""


class Chooser(Protocol):
    """Decides a history. Choice 0 is always what happens when nothing special does."""

    def client(self, waiting: Sequence[Call], last: str) -> int:
        """Which of ``waiting`` is let through; ``last`` is the client that was let through before."""
        ...

    def fate(self, call: Call) -> Fate:
        """What befalls ``call``."""
        ...


class Script:
    """The choices ``given``, then nothing special: each client runs on until it ends or waits.

    Leaving a client that could go on is a switch, anything but ``Fate.WELL`` a failure. ``options`` tells how many
    choices there were each time; where no more switches or failures are allowed, there is one.
    """

    def __init__(self, given: Sequence[int], *, switches: int, failures: int) -> None:
        self._given = given
        self._switches = switches
        self._failures = failures
        self.taken: list[int] = []
        self.options: list[int] = []

    def client(self, waiting: Sequence[Call], last: str) -> int:
        order = sorted(range(len(waiting)), key=lambda place: waiting[place].client != last)
        goes_on = waiting[order[0]].client == last
        choice = self._choose(1 if goes_on and not self._switches else len(order))
        self._switches -= bool(choice) and goes_on
        return order[choice]

    def fate(self, call: Call) -> Fate:
        fates = WRITING if call.writes else READING
        choice = self._choose(len(fates) if self._failures else 1)
        self._failures -= bool(choice)
        return fates[choice]

    def _choose(self, options: int) -> int:
        place = len(self.taken)
        choice = self._given[place] if place < len(self._given) else 0
        self.taken.append(choice)
        self.options.append(options)
        return choice


class Chance:
    """Everything by chance: any client at each call, and one call in ``1 / trouble`` goes wrong."""

    def __init__(self, seed: int, *, trouble: float) -> None:
        self._random = Random(seed)
        self._trouble = trouble

    def client(self, waiting: Sequence[Call], last: str) -> int:
        return self._random.randrange(len(waiting))

    def fate(self, call: Call) -> Fate:
        if self._random.random() >= self._trouble:
            return Fate.WELL
        return self._random.choice(WRITING if call.writes else READING)


def histories(run: Callable[[Chooser], None], *, switches: int, failures: int) -> int:
    """``run`` once for every history with at most so many switches and failures; how many there were."""
    rest: list[list[int]] = [[]]
    count = 0
    while rest:
        given = rest.pop()
        script = Script(given, switches=switches, failures=failures)
        run(script)
        count += 1
        for place in range(len(given), len(script.taken)):
            rest += ([*script.taken[:place], other] for other in range(1, script.options[place]))
    return count


class Turns:
    """Lets one waiting call through at a time, whenever nobody can go on otherwise."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._waiting: list[tuple[Call, asyncio.Future[Fate]]] = []
        self._last = ""
        self.story: list[str] = []
        """What happened so far, a line a call."""

    async def ask(self, call: Call) -> Fate:
        """Wait for this call's turn; its fate."""
        turn: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, turn))
        return await turn

    def next(self) -> bool:
        """Let a call through; False if none waits."""
        self._waiting = [(call, turn) for call, turn in self._waiting if not turn.done()]
        if not self._waiting:
            return False
        calls = [call for call, _ in self._waiting]
        call, turn = self._waiting.pop(self._chooser.client(calls, self._last))
        fate = self._chooser.fate(call)
        self._last = call.client
        self.story.append(told(call, fate))
        turn.set_result(fate)
        return True


class _Idle(selectors.DefaultSelector):
    """Where the loop would wait, the next call is let through; when none waits, time jumps to the next timer."""

    now = 1_800_000_000.0
    turns: Turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0 and not self.turns.next():
            assert timeout is not None, "everybody waits for something that will never come"
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, turns: Turns) -> None:
        self._idle = _Idle()
        self._idle.turns = turns
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


def run_by(turns: Turns, body: Coroutine[Any, Any, T]) -> T:
    """Run ``body`` to its end, its calls in the order of ``turns``; its time only passes while nobody calls."""
    with asyncio.Runner(loop_factory=lambda: _Loop(turns)) as runner:
        return runner.run(body)
