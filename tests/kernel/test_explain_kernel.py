"""``calicoctl explain`` on a host: what policy says, compared with what the kernel holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.host import ALLOWING_PROFILE, Cloud, Host, eventually, plug, workload_endpoint
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

A, B = "10.65.0.2", "10.65.0.3"

DOOR = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: door}
spec:
  selector: app == 'b'
  ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'a'}, destination: {ports: [80]}}]
---"""


class World(NamedTuple):
    host: Host
    cloud: Cloud
    inside: Namespace


@pytest.fixture(params=["nftables", "iptables-nft"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A host with two workloads, one of them behind a policy, and its agent."""
    with (
        namespaces("t-explanations-h", "t-explanations-a", "t-explanations-b") as (inside, a, b),
        Host(inside, "host", tmp_path, backend=request.param) as host,
    ):
        cloud = Cloud(tmp_path)
        plug(host, a, "a", A)
        plug(host, b, "b", B)
        cloud.apply(
            ALLOWING_PROFILE
            + DOOR
            + workload_endpoint("host", "a", A, labels="{app: a}")
            + workload_endpoint("host", "b", B, labels="{app: b}")
            + workload_endpoint("other", "c", "10.65.0.9", labels="{app: a}")
        )
        host.start()
        yield World(host, cloud, inside)


def explained(world: World, *words: str) -> dict[str, Any]:
    """The explanation of a flow to b's port 80, as data."""
    done = world.host.calicoctl("explain", *words, "--port", "80", "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def open_the_door(world: World) -> None:
    """Let everybody in to b, behind the agent's back."""
    if world.host.backend == "nftables":
        world.inside.run("nft", "insert rule ip calico cali-pi-gnp/door accept")
    else:
        world.inside.run("iptables-nft", "-I", "cali-pi-gnp/door", "-j", "ACCEPT")


def test_what_nobody_touched_is_proven(world: World) -> None:
    """Both ends of a flow within this host are compared with the kernel, and nothing differs."""
    found = explained(world, "--from", "a", "--to", "b")
    assert found["allowed"] is True
    assert [found[end]["kernel"]["state"] for end in ("source", "destination")] == ["proven", "proven"]


def test_another_hosts_side_is_unknown(world: World) -> None:
    """Only its own kernel is a host's to read; where nobody can be asked nothing is claimed."""
    found = explained(world, "--from", "c", "--to", "b")
    assert found["source"]["kernel"]["state"] == "unknown"
    assert "other is another host" in found["source"]["kernel"]["words"]
    assert found["destination"]["kernel"]["state"] == "proven"
    world.host.stop()
    found = explained(world, "--from", "a", "--to", "b")
    assert found["destination"]["kernel"]["state"] == "unknown"
    assert "no agent runs here" in found["destination"]["kernel"]["words"]


def test_a_rule_changed_by_hand_is_drift_that_names_the_policy(world: World) -> None:
    """While repair is paused the difference shows, at the end that it concerns only; then it is repaired and proven."""
    assert world.host.calicoctl("agent", "pause-repair", "600").returncode == 0
    open_the_door(world)

    found = explained(world, "--from", "a", "--to", "b")

    kernel = found["destination"]["kernel"]
    assert kernel["state"] == "drifted"
    assert any("cali-pi-gnp/door" in each for each in kernel["differences"])
    assert any(
        "GlobalNetworkPolicy door tier default ingress rule 0" in each for each in kernel["differences"]
    )
    assert found["source"]["kernel"]["state"] == "proven"
    assert "1 difference elsewhere" in found["source"]["kernel"]["words"]
    again = explained(world, "--from", "a", "--to", "b")
    assert again["destination"]["kernel"]["state"] == "drifted", "asking repairs nothing"

    assert world.host.calicoctl("agent", "pause-repair", "0").returncode == 0

    def state() -> str:
        return str(explained(world, "--from", "a", "--to", "b")["destination"]["kernel"]["state"])

    eventually(lambda: state() == "proven", what="the agent repairs what was changed")


def test_an_agent_of_another_store_proves_nothing(world: World, tmp_path: Path) -> None:
    """What the kernel should hold is a matter of the store; a different one is said."""
    other = Cloud(tmp_path / "elsewhere")
    other.database.parent.mkdir()
    other.apply(ALLOWING_PROFILE + workload_endpoint("host", "b", B))
    found = explained(world, "--from", "203.0.113.1", "--to", "b", "--datastore-path", str(other.database))
    assert found["destination"]["kernel"]["state"] == "unknown"
    assert "another store" in found["destination"]["kernel"]["words"]
