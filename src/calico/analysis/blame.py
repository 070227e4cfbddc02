"""Whose doing it is that a packet was dropped: from the rule in the kernel back to the operator's words.

In:   where a packet was dropped (table, chain), the rule's comments, and the chains that it had been through.
Out:  ``Blame``: the resource and rule, or what else of ours it was, or whose rule if it is none of ours.
Next: ``cli.drops`` adds what the rule says, from the store, and prints it.

What is in the kernel is enough: a rule carries its provenance, and chains are named after what they are made of.
A comment or name that was too long to be kept whole is looked up among the ``known`` policies and profiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from calico.desired import Direction, Origin, PolicyId
from calico.ruleset import names, nft
from calico.ruleset.iptables import HASH_PREFIX, PREFIX

_DESCRIBED: Final = re.compile(
    r"(?:(?P<kind>[A-Za-z]+) (?:(?P<namespace>[^ /]+)/)?(?P<name>[^ /]+) (?:tier (?P<tier>[^ ]+) )?)?"
    r"(?P<direction>ingress|egress)(?: rule (?P<rule>[0-9]+)|(?P<rules> rules [0-9].*)| end of (?:tier|profiles))?"
)
"""What ``ruleset.provenance`` writes."""
_DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")
_POLICY_CHAIN: Final = re.compile(
    r"cali-q?p[io]-(?P<kind>[a-z]*np)/(?:(?P<namespace>[^/]+)/)?(?P<name>[^/]+)"
)
_PROFILE_CHAIN: Final = re.compile(r"cali-q?pr[io]-(?!_)(?P<name>.+)")
_KINDS: Final = {"np": "NetworkPolicy", "gnp": "GlobalNetworkPolicy"}
_WAYS: Final[Mapping[str, Direction]] = {"i": "ingress", "o": "egress"}
_RULES_CHAIN: Final = re.compile(r"cali-q?pr?(?P<way>[io])-")
_GROUP_CHAIN: Final = re.compile(r"cali-q?g(?P<way>[io])-")
"""Many policies of a tier in one chain, whose name does not tell which they are."""
_MERGED: Final = re.compile(r"[0-9]+ rules of [0-9]+ policies: .*")
_DISPATCH: Final = re.compile(r"cali-(?:from|to)-")
_RULE_NUMBER: Final = re.compile(r" rule ([0-9]+)$")
_WORDS: Final = {
    "False source address": "the source address does not belong to the workload (spoofed), or there is no route back to it",
    "Workloads are no routers": "a workload may not pose as a router: no ICMP redirects, no router advertisements",
    "Workload interface without endpoint": "a workload's interface for which this host has no endpoint; until there is one, it is closed",
    "Workload to its host: not allowed by default": (
        "policy allows it, but not the way from a workload to its own host (defaultEndpointToHostAction: Drop)"
    ),
    "The gateway's address leads nowhere": "169.254.1.1 is only a gateway; nothing is behind the address itself",
    "Workloads may not send VXLAN": "a workload may not send VXLAN",
    "Workloads may not send IP in IP": "a workload may not send IP in IP",
    "Packets of no valid flow": (
        "connection tracking knows no flow that this packet could belong to (state invalid);"
        " disableConntrackInvalidCheck lets such packets reach policy"
    ),
}
"""What our rules that come from no resource mean, by their comment."""


class Blame(NamedTuple):
    """Whose doing a drop is.

    ``by``: "rule", "tier" (its end), "profiles" (their end), "missing" (something that does not exist), "host" (what
    this host always does), "endpoint" (closed as a whole), "foreign" (not ours). ``origin`` says which resource, for
    the first four. ``sentence`` says it all. ``merged``: the kernel's rule stands for several, all of this direction,
    of which it is one; ``origin`` is what they have in common, if they do.
    """

    by: str
    sentence: str
    origin: Origin | None = None
    merged: Direction | None = None


class Known:
    """Policies that exist, with their tiers, and profiles; chains whose names are hashes are found by them."""

    def __init__(self, tiers: Mapping[PolicyId, str] | None = None, profiles: Iterable[str] = ()) -> None:
        self._tiers = tiers or {}
        chains: dict[str, PolicyId | str] = {}
        names_of_profiles = tuple(profiles)
        for direction in _DIRECTIONS:
            for quiet in (False, True):
                for policy in self._tiers:
                    chains[names.policy_chain(policy, direction, quiet=quiet)] = policy
                for profile in names_of_profiles:
                    chains[names.profile_chain(profile, direction, quiet=quiet)] = profile
        self._chains: Mapping[str, PolicyId | str] = chains

    def may_be_in(self, owner: PolicyId | str, tier: str) -> bool:
        """Whether a policy is in ``tier``, as far as is known; a profile is in none."""
        return isinstance(owner, PolicyId) and self._tiers.get(owner, tier) == tier

    def owner(self, chain: str) -> PolicyId | str | None:
        """The policy, or the profile's name, whose rules are in ``chain``; None if that cannot be told."""
        if chain in self._chains:
            return self._chains[chain]
        if found := _POLICY_CHAIN.fullmatch(chain):
            kind = _KINDS.get(found["kind"], found["kind"])
            return PolicyId(kind, found["namespace"] or "", found["name"])
        if found := _PROFILE_CHAIN.fullmatch(chain):
            return found["name"]
        return None


def is_ours(family: str, table: str, chain: str, comments: Sequence[str] | None) -> bool:
    """Whether a rule in this chain of the kernel is ours, on either back end."""
    if family not in nft.NFT_FAMILY.values():
        return False
    marked = any(comment.startswith(HASH_PREFIX) for comment in comments or ())
    return table == nft.TABLE or chain.startswith(PREFIX) or marked


def blame(chain: str, comments: Sequence[str] | None, path: Sequence[str], known: Known) -> Blame:
    """Whose doing the drop by a rule of ours is. ``comments`` None: the rule is not there any more."""
    words = [comment for comment in comments or () if not comment.startswith(HASH_PREFIX)]
    comment = words[0] if words else ""
    if found := _DESCRIBED.fullmatch(comment):
        return _of_resource(_origin(found), path, known, found["rules"] or "")
    if (cut := _cut(chain, comment, known)) is not None:
        return _of_resource(cut, path, known)
    if _MERGED.fullmatch(comment) and (way := _GROUP_CHAIN.match(chain)):
        return Blame("rule", f"one of {comment}", merged=_WAYS[way["way"]])
    if comment.endswith(" does not exist"):
        return _missing(chain, comment.removesuffix(" does not exist"), known)
    if comment:
        return Blame("host", _WORDS.get(comment, comment))
    if comments is None:
        owner = known.owner(chain)
        what = _title(owner) if owner is not None else f"chain {chain}"
        return Blame("host", f"a rule of {what} that has been replaced meanwhile")
    if _DISPATCH.match(chain):
        return Blame(
            "endpoint",
            "the endpoint of this interface is closed: it cannot be used as it is, or is not active",
        )
    return Blame("host", f"a rule of Calico in chain {chain}")


def foreign(
    family: str, table: str, chain: str, text: str | None, comments: Sequence[str] | None = None
) -> Blame:
    """The blame of a rule that is none of ours, as ``text``; None: it was the policy of the chain."""
    unsaid = [comment for comment in comments or () if text and comment not in text]
    text = f'{text} comment "{"; ".join(unsaid)}"' if unsaid else text
    what = "its policy drop" if text is None else f"rule '{text}'" if text else "a rule that is gone"
    return Blame("foreign", f"table {family} {table}, chain {chain}, {what}, which is not Calico's")


def _origin(found: re.Match[str]) -> Origin:
    direction: Direction = "ingress" if found["direction"] == "ingress" else "egress"
    match found["kind"]:
        case None:
            return Origin("Profile", "", "", "", direction)
        case "Tier":
            return Origin("Tier", found["name"], "", found["name"], direction)
        case kind:
            rule = None if found["rule"] is None else int(found["rule"])
            return Origin(kind, found["tier"] or "", found["namespace"] or "", found["name"], direction, rule)


def _of_resource(origin: Origin, path: Sequence[str], known: Known, rules: str = "") -> Blame:
    if origin.kind == "Tier":
        met = [owner for owner in _met(path, known, origin) if known.may_be_in(owner, origin.tier)]
        why = _not_allowed(met, origin.direction)
        if any(
            (way := _GROUP_CHAIN.match(chain)) and _WAYS[way["way"]] == origin.direction for chain in path
        ):
            why = f": none of the policies that select the endpoint allows it ({origin.direction})"
        return Blame("tier", f"end of tier {origin.name}{why}", origin)
    if origin.kind == "Profile" and not origin.name:
        profiles = [owner for owner in _met(path, known, origin) if isinstance(owner, str)]
        why = _not_allowed(profiles, origin.direction)
        return Blame("profiles", f"no policy decides, end of profiles{why}", origin)
    return of_rule(origin, rules)


def of_rule(origin: Origin, rules: str = "") -> Blame:
    """The blame of the rule ``origin``; or of one of several ``rules``, as their comment lists them."""
    title = _title(
        origin.name if origin.kind == "Profile" else PolicyId(origin.kind, origin.namespace, origin.name)
    )
    number = f", {origin.direction}" + (f" rule {origin.rule}" if origin.rule is not None else rules)
    if rules:
        number += ", one of these"
    tier = f" in tier {origin.tier}" if origin.tier not in {"", "default"} else ""
    return Blame("rule", f"{title}{tier}{number}", origin, merged=origin.direction if rules else None)


def _cut(chain: str, comment: str, known: Known) -> Origin | None:
    """The origin of a rule whose comment was cut off: from its chain, with the number if that is left."""
    rules = _RULES_CHAIN.match(chain)
    owner = known.owner(chain)
    if rules is None or owner is None or not comment or comment.endswith(" does not exist"):
        return None
    direction = _WAYS[rules["way"]]
    number = _RULE_NUMBER.search(comment)
    rule = int(number[1]) if number else None
    if isinstance(owner, str):
        return Origin("Profile", "", "", owner, direction, rule) if number else None
    return Origin(owner.kind, "", owner.namespace, owner.name, direction, rule)


def _missing(chain: str, words: str, known: Known) -> Blame:
    owner = known.owner(chain)
    rules = _RULES_CHAIN.match(chain)
    direction: Direction = _WAYS[rules["way"]] if rules else "ingress"
    origin = None
    if isinstance(owner, PolicyId):
        origin = Origin(owner.kind, "", owner.namespace, owner.name, direction)
    elif owner is not None:
        origin = Origin("Profile", "", "", owner, direction)
    title = words if owner is None else _title(owner)
    return Blame("missing", f"{title} does not exist, and what is missing denies ({direction})", origin)


def _met(path: Sequence[str], known: Known, origin: Origin) -> list[PolicyId | str]:
    """The policies and profiles whose rules for ``origin``'s direction are among the chains of ``path``, in order."""
    found = dict.fromkeys(
        owner
        for chain in path
        if (rules := _RULES_CHAIN.match(chain))
        and _WAYS[rules["way"]] == origin.direction
        and (owner := known.owner(chain)) is not None
    )
    return [*found]


def _not_allowed(met: Sequence[PolicyId | str], direction: Direction) -> str:
    match [_title(owner) for owner in met]:
        case []:
            return f": nothing allows it ({direction})"
        case [one]:
            return f": {one} does not allow it ({direction})"
        case several:
            return f": none of {', '.join(several)} allows it ({direction})"


def _title(owner: PolicyId | str) -> str:
    if isinstance(owner, str):
        return f"Profile {owner}"
    name = f"{owner.namespace}/{owner.name}" if owner.namespace else owner.name
    return f"{owner.kind} {name}"
