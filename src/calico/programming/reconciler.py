"""Desired against actual: what to write, what to delete, and when to try again.

In:   what should be and what is, keyed alike and in the kernel's own normal form; the time, as an argument.
Out:  ``Plan``: the difference, and nothing else; ``Retry``: when a refused object is tried next.
Next: ``routes`` and ``links`` carry plans out.

Equal pictures give an empty plan: applying twice writes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
"""Seconds; a refused object is tried again after a delay that doubles between these two."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[K, V]):
    """What makes the actual state the desired one. Keys keep the order in which they were desired or found."""

    update: Mapping[K, V]
    delete: tuple[K, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.update or self.delete)


def plan(desired: Mapping[K, V], actual: Mapping[K, V]) -> Plan[K, V]:
    """Update what is missing or different, delete what nobody desires."""
    return Plan(
        {key: value for key, value in desired.items() if key not in actual or actual[key] != value},
        tuple(key for key in actual if key not in desired),
    )


class Retry(NamedTuple):
    """How often something failed in a row, and when (by the caller's clock) it is tried again."""

    failures: int
    due: float


def after_failure(before: Retry | None, now: float) -> Retry:
    """The next attempt after one more failure: later each time, never more than ten seconds away."""
    failures = 1 if before is None else before.failures + 1
    return Retry(failures, now + min(FIRST_DELAY * 2 ** min(failures - 1, 32), LONGEST_DELAY))


def due(retries: Mapping[K, Retry], now: float) -> list[K]:
    """What is to be tried again now, longest overdue first."""
    ready = [(retry.due, key) for key, retry in retries.items() if retry.due <= now]
    return [key for _, key in sorted(ready, key=lambda item: item[0])]


def seen(before: Mapping[K, float], present: Iterable[K], now: float) -> dict[K, float]:
    """When each present object was first seen; what is no longer present is forgotten, and starts anew if it returns."""
    return {key: before.get(key, now) for key in present}
