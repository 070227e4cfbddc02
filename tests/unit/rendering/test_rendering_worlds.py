"""Whatever people write, the ruleset of a host says what the evaluator says: random resources, every kind of packet."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.model.address import parse_address
from calico.model.keys import key_of
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from support.firewall import Packet, forward
from support.packets import GRE, ICMP, ICMP6, INTERFACE, Probe
from support.universe import PROBES, expected, picture, universes
from support.world import World


def as_packet(probe: Probe) -> Packet:
    """The probe as the interpreter sees it, on its way through the host."""
    icmp = probe.protocol in {ICMP, ICMP6}
    ported = not icmp and probe.protocol != GRE
    return Packet(
        parse_address(probe.source_address),
        parse_address(probe.destination_address),
        probe.protocol,
        probe.sport if ported else None,
        probe.dport if ported else None,
        probe.icmp[0] if icmp else None,
        probe.icmp[1] if icmp else None,
        INTERFACE[probe.source],
        INTERFACE[probe.destination],
    )


@given(universes())
@settings(max_examples=60, deadline=None)
def test_a_random_world_is_judged_as_the_evaluator_judges_it(resources: list[Resource]) -> None:
    """Tiers, policies, profiles, sets and services of any kind: each packet passes exactly if its ends allow it."""
    renderer = Renderer(Settings())
    renderer.update(picture(resources))
    tables = renderer.tables
    for probe, passes in zip(PROBES, expected(resources), strict=True):
        assert forward(tables[probe.family], as_packet(probe)) == passes, probe


@given(universes(), universes(), st.booleans())
@settings(max_examples=15, deadline=None)
def test_one_world_may_become_another(
    first: list[Resource], second: list[Resource], empty_between: bool
) -> None:
    """What is rendered of a world does not depend on what was there before it."""
    world, renderer = World(), Renderer(Settings())
    for resources in (first, [] if empty_between else first, second):
        gone = dict.fromkeys(world.facts)
        renderer.update(world.change(gone | {key_of(resource): resource for resource in resources}))
    fresh = Renderer(Settings())
    fresh.update(picture(second))
    assert renderer.tables == fresh.tables
