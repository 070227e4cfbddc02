"""What people call kinds and resources."""

from __future__ import annotations

import click
import pytest

from calico.cli.kinds import kind_called, kind_names, wanted
from calico.model.keys import KINDS


def test_no_word_means_two_kinds() -> None:
    """Names, plurals and short names are all different."""
    words = [word for name, kind in KINDS.items() for word in {name.lower(), kind.PLURAL, *kind.SHORT}]
    assert sorted(words) == sorted(kind_names())


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("networkpolicy", "NetworkPolicy"),
        ("NetworkPolicies", "NetworkPolicy"),
        ("NP", "NetworkPolicy"),
        ("policy", "NetworkPolicy"),
        ("gnp", "GlobalNetworkPolicy"),
        ("hep", "HostEndpoint"),
        ("weps", "WorkloadEndpoint"),
        ("pool", "IPPool"),
        ("Node", "Node"),
        ("bgpconfig", "BGPConfiguration"),
        ("tiers", "Tier"),
    ],
)
def test_a_kind_has_many_names_in_any_case(word: str, kind: str) -> None:
    """Singular, plural, short."""
    assert kind_called(word).__name__ == kind


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("netwrkpolicy", "did you mean 'networkpolicy'"),
        ("teirs", "did you mean 'tiers'"),
        ("bogus", "known are .*networkpolicies"),
        ("", "known are"),
        ("tiers,nodes", "one at a time"),
    ],
)
def test_a_wrong_kind_is_an_error_with_a_way_on(word: str, sentence: str) -> None:
    """A near miss is suggested; far from everything, all kinds are listed."""
    with pytest.raises(click.UsageError, match=sentence):
        kind_called(word)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tiers"], [("Tier", ())]),
        (["tier", "a", "b", "a"], [("Tier", ("a", "b"))]),
        (["tier/a"], [("Tier", ("a",))]),
        (["tier/a", "node/x", "tiers/b"], [("Tier", ("a", "b")), ("Node", ("x",))]),
    ],
)
def test_resources_are_named_in_two_ways(
    words: list[str], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    """KIND NAME... and KIND/NAME..., each name once."""
    assert [(each.kind.__name__, each.names) for each in wanted(words)] == expected


@pytest.mark.parametrize(
    "words",
    [["tier/a", "b"], ["tier", "tier/a"], ["tier/"], ["tier/a/b"], ["tier", ""], ["bogus/a"]],
    ids=str,
)
def test_the_two_ways_do_not_mix(words: list[str]) -> None:
    """What could mean two things is refused."""
    with pytest.raises(click.UsageError):
        wanted(words)
