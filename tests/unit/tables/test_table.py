"""Tables remember what changed in a batch; indexes follow them."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.tables.table import Index, Relation, Table


class Pair(NamedTuple):
    """A pair, as relations hold them."""

    left: str
    right: int


def changes(table: Table) -> dict:
    """The changes of a batch, by key."""
    return {key: (before, now) for key, before, now in table.changes()}


def test_a_batch_knows_before_and_now() -> None:
    """A change is the difference between the ends of a batch, whatever happened in between."""
    table: Table[str, int] = Table()
    table.put("kept", 1)
    table.put("changed", 1)
    table.put("gone", 1)
    table.forget()

    table.put("changed", 2)
    table.put("changed", 3)
    table.put("gone", None)
    table.put("new", 4)

    assert changes(table) == {"changed": (1, 3), "gone": (1, None), "new": (None, 4)}
    assert {key: table.before(key) for key in ("kept", "changed", "gone", "new")} == {
        "kept": 1,
        "changed": 1,
        "gone": 1,
        "new": None,
    }
    assert dict(table.items()) == {"kept": 1, "changed": 3, "new": 4}


def test_what_was_taken_back_has_not_changed() -> None:
    """A row put and taken back, or removed and put again, is no change."""
    table: Table[str, int] = Table()
    table.put("old", 1)
    table.forget()

    table.put("old", None)
    table.put("old", 1)
    table.put("brief", 5)
    table.put("brief", None)
    table.put("never", None)

    assert changes(table) == {}
    assert "old" in table
    assert "brief" not in table
    assert len(table) == 1


def test_an_index_finds_keys_by_what_rows_hold() -> None:
    """Keys are found under all that their rows hold now, and under nothing that they held before."""
    table: Table[str, tuple[int, ...]] = Table()
    table.put("early", (1, 2))
    index = Index(table, lambda _, row: row)
    table.put("late", (2, 3))
    assert {what: set(index[what]) for what in index} == {1: {"early"}, 2: {"early", "late"}, 3: {"late"}}

    table.put("early", (3,))
    table.put("late", None)

    assert {what: set(index[what]) for what in index} == {3: {"early"}}
    assert 2 not in index
    assert list(index[2]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.none() | st.frozensets(st.integers(0, 3))), max_size=120))
def test_an_index_is_the_table_turned_round(puts: list[tuple[int, frozenset[int] | None]]) -> None:
    """After any puts an index holds what a scan of the table would find, however large its buckets grew and shrank."""
    table: Table[int, frozenset[int]] = Table()
    index = Index(table, lambda _, row: row)
    for key, row in puts:
        table.put(key, row)

        expected: dict[int, set[int]] = {}
        for each, holds in table.items():
            for what in holds:
                expected.setdefault(what, set()).add(each)
        assert {what: set(index[what]) for what in index} == expected


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([True, None]))))
def test_a_relation_is_a_table_of_pairs(puts: list[tuple[str, int, bool | None]]) -> None:
    """A relation answers as a table of the same pairs does, changes and indexes included."""
    relation: Relation[Pair] = Relation(Pair)
    table: Table[Pair, bool] = Table()
    lefts = Index(relation, lambda pair, _: (pair.left,))
    for number, (left, right, row) in enumerate(puts):
        relation.put(Pair(left, right), row)
        table.put(Pair(left, right), row)
        if number == len(puts) // 2:
            relation.forget()
            table.forget()

    assert dict(relation.items()) == dict(table.items())
    assert set(relation) == set(table)
    assert len(relation) == len(table)
    assert changes(relation) == changes(table)
    assert {pair for left in "ab" for pair in lefts[left]} == set(table)
    assert all(pair in relation for pair in table)


def test_a_pair_that_was_taken_back_has_not_changed() -> None:
    """A pair put and taken back, or removed and put again, is no change."""
    relation: Relation[Pair] = Relation(Pair)
    relation.put(Pair("a", 1), True)
    relation.forget()
    for row in (None, True):
        relation.put(Pair("a", 1), row)
    for row in (True, None):
        relation.put(Pair("b", 2), row)
    assert changes(relation) == {}


def test_a_relation_forgets_a_half_with_its_last_pair() -> None:
    """Nothing is kept of a first half that has no pair any more."""
    relation: Relation[Pair] = Relation(Pair)
    for right in (1, 2):
        relation.put(Pair("a", right), True)
    for right in (1, 2):
        relation.put(Pair("a", right), None)
    assert relation._groups == {}
    assert len(relation) == 0


def test_a_relation_knows_what_was_before() -> None:
    """A pair taken out in this batch was there before it."""
    relation: Relation[Pair] = Relation(Pair)
    relation.put(Pair("a", 1), True)
    relation.forget()
    relation.put(Pair("a", 1), None)
    assert relation.before(Pair("a", 1)) is True
    assert relation.get(Pair("a", 1)) is None
    assert relation.before(Pair("a", 2)) is None


@pytest.mark.parametrize("size", [1, 8, 9, 30])
def test_buckets_of_every_size_empty_again(size: int) -> None:
    """A bucket that grew, whatever its form, leaves nothing when its last key goes."""
    table: Table[int, int] = Table()
    index = Index(table, lambda _, row: (row,))
    for key in range(size):
        table.put(key, 7)
    assert set(index[7]) == set(range(size))
    for key in range(size):
        table.put(key, None)
    assert len(index) == 0
