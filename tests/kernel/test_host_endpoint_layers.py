"""Host policy on forwarded, not yet translated and untracked packets, on the kernel, judged by packets.

The host has a workload (w1, on cali1) and two interfaces of its own: eth0 to the outside, and cali2 to w2, which is no
workload's since the prefix is "cali1" here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

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
    Tiers,
)
from calico.model.address import Family
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from support.backends import NAMES, make_backend
from support.netns import needs_root
from support.packets import ADDRESS, ICMP6, TCP, UDP, Probe, World, fenced, world
from support.rows import PROFILES, host, workload

pytestmark = [pytest.mark.root, needs_root]

FAMILIES: tuple[Family, ...] = (4, 6)
SETTINGS = Settings(interface_prefix=("cali1",))
YES, NO = [True, True], [False, False]
ELSEWHERE = {4: "192.0.2.80", 6: "2001:db8::80"}
"""Addresses that nobody has: only destination NAT leads from there anywhere."""


def rule(action: str, *ports: int, end: str = "destination", protocol: int = UDP) -> RuleRow:
    origin = Origin("GlobalNetworkPolicy", "default", "", "p", "ingress", 0)
    if not ports:
        return RuleRow(action, origin)  # type: ignore[arg-type]
    side = Side(ports=tuple((port, port) for port in ports))
    return RuleRow(action, origin, protocol=protocol, **{end: side})  # type: ignore[arg-type]


def tier(*names: str) -> tuple[TierRow, ...]:
    return (TierRow("default", "Deny", tuple(PolicyId("GlobalNetworkPolicy", "", name) for name in names)),)


class Scene:
    """One back end at work in a world of packets."""

    def __init__(self, made: World, name: str, lock_file: Any) -> None:
        self.world = made
        self.backend = make_backend(name, lock_file)
        self.start(SETTINGS)

    def start(self, settings: Settings) -> None:
        self.renderer = Renderer(settings)
        self.known: set[Any] = set()

    def program(
        self,
        *endpoints: tuple[EndpointId, EndpointRow],
        ingress: Mapping[str, list[RuleRow]] | None = None,
        egress: Mapping[str, list[RuleRow]] | None = None,
    ) -> None:
        """Make the desired state just this, beside a profile that allows everything."""
        names = {*(ingress or {}), *(egress or {})}
        policies = {
            PolicyId("GlobalNetworkPolicy", "", name): PolicyRow(
                tuple((ingress or {}).get(name, ())), tuple((egress or {}).get(name, ()))
            )
            for name in names
        }
        rows: dict[Any, Any] = dict.fromkeys(key for key in self.known if isinstance(key, EndpointId))
        rows |= dict(endpoints)
        gone = dict.fromkeys(key for key in self.known if isinstance(key, PolicyId))
        self.known = {*rows, *policies}
        self.renderer.update(
            Delta(
                policies={**gone, **policies},
                profiles=PROFILES,
                endpoints=rows,
            ),
            {"lo": frozenset(), "eth0": frozenset(), "cali1": frozenset(), "cali2": frozenset()},
        )
        tables = {family: fenced(table) for family, table in self.renderer.tables.items()}
        self.world.host.call(lambda: self.backend.sync(tables))
        assert self.world.host.call(lambda: self.backend.check(tables)) == []
        self.world.forget_flows()

    def both(self, source: str, destination: str, dport: int, **fields: Any) -> list[bool]:
        """Whether a packet gets through, over IPv4 and IPv6."""
        probes = [Probe(source, destination, family, dport=dport, **fields) for family in FAMILIES]
        return self.world.passes(*probes)

    def translate(self, hook: str, port: int, destination: str, to_port: int) -> None:
        """Destination NAT by somebody else's rules: UDP ``port`` of nobody's address."""
        lines = []
        for family, name in ((4, "ip"), (6, "ip6")):
            to = ADDRESS[destination][family]  # type: ignore[index]
            to = f"[{to}]" if family == 6 else to
            lines += [
                f"table {name} foreign {{\nchain {hook} {{\ntype nat hook {hook} priority -100;",
                f"{name} daddr {ELSEWHERE[family]} udp dport {port} dnat to {to}:{to_port}",
                "}\n}",
            ]
        self.world.host.run("nft", "-f", "-", stdin="\n".join(lines))

    def flows(self) -> str:
        """What connection tracking knows of UDP, in both families."""
        return "".join(
            self.world.host.run("conntrack", "-L", "-f", family, "-p", "udp", check=False).stdout
            for family in ("ipv4", "ipv6")
        )


@pytest.fixture(scope="module", params=NAMES)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, ...]]:
    with world(f"t-hep-{request.param[-6:]}") as made:
        yield made, request.param, tmp_path_factory.mktemp("lock") / "xtables.lock"


@pytest.fixture
def scene(built: tuple[Any, ...]) -> Iterator[Scene]:
    """Nothing programmed; what the test programs, and what it says in others' names, goes away after it."""
    made = Scene(*built)
    made.world.host.run(
        "sh", "-c", "ip route replace 192.0.2.80 dev eth0; ip -6 route replace 2001:db8::80 dev eth0"
    )
    try:
        yield made
    finally:
        made.world.host.call(made.backend.remove)
        for family in ("ip", "ip6"):
            made.world.host.run("nft", f"add table {family} foreign; delete table {family} foreign")


# --- forwarded


def test_a_host_endpoint_without_policy_on_forwarded_traffic_lets_it_pass(scene: Scene) -> None:
    """Neither a deny in its normal policy nor the lack of profiles concerns what the host passes on."""
    scene.program(
        host(ingress=tier("closed"), egress=tier("closed"), profiles=()),
        host("w2", "cali2", profiles=()),
        ingress={"closed": []},
    )
    for source, destination in (("outside", "w2"), ("w2", "outside")):
        assert scene.both(source, destination, 80) == YES
    assert scene.both("outside", "host", 80) == NO
    assert scene.both("w2", "host", 80) == NO


@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_forward_policy_judges_what_passes_through(scene: Scene, interface: str) -> None:
    """From the first policy on, what none allows is denied, failsafe ports too; the other direction stays open."""
    scene.program(
        host(interface=interface, forward=Tiers(ingress=tier("some"))),
        *([host("w2", "cali2")] if interface == "*" else []),
        ingress={"some": [rule("Allow", 80)]},
    )
    assert scene.both("outside", "w2", 80) == YES
    assert scene.both("outside", "w2", 81) == NO
    assert scene.both("outside", "w2", 22, protocol=TCP) == NO
    assert scene.both("w2", "outside", 81) == YES
    assert scene.both("outside", "host", 81) == YES

    scene.program(
        host(interface=interface, forward=Tiers(egress=tier("some"))),
        *([host("w2", "cali2")] if interface == "*" else []),
        egress={"some": [rule("Allow", 80)]},
    )
    assert scene.both("w2", "outside", 80) == YES
    assert scene.both("w2", "outside", 81) == NO
    assert scene.both("outside", "w2", 81) == YES
    assert scene.both("host", "outside", 81) == YES


def test_answers_to_forwarded_flows_pass(scene: Scene) -> None:
    """A flow that is allowed one way has its answers, though no policy allows these."""
    closed = Tiers(tier("some"), tier("none"))
    scene.program(host(forward=closed), ingress={"some": [rule("Allow", 80)]}, egress={"none": []})
    for family in FAMILIES:
        there = Probe("outside", "w2", family, sport=5000, dport=80)
        back = Probe("w2", "outside", family, sport=80, dport=5000)
        assert scene.world.passes(back) == [False]
        scene.world.forget_flows()
        assert scene.world.passes(there, back) == [True, True]


def test_traffic_of_workloads_passes_both_policies(scene: Scene) -> None:
    """What is forwarded to and from a workload has to be allowed by its own policy and by that of the way."""
    policies = {"some": [rule("Allow", 80, 81)], "other": [rule("Allow", 81, 82)]}
    ways = Tiers(tier("some"), tier("some"))
    scene.program(
        host(forward=ways),
        workload(ingress=tier("other"), egress=tier("other")),
        ingress=policies,
        egress=policies,
    )
    for source, destination in (("outside", "w1"), ("w1", "outside")):
        assert [scene.both(source, destination, port) for port in (80, 81, 82)] == [NO, YES, NO]


def test_the_endpoint_for_all_interfaces_sees_forwarded_traffic_of_workloads(scene: Scene) -> None:
    """Its forward policy also judges what comes from and goes to workload interfaces, but not the host's own."""
    scene.program(
        host(interface="*", forward=Tiers(tier("in"), tier("out"))),
        workload(),
        host("named", "eth0"),
        ingress={"in": [rule("Allow", 80)]},
        egress={"out": [rule("Allow", 90)]},
    )
    assert scene.both("w1", "outside", 80) == YES  # in by cali1
    assert scene.both("w1", "outside", 90) == NO
    assert scene.both("outside", "w1", 90) == YES  # out by cali1
    assert scene.both("outside", "w1", 80) == NO
    assert scene.both("host", "w1", 80) == YES


# --- before destination NAT


@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_pre_dnat_policy_sees_the_destination_on_the_wire(scene: Scene, interface: str) -> None:
    """A flow is judged by the destination that it was sent to, before somebody's NAT; later layers by the other."""
    scene.translate("prerouting", 8080, "w1", 80)
    scene.program(
        host(interface=interface, pre_dnat=Tiers(ingress=tier("doors"))),
        workload(ingress=tier("web")),
        ingress={"doors": [rule("Allow", 8080), rule("Deny", 80, 8081)], "web": [rule("Allow", 80, 8082)]},
    )

    def sent(port: int) -> list[bool]:
        return scene.world.passes(
            *(Probe("outside", "w1", family, towards=ELSEWHERE[family], dport=port) for family in FAMILIES)
        )

    assert sent(8080) == YES
    assert scene.both("outside", "w1", 80) == NO
    assert scene.both("outside", "w1", 8082) == YES
    assert scene.both("outside", "w1", 8083) == NO
    assert scene.both("outside", "host", 8081) == NO


def test_what_pre_dnat_policy_allows_no_other_host_policy_asks(scene: Scene) -> None:
    """An Allow there holds for the host's own ports and for the way in; a workload's policy still has its say."""
    scene.program(
        host(
            pre_dnat=Tiers(ingress=tier("doors")), ingress=tier("none"), forward=Tiers(ingress=tier("none"))
        ),
        workload(ingress=tier("web")),
        ingress={"doors": [rule("Allow", 80, 81)], "none": [], "web": [rule("Allow", 80)]},
    )
    assert scene.both("outside", "host", 80) == YES
    assert scene.both("outside", "host", 90) == NO
    assert scene.both("outside", "w2", 80) == YES
    assert scene.both("outside", "w1", 80) == YES
    assert scene.both("outside", "w1", 81) == NO


def test_pre_dnat_policy_leaves_known_flows_alone(scene: Scene) -> None:
    """Answers to what the host began come in, though nothing there allows them."""
    scene.program(host(pre_dnat=Tiers(ingress=tier("none"))), ingress={"none": [rule("Deny")]})
    for family in FAMILIES:
        there = Probe("host", "outside", family, sport=5000, dport=80)
        back = Probe("outside", "host", family, sport=80, dport=5000)
        assert scene.world.passes(back) == [False]
        scene.world.forget_flows()
        assert scene.world.passes(there, back) == [True, True]


def test_an_endpoint_of_its_own_keeps_the_one_for_others_away(scene: Scene) -> None:
    """An interface that has an endpoint is not asked for policy of the endpoint for all others, in any layer."""
    closed = Tiers(ingress=tier("none"))
    scene.program(
        host(interface="*", pre_dnat=closed, forward=closed, ingress=tier("none")),
        host("named", "eth0"),
        ingress={"none": [rule("Deny")]},
    )
    assert scene.both("outside", "host", 80) == YES
    assert scene.both("outside", "w2", 80) == YES
    assert scene.both("w2", "host", 80) == NO
    assert scene.both("w2", "outside", 80) == NO


# --- untracked


def test_untracked_flows_leave_no_trace_in_connection_tracking(scene: Scene) -> None:
    """What untracked policy allows passes in both directions, each by its own rule, and nobody remembers it."""
    scene.program(
        host(untracked=Tiers(tier("raw"), tier("raw")), ingress=tier("none"), egress=tier("none")),
        ingress={"raw": [rule("Allow", 53)], "none": []},
        egress={"raw": [rule("Allow", 53, end="source")], "none": []},
    )
    assert scene.both("outside", "host", 53, sport=5053) == YES
    assert scene.both("host", "outside", 5053, sport=53) == YES
    assert "53" not in scene.flows()
    assert scene.both("outside", "host", 54) == NO
    assert scene.both("host", "outside", 5053, sport=54) == NO


def test_untracked_policy_that_says_nothing_leaves_it_to_the_others(scene: Scene) -> None:
    """What no untracked rule matches is tracked and judged by normal policy, without an end of the tier."""
    scene.program(
        host(untracked=Tiers(tier("raw"), tier("raw"))),
        ingress={"raw": [rule("Allow", 53), rule("Deny", 54)]},
    )
    assert scene.both("outside", "host", 80, sport=5080) == YES
    assert "sport=5080" in scene.flows()
    assert scene.both("outside", "host", 54) == NO
    assert scene.both("outside", "w2", 54) == NO


def test_forwarded_packets_of_untracked_policy_are_judged_at_the_far_side(scene: Scene) -> None:
    """Untracked policy lets a packet in; the workload that it goes to, and the interface that it leaves by, judge it too."""
    scene.program(
        host(untracked=Tiers(ingress=tier("raw")), forward=Tiers(ingress=tier("none"))),
        workload(ingress=tier("web")),
        host("w2", "cali2", forward=Tiers(egress=tier("web"))),
        ingress={"raw": [rule("Allow", 80, 81)], "none": [], "web": [rule("Allow", 80)]},
        egress={"web": [rule("Allow", 80)]},
    )
    for destination in ("w1", "w2"):
        assert [scene.both("outside", destination, port) for port in (80, 81, 82)] == [YES, NO, NO]
    assert "port=80 " not in scene.flows()


# --- always


@pytest.mark.parametrize("deny_action", ["Drop", "Reject"])
def test_failsafe_ports_stay_open_in_every_layer(scene: Scene, deny_action: str) -> None:
    """Whatever denies everything, an operator comes in by SSH and is answered, and the host resolves names."""
    scene.start(Settings(interface_prefix=("cali1",), filter_deny_action=deny_action))  # type: ignore[arg-type]
    shut = tier("none")
    scene.program(
        host(
            ingress=shut,
            egress=shut,
            pre_dnat=Tiers(ingress=shut),
            untracked=Tiers(shut, shut),
            forward=Tiers(shut, shut),
            profiles=(),
        ),
        ingress={"none": [rule("Deny")]},
        egress={"none": [rule("Deny")]},
    )
    for family in FAMILIES:
        ssh = Probe("outside", "host", family, TCP, sport=5022, dport=22)
        answer = Probe("host", "outside", family, TCP, sport=22, dport=5022)
        assert scene.world.passes(ssh) == [True]
        asked = Probe("host", "outside", family, sport=5353, dport=53)
        answered = Probe("outside", "host", family, sport=53, dport=5353)
        assert scene.world.passes(asked, answered) == [True, True]
        assert scene.world.passes(replace(ssh, dport=23), replace(answer, sport=23)) == [False, False]
    found, other = (Probe("outside", "host", 6, ICMP6, icmp=(kind, 0)) for kind in (135, 200))
    assert scene.world.passes(found, other) == [True, False]


def test_host_policy_sees_where_translation_led(scene: Scene) -> None:
    """What the host itself sends to a translated destination is judged by where it goes, at the interface that it leaves by."""
    scene.translate("output", 8080, "outside", 80)
    scene.program(host(egress=tier("some")), egress={"some": [rule("Allow", 90, 8080)]})

    def sent() -> list[bool]:
        return scene.world.passes(
            *(Probe("host", "outside", family, towards=ELSEWHERE[family], dport=8080) for family in FAMILIES)
        )

    assert sent() == NO
    scene.program(host(egress=tier("some")), egress={"some": [rule("Allow", 80)]})
    assert sent() == YES
    assert scene.both("w2", "outside", 99) == YES


def test_a_layer_that_is_no_longer_asked_is_gone(scene: Scene) -> None:
    """Endpoints come and go, and with the last one everything that was there for them goes."""
    scene.program(workload())
    tables = {family: str(table) for family, table in scene.renderer.tables.items()}
    shut = tier("none")
    scene.program(
        workload(),
        host(pre_dnat=Tiers(ingress=shut), untracked=Tiers(shut, shut), forward=Tiers(shut, shut)),
        ingress={"none": [rule("Deny")]},
        egress={"none": [rule("Deny")]},
    )
    assert scene.both("outside", "w1", 80) == NO
    scene.program(workload())
    assert scene.both("outside", "w1", 80) == YES
    assert {family: str(table) for family, table in scene.renderer.tables.items()} == tables

    scene.world.host.call(scene.backend.remove)
    left = scene.world.host.run("nft", "list", "ruleset").stdout
    assert "cali" not in left.replace('"cali', "")
