"""Rules and packets in the operator's words.

In:   a rule as it was written; a packet.
Out:  one line each: ``Allow TCP from app == 'web' to ports 5432``; ``TCP 5432``.
Next: ``analysis.trail`` and ``analysis.explain`` put them into explanations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from calico.analysis.evaluate import PORTED, Packet
from calico.calculation.rules import PROTOCOLS
from calico.model.policy import ICMP, EntityRule, Rule

_SPELLED: Final = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "icmpv6": "ICMPv6", "sctp": "SCTP"}
PROTOCOL_NAMES: Final = {number: _SPELLED.get(name, "UDPLite") for name, number in PROTOCOLS.items()}


def protocol_name(number: int) -> str:
    """``TCP``, or ``protocol 89`` where there is no name."""
    return PROTOCOL_NAMES.get(number, f"protocol {number}")


def packet_words(packet: Packet) -> str:
    """What is asked about, without its ends: ``TCP 5432``, ``ICMP type 8 code 0``."""
    words = [protocol_name(packet.protocol)]
    if packet.protocol in PORTED:
        words.append("of no given port" if packet.destination_port is None else str(packet.destination_port))
        if packet.source_port is not None:
            words.append(f"from port {packet.source_port}")
    if packet.icmp_type is not None:
        words.append(f"type {packet.icmp_type}")
    if packet.icmp_code is not None:
        words.append(f"code {packet.icmp_code}")
    return " ".join(words)


def rule_words(rule: Rule) -> str:
    """The rule on one line, as near to its YAML as a sentence can be."""
    words = [str(rule.action)]
    if rule.ip_version is not None:
        words.append(f"IPv{rule.ip_version}")
    if rule.protocol is not None:
        words.append(str(rule.protocol))
    if rule.not_protocol is not None:
        words.append(f"not {rule.not_protocol}")
    words += _icmp("", rule.icmp)
    words += _icmp("not ", rule.not_icmp)
    for preposition, entity in (("from", rule.source), ("to", rule.destination)):
        parts = [*_entity(entity)]
        if parts:
            words.append(f"{preposition} {', '.join(parts)}")
    if rule.http is not None:
        words.append("if the HTTP request matches")
    return " ".join(words) if len(words) > 1 else f"{words[0]} everything"


def _icmp(negation: str, icmp: ICMP | None) -> Iterator[str]:
    if icmp is not None and icmp.type is not None:
        code = "" if icmp.code is None else f" code {icmp.code}"
        yield f"{negation}type {icmp.type}{code}"


def _entity(entity: EntityRule) -> Iterator[str]:
    if entity.selector:
        yield entity.selector
    if entity.not_selector:
        yield f"not ({entity.not_selector})"
    if entity.namespace_selector:
        yield f"namespaces {entity.namespace_selector}"
    if entity.service_accounts is not None:
        if entity.service_accounts.names:
            yield f"service accounts {', '.join(entity.service_accounts.names)}"
        if entity.service_accounts.selector:
            yield f"service accounts {entity.service_accounts.selector}"
    if entity.services is not None:
        service = entity.services
        yield f"service {service.namespace + '/' if service.namespace else ''}{service.name}"
    if entity.nets:
        yield ", ".join(entity.nets)
    if entity.not_nets:
        yield f"not {', '.join(entity.not_nets)}"
    if entity.ports:
        yield f"ports {', '.join(map(str, entity.ports))}"
    if entity.not_ports:
        yield f"not ports {', '.join(map(str, entity.not_ports))}"
