"""Logging with a rate: every back end takes what a setting may say, and nothing else than the log is limited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from calico.ruleset import ast
from support.backends import NAMES, Rig, make_rig, table
from support.netns import needs_root
from support.packets import Probe

pytestmark = [pytest.mark.root, needs_root]

RATES = [
    ("1/second", 1),
    ("9999/second", 9999),
    ("60/minute", 5),
    ("1/hour", 9999),
    ("1/day", 5),
    ("9999/day", 1),
]


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-rules-l", tmp_path_factory.mktemp("lock")) as made:
        yield made


def test_any_rate_is_taken_and_limits_the_log_alone(rig: Rig) -> None:
    """The kernel takes each rate with its burst, holds it as written, and drops or passes packets as ever."""
    https = (ast.Ports("destination", ((443, 443),)),)
    rules = [ast.Rule(https, (ast.Log("calico-test: ", rate, burst),), counted=True) for rate, burst in RATES]
    rules.append(ast.Rule(https, (ast.Drop(),)))
    rig.load(*(table(family, {"filter-FORWARD": rules}) for family in (4, 6)))

    assert rig.check() == []
    for family in (4, 6):
        probes = [Probe("w1", "w2", family, dport=port) for port in (80, 443, 80, 443)]
        assert rig.passes(*probes) == [True, False, True, False]
