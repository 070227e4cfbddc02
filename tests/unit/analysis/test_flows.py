"""Which established flows a host's policy would not let begin now."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from calico.analysis.evaluate import Members, Packet, Picture, opinion
from calico.analysis.flows import Judge, Surroundings, TrackedFlow, ports
from calico.analysis.host import EARLY, failsafe, judge_host
from calico.analysis.world import World
from calico.calculation.oracle import desired
from calico.desired import Direction, Layer
from calico.model import policy as model
from calico.model.address import Cidr, parse_address
from calico.model.keys import key_of
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.model.validation import defaulted
from calico.rendering.host import govern
from support.builders import elsewhere, endpoint, here, host_endpoint, network_set, policy, profile, rule
from support.strategies import rolled
from support.universe import ICMP, ICMP6, PROBES, Resources, expected, universes

TCP, UDP = 6, 17
A, B, FAR, OUTSIDE, SERVICE = "10.65.0.1", "10.65.0.2", "10.65.9.9", "192.0.2.7", "10.96.0.1"
PLACES = [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "192.0.2.9")]
HOSTS = frozenset({parse_address("172.16.0.1")})
HOST, LOOPBACK_ADDRESS, BESIDE = "172.16.0.1", "172.31.0.1", "172.17.0.1"
OPEN = profile("open", ingress=[rule()], egress=[rule()])
ENDS = (
    OPEN,
    endpoint("a", labels={"app": "a"}, address=A, profiles=["open"]),
    endpoint("b", labels={"app": "b"}, address=B, profiles=["open"]),
    endpoint("far", elsewhere, labels={"app": "far"}, address=FAR, profiles=["open"]),
)


def judge(*resources: Resource, **settings: Any) -> Judge:
    """The node under test: eth0 leads out, docker0 to a net of the host's own."""
    stored = [defaulted(resource) for resource in (*ENDS, *resources)]
    addresses = {text: parse_address(text) for text in (HOST, LOOPBACK_ADDRESS, BESIDE)}
    around = Surroundings(
        {"eth0": frozenset({addresses[HOST]}), "docker0": frozenset({addresses[BESIDE]})},
        frozenset(addresses.values()),
        lambda address: "docker0" if str(address).startswith("172.17.") else "eth0",
    )
    return Judge(desired(here, {key_of(each): each for each in stored}), Settings(**settings), around)


def flow(
    source: str, destination: str, *, protocol: int = TCP, asked: str = "", **fields: Any
) -> TrackedFlow:
    """A flow; to port 80 from port 40000 unless said otherwise."""
    from_, to = ports(protocol, 40000, 80)
    given = {"source_port": from_, "destination_port": to, "asked_port": fields.get("destination_port", to)}
    return TrackedFlow(
        parse_address(source),
        parse_address(asked or destination),
        parse_address(destination),
        protocol,
        **{**given, **fields},
    )


def deny(who: str, direction: str, **fields: Any) -> Resource:
    """A policy that denies what its one rule is about, and allows everything else."""
    rules = {direction: [rule("Deny", **fields), rule()]}
    return policy(
        f"deny-{who}", namespace=None, selector=f"app == '{who}'", types=[direction.title()], **rules
    )


def test_either_end_denies() -> None:
    """The source's egress and the destination's ingress are both asked, each where its endpoint is of this host."""
    out = judge(deny("a", "egress", destination={"nets": [f"{B}/32", f"{FAR}/32", f"{OUTSIDE}/32"]}))
    into = judge(deny("b", "ingress", source={"nets": [f"{A}/32", f"{FAR}/32", f"{OUTSIDE}/32"]}))

    assert all(out.denies(flow(A, to)) for to in (B, FAR, OUTSIDE))
    assert all(into.denies(flow(from_, B)) for from_ in (A, FAR, OUTSIDE))
    assert not any(out.denies(flow(from_, A)) for from_ in (B, FAR, OUTSIDE))
    assert not any(into.denies(flow(B, to)) for to in (A, FAR, OUTSIDE))


def test_only_what_a_rule_is_about() -> None:
    """Of flows of the same two ends those of other ports, protocols and kinds of ICMP are let be."""
    judges = judge(deny("b", "ingress", protocol="UDP", destination={"ports": [80]}))
    assert judges.denies(flow(A, B, protocol=UDP))
    assert not judges.denies(flow(A, B, protocol=UDP, destination_port=81))
    assert not judges.denies(flow(A, B))

    pings = judge(deny("b", "ingress", protocol="ICMP", icmp=model.ICMP(type=8, code=0)))
    assert pings.denies(flow(A, B, protocol=1, icmp_type=8, icmp_code=0))
    assert not pings.denies(flow(A, B, protocol=1, icmp_type=13, icmp_code=0))


def test_source_ports_count_where_a_rule_asks_for_them() -> None:
    """Flows that differ in nothing else are told apart then, and are one question otherwise."""
    judges = judge(deny("b", "ingress", protocol="TCP", source={"ports": [40000]}))
    assert judges.denies(flow(A, B))
    assert not judges.denies(flow(A, B, source_port=40001))
    assert judges.denies(flow(A, B))


def test_a_translated_destination_is_judged_as_what_it_really_is() -> None:
    """Who answers counts, and the port there; what was asked for on the wire does not."""
    judges = judge(deny("b", "ingress", protocol="TCP", destination={"ports": [8080]}))
    assert judges.denies(flow(A, B, asked=SERVICE, destination_port=8080, asked_port=80))
    assert not judges.denies(flow(A, B, asked=SERVICE, destination_port=80, asked_port=8080))
    assert judges.denies(flow(OUTSIDE, B, asked=HOST, destination_port=8080, asked_port=80))


def test_flows_that_meet_no_endpoint_of_this_host_are_nobodys() -> None:
    """Other hosts' workloads, what is only passed on, and what host and workloads have with each other: never."""
    closed = policy("closed", namespace=None, selector="all()", types=["Ingress", "Egress"])
    judges = judge(closed)
    assert judges.denies(flow(A, OUTSIDE))
    for source, destination in (
        (FAR, OUTSIDE),
        (OUTSIDE, FAR),
        (OUTSIDE, "172.17.0.9"),
        (HOST, OUTSIDE),
        (OUTSIDE, HOST),
        (HOST, A),
        (LOOPBACK_ADDRESS, B),
        (HOST, LOOPBACK_ADDRESS),
        ("127.0.0.1", "127.0.0.53"),
        ("127.0.0.9", A),
    ):
        assert not judges.denies(flow(source, destination)), (source, destination)


@pytest.mark.parametrize(("action", "denied"), [("Drop", True), ("Return", False), ("Accept", False)])
def test_a_workload_and_its_host(action: str, denied: bool) -> None:
    """After the workload's egress policy the host's setting decides, and no host endpoint."""
    closed_host = host_endpoint("h", here, interface="*")
    assert judge(closed_host, default_endpoint_to_host_action=action).denies(flow(A, HOST)) is denied
    no_host = deny("a", "egress", destination={"nets": [f"{HOST}/32"]})
    assert judge(no_host, default_endpoint_to_host_action=action).denies(flow(A, HOST))


def test_what_is_missing_denies() -> None:
    """A profile that is not there closes an endpoint, and a set without members allows nobody."""
    nobody = policy("some", namespace=None, selector="app == 'b'", source="role == 'friend'")
    assert judge(nobody).denies(flow(OUTSIDE, B))
    friend = network_set("friends", f"{OUTSIDE}/32", labels={"role": "friend"})
    assert not judge(nobody, friend).denies(flow(OUTSIDE, B))
    assert judge(endpoint("b", address=B, profiles=["gone"])).denies(flow(OUTSIDE, B))


def test_a_flow_that_a_helper_expected_meets_egress_policy_of_workloads_only() -> None:
    """Related packets are accepted everywhere else, so that a first one would be, too."""
    judges = judge(deny("b", "ingress"), deny("a", "egress"))
    assert not judges.denies(flow(OUTSIDE, B, expected=True))
    assert judges.denies(flow(A, OUTSIDE, expected=True))


def host_policy(direction: str = "ingress", port: int = 80, **hook: bool) -> Judge:
    """The host behind an endpoint with a policy that denies one port and allows everything else."""
    rules = [rule("Deny", protocol="TCP", destination={"ports": [port]}), rule()]
    door = policy(
        "door",
        namespace=None,
        selector="has(host)",
        types=[direction.title()],
        **{direction: rules},
        **hook,
    )
    return judge(host_endpoint("h", here, interface="eth0", labels={"host": ""}, profiles=["open"]), door)


FORWARD = {"apply_on_forward": True}
PRE_DNAT = {"pre_dnat": True, "apply_on_forward": True}
UNTRACKED = {"do_not_track": True, "apply_on_forward": True}


def test_a_host_endpoint_and_its_host() -> None:
    """What begins or ends at the host meets the endpoint of the interface that leads there; failsafe ports never close."""
    assert host_policy().denies(flow(OUTSIDE, HOST))
    assert not host_policy().denies(flow(OUTSIDE, HOST, destination_port=81))
    assert not host_policy(port=22).denies(flow(OUTSIDE, HOST, destination_port=22))
    assert not host_policy().denies(flow("172.17.0.9", HOST)), "through an interface without an endpoint"
    assert host_policy(direction="egress").denies(flow(HOST, OUTSIDE))
    assert not host_policy(direction="egress").denies(flow(HOST, "172.17.0.9"))
    assert not host_policy(direction="egress", port=179).denies(flow(HOST, OUTSIDE, destination_port=179))


def test_a_host_endpoint_and_what_passes_through() -> None:
    """Only policy that applies to forwarded packets is asked, at the side where they come in and where they go out."""
    assert not host_policy().denies(flow(OUTSIDE, B))
    assert host_policy(**FORWARD).denies(flow(OUTSIDE, B))
    assert host_policy(**FORWARD).denies(flow(OUTSIDE, "172.17.0.9"))
    assert not host_policy(**FORWARD).denies(flow(A, OUTSIDE))
    assert host_policy("egress", **FORWARD).denies(flow(A, OUTSIDE))
    assert not host_policy("egress", **FORWARD).denies(flow(A, B))


@pytest.mark.parametrize("hook", [PRE_DNAT, UNTRACKED], ids=["pre-dnat", "untracked"])
def test_layers_before_translation_see_what_was_asked(hook: dict[str, bool]) -> None:
    """They judge by the destination on the wire, also for what is passed on."""
    judges = host_policy(**hook)
    assert judges.denies(flow(OUTSIDE, B, asked=HOST, asked_port=80, destination_port=8080))
    assert not judges.denies(flow(OUTSIDE, B, asked=HOST, asked_port=8080, destination_port=80))
    assert judges.denies(flow(OUTSIDE, HOST))


@hypothesis_settings(max_examples=25, deadline=None)
@given(universes())
def test_full_rules_by_chance(resources: Resources) -> None:
    """For every kind of packet between workloads and the world outside: what a world says of a new flow."""
    facts = {key_of(each): each for each in resources}
    nowhere: Callable[[Cidr], str | None] = lambda _: None  # noqa: E731  one line says it
    judges = Judge(desired(here, facts), Settings(), Surroundings({}, frozenset(), nowhere))
    for probe, passes in zip(PROBES, expected(resources), strict=True):
        from_, to = ports(probe.protocol, probe.sport, probe.dport)
        echo = probe.icmp if probe.protocol in {ICMP, ICMP6} else (None, None)
        tracked = flow(
            probe.source_address,
            probe.destination_address,
            protocol=probe.protocol,
            source_port=from_,
            destination_port=to,
            icmp_type=echo[0],
            icmp_code=echo[1],
        )
        assert judges.denies(tracked) is not passes, probe


def test_whole_worlds_by_chance() -> None:
    """In worlds where everything collides: each end that is this host's own says what a world says of it."""
    assert sum(map(compared, range(12))) > 500


def compared(seed: int) -> int:
    """How many flows with a local workload were judged as a world judges them."""
    facts = {key: each for key, each in dict(rolled(seed, 250)).items() if each is not None}
    state = desired(here, facts)
    governor = govern(
        {id_: row for id_, row in state.endpoints.items() if id_.kind == "HostEndpoint"},
        {"eth0": HOSTS},
        Settings(),
    )
    found = governor.interfaces.get("eth0", governor.wildcard)
    around = Surroundings({"eth0": HOSTS}, HOSTS, lambda _: "eth0")
    judges = Judge(state, Settings(default_endpoint_to_host_action="Accept"), around)
    picture = Picture(state.policies, state.profiles, Members(state.set_members))
    world = World(facts)

    def host_says(direction: Direction, layer: Layer, packet: Packet) -> bool:
        if found is None:
            return True
        row = state.endpoints[found]
        if layer == "normal":
            return judge_host(picture, row, found.name, direction, packet, Settings()).allowed
        # What passes through meets the early layers where it comes in, and those end the way through the others.
        for early in EARLY[direction] if direction == "ingress" else ():
            if not failsafe(direction, packet, Settings(), tracked=early != "untracked"):
                said = opinion(picture, row, early, direction, packet).action
                if said is not None:
                    return said == "allow"
        return opinion(picture, row, "forward", direction, packet).action != "deny"

    judged = 0
    for source, destination in product([*PLACES, next(iter(HOSTS))], repeat=2):
        for protocol, port in ((TCP, 80), (TCP, 22), (TCP, 8080), (UDP, 53)):
            packet = Packet(source, destination, protocol, 1024, port)
            local = [address in state.routes for address in (source, destination)]
            own = [address in HOSTS for address in (source, destination)]
            asked = world.flow(
                source=str(source.address),
                destination=str(destination.address),
                protocol=protocol,
                port=port,
                source_port=1024,
            )
            ends = zip(local, own, (asked.source, asked.destination), strict=True)
            if any(
                (end.node == here) != mine or end.is_workload < mine for mine, host, end in ends if not host
            ):
                continue  # other nodes and host endpoints claim addresses of workloads
            said = world.judge(asked)
            allowed = not (local[0] and said.egress is not None and not said.egress.allowed)
            if own[0] and (own[1] or local[1]):
                allowed = True
            elif not (local[0] and own[1]):
                allowed = allowed and not (local[1] and said.ingress is not None and not said.ingress.allowed)
                if not local[0] and not own[0]:
                    allowed = allowed and host_says("ingress", "normal" if own[1] else "forward", packet)
                if not local[1] and not own[1]:
                    allowed = allowed and host_says("egress", "normal" if own[0] else "forward", packet)
            tracked = TrackedFlow(source, destination, destination, protocol, 1024, port, port)
            assert judges.denies(tracked) is not allowed, (packet, said)
            judged += any(local)
    return judged
