"""Whatever happens, in whatever order: the network says what the oracle says."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.calculation.network import Network
from calico.calculation.oracle import State, desired
from calico.desired import Delta
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.resource import Resource
from support.builders import here
from support.strategies import Step, rolled, steps
from support.world import NOTHING, World

HISTORIES = settings(max_examples=40, deadline=None)
SEEDS = range(12)


def final(history: list[Step]) -> dict[Key, Resource]:
    """The facts that a history ends with."""
    return {key: resource for key, resource in dict(history).items() if resource is not None}


def settled(history: list[Step], batches: list[int] | None = None) -> Network:
    """A network that was told a history, settled after each of the batches (by size), and at the end."""
    network = Network(here)
    network.update([InSync()])
    rest = list(history)
    for size in batches or ():
        network.update(Update(*step) for step in rest[:size])
        network.settle()
        rest = rest[size:]
    network.update(Update(*step) for step in rest)
    network.settle()
    return network


@HISTORIES
@given(steps())
def test_every_step_agrees_with_the_oracle(history: list[Step]) -> None:
    """After each single change the Delta is exactly the difference, and leads to what the oracle says."""
    world = World()
    for step in history:
        world.change(dict([step]))


@pytest.mark.parametrize("seed", SEEDS)
def test_long_histories_agree_with_the_oracle(seed: int) -> None:
    """The same, for longer histories in a fuller world, in batches of all sizes."""
    world, chance, history = World(), Random(seed), rolled(seed, 250)
    while history:
        size = chance.choice((1, 1, 1, 2, 5, 20))
        world.change(dict(history[:size]))
        history = history[size:]


@HISTORIES
@given(steps(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(history: list[Step], chance: Random) -> None:
    """The same facts forward, backward and shuffled, together and one by one, give one picture."""
    facts = list(final(history).items())
    expected = desired(here, dict(facts))
    shuffled = facts.copy()
    chance.shuffle(shuffled)
    for order in (facts, facts[::-1], shuffled):
        assert settled(order).state() == expected
        assert settled(order, [1] * len(order)).state() == expected


@HISTORIES
@given(steps(), st.lists(st.integers(1, 10), max_size=10))
def test_splitting_and_squashing_does_not_matter(history: list[Step], batches: list[int]) -> None:
    """Wherever a history is settled in between, it ends in the same picture."""
    expected = desired(here, final(history))
    assert settled(history).state() == expected
    assert settled(history, batches).state() == expected
    assert settled(list(final(history).items())).state() == expected


@HISTORIES
@given(steps())
def test_repetition_changes_nothing(history: list[Step]) -> None:
    """Facts that are told again, once or all of them, are no change."""
    network = settled(history)
    network.update(Update(*step) for step in dict(history).items())
    assert network.settle() == NOTHING
    network.update(Update(*step) for step in (*dict(history).items(), *dict(history).items()))
    assert network.settle() == NOTHING


@HISTORIES
@given(steps(), steps())
def test_a_detour_leaves_no_trace(history: list[Step], detour: list[Step]) -> None:
    """What was changed and put back within one batch is not in the Delta, settled in between it is undone."""
    network = settled(history)
    before = network.state()
    facts = final(history)
    back = {key: facts.get(key) for key, _ in detour}
    network.update(Update(*step) for step in (*detour, *back.items()))
    assert network.settle() == NOTHING
    network.update(Update(*step) for step in detour)
    network.settle()
    network.update(Update(*step) for step in back.items())
    network.settle()
    assert network.state() == before


@HISTORIES
@given(steps())
def test_nothing_is_said_before_in_sync(history: list[Step]) -> None:
    """Until the first picture is complete no Delta says anything; then one says everything."""
    network, followed = Network(here), State()
    for step in history:
        network.update([Update(*step)])
        assert network.settle() == NOTHING
    network.update([InSync()])
    followed.apply(network.settle())
    assert followed == desired(here, final(history))


def buckets(network: Network) -> dict[str, int]:
    """The sizes of everything that a network remembers."""
    sizes = {}
    for number, table in enumerate(network.tables):
        sizes[f"table {number}"] = len(table) + len(getattr(table, "_groups", ()))
        for index_number, index in enumerate(table.indexes):
            sizes[f"table {number}, index {index_number}"] = len(index)
    return sizes | {
        "interned": len(network.facts.interner),
        "problems": len(network.problems),
        "translated": len(network.facts.translation),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_churn_down_to_zero_leaves_nothing(seed: int) -> None:
    """When all facts are gone, every table, index and interner is as large as it was at first."""
    network, followed = Network(here), State()
    network.update([InSync()])
    followed.apply(network.settle())
    at_first, history, chance = buckets(network), rolled(seed, 400), Random(seed)
    for step in history:
        network.update([Update(*step)])
        if chance.random() < 0.5:
            followed.apply(network.settle())
    assert any(buckets(network).values())

    keys = sorted(final(history))
    chance.shuffle(keys)
    for key in keys:
        network.update([Update(key, None)])
        if chance.random() < 0.5:
            followed.apply(network.settle())
    followed.apply(network.settle())

    assert followed == State() == network.state()
    assert buckets(network) == at_first
    assert network.settle() == Delta()
