"""Who serves a service: EndpointSlices of Kubernetes, as rules with a ``services`` match see them.

In:   one EndpointSlice.
Out:  ``Backends``: the service, and where this slice says it is served; what is wrong with the slice.
Next: ``model.kubernetes`` tells whoever writes one; ``calculation.intake`` keeps the backends for ``calculation.sets``.

As in Calico the slices alone count: the Service itself is not looked at, and the conditions of an endpoint (ready,
serving, terminating) neither, since a connection to an endpoint that is just going down has to end well, too. A
slice belongs to the service of its own namespace that its label names, so that nobody adds to another's service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from calico.model.address import AddressError, Cidr, parse_address
from calico.model.errors import Problem
from calico.model.kubernetes_object import (
    Conversion,
    Object,
    Origin,
    Unconvertible,
    Unsupported,
    at,
    items,
    mapping,
    text,
)
from calico.model.schema import shown

if TYPE_CHECKING:
    from calico.model.kubernetes_kinds import EndpointSlice

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}
_PORT_MAX: Final = 65535
_NAMES: Final = "FQDN"


class Backends(NamedTuple):
    """What one slice says of a service: each address serves on each of the ports."""

    service: str
    """With its namespace: "namespace/name"."""
    addresses: tuple[Cidr, ...]
    """Of full length, each once."""
    ports: tuple[tuple[int, int], ...]
    """Protocol and number, each once; a port without a number is none of these."""


def backends(value: EndpointSlice) -> tuple[Backends | None, tuple[Problem, ...]]:
    """What a slice says, and what of it could not be used and is left out; None where it is no service's."""
    try:
        origin = Origin.of(value.document())
        return _read(origin), tuple(origin.problems)
    except (RecursionError, Unconvertible):
        return None, value.conversion().problems


def endpoint_slice(document: Object) -> Conversion:
    """A slice stands for no resource; what is wrong with it is told."""
    origin = Origin.of(document)
    _read(origin)
    return origin.became()


def _read(origin: Origin) -> Backends | None:
    service = origin.labels.get(SERVICE_LABEL)
    addresses = tuple(dict.fromkeys(_addresses(origin)))
    ports = tuple(dict.fromkeys(_ports(origin)))
    return Backends(f"{origin.namespace}/{service}", addresses, ports) if service else None


def _addresses(origin: Origin) -> Iterator[Cidr]:
    if text(origin.body, "addressType") == _NAMES:
        names = Unsupported("packets have addresses, and no names", "write a slice with addresses")
        origin.report(names, "addressType", consequence="nothing matches by this slice")
        return
    for index, each in enumerate(items(origin.body, "endpoints")):
        try:
            written = items(mapping(each), "addresses")
        except Unconvertible as error:
            origin.report(error, "endpoints", index, consequence="the endpoint is left out")
            continue
        for place, address in enumerate(written):
            try:
                yield parse_address(address if isinstance(address, str) else shown(address))
            except AddressError as error:
                wrong = Unconvertible(str(error), "write an address")
                where = ("endpoints", index, "addresses", place)
                origin.report(wrong, *where, consequence="the address is left out")


def _ports(origin: Origin) -> Iterator[tuple[int, int]]:
    for index, each in enumerate(items(origin.body, "ports")):
        try:
            with at("ports", index):
                port = mapping(each)
                if "port" in port:
                    yield _protocol(port), _number(port["port"])
        except Unconvertible as error:
            origin.report(error, consequence="the port is left out")


def _protocol(port: Object) -> int:
    name = text(port, "protocol") or "TCP"
    if name not in _PROTOCOLS:
        raise Unconvertible(
            f"{shown(name)} is no protocol of services", "write TCP, UDP or SCTP", ("protocol",)
        )
    return _PROTOCOLS[name]


def _number(port: Any) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= _PORT_MAX:
        raise Unconvertible(f"{shown(port)} is no port", f"write 1 to {_PORT_MAX}", ("port",))
    return port
