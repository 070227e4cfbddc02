"""The contract of every packet-filter back end, judged by the packets that get through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from calico.desired import PortMember
from calico.model.address import Family, parse_cidr
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig, nets, rule, table
from support.netns import needs_root
from support.packets import ADDRESS, GRE, ICMP, ICMP6, SCTP, TCP, UDP, UDPLITE, Probe

pytestmark = [pytest.mark.root, needs_root]

ONE, TWO = 0x10000, 0x20000


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-ipt-p", tmp_path_factory.mktemp("lock")) as made:
        yield made


def cidr(name: str, family: Family) -> str:
    return ADDRESS[name][family]


def set_name(family: Family, name: str) -> str:
    return f"cali{family}0{name}"


# --- matches


class Case(NamedTuple):
    """A match, probes that it matches, probes that its negation matches, and probes that neither does."""

    match: ast.Match
    hits: list[Probe]
    misses: list[Probe]
    neither: list[Probe] = []  # noqa: RUF012 - never changed
    sets: dict[str, tuple[str, list[ast.Member]]] = {}  # noqa: RUF012 - never changed
    chain: str = "filter-FORWARD"
    also: tuple[ast.Match, ...] = ()
    """Further matches of the rule, which stay as they are."""


MANY = (*tuple((port, port) for port in range(1000, 1040, 2)), (2000, 2100), (2050, 2200), (3000, 3001))


def cases(family: Family) -> dict[str, Case]:
    """Every match of the ruleset language."""
    forth = Probe("w1", "w2", family)
    back = Probe("w2", "w1", family)
    into = Probe("outside", "w1", family)
    icmp = ICMP if family == 4 else ICMP6
    echo = 8 if family == 4 else 128
    ping = forth_with(family, protocol=icmp, icmp=(echo, 0))
    ping_code = forth_with(family, protocol=icmp, icmp=(echo, 3))
    gone = forth_with(family, protocol=icmp, icmp=(13 if family == 4 else 144, 0))
    w1, w2 = cidr("w1", family), cidr("w2", family)
    workloads = "10.65.0.0/30" if family == 4 else "fd65::/126"
    a_net, a_full, empty, ports = (set_name(family, n) for n in ("net", "full", "empty", "ports"))
    halves = "0.0.0.0/0" if family == 4 else "::/0"
    listeners: list[ast.Member] = [
        PortMember(parse_cidr(w2), TCP, 80),
        PortMember(parse_cidr(w2), UDP, 53),
        PortMember(parse_cidr(w2), SCTP, 99),
        PortMember(parse_cidr(w1), UDP, 80),
    ]
    port_hits = [
        forth_with(family, protocol=TCP, dport=80),
        forth_with(family, protocol=UDP, dport=53),
        forth_with(family, protocol=SCTP, dport=99),
    ]
    port_misses = [
        forth_with(family, protocol=UDP, dport=80),
        forth_with(family, protocol=TCP, dport=53),
        forth_with(family, protocol=UDPLITE, dport=53),
        Probe("w2", "w1", family, protocol=TCP, dport=80),
    ]
    portless = [ping, forth_with(family, protocol=GRE)]
    return {
        "interface in": Case(ast.Interface("in", "cali1"), [forth], [back, into]),
        "interface in, a prefix": Case(ast.Interface("in", "cali*"), [forth, back], [into]),
        "interface out": Case(ast.Interface("out", "cali1"), [back, into], [forth]),
        "interface out, a prefix": Case(
            ast.Interface("out", "e*"), [Probe("w1", "outside", family)], [forth]
        ),
        "source address": Case(ast.Address("source", parse_cidr(w1)), [forth], [back, into]),
        "source prefix": Case(ast.Address("source", parse_cidr(workloads)), [forth, back], [into]),
        "destination address": Case(ast.Address("destination", parse_cidr(w1)), [back, into], [forth]),
        "any address": Case(ast.Address("destination", parse_cidr(halves)), [back, into, forth], []),
        "source in an address set": Case(
            ast.InSet("source", a_full), [forth], [back, into], sets={a_full: ("address", nets(w1))}
        ),
        "destination in a net set": Case(
            ast.InSet("destination", a_net),
            [forth, back],
            [Probe("w1", "outside", family)],
            sets={a_net: ("net", nets(workloads, w1))},
        ),
        "in a set of everything": Case(
            ast.InSet("source", a_net), [forth, back, into], [], sets={a_net: ("net", nets(halves, w1))}
        ),
        "in an empty set": Case(ast.InSet("source", empty), [], [forth, into], sets={empty: ("net", [])}),
        "destination port set": Case(
            ast.PortInSet("destination", ports),
            port_hits,
            port_misses,
            portless,
            {ports: ("port", listeners)},
        ),
        "source port set": Case(
            ast.PortInSet("source", ports),
            [
                Probe("w2", "w1", family, protocol=TCP, sport=80),
                Probe("w2", "w1", family, protocol=UDP, sport=53),
            ],
            [forth, Probe("w2", "w1", family, protocol=TCP, sport=81)],
            portless,
            {ports: ("port", listeners)},
        ),
        "protocol": Case(ast.Protocol(TCP), [forth_with(family, protocol=TCP)], [forth, *portless]),
        "protocol without ports": Case(ast.Protocol(GRE), [forth_with(family, protocol=GRE)], [forth, ping]),
        "destination port": Case(
            ast.Ports("destination", ((80, 80),)),
            [forth_with(family, protocol=TCP, dport=80)],
            [forth_with(family, protocol=TCP, dport=81)],
            [forth, *portless],
            also=(ast.Protocol(TCP),),
        ),
        "SCTP port": Case(
            ast.Ports("destination", ((80, 80),)),
            [forth_with(family, protocol=SCTP, dport=80)],
            [forth_with(family, protocol=SCTP, dport=81)],
            [forth, *portless],
            also=(ast.Protocol(SCTP),),
        ),
        "source port": Case(
            ast.Ports("source", ((5000, 5010),)),
            [forth_with(family, sport=5000), forth_with(family, sport=5010)],
            [forth_with(family, sport=4999), forth_with(family, sport=5011)],
            portless,
            also=(ast.Protocol(UDP),),
        ),
        "many ports and ranges": Case(
            ast.Ports("destination", MANY),
            [forth_with(family, dport=p) for p in (1000, 1038, 2000, 2075, 2150, 2200, 3001)],
            [forth_with(family, dport=p) for p in (999, 1001, 1040, 1999, 2201, 2999, 3002)],
            portless,
            also=(ast.Protocol(UDP),),
        ),
        "ICMP type": Case(
            ast.Icmp(echo), [ping, ping_code], [gone], [forth, forth_with(family, protocol=TCP)]
        ),
        "ICMP type and code": Case(ast.Icmp(echo, 3), [ping_code], [ping, gone], [forth]),
        "ICMP type and code 0": Case(ast.Icmp(echo, 0), [ping], [ping_code, gone], [forth]),
        "local destination": Case(
            ast.LocalAddress("destination"),
            [Probe("w1", "host", family)],
            [forth, into],
            chain="raw-PREROUTING",
        ),
        "local source": Case(
            ast.LocalAddress("source"),
            [Probe("host", "w2", family)],
            [Probe("host", "w2", family, claimed=w1)],
            chain="filter-OUTPUT",
        ),
    }


def forth_with(family: Family, **fields: object) -> Probe:
    return Probe("w1", "w2", family, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("negate", [False, True], ids=["is", "is not"])
@pytest.mark.parametrize("name", list(cases(4)))
def test_match_selects_exactly_its_packets(rig: Rig, name: str, negate: bool) -> None:
    """A match and its negation divide the packets as the ruleset language says, in both families."""
    tables = []
    dropped: list[Probe] = []
    passed: list[Probe] = []
    for family in FAMILIES:
        case = cases(family)[name]
        match = replace(case.match, negate=negate)  # type: ignore[call-arg]  # CtState and such are not here
        tables.append(table(family, {case.chain: [rule(*case.also, match, ast.Drop())]}, case.sets))
        dropped += case.misses if negate else case.hits
        passed += [*case.neither, *(case.hits if negate else case.misses)]

    rig.load(*tables)

    verdicts = dict(zip([*dropped, *passed], rig.passes(*dropped, *passed), strict=True))
    assert [probe for probe in dropped if verdicts[probe]] == []
    assert [probe for probe in passed if not verdicts[probe]] == []


@pytest.mark.parametrize("negate", [False, True], ids=["is", "is not"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ports_without_a_protocol_mean_all_that_have_ports(rig: Rig, family: Family, negate: bool) -> None:
    """A match on ports that names no protocol, negated or not, is about TCP, UDP, SCTP and UDPLite only."""
    looks_like_80 = forth_with(family, protocol=GRE, lead=b"\0\x50\0\x50")
    rig.load(
        table(family, {"filter-FORWARD": [rule(ast.Ports("destination", ((80, 80),), negate), ast.Drop())]})
    )

    ported = [forth_with(family, protocol=p, dport=d) for d in (80, 81) for p in (TCP, UDP, SCTP, UDPLITE)]
    assert rig.passes(*ported, forth_with(family, protocol=GRE), looks_like_80) == (
        [negate] * 4 + [not negate] * 4 + [True, True]
    )


@pytest.mark.parametrize("named", [True, False], ids=["TCP", "any protocol"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_port_of_each_end_can_be_excluded(rig: Rig, family: Family, named: bool) -> None:
    """Whoever excludes a source port and a destination port excludes either, not only both at once."""
    away = [ast.Ports("destination", ((80, 80),), negate=True), ast.Ports("source", ((81, 81),), negate=True)]
    protocol = [ast.Protocol(TCP)] if named else []
    rig.load(table(family, {"filter-FORWARD": [rule(*protocol, *away, ast.Drop())]}))
    probes = [
        Probe("w1", "w2", family, TCP, sport=sport, dport=dport)
        for sport, dport in ((81, 80), (82, 80), (81, 79), (82, 79))
    ]

    assert rig.passes(*probes) == [True, True, True, False]
    assert rig.check() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_all_matches_of_a_rule_must_hold(rig: Rig, family: Family) -> None:
    """Matches of one rule are ANDed, several on the same field too, positive and negated."""
    low, high = ("10.65.0.0/31", "10.65.0.2/31") if family == 4 else ("fd65::/127", "fd65::2/127")
    whole = "10.65.0.0/30" if family == 4 else "fd65::/126"
    rules = [
        rule(
            ast.Address("source", parse_cidr(whole)),
            ast.Address("source", parse_cidr(high), negate=True),
            ast.Ports("destination", ((80, 90),)),
            ast.Ports("destination", ((85, 86),), negate=True),
            ast.Ports("source", ((7000, 7001),)),
            ast.Protocol(TCP, negate=True),
            ast.Protocol(SCTP, negate=True),
            ast.Drop(),
        ),
        rule(
            ast.Address("source", parse_cidr(low), negate=True),
            ast.Address("source", parse_cidr(whole)),
            ast.Accept(),
        ),
        rule(ast.Protocol(UDP, negate=True), ast.Protocol(TCP, negate=True), ast.Drop()),
    ]

    rig.load(table(family, {"filter-FORWARD": rules}))

    hit = forth_with(family, dport=80, sport=7000)
    assert rig.passes(
        hit,
        forth_with(family, dport=85, sport=7000),
        forth_with(family, dport=90, sport=7002),
        forth_with(family, dport=80, sport=7001, protocol=TCP),
        forth_with(family, dport=80, sport=7001, protocol=UDPLITE),
        Probe("w2", "w1", family, dport=80, sport=7000),
        forth_with(family, protocol=GRE),
        Probe("w2", "w1", family, protocol=GRE),
    ) == [False, True, True, True, False, True, False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_interfaces_can_be_excluded(rig: Rig, family: Family) -> None:
    """Two negated interfaces in one rule mean neither of them, and what follows still applies."""
    rules = [
        rule(
            ast.Interface("in", "cali1", negate=True),
            ast.Interface("in", "cali2", negate=True),
            ast.SetMark(ONE, ONE),
            ast.Return(),
        ),
        rule(ast.Ports("destination", ((81, 81),)), ast.Drop()),
    ]
    chain = [rule(ast.Jump("cali-x")), rule(ast.Mark(ONE, ONE), ast.Drop())]

    rig.load(table(family, {"filter-FORWARD": chain, "cali-x": rules}))

    assert rig.passes(
        Probe("outside", "w1", family, dport=81),
        Probe("w1", "w2", family, dport=81),
        Probe("w1", "w2", family, dport=80),
        Probe("w2", "w1", family, dport=80),
    ) == [False, False, True, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_reverse_path_failure_is_strict(rig: Rig, family: Family) -> None:
    """A source that is not routed back through the interface it came in by fails, whoever it belongs to."""
    rig.load(table(family, {"raw-PREROUTING": [rule(ast.ReversePathFails(), ast.Drop())]}))

    assert rig.passes(
        Probe("w1", "w2", family),
        Probe("w1", "w2", family, claimed=cidr("outside", family)),
        Probe("w1", "outside", family, claimed=cidr("w2", family)),
        Probe("w1", "w2", family, claimed="192.0.2.1" if family == 4 else "2001:db8::1"),
        Probe("outside", "w1", family),
        Probe("outside", "w1", family, claimed=cidr("w2", family)),
    ) == [True, False, False, False, True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_connection_states(rig: Rig, family: Family) -> None:
    """The first packet of a flow is new, its answer and what follows established, an error about it related."""
    rig.load(
        table(
            family,
            {
                "filter-FORWARD": [
                    rule(ast.CtState(("established", "related")), ast.Accept()),
                    rule(ast.CtState(("invalid",)), ast.Drop()),
                    rule(ast.Interface("in", "cali1"), ast.CtState(("new",)), ast.Accept()),
                    rule(ast.Drop()),
                ]
            },
        )
    )

    there = Probe("w1", "w2", family, sport=6001, dport=6002)
    answer = Probe("w2", "w1", family, sport=6002, dport=6001)
    other = Probe("w2", "w1", family, sport=6002, dport=6003)
    rig.world.forget_flows()
    assert rig.passes(other, there, answer, there) == [False, True, True, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_untracked_packets_are_seen_as_such(rig: Rig, family: Family) -> None:
    """NoTrack keeps a packet out of connection tracking, and the later tables see it untracked."""
    rig.load(
        table(
            family,
            {
                "raw-PREROUTING": [rule(ast.Ports("destination", ((81, 81),)), ast.NoTrack(), ast.Accept())],
                "filter-FORWARD": [rule(ast.CtState(("untracked",)), ast.Drop())],
            },
        )
    )

    assert rig.passes(forth_with(family, dport=81), forth_with(family, dport=80)) == [False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_translated_destinations_are_seen(rig: Rig, family: Family) -> None:
    """CtDnat matches the packets whose destination somebody translated, its negation the others."""
    ip = "ip" if family == 4 else "ip6"
    target = cidr("w2", family) if family == 4 else f"[{cidr('w2', family)}]"
    host = rig.world.host
    host.run(
        "nft",
        f"add table {ip} others; add chain {ip} others pre {{ type nat hook prerouting priority -90; }};"
        f" add rule {ip} others pre udp dport 8080 dnat to {target}:80",
    )
    try:
        for negate in (False, True):
            rules = [rule(ast.CtDnat(negate=negate), ast.Drop())]
            rig.load(table(family, {"filter-FORWARD": rules}))
            # Both are meant for w2: the first goes there by its own address, the second by translation.
            straight = forth_with(family, dport=80)
            turned = forth_with(family, dport=8080, towards=cidr("outside", family))
            assert rig.passes(straight, turned) == [not negate, negate]
    finally:
        host.run("nft", f"delete table {ip} others")


# --- statements


@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts_lead_where_they_say(rig: Rig, family: Family) -> None:
    """Jump comes back behind itself, goto to the caller of its chain, return to the caller, accept and drop end."""

    def port(number: int, *statements: ast.Statement) -> ast.Rule:
        return rule(ast.Ports("destination", ((number, number),)), *statements)

    rig.load(
        table(
            family,
            {
                "filter-FORWARD": [
                    port(1, ast.Accept()),
                    port(2, ast.Return()),
                    port(3, ast.Goto("cali-nothing")),
                    rule(ast.Jump("cali-a")),
                    port(12, ast.Accept()),
                    port(13, ast.Accept()),
                    rule(ast.Drop()),
                ],
                "cali-a": [
                    port(10, ast.Accept()),
                    port(11, ast.Drop()),
                    port(12, ast.Return()),
                    port(13, ast.Goto("cali-nothing")),
                    port(14, ast.Jump("cali-nothing")),
                    port(15, ast.Goto("cali-accepts")),
                    rule(ast.Protocol(UDP), ast.Ports("destination", ((12, 13),)), ast.Drop()),
                    port(14, ast.Accept()),
                ],
                "cali-nothing": [],
                "cali-accepts": [rule(ast.Accept())],
            },
        )
    )

    probes = [forth_with(family, dport=p) for p in (1, 2, 3, 4, 10, 11, 12, 13, 14, 15)]
    assert rig.passes(*probes) == [True, True, True, False, True, False, True, True, True, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_marks_change_only_their_bits(rig: Rig, family: Family) -> None:
    """SetMark keeps the bits outside its mask; a rule that sets what it tests still does all it says."""
    rig.load(
        table(
            family,
            {
                "filter-FORWARD": [
                    rule(ast.SetMark(0, ONE | TWO)),
                    rule(ast.Jump("cali-m")),
                    rule(ast.Mark(ONE | TWO, ONE | TWO), ast.Accept()),
                    rule(ast.Drop()),
                ],
                "cali-m": [
                    rule(ast.Ports("destination", ((1, 3),)), ast.SetMark(TWO, TWO)),
                    rule(
                        ast.Ports("destination", ((2, 2),)),
                        ast.Mark(0, ONE),
                        ast.SetMark(ONE, ONE),
                        ast.Return(),
                    ),
                    rule(ast.Ports("destination", ((3, 3),)), ast.SetMark(ONE, ONE | TWO)),
                    rule(ast.Mark(TWO, TWO, negate=True), ast.Return()),
                    rule(ast.SetMark(0, TWO)),
                ],
            },
        )
    )

    assert rig.passes(*(forth_with(family, dport=p) for p in (1, 2, 3, 4))) == [False, True, False, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_refused_packets_are_answered(rig: Rig, family: Family) -> None:
    """Reject lets nothing through: TCP gets a reset, everything else an ICMP error."""
    rig.load(table(family, {"filter-FORWARD": [rule(ast.Reject())]}))

    tcp, tcp_answers = rig.world.observe(forth_with(family, protocol=TCP, sport=6500, dport=6501))
    udp, udp_answers = rig.world.observe(forth_with(family, protocol=UDP, sport=6500, dport=6501))

    head, protocol = (20, 9) if family == 4 else (40, 6)
    assert (tcp, udp) == ([None], [None])
    # What a namespace says by itself meanwhile, such as a listener report, is no answer.
    tcp_answers, udp_answers = (
        [p for p in answers if len(p) > head + 13 and p[0] >> 4 == family]
        for answers in (tcp_answers, udp_answers)
    )
    resets = [p for p in tcp_answers if p[protocol] == TCP and p[head + 13] & 4]
    errors = [p for p in udp_answers if p[protocol] in {ICMP, ICMP6} and p[head] in {1, 3}]
    assert (len(resets), len(errors)) == (1, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_logging_decides_nothing(rig: Rig, family: Family) -> None:
    """A Log goes on with the next statement and the next rule."""
    rig.load(
        table(
            family,
            {
                "filter-FORWARD": [
                    rule(ast.Ports("destination", ((80, 80),)), ast.Log("calico-test")),
                    rule(ast.Ports("destination", ((81, 81),)), ast.Log("calico-test: "), ast.Drop()),
                ]
            },
        )
    )

    assert rig.passes(forth_with(family), forth_with(family, dport=81)) == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_masquerade_takes_the_hosts_address(rig: Rig, family: Family) -> None:
    """A masqueraded packet leaves with the address of its outgoing interface, others with their own."""
    pool = set_name(family, "pool")
    rules = [rule(ast.InSet("source", pool), ast.InSet("destination", pool, negate=True), ast.Masquerade())]
    rig.load(
        table(
            family,
            {"nat-POSTROUTING": rules},
            {pool: ("net", nets("10.65.0.0/16" if family == 4 else "fd65::/64"))},
        )
    )

    arrivals = rig.send(Probe("w1", "outside", family), Probe("w1", "w2", family))

    assert [arrival and arrival.source_address for arrival in arrivals] == [
        cidr("host", family),
        cidr("w1", family),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_chains_hang_where_their_names_say(rig: Rig, family: Family) -> None:
    """Each hook sees the packets of its way: to the host, through it, and from it."""
    everything = [Probe("w1", "host", family), Probe("w1", "w2", family), Probe("host", "w2", family)]
    expected = {
        "raw-PREROUTING": [False, False, True],
        "raw-OUTPUT": [True, True, False],
        "mangle-PREROUTING": [False, False, True],
        "mangle-POSTROUTING": [True, False, False],
        "filter-INPUT": [False, True, True],
        "filter-FORWARD": [True, False, True],
        "filter-OUTPUT": [True, True, False],
    }

    found = {}
    for chain in expected:
        rig.load(table(family, {chain: [rule(ast.Drop())]}))
        found[chain] = rig.passes(*everything)

    assert found == expected


@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_dispatch_finds_the_interface(rig: Rig, family: Family, size: int) -> None:
    """A verdict map decides by the interface's whole name; what is not in it goes on with the next rules."""
    entries: dict[str, ast.Verdict] = {f"cali{n}": ast.Drop() for n in range(100, 100 + size)}
    entries |= {"cali1": ast.Goto("cali-udp"), "cali": ast.Drop(), "cali11": ast.Drop(), "eth": ast.Drop()}
    rig.load(dispatching(family, entries))

    assert rig.passes(
        Probe("w1", "w2", family, dport=80),
        Probe("w1", "w2", family, dport=81),
        Probe("w2", "w1", family, dport=80),
        Probe("outside", "w2", family, dport=80),
        Probe("outside", "w1", family, dport=82),
        Probe("outside", "w1", family, dport=83),
        Probe("outside", "w1", family, dport=80),
    ) == [True, False, False, False, False, False, True]


def dispatching(family: Family, entries: dict[str, ast.Verdict]) -> ast.Table:
    """Workloads' packets by their interface, then packets to workloads by theirs."""
    return table(
        family,
        {
            "filter-FORWARD": [
                rule(ast.Interface("in", "cali*"), ast.Dispatch("in", "cali-from")),
                rule(ast.Interface("in", "cali*"), ast.Drop()),
                rule(ast.Interface("out", "cali*"), ast.Dispatch("out", "cali-to")),
                rule(ast.Ports("destination", ((83, 83),)), ast.Drop()),
            ],
            "cali-udp": [rule(ast.Ports("destination", ((80, 80),)), ast.Accept()), rule(ast.Drop())],
            "cali-82": [rule(ast.Ports("destination", ((82, 82),)), ast.Drop())],
        },
        maps={
            "cali-from": entries,
            "cali-to": {"cali2": ast.Drop(), "cali1": ast.Jump("cali-82"), "cali9": ast.Accept()},
        },
    )
