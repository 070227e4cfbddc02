"""A key of every kind, and of what else is stored, for tests of who may write what."""

from __future__ import annotations

from typing import Final

from calico.model.keys import KINDS, Key

SAMPLES: Final = {
    "BlockAffinity": Key("BlockAffinity", "10.65.0.0/26", "host:host-1"),
    "IPAMBlock": Key("IPAMBlock", "10.65.0.0/26"),
    "IPAMConfiguration": Key("IPAMConfiguration", "default"),
}

AGENTS: Final = frozenset(
    {"BlockAffinity", "CalicoNodeStatus", "IPAMBlock", "IPAMHandle", "Node", "WorkloadEndpoint"}
)
"""The kinds that an agent may write. What is not here is the cluster's intent, and no agent's to change."""

STATUS: Final = (
    "/calico/felix/v2/no-region/host/host-1/status",
    "/calico/felix/v2/no-region/host/host-1/workload/k8s/default%2fweb/endpoint/eth0",
)
"""Where agents report."""

OTHERS: Final = (
    "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.66.0.0-26",
    "/calico/openstack/v2/region/neutron_election",
    "/calico/resources/v3/projectcalico.org/futures/x",
    "/calico/resources/v3/projectcalico.org/nodes",
    "/calico/resources/v3/projectcalico.org/nodesets/x",
    "/calico/x",
)
"""What no kind of ours says is an agent's: affinities of nobody's host, other programs' keys, kinds to come."""


def sample(kind: str) -> Key:
    """A key of a kind."""
    return SAMPLES.get(kind) or Key(kind, "x", "default" if KINDS[kind].NAMESPACED else "")


def paths() -> dict[str, bool]:
    """Paths of all kinds and of what else there is; whether an agent may write there."""
    kinds = {sample(kind).path: kind in AGENTS for kind in KINDS}
    return {**kinds, **dict.fromkeys(STATUS, True), **dict.fromkeys(OTHERS, False)}
