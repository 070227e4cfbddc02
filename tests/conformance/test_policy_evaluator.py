"""The reference evaluator against network policy suites of others."""

from __future__ import annotations

from typing import Any

import pytest

from calico.analysis.world import World
from support.kubernetes_cases import CASES, Probe, documents, matrix, rows

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here")


def _wrong(world: World, probes: list[Probe]) -> list[str]:
    return [
        f"{probe.source} -> {probe.destination} {probe.protocol}/{probe.port}: expected {'.X'[not probe.expected]}"
        for probe in probes
        if world.decide(
            source=probe.source, destination=probe.destination, protocol=probe.protocol, port=probe.port
        ).allowed
        != probe.expected
    ]


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row['test']}-{row['step']}") for row in rows("kubernetes-e2e")]
)
def test_kubernetes_e2e(row: dict[str, Any]) -> None:
    """Every cell of the truth table is decided as in Kubernetes' own suite."""
    world = World.load(documents(row, row["protocols"], row["ports"]))
    probes = list(matrix(row["order"], row["expected"], row["protocol"], row["port"]))
    assert probes
    assert _wrong(world, probes) == []


@pytest.mark.parametrize("row", [pytest.param(row, id=str(row["id"])) for row in rows("cyclonus")])
def test_cyclonus(row: dict[str, Any]) -> None:
    """Every cell of every step of a generated case is decided as expected."""
    for step in row["steps"]:
        world = World.load(documents(step, ["TCP", "UDP", "SCTP"], [80, 81]))
        probes = []
        for service, table in step["combined"].items():
            protocol, _, port = service.partition("/")
            probes += matrix(step["order"], table, protocol, int(port))
        assert probes
        assert _wrong(world, probes) == []
