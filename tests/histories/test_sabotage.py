"""The histories are worth something: whatever obligation is broken, they notice.

Each ``touches`` and each index of the network is silenced in turn. A network without it must go wrong in at least
one history; otherwise the histories are too tame, or the part is needless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import pytest

from calico.calculation.network import Network
from calico.calculation.oracle import State, desired
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.resource import Resource
from calico.tables.table import Index
from support.builders import here
from support.strategies import rolled

SEEDS = range(64)
LENGTH = 120


@cache
def history(seed: int) -> list[tuple[list[Update], State]]:
    """Batches, and what the oracle says after each."""
    facts: dict[Key, Resource] = {}
    chance, steps, batches = Random(seed), rolled(seed, LENGTH), []
    while steps:
        size = chance.choice((1, 1, 2, 8))
        for key, resource in steps[:size]:
            facts.pop(key, None)
            if resource is not None:
                facts[key] = resource
        batches.append(([Update(*step) for step in steps[:size]], desired(here, facts)))
        steps = steps[size:]
    return batches


def goes_wrong(network: Network, seed: int) -> bool:
    """Whether the network ever disagrees with the oracle, or breaks."""
    network.update([InSync()])
    for updates, expected in history(seed):
        try:
            network.update(updates)
            network.settle()
        except (AssertionError, KeyError, ValueError):
            return True
        if network.state() != expected:
            return True
    return False


def touches(network: Network) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every ``touches``, by place, and how to silence it."""
    for number, stage in enumerate(network.stages):
        for source_number, source in enumerate(stage.sources):
            yield (
                f"stage {number}, source {source_number}",
                lambda source=source: setattr(source, "touches", lambda *_: ()),
            )


class Silent(dict):
    """Buckets that stay empty."""

    def __setitem__(self, key: object, value: object) -> None:
        """Nothing is kept."""


def indexes(network: Network) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every index, by place, and how to empty it."""

    def silence(index: Index) -> None:
        index._buckets = Silent()

    for number, table in enumerate(network.tables):
        for index_number, index in enumerate(table.indexes):
            yield f"table {number}, index {index_number}", lambda index=index: silence(index)


PARTS = [(kind, name) for kind in (touches, indexes) for name, _ in kind(Network(here))]


def test_the_parts_are_all_there() -> None:
    """The network has as many obligations as its pages show; a new one is a new line here."""
    assert sum(kind is touches for kind, _ in PARTS) == 28
    assert sum(kind is indexes for kind, _ in PARTS) == 22


def test_a_whole_network_is_never_wrong() -> None:
    """What the others are measured against: with all its parts a network agrees with every history."""
    assert not any(goes_wrong(Network(here), seed) for seed in SEEDS)


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=[f"{kind.__name__} of {name}" for kind, name in PARTS])
def test_a_silenced_part_is_noticed(kind: Callable, name: str) -> None:
    """A network that does not follow one kind of change disagrees with the oracle in some history."""

    def sabotaged() -> Network:
        network = Network(here)
        dict(kind(network))[name]()
        return network

    assert any(goes_wrong(sabotaged(), seed) for seed in SEEDS)
