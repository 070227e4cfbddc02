"""What all hosts should be, at once: one calculation instead of one for each node.

In:   every fact there is, translated (``calculation.translation``).
Out:  ``Everywhere``: the row of each endpoint of each node, and the ``Picture`` to judge them in.
Next: ``analysis.world`` asks ``analysis.evaluate`` about them.

Rows of endpoints, policies and sets do not depend on the node that asks. The one thing that endpoints of a node
have in common is that interfaces are unique there; so all endpoints are moved to one node, and each takes the name of
its own node along in its interface's. Tests compare the result with ``calculation.oracle``, node by node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from msgspec import structs

from calico.analysis.evaluate import Members, Picture
from calico.calculation.network import Network
from calico.desired import EndpointId, EndpointRow
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.fact import InSync, Update
from calico.model.keys import Key
from calico.model.resource import Resource

_NODE: Final = "everywhere"
_SEPARATOR: Final = "/"
"""In no node's name, and in no interface's."""


class Everywhere:
    """The desired state of all nodes. ``endpoints`` has a row for each endpoint that its node enforces."""

    def __init__(self, facts: Mapping[Key, Resource]) -> None:
        network = Network(_NODE)
        network.update([*(Update(key, _moved(resource)) for key, resource in facts.items()), InSync()])
        network.settle()
        state = network.state()
        self.endpoints: Mapping[EndpointId, EndpointRow] = {
            id_: _back(row) if id_.kind == "WorkloadEndpoint" else row for id_, row in state.endpoints.items()
        }
        self.picture = Picture(state.policies, state.profiles, Members(state.set_members))
        self.problems: tuple[str, ...] = tuple(network.problems.values())
        """Facts that could not be used as they are: what is wrong, and what became of them."""


def _moved(resource: Resource) -> Resource:
    match resource:
        case WorkloadEndpoint(spec=spec):
            name = spec.interface_name and f"{spec.node}{_SEPARATOR}{spec.interface_name}"
            return structs.replace(resource, spec=structs.replace(spec, node=_NODE, interface_name=name))
        case HostEndpoint(spec=spec):
            return structs.replace(resource, spec=structs.replace(spec, node=_NODE))
        case _:
            return resource


def _back(row: EndpointRow) -> EndpointRow:
    return replace(row, interface=row.interface.rpartition(_SEPARATOR)[2])
