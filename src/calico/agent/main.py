"""The agent's process: its name, its local settings, its socket, its end.

In:   ``Configuration``, from the command line and the environment.
Out:  a running agent, until SIGTERM or SIGINT; the data path stays as it is afterwards.
Next: ``agent.life`` makes and joins the parts that work, ``agent.status`` answers questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import calico
from calico.agent.claim import ClaimedError, claim
from calico.agent.life import Circumstances, Life
from calico.agent.lives import GaveUpError, Lives
from calico.agent.removal import remove_former
from calico.agent.status import serve
from calico.bgp.control import BirdError
from calico.bgp.daemon import Bird
from calico.datastore.api import StoreError
from calico.datastore.location import Datastore
from calico.model.settings_sources import Source, broken, from_environment, from_file
from calico.paths import Paths
from calico.programming.backend import Backend, ProgrammingError

log = logging.getLogger(__name__)

SEVERITIES: Final = {
    "Trace": logging.DEBUG,
    "Debug": logging.DEBUG,
    "Info": logging.INFO,
    "Warning": logging.WARNING,
    "Error": logging.ERROR,
    "Fatal": logging.CRITICAL,
}
"""What ``logSeverityScreen`` may be."""

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
    log_level: str | None
    """From where on to log, whatever the settings say."""
    environment: Mapping[str, str]


def run(configuration: Configuration) -> None:
    """Run an agent in the foreground until it is told to stop. Raises ``StartError``."""
    if os.geteuid() != 0:
        raise StartError("the agent programs routes and the packet filter: run it as root")
    logging.basicConfig(
        level=(configuration.log_level or "info").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
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


def local_sources(paths: Paths, environment: Mapping[str, str]) -> tuple[Source, ...]:
    """The settings of this host itself, strongest first: the environment, and the file ``felix.cfg``."""
    return from_environment(environment), _felix_cfg(paths.felix_cfg)


def _felix_cfg(path: Path) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Source(str(path), {})
    except (OSError, UnicodeDecodeError) as error:
        return broken(str(path), str(error))
    return from_file(str(path), text)


def _log_from(severity: str) -> None:
    logging.getLogger().setLevel(SEVERITIES[severity])


def _ignore(severity: str) -> None:
    """The command line has said already from where on to log."""


async def _agent(node: str, configuration: Configuration) -> None:
    paths = configuration.paths
    bird = Bird(paths.run) if configuration.bgp else None
    circumstances = Circumstances(
        node=node,
        datastore=configuration.store,
        backend=lambda: make_backend(configuration.backend, paths),
        bird=bird,
        secrets=paths.secrets,
        router_id=configuration.environment.get("CALICO_ROUTER_ID", ""),
        local=local_sources(paths, configuration.environment),
        severity=_ignore if configuration.log_level else _log_from,
        remove_former=lambda kept: remove_former(paths, kept),
    )
    lives = Lives(lambda: Life(circumstances))
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
            case "prove":
                return await life.prove(request.get("endpoint"))
        return {"error": f"unknown command {request.get('command')!r}; known are status, pause-repair, prove"}

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
