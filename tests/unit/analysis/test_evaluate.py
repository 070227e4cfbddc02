"""One endpoint, one direction: tiers, policies, profiles, and the step that decides (behaviour reference 3.1, 3.2)."""

from __future__ import annotations

import pytest

from calico.analysis import Step, Verdict
from calico.analysis.evaluate import Members, Packet, Picture, evaluate
from calico.desired import EndpointRow, PolicyId, SetMember, TierRow
from calico.model.address import parse_address, parse_cidr
from calico.model.policy import Rule
from calico.model.resource import Resource
from support.analysis import judged, world
from support.builders import endpoint, policy, profile, rule, tier

ALLOW, DENY, PASS, LOG = (rule(action) for action in ("Allow", "Deny", "Pass", "Log"))
KNS = profile("kns.default", ingress=[ALLOW], egress=[ALLOW])
PROFILE_ALLOWS = Step("Profile", "", "", "kns.default", 0, "Allow")
NOTHING_ALLOWS = Step("Profile", "", "", "", None, "Deny")


def ingress(*resources: Resource, profiles: tuple[str, ...] = ("kns.default",)) -> Verdict:
    """What the endpoint "db" says to a TCP packet from outside."""
    return judged(*resources, KNS, endpoint("db", address="10.0.0.1", profiles=profiles))


def step(name: str, index: int | None, action: str, tier: str = "default") -> Step:
    return Step("NetworkPolicy", tier, "default", name, index, action)


def end(tier: str, action: str) -> Step:
    return Step("Tier", tier, "", tier, None, action)


def inward(name: str, *rules: Rule, **spec: object) -> Resource:
    return policy(name, ingress=rules, types=("Ingress",), **spec)


def test_without_policy_and_profiles_everything_is_denied() -> None:
    """No policies and no profiles: dropped."""
    assert ingress(profiles=()) == Verdict("deny", (NOTHING_ALLOWS,))


def test_without_policy_profiles_decide() -> None:
    """With no policy the first matching rule of the profiles decides."""
    assert ingress() == Verdict("allow", (PROFILE_ALLOWS,))


def test_a_policy_without_rules_isolates() -> None:
    """A policy that selects an endpoint and matches nothing leads to the end of its tier, which denies."""
    assert ingress(inward("p")) == Verdict("deny", (end("default", "Deny"),))


@pytest.mark.parametrize("types", [("Ingress",), ("Egress",)])
def test_a_policy_counts_in_its_directions_only(types: tuple[str, ...]) -> None:
    """Where a policy's types leave a direction out, that direction is the profiles'."""
    resources = (policy("p", types=types), KNS, endpoint("db", address="10.0.0.1", profiles=["kns.default"]))

    assert judged(*resources).allowed == ("Ingress" not in types)
    assert judged(*resources, direction="egress").allowed == ("Egress" not in types)


def test_a_policy_that_selects_others_does_not_count() -> None:
    """A tier whose policies select other endpoints contributes nothing, its default action included."""
    assert ingress(inward("p", DENY, selector="role == 'web'")).trail == (PROFILE_ALLOWS,)


def test_a_tier_without_policies_does_not_count() -> None:
    """A tier that nothing is in denies nothing."""
    assert ingress(tier("empty", 1.0)).allowed


@pytest.mark.parametrize(("first", "allowed"), [(ALLOW, True), (DENY, False)])
def test_the_first_matching_rule_decides(first: Rule, allowed: bool) -> None:
    """Rules count in the order of the list."""
    verdict = ingress(inward("p", rule("Deny", protocol="UDP"), first, DENY, ALLOW))

    assert verdict == Verdict("allow" if allowed else "deny", (step("p", 1, "Allow" if allowed else "Deny"),))


def test_log_says_something_and_goes_on() -> None:
    """A Log rule is in the trail and decides nothing."""
    assert ingress(inward("p", LOG, DENY)).trail == (step("p", 0, "Log"), step("p", 1, "Deny"))


def test_log_alone_leads_to_the_end_of_the_tier() -> None:
    """A policy that only logs still selects, so the end of its tier denies."""
    assert ingress(inward("p", LOG)).trail == (step("p", 0, "Log"), end("default", "Deny"))


def test_pass_leaves_the_tier() -> None:
    """Pass skips the rest of its policy and of its tier, and goes to the next tier."""
    verdict = ingress(
        tier("first", 1.0),
        inward("a", PASS, DENY, tier="first", order=1.0),
        inward("b", DENY, tier="first", order=2.0),
        inward("c", ALLOW),
    )

    assert verdict == Verdict("allow", (step("a", 0, "Pass", "first"), step("c", 0, "Allow")))


def test_pass_in_the_last_tier_reaches_the_profiles() -> None:
    """After the last tier come the profiles."""
    assert ingress(inward("p", PASS)) == Verdict("allow", (step("p", 0, "Pass"), PROFILE_ALLOWS))


def test_a_tier_may_pass_at_its_end() -> None:
    """A tier's default action Pass leads to the next tier."""
    verdict = ingress(
        tier("first", 1.0, "Pass"), inward("a", rule(protocol="UDP"), tier="first"), inward("b", ALLOW)
    )

    assert verdict.trail == (end("first", "Pass"), step("b", 0, "Allow"))


def test_policies_of_a_tier_are_asked_in_order() -> None:
    """By order, without one last; then by name."""
    verdict = ingress(
        inward("a", LOG), inward("b", LOG), inward("y", LOG, order=2.0), inward("z", LOG, order=1.0)
    )

    assert [each.name for each in verdict.trail] == ["z", "y", "a", "b", "default"]


def test_tiers_are_asked_in_order() -> None:
    """By order, without one as the default tier's; ties by name; those that do not exist last, and they deny."""
    verdict = ingress(
        tier("late", 9.0, "Pass"),
        tier("early", 1.0, "Pass"),
        tier("default", None, "Pass"),
        inward("l", LOG, tier="late"),
        inward("e", LOG, tier="early"),
        inward("d", LOG),
        inward("m", LOG, tier="aaa-missing"),
    )

    assert [each.name for each in verdict.trail if each.kind == "Tier"] == [
        "early",
        "late",
        "default",
        "aaa-missing",
    ]
    assert verdict.trail[-1] == end("aaa-missing", "Deny")


def test_profiles_are_asked_in_the_order_in_which_they_are_listed() -> None:
    """The first profile with a matching rule decides."""
    gold = profile("gold", ingress=[rule("Log"), rule("Deny")])

    assert ingress(gold, profiles=("gold", "kns.default")).trail == (
        Step("Profile", "", "", "gold", 0, "Log"),
        Step("Profile", "", "", "gold", 1, "Deny"),
    )
    assert ingress(gold, profiles=("kns.default", "gold")).trail == (PROFILE_ALLOWS,)


def test_a_missing_profile_denies() -> None:
    """A profile that does not exist denies, whatever is listed after it; what comes before it counts."""
    missing = Step("Profile", "", "", "missing", None, "Deny")

    assert ingress(profiles=("missing", "kns.default")) == Verdict("deny", (missing,))
    assert ingress(profiles=("kns.default", "missing")).trail == (PROFILE_ALLOWS,)


def test_pass_in_a_profile_goes_to_the_next_profile() -> None:
    """As the kernel's chains do: Pass leaves the profile, and after the last profile everything is denied."""
    passing = profile("passing", ingress=[PASS, ALLOW])
    step_ = Step("Profile", "", "", "passing", 0, "Pass")

    assert ingress(passing, profiles=("passing", "kns.default")).trail == (step_, PROFILE_ALLOWS)
    assert ingress(passing, profiles=("kns.default", "passing")).trail == (PROFILE_ALLOWS,)
    assert ingress(passing, profiles=("passing",)) == Verdict("deny", (step_, NOTHING_ALLOWS))


def test_the_built_in_profile_allows_everything() -> None:
    """``projectcalico-default-allow`` is there without being stored."""
    assert ingress(profiles=("projectcalico-default-allow",)).allowed


def test_an_inactive_endpoint_is_closed() -> None:
    """A workload that cannot be enforced as it stands is closed, whatever policy says."""
    broken = endpoint("db", address=["10.0.0.1", "10.0.0.300"], profiles=["kns.default"])

    assert judged(inward("p", ALLOW), KNS, broken) == Verdict(
        "deny", (Step("Endpoint", "", "default", "db", None, "Deny"),)
    )


def test_an_inactive_row_is_closed() -> None:
    """Whoever asks about rows alone gets the same answer, with the interface instead of the name."""
    row = EndpointRow("cali1", (), (), (), ("projectcalico-default-allow",), active=False)
    packet = Packet(parse_address("10.0.0.1"), parse_address("10.0.0.2"), 6)

    verdict = evaluate(Picture({}, {}, Members(())), row, "ingress", packet, workload=True)

    assert verdict == Verdict("deny", (Step("Endpoint", "", "", "cali1", None, "Deny"),))


def test_who_has_lost_the_interface_is_closed() -> None:
    """Of two workloads with one interface the second by name is not enforced, and nothing reaches it."""
    made = world(
        KNS,
        endpoint("a", address="10.0.0.1", interface="cali1", profiles=["kns.default"]),
        endpoint("b", address="10.0.0.2", interface="cali1", profiles=["kns.default"]),
    )

    assert made.decide(source="192.0.2.1", destination="10.0.0.1", protocol="TCP").allowed
    assert made.decide(source="192.0.2.1", destination="10.0.0.2", protocol="TCP").ingress == Verdict(
        "deny", (Step("Endpoint", "", "default", "b", None, "Deny"),)
    )


def test_a_policy_that_is_not_there_denies() -> None:
    """An endpoint's row that names a policy without a row is closed at that policy: missing never means open."""
    missing = PolicyId("NetworkPolicy", "default", "p")
    row = EndpointRow("cali1", (), (TierRow("default", "Pass", (missing,)),), (), ())
    packet = Packet(parse_address("10.0.0.1"), parse_address("10.0.0.2"), 6)

    verdict = evaluate(Picture({}, {}, Members(())), row, "ingress", packet, workload=True)

    assert verdict == Verdict("deny", (step("p", None, "Deny"),))


def test_sets_hold_addresses_and_prefixes_of_both_families() -> None:
    """An address is in a set itself or by any prefix, of its own family only."""
    nets = ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "0.0.0.0/0"]
    members = Members(
        [*(SetMember("s:a", parse_cidr(net)) for net in nets[:3]), SetMember("s:b", parse_cidr(nets[3]))]
    )

    found = {
        text: (
            members.has_address("s:a", parse_address(text)),
            members.has_address("s:b", parse_address(text)),
        )
        for text in ("10.1.2.3", "10.255.0.1", "11.0.0.1", "fd00::1", "fe00::1", "::a01:203")
    }

    assert found == {
        "10.1.2.3": (True, True),
        "10.255.0.1": (True, True),
        "11.0.0.1": (False, True),
        "fd00::1": (True, False),
        "fe00::1": (False, False),
        "::a01:203": (False, False),
    }
