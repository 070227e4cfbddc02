"""BGP's share of the agent, beside the loop: BIRD as the facts want it, and alive.

In:   facts that BGP needs; passwords, from files; time, for BIRD tells nobody when it dies.
Out:  BIRD with its configuration, through ``bgp.daemon``; ``error``, which the loop reports.
Next: BIRD tells the network.

Routes and policy never wait for BGP: a BIRD that hangs, is missing or refuses its configuration is tried again with
growing pauses, at once when the facts want another configuration, and in the meantime nothing else stands still.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from calico.agent.pacing import Backoff, Pace
from calico.agent.routing import Routing
from calico.bgp import secrets
from calico.bgp.control import BirdError
from calico.bgp.daemon import Bird
from calico.model.fact import Update

log = logging.getLogger(__name__)

LOOK: Final = 5.0
"""Seconds between two looks whether BIRD still runs, with what it should have."""
GAP: Final = 0.2
"""Seconds between two configurations: facts that change meanwhile are one."""


class Announcer:
    """Keeps one host's BIRD at what the facts want, from the first complete picture on.

    ``passwords`` is the directory of ``bgp.secrets``, ``router_id`` what ``bgp.facts`` says of it.
    """

    def __init__(
        self,
        node: str,
        bird: Bird,
        interface_prefix: tuple[str, ...],
        *,
        passwords: Path,
        router_id: str = "",
    ) -> None:
        self._node = node
        self._bird = bird
        self._routing = Routing(node, interface_prefix, router_id=router_id)
        self._passwords = passwords
        self._secrets = secrets.Secrets({}, {})
        self._in_sync = asyncio.Event()
        self._wake = asyncio.Event()
        self._changed = True
        self._text = ""
        self._pace = Pace(GAP)
        self._backoff = Backoff(0.5, 30.0)
        self.error: str | None = None
        """Why BIRD is not as it should be; None while it is."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What of the intent could not be planned, for people."""
        return self._routing.problems

    def take(self, update: Update) -> None:
        """Take note of a fact."""
        if self._routing.update(update):
            self._changed = True
            self._wake.set()

    def begin(self) -> None:
        """The facts are complete: what they want may be told to BIRD."""
        self._in_sync.set()

    async def run(self) -> None:
        """Work until cancelled."""
        clock = asyncio.get_running_loop().time
        await self._in_sync.wait()
        while True:
            await asyncio.sleep(self._pace.wait(clock()))
            self._wake.clear()
            self._pace.started(clock())
            await self._bring()
            try:
                async with asyncio.timeout(self._backoff.wait(clock()) if self._backoff.failing else LOOK):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _bring(self) -> None:
        """Bring BIRD to what the facts want, unless just that failed a moment ago."""
        clock = asyncio.get_running_loop().time
        try:
            found = secrets.read(self._routing.secrets, self._passwords)
            if self._changed or found != self._secrets:
                text = self._routing.configuration(found.known, found.missing)
                self._secrets = found
                self._changed = False
                if text != self._text:
                    self._text = text
                    self._backoff.succeeded()  # what failed was something else
            if self._backoff.wait(clock()) > 0:
                return
            if await self._bird.ensure(self._text) == "started":
                log.info("started BIRD")
        except Exception as error:  # noqa: BLE001  whatever it is, BGP alone must suffer from it, and be tried again
            self._failed(error)
            self._backoff.failed(clock())
            return
        self._backoff.succeeded()
        if self.error is not None:
            log.info("BGP: in order again")
        self.error = None

    def _failed(self, error: Exception) -> None:
        expected = isinstance(error, BirdError | OSError)
        sentence = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
        if sentence != self.error:
            log.error("BGP: %s", sentence, exc_info=None if expected else error)
        self.error = sentence
