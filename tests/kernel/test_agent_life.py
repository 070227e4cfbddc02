"""An agent's life on a real kernel, with BGP: missing and late things, killed and stopped things, and what it says of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calico.bgp.processes import listening_at
from calico.datastore.sqlite import SQLiteStore
from calico.model import codec
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from support.host import (
    ALLOWING_PROFILE,
    Cloud,
    Host,
    eventually,
    pinging,
    plug,
    reaches,
    workload_endpoint,
)
from support.netns import link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A4, B4 = "10.65.0.2", "10.65.0.3"
BLOCK = {"one": "10.65.1.0/26", "two": "10.65.2.0/26"}
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: v4}
spec: {cidr: 10.65.0.0/16}
---"""
CLOSE_B = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: close-b}
spec:
  selector: app == 'b'
  types: [Ingress]
"""


def node(name: str, number: int) -> str:
    """The manifest of a node in the mesh."""
    return f"""
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: {name}}}
spec: {{bgp: {{ipv4Address: 10.0.0.{number}/24}}}}
---"""


def peer(name: str, address: str) -> str:
    """The manifest of a peer of node one that does not exist."""
    return f"""
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: {name}}}
spec: {{node: one, peerIP: {address}, asNumber: 65009}}
---"""


def write(database: Path, path: str, value: bytes | None) -> None:
    """Put something into the store as another program would, or remove it."""

    async def session() -> None:
        store = SQLiteStore(database)
        try:
            if value is None:
                await store.delete(path, revision=None)
            else:
                await store.put(path, value, revision=None)
        finally:
            await store.close()

    asyncio.run(session())


def own(database: Path, name: str, cidr: str, *, held: bool = True) -> None:
    """Give a block to a node, or take it away."""
    path = Key("BlockAffinity", cidr, f"host:{name}").path
    write(database, path, codec.encode(BlockAffinity(state="confirmed")) if held else None)


def end_bird(host: Host) -> None:
    """Leave no BIRD behind."""
    for pid in host.namespace.call(lambda: listening_at(host.run_dir / "bird.ctl")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def bird_pid(host: Host) -> int:
    """The BIRD of a host; a failure if there is not exactly one."""
    (pid,) = host.namespace.call(lambda: listening_at(host.run_dir / "bird.ctl"))
    return pid


def sessions(host: Host) -> dict[str, str]:
    """Since when each established session of a host is up."""
    found: list[dict[str, Any]] = host.status().get("bgp", {}).get("sessions", [])
    return {session["address"]: session["since"] for session in found if session["established"]}


def routes(host: Host, prefix: str) -> str:
    return host.namespace.run("ip", "route", "show", "exact", prefix).stdout


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Host]:
    """A host without workloads, its agent not started, no store anywhere."""
    with (
        namespaces(f"t-agent-s-{os.getpid()}") as (inside,),
        Host(inside, "one", tmp_path) as host,
    ):
        yield host


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Host, Host, Cloud]]:
    """Two hosts on one link that peer, with a block each, converged."""
    mark = os.getpid()
    with namespaces(f"t-agent-1-{mark}", f"t-agent-2-{mark}") as (first, second):
        link(first, "eth0", second, "eth0")
        first.run("ip", "address", "add", "10.0.0.1/24", "dev", "eth0")
        second.run("ip", "address", "add", "10.0.0.2/24", "dev", "eth0")
        cloud = Cloud(tmp_path)
        cloud.apply(POOL + node("one", 1) + node("two", 2))
        with Host(first, "one", tmp_path, bgp=True) as one, Host(second, "two", tmp_path, bgp=True) as two:
            try:
                for host in (one, two):
                    own(cloud.database, host.node, BLOCK[host.node])
                    host.start()
                eventually(lambda: routes(one, BLOCK["two"]) and routes(two, BLOCK["one"]), what="BGP")
                yield one, two, cloud
            finally:
                for host in (one, two):
                    host.__exit__()
                    end_bird(host)


def test_an_agent_waits_for_its_store_and_makes_none(single: Host) -> None:
    """Without a store the agent says what is missing, programs nothing, and begins when the store appears."""
    single.start(wait=False)
    state = eventually(lambda: single.status().get("store", {}), what="an answer")
    eventually(lambda: "does not exist" in single.status()["store"]["state"], what="the store is missed")
    assert state["location"] == str(single.database)
    assert single.status()["inSync"] is False
    assert not single.database.exists()
    assert "calico" not in single.namespace.run("nft", "list", "tables").stdout
    Cloud(single.directory).apply(POOL)
    eventually(lambda: single.status()["programmed"], within=30, what="programmed")


def test_bgp_has_its_passwords_and_router_id_from_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CALICO_ROUTER_ID and the secrets under CALICO_CONFIG_DIR reach BIRD; without its password a session stays down."""
    monkeypatch.setenv("CALICO_ROUTER_ID", "192.0.2.7")
    with (
        namespaces(f"t-agent-e-{os.getpid()}") as (inside,),
        Host(inside, "one", tmp_path, bgp=True) as host,
    ):
        secret = host.run_dir / "secrets" / "bgp" / "rack"
        secret.parent.mkdir(parents=True)
        rack = peer("rack", "10.0.0.254").replace(
            "asNumber", "password: {secretKeyRef: {name: bgp, key: rack}}, asNumber"
        )
        Cloud(tmp_path).apply(node("one", 1) + rack)
        try:
            host.start()
            told = host.run_dir / "bird.conf"
            assert "router id 192.0.2.7;" in told.read_text()
            assert "  disabled;" in told.read_text()
            assert str(secret) in " ".join(host.status()["problems"])
            secret.touch(0o600)
            secret.write_text("s3cret")
            eventually(lambda: '  password "s3cret";' in told.read_text(), what="the password is used")
        finally:
            host.__exit__()
            end_bird(host)


def test_a_start_without_the_store_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """The store's file is missing at a restart: open paths lose no packet, closed ones stay closed."""
    mark = os.getpid()
    with (
        namespaces(f"t-agent-h-{mark}", f"t-agent-a-{mark}", f"t-agent-b-{mark}") as (inside, a, b),
        Host(inside, "host", tmp_path) as host,
    ):
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A4)
        plug(host, b, "b", B4)
        cloud.apply(
            ALLOWING_PROFILE
            + workload_endpoint("host", "a", A4, labels="{app: a}")
            + workload_endpoint("host", "b", B4, labels="{app: b}")
            + CLOSE_B
        )
        host.start()
        assert reaches(b, A4)
        host.kill()
        for path in tmp_path.glob("calico.db*"):
            path.rename(path.with_name(f"moved-{path.name}"))
        with pinging(b, A4) as open_path, pinging(a, B4, interval=0.02) as closed_path:
            host.start(wait=False)
            eventually(
                lambda: "does not exist" in host.status().get("store", {}).get("state", ""), what="missed"
            )
            sent, lost = open_path()
            tried, dropped = closed_path()
        assert (lost, dropped) == (0, tried)
        assert sent > 5
        for path in tmp_path.glob("moved-*"):
            path.rename(path.with_name(path.name.removeprefix("moved-")))
        eventually(lambda: host.status()["programmed"], within=30, what="programmed")
        cloud.delete("GlobalNetworkPolicy", "close-b")
        eventually(lambda: reaches(a, B4, wait=0.3), what="the agent follows its store again")


def test_a_store_that_goes_back_to_a_backup_is_followed(tmp_path: Path) -> None:
    """An older backup takes the store's place under a running agent: what was applied since is undone."""
    mark = os.getpid()
    with (
        namespaces(f"t-agent-h-{mark}", f"t-agent-a-{mark}", f"t-agent-b-{mark}") as (inside, a, b),
        Host(inside, "host", tmp_path) as host,
    ):
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A4)
        plug(host, b, "b", B4)
        cloud.apply(
            ALLOWING_PROFILE
            + workload_endpoint("host", "a", A4, labels="{app: a}")
            + workload_endpoint("host", "b", B4, labels="{app: b}")
        )
        host.start()
        with (
            contextlib.closing(sqlite3.connect(cloud.database)) as store,
            contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
        ):
            store.backup(backup)
        cloud.apply(CLOSE_B)
        eventually(lambda: not reaches(a, B4, wait=0.3), what="b is closed")
        for suffix in ("-wal", "-shm"):
            cloud.database.with_name(f"calico.db{suffix}").unlink(missing_ok=True)
        (tmp_path / "backup.db").rename(cloud.database)
        eventually(lambda: reaches(a, B4, wait=0.3), within=30, what="b is open, as in the backup")
        cloud.apply(CLOSE_B)
        eventually(lambda: not reaches(a, B4, wait=0.3), what="b is closed in the restored store")
        assert host.status()["store"]["connected"] is True


def test_one_host_runs_one_agent_whatever_its_directories(single: Host, tmp_path: Path) -> None:
    """A second agent in the same network namespace ends at once and says why; removal is refused too."""
    Cloud(tmp_path).apply(POOL)
    single.start()
    other = Host(single.namespace, "other", tmp_path)
    other.start(wait=False)
    assert other.process is not None
    assert other.process.wait(timeout=20) == 1
    assert "another agent runs in this network namespace" in other.log()
    refused = other.calicoctl("agent", "remove", "--yes")
    assert refused.returncode == 1
    assert "another agent runs in this network namespace" in refused.stderr
    assert single.status()["programmed"] is True
    single.kill()
    other.start()
    other.kill()


def test_a_run_directory_that_cannot_be_is_named(single: Host) -> None:
    """A file in the way of the run directory ends the start with a sentence, not a traceback."""
    blocked = single.directory / "file"
    blocked.write_text("")
    environment = {**os.environ, "CALICO_RUN_DIR": str(blocked / "run")}
    ended = single.namespace.run(
        *(sys.executable, "-m", "calico.cli.main", "agent", "--node", "one"), check=False, env=environment
    )
    assert ended.returncode == 1
    assert f"run directory {blocked / 'run'} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_end_during_the_first_sync_is_an_ordinary_end(single: Host) -> None:
    """SIGTERM as soon as the agent answers: exit status 0, no socket left, and the next start finds its way."""
    Cloud(single.directory).apply(POOL)
    for _ in range(3):
        single.start(wait=False)
        eventually((single.run_dir / "agent.sock").exists, what="the socket")
        assert single.stop() == 0
        assert not (single.run_dir / "agent.sock").exists()
    assert "Traceback" not in single.log()
    single.start()


def test_a_fact_that_makes_no_sense_is_a_problem_until_it_is_mended(single: Host) -> None:
    """Somebody writes nonsense into the store: the status names the path, everything else works, and it goes away."""
    Cloud(single.directory).apply(POOL)
    single.start()
    path = Key("GlobalNetworkPolicy", "nonsense").path
    write(single.database, path, b"{no json")
    problem = eventually(lambda: single.status()["problems"], what="a problem")
    assert path in problem[0]
    assert single.status()["programmed"] is True
    write(single.database, path, None)
    eventually(lambda: not single.status()["problems"], what="the problem is gone")


def test_agents_come_and_go_without_touching_sessions(pair: tuple[Host, Host, Cloud]) -> None:
    """A stop, a crash and the starts after them leave every BGP session as old as it was."""
    one, two, _ = pair
    before = eventually(lambda: sessions(one), what="a session")
    one.stop()
    one.start()
    one.kill()
    one.start()
    eventually(lambda: sessions(one) == before, what="the session is the same one")
    assert sessions(two).keys() == {"10.0.0.1"}


def test_peers_come_and_go_quickly_without_flaps(pair: tuple[Host, Host, Cloud]) -> None:
    """Twenty quick changes of another peer leave the session that was there alone."""
    one, _, cloud = pair
    before = eventually(lambda: sessions(one), what="a session")
    for number in range(20):
        cloud.apply(peer("absent", f"10.0.0.{100 + number}"))
    eventually(lambda: "10.0.0.119" in (one.run_dir / "bird.conf").read_text(), what="the last change")
    cloud.delete("BGPPeer", "absent")
    eventually(lambda: "10.0.0.119" not in (one.run_dir / "bird.conf").read_text(), what="its deletion")
    assert sessions(one) == before


def test_a_host_announces_its_blocks_as_long_as_it_holds_them(pair: tuple[Host, Host, Cloud]) -> None:
    """A block that is given to a host appears at the other one, and is withdrawn with its affinity."""
    _, two, cloud = pair
    own(cloud.database, "one", "10.65.3.0/26")
    eventually(lambda: "via 10.0.0.1" in routes(two, "10.65.3.0/26"), what="the new block")
    own(cloud.database, "one", "10.65.3.0/26", held=False)
    eventually(lambda: not routes(two, "10.65.3.0/26"), what="its withdrawal")
    assert "via 10.0.0.1" in routes(two, BLOCK["one"])


def test_a_node_that_is_deleted_has_no_sessions_until_it_is_made_again(
    pair: tuple[Host, Host, Cloud],
) -> None:
    """Deleting a Node ends its sessions and is a problem that the status names; making it again mends both."""
    one, two, cloud = pair
    cloud.delete("Node", "one")
    eventually(lambda: any("Node/one" in text for text in one.status()["problems"]), what="the problem")
    eventually(lambda: not sessions(one) and not sessions(two), what="the sessions end")
    eventually(lambda: not routes(two, BLOCK["one"]), what="the routes go")
    cloud.apply(node("one", 1))
    eventually(lambda: routes(two, BLOCK["one"]), within=30, what="the routes are back")
    assert one.status()["problems"] == []


@pytest.mark.parametrize("harm", ["killed", "without socket", "edited"])
def test_harm_to_bird_is_repaired(pair: tuple[Host, Host, Cloud], harm: str) -> None:
    """A BIRD that was killed or lost its socket is replaced, an edited configuration put back; no route is lost."""
    one, two, _ = pair
    before, configuration = bird_pid(one), (one.run_dir / "bird.conf").read_text()
    match harm:
        case "killed":
            os.kill(before, signal.SIGKILL)
        case "without socket":
            (one.run_dir / "bird.ctl").unlink()
        case "edited":
            (one.run_dir / "bird.conf").write_text(configuration.replace("graceful restart on", ""))
    assert routes(one, BLOCK["two"])

    def repaired() -> bool:
        alive = one.namespace.call(lambda: listening_at(one.run_dir / "bird.ctl"))
        return (
            len(alive) == 1
            and (alive != [before]) == (harm != "edited")
            and (one.run_dir / "bird.conf").read_text() == configuration
            and bool(sessions(one))
        )

    eventually(repaired, within=30, what="BIRD is as it should be")
    assert routes(one, BLOCK["two"])
    assert routes(two, BLOCK["one"])
    assert one.status()["errors"] == {}


def test_files_of_a_dead_bird_whose_number_someone_else_has_harm_nobody(
    pair: tuple[Host, Host, Cloud],
) -> None:
    """A stale socket and a pid file with the number of an innocent process: BIRD is started, the innocent lives."""
    one, _, _ = pair
    one.kill()
    end_bird(one)
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        (one.run_dir / "bird.pid").write_text(f"{innocent.pid}\n")
        one.start()
        eventually(lambda: sessions(one), within=30, what="BGP is back")
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_bird_that_hangs_delays_neither_answers_nor_policy(pair: tuple[Host, Host, Cloud]) -> None:
    """While BIRD is stopped the agent answers in time and programs changes; the error says what to do, and goes."""
    one, _, cloud = pair
    pid = bird_pid(one)
    os.kill(pid, signal.SIGSTOP)
    try:
        cloud.apply(peer("absent", "10.0.0.100"))
        eventually(lambda: "BGP" in one.status().get("errors", {}), within=30, what="BIRD is missed")
        assert f"kill -9 {pid}" in one.status()["errors"]["BGP"]
        assert one.status()["bgp"]["running"] is False
        rounds = one.status()["rounds"]
        cloud.apply(CLOSE_B)
        eventually(lambda: one.status()["rounds"] > rounds, within=4, what="a round meanwhile")
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not one.status()["errors"], within=40, what="the error is gone")
    assert "10.0.0.100" in (one.run_dir / "bird.conf").read_text()
