"""Automatic host endpoints on a real kernel: switched on under traffic, selected by a policy, switched off again."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.host import Cloud, Host, eventually, pinging, reaches
from support.netns import Namespace, link, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

INNER, OUTER = "172.31.7.1", "172.31.7.2"
NODE = f"""
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: one, labels: {{role: edge}}}}
spec: {{bgp: {{ipv4Address: {INNER}/24}}}}
---"""
CLOSED = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: edge}
spec: {selector: role == 'edge', types: [Ingress, Egress], ingress: [], egress: []}
---"""


def switch(word: str) -> str:
    return f"""
apiVersion: projectcalico.org/v3
kind: KubeControllersConfiguration
metadata: {{name: default}}
spec: {{controllers: {{node: {{hostEndpoint: {{autoCreate: {word}}}}}}}}}
---"""


class Scene(NamedTuple):
    host: Host
    outside: Namespace
    cloud: Cloud

    def endpoints(self) -> list[str]:
        """What an operator sees of host endpoints."""
        return self.host.calicoctl("get", "hep").stdout.split()[2:]

    def knows(self, number: int) -> None:
        """Wait until the host has programmed this many endpoints."""
        eventually(
            lambda: self.host.status()["counts"]["endpoints"] == number, what=f"{number} endpoints programmed"
        )

    def answers(self, port: int) -> bool:
        """Whether a TCP connection from outside comes in; a refusal says that it came through."""

        def connect() -> bool:
            with socket.socket() as opened:
                opened.settimeout(1.0)
                try:
                    opened.connect((INNER, port))
                except ConnectionRefusedError:
                    return True
                except OSError:
                    return False
                return True

        return self.outside.call(connect)


@pytest.fixture(params=["nftables", "iptables-nft"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """A host without endpoints, and a neighbour; the agent runs."""
    mark = os.getpid()
    with namespaces(f"t-autohep-h-{mark}", f"t-autohep-o-{mark}") as (inside, outside):
        link(inside, "eth0", outside, "eth0")
        inside.run("ip", "address", "add", f"{INNER}/24", "dev", "eth0")
        outside.run("ip", "address", "add", f"{OUTER}/24", "dev", "eth0")
        cloud = Cloud(tmp_path)
        cloud.apply(NODE)
        with Host(inside, "one", tmp_path, backend=request.param) as host:
            host.start()
            yield Scene(host, outside, cloud)


def test_automatic_host_endpoints_change_nothing_until_a_policy_selects_them(scene: Scene) -> None:
    """No packet is lost by switching on; a policy for the node's label holds, failsafe ports stay open; off, all is gone."""
    host, outside, cloud = scene
    assert reaches(outside, INNER)
    assert scene.endpoints() == []

    with pinging(outside, INNER) as coming, pinging(host.namespace, OUTER) as going:
        cloud.apply(switch("Enabled"))
        eventually(lambda: scene.endpoints() == ["one-auto-hep", "one"], what="the endpoint is stored")
        scene.knows(1)
        assert reaches(outside, INNER)
        for sent, lost in (coming(), going()):
            assert sent > 0
            assert lost == 0

    cloud.apply(CLOSED)
    eventually(lambda: not reaches(outside, INNER, wait=0.2), what="the policy holds")
    assert not scene.answers(8080)
    assert scene.answers(22), "a failsafe port"
    assert not reaches(host.namespace, OUTER, wait=0.2)

    cloud.apply(NODE.replace("edge", "core"))
    eventually(lambda: reaches(outside, INNER, wait=0.2), what="the node's new label counts")
    cloud.apply(NODE)
    eventually(lambda: not reaches(outside, INNER, wait=0.2), what="the old label counts again")

    cloud.apply(switch("Disabled"))
    eventually(lambda: scene.endpoints() == [], what="the endpoint is removed")
    scene.knows(0)
    eventually(lambda: reaches(outside, INNER, wait=0.2), what="nothing is policed any more")
    assert scene.answers(8080)
    assert host.status()["errors"] == {}


def test_a_node_that_is_deleted_takes_its_endpoints_along(scene: Scene) -> None:
    """By calicoctl, while the agent runs: none is left, and none is made anew."""
    host, _, cloud = scene
    cloud.apply(switch("Enabled"))
    eventually(lambda: scene.endpoints() == ["one-auto-hep", "one"], what="the endpoint is stored")
    assert host.calicoctl("delete", "node", "one").returncode == 0
    eventually(lambda: scene.endpoints() == [], what="the endpoint is removed")
    scene.knows(0)
    assert scene.endpoints() == []
