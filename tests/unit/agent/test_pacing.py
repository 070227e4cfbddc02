"""Pacing and backoff."""

from __future__ import annotations

from calico.agent.pacing import Backoff, Pace


def test_a_lone_change_is_acted_on_at_once_and_the_next_one_waits() -> None:
    """The first round starts without waiting; within the gap the second waits for its end."""
    pace = Pace(gap=0.5)
    assert pace.wait(100.0) == 0.0
    pace.started(100.0)
    assert pace.wait(100.25) == 0.25
    assert pace.wait(100.5) == 0.0


def test_failures_in_a_row_double_the_pause_up_to_a_limit() -> None:
    """Each failure doubles the pause; a success forgets all of them."""
    backoff = Backoff(first=1.0, limit=5.0)
    assert [backoff.failed(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert backoff.failing
    assert backoff.wait(3.0) == 2.0
    backoff.succeeded()
    assert not backoff.failing
    assert backoff.wait(3.0) == 0.0
    assert backoff.failed(10.0) == 1.0
