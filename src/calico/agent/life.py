"""One life of the agent: every part of it, made anew from what the store says.

In:   a store; the local settings.
Out:  the host as the store wants it, until the life is cancelled or something ends it; ``report``.
Next: ``agent.lives`` begins the next one, ``agent.main`` serves the report.

The settings are read first, for a loop that was begun with others would only be thrown away. When they change, the
life ends: the next one reads everything anew, and changes in the kernel only what is different then.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from calico.agent.announcer import Announcer
from calico.agent.collecting import Collecting
from calico.agent.directives import Directives, Gate
from calico.agent.hostendpoints import HostEndpoints
from calico.agent.loop import Loop, Parts
from calico.agent.others import Others
from calico.agent.shortfalls import Shortfalls
from calico.bgp.daemon import Bird
from calico.calculation.network import Network
from calico.datastore import resync
from calico.datastore.api import Store
from calico.datastore.location import Datastore
from calico.desired import EndpointId
from calico.model import codec
from calico.model.fact import InSync
from calico.model.keys import ROOT, Key, kind_prefix
from calico.model.settings_sources import Resolved, Source
from calico.programming.backend import Backend
from calico.programming.links import Links
from calico.programming.monitor import Monitor
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from calico.rendering.renderer import Renderer

log = logging.getLogger(__name__)

TELLING: Final = 1.0
"""Seconds after which the log tells of a store that was lost, or is back, at the latest."""

UNTOLD_REFRESH: Final = 10.0
"""Seconds between read-backs at most, where the kernel tells nobody of changes: iptables-legacy."""


class Circumstances(NamedTuple):
    """What stays the same from one life to the next."""

    node: str
    datastore: Datastore
    backend: Callable[[], Backend]
    bird: Bird | None
    secrets: Path
    """Where the passwords of BGP sessions are."""
    router_id: str
    """What BGP should call this node: an IPv4 address, "hash", or "" for its own address."""
    local: Sequence[Source]
    """The settings of the environment and the file, strongest first."""
    severity: Callable[[str], None]
    """Log from this severity on."""
    remove_former: Callable[[str], list[str]]
    """Take away what other back ends than the one of this name hold of ours."""


class Life:
    """Nothing is read or written before ``run``."""

    def __init__(self, circumstances: Circumstances) -> None:
        self._around = circumstances
        self._stream = resync.Status()
        self._backend = circumstances.backend()
        kind = "nftables" if self._backend.name == "nftables" else "iptables"
        self._directives = Directives(circumstances.node, kind, circumstances.local)
        self._shortfalls = Shortfalls(circumstances.node)
        self._collecting = Collecting(circumstances.node)
        self._host_endpoints = HostEndpoints(circumstances.node, lambda key: key.path in self._stream.bad)
        self._resolved = self._directives.resolved
        self._settings = self._resolved.settings
        self._gate = Gate(self._directives, self._settings)
        self.loop = self._make_loop()

    def _make_loop(self) -> Loop:
        node, bird = self._around.node, self._around.bird
        settings = self._settings
        if self._backend.name == "iptables-legacy" and settings.refresh_interval > UNTOLD_REFRESH:
            settings = replace(settings, refresh_interval=UNTOLD_REFRESH)
        parts = Parts(
            network=Network(node),
            renderer=Renderer(settings),
            backend=self._backend,
            routes=Routes(settings),
            links=Links(settings),
            sysctls=Sysctls(),
            announcer=self._make_announcer(bird) if bird else None,
            others=Others(
                self._backend.name,
                settings.interface_prefix,
                lambda: self._around.remove_former(self._backend.name),
            ),
        )
        return Loop(node, parts, settings)

    def _make_announcer(self, bird: Bird) -> Announcer:
        around = self._around
        return Announcer(
            around.node,
            bird,
            self._settings.interface_prefix,
            passwords=around.secrets,
            router_id=around.router_id,
        )

    @property
    def programmed(self) -> bool:
        """Whether everything has been in the kernel."""
        return self.loop.programmed

    async def run(self) -> None:
        """Live until cancelled; Renewal when the settings change."""
        # An agent takes away what the store does not have: it must not make an empty one.
        store = self._around.datastore.open(make=False)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_of_store(), name="tell of store")
                await self._learn_settings(store)
                group.create_task(self.loop.run(), name="loop")
                group.create_task(self._read_store(store), name="store")
                group.create_task(self._host_endpoints.run(store), name="host endpoints")
                group.create_task(self._collecting.run(store), name="collect addresses")
                group.create_task(_watch_kernel(self.loop), name="kernel")
        finally:
            await store.close()

    async def _tell_of_store(self) -> None:
        """Log that the store is lost, and that it is back, once each."""
        there = True
        while True:
            status = self._stream
            if status.connected and not there:
                log.info("the store is back")
                there = True
            elif there and not status.connected and status.error:
                log.warning("the store is lost (%s); what is known stays in force", status.error)
                there = False
            await asyncio.sleep(TELLING)

    async def _learn_settings(self, store: Store) -> None:
        await self._learn(store, kind_prefix("FelixConfiguration"))
        if self._directives.selective:
            await self._learn(store, Key("Node", self._around.node).path)
        resolved = self._directives.resolved
        for problem in resolved.problems:
            log.warning("%s", problem)
        for name, value, source in resolved.chosen:
            log.info("setting %s: %s (%s)", name, value, source)
        self._around.severity(resolved.settings.log_severity)
        if resolved.settings != self._settings:
            self._settings = resolved.settings
            self._gate = Gate(self._directives, self._settings)
            self.loop = self._make_loop()

    async def _learn(self, store: Store, prefix: str) -> None:
        """Take in the facts under ``prefix``, as soon as the store can be read."""
        updates = self._updates(store, prefix)
        try:
            async for batch in updates:
                for item in batch:
                    if isinstance(item, InSync):
                        return
                    self._directives.take(item)
        finally:
            await updates.aclose()

    async def _read_store(self, store: Store) -> None:
        async for batch in self._updates(store):
            for item in batch:
                if not isinstance(item, InSync):
                    self._shortfalls.take(item)
            passed = self._gate.through(batch)
            self.loop.receive(passed)
            self._host_endpoints.take(passed)
            # A long listing comes in many batches: let the loop answer questions in between.
            await asyncio.sleep(0)
        raise RuntimeError("the stream of facts ended")

    def _updates(self, store: Store, prefix: str = ROOT) -> AsyncGenerator[resync.Batch, None]:
        updates = resync.updates(
            store, decode=codec.decode, pause=_pause, clock=time.monotonic, prefix=prefix, status=self._stream
        )
        assert isinstance(updates, AsyncGenerator)
        return updates

    def report(self) -> dict[str, Any]:
        """How this life goes: plain data."""
        report = self.loop.report()
        resolved = self._in_force()
        bad = [f"{path} cannot be read: {why}" for path, why in sorted(self._stream.bad.items())]
        endpoints = self._host_endpoints
        errors = report["errors"] | ({"host endpoints": endpoints.error} if endpoints.error else {})
        return {
            **report,
            "errors": errors,
            "programmed": report["programmed"] and not errors,
            "problems": [*report["problems"], *bad, *endpoints.problems],
            "warnings": [*resolved.problems, *report["warnings"]],
            "settings": [chosen._asdict() for chosen in resolved.chosen],
            "noEffect": [*resolved.idle, *self._shortfalls.sentences()],
            "store": self._store(),
            "collector": self._collecting.report(),
        }

    def _in_force(self) -> Resolved:
        """What this life goes by: other settings that the store has by now are for the next one, or wait for its unlocking."""
        if self._directives.resolved.settings == self._settings:
            self._resolved = self._directives.resolved
        return self._resolved

    async def prove(self, endpoint: object) -> dict[str, Any]:
        """Whether the kernel holds what the store means for ``endpoint``: [kind, namespace, name]. Plain data."""
        match endpoint:
            case [str(kind), str(namespace), str(name)]:
                store = self._store()
                answer = await self.loop.prove(EndpointId(kind, namespace, name))
            case _:
                return {"error": "prove: endpoint must be [kind, namespace, name]"}
        if answer["state"] != "unknown" and (not store["connected"] or store["held"]):
            answer |= {"state": "unknown", "reason": f"the agent's store is {store['state']}"}
        return {**answer, "store": store["location"]}

    def _store(self) -> dict[str, Any]:
        status = self._stream
        locked = self._directives.locked
        if status.connected:
            state = "connected"
            if locked:
                state += (
                    ", but locked (ClusterInformation/default says that it is not ready): nothing is changed until "
                    "it is unlocked"
                )
        elif status.error:
            state = f"lost ({status.error}); what is known stays in force"
        else:
            state = "not read yet"
        return {
            "location": str(self._around.datastore),
            "state": state,
            "connected": status.connected,
            "locked": locked,
            "held": self._gate.held,
            "revision": status.revision,
            "losses": status.losses,
            "bad": dict(status.bad),
        }


async def _pause(seconds: float) -> None:
    """Wait about so long: agents that lost one store at one moment do not come back at one moment."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311  jitter is no secret


async def _watch_kernel(loop: Loop) -> None:
    with Monitor() as monitor:
        async for changes in monitor.changes():
            loop.kernel_changed(changes)
