"""Stable names of chains, sets and maps, within the limits of both back ends.

In:   what an object is for: a policy and a direction, the content of an endpoint's chain, a set's identifier.
Out:  its name: at most 28 characters for a chain (iptables), 31 for a set (ipset), of letters, digits, "-", "_",
      "." and "/" only (nftables' grammar); the same name in every run, and for both back ends.
Next: ``rendering`` names what it makes.

A name that is too long, or has characters that some tool would not read, is replaced by "_" and a hash of
itself; one that looks like such a replacement is hashed too, so that no two inputs share a name by accident.
Parts that are hashed together have a separator between them.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

from calico.desired import Direction, PolicyId, SetId
from calico.model.address import Cidr, Family

CHAIN_LIMIT: Final = 28
"""iptables: XT_EXTENSION_MAXNAMELEN (29) with its closing zero."""

SET_LIMIT: Final = 31
"""ipset: IPSET_MAXNAMELEN (32) with its closing zero."""

EndpointChainKind = Literal["fw", "tw", "fh", "th", "thnat", "fhfw", "thfw", "fhpd", "fhut", "thut"]
"""From and to a workload, from and to a host endpoint; of the latter also what is sent to translated destinations,
what is forwarded, what comes in before destination NAT, and what is not tracked."""

OwnChainKind = Literal["arp", "nd", "err"]
"""ARP, neighbour discovery, and ICMP errors of one workload."""

SetType = Literal["address", "net", "port"]

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_SEPARATOR: Final = "\0"
_SHORT_KIND: Final = {"NetworkPolicy": "np", "GlobalNetworkPolicy": "gnp"}
_SET_SUFFIX: Final[dict[SetType, str]] = {"address": "-a", "net": "-n", "port": "-p"}


def digest(parts: Iterable[str], length: int) -> str:
    """``length`` (up to 43) characters that stand for ``parts`` in their order; ("a", "bc") and ("ab", "c") differ."""
    hashed = sha256(_SEPARATOR.join(parts).encode()).digest()
    return urlsafe_b64encode(hashed).decode()[:length]


def policy_chain(policy: PolicyId, direction: Direction, *, quiet: bool = False) -> str:
    """The chain of one policy's rules: ``cali-pi-`` for ingress, ``cali-po-`` for egress.

    ``quiet``: the one that drops what the other refuses, ``cali-qpi-`` and ``cali-qpo-``.
    """
    prefix = f"cali-{'q' if quiet else ''}{'pi' if direction == 'ingress' else 'po'}-"
    kind = _SHORT_KIND.get(policy.kind, policy.kind)
    parts = (kind, policy.namespace, policy.name) if policy.namespace else (kind, policy.name)
    return _shortened(prefix, "/".join(parts), CHAIN_LIMIT)


def profile_chain(profile: str, direction: Direction, *, quiet: bool = False) -> str:
    """The chain of one profile's rules: ``cali-pri-`` for ingress, ``cali-pro-`` for egress; ``quiet`` as for policies."""
    prefix = f"cali-{'q' if quiet else ''}{'pri' if direction == 'ingress' else 'pro'}-"
    return _shortened(prefix, profile, CHAIN_LIMIT)


def endpoint_chain(kind: EndpointChainKind, content: Iterable[str]) -> str:
    """The chain that endpoints of equal ``content`` (tiers, policies, profiles as text) share."""
    prefix = f"cali-{kind}-"
    return prefix + digest((kind, *content), CHAIN_LIMIT - len(prefix))


def own_chain(kind: OwnChainKind, interface: str) -> str:
    """The chain of what the endpoint on ``interface`` shares with no other."""
    return _shortened(f"cali-{kind}-", interface, CHAIN_LIMIT)


def set_name(family: Family, identifier: SetId, set_type: SetType) -> str:
    """The set that holds ``identifier``'s members of one family, as sets of one type.

    The type is the last letter, so that a set whose members no longer fit its type gets another name.
    """
    suffix = _SET_SUFFIX[set_type]
    return _shortened(f"cali{family}0", identifier.replace(":", "-"), SET_LIMIT - len(suffix)) + suffix


def literal_set(family: Family, nets: Iterable[Cidr], set_type: SetType) -> str:
    """The set that holds just these ``nets``; rules that list the same ones, in any order, share it."""
    texts = sorted(str(net) for net in nets)
    return set_name(family, "l:" + digest(texts, 21), set_type)


def _shortened(prefix: str, suffix: str, limit: int) -> str:
    name = prefix + suffix
    if len(name) <= limit and _SAFE.fullmatch(suffix):
        return name
    return prefix + "_" + digest((suffix,), limit - len(prefix) - 1)
