"""Kubernetes' own kinds, where no Kubernetes is there to hold them.

In:   objects as people write them for Kubernetes, and as a store gives them back.
Out:  resources like all others, with what Kubernetes calls them; ``KubernetesObject.conversion``: what they mean.
Next: ``model.keys`` lists the kinds; ``calculation.translation`` puts what they mean in their place.

Most of such an object is none of our business, and all of it is kept: whatever stands below the fields at the
top may be anything. What of it matters here is judged by the conversion, which reads it.

Where there is no Kubernetes nobody fills in ``status`` but who writes the object; so it is written like the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import msgspec

from calico.model.errors import Finding, Findings, Path, Severity
from calico.model.resource import NAME_COLUMN, Column, Resource, kind_word, listed, shown

if TYPE_CHECKING:
    from calico.model.kubernetes_object import Conversion

Tree: TypeAlias = dict[str, Any]
"""Fields of Kubernetes that are kept as they are."""

STORED: Final = "/calico/kubernetes/"
CORE: Final = "v1"
DISCOVERY: Final = "discovery.k8s.io/v1"
NETWORKING: Final = "networking.k8s.io/v1"
POLICY: Final = "policy.networking.k8s.io/v1alpha2"


class KubernetesObject(Resource, frozen=True, kw_only=True):
    """The base of the kinds that are Kubernetes' own."""

    def conversion(self) -> Conversion:
        """The resources that say the same, and what of the object cannot be said."""
        from calico.model.kubernetes import convert
        from calico.model.kubernetes_object import Conversion, problem

        try:
            return convert(self.document())
        except RecursionError:
            from calico.model.keys import key_of
            from calico.model.salvage import salvaged

            rest = salvaged(key_of(self), b"")
            remedy = f"flatten them; until then {'it denies' if rest else 'it is as good as absent'}"
            bare = {"kind": kind_word(type(self)), "metadata": {"name": self.metadata.name}}
            return Conversion(
                () if rest is None else (rest,), (problem(bare, "values nest too deep", remedy, ()),)
            )

    def document(self) -> Tree:
        """The object as plain values, as YAML has it."""
        tree: Tree = msgspec.to_builtins(self)
        return tree | {"apiVersion": self.API_VERSION}

    def problems(self) -> Findings:
        """What no JSON can hold, and what the conversion cannot make sense of, as Kubernetes could not either."""
        for name, field in zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True):
            yield from _keys((name,), getattr(self, field))
        yield from self._found("error")

    def not_done(self) -> Findings:
        """What Kubernetes knows and the conversion does not."""
        yield from self._found("warning")

    def _found(self, severity: Severity) -> Findings:
        from calico.model.kubernetes_object import CONSEQUENCE

        if not self.metadata.name:
            return  # which is said of all resources
        for each in self.conversion().problems:
            if each.severity == severity:
                # What follows until it is corrected is of no interest where it is refused.
                remedy = each.remedy.partition(CONSEQUENCE)[0] if severity == "error" else each.remedy
                yield Finding(each.path, each.message, remedy)


class _Label(KubernetesObject, frozen=True, kw_only=True):
    """A kind whose names are DNS labels."""

    def name_problems(self) -> Findings:
        """One word of DNS."""
        from calico.model import checks

        return checks.dns_label(("metadata", "name"), self.metadata.name)


class Namespace(_Label, frozen=True, kw_only=True, tag=True):
    """A namespace; its labels are those that ``namespaceSelector`` selects by."""

    PLURAL: ClassVar[str] = "namespaces"
    SHORT: ClassVar[tuple[str, ...]] = ("ns",)
    API_VERSION: ClassVar[str] = CORE
    STORED: ClassVar[str] = f"{STORED}core/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("LABELS", lambda r: _pairs(r.metadata.labels)),
    )

    api_version: str = CORE
    spec: Tree | None = None
    status: Tree | None = None


class ServiceAccount(KubernetesObject, frozen=True, kw_only=True, tag=True):
    """Who a pod is; its labels are those that ``serviceAccounts`` selects by."""

    PLURAL: ClassVar[str] = "serviceaccounts"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("sa",)
    API_VERSION: ClassVar[str] = CORE
    STORED: ClassVar[str] = f"{STORED}core/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("LABELS", lambda r: _pairs(r.metadata.labels)),
    )

    api_version: str = CORE
    secrets: list[Tree] | None = None
    image_pull_secrets: list[Tree] | None = None
    automount_service_account_token: bool | None = None


class Pod(KubernetesObject, frozen=True, kw_only=True, tag=True):
    """A workload; with a node and addresses it is an endpoint there."""

    PLURAL: ClassVar[str] = "pods"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("po",)
    API_VERSION: ClassVar[str] = CORE
    STORED: ClassVar[str] = f"{STORED}core/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("STATUS", lambda r: shown(_at(r.status, "phase"))),
        Column("IPS", lambda r: listed(_pod_addresses(r.status))),
        Column("NODE", lambda r: shown(_at(r.spec, "nodeName"))),
        Column("LABELS", lambda r: _pairs(r.metadata.labels), wide=True),
    )

    api_version: str = CORE
    spec: Tree | None = None
    status: Tree | None = None


class Service(_Label, frozen=True, kw_only=True, tag=True):
    """A name for what some pods serve; rules that name it go by its EndpointSlices."""

    PLURAL: ClassVar[str] = "services"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("svc",)
    API_VERSION: ClassVar[str] = CORE
    STORED: ClassVar[str] = f"{STORED}core/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("TYPE", lambda r: shown(_at(r.spec, "type")) or "ClusterIP"),
        Column("CLUSTER-IP", lambda r: shown(_at(r.spec, "clusterIP"))),
        Column("PORTS", lambda r: listed(_service_ports(r.spec))),
    )

    api_version: str = CORE
    spec: Tree | None = None
    status: Tree | None = None

    def not_done(self) -> Findings:
        """Where there is no Kubernetes, nobody makes slices of it."""
        yield Finding(
            (),
            "nobody makes its EndpointSlices, by which rules that name it go, and BGP with externalTrafficPolicy: Local",
            "apply them, too, each with the label kubernetes.io/service-name",
        )


class EndpointSlice(KubernetesObject, frozen=True, kw_only=True, tag=True):
    """Some of the addresses that serve a service, and their ports: what rules with a ``services`` match mean."""

    PLURAL: ClassVar[str] = "endpointslices"
    NAMESPACED: ClassVar[bool] = True
    API_VERSION: ClassVar[str] = DISCOVERY
    STORED: ClassVar[str] = f"{STORED}discovery.k8s.io/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("ADDRESSTYPE", lambda r: r.address_type),
        Column("PORTS", lambda r: listed(shown(_at(port, "port")) for port in r.ports or ())),
        Column(
            "ENDPOINTS",
            lambda r: listed(
                address for each in r.endpoints or () for address in _items(_at(each, "addresses"))
            ),
        ),
    )

    api_version: str = DISCOVERY
    address_type: str = ""
    endpoints: list[Tree] | None = None
    ports: list[Tree] | None = None


class KubernetesNetworkPolicy(KubernetesObject, frozen=True, kw_only=True, tag="NetworkPolicy"):
    """A NetworkPolicy of Kubernetes, in YAML of that kind; keys call it so, for Calico has one of the same name."""

    PLURAL: ClassVar[str] = "networkpolicies.networking.k8s.io"
    SEGMENT: ClassVar[str] = "networkpolicies"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = (
        "netpol",
        "kubernetesnetworkpolicies",
        "networkpolicy.networking.k8s.io",
    )
    API_VERSION: ClassVar[str] = NETWORKING
    STORED: ClassVar[str] = f"{STORED}networking.k8s.io/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("POD-SELECTOR", lambda r: _selector(_at(r.spec, "podSelector"))),
        Column("TYPES", lambda r: listed(_items(_at(r.spec, "policyTypes"))), wide=True),
    )

    api_version: str = NETWORKING
    spec: Tree | None = None
    status: Tree | None = None


class ClusterNetworkPolicy(KubernetesObject, frozen=True, kw_only=True, tag=True):
    """A policy of Kubernetes for the pods of many namespaces, before or after those of the namespaces."""

    PLURAL: ClassVar[str] = "clusternetworkpolicies"
    API_VERSION: ClassVar[str] = POLICY
    STORED: ClassVar[str] = f"{STORED}policy.networking.k8s.io/"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("TIER", lambda r: shown(_at(r.spec, "tier"))),
        Column("PRIORITY", lambda r: shown(_at(r.spec, "priority"))),
    )

    api_version: str = POLICY
    spec: Tree | None = None
    status: Tree | None = None


def _keys(path: Path, tree: Any) -> Findings:
    """Keys of mappings that are no text."""
    match tree:
        case dict():
            for key, value in tree.items():
                if not isinstance(key, str):
                    message = f"the key is {key!r}, where text is expected"
                    yield Finding((*path, str(key)), message, f'write "{key}"')
                yield from _keys((*path, str(key)), value)
        case list():
            for index, value in enumerate(tree):
                yield from _keys((*path, index), value)


# --- cells of tables, whatever stands in the object --------------------------------------------------


def _at(tree: Any, *path: str) -> Any:
    """What stands at ``path``; None where nothing does."""
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _pairs(labels: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _pod_addresses(status: Any) -> Iterator[str]:
    several = [text for each in _items(_at(status, "podIPs")) if (text := shown(_at(each, "ip")))]
    yield from several or filter(None, [shown(_at(status, "podIP"))])


def _service_ports(spec: Any) -> Iterator[str]:
    for port in _items(_at(spec, "ports")):
        outside = _at(port, "nodePort")
        number = f"{shown(_at(port, 'port'))}:{outside}" if outside else shown(_at(port, "port"))
        yield f"{number}/{shown(_at(port, 'protocol')) or 'TCP'}"


def _selector(selector: Any) -> str:
    """A label selector as kubectl writes it."""
    parts = [f"{key}={value}" for key, value in sorted((_at(selector, "matchLabels") or {}).items())]
    for each in _items(_at(selector, "matchExpressions")):
        key, values = shown(_at(each, "key")), listed(_items(_at(each, "values")))
        match _at(each, "operator"):
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case operator:
                parts.append(f"{key} {shown(operator).lower()} ({values})")
    return ",".join(parts) or "<none>"
