"""The reference evaluator against policy programs of others: rules in a flat form, packets, and what becomes of them.

A program is translated into rows of the desired state as they are. Programs of hooks that act on forwarded, untracked
or not yet translated packets are none of the evaluator's, which judges endpoints; they are skipped, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from calico.analysis.evaluate import Members, Packet, Picture, evaluate
from calico.calculation.rules import protocol_number
from calico.desired import (
    Direction,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    PortMember,
    RuleRow,
    SetMember,
    Side,
    TierRow,
)
from calico.model.address import Cidr, parse_address, parse_cidr
from support.kubernetes_cases import CASES, rows

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here")

ICMP = (1, 58)
FATES = {"allowed": "allow", "dropped": "deny"}


def left_out(program: dict[str, Any]) -> str:
    """Why a program is none of the evaluator's; "" if it is."""
    if program["forXDP"]:
        return "untracked host policy (XDP) is not judged by endpoint rows"
    if program["hostPreDnatTiers"]:
        return "policy before DNAT is not judged by endpoint rows"
    if program["hostForwardTiers"]:
        return "host policy on forwarded packets is not judged by endpoint rows"
    return ""


class Translation:
    """A program as rows: ``picture`` and ``endpoint``."""

    def __init__(self, program: dict[str, Any]) -> None:
        self.host: bool = program["forHostInterface"]
        self._policies: dict[PolicyId, PolicyRow] = {}
        self._profiles: dict[str, PolicyRow] = {}
        tiers = tuple(self._tiers(program["hostNormalTiers" if self.host else "tiers"]))
        for profile in program["hostProfiles" if self.host else "profiles"]:
            self._profiles[profile["name"]] = self._row(profile, Origin("Profile", "", "", "", "ingress"))
        self.endpoint = EndpointRow("eth0", (), tiers, tiers, tuple(self._profiles))
        members = [
            SetMember(name, member(text))
            for name, texts in (program["ipsets"] or {}).items()
            for text in texts
        ]
        self.picture = Picture(self._policies, self._profiles, Members(members))

    def _tiers(self, tiers: list[dict[str, Any]]) -> Iterator[TierRow]:
        """Tiers that hold policies; others are not in an endpoint's row."""
        for number, tier in enumerate(tiers):
            ids = []
            for place, policy in enumerate(tier["policies"]):
                # Names need not be unique in a program.
                id_ = PolicyId("GlobalNetworkPolicy", "", f"{number}.{place}.{policy['name']}")
                origin = Origin(id_.kind, tier["name"], "", id_.name, "ingress")
                self._policies[id_] = self._row(policy, origin)
                ids.append(id_)
            if ids:
                yield TierRow(tier["name"], "Pass" if tier["endAction"] == "pass" else "Deny", tuple(ids))

    @staticmethod
    def _row(policy: dict[str, Any], origin: Origin) -> PolicyRow:
        rules = tuple(
            rule(dict(each), replace(origin, rule=index)) for index, each in enumerate(policy["rules"])
        )
        return PolicyRow(rules, rules)


def member(text: str) -> Cidr | PortMember:
    """A member of a set: a prefix, or ``address,protocol:port``."""
    net, comma, listener = text.partition(",")
    if not comma:
        return parse_cidr(net)
    protocol, _, port = listener.partition(":")
    return PortMember(parse_cidr(net), protocol_number(protocol), int(port))


def rule(flat: dict[str, Any], origin: Origin) -> RuleRow:
    """One rule; every field of the flat form must be understood."""
    protocol, not_protocol = (number(flat.pop(name, None)) for name in ("protocol", "notProtocol"))
    icmp, not_icmp = (flat.pop(name, None) for name in ("icmpType", "notIcmpType"))
    source, destination = (
        Side(
            nets=tuple(map(parse_cidr, flat.pop(f"{end}Net", ()))),
            not_nets=tuple(map(parse_cidr, flat.pop(f"not{end.capitalize()}Net", ()))),
            sets=tuple(flat.pop(f"{end}IpSetIds", ())),
            not_sets=tuple(flat.pop(f"not{end.capitalize()}IpSetIds", ())),
            ports=ranges(flat.pop(f"{end}Ports", ())),
            port_sets=tuple(flat.pop(f"{end}NamedPortIpSetIds", ())),
            not_ports=ranges(flat.pop(f"not{end.capitalize()}Ports", ())),
            not_port_sets=tuple(flat.pop(f"not{end.capitalize()}NamedPortIpSetIds", ())),
        )
        for end in ("src", "dst")
    )
    action = flat.pop("action")
    assert not flat, f"fields that are not translated: {flat}"
    return RuleRow(
        action,
        origin,
        protocol=protocol,
        not_protocol=not_protocol,
        icmp=None if icmp is None else (icmp, None),
        not_icmp=None if not_icmp is None else (not_icmp, None),
        source=source,
        destination=destination,
    )


def number(protocol: dict[str, Any] | None) -> int | None:
    """A protocol's number, by ``name`` or ``number``."""
    return None if protocol is None else protocol_number(protocol.get("name") or protocol["number"])


def ranges(given: list[dict[str, int]]) -> tuple[tuple[int, int], ...]:
    """Port ranges; a bound that is left out is 0."""
    return tuple((each.get("first", 0), each.get("last", 0)) for each in given)


def packet(given: dict[str, Any]) -> Packet:
    """A packet; of ICMP ``dport`` is the type and 256 times the code."""
    protocol, port = given["proto"], given["dport"]
    source, destination = parse_address(given["src"]), parse_address(given["dst"])
    if protocol in ICMP:
        return Packet(source, destination, protocol, icmp_type=port % 256, icmp_code=port // 256)
    return Packet(source, destination, protocol, given["sport"], port)


def judged(program: dict[str, Any], fate: str) -> Iterator[Packet]:
    """The packets of one fate that the endpoint judges: a host's normal policy leaves forwarded ones alone."""
    for given in program[fate]:
        if not program["forHostInterface"] or given.get("toHost") or given.get("fromHost"):
            yield packet(given)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize("program", [pytest.param(row, id=row["name"]) for row in rows("packets")])
def test_packets(program: dict[str, Any], direction: Direction) -> None:
    """Every packet of a program is allowed or denied as it says; the direction makes no difference to such rules."""
    if reason := left_out(program):
        pytest.skip(reason)
    translated = Translation(program)
    assert program["allowed"] or program["dropped"]
    assert not program["unmatched"]

    wrong = []
    for fate, action in FATES.items():
        for each in judged(program, fate):
            verdict = evaluate(
                translated.picture, translated.endpoint, direction, each, workload=not translated.host
            )
            if verdict.action != action:
                wrong.append((fate, each, verdict.trail))

    assert wrong == []
