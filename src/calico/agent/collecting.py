"""The agent's part in collecting addresses, beside the loop.

In:   the store.
Out:  the collector, which runs whenever it is this agent's turn; ``report``.
Next: ``agent.life`` puts it into its report.

Nothing else may suffer from it, whatever goes wrong in it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from calico.datastore.api import Store
from calico.ipam.collector import Collector

log = logging.getLogger(__name__)

REST: Final = 60.0
"""Seconds after a failure that nobody thought of."""


class Collecting:
    """That of one agent, as ``node``."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._collector: Collector | None = None
        self._failure: str | None = None

    async def run(self, store: Store) -> None:
        """Work until cancelled."""
        while True:
            self._collector = Collector(store, self._node)
            try:
                await self._collector.run()
            except Exception as error:
                self._failure = f"unexpected {type(error).__name__}: {error}"
                log.exception("collecting addresses failed, and begins anew")
            await asyncio.sleep(REST)

    def report(self) -> dict[str, Any]:
        """Who collects, and what this agent has done of it: plain data."""
        if self._collector is None:
            return {"node": "", "here": False}
        report = self._collector.report()
        return {**report, "error": report["error"] or self._failure}
