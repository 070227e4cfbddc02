"""Worlds and histories by chance: small universes in which everything collides with everything.

``Maker`` makes resources out of choices. Who chooses is open: hypothesis (``steps``, which shrinks what fails),
or a seeded generator (``rolled``), where a test needs the same history many times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import (
    ClusterNetworkPolicy,
    KubernetesNetworkPolicy,
    Namespace,
    Pod,
    ServiceAccount,
)
from calico.model.policy import EntityRule, ServiceAccountMatch, ServiceMatch
from calico.model.resource import Resource
from support.builders import (
    elsewhere,
    endpoint,
    endpoint_slice,
    here,
    host_endpoint,
    metadata,
    network_set,
    policy,
    pool,
    profile,
    rule,
    tier,
)

T = TypeVar("T")
Step = tuple[Key, Resource | None]
Choose = Callable[[Sequence[Any]], Any]

NAMESPACES = ("red", "blue")
ADDRESSES = ("10.0.0.1", "10.0.0.2/32", "10.0.0.3", "fd00::1", "fd00::2/128")
SELECTORS = (
    "all()",
    "app == 'web'",
    "app in {'web', 'db'}",
    "app != 'web'",
    "has(app)",
    "!has(app)",
    "role starts with 'a'",
    "app == 'web' && role == 'a'",
    "app == 'db' || has(role)",
    "pcns.team == 'x'",
    "projectcalico.org/namespace == 'red'",
    "app == 'web' && app == 'db'",
)
NAMESPACE_SELECTORS = ("all()", "team == 'x'", "team != 'x'", "!has(team)")
LABELS = (
    {},
    {},
    {"app": "web"},
    {"app": "web"},
    {"app": "db"},
    {"app": "web", "role": "a"},
    {"role": "b", "pcns.team": "x"},
    {"role": "ab", "projectcalico.org/namespace": "red"},
)
PORTS = ((), (), (("http", "TCP", 80),), (("http", "TCP", 8080), ("http", "UDP", 80)), (("dns", "UDP", 53),))
PROFILES = (
    (),
    ("kns.red",),
    ("kns.red",),
    ("kns.red",),
    ("kns.blue", "gold"),
    ("gold", "kns.red"),
    ("missing",),
    ("projectcalico-default-allow",),
)


class Maker:
    """Makes one resource at a time; ``choose`` picks from a sequence whose first entry is the plainest."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose

    def step(self) -> Step:
        """A resource that is new, changed, the same again, or gone."""
        resource = self.resource()
        return key_of(resource), None if self.rarely() else resource

    def resource(self) -> Resource:
        """Any resource that matters to a host."""
        make = self.choose(
            (
                self.endpoint,
                self.policy,
                self.endpoint,
                self.policy,
                self.profile,
                self.profile,
                self.network_set,
                self.tier,
                self.host_endpoint,
                self.pool,
                self.kubernetes,
                self.kubernetes,
                self.endpoint_slice,
            )
        )
        return make()

    def rarely(self) -> bool:
        """True one time in five."""
        return self.choose((False, False, False, False, True))

    def seldom(self) -> bool:
        """True one time in twelve."""
        return self.choose((False,) * 11 + (True,))

    def selector(self) -> str:
        """A selector; now and then one that is broken."""
        return "app ==" if self.seldom() else self.choose(SELECTORS)

    def endpoint(self) -> Resource:
        """A workload, often local, sharing names, addresses, interfaces and labels with others."""
        address = [self.choose(ADDRESSES) for _ in range(self.choose((1, 2, 0)))]
        if self.seldom():
            address.append("10.0.0.300")
        return endpoint(
            self.choose(("w1", "w2", "w3", "here-k8s-k1-eth0")),
            self.choose((here, here, elsewhere)),
            namespace=self.choose(NAMESPACES),
            labels=self.choose(LABELS),
            address=address,
            profiles=self.choose(PROFILES),
            interface="" if self.seldom() else self.choose(("cali1", "cali2", "cali3", "cali4")),
            ports=self.choose(PORTS),
            mac=self.choose(("", "ee:ee:ee:ee:ee:01")),
            service_account_name="robot" if self.seldom() else "",
        )

    def host_endpoint(self) -> Resource:
        """A host's interface, here or elsewhere."""
        return host_endpoint(
            self.choose(("h1", "h2")),
            self.choose((here, elsewhere)),
            labels=self.choose(LABELS),
            interface=self.choose(("eth0", "*", "")),
            address=[self.choose((*ADDRESSES, "nonsense")) for _ in range(self.choose((1, 0)))],
            profiles=self.choose(PROFILES),
            ports=self.choose(PORTS),
        )

    def policy(self) -> Resource:
        """A policy of a namespace, or a global one."""
        namespace = self.choose((*NAMESPACES, None))
        wider = (
            {}
            if namespace
            else {
                "namespace_selector": self.choose(("", *NAMESPACE_SELECTORS)),
                "do_not_track": self.seldom(),
                "pre_dnat": self.seldom(),
                "apply_on_forward": self.seldom(),
            }
        )
        return policy(
            self.choose(("p1", "p2", "p3", "knp.default.k1" if namespace else "kcnp.kube-admin.k1")),
            namespace=namespace,
            tier=self.choose(("default", "gold", "silver", "kube-admin")),
            order=self.choose((None, 1.0, 2.0)),
            selector=self.choose(("", self.selector())),
            types=self.choose(((), ("Ingress",), ("Egress",), ("Ingress", "Egress"))),
            ingress=[self.rule() for _ in range(self.choose((1, 0, 2)))],
            egress=[self.rule() for _ in range(self.choose((0, 1)))],
            service_account_selector="all()" if self.seldom() else "",
            performance_hints=["AssumeNeededOnEveryNode"] if self.seldom() else [],
            **wider,
        )

    def rule(self) -> Any:
        """A rule; now and then one that makes no sense."""
        protocol = self.choose(("TCP", "UDP", None, 1, "nonsense")) if self.rarely() else "TCP"
        return rule(
            self.choose(("Allow", "Deny", "Pass", "Log")),
            protocol=protocol,
            source=self.service() if self.rarely() else self.side(),
            destination=self.service() if self.rarely() else self.side(),
        )

    def service(self) -> EntityRule:
        """A side that is a service; where the rule's direction does not allow it, or without one, it makes no sense."""
        match = ServiceMatch(name=self.choose(("web", "dns", "")), namespace=self.choose(("", *NAMESPACES)))
        return EntityRule(services=match, ports=["http"] if self.seldom() else [])

    def endpoint_slice(self) -> Resource:
        """A slice of a service, or of none, that shares addresses and ports with others; now and then misshapen."""
        addresses = [self.choose(ADDRESSES[::3]) for _ in range(self.choose((1, 2, 0)))]
        ports = self.choose(([80], [80, ("UDP", 53)], [("SCTP", 80)], [], [0], [("ICMP", 8)]))
        return endpoint_slice(
            self.choose(("e1", "e2", "e3")),
            self.choose(("web", "web", "dns", "")),
            *addresses,
            *(["nonsense"] if self.seldom() else []),
            namespace=self.choose(NAMESPACES),
            ports=ports,
        )

    def side(self) -> EntityRule:
        """One side of a rule."""
        return EntityRule(
            selector=self.choose(("", self.selector())),
            not_selector=self.selector() if self.rarely() else "",
            namespace_selector=self.choose((*NAMESPACE_SELECTORS, "global()")) if self.rarely() else "",
            nets=self.choose(([], [], ["10.0.0.0/8"], ["fd00::/8"])),
            ports=self.choose(([], [], ["http"], [80, "http"], ["dns"])),
            not_ports=["http"] if self.seldom() else [],
            service_accounts=ServiceAccountMatch(names=["robot"]) if self.seldom() else None,
        )

    def profile(self) -> Resource:
        """A profile that gives labels and has a rule or not."""
        return profile(
            self.choose(("kns.red", "kns.blue", "gold", "ksa.red.robot")),
            gives=self.choose(({}, {"pcns.team": "x"}, {"app": "web"}, {"app": "db", "role": "a"})),
            ingress=[self.rule() for _ in range(self.choose((0, 1)))],
            egress=[self.rule() for _ in range(self.choose((0, 1)))],
        )

    def network_set(self) -> Resource:
        """A network set of a namespace, or a global one."""
        return network_set(
            self.choose(("s1", "s2")),
            *[
                self.choose(("10.0.0.1", "10.0.0.0/24", "192.0.2.5/24", "fd00::/64"))
                for _ in range(self.choose((1, 2, 0)))
            ],
            namespace=self.choose((*NAMESPACES, None)),
            labels=self.choose(LABELS),
        )

    def tier(self) -> Resource:
        """A tier."""
        return tier(
            self.choose(("default", "gold", "silver", "kube-admin")),
            self.choose((None, 1.0, 2.0)),
            self.choose((None, "Deny", "Pass")),
        )

    def kubernetes(self) -> Resource:
        """An object of Kubernetes, often one that stands for something that is stored, too."""
        make = self.choose(
            (self.namespace, self.kubernetes_policy, self.pod, self.cluster_policy, self.service_account)
        )
        return make()

    def namespace(self) -> Resource:
        """A namespace with labels that selectors know."""
        return Namespace(metadata=metadata(self.choose(NAMESPACES), labels=self.choose(({}, {"team": "x"}))))

    def service_account(self) -> Resource:
        """A service account of any namespace."""
        labels = self.choose(({}, {"team": "x"}))
        return ServiceAccount(metadata=metadata("robot", self.choose(NAMESPACES), labels))

    def label_selector(self) -> Any:
        """A label selector; now and then one that is none."""
        choices = (
            {},
            {"matchLabels": {"app": "web"}},
            {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        )
        return "app" if self.seldom() else self.choose(choices)

    def kubernetes_policy(self) -> Resource:
        """A namespace's policy in Kubernetes' words."""
        peers = [{"podSelector": self.label_selector()} for _ in range(self.choose((1, 0, 2)))]
        ports = self.choose(([], [{"port": 80}], [{"port": "http"}], [{"port": 99999}]))
        spec = {
            "podSelector": self.label_selector(),
            self.choose(("ingress", "egress")): [{self.choose(("from", "to")): peers, "ports": ports}],
        }
        name, namespace = self.choose(("k1", "k2")), self.choose(NAMESPACES)
        return KubernetesNetworkPolicy(metadata=metadata(name, namespace), spec=spec)

    def cluster_policy(self) -> Resource:
        """A policy for all namespaces in Kubernetes' words; without rules it stands for nothing."""
        rules = [
            {
                "action": self.choose(("Deny", "Pass", "Accept", "Fly")),
                "from": [{"namespaces": self.label_selector()}],
            }
            for _ in range(self.choose((1, 0, 2)))
        ]
        spec = {
            "tier": self.choose(("Admin", "Admin", "Baseline", "Middle")),
            "priority": self.choose((1, 2)),
            "subject": {"pods": {"podSelector": self.label_selector(), "namespaceSelector": {}}},
            "ingress": rules,
        }
        return ClusterNetworkPolicy(metadata=metadata(self.choose(("k1", "k2"))), spec=spec)

    def pod(self) -> Resource:
        """A pod; without a node it stands for nothing."""
        ports = [{"name": "http", "containerPort": 80}]
        return Pod(
            metadata=metadata(self.choose(("k1", "k2")), self.choose(NAMESPACES), self.choose(LABELS)),
            spec={
                "nodeName": self.choose((here, here, elsewhere, "")),
                "serviceAccountName": self.choose(("robot", "")),
                "containers": [{"ports": self.choose(([], ports, 5))}],
            },
            status={"podIP": self.choose(("10.0.0.1", "10.0.0.4", "nonsense"))},
        )

    def pool(self) -> Resource:
        """A pool, now and then with another's prefix."""
        return pool(
            self.choose(("q1", "q2")),
            self.choose(("10.0.0.0/16", "10.1.0.0/16")),
            nat_outgoing=self.choose((False, True)),
        )


@st.composite
def steps(draw: Any, max_size: int = 25) -> list[Step]:
    """A history: facts that come, change and go, one after the other."""
    maker = Maker(lambda options: draw(st.sampled_from(options)))
    return [maker.step() for _ in range(draw(st.integers(1, max_size)))]


def rolled(seed: int, size: int) -> list[Step]:
    """The history of a seed, always the same."""
    maker = Maker(Random(seed).choice)
    return [maker.step() for _ in range(size)]
