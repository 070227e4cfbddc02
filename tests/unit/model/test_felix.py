"""The kind FelixConfiguration: every parameter that Calico has, and what is said of those that do nothing here."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model import codec
from calico.model.errors import InvalidResources
from calico.model.felix import FelixConfiguration
from calico.model.felix_parameters import BY_TEXT_NAME, PARAMETERS, Idle, Sets
from calico.model.keys import Key
from calico.model.settings import Settings

SAMPLES: dict[str, Any] = {
    "bpfConntrackTimeouts": {"creationGracePeriod": "10s", "tcpFinsSeen": "Auto"},
    "bpfDSROptoutCIDRs": ["10.0.0.0/8", "fd00::/8"],
    "bpfLogFilters": {"all": "host 10.0.0.1"},
    "bpfPSNATPorts": "20000:29999",
    "failsafeInboundHostPorts": [{"protocol": "tcp", "port": 22}, {"port": 68, "protocol": "UDP", "net": ""}],
    "failsafeOutboundHostPorts": [],
    "healthTimeoutOverrides": [{"name": "dataplane loop", "timeout": "1m30s"}],
    "kubeNodePortRanges": ["30000:32767", 80],
    "routeTableRanges": [{"min": 1, "max": 250}],
}


def tree(spec: dict[str, Any], name: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "FelixConfiguration",
        "metadata": {"name": name},
        "spec": spec,
    }


def felix(spec: dict[str, Any], name: str = "default") -> FelixConfiguration:
    resource = codec.from_builtins(tree(spec, name))
    assert isinstance(resource, FelixConfiguration)
    return resource


def refused(spec: dict[str, Any], name: str = "default") -> list[str]:
    """The fields that are wrong."""
    with pytest.raises(InvalidResources) as caught:
        felix(spec, name)
    return [problem.field for problem in caught.value.problems]


@pytest.mark.parametrize(("name", "value"), SAMPLES.items(), ids=SAMPLES)
def test_a_parameter_with_parts_comes_back_as_it_was_given(name: str, value: Any) -> None:
    """Lists and mappings go through the store's bytes and lose nothing."""
    resource = felix({name: value})
    stored = codec.decode(Key("FelixConfiguration", "default"), codec.encode(resource), 7)
    assert isinstance(stored, FelixConfiguration)
    back = codec.to_builtins(stored)["spec"][name]
    without_empty = [{k: v for k, v in each.items() if v} for each in value] if "failsafe" in name else value
    assert back == without_empty


def test_an_empty_list_of_failsafe_ports_is_not_an_absent_one() -> None:
    """Nothing is exempt, on purpose; without the list the built-in ports are."""
    assert felix({"failsafeInboundHostPorts": []}).given() == {"failsafeInboundHostPorts": []}
    assert felix({}).given() == {}


def test_names_are_spelled_as_calico_spells_them() -> None:
    """No other case, no other word; the error says which name was meant."""
    names = {parameter.name for parameter in PARAMETERS}
    assert {
        "bpfCTLBLogFilter",
        "bpfMapSizePerCpuConntrack",
        "deviceRouteSourceAddressIPv6",
        "goGCThreshold",
        "iptablesNATOutgoingInterfaceFilter",
        "ipv6Support",
        "prometheusWireGuardMetricsEnabled",
        "vxlanMTUV6",
        "wireguardKeepAlive",
    } <= names
    assert len(names) == len(PARAMETERS)
    with pytest.raises(InvalidResources, match="did you mean goGCThreshold"):
        felix({"goGcThreshold": 40})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"awsSrcDstCheck": "enable"}, "spec.awsSrcDstCheck"),
        ({"chainInsertMode": "Above"}, "spec.chainInsertMode"),
        ({"defaultEndpointToHostAction": "Open"}, "spec.defaultEndpointToHostAction"),
        ({"failsafeInboundHostPorts": [{"port": 22, "protocol": "ICMP"}]}, "spec.failsafeInboundHostPorts[0].protocol"),
        ({"failsafeInboundHostPorts": [{"port": 0}]}, "spec.failsafeInboundHostPorts[0].port"),
        ({"failsafeInboundHostPorts": [{"port": 1, "net": "here"}]}, "spec.failsafeInboundHostPorts[0].net"),
        ({"failsafeInboundHostPorts": [{"protocol": "tcp"}]}, "spec.failsafeInboundHostPorts[0].port"),
        ({"bpfConntrackTimeouts": {"udpTimeout": "soon"}}, "spec.bpfConntrackTimeouts.udpTimeout"),
        ({"interfaceExclude": "/(/"}, "spec.interfaceExclude"),
        ({"interfacePrefix": "cali, tap"}, "spec.interfacePrefix"),
        ({"iptablesMarkMask": 7}, "spec.iptablesMarkMask"),
        ({"iptablesRefreshInterval": "90"}, "spec.iptablesRefreshInterval"),
        ({"istioDSCPMark": 64}, "spec.istioDSCPMark"),
        ({"logActionRateLimit": "0/second"}, "spec.logActionRateLimit"),
        ({"logPrefix": "a;b"}, "spec.logPrefix"),
        ({"natPortRange": "http"}, "spec.natPortRange"),
        ({"nodeSelector": "all("}, "spec.nodeSelector"),
        ({"wireguardRoutingRulePriority": 32766}, "spec.wireguardRoutingRulePriority"),
        ({"ipv6Support": "yes"}, "spec.ipv6Support"),
        ({"logSeverityScreen": 1}, "spec.logSeverityScreen"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_in_its_place(spec: dict[str, Any], field: str) -> None:
    """Enumerations, ranges, spans of time, expressions, selectors, types."""
    assert field in refused(spec, "some-nodes" if "nodeSelector" in spec else "default")


@pytest.mark.parametrize("word", ["Drop", "drop", "RETURN", "Accept", ""])
def test_words_are_taken_in_any_case_where_calico_does(word: str) -> None:
    """Old manifests shout; empty is as good as not given."""
    assert felix({"defaultEndpointToHostAction": word}).given() == (
        {"defaultEndpointToHostAction": word} if word else {}
    )


@pytest.mark.parametrize("name", ["default", "node.host-1"])
def test_only_a_name_of_ones_own_takes_a_selector(name: str) -> None:
    """The names ``default`` and ``node.<name>`` say already which nodes are meant."""
    assert refused({"nodeSelector": "all()"}, name) == ["spec.nodeSelector"]
    assert not list(felix({"nodeSelector": "all()"}, "rack-1").not_done())


def test_a_resource_for_no_node_is_allowed_and_warned_of() -> None:
    """It is valid, and does nothing."""
    (finding,) = felix({}, "rack-1").not_done()
    assert "it has no nodeSelector" in finding.message


def test_what_has_no_effect_is_said_for_each_parameter() -> None:
    """The reason, and what to do; nothing is said of what is acted on, or asks for nothing."""
    resource = felix(
        {
            "bpfEnabled": True,
            "bpfLogLevel": "off",
            "floatingIPs": "Disabled",
            "interfacePrefix": "cali",
            "reportingInterval": "0s",
            "vxlanVNI": 4096,
            "wireguardEnabled": False,
        }
    )
    found = {finding.path[-1]: finding for finding in resource.not_done()}
    assert found.keys() == {"bpfEnabled", "vxlanVNI"}
    assert found["bpfEnabled"].message.startswith("it is stored, but there is no eBPF data plane")
    assert all(finding.remedy for finding in found.values())


def test_every_parameter_is_acted_on_or_says_why_not() -> None:
    """The one table is complete: each setting has its parameters, each other parameter its reason."""
    fields = {each.effect.field for each in PARAMETERS if isinstance(each.effect, Sets)}
    assert fields == set(Settings.__struct_fields__)
    assert all(
        each.effect.reason and each.effect.remedy for each in PARAMETERS if isinstance(each.effect, Idle)
    )
    assert [each.name for each in PARAMETERS if not isinstance(each.effect, Sets | Idle)] == ["nodeSelector"]


def test_the_table_shows_the_severity() -> None:
    """NAME and LOGSEVERITY, as calicoctl has always shown."""
    resource = felix({"logSeverityScreen": "Debug"})
    assert [column.heading for column in resource.COLUMNS] == ["NAME", "LOGSEVERITY"]
    assert [column.cell(resource) for column in resource.COLUMNS] == ["default", "Debug"]


def test_a_bad_word_of_a_newer_writer_spoils_no_other_parameter() -> None:
    """Enumerations are not judged when a store is read: the settings judge each value for itself."""
    stored = codec.decode(
        Key("FelixConfiguration", "default"),
        b'{"spec":{"defaultEndpointToHostAction":"Ask","interfacePrefix":"tap","nextYears":1}}',
        3,
    )
    assert isinstance(stored, FelixConfiguration)
    assert stored.given() == {"defaultEndpointToHostAction": "Ask", "interfacePrefix": "tap"}


def test_text_names_are_unique() -> None:
    """The environment's names, in lower case, lead to one parameter each."""
    names = [name for each in PARAMETERS for name in {each.name.lower(), each.text_name} if name]
    assert len(names) == len(set(names)) == len(BY_TEXT_NAME)
