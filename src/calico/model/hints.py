"""What a person meant who wrote something else: the nearest word, the field's real place, other people's words.

In:   a word that is not known where it stands, and what is known there.
Out:  the likely word, or a sentence with it; what a sentence can not tell is left to the reader.
Next: ``model.schema`` puts the sentences into its findings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

MOST_LISTED: Final = 40
"""How many known words a sentence lists; beyond that nobody reads them."""

LIKELY: Final = 0.6
CERTAIN: Final = 0.75
"""How similar words must be, by difflib, to be proposed, and to go on as if the one were the other."""

SYNONYMS: Final[Mapping[str, str]] = {
    "accept": "Allow",
    "permit": "Allow",
    "drop": "Deny",
    "reject": "Deny",
    "block": "Deny",
    "next-tier": "Pass",
    "inbound": "Ingress",
    "outbound": "Egress",
    "yes": "true",
    "no": "false",
    "on": "true",
    "off": "false",
}
"""Values of other firewalls and formats, and ours."""

FOREIGN_FIELDS: Final[Mapping[str, str]] = {
    "podselector": "write a selector, such as selector: app == 'web'; this is Kubernetes' word",
    "matchlabels": "write a selector, such as selector: app == 'web'; this is Kubernetes' word",
    "matchexpressions": "write a selector, such as selector: app in {'web', 'api'}; this is Kubernetes' word",
    "policytypes": "write types; this is Kubernetes' word",
    "from": "write source, with nets, selector or namespaceSelector in it; this is Kubernetes' word",
    "to": "write destination, with nets, selector or namespaceSelector in it; this is Kubernetes' word",
    "ipblock": "write nets, and notNets for what it excepts; this is Kubernetes' word",
    "except": "write notNets; this is Kubernetes' word",
    "endport": "write a range in ports, such as '8000:8080'; this is Kubernetes' word",
    "src": "write source, with nets, selector or ports in it",
    "dst": "write destination, with nets, selector or ports in it",
    "sport": "write source.ports",
    "dport": "write destination.ports",
    "!nets": "write notNets; this is the old format's word",
    "!selector": "write notSelector; this is the old format's word",
    "!ports": "write notPorts; this is the old format's word",
    "!protocol": "write notProtocol; this is the old format's word",
    "!icmp": "write notICMP; this is the old format's word",
}
"""Fields of other formats, in lower case, and how they are written here."""

OLD_KINDS: Final = frozenset(
    {"bgpPeer", "hostEndpoint", "ipPool", "node", "policy", "profile", "tier", "workloadEndpoint"}
)
"""Kinds of the format v1, which had apiVersion v1."""


def near(word: str, known: Collection[str], similarity: float = LIKELY) -> str | None:
    """The known word that ``word`` is surely meant to be, or None."""
    from difflib import get_close_matches

    bare = _bare(word)
    same = [each for each in known if _bare(each) == bare]
    if same:
        return same[0]
    if (synonym := SYNONYMS.get(word.lower())) in known:
        return synonym
    lowered = {each.lower(): each for each in known}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=similarity)
    return lowered[close[0]] if close else None


def _bare(word: str) -> str:
    return word.strip().replace("-", "").replace("_", "").replace(" ", "").lower()


def nearest(word: str, known: Collection[str]) -> str:
    """``did you mean <the most similar>?``, or those that are known, if they are few."""
    found = near(word, known)
    return f"did you mean {found}?" if found else listed(known)


def listed(known: Collection[str]) -> str:
    """``known are a, b, c``, if they are few."""
    if not known:
        return "remove it"
    if len(known) > MOST_LISTED:
        return f"none of the {len(known)} that are known is similar"
    return f"known are {', '.join(known)}"
