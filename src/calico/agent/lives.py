"""Start over after a failure that nobody thought of, or on purpose; give up, for a supervisor to see, when that does not help.

In:   what begins a life: every part made anew, nothing read or written yet.
Out:  lives, one after the other; why the last one ended, for the status.
Next: ``agent.life`` is what a life is.

What a failed life knew may be wrong, so it is thrown away whole. The kernel keeps what it has meanwhile: a new life
writes nothing before it has a complete picture.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

MOST_FAILURES: Final = 5
"""Failures in a row after which no new life is begun."""
LONG_LIFE: Final = 60.0
"""Seconds of life after which a failure is no longer in a row with the one before."""
SHORT_REST: Final = 0.1
"""Seconds before a life that follows one that ended on purpose: changes that come together make one."""
LONGEST_REST: Final = 30.0
"""Seconds between two lives, at most; at first it is one, then each time twice as long."""


class GaveUpError(Exception):
    """Starting over did not help; the sentence says what went wrong at last."""


class Renewal(Exception):
    """A life ends on purpose, because what it was built on is no longer so; the sentence says what changed."""


class Life(Protocol):
    """One life of the agent."""

    @property
    def programmed(self) -> bool:
        """Whether it has had everything in the kernel."""
        ...

    async def run(self) -> None:
        """Work until cancelled; whatever is raised ends this life."""
        ...


L = TypeVar("L", bound=Life)


class Lives(Generic[L]):
    """Lives, each begun by ``begin``; ``current`` is the one that answers questions."""

    def __init__(self, begin: Callable[[], L]) -> None:
        self._begin = begin
        self._failures = 0
        self._last = ""
        self._resting = False
        self.current = begin()

    @property
    def trouble(self) -> str:
        """Why the last life failed, until the current one has everything in the kernel; "" for nothing."""
        return "" if self.current.programmed and not self._resting else self._last

    async def run(self) -> None:
        """Live until cancelled. Raises GaveUpError."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                # A task of its own: in Python 3.11 a task group marks its task as cancelled when it fails.
                await asyncio.create_task(self._one())
            except Exception as error:
                if _stopping():
                    raise asyncio.CancelledError from error
                if (renewal := _renewal(error)) is not None:
                    log.info("starting over from the store, without a pause for the data path: %s", renewal)
                    if self.current.programmed:
                        self._last = ""
                    await asyncio.sleep(SHORT_REST)
                    self.current = self._begin()
                    continue
                self._failures = 1 if clock() - began > LONG_LIFE else self._failures + 1
                said = sentence(error)
                log.exception("the agent failed, and starts over: %s", said)
                if self._failures >= MOST_FAILURES:
                    raise GaveUpError(
                        f"the agent failed {self._failures} times in a row, at last: {said}; what is programmed stays"
                    ) from error
            self._last = f"it failed, and starts over from the store: {said}; its log has the details"
            self._resting = True
            await asyncio.sleep(min(2.0 ** (self._failures - 1), LONGEST_REST))
            self.current = self._begin()
            self._resting = False

    async def _one(self) -> None:
        await self.current.run()
        raise RuntimeError("the work ended by itself")


def _stopping() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _renewal(error: BaseException) -> Renewal | None:
    """The reason if a life ended on purpose, and nothing else went wrong."""
    if isinstance(error, BaseExceptionGroup):
        reasons = [_renewal(each) for each in error.exceptions]
        return reasons[0] if all(reasons) else None
    return error if isinstance(error, Renewal) else None


def sentence(error: BaseException) -> str:
    """What went wrong, without the groups that tasks wrap it in."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(sentence(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"
