"""The reference evaluator against policy programs of others: rules in a flat form, packets, and what becomes of them.

A program is translated into rows of the desired state as they are, its packets are judged as they come: before destination
NAT, where the program says so, then by what their way is, to or from a host or through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from calico.analysis.evaluate import Members, Packet, Picture, evaluate, opinion
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
    Tiers,
)
from calico.model.address import Cidr, parse_address, parse_cidr
from support.kubernetes_cases import CASES, rows

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here")

ICMP = (1, 58)
FATES = {"allow": "allowed", "deny": "dropped", None: "unmatched"}


class Translation:
    """A program as rows: ``picture`` and ``endpoint``."""

    def __init__(self, program: dict[str, Any]) -> None:
        self.host: bool = program["forHostInterface"]
        self.untracked: bool = program["forXDP"]
        self._policies: dict[PolicyId, PolicyRow] = {}
        self._profiles: dict[str, PolicyRow] = {}
        tiers = tuple(self._tiers(program["hostNormalTiers" if self.host else "tiers"]))
        forward, pre_dnat = (
            tuple(self._tiers(program[f"host{name}Tiers"])) for name in ("Forward", "PreDnat")
        )
        for profile in program["hostProfiles" if self.host else "profiles"]:
            self._profiles[profile["name"]] = self._row(profile, Origin("Profile", "", "", "", "ingress"))
        self.endpoint = EndpointRow(
            "eth0",
            (),
            tiers,
            tiers,
            tuple(self._profiles),
            forward=Tiers(forward, forward),
            pre_dnat=Tiers(pre_dnat),
            untracked=Tiers(tiers, tiers) if self.untracked else Tiers(),
        )
        members = [
            SetMember(name, member(text))
            for name, texts in (program["ipsets"] or {}).items()
            for text in texts
        ]
        self.picture = Picture(self._policies, self._profiles, Members(members))

    def fate(self, given: dict[str, Any], direction: Direction) -> tuple[str, Any]:
        """What becomes of a packet, and the trail that led there."""
        if self.untracked:
            said = opinion(self.picture, self.endpoint, "untracked", direction, packet(given))
            return FATES[said.action], said.trail
        early = opinion(self.picture, self.endpoint, "pre-dnat", "ingress", packet(given, before_dnat=True))
        if early.action == "deny" or (early.action == "allow" and self.host):
            return FATES[early.action], early.trail
        passed = packet(given)
        if not (given.get("toHost") or given.get("fromHost")):
            said = opinion(self.picture, self.endpoint, "forward", direction, passed)
            if self.host or said.action == "deny":
                return FATES[said.action], said.trail
        verdict = evaluate(self.picture, self.endpoint, direction, passed, workload=not self.host)
        return FATES[verdict.action], verdict.trail

    def _tiers(self, tiers: list[dict[str, Any]]) -> Iterator[TierRow]:
        """Tiers that hold policies; others are not in an endpoint's row."""
        for tier in tiers:
            ids = []
            for policy in tier["policies"]:
                # Names need not be unique in a program.
                id_ = PolicyId("GlobalNetworkPolicy", "", f"{len(self._policies)}.{policy['name']}")
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


def packet(given: dict[str, Any], *, before_dnat: bool = False) -> Packet:
    """A packet; of ICMP ``dport`` is the type and 256 times the code."""
    protocol, port = given["proto"], given["dport"]
    source, destination = parse_address(given["src"]), parse_address(given["dst"])
    if protocol in ICMP:
        return Packet(source, destination, protocol, icmp_type=port % 256, icmp_code=port // 256)
    if before_dnat and "preNATDst" in given:
        destination, port = parse_address(given["preNATDst"]), given["preNATDport"]
    return Packet(source, destination, protocol, given["sport"], port)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize("program", [pytest.param(row, id=row["name"]) for row in rows("packets")])
def test_packets(program: dict[str, Any], direction: Direction) -> None:
    """Every packet of a program is allowed, dropped or left to others as it says; direction makes no difference here."""
    translated = Translation(program)
    assert program["allowed"] or program["dropped"]

    wrong = []
    for expected in FATES.values():
        for given in program[expected]:
            fate, trail = translated.fate(given, direction)
            if fate != expected:
                wrong.append((expected, given, trail))

    assert wrong == []
