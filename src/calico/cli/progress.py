"""A bar on standard error for work that takes a while; nothing where nobody watches.

In:   how much there is to do, and a call for each piece that is done.
Out:  one line that is drawn over and over, and is gone at the end.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

WORTH_SHOWING: Final = 50
"""Less than that is done before anybody has read it."""

WIDTH: Final = 40


class Progress:
    """A bar for ``total`` pieces of work, drawn on a terminal only; a context, at whose end it disappears."""

    def __init__(self, total: int, doing: str) -> None:
        self._total = total
        self._doing = doing
        self._done = 0
        self._drawn = -1
        self._shown = total >= WORTH_SHOWING and sys.stderr is not None and sys.stderr.isatty()

    def advance(self) -> None:
        """One piece is done."""
        self._done += 1
        percent = 100 * self._done // self._total
        if self._shown and percent != self._drawn:
            self._drawn = percent
            bar = ("#" * (WIDTH * self._done // self._total)).ljust(WIDTH)
            self._write(f"\r{self._doing} [{bar}] {self._done}/{self._total}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._drawn >= 0:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
