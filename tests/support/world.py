"""A small world around one node: resources go in, what is desired comes out, the oracle looks on.

    world = World(policy("allow-web", source="app == 'web'"), endpoint("db", here))
    delta = world.add(endpoint("web", elsewhere, labels={"app": "web"}, address="10.0.0.7"))

Every change is settled at once, and every settle is compared with ``calculation.oracle``.
"""

from __future__ import annotations

from dataclasses import fields

from calico.calculation.network import Network
from calico.calculation.oracle import State, desired
from calico.desired import Delta, EndpointId, EndpointRow, PolicyId, PolicyRow, PortMember
from calico.model.fact import InSync, Update
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from support.builders import here

NOTHING = Delta()


class World:
    """Facts, a ``Network`` that follows them, and questions in the words of the field."""

    def __init__(self, *resources: Resource, node: str = here) -> None:
        self.facts: dict[Key, Resource] = {}
        self.network = Network(node)
        self.followed = State()
        self.network.update([InSync()])
        self.add(*resources)

    def add(self, *resources: Resource) -> Delta:
        """Add or replace resources, in one batch."""
        return self.change({key_of(resource): resource for resource in resources})

    def remove(self, *names: str) -> Delta:
        """Remove every resource of these names, in one batch."""
        return self.change(dict.fromkeys([key for key in self.facts if key.name in names]))

    def change(self, changes: dict[Key, Resource | None]) -> Delta:
        """Put and delete in one batch; check the result against the oracle."""
        for key, resource in changes.items():
            if resource is None:
                self.facts.pop(key, None)
            else:
                self.facts[key] = resource
        self.network.update(Update(key, resource) for key, resource in changes.items())
        return self.settle()

    def settle(self) -> Delta:
        """Settle, and check that the Delta is exactly the difference, and leads to what the oracle says."""
        delta = self.network.settle()
        for table in fields(delta):
            rows = getattr(self.followed, table.name)
            for key, row in getattr(delta, table.name).items():
                assert rows.get(key) != row, f"{table.name}: {key} is reported, but did not change"
        self.followed.apply(delta)
        expected = desired(self.network.node, self.facts)
        for table in fields(expected):
            assert getattr(self.followed, table.name) == getattr(expected, table.name), table.name
        assert self.network.state() == expected
        assert self.network.counts() == {
            table.name: len(getattr(expected, table.name)) for table in fields(expected)
        }
        return delta

    @property
    def state(self) -> State:
        """The complete picture."""
        return self.followed

    def endpoint(self, name: str) -> EndpointRow | None:
        """The row of the endpoint of this name."""
        return next((row for id_, row in self.state.endpoints.items() if id_.name == name), None)

    def endpoint_id(self, name: str) -> EndpointId:
        """The desired state's name of an endpoint that is enforced."""
        return next(id_ for id_ in self.state.endpoints if id_.name == name)

    def policy(self, name: str) -> PolicyRow | None:
        """The row of the active policy of this name."""
        return next((row for id_, row in self.state.policies.items() if id_.name == name), None)

    def order(self, name: str, direction: str = "ingress") -> list[tuple[str, list[str]]]:
        """The tiers of an endpoint, each with its policies, by name and in order."""
        row = self.endpoint(name)
        return [(tier.name, [id_.name for id_ in tier.policies]) for tier in getattr(row, direction)]

    def members(self, selector: str, port: str = "") -> set[str]:
        """Members of the active set with this selector (canonical text) and port name, as text."""
        (set_id,) = (
            id_
            for id_, info in self.state.set_infos.items()
            if info.selector == selector and info.port_name == port
        )
        return {_text(member) for id_, member in self.state.set_members if id_ == set_id}

    def routes(self) -> dict[str, str]:
        """Addresses and the interfaces they are behind."""
        return {str(address): row.interface for address, row in self.state.routes.items()}


def policy_id(name: str, namespace: str = "default") -> PolicyId:
    """The desired state's name of a policy; global if ``namespace`` is empty."""
    return PolicyId("NetworkPolicy" if namespace else "GlobalNetworkPolicy", namespace, name)


def _text(member: object) -> str:
    if isinstance(member, PortMember):
        return f"{member.address.address} {member.protocol}:{member.port}"
    return str(member)
