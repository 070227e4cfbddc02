"""The host endpoints that this host's node gets by itself, beside the loop: stored, kept up to date, removed.

In:   facts: the nodes, KubeControllersConfiguration, and the host endpoints that were made so.
Out:  HostEndpoint resources in the store, as ``calculation.automatic`` wants them; ``error`` and ``problems``, for the report.
Next: the store tells every agent of them, this one too, and ``agent.loop`` enforces them as it does others.

Each agent sees to those of its own node. When a node is gone so is its agent, mostly: then all others see to what it
left, each after a while of its own, so that mostly one does it. Every write is made over what was just read, and only
if the label there says that it was made so: what somebody else made is never touched, not even in a race.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from calico.agent.pacing import Backoff, Pace
from calico.calculation.automatic import NOTHING, Wanted, alike, automatic, is_automatic
from calico.datastore.api import Conflict, Denied, Store, StoreError
from calico.datastore.typed import Resources, Stored
from calico.model.cluster import KubeControllersConfiguration
from calico.model.endpoint import HostEndpoint
from calico.model.errors import ModelError
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.node import Node

log = logging.getLogger(__name__)

_KIND: Final = "HostEndpoint"
_CONFIGURATION: Final = Key("KubeControllersConfiguration", "default")
GAP: Final = 0.2
"""Seconds between two looks at what there is to do: facts that change meanwhile are one."""
LONGEST_REST: Final = 3.0
"""Seconds that what a node has left behind waits at most for this agent: others see it at the same moment."""


class _InTheWay(Exception):
    """Something has the name of an automatic host endpoint and is none; the sentence says so."""


class HostEndpoints:
    """Those of one host.

    ``unreadable`` says of a fact that it is stored but cannot be read: then it is not gone, and nothing is removed for
    it. ``rest`` gives the seconds that what others have left behind waits for this agent.
    """

    def __init__(
        self,
        node: str,
        unreadable: Callable[[Key], bool] = lambda _: False,
        *,
        rest: Callable[[], float] | None = None,
    ) -> None:
        self._node = node
        self._unreadable = unreadable
        self._rest = rest or _some_seconds
        self._nodes: dict[str, Node | None] = {}
        self._configuration: KubeControllersConfiguration | None = None
        self._stored: dict[str, HostEndpoint] = {}
        self._wanted: Wanted | None = NOTHING
        self._in_sync = False
        self._wake = asyncio.Event()
        self._pace = Pace(GAP)
        self._backoff = Backoff(0.5, 30.0)
        self._in_the_way: tuple[str, ...] = ()
        self.error: str | None = None
        """Why they are not as they should be; None while they are."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What of them could not be made, for people."""
        return (*(self._wanted.problems if self._wanted is not None else ()), *self._in_the_way)

    def take(self, batch: Iterable[Update | InSync]) -> None:
        """Take note of facts; most do not matter here."""
        for item in batch:
            if isinstance(item, InSync):
                self._in_sync = True
                self._wake.set()
            elif self._noted(item):
                self._wake.set()

    def _noted(self, update: Update) -> bool:
        key, value = update
        match key.kind:
            case "Node":
                self._nodes.pop(key.name, None)
                if isinstance(value, Node):
                    # Of other nodes only that they are there matters.
                    self._nodes[key.name] = value if key.name == self._node else None
                if key.name == self._node:
                    self._wanted = None
            case "KubeControllersConfiguration":
                self._configuration = value if isinstance(value, KubeControllersConfiguration) else None
                self._wanted = None
            case "HostEndpoint":
                self._stored.pop(key.name, None)
                if isinstance(value, HostEndpoint) and is_automatic(value):
                    self._stored[key.name] = value
            case _:
                return False
        return True

    async def run(self, store: Store) -> None:
        """Work until cancelled."""
        resources = Resources(store)
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout(self._backoff.wait(clock()) if self._backoff.failing else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(max(self._pace.wait(clock()), self._backoff.wait(clock())))
            self._wake.clear()
            self._pace.started(clock())
            if self._in_sync:
                await self._bring(resources)

    async def _bring(self, resources: Resources) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await self._own(resources)
            if self._abandoned():
                await asyncio.sleep(self._rest())
                for name, node in self._abandoned():
                    await self._remove(resources, name, node)
        except Conflict:
            # Others were quicker: what they wrote is read again, and the store tells of it, too.
            self._backoff.failed(clock())
        except Exception as error:  # noqa: BLE001  whatever it is, they alone must suffer from it, and be tried again
            self._failed(error)
            self._backoff.failed(clock())
        else:
            self._backoff.succeeded()
            if self.error is not None:
                log.info("host endpoints: in order again")
            self.error = None

    async def _own(self, resources: Resources) -> None:
        """Bring those of this node to what is wanted."""
        if self._unreadable(_CONFIGURATION) or self._unreadable(Key("Node", self._node)):
            return
        if self._wanted is None:
            node = self._nodes.get(self._node)
            self._wanted = automatic(node, self._configuration) if node is not None else NOTHING
            for problem in self._wanted.problems:
                log.warning("%s", problem)
        wanted, in_the_way = self._wanted, []
        for name, endpoint in wanted.endpoints.items():
            stored = self._stored.get(name)
            if stored is None or not alike(stored, endpoint):
                try:
                    self._stored[name] = await self._write(resources, endpoint)
                except _InTheWay as found:
                    in_the_way.append(str(found))
        self._in_the_way = tuple(in_the_way)
        mine = [name for name, each in self._stored.items() if each.spec.node == self._node]
        for name in mine:
            if name not in wanted.endpoints:
                await self._remove(resources, name, self._node)

    def _abandoned(self) -> list[tuple[str, str]]:
        """Those of nodes that are no more, each with its node."""
        return [
            (name, each.spec.node)
            for name, each in self._stored.items()
            if each.spec.node != self._node and not self._exists(each.spec.node)
        ]

    def _exists(self, node: str) -> bool:
        return node in self._nodes or self._unreadable(Key("Node", node))

    async def _write(self, resources: Resources, endpoint: HostEndpoint) -> HostEndpoint:
        """Store ``endpoint``, unless somebody else's has its name."""
        found = await resources.find(Key(_KIND, endpoint.metadata.name))
        if found is None:
            log.info("host endpoint %s is made for this node", endpoint.metadata.name)
            return await resources.create(endpoint)
        current = _read(found)
        name = endpoint.metadata.name
        if current is None or not is_automatic(current):
            raise _InTheWay(
                f"HostEndpoint/{name} was made by somebody else, so the automatic one of that name is not made: "
                "give it another name, or remove it"
            )
        if current.spec.node != self._node and self._exists(current.spec.node):
            raise _InTheWay(
                f"HostEndpoint/{name} is node {current.spec.node}'s automatic one, so this node has none of that "
                "name: let the template have another generateName"
            )
        if alike(current, endpoint):
            return current
        annotations = {**current.metadata.annotations, **endpoint.metadata.annotations}
        metadata = replace(endpoint.metadata, annotations=annotations)
        log.info("host endpoint %s follows its node", endpoint.metadata.name)
        return await resources.put(replace(endpoint, metadata=metadata), found)

    async def _remove(self, resources: Resources, name: str, node: str) -> None:
        """Remove the host endpoint ``name`` if it is still there and was made for ``node``."""
        found = await resources.find(Key(_KIND, name))
        current = None if found is None else _read(found)
        if found and current and is_automatic(current) and current.spec.node == node:
            await resources.delete(found.key, resource_version=str(found.entry.revision))
            log.info("host endpoint %s is removed: nothing asks for it any more", name)
        self._stored.pop(name, None)

    def _failed(self, error: Exception) -> None:
        expected = isinstance(error, StoreError)
        sentence = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
        if isinstance(error, Denied):
            sentence += (
                "; agents need the role calico-host-endpoints to make host endpoints for their nodes: see "
                "docs/operate/access.md, or set autoCreate to Disabled in KubeControllersConfiguration/default"
            )
        if sentence != self.error:
            log.error("host endpoints: %s", sentence, exc_info=None if expected else error)
        self.error = sentence


def _read(found: Stored) -> HostEndpoint | None:
    try:
        resource = found.resource()
    except ModelError:
        return None
    return resource if isinstance(resource, HostEndpoint) else None


def _some_seconds() -> float:
    return random.uniform(0.0, LONGEST_REST)  # noqa: S311  jitter is no secret
