"""The agent's loop with everything around it made of memory: a kernel that fails on request, and tells what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from calico.agent.loop import Loop, Parts
from calico.calculation.network import Network
from calico.desired import RouteRow
from calico.model.address import Cidr, Family
from calico.model.fact import InSync, Update
from calico.model.keys import key_of
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.programming.backend import Drift
from calico.programming.monitor import Changes, Writer
from calico.programming.routes import Pending
from calico.rendering.renderer import Renderer
from calico.ruleset.ast import Change, Table
from calico.ruleset.diff import applied
from support.clockwork import Inline, now

SOMEONE = Writer(1, "someone")


class Trouble:
    """What goes wrong next: an exception for each of the next calls (None: that one works)."""

    def __init__(self) -> None:
        self.next: list[Exception | None] = []
        self.always: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens while the call is at work."""

    def meet(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        error = self.next.pop(0) if self.next else self.always
        if error is not None:
            raise error


class FakeBackend:
    """A packet filter in memory."""

    name = "fake"

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.held: dict[Family, Table] = {}
        self.apply_trouble, self.sync_trouble = Trouble(), Trouble()
        self.syncs = self.applies = 0
        self.synced = asyncio.Event()

    def apply(self, changes: Sequence[Change]) -> None:
        self.applies += 1
        self.apply_trouble.meet()
        for change in changes:
            applied(self.held[change.family], change)
        self.story.append("rules")

    def sync(self, desired: Mapping[Family, Table]) -> list[Drift]:
        self.syncs += 1
        self.synced.set()
        self.sync_trouble.meet()
        drift = [
            Drift(family, "table calico", "changed" if family in self.held else "missing")
            for family, table in desired.items()
            if self.held.get(family) != table
        ]
        self.held = {family: deepcopy(table) for family, table in desired.items()}
        self.story.append("all rules")
        return drift

    def check(self, desired: Mapping[Family, Table]) -> list[Drift]:
        return [
            Drift(family, f"chain {name}", "changed")
            for family, table in desired.items()
            for name, chain in table.chains.items()
            if self.held[family].chains.get(name) != chain
        ]

    def remove(self) -> None:
        raise AssertionError


class FakeRoutes:
    """Routes in memory."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.held: dict[Cidr, RouteRow] = {}
        self.pending: dict[Cidr, Pending] = {}
        self.due: float | None = None
        self.trouble = Trouble()
        self.syncs = self.retries = 0
        self.touched: list[set[int]] = []

    def apply(self, changes: Mapping[Cidr, RouteRow | None]) -> None:
        self.trouble.meet()
        for cidr, row in changes.items():
            if row is None:
                self.held.pop(cidr, None)
            else:
                self.held[cidr] = row
        self.story.append("routes")

    def sync(self, desired: Mapping[Cidr, RouteRow]) -> list[Drift]:
        self.syncs += 1
        self.trouble.meet()
        drift = [Drift(4, f"route {cidr} on {row.interface}", "missing") for cidr, row in desired.items()]
        drift = [one for one, cidr in zip(drift, desired, strict=True) if cidr not in self.held]
        self.held = {cidr: row for cidr, row in desired.items() if cidr not in self.pending}
        self.story.append("all routes")
        return drift

    def links_changed(self, touched: set[int]) -> None:
        self.trouble.meet()
        self.touched.append(touched)

    def retry(self) -> None:
        if self.due is not None and self.due <= now():
            self.retries += 1
            self.due = now() + 10

    def next_due(self) -> float | None:
        return self.due

    def concerns(self, addresses: Any) -> bool:
        return any(address in self.held for address in addresses)


class FakeLinks:
    """Interfaces in memory."""

    def __init__(self) -> None:
        self.host_interfaces: dict[str, frozenset[Cidr]] = {"eth0": frozenset()}
        self.problems: dict[str, str] = {}
        self.trouble = Trouble()
        self.looks = 0

    def changed(self) -> set[str]:
        self.looks += 1
        self.trouble.meet()
        return set()

    def sync(self) -> list[Drift]:
        return []


class Agent:
    """A loop and its surroundings. ``story`` is what the kernel was told, in order."""

    def __init__(self, announcer: Any = None, **settings: Any) -> None:
        self.story: list[str] = []
        self.backend = FakeBackend(self.story)
        self.routes = FakeRoutes(self.story)
        self.links = FakeLinks()
        self.network = Network("here")
        chosen = Settings(**settings)
        self.renderer = Renderer(chosen)
        sysctls = SimpleNamespace(prepare_host=lambda ipv6: [], warnings=lambda interfaces: [])
        parts: Any = Parts(
            self.network, self.renderer, self.backend, self.routes, self.links, sysctls, announcer
        )
        self.loop = Loop("here", parts, chosen, kernel=Inline())

    def tell(self, *resources: Resource, in_sync: bool = False) -> None:
        """Facts arrive."""
        updates = [Update(key_of(resource), resource) for resource in resources]
        self.loop.receive([*updates, InSync()] if in_sync else updates)

    def forget(self, *resources: Resource) -> None:
        """Facts are gone."""
        self.loop.receive([Update(key_of(resource), None) for resource in resources])

    def disturb(self) -> None:
        """Someone commits a change to the packet filter."""
        self.loop.kernel_changed(Changes(writers=frozenset({SOMEONE})))

    async def synced(self, times: int) -> None:
        """Until the packet filter has been asked for a sync so often."""
        while self.backend.syncs < times:
            self.backend.synced.clear()
            await self.backend.synced.wait()

    @property
    def report(self) -> dict[str, Any]:
        return self.loop.report()

    @property
    def rules_are_right(self) -> bool:
        """Whether the packet filter holds exactly what is desired."""
        return self.backend.held == dict(self.renderer.tables)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """The loop at work; what ended it is raised."""
        task = asyncio.create_task(self.loop.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
