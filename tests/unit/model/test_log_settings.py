"""How often, and under which words, rules with action Log write: settings like all others."""

from __future__ import annotations

import pytest
from msgspec import convert

from calico.model.felix import FelixConfiguration
from calico.model.resource import API_VERSION
from calico.model.settings import Settings
from calico.model.settings_sources import from_environment, resolve


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Settings()),
        ({"FELIX_LOGACTIONRATELIMIT": "10/second"}, Settings(log_rate="10/second")),
        (
            {"FELIX_LogActionRateLimit": "100/hour", "FELIX_LogActionRateLimitBurst": "20"},
            Settings(log_rate="100/hour", log_burst=20),
        ),
        ({"FELIX_LOGACTIONRATELIMIT": "none"}, Settings()),
        ({"FELIX_LOGACTIONRATELIMITBURST": "0"}, Settings(log_burst=1)),
        ({"FELIX_LOGPREFIX": "%t/%p"}, Settings(log_prefix="%t/%p")),
    ],
    ids=str,
)
def test_what_an_environment_says(variables: dict[str, str], expected: Settings) -> None:
    """A rate needs its unit; no burst at all is one packet, which is the least that a kernel knows."""
    found = resolve([from_environment(variables)], backend="nftables")
    assert found.settings == expected
    assert (found.problems, found.idle) == ((), ())


@pytest.mark.parametrize("rate", ["10", "10/week", "0/second", "ten/second", "10000/second"])
def test_a_rate_that_no_kernel_understands_is_refused(rate: str) -> None:
    """And named; the agent logs as it would without it."""
    found = resolve([from_environment({"FELIX_LOGACTIONRATELIMIT": rate})], backend="nftables")
    assert found.settings == Settings()
    assert len(found.problems) == 1


def test_a_configuration_with_a_rate_is_acted_on() -> None:
    """Whoever applies it is not told that it has no effect."""
    tree = {
        "apiVersion": API_VERSION,
        "kind": "FelixConfiguration",
        "metadata": {"name": "default"},
        "spec": {"logActionRateLimit": "10/minute", "logActionRateLimitBurst": 3},
    }
    assert [*convert(tree, FelixConfiguration).not_done()] == []
