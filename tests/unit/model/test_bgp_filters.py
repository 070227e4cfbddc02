"""BGP filters: each field of a rule, and each pair that needs or excludes each other."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model.codec import from_builtins
from calico.model.errors import InvalidResources
from calico.model.keys import Key
from calico.model.resource import API_VERSION

PREFIX = {"cidr": "10.0.0.0/8", "matchOperator": "In"}
PREFIX6 = {"cidr": "fd00::/8", "matchOperator": "NotEqual"}


def wrong(direction: str, **rule: Any) -> list[str]:
    """The fields that are wrong with a filter of one rule."""
    try:
        from_builtins(
            {
                "apiVersion": API_VERSION,
                "kind": "BGPFilter",
                "metadata": {"name": "a"},
                "spec": {direction: [{"action": "Accept", **rule}]},
            }
        )
    except InvalidResources as error:
        return [problem.field.removeprefix(f"spec.{direction}[0]").lstrip(".") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("direction", "rule", "expected"),
    [
        ("exportV4", {}, []),
        ("exportV4", {"action": "accept"}, ["action"]),
        ("exportV4", PREFIX, []),
        ("exportV4", {"cidr": "10.0.0.0/8"}, ["matchOperator"]),
        ("exportV4", {"matchOperator": "In"}, ["cidr"]),
        ("exportV4", PREFIX | {"matchOperator": "in"}, ["matchOperator"]),
        ("exportV4", PREFIX | {"cidr": "10.0.0.1"}, ["cidr"]),
        ("importV4", PREFIX6, ["cidr"]),
        ("importV6", PREFIX6, []),
        ("exportV6", PREFIX, ["cidr"]),
        ("exportV4", PREFIX | {"prefixLength": {"min": 16, "max": 24}}, []),
        ("exportV4", PREFIX | {"prefixLength": {"min": -1, "max": 33}}, ["prefixLength.min", "prefixLength.max"]),
        ("exportV4", PREFIX | {"prefixLength": {"min": 25, "max": 24}}, ["prefixLength.max"]),
        ("exportV6", PREFIX6 | {"prefixLength": {"max": 128}}, []),
        ("exportV4", {"prefixLength": {"min": 8}}, ["cidr"]),
        ("exportV4", {"source": "RemotePeers", "peerType": "eBGP", "interface": "cali*"}, []),
        ("exportV4", {"source": "Here", "peerType": "ebgp"}, ["source", "peerType"]),
        ("exportV4", {"interface": "a b"}, ["interface"]),
        ("exportV4", {"interface": "a" * 16}, ["interface"]),
        ("exportV4", {"communities": {"values": ["10:20"]}}, []),
        ("exportV4", {"communities": {"values": []}}, ["communities.values"]),
        ("exportV4", {"communities": {"values": ["1:2", "70000:1"]}}, ["communities.values", "communities.values[1]"]),
        ("exportV4", {"asPathPrefix": [64512, "1.10"]}, []),
        ("exportV4", {"asPathPrefix": [-1]}, ["asPathPrefix[0]"]),
        ("exportV4", {"priority": 1}, []),
        ("exportV4", {"priority": 0}, ["priority"]),
        ("exportV4", {"priority": 2**31 - 1}, ["priority"]),
        ("exportV4", {"operations": [{"addCommunity": {"value": "1:2:3"}}, {"setPriority": {"value": 512}}]}, []),
        ("exportV4", {"operations": [{"prependASPath": {"prefix": [64512] * 10}}]}, []),
        ("exportV4", {"operations": [{"prependASPath": {"prefix": [64512] * 11}}]}, ["operations[0].prependASPath.prefix"]),
        ("exportV4", {"operations": [{"prependASPath": {"prefix": []}}]}, ["operations[0].prependASPath.prefix"]),
        ("exportV4", {"operations": [{}]}, ["operations[0]"]),
        ("exportV4", {"operations": [{"addCommunity": {"value": "x"}, "setPriority": {"value": 0}}]}, ["operations[0]", "operations[0].addCommunity.value", "operations[0].setPriority.value"]),
        ("exportV4", {"operations": [{"setPriority": {"value": 1}}] * 11}, ["operations"]),
        ("exportV4", {"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}, ["operations"]),
    ],
)  # fmt: skip
def test_rules(direction: str, rule: dict[str, Any], expected: list[str]) -> None:
    """Each field of a rule."""
    assert wrong(direction, **rule) == expected


def test_path() -> None:
    """The store writes the plural in its own way."""
    assert Key("BGPFilter", "a").path == "/calico/resources/v3/projectcalico.org/BGPFilters/a"
