"""Which policies and profiles apply to an endpoint of this node, and in which order."""

from __future__ import annotations

import pytest

from calico.desired import EndpointRow, Layer, TierRow
from calico.model.address import parse_cidr
from support.builders import elsewhere, endpoint, here, host_endpoint, policy, profile, rule, tier
from support.world import NOTHING, World, policy_id


def test_an_endpoint_without_policy_has_only_its_profiles() -> None:
    """All that is said of a lone endpoint: where it is, and its profiles, existing or not."""
    world = World(
        endpoint("w", address=["10.0.0.1/32", "fd00::1"], profiles=["kns.default", "missing"], mac="ee:ee")
    )
    assert world.endpoint("w") == EndpointRow(
        interface="cali-w",
        addresses=(parse_cidr("10.0.0.1"), parse_cidr("fd00::1")),
        ingress=(),
        egress=(),
        profiles=("kns.default", "missing"),
        mac="ee:ee",
    )


def test_endpoints_elsewhere_are_not_bound() -> None:
    """Other nodes' endpoints have no row here, whether workloads or hosts."""
    world = World(
        policy("p"),
        endpoint("w", elsewhere, address="10.0.0.1"),
        host_endpoint("h", elsewhere, interface="eth0"),
        host_endpoint("all", elsewhere, interface="*"),
    )
    assert world.state.endpoints == {}
    assert world.state.policies == {}


def test_tiers_come_in_order_and_missing_ones_last() -> None:
    """Tiers go by order, then name; those without an order follow; those that do not exist end the list, denying."""
    world = World(
        tier("b", 1.0),
        tier("a", 1.0, "Pass"),
        tier("first", -5.0),
        tier("unordered"),
        *[policy(f"in-{name}", tier=name) for name in ("missing", "unordered", "b", "absent", "first", "a")],
        endpoint("w"),
    )
    row = world.endpoint("w")
    assert row is not None
    assert [each.name for each in row.ingress] == ["first", "a", "b", "unordered", "absent", "missing"]
    assert [each.default_action for each in row.ingress] == ["Deny", "Pass", *["Deny"] * 4]


def test_the_default_tier_needs_no_resource() -> None:
    """It stands at 1,000,000 and denies unless a resource says otherwise, also one without an order."""
    world = World(
        tier("before", 999_999.0),
        tier("after", 1_000_001.0),
        *[policy(f"in-{name}", tier=name) for name in ("missing", "after", "default", "before")],
        endpoint("w"),
    )
    order = ["before", "default", "after", "missing"]
    assert [name for name, _ in world.order("w")] == order

    world.add(tier("default", None, "Pass"))
    assert [name for name, _ in world.order("w")] == order
    row = world.endpoint("w")
    assert row is not None
    assert row.ingress[1].default_action == "Pass"

    world.remove("default")
    row = world.endpoint("w")
    assert row is not None
    assert row.ingress[1].default_action == "Deny"


def test_policies_come_in_order_within_a_tier() -> None:
    """By order, those without one last, ties by name, then namespace, then kind."""
    world = World(
        policy("last"),
        policy("b", order=1.0),
        policy("a", order=1.0),
        policy("a", namespace=None, order=1.0),
        policy("z", order=0.5),
        policy("early", order=-1.0),
        endpoint("w"),
    )
    row = world.endpoint("w")
    assert row is not None
    assert row.ingress == (
        TierRow(
            "default",
            "Deny",
            (
                policy_id("early"),
                policy_id("z"),
                policy_id("a", ""),
                policy_id("a"),
                policy_id("b"),
                policy_id("last"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("types", "ingress", "egress"),
    [
        ((), True, True),
        (("Ingress",), True, False),
        (("Egress",), False, True),
        (("Ingress", "Egress"), True, True),
    ],
)
def test_types_say_for_which_direction(types: tuple[str, ...], ingress: bool, egress: bool) -> None:
    """A policy counts in the directions of its types; stored without types, in both."""
    world = World(policy("p", types=types, ingress=[rule()], egress=[rule()]), endpoint("w"))
    row, rules = world.endpoint("w"), world.policy("p")
    assert row is not None
    assert rules is not None
    assert (bool(row.ingress), bool(row.egress)) == (ingress, egress)
    assert (bool(rules.ingress), bool(rules.egress)) == (ingress, egress)


def test_a_tier_counts_only_where_a_policy_of_it_applies() -> None:
    """Policies for one direction, or for others, bring nothing of their tier to an endpoint."""
    world = World(
        tier("default", 1.0),
        policy("in", types=["Ingress"], selector="app == 'web'"),
        endpoint("web", labels={"app": "web"}),
        endpoint("db", labels={"app": "db"}),
    )
    assert world.order("web") == [("default", ["in"])]
    assert world.order("web", "egress") == []
    assert world.order("db") == []


def test_namespaces_bound_policies() -> None:
    """A NetworkPolicy applies in its own namespace, and never to a host endpoint, whatever labels claim."""
    world = World(
        policy("p", namespace="red", selector="all()"),
        endpoint("mine", namespace="red"),
        endpoint("other", namespace="blue", labels={"projectcalico.org/namespace": "red"}),
        host_endpoint(
            "h", interface="eth0", labels={"projectcalico.org/namespace": "red"}, profiles=["claims"]
        ),
        profile("claims", gives={"projectcalico.org/namespace": "red"}),
    )
    assert world.order("mine") == [("default", ["p"])]
    assert world.order("other") == []
    assert world.order("h") == []


def test_a_global_policy_binds_hosts_too() -> None:
    """Host endpoints of this node are bound as workloads are."""
    world = World(
        policy("p", namespace=None, selector="role == 'host'", apply_on_forward=True),
        host_endpoint("h", interface="eth0", labels={"role": "host"}, address="192.0.2.1"),
    )
    assert world.order("h") == [("default", ["p"])]
    assert world.routes() == {}


BOTH_WAYS = ("ingress", "egress")
LAYERS: tuple[Layer, ...] = ("normal", "forward", "pre-dnat", "untracked")


def layers(world: World, name: str) -> dict[str, list[str]]:
    """In which layers and directions an endpoint has policies, and their names."""
    row = world.endpoint(name)
    assert row is not None
    found = {
        f"{layer} {direction}": [id_.name for tier in row.tiers(layer, direction) for id_ in tier.policies]
        for layer in LAYERS
        for direction in BOTH_WAYS
    }
    return {place: names for place, names in found.items() if names}


@pytest.mark.parametrize(
    ("fields", "named", "others"),
    [
        ({}, ("normal",), ("normal",)),
        ({"apply_on_forward": True}, ("normal", "forward"), ("normal", "forward")),
        ({"apply_on_forward": True, "do_not_track": True}, ("untracked",), ()),
    ],
    ids=["plain", "forward", "untracked"],
)
def test_a_policy_stands_in_the_layers_where_it_acts(
    fields: dict[str, bool], named: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """What a policy says of itself decides its layers; untracked ones need an interface's own endpoint."""

    def both_ways(layers: tuple[str, ...]) -> dict[str, list[str]]:
        return {f"{layer} {direction}": ["p"] for layer in layers for direction in BOTH_WAYS}

    world = World(
        policy("p", namespace=None, **fields),
        host_endpoint("named", interface="eth0"),
        host_endpoint("others", interface="*"),
    )
    assert layers(world, "named") == both_ways(named)
    assert layers(world, "others") == both_ways(others)

    world.add(host_endpoint("others", interface="eth1"))
    assert layers(world, "others") == both_ways(named)
    assert world.remove("named", "others").policies == {policy_id("p", ""): None}


@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_policy_before_nat_knows_no_egress(interface: str) -> None:
    """One whose types do not say, as stored by others, is for what comes in only."""
    world = World(
        policy("p", namespace=None, pre_dnat=True, apply_on_forward=True),
        host_endpoint("h", interface=interface),
    )
    assert layers(world, "h") == {"pre-dnat ingress": ["p"]}


@pytest.mark.parametrize("fields", [{"do_not_track": True}, {"pre_dnat": True}])
def test_workloads_know_the_normal_layer_only(fields: dict[str, bool]) -> None:
    """Untracked and pre-DNAT policies are not for workloads; applyOnForward makes no difference to them."""
    world = World(
        policy("p", namespace=None, **fields),
        policy("q", namespace=None, apply_on_forward=True),
        endpoint("w"),
    )
    assert layers(world, "w") == {"normal ingress": ["q"], "normal egress": ["q"]}


def test_a_policy_that_changes_its_hook_moves() -> None:
    """Setting and taking away applyOnForward and doNotTrack moves the policy between layers at once."""
    world = World(policy("p", namespace=None), host_endpoint("h", interface="eth0"))
    for fields, expected in (
        ({"apply_on_forward": True}, {"normal", "forward"}),
        ({"apply_on_forward": True, "do_not_track": True}, {"untracked"}),
        ({"apply_on_forward": True, "pre_dnat": True}, {"pre-dnat"}),
        ({}, {"normal"}),
    ):
        world.add(policy("p", namespace=None, **fields))
        assert {place.split()[0] for place in layers(world, "h")} == expected


def test_namespace_labels_come_through_the_profile() -> None:
    """A policy that selects namespaces follows the labels that the namespace's profile gives."""
    world = World(
        policy("p", namespace=None, namespace_selector="team == 'x'"),
        profile("kns.red", gives={"pcns.team": "x"}),
        endpoint("w", namespace="red", profiles=["kns.red"]),
        endpoint("forger", namespace="blue", labels={"pcns.team": "x"}),
    )
    assert world.order("w") == [("default", ["p"])]
    assert world.order("forger") == []

    world.add(profile("kns.red", gives={"pcns.team": "y"}))
    assert world.order("w") == []


def test_own_labels_win_and_then_the_first_profile() -> None:
    """An inherited label yields to the endpoint's own, and a later profile's to an earlier one's."""
    world = World(
        policy("own", selector="a == 'own'"),
        policy("first", selector="b == 'first'"),
        profile("one", gives={"a": "first", "b": "first"}),
        profile("two", gives={"a": "second", "b": "second"}),
        endpoint("w", labels={"a": "own"}, profiles=["one", "two"]),
    )
    assert world.order("w") == [("default", ["first", "own"])]


def test_a_profile_may_give_labels_that_others_wear_already() -> None:
    """An endpoint that comes to wear the labels of its neighbour comes under its policies."""
    world = World(
        policy("p", selector="app == 'web'"),
        endpoint("web", labels={"app": "web"}),
        endpoint("plain", profiles=["gives"]),
        endpoint("other"),
    )
    world.add(profile("gives", gives={"app": "web"}))
    assert world.order("plain") == world.order("web") == [("default", ["p"])]


def test_service_accounts_select_by_what_the_resource_says() -> None:
    """An endpoint's service account is that of its spec: a label cannot claim it."""
    world = World(
        policy("p", namespace=None, selector="projectcalico.org/serviceaccount == 'robot'"),
        endpoint("robot", service_account_name="robot"),
        endpoint("forger", labels={"projectcalico.org/serviceaccount": "robot"}),
    )
    assert world.order("robot") == [("default", ["p"])]
    assert world.order("forger") == []


def test_only_what_some_endpoint_needs_is_active() -> None:
    """Policies and profiles come with the first local endpoint that needs them, and go with the last."""
    world = World(
        policy("p", selector="app == 'web'"),
        profile("used"),
        profile("unused"),
        endpoint("far", elsewhere, labels={"app": "web"}, profiles=["unused"]),
    )
    assert (world.state.policies, world.state.profiles) == ({}, {})

    world.add(
        endpoint("one", labels={"app": "web"}, profiles=["used"]), endpoint("two", labels={"app": "web"})
    )
    assert set(world.state.policies) == {policy_id("p")}
    assert set(world.state.profiles) == {"used"}

    world.remove("one")
    assert set(world.state.policies) == {policy_id("p")}
    assert world.state.profiles == {}

    world.remove("two")
    assert world.state.policies == {}


def test_a_missing_profile_is_named_and_has_no_row() -> None:
    """A profile that does not exist stays in the endpoint's list, so that whoever renders it can deny."""
    world = World(endpoint("w", profiles=["later"]))
    assert world.state.profiles == {}

    delta = world.add(profile("later", ingress=[rule()]))
    assert set(delta.profiles) == {"later"}
    assert delta.endpoints == {}

    delta = world.remove("later")
    assert delta.profiles == {"later": None}


def test_the_allowing_profile_needs_no_resource() -> None:
    """The built-in profile allows everything both ways, and a stored one of its name is not asked."""
    name = "projectcalico-default-allow"
    world = World(endpoint("w", profiles=[name]))
    row = world.state.profiles[name]
    assert [each.action for each in (*row.ingress, *row.egress)] == ["Allow", "Allow"]

    assert world.add(profile(name, ingress=[rule("Deny")])) == NOTHING
    assert world.remove(name) == NOTHING


def test_of_two_workloads_on_one_interface_the_first_counts() -> None:
    """The lower name has the interface; the other waits in its shadow, and takes over."""
    world = World(
        endpoint("b", interface="cali1", address="10.0.0.2"),
        endpoint("a", interface="cali1", address="10.0.0.1"),
    )
    assert [id_.name for id_ in world.state.endpoints] == ["a"]
    assert world.routes() == {"10.0.0.1/32": "cali1"}

    world.remove("a")
    assert [id_.name for id_ in world.state.endpoints] == ["b"]
    assert world.routes() == {"10.0.0.2/32": "cali1"}


def test_host_endpoints_do_not_shadow_each_other() -> None:
    """Which host endpoint governs an interface is decided where interfaces are known, so all of them are there."""
    world = World(
        host_endpoint("a", interface="eth0"),
        host_endpoint("b", interface="eth0"),
        endpoint("w", interface="eth0"),
    )
    assert {id_.name for id_ in world.state.endpoints} == {"a", "b", "w"}


def test_an_unusable_workload_is_closed() -> None:
    """A local workload with an address that is none keeps its interface and loses everything else."""
    world = World(policy("p"), endpoint("w", address=["10.0.0.1", "10.0.0.300"], profiles=["kns.default"]))
    assert world.endpoint("w") == EndpointRow("cali-w", (), (), (), (), active=False)
    assert world.routes() == {}
    (problem,) = world.network.problems.values()
    assert problem.startswith("WorkloadEndpoint/default/w: closed entirely: '10.0.0.300'")

    world.add(endpoint("w", address="10.0.0.1"))
    assert world.order("w") == [("default", ["p"])]
    assert world.network.problems == {}


def test_a_closed_workload_yields_its_interface() -> None:
    """An unusable workload does not keep a usable one from their interface, whatever their names."""
    world = World(
        endpoint("a", interface="cali1", address="nonsense"),
        endpoint("b", interface="cali1", address="10.0.0.2"),
    )
    assert [id_.name for id_ in world.state.endpoints] == ["b"]


def test_tier_and_policy_changes_rebind() -> None:
    """A new order, tier or default action is seen by every endpoint that it concerns."""
    world = World(
        tier("one", 1.0), tier("two", 2.0), policy("p", tier="one"), policy("q", tier="two"), endpoint("w")
    )
    assert [name for name, _ in world.order("w")] == ["one", "two"]

    world.add(tier("one", 3.0, "Pass"))
    assert [name for name, _ in world.order("w")] == ["two", "one"]

    world.add(policy("p", tier="two", order=1.0))
    assert world.order("w") == [("two", ["p", "q"])]

    world.remove("two")
    assert world.order("w") == [("two", ["p", "q"])]


def test_a_changed_rule_leaves_the_endpoint_alone() -> None:
    """New rules of a policy are a new row of the policy, and nothing else."""
    world = World(policy("p", ingress=[rule()]), endpoint("w", here))
    delta = world.add(policy("p", ingress=[rule("Deny")]))
    assert set(delta.policies) == {policy_id("p")}
    assert delta.endpoints == {}
