"""The host endpoints that nodes get by themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from calico.calculation.automatic import CREATED_BY, CREATOR, NOTHING, alike, automatic, is_automatic
from calico.model import codec
from calico.model.cluster import KubeControllersConfiguration
from calico.model.endpoint import HostEndpoint
from calico.model.keys import key_of
from calico.model.node import Node
from calico.model.validation import defaulted, problems_of
from support.builders import host_endpoint

NODE: dict[str, Any] = {
    "bgp": {
        "ipv4Address": "172.16.0.1/24",
        "ipv6Address": "fd00:16::1/64",
        "ipv4IPIPTunnelAddr": "10.65.0.1",
    },
    "ipv4VXLANTunnelAddr": "10.65.0.2",
    "ipv6VXLANTunnelAddr": "fd65::2",
    "wireguard": {"interfaceIPv4Address": "10.65.0.3", "interfaceIPv6Address": "fd65::3"},
    "addresses": [
        {"address": "172.16.0.1/24", "type": "CalicoNodeIP"},
        {"address": "172.16.0.1", "type": "InternalIP"},
        {"address": "172.17.0.1", "type": "InternalIP"},
        {"address": "203.0.113.1", "type": "ExternalIP"},
        {"address": "host.example.com", "type": "InternalIP"},
    ],
    "interfaces": [
        {"name": "eth0", "addresses": ["172.16.0.1"]},
        {"name": "eth1", "addresses": ["172.18.0.1"]},
    ],
}
LABELS = {"role": "db", "kubernetes.io/hostname": "one"}


def node(name: str = "one", spec: dict[str, Any] | None = None, **labels: str) -> Node:
    metadata = {"name": name, "labels": labels or LABELS}
    tree = {"kind": "Node", "metadata": metadata, "spec": NODE if spec is None else spec}
    return convert({"apiVersion": "projectcalico.org/v3", **tree}, Node)


def asking(**host_endpoints: Any) -> KubeControllersConfiguration:
    spec = {"controllers": {"node": {"hostEndpoint": {"autoCreate": "Enabled", **host_endpoints}}}}
    tree = {"kind": "KubeControllersConfiguration", "metadata": {"name": "default"}, "spec": spec}
    return convert({"apiVersion": "projectcalico.org/v3", **tree}, KubeControllersConfiguration)


def addresses(made: HostEndpoint) -> list[str]:
    return made.spec.expected_ips


def templates(*given: dict[str, Any]) -> KubeControllersConfiguration:
    """A configuration with these templates, and without the endpoint for all interfaces."""
    return asking(createDefaultHostEndpoint="Disabled", templates=list(given))


def test_every_interface_of_a_node_gets_one() -> None:
    """Named after the node, with its labels and all its own addresses, tunnels' too, and open by its profile."""
    wanted = automatic(node(), asking())

    assert wanted.problems == ()
    assert wanted.endpoints == {
        "one-auto-hep": host_endpoint(
            "one-auto-hep",
            "one",
            labels={**LABELS, CREATED_BY: CREATOR},
            interface="*",
            address=[
                "172.16.0.1", "fd00:16::1", "10.65.0.1", "10.65.0.2", "fd65::2", "10.65.0.3", "fd65::3",
                "172.17.0.1", "172.18.0.1",
            ],
            profiles=["projectcalico-default-allow"],
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        asking(autoCreate="Disabled"),
        asking(autoCreate=None),
        convert(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "KubeControllersConfiguration",
                "metadata": {"name": "default"},
                "spec": {},
            },
            KubeControllersConfiguration,
        ),
        asking(createDefaultHostEndpoint="Disabled"),
    ],
)
def test_nothing_is_made_unless_it_is_asked_for(configuration: KubeControllersConfiguration | None) -> None:
    """Nothing said is Disabled; and without the endpoint for all interfaces templates alone count."""
    assert automatic(node(), configuration) == NOTHING


def test_a_node_without_addresses_gets_one_for_all_interfaces() -> None:
    """Which governs, and which no selector in a rule finds by an address."""
    (made,) = automatic(node(spec={}), asking()).endpoints.values()
    assert (made.spec.interface_name, made.spec.expected_ips) == ("*", [])


def test_a_template_makes_one_of_the_addresses_that_it_asks_for() -> None:
    """Those within its prefixes, without an interface's name; its labels win over the node's, but not over ours."""
    template = {
        "generateName": "inside",
        "interfaceCIDRs": ["172.16.0.0/15", "fd65::/16"],
        "labels": {"role": "edge", "zone": "a", CREATED_BY: "me"},
        "annotations": {"example.com/why": "inside"},
    }
    (made,) = automatic(node(), templates(template)).endpoints.values()

    assert made.metadata.name == "one-inside-auto-hep"
    assert made.metadata.labels == {**LABELS, "role": "edge", "zone": "a", CREATED_BY: CREATOR}
    assert made.metadata.annotations == {"example.com/why": "inside"}
    assert made.spec.interface_name == ""
    assert addresses(made) == ["172.16.0.1", "fd65::2", "fd65::3", "172.17.0.1"]


def test_a_template_is_for_the_nodes_that_it_selects() -> None:
    """By the node's labels; without a selector it is for all."""
    template = {"generateName": "t", "interfaceCIDRs": ["0.0.0.0/0"]}

    for selector, matches in (("", True), ("role == 'db'", True), ("role == 'web'", False)):
        wanted = automatic(node(), templates({**template, "nodeSelector": selector}))
        assert bool(wanted.endpoints) == matches


def test_a_template_without_an_address_makes_none() -> None:
    """It would be about no interface at all."""
    for cidrs in ([], ["192.0.2.0/24"]):
        assert automatic(node(), templates({"generateName": "t", "interfaceCIDRs": cidrs})) == NOTHING


def test_a_pattern_makes_one_for_each_interface_that_it_finds() -> None:
    """Each with the interface's name and addresses, besides those within the prefixes."""
    template = {"generateName": "t", "interfacePattern": "^eth", "interfaceCIDRs": ["10.65.0.1/32"]}
    made = automatic(node(), templates(template)).endpoints

    assert {name: (each.spec.interface_name, addresses(each)) for name, each in made.items()} == {
        "one-t-eth0-auto-hep": ("eth0", ["10.65.0.1", "172.16.0.1"]),
        "one-t-eth1-auto-hep": ("eth1", ["10.65.0.1", "172.18.0.1"]),
    }
    assert automatic(node(), templates({**template, "interfacePattern": "^bond"})) == NOTHING


def test_an_interface_whose_name_cannot_be_part_of_a_name_is_told() -> None:
    """What could not be stored is not made, and the rest is."""
    spec = {"interfaces": [{"name": "Eth_0", "addresses": []}, {"name": "eth1", "addresses": []}]}
    wanted = automatic(node(spec=spec), templates({"generateName": "t", "interfacePattern": "."}))

    assert list(wanted.endpoints) == ["one-t-eth1-auto-hep"]
    (problem,) = wanted.problems
    assert problem.startswith("the automatic host endpoint one-t-Eth_0-auto-hep is not made: ")


@pytest.mark.parametrize(
    "broken",
    [
        {"generateName": "x", "nodeSelector": "role =="},
        {"generateName": "x", "interfacePattern": "("},
        {"generateName": "x", "interfaceCIDRs": ["10.0.0.0/99"]},
        {"interfacePattern": "eth0"},
        {"interfaceCIDRs": ["0.0.0.0/0"]},
    ],
)
def test_a_template_that_cannot_be_read_keeps_no_other_from_its_own(broken: dict[str, Any]) -> None:
    """Others may have stored it so; it is told of."""
    good = {"generateName": "good", "interfaceCIDRs": ["172.16.0.0/16"]}
    wanted = automatic(node(), templates(broken, good))

    assert list(wanted.endpoints) == ["one-good-auto-hep"]
    assert len(wanted.problems) == 1


def test_a_name_that_is_too_long_is_a_digest() -> None:
    """As Calico makes it: it ends in the same letters, is of one length, and differs between nodes."""
    long = [f"{'n' * 200}-{number}" for number in (1, 2)]
    template = {"generateName": "t" * 60, "interfaceCIDRs": ["0.0.0.0/0"]}
    names = [name for each in long for name in automatic(node(each), templates(template)).endpoints]

    assert len(set(names)) == 2
    assert all(re.fullmatch("[a-z0-9]{30,43}-auto-hep", name) for name in names)


NAMES = st.sampled_from(["one", "a.b", "n" * 250])
TEXTS = st.sampled_from(["", "172.16.0.9", "fd00::9/64", "nonsense"])
SPECS = st.builds(
    lambda bgp, vxlan, inner, interfaces: {
        "bgp": {"ipv4Address": bgp},
        "ipv4VXLANTunnelAddr": vxlan,
        "addresses": [{"address": each, "type": "InternalIP"} for each in inner],
        "interfaces": [{"name": name, "addresses": inner} for name in interfaces],
    },
    TEXTS,
    TEXTS,
    st.lists(TEXTS, max_size=3),
    st.lists(st.sampled_from(["eth0", "bond0.10", "Wg_0"]), max_size=3, unique=True),
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "generateName": st.sampled_from(["t", "u"]),
        "interfaceCIDRs": st.lists(st.sampled_from(["172.16.0.0/12", "::/0"]), max_size=2),
        "interfacePattern": st.sampled_from(["eth", "."]),
        "nodeSelector": st.sampled_from(["all()", "has(role)", "!has(role)"]),
        "labels": st.dictionaries(st.sampled_from(["role", CREATED_BY]), st.just("x")),
    },
)


@given(NAMES, SPECS, st.lists(TEMPLATES, max_size=4), st.sampled_from(["Enabled", "Disabled"]))
def test_whatever_is_made_may_be_stored_and_is_known_again(
    name: str, spec: dict[str, Any], given_templates: list[dict[str, Any]], default: str
) -> None:
    """Valid, of its node, marked, open by profile, the same each time, and unchanged by being stored."""
    configuration = asking(createDefaultHostEndpoint=default, templates=given_templates)
    made = automatic(node(name, spec), configuration)

    assert made == automatic(node(name, spec), configuration)
    for endpoint in made.endpoints.values():
        assert problems_of(endpoint) == []
        assert defaulted(endpoint) == endpoint
        assert is_automatic(endpoint)
        assert endpoint.spec.node == name
        assert endpoint.spec.profiles == ["projectcalico-default-allow"]
        assert endpoint.spec.interface_name or endpoint.spec.expected_ips
        assert len(set(endpoint.spec.expected_ips)) == len(endpoint.spec.expected_ips)
        stored = codec.decode(key_of(endpoint), codec.encode(endpoint), 7)
        assert isinstance(stored, HostEndpoint)
        assert alike(stored, endpoint)
    assert any(each.spec.interface_name == "*" for each in made.endpoints.values()) == (default == "Enabled")


def test_what_counts_as_alike() -> None:
    """Everything that an endpoint says but others' annotations and the order of addresses."""
    (made,) = automatic(node(), asking()).endpoints.values()
    spec, metadata = made.spec, made.metadata
    same = [
        replace(made, metadata=replace(metadata, uid="x", resource_version="3", annotations={"a/b": "c"})),
        replace(made, spec=replace(spec, expected_ips=spec.expected_ips[::-1])),
    ]
    others = [
        replace(made, metadata=replace(metadata, labels={CREATED_BY: CREATOR})),
        replace(made, spec=replace(spec, expected_ips=spec.expected_ips[1:])),
        replace(made, spec=replace(spec, interface_name="eth0")),
        replace(made, spec=replace(spec, node="two")),
        replace(made, spec=replace(spec, profiles=[])),
    ]

    assert all(alike(each, made) for each in same)
    assert not any(alike(each, made) for each in others)


def test_who_made_it_is_a_matter_of_the_label() -> None:
    """Not of the name."""
    assert not is_automatic(host_endpoint("one-auto-hep", "one", interface="*"))
    assert not is_automatic(host_endpoint("one-auto-hep", "one", labels={CREATED_BY: "me"}))
    assert is_automatic(host_endpoint("x", "one", labels={CREATED_BY: CREATOR}))
