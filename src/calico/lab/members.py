"""The members of a lab's etcd, each in a namespace of its own, on a link of its own to the spine.

In:   a lab's directory and ``State``.
Out:  processes that run on after this one; a configuration by which calicoctl finds the store.
Next: ``intent`` writes into it, ``agents`` reach it over the fabric, as hosts do.

The machine itself has no way into the fabric, so each member also listens on a Unix socket in its directory.
Members keep their data in the lab's directory and are gone with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from calico.datastore.api import Unavailable
from calico.datastore.etcd_settings import DEFAULT_PORT, Endpoint, EtcdSettings
from calico.datastore.location import Datastore
from calico.lab import processes
from calico.lab.state import LabDirectory, LabError, Process, State
from calico.lab.topology import Topology, bare, member_link
from calico.lab.wiring import namespace
from calico.model.keys import ROOT
from calico.paths import CONFIGURATION

PEER_PORT: Final = 2380
"""Where members listen for each other."""

PATIENCE: Final = 30.0
"""Seconds until the members must have elected a leader."""


def datastore(directory: LabDirectory, topology: Topology) -> Datastore:
    """The store of a lab, as this machine reaches it."""
    if not topology.members:
        return Datastore(directory.store)
    return Datastore(
        EtcdSettings(
            endpoints=tuple(Endpoint(str(_socket(directory, member))) for member in topology.member_names)
        )
    )


def environment(directory: LabDirectory, topology: Topology) -> dict[str, str]:
    """What tells a host's programs where the store is."""
    if not topology.members:
        return {"DATASTORE_TYPE": "sqlite", "CALICO_SQLITE_PATH": str(directory.store)}
    return {
        "DATASTORE_TYPE": "etcdv3",
        "ETCD_ENDPOINTS": ",".join(str(endpoint) for _, endpoint in _endpoints(topology)),
    }


def start(directory: LabDirectory, state: State) -> list[Process]:
    """Start all members, and write down how to reach them."""
    started = [_start(directory, state, member) for member in state.topology.member_names]
    if started:
        places = ",".join(map(str, _endpoints_here(directory, state.topology)))
        (directory.path / CONFIGURATION).write_text(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata: {}\n"
            f'spec:\n  datastoreType: etcdv3\n  etcdEndpoints: "{places}"\n',
            encoding="utf-8",
        )
    return started


def start_one(directory: LabDirectory, state: State, member: str) -> Process:
    """Start a member that is not running, with the data that it has."""
    return _start(directory, state, member)


def wait(directory: LabDirectory, topology: Topology) -> None:
    """Until the members answer as one; LabError with the last words of the first if they do not."""
    asyncio.run(_wait(directory, datastore(directory, topology)))


async def _wait(directory: LabDirectory, there: Datastore) -> None:
    deadline = time.monotonic() + PATIENCE
    store = there.open()
    try:
        while True:
            try:
                await store.list(ROOT)
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"the members of the store do not come to a leader within {PATIENCE:g} s: {error}"
                        f" (logs: {directory.member('*') / 'etcd.log'})"
                    ) from error
                await asyncio.sleep(0.2)
            else:
                return
    finally:
        await store.close()


def _start(directory: LabDirectory, state: State, member: str) -> Process:
    home = directory.member(member)
    home.mkdir(parents=True, exist_ok=True)
    peers = {name: f"http://{endpoint.host}:{PEER_PORT}" for name, endpoint in _endpoints(state.topology)}
    clients = {name: str(endpoint) for name, endpoint in _endpoints(state.topology)}
    socket = _socket(directory, member)
    socket.unlink(missing_ok=True)  # of a member that was killed
    return processes.start(
        "store",
        member,
        namespace(state.name, member),
        [
            "etcd",
            *("--name", member),
            *("--data-dir", str(home / "data")),
            *("--listen-client-urls", f"{clients[member]},unix://{socket.name}"),
            *("--advertise-client-urls", clients[member]),
            *("--listen-peer-urls", peers[member]),
            *("--initial-advertise-peer-urls", peers[member]),
            *("--initial-cluster", ",".join(f"{name}={url}" for name, url in peers.items())),
            *("--initial-cluster-token", f"calico-{state.name}"),
            *("--auto-compaction-mode", "revision", "--auto-compaction-retention", "10000"),
            *("--logger", "zap", "--log-level", "warn"),
        ],
        log=home / "etcd.log",
        directory=home,  # etcd makes a Unix socket in the directory where it runs
    )


def _socket(directory: LabDirectory, member: str) -> Path:
    return directory.member(member) / f"{member}:{DEFAULT_PORT}"


def _endpoints(topology: Topology) -> Iterator[tuple[str, Endpoint]]:
    """Each member, and where hosts reach it."""
    for number, name in enumerate(topology.member_names, 1):
        _, address = member_link(number)
        yield name, Endpoint(bare(address))


def _endpoints_here(directory: LabDirectory, topology: Topology) -> tuple[Endpoint, ...]:
    where = datastore(directory, topology).where
    assert isinstance(where, EtcdSettings)
    return where.endpoints
