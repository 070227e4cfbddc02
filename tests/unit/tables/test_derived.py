"""Derived tables are what their ``compute`` says, after any batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from calico.tables.derived import Derived, On, settle
from calico.tables.table import Index, Table

Batches = list[list[tuple[str, int | None]]]


def test_a_row_is_computed_once_however_often_it_is_touched() -> None:
    """Two changes that touch one row cost one computation."""
    prices: Table[str, int] = Table()
    sums: Table[str, int] = Table()
    computed: list[str] = []

    def total(key: str) -> int | None:
        computed.append(key)
        return sum(row for _, row in prices.items()) or None

    stage = Derived(sums, total, On(prices, lambda _key, _before, _now: ("all",)))
    prices.put("apples", 2)
    prices.put("pears", 3)
    settle([stage])

    assert computed == ["all"]
    assert sums.get("all") == 5


def test_an_untouched_row_is_not_computed() -> None:
    """Nothing happens where nothing changed, and equal rows go no further."""
    source: Table[str, int] = Table()
    parity: Table[str, bool] = Table()
    last: Table[str, bool] = Table()
    seen: list[str] = []

    def remember(key: str) -> bool | None:
        seen.append(key)
        return parity.get(key)

    stages = [
        Derived(
            parity,
            lambda key: None if (row := source.get(key)) is None else row % 2 == 1,
            On(source, lambda key, _before, _now: (key,)),
        ),
        Derived(last, remember, On(parity, lambda key, _before, _now: (key,))),
    ]
    source.put("a", 1)
    settle(stages)
    for table in (source, parity, last):
        table.forget()

    source.put("a", 3)
    settle(stages)

    assert seen == ["a"]
    assert last.get("a") is True


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 3)))))
def test_derived_equals_recomputed(batches: Batches) -> None:
    """A table derived through an index equals one computed from nothing, after every batch."""
    colours: Table[str, int] = Table()
    counts: Table[int, int] = Table()
    by_colour = Index(colours, lambda _, row: (row,))
    stage = Derived(
        counts,
        lambda colour: len(by_colour[colour]) or None,
        On(colours, lambda _, before, now: {before, now} - {None}),
    )
    for batch in batches:
        for key, row in batch:
            colours.put(key, row)
        settle([stage])
        for table in (colours, counts):
            table.forget()

        rows = [row for _, row in colours.items()]
        assert dict(counts.items()) == {colour: rows.count(colour) for colour in rows}
