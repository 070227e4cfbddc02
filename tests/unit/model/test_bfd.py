"""BFDConfigurations, and the fields of BGPPeers beside them: what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert

from calico.model.keys import KINDS


@pytest.mark.parametrize(
    ("kind", "spec", "fields"),
    [
        ("BFDConfiguration", {}, []),
        (
            "BFDConfiguration",
            {
                "nodeSelector": "has(rack)",
                "interfaces": [
                    {
                        "matchPattern": "eth*",
                        "minimumRecvInterval": "50ms",
                        "minimumSendInterval": "100ms",
                        "idleSendInterval": "1m",
                        "multiplier": 5,
                    }
                ],
            },
            [],
        ),
        ("BFDConfiguration", {"nodeSelector": "has("}, ["nodeSelector"]),
        ("BFDConfiguration", {"interfaces": [{}]}, ["interfaces.0.matchPattern"]),
        (
            "BFDConfiguration",
            {"interfaces": [{"matchPattern": "x" * 16, "minimumRecvInterval": "soon", "multiplier": 0}]},
            [f"interfaces.0.{field}" for field in ("matchPattern", "minimumRecvInterval", "multiplier")],
        ),
        ("BGPPeer", {"peerInterface": "eth0.100"}, []),
        ("BGPPeer", {"peerInterface": "eth*"}, ["peerInterface"]),
        ("BGPPeer", {"peerInterface": "eth0", "peerIP": "10.0.0.1"}, ["peerInterface"]),
        (
            "BGPPeer",
            {"peerInterface": "eth0", "localWorkloadSelector": "all()", "asNumber": 1},
            ["peerInterface"],
        ),
    ],
)
def test_what_is_wrong(kind: str, spec: dict[str, Any], fields: list[str]) -> None:
    """Each field that makes no sense is named once, with a sentence and a remedy."""
    tree = {"kind": kind, "metadata": {"name": "default"}, "spec": spec}
    found = [*convert(tree, KINDS[kind]).problems()]

    assert [".".join(map(str, each.path[1:])) for each in found] == fields
    assert all(each.message and each.remedy for each in found)
