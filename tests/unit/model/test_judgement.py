"""What is said of a tree that is no resource: everything, and nothing that is not so."""

from __future__ import annotations

import copy

import pytest

from calico.model.codec import from_builtins
from calico.model.errors import InvalidResources
from calico.model.hints import near, nearest

VERSION = "projectcalico.org/v3"


def problems(kind: str, spec: object, name: str = "a", **more: object) -> dict[str, str]:
    """The problems of a resource: field, and message with remedy."""
    tree = {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec, **more}
    before = copy.deepcopy(tree)
    try:
        from_builtins(tree)
    except InvalidResources as error:
        assert tree == before
        return {each.field: each.explanation for each in error.problems}
    return {}


# --- beside a misfit, all else is judged -------------------------------------------------------------


def test_other_rules_are_judged_beside_a_misfit() -> None:
    """One rule's misfit keeps nothing about the other rules from being said."""
    bad, worse = {"action": 5}, {"action": "Deny", "source": {"nets": ["10.0.0.300"]}}

    found = problems("GlobalNetworkPolicy", {"order": [], "ingress": [bad, worse], "selector": "a ="})

    assert [*found] == [
        "spec.order",
        "spec.ingress[0].action",
        "spec.selector",
        "spec.ingress[1].source.nets[0]",
    ]


def test_a_number_that_would_be_no_value_in_quotes_either_gets_the_remedy_of_values() -> None:
    """Quotes are the remedy only where they are enough."""
    assert problems("FelixConfiguration", {"reportingInterval": 5}, "default") == {
        "spec.reportingInterval": "5 stands where text is expected; write numbers with units, as in 90s or 1m30s"
    }
    assert problems("HostEndpoint", {"node": 7, "interfaceName": "eth0"}) == {
        "spec.node": "7 stands where text is expected; put it in quotes, just as you wrote it"
    }


def test_below_a_misspelt_field_everything_is_judged() -> None:
    """What stands below a misspelt field is judged as if the name were right, under the name that was written."""
    found = problems("GlobalNetworkPolicy", {"ingres": [{"action": "Deny", "sorce": {"nets": ["x"]}}]})

    assert [*found] == ["spec.ingres", "spec.ingres[0].sorce", "spec.ingres[0].sorce.nets[0]"]


def test_one_value_for_a_list_is_judged() -> None:
    """A value that stands where a list of such values belongs is judged as an entry of it."""
    tree = {
        "apiVersion": VERSION,
        "kind": "GlobalNetworkSet",
        "metadata": {"name": "a"},
        "spec": {"nets": "x"},
    }

    with pytest.raises(InvalidResources) as caught:
        from_builtins(tree)

    assert [(each.field, each.message) for each in caught.value.problems] == [
        ("spec.nets", "'x' stands where a list is expected"),
        ("spec.nets", "'x' is no IPv4 or IPv6 address"),
    ]


# --- nothing is said that is not so ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        # "ports need a protocol": there is one, in the wrong place, misspelt, or of the wrong type
        (
            "GlobalNetworkPolicy",
            {"ingress": [{"action": "Allow", "destination": {"ports": [80], "protocol": "TCP"}}]},
            ["spec.ingress[0].destination.protocol"],
        ),
        (
            "GlobalNetworkPolicy",
            {"ingress": [{"action": "Allow", "proto": "TCP", "destination": {"ports": [80]}}]},
            ["spec.ingress[0].proto"],
        ),
        (
            "GlobalNetworkPolicy",
            {"ingress": [{"action": "Allow", "protocol": ["TCP"], "destination": {"ports": [80]}}]},
            ["spec.ingress[0].protocol"],
        ),
        # "nothing says which interface is meant"
        ("HostEndpoint", {"node": "n", "interface": "eth0"}, ["spec.interface"]),
        ("HostEndpoint", {"node": "n", "interfaceName": ["eth0"]}, ["spec.interfaceName"]),
        # "the far side is not named"
        ("BGPPeer", {"peerIP": {"address": "10.0.0.1"}}, ["spec.peerIP"]),
        # a name that others refer to
        (
            "BGPConfiguration",
            {
                "communities": "mine",
                "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["mine"]}],
            },
            ["spec.communities"],
        ),
        (
            "WorkloadEndpoint",
            {
                "node": "n",
                "orchestrator": "cni",
                "containerID": "c",
                "endpoint": "eth0",
                "interfaceName": "cali1",
                "ipNetworks": {"v4": "10.0.0.1/32"},
                "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "192.0.2.1"}],
            },
            ["spec.ipNetworks"],
        ),
        # a required field that is misspelt is not missing, too
        ("IPPool", {"cdir": "10.0.0.0/16"}, ["spec.cdir"]),
    ],
)
def test_no_consequence_of_a_misfit_is_reported(kind: str, spec: object, expected: list[str]) -> None:
    """What would be right if the misfit were right is no problem of its own."""
    name = "n-cni-c-eth0" if kind == "WorkloadEndpoint" else "default"
    more = {"metadata": {"name": name, "namespace": "ns"}} if kind == "WorkloadEndpoint" else {}

    assert [*problems(kind, spec, name, **more)] == expected


# --- which kind is meant -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        (VERSION, "networkpolicy", {"kind": "there is no kind 'networkpolicy'; did you mean NetworkPolicy?"}),
        (VERSION, "gnps", {"kind": "there is no kind 'gnps'; did you mean GlobalNetworkPolicy?"}),
        (
            VERSION,
            "globalnetworksets",
            {"kind": "there is no kind 'globalnetworksets'; did you mean GlobalNetworkSet?"},
        ),
        (
            "v1",
            "ipPool",
            {
                "apiVersion": "apiVersion v1 with kind 'ipPool' is the format of old; "
                "convert it: calicoctl convert -f FILE"
            },
        ),
        (
            "extensions/v1beta1",
            "NetworkPolicy",
            {"apiVersion": "apiVersion 'extensions/v1beta1' is not ours; write networking.k8s.io/v1"},
        ),
        (
            "projectcalico.org/v1",
            "Tier",
            {"apiVersion": f"apiVersion 'projectcalico.org/v1' is not ours; write {VERSION}"},
        ),
        (3, "Tier", {"apiVersion": f"apiVersion 3 is not ours; write {VERSION}"}),
    ],
)
def test_kinds_and_versions(version: object, kind: str, expected: dict[str, str]) -> None:
    """A kind is known by its word, any case, plural or short name; a wrong version is told the right one."""
    tree = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}

    with pytest.raises(InvalidResources) as caught:
        from_builtins(tree)

    found = {each.field: each.explanation for each in caught.value.problems}
    assert expected.items() <= found.items()


# --- words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("allow", "Allow"),
        ("accept", "Allow"),
        ("drop", "Deny"),
        ("next-tier", "Pass"),
        ("Alow", "Allow"),
        ("zebra", None),
        ("", None),
    ],
)
def test_what_is_meant(word: str, meant: str | None) -> None:
    """The word that is meant is found by its case, by its letters, or by what others call it."""
    assert near(word, ["Allow", "Deny", "Log", "Pass"]) == meant


def test_many_known_words_are_not_listed() -> None:
    """Nobody reads a list of hundreds."""
    assert (
        nearest("x", [f"word-{number}" for number in range(200)])
        == "none of the 200 that are known is similar"
    )
    assert nearest("x", []) == "remove it"
