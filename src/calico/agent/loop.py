"""The one loop: facts in, kernel out, and what became of it.

In:   updates of the store (``datastore.resync``), changes of the kernel by others (``programming.monitor``), time.
Out:  the kernel as desired; ``report``, which ``agent.status`` serves. BGP is ``agent.announcer``'s, beside it.
Next: ``agent.life`` composes it.

Invariants: nothing is written before the first complete picture of facts and interfaces; rules are in the kernel before
the routes that lead to them; a failure is retried with growing pauses and never stops what already works; whatever was
lost or edited by others is found again by reading back; with nothing to do, nothing is done.

A flag is lowered before the work that it asks for, and raised again if that fails, so that what happens during the
work asks for another round. An exception in the calculation leaves tables that nobody should trust: it ends the loop,
and whoever runs it starts a new one from the store.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

from calico.agent.announcer import Announcer
from calico.agent.journal import Journal
from calico.agent.others import Others
from calico.agent.pacing import Backoff, Pace
from calico.agent.proof import concerned
from calico.agent.revocation import Revocation
from calico.calculation.fingerprint import fingerprint
from calico.calculation.network import Network
from calico.desired import Delta, EndpointId, RouteRow
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

ROUND_GAP: Final = 0.02
"""Seconds between two rounds under load: changes that arrive meanwhile are one batch."""
SETTLE_FOREIGN: Final = 0.005
"""Seconds to wait after someone else's change before reading back: tools change things in bursts."""
READ_BACK_REST: Final = 4.0
"""How many times as long as a read-back took the next one has to wait: others that write without end get a fifth of us."""
PATIENCE: Final = 2.0
"""Seconds that a question about the kernel waits for what is being programmed."""
OTHERS_REST: Final = 10.0
"""Seconds at least between two looks at the rules of others, which may be many and change often."""
NEVER: Final = float("inf")


class Unexpected(ProgrammingError):
    """Programming failed in a way that nobody thought of; the log has the details. It is tried again from the start."""


class Parts(NamedTuple):
    """What the loop works with; its own from now on."""

    network: Network
    renderer: Renderer
    backend: Backend
    routes: Routes
    links: Links
    sysctls: Sysctls
    announcer: Announcer | None
    others: Others | None = None


class Loop:
    """One agent's work. ``run`` never returns by itself; cancel it to stop: the data path stays as it is.

    ``kernel`` runs what blocks, one piece at a time: a thread of the loop's own unless given.
    """

    def __init__(
        self, node: str, parts: Parts, settings: Settings, *, kernel: Executor | None = None
    ) -> None:
        self.node = node
        self._network = parts.network
        self._renderer = parts.renderer
        self._backend = parts.backend
        self._routes = parts.routes
        self._links = parts.links
        self._sysctls = parts.sysctls
        self._announcer = parts.announcer
        self._others = parts.others
        self._refresh = settings.refresh_interval
        self._ipv6 = settings.ipv6_support
        self._forwarding = settings.ip_forwarding
        revokes = settings.established_flows == "Revoke"
        self._revocation = Revocation(settings, parts.network.state) if revokes else None

        self._kernel = kernel or ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._wake = asyncio.Event()
        self._turn = asyncio.Condition()
        self._inbox: dict[Key, Update] = {}
        self._synced = False
        self._received: float | None = None

        self._links_known = False
        self._links_stale = True
        self._touched: set[int] = set()
        # "In step": the kernel holds what was last desired, so that changes can follow one by one.
        self._tables_in_step = False
        self._routes_in_step = False
        self._changes: list[Change] = []
        self._route_changes: dict[Cidr, RouteRow | None] = {}
        self._touched_ready: set[int] = set()
        self._desired_routes: dict[Cidr, RouteRow] = {}
        self._tables_suspect = False
        self._routes_suspect = False
        self._may_read_back = True
        self._no_read_back_before = -NEVER
        self._paused_until = -NEVER
        self._next_refresh = NEVER
        self._pace = Pace(ROUND_GAP)
        self._links_backoff = Backoff(0.1, 10.0)
        self._tables_backoff = Backoff(0.1, 10.0)
        self._routes_backoff = Backoff(0.1, 10.0)
        self._others_backoff = Backoff(0.5, 30.0)
        self._others_stale = True
        self._no_look_before = -NEVER

        self._journal = Journal()
        self._warnings: tuple[str, ...] = ()
        self._rounds = 0
        self._programmed = False

    # What others tell the loop. All are called in its thread and return at once.

    def receive(self, batch: Iterable[Update | InSync]) -> None:
        """Facts from the store. A key that changes twice before the next round counts once."""
        for item in batch:
            if isinstance(item, InSync):
                self._synced = True
            else:
                self._inbox[item.key] = item
        if self._received is None:
            self._received = _now()
        self._wake.set()

    def kernel_changed(self, changes: Changes) -> None:
        """Others changed something, or we may have missed that they did."""
        if changes.lost or changes.links:
            self._links_stale = True
            self._touched |= changes.links
        if changes.lost or changes.writers:
            self._tables_suspect = self._others_stale = True
        if changes.lost or self._routes.concerns(changes.routes | changes.neighbours):
            self._routes_suspect = True
        self._wake.set()

    async def pause_repair(self, seconds: float) -> None:
        """Do not repair what others change for a while; changes of intent are still programmed.

        When it returns, a repair that was under way has ended.
        """
        self._paused_until = _now() + seconds
        self._wake.set()
        await self._in_kernel(lambda: None)

    async def prove(self, endpoint: EndpointId) -> dict[str, Any]:
        """Whether the kernel holds what is meant for an endpoint of this host: plain data, for ``agent.status``.

        Read only, and between two rounds: what is found different is repaired after the answer, if at all.
        """
        answer = {"node": self.node, "backend": self._backend.name}
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._turn.wait_for(lambda: self._settled)
            except TimeoutError:
                return {
                    **answer,
                    "state": "unknown",
                    "reason": "the agent has not programmed all that it knows",
                }
            state = self._network.state()
            row = state.endpoints.get(endpoint)
            if row is None:
                return {
                    **answer,
                    "state": "unknown",
                    "reason": "the agent knows no such endpoint of this host",
                }
            tables = self._renderer.tables
            try:
                drifts = await self._in_kernel(lambda: self._backend.check(tables))
            except (ProgrammingError, OSError) as error:
                return {**answer, "state": "unknown", "reason": f"the kernel cannot be read: {error}"}
            interfaces = (row.interface,) if endpoint.kind == "WorkloadEndpoint" else ()
            found = concerned(drifts, tables, interfaces)
        return {
            **answer,
            "state": "drifted" if found.differences else "proven",
            "differences": list(found.differences),
            "elsewhere": found.elsewhere,
            "fingerprint": fingerprint(row, state.policies, state.profiles),
        }

    @property
    def _settled(self) -> bool:
        """Whether the packet filter was given all that is known."""
        return self._network.in_sync and self._tables_in_step and not self._changes and not self._inbox

    # The loop itself.

    async def run(self) -> None:
        """Work until cancelled, or until the calculation fails."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(), name="work")
                if self._announcer is not None:
                    group.create_task(self._announcer.run(), name="announce")
                if self._revocation is not None:
                    group.create_task(self._revocation.run(), name="revoke")
        finally:
            # What the kernel was given is carried out: half a change is worse than a moment's wait.
            self._kernel.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        while True:
            await self._sleep()
            async with self._turn:
                await self._round()
                self._turn.notify_all()

    async def _sleep(self) -> None:
        """Wait for something to do, then for the pace."""
        now = _now()
        deadline = self._deadline(now)
        if not self._wake.is_set() and deadline > now:
            try:
                async with asyncio.timeout(None if deadline == NEVER else deadline - now):
                    await self._wake.wait()
            except TimeoutError:
                pass
        now = _now()
        wait = self._pace.wait(now)
        if self._tables_suspect and self._tables_in_step and not self._inbox:
            wait = max(wait, SETTLE_FOREIGN)
        await asyncio.sleep(wait)
        self._wake.clear()

    def _deadline(self, now: float) -> float:
        """When there is something to do even if nobody says so. Never a moment at which a round would do nothing."""
        if not self._network.in_sync:
            return NEVER
        times = [self._next_refresh]
        if self._links_stale:
            times.append(now + self._links_backoff.wait(now))
        if self._links_known:
            times.append(self._kernel_deadline(now))
        if self._programmed and self._others is not None and self._others_stale:
            times.append(max(now + self._others_backoff.wait(now), self._no_look_before))
        return min(times)

    def _kernel_deadline(self, now: float) -> float:
        """When the packet filter or the routes are to be written, or read back."""
        wait = self._tables_backoff.wait(now)
        if wait > 0 or not self._tables_in_step:
            return now + wait
        read_back = max(self._paused_until, self._no_read_back_before)
        times = [read_back if self._tables_suspect else NEVER]
        wait = self._routes_backoff.wait(now)
        if wait > 0 or not self._routes_in_step:
            times.append(now + wait)
        else:
            times.append(read_back if self._routes_suspect else NEVER)
            due = self._routes.next_due()
            if due is not None and not (due <= now and self._routes_suspect):
                times.append(due)
        return min(times)

    async def _round(self) -> None:
        """Bring everything that changed one step through the house."""
        now = _now()
        self._pace.started(now)
        self._may_read_back = now >= max(self._paused_until, self._no_read_back_before)
        self._take_facts()
        if not self._network.in_sync:
            return
        if now >= self._next_refresh:
            self._next_refresh = now + self._refresh
            self._links_stale = self._tables_suspect = self._routes_suspect = self._others_stale = True
        delta = self._network.settle()
        self._remember(delta)
        interfaces = await self._look_at_links()
        if self._revocation is not None and interfaces is not None:
            self._revocation.look(interfaces)
        changes = self._renderer.update(delta, interfaces)
        if self._tables_in_step:
            self._changes += changes
        if not self._links_known:
            # Without the host's interfaces the rules are none that protect them.
            return
        # Rules first: an endpoint whose policy is not in the kernel gets no route.
        if await self._program_tables() and await self._program_routes():
            self._finished()
        if self._programmed:
            await self._look_at_others()

    def _take_facts(self) -> None:
        inbox, self._inbox = self._inbox, {}
        received, self._received = self._received, None
        self._journal.received(received)
        if self._announcer is not None:
            for update in inbox.values():
                self._announcer.take(update)
        self._network.update(inbox.values())
        if self._synced:
            self._synced = False
            self._network.update((InSync(),))
            if self._announcer is not None:
                self._announcer.begin()

    def _remember(self, delta: Delta) -> None:
        """What has to be programmed now, however long it takes until it can be."""
        self._route_changes.update(delta.routes)
        self._journal.calculated(delta)
        if self._revocation is not None:
            self._revocation.note(delta)

    async def _look_at_links(self) -> Mapping[str, frozenset[Cidr]] | None:
        """The host's interfaces if they may differ from the last look, which also made new ones ready."""
        if not self._links_stale or self._links_backoff.wait(_now()) > 0:
            return None
        self._links_stale = False
        touched, self._touched = self._touched, set()
        try:
            await self._in_kernel(self._links.changed)
        except (ProgrammingError, OSError) as error:
            self._links_stale = True
            self._touched |= touched
            self._journal.failed("interfaces", error, self._links_backoff, _now())
            return None
        self._links_known = True
        self._touched_ready |= touched
        self._journal.succeeded("interfaces", self._links_backoff)
        return self._links.host_interfaces

    async def _program_tables(self) -> bool:
        """Whether the packet filter is as desired."""
        now = _now()
        if self._tables_backoff.wait(now) > 0:
            return False
        changes, self._changes = self._changes, []
        in_step, read_back = self._tables_in_step, self._tables_suspect and self._may_repair
        if read_back or not in_step:
            self._tables_suspect = False
        try:
            if changes:
                # First our own changes, so that what the read-back finds different is someone else's doing.
                await self._in_kernel(lambda: self._backend.apply(changes))
            if read_back or not in_step:
                drifts = await self._in_kernel(lambda: self._backend.sync(self._renderer.tables))
                if in_step:
                    self._rest_after(now)
                    self._journal.repaired(drifts)
                    if drifts and self._revocation is not None:
                        self._revocation.repaired()
        except (ProgrammingError, OSError) as error:
            self._tables_in_step = False
            self._journal.failed("packet filter", error, self._tables_backoff, _now())
            return False
        self._tables_in_step = True
        self._journal.succeeded("packet filter", self._tables_backoff)
        if self._revocation is not None:
            self._revocation.programmed()
        return True

    async def _program_routes(self) -> bool:
        """Whether all routes that can be in the kernel are."""
        now = _now()
        changes, self._route_changes = self._route_changes, {}
        for cidr, row in changes.items():
            if row is None:
                self._desired_routes.pop(cidr, None)
            else:
                self._desired_routes[cidr] = row
        touched, self._touched_ready = self._touched_ready, set()
        if self._routes_backoff.wait(now) > 0:
            return False
        in_step, read_back = self._routes_in_step, self._routes_suspect and self._may_repair
        try:
            if read_back or not in_step:
                self._routes_suspect = False
                refused = self._refused()
                drifts = await self._in_kernel(self._sync_routes)
                if in_step:
                    self._rest_after(now)
                    self._journal.repaired(drift for drift in drifts if drift.what not in refused)
            else:
                await self._in_kernel(lambda: self._follow_routes(changes, touched))
        except (ProgrammingError, OSError) as error:
            self._routes_in_step = False
            self._journal.failed("routes", error, self._routes_backoff, _now())
            return False
        self._routes_in_step = True
        due = self._routes.next_due()
        if due is not None and due <= _now():
            self._routes_suspect = True  # what stayed for its interface's sake may go now
        self._journal.succeeded("routes", self._routes_backoff)
        return True

    async def _look_at_others(self) -> None:
        """What others have in the packet filter, and what a former back end of ours left there, which goes."""
        now = _now()
        others = self._others
        if others is None or not self._others_stale:
            return
        if self._others_backoff.wait(now) > 0 or now < self._no_look_before:
            return
        self._others_stale = False
        self._no_look_before = now + OTHERS_REST
        try:
            for name in await self._in_kernel(others.look):
                log.info("removed what %s held of ours: the back end is %s now", name, self._backend.name)
        except (ProgrammingError, OSError) as error:
            self._others_stale = True
            self._no_look_before = -NEVER
            self._journal.failed("former back end", error, self._others_backoff, _now())
        else:
            self._journal.succeeded("former back end", self._others_backoff)

    @property
    def _may_repair(self) -> bool:
        return self._may_read_back and _now() >= self._paused_until

    def _sync_routes(self) -> list[Drift]:
        # Forwarding is switched on only here, behind the first complete packet filter.
        if self._forwarding:
            self._sysctls.prepare_host(ipv6=self._ipv6)
        self._warnings = tuple(
            warned.sentence for warned in self._sysctls.warnings(self._links.host_interfaces)
        )
        return [*self._links.sync(), *self._routes.sync(self._desired_routes)]

    def _follow_routes(self, changes: Mapping[Cidr, RouteRow | None], touched: set[int]) -> None:
        if changes:
            self._routes.apply(changes)
        if touched:
            self._routes.links_changed(touched)
        self._routes.retry()

    def _refused(self) -> set[str]:
        """The routes that the kernel refused before, in the words of a drift: that they are missing is nobody's doing."""
        return {
            f"route {cidr} on {pending.interface}"
            for cidr, pending in self._routes.pending.items()
            if not pending.waits
        }

    def _rest_after(self, started: float) -> None:
        now = _now()
        self._no_read_back_before = now + READ_BACK_REST * (now - started)

    def _finished(self) -> None:
        self._rounds += 1
        if not self._programmed:
            self._programmed = True
            if self._refresh > 0:
                self._next_refresh = _now() + self._refresh
            log.info("%s is programmed: %d endpoints", self.node, self._network.counts()["endpoints"])
            # What the first picture made lives as long as the agent: keep the collector from walking it again and again.
            # What a former life left behind must not stay with it.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        self._journal.finished(_now())

    # What became of it.

    @property
    def programmed(self) -> bool:
        """Whether everything has been in the kernel at least once."""
        return self._programmed

    async def _in_kernel(self, work: Callable[[], T]) -> T:
        """Run blocking work in the one thread that talks to the kernel."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._kernel, work)
        except (ProgrammingError, OSError):
            raise
        except Exception as error:
            log.exception("unexpected error in what talks to the kernel")
            raise Unexpected(f"unexpected {type(error).__name__}: {error}; the log has more") from error

    def report(self) -> dict[str, Any]:
        """What is programmed, how long the last change took, what failed: plain data."""
        counts = self._network.counts()
        announcer = self._announcer
        errors = dict(self._journal.errors)
        if announcer is not None and announcer.error is not None:
            errors["BGP"] = announcer.error
        revocation = self._revocation
        if revocation is not None and revocation.error is not None:
            errors["established flows"] = revocation.error
        pending = self._routes.pending
        refused = sorted(cidr for cidr, why in pending.items() if not why.waits)
        if refused and "routes" not in errors:
            errors["routes"] = (
                f"{len(refused)} refused, and tried again, such as {refused[0]}: {pending[refused[0]].reason}"
            )
        return {
            "node": self.node,
            "inSync": self._network.in_sync,
            "programmed": self._programmed and not errors,
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
            "lastChange": self._journal.last_change,
            "errors": errors,
            "warnings": [
                *self._warnings,
                *(self._others.warnings if self._others is not None else ()),
                *(revocation.warnings if revocation is not None else ()),
            ],
            "problems": list(self._network.problems.values())
            + list(announcer.problems if announcer is not None else ())
            + [f"interface {name}: {text}" for name, text in self._links.problems.items()],
            "pendingRoutes": {str(cidr): waits.reason for cidr, waits in pending.items()},
            "revoked": revocation.ended if revocation is not None else 0,
            "repairs": self._journal.repairs,
            "repairPaused": _now() < self._paused_until,
        }


def _now() -> float:
    return asyncio.get_running_loop().time()
