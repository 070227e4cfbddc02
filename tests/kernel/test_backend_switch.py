"""Another back end on a live host: the new one is complete before the former one goes, and packets notice nothing."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.attack import A4, A6, B4, B6, H4, O4, O6, OPEN, SHUT, Field, datagram, token, under_attack
from support.host import Host, eventually
from support.netns import Namespace, needs_root

pytestmark = [pytest.mark.root, needs_root]


def held(host: Host) -> set[str]:
    """The back ends that hold something of ours."""
    inside = host.namespace
    found = set()
    if any(line.endswith(" calico") for line in inside.run("nft", "list", "tables").stdout.splitlines()):
        found.add("nftables")
    for variant in ("nft", "legacy"):
        saved = [inside.run(f"{program}-{variant}-save").stdout for program in ("iptables", "ip6tables")]
        if any("cali-" in text for text in saved):
            found.add(f"iptables-{variant}")
    if "cali" in inside.run("ipset", "list", "-n").stdout:
        found.add("sets")
    return found


@contextlib.contextmanager
def pinging(source: Namespace, address: str) -> Iterator[Callable[[], tuple[int, int]]]:
    """Ping all the while; the function that is given ends it: how many were answered, and how many before the last were not.

    What is on its way at the end says nothing.
    """
    process = source.popen("ping", "-n", "-i", "0.01", address, stdout=subprocess.PIPE)
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))  # type: ignore[arg-type]
    reader.start()

    def finish() -> tuple[int, int]:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=40)
        reader.join()
        answered = {int(found[1]) for line in lines if (found := re.search(r"icmp_seq=(\d+) ttl", line))}
        return len(answered), max(answered, default=0) - len(answered)

    try:
        yield finish
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()


def restarted(field: Field, backend: str) -> None:
    """The agent ends, and another begins with another back end."""
    field.host.kill()
    field.host.backend = backend
    field.host.start()


def fired(field: Field, meanwhile: Callable[[], None]) -> list[str]:
    """What came through of packets that policy or identity forbids, all the while that something happens."""
    field.received(0)
    bad = token()
    attacks = [
        ("a", datagram(A4, B4, SHUT, bad)),
        ("a", datagram(A6, B6, SHUT, bad)),
        ("o", datagram(O4, B4, SHUT, bad)),
        ("o", datagram(O6, B6, SHUT, bad)),
        ("a", datagram(B4, O4, OPEN, bad)),
        ("a", datagram(A4, H4, OPEN, bad)),
    ]
    leaked: list[str] = []
    over = threading.Event()

    def fire() -> None:
        while not over.is_set():
            for origin, packet in attacks:
                field.send(origin, packet)
            leaked.extend(
                f"{where}: {data[:48].hex()}"
                for where, data in field.received(0.002)
                if bad in data and where not in {"a", "o"}
            )

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        meanwhile()
    finally:
        over.set()
        thread.join()
    return leaked


def test_back_ends_follow_each_other_without_a_moment_of_openness(tmp_path: Path) -> None:
    """From nftables to each iptables and back, under fire: what is denied never passes, what is allowed never stops."""
    with under_attack("nftables", tmp_path) as field:

        def through_all() -> None:
            for backend in (
                "iptables-nft",
                "iptables-legacy",
                "nftables",
                "iptables-legacy",
                "iptables-nft",
                "nftables",
            ):
                restarted(field, backend)
                others = {"nftables", "iptables-nft", "iptables-legacy"} - {backend}
                if backend == "nftables":
                    others.add("sets")
                eventually(lambda o=others: not held(field.host) & o, what=f"only {backend} is left")  # type: ignore[misc]
                assert backend in held(field.host)
                assert field.host.status()["errors"] == {}

        with pinging(field.spaces["b"], O4) as open_path, pinging(field.spaces["a"], O6) as other_path:
            leaked = fired(field, through_all)
            paths = [open_path(), other_path()]
        assert leaked == []
        assert all(sent > 50 for sent, _ in paths)
        assert [lost for _, lost in paths] == [0, 0]
        assert "removed what iptables-legacy held of ours" in field.host.log()


def test_a_switch_that_is_broken_off_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """An agent that dies with two back ends in place leaves a closed host, and its successor one back end."""
    with under_attack("nftables", tmp_path) as field:
        field.host.kill()
        field.host.backend = "iptables-nft"
        field.host.start(wait=False)
        eventually(lambda: "iptables-nft" in held(field.host), what="the new back end begins")
        field.host.kill()
        assert fired(field, lambda: None) == []
        field.host.backend = "iptables-legacy"
        field.host.start()
        eventually(lambda: held(field.host) - {"sets"} == {"iptables-legacy"}, what="one back end is left")
        assert field.arrivals("o", {"shut": lambda mark: datagram(O4, B4, SHUT, mark)}) == set()
        field.host.stop()
        assert field.host.calicoctl("agent", "remove", "--yes").returncode == 0
        assert held(field.host) == set()
