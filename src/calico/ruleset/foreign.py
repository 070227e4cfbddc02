"""Which rules of others can drop what we accept: on nftables a drop anywhere wins over an accept elsewhere.

In:   the decoded JSON of ``nft -jn list table``, of a table that is not ours.
Out:  ``Verdict``: for each of its chains in the way, the first rule, or the policy, that can drop a workload's packets.
Next: ``programming.foreign`` reads such tables, ``agent.others`` puts the findings into the agent's report.

Two packets are followed through a table: one that comes from a workload and goes elsewhere, one that comes from
elsewhere and goes to a workload. Of a match on interfaces it is known whether it holds; of any other it is not, so that
a drop behind it *can* happen. What an accept stops for certain nothing behind it can drop. Packets of no valid flow are
dropped by us as well, and do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

HOOKS: Final = ("forward", "input")
"""Where packets of workloads and to the host come by."""
_DEEPEST: Final = 16
_CT_INVALID: Final = 1
_ELSEWHERE: Final = "\0elsewhere"
"""An interface that no rule names."""

Outcome = Literal["accepted", "open"]


class Finding(NamedTuple):
    """A base chain of others, and what in it can drop a workload's packets, in words that its owner finds it by."""

    family: str
    table: str
    chain: str
    hook: str
    what: str


class Path(NamedTuple):
    """The interfaces of a packet. A name that ends in "*" is any of these."""

    way_in: str
    way_out: str


def findings(listed: Mapping[str, Any], prefixes: Iterable[str]) -> list[Finding]:
    """What in a table can drop packets from or to interfaces that begin with one of ``prefixes``; one a base chain."""
    chains: dict[str, dict[str, Any]] = {}
    rules: dict[str, list[dict[str, Any]]] = {}
    maps: dict[str, list[Any]] = {}
    for item in listed["nftables"]:
        kind, value = next(iter(item.items()))
        if kind == "chain":
            chains[value["name"]] = value
        elif kind == "rule":
            rules.setdefault(value["chain"], []).append(value)
        elif kind == "map":
            maps[value["name"]] = value.get("elem", [])
    wild = [f"{prefix}*" for prefix in prefixes]
    found: list[Finding] = []
    for name, chain in chains.items():
        hook = chain.get("hook")
        if hook not in HOOKS:
            continue
        paths = [Path(way, _ELSEWHERE) for way in wild]
        if hook == "forward":
            paths += [Path(_ELSEWHERE, way) for way in wild]
        walks = (_Walk(rules, maps, path).base(name, chain.get("policy", "accept")) for path in paths)
        if what := next((what for what in walks if what), ""):
            found.append(Finding(chain["family"], chain["table"], name, hook, what))
    return found


class _Found(Exception):
    """A drop was met; ``args[0]`` says which."""


class _Walk:
    """One packet on its way through one table."""

    def __init__(
        self, rules: Mapping[str, list[dict[str, Any]]], maps: Mapping[str, list[Any]], path: Path
    ) -> None:
        self._rules = rules
        self._maps = maps
        self._path = path

    def base(self, name: str, policy: str) -> str:
        """What can drop the packet in a base chain; "" if nothing does."""
        try:
            if self._chain(name, ()) == "accepted":
                return ""
        except _Found as found:
            return str(found.args[0])
        return "its policy, drop" if policy == "drop" else ""

    def _chain(self, name: str, callers: tuple[str, ...]) -> Outcome:
        if name in callers or len(callers) > _DEEPEST:
            return "open"
        for rule in self._rules.get(name, ()):
            holds = self._holds(rule["expr"])
            if holds is False:
                continue
            outcome, ends = self._act(rule, certain=holds is True, callers=(*callers, name))
            if outcome == "accepted":
                return outcome
            if ends:
                break
        return "open"

    def _holds(self, expressions: Sequence[Mapping[str, Any]]) -> bool | None:
        """Whether the packet matches a rule; None: that depends."""
        result: bool | None = True
        for expression in expressions:
            if "match" in expression:
                one = self._matches(expression["match"])
            elif (expression.get("xt") or {"type": "match"}).get("type") == "match" and "xt" in expression:
                one = None
            else:
                continue
            if one is False:
                return False
            if one is None:
                result = None
        return result

    def _matches(self, match: Mapping[str, Any]) -> bool | None:
        left, right = match["left"], match["right"]
        if left == {"ct": {"key": "state"}} and right == _CT_INVALID:
            return False
        key = left.get("meta", {}).get("key") if isinstance(left, dict) else None
        if key not in {"iifname", "oifname"}:
            return None
        actual = self._path.way_in if key == "iifname" else self._path.way_out
        names = right["set"] if isinstance(right, dict) and "set" in right else [right]
        if not all(isinstance(name, str) and not name.startswith("@") for name in names):
            return None
        answers = [_interface(name, actual) for name in names]
        held = True if True in answers else None if None in answers else False
        if match["op"] == "!=":
            return None if held is None else not held
        return held

    def _act(
        self, rule: Mapping[str, Any], *, certain: bool, callers: tuple[str, ...]
    ) -> tuple[Outcome, bool]:
        """What a rule makes of the packet, and whether its chain ends with it."""
        for expression in rule["expr"]:
            name, detail = next(iter(expression.items()))
            match name:
                case "drop" | "reject":
                    if not _only_invalid(rule["expr"]):
                        raise _Found(_words(rule, callers[-1], name))
                case "xt" if detail and detail.get("type") == "target" and detail.get("name") == "REJECT":
                    raise _Found(_words(rule, callers[-1], "reject"))
                case "accept":
                    return ("accepted" if certain else "open"), certain
                case "return":
                    return "open", certain
                case "jump" | "goto":
                    outcome = self._chain(detail["target"], callers)
                    return (outcome if certain else "open"), certain and name == "goto"
                case "vmap":
                    self._look_up(rule, detail, callers)
                case _:
                    pass
        return "open", False

    def _look_up(self, rule: Mapping[str, Any], vmap: Mapping[str, Any], callers: tuple[str, ...]) -> None:
        """Follow every entry of a verdict map that the packet can meet."""
        data = vmap["data"]
        entries = self._maps.get(data[1:], []) if isinstance(data, str) else data.get("set", [])
        for key, verdict in entries:
            if self._matches({"op": "==", "left": vmap["key"], "right": key}) is False:
                continue
            name, detail = next(iter(verdict.items()))
            if name in {"jump", "goto"}:
                self._chain(detail["target"], callers)
            elif name == "drop":
                raise _Found(_words(rule, callers[-1], name))


def _interface(name: str, actual: str) -> bool | None:
    """Whether an interface of the packet is one called ``name``; either may be a pattern."""
    if actual == _ELSEWHERE:
        return True if name == "*" else None
    wanted, held = name.removesuffix("*"), actual.removesuffix("*")
    if name.endswith("*") and held.startswith(wanted):
        return True
    return None if wanted.startswith(held) else False


def _only_invalid(expressions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a rule of iptables tests conntrack, which nft does not show: that is how it drops invalid packets."""
    return any(
        (expression.get("xt") or {}).get("name") in {"conntrack", "state"} for expression in expressions
    )


def _words(rule: Mapping[str, Any], chain: str, verdict: str) -> str:
    comment = f', "{rule["comment"]}"' if rule.get("comment") else ""
    return f"a {verdict} in chain {chain} (handle {rule['handle']}{comment})"


def tables_in_the_way(listed: Mapping[str, Any], ours: str) -> Iterator[tuple[str, str]]:
    """Family and name of the tables of others with a base chain in the way, of the JSON of ``nft -j list chains``."""
    seen = set()
    for item in listed["nftables"]:
        chain = item.get("chain")
        if chain is None or chain.get("hook") not in HOOKS or chain["family"] not in {"ip", "ip6", "inet"}:
            continue
        key = chain["family"], chain["table"]
        if chain["table"] != ours and key not in seen:
            seen.add(key)
            yield key
