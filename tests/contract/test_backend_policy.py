"""From desired rows to packets: what policy says is what every back end does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    PoolRow,
    PortMember,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
)
from calico.model.address import Cidr, Family, parse_address, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig, nets, rule, table
from support.netns import needs_root
from support.packets import ADDRESS, GRE, ICMP, ICMP6, SCTP, TCP, UDP, UDPLITE, Probe, fenced
from support.rows import OPEN, PROFILES, host, workload

pytestmark = [pytest.mark.root, needs_root]

PORTS = range(1, 9)
HOST_INTERFACES = {
    "lo": frozenset(nets("127.0.0.1", "::1")),
    "eth0": frozenset(parse_address(ADDRESS["host"][family]) for family in FAMILIES),
    "cali1": frozenset(nets("169.254.1.1")),
    "cali2": frozenset(nets("169.254.1.1")),
}


@pytest.fixture(scope="module", params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-ipt-y", tmp_path_factory.mktemp("lock")) as made:
        yield made


@pytest.fixture
def rig(home: Rig) -> Iterator[Rig]:
    """The back end with nothing programmed; what the test programs goes away after it."""
    home.world.forget_flows()
    yield home
    home.inside(home.backend.remove)


# --- a host's desired state, in few words


def allow(**fields: Any) -> RuleRow:
    return row("Allow", **fields)


def deny(**fields: Any) -> RuleRow:
    return row("Deny", **fields)


def row(action: Literal["Allow", "Deny", "Log", "Pass"], *ports: int, **fields: Any) -> RuleRow:
    """A rule of desired state; ``ports`` are destination ports of UDP."""
    if ports:
        fields = {"protocol": UDP, "destination": Side(ports=tuple((port, port) for port in ports)), **fields}
    return RuleRow(action, Origin("GlobalNetworkPolicy", "default", "", "test", "ingress", 0), **fields)


def policy_id(name: str) -> PolicyId:
    return PolicyId("GlobalNetworkPolicy", "", name)


def tier(*names: str, name: str = "default", end: Literal["Deny", "Pass"] = "Deny") -> TierRow:
    return TierRow(name, end, tuple(policy_id(policy) for policy in names))


@dataclass
class Programmed:
    """A renderer and a back end behind it."""

    rig: Rig
    renderer: Renderer
    sets: dict[str, Any] = field(default_factory=dict)

    def update(self, delta: Delta) -> None:
        """Render a delta, apply the changes, and check that nothing else is there."""
        self.rig.apply(*self.renderer.update(delta, HOST_INTERFACES))
        assert self.rig.loaded == {family: fenced(table) for family, table in self.renderer.tables.items()}
        assert self.rig.check() == []


def program(
    rig: Rig,
    *endpoints: tuple[EndpointId, EndpointRow],
    ingress: Mapping[str, list[RuleRow]] | None = None,
    egress: Mapping[str, list[RuleRow]] | None = None,
    profiles: Mapping[str, PolicyRow] | None = None,
    sets: Mapping[str, list[Cidr | PortMember]] | None = None,
    settings: Settings | None = None,
    pools: Mapping[str, bool] | None = None,
) -> Programmed:
    """Render these rows and apply them to a back end that has just started on an empty host."""
    rig.loaded = {family: ast.Table(family) for family in FAMILIES}
    rig.sync()
    made = Programmed(rig, Renderer(settings or Settings()))
    names = {*(ingress or {}), *(egress or {})}
    made.update(
        Delta(
            set_infos={
                name: SetInfo("port", "all()", name)
                if name.startswith("n:")
                else SetInfo("net", f"has({name[2:]})")
                for name in sets or {}
            },
            set_members={SetMember(name, member): True for name, of in (sets or {}).items() for member in of},
            policies={
                policy_id(name): PolicyRow(
                    tuple((ingress or {}).get(name, ())), tuple((egress or {}).get(name, ()))
                )
                for name in names
            },
            profiles={**PROFILES, **(profiles or {})},
            endpoints=dict(endpoints),
            pools={parse_cidr(text): PoolRow(nat) for text, nat in (pools or {}).items()},
        )
    )
    return made


def open_ports(rig: Rig, source: str, destination: str, family: Family = 4) -> list[int]:
    """The UDP ports of PORTS that a packet from one to the other gets through to."""
    passed = rig.passes(*(Probe(source, destination, family, dport=port) for port in PORTS))
    return [port for port, through in zip(PORTS, passed, strict=True) if through]


def in_both(rig: Rig, source: str, destination: str) -> list[int]:
    """As ``open_ports``, when both families agree."""
    four, six = (open_ports(rig, source, destination, family) for family in FAMILIES)
    assert four == six
    return four


# --- the walk through tiers and profiles


def test_tiers_are_walked_in_order(rig: Rig) -> None:
    """Allow and Deny end the walk, Pass leaves the tier, Log goes on, the end of a tier does what it says."""
    program(
        rig,
        workload("w1"),
        workload(
            "w2",
            ingress=(
                tier("a", "b", name="first", end="Pass"),
                tier("c", name="second", end="Deny"),
                tier("d", name="never reached"),
            ),
        ),
        ingress={
            "a": [row("Log", 1, 2), row("Deny", 1), row("Allow", 2), row("Pass", 3)],
            "b": [row("Deny", 2, 3), row("Allow", 1, 4)],
            "c": [row("Allow", 3, 5), row("Pass", 6), row("Deny", 4)],
            "d": [row("Allow", 6, 7)],
        },
    )

    assert in_both(rig, "w1", "w2") == [2, 3, 4, 5, 6]
    assert in_both(rig, "w2", "w1") == list(PORTS)
    assert in_both(rig, "outside", "w2") == [2, 3, 4, 5, 6]


def test_a_pass_out_of_the_last_tier_reaches_the_profiles(rig: Rig) -> None:
    """After the last tier the profiles decide, in their order; what they do not allow is denied."""
    profiles = {
        "one": PolicyRow((row("Deny", 1), row("Allow", 2)), ()),
        "two": PolicyRow((row("Allow", 1, 3),), ()),
    }
    program(
        rig,
        workload("w1"),
        workload("w2", ingress=(tier("a", end="Pass"),), profiles=("one", "two")),
        ingress={"a": [row("Deny", 3), row("Allow", 4)]},
        profiles=profiles,
    )

    assert in_both(rig, "w1", "w2") == [2, 4]


def test_what_is_missing_denies(rig: Rig) -> None:
    """A profile or policy that does not exist denies, and so does an endpoint without any, or inactive."""
    made = program(rig, workload("w1"), workload("w2", profiles=("missing", OPEN)))
    assert in_both(rig, "w1", "w2") == []

    made.update(Delta(endpoints=dict([workload("w2", profiles=())])))
    assert in_both(rig, "w1", "w2") == []

    made.update(Delta(endpoints=dict([workload("w2", ingress=(tier("missing"),))])))
    assert in_both(rig, "w1", "w2") == []

    made.update(Delta(endpoints=dict([workload("w2", active=False)])))
    assert in_both(rig, "w1", "w2") == []

    made.update(Delta(endpoints=dict([workload("w2")])))
    assert in_both(rig, "w1", "w2") == list(PORTS)


def test_both_ends_must_agree(rig: Rig) -> None:
    """Between two workloads of one host the egress of one and the ingress of the other both count."""
    program(
        rig,
        workload("w1", egress=(tier("out"),)),
        workload("w2", ingress=(tier("in"),)),
        egress={"out": [row("Allow", 1, 2, 3)]},
        ingress={"in": [row("Allow", 2, 3, 4)]},
    )

    assert in_both(rig, "w1", "w2") == [2, 3]
    assert in_both(rig, "w1", "outside") == [1, 2, 3]
    assert in_both(rig, "outside", "w2") == [2, 3, 4]
    assert in_both(rig, "host", "w2") == list(PORTS)


def test_an_interface_without_endpoint_is_closed(rig: Rig) -> None:
    """An interface that looks like a workload's but belongs to nobody sends nothing and gets nothing."""
    made = program(rig, workload("w1"))
    assert in_both(rig, "w2", "outside") == []
    assert in_both(rig, "outside", "w2") == []
    assert in_both(rig, "w1", "outside") == list(PORTS)

    made.update(Delta(endpoints=dict([workload("w2")])))
    assert in_both(rig, "w2", "outside") == list(PORTS)

    made.update(Delta(endpoints={workload("w2")[0]: None}))
    assert in_both(rig, "w2", "outside") == []


# --- the fields of a rule


@dataclass(frozen=True)
class Case:
    """Fields of one rule, and what it matches."""

    fields: dict[str, Any]
    hits: list[Probe]
    misses: list[Probe]


SETS: dict[str, list[Cidr | PortMember]] = {
    "s:w1": nets("10.65.0.1", "fd65::1"),
    "s:none": [],
    "s:wide": nets("10.65.0.0/16", "fd65::/64", "10.65.0.1", "fd65::1"),
    "s:outside": nets("172.31.0.2", "fd31::2"),
    "n:web": [
        PortMember(parse_address(ADDRESS["w2"][family]), protocol, port)
        for family in FAMILIES
        for protocol, port in ((TCP, 80), (UDP, 53))
    ],
    "n:other": [PortMember(parse_address(ADDRESS["w1"][family]), TCP, 80) for family in FAMILIES],
}


def field_cases(family: Family) -> dict[str, Case]:
    """Each field of a rule, as ingress of w2."""
    w1, out = Probe("w1", "w2", family), Probe("outside", "w2", family)
    icmp, echo = (ICMP, 8) if family == 4 else (ICMP6, 128)
    ping, ping1 = replace(w1, protocol=icmp, icmp=(echo, 0)), replace(w1, protocol=icmp, icmp=(echo, 1))
    other_ping = replace(w1, protocol=icmp, icmp=(13 if family == 4 else 139, 0))
    tcp, sctp, lite, gre = (replace(w1, protocol=p) for p in (TCP, SCTP, UDPLITE, GRE))

    def to(port: int, protocol: int = UDP, sport: int = 0) -> Probe:
        return replace(w1, dport=port, protocol=protocol, sport=sport)

    nets_of_w1 = tuple(nets("10.65.0.0/31", "fd65::/127", "192.0.2.0/24"))
    many = tuple((port, port) for port in range(100, 160, 2))
    return {
        "everything": Case({}, [w1, out, tcp, gre, ping], []),
        "nets": Case({"source": Side(nets=nets_of_w1)}, [w1, gre], [out]),
        "nets of the other family": Case(
            {"source": Side(nets=tuple(nets("10.65.0.0/16" if family == 6 else "fd65::/64")))}, [], [w1, out]
        ),
        "not nets": Case({"source": Side(not_nets=nets_of_w1)}, [out], [w1, gre]),
        "nets and not nets": Case(
            {
                "source": Side(
                    nets=tuple(nets("0.0.0.0/0", "::/0")), not_nets=tuple(nets("172.31.0.0/24", "fd31::2"))
                )
            },
            [w1],
            [out],
        ),
        "selector": Case({"source": Side(sets=("s:w1",))}, [w1, ping], [out]),
        "selector with prefixes": Case({"source": Side(sets=("s:wide",))}, [w1], [out]),
        "selector that nobody matches": Case({"source": Side(sets=("s:none",))}, [], [w1, out]),
        "two selectors": Case({"source": Side(sets=("s:w1", "s:wide"))}, [w1], [out]),
        "not selector": Case({"source": Side(not_sets=("s:w1",))}, [out], [w1]),
        "selector and nets": Case(
            {"source": Side(sets=("s:wide",), nets=tuple(nets("10.65.0.1", "fd65::1")))}, [w1], [out]
        ),
        "both sides": Case(
            {"source": Side(sets=("s:w1",)), "destination": Side(nets=tuple(nets("10.65.0.2", "fd65::2")))},
            [w1],
            [out],
        ),
        "protocol": Case({"protocol": SCTP}, [sctp], [w1, tcp, lite, gre]),
        "protocol by number": Case({"protocol": GRE}, [gre], [w1, tcp]),
        "not protocol": Case({"not_protocol": UDP}, [tcp, sctp, gre, ping], [w1]),
        "ip version": Case({"ip_version": family}, [w1], []),
        "other ip version": Case({"ip_version": 10 - family}, [], [w1, tcp]),
        "ports": Case(
            {"protocol": UDP, "destination": Side(ports=((80, 80), (90, 99)))},
            [to(80), to(95)],
            [to(81), tcp],
        ),
        "ports of any protocol": Case(
            {"destination": Side(ports=((80, 80),))},
            [to(80), tcp, sctp, lite],
            [to(81), to(81, TCP), gre, ping],
        ),
        "many ports": Case(
            {"protocol": TCP, "destination": Side(ports=many)},
            [to(100, TCP), to(158, TCP)],
            [to(101, TCP), to(100)],
        ),
        "source ports": Case(
            {"protocol": UDP, "source": Side(ports=((7000, 7010),))}, [to(1, sport=7005)], [to(1, sport=7011)]
        ),
        "not ports": Case(
            {"protocol": UDP, "destination": Side(not_ports=((80, 80), *many))},
            [to(81)],
            [to(80), to(100), tcp],
        ),
        "not ports of any protocol": Case(
            {"destination": Side(not_ports=((80, 80),))},
            [to(81), to(81, TCP), gre, ping],
            [to(80), tcp, sctp],
        ),
        "named port": Case(
            {"destination": Side(port_sets=("n:web",))}, [tcp, to(53)], [to(80), to(53, TCP), gre]
        ),
        "named port of another endpoint": Case({"destination": Side(port_sets=("n:other",))}, [], [tcp, w1]),
        "named port or number": Case(
            {"protocol": TCP, "destination": Side(port_sets=("n:web",), ports=((443, 443),))},
            [tcp, to(443, TCP)],
            [to(444, TCP), to(53)],
        ),
        "not named port": Case(
            {"protocol": TCP, "destination": Side(not_port_sets=("n:web",))}, [to(81, TCP)], [tcp, to(53)]
        ),
        "not named port and not number": Case(
            {"protocol": TCP, "destination": Side(not_port_sets=("n:web",), not_ports=((443, 443),))},
            [to(444, TCP)],
            [tcp, to(443, TCP), to(444)],
        ),
        "icmp type": Case(
            {"protocol": icmp, "ip_version": family, "icmp": (echo, None)}, [ping, ping1], [other_ping, w1]
        ),
        "icmp type and code": Case(
            {"protocol": icmp, "ip_version": family, "icmp": (echo, 1)}, [ping1], [ping, w1]
        ),
        "not icmp type": Case(
            {"protocol": icmp, "ip_version": family, "not_icmp": (echo, None)},
            [other_ping],
            [ping, ping1, w1],
        ),
        "not icmp type and code": Case(
            {"protocol": icmp, "ip_version": family, "not_icmp": (echo, 1)}, [ping, other_ping], [ping1, w1]
        ),
        "never": Case({"never": True}, [], [w1, tcp]),
    }


@pytest.mark.parametrize("action", ["Allow", "Deny"])
@pytest.mark.parametrize("name", list(field_cases(4)))
def test_rule_fields(rig: Rig, name: str, action: Literal["Allow", "Deny"]) -> None:
    """Each field of a rule matches what the reference says, in a rule that allows and in one that denies."""
    four, six = (field_cases(family)[name] for family in FAMILIES)
    # What differs by family (ICMP types) is two programs, everything else one.
    for cases in [(four, six)] if four.fields == six.fields else [(four,), (six,)]:
        rules = [row(action, **cases[0].fields), *([row("Allow")] if action == "Deny" else [])]
        program(rig, workload("w1"), workload("w2", ingress=(tier("a"),)), ingress={"a": rules}, sets=SETS)
        hits = [probe for case in cases for probe in case.hits]
        misses = [probe for case in cases for probe in case.misses]

        verdicts = dict(zip([*hits, *misses], rig.passes(*hits, *misses), strict=True))

        assert [probe for probe in hits if verdicts[probe] != (action == "Allow")] == []
        assert [probe for probe in misses if verdicts[probe] == (action == "Allow")] == []


# --- the host


def test_a_host_endpoint_guards_the_host(rig: Rig) -> None:
    """Its policy judges what comes in to the host and goes out of it, not what is forwarded nor workloads' traffic."""
    program(
        rig,
        workload("w1"),
        host(ingress=(tier("in"),), egress=(tier("out"),)),
        ingress={"in": [row("Allow", 1, 2)]},
        egress={"out": [row("Allow", 2, 3)]},
        settings=Settings(default_endpoint_to_host_action="Accept"),
    )

    assert in_both(rig, "outside", "host") == [1, 2]
    assert in_both(rig, "host", "outside") == [2, 3]
    assert in_both(rig, "w1", "host") == list(PORTS)
    assert in_both(rig, "host", "w1") == list(PORTS)
    assert in_both(rig, "outside", "w1") == list(PORTS)


def test_failsafe_ports_stay_open(rig: Rig) -> None:
    """A host endpoint that denies everything leaves SSH, BGP and the store reachable, and DHCP and DNS usable."""
    program(
        rig, host(ingress=(tier("a"),), egress=(tier("a"),)), ingress={"a": [deny()]}, egress={"a": [deny()]}
    )

    for family in FAMILIES:
        inbound = [
            Probe("outside", "host", family, protocol=p, dport=d)
            for p, d in ((TCP, 22), (UDP, 68), (TCP, 179), (UDP, 22), (TCP, 80))
        ]
        outbound = [
            Probe("host", "outside", family, protocol=p, dport=d)
            for p, d in ((UDP, 53), (TCP, 179), (UDP, 67), (TCP, 53), (TCP, 22))
        ]
        assert rig.passes(*inbound) == [True, True, True, False, False]
        assert rig.passes(*outbound) == [True, True, True, False, False]


@pytest.mark.parametrize(("action", "expected"), [("Drop", []), ("Accept", [1, 2]), ("Return", [1, 2])])
def test_workloads_reach_their_host_as_configured(
    rig: Rig, action: Literal["Drop", "Accept", "Return"], expected: list[int]
) -> None:
    """What a workload's egress allows towards its host is then subject to the default action."""
    program(
        rig,
        workload("w1", egress=(tier("out"),)),
        egress={"out": [row("Allow", 1, 2)]},
        settings=Settings(default_endpoint_to_host_action=action),
    )

    assert in_both(rig, "w1", "host") == expected


def test_a_forged_source_never_leaves_its_host(rig: Rig) -> None:
    """A workload can send from its own addresses only, to wherever it sends; the outside is not asked."""
    program(rig, workload("w1"), workload("w2"), settings=Settings(default_endpoint_to_host_action="Accept"))

    for family in FAMILIES:
        stolen = ADDRESS["w2"][family]
        unknown = "192.0.2.9" if family == 4 else "2001:db8::9"
        assert rig.passes(
            Probe("w1", "w2", family, claimed=unknown),
            Probe("w1", "outside", family, claimed=stolen),
            Probe("w1", "outside", family, claimed=ADDRESS["host"][family]),
            Probe("w1", "host", family, claimed=stolen),
            Probe("w1", "outside", family),
            Probe("outside", "w1", family),
        ) == [False, False, False, False, True, True]


def test_pools_with_outgoing_nat_are_masqueraded(rig: Rig) -> None:
    """From a pool to beyond all pools a packet carries the host's address; within pools its own."""
    program(
        rig,
        workload("w1"),
        workload("w2"),
        pools={"10.65.0.0/31": True, "10.65.0.2/31": False, "fd65::/127": True, "fd65::2/127": False},
    )

    for family in FAMILIES:
        arrivals = rig.send(
            Probe("w1", "outside", family), Probe("w1", "w2", family), Probe("w2", "outside", family)
        )
        seen = [arrival and arrival.source_address for arrival in arrivals]
        assert seen == [ADDRESS["host"][family], ADDRESS["w1"][family], ADDRESS["w2"][family]]


# --- life


def test_policy_changes_judge_new_flows_only(rig: Rig) -> None:
    """When policy closes, running flows go on; set members and rules that come and go count at once for new ones."""
    open_to_w1 = [allow(source=Side(sets=("s:w1",)))]
    made = program(
        rig,
        workload("w1"),
        workload("w2", ingress=(tier("a"),)),
        ingress={"a": open_to_w1},
        sets={"s:w1": nets("10.65.0.1", "fd65::1")},
    )
    flows = [Probe("w1", "w2", family, sport=8100, dport=8200) for family in FAMILIES]
    answers = [Probe("w2", "w1", family, sport=8200, dport=8100) for family in FAMILIES]
    assert rig.passes(*flows, *answers) == [True] * 4

    made.update(
        Delta(set_members={SetMember("s:w1", member): None for member in nets("10.65.0.1", "fd65::1")})
    )
    assert in_both(rig, "w1", "w2") == []
    assert rig.passes(*flows, *answers) == [True] * 4

    made.update(
        Delta(set_members={SetMember("s:w1", member): True for member in nets("172.31.0.0/24", "fd31::/64")})
    )
    assert in_both(rig, "outside", "w2") == list(PORTS)
    assert in_both(rig, "w1", "w2") == []

    made.update(Delta(policies={policy_id("a"): PolicyRow((row("Allow", 1),), ())}))
    assert in_both(rig, "outside", "w2") == [1]
    assert rig.passes(*flows, *answers) == [True] * 4

    made.update(Delta(endpoints=dict([workload("w2")]), policies={policy_id("a"): None}))
    assert in_both(rig, "w1", "w2") == list(PORTS)


def test_each_end_denies_alone(rig: Rig) -> None:
    """With the rules of others allowing everything in FORWARD, and with them denying, policy's denial stands."""
    program(rig, workload("w1"), workload("w2", ingress=(tier("a"),)), ingress={"a": [row("Allow", 1)]})
    with foreign_forward(rig, "ACCEPT"):
        assert in_both(rig, "w1", "w2") == [1]


@contextlib.contextmanager
def foreign_forward(rig: Rig, verdict: str) -> Iterator[None]:
    """Another program's rule for all forwarded packets."""
    tools = (
        ["iptables-legacy", "ip6tables-legacy"]
        if "legacy" in rig.backend.name
        else ["iptables-nft", "ip6tables-nft"]
    )
    for tool in tools:
        rig.world.host.run(tool, "-w", "-A", "FORWARD", "-j", verdict)
    try:
        yield
    finally:
        for tool in tools:
            rig.world.host.run(tool, "-w", "-D", "FORWARD", "-j", verdict)


def test_another_ruleset_replaces_all_of_the_first(rig: Rig) -> None:
    """A host that goes from one ruleset to a wholly different one by sync keeps nothing of the first."""
    program(rig, workload("w1"), workload("w2", ingress=(tier("a"),)), ingress={"a": [deny()]}, sets=SETS)
    assert in_both(rig, "w1", "w2") == []

    rig.load(
        *(table(family, {"filter-FORWARD": [rule(ast.Protocol(TCP), ast.Drop())]}) for family in FAMILIES)
    )

    assert in_both(rig, "w1", "w2") == list(PORTS)
    assert rig.check() == []
