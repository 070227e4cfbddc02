"""Which host endpoint governs which interface of this host (behaviour reference 3.6).

In:   the host endpoints of this node, and the host's interfaces with their addresses.
Out:  ``Governed``: the endpoint of each interface, and the one of all other interfaces.
Next: ``rendering.renderer`` writes the dispatch of host endpoints.

Where several endpoints want an interface, the one whose name sorts first has it, whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from calico.desired import EndpointId, EndpointRow
from calico.model.address import Cidr
from calico.model.endpoint import ALL_INTERFACES
from calico.model.settings import Settings
from calico.rendering.static import is_workload


class Governed(NamedTuple):
    """``interfaces``: by name; ``wildcard``: the endpoint of every interface that is not among them."""

    interfaces: dict[str, EndpointId]
    wildcard: EndpointId | None


def govern(
    endpoints: Mapping[EndpointId, EndpointRow],
    interfaces: Mapping[str, frozenset[Cidr]],
    settings: Settings,
) -> Governed:
    """The endpoint of each interface.

    One with an interface name has that interface, there or not, and is never found by address. One without
    has each interface that carries one of its expected addresses. Workload interfaces are never among them.
    """
    result = Governed({}, None)
    ordered = sorted(endpoints, key=lambda endpoint: endpoint.name)
    for endpoint in ordered:
        row = endpoints[endpoint]
        if row.interface == ALL_INTERFACES:
            continue
        if row.interface:
            names = [row.interface]
        else:
            wanted = frozenset(row.addresses)
            names = [name for name, held in interfaces.items() if not wanted.isdisjoint(held)]
        for name in names:
            if not is_workload(name, settings):
                result.interfaces.setdefault(name, endpoint)
    wildcard = next((e for e in ordered if endpoints[e].interface == ALL_INTERFACES), None)
    return result._replace(wildcard=wildcard)
