"""One calculation for all nodes gives what a calculation for each node gives."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from calico.analysis.evaluate import Members, Packet, Picture, evaluate
from calico.analysis.everywhere import Everywhere
from calico.calculation.oracle import desired
from calico.calculation.translation import translated
from calico.desired import EndpointId
from calico.model.address import parse_address
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from support.builders import elsewhere, endpoint, here
from support.strategies import Step, rolled, steps

V4 = [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "192.0.2.9")]
V6 = [parse_address(text) for text in ("fd00::1", "fd00::2")]
PACKETS = [
    Packet(source, destination, protocol, 1024, port)
    for addresses in (V4, V6)
    for source, destination in product(addresses, addresses)
    for protocol, port in ((6, 80), (6, 8080), (17, 53))
]


def agree(facts: dict[Key, Resource]) -> None:
    """Both ways have the same rows for each node's endpoints, and come to the same verdicts by the same steps."""
    together = Everywhere(translated(facts).facts)
    seen: set[EndpointId] = set()
    for node in (here, elsewhere):
        state = desired(node, facts)
        picture = Picture(state.policies, state.profiles, Members(state.set_members))
        for id_, row in state.endpoints.items():
            assert together.endpoints[id_] == row
            for packet in PACKETS:
                for direction in ("ingress", "egress"):
                    assert evaluate(together.picture, row, direction, packet, workload=True) == evaluate(
                        picture, row, direction, packet, workload=True
                    )
        seen |= state.endpoints.keys()
    assert together.endpoints.keys() == seen


@hypothesis_settings(max_examples=40)
@given(steps())
def test_worlds_by_chance(history: list[Step]) -> None:
    """In small worlds where everything collides with everything, both ways agree."""
    agree({key: resource for key, resource in dict(history).items() if resource is not None})


@pytest.mark.parametrize("seed", range(6))
def test_fuller_worlds(seed: int) -> None:
    """In fuller worlds both ways agree too."""
    agree({key: resource for key, resource in dict(rolled(seed, 250)).items() if resource is not None})


def test_interfaces_are_unique_on_one_node_only() -> None:
    """Equal interface names on two nodes are two interfaces; on one node the first by name has it."""
    made = [
        endpoint("a", here, interface="cali1"),
        endpoint("b", elsewhere, interface="cali1"),
        endpoint("c", elsewhere, interface="cali1"),
    ]

    rows = Everywhere({key_of(each): each for each in made}).endpoints

    assert {id_.name: row.interface for id_, row in rows.items()} == {"a": "cali1", "b": "cali1"}
