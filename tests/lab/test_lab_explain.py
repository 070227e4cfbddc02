"""Explanations in a lab: what they say of the way and of the kernel is so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support.lab import Lab, until
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]

PROGRAM = (sys.executable, "-m", "calico.cli.main")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two racks with one host each, and a workload of two tenants on each host."""
    made = Lab(tmp_path_factory.mktemp("run"), f"t{os.getpid()}x")
    try:
        made.calicoctl(
            "lab", "up", "--name", made.name, "--racks", "2", "--hosts", "1", "--workloads", "2", "--no-probe"
        )
        until(lambda: well(made), "the lab is in order", 60)
        yield made
    finally:
        made.calicoctl("lab", "down", check=False)


def well(lab: Lab) -> bool:
    """Whether ``lab status`` finds everything in order."""
    return lab.calicoctl("lab", "status", check=False).returncode == 0


def explained(lab: Lab, host: str, *words: str) -> dict[str, Any]:
    """What calicoctl on a host of the lab explains."""
    found: dict[str, Any] = json.loads(lab.inside(host, *PROGRAM, "explain", *words, "-o", "json"))
    return found


def test_the_way_is_the_one_that_the_kernel_takes(lab: Lab) -> None:
    """The route and the next hop towards the other rack are those of BGP's routes, as far as the store knows them."""
    target = lab.address("shop2-1")
    found = explained(lab, "host1-1", "--from", "shop/shop1-1", "--to", "shop/shop2-1", "--port", "80")
    there, arrival = found["way"]
    assert found["allowed"] is True
    assert (there["host"], arrival["host"], arrival["route"]) == ("host1-1", "host2-1", f"{target}/32")
    routes = lab.inside("host1-1", "ip", "-json", "route", "show", "match", target)
    assert there["route"] in {route["dst"] for route in json.loads(routes)}
    interface = json.loads(lab.inside("host2-1", "ip", "-json", "route", "get", target))[0]["dev"]
    assert arrival["nextHop"] == interface


@pytest.mark.parametrize(
    ("host", "near", "far"), [("host1-1", "source", "destination"), ("host2-1", "destination", "source")]
)
def test_each_host_proves_its_own_side(lab: Lab, host: str, near: str, far: str) -> None:
    """And says of the other side on which host to ask."""
    found = explained(lab, host, "--from", "shop/shop1-1", "--to", "shop/shop2-1", "--port", "80")
    assert found[near]["kernel"]["state"] == "proven"
    assert found[far]["kernel"]["state"] == "unknown"
    assert "another host" in found[far]["kernel"]["words"]


def test_what_is_explained_is_what_happens(lab: Lab) -> None:
    """A flow between tenants, which the lab's policy denies, is denied by a rule that has a name."""
    found = explained(lab, "host1-1", "--from", "bank/bank1-1", "--to", "shop/shop2-1", "--icmp-type", "8")
    reached = "1 received" in lab.inside(
        "bank1-1", "ping", "-4", "-c1", "-W1", lab.address("shop2-1"), check=False
    )
    assert found["allowed"] == reached
