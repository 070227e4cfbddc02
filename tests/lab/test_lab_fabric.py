"""The fabric of a lab, without agents: built, converged, and gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calico.lab import namespaces, processes, scenario, wiring
from calico.lab.state import LabDirectory, LabError, labs
from calico.lab.topology import regular
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]

TINY = regular(2, 1, 1)


def quiet(_: object, __: object = None) -> None:
    """Progress that nobody wants to hear."""


def until(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come to be within {seconds} s"
        time.sleep(0.05)


def run(lab: str, node: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        namespaces.command(wiring.namespace(lab, node), words),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def leftovers(lab: str) -> list[str]:
    """What of a lab is still on the machine."""
    spaces = [name for name in namespaces.existing() if name.startswith(f"calico-{lab}-")]
    left = subprocess.run(
        ["pgrep", "-f", f"/{lab}/"], capture_output=True, text=True, check=False
    ).stdout.split()
    return spaces + [pid for pid in left if processes.started(int(pid)) is not None]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LabDirectory]:
    """The directory of a lab with a name of its own, which is gone after the test."""
    made = LabDirectory(tmp_path / "run" / "lab", f"t{os.getpid()}f")
    yield made
    scenario.down(made, quiet)
    assert leftovers(made.name) == []


def build(directory: LabDirectory) -> None:
    with directory.locked():
        state = scenario.begin(directory, TINY, "nftables", ())
        scenario.build_fabric(directory, state, quiet)
        addresses = {
            workload.name: (f"10.244.{index}.1", f"fd00:244::{index}:1")
            for index, workload in enumerate(TINY.workloads)
        }
        scenario.attach(directory, state, addresses, quiet)


def test_hosts_reach_each_other_and_the_internet_over_the_routers(directory: LabDirectory) -> None:
    """Routers converge; a path between racks shows each of them by its address, in both families."""
    build(directory)
    lab = directory.name

    for target, hops in (
        ("10.0.2.11", ["10.0.1.1", "10.1.0.0", "10.1.0.3", "10.0.2.11"]),
        ("fd00:10:0:2::11", ["fd00:10:0:1::1", "fd00:10:1:1::", "fd00:10:1:2::1", "fd00:10:0:2::11"]),
        ("203.0.113.10", ["10.0.1.1", "10.1.0.0", "10.1.1.1", "203.0.113.10"]),
        ("2001:db8:113::10", ["fd00:10:0:1::1", "fd00:10:1:1::", "fd00:10:1:fff::1", "2001:db8:113::10"]),
    ):
        until(
            lambda t=target: run(lab, "host1-1", "ping", "-c1", "-W1", t).returncode == 0,
            f"a ping to {target}",
        )
        shown = run(lab, "host1-1", "traceroute", "-n", "-q1", "-w1", target).stdout.splitlines()[1:]
        assert [line.split()[1] for line in shown] == hops


def test_what_the_border_does_not_know_is_refused_not_swallowed(directory: LabDirectory) -> None:
    """A packet to nowhere comes back as unreachable from the border."""
    build(directory)

    until(
        lambda: (
            "!" in run(directory.name, "host1-1", "traceroute", "-n", "-q1", "-w1", "198.51.100.1").stdout
        ),
        "an answer from the border",
    )


def test_a_workload_reaches_its_gateway_by_link_local_address_only(directory: LabDirectory) -> None:
    """A workload knows 169.254.1.1 and its host's link-local address, and no subnet."""
    build(directory)
    lab = directory.name

    assert run(lab, "shop1-1", "ip", "route").stdout.split("\n")[:2] == [
        "default via 169.254.1.1 dev eth0 ",
        "169.254.1.1 dev eth0 scope link ",
    ]
    assert "default via fe80::ecee:eeff:feee:eeee dev eth0" in run(lab, "shop1-1", "ip", "-6", "route").stdout
    until(
        lambda: run(lab, "shop1-1", "ping", "-c1", "-W1", "fe80::ecee:eeff:feee:eeee%eth0").returncode == 0,
        "the host's end of the veth",
    )


def test_down_leaves_nothing_and_may_be_called_twice(directory: LabDirectory) -> None:
    """Namespaces, processes and files are gone; so are the empty directories above."""
    build(directory)

    assert scenario.down(directory, quiet) is True
    assert leftovers(directory.name) == []
    assert not directory.root.parent.exists()
    assert scenario.down(directory, quiet) is False


@pytest.mark.parametrize("survived", range(4))
def test_down_removes_what_a_crash_left_half_way(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """A builder that dies after any number of steps leaves a lab that down takes away."""
    left = iter(range(survived))
    real = processes.start

    def dying(*words: object, **options: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(processes, "start", dying)
    with pytest.raises(KeyboardInterrupt):
        build(directory)
    assert leftovers(directory.name) != []

    assert scenario.down(directory, quiet) is True
    assert leftovers(directory.name) == []


def test_down_finds_a_lab_whose_record_is_lost(directory: LabDirectory) -> None:
    """Without its files, a lab is known by its name."""
    build(directory)
    for file in directory.path.iterdir():
        if file.is_file():
            file.unlink()

    assert scenario.down(directory, quiet) is True
    assert leftovers(directory.name) == []


def test_namespaces_of_others_survive(directory: LabDirectory) -> None:
    """A namespace that merely looks like the lab's is not in its record, and stays; up refuses to build over one."""
    stranger = f"calico-{directory.name}-stranger"
    subprocess.run(["ip", "netns", "add", stranger], check=True)
    try:
        build(directory)
        scenario.down(directory, quiet)
        assert stranger in namespaces.existing()
    finally:
        subprocess.run(["ip", "netns", "del", stranger], check=True)


def test_two_labs_coexist(directory: LabDirectory) -> None:
    """The same addresses, other namespaces; one goes, the other stays."""
    other = LabDirectory(directory.root, f"{directory.name}b")
    build(directory)
    build(other)
    try:
        assert labs(directory.root) == (directory.name, other.name)
    finally:
        scenario.down(other, quiet)

    until(lambda: run(directory.name, "host1-1", "ping", "-c1", "-W1", "10.0.2.11").returncode == 0, "a ping")


def test_a_running_lab_is_not_built_over(directory: LabDirectory) -> None:
    """The name is taken until down."""
    build(directory)

    with pytest.raises(LabError, match="lab down"):
        scenario.begin(directory, TINY, "nftables", ())
