"""Settings of the agent."""

from __future__ import annotations

import pytest

from calico.model.address import parse_cidr
from calico.model.settings import FailsafePort, Settings, from_environment


def test_nothing_given_means_the_defaults() -> None:
    """An empty environment, and variables of others, change nothing."""
    assert from_environment({"HOME": "/root", "FELIX_NOTHINGWEKNOW": "1"}) == (Settings(), ())


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("FELIX_INTERFACEPREFIX", "cali,tap", "interface_prefix", ("cali", "tap")),
        ("FELIX_DefaultEndpointToHostAction", "ACCEPT", "default_endpoint_to_host_action", "Accept"),
        ("FELIX_NFTABLESFILTERDENYACTION", "reject", "filter_deny_action", "Reject"),
        ("FELIX_IPTABLESMARKMASK", "0xff00", "mark_mask", 0xFF00),
        ("FELIX_IPV6SUPPORT", "false", "ipv6_support", False),
        ("FELIX_IPTABLESREFRESHINTERVAL", "1m30s", "refresh_interval", 90.0),
        ("FELIX_IPTABLESREFRESHINTERVAL", "10", "refresh_interval", 10.0),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "none", "failsafe_inbound", ()),
        (
            "FELIX_FAILSAFEINBOUNDHOSTPORTS",
            "tcp:22, udp:10.0.0.0/8:68, 443, tcp:[fd00::/8]:179",
            "failsafe_inbound",
            (
                FailsafePort(6, 22),
                FailsafePort(17, 68, parse_cidr("10.0.0.0/8")),
                FailsafePort(6, 443),
                FailsafePort(6, 179, parse_cidr("fd00::/8")),
            ),
        ),
    ],
)
def test_a_variable_sets_its_field_whatever_its_case(
    variable: str, text: str, field: str, value: object
) -> None:
    """Calico's names, with FELIX_ in front, are understood as Calico does."""
    settings, problems = from_environment({variable: text})
    assert problems == ()
    assert getattr(settings, field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FELIX_INTERFACEPREFIX", "cali, ;drop"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "Open"),
        ("FELIX_IPTABLESMARKMASK", "0x7"),
        ("FELIX_IPTABLESREFRESHINTERVAL", "soon"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:99999"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:nowhere:22"),
        ("FELIX_IPV6SUPPORT", "maybe"),
    ],
)
def test_what_is_not_understood_leaves_the_default_and_is_said(variable: str, text: str) -> None:
    """A mistake never opens anything and never goes by in silence."""
    settings, (problem,) = from_environment({variable: text})
    assert settings == Settings()
    assert problem.startswith(f"{variable}={text!r} is not understood")


def test_marks_are_the_lowest_bits_of_the_mask() -> None:
    """Accept, pass and scratch are different bits inside the mask, as in Calico."""
    settings = Settings(mark_mask=0xFFFF0000)
    assert (settings.accept_mark, settings.pass_mark, settings.scratch_mark) == (0x10000, 0x20000, 0x80000)
