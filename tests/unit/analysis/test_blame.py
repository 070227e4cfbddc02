"""Whose doing a drop is, from what the kernel holds."""

from __future__ import annotations

import pytest

from calico.analysis.blame import Blame, Known, blame, foreign, is_ours
from calico.desired import Origin, PolicyId
from calico.ruleset import names
from calico.ruleset.nftrule import quotable
from calico.ruleset.provenance import describe, describe_all

WEB = PolicyId("NetworkPolicy", "shop", "web")
LONG = PolicyId("GlobalNetworkPolicy", "", "p" * 150)
NOTHING = Known()
CHAIN = "cali-pi-np/shop/web"


@pytest.mark.parametrize(
    ("origin", "sentence"),
    [
        (
            Origin("NetworkPolicy", "default", "shop", "web", "ingress", 3),
            "NetworkPolicy shop/web, ingress rule 3",
        ),
        (
            Origin("GlobalNetworkPolicy", "platform", "", "deny", "egress", 0),
            "GlobalNetworkPolicy deny in tier platform, egress rule 0",
        ),
        (Origin("Profile", "", "", "kns.shop", "egress", 1), "Profile kns.shop, egress rule 1"),
    ],
)
def test_a_rule_is_found_again_from_its_comment(origin: Origin, sentence: str) -> None:
    """What provenance writes into the kernel is read back whole."""
    assert blame(CHAIN, (describe(origin),), (), NOTHING) == Blame("rule", sentence, origin)


def test_the_hash_comment_of_iptables_is_no_reason() -> None:
    """Of the two comments of a rule of iptables the second is for people."""
    origin = Origin("NetworkPolicy", "default", "shop", "web", "ingress", 3)
    assert blame(CHAIN, ("cali:0123456789abcdef", describe(origin)), (), NOTHING).origin == origin


def test_the_end_of_a_tier_names_the_policies_that_were_asked() -> None:
    """It is the doing of the tier's policies for that direction that its end counts, not of others before them."""
    origin = Origin("Tier", "default", "", "default", "ingress")
    path = ("filter-FORWARD", "cali-po-gnp/out", "cali-pi-gnp/early", CHAIN, "cali-pi-gnp/all")
    known = Known({PolicyId("GlobalNetworkPolicy", "", "early"): "platform", WEB: "default"})
    assert blame("cali-tw-x", (describe(origin),), path, known) == Blame(
        "tier",
        "end of tier default: none of NetworkPolicy shop/web, GlobalNetworkPolicy all allows it (ingress)",
        origin,
    )
    assert blame("cali-tw-x", (describe(origin),), (CHAIN,), NOTHING).sentence == (
        "end of tier default: NetworkPolicy shop/web does not allow it (ingress)"
    )


def test_the_end_of_profiles_names_the_profiles_or_says_that_nothing_allows_it() -> None:
    """An endpoint that nothing speaks for is told apart from one whose profiles do not allow it."""
    origin = Origin("Profile", "", "", "", "egress")
    path = (CHAIN, "cali-pri-other", "cali-pro-kns.shop")
    assert blame("cali-fw-x", (describe(origin),), path, NOTHING).sentence == (
        "no policy decides, end of profiles: Profile kns.shop does not allow it (egress)"
    )
    assert blame("cali-fw-x", (describe(origin),), (), NOTHING).sentence == (
        "no policy decides, end of profiles: nothing allows it (egress)"
    )


def test_a_rule_that_stands_for_several_is_said_to_be_one_of_them() -> None:
    """The numbers of merged rules are kept, and the reader is told to find out which it was."""
    origins = [Origin("NetworkPolicy", "default", "shop", "web", "ingress", rule) for rule in (0, 1, 2, 5)]
    found = blame(CHAIN, (describe_all(origins),), (), NOTHING)
    assert found.sentence == "NetworkPolicy shop/web, ingress rules 0-2, 5, one of these"
    assert found.merged == "ingress"
    assert found.origin == Origin("NetworkPolicy", "default", "shop", "web", "ingress")


def test_a_rule_that_stands_for_rules_of_several_policies_names_the_first_and_the_last() -> None:
    """In the chain of a group nothing in the kernel tells them apart."""
    origins = [Origin("GlobalNetworkPolicy", "default", "", name, "egress", 0) for name in "abc"]
    found = blame("cali-go-x", ("cali:0123456789abcdef", describe_all(origins)), (), NOTHING)
    assert (found.by, found.merged, found.origin) == ("rule", "egress", None)
    assert found.sentence == (
        "one of 3 rules of 3 policies: GlobalNetworkPolicy a tier default egress rule 0"
        " to GlobalNetworkPolicy c tier default egress rule 0"
    )


def test_the_end_of_a_tier_of_many_policies_names_none_of_them() -> None:
    """Where a tier's policies share one chain, those that have chains of their own beside are not the only ones."""
    origin = Origin("Tier", "default", "", "default", "ingress")
    assert blame("cali-tw-x", (describe(origin),), ("cali-gi-x", CHAIN), NOTHING).sentence == (
        "end of tier default: none of the policies that select the endpoint allows it (ingress)"
    )


def test_chains_that_drop_what_others_refuse_are_the_same_policies() -> None:
    """Both chains of a policy are read back, by their names and by the hash of a long one."""
    assert NOTHING.owner("cali-qpi-np/shop/web") == WEB
    assert NOTHING.owner("cali-qpro-kns.shop") == "kns.shop"
    assert Known({LONG: "default"}).owner(names.policy_chain(LONG, "ingress", quiet=True)) == LONG


def test_a_name_too_long_for_the_kernel_is_found_among_those_that_exist() -> None:
    """A comment that was cut and a chain whose name is a hash still lead to the policy."""
    origin = Origin(LONG.kind, "default", "", LONG.name, "egress", 2)
    chain, comment = names.policy_chain(LONG, "egress"), quotable(describe(origin))
    assert comment != describe(origin)
    found = blame(chain, (comment,), (), Known({LONG: "default"}))
    assert found.origin == Origin(LONG.kind, "", "", LONG.name, "egress", None)
    assert found.sentence == f"GlobalNetworkPolicy {LONG.name}, egress"


@pytest.mark.parametrize(
    ("chain", "comment", "origin"),
    [
        ("cali-pro-gone", "Profile gone does not exist", Origin("Profile", "", "", "gone", "egress")),
        (
            CHAIN,
            "NetworkPolicy shop web does not exist",
            Origin("NetworkPolicy", "", "shop", "web", "ingress"),
        ),
    ],
)
def test_what_is_missing_is_said_to_be_missing(chain: str, comment: str, origin: Origin) -> None:
    """A policy or profile that an endpoint names and nobody wrote."""
    found = blame(chain, (comment,), (), NOTHING)
    assert (found.by, found.origin) == ("missing", origin)
    assert "does not exist" in found.sentence


@pytest.mark.parametrize(
    ("chain", "comments", "by", "part"),
    [
        ("cali-rpf", ("False source address",), "host", "spoofed"),
        ("cali-fw-x", ("Packets of no valid flow",), "host", "state invalid"),
        ("cali-from-wl-dispatch", ("Workload interface without endpoint",), "host", "has no endpoint"),
        ("cali-from-wl-dispatch", (), "endpoint", "closed"),
        ("cali-new", ("Something that a later version does",), "host", "Something that a later version does"),
        (CHAIN, None, "host", "a rule of NetworkPolicy shop/web that has been replaced meanwhile"),
        ("cali-x", (), "host", "chain cali-x"),
    ],
)
def test_rules_that_no_resource_brought_are_told_in_words(
    chain: str, comments: tuple[str, ...] | None, by: str, part: str
) -> None:
    """What this host always does, and what is not known any more."""
    found = blame(chain, comments, (), NOTHING)
    assert found.by == by
    assert part in found.sentence


@pytest.mark.parametrize(
    ("place", "comments", "ours"),
    [
        (("ip", "calico", "filter-FORWARD"), (), True),
        (("ip6", "calico", "cali-rpf"), None, True),
        (("inet", "calico", "x"), (), False),
        (("ip", "filter", "cali-FORWARD"), (), True),
        (("ip", "filter", "FORWARD"), ("cali:0123456789abcdef",), True),
        (("ip", "filter", "FORWARD"), ("drop all",), False),
        (("ip", "filter", "DOCKER"), None, False),
    ],
)
def test_our_rules_are_told_from_those_of_others(
    place: tuple[str, str, str], comments: tuple[str, ...] | None, ours: bool
) -> None:
    """By table and chain, and in the chains of iptables by the comment."""
    assert is_ours(*place, comments) is ours


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp dport 80 drop", "rule 'tcp dport 80 drop'"),
        ("", "a rule that is gone"),
        (None, "its policy drop"),
    ],
)
def test_a_foreign_drop_names_table_chain_and_rule(text: str | None, words: str) -> None:
    """The operator learns where to look."""
    assert foreign("inet", "firewalld", "filter_FORWARD", text).sentence == (
        f"table inet firewalld, chain filter_FORWARD, {words}, which is not Calico's"
    )


def test_a_foreign_rules_comment_is_told_where_its_text_leaves_it_out() -> None:
    """nft does not print the comments of iptables."""
    assert foreign("ip", "filter", "FORWARD", "udp dport 1 drop", ("no games",)).sentence == (
        "table ip filter, chain FORWARD, rule 'udp dport 1 drop comment \"no games\"', which is not Calico's"
    )
