"""Who might talk to whom: the ends of a lab, and the flows between all ordered pairs of them.

In:   a ``Topology``, the workloads' addresses, the services that are asked for ("TCP/80").
Out:  ``Flow``s, and ``Row``s that set what was observed beside what policy says.
Next: ``connections`` opens them, ``matrix`` shows them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from calico.lab.topology import INTERNET, INTERNET_ADDRESSES, Topology, bare

Verdict = Literal["allow", "deny"]
Observed = Literal["allow", "deny", "error"]

LARGEST: Final = 2_000
"""More ordered pairs than this are sampled, unless all are asked for."""
DEFAULT_SERVICES: Final = ("TCP/80", "TCP/5432", "UDP/5000")
PORTED: Final = ("TCP", "UDP")


class Service(NamedTuple):
    """What is tried at a destination; ``port`` is None for ICMP."""

    protocol: str
    port: int | None = None

    def __str__(self) -> str:
        """``TCP/80``, or ``ICMP``."""
        return self.protocol if self.port is None else f"{self.protocol}/{self.port}"


ICMP: Final = Service("ICMP")


class End(NamedTuple):
    """Something that can open or take a connection. ``home`` is the node that reaches it without policy."""

    name: str
    home: str
    group: str
    """Its namespace for a workload, else its own name."""
    ipv4: str = ""
    ipv6: str = ""

    def address(self, version: int) -> str:
        """Its address of an IP version, "" if it has none."""
        return self.ipv4 if version == 4 else self.ipv6


class Flow(NamedTuple):
    """One connection that may be tried."""

    source: End
    destination: End
    version: int
    service: Service


class Row(NamedTuple):
    """A flow, what policy says of it, and what came of it. ``reason`` explains an error."""

    flow: Flow
    expected: Verdict
    observed: Observed
    reason: str = ""

    @property
    def differs(self) -> bool:
        """Whether the network did not do what policy says."""
        return self.expected != self.observed

    def document(self) -> dict[str, str | int | None]:
        """The row as JSON has it."""
        return {
            "source": self.flow.source.name,
            "destination": self.flow.destination.name,
            "ipVersion": self.flow.version,
            "protocol": self.flow.service.protocol,
            "port": self.flow.service.port,
            "expected": self.expected,
            "observed": self.observed,
        }


def parse_services(texts: Iterable[str]) -> tuple[Service, ...]:
    """The services that ``TCP/80``, ``UDP/53`` or ``80`` (TCP) name, each once; ValueError for anything else."""
    services = []
    for text in texts:
        protocol, slash, number = text.strip().rpartition("/")
        protocol = protocol.upper() if slash else "TCP"
        if protocol not in PORTED or not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
            raise ValueError(f"{text!r} is no service: write TCP/80 or UDP/53, with a port from 1 to 65535")
        services.append(Service(protocol, int(number)))
    return tuple(dict.fromkeys(services))


def ends(topology: Topology, addresses: Mapping[str, Sequence[str]]) -> tuple[End, ...]:
    """The workloads, the bare-metal hosts and the internet host."""
    workloads = (
        End(workload.name, workload.node, workload.namespace, *_both(addresses[workload.name]))
        for workload in topology.workloads
        if workload.name in addresses
    )
    metal = (
        End(host.name, host.name, host.name, *_both(host.addresses))
        for host in topology.hosts
        if host.bare_metal
    )
    return (*workloads, *metal, End(INTERNET, INTERNET, INTERNET, *_both(INTERNET_ADDRESSES)))


def pairs(everybody: Sequence[End], *, whole: bool = False) -> tuple[tuple[End, End], ...]:
    """All ordered pairs; above ``LARGEST`` a sample of that many, the same one each time, unless the ``whole``.

    The sample takes the pairs whose names have the smallest SHA-256, which is fair to all and needs no dice.
    """
    ordered = [(one, other) for one in everybody for other in everybody if one is not other]
    if whole or len(ordered) <= LARGEST:
        return tuple(ordered)

    def draw(pair: tuple[End, End]) -> bytes:
        return hashlib.sha256(f"{pair[0].name}>{pair[1].name}".encode()).digest()

    chosen = set(sorted(map(draw, ordered))[:LARGEST])
    return tuple(pair for pair in ordered if draw(pair) in chosen)


def flows(chosen: Iterable[tuple[End, End]], services: Sequence[Service]) -> tuple[Flow, ...]:
    """Every service, and ICMP, between the pairs, in each address family that both have."""
    return tuple(
        Flow(source, destination, version, service)
        for source, destination in chosen
        for version in (4, 6)
        if source.address(version) and destination.address(version)
        for service in (*services, ICMP)
    )


def _both(addresses: Iterable[str]) -> tuple[str, str]:
    """The IPv4 and the IPv6 address among ``addresses``, without lengths."""
    known = {":" in address: bare(address) for address in addresses}
    return known.get(False, ""), known.get(True, "")
