"""Whole worlds by chance: resources that collide in everything, around two workloads of one host, and packets between them.

w1 and w2 stand on ``here``; w3 elsewhere, at an address of the world outside, so that its labels count where packets
are judged but nobody judges for it. All that can be in a rule is in some rule, and each address is in several sets.
``Universe`` makes resources out of choices: by hypothesis, which shrinks what fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from calico.analysis import World
from calico.calculation.oracle import State, desired
from calico.desired import Delta
from calico.model import policy as written
from calico.model.address import Family
from calico.model.keys import key_of
from calico.model.policy import EntityRule, Rule, ServiceAccountMatch, ServiceMatch
from calico.model.resource import Resource
from support.builders import (
    elsewhere,
    endpoint,
    endpoint_slice,
    here,
    network_set,
    policy,
    profile,
    rule,
    tier,
)
from support.packets import ADDRESS, GRE, ICMP, ICMP6, INTERFACE, SCTP, TCP, UDP, UDPLITE, Probe

Choose = Callable[[Sequence[Any]], Any]

FAMILIES: Final[tuple[Family, ...]] = (4, 6)
PLACES: Final = {"w1": "w1", "w2": "w2", "w3": "outside"}
"""Where packets of an endpoint begin and end."""
LABELS: Final = ({}, {"app": "web"}, {"app": "db"}, {"app": "web", "role": "a"}, {"pcns.team": "x"})
SELECTORS: Final = ("all()", "app == 'web'", "app != 'web'", "has(role)", "!has(app)", "app in {'web', 'db'}")
NAMESPACE_SELECTORS: Final = ("all()", "global()", "team == 'x'", "!has(team)")
NETS: Final = (
    ["10.65.0.1"],
    ["10.65.0.0/24"],
    ["fd65::2"],
    ["10.65.0.2", "fd65::/64"],
    ["172.31.0.0/16", "10.65.0.1"],
    ["0.0.0.0/0"],
    ["::/0", "0.0.0.0/0"],
)
EXCLUDED: Final = (["10.65.0.1"], ["fd65::1", "172.31.0.2"], ["fd65::/64"], ["0.0.0.0/0"])
PORTS: Final = (
    [80],
    ["80:85"],
    [80, "http"],
    ["http"],
    ["dns"],
    [53, 443, "1000:2000"],
    [*range(70, 100, 2)],
)
SERVICES: Final = ("web", "dns", "gone")


class Resources(list[Resource]):
    """Resources that are shown as people write them."""

    def __repr__(self) -> str:
        return "\n".join(msgspec.json.encode(resource).decode() for resource in self)


class Universe:
    """Makes the resources of one world; ``choose`` picks from a sequence whose first entry is the plainest."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose

    def sometimes(self) -> bool:
        """True one time in four."""
        return self.choose((False, False, False, True))

    def maybe(self, make: Callable[[], Any], otherwise: Any) -> Any:
        """Mostly what is left out of a rule, so that rules meet packets that they match."""
        return make() if self.choose((False,) * 7 + (True,)) else otherwise

    def resources(self) -> list[Resource]:
        """Everything that is stored."""
        made: list[Resource] = [self.workload(name) for name in PLACES]
        made += [self.policy(number) for number in range(self.choose((1, 2, 3, 4)))]
        made += [
            tier(name, self.choose((None, 1.0, 2.0)), self.choose(("Deny", "Pass")))
            for name in ("early", "late")
            if self.choose((True, False))
        ]
        made.append(profile("kns.red", gives={"pcns.team": "x"}, ingress=[rule()], egress=[rule()]))
        made.append(profile("kns.blue", gives=self.choose(({}, {"pcns.team": "y"})), egress=[rule()]))
        made.append(
            profile(
                "gold",
                gives=self.choose(({}, {"role": "a"})),
                ingress=self.rules("ingress"),
                egress=self.rules("egress"),
            )
        )
        made += [self.network_set(number) for number in range(self.choose((0, 1, 2)))]
        made += [self.endpoint_slice(number) for number in range(self.choose((0, 1, 2)))]
        return made

    def workload(self, name: str) -> Resource:
        """w1, w2 or w3 at its addresses."""
        place = PLACES[name]
        return endpoint(
            name,
            elsewhere if place == "outside" else here,
            namespace=self.choose(("red", "blue")),
            labels=self.choose(LABELS),
            address=[ADDRESS[place][family] for family in FAMILIES],
            interface=INTERFACE[place],
            profiles=self.choose(
                (
                    ("kns.red",),
                    ("kns.red", "gold"),
                    ("gold", "kns.red"),
                    ("kns.red",),
                    ("gold", "kns.blue"),
                    (),
                    ("missing",),
                )
            ),
            ports=self.choose(
                ((), (("http", "TCP", 80),), (("http", "UDP", 85), ("dns", "UDP", 53), ("http", "SCTP", 80)))
            ),
            service_account_name=self.choose(("", "robot")),
        )

    def policy(self, number: int) -> Resource:
        """A policy of a namespace or a global one, in a tier that may not exist."""
        namespace = self.choose((None, "red", "blue"))
        wider = (
            {"namespace_selector": self.choose(("", *NAMESPACE_SELECTORS[2:]))} if namespace is None else {}
        )
        return policy(
            f"p{number}",
            namespace=namespace,
            tier=self.choose(("default", "early", "late", "missing", "kube-admin")),
            order=self.choose((None, 1.0, 2.0)),
            selector=self.choose(("", *SELECTORS)),
            types=self.choose(((), ("Ingress",), ("Egress",), ("Ingress", "Egress"))),
            ingress=self.rules("ingress"),
            egress=self.rules("egress"),
            service_account_selector=self.maybe(lambda: "all()", ""),
            **wider,
        )

    def rules(self, direction: str) -> list[Rule]:
        """A few rules; now and then a run of rules that differ in one thing."""
        made = [self.rule(direction) for _ in range(self.choose((1, 0, 2, 3)))]
        if self.sometimes():
            action = self.choose(("Allow", "Deny"))
            texts = (*self.choose(NETS), *self.choose(NETS))
            made += [rule(action, protocol="TCP", source={"nets": [text]}) for text in texts]
        return made

    def rule(self, direction: str) -> Rule:
        """Any rule that a client would store, and some that it would not."""
        protocol = self.choose((None, "TCP", "UDP", "TCP", "SCTP", "ICMP", "ICMPv6", 47, "UDPLite"))
        of_icmp = protocol in {"ICMP", "ICMPv6"}
        echo = 8 if protocol == "ICMP" else 128
        kinds = (written.ICMP(type=echo), written.ICMP(type=echo, code=1), written.ICMP(type=13))
        numbers = protocol in {"TCP", "UDP", "SCTP"}
        far = "source" if direction == "ingress" else "destination"
        sides = {
            side: self.service()
            if side == far and self.sometimes()
            else self.side(numbers=numbers, names=numbers or protocol is None)
            for side in ("source", "destination")
        }
        return rule(
            self.choose(("Allow", "Deny", "Pass", "Log", "Allow")),
            protocol=protocol,
            not_protocol=self.maybe(lambda: self.choose(("TCP", "UDP", 47)), None),
            ip_version=None if of_icmp else self.maybe(lambda: self.choose((4, 6)), None),
            icmp=self.maybe(lambda: self.choose(kinds), None) if of_icmp else None,
            not_icmp=self.maybe(lambda: self.choose(kinds), None) if of_icmp or protocol is None else None,
            **sides,
        )

    def side(self, *, numbers: bool, names: bool) -> EntityRule:
        """One side of a rule; ``numbers`` and ``names``: what its ports may be."""
        ports: Any = PORTS if numbers else (["http"], ["dns"], ["http", "dns"]) if names else ([],)
        return EntityRule(
            selector=self.maybe(lambda: self.choose(SELECTORS), ""),
            not_selector=self.maybe(lambda: self.choose(SELECTORS), ""),
            namespace_selector=self.maybe(lambda: self.choose(NAMESPACE_SELECTORS), ""),
            nets=self.maybe(lambda: self.choose(NETS), []),
            not_nets=self.maybe(lambda: self.choose(EXCLUDED), []),
            ports=self.maybe(lambda: self.choose(ports), []),
            not_ports=self.maybe(lambda: self.choose(ports), []),
            service_accounts=self.maybe(
                lambda: self.choose(
                    (ServiceAccountMatch(names=["robot"]), ServiceAccountMatch(selector="all()"))
                ),
                None,
            ),
        )

    def service(self) -> EntityRule:
        """A side that is a service; of a policy without a namespace now and then one that is of none."""
        name, namespace = self.choose(SERVICES), self.choose(("red", "blue", ""))
        return EntityRule(services=ServiceMatch(name=name, namespace=namespace))

    def network_set(self, number: int) -> Resource:
        """Addresses and prefixes under labels."""
        return network_set(
            f"s{number}",
            *self.choose(NETS[:-2]),
            namespace=self.choose((None, "red")),
            labels=self.choose(LABELS),
        )

    def endpoint_slice(self, number: int) -> Resource:
        """Some of the workloads serve something."""
        places = self.choose((("w1",), ("w2", "outside"), ("outside",)))
        return endpoint_slice(
            f"e{number}",
            self.choose(SERVICES[:2]),
            *[ADDRESS[place][family] for place in places for family in FAMILIES],
            namespace=self.choose(("red", "blue")),
            ports=self.choose(([80], [("UDP", 53), 80], [("SCTP", 80)], [])),
        )


@st.composite
def universes(draw: Any) -> Resources:
    """The resources of one world."""
    return Resources(Universe(lambda options: draw(st.sampled_from(options))).resources())


def probes() -> Iterator[Probe]:
    """Every kind of packet on each way, in both families; none of them answers another."""
    for family in FAMILIES:
        icmp, echo, other = (ICMP, 8, 13) if family == 4 else (ICMP6, 128, 139)
        for source, destination in (("w1", "w2"), ("w2", "w1"), ("outside", "w2"), ("w1", "outside")):
            way = {"source": source, "destination": destination, "family": family}
            yield from (Probe(**way, protocol=TCP, sport=82, dport=port) for port in (80, 85, 443, 98))
            yield from (Probe(**way, protocol=UDP, sport=1500, dport=port) for port in (53, 85, 80))
            yield Probe(**way, protocol=SCTP, sport=53, dport=80)
            yield Probe(**way, protocol=UDPLITE, sport=82, dport=80)
            yield from (Probe(**way, protocol=icmp, icmp=kind) for kind in ((echo, 0), (echo, 1), (other, 0)))
            if source != "w2":  # which would answer w1
                yield Probe(**way, protocol=GRE)


PROBES: Final = tuple(probes())


def expected(resources: Sequence[Resource]) -> list[bool]:
    """Whether the host lets each of ``PROBES`` pass: what the evaluator says for its own endpoints."""
    made = World({key_of(resource): resource for resource in resources})
    passes = []
    for probe in PROBES:
        ported = probe.protocol not in {ICMP, ICMP6, GRE}
        echoes = probe.protocol in {ICMP, ICMP6}
        decision = made.decide(
            source=probe.source_address,
            destination=probe.destination_address,
            protocol=probe.protocol,
            port=probe.dport if ported else None,
            source_port=probe.sport if ported else None,
            icmp_type=probe.icmp[0] if echoes else None,
            icmp_code=probe.icmp[1] if echoes else None,
        )
        ends = (
            decision.egress if probe.source != "outside" else None,
            decision.ingress if probe.destination != "outside" else None,
        )
        passes.append(all(end is None or end.allowed for end in ends))
    return passes


def picture(resources: Sequence[Resource]) -> Delta:
    """What ``here`` should be, by the oracle, as the first Delta of a life."""
    state: State = desired(here, {key_of(resource): resource for resource in resources})
    return Delta(
        set_infos=state.set_infos,
        set_members=state.set_members,
        policies=state.policies,
        profiles=state.profiles,
        endpoints=state.endpoints,
        routes=state.routes,
        pools=state.pools,
    )
