"""What hosts pass on: a world's whole decision, host endpoints on the way included, is what the kernel does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from calico.analysis import World
from calico.analysis.world import Decision
from calico.model.address import parse_address
from calico.model.keys import key_of
from calico.model.node import Node, NodeAddress, NodeSpec
from calico.model.resource import Metadata, Resource
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig
from support.builders import here, host_endpoint, policy, rule
from support.netns import needs_root
from support.packets import ADDRESS, ICMP, ICMP6, TCP, UDP, Probe
from support.universe import Resources, Universe, picture

pytestmark = [pytest.mark.root, needs_root]

OPEN: Final = Settings(default_endpoint_to_host_action="Accept")
OWN: Final = tuple(ADDRESS["host"][family] for family in FAMILIES)
INTERFACES: Final = {
    "lo": frozenset(),
    "eth0": frozenset(map(parse_address, OWN)),
    "cali1": frozenset([parse_address("169.254.1.1")]),
    "cali2": frozenset([parse_address("169.254.1.1")]),
}
NODE: Final = Node(
    metadata=Metadata(name=here), spec=NodeSpec(addresses=[NodeAddress(address=text) for text in OWN])
)
HOOKS: Final[tuple[dict[str, bool], ...]] = (
    {"apply_on_forward": True},
    {"apply_on_forward": True, "pre_dnat": True},
    {"apply_on_forward": True, "do_not_track": True},
    {},
)
WAYS: Final = (
    ("w1", "w2"),
    ("w2", "w1"),
    ("outside", "w2"),
    ("w1", "outside"),
    ("w1", "host"),
    ("outside", "host"),
    ("host", "outside"),
)


class Through(Universe):
    """A host with endpoints of its own, and policies about what it passes on; workloads mostly let everything pass."""

    def resources(self) -> list[Resource]:
        made: list[Resource] = super().resources() if self.sometimes() else self._open_workloads()
        made = [each for each in made if each.metadata.name != "w3"]
        made.append(NODE)
        made += self.choose((self._for_all(), self._named(), [*self._for_all(), *self._named()]))
        made += [self._host_policy(number) for number in range(self.choose((1, 2, 3)))]
        return made

    def _open_workloads(self) -> list[Resource]:
        found = [each for each in super().resources() if each.kind in {"Profile", "WorkloadEndpoint"}]
        spoken = {"red", "blue", "kns.red", "kns.blue"}
        return [each for each in found if each.kind != "Profile" or each.metadata.name in spoken]

    def _for_all(self) -> list[Resource]:
        return [host_endpoint("all", interface="*", labels={"role": "a"}, profiles=("kns.red",))]

    def _named(self) -> list[Resource]:
        by_name = host_endpoint("eth", interface="eth0", labels={"app": "web"}, profiles=("kns.red",))
        by_address = host_endpoint("eth", address=OWN, labels={"app": "web"}, profiles=("kns.red",))
        return [self.choose((by_name, by_address))]

    def _host_policy(self, number: int) -> Resource:
        hook = self.choose(HOOKS)
        types = (
            ("Ingress",)
            if "pre_dnat" in hook
            else self.choose((("Ingress",), ("Egress",), ("Ingress", "Egress")))
        )
        rules = {
            direction: [*self.rules(direction), *self._plain()]
            for direction in ("ingress", "egress")
            if direction.capitalize() in types
        }
        return policy(
            f"h{number}",
            namespace=None,
            order=self.choose((None, 1.0)),
            selector=self.choose(
                ("role == 'a'", "app == 'web' && !has(projectcalico.org/namespace)", "all()")
            ),
            types=types,
            **rules,
            **hook,
        )

    def _plain(self) -> list[Any]:
        allowed = rule("Allow", protocol="UDP", destination={"ports": self.choose(([80], [53], ["1:65535"]))})
        return self.choose(([allowed], [], [rule("Allow")], [rule("Deny", protocol="TCP"), rule("Allow")]))


def probes() -> Iterator[Probe]:
    for family in FAMILIES:
        icmp, echo = (ICMP, 8) if family == 4 else (ICMP6, 128)
        for source, destination in WAYS:
            way = {"source": source, "destination": destination, "family": family}
            yield from (Probe(**way, protocol=TCP, sport=82, dport=port) for port in (80, 22))
            yield from (Probe(**way, protocol=UDP, sport=1500, dport=port) for port in (53, 80))
            yield Probe(**way, protocol=icmp, icmp=(echo, 1))


PROBES: Final = tuple(probes())


def decided(world: World, probe: Probe) -> Decision:
    ported = probe.protocol in {TCP, UDP}
    return world.decide(
        source=probe.source_address,
        destination=probe.destination_address,
        protocol=probe.protocol,
        port=probe.dport if ported else None,
        source_port=probe.sport if ported else None,
        icmp_type=None if ported else probe.icmp[0],
        icmp_code=None if ported else probe.icmp[1],
    )


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-between", tmp_path_factory.mktemp("lock")) as made:
        yield made


def passed(rig: Rig, resources: Sequence[Resource], asked: Sequence[Probe]) -> list[bool]:
    """Which of the packets get through a kernel that is programmed for the resources."""
    rig.world.forget_flows()
    rig.loaded = {family: ast.Table(family) for family in FAMILIES}
    rig.sync()
    changes = Renderer(OPEN).update(picture(resources), INTERFACES)
    rig.apply(*(change for change in changes if change.family in FAMILIES))
    found = rig.passes(*asked)
    assert rig.check() == []
    return found


@st.composite
def worlds(draw: Any) -> Resources:
    """The resources of one world."""
    return Resources(Through(lambda options: draw(st.sampled_from(options))).resources())


def test_packets_pass_hosts_where_the_world_says(rig: Rig) -> None:
    """Forwarded, early and normal host policy of any kind, at both sides of a host: the kernel's verdicts are the decision's."""

    @given(worlds())
    @settings(
        max_examples=12,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    def judged_alike(resources: Resources) -> None:
        world = World({key_of(resource): resource for resource in resources}, OPEN)
        expected = [decided(world, probe).allowed for probe in PROBES]

        through = passed(rig, resources, PROBES)

        differences = [
            (probe, got)
            for probe, got, wanted in zip(PROBES, through, expected, strict=True)
            if got != wanted
        ]
        assert differences == []

    judged_alike()


def test_policy_on_the_way_is_part_of_the_decision(rig: Rig) -> None:
    """One host endpoint for all interfaces: its forward policy closes one workload to another, and its early one the host."""
    workloads = Through(lambda options: options[0]).resources()
    plain = [each for each in workloads if each.kind in {"Profile", "WorkloadEndpoint", "Node"}]
    everything = host_endpoint("all", interface="*", profiles=("kns.red",))
    forward = policy(
        "forward", namespace=None, selector="!has(projectcalico.org/namespace)", types=["Ingress"],
        ingress=[rule("Allow", protocol="UDP", destination={"ports": [53]})], apply_on_forward=True,
    )  # fmt: skip
    early = replace_hook(forward, ingress=[rule("Deny", protocol="UDP", destination={"ports": [80]})])
    asked = [
        Probe(source, destination, protocol=UDP, sport=1500, dport=port)
        for source, destination in WAYS[:5]
        for port in (53, 80)
    ]

    for extra, wanted in (
        ([], [True] * 10),
        ([everything], [True] * 10),
        ([everything, forward], [True, False] * 4 + [True, True]),
        ([everything, early], [True, False] * 5),
    ):
        resources = Resources([*plain, *extra])
        world = World({key_of(resource): resource for resource in resources}, OPEN)
        assert [decided(world, probe).allowed for probe in asked] == wanted
        assert passed(rig, resources, asked) == wanted


def replace_hook(made: Resource, **rules: Any) -> Resource:
    """The same policy before destination NAT."""
    return policy("early", namespace=None, selector=made.spec.selector, types=["Ingress"], pre_dnat=True, apply_on_forward=True, **rules)  # type: ignore[attr-defined]  # fmt: skip
