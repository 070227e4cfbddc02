"""An event loop whose time is a number: it jumps to the next timer when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Reports what is ready now; where the loop would wait, its clock is moved on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that will never come"
            self.now += max(timeout, 0.0)
        return ready


class Clockwork(asyncio.SelectorEventLoop):
    """Starts at ``start`` seconds. Only for work that has no threads and no other processes."""

    def __init__(self, start: float = 1000.0) -> None:
        self._jumping = _Jumping()
        self._jumping.now = start
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Let time pass while something blocks."""
        self._jumping.now += seconds


def run(body: Coroutine[Any, Any, T]) -> T:
    """Run ``body`` on a clockwork."""
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(body)


def now() -> float:
    return asyncio.get_running_loop().time()


def block(seconds: float) -> None:
    """What runs now takes this long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clockwork)
    loop.advance(seconds)


class Inline(Executor):
    """Does all work at once, in the caller's thread."""

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:  # noqa: BLE001  as a thread would hand it over
            future.set_exception(error)
        return future
