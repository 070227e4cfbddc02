"""The agent's composition: every part made and joined on one page.

In:   ``Configuration``, from the command line and the environment.
Out:  a running agent, until SIGTERM or SIGINT; the data path stays as it is afterwards.
Next: ``agent.loop`` does the work, ``agent.status`` answers questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

import calico
from calico.agent.announcer import Announcer
from calico.agent.claim import ClaimedError, claim
from calico.agent.lives import GaveUpError, Lives
from calico.agent.loop import Loop, Parts
from calico.agent.status import serve
from calico.bgp.control import BirdError
from calico.bgp.daemon import Bird
from calico.calculation.network import Network
from calico.datastore import resync
from calico.datastore.api import Store, StoreError
from calico.datastore.location import Datastore
from calico.model import codec
from calico.model.settings import Settings, from_environment
from calico.paths import Paths
from calico.programming.backend import Backend, ProgrammingError
from calico.programming.links import Links
from calico.programming.monitor import Monitor
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from calico.rendering.renderer import Renderer

log = logging.getLogger(__name__)

UNTOLD_REFRESH: Final = 10.0
"""Seconds between read-backs at most, where the kernel tells nobody of changes: iptables-legacy."""

BIRD_PATIENCE: Final = 2.0
"""Seconds that an answer about the agent waits for BIRD: less than whoever asked waits for the agent."""


class StartError(Exception):
    """The agent cannot run here; the sentence says why and what to do."""


@dataclass(frozen=True)
class Configuration:
    """What an agent is told before it can read the store."""

    node: str | None
    store: Datastore
    paths: Paths
    backend: str
    bgp: bool
    log_level: str
    environment: Mapping[str, str]


def run(configuration: Configuration) -> None:
    """Run an agent in the foreground until it is told to stop. Raises ``StartError``."""
    if os.geteuid() != 0:
        raise StartError("the agent programs routes and the packet filter: run it as root")
    logging.basicConfig(
        level=configuration.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    node = node_name(configuration)
    try:
        configuration.store.check()
        asyncio.run(_agent(node, configuration))
    except (GaveUpError, ProgrammingError, StoreError) as error:
        raise StartError(str(error)) from error


def node_name(configuration: Configuration) -> str:
    """This host's name: as told, else NODENAME, else what an earlier start wrote down, else the host's own, lower case."""
    if configuration.node:
        return configuration.node
    if name := configuration.environment.get("NODENAME"):
        return name
    file = configuration.paths.data / "nodename"
    try:
        if name := file.read_text(encoding="utf-8").strip():
            return name
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"{file} cannot be read: {error}; mend it, or give the node's name with --node"
        ) from error
    return socket.gethostname().lower()


def make_backend(name: str, paths: Paths) -> Backend:
    """The back end called ``name``; "iptables" is the variant that this host's other software uses."""
    if name == "nftables":
        from calico.programming.nft import Nftables

        return Nftables()
    from calico.programming.iptables import Iptables, detect_variant

    lock = str(paths.run / "xtables.lock")
    match name:
        case "iptables-nft":
            return Iptables("nft", lock)
        case "iptables-legacy":
            return Iptables("legacy", lock)
        case "iptables":
            return Iptables(detect_variant(), lock)
    raise StartError(f"{name!r} is no back end; known are nftables, iptables, iptables-nft, iptables-legacy")


async def _agent(node: str, configuration: Configuration) -> None:
    paths = configuration.paths
    settings, misunderstood = from_environment(configuration.environment)
    for sentence in misunderstood:
        log.warning("%s", sentence)
    bird = Bird(paths.run) if configuration.bgp else None
    lives = Lives(lambda: _Life(node, configuration, settings, bird))
    started = time.monotonic()

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        life = lives.current
        match request.get("command"):
            case "status":
                report = life.report()
                if lives.trouble:
                    report["errors"]["agent"] = lives.trouble
                    report["programmed"] = False
                return {
                    **report,
                    "warnings": [*misunderstood, *report["warnings"]],
                    "pid": os.getpid(),
                    "version": calico.__version__,
                    "uptimeSeconds": time.monotonic() - started,
                    "bgp": await _sessions(bird),
                }
            case "pause-repair":
                seconds = request.get("seconds")
                if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
                    return {"error": "pause-repair: seconds must be a number from 0 to 3600"}
                await life.loop.pause_repair(seconds)
                return {"paused": seconds}
        return {"error": f"unknown command {request.get('command')!r}; known are status, pause-repair"}

    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(claim())
            paths.run.mkdir(parents=True, exist_ok=True, mode=0o750)
            server = await serve(paths.agent_socket, answer)
        except (ClaimedError, RuntimeError) as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(
                f"the run directory {paths.run} cannot be used: {error}; make room, or set CALICO_RUN_DIR"
            ) from error
        held.callback(paths.agent_socket.unlink, missing_ok=True)
        log.info("agent of %s: %s, store %s", node, configuration.backend, configuration.store)
        async with server:
            work = asyncio.create_task(lives.run())
            end = asyncio.create_task(told.wait())
            await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                log.info("stopping; what is programmed stays")
            for task in (work, end):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


class _Life:
    """Every part of the agent, made anew; nothing is read or written before ``run``."""

    def __init__(
        self, node: str, configuration: Configuration, settings: Settings, bird: Bird | None
    ) -> None:
        self._datastore = configuration.store
        self._stream = resync.Status()
        backend = make_backend(configuration.backend, configuration.paths)
        if backend.name == "iptables-legacy" and settings.refresh_interval > UNTOLD_REFRESH:
            settings = replace(settings, refresh_interval=UNTOLD_REFRESH)
        self.loop = Loop(
            node,
            Parts(
                network=Network(node),
                renderer=Renderer(settings),
                backend=backend,
                routes=Routes(settings),
                links=Links(settings),
                sysctls=Sysctls(),
                announcer=Announcer(node, bird, settings.interface_prefix) if bird else None,
            ),
            settings,
        )

    @property
    def programmed(self) -> bool:
        return self.loop.programmed

    async def run(self) -> None:
        # An agent takes away what the store does not have: it must not make an empty one.
        store = self._datastore.open(make=False)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.loop.run(), name="loop")
                group.create_task(_read_store(store, self._stream, self.loop), name="store")
                group.create_task(_watch_kernel(self.loop), name="kernel")
        finally:
            await store.close()

    def report(self) -> dict[str, Any]:
        report = self.loop.report()
        bad = [f"{path} cannot be read: {why}" for path, why in sorted(self._stream.bad.items())]
        return {
            **report,
            "problems": [*report["problems"], *bad],
            "store": _store(self._datastore, self._stream),
        }


async def _read_store(store: Store, status: resync.Status, loop: Loop) -> None:
    async for batch in resync.updates(
        store, decode=codec.decode, pause=_pause, clock=time.monotonic, status=status
    ):
        loop.receive(batch)
        # A long listing comes in many batches: let the loop answer questions in between.
        await asyncio.sleep(0)
    raise RuntimeError("the stream of facts ended")


async def _pause(seconds: float) -> None:
    """Wait about so long: agents that lost one store at one moment do not come back at one moment."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311  jitter is no secret


async def _watch_kernel(loop: Loop) -> None:
    with Monitor() as monitor:
        async for changes in monitor.changes():
            loop.kernel_changed(changes)


def _store(datastore: Datastore, status: resync.Status) -> dict[str, Any]:
    if status.connected:
        state = "connected"
    elif status.error:
        state = f"lost ({status.error}); what is known stays in force"
    else:
        state = "not read yet"
    return {
        "location": str(datastore),
        "state": state,
        "connected": status.connected,
        "revision": status.revision,
        "losses": status.losses,
        "bad": dict(status.bad),
    }


async def _sessions(bird: Bird | None) -> dict[str, Any]:
    if bird is None:
        return {"running": False, "sessions": []}
    try:
        async with asyncio.timeout(BIRD_PATIENCE):
            sessions = await bird.sessions()
    except TimeoutError:
        error = f"BIRD does not answer within {BIRD_PATIENCE:g} s"
        return {"running": False, "error": error, "sessions": []}
    except BirdError as error:
        return {"running": False, "error": str(error), "sessions": []}
    return {
        "running": True,
        "sessions": [
            {
                "name": session.name,
                "address": session.neighbour,
                "as": session.neighbour_as,
                "state": session.info or session.state,
                "established": session.established,
                "since": session.since,
                "info": f"{session.imported} routes imported",
            }
            for session in sessions
        ],
    }
