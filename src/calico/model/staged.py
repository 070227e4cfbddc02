"""Staged policies: what a policy would be, or that it would be gone; never enforced (behaviour reference 1.3)."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

from msgspec import field
from msgspec.structs import replace

from calico.model.errors import Findings
from calico.model.policy import TIER_LABEL, GlobalPolicySpec, PolicySpec, PolicyType, TieredPolicy
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict

StagedAction = Literal["Set", "Delete", "Learn", "Ignore"]

DEFAULT_ACTION: Final = "Set"


class StagedPolicySpec(PolicySpec, frozen=True, kw_only=True):
    """A NetworkPolicy, and what is meant to become of it."""

    staged_action: StagedAction | None = None


class StagedGlobalPolicySpec(GlobalPolicySpec, frozen=True, kw_only=True):
    """A GlobalNetworkPolicy, and what is meant to become of it."""

    staged_action: StagedAction | None = None


class _StagedPolicy(TieredPolicy, frozen=True, kw_only=True):
    """A policy that is looked at and not enforced."""

    spec: StagedPolicySpec | StagedGlobalPolicySpec = field(default_factory=StagedPolicySpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.staged_validation import policy

        return policy(self, self.spec)

    def defaulted(self) -> Self:
        """The action, the tier's label, and the directions; a policy to be deleted has none."""
        if self.spec.staged_action == "Delete":
            labels = {**self.metadata.labels, TIER_LABEL: self.spec.tier}
            return replace(self, metadata=replace(self.metadata, labels=labels))
        complete = TieredPolicy.defaulted(self)
        return replace(
            complete,
            spec=replace(complete.spec, staged_action=self.spec.staged_action or DEFAULT_ACTION),
        )


class StagedNetworkPolicy(_StagedPolicy, frozen=True, kw_only=True, tag=True):
    """A NetworkPolicy that is not enforced yet."""

    PLURAL: ClassVar[str] = "stagednetworkpolicies"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("snp", "snps")

    spec: StagedPolicySpec = field(default_factory=StagedPolicySpec)


class StagedGlobalNetworkPolicy(_StagedPolicy, frozen=True, kw_only=True, tag=True):
    """A GlobalNetworkPolicy that is not enforced yet."""

    PLURAL: ClassVar[str] = "stagedglobalnetworkpolicies"
    SHORT: ClassVar[tuple[str, ...]] = ("sgnp", "sgnps")

    spec: StagedGlobalPolicySpec = field(default_factory=StagedGlobalPolicySpec)


# --- Kubernetes' schema ------------------------------------------------------------------------------


class LabelRequirement(Strict, frozen=True, kw_only=True):
    """One requirement on a label; ``values`` for In and NotIn only."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class LabelSelector(Strict, frozen=True, kw_only=True):
    """Kubernetes' selector: all of its requirements hold; without any it selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelRequirement] = []


class AddressBlock(Strict, frozen=True, kw_only=True):
    """A prefix without some of its parts."""

    cidr: str
    excluded: list[str] = field(default_factory=list, name="except")


class PolicyPeer(Strict, frozen=True, kw_only=True):
    """The far end: pods by label, of namespaces by label; or addresses."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: AddressBlock | None = None


class PolicyPort(Strict, frozen=True, kw_only=True):
    """A port by number or name, or a range that ends with ``end_port``."""

    protocol: str | None = None
    port: int | str | None = None
    end_port: int | None = None


class IngressRule(Strict, frozen=True, kw_only=True):
    """Allows what comes from any of ``sources`` to any of ``ports``; none means all."""

    ports: list[PolicyPort] = []
    sources: list[PolicyPeer] = field(default_factory=list, name="from")


class EgressRule(Strict, frozen=True, kw_only=True):
    """Allows what goes to any of ``destinations`` at any of ``ports``; none means all."""

    ports: list[PolicyPort] = []
    destinations: list[PolicyPeer] = field(default_factory=list, name="to")


class StagedKubernetesPolicySpec(Strict, frozen=True, kw_only=True):
    """A NetworkPolicy of Kubernetes, and what is meant to become of it."""

    staged_action: StagedAction | None = None
    pod_selector: LabelSelector = field(default_factory=LabelSelector)
    ingress: list[IngressRule] = []
    egress: list[EgressRule] = []
    policy_types: list[PolicyType] = []


def _selector(resource: Any) -> str:
    """The pods that a policy is for, as kubectl writes it."""
    selector = resource.spec.pod_selector
    words = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for each in selector.match_expressions:
        match each.operator:
            case "Exists":
                words.append(each.key)
            case "DoesNotExist":
                words.append(f"!{each.key}")
            case _:
                words.append(f"{each.key} {each.operator.lower()} ({','.join(each.values)})")
    return ",".join(words) or "<none>"


class StagedKubernetesNetworkPolicy(Resource, frozen=True, kw_only=True, tag=True):
    """A NetworkPolicy of Kubernetes that is not enforced yet; it stands in the default tier, at order 1000."""

    PLURAL: ClassVar[str] = "stagedkubernetesnetworkpolicies"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = (
        "sknp",
        "stagedkubernetespolicy",
        "stagedkubernetespolicies",
        "skpol",
        "skpols",
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (NAME_COLUMN, Column("PODSELECTOR", _selector, wide=True))

    spec: StagedKubernetesPolicySpec = field(default_factory=StagedKubernetesPolicySpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.staged_validation import kubernetes_policy

        return kubernetes_policy(self)

    def defaulted(self) -> Self:
        """The action."""
        return replace(self, spec=replace(self.spec, staged_action=self.spec.staged_action or DEFAULT_ACTION))
