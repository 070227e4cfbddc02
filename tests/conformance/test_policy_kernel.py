"""The kernel, on both back ends, against network policy suites of others.

Every step of a case is applied on top of the one before, as a live cluster would, and judged by packets between
pods on two hosts. SCTP is probed with raw INIT packets. By default Kubernetes' own suite and a sample of the
generated one run; ``CALICO_CONFORMANCE=all`` (``make conformance``) runs everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from calico.analysis.world import resources_of
from support.backends import NAMES
from support.cluster import Cluster, Flow, cluster
from support.kubernetes_cases import CASES, Probe, documents, matrix, rows
from support.netns import needs_root

pytestmark = [
    pytest.mark.root,
    needs_root,
    pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here"),
]
ALL = os.environ.get("CALICO_CONFORMANCE") == "all"
SAMPLE = 12
"""One in so many generated cases runs by default."""
E2E = rows("kubernetes-e2e")
CYCLONUS = rows("cyclonus")


def _addresses(steps: list[dict[str, Any]]) -> list[str]:
    return sorted({pod["ip"] for step in steps for pod in step["pods"]})


@pytest.fixture(scope="module", params=NAMES)
def e2e_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with cluster("t-conf-e2e", _addresses(E2E), request.param, tmp_path_factory.mktemp("locks")) as made:
        yield made


@pytest.fixture(scope="module", params=NAMES)
def cyclonus_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    steps = [step for row in CYCLONUS for step in row["steps"]]
    with cluster("t-conf-cyc", _addresses(steps), request.param, tmp_path_factory.mktemp("locks")) as made:
        yield made


def _wrong(
    made: Cluster, step: dict[str, Any], protocols: list[str], ports: list[int], probes: list[Probe]
) -> list[str]:
    """The questions that the kernel answers otherwise than expected."""
    made.become(
        [one for document in documents(step, protocols, ports) for one in resources_of(document)],
        step["pods"],
    )
    flows = [Flow(probe.source, probe.destination, probe.protocol, probe.port) for probe in probes]
    observed = made.reach(flows, [probe.expected for probe in probes])
    return [
        f"{probe.source} -> {probe.destination} {probe.protocol}/{probe.port}: expected {'.X'[not probe.expected]}"
        for probe, arrived in zip(probes, observed, strict=True)
        if arrived != probe.expected
    ]


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row['test']}-{row['step']}") for row in E2E])
def test_kubernetes_e2e(e2e_cluster: Cluster, row: dict[str, Any]) -> None:
    """Every cell of the truth table holds for packets, with the step applied live."""
    probes = list(matrix(row["order"], row["expected"], row["protocol"], row["port"]))
    assert probes
    assert _wrong(e2e_cluster, row, row["protocols"], row["ports"], probes) == []


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=str(row["id"])) for row in (CYCLONUS if ALL else CYCLONUS[::SAMPLE])]
)
def test_cyclonus(cyclonus_cluster: Cluster, row: dict[str, Any]) -> None:
    """Every cell of every step of a generated case holds for packets, with the steps applied live."""
    for step in row["steps"]:
        probes: list[Probe] = []
        for service, table in step["combined"].items():
            protocol, _, port = service.partition("/")
            probes += matrix(step["order"], table, protocol, int(port))
        assert probes
        assert _wrong(cyclonus_cluster, step, ["TCP", "UDP", "SCTP"], [80, 81], probes) == []
