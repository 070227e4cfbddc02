"""Whatever people write, packets get through exactly where the evaluator says: random resources on every back end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from calico.model.address import parse_address
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig
from support.netns import needs_root
from support.packets import ADDRESS
from support.universe import PROBES, Resources, expected, picture, universes

pytestmark = [pytest.mark.root, needs_root]

INTERFACES = {
    "eth0": frozenset(parse_address(ADDRESS["host"][family]) for family in FAMILIES),
    "cali1": frozenset([parse_address("169.254.1.1")]),
    "cali2": frozenset([parse_address("169.254.1.1")]),
}


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-rules-w", tmp_path_factory.mktemp("lock")) as made:
        yield made


def test_packets_pass_where_the_evaluator_says(rig: Rig) -> None:
    """Tiers, policies, profiles, sets and services of any kind: the kernel's verdicts are those of the evaluator."""

    @given(universes())
    @settings(
        max_examples=15,
        deadline=None,
        phases=[Phase.generate],  # to shrink on the kernel takes minutes; the failure names all resources
        suppress_health_check=[HealthCheck.too_slow],
    )
    def judged_alike(resources: Resources) -> None:
        rig.world.forget_flows()
        rig.loaded = {family: ast.Table(family) for family in FAMILIES}
        rig.sync()
        changes = Renderer(Settings()).update(picture(resources), INTERFACES)
        rig.apply(*(change for change in changes if change.family in FAMILIES))

        passed = rig.passes(*PROBES)

        verdicts = zip(PROBES, passed, expected(resources), strict=True)
        assert [(probe, through) for probe, through, right in verdicts if through != right] == []
        assert rig.check() == []

    judged_alike()
