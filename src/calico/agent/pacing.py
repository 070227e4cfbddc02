"""When to act: coalescing of changes and waiting after failures, as values and decisions.

In:   the time (seconds of any monotonic clock) and what happened.
Out:  how long to wait.
Next: ``agent.loop`` waits and acts.

A lone change is acted on at once; under load changes are collected, so that the cost of each falls and the
backlog stays bounded (a batch holds each key once).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """At most one round in ``gap`` seconds; the first after a pause is immediate."""

    gap: float
    _last: float = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds to wait before the next round may start; 0 when it may start now."""
        return max(0.0, self._last + self.gap - now)

    def started(self, now: float) -> None:
        """A round starts now."""
        self._last = now


@dataclass(slots=True)
class Backoff:
    """Waiting that doubles with each failure in a row, from ``first`` to ``limit`` seconds."""

    first: float
    limit: float
    _failures: int = 0
    _until: float = float("-inf")

    def failed(self, now: float) -> float:
        """Another failure: seconds until the next try."""
        delay = min(self.limit, self.first * 2.0**self._failures)
        self._failures += 1
        self._until = now + delay
        return delay

    def succeeded(self) -> None:
        """Start over."""
        self._failures = 0
        self._until = float("-inf")

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def wait(self, now: float) -> float:
        """Seconds until a retry is due; 0 when it may happen now."""
        return max(0.0, self._until - now)
