"""Sets of the ruleset value as ipsets: names, types, members, and the text of ``ipset restore`` and back.

In:   ``ast.Set`` and its members; the output of ``ipset save``.
Out:  lines of ``ipset restore``; ``SavedSet`` values.
Next: ``programming.ipset`` runs the program.

Both "address" and "net" sets are ``hash:net``: prefixes may overlap there, and it takes 0.0.0.0, which ``hash:ip``
refuses. An ipset cannot hold a prefix of length 0, so that is written as its two halves; removing one of two
members that share a half must leave the half, which is why removal needs to know what stays.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Final

from calico.desired import PortMember
from calico.model.address import WIDTH, AddressError, Cidr, Family, parse_cidr
from calico.ruleset import ast

MAX_SIZE: Final = 1 << 20
"""Members that a set may have; fixed when the set is made."""
_NAME_LENGTH: Final = 31
_PROTOCOLS: Final = {6: "tcp", 17: "udp", 132: "sctp", 136: "udplite"}
_NUMBERS: Final = {name: number for number, name in _PROTOCOLS.items()}
_SAFE: Final = re.compile(r"[A-Za-z0-9_.:/-]+")


def owned_prefix(family: Family) -> str:
    """How the names of our sets of one family begin."""
    return f"cali{family}0"


def temporary_prefix(family: Family) -> str:
    """How the names of our half-made sets of one family begin."""
    return f"cali{family}t"


def kernel_set_name(family: Family, name: str) -> str:
    """The name in the kernel, where sets of both families live side by side: at most 31 characters, stable.

    A name that already begins as ours do, is short and harmless, is kept.
    """
    prefix = owned_prefix(family)
    full = name if name.startswith(prefix) else prefix + name
    if len(full) <= _NAME_LENGTH and _SAFE.fullmatch(full):
        return full
    digest = urlsafe_b64encode(sha256(full.encode()).digest()).decode()
    return f"{prefix}_{digest[: _NAME_LENGTH - len(prefix) - 1]}"


def members_text(members: Iterable[ast.Member]) -> Iterator[str]:
    """How ipset writes each member; nothing for a port of a protocol that has none and so can never match."""
    for member in members:
        if isinstance(member, PortMember):
            if protocol := _PROTOCOLS.get(member.protocol):
                yield f"{member.address.address},{protocol}:{member.port}"
        elif member.length == 0:
            half = 1 << (WIDTH[member.family] - 1)
            yield str(Cidr(member.family, 0, 1))
            yield str(Cidr(member.family, half, 1))
        else:
            yield member.address if member.is_address else str(member)


def removed_text(removed: Iterable[ast.Member], left: Iterable[ast.Member]) -> set[str]:
    """What must go from the kernel's set when ``removed`` leave and ``left`` stay."""
    gone = set(members_text(removed))
    if any(text.endswith("/1") for text in gone):
        gone -= set(members_text(m for m in left if isinstance(m, Cidr) and m.length <= 1))
    return gone


@dataclass(slots=True)
class SavedSet:
    """A set as the kernel holds it; ``header`` is its type and family, e.g. "hash:net family inet"."""

    header: str
    size: int
    members: set[str] = field(default_factory=set)


def header(family: Family, kind: ast.Set) -> str:
    """Type and family, as ``create`` and ``save`` write them."""
    of = "hash:ip,port" if kind.type == "port" else "hash:net"
    return f"{of} family {'inet' if family == 4 else 'inet6'}"


def create(name: str, kind: ast.Set, family: Family) -> str:
    """The line that makes a set called ``name`` in the kernel."""
    return f"create {name} {header(family, kind)} maxelem {MAX_SIZE}"


def parse_save(text: str, families: Iterable[Family] = (4, 6)) -> dict[str, SavedSet]:
    """Our sets in the output of ``ipset save``, by kernel name; those of others are passed over."""
    prefixes = tuple(p for family in families for p in (owned_prefix(family), temporary_prefix(family)))
    found: dict[str, SavedSet] = {}
    for line in text.split("\n"):
        verb, _, rest = line.partition(" ")
        name, _, rest = rest.partition(" ")
        if not name.startswith(prefixes):
            continue
        if verb == "create":
            words = rest.split()
            options = dict(pairwise(words))
            size = options.get("maxelem", "0")
            found[name] = SavedSet(
                f"{words[0]} family {options.get('family', 'none')}", int(size) if size.isdigit() else 0
            )
        elif verb == "add":
            found[name].members.add(rest)
    return found


def difference(wanted: set[str], found: set[str]) -> tuple[set[str], set[str]]:
    """What the kernel's set lacks and what it has too many of, whatever way the program spells addresses."""
    missing, unexpected = wanted - found, found - wanted
    if missing and unexpected:
        spelled = {_canonical(text): text for text in unexpected}
        same = {text for text in missing if text in spelled}
        missing -= same
        unexpected -= {spelled[text] for text in same}
    return missing, unexpected


def _canonical(text: str) -> str:
    """A member as ``members_text`` writes it; an entry with options, which we never make, stays as it is."""
    address, comma, port = text.partition(",")
    try:
        cidr = parse_cidr(address)
    except AddressError:
        return text
    protocol, _, number = port.partition(":")
    if comma and protocol in _NUMBERS and number.isdigit():
        return next(members_text([PortMember(cidr, _NUMBERS[protocol], int(number))]), text)
    return text if comma or cidr.length == 0 else next(members_text([cidr]))
