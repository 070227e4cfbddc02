"""A whole lab while addresses come and go, nodes join and leave, and pools are added, disabled, split and removed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from calico.datastore.api import Store, StoreError
from calico.ipam.client import Client
from calico.ipam.errors import IPAMError
from calico.lab import members
from calico.lab.state import LabDirectory
from support.ipam_ledger import IPAM, Ledger, Picture
from support.ipam_scenes import take
from support.lab import Lab, small_lab, until
from support.netns import needs_root
from support.stores import until as until_true

pytestmark = [pytest.mark.root, needs_root]

EXTRA = "10.250.0.0/26"

POOL = f"""
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {{name: a-first}}
spec: {{cidr: {EXTRA}, blockSize: 29, vxlanMode: Never, ipipMode: Never}}
"""

GUESTS = "".join(
    f"---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: guest{number}}}\nspec: {{}}\n"
    for number in range(3)
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with small_lab(tmp_path_factory.mktemp("a"), "a") as made:
        yield made


@dataclass
class Load:
    """An orchestrator of one node, whose workloads come and go without pause."""

    store: Store
    node: str
    ledger: Ledger
    handles: set[str] = field(default_factory=set)
    """Of workloads that may have an address."""
    begun: int = 0
    stopping: bool = False

    async def run(self) -> None:
        client = Client(self.store, self.node)
        for number in itertools.count():
            if self.stopping:
                break
            with suppress(StoreError, IPAMError):  # it tries again, with another workload
                self.begun += 1
                handle = f"load-{self.node}-{number}"
                self.handles.add(handle)
                self.ledger.promise(handle, await take(client, handle, self.node))
                if len(self.handles) > 5:
                    await self.release(client, next(iter(sorted(self.handles))))
        for handle in sorted(self.handles):
            await self.release(client, handle)

    async def release(self, client: Client, handle: str) -> None:
        self.ledger.forgive(handle=handle)
        await client.release_by_handle(handle)
        self.handles.discard(handle)

    async def goes_on(self) -> None:
        """Wait until some more workloads have come."""
        target = self.begun + 10
        await until_true(lambda: self.begun >= target)


@contextlib.asynccontextmanager
async def opened(lab: Lab) -> AsyncIterator[Store]:
    """The lab's store, from outside."""
    directory = LabDirectory(lab.root / "lab", lab.name)
    state = directory.read()
    assert state is not None
    store = members.datastore(directory, state.topology).open()
    try:
        yield store
    finally:
        await store.close()


async def shake(lab: Lab, store: Store, ledger: Ledger) -> None:
    """All of it under load; at the end the load has given everything back."""

    async def calicoctl(*words: str, stdin: str | None = None) -> str:
        return (await asyncio.to_thread(lab.calicoctl, *words, stdin=stdin)).stdout

    loads = [Load(store, node, ledger) for node in ("host1-1", "host2-1", "guest0", "guest1", "guest2")]
    await calicoctl("apply", "-f", "-", stdin=POOL + GUESTS)

    async def all_go_on() -> None:
        await asyncio.gather(*(load.goes_on() for load in loads if not load.stopping))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.run()) for load in loads]
        await all_go_on()
        assert any(address.startswith("10.250.0.") for address in ledger.promised)
        await calicoctl("delete", "node", "guest0")  # its orchestrator does not know yet
        await all_go_on()
        loads[2].stopping = True
        await tasks[2]
        await calicoctl("patch", "ippool", "a-first", "-p", '{"spec": {"disabled": true}}')
        await all_go_on()
        await calicoctl("datastore", "migrate", "lock")
        await calicoctl("ipam", "split", "2", "--name", "a-first")
        await calicoctl("datastore", "migrate", "unlock")
        await all_go_on()
        await calicoctl("delete", "ippool", "split-a-first-0")
        for load in loads:
            load.stopping = True
    await calicoctl("delete", "ippool", "split-a-first-1")
    await calicoctl("apply", "-f", "-", stdin=GUESTS)
    for number in range(3):
        await calicoctl("delete", "node", f"guest{number}")


def test_everything_adds_up_when_all_is_quiet_again(lab: Lab) -> None:
    """No address is left over or lost, check finds no problem, and the routes of each host are to the blocks of the others."""
    ledger = Ledger()

    async def body() -> Picture:
        async with opened(lab) as store:
            at_first = Picture.of((await store.list(IPAM)).entries).taken()
            await shake(lab, store, ledger)
            now = Picture.of((await store.list(IPAM)).entries)
            assert ledger.wrong == []
            assert ledger.promised == {}
            assert list(now.wrong()) == list(now.unfinished()) == []
            assert now.taken() == at_first
            return now

    now = asyncio.run(body())
    assert "found 0 problems" in lab.calicoctl("ipam", "check").stdout
    wanted = {cidr: block.owner for cidr, block in now.blocks.items() if "." in cidr}
    hosts = ("host1-1", "host2-1")
    assert {f"host:{host}" for host in hosts} <= set(wanted.values())

    def agree() -> bool:
        for host in hosts:
            routes = json.loads(lab.inside(host, "ip", "-j", "-4", "route", "show"))
            known = {route["dst"]: route.get("type", "unicast") for route in routes}
            for cidr, owner in wanted.items():
                own = owner == f"host:{host}"
                if known.get(cidr) != ("blackhole" if own else "unicast"):
                    return False
            if any(destination.startswith("10.250.") for destination in known.keys() - wanted.keys()):
                return False
        return True

    until(agree, "that routes agree with blocks", 30)
