"""What people call the ends of a flow: workloads, host endpoints, hosts, addresses, network sets.

In:   a world.
Out:  ``Names.end``: the texts that ``World.flow`` understands, for what somebody wrote.
Next: ``analysis.explain`` asks the world about them.

A name without a namespace is looked for in the namespace that is given. A network set stands for addresses: the
first of each part of it in which no prefix that the world knows begins or ends, so that all addresses of a part
are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from calico.analysis.ends import UnknownEndError
from calico.analysis.path import workload_names
from calico.analysis.world import World
from calico.desired import RuleRow
from calico.model.address import WIDTH, AddressError, Cidr, address_in, parse_cidr
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.hints import near
from calico.model.keys import Key
from calico.model.networkset import GlobalNetworkSet, NetworkSet
from calico.model.node import Node

MOST_PARTS: Final = 256
"""Parts of a network set that are looked at; of the rest nothing is said."""


class Asked(NamedTuple):
    """An end: what to call it, and what the world is asked about in its place."""

    text: str
    ends: tuple[str, ...]
    parts: bool = False
    """Whether the ends are parts of one thing, all of which are meant; else the first that will do is."""


class Names:
    """The names of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._marks: list[Cidr] | None = None

    def end(self, text: str, namespace: str = "default") -> Asked:
        """What ``text`` means; raises UnknownEndError, with the name that is surely meant if there is one."""
        text = text.strip()
        candidates = [text] if "/" in text or not namespace else [text, f"{namespace}/{text}"]
        for name in candidates:
            try:
                self._world.find(name)
            except UnknownEndError:
                continue
            return Asked(name, (name,))
        sets = [Key("GlobalNetworkSet", text)]
        for name in candidates:
            owner, slash, rest = name.partition("/")
            if slash:
                sets.append(Key("NetworkSet", rest, owner))
        for key in sets:
            found = self._world.facts.get(key)
            if isinstance(found, NetworkSet | GlobalNetworkSet):
                return self._network_set(key, found)
        if isinstance(node := self._world.facts.get(Key("Node", text)), Node):
            return self._host(text, node)
        raise UnknownEndError(self._unknown(text, candidates))

    def _network_set(self, key: Key, found: NetworkSet | GlobalNetworkSet) -> Asked:
        nets = [parse_cidr(net) for net in found.spec.nets]
        if not nets:
            raise UnknownEndError(f"{key} has no nets: nothing can come from it or go there")
        addresses = dict.fromkeys(address.address for net in nets for address in self._parts(net))
        return Asked(str(key), tuple(addresses)[:MOST_PARTS], parts=True)

    @staticmethod
    def _host(name: str, node: Node) -> Asked:
        found = filter(None, map(address_in, node.own_addresses()))
        addresses = tuple(dict.fromkeys(address.address for address in found))
        if not addresses:
            raise UnknownEndError(f"host {name} is known, but no address of it: ask about an address instead")
        return Asked(f"Node/{name}", addresses)

    def _parts(self, net: Cidr) -> Iterator[Cidr]:
        """The first address of each part of ``net`` that no known prefix divides."""
        width = WIDTH[net.family]
        last = net.value + (1 << (width - net.length)) - 1
        starts = {net.value}
        for mark in self._known():
            if mark.length > net.length and net.contains(mark):
                starts |= {mark.value, mark.value + (1 << (width - mark.length))}
        return (Cidr(net.family, start, width) for start in sorted(starts) if start <= last)

    def _known(self) -> list[Cidr]:
        """Every prefix and address that a rule or a selection may speak of."""
        if self._marks is None:
            picture = self._world.picture
            rows = chain(picture.policies.values(), picture.profiles.values())
            rules = (rule for row in rows for rule in (*row.ingress, *row.egress))
            self._marks = [*dict.fromkeys((*chain.from_iterable(map(_nets, rules)), *self._owned()))]
        return self._marks

    def _owned(self) -> Iterator[Cidr]:
        for resource in self._world.facts.values():
            texts: list[str] = []
            match resource:
                case NetworkSet() | GlobalNetworkSet():
                    texts = resource.spec.nets
                case WorkloadEndpoint():
                    texts = resource.spec.ip_networks
                case HostEndpoint():
                    texts = resource.spec.expected_ips
            for text in texts:
                try:
                    yield parse_cidr(text)
                except AddressError:
                    continue

    def _unknown(self, text: str, candidates: list[str]) -> str:
        known = [*workload_names(self._world)]
        for key in self._world.facts:
            if key.kind in {"HostEndpoint", "GlobalNetworkSet", "Node"}:
                known.append(key.name)
            elif key.kind == "NetworkSet":
                known.append(f"{key.namespace}/{key.name}")
        meant = near(candidates[-1], known) or near(text, known)
        hint = (
            f"did you mean {meant}?"
            if meant
            else (
                "write an address, namespace/name of a pod, a WorkloadEndpoint or a NetworkSet, or the name of a "
                "HostEndpoint, a GlobalNetworkSet or a Node"
            )
        )
        return f"{text!r} is nothing that is known here; {hint}"


def _nets(rule: RuleRow) -> Iterator[Cidr]:
    for side in (rule.source, rule.destination):
        yield from side.nets
        yield from side.not_nets
