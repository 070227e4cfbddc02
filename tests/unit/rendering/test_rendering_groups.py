"""Many policies of one tier in one chain: they judge as one after the other, and follow every edit."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.analysis import evaluate as reference
from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
    Verdict,
)
from calico.model.address import Cidr, parse_address, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from calico.ruleset.diff import applied
from support.firewall import Packet, forward

POLICIES = [PolicyId("GlobalNetworkPolicy", "", f"p{number}") for number in range(10)]
ENDPOINTS = [EndpointId("WorkloadEndpoint", "default", name) for name in ("one", "two")]
ADDRESSES = [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::1", "fd00::2")]
NETS = [*ADDRESSES, *(parse_cidr(text) for text in ("10.0.0.0/24", "192.0.0.0/8", "fd00::/64"))]
SELECTED = SetInfo("net", "has(x)")
TABLES: tuple[ast.TableFamily, ...] = (4, 6, "arp")


def rule(action: Verdict, **fields: Any) -> RuleRow:
    return RuleRow(action, Origin("GlobalNetworkPolicy", "default", "", "p", "ingress", 0), **fields)


sides = st.builds(
    Side,
    nets=st.sampled_from(NETS).map(lambda net: (net,)) | st.just(()),
    sets=st.sampled_from([(), (), (), ("s:x",)]),
    ports=st.sampled_from([80, 81]).map(lambda port: ((port, port),)),
)
rows = st.builds(
    rule,
    st.sampled_from(["Allow", "Allow", "Allow", "Deny", "Pass", "Log"]),
    protocol=st.just(6),
    destination=sides,
)
policies = st.builds(PolicyRow, st.lists(rows, max_size=3).map(tuple), st.just(()))
tiers = st.builds(
    TierRow,
    st.sampled_from(["default", "first"]),
    st.sampled_from(["Deny", "Pass"]),
    st.lists(st.sampled_from(POLICIES), min_size=7, max_size=10, unique=True).map(tuple),
)
endpoints = st.builds(
    EndpointRow,
    interface=st.sampled_from(["cali1", "cali2"]),
    addresses=st.just(()),
    ingress=st.lists(tiers, max_size=2).map(tuple),
    egress=st.just(()),
    profiles=st.sampled_from([(), ("open",)]),
)
OPEN = {"open": PolicyRow((rule("Allow"),), ())}


def step(*, gone: bool) -> st.SearchStrategy[Delta]:
    """Rows of every table that groups depend on; ``gone``: some go."""

    def table(keys: Any, values: Any, least: int) -> Any:
        return st.dictionaries(keys, values | st.none() if gone else values, min_size=0 if gone else least)

    return st.builds(
        Delta,
        set_infos=st.just({"s:x": SELECTED}),
        set_members=table(
            st.builds(SetMember, st.just("s:x"), st.sampled_from(NETS)), st.just(value=True), 0
        ),
        policies=table(st.sampled_from(POLICIES), policies, 8),
        profiles=st.just(OPEN),
        endpoints=table(st.sampled_from(ENDPOINTS), endpoints, 1),
    )


PACKETS = [
    Packet(source, destination, 6, 1000, port, way_in="eth0", way_out=interface)
    for source, destination, port, interface in product(ADDRESSES, ADDRESSES, (80, 81, 9), ("cali1", "cali2"))
    if source.family == destination.family
]


def asked(packet: Packet) -> reference.Packet:
    return reference.Packet(
        packet.source, packet.destination, packet.protocol, packet.source_port, packet.destination_port
    )


@given(step(gone=False))
@settings(max_examples=60, deadline=None)
def test_many_policies_of_a_tier_judge_as_one_after_the_other(state: Delta) -> None:
    """Whether a policy stands in its group's chain, in a set, or has a chain of its own: the verdict is the reference's."""
    renderer = Renderer(Settings(), least=2)
    renderer.update(state)
    held = {member for member, present in state.set_members.items() if present}
    picture = reference.Picture(dict(state.policies), dict(state.profiles), reference.Members(held))  # type: ignore[arg-type]
    for packet in PACKETS:
        owners = [name for name, row in state.endpoints.items() if row and row.interface == packet.way_out]
        expected = False
        if owners:
            row = state.endpoints[min(owners)]
            assert row is not None
            expected = reference.evaluate(picture, row, "ingress", asked(packet), workload=True).allowed
        packet.mark = 0

        assert forward(renderer.tables[packet.source.family], packet) == expected, packet


@given(st.lists(step(gone=True), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_history_of_groups_ends_in_what_a_fresh_start_renders(history: list[Delta]) -> None:
    """Policies that grow out of their group's chain, shrink into it, vanish and return leave nothing behind."""
    held: dict[str, dict[Any, Any]] = {"set_members": {}, "policies": {}, "profiles": {}, "endpoints": {}}
    followed = Renderer(Settings(), least=2)
    mirrors = {family: ast.Table(family) for family in TABLES}
    for one in history:
        for name, table in held.items():
            for key, value in getattr(one, name).items():
                table.pop(key, None)
                if value is not None:
                    table[key] = value
        for change in followed.update(one):
            applied(mirrors[change.family], change)
        assert mirrors == followed.tables

    fresh = Renderer(Settings(), least=2)
    fresh.update(Delta(set_infos={"s:x": SELECTED}, **held))
    assert followed.tables == fresh.tables

    empty = Renderer(Settings())
    empty.update(Delta())
    followed.update(
        Delta(set_infos={"s:x": None}, **{name: dict.fromkeys(table) for name, table in held.items()})
    )
    assert followed.tables == empty.tables
    left = vars(followed._chains)
    assert not any(left[name] for name in ("_rows", "_uses", "_named", "_dirty", "_groups", "_jumps"))


def chains_of(count: int, rules: int) -> dict[str, ast.Chain]:
    """The IPv4 chains of policies and groups for an endpoint with this many policies of so many rules each."""
    names = [PolicyId("GlobalNetworkPolicy", "", f"n{number}") for number in range(count)]
    renderer = Renderer(Settings())
    renderer.update(
        Delta(
            policies={
                name: PolicyRow(
                    tuple(
                        rule(
                            "Allow",
                            protocol=6,
                            source=Side(nets=(Cidr(4, number << 8 | index, 32),)),
                            destination=Side(ports=((80, 80),)),
                        )
                        for index in range(rules)
                    ),
                    (),
                )
                for number, name in enumerate(names)
            },
            endpoints={
                ENDPOINTS[0]: EndpointRow("cali1", (), (TierRow("default", "Deny", tuple(names)),), (), ())
            },
        )
    )
    return {
        name: chain
        for name, chain in renderer.tables[4].chains.items()
        if name.startswith(("cali-pi-", "cali-gi-"))
    }


def test_few_policies_keep_a_chain_each() -> None:
    """A tier of few policies reads as policies do."""
    assert [len(chain.rules) for chain in chains_of(7, 1).values()] == [1] * 7


def test_a_thousand_small_policies_are_one_rule() -> None:
    """Policies that differ in a value only are one lookup, together."""
    assert [len(chain.rules) for chain in chains_of(1000, 1).values()] == [1]


def test_large_policies_keep_their_chains_behind_the_group() -> None:
    """A policy of more rules than the jump to it costs is jumped to; its own rules are merged in its own chain."""
    chains = chains_of(10, 20)

    assert sorted(len(chain.rules) for chain in chains.values()) == [*[1] * 10, 20]
