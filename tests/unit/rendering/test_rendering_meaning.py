"""What is rendered means what policy says: the ruleset, run packet by packet, against the reference evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.analysis import evaluate as reference
from calico.analysis.host import failsafe, judge_host
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
    Tiers,
)
from calico.model.address import Cidr, parse_address, parse_cidr
from calico.model.settings import Settings
from calico.rendering.host import govern
from calico.rendering.policy import render_matches
from calico.rendering.renderer import Renderer
from calico.rendering.sets import FamilySets, Members, Uses
from calico.ruleset.ast import Table
from calico.ruleset.diff import Draft, applied
from support.firewall import Packet, cross, forward, holds

ADDRESSES = [parse_address(text) for text in ("10.0.0.1", "10.0.1.1", "192.168.0.1", "fd00::1", "fd00:1::1")]
NETS = [
    parse_cidr(text) for text in ("10.0.0.0/24", "10.0.0.0/8", "0.0.0.0/0", "fd00::/64", "fd00::/8", "::/0")
]
ICMP = {4: 1, 6: 58}
NET_SETS, PORT_SETS = ("s:a", "s:b"), ("n:a", "n:b")
POLICIES = [PolicyId("GlobalNetworkPolicy", "", "a"), PolicyId("NetworkPolicy", "ns", "b")]
PROFILES = ["p", "q"]
INTERFACES = ["cali1", "cali2"]
ENDPOINTS = [EndpointId("WorkloadEndpoint", "ns", name) for name in ("one", "two", "three")]
HOSTS = [EndpointId("HostEndpoint", "", name) for name in ("h1", "h2")]

cidrs = st.sampled_from(ADDRESSES + NETS)
port_ranges = st.sampled_from([(80, 80), (80, 90), (1, 65535)])


def short(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2, unique=True).map(tuple)


def rarely(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Mostly empty, so that conditions meet packets that fulfil them."""
    return st.integers(0, 3).flatmap(lambda roll: st.just(()) if roll else short(values))


sides = st.builds(
    Side,
    nets=rarely(cidrs),
    not_nets=rarely(cidrs),
    sets=rarely(st.sampled_from(NET_SETS)),
    not_sets=rarely(st.sampled_from(NET_SETS)),
    ports=rarely(port_ranges),
    port_sets=rarely(st.sampled_from(PORT_SETS)),
    not_ports=rarely(port_ranges),
    not_port_sets=rarely(st.sampled_from(PORT_SETS)),
)
icmps = st.none() | st.tuples(st.sampled_from([0, 8]), st.sampled_from([None, 0, 1]))
origins = st.just(Origin("Profile", "", "", "p", "ingress", 0))


@st.composite
def rules(draw: st.DrawFn) -> RuleRow:
    """One rule; an ICMP type comes with its protocol and family, as the calculation has it."""
    row = RuleRow(
        draw(st.sampled_from(["Allow", "Allow", "Deny", "Pass", "Log"])),
        draw(origins),
        ip_version=draw(st.sampled_from([None, None, 4, 6])),
        protocol=draw(st.sampled_from([None, 6, 17, 132, 1, 58, 47])),
        not_protocol=draw(st.sampled_from([None, None, 6, 1])),
        source=draw(sides),
        destination=draw(sides),
        never=draw(st.sampled_from([False] * 9 + [True])),
    )
    row = replace(row, not_icmp=draw(icmps) if row.protocol in {None, 1, 58} else None)
    if row.protocol in {1, 58}:
        row = replace(row, icmp=draw(icmps), ip_version=4 if row.protocol == 1 else 6)
    return row


rule_lists = st.lists(rules(), min_size=1, max_size=3).map(tuple)
policy_rows = st.builds(PolicyRow, ingress=rule_lists, egress=rule_lists)
tiers = st.builds(
    TierRow,
    name=st.sampled_from(["default", "first"]),
    default_action=st.sampled_from(["Deny", "Pass"]),
    policies=st.lists(st.sampled_from(POLICIES), min_size=1, max_size=2, unique=True).map(tuple),
)
tier_lists = st.lists(tiers, max_size=2).map(tuple)
workloads = st.builds(
    EndpointRow,
    interface=st.sampled_from(INTERFACES),
    addresses=st.just(()),
    ingress=tier_lists,
    egress=tier_lists,
    profiles=st.lists(st.sampled_from([*PROFILES, "missing"]), min_size=1, max_size=2, unique=True).map(
        tuple
    ),
    active=st.sampled_from([True] * 5 + [False]),
)
both_ways = st.builds(Tiers, tier_lists, tier_lists)
named_hosts = st.builds(
    EndpointRow,
    interface=st.sampled_from(["eth0", "eth0", "eth1", ""]),
    addresses=short(st.sampled_from(ADDRESSES)),
    ingress=tier_lists,
    egress=tier_lists,
    profiles=short(st.sampled_from(PROFILES)),
    forward=both_ways,
    pre_dnat=st.builds(Tiers, tier_lists),
    untracked=both_ways,
)
hosts = named_hosts | named_hosts.map(lambda row: replace(row, interface="*", untracked=Tiers()))
members = st.builds(SetMember, st.sampled_from(NET_SETS), cidrs) | st.builds(
    SetMember,
    st.sampled_from(PORT_SETS),
    st.builds(PortMember, st.sampled_from(ADDRESSES), st.sampled_from([6, 17]), st.sampled_from([80, 443])),
)


@dataclass
class Rows:
    """A whole desired state, or what a step makes of some rows."""

    set_members: dict[SetMember, Any] = field(default_factory=dict)
    policies: dict[PolicyId, Any] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[EndpointId, Any] = field(default_factory=dict)
    pools: dict[Cidr, Any] = field(default_factory=dict)


INFOS = {name: SetInfo("net", f"has({name[2]})") for name in NET_SETS} | {
    name: SetInfo("port", "all()", name[2], None) for name in PORT_SETS
}


def pictures(*, gone: bool) -> st.SearchStrategy[Rows]:
    """Rows of all tables; ``gone``: some are to go."""

    def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return values | st.none() if gone else values

    def table(keys: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.dictionaries(keys, maybe(values), min_size=0 if gone else 2, max_size=6)

    return st.builds(
        Rows,
        set_members=table(members, st.just(value=True)),
        policies=table(st.sampled_from(POLICIES), policy_rows),
        profiles=table(st.sampled_from(PROFILES), policy_rows),
        endpoints=st.builds(
            lambda one, other: one | other,
            table(st.sampled_from(ENDPOINTS), workloads),
            table(st.sampled_from(HOSTS), hosts),
        ),
        pools=table(st.sampled_from(NETS), st.builds(PoolRow, st.booleans())),
    )


def delta(rows: Rows, infos: Mapping[str, SetInfo | None] = INFOS) -> Delta:
    return Delta(
        set_infos=infos,
        set_members=rows.set_members,
        policies=rows.policies,
        profiles=rows.profiles,
        endpoints=rows.endpoints,
        pools=rows.pools,
    )


def packets() -> Iterator[Packet]:
    """Every kind of packet between the addresses."""
    for source, destination in product(ADDRESSES, ADDRESSES):
        if source.family == destination.family:
            for protocol, source_port, destination_port in product(
                (6, 17, 132), (80, 5000), (80, 85, 443, 4789)
            ):
                yield Packet(source, destination, protocol, source_port, destination_port)
            for kind, code in product((0, 8), (0, 1)):
                yield Packet(source, destination, ICMP[source.family], icmp_type=kind, icmp_code=code)
            yield Packet(source, destination, 4)
            yield Packet(source, destination, 47)


def asked(packet: Packet) -> reference.Packet:
    return reference.Packet(
        packet.source,
        packet.destination,
        packet.protocol,
        packet.source_port,
        packet.destination_port,
        packet.icmp_type,
        packet.icmp_code,
    )


PACKETS = list(packets())
SAMPLE = PACKETS[::19]


@given(rules(), st.sets(members, min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_rule_matches_what_it_says(row: RuleRow, held: set[SetMember]) -> None:
    """The rules rendered of a row match exactly the packets that the row does, in both families."""
    known = reference.Members(held)
    for family in (4, 6):
        table = Table(family)
        sets: dict[str, Members] = {name: Members(INFOS[name]) for name in INFOS}
        for name, member in held:
            sets[name].put(member, present=True)
        draft = Draft(family)
        draft.table = table
        family_sets = FamilySets(draft, sets)
        uses = Uses(family_sets)
        found = render_matches(row, family, uses)
        family_sets.use("chain", uses.keys)
        for packet in PACKETS:
            if packet.source.family == family:
                matched = any(all(holds(table, match, packet) for match in matches) for matches in found)
                assert matched == reference.matches(known, row, asked(packet)), packet


@given(pictures(gone=False), st.sampled_from(["ingress", "egress"]), st.sampled_from([0, 0xFFFFFFFF]))
@settings(max_examples=40, deadline=None)
def test_the_ruleset_judges_as_the_reference_does(rows: Rows, direction: Any, mark: int) -> None:
    """A packet to or from a workload passes exactly if the evaluation of its policies allows it."""
    rows.endpoints = {endpoint: row for endpoint, row in rows.endpoints.items() if endpoint in ENDPOINTS}
    renderer = Renderer(Settings())
    renderer.update(delta(rows))
    picture = reference.Picture(rows.policies, rows.profiles, reference.Members(rows.set_members))
    for interface, packet in product(INTERFACES, SAMPLE):
        owners = [e for e, row in rows.endpoints.items() if e in ENDPOINTS and row.interface == interface]
        expected = False
        if owners:
            row = rows.endpoints[min(owners)]
            expected = reference.evaluate(picture, row, direction, asked(packet), workload=True).allowed
        sent = replace(packet, mark=mark, way_in=interface, way_out="eth0")
        if direction == "ingress":
            sent = replace(packet, mark=mark, way_in="eth0", way_out=interface)
        passed = forward(renderer.tables[packet.source.family], sent)

        assert passed == expected, packet
        if passed:
            assert sent.mark & Settings().accept_mark
            assert sent.mark & 0xFFFF == mark & 0xFFFF, "marks of others were touched"


def passes(table: Table, packet: Packet, *hooks: str) -> bool:
    """Whether a packet comes past these hooks, one after the other."""
    return all(cross(table, hook, packet) == "accept" for hook in hooks)


def forwarded(
    picture: reference.Picture, first: EndpointRow | None, last: EndpointRow | None, packet: reference.Packet
) -> bool:
    """Whether host policy lets a packet in by the interface of ``first`` and out by that of ``last``."""
    accepted = False
    for layer in ("untracked", "pre-dnat", "forward"):
        early = layer != "forward" and failsafe("ingress", packet, Settings(), tracked=layer != "untracked")
        if first is not None and not accepted and not early:
            said = reference.opinion(picture, first, layer, "ingress", packet)
            if said.action == "deny":
                return False
            accepted = said.action == "allow"
    return last is None or reference.opinion(picture, last, "forward", "egress", packet).action != "deny"


@given(pictures(gone=False))
@settings(max_examples=20, deadline=None)
def test_every_layer_of_host_policy_judges_as_the_reference_does(rows: Rows) -> None:
    """What comes to the host, goes from it and passes through passes exactly if all layers on its way let it."""
    renderer = Renderer(Settings())
    renderer.update(delta(rows))
    picture = reference.Picture(rows.policies, rows.profiles, reference.Members(rows.set_members))
    governed = govern({e: row for e, row in rows.endpoints.items() if e in HOSTS}, {}, Settings())

    def owner(interface: str) -> EndpointRow | None:
        return rows.endpoints.get(governed.interfaces.get(interface, governed.wildcard))

    first, last = owner("eth0"), owner("eth1")
    for packet in SAMPLE:
        table, flow = renderer.tables[packet.source.family], asked(packet)
        into = passes(table, replace(packet, way_in="eth0"), "prerouting", "input")
        out = passes(table, replace(packet, way_out="eth0"), "output", "postrouting")
        through = replace(packet, way_in="eth0", way_out="eth1")
        assert into == (
            first is None or judge_host(picture, first, "h", "ingress", flow, Settings()).allowed
        ), packet
        assert out == (
            first is None or judge_host(picture, first, "h", "egress", flow, Settings()).allowed
        ), packet
        assert passes(table, through, "prerouting", "forward", "postrouting") == forwarded(
            picture, first, last, flow
        ), packet


@given(st.lists(pictures(gone=True), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_history_ends_in_what_a_fresh_start_renders(history: list[Rows]) -> None:
    """Updates, one after the other, give the table that the final rows give at once; and their changes lead there."""
    final = Rows()
    followed = Renderer(Settings())
    mirrors = {4: Table(4), 6: Table(6), "arp": Table("arp")}
    for step in history:
        for name in vars(step):
            rows = getattr(final, name)
            for key, row in getattr(step, name).items():
                rows.pop(key, None)
                if row is not None:
                    rows[key] = row
        for change in followed.update(delta(step)):
            applied(mirrors[change.family], change)
        assert mirrors == followed.tables

    fresh = Renderer(Settings())
    fresh.update(delta(final))
    assert followed.tables == fresh.tables

    nothing = {name: dict.fromkeys(getattr(final, name)) for name in vars(final)}
    before = copy.deepcopy(dict(Renderer(Settings()).tables))
    followed.update(delta(Rows(**nothing), dict.fromkeys(INFOS)))
    assert followed.tables == before
    kept = vars(followed) | vars(followed._chains)
    assert kept.keys() >= LEFT_EMPTY
    assert not any(kept[name] for name in LEFT_EMPTY)
    assert not any(
        left for sets in followed._sets.values() for left in (sets._names, sets._users, sets._used)
    )


LEFT_EMPTY = {
    "_known",
    "_rows",
    "_workloads",
    "_by_interface",
    "_hosts",
    "_entries",
    "_endpoint_uses",
    "_uses",
    "_groups",
    "_jumps",
    "_named",
    "_dirty",
}
"""What a renderer remembers of rows: empty when all rows have gone."""
