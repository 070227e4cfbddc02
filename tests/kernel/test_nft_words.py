"""Every node of ``ruleset.ast`` is read back from the kernel as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from calico.desired import Origin, PortMember
from calico.model.address import Family, parse_address, parse_cidr
from calico.programming.libnftables import Library, Program, Runner
from calico.ruleset import ast, nft, nftstate
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]

SET = {"address": "cali40s-a", "net": "cali40s-n", "port": "cali40n-p"}
RANGES = ((90, 100), (80, 80), (101, 110))
NETS = {4: ("10.0.0.1", "10.0.0.0/8", "0.0.0.0/0"), 6: ("fd00::1", "fd00::/8", "::/0")}


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespaces("t-nft-words") as (made,):
        yield made


def matches(family: Family) -> Iterator[tuple[ast.Match, ...]]:
    """Each match in each form, alone or with what it needs, and combinations that nft prints in its own way."""
    for negate in (False, True):
        yield (ast.Interface("in", "cali*", negate),)
        yield (ast.Interface("out", "eth0", negate),)
        ends: tuple[Literal["source", "destination"], ...] = ("source", "destination")
        for end in ends:
            for net in NETS[family]:
                yield (ast.Address(end, parse_cidr(net), negate),)
            yield (ast.InSet(end, SET["address"], negate),)
            yield (ast.InSet(end, SET["net"], negate),)
            yield (ast.PortInSet(end, SET["port"], negate),)
            yield (ast.LocalAddress(end, negate),)
            yield (ast.Ports(end, RANGES, negate),)
            yield (ast.Protocol(47, negate=True), ast.Ports(end, ((80, 80),), negate))
            for protocol in (6, 17, 132, 136):
                yield (ast.Protocol(protocol), ast.PortInSet(end, SET["port"], negate))
                yield (ast.Protocol(protocol), ast.Ports(end, RANGES, negate))
                yield (ast.Protocol(protocol), ast.Ports(end, ((80, 80),), negate))
                yield (ast.Protocol(protocol), ast.Ports(end, ((80, 90),), negate))
        for protocol in (1, 2, 6, 47, 58, 89, 255):
            yield (ast.Protocol(protocol, negate),)
        icmp = 1 if family == 4 else 58
        for kind in (0, 3, 8, 128, 200):
            for code in (None, 0, 7):
                yield (ast.Icmp(kind, code, negate),)
                yield (ast.Protocol(icmp), ast.Icmp(kind, code, negate))
        yield (ast.CtDnat(negate),)
        yield (ast.Mark(0x10000, 0x10000, negate),)
        yield (ast.Mark(0, 0x30000, negate),)
        yield (ast.Mark(1, 0xFFFFFFFF, negate),)
    yield (ast.Protocol(icmp), ast.Icmp(3), ast.Icmp(3, 1, negate=True))
    yield (ast.CtState(("established", "related")),)
    yield (ast.CtState(("untracked", "invalid", "new")),)
    yield (ast.CtState(("invalid",)),)
    yield (ast.ReversePathFails(),)
    ways: tuple[Literal["original", "reply"], ...] = ("original", "reply")
    for way in ways:
        for net in NETS[family][:2]:
            yield (ast.CtState(("related",)), ast.CtSource(way, parse_cidr(net)))
    yield (ast.Limit(2, 10),)
    yield (
        ast.Protocol(6),
        ast.Ports("source", ((1024, 65535),)),
        ast.Ports("destination", RANGES),
        ast.Address("source", parse_cidr(NETS[family][0])),
        ast.InSet("destination", SET["net"], negate=True),
        ast.Ports("destination", ((85, 86),), negate=True),
    )
    for low in (0, 80, 65535):
        yield (
            ast.Protocol(6),
            ast.Ports("source", ((80, 80),), negate=True),
            ast.Ports("destination", ((low, low),), negate=True),
        )
    yield (ast.Ports("destination", ((80, 80),), negate=True), ast.Ports("source", ((80, 80),), negate=True))
    yield (
        ast.Protocol(17),
        ast.InSet("source", SET["net"]),
        ast.PortInSet("destination", SET["port"]),
        ast.PortInSet("source", SET["port"], negate=True),
    )
    yield (ast.PortInSet("destination", SET["port"]), ast.PortInSet("source", SET["port"], negate=True))
    yield (ast.Protocol(6, negate=True), ast.InSet("source", SET["net"]))
    yield (ast.Mark(0, 0x20000), ast.Interface("in", "cali*"), ast.Interface("out", "cali*"))


def statements() -> Iterator[tuple[ast.Statement, ...]]:
    yield (ast.SetMark(0x10000, 0x10000), ast.Return())
    yield (ast.SetMark(0, 0xFFFF0000),)
    yield (ast.SetMark(0x10000, 0x30000), ast.Accept())
    yield (ast.SetMark(5, 0xFFFFFFFF), ast.Drop())
    yield (ast.Log('a "quoted" $prefix: '),)
    yield (ast.Log("x: "), ast.Reject())
    yield (ast.Log("x: ", "10/second"),)
    yield (ast.Log("x: ", "9999/day", 9999),)
    yield (ast.SetMark(5, 0xFFFFFFFF), ast.Log("x: ", "60/minute", 1))
    yield (ast.Reject(),)
    yield (ast.Jump("cali-pi-x"),)
    yield (ast.Goto("cali-pi-x"),)
    yield (ast.Dispatch("in", "cali-from-wl"),)
    yield (ast.Dispatch("out", "cali-from-wl"),)


def everything(family: Family) -> ast.Table:
    origin = Origin("GlobalNetworkPolicy", "default", "", "n" * 200, "ingress", 2)
    plain = [ast.Rule(found, (ast.Return(),), comment="why") for found in matches(family)]
    plain += [ast.Rule((), found, origin=origin, counted=True) for found in statements()]
    plain += [
        ast.Rule((ast.InSet("source", SET["net"]), ast.Protocol(number)), (ast.Reject(),), counted=True)
        for number in (6, 17)
    ]
    plain.append(ast.Rule((ast.Protocol(6), ast.Ports("destination", RANGES)), (ast.Reject(),)))
    one, net = parse_address(NETS[family][0]), parse_cidr(NETS[family][1])
    return ast.Table(
        family,
        chains={
            "cali-pi-x": ast.Chain(()),
            "cali-all": ast.Chain(tuple(plain)),
            "raw-PREROUTING": ast.Chain(
                (ast.Rule((), (ast.NoTrack(),)),), hook=ast.Hook("raw", "prerouting")
            ),
            "nat-POSTROUTING": ast.Chain(
                (ast.Rule((), (ast.Masquerade(),)),), hook=ast.Hook("nat", "postrouting")
            ),
            "mangle-OUTPUT": ast.Chain((), hook=ast.Hook("mangle", "output")),
            "filter-FORWARD": ast.Chain(
                (ast.Rule((), (ast.Jump("cali-all"),)),), hook=ast.Hook("filter", "forward")
            ),
            "filter-FORWARD-accept": ast.Chain(
                (ast.Rule((), (ast.Accept(),)),), hook=ast.Hook("filter", "forward", append=True)
            ),
        },
        sets={
            SET["address"]: ast.Set("address", comment="app == 'web'"),
            SET["net"]: ast.Set("net", comment='app == "it\'s"'),
            SET["port"]: ast.Set("port"),
        },
        members={
            SET["address"]: {one},
            SET["net"]: {one, net},
            SET["port"]: {PortMember(one, protocol, 80) for protocol in (6, 17, 132, 136)},
        },
        maps={
            "cali-from-wl": {"cali1": ast.Goto("cali-pi-x"), "cali2": ast.Drop(), "fwd": ast.Return()},
            "cali-empty": {},
        },
    )


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("run", [Library, Program])
def test_every_node_reads_back_as_written(
    space: Namespace, family: Family, run: type[Library | Program]
) -> None:
    """What the kernel lists is, rule for rule and without having learned anything, what the ruleset says."""
    table = everything(family)

    def write_and_read() -> nftstate.Snapshot | None:
        runner: Runner = run()
        runner.run(nft.whole(table).text())
        listed = runner.list_table(nft.NFT_FAMILY[family], nft.TABLE)
        assert listed is not None
        return nftstate.read(listed, family)

    held = space.call(write_and_read)

    assert held is not None
    wanted = nftstate.expected_rules(table.chains["cali-all"], family, nftstate.Learned())
    found = held.chains["cali-all"].rules
    assert [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]] == []
    differences, repair = nftstate.compare(table, held, nftstate.Learned())
    assert differences == []
    assert not repair


@pytest.mark.parametrize("family", [4, 6])
def test_listing_is_accepted_by_nft(space: Namespace, family: Family) -> None:
    """The readable form of a table is nft's own language, and makes the same table."""
    table = everything(family)
    del table.chains["nat-POSTROUTING"]

    def write_and_read() -> nftstate.Snapshot | None:
        runner = Library()
        runner.run(nft.listing(table))
        listed = runner.list_table(nft.NFT_FAMILY[family], nft.TABLE)
        assert listed is not None
        return nftstate.read(listed, family)

    differences, _ = nftstate.compare(table, space.call(write_and_read), nftstate.Learned())
    assert differences == []
