"""What other packet filters of this kind got wrong at their edges: prefixes, states, names, sources."""

from __future__ import annotations

import itertools

import pytest

from calico.desired import Delta, EndpointId, EndpointRow, Origin, PolicyId, PolicyRow, RuleRow, TierRow
from calico.model.address import Family, parse_address
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.firewall import Packet, cross

OPEN = "open"
ALLOW = RuleRow("Allow", Origin("Profile", "", "", OPEN, "ingress", 0))
STATES = ("new", "established", "related", "invalid", "untracked")
FAMILIES: tuple[Family, ...] = (4, 6)
NEAR = {4: parse_address("10.65.0.2"), 6: parse_address("fd00:65::2")}
FAR = {4: parse_address("192.0.2.7"), 6: parse_address("2001:db8::7")}
ALL_MARKS = 0xFFFFFFFF


def workload(name: str) -> EndpointId:
    return EndpointId("WorkloadEndpoint", "default", name)


def host(name: str) -> EndpointId:
    return EndpointId("HostEndpoint", "", name)


def row(interface: str, *tiers: TierRow, profiles: tuple[str, ...] = (OPEN,)) -> EndpointRow:
    return EndpointRow(interface, tuple(NEAR.values()), tiers, tiers, profiles)


def rendered(settings: Settings | None = None, **rows: EndpointRow) -> Renderer:
    """A host with these workloads, all of them open."""
    renderer = Renderer(settings or Settings())
    renderer.update(
        Delta(
            profiles={OPEN: PolicyRow((ALLOW,), (ALLOW,))},
            endpoints={workload(name): endpoint for name, endpoint in rows.items()},
        )
    )
    return renderer


# --- interfaces without an endpoint


@pytest.mark.parametrize("interface", ["cali9", "tap9", "cali", "tap", "tap-other"])
@pytest.mark.parametrize("state", STATES)
def test_each_prefix_of_workload_interfaces_ends_closed(interface: str, state: str) -> None:
    """Where workloads' interfaces have several prefixes, one without an endpoint is closed under each of them.

    What a known endpoint sends in a flow that it has already is its own, wherever it leads.
    """
    renderer = rendered(Settings(interface_prefix=("cali", "tap")), w=row("cali1"), v=row("tap1"))
    for family in FAMILIES:
        table = renderer.tables[family]
        for far in ("eth0",) if state == "established" else ("eth0", "cali1", "tap1"):
            ways = ((interface, far), (far, interface))
            packets = [
                Packet(NEAR[family], FAR[family], 17, 1, 2, way_in=way_in, way_out=way_out, state=state)
                for way_in, way_out in ways
            ]
            assert [cross(table, "forward", packet) for packet in packets] == ["drop", "drop"]
        to_host = Packet(NEAR[family], FAR[family], 17, 1, 2, way_in=interface, state=state)
        assert cross(table, "input", to_host) == "drop"


@pytest.mark.parametrize("interface", ["cali1", "tap1"])
def test_each_prefix_of_workload_interfaces_has_its_sources_checked(interface: str) -> None:
    """A false source is dropped under each prefix, in raw for packets and on its way in for ARP."""
    renderer = rendered(Settings(interface_prefix=("cali", "tap")), w=row("cali1"), v=row("tap1"))
    for family in FAMILIES:
        false = Packet(NEAR[family], FAR[family], 17, 1, 2, way_in=interface, false_source=True)
        assert cross(renderer.tables[family], "prerouting", false) == "drop"
    arp = Packet(FAR[4], NEAR[4], way_in=interface)
    assert cross(renderer.tables["arp"], "input", arp) == "drop"


# --- what is none of ours


@pytest.mark.parametrize("state", STATES)
def test_packets_of_others_are_neither_accepted_nor_dropped(state: str) -> None:
    """Between interfaces without endpoints nothing is decided, in no state of any flow: what others say counts."""
    renderer = rendered(w=row("cali1"))
    renderer.update(Delta(endpoints={host("guard"): row("eth9", profiles=())}), {"eth9": frozenset()})
    settings = Settings()
    for family, (hook, way_in, way_out) in itertools.product(
        FAMILIES,
        [
            ("prerouting", "eth0", ""),
            ("input", "eth0", ""),
            ("input", "lo", ""),
            ("forward", "eth0", "eth1"),
            ("forward", "eth0", "docker0"),
            ("output", "", "eth0"),
            ("output", "", "lo"),
            ("postrouting", "eth0", "eth1"),
            ("postrouting", "", "eth0"),
        ],
    ):
        table = renderer.tables[family]
        packet = Packet(
            NEAR[family], FAR[family], 6, 1, 2, way_in=way_in, way_out=way_out, state=state, false_source=True
        )
        assert undecided(table, hook, packet), (hook, way_in, way_out)
        assert not packet.mark & settings.accept_mark


def undecided(table: ast.Table, hook: str, packet: Packet) -> bool:
    """Whether a packet falls off the end of each base chain at a hook: an Accept before its last rule would keep it off.

    The witness is a log line behind all rules of ours.
    """
    witnesses = 0
    chains = dict(table.chains)
    for name, chain in table.chains.items():
        if chain.hook is not None and chain.hook.hook == hook and not chain.hook.append:
            witnesses += 1
            chains[name] = ast.Chain((*chain.rules, ast.Rule((), (ast.Log("end"),))), chain.hook)
    outcome = cross(ast.Table(table.family, chains, table.sets, table.members, table.maps), hook, packet)
    return outcome == "accept" and packet.log == ["end"] * witnesses


@pytest.mark.parametrize("state", ["established", "related"])
@pytest.mark.parametrize(
    ("hook", "way_in", "way_out"),
    [("forward", "eth1", "cali1"), ("input", "eth0", ""), ("output", "", "eth0")],
)
def test_answers_are_accepted_and_not_only_let_back(state: str, hook: str, way_in: str, way_out: str) -> None:
    """A known flow of an endpoint ends in Accept: to return it would leave its answers to a host that drops by default."""
    closed = TierRow("default", "Deny", ())
    renderer = rendered(w=row("cali1", closed))
    renderer.update(Delta(endpoints={host("guard"): row("eth0", closed)}), {"eth0": frozenset()})
    for family in FAMILIES:
        ends = (NEAR[family], FAR[family])
        packet = Packet(*ends, 6, 80, 4000, way_in=way_in, way_out=way_out, state=state)
        assert cross(renderer.tables[family], hook, packet) == "accept"
        assert not undecided(renderer.tables[family], hook, packet)


# --- an address that is being tried out


def test_an_address_that_is_tried_out_is_no_false_source() -> None:
    """Solicitations and reports from the unspecified address pass the check of sources; nothing else from it does."""
    table = rendered(w=row("cali1")).tables[6]
    nobody, everybody = parse_address("::"), parse_address("ff02::1")
    passing = {
        kind
        for kind in range(256)
        if cross(
            table,
            "prerouting",
            Packet(nobody, everybody, 58, icmp_type=kind, icmp_code=0, way_in="cali1", false_source=True),
        )
        == "accept"
    }
    assert passing == {133, 135, 143}
    datagram = Packet(nobody, everybody, 17, 68, 67, way_in="cali1", false_source=True)
    assert cross(table, "prerouting", datagram) == "drop"
    solicitation = Packet(
        FAR[6], everybody, 58, icmp_type=135, icmp_code=0, way_in="cali1", false_source=True
    )
    assert cross(table, "prerouting", solicitation) == "drop"


# --- names

INTERFACES = (
    "cali-a", "cali_a", "cali.a", "cali@a", "cali--a", "cali-", "cali", "cali-0123456789", "cali-012345678",
    "caliABCDEFGHIJK", "cali012345abcde",
)  # fmt: skip
POLICIES = ("p", "p.q", "p-q", "x" * 253, "x" * 252 + "y", "_0123456789abcdef", "default.p", "\u00fc")
OF_SOMEBODY = tuple(f"cali-{kind}-" for kind in ("fw", "tw", "pi", "po", "pri", "pro", "err", "nd"))
"""How chains of endpoints, policies and profiles begin."""


def test_every_name_that_a_rule_says_is_one_that_there_is() -> None:
    """However long or odd names are: each chain, set and map that a verdict or match names exists, under just that name."""
    renderer = Renderer(Settings())
    pairs = list(zip(INTERFACES, itertools.cycle(POLICIES)))
    renderer.update(
        Delta(
            policies={policy(name): PolicyRow((ALLOW,), (ALLOW,)) for name in POLICIES},
            profiles={name: PolicyRow((ALLOW,), (ALLOW,)) for name in POLICIES},
            endpoints={
                workload(interface): row(
                    interface, TierRow("default", "Deny", (policy(name),)), profiles=(name,)
                )
                for interface, name in pairs
            },
        )
    )
    for table in renderer.tables.values():
        statements = [s for chain in table.chains.values() for r in chain.rules for s in r.statements]
        verdicts = [verdict for entries in table.maps.values() for verdict in entries.values()]
        called = {v.chain for v in (*statements, *verdicts) if isinstance(v, ast.Jump | ast.Goto)}
        assert called <= table.chains.keys()
        assert {s.map for s in statements if isinstance(s, ast.Dispatch)} <= table.maps.keys()
        assert {name for name in table.chains if name.startswith(OF_SOMEBODY)} <= called
    for entries in ("cali-from-wl", "cali-to-wl", "cali-own-errors-dispatch"):
        assert renderer.tables[4].maps[entries].keys() == set(INTERFACES)


def policy(name: str) -> PolicyId:
    return PolicyId("GlobalNetworkPolicy", "", name)


def test_interfaces_of_similar_names_keep_their_own_policy() -> None:
    """A packet meets the policy of the interface that it came by, never of one whose name begins alike or is shortened alike."""
    renderer = Renderer(Settings())
    mine = {name: policy(f"for-{name}") for name in INTERFACES}
    for allowed in INTERFACES:
        renderer.update(
            Delta(
                policies={
                    of: PolicyRow((ALLOW,), (ALLOW,)) if name == allowed else PolicyRow((), ())
                    for name, of in mine.items()
                },
                endpoints={
                    workload(name): row(name, TierRow("default", "Deny", (of,)), profiles=())
                    for name, of in mine.items()
                },
            )
        )
        for family in FAMILIES:
            passing = {
                name
                for name in INTERFACES
                if cross(
                    renderer.tables[family],
                    "forward",
                    Packet(NEAR[family], FAR[family], 17, 1, 2, way_in=name, way_out="eth0", mark=ALL_MARKS),
                )
                == "accept"
            }
            assert passing == {allowed}
