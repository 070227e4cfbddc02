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
from pathlib import Path
from typing import Any

import calico
from calico.agent.loop import Loop
from calico.agent.status import serve
from calico.bgp.control import BirdError
from calico.bgp.daemon import Bird
from calico.calculation.network import Network
from calico.datastore import resync
from calico.datastore.sqlite import SQLiteStore
from calico.model import codec
from calico.model.settings import from_environment
from calico.paths import Paths
from calico.programming.backend import Backend, ProgrammingError
from calico.programming.links import Links
from calico.programming.monitor import Monitor
from calico.programming.routes import Routes
from calico.programming.sysctl import Sysctls
from calico.rendering.renderer import Renderer

log = logging.getLogger(__name__)


class StartError(Exception):
    """The agent cannot run here; the sentence says why and what to do."""


@dataclass(frozen=True)
class Configuration:
    """What an agent is told before it can read the store."""

    node: str | None
    database: Path
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
        asyncio.run(_agent(node, configuration))
    except ProgrammingError as error:
        raise StartError(str(error)) from error


def node_name(configuration: Configuration) -> str:
    """This host's name: as told, else NODENAME, else what an earlier start wrote down, else the host's own, lower case."""
    if configuration.node:
        return configuration.node
    if name := configuration.environment.get("NODENAME"):
        return name
    with contextlib.suppress(FileNotFoundError):
        if name := (configuration.paths.data / "nodename").read_text(encoding="utf-8").strip():
            return name
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
    paths.run.mkdir(parents=True, exist_ok=True, mode=0o750)
    settings, misunderstood = from_environment(configuration.environment)
    for sentence in misunderstood:
        log.warning("%s", sentence)
    bird = Bird(paths.run) if configuration.bgp else None
    loop = Loop(
        node=node,
        network=Network(node),
        renderer=Renderer(settings),
        backend=make_backend(configuration.backend, paths),
        routes=Routes(settings),
        links=Links(settings),
        sysctls=Sysctls(),
        bird=bird,
        settings=settings,
    )
    store = SQLiteStore(configuration.database)
    stream = resync.Status()
    started = time.monotonic()

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        match request.get("command"):
            case "status":
                report = loop.report()
                return {
                    **report,
                    "warnings": [*misunderstood, *report["warnings"]],
                    "pid": os.getpid(),
                    "version": calico.__version__,
                    "uptimeSeconds": time.monotonic() - started,
                    "store": _store(configuration.database, stream),
                    "bgp": await _sessions(bird),
                }
            case "pause-repair":
                seconds = request.get("seconds")
                if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
                    return {"error": "pause-repair: seconds must be a number from 0 to 3600"}
                loop.pause_repair(seconds)
                return {"paused": seconds}
        return {"error": f"unknown command {request.get('command')!r}; known are status, pause-repair"}

    try:
        server = await serve(paths.agent_socket, answer)
    except RuntimeError as error:
        raise StartError(str(error)) from error
    log.info("agent of %s: %s, store %s", node, configuration.backend, configuration.database)
    try:
        async with server, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(loop.run(), name="loop"),
                group.create_task(_read_store(store, stream, loop), name="store"),
                group.create_task(_watch_kernel(loop), name="kernel"),
            ]

            def stop() -> None:
                log.info("stopping; what is programmed stays")
                for task in tasks:
                    task.cancel()

            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop)
    finally:
        paths.agent_socket.unlink(missing_ok=True)
        await store.close()


async def _read_store(store: SQLiteStore, status: resync.Status, loop: Loop) -> None:
    async for batch in resync.updates(
        store, decode=codec.decode, pause=_pause, clock=time.monotonic, status=status
    ):
        loop.receive(batch)
        # A long listing comes in many batches: let the loop answer questions in between.
        await asyncio.sleep(0)


async def _pause(seconds: float) -> None:
    """Wait about so long: agents that lost one store at one moment do not come back at one moment."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311  jitter is no secret


async def _watch_kernel(loop: Loop) -> None:
    with Monitor() as monitor:
        async for changes in monitor.changes():
            loop.kernel_changed(changes)


def _store(database: Path, status: resync.Status) -> dict[str, Any]:
    return {
        "location": str(database),
        "state": "connected" if status.connected else f"lost ({status.error}); what is known stays in force",
        "connected": status.connected,
        "revision": status.revision,
        "losses": status.losses,
        "bad": dict(status.bad),
    }


async def _sessions(bird: Bird | None) -> dict[str, Any]:
    if bird is None:
        return {"running": False, "sessions": []}
    try:
        sessions = await bird.sessions()
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
