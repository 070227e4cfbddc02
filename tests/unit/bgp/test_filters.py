"""What BGPFilters become: rules in BIRD's words, each for its session, family and direction."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from calico.bgp.bird import render
from calico.bgp.filters import parse_community
from calico.model.bgp import BGPConfigurationSpec, PrefixAdvertisement
from support.speakers import configuration, node, peer, pool, route_filter, session, speaker

BIRD = shutil.which("bird", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
HERE = node("a", "10.0.0.1", "fd00::1")
TWO_THINGS = {"addCommunity": {"value": "1:2"}, "setPriority": {"value": 1}}
BACKWARDS = {"cidr": "10.0.0.0/8", "matchOperator": "NotIn", "prefixLength": {"min": 28, "max": 24}}
RACK = {"peer_ip": "10.0.0.254", "as_number": 65001}


def body(rule: dict[str, Any], direction: str = "exportV4") -> list[str]:
    """The statements of a filter of one rule."""
    wanted = route_filter("f", **{direction: [rule]})
    text = render(speaker("a", HERE, peer("rack", filters=["f"], **RACK), wanted))
    name = f"function 'bgp_f_{direction[:6]}Filter{direction[6:]}'(bool is_internal) {{\n"
    return [line.strip() for line in text.partition(name)[2].partition("\n}")[0].splitlines()]


@pytest.mark.parametrize(
    ("match", "condition"),
    [
        ({"cidr": "10.1.0.0/16", "matchOperator": "Equal"}, "net = 10.1.0.0/16"),
        ({"cidr": "10.1.0.0/16", "matchOperator": "NotEqual"}, "!(net = 10.1.0.0/16)"),
        ({"cidr": "10.1.0.0/16", "matchOperator": "In"}, "net ~ 10.1.0.0/16"),
        ({"cidr": "10.1.0.0/16", "matchOperator": "NotIn"}, "!(net ~ 10.1.0.0/16)"),
        (
            {"cidr": "10.1.0.0/16", "matchOperator": "In", "prefixLength": {"min": 24}},
            "net ~ 10.1.0.0/16 && net.len >= 24 && net.len <= 32",
        ),
        (
            {"cidr": "10.1.0.0/16", "matchOperator": "NotIn", "prefixLength": {"max": 28}},
            "!(net ~ 10.1.0.0/16 && net.len >= 0 && net.len <= 28)",
        ),
        ({"source": "RemotePeers"}, "source = RTS_BGP"),
        ({"interface": "*.calico"}, 'ifname ~ "*.calico"'),
        ({"peerType": "eBGP"}, "!is_internal"),
        ({"peerType": "iBGP"}, "is_internal"),
        ({"communities": {"values": ["65000:100"]}}, "(65000, 100) ~ bgp_community"),
        ({"communities": {"values": ["65000:1:2"]}}, "(65000, 1, 2) ~ bgp_large_community"),
        ({"asPathPrefix": [65000, "1.1"]}, "bgp_path ~ [= 65000 65537 * =]"),
        ({"priority": 512}, "defined(bgp_local_pref) && bgp_local_pref = 2147483135"),
    ],
)
def test_each_match(match: dict[str, Any], condition: str) -> None:
    """Each field of a rule is one condition."""
    assert body({"action": "Reject", **match}) == [f"if {condition} then {{ reject; }}"]


def test_matches_of_one_rule_go_together() -> None:
    """A rule matches where all of its fields do, in a fixed order."""
    rule = {
        "action": "Accept",
        "peerType": "iBGP",
        "source": "RemotePeers",
        "cidr": "10.0.0.0/8",
        "matchOperator": "In",
    }

    assert body(rule) == ["if net ~ 10.0.0.0/8 && source = RTS_BGP && is_internal then { accept; }"]


@pytest.mark.parametrize(
    ("operation", "statements"),
    [
        ({"addCommunity": {"value": "65000:1"}}, "bgp_community.add((65000, 1));"),
        ({"addCommunity": {"value": "65000:1:2"}}, "bgp_large_community.add((65000, 1, 2));"),
        ({"prependASPath": {"prefix": [1, 2]}}, "bgp_path.prepend(2); bgp_path.prepend(1);"),
        ({"setPriority": {"value": 512}}, "bgp_local_pref = 2147483135;"),
    ],
)
def test_each_operation(operation: dict[str, Any], statements: str) -> None:
    """An operation changes a route before it is accepted; AS numbers end up in the order that they are written in."""
    assert body({"action": "Accept", "operations": [operation]}) == [f"{statements} accept;"]


def test_what_is_taken_in_is_judged_by_its_priority() -> None:
    """A route that a filter accepts from a peer is believed as its priority says, which the filter may have set."""
    rule = {"action": "Accept", "operations": [{"setPriority": {"value": 512}}]}

    assert body(rule, "importV4") == ["bgp_local_pref = 2147483135; believe4();"]


def test_filters_are_applied_in_order_before_our_own_rules() -> None:
    """The peer's filters come in the order that it names them, each once, then what holds for all peers."""
    rules = {"exportV4": [{"action": "Reject"}]}
    planned = speaker(
        "a",
        HERE,
        peer("rack", filters=["second", "first", "second"], **RACK),
        route_filter("first", **rules),
        route_filter("second", **rules),
    )
    text = render(planned)

    assert [one.name for one in planned.filters] == ["first", "second"]
    assert (
        "filter export4_Global_10_0_0_254 {\n"
        "  prioritise4();\n"
        "  'bgp_second_exportFilterV4'(false);\n"
        "  'bgp_first_exportFilterV4'(false);\n"
        "  announce4();\n"
        "}\n"
    ) in text
    assert (
        "    import filter import4_Global_10_0_0_254;\n    export filter export4_Global_10_0_0_254;\n" in text
    )


def test_a_changed_filter_leaves_the_protocol_as_it_is() -> None:
    """Whatever a filter says, the session's own text is the same: BIRD judges routes anew, and ends no session."""

    def protocol(**rules: Any) -> str:
        text = render(speaker("a", HERE, peer("rack", filters=["f"], **RACK), route_filter("f", **rules)))
        return text.partition("protocol bgp ")[2]

    assert protocol(importV4=[{"action": "Reject"}]) == protocol()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (None, "does not exist"),
        ({"exportV4": [{"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}]}, "not of IPv4"),
        ({"exportV4": [{"action": "Accept", "cidr": "10.0.0.0/8"}]}, "go together"),
        ({"exportV6": [{"action": "Accept", "prefixLength": {"min": 1}}]}, "needs a cidr"),
        ({"importV6": [{"action": "Accept", "communities": {"values": []}}]}, "exactly one"),
        ({"importV4": [{"action": "Accept", "communities": {"values": ["1:70000"]}}]}, "no community"),
        ({"importV4": [{"action": "Accept", "operations": [{}]}]}, "an operation needs"),
        ({"importV4": [{"action": "Reject", "operations": [{}]}]}, "go with Accept only"),
        ({"importV4": [{"action": "Accept", "priority": 0}]}, "priority is 0"),
        ({"importV4": [{"action": "Accept", "interface": 'eth"0'}]}, "no pattern for interfaces"),
        ({"importV4": [{"action": "Accept", "interface": "eth0\n"}]}, "no pattern for interfaces"),
        ({"importV4": [{"action": "Accept", "interface": '" then accept; if ifname ~ "'}]}, "no pattern"),
        ({"importV4": [{"action": "Accept", "operations": [TWO_THINGS]}]}, "only one thing"),
        ({"exportV4": [{"action": "Accept", **BACKWARDS}]}, "more than max"),
    ],
)
def test_a_filter_that_is_not_understood_lets_nothing_pass(rules: dict[str, Any] | None, reason: str) -> None:
    """The session stays, without a route in either direction, and the problem names the filter."""
    more = [] if rules is None else [route_filter("f", **rules)]
    planned = speaker("a", HERE, peer("rack", filters=["f"], **RACK), *more)

    assert session(planned, "Global_10_0_0_254").filters == ("f",)
    [problem] = planned.problems
    assert problem.subject == "BGPFilter/f"
    assert reason in problem.message
    for direction in ("import", "export"):
        name = f"function 'bgp_f_{direction}FilterV4'(bool is_internal) {{\n"
        assert render(planned).partition(name)[2].startswith("  reject;")


def test_a_filter_that_nobody_names_is_not_written() -> None:
    """Filters of other nodes' peers are no part of the configuration, and none of its problems."""
    planned = speaker("a", HERE, route_filter("f", exportV4=[{"action": "Accept", "cidr": "x"}]))

    assert planned.filters == ()
    assert planned.problems == ()


def test_communities_of_prefixes() -> None:
    """Prefixes are announced with communities, by value or by name; what makes no sense is a problem."""
    known = [{"name": "rack", "value": "65000:7"}]
    advertised = [
        {"cidr": "10.65.0.0/16", "communities": ["rack", "65000:1:2"]},
        {"cidr": "10.66.0.0/16", "communities": ["unknown"]},
    ]
    spec = convert({"communities": known, "prefixAdvertisements": advertised}, BGPConfigurationSpec)
    settings = configuration(communities=spec.communities, prefix_advertisements=spec.prefix_advertisements)
    planned = speaker("a", HERE, settings, pool("p", "10.65.0.0/16"))

    assert [problem.subject for problem in planned.problems] == ["BGPConfiguration/default"]
    assert (
        "  if net ~ 10.65.0.0/16 then { bgp_community.add((65000, 7)); bgp_large_community.add((65000, 1, 2)); }\n"
    ) in render(planned)


def test_communities_of_one_node() -> None:
    """A node's own configuration says instead of the default's what its prefixes are announced with."""

    def of(community: str) -> dict[str, Any]:
        return {"prefix_advertisements": [PrefixAdvertisement(cidr="10.0.0.0/8", communities=[community])]}

    world = (HERE, configuration(**of("1:1")), configuration("node.a", **of("2:2")))

    [one] = speaker("a", *world).advertisements
    [other] = speaker("b", *world, node("b", "10.0.0.2")).advertisements
    assert (one.communities, other.communities) == (((2, 2),), ((1, 1),))


@pytest.mark.parametrize(
    "text", ["", "1", "1:2:3:4", "-1:2", "65536:1", "1:4294967296:1", "a:b", "1:", "٣:1"]
)
def test_bad_community(text: str) -> None:
    """What is no community is refused by name."""
    with pytest.raises(ValueError, match="is no community"):
        parse_community(text)


@pytest.mark.skipif(BIRD is None, reason="needs BIRD 2 (package bird2)")
def test_bird_accepts_every_rule(tmp_path: Path) -> None:
    """All that a filter can say is BIRD's language, also in filters whose names are long or odd."""
    matches: list[dict[str, Any]] = [
        {},
        {"cidr": "10.1.0.0/16", "matchOperator": "NotIn", "prefixLength": {"min": 8, "max": 24}},
        {"cidr": "10.1.0.0/16", "matchOperator": "NotEqual", "source": "RemotePeers", "interface": "eth*"},
        {"peerType": "eBGP", "communities": {"values": ["1:2"]}, "asPathPrefix": [1, 4294967295]},
        {"communities": {"values": ["1:2:3"]}, "priority": 2147483646},
    ]
    changes = [
        {"addCommunity": {"value": "1:2"}},
        {"addCommunity": {"value": "4294967295:0:1"}},
        {"prependASPath": {"prefix": [4294967295, 1]}},
        {"setPriority": {"value": 1}},
    ]
    four = [{"action": "Reject", **match} for match in matches]
    four += [{"action": "Accept", "operations": changes, **match} for match in matches[::-1]]
    six = [
        {"action": "Accept", "operations": changes, "cidr": "fd00::/8", "matchOperator": "Equal"},
        *four[3:],
    ]
    six = [rule for rule in six if not rule.get("cidr", "").startswith("10.")]
    rules = {"exportV4": four[1:], "importV4": four[1:], "exportV6": six, "importV6": six}
    names = ["f", "a.b-c", "x" * 60, "x" * 61]
    world = [route_filter(name, **rules) for name in names]
    peers = [peer(ip, peer_ip=ip, as_number=65001, filters=names) for ip in ("10.0.0.254", "fd00::254")]
    file = tmp_path / "bird.conf"
    planned = speaker("a", HERE, *peers, *world)
    file.write_text(render(planned))

    done = subprocess.run(
        [str(BIRD), "-p", "-c", file], check=False, capture_output=True, text=True, timeout=10
    )

    assert planned.problems == ()
    assert (done.returncode, done.stderr) == (0, "")
