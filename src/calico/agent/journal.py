"""What became of the loop's work: how long changes took, what failed, what was repaired.

In:   deltas as they are calculated, and the outcome of each step of the loop.
Out:  plain data for the report; the log, once for each thing that is new.
Next: ``agent.loop`` writes it and puts it into its report.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from calico.agent.pacing import Backoff
from calico.desired import Delta
from calico.programming.backend import Drift

log = logging.getLogger(__name__)

KEPT_REPAIRS: Final = 50


class Journal:
    """Of bounded size, however long it is kept. Times ``now`` are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        """By what failed: why. Nothing here is over yet."""
        self.last_change: dict[str, Any] | None = None
        self._unfinished: Counter[str] = Counter()
        self._unfinished_since: float | None = None
        self._repairs: deque[dict[str, str]] = deque(maxlen=KEPT_REPAIRS)
        self._repair_count = 0

    def received(self, when: float | None) -> None:
        """Facts came at ``when`` (None: none came); of several that are not programmed yet the first counts."""
        if self._unfinished_since is None:
            self._unfinished_since = when

    def calculated(self, delta: Delta) -> None:
        """The facts so far mean ``delta``, which is to be programmed."""
        for name in Delta.__dataclass_fields__:
            if rows := getattr(delta, name):
                self._unfinished[name] += len(rows)
        if not self._unfinished:
            self._unfinished_since = None  # what came was nothing for this host

    def finished(self, now: float) -> None:
        """All that was calculated is programmed."""
        if self._unfinished_since is not None:
            self.last_change = {
                "at": _moment(),
                "milliseconds": round((now - self._unfinished_since) * 1000, 2),
                "rows": dict(self._unfinished),
            }
            self._unfinished_since = None
        self._unfinished.clear()

    def failed(self, what: str, error: Exception, backoff: Backoff, now: float) -> None:
        """``what`` failed, and waits."""
        message = str(error) or type(error).__name__
        if self.errors.get(what) != message:
            log.error("%s: %s", what, message)
        self.errors[what] = message
        backoff.failed(now)

    def succeeded(self, what: str, backoff: Backoff) -> None:
        """``what`` is in order."""
        if self.errors.pop(what, None) is not None:
            log.info("%s: in order again", what)
        backoff.succeeded()

    def repaired(self, drifts: Iterable[Drift]) -> None:
        """Others had changed something, and it was put right."""
        at = _moment()
        for drift in drifts:
            family = "ARP" if drift.family == "arp" else f"IPv{drift.family}"
            description = f"{family} {drift.what}: {drift.found}"
            log.warning("repaired what was changed by others: %s", description)
            self._repairs.append({"at": at, "what": description})
            self._repair_count += 1

    @property
    def repairs(self) -> dict[str, Any]:
        """How many repairs there were, and the latest."""
        return {"count": self._repair_count, "latest": list(self._repairs)}


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
