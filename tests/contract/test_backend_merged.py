"""Policies of many similar rules, on every back end: what became a set still means what the rules say, packet by packet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    Side,
    TierRow,
    Verdict,
)
from calico.model.address import Cidr, Family, parse_address, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig
from support.netns import needs_root
from support.packets import ADDRESS, INTERFACE, TCP, UDP, Probe

pytestmark = [pytest.mark.root, needs_root]

POLICY = PolicyId("GlobalNetworkPolicy", "", "many")
TARGET = EndpointId("WorkloadEndpoint", "default", "w2")
TABLES: tuple[ast.TableFamily, ...] = (*FAMILIES, "arp")
FILLERS = 50
"""Rules of each run that no probe of these tests matches."""


@pytest.fixture(scope="module", params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-merge", tmp_path_factory.mktemp("lock")) as made:
        yield made


@pytest.fixture
def rig(home: Rig) -> Iterator[Rig]:
    """The back end with nothing programmed; what the test programs goes away after it."""
    home.world.forget_flows()
    home.loaded = {family: ast.Table(family) for family in TABLES}
    home.sync()
    yield home
    home.inside(home.backend.remove)


def row(action: Verdict, protocol: int | None = None, **sides: Side) -> RuleRow:
    return RuleRow(
        action, Origin("GlobalNetworkPolicy", "default", "", "many", "ingress", 0), protocol=protocol, **sides
    )


def address(name: str, family: Family) -> Cidr:
    return parse_address(ADDRESS[name][family])


def fillers(family: Family) -> list[Cidr]:
    """Addresses that nobody has."""
    return [
        Cidr(
            family,
            parse_address("198.18.0.0" if family == 4 else "2001:db8::").value + n,
            32 if family == 4 else 128,
        )
        for n in range(FILLERS)
    ]


def single(port: int) -> tuple[tuple[int, int], ...]:
    return ((port, port),)


class Host:
    """The workload w2 behind one policy; w1 lets everything out."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.renderer = Renderer(Settings())
        everything = PolicyRow((), (row("Allow"),))
        both = {"ingress": (), "egress": ()}
        rows = {
            EndpointId("WorkloadEndpoint", "default", "w1"): EndpointRow(
                interface=INTERFACE["w1"],
                addresses=tuple(address("w1", f) for f in FAMILIES),
                profiles=("open",),
                **both,
            ),
            TARGET: EndpointRow(
                interface=INTERFACE["w2"],
                addresses=tuple(address("w2", f) for f in FAMILIES),
                ingress=(TierRow("default", "Deny", (POLICY,)),),
                egress=(),
                profiles=(),
            ),
        }
        self.update(Delta(profiles={"open": everything}, endpoints=rows))

    def update(self, delta: Delta) -> None:
        self.rig.apply(*self.renderer.update(delta))
        assert self.rig.check() == []

    def police(self, rules: Sequence[RuleRow]) -> int:
        """Give w2 these ingress rules; how many the kernel's chain has of them, in the larger family."""
        self.update(Delta(policies={POLICY: PolicyRow(tuple(rules), ())}))
        return max(
            len(chain.rules)
            for family in FAMILIES
            for name, chain in self.renderer.tables[family].chains.items()
            if name.startswith("cali-pi-")
        )

    def passes(self, source: str, port: int, protocol: int = UDP) -> bool:
        """Whether a packet gets to w2, in both families alike."""
        four, six = self.rig.passes(
            *(Probe(source, "w2", family, protocol, dport=port) for family in FAMILIES)
        )
        assert four == six
        return four


def test_many_sources_are_one_lookup(rig: Rig) -> None:
    """An address among many may pass, on its port and protocol only; one that is taken out may not."""
    host = Host(rig)
    rules = [
        row("Allow", UDP, source=Side(nets=(net,)), destination=Side(ports=single(80)))
        for family in FAMILIES
        for net in [*fillers(family), address("w1", family)]
    ]

    assert host.police(rules) == 1
    assert [host.passes("w1", 80), host.passes("w1", 81), host.passes("w1", 80, TCP)] == [True, False, False]
    assert not host.passes("outside", 80)

    assert (
        host.police(
            [rule for rule in rules if rule.source.nets[0] not in {address("w1", f) for f in FAMILIES}]
        )
        == 1
    )
    rig.world.forget_flows()
    assert not host.passes("w1", 80)


def test_nets_that_overlap_are_one_lookup(rig: Rig) -> None:
    """Prefixes within prefixes, and single addresses among them, match what any of them does."""
    host = Host(rig)
    nets = [parse_cidr(text) for text in ("10.65.0.0/16", "10.65.0.0/24", "fd65::/16", "fd65::/64")]
    nets += [
        Cidr(net.family, net.value, net.length - 1) for family in FAMILIES for net in fillers(family)[::2]
    ]

    assert host.police([row("Allow", source=Side(nets=(net,))) for net in nets]) == 1
    assert [host.passes("w1", 80), host.passes("outside", 80)] == [True, False]


def test_addresses_with_ports_and_protocols_are_one_lookup(rig: Rig) -> None:
    """Destination, protocol and port are looked up together: what one rule says of one is not mixed with another's."""
    host = Host(rig)
    rules = [
        row("Allow", protocol, destination=Side(nets=(net,), ports=single(port)))
        for family in FAMILIES
        for net, protocol, port in [
            *((filler, UDP, 1000 + number) for number, filler in enumerate(fillers(family))),
            (address("w2", family), UDP, 53),
            (address("w2", family), TCP, 80),
        ]
    ]

    assert host.police(rules) == 1
    assert [
        host.passes("w1", port, protocol)
        for port, protocol in ((53, UDP), (80, TCP), (53, TCP), (80, UDP), (1000, UDP))
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_many_ports_are_one_list(rig: Rig) -> None:
    """Rules that differ in their port only match each of the ports, and none between them."""
    host = Host(rig)
    host.police([row("Allow", UDP, destination=Side(ports=single(port))) for port in range(100, 200, 2)])

    assert [host.passes("w1", port) for port in (98, 100, 101, 150, 198, 199)] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]


def test_allow_and_deny_in_turn_are_two_lookups(rig: Rig) -> None:
    """Of rules for different addresses each does its own, whatever stood between them."""
    host = Host(rig)
    actions: tuple[Verdict, Verdict] = ("Allow", "Deny")
    rules = [
        row(actions[number % 2], source=Side(nets=(net,)))
        for family in FAMILIES
        for number, net in enumerate([*fillers(family), address("w1", family), address("outside", family)])
    ]

    assert host.police([*rules, row("Allow", UDP, destination=Side(ports=single(7)))]) == 3
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [True, False]
    assert [host.passes(name, 7) for name in ("w1", "outside", "host")] == [True, False, True]

    swapped = [
        RuleRow("Deny" if rule.action == "Allow" else "Allow", rule.origin, source=rule.source)
        for rule in rules
    ]
    assert host.police(swapped) == 2
    rig.world.forget_flows()
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [False, True]


def test_the_first_of_overlapping_rules_wins(rig: Rig) -> None:
    """An exception before, and one behind a wider rule: what comes first decides."""
    host = Host(rig)
    few = [
        row("Deny", source=Side(nets=(net,)))
        for family in FAMILIES
        for net in [*fillers(family), address("w1", family)]
    ]
    wide = [
        row("Allow", source=Side(nets=(parse_cidr(text),)))
        for text in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
    ]
    late = [
        row("Deny", source=Side(nets=(net,)))
        for family in FAMILIES
        for net in [*fillers(family), address("outside", family)]
    ]

    host.police([*few, *wide, *late])
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [False, True]


def test_many_policies_are_one_lookup(rig: Rig) -> None:
    """A policy of one rule each for many sources, a larger one among them: each has its say, and its place."""
    host = Host(rig)
    names = [PolicyId("GlobalNetworkPolicy", "", f"p{number}") for number in range(FILLERS + 3)]
    sources = {
        name: [fillers(family)[number] for family in FAMILIES] for number, name in enumerate(names[:FILLERS])
    }
    early, large, late = names[FILLERS:]
    sources[early] = [address("w1", family) for family in FAMILIES]
    sources[late] = [address("outside", family) for family in FAMILIES]
    policies = {
        name: PolicyRow(
            (row("Allow", UDP, source=Side(nets=tuple(nets)), destination=Side(ports=single(80))),), ()
        )
        for name, nets in sources.items()
    }
    policies[large] = PolicyRow(
        tuple(row("Deny", UDP, destination=Side(ports=single(port))) for port in (80, 90, 100)), ()
    )
    tier = TierRow("default", "Deny", (*names[:FILLERS], early, large, late))
    target = EndpointRow(INTERFACE["w2"], tuple(address("w2", f) for f in FAMILIES), (tier,), (), ())
    host.update(Delta(policies=policies, endpoints={TARGET: target}))

    chains = host.renderer.tables[4].chains
    assert [len(chain.rules) for name, chain in chains.items() if name.startswith("cali-gi-")] == [4]
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [True, False]

    host.update(Delta(policies={early: None, large: PolicyRow((), ())}))
    rig.world.forget_flows()
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [False, False]

    host.update(Delta(policies={early: PolicyRow((), ())}))
    assert [host.passes(name, 80) for name in ("w1", "outside")] == [False, True]
