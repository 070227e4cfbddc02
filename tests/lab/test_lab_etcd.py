"""A whole lab on an etcd of three members, each in a namespace of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from calico.datastore.etcd_settings import EtcdSettings
from calico.lab import members, processes
from calico.lab.state import LabDirectory
from support.etcd import needs_etcd
from support.lab import ISOLATE, Lab, pings, small_lab, until
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root, needs_etcd]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two racks with one host each, two tenants on each, the bare-metal host, and three members."""
    with small_lab(tmp_path_factory.mktemp("e"), "e", "--datastore", "etcd") as made:
        yield made


def directory(lab: Lab) -> LabDirectory:
    return LabDirectory(lab.root / "lab", lab.name)


def signalled(lab: Lab, member: str, number: signal.Signals) -> None:
    """Send a signal to a member of the store."""
    pids = [each.pid for each in directory(lab).processes() if each.node == member and processes.alive(each)]
    assert len(pids) == 1
    os.kill(pids[0], number)


def test_everything_that_the_lab_keeps_is_in_etcd(lab: Lab) -> None:
    """Agents and calicoctl share three members; there is no embedded store."""
    assert [(each["name"], each["running"]) for each in lab.status()["members"]] == [
        ("etcd1", True),
        ("etcd2", True),
        ("etcd3", True),
    ]
    assert lab.calicoctl("get", "nodes").stdout.split() == ["NAME", "host1-1", "host2-1", "metal"]
    assert not directory(lab).store.exists()
    state = directory(lab).read()
    assert state is not None
    assert isinstance(members.datastore(directory(lab), state.topology).where, EtcdSettings)


def problems(lab: Lab) -> list[str]:
    """What each host complains of."""
    return [host["problem"] for host in lab.status(check=False)["hosts"]]


@pytest.mark.parametrize("member", ["etcd1", "etcd2", "etcd3"])
def test_policy_changes_while_a_member_is_not_there(lab: Lab, member: str) -> None:
    """With any one of three standing still, what is applied reaches every host, and what is deleted leaves it."""
    assert pings(lab, "bank1-1", "shop2-1")
    signalled(lab, member, signal.SIGSTOP)
    try:
        lab.calicoctl("apply", "-f", "-", stdin=ISOLATE)
        until(lambda: not pings(lab, "bank1-1", "shop2-1"), "the isolation", 40)
        lab.calicoctl("delete", "-f", "-", stdin=ISOLATE)
        until(lambda: pings(lab, "bank1-1", "shop2-1"), "the end of the isolation", 40)
    finally:
        signalled(lab, member, signal.SIGCONT)


def test_traffic_and_policy_outlive_the_whole_store(lab: Lab) -> None:
    """Without any member nothing that was open closes, nothing that was closed opens; agents say so, and go on after."""
    lab.calicoctl("apply", "-f", "-", stdin=ISOLATE)
    until(lambda: not pings(lab, "bank1-1", "shop2-1"), "the isolation")
    state = directory(lab).read()
    assert state is not None
    for member in state.topology.member_names:
        signalled(lab, member, signal.SIGKILL)

    until(lambda: all("store" in problem for problem in problems(lab)), "the complaint of every host", 40)
    assert not pings(lab, "bank1-1", "shop2-1")
    assert pings(lab, "shop1-1", "shop2-1")

    fresh = [members.start_one(directory(lab), state, member) for member in state.topology.member_names]
    before = [each for each in directory(lab).processes() if each.role != "store"]
    directory(lab).write_processes((*before, *fresh))
    members.wait(directory(lab), state.topology)
    lab.calicoctl("delete", "-f", "-", stdin=ISOLATE)
    until(lambda: pings(lab, "bank1-1", "shop2-1"), "the end of the isolation", 60)
    until(lambda: not any(problems(lab)), "the end of the complaints", 60)
