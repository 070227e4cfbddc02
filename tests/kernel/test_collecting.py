"""Real agents on one store: one of them takes back what a dead workload held, and another when that one is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from calico.datastore.sqlite import SQLiteStore
from calico.ipam.client import Client, Request
from calico.model.address import Cidr
from support.host import Cloud, Host, eventually, workload_endpoint
from support.netns import namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

WORLD = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: one}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: two}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: v4}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: KubeControllersConfiguration
metadata: {name: default}
spec: {controllers: {node: {leakGracePeriod: 2s}}}
"""


class Scene(NamedTuple):
    """Two hosts on one store."""

    hosts: dict[str, Host]
    cloud: Cloud

    def give(self, pod: str, node: str) -> str:
        """An address for a workload, which may never be attached."""

        async def assign() -> Cidr:
            store = SQLiteStore(self.cloud.database)
            try:
                attributes = {"pod": pod, "namespace": "default", "node": node}
                request = Request(handle=f"net.{pod}", ipv4=1, attributes=attributes)
                (address,) = (await Client(store, node).assign(request)).addresses
                return address
            finally:
                await store.close()

        return asyncio.run(assign()).address

    def held(self, pod: str) -> tuple[str, ...]:
        """The addresses that a workload has."""

        async def look() -> tuple[Cidr, ...]:
            store = SQLiteStore(self.cloud.database)
            try:
                return await Client(store, "one").addresses(f"net.{pod}")
            finally:
                await store.close()

        return tuple(address.address for address in asyncio.run(look()))

    def collector(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.hosts[name].status().get("collector", {})
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    mark = os.getpid()
    cloud = Cloud(tmp_path)
    cloud.apply(WORLD)
    with (
        namespaces(f"t-reclaim-1-{mark}", f"t-reclaim-2-{mark}") as (first, second),
        Host(first, "one", tmp_path) as one,
        Host(second, "two", tmp_path) as two,
    ):
        one.start()
        two.start()
        yield Scene({"one": one, "two": two}, cloud)


def test_a_leak_goes_and_what_lives_stays_also_when_the_collector_is_killed(scene: Scene) -> None:
    """The status of every agent says who collects; a killed one is followed when its lease has ended."""
    eventually(
        lambda: all(scene.collector(name).get("node") for name in scene.hosts),
        what="everybody knows the collector",
    )
    first = scene.collector("one")["node"]
    other = {"one": "two", "two": "one"}[first]
    assert scene.collector(first)["here"]
    assert not scene.collector(other)["here"]

    lives = scene.give("lives", "one")
    scene.cloud.apply(workload_endpoint("one", "lives", lives))
    scene.give("leaked", "two")
    eventually(lambda: not scene.held("leaked"), what="the leak is free")
    assert scene.collector(first)["done"]["free"] == 1
    said = scene.hosts[first].calicoctl("agent", "status").stdout
    assert "Collector:   this agent" in said

    process = scene.hosts[first].process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    scene.give("after", "two")
    eventually(lambda: scene.collector(other).get("here"), what="the other collects", within=90)
    eventually(lambda: not scene.held("after"), what="the second leak is free")
    assert scene.held("lives") == (lives,)
