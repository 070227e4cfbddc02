"""Rules with a ``services`` match, from resources to packets, on every back end and in both families."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from calico.calculation.network import Network
from calico.model.address import parse_address
from calico.model.fact import InSync, Update
from calico.model.keys import key_of
from calico.model.policy import EntityRule, ServiceMatch
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig
from support.builders import endpoint, endpoint_slice, here, policy, profile, rule
from support.netns import needs_root
from support.packets import ADDRESS, ICMP, ICMP6, INTERFACE, SCTP, TCP, UDP, Probe

pytestmark = [pytest.mark.root, needs_root]

INTERFACES = {
    "eth0": frozenset(parse_address(ADDRESS["host"][family]) for family in FAMILIES),
    "cali1": frozenset([parse_address("169.254.1.1")]),
    "cali2": frozenset([parse_address("169.254.1.1")]),
}
OPEN = profile("open", ingress=[rule()], egress=[rule()])


@pytest.fixture(scope="module", params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-rules-s", tmp_path_factory.mktemp("lock")) as made:
        yield made


class Host:
    """A host that follows resources; workloads w1 and w2 stand on it, in namespace shop."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.network, self.renderer = Network(here), Renderer(Settings())
        rig.world.forget_flows()
        rig.loaded = {family: ast.Table(family) for family in FAMILIES}
        rig.sync()
        self.network.update([InSync()])
        self.put(OPEN, *(workload(name) for name in ("w1", "w2")))

    def put(self, *resources: Resource) -> None:
        """Add or replace."""
        self._follow(*(Update(key_of(resource), resource) for resource in resources))

    def drop(self, *resources: Resource) -> None:
        """Remove."""
        self._follow(*(Update(key_of(resource), None) for resource in resources))

    def _follow(self, *updates: Update) -> None:
        self.network.update(updates)
        changes = self.renderer.update(self.network.settle(), INTERFACES)
        self.rig.apply(*(change for change in changes if change.family in FAMILIES))
        self.rig.world.forget_flows()
        assert self.rig.check() == []

    def passes(self, source: str, destination: str) -> set[str]:
        """What of a handful of packets gets through, in both families alike."""
        sent = ((TCP, 80), (TCP, 81), (UDP, 80), (UDP, 53), (SCTP, 80))
        words = [f"{ {TCP: 'TCP', UDP: 'UDP', SCTP: 'SCTP'}[protocol] } {port}" for protocol, port in sent]
        found = []
        for family, icmp, echo in ((4, ICMP, 8), (6, ICMP6, 128)):
            probes = [
                Probe(source, destination, family, protocol=protocol, dport=port) for protocol, port in sent
            ]
            probes.append(Probe(source, destination, family, protocol=icmp, icmp=(echo, 0)))
            passed = self.rig.passes(*probes)
            found.append({word for word, through in zip([*words, "ping"], passed, strict=True) if through})
        assert found[0] == found[1]
        return found[0]


EVERYTHING = {"TCP 80", "TCP 81", "UDP 80", "UDP 53", "SCTP 80", "ping"}


@pytest.fixture
def host(home: Rig) -> Iterator[Host]:
    yield Host(home)
    home.inside(home.backend.remove)


def workload(name: str) -> Resource:
    return endpoint(
        name,
        namespace="shop",
        labels={"name": name},
        address=[ADDRESS[name][family] for family in FAMILIES],
        interface=INTERFACE[name],
        profiles=["open"],
    )


def slice_of(service: str, place: str, *ports: object, name: str = "one") -> Resource:
    addresses = [ADDRESS[place][family] for family in FAMILIES]
    return endpoint_slice(f"{service}-{name}", service, *addresses, namespace="shop", ports=ports)


def service(name: str) -> EntityRule:
    return EntityRule(services=ServiceMatch(name=name))


def test_egress_to_a_service_follows_its_slices(host: Host) -> None:
    """Only the backends, only on their ports, from the moment that a slice says so until none does."""
    host.put(
        policy(
            "to-web",
            namespace="shop",
            selector="name == 'w1'",
            types=["Egress"],
            egress=[rule(destination=service("web"))],
        )
    )
    assert host.passes("w1", "w2") == set()

    host.put(slice_of("web", "w2", 80, ("UDP", 53)))
    assert host.passes("w1", "w2") == {"TCP 80", "UDP 53"}
    assert host.passes("w1", "outside") == set()

    host.put(slice_of("web", "w2", 81), slice_of("web", "outside", ("SCTP", 80), name="two"))
    assert host.passes("w1", "w2") == {"TCP 81"}
    assert host.passes("w1", "outside") == {"SCTP 80"}

    host.drop(slice_of("web", "w2"))
    assert host.passes("w1", "w2") == set()
    assert host.passes("w1", "outside") == {"SCTP 80"}
    assert host.passes("w2", "w1") == EVERYTHING


def test_ingress_from_a_service_is_from_its_addresses(host: Host) -> None:
    """Ports of the service play no part; who is not among its backends is denied by the end of the tier."""
    host.put(
        policy("from-web", namespace="shop", selector="name == 'w2'", ingress=[rule(source=service("web"))]),
        slice_of("web", "w1", 9999),
    )
    assert host.passes("w1", "w2") == EVERYTHING
    assert host.passes("outside", "w2") == set()

    host.put(slice_of("web", "outside"))
    assert host.passes("w1", "w2") == set()
    assert host.passes("outside", "w2") == EVERYTHING


def test_a_deny_by_service_closes_the_service_alone(host: Host) -> None:
    """What it is meant to stop is stopped as soon as the slice is known, and nothing else is."""
    host.put(
        policy(
            "not-web",
            namespace="shop",
            selector="name == 'w1'",
            types=["Egress"],
            egress=[rule("Deny", destination=service("web")), rule()],
        )
    )
    assert host.passes("w1", "w2") == EVERYTHING

    host.put(slice_of("web", "w2", 80, ("UDP", 80)))
    assert host.passes("w1", "w2") == EVERYTHING - {"TCP 80", "UDP 80"}
    assert host.passes("w1", "outside") == EVERYTHING
