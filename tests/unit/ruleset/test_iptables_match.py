"""Matches as options of iptables."""

from __future__ import annotations

import pytest

from calico.model.address import parse_cidr
from calico.ruleset import ast
from calico.ruleset.iptables_match import Condition, condition, interface_matches, possible_interface, quote


def options(*matches: ast.Match, family: int = 4) -> list[str]:
    """The alternatives of a condition without escapes."""
    found = condition(matches, 4 if family == 4 else 6)
    assert found is not None
    assert found.escapes == ()
    return list(found.alternatives)


def test_no_match_is_one_alternative_without_options() -> None:
    """A rule that asks nothing applies to every packet."""
    assert condition((), 4) == Condition(("",))


def test_positive_ports_fill_fifteen_slots() -> None:
    """A range takes two of fifteen slots, and what does not fit is another rule."""
    ranges = (*((port, port) for port in range(1, 29, 2)), (100, 200), (300, 300))

    found = options(ast.Protocol(6), ast.Ports("destination", ranges))

    assert found == [
        f"-p 6 -m multiport --dports {','.join(str(port) for port in range(1, 29, 2))}",
        "-p 6 -m multiport --dports 100:200,300",
    ]


def test_negated_ports_stay_one_rule() -> None:
    """However many ports are excluded, none of them may match, so all the parts are in one rule."""
    ranges = tuple((port, port) for port in range(0, 40, 2))

    [found] = options(ast.Protocol(17), ast.Ports("source", ranges, negate=True))

    assert found.count("-m multiport ! --sports") == 2


def test_alternatives_exclude_each_other() -> None:
    """Ports that overlap or touch are merged, so that no packet meets a rule's statements twice."""
    ranges = ((10, 20), (15, 30), (31, 31), (5, 5))
    assert options(ast.Protocol(6), ast.Ports("destination", ranges)) == [
        "-p 6 -m multiport --dports 5,10:31"
    ]


def test_ports_of_both_ends_multiply() -> None:
    """Two long lists are all pairs of their parts."""
    many = tuple((port, port) for port in range(0, 40, 2))
    assert len(options(ast.Protocol(6), ast.Ports("source", many), ast.Ports("destination", many))) == 4


def test_ports_need_a_protocol() -> None:
    """Without a protocol there is a rule for each that has ports; of the protocols excluded there is none."""
    found = options(ast.Ports("destination", ((80, 80),)), ast.Protocol(17, negate=True))
    assert [text.split()[1] for text in found] == ["6", "33", "132", "136"]
    assert options(ast.Ports("destination", ((80, 80),)), ast.Protocol(33)) == [
        "-p 33 -m multiport --dports 80"
    ]


def test_negated_port_set_is_about_packets_with_ports() -> None:
    """A packet without ports is not one whose port is absent from the set."""
    found = options(ast.PortInSet("source", "cali40x", negate=True))
    assert [text.split()[1] for text in found] == ["6", "17", "132", "136"]
    assert options(ast.PortInSet("destination", "cali40x")) == ["-m set --match-set cali40x dst,dst"]


@pytest.mark.parametrize(
    "matches",
    [
        (ast.Protocol(6), ast.Protocol(17)),
        (ast.Protocol(6), ast.Protocol(6, negate=True)),
        (ast.Protocol(6), ast.Icmp(8)),
        (ast.Protocol(47), ast.Ports("destination", ((80, 80),))),
        (ast.Protocol(6), ast.Ports("destination", ())),
        (ast.Address("source", parse_cidr("fd00::/8")),),
        (ast.Address("source", parse_cidr("0.0.0.0/0"), negate=True),),
        (ast.Interface("in", "cali1"), ast.Interface("in", "cali2")),
        (ast.Interface("in", "cali*"), ast.Interface("in", "eth0")),
        (ast.Interface("in", "cali1"), ast.Interface("in", "cali*", negate=True)),
        (ast.Interface("in", "*", negate=True),),
        (ast.Interface("in", "sixteen-letters-"),),
        (ast.Interface("in", "eth+"),),
    ],
)
def test_contradictions_match_nothing(matches: tuple[ast.Match, ...]) -> None:
    """What no packet can satisfy is no rule at all; an emptied match never becomes match-all."""
    assert condition(matches, 4) is None


def test_several_exclusions_become_escapes() -> None:
    """A second excluded protocol or interface is asked for after the rest has matched."""
    assert condition((ast.Protocol(6, negate=True), ast.Protocol(17, negate=True)), 4) == Condition(
        ("! -p 6",), ("-p 17",)
    )
    assert condition(
        (ast.Interface("in", "a", negate=True), ast.Interface("in", "b*", negate=True)), 4
    ) == Condition(("! -i a",), ("-i b+",))


def test_interfaces_are_reduced() -> None:
    """Of several conditions on one interface only what is not implied is written."""
    assert options(ast.Interface("in", "cali*"), ast.Interface("in", "cali1")) == ["-i cali1"]
    assert options(ast.Interface("in", "cali*"), ast.Interface("in", "eth0", negate=True)) == ["-i cali+"]
    assert options(ast.Interface("in", "ca", negate=True), ast.Interface("in", "c*", negate=True)) == [
        "! -i c+"
    ]
    assert options(ast.Interface("out", "*")) == [""]
    assert options(ast.Interface("in", "a"), ast.Interface("out", "b", negate=True)) == ["-i a ! -o b"]


def test_second_prefix_of_an_end_is_a_range() -> None:
    """iptables has one -s in a rule, so further prefixes are said as ranges."""
    wide, narrow = parse_cidr("10.0.0.0/8"), parse_cidr("10.1.0.0/16")
    assert options(ast.Address("source", wide), ast.Address("source", narrow, negate=True)) == [
        "-s 10.0.0.0/8 -m iprange ! --src-range 10.1.0.0-10.1.255.255"
    ]
    assert options(ast.Address("destination", parse_cidr("fd00::/8"), negate=True), family=6) == [
        "! -d fd00::/8"
    ]
    assert options(ast.Address("source", parse_cidr("fd00::/8"), negate=True)) == [""]


def test_icmp_names_protocol_and_family() -> None:
    """The type and code are one option, and bring the family's protocol along."""
    assert options(ast.Icmp(8, 0, negate=True)) == ["-p 1 -m icmp ! --icmp-type 8/0"]
    assert options(ast.Icmp(128), family=6) == ["-p 58 -m icmp6 --icmpv6-type 128"]


def test_icmp_type_255_is_not_any_type() -> None:
    """iptables takes 255 for every type, so that type is read from the packet's bytes."""
    assert "--icmp-type" not in options(ast.Icmp(255))[0]


def test_plain_matches() -> None:
    """What iptables has a word for is said with it."""
    assert options(
        ast.CtState(("established", "related")),
        ast.CtDnat(negate=True),
        ast.Mark(0x10000, 0x30000, negate=True),
        ast.ReversePathFails(),
        ast.LocalAddress("source", negate=True),
        ast.InSet("source", "cali40x", negate=True),
    ) == [
        "-m conntrack --ctstate ESTABLISHED,RELATED -m conntrack ! --ctstate DNAT -m mark ! --mark 0x10000/0x30000 "
        "-m rpfilter --validmark --invert -m addrtype ! --src-type LOCAL -m set ! --match-set cali40x src"
    ]


def test_quoting_keeps_text_one_word() -> None:
    """No text from outside can end its word, its line, or the comment that it is in."""
    assert quote("plain-word_1.0/24") == "plain-word_1.0/24"
    assert quote('we "x"\n-A FORWARD\\') == '"we \\"x\\" -A FORWARD\\\\"'
    assert quote("") == '""'


def test_interface_names() -> None:
    """A name the kernel would not take, or iptables not say, is no interface; patterns cover what they begin."""
    assert [possible_interface(name) for name in ("eth0", "", "a" * 16, "a b", "a/b", "a+")] == [True] + [
        False
    ] * 5
    assert interface_matches(ast.Interface("in", "cali*"), "cali1")
    assert not interface_matches(ast.Interface("in", "cali"), "cali1")
    assert interface_matches(ast.Interface("in", "eth0", negate=True), "cali1")
