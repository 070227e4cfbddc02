from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from calico.desired import PolicyId
from calico.model.address import parse_cidr
from calico.ruleset import names

TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
"""What nftables reads as one word, and iptables and ipset take as a name."""


@given(st.text(), st.text(), st.text())
def test_names_fit_both_back_ends(kind: str, namespace: str, name: str) -> None:
    """Whatever people call their resources, names are short enough and made of plain characters."""
    policy = PolicyId(kind, namespace, name)
    chains = [names.policy_chain(policy, "ingress"), names.policy_chain(policy, "egress")]
    chains += [names.profile_chain(name, "ingress"), names.profile_chain(name, "egress")]
    chains.append(names.endpoint_chain("fw", [kind, namespace, name]))
    sets = [
        names.set_name(4, name, "address"),
        names.set_name(6, name, "net"),
        names.set_name(6, name, "port"),
    ]

    assert all(TOKEN.fullmatch(name) for name in chains + sets)
    assert all(len(name) <= names.CHAIN_LIMIT for name in chains)
    assert all(len(name) <= names.SET_LIMIT for name in sets)


def test_short_names_can_be_read() -> None:
    """A policy whose name is short enough has it in its chain's name, as in Calico."""
    assert (
        names.policy_chain(PolicyId("GlobalNetworkPolicy", "", "deny-all"), "ingress")
        == "cali-pi-gnp/deny-all"
    )
    assert names.policy_chain(PolicyId("NetworkPolicy", "shop", "web"), "egress") == "cali-po-np/shop/web"
    assert names.profile_chain("kns.default", "ingress") == "cali-pri-kns.default"
    assert names.set_name(4, "masq-ipam-pools", "net") == "cali40masq-ipam-pools-n"


def test_exactly_the_limit_is_not_shortened() -> None:
    """Shortening begins with the first character too many."""
    fits, longer = (
        "a" * (names.CHAIN_LIMIT - len("cali-pri-")),
        "a" * (names.CHAIN_LIMIT - len("cali-pri-") + 1),
    )
    assert names.profile_chain(fits, "ingress") == f"cali-pri-{fits}"
    assert names.profile_chain(longer, "ingress").startswith("cali-pri-_")


def test_a_name_like_a_shortened_one_is_shortened_itself() -> None:
    """Nobody can take another's chain by choosing its shortened name."""
    shortened = names.profile_chain("x" * 60, "ingress").removeprefix("cali-pri-")
    assert names.profile_chain(shortened, "ingress") != f"cali-pri-{shortened}"


def test_long_names_with_equal_beginnings_differ() -> None:
    """The hash covers the whole name."""
    one, other = ("n" * 60 + end for end in "ab")
    assert names.profile_chain(one, "egress") != names.profile_chain(other, "egress")


def test_parts_are_hashed_with_separators() -> None:
    """("a", "bc") and ("ab", "c") are different contents."""
    assert names.endpoint_chain("tw", ["a", "bc"]) != names.endpoint_chain("tw", ["ab", "c"])


def test_policies_of_different_kind_and_namespace_differ() -> None:
    """A namespaced policy and a global one never share a chain, whatever their names."""
    policies = [
        PolicyId("NetworkPolicy", "a", "b"),
        PolicyId("NetworkPolicy", "a/b", ""),
        PolicyId("GlobalNetworkPolicy", "", "a"),
        PolicyId("GlobalNetworkPolicy", "a", "b"),
    ]
    assert len({names.policy_chain(policy, "ingress") for policy in policies}) == len(policies)


def test_type_and_family_are_part_of_a_sets_name() -> None:
    """One selector's sets never meet under one name."""
    made = {names.set_name(family, "s:x", kind) for family in (4, 6) for kind in ("address", "net", "port")}
    assert len(made) == 6


def test_literal_sets_are_named_by_content() -> None:
    """Rules that list the same nets in another order share a set."""
    nets = [parse_cidr("10.0.0.0/8"), parse_cidr("192.168.0.0/16")]
    assert names.literal_set(4, nets, "net") == names.literal_set(4, reversed(nets), "net")
    assert names.literal_set(4, nets, "net") != names.literal_set(4, nets[:1], "net")
