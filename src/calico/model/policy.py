"""Policies, tiers and profiles, and the rules that they are made of (behaviour reference 1.1, 1.2, 1.4, 1.7)."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self, TypeVar

from msgspec import field
from msgspec.structs import replace

from calico.model.errors import Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, shown
from calico.model.status import Conditions

Action = Literal["Allow", "Deny", "Log", "Pass"]
PolicyType = Literal["Ingress", "Egress"]
Protocol = int | str
"""A number 1..255 or one of TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite."""
Port = int | str
"""A number, a range "a:b", or the name of a port."""

DEFAULT_TIER = "default"
DEFAULT_TIER_ORDER = 1_000_000.0
DEFAULT_ALLOW_PROFILE = "projectcalico-default-allow"
TIER_LABEL: Final = "projectcalico.org/tier"

BUILT_IN_TIERS: Final[dict[str, tuple[float, Literal["Deny", "Pass"]]]] = {
    "default": (DEFAULT_TIER_ORDER, "Deny"),
    "kube-admin": (1_000.0, "Pass"),
    "kube-baseline": (10_000_000.0, "Pass"),
}
"""The tiers of every cluster, with order and default action."""

POLICY_COLUMNS: Final = (
    NAME_COLUMN,
    Column("TIER", lambda r: r.spec.tier),
    Column("ORDER", lambda r: shown(r.spec.order), wide=True),
    Column("SELECTOR", lambda r: r.spec.selector or "all()", wide=True),
)


class ICMP(Strict, frozen=True, kw_only=True):
    """An ICMP type and, optionally, a code."""

    type: int | None = None
    code: int | None = None


class ServiceAccountMatch(Strict, frozen=True, kw_only=True):
    """Service accounts by name and by label; both given are ANDed."""

    names: list[str] = []
    selector: str = ""


class ServiceMatch(Strict, frozen=True, kw_only=True):
    """One Kubernetes service; ``namespace`` defaults to the policy's own."""

    name: str = ""
    namespace: str = ""


class HTTPPath(Strict, frozen=True, kw_only=True):
    """One path to match, exactly or as a prefix."""

    exact: str = ""
    prefix: str = ""


class HTTPMatch(Strict, frozen=True, kw_only=True):
    """Layer-7 match; never enforced at layer 4 alone."""

    methods: list[str] = []
    paths: list[HTTPPath] = []


class EntityRule(Strict, frozen=True, kw_only=True):
    """One side of a rule: all given fields must match, entries of a list are alternatives."""

    nets: list[str] = []
    not_nets: list[str] = []
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    ports: list[Port] = []
    not_ports: list[Port] = []
    service_accounts: ServiceAccountMatch | None = None
    services: ServiceMatch | None = None


class RuleMetadata(Strict, frozen=True, kw_only=True):
    """Free annotations of one rule."""

    annotations: dict[str, str] = {}


class Rule(Strict, frozen=True, kw_only=True):
    """One rule of a policy or profile."""

    action: Action
    ip_version: int | None = field(default=None, name="ipVersion")
    protocol: Protocol | None = None
    not_protocol: Protocol | None = None
    icmp: ICMP | None = None
    not_icmp: ICMP | None = field(default=None, name="notICMP")
    source: EntityRule = field(default_factory=EntityRule)
    destination: EntityRule = field(default_factory=EntityRule)
    http: HTTPMatch | None = None
    metadata: RuleMetadata | None = None


class PolicySpec(Strict, frozen=True, kw_only=True):
    """What NetworkPolicy and GlobalNetworkPolicy share."""

    tier: str = field(default_factory=lambda: DEFAULT_TIER)  # other readers want it written
    order: float | None = None
    selector: str = ""
    types: list[PolicyType] = []
    ingress: list[Rule] = []
    egress: list[Rule] = []
    service_account_selector: str = ""
    performance_hints: list[str] = []


class GlobalPolicySpec(PolicySpec, frozen=True, kw_only=True):
    """The additional fields of GlobalNetworkPolicy."""

    namespace_selector: str = ""
    do_not_track: bool = False
    pre_dnat: bool = field(default=False, name="preDNAT")
    apply_on_forward: bool = False


S = TypeVar("S", bound=PolicySpec)


def with_types(spec: S) -> S:
    """``spec`` with the directions that its rules imply, if it names none: without egress rules Ingress alone."""
    if spec.types:
        return spec
    types: list[PolicyType] = ["Ingress"] if spec.ingress or not spec.egress else []
    return replace(spec, types=[*types, "Egress"] if spec.egress else types)


class TieredPolicy(Resource, frozen=True, kw_only=True):
    """What all policies that stand in a tier have in common, enforced ones and staged ones."""

    COLUMNS: ClassVar[tuple[Column, ...]] = POLICY_COLUMNS

    spec: PolicySpec = field(default_factory=PolicySpec)

    def name_problems(self) -> Findings:
        """One DNS label or two, or the reserved forms of policies of a namespace."""
        from calico.model.policy_validation import policy_name

        return policy_name(self.metadata.name, namespaced=self.NAMESPACED)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.policy_validation import policy

        return policy(self)

    def defaulted(self) -> Self:
        """The directions that the rules imply, and the label that says the tier."""
        labels = {**self.metadata.labels, TIER_LABEL: self.spec.tier}
        return replace(self, metadata=replace(self.metadata, labels=labels), spec=with_types(self.spec))


class NetworkPolicy(TieredPolicy, frozen=True, kw_only=True, tag=True):
    """Policy for the endpoints of one namespace."""

    PLURAL: ClassVar[str] = "networkpolicies"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = (
        "np",
        "cnp",
        "caliconetworkpolicy",
        "policy",
        "policies",
        "pol",
        "pols",
    )

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import policy

        return policy(self.spec)


class GlobalNetworkPolicy(TieredPolicy, frozen=True, kw_only=True, tag=True):
    """Policy for any endpoint, host endpoints included."""

    PLURAL: ClassVar[str] = "globalnetworkpolicies"
    SHORT: ClassVar[tuple[str, ...]] = ("gnp", "cgnp", "gnps")

    spec: GlobalPolicySpec = field(default_factory=GlobalPolicySpec)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import policy

        return policy(self.spec)


class TierSpec(Strict, frozen=True, kw_only=True):
    """Where a tier stands, and what becomes of traffic that reaches its end."""

    order: float | None = None
    default_action: Literal["Deny", "Pass"] | None = None


class Tier(Resource, frozen=True, kw_only=True, tag=True):
    """A group of policies that is evaluated as a unit, in order."""

    PLURAL: ClassVar[str] = "tiers"
    STATUS: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (NAME_COLUMN, Column("ORDER", lambda r: shown(r.spec.order)))

    spec: TierSpec = field(default_factory=TierSpec)
    status: Conditions | None = None

    def name_problems(self) -> Findings:
        """A tier's name is a DNS label: it stands before a dot in names of policies."""
        from calico.model import checks

        return checks.dns_label(("metadata", "name"), self.metadata.name)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.policy_validation import tier

        return tier(self)

    def defaulted(self) -> Self:
        """Order and action written out; a built-in tier has its own."""
        order, action = BUILT_IN_TIERS.get(self.metadata.name, (DEFAULT_TIER_ORDER, "Deny"))
        spec = replace(
            self.spec,
            order=order if self.spec.order is None else self.spec.order,
            default_action=self.spec.default_action or action,
        )
        return replace(self, spec=spec)


class ProfileSpec(Strict, frozen=True, kw_only=True):
    """Rules that apply after all tiers, and labels that endpoints inherit."""

    ingress: list[Rule] = []
    egress: list[Rule] = []
    labels_to_apply: dict[str, str] = {}


class Profile(Resource, frozen=True, kw_only=True, tag=True):
    """Rules and labels that an endpoint refers to by name."""

    PLURAL: ClassVar[str] = "profiles"
    SHORT: ClassVar[tuple[str, ...]] = ("pro", "pros")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column(
            "LABELS",
            lambda r: ",".join(f"{k}={v}" for k, v in sorted(r.spec.labels_to_apply.items())),
            wide=True,
        ),
    )

    spec: ProfileSpec = field(default_factory=ProfileSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.policy_validation import profile

        return profile(self)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import profile

        return profile(self.spec)
