"""Desired against actual, and when to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from calico.programming.reconciler import LONGEST_DELAY, Plan, Retry, after_failure, due, plan, seen

PICTURES = st.dictionaries(st.integers(0, 9), st.sampled_from("abc"))


def test_plan_is_the_difference() -> None:
    """What is missing or different is updated, what nobody desires is deleted, the rest is left alone."""
    desired = {"same": 1, "changed": 2, "missing": 3}
    actual = {"same": 1, "changed": 9, "stale": 4}

    assert plan(desired, actual) == Plan({"changed": 2, "missing": 3}, ("stale",))


@given(PICTURES, PICTURES)
def test_a_plan_carried_out_leaves_nothing_to_do(desired: dict[int, str], actual: dict[int, str]) -> None:
    """Whatever there was, after the plan the actual state is the desired one, and the next plan is empty."""
    steps = plan(desired, actual)

    result = {key: value for key, value in actual.items() if key not in steps.delete} | dict(steps.update)

    assert result == desired
    assert not plan(desired, result)
    assert bool(steps) == (desired != actual)


def test_retries_come_later_each_time_up_to_a_limit() -> None:
    """The delay doubles with each failure in a row, and never grows beyond ten seconds."""
    delays = []
    retry = None
    for _ in range(100):
        retry = after_failure(retry, 50.0)
        delays.append(retry.due - 50.0)

    assert [round(delay, 3) for delay in delays[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY


def test_due_lists_the_longest_overdue_first() -> None:
    """Only what is due now is tried, oldest first."""
    retries = {"late": Retry(1, 5.0), "later": Retry(1, 11.0), "overdue": Retry(3, 1.0)}

    assert due(retries, 10.0) == ["overdue", "late"]


def test_first_sight_is_remembered_while_present() -> None:
    """An object that goes and returns is seen for the first time again."""
    first = seen({}, ["a", "b"], 1.0)
    second = seen(first, ["a"], 2.0)

    assert seen(second, ["a", "b"], 3.0) == {"a": 1.0, "b": 3.0}
