"""Kubernetes' objects as Calico's resources (behaviour reference 3.8).

In:   one object of Kubernetes, as YAML or JSON gives it: Namespace, ServiceAccount, Pod, NetworkPolicy, or a List.
Out:  ``Conversion``: the resources that say the same, and what could not be said.
Next: a store, or the agent directly; problems go to whoever wrote the object.

No object makes a conversion fail: what is misshapen becomes a problem, and falls to the closed side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from calico.model.address import AddressError, parse_cidr
from calico.model.checks import LABEL_VALUE_LENGTH
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec, WorkloadPort
from calico.model.kubernetes_cluster_policy import cluster_network_policy
from calico.model.kubernetes_object import (
    Conversion,
    Object,
    Origin,
    Unconvertible,
    at,
    items,
    mapping,
    part,
    problem,
    text,
)
from calico.model.kubernetes_policy import network_policy
from calico.model.kubernetes_selector import ORCHESTRATOR, ORCHESTRATOR_LABEL
from calico.model.kubernetes_service import endpoint_slice
from calico.model.names import BadName, EndpointName, interface_name
from calico.model.policy import Profile, ProfileSpec, Rule
from calico.model.resource import Metadata
from calico.model.schema import shown

__all__ = ["Conversion", "convert", "namespace", "network_policy", "pod", "service_account"]

NAMESPACE_PROFILE: Final = "kns."
ACCOUNT_PROFILE: Final = "ksa."
NAMESPACE_LABELS: Final = "pcns."
ACCOUNT_LABELS: Final = "pcsa."
NAME_LABEL: Final = "projectcalico.org/name"
NAMESPACE_LABEL: Final = "projectcalico.org/namespace"
ACCOUNT_LABEL: Final = "projectcalico.org/serviceaccount"
POD_INTERFACE: Final = "eth0"

_ADDRESS_ANNOTATIONS: Final = (
    "cni.projectcalico.org/podIPs",
    "cni.projectcalico.org/podIP",
    "vpc.amazonaws.com/pod-ips",
)
_CONTAINER_ANNOTATION: Final = "cni.projectcalico.org/containerID"


def convert(document: Object) -> Conversion:
    """The resources of one object; of each of its items, if it is a list.

    A kind that has no meaning for the network becomes a problem, and nothing else.
    """
    kind, version = str(document.get("kind", "")), str(document.get("apiVersion", ""))
    if kind.endswith("List"):
        return _list(document, version, kind.removesuffix("List"))
    function = _FUNCTIONS.get((version, kind))
    if function is None:
        known = ", ".join(f"{kind} of {version}" for version, kind in _FUNCTIONS)
        message = f"{kind or 'an object without a kind'} of {version or 'no apiVersion'} is not converted"
        return Conversion(problems=(problem(document, message, f"these are: {known}", ("kind",)),))
    try:
        return function(document)
    except Unconvertible as error:
        return Conversion(problems=(problem(document, error.message, error.remedy, error.path),))


def _list(document: Object, version: str, kind: str) -> Conversion:
    common = {"apiVersion": version, "kind": kind} if kind else {}
    listed = document.get("items")
    converted = [
        convert({**common, **each})
        if isinstance(each, dict)
        else Conversion(
            problems=(problem(document, f"{shown(each)} is no object", "remove it", ("items", index)),)
        )
        for index, each in enumerate(listed if isinstance(listed, list) else ())
    ]
    return Conversion(
        tuple(resource for each in converted for resource in each.resources),
        tuple(found for each in converted for found in each.problems),
    )


def namespace(document: Object) -> Conversion:
    """A namespace becomes profile ``kns.<name>``: it allows everything, and hands its labels to its pods."""
    origin = Origin.of(document)
    labels = {NAMESPACE_LABELS + key: value for key, value in origin.labels.items()}
    labels[NAMESPACE_LABELS + NAME_LABEL] = origin.name
    everything = [Rule(action="Allow")]
    spec = ProfileSpec(ingress=everything, egress=everything, labels_to_apply=labels)
    return origin.became(Profile(metadata=origin.metadata(NAMESPACE_PROFILE + origin.name), spec=spec))


def service_account(document: Object) -> Conversion:
    """A service account becomes profile ``ksa.<namespace>.<name>``: no rules, and labels for its pods."""
    origin = Origin.of(document)
    labels = {ACCOUNT_LABELS + key: value for key, value in origin.labels.items()}
    labels[ACCOUNT_LABELS + NAME_LABEL] = origin.name
    name = f"{ACCOUNT_PROFILE}{origin.namespace}.{origin.name}"
    return origin.became(Profile(metadata=origin.metadata(name), spec=ProfileSpec(labels_to_apply=labels)))


def pod(document: Object) -> Conversion:
    """A pod becomes the workload endpoint of its ``eth0``.

    Nothing comes of a pod that has no node yet, or that uses its host's network. A pod that has finished
    keeps its endpoint and loses its addresses.
    """
    origin = Origin.of(document)
    spec, status = part(origin.body, "spec"), part(origin.body, "status")
    with at("spec"):
        node, account = text(spec, "nodeName"), text(spec, "serviceAccountName")
    if not node or spec.get("hostNetwork"):
        return origin.became()
    labels = {**origin.labels, NAMESPACE_LABEL: origin.namespace, ORCHESTRATOR_LABEL: ORCHESTRATOR}
    profiles = [NAMESPACE_PROFILE + origin.namespace]
    if account:
        profiles.append(f"{ACCOUNT_PROFILE}{origin.namespace}.{account}")
        if len(account) <= LABEL_VALUE_LENGTH:
            labels[ACCOUNT_LABEL] = account
    try:
        name = EndpointName(node, ORCHESTRATOR, origin.name, POD_INTERFACE).text()
    except BadName as error:
        raise Unconvertible(
            str(error), "pods and nodes have names that DNS allows", ("metadata", "name")
        ) from error
    finished = status.get("phase") in {"Succeeded", "Failed"}
    endpoint = WorkloadEndpoint(
        metadata=Metadata(name=name, namespace=origin.namespace, labels=labels),
        spec=WorkloadEndpointSpec(
            orchestrator=ORCHESTRATOR,
            node=node,
            pod=origin.name,
            container_id=origin.annotations.get(_CONTAINER_ANNOTATION, ""),
            endpoint=POD_INTERFACE,
            service_account_name=account,
            ip_networks=[] if finished else [*_networks(origin, _addresses(origin, status))],
            profiles=profiles,
            interface_name=interface_name(origin.namespace, origin.name),
            ports=[*_container_ports(origin, spec)],
        ),
    )
    return origin.became(endpoint)


def _addresses(origin: Origin, status: Object) -> list[str]:
    """The pod's addresses, from the first place that knows any."""
    with at("status"):
        candidates = [
            [text(mapping(each), "ip") for each in items(status, "podIPs")],
            [text(status, "podIP")],
            *(origin.annotations.get(key, "").split(",") for key in _ADDRESS_ANNOTATIONS),
        ]
    for candidate in candidates:
        found = [address.strip() for address in candidate if address.strip()]
        if found:
            return found
    return []


def _networks(origin: Origin, addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        try:
            found = parse_cidr(address)
        except AddressError as error:
            origin.report(Unconvertible(str(error), "write an address"), "status", "podIPs")
            continue
        if found.is_address:
            yield str(found)
        else:
            wrong = Unconvertible(f"{address!r} is more than one address", "a pod has single addresses")
            origin.report(wrong, "status", "podIPs")


def _container_ports(origin: Origin, spec: Object) -> Iterator[WorkloadPort]:
    """Ports that rules can name or that the host opens; of side-cars, too, which stand among the init containers."""
    for field in ("initContainers", "containers"):
        with at("spec"):
            containers = items(spec, field)
        for index, container in enumerate(containers):
            try:
                sidecar = field == "containers" or mapping(container).get("restartPolicy") == "Always"
                yield from [*_ports(mapping(container))] if sidecar else ()
            except Unconvertible as error:
                origin.report(error, "spec", field, index, consequence="its ports are not known")


def _ports(container: Object) -> Iterator[WorkloadPort]:
    for index, each in enumerate(items(container, "ports")):
        with at("ports", index):
            port = mapping(each)
            if not port.get("name") and not port.get("hostPort"):
                continue
            number, host_port = port.get("containerPort"), port.get("hostPort", 0)
            if not isinstance(number, int) or not isinstance(host_port, int):
                raise Unconvertible("a port is no number", "write 1 to 65535", ("containerPort",))
            yield WorkloadPort(
                name=text(port, "name"),
                protocol=text(port, "protocol") or "TCP",
                port=number,
                host_port=host_port,
                host_ip=text(port, "hostIP"),
            )


def _nothing(document: Object) -> Conversion:
    """A service says nothing by itself: rules that name it go by its EndpointSlices."""
    return Origin.of(document).became()


_FUNCTIONS: Final[dict[tuple[str, str], Callable[[Object], Conversion]]] = {
    ("v1", "Namespace"): namespace,
    ("v1", "ServiceAccount"): service_account,
    ("v1", "Pod"): pod,
    ("v1", "Service"): _nothing,
    ("discovery.k8s.io/v1", "EndpointSlice"): endpoint_slice,
    ("networking.k8s.io/v1", "NetworkPolicy"): network_policy,
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"): cluster_network_policy,
}
