"""Settings of the agent: every source, which of them wins, and what is said of values that do not count."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.model.address import parse_cidr
from calico.model.felix import FelixConfiguration
from calico.model.felix_parameters import BY_TEXT_NAME
from calico.model.settings import FailsafePort, Settings
from calico.model.settings_sources import (
    Chosen,
    Resolved,
    Source,
    applying,
    broken,
    from_environment,
    from_file,
    from_resource,
    resolve,
)

CFG = "/etc/calico/felix.cfg"


def resolved(*sources: Source, backend: str = "nftables") -> Resolved:
    return resolve(sources, backend=backend)


def environment(**variables: str) -> Source:
    return from_environment(variables)


def felix(name: str = "default", *, created: str | None = None, **spec: Any) -> FelixConfiguration:
    """As it may be stored: nothing is validated."""
    tree = {
        "kind": "FelixConfiguration",
        "metadata": {"name": name, **({"creationTimestamp": created} if created else {})},
        "spec": spec,
    }
    return msgspec.convert(tree, FelixConfiguration)


def test_nothing_given_means_the_defaults() -> None:
    """An empty environment, and variables of others, change nothing."""
    assert resolved(from_environment({"HOME": "/root", "FELIX_": "1", "FELIX_IPV6SUPPORT": ""})) == Resolved(
        Settings(), (), (), ()
    )


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("FELIX_INTERFACEPREFIX", "cali,tap", "interface_prefix", ("cali", "tap")),
        ("FELIX_DefaultEndpointToHostAction", "ACCEPT", "default_endpoint_to_host_action", "Accept"),
        ("FELIX_NFTABLESFILTERDENYACTION", "reject", "filter_deny_action", "Reject"),
        ("FELIX_IPTABLESMARKMASK", "0xff00", "mark_mask", 0xFF00),
        ("FELIX_IPV6SUPPORT", "no", "ipv6_support", False),
        ("felix_ipforwarding", "disabled", "ip_forwarding", False),
        ("FELIX_NFTABLESREFRESHINTERVAL", "1m30s", "refresh_interval", 90.0),
        ("FELIX_IPTABLESREFRESHINTERVAL", "10", "refresh_interval", 10.0),
        ("FELIX_LOGSEVERITYSCREEN", "DEBUG", "log_severity", "Debug"),
        ("FELIX_LOGPREFIX", "none", "log_prefix", ""),
        ("FELIX_NFTABLESREFRESHINTERVAL", "None", "refresh_interval", 0.0),
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
    found = resolved(from_environment({variable: text}))
    assert found.problems == ()
    assert getattr(found.settings, field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FELIX_INTERFACEPREFIX", "cali, ;drop"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "Open"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "none"),
        ("FELIX_IPTABLESMARKMASK", "0x7"),
        ("FELIX_IPTABLESMARKMASK", "0x1ffffffff"),
        ("FELIX_IPTABLESREFRESHINTERVAL", "soon"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:99999"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:nowhere:22"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "icmp:22"),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:ssh"),
        ("FELIX_IPV6SUPPORT", "maybe"),
        ("FELIX_IPV4NORMALROUTEPRIORITY", "0"),
        ("FELIX_DEVICEROUTEPROTOCOL", "three"),
        ("FELIX_BPFLOGLEVEL", "loud"),
        ("FELIX_BPFCONNTRACKTIMEOUTS", "Never=1s"),
        ("FELIX_ROUTETABLERANGES", "1-x"),
        ("FELIX_HEALTHTIMEOUTOVERRIDES", "loop"),
    ],
)
def test_what_is_not_understood_leaves_the_default_and_is_said(variable: str, text: str) -> None:
    """A mistake never opens anything and never goes by in silence."""
    found = resolved(from_environment({variable: text}))
    (problem,) = found.problems
    assert found.settings == Settings()
    assert found.chosen == found.idle == ()
    assert problem.startswith(f"{variable}={text!r} is not understood")


def test_a_name_that_nobody_knows_is_said_without_its_value() -> None:
    """Most are misspelt; what stands behind them may be a secret."""
    found = resolved(environment(FELIX_INTERFACEPREFIXES="tap", FELIX_PASSWORD="hunter2"))
    assert found.problems == (
        "the environment: FELIX_INTERFACEPREFIXES: there is no such parameter; did you mean interfacePrefix?",
        "the environment: FELIX_PASSWORD: there is no such parameter; leave it out",
    )


def test_what_belongs_elsewhere_is_said_to_have_no_effect() -> None:
    """Users of Calico's own agent set these: where the store is, who the node is."""
    found = resolved(
        environment(
            FELIX_ETCDENDPOINTS="http://a:1",
            FELIX_CLUSTERGUID="d",
            FELIX_TYPHAADDR="b:2",
            FELIX_FELIXHOSTNAME="c",
        )
    )
    assert found.problems == ()
    assert [sentence.split(": ")[1] for sentence in found.idle] == [
        "FELIX_CLUSTERGUID has no effect",
        "FELIX_TYPHAADDR has no effect",
        "FELIX_FELIXHOSTNAME has no effect",
    ]


@pytest.mark.parametrize(
    "name",
    ["FELIX_IPINIPMTU", "FELIX_IPIPMTU", "FELIX_NETLINKTIMEOUTSECS", "FELIX_IPTABLESLOCKPROBEINTERVALMILLIS"],
)
def test_old_names_of_the_environment_are_known(name: str) -> None:
    """Some parameters have another name there than in a resource."""
    found = resolved(from_environment({name: "40"}))
    assert found.problems == ()
    assert len(found.idle) == 1


def test_the_file_is_read_as_calico_reads_it() -> None:
    """Names in any case, comments, with or without the section; a bad value is said with its place."""
    text = """
    # of this host
    [global]
    InterfacePrefix = tap
    ipv4normalroutepriority=7
    LogSeverityScreen = shout
    """.replace("    ", "")
    found = resolved(from_file(CFG, text))
    assert found.settings == Settings(interface_prefix=("tap",), route_metric=7)
    assert found.chosen == (
        Chosen("interfacePrefix", "tap", CFG),
        Chosen("ipv4NormalRoutePriority", "7", CFG),
    )
    (problem,) = found.problems
    assert problem.startswith(f"{CFG}: logseverityscreen = 'shout' is not understood")
    assert resolved(from_file(CFG, "InterfacePrefix = tap\n")).settings.interface_prefix == ("tap",)


@pytest.mark.parametrize("source", [from_file(CFG, "[global\nx"), broken(CFG, "Permission denied")])
def test_a_file_that_cannot_be_read_counts_as_empty(source: Source) -> None:
    """And that is said."""
    found = resolved(source)
    assert found.settings == Settings()
    (problem,) = found.problems
    assert problem.startswith(f"{CFG} cannot be read, and counts as empty: ")


def test_the_strongest_source_that_names_a_parameter_decides() -> None:
    """Environment, file, the node's resource, a selecting one, the one for all; each parameter for itself."""
    sources = [
        environment(FELIX_DEFAULTENDPOINTTOHOSTACTION="Accept"),
        from_file(CFG, "[global]\nDefaultEndpointToHostAction=Return\nLogPrefix=file\n"),
    ]
    stored, problems = applying(
        [
            felix(defaultEndpointToHostAction="Return", logPrefix="all", ipv6Support=False, routeSource="x", ipv4NormalRoutePriority=9),
            felix("node.here", logPrefix="own", interfacePrefix="tap"),
            felix("node.there", interfacePrefix="other"),
            felix("rack", nodeSelector="rack == '1'", interfacePrefix="rack", ipv4NormalRoutePriority=5),
            felix("nobody", interfacePrefix="nobody"),
        ],
        "here",
        {"rack": "1"},
    )  # fmt: skip
    assert problems == []
    found = resolved(*sources, *stored)
    assert found.settings == Settings(
        default_endpoint_to_host_action="Accept",
        log_prefix="file",
        interface_prefix=("tap",),
        route_metric=5,
        ipv6_support=False,
    )
    assert {name: source for name, _, source in found.chosen} == {
        "defaultEndpointToHostAction": "the environment",
        "logPrefix": CFG,
        "interfacePrefix": "FelixConfiguration/node.here",
        "ipv4NormalRoutePriority": "FelixConfiguration/rack",
        "ipv6Support": "FelixConfiguration/default",
    }


def test_a_bad_value_of_a_strong_source_is_not_replaced_by_a_weak_one() -> None:
    """As in Calico: whoever names a parameter decides, if only for the default."""
    found = resolved(
        environment(FELIX_DEFAULTENDPOINTTOHOSTACTION="oops"),
        from_resource(felix(defaultEndpointToHostAction="Accept", logPrefix="fine")),
    )
    assert found.settings == Settings(log_prefix="fine")
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({"defaultEndpointToHostAction": "return"}, "default_endpoint_to_host_action", "Return"),
        ({"failsafeInboundHostPorts": []}, "failsafe_inbound", ()),
        (
            {"failsafeOutboundHostPorts": [{"port": 53, "protocol": "UDP", "net": "10.0.0.1"}, {"port": 7}]},
            "failsafe_outbound",
            (FailsafePort(17, 53, parse_cidr("10.0.0.1/32")), FailsafePort(6, 7)),
        ),
        ({"iptablesMarkMask": 0xFF00}, "mark_mask", 0xFF00),
        ({"interfacePrefix": "cali,tap"}, "interface_prefix", ("cali", "tap")),
        ({"nftablesRefreshInterval": "0s"}, "refresh_interval", 0.0),
        ({"nftablesRefreshInterval": "1h2m3.5s"}, "refresh_interval", 3723.5),
        ({"disableConntrackInvalidCheck": True}, "disable_conntrack_invalid_check", True),
        ({"logPrefix": "None"}, "log_prefix", ""),
    ],
)
def test_a_resource_sets_what_a_variable_sets(spec: dict[str, Any], field: str, value: object) -> None:
    """The same values, with the types of JSON."""
    found = resolved(from_resource(felix(**spec)))
    assert found.problems == ()
    assert getattr(found.settings, field) == value


def test_a_stored_value_that_is_not_allowed_spoils_only_itself() -> None:
    """Whoever stored it did not look."""
    found = resolved(
        from_resource(felix(defaultEndpointToHostAction="Ask", iptablesMarkMask=1, logPrefix="ok"))
    )
    assert found.settings == Settings(log_prefix="ok")
    assert [problem.split(" is not understood")[0] for problem in found.problems] == [
        "FelixConfiguration/default: defaultEndpointToHostAction: Ask",
        "FelixConfiguration/default: iptablesMarkMask: 1",
    ]


@pytest.mark.parametrize(("backend", "action"), [("nftables", "Drop"), ("iptables", "Reject")])
def test_of_twins_that_of_the_back_end_counts(backend: str, action: str) -> None:
    """Within a source; a lone twin counts for either back end."""
    source = from_resource(felix(iptablesFilterDenyAction="Reject", nftablesFilterDenyAction="Drop"))
    assert resolved(source, backend=backend).settings.filter_deny_action == action
    lone = environment(FELIX_IPTABLESFILTERDENYACTION="Reject")
    assert resolved(lone, source, backend=backend).settings.filter_deny_action == "Reject"


def test_without_effect_is_said_once_for_what_is_asked_for() -> None:
    """The strongest source's value, and only if it asks for something that does not happen."""
    found = resolved(
        environment(FELIX_BPFENABLED="true", FELIX_WIREGUARDENABLED="false"),
        from_resource(felix(bpfEnabled=True, wireguardEnabled=True, vxlanVNI=7, floatingIPs="Disabled")),
    )
    assert [sentence.split(" has no effect")[0] for sentence in found.idle] == [
        "FELIX_BPFENABLED='true'",
        "FelixConfiguration/default: vxlanVNI: 7",
    ]


def test_the_oldest_of_matching_selectors_counts_and_the_others_are_named() -> None:
    """By creation time, whatever their names; one without a time is the youngest."""
    stored, problems = applying(
        [
            felix("a", nodeSelector="all()", logPrefix="a"),
            felix("b", nodeSelector="all()", logPrefix="b", created="2026-02-01T00:00:00Z"),
            felix("c", nodeSelector="has(x)", logPrefix="c", created="2026-01-01T00:00:00.5Z"),
            felix("d", nodeSelector="!has(x)", logPrefix="d", created="2025-01-01T00:00:00Z"),
        ],
        "here",
        {"x": ""},
    )
    assert [source.label for source in stored] == ["FelixConfiguration/c"]
    assert [problem.split(" matches")[0] for problem in problems] == [
        "FelixConfiguration/b",
        "FelixConfiguration/a",
    ]


def test_a_node_that_is_not_known_matches_no_selector() -> None:
    """Not even one that matches everything; a bad selector matches nobody, and is said."""
    selecting = [felix("a", nodeSelector="all()")]
    assert applying(selecting, "here", None) == ([], [])
    stored, (problem,) = applying([felix("b", nodeSelector="all(")], "here", {})
    assert stored == []
    assert problem.startswith("FelixConfiguration/b concerns no node: ")


def test_values_are_shown_as_people_write_them() -> None:
    """Masks in hex, ports with protocol, lists with commas."""
    found = resolved(
        environment(FELIX_NFTABLESMARKMASK="65280", FELIX_FAILSAFEINBOUNDHOSTPORTS="22,udp:[fd00::/8]:68"),
        from_resource(felix(failsafeOutboundHostPorts=[], ipv6Support=False)),
    )
    assert {name: value for name, value, _ in found.chosen} == {
        "nftablesMarkMask": "0xff00",
        "failsafeInboundHostPorts": "tcp:22, udp:[fd00::/8]:68",
        "failsafeOutboundHostPorts": "[]",
        "ipv6Support": "false",
    }


NEARLY = st.sampled_from(
    ["none", "0", "-1", "0x", "²", "9" * 5000, "a=b", "1-2", "1:2", "tcp:1", "[::]:1", "a,b", "/(/"]
)


@given(st.sampled_from(sorted(BY_TEXT_NAME)), st.text() | NEARLY)
def test_no_text_ends_the_agent(name: str, text: str) -> None:
    """Whatever stands in the environment is a value, or is said not to be one; the data path gets settings."""
    found = resolved(from_environment({f"FELIX_{name}": text}))
    assert isinstance(found.settings, Settings)
    assert len(found.chosen) + len(found.problems) + len(found.idle) <= 1


@given(st.text())
def test_no_file_ends_the_agent(text: str) -> None:
    """Nor does whatever stands in the file."""
    assert isinstance(resolved(from_file(CFG, text)).settings, Settings)


def test_marks_are_the_lowest_bits_of_the_mask() -> None:
    """Accept, pass and scratch are different bits inside the mask, as in Calico."""
    settings = Settings(mark_mask=0xFFFF0000)
    assert (settings.accept_mark, settings.pass_mark, settings.scratch_mark) == (0x10000, 0x20000, 0x80000)
