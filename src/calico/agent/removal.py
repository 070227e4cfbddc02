"""Take everything of ours off a host: "ours only" also means that it can go without a trace.

In:   a host on which no agent runs any more.
Out:  no route, rule, set, table or BIRD of ours; what was removed, in words.
Next: ``cli.agent`` prints it.

Routes go first, then BIRD, then the packet filter, so that workloads lose their network before they lose their
policy. What stays: the store, the kernel's switches for forwarding, and interfaces, which belong to whoever made them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from calico.agent.claim import ClaimedError, claim
from calico.agent.status import AgentUnreachableError, ask
from calico.bgp.daemon import Bird
from calico.model.settings import Settings
from calico.paths import Paths
from calico.programming.backend import Backend, ProgrammingError
from calico.programming.iptables import VARIANTS, Iptables
from calico.programming.links import Links
from calico.programming.nft import Nftables
from calico.programming.routes import Routes


class AgentRunsError(Exception):
    """An agent is at work on this host; it would only put everything back."""


async def remove_all(paths: Paths, settings: Settings) -> list[str]:
    """Remove what agents programmed in this network namespace; what was done, a sentence each.

    Raises AgentRunsError, ProgrammingError and BirdError; to be called again after that.
    """
    try:
        report = ask(paths.agent_socket, {"command": "status"})
    except AgentUnreachableError:
        pass
    else:
        raise AgentRunsError(f"an agent runs here (pid {report.get('pid')}); stop it first")
    try:
        with claim():
            return await _remove(paths, settings)
    except ClaimedError as error:
        raise AgentRunsError(f"{error}; stop it first") from error


async def _remove(paths: Paths, settings: Settings) -> list[str]:
    routes = Routes(settings, grace=0.0).sync({})
    Links(settings).remove()
    done = [f"removed {len(routes)} routes and neighbours of workloads"]
    bird = Bird(paths.run)
    if await bird.running():
        done.append("ended BIRD, and removed its routes")
    await bird.remove()
    for backend in _backends(paths):
        try:
            backend.remove()
        except ProgrammingError as error:
            raise type(error)(f"{backend.name}: {error}") from error
        done.append(f"removed what {backend.name} held of ours")
    return done


def remove_former(paths: Paths, kept: str) -> list[str]:
    """Take away what our back ends other than ``kept`` hold in this network namespace: the names of those that did.

    To be called once ``kept`` holds everything. Raises ProgrammingError; to be called again after that.
    """
    removed: list[str] = []
    for backend in _backends(paths):
        if backend.name == kept:
            continue
        try:
            if backend.remove():
                removed.append(backend.name)
        except ProgrammingError as error:
            raise type(error)(f"what {backend.name} held of ours stays for now: {error}") from error
    return removed


def _backends(paths: Paths) -> Iterator[Backend]:
    """Every back end that this machine has the programs for."""
    if shutil.which("nft"):
        yield Nftables()
    for variant in VARIANTS:
        if shutil.which(f"iptables-{variant}-save"):
            yield Iptables(variant, str(paths.run / "xtables.lock"))
