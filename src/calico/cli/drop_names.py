"""Names for what the kernel knows by number: the endpoints of this host, its policies, and what their rules say.

In:   the store, and the report of this host's agent.
Out:  ``Directory``: an interface's name and endpoint, a rule in words, and which of several rules it was.
Next: ``cli.drops`` prints them.

All of it makes a line clearer, none of it is needed: without a store, what the kernel holds has to do.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from calico.analysis import World
    from calico.analysis.blame import Known
    from calico.cli.stores import Location
    from calico.datastore.typed import Resources
    from calico.desired import Direction, Origin
    from calico.programming.tracejoin import Packet

T = TypeVar("T")

_PAUSE: Final = 5.0
"""Seconds for which what was read of the store is taken for what is there."""
_RETRY: Final = 30.0
"""Seconds for which a store that could not be read is left alone: drops are told without it, and not late."""


class _Endpoint(NamedTuple):
    """An endpoint: the name that people use, each name that finds it, its host and interface."""

    title: str
    names: tuple[str, ...]
    node: str
    interface: str


class Directory:
    """What the store knows of this host. Read when it is first needed; the loss of the store is told once."""

    def __init__(self, location: Location, status: Mapping[str, Any]) -> None:
        self._location = location
        self._node = str(status.get("node") or "")
        self._told = False
        self._failed_at: float | None = None
        self._interfaces: dict[int, str] = {}
        self._endpoints: dict[str, str] = {}
        self._read_at: float | None = None
        self._known: Known | None = None
        self._known_at: float | None = None
        self._deciding: World | None = None
        self._decided_at: float | None = None
        self._policies: dict[tuple[str, str, str], tuple[float, Any]] = {}

    def interface_name(self, number: int) -> str:
        """The name of an interface; the number itself once it is gone. "" for 0, which is none."""
        if number and number not in self._interfaces:
            try:
                self._interfaces[number] = socket.if_indextoname(number)
            except OSError:
                return f"interface {number}"
        return self._interfaces.get(number, "")

    def endpoint_at(self, interface: str) -> str | None:
        """The endpoint that has ``interface`` on this host, as "namespace/name"."""
        now = time.monotonic()
        if interface not in self._endpoints and (self._read_at is None or now > self._read_at + _PAUSE):
            self._endpoints = {each.interface: each.title for each in self._local()}
            self._read_at = time.monotonic()
        return self._endpoints.get(interface)

    def interface_of(self, name: str) -> str:
        """The interface of the endpoint ``name`` of this host; an error of the command if there is no such one."""
        found = {each.interface for each in self._local() if name in each.names}
        if len(found) == 1:
            return found.pop()
        if found:
            raise click.UsageError(
                f"several endpoints of this host are called {name!r}; say which: NAMESPACE/NAME"
            )
        where = f"this host ({self._node})" if self._node else "this host"
        raise click.ClickException(
            f"{where} has no endpoint {name!r} with an interface; 'calicoctl get workloadendpoints -A' lists them"
        )

    @property
    def known(self) -> Known:
        """The policies and profiles there are, to find chains by; read again after a while."""
        from calico.analysis.blame import Known
        from calico.desired import PolicyId

        async def read(client: Resources) -> Known:
            tiers = {
                PolicyId(kind, each.metadata.namespace or "", each.metadata.name): _tier(each)
                for kind in ("NetworkPolicy", "GlobalNetworkPolicy")
                for each in await client.list(kind, bad=lambda *_: None)
            }
            profiles = [each.metadata.name for each in await client.list("Profile", bad=lambda *_: None)]
            return Known(tiers, profiles)

        if self._known_at is None or time.monotonic() > self._known_at + _PAUSE:
            self._known = self._look(read) or Known()
            self._known_at = time.monotonic()
        assert self._known is not None
        return self._known

    def rule_words(self, origin: Origin) -> str | None:
        """What the rule says, in a sentence; None where it is not in the store as the kernel has it."""
        from calico.analysis.words import rule_words

        if origin.rule is None:
            return None
        spec = getattr(self._resource(origin), "spec", None)
        rules = getattr(spec, origin.direction, None) or ()
        return rule_words(rules[origin.rule]) if origin.rule < len(rules) else None

    def exact(self, direction: Direction, packet: Packet, common: Origin | None) -> Origin | None:
        """The one rule that drops ``packet``, of several that are one in the kernel; None where that cannot be told.

        ``common`` is the policy that they belong to, if it is one.
        """
        from calico.analysis.ends import UnknownEndError
        from calico.desired import Origin

        world = self._world()
        if world is None:
            return None
        try:
            decision = world.decide(
                source=packet.source.address,
                destination=packet.destination.address,
                protocol=packet.protocol,
                port=packet.destination_port,
                source_port=packet.source_port,
                icmp_type=packet.icmp_type,
                icmp_code=packet.icmp_code,
            )
        except (UnknownEndError, ValueError):
            return None
        verdict = decision.ingress if direction == "ingress" else decision.egress
        step = verdict.trail[-1] if verdict is not None and not verdict.allowed else None
        if step is None or step.rule is None:
            return None
        found = Origin(step.kind, step.tier, step.namespace, step.name, direction, step.rule)
        return found if common is None or replace(found, rule=common.rule) == common else None

    def _world(self) -> World | None:
        """Everything that is stored, to decide by; read again after a while."""
        from calico.analysis import World
        from calico.datastore.resync import picture
        from calico.model import codec
        from calico.model.resource import Resource

        async def read(client: Resources) -> World:
            found, _ = await picture(client.store, decode=codec.decode_resource)
            facts = {key: value for key, value in found.items() if isinstance(value, Resource)}
            return World(facts)

        if self._decided_at is None or time.monotonic() > self._decided_at + _PAUSE:
            self._deciding = self._look(read)
            self._decided_at = time.monotonic()
        return self._deciding

    def _resource(self, origin: Origin) -> Any:
        from calico.model.keys import Key

        async def read(client: Resources) -> Any:
            stored = await client.find(Key(origin.kind, origin.name, origin.namespace))
            return None if stored is None else stored.resource()

        asked = (origin.kind, origin.namespace, origin.name)
        read_at, resource = self._policies.get(asked, (0.0, None))
        if not read_at or time.monotonic() > read_at + _PAUSE:
            resource = self._look(read)
            self._policies[asked] = (time.monotonic(), resource)
        return resource

    def _local(self) -> list[_Endpoint]:
        """The endpoints of this host; of all hosts where no agent says which host this is."""

        async def read(client: Resources) -> list[_Endpoint]:
            workloads = [
                _workload(each) for each in await client.list("WorkloadEndpoint", bad=lambda *_: None)
            ]
            hosts = [_host(each) for each in await client.list("HostEndpoint", bad=lambda *_: None)]
            return [*workloads, *hosts]

        return [
            each
            for each in self._look(read) or ()
            if each.interface not in {"", "*"} and self._node in {"", each.node}
        ]

    def _look(self, work: Callable[[Resources], Awaitable[T]]) -> T | None:
        """The result of reading the store; None where that cannot be done."""
        from calico.cli.session import look

        if self._failed_at is not None and time.monotonic() < self._failed_at + _RETRY:
            return None
        file = self._location.store.file
        try:
            if file is not None and not file.exists():
                raise click.ClickException(f"there is no store at {file}")  # noqa: TRY301  said once, below
            return look(self._location, work)
        except click.ClickException as error:
            self._failed_at = time.monotonic()
            if not self._told:
                self._told = True
                click.echo(
                    f"The store cannot be read ({error.message}), so rules are told by what the kernel knows of them.",
                    err=True,
                )
            return None


def _workload(resource: Any) -> _Endpoint:
    namespace, spec = resource.metadata.namespace, resource.spec
    names = dict.fromkeys(name for name in (spec.pod, spec.workload, resource.metadata.name) if name)
    title = f"{namespace}/{next(iter(names))}"
    return _Endpoint(
        title, (*(f"{namespace}/{name}" for name in names), *names), spec.node, spec.interface_name
    )


def _tier(policy: Any) -> str:
    from calico.model.policy import DEFAULT_TIER

    return policy.spec.tier or DEFAULT_TIER


def _host(resource: Any) -> _Endpoint:
    name, spec = resource.metadata.name, resource.spec
    return _Endpoint(f"HostEndpoint {name}", (name,), spec.node, spec.interface_name)
