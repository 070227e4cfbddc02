"""What in the tables of others can drop a workload's packets, told from nft's listing."""

from __future__ import annotations

from typing import Any

import pytest

from calico.agent.others import sentence
from calico.ruleset.foreign import Finding, findings, tables_in_the_way

DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}
REJECT: dict[str, Any] = {"reject": {"type": "icmpx", "expr": 3}}


def interface(key: str, *names: str, op: str = "==") -> dict[str, Any]:
    right: Any = names[0] if len(names) == 1 else {"set": list(names)}
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def ct_state(number: int) -> dict[str, Any]:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": number}}


def port(number: int) -> dict[str, Any]:
    left = {"payload": {"protocol": "tcp", "field": "dport"}}
    return {"match": {"op": "==", "left": left, "right": number}}


def jump(chain: str, *, word: str = "jump") -> dict[str, Any]:
    return {word: {"target": chain}}


def listed(
    chains: dict[str, list[list[dict[str, Any]]]],
    *,
    hook: str = "forward",
    policy: str = "accept",
    maps: dict[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """A table whose first chain is the base chain."""
    items: list[dict[str, Any]] = [{"metainfo": {}}]
    handle = 0
    for number, (name, rules) in enumerate(chains.items()):
        chain = {"family": "inet", "table": "t", "name": name}
        items.append({"chain": chain | ({} if number else {"hook": hook, "policy": policy})})
        for expressions in rules:
            handle += 1
            items.append({"rule": {"chain": name, "handle": handle, "expr": expressions}})
    items += [{"map": {"name": name, "elem": elements}} for name, elements in (maps or {}).items()]
    return {"nftables": items}


def found(chains: dict[str, list[list[dict[str, Any]]]], **more: Any) -> str:
    """What is found in the one base chain; "" for nothing."""
    result = findings(listed(chains, **more), ["cali"])
    assert len(result) <= 1
    return result[0].what if result else ""


BOTH = [[interface("iifname", "cali*"), ACCEPT], [interface("oifname", "cali*"), ACCEPT]]

HARMLESS: dict[str, dict[str, list[list[dict[str, Any]]]]] = {
    "nothing": {"f": []},
    "between others": {"f": [[interface("iifname", "docker0"), interface("oifname", "eth0"), DROP]]},
    "from one that is no workload to anywhere but workloads": {
        "f": [[interface("iifname", "eth0"), interface("oifname", "cali*", op="!="), DROP]]
    },
    "packets of no flow": {"f": [[ct_state(1), DROP]]},
    "packets of no flow, by a map": {
        "f": [[{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [[1, DROP], [2, ACCEPT]]}}}]]
    },
    "packets of no flow, by iptables": {"f": [[{"xt": {"type": "match", "name": "conntrack"}}, DROP]]},
    "accepted before": {"f": [*BOTH, [REJECT]]},
    "accepted before, for any interface": {"f": [[interface("iifname", "*"), ACCEPT], [DROP]]},
    "accepted in a chain before": {"f": [[jump("mine")], [DROP]], "mine": BOTH},
    "never reached": {"f": [], "lost": [[DROP]]},
    "behind a return": {"f": [[{"return": None}], [DROP]]},
    "chains that call each other": {"f": [[jump("a")]], "a": [[jump("f")], [jump("a")]]},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_cannot_drop_is_not_named(name: str) -> None:
    """Drops that no packet of a workload meets are no reason to warn."""
    assert found(HARMLESS[name]) == ""


HARMFUL: dict[str, tuple[dict[str, list[list[dict[str, Any]]]], str]] = {
    "at the end": ({"f": [[ct_state(2), ACCEPT], [REJECT]]}, "a reject in chain f (handle 2)"),
    "of iptables": (
        {"f": [[{"xt": {"type": "target", "name": "REJECT"}}]]},
        "a reject in chain f (handle 1)",
    ),
    "for some packets": ({"f": [[port(80), DROP]]}, "a drop in chain f (handle 1)"),
    "from one way only": ({"f": [BOTH[0], [DROP]]}, "a drop in chain f (handle 2)"),
    "some are accepted before": (
        {"f": [[port(80), ACCEPT], *BOTH[:1], [DROP]]},
        "a drop in chain f (handle 3)",
    ),
    "one workload": ({"f": [[interface("iifname", "cali1"), DROP]]}, "a drop in chain f (handle 1)"),
    "one of several": (
        {"f": [[interface("oifname", "eth0", "cali1"), DROP]]},
        "a drop in chain f (handle 1)",
    ),
    "all but some": ({"f": [[interface("iifname", "wg0", op="!="), DROP]]}, "a drop in chain f (handle 1)"),
    "in a chain": ({"f": [[jump("d", word="goto")], *BOTH], "d": [[DROP]]}, "a drop in chain d (handle 4)"),
    "by a map": (
        {
            "f": [[{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["cali*", jump("d")]]}}}]],
            "d": [[DROP]],
        },
        "a drop in chain d (handle 2)",
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_the_first_rule_that_can_drop_is_named(name: str) -> None:
    """A drop or reject that a packet from or to a workload can meet is found wherever it stands."""
    chains, words = HARMFUL[name]
    assert found(chains) == words


def test_a_named_map_is_followed() -> None:
    """The entries of a map that a rule looks into lead on, those for other interfaces do not."""
    chains = {"f": [[{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@m"}}]], "d": [[DROP]]}
    assert found(chains, maps={"m": [["cali7", jump("d")]]}) == "a drop in chain d (handle 2)"
    assert found(chains, maps={"m": [["eth0", jump("d")]]}) != ""  # a packet to a workload may come by eth0
    assert found(chains, maps={"m": [["eth0", jump("d")]]}, hook="input") == ""


def test_a_policy_drops_what_nobody_accepts() -> None:
    """The policy counts for what falls off the chain's end."""
    assert found({"f": []}, policy="drop") == "its policy, drop"
    assert found({"f": BOTH}, policy="drop") == ""
    assert found({"f": BOTH[:1]}, policy="drop", hook="input") == ""


def test_other_hooks_are_not_in_the_way() -> None:
    """Only tables with a chain where workloads' packets come by are read, and never ours."""
    chains = {"nftables": [
        {"chain": {"family": family, "table": table, "name": "c", **({"hook": hook} if hook else {})}}
        for family, table, hook in (
            ("inet", "a", "forward"), ("inet", "a", "input"), ("ip", "b", "output"), ("ip", "calico", "forward"),
            ("bridge", "c", "forward"), ("ip6", "d", ""), ("ip6", "e", "input"),
        )
    ]}  # fmt: skip
    assert list(tables_in_the_way(chains, "calico")) == [("inet", "a"), ("ip6", "e")]
    assert found({"f": [[DROP]]}, hook="output") == ""


def test_the_remedy_is_the_owners() -> None:
    """Each finding ends with what to do, in the words of the tool that made the rule."""
    for table, family, words in (
        (
            "firewalld",
            "inet",
            "firewall-cmd --permanent --zone=trusted --add-interface=cali+; firewall-cmd --reload",
        ),
        ("filter", "ip6", "ip6tables -I FORWARD -i cali+ -j ACCEPT; ip6tables -I FORWARD -o cali+ -j ACCEPT"),
        ("mine", "inet", "nft insert rule inet mine FORWARD iifname '\"cali*\"' accept"),
    ):
        said = sentence(Finding(family, table, "FORWARD", "forward", "its policy, drop"), ["cali"])
        assert said.startswith(f"foreign: the forward chain FORWARD of table {family} {table} can drop")
        assert words in said
