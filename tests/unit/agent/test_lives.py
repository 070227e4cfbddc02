"""What becomes of an agent that fails in a way that nobody thought of."""

from __future__ import annotations

import asyncio

import pytest

from calico.agent.lives import MOST_FAILURES, GaveUpError, Lives, Renewal
from support import clockwork
from support.clockwork import now


class Mortal:
    """A life that ends after some seconds, by an error; the last goes on for ever."""

    def __init__(self, lasts: float, *, programmed: bool) -> None:
        self.lasts = lasts
        self.programmed = False
        self._will = programmed

    async def run(self) -> None:
        self.programmed = self._will
        await asyncio.sleep(self.lasts)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._die())

    async def _die(self) -> None:
        raise ZeroDivisionError("oops")


FOREVER = 1e9


def test_after_a_failure_a_new_life_begins_and_the_status_says_so() -> None:
    """The trouble is told from the failure on, until the new life has everything in the kernel."""

    async def body() -> None:
        coming = [Mortal(10, programmed=True), Mortal(FOREVER, programmed=False)]
        first, second = coming
        lives = Lives(lambda: coming.pop(0))
        task = asyncio.create_task(lives.run())
        await asyncio.sleep(5)
        assert lives.trouble == ""
        await asyncio.sleep(5.5)
        assert lives.current is first
        assert "ZeroDivisionError: oops" in lives.trouble
        await asyncio.sleep(1)
        assert lives.current is second
        assert "ZeroDivisionError: oops" in lives.trouble
        second.programmed = True
        assert lives.trouble == ""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clockwork.run(body())


def test_failures_in_a_row_end_the_process_with_growing_pauses_between() -> None:
    """Five short lives, fifteen seconds of rest, then the error for the supervisor."""

    async def body() -> None:
        began = now()
        lives = Lives(lambda: Mortal(0, programmed=False))
        with pytest.raises(GaveUpError, match="failed 5 times in a row, at last: ZeroDivisionError: oops"):
            await lives.run()
        assert now() - began == pytest.approx(1 + 2 + 4 + 8)

    clockwork.run(body())


def test_failures_far_apart_are_not_counted_together() -> None:
    """An agent that works for an hour between failures goes on for ever."""

    async def body() -> None:
        begun = 0

        def begin() -> Mortal:
            nonlocal begun
            begun += 1
            return Mortal(3600, programmed=True)

        task = asyncio.create_task(Lives(begin).run())
        await asyncio.sleep(3610 * (MOST_FAILURES + 2))
        assert not task.done()
        assert begun == MOST_FAILURES + 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clockwork.run(body())


def test_a_failure_while_stopping_is_the_end() -> None:
    """Told to stop, and failing at it: no new life begins."""

    class Stubborn(Mortal):
        async def run(self) -> None:
            try:
                await asyncio.sleep(FOREVER)
            finally:
                raise ZeroDivisionError("on the way out")

    async def body() -> None:
        lives = Lives(lambda: Stubborn(0, programmed=True))
        task = asyncio.create_task(lives.run())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clockwork.run(body())


class Renewed(Mortal):
    """A life that ends on purpose."""

    async def _die(self) -> None:
        raise Renewal("the settings changed")


def test_a_life_that_ends_on_purpose_is_no_failure() -> None:
    """However often it happens, the next one begins at once, and nothing is reported as trouble."""

    async def body() -> None:
        coming = [Renewed(1, programmed=True) for _ in range(2 * MOST_FAILURES)]
        coming.append(Renewed(FOREVER, programmed=True))
        last = coming[-1]
        lives = Lives(lambda: coming.pop(0))
        task = asyncio.create_task(lives.run())
        await asyncio.sleep(2 * MOST_FAILURES * 1.5)
        assert lives.current is last
        assert lives.trouble == ""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clockwork.run(body())


def test_a_failure_before_a_life_on_purpose_stays_known_until_all_is_programmed() -> None:
    """A new life that was not programmed yet has not shown that the trouble is over; one that was, has."""

    async def body() -> None:
        coming = [
            Mortal(1, programmed=True),
            Renewed(10, programmed=False),
            Renewed(10, programmed=True),
            Mortal(FOREVER, programmed=False),
        ]
        lives = Lives(lambda: coming.pop(0))
        task = asyncio.create_task(lives.run())
        await asyncio.sleep(12.05)  # between the second life and the third
        assert "oops" in lives.trouble
        await asyncio.sleep(12)
        assert lives.trouble == ""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clockwork.run(body())


def test_a_failure_beside_a_life_on_purpose_is_a_failure() -> None:
    """What else went wrong is not lost."""

    class Both(Renewed):
        async def run(self) -> None:
            raise ExceptionGroup("both", [Renewal("settings"), ZeroDivisionError("oops")])

    async def body() -> None:
        lives = Lives(lambda: Both(0, programmed=False))
        with pytest.raises(GaveUpError, match="oops"):
            await lives.run()

    clockwork.run(body())
