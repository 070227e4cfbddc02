"""Established flows that policy no longer allows, beside the loop: found in connection tracking, and ended.

In:   that something which may change verdicts was programmed; the desired state, and the host's interfaces.
Out:  conntrack entries gone, exactly those that ``analysis.flows`` denies; ``error``, and ``ended``, for the report.
Next: the next packet of such a flow meets policy as the first one would.

Only where the setting ``establishedFlows`` is Revoke. What it costs is proportional to the flows that the host tracks:
so it waits for a change, takes changes that come together as one, works in a thread of its own, and rests longer
than it worked. A flow that began after the change was judged by it; the one pass that follows is enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from calico.agent.pacing import Backoff
from calico.analysis.flows import Judge, Surroundings, TrackedFlow, ports
from calico.calculation.oracle import State
from calico.desired import Delta
from calico.model.address import Cidr, Family
from calico.model.settings import Settings
from calico.programming.backend import ProgrammingError
from calico.programming.conntrack import Deleted, Entry, forget_chosen
from calico.programming.links import take_inventory
from calico.programming.netlink import ROUTE, Channel
from calico.programming.rtnetlink import interface_towards

log = logging.getLogger(__name__)

GAP: Final = 1.0
"""Seconds at least from the end of one pass to the next: changes that are programmed meanwhile are one."""
REST: Final = 4.0
"""How many times as long as a pass took the next one waits."""

RESUMABLE: Final = (
    "net.netfilter.nf_conntrack_tcp_loose cannot be set to 0: a TCP connection that policy denies now, but not in the "
    "other direction, may go on; set it yourself, or let the agent write to /proc/sys"
)

Revoke = Callable[[State, Settings], Deleted]


class Revocation:
    """One host's. ``state`` gives the desired state; ``revoke`` and ``thread`` are replaced by tests."""

    def __init__(
        self,
        settings: Settings,
        state: Callable[[], State],
        *,
        revoke: Revoke | None = None,
        thread: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._revoke = revoke or revoke_denied
        self._thread = thread
        self._noted = True  # policy may have changed while no agent looked
        self._due = asyncio.Event()
        self._interfaces: Mapping[str, frozenset[Cidr]] | None = None
        self._backoff = Backoff(0.5, 30.0)
        self.error: str | None = None
        """Why the last pass failed; None if it did not."""
        self.ended = 0
        """How many flows were ended so far."""
        self.warnings: tuple[str, ...] = ()
        """What may bring flows back that were ended."""

    def note(self, delta: Delta) -> None:
        """This will be programmed."""
        if delta.policies or delta.profiles or delta.endpoints or delta.set_members or delta.routes:
            self._noted = True

    def look(self, interfaces: Mapping[str, frozenset[Cidr]]) -> None:
        """The host's own interfaces: which endpoint governs them follows from their names and addresses."""
        if interfaces != self._interfaces:
            self._interfaces = interfaces
            self._noted = True

    def repaired(self) -> None:
        """The packet filter was not what it should be: flows may have begun that it would not have let begin."""
        self._noted = True

    def programmed(self) -> None:
        """What was noted is in the packet filter."""
        if self._noted:
            self._noted = False
            self._due.set()

    async def run(self) -> None:
        """Judge all flows after each change, until cancelled."""
        thread = self._thread or ThreadPoolExecutor(max_workers=1, thread_name_prefix="flows")
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                await asyncio.sleep(await self._pass(thread))
        finally:
            thread.shutdown(wait=True, cancel_futures=True)

    async def _pass(self, thread: Executor) -> float:
        """One pass; how many seconds to rest."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        state = self._state()
        try:
            deleted = await loop.run_in_executor(thread, self._revoke, state, self._settings)
        except (ProgrammingError, OSError) as error:
            return self._failed(str(error))
        except Exception as error:
            log.exception("unexpected error in judging established flows")
            return self._failed(f"unexpected {type(error).__name__}: {error}; the log has more")
        self.ended += deleted.entries
        if deleted.resumable:
            self.warnings = (RESUMABLE,)
        if deleted.entries:
            log.info("ended %d established flows that policy denies now", deleted.entries)
        if deleted.refused:
            return self._failed(
                f"the kernel would not delete {deleted.refused} connections that policy denies now"
            )
        self.error = None
        self._backoff.succeeded()
        return max(GAP, REST * (loop.time() - started))

    def _failed(self, why: str) -> float:
        """It is tried again; the pause before that."""
        if why != self.error:
            log.error("established flows: %s", why)
        self.error = why
        self._due.set()
        return max(GAP, self._backoff.failed(asyncio.get_running_loop().time()))


def revoke_denied(state: State, settings: Settings) -> Deleted:
    """End every established flow of this host's endpoints that ``state`` denies, and no other. Blocks.

    Raises Missing where the kernel tracks no connections, Busy if it does not answer.
    """
    inventory = take_inventory()
    names = {link.number: name for name, link in inventory.links.items()}
    known: dict[Cidr, str | None] = {}
    with Channel(ROUTE) as channel:

        def towards(address: Cidr) -> str | None:
            if address not in known:
                known[address] = names.get(interface_towards(channel, address) or 0)
            return known[address]

        judge = Judge(
            state,
            settings,
            Surroundings(
                inventory.host_interfaces(settings.interface_prefix),
                frozenset[Cidr]().union(*inventory.addresses.values()),
                towards,
            ),
        )
        families: tuple[Family, ...] = (4, 6) if settings.ipv6_support else (4,)
        return forget_chosen(lambda entry: judge.denies(flow_of(entry)), families)


def flow_of(entry: Entry) -> TrackedFlow:
    """A tracked connection, as policy sees it."""
    source_port, asked_port, destination_port = ports(
        entry.protocol, entry.source_port, entry.destination_port, entry.replies_from_port
    )
    return TrackedFlow(
        source=entry.source,
        asked=entry.destination,
        destination=entry.replies_from,
        protocol=entry.protocol,
        source_port=source_port,
        asked_port=asked_port,
        destination_port=destination_port,
        icmp_type=entry.icmp_type,
        icmp_code=entry.icmp_code,
        expected=entry.expected,
    )
