"""What is wrong with endpoints (behaviour reference 1.6, 1.8).

In:   one host or workload endpoint, well typed.
Out:  ``Finding`` for each field, and for each pair of fields, that makes no sense.
Next: ``model.validation`` adds them to the findings about metadata.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import to_builtins

from calico.model import checks
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.endpoint import ALL_INTERFACES, HostEndpoint, QoSControls, WorkloadEndpoint, WorkloadPort
from calico.model.errors import Finding, Findings, ModelError, Path
from calico.model.names import BadName, EndpointName
from calico.model.numbers import WITH_PORTS, dscp_number, protocol_number

_CONTAINER: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?")
_QOS: Final = {
    "Bandwidth": (1_000, 10**15),
    "Burst": (1_000, 34_359_738_360),
    "Peakrate": (1_010, 1_010_000_000_000_000),
    "Minburst": (1_000, 100_000_000),
    "PacketRate": (1, 10_000),
    "PacketBurst": (1, 10_000),
    "MaxConnections": (1, 2**32 - 1),
}
"""Least and greatest value of each limit, for ingress and egress alike."""


def host_endpoint(resource: HostEndpoint) -> Findings:
    """An interface of a host."""
    spec = resource.spec
    if not spec.node:
        yield Finding(
            ("spec", "node"), "the node is not named", "name the host that the interface belongs to"
        )
    if not spec.interface_name and not spec.expected_ips:
        yield Finding(
            ("spec",),
            "nothing says which interface is meant",
            "add interfaceName, '*' for all, or expectedIPs",
        )
    if spec.interface_name not in {"", ALL_INTERFACES}:
        yield from checks.interface(("spec", "interfaceName"), spec.interface_name)
    for index, text in enumerate(spec.expected_ips):
        yield from checks.address(("spec", "expectedIPs", index), text)
    yield from _profiles(spec.profiles)
    for index, port in enumerate(spec.ports):
        path: Path = ("spec", "ports", index)
        yield from checks.named_port((*path, "name"), port.name)
        yield from _protocol((*path, "protocol"), port.protocol)
        yield from checks.port_number((*path, "port"), port.port)


def workload_endpoint(resource: WorkloadEndpoint) -> Findings:
    """An interface of a workload; its name is made of its spec."""
    spec = resource.spec
    yield from _name(resource)
    yield from checks.interface(("spec", "interfaceName"), spec.interface_name)
    if spec.container_id and _CONTAINER.fullmatch(spec.container_id) is None:
        yield Finding(
            ("spec", "containerID"),
            f"{spec.container_id!r} is no id of a container",
            "write letters, digits and '-', with a letter or digit at both ends",
        )
    for index, text in enumerate(spec.ip_networks):
        yield from _single(("spec", "ipNetworks", index), text)
    yield from _nats(resource)
    if spec.ipv4_gateway:
        yield from checks.address(("spec", "ipv4Gateway"), spec.ipv4_gateway, 4)
    if spec.ipv6_gateway:
        yield from checks.address(("spec", "ipv6Gateway"), spec.ipv6_gateway, 6)
    yield from _profiles(spec.profiles)
    if spec.mac:
        yield from checks.mac(("spec", "mac"), spec.mac)
    for index, port in enumerate(spec.ports):
        yield from _workload_port(("spec", "ports", index), port)
    for index, text in enumerate(spec.allow_spoofed_source_prefixes):
        yield from checks.prefix(("spec", "allowSpoofedSourcePrefixes", index), text)
    if spec.qos_controls:
        yield from _qos(("spec", "qosControls"), spec.qos_controls)


def _name(resource: WorkloadEndpoint) -> Findings:
    path: Path = ("metadata", "name")
    try:
        expected = EndpointName.of(resource.spec).text()
    except BadName as error:
        yield Finding(path, f"the name is made of the spec, and there {error}", "fill in that field")
        return
    if resource.metadata.name not in {"", expected}:
        yield Finding(
            path, f"{resource.metadata.name!r} is not what the spec says", f"write {expected}, or no name"
        )


def _single(path: Path, text: str) -> Findings:
    try:
        found = parse_cidr(text)
    except AddressError:
        yield from checks.prefix(path, text)
        return
    if not found.is_address:
        yield Finding(
            path,
            f"{text!r} is more than one address",
            "a workload has single addresses: /32, or /128 for IPv6",
        )


def _nats(resource: WorkloadEndpoint) -> Findings:
    spec = resource.spec
    own = {found for text in spec.ip_networks if (found := _cidr(text)) is not None}
    for index, nat in enumerate(spec.ip_nats):
        path: Path = ("spec", "ipNATs", index)
        yield from checks.address((*path, "internalIP"), nat.internal_ip)
        yield from checks.address((*path, "externalIP"), nat.external_ip)
        inside, outside = _cidr(nat.internal_ip), _cidr(nat.external_ip)
        if inside is not None and inside not in own:
            yield Finding(
                (*path, "internalIP"),
                f"{nat.internal_ip!r} is no address of this endpoint",
                "write one of ipNetworks",
            )
        if inside is not None and outside is not None and inside.family != outside.family:
            yield Finding(
                (*path, "externalIP"),
                f"{nat.external_ip!r} is of another IP version than internalIP",
                f"an IPv{inside.family} address belongs here",
            )


def _cidr(text: str) -> Cidr | None:
    try:
        return parse_cidr(text)
    except AddressError:
        return None


def _workload_port(path: Path, port: WorkloadPort) -> Findings:
    if port.name:
        yield from checks.named_port((*path, "name"), port.name)
    elif not port.host_port:
        yield Finding(
            path, "a port without a name and without a host port has no use", "add name or hostPort"
        )
    yield from _protocol((*path, "protocol"), port.protocol)
    yield from checks.port_number((*path, "port"), port.port)
    if port.host_port:
        yield from checks.port_number((*path, "hostPort"), port.host_port)
    if port.host_ip:
        yield from checks.address((*path, "hostIP"), port.host_ip)


def _protocol(path: Path, protocol: int | str) -> Findings:
    try:
        number = protocol_number(protocol)
    except ModelError:
        yield from checks.readable(path, protocol_number, protocol)
        return
    if number not in WITH_PORTS:
        yield Finding(path, f"protocol {protocol} has no ports", "write TCP, UDP or SCTP")


def _profiles(names: list[str]) -> Findings:
    for index, name in enumerate(names):
        yield from checks.dns_subdomain(("spec", "profiles", index), name)


def _qos(path: Path, controls: QoSControls) -> Findings:
    """Each limit within its bounds; 0 means that there is none."""
    given = to_builtins(controls)
    for side in ("ingress", "egress"):
        for limit, bounds in _QOS.items():
            if given.get(side + limit):
                yield from checks.within((*path, side + limit), given[side + limit], *bounds)
        rate, peak = given.get(f"{side}Bandwidth", 0), given.get(f"{side}Peakrate", 0)
        if 0 < peak <= rate:
            yield Finding(
                (*path, f"{side}Peakrate"), "the peak does not exceed the bandwidth", "raise it, or remove it"
            )
        if given.get(f"{side}Minburst") and not peak:
            yield Finding((*path, f"{side}Minburst"), "a minburst needs a peakrate", f"add {side}Peakrate")
    if controls.dscp is not None:
        yield from checks.readable((*path, "dscp"), dscp_number, controls.dscp)
