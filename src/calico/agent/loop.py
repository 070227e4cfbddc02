"""The one loop: facts in, kernel out, and what became of it.

In:   updates of the store (``datastore.resync``), changes of the kernel by others (``programming.monitor``), time.
Out:  the kernel and BIRD as desired; ``Report``, which ``agent.status`` serves.
Next: ``agent.main`` composes it.

Invariants: nothing is written before the first complete picture; rules are in the kernel before the routes that
lead to them; a failure is retried with growing pauses and never stops what already works; whatever was lost or
edited by others is found again by reading back.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from calico.agent.pacing import Backoff, Pace
from calico.agent.routing import Routing
from calico.bgp.control import BirdError
from calico.bgp.daemon import Bird
from calico.calculation.network import Network
from calico.desired import Delta, RouteRow
from calico.model.address import Cidr
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.settings import Settings
from calico.programming.backend import Backend, Drift, ProgrammingError
from calico.programming.links import Links
from calico.programming.monitor import Changes
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from calico.rendering.renderer import Renderer
from calico.ruleset.ast import Change

log = logging.getLogger(__name__)
T = TypeVar("T")

ROUND_GAP = 0.02
"""Seconds between two rounds under load: changes that arrive meanwhile are one batch."""
SETTLE_FOREIGN = 0.05
"""Seconds to wait after someone else's change before reading back: tools change things in bursts."""
LOOK_AT_BIRD = 5.0
"""Seconds between two looks whether BIRD still runs: it tells nobody when it dies."""
KEPT_REPAIRS = 50


class Loop:
    """One agent's work. ``run`` never returns by itself; cancel it to stop: the data path stays as it is."""

    def __init__(
        self,
        *,
        node: str,
        network: Network,
        renderer: Renderer,
        backend: Backend,
        routes: Routes,
        links: Links,
        sysctls: Sysctls,
        bird: Bird | None,
        settings: Settings,
    ) -> None:
        self.node = node
        self._network = network
        self._renderer = renderer
        self._backend = backend
        self._routes = routes
        self._links = links
        self._sysctls = sysctls
        self._bird = bird
        self._routing = Routing(node, settings.interface_prefix)
        self._refresh = settings.refresh_interval
        self._ipv6 = settings.ipv6_support

        self._kernel = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._wake = asyncio.Event()
        self._inbox: dict[Key, Update] = {}
        self._synced = False
        self._received: float | None = None
        self._changes: list[Change] = []
        self._route_changes: dict[Cidr, RouteRow | None] = {}
        self._desired_routes: dict[Cidr, RouteRow] = {}
        self._read_back = True
        self._routes_read_back = True
        self._touched_links: set[int] | None = None
        self._links_known = False
        self._bgp_changed = True
        self._paused_until = 0.0
        self._next_refresh = float("inf")
        self._next_look_at_bird = float("inf")
        self._pace = Pace(ROUND_GAP)
        self._links_backoff = Backoff(0.1, 10.0)
        self._tables_backoff = Backoff(0.1, 10.0)
        self._routes_backoff = Backoff(0.1, 10.0)
        self._bgp_backoff = Backoff(0.5, 30.0)
        self._errors: dict[str, str] = {}
        self._warnings: tuple[str, ...] = ()
        self._repairs: deque[dict[str, str]] = deque(maxlen=KEPT_REPAIRS)
        self._repair_count = 0
        self._rounds = 0
        self._programmed = False
        self._last_change: dict[str, Any] | None = None
        self._frozen = False

    # What others tell the loop. All are called in its thread and return at once.

    def receive(self, batch: Iterable[Update | InSync]) -> None:
        """Facts from the store. A key that changes twice before the next round counts once."""
        for item in batch:
            if isinstance(item, InSync):
                self._synced = True
            else:
                self._inbox[item.key] = item
        if self._received is None:
            self._received = asyncio.get_running_loop().time()
        self._wake.set()

    def kernel_changed(self, changes: Changes) -> None:
        """Others changed something, or we may have missed that they did."""
        if changes.lost:
            self._links_known = False
            self._read_back = self._routes_read_back = True
        if changes.links:
            self._touched_links = (self._touched_links or set()) | changes.links
        if changes.writers:
            self._read_back = True
        if self._routes.concerns(changes.routes | changes.neighbours):
            self._routes_read_back = True
        self._wake.set()

    def pause_repair(self, seconds: float) -> None:
        """Do not repair what others change for a while; changes of intent are still programmed."""
        self._paused_until = asyncio.get_running_loop().time() + seconds
        self._wake.set()

    # The loop itself.

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self._sleep()
                await self._round()
        finally:
            self._kernel.shutdown(wait=True, cancel_futures=True)

    async def _sleep(self) -> None:
        """Wait for something to do, then for the pace."""
        now = asyncio.get_running_loop().time()
        deadline = self._deadline(now)
        if not self._wake.is_set() and deadline > now:
            try:
                async with asyncio.timeout(None if deadline == float("inf") else deadline - now):
                    await self._wake.wait()
            except TimeoutError:
                pass
        now = asyncio.get_running_loop().time()
        wait = self._pace.wait(now)
        if self._read_back and self._programmed and not self._tables_backoff.failing and not self._inbox:
            wait = max(wait, SETTLE_FOREIGN)
        if wait > 0:
            await asyncio.sleep(wait)
        self._wake.clear()

    def _deadline(self, now: float) -> float:
        """When the loop must act even if nobody tells it anything."""
        deadline = min(self._next_refresh, self._next_look_at_bird)
        for backoff in (self._links_backoff, self._tables_backoff, self._routes_backoff, self._bgp_backoff):
            if backoff.failing:
                deadline = min(deadline, now + backoff.wait(now))
        due = self._routes.next_due()
        if due is not None:
            deadline = min(deadline, max(due, self._paused_until))
        if self._paused_until > now and (self._read_back or self._routes_read_back):
            deadline = min(deadline, self._paused_until)
        return deadline

    async def _round(self) -> None:
        """Bring everything that changed one step through the house."""
        now = asyncio.get_running_loop().time()
        self._pace.started(now)
        received, self._received = self._received, None
        self._take_facts()
        if not self._network.in_sync:
            return
        delta = self._network.settle()
        self._route_changes.update(delta.routes)
        interfaces = await self._look_at_links(now)
        self._changes += self._renderer.update(delta, interfaces)
        if now >= self._next_refresh:
            self._next_refresh = now + self._refresh
            self._read_back = self._routes_read_back = True
        due = self._routes.next_due()
        if due is not None and now >= due:
            self._routes_read_back = True
        # Rules first: an endpoint whose policy is not in the kernel gets no route.
        done = await self._program_tables(now) and await self._program_routes(now)
        await self._program_bgp(now)
        if done:
            self._finished(now, delta, received)

    def _take_facts(self) -> None:
        inbox, self._inbox = self._inbox, {}
        for update in inbox.values():
            if self._routing.update(update):
                self._bgp_changed = True
        self._network.update(inbox.values())
        if self._synced:
            self._synced = False
            self._network.update((InSync(),))

    async def _look_at_links(self, now: float) -> Mapping[str, frozenset[Cidr]] | None:
        """The host's interfaces if they may differ from the last look, which also made new ones ready."""
        if (self._links_known and self._touched_links is None) or self._links_backoff.wait(now) > 0:
            return None
        try:
            await self._in_kernel(self._links.changed)
        except (ProgrammingError, OSError) as error:
            self._links_backoff.failed(now)
            self._fail("interfaces", error)
            return None
        self._links_backoff.succeeded()
        self._links_known = True
        self._errors.pop("interfaces", None)
        return self._links.host_interfaces

    async def _program_tables(self, now: float) -> bool:
        """Whether the packet filter is as desired."""
        if self._tables_backoff.wait(now) > 0:
            return False
        in_step = self._programmed and not self._tables_backoff.failing
        read_back = self._read_back and not (in_step and now < self._paused_until)
        if read_back:
            self._read_back = False
        try:
            if self._changes and in_step:
                # First our own changes, so that what the read-back finds different is someone else's doing.
                changes = tuple(self._changes)
                await self._in_kernel(lambda: self._backend.apply(changes))
            if read_back:
                drifts = await self._in_kernel(lambda: self._backend.sync(self._renderer.tables))
                if in_step:
                    self._repaired(f"IPv{drift.family} {drift.what}: {drift.found}" for drift in drifts)
        except (ProgrammingError, OSError) as error:
            self._read_back = True
            self._tables_backoff.failed(now)
            self._fail("packet filter", error)
            return False
        self._changes = []
        self._tables_backoff.succeeded()
        self._errors.pop("packet filter", None)
        return True

    async def _program_routes(self, now: float) -> bool:
        """Whether all routes that can be in the kernel are."""
        changes, self._route_changes = self._route_changes, {}
        for cidr, row in changes.items():
            if row is None:
                self._desired_routes.pop(cidr, None)
            else:
                self._desired_routes[cidr] = row
        if self._routes_backoff.wait(now) > 0:
            return False
        read_back = self._routes_read_back and (not self._paused(now) or self._routes_backoff.failing)
        touched, self._touched_links = self._touched_links, None
        if read_back:
            self._routes_read_back = False
        try:
            found = await self._in_kernel(lambda: self._route(changes, touched, read_back=read_back))
        except (ProgrammingError, OSError) as error:
            self._routes_read_back = True
            self._routes_backoff.failed(now)
            self._fail("routes", error)
            return False
        if self._programmed:
            self._repaired(f"IPv{drift.family} {drift.what}: {drift.found}" for drift in found)
        self._routes_backoff.succeeded()
        self._errors.pop("routes", None)
        return True

    def _route(
        self, changes: Mapping[Cidr, RouteRow | None], touched: set[int] | None, *, read_back: bool
    ) -> Sequence[Drift]:
        """The kernel's part of ``_program_routes``; what was repaired."""
        if read_back:
            # Forwarding is switched on only here, behind the first complete packet filter.
            self._sysctls.prepare_host(ipv6=self._ipv6)
            self._warnings = tuple(
                warned.sentence for warned in self._sysctls.warnings(self._links.host_interfaces)
            )
            return [*self._links.sync(), *self._routes.sync(self._desired_routes)]
        if changes:
            self._routes.apply(changes)
        if touched:
            self._routes.links_changed(touched)
        return ()

    async def _program_bgp(self, now: float) -> None:
        if self._bird is None or self._bgp_backoff.wait(now) > 0:
            return
        if not self._bgp_changed and now < self._next_look_at_bird:
            return
        self._next_look_at_bird = now + LOOK_AT_BIRD
        self._bgp_changed = False
        try:
            if await self._bird.ensure(self._routing.configuration()) == "started":
                log.info("started BIRD")
        except (BirdError, OSError) as error:
            self._bgp_changed = True
            self._bgp_backoff.failed(now)
            self._fail("BGP", error)
            return
        self._bgp_backoff.succeeded()
        self._errors.pop("BGP", None)

    def _paused(self, now: float) -> bool:
        return self._programmed and now < self._paused_until

    def _finished(self, now: float, delta: Delta, received: float | None) -> None:
        self._rounds += 1
        if not self._programmed:
            self._programmed = True
            if self._refresh > 0:
                self._next_refresh = now + self._refresh
            log.info("%s is programmed: %d endpoints", self.node, self._network.counts()["endpoints"])
        if not self._frozen:
            # What the first picture made lives as long as the agent: keep the collector from walking it again and again.
            gc.collect()
            gc.freeze()
            self._frozen = True
        if delta and received is not None:
            elapsed = asyncio.get_running_loop().time() - received
            self._last_change = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "milliseconds": round(elapsed * 1000, 2),
                "rows": {
                    name: len(getattr(delta, name))
                    for name in Delta.__dataclass_fields__
                    if getattr(delta, name)
                },
            }

    def _fail(self, what: str, error: Exception) -> None:
        message = str(error) or type(error).__name__
        if self._errors.get(what) != message:
            log.error("%s: %s", what, message)
        self._errors[what] = message

    def _repaired(self, descriptions: Iterable[str]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for description in descriptions:
            log.warning("repaired what was changed by others: %s", description)
            self._repairs.append({"at": at, "what": description})
            self._repair_count += 1

    async def _in_kernel(self, work: Callable[[], T]) -> T:
        """Run blocking work in the one thread that talks to the kernel."""
        return await asyncio.get_running_loop().run_in_executor(self._kernel, work)

    def report(self) -> dict[str, Any]:
        """What is programmed, how long the last change took, what failed: plain data."""
        counts = self._network.counts()
        return {
            "node": self.node,
            "inSync": self._network.in_sync,
            "programmed": self._programmed and not self._errors,
            "backend": self._backend.name,
            "rounds": self._rounds,
            "counts": {
                "endpoints": counts["endpoints"],
                "policies": counts["policies"],
                "profiles": counts["profiles"],
                "sets": counts["set_infos"],
                "setMembers": counts["set_members"],
                "routes": counts["routes"],
            },
            "lastChange": self._last_change,
            "errors": dict(self._errors),
            "warnings": list(self._warnings),
            "problems": [f"{key}: {text}" for key, text in self._network.problems.items()]
            + list(self._routing.problems)
            + [f"interface {name}: {text}" for name, text in self._links.problems.items()],
            "pendingRoutes": {str(cidr): waits.reason for cidr, waits in self._routes.pending.items()},
            "repairs": {"count": self._repair_count, "latest": list(self._repairs)},
            "repairPaused": asyncio.get_running_loop().time() < self._paused_until,
        }
