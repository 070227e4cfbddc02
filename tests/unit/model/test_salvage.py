"""What stands in for stored values that cannot be decoded."""

from __future__ import annotations

import pytest

from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPassword
from calico.model.cluster import ClusterInformation
from calico.model.endpoint import HostEndpoint
from calico.model.felix import FelixConfiguration
from calico.model.keys import Key
from calico.model.networkset import GlobalNetworkSet
from calico.model.policy import GlobalNetworkPolicy, NetworkPolicy, Tier
from calico.model.salvage import FIRST, salvaged

GARBAGE = [b"", b"{{{", b"\xff\xfe", b"[1]", b'"text"', b"[" * 10_000, b'{"spec": 5}']


@pytest.mark.parametrize("value", GARBAGE)
def test_a_policy_of_which_nothing_can_be_read_denies_everything_it_might_have(value: bytes) -> None:
    """Its namespace is in its key; within that it selects all, comes first, and denies both ways."""
    policy = salvaged(Key("NetworkPolicy", "broken", "shop"), value)
    assert isinstance(policy, NetworkPolicy)
    assert (policy.metadata.name, policy.metadata.namespace) == ("broken", "shop")
    assert (policy.spec.tier, policy.spec.order, policy.spec.selector) == ("default", FIRST, "")
    assert policy.spec.types == ["Ingress", "Egress"]
    assert [rule.action for rule in (*policy.spec.ingress, *policy.spec.egress)] == ["Deny", "Deny"]


def test_a_policy_keeps_what_can_be_read_of_its_place_and_denies_there() -> None:
    """One rule that is not understood: tier, order, selectors and direction stay, and all its rules are a deny."""
    policy = salvaged(
        Key("GlobalNetworkPolicy", "newer"),
        b'{"metadata": {"labels": {"a": "b", "c": 5}}, "spec": {"tier": "security", "order": 10, "selector": "role == \'db\'",'
        b' "namespaceSelector": "has(x)", "types": ["Ingress"], "ingress": [{"action": "Surprise"}]}}',
    )
    assert isinstance(policy, GlobalNetworkPolicy)
    spec = policy.spec
    assert (spec.tier, spec.order, spec.selector, spec.namespace_selector) == (
        "security",
        10,
        "role == 'db'",
        "has(x)",
    )
    assert spec.types == ["Ingress"]
    assert [rule.action for rule in spec.ingress] == ["Deny"]
    assert policy.metadata.labels == {"a": "b"}


def test_a_policy_without_an_order_stays_last_and_one_with_a_strange_order_comes_first() -> None:
    """Absence of an order is readable; an order that is no number is not."""
    last = salvaged(Key("GlobalNetworkPolicy", "p"), b'{"spec": {"selector": "all()", "ingress": 5}}')
    first = salvaged(Key("GlobalNetworkPolicy", "p"), b'{"spec": {"order": "soon"}}')
    assert isinstance(last, GlobalNetworkPolicy)
    assert isinstance(first, GlobalNetworkPolicy)
    assert (last.spec.order, first.spec.order) == (None, FIRST)


@pytest.mark.parametrize(
    ("spec", "interface", "addresses"),
    [
        ('{"node": "h", "interfaceName": "eth0", "profiles": 5}', "eth0", []),
        ('{"node": "h", "interfaceName": 5}', "*", []),
        ('{"node": "h", "expectedIPs": ["10.0.0.1", "nonsense", 5]}', "", ["10.0.0.1"]),
    ],
)
def test_a_host_endpoint_still_guards_its_host(spec: str, interface: str, addresses: list[str]) -> None:
    """Without it the interface would be open: what names it is kept, else all interfaces are meant; no profile allows."""
    endpoint = salvaged(Key("HostEndpoint", "e"), f'{{"spec": {spec}}}'.encode())
    assert isinstance(endpoint, HostEndpoint)
    assert (endpoint.spec.node, endpoint.spec.interface_name, endpoint.spec.expected_ips) == (
        "h",
        interface,
        addresses,
    )
    assert endpoint.spec.profiles == []


def test_a_set_keeps_the_addresses_that_can_be_read() -> None:
    """Rules may deny by it."""
    found = salvaged(
        Key("GlobalNetworkSet", "bad-actors"),
        b'{"metadata": {"labels": {"k": "v"}}, "spec": {"nets": ["192.0.2.0/24", "x", 7]}}',
    )
    assert isinstance(found, GlobalNetworkSet)
    assert (found.metadata.labels, found.spec.nets) == ({"k": "v"}, ["192.0.2.0/24"])


def test_a_tier_keeps_its_place_and_denies_at_its_end() -> None:
    """A default action that is not understood is a deny."""
    tier = salvaged(Key("Tier", "t"), b'{"spec": {"order": 5, "defaultAction": "Maybe"}}')
    assert isinstance(tier, Tier)
    assert (tier.spec.order, tier.spec.default_action) == (5, "Deny")


@pytest.mark.parametrize("kind", ["WorkloadEndpoint", "Profile", "Node", "IPPool", "BGPPeer", "IPAMBlock"])
def test_what_closes_by_its_absence_is_not_made_up(kind: str) -> None:
    """An endpoint or profile that is missing denies; routing has nothing to close."""
    assert salvaged(Key(kind, "x", "ns"), b"{{{") is None


def test_one_setting_of_the_wrong_type_spoils_no_other() -> None:
    """Each that can be read counts, and the resource keeps its age, which decides between several."""
    found = salvaged(
        Key("FelixConfiguration", "rack-1"),
        b'{"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeSelector": "all()",'
        b' "failsafeInboundHostPorts": [], "ipv6Support": "yes", "interfacePrefix": ["tap"], "fromTheFuture": 1}}',
    )
    assert isinstance(found, FelixConfiguration)
    assert found.given() == {"nodeSelector": "all()", "failsafeInboundHostPorts": []}
    assert (found.metadata.name, found.metadata.creation_timestamp) == ("rack-1", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("value", "locked"),
    [
        (b'{"spec": {"datastoreReady": "no"}}', True),
        (b'{"spec": {"datastoreReady": null, "clusterGUID": 5}}', True),
        (b'{"spec": {"datastoreReady": true, "clusterGUID": 5}}', False),
        (b'{"spec": {"clusterGUID": 5}}', False),
        (b"", False),
    ],
)
def test_a_store_that_does_not_say_plainly_that_it_is_ready_is_locked(value: bytes, locked: bool) -> None:
    """Only one that says nothing about it is as good as ready."""
    found = salvaged(Key("ClusterInformation", "default"), value)
    assert isinstance(found, ClusterInformation)
    assert found.locked is locked


@pytest.mark.parametrize("value", GARBAGE)
def test_a_bgp_configuration_of_which_nothing_can_be_read_may_have_asked_for_a_password(value: bytes) -> None:
    """The mesh does not come up without the protection that was asked for."""
    found = salvaged(Key("BGPConfiguration", "default"), value)

    assert isinstance(found, BGPConfiguration)
    assert found.spec == BGPConfigurationSpec(node_mesh_password=BGPPassword())


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        (
            b'{"spec": {"asNumber": 65009, "listenPort": "x", "nodeMeshPassword": {"secretKeyRef": 5}}}',
            BGPConfigurationSpec(as_number=65009, node_mesh_password=BGPPassword()),
        ),
        (
            b'{"spec": {"asNumber": {}, "nodeToNodeMeshEnabled": "no", "bindMode": "NodeIP"}}',
            BGPConfigurationSpec(node_to_node_mesh_enabled=False, bind_mode="NodeIP"),
        ),
        (
            b'{"spec": {"listenPort": "x", "nodeToNodeMeshEnabled": true}}',
            BGPConfigurationSpec(node_to_node_mesh_enabled=True),
        ),
    ],
)
def test_a_bgp_configuration_keeps_each_setting_that_can_be_read(
    value: bytes, spec: BGPConfigurationSpec
) -> None:
    """What is not understood is not given, but for a password, which is missing, and a mesh, which is off."""
    found = salvaged(Key("BGPConfiguration", "default"), value)

    assert isinstance(found, BGPConfiguration)
    assert found.spec == spec
