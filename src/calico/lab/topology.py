"""The virtual data centre as a value: racks, routers, hosts, workloads, and the addresses between them.

In:   counts (``regular``), or a topology file that ``calico.lab.description`` has read.
Out:  ``Topology``; its members say which node has which interface with which address, and who is on which link.
Next: ``wiring`` turns it into commands, ``routers`` into BIRD's configuration, ``resources`` into what the store holds.

The address plan is the same in every lab: labs live in namespaces of their own and never meet.

    rack R        10.0.R.0/24    fd00:10:0:R::/64    the router is .1, hosts follow from .11
    spine, rack R 10.1.0.x/31    fd00:10:1:R::/127   the spine has the even address
    spine, border 10.1.1.0/31    fd00:10:1:fff::/127
    spine, store  10.1.2.x/31                        members of an etcd, if the lab has one: the spine has the even address
    internet      203.0.113.0/24 2001:db8:113::/64   the border is .1, the host is .10
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SPINE: Final = "spine"
BORDER: Final = "border"
INTERNET: Final = "internet"
BRIDGE: Final = "rack"
"""The switch of a rack, inside its top-of-rack router: the interface with the gateway's addresses."""
UPLINK: Final = "eth0"
"""The one interface of a host, of a workload, and of the internet host."""

SPINE_AS: Final = 64600
BORDER_AS: Final = 64700
RACK_AS: Final = 65000
"""Rack R has AS 65000 + R."""

LAB_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
"""Without a dash, so that ``calico-<lab>-<node>`` is read in one way only."""

MAX_RACKS: Final = 100
MAX_HOSTS: Final = 200
"""Per rack: its subnet has room for no more."""

INTERNET_ADDRESSES: Final = ("203.0.113.10/24", "2001:db8:113::10/64")
INTERNET_GATEWAYS: Final = ("203.0.113.1/24", "2001:db8:113::1/64")
FABRIC_PREFIXES: Final = ("10.0.0.0/8", "fd00::/8")
"""What the internet host finds behind the border; pools outside of them are added."""

HOST_SIDE_MAC: Final = "ee:ee:ee:ee:ee:ee"
HOST_SIDE_LINK_LOCAL: Final = "fe80::ecee:eeff:feee:eeee"
IPV4_GATEWAY: Final = "169.254.1.1"


@dataclass(frozen=True, slots=True)
class Pool:
    """An address pool of the lab."""

    name: str
    cidr: str
    block_size: int


DEFAULT_POOLS: Final = (
    Pool("pool-ipv4", "10.244.0.0/16", 26),
    Pool("pool-ipv6", "fd00:244::/48", 122),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as an orchestrator places it; its addresses come from IPAM later."""

    name: str
    namespace: str
    node: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def interface(self) -> str:
        """The host end of its veth: ``cali`` and 11 digits, as the CNI plugin names it (behaviour reference 7.2)."""
        # SHA-1 names the interface and protects nothing.
        digest = hashlib.sha1(f"{self.namespace}.{self.name}".encode(), usedforsecurity=False)
        return "cali" + digest.hexdigest()[:11]

    @property
    def endpoint(self) -> str:
        """The name of its WorkloadEndpoint (behaviour reference 1.8)."""
        return "-".join(part.replace("-", "--") for part in (self.node, "k8s", self.name, UPLINK))


@dataclass(frozen=True, slots=True)
class Host:
    """A host: one uplink into its rack. A bare-metal one has a HostEndpoint and no workloads."""

    name: str
    rack: int
    position: int
    """Its place in the rack, from 1: its address follows from it."""
    workloads: tuple[Workload, ...] = ()
    bare_metal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> tuple[str, str]:
        """IPv4 and IPv6 with the subnet's length."""
        return f"10.0.{self.rack}.{10 + self.position}/24", f"fd00:10:0:{self.rack}::{10 + self.position}/64"


@dataclass(frozen=True, slots=True)
class Rack:
    """A rack: a subnet, an AS, a router, hosts."""

    number: int
    hosts: tuple[Host, ...]

    @property
    def name(self) -> str:
        """What the label ``rack`` of its nodes says."""
        return f"rack{self.number}"

    @property
    def router(self) -> str:
        """Its top-of-rack router."""
        return f"tor{self.number}"

    @property
    def as_number(self) -> int:
        """The AS that its router and its hosts share."""
        return RACK_AS + self.number

    @property
    def gateways(self) -> tuple[str, str]:
        """The router's addresses on the rack's switch, IPv4 and IPv6."""
        return f"10.0.{self.number}.1/24", f"fd00:10:0:{self.number}::1/64"

    @property
    def subnets(self) -> tuple[str, str]:
        """The rack's subnets, IPv4 and IPv6."""
        return f"10.0.{self.number}.0/24", f"fd00:10:0:{self.number}::/64"


class Port(NamedTuple):
    """An interface of a node on a link; without addresses it is a port of the node's switch."""

    node: str
    interface: str
    addresses: tuple[str, ...] = ()


class Link(NamedTuple):
    """A cable."""

    one: Port
    other: Port


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole data centre. ``namespaces`` maps each namespace of workloads to its labels."""

    racks: tuple[Rack, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    pools: tuple[Pool, ...] = DEFAULT_POOLS
    mtu: int = 1500
    members: int = 0
    """How many members the lab's etcd has; without any, the hosts share an embedded store."""

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members of the store."""
        return tuple(f"etcd{number}" for number in range(1, self.members + 1))

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host, rack by rack."""
        return tuple(host for rack in self.racks for host in rack.hosts)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """Every workload, host by host."""
        return tuple(workload for host in self.hosts for workload in host.workloads)

    @property
    def routers(self) -> tuple[str, ...]:
        """Every router, top-of-rack routers first."""
        return (*(rack.router for rack in self.racks), SPINE, BORDER)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Everything that has a network namespace: routers, the internet host, the store's members, hosts, workloads."""
        return (
            *self.routers,
            INTERNET,
            *self.member_names,
            *(host.name for host in self.hosts),
            *(workload.name for workload in self.workloads),
        )

    @property
    def cables(self) -> tuple[Link, ...]:
        """The physical links: hosts to their rack's switch, racks to the spine, spine to border, border to internet, the store's to the spine."""
        return tuple(self._cables())

    def _cables(self) -> Iterator[Link]:
        for rack in self.racks:
            for host in rack.hosts:
                yield Link(Port(host.name, UPLINK, host.addresses), Port(rack.router, host.name))
        for rack in self.racks:
            spine, router = spine_link(rack.number)
            yield Link(Port(SPINE, rack.router, spine), Port(rack.router, SPINE, router))
        yield Link(
            Port(SPINE, BORDER, ("10.1.1.0/31", "fd00:10:1:fff::/127")),
            Port(BORDER, SPINE, ("10.1.1.1/31", "fd00:10:1:fff::1/127")),
        )
        yield Link(Port(BORDER, INTERNET, INTERNET_GATEWAYS), Port(INTERNET, UPLINK, INTERNET_ADDRESSES))
        for number, name in enumerate(self.member_names, 1):
            spine_end, member_end = member_link(number)
            yield Link(Port(SPINE, name, (spine_end,)), Port(name, UPLINK, (member_end,)))

    @property
    def segments(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The (node, interface) pairs that hear each other without a router: a rack's switch, a cable, a veth."""
        racks = tuple(
            ((rack.router, BRIDGE), *((host.name, UPLINK) for host in rack.hosts)) for rack in self.racks
        )
        cables = tuple(
            ((cable.one.node, cable.one.interface), (cable.other.node, cable.other.interface))
            for cable in self.cables
            if cable.one.addresses and cable.other.addresses
        )
        veths = tuple(
            ((workload.node, workload.interface), (workload.name, UPLINK)) for workload in self.workloads
        )
        return racks + cables + veths

    def rack_of(self, host: Host) -> Rack:
        """The rack that ``host`` stands in."""
        return next(rack for rack in self.racks if rack.number == host.rack)


def spine_link(rack: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """The addresses between the spine and the router of a rack: the spine's, the router's."""
    even = 2 * (rack - 1)
    return (
        (f"10.1.0.{even}/31", f"fd00:10:1:{rack}::/127"),
        (f"10.1.0.{even + 1}/31", f"fd00:10:1:{rack}::1/127"),
    )


def member_link(number: int) -> tuple[str, str]:
    """The addresses between the spine and a member of the store, counted from 1: the spine's, the member's."""
    even = 2 * (number - 1)
    return f"10.1.2.{even}/31", f"10.1.2.{even + 1}/31"


def bare(address: str) -> str:
    """An address without its length."""
    return address.partition("/")[0]


# --- the regular topology -------------------------------------------------------------------------------------------

TENANTS: Final = ("shop", "bank", "lab")
"""The example's tenants; each has a namespace of its own name."""


def tenants() -> dict[str, dict[str, str]]:
    """The namespaces of the example, with their labels."""
    return {tenant: {"tenant": tenant} for tenant in TENANTS}


def regular(racks: int = 2, hosts: int = 2, workloads: int = 3, *, mtu: int = 1500) -> Topology:
    """A topology of equal racks: ``hosts`` in each, ``workloads`` on each host, one bare-metal host in the second rack.

    With a single rack the bare-metal host stands there. Workloads take turns among the tenants: the first of
    a host is of ``shop``, the next of ``bank``, then ``lab``, and so on. A host's place decides its workloads' role:
    ``web`` on the first, third, ... host of a rack, ``db`` on the others.
    """
    metal_rack = min(2, racks)
    return Topology(
        racks=tuple(
            Rack(
                number,
                (
                    *(
                        Host(
                            name := f"host{number}-{position}",
                            number,
                            position,
                            workloads=example_workloads(name, f"{number}-{position}", position, workloads),
                        )
                        for position in range(1, hosts + 1)
                    ),
                    *((Host("metal", number, hosts + 1, bare_metal=True),) if number == metal_rack else ()),
                ),
            )
            for number in range(1, racks + 1)
        ),
        namespaces=tenants(),
        mtu=mtu,
    )


def example_workloads(node: str, suffix: str, position: int, count: int) -> tuple[Workload, ...]:
    """``count`` workloads for a host, named after their tenant and the host: ``shop1-2``, then ``shop1-2-b``, ..."""
    made = []
    for index in range(count):
        tenant = TENANTS[index % len(TENANTS)]
        turn = index // len(TENANTS)
        made.append(
            Workload(
                f"{tenant}{suffix}" + (f"-{turn + 1}" if turn else ""),
                tenant,
                node,
                {"tenant": tenant, "role": "web" if position % 2 else "db"},
            )
        )
    return tuple(made)
