"""Runs of similar rules that become one: the meaning stays, the names stay, and comments say whom a rule stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.desired import Origin, PortMember
from calico.model.address import Cidr, Family, parse_address, parse_cidr
from calico.ruleset import ast
from calico.ruleset.merge import LEAST, Merged, merge
from support.firewall import Packet, cross

ALLOW = (ast.SetMark(1, 1), ast.Return())
PASS = (ast.SetMark(2, 2), ast.Return())
DENY = (ast.Drop(),)
LOG = (ast.Log("seen"),)
TCP, UDP, ICMP = 6, 17, 1
ADDRESSES: dict[Family, list[Cidr]] = {
    4: [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.0.1")],
    6: [parse_address(text) for text in ("fd00::1", "fd00::2", "fd00:1::1", "fe80::1")],
}
NETS: dict[Family, list[Cidr]] = {
    4: [parse_cidr(text) for text in ("10.0.0.0/24", "10.0.0.0/16", "10.0.1.0/24", "192.0.0.0/8")],
    6: [parse_cidr(text) for text in ("fd00::/64", "fd00::/16", "fd00:1::/64", "fe80::/8")],
}
FAMILIES: list[Family] = [4, 6]
LITERALS = {
    f"literal{family}{number}": nets
    for family in FAMILIES
    for number, nets in enumerate(
        (tuple(ADDRESSES[family][:2]), tuple(NETS[family][1:3]), (ADDRESSES[family][3], NETS[family][0]))
    )
}
PORTS = [80, 81, 443]


def matches(family: Family) -> st.SearchStrategy[tuple[ast.Match, ...]]:
    """What rules of policies look like: a protocol with ports or without, addresses of either end, a set of a selector."""
    end: st.SearchStrategy[Any] = st.sampled_from(["source", "destination"])
    net = st.sampled_from(ADDRESSES[family] + NETS[family])
    literal = st.sampled_from([name for name in LITERALS if name.startswith(f"literal{family}")])
    seldom = st.integers(0, 7).map(lambda roll: not roll)
    address = st.one_of(
        st.builds(ast.Address, end, net, seldom),
        st.builds(ast.Address, end, net, seldom),
        st.builds(ast.InSet, end, literal, seldom),
        st.builds(ast.InSet, end, st.just("selector"), seldom),
    )
    single = st.sampled_from(PORTS).map(lambda port: ((port, port),))
    several = st.sampled_from([((80, 81),), ((80, 80), (443, 443)), ((1, 65535),)])
    ports = st.builds(ast.Ports, end, st.one_of(single, single, several), seldom)
    protocol = st.builds(ast.Protocol, st.sampled_from([TCP, TCP, UDP]))
    layer4 = st.one_of(
        st.just(()),
        protocol.map(lambda match: (match,)),
        st.tuples(protocol, ports),
        st.tuples(protocol, ports),
        st.tuples(protocol, ports, ports),
        st.tuples(protocol, st.builds(ast.PortInSet, end, st.just("port"), seldom)),
    )
    return st.tuples(layer4, st.lists(address, max_size=2).map(tuple)).map(lambda parts: parts[0] + parts[1])


def rule_lists(family: Family) -> st.SearchStrategy[list[ast.Rule]]:
    """Runs that differ in few things, one behind the other."""
    actions = st.sampled_from([ALLOW, ALLOW, DENY, DENY, PASS, LOG])
    free = st.lists(st.builds(ast.Rule, matches(family), actions), max_size=4)
    value = st.tuples(st.sampled_from(ADDRESSES[family] + NETS[family]), st.sampled_from(PORTS))
    acts = st.sampled_from([(ALLOW,), (DENY,), (ALLOW, DENY), (ALLOW, DENY, PASS)])

    def run(parts: tuple[Any, Any, list[tuple[Cidr, int]]]) -> list[ast.Rule]:
        end, actions, values = parts
        return [
            ast.Rule(
                (ast.Protocol(TCP), ast.Ports("destination", ((port, port),)), ast.Address(end, net)),
                actions[number % len(actions)],
            )
            for number, (net, port) in enumerate(values)
        ]

    similar = st.tuples(st.sampled_from(["source", "destination"]), acts, st.lists(value, max_size=6)).map(
        run
    )
    return st.lists(st.one_of(free, similar), max_size=3).map(
        lambda parts: [rule for part in parts for rule in part]
    )


def packets(family: Family) -> Iterable[Packet]:
    for source, destination in product(ADDRESSES[family], repeat=2):
        for protocol, sport, dport in product((TCP, UDP), (80, 443), (*PORTS, 9)):
            yield Packet(source, destination, protocol, sport, dport)
        yield Packet(source, destination, ICMP if family == 4 else 58, icmp_type=8, icmp_code=0)


PACKETS = {family: list(packets(family)) for family in FAMILIES}


def table(family: Family, merged: Merged) -> ast.Table:
    """A table whose forward chain calls the rules, and denies what they do not mark."""
    made = ast.Table(family)
    made.members = {
        "selector": {NETS[family][0]},
        "port": {PortMember(ADDRESSES[family][0], TCP, 80)},
        **{name: set(nets) for name, nets in LITERALS.items()},
        **{name: set(members) for name, (_, members) in merged.sets.items()},
    }
    made.chains = {
        "filter-FORWARD": ast.Chain(
            (ast.Rule((), (ast.Jump("cali-x"),)), ast.Rule((ast.Mark(0, 0xFF),), (ast.Drop(),))),
            ast.Hook("filter", "forward"),
        ),
        "cali-x": ast.Chain(merged.rules),
    }
    return made


def judged(made: ast.Table, family: Family) -> list[tuple[str, int, list[str]]]:
    """Verdict, mark and log of every packet."""
    outcomes = []
    for packet in PACKETS[family]:
        packet.mark, packet.log = 0, []
        outcomes.append((cross(made, "forward", packet), packet.mark, packet.log))
    return outcomes


@given(st.sampled_from(FAMILIES).flatmap(lambda family: st.tuples(st.just(family), rule_lists(family))))
@settings(max_examples=100, deadline=None)
def test_merged_rules_mean_what_the_single_ones_mean(given_rules: tuple[Family, list[ast.Rule]]) -> None:
    """Whatever the rules: each packet gets the same verdict, mark and log lines from the merged ones."""
    family, rules = given_rules
    merged = merge("cali-x", family, rules, LITERALS, least=2)

    assert judged(table(family, merged), family) == judged(table(family, Merged(tuple(rules))), family)


def edited_lists(family: Family) -> st.SearchStrategy[tuple[list[ast.Rule], list[ast.Rule]]]:
    """The rules of a policy before and after an edit: a run with other values, and perhaps something else before it."""
    value = st.sampled_from(ADDRESSES[family] + NETS[family])
    values = st.lists(value, min_size=2, max_size=4)
    first = st.lists(st.builds(ast.Rule, matches(family), st.sampled_from([ALLOW, DENY])), max_size=2)

    def policy(head: list[ast.Rule], nets: list[Cidr], *others: list[Cidr]) -> list[ast.Rule]:
        runs = [ast.Rule((ast.Address("source", net),), ALLOW) for net in nets]
        return [
            *head,
            *runs,
            *(ast.Rule((ast.Address("source", net),), DENY) for more in others for net in more),
        ]

    state = st.builds(policy, first, values, values)
    return st.tuples(state, state)


@given(st.sampled_from(FAMILIES).flatmap(lambda family: st.tuples(st.just(family), edited_lists(family))))
@settings(max_examples=80, deadline=None)
def test_between_two_states_each_packet_meets_one_of_them(
    worlds: tuple[Family, tuple[list[ast.Rule], list[ast.Rule]]],
) -> None:
    """While sets hold the members of before and after, either chain gives each packet a verdict of before or after."""
    family, (old, new) = worlds
    before, after = (merge("cali-x", family, rules, LITERALS, least=2) for rules in (old, new))
    allowed = list(
        zip(judged(table(family, before), family), judged(table(family, after), family), strict=True)
    )
    both = {
        name: (content[0], content[1] | before.sets.get(name, content)[1])
        for name, content in {**before.sets, **after.sets}.items()
    }
    for chain in (before, after):
        between = judged(table(family, Merged(chain.rules, both)), family)
        # What is logged may be logged on one way and decided on the other.
        for found, choices in zip(between, allowed, strict=True):
            assert found[:2] in [choice[:2] for choice in choices]


# --- examples


def origin(number: int, name: str = "web") -> Origin:
    return Origin("GlobalNetworkPolicy", "default", "", name, "ingress", number)


def rules_of(count: int, *actions: tuple[ast.Statement, ...], port: int | None = None) -> list[ast.Rule]:
    """Rules that each allow one destination address, on one port or each on its own."""
    chosen = actions or (ALLOW,)
    return [
        ast.Rule(
            (
                ast.Protocol(TCP),
                ast.Ports("destination", ((port or 1000 + number,) * 2,)),
                ast.Address("destination", Cidr(4, (10 << 24) + number, 32)),
            ),
            chosen[number % len(chosen)],
            origin=origin(number),
            counted=True,
        )
        for number in range(count)
    ]


def merged_rules(rules: Sequence[ast.Rule]) -> Merged:
    return merge("cali-pi-gnp/web", 4, rules, {})


def test_few_similar_rules_stay_as_they_are() -> None:
    """Below the threshold a policy can be read rule by rule."""
    rules = rules_of(LEAST - 1)

    assert merged_rules(rules) == Merged(tuple(rules))


def test_addresses_with_ports_become_one_exact_set() -> None:
    """Rules that differ in address and port look (address, protocol, port) up in one set, and keep their counter."""
    merged = merged_rules(rules_of(100))

    (rule,) = merged.rules
    ((name, (kind, members)),) = merged.sets.items()
    assert rule.matches == (ast.PortInSet("destination", name),)
    assert (rule.statements, rule.counted) == (ALLOW, True)
    assert kind.type == "port"
    assert members == {
        PortMember(Cidr(4, (10 << 24) + number, 32), TCP, 1000 + number) for number in range(100)
    }


def test_a_rule_says_which_rules_it_stands_for() -> None:
    """The comment names the numbers as ranges, and the value keeps every origin."""
    rules = rules_of(20)
    rules[5] = ast.Rule(rules[5].matches[:1], ALLOW, origin=origin(5))
    merged = merged_rules(rules)

    assert merged.rules[0].comment == "GlobalNetworkPolicy web tier default ingress rules 0-4, 6-19"
    assert merged.rules[0].merged == tuple(origin(number) for number in range(20) if number != 5)
    assert merged.rules[1] == rules[5]


def test_a_comment_is_of_bounded_length() -> None:
    """Of many gaps only the first are named, and the rest counted."""
    merged = merged_rules([rule for rule in rules_of(1000) if rule.origin and rule.origin.rule % 2 == 0])  # type: ignore[operator]

    assert merged.rules[0].comment.endswith("rules 0, 2, 4, 6, 8, 10 and 494 more")


def test_a_changed_value_changes_one_element() -> None:
    """Another address, port or protocol in one rule leaves rules and names as they are."""
    rules = rules_of(1000, port=80)
    before = merged_rules(rules)
    rules[500] = ast.Rule(
        (
            ast.Protocol(UDP),
            ast.Ports("destination", ((53, 53),)),
            ast.Address("destination", parse_address("192.0.2.1")),
        ),
        ALLOW,
        origin=origin(500),
        counted=True,
    )
    after = merged_rules(rules)

    assert after.rules == before.rules
    (name,) = before.sets
    assert len(after.sets[name][1] ^ before.sets[name][1]) == 2


def test_rules_that_act_differently_on_different_values_become_a_set_for_each_action() -> None:
    """Allow, deny and pass in turn, each for an address of its own, are three lookups: their order says nothing."""
    merged = merged_rules(rules_of(300, ALLOW, DENY, PASS))

    assert [rule.statements for rule in merged.rules] == [ALLOW, DENY, PASS]
    assert [len(members) for _, members in merged.sets.values()] == [100, 100, 100]


def test_an_exception_before_a_wider_rule_keeps_its_place() -> None:
    """Of nets that overlap and act differently the first still wins: the run ends before the second."""
    nets = [ast.Rule((ast.Address("source", Cidr(4, (10 << 24) + (n << 8), 24)),), DENY) for n in range(20)]
    wide = ast.Rule((ast.Address("source", parse_cidr("10.0.0.0/8")),), ALLOW)
    more = [ast.Rule((ast.Address("source", Cidr(4, (11 << 24) + (n << 8), 24)),), DENY) for n in range(20)]
    merged = merged_rules([*nets, wide, *more])

    assert [rule.statements for rule in merged.rules] == [DENY, ALLOW, DENY]
    assert merged.rules[1] == wide


def test_ports_alone_become_one_list() -> None:
    """Rules that differ in ports only are one rule with all of them, neighbours joined."""
    rules = [
        ast.Rule((ast.Protocol(UDP), ast.Ports("destination", ((port, port),))), ALLOW, origin=origin(port))
        for port in range(100, 120)
    ]
    merged = merged_rules(rules)

    assert not merged.sets
    assert [rule.matches for rule in merged.rules] == [
        (ast.Protocol(UDP), ast.Ports("destination", ((100, 119),)))
    ]


def test_rules_after_which_packets_go_on_are_never_merged() -> None:
    """Each log line is written; a rule that counts packets for itself stays alone."""
    logged = [ast.Rule(rule.matches, LOG) for rule in rules_of(20)]
    limited = [ast.Rule((*rule.matches, ast.Limit(1, 1)), DENY) for rule in rules_of(20)]

    assert merged_rules([*logged, *limited]).rules == (*logged, *limited)


def test_a_set_has_another_name_when_something_else_comes_before_it() -> None:
    """A set is only kept where the packets that are looked up in it are the same as before."""
    rules = rules_of(20)
    other = ast.Rule((ast.Address("source", parse_cidr("192.0.2.0/24")),), DENY)
    plain, behind = merged_rules(rules), merged_rules([other, *rules])

    assert plain.sets.keys().isdisjoint(behind.sets)
    assert plain.sets.keys() == merged_rules([*rules, other]).sets.keys()
