"""Every back end means what the ruleset language says: random rulesets, judged by packets against the plain interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from calico.desired import PortMember
from calico.model.address import Family, parse_address, parse_cidr
from calico.ruleset import ast
from support.backends import NAMES, Rig, make_rig, table
from support.firewall import Packet, forward
from support.nesting import KERNEL_LIMIT, nesting
from support.netns import needs_root
from support.packets import ADDRESS, ICMP, ICMP6, INTERFACE, SCTP, TCP, UDP, UDPLITE, Probe

pytestmark = [pytest.mark.root, needs_root]

CHAINS = ("raw-PREROUTING", "filter-FORWARD", "cali-a", "cali-b", "cali-c")
"""A chain may call those behind it, if they are no base chains."""
NETS: dict[Family, list[str]] = {
    4: ["10.65.0.1", "10.65.0.0/30", "10.65.0.2", "172.31.0.0/16", "0.0.0.0/0", "0.0.0.0/1"],
    6: ["fd65::1", "fd65::/126", "fd65::2", "fd31::/16", "::/0", "8000::/1"],
}
RANGES = [(80, 80), (80, 90), (85, 1000), (4000, 4001), (1, 79)]
ONE, TWO, BOTH = 0x10000, 0x20000, 0x30000
WORLD_INTERFACES = ["cali1", "cali2", "eth0"]


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-ipt-m", tmp_path_factory.mktemp("lock")) as made:
        yield made


def set_names(family: Family) -> dict[str, str]:
    return {kind: f"cali{family}0{kind}" for kind in ("address", "net", "port")}


def matches(family: Family, place: int) -> st.SearchStrategy[tuple[ast.Match, ...]]:
    """Up to three conditions, among them at most one about the protocol."""
    negate = st.booleans()
    end: st.SearchStrategy[Any] = st.sampled_from(["source", "destination"])
    sets = set_names(family)
    net = st.sampled_from(NETS[family]).map(parse_cidr)
    names = st.sampled_from([*WORLD_INTERFACES, "cali*", "cali", "e*"])
    anything = st.one_of(
        st.builds(ast.Interface, st.sampled_from(["in", "out"]), names, negate),
        st.builds(ast.Address, end, net, negate),
        st.builds(ast.InSet, end, st.sampled_from([sets["address"], sets["net"]]), negate),
        st.builds(ast.Mark, st.sampled_from([0, ONE, TWO]), st.sampled_from([BOTH]), negate),
        # Where packets come in, and in what is called from there, there is no connection yet to ask about.
        st.builds(ast.CtDnat, negate) if CHAINS[place] == "filter-FORWARD" else st.nothing(),
        st.builds(ast.LocalAddress, end, negate),
        # iptables can ask about the way back only where packets come in.
        st.just(ast.ReversePathFails()) if place == 0 else st.nothing(),
    )
    number = st.sampled_from([TCP, UDP, SCTP, UDPLITE])
    ranges = st.lists(st.sampled_from(RANGES), min_size=1, max_size=3).map(tuple)
    icmp = st.sampled_from([8, 13] if family == 4 else [128, 144])
    layer4 = st.one_of(
        st.just(()),
        st.builds(ast.Protocol, number, negate).map(lambda match: (match,)),
        st.tuples(st.builds(ast.Protocol, number), st.builds(ast.Ports, end, ranges, negate)),
        st.tuples(st.builds(ast.Protocol, number), *[st.builds(ast.Ports, end, ranges, negate)] * 2),
        st.builds(ast.PortInSet, end, st.just(sets["port"]), negate).map(lambda match: (match,)),
        st.builds(ast.Icmp, icmp, st.sampled_from([None, 0, 1]), negate).map(lambda match: (match,)),
    )
    return st.tuples(st.lists(anything, max_size=2).map(tuple), layer4).map(lambda parts: parts[0] + parts[1])


def statements(place: int) -> st.SearchStrategy[tuple[ast.Statement, ...]]:
    """Marks, then perhaps a verdict."""
    callable_chains = [name for name in CHAINS[place + 1 :] if name.startswith("cali")]
    ends: list[st.SearchStrategy[Any]] = [
        st.sampled_from([ast.Accept(), ast.Drop(), ast.Return(), ast.Reject()]),
        st.builds(ast.Dispatch, st.sampled_from(["in", "out"]), st.sampled_from(["cali-m", "cali-n"])),
    ]
    if callable_chains:
        ends.append(st.builds(ast.Jump, st.sampled_from(callable_chains)))
        ends.append(st.builds(ast.Goto, st.sampled_from(callable_chains)))
    else:
        ends.pop(1)  # What a map leads to could come back here.
    mark = st.builds(ast.SetMark, st.just(ONE), st.sampled_from([ONE, BOTH])) | st.just(ast.SetMark(0, BOTH))
    return (
        st.tuples(st.lists(mark, max_size=2), st.none() | st.one_of(ends))
        .map(lambda parts: (*parts[0], *(() if parts[1] is None else (parts[1],))))
        .filter(bool)
    )


def tables(family: Family) -> st.SearchStrategy[ast.Table]:
    """Rulesets of five chains that call each other downwards only."""
    chains = {
        name: st.lists(st.builds(ast.Rule, matches(family, place), statements(place)), max_size=4)
        for place, name in enumerate(CHAINS)
    }
    verdicts = st.sampled_from(
        [ast.Drop(), ast.Accept(), ast.Return(), ast.Goto("cali-c"), ast.Jump("cali-c")]
    )
    many = {f"cali1{n}": ast.Drop() for n in range(12)}
    entries = st.dictionaries(st.sampled_from(WORLD_INTERFACES), verdicts, max_size=3)
    sets = set_names(family)
    listeners = [
        PortMember(parse_address(ADDRESS["w2"][family]), TCP, 80),
        PortMember(parse_address(ADDRESS["w1"][family]), UDP, 4000),
    ]
    return st.builds(
        lambda rules, small, large: table(
            family,
            rules,
            {
                sets["address"]: ("address", [parse_address(ADDRESS["w1"][family])]),
                sets["net"]: ("net", [parse_cidr(text) for text in NETS[family][:2]]),
                sets["port"]: ("port", listeners),
            },
            {"cali-m": small, "cali-n": many | large},
        ),
        st.fixed_dictionaries(chains),
        entries,
        entries,
    )


def probes(family: Family) -> list[Probe]:
    icmp, echo = (ICMP, 8) if family == 4 else (ICMP6, 128)
    forth = Probe("w1", "w2", family, sport=4000)
    return [
        forth,
        replace(forth, protocol=TCP),
        replace(forth, protocol=TCP, dport=86, sport=4001),
        replace(forth, protocol=SCTP, dport=70),
        replace(forth, protocol=UDPLITE),
        replace(forth, protocol=icmp, icmp=(echo, 0)),
        replace(forth, protocol=icmp, icmp=(echo, 1)),
        Probe("w2", "w1", family, dport=4000, sport=80),
        Probe("outside", "w1", family, sport=85, dport=85),
        Probe("w2", "outside", family, protocol=TCP, sport=85),
        Probe("w1", "w2", family, claimed=ADDRESS["outside"][family], dport=80, sport=4000),
    ]


def as_packet(probe: Probe) -> Packet:
    """The probe as the interpreter sees it."""
    ported = probe.protocol not in {ICMP, ICMP6}
    return Packet(
        parse_address(probe.source_address),
        parse_address(probe.destination_address),
        probe.protocol,
        probe.sport if ported else None,
        probe.dport if ported else None,
        None if ported else probe.icmp[0],
        None if ported else probe.icmp[1],
        INTERFACE[probe.source],
        INTERFACE[probe.destination],
        false_source=bool(probe.claimed),
    )


@given(tables(4), tables(6))
@settings(
    max_examples=25,
    phases=[Phase.generate],  # to shrink on the kernel takes minutes; the failure names both tables
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_rulesets_mean_what_the_interpreter_says(rig: Rig, four: ast.Table, six: ast.Table) -> None:
    """Whatever the chains, marks, maps and sets: the same packets get through as in the plain interpreter."""
    # Rendering never nests so deep, and no kernel follows it.
    assume(max(nesting(four), nesting(six)) < KERNEL_LIMIT)
    rig.world.forget_flows()
    rig.load(four, six)

    for made in (four, six):
        sent = probes(made.family)
        expected = [forward(made, as_packet(probe)) for probe in sent]
        assert rig.passes(*sent) == expected
    assert rig.check() == []
