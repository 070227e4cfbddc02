"""The commands that build a topology: what iproute2 is told, and which kernel settings are written.

In:   a ``Topology``, a lab's name, and the workloads' addresses.
Out:  ``Wiring``: cables to lay between namespaces, then for each namespace its settings and commands.
Next: ``namespaces.build`` carries it out.

Everything is text in the words of ip-batch(8), so that a lab can be understood, and rebuilt, by hand. Interfaces are
always introduced by ``dev`` or ``name``: a host may be called ``up``, ``mtu`` or ``a``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from calico.lab.topology import (
    BRIDGE,
    FABRIC_PREFIXES,
    HOST_SIDE_LINK_LOCAL,
    HOST_SIDE_MAC,
    INTERNET,
    INTERNET_GATEWAYS,
    IPV4_GATEWAY,
    UPLINK,
    Link,
    Port,
    Topology,
    Workload,
    bare,
    member_link,
)
from calico.model.address import parse_cidr

Settings = Mapping[str, str]
"""Kernel settings: path under /proc/sys/net, value."""

EVERYWHERE: Final[Settings] = {
    # No wait for duplicate address detection: no link of the lab can have a duplicate.
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/dad_transmits": "0",
    # A link that goes down and up again keeps its addresses in both families.
    "ipv6/conf/all/keep_addr_on_down": "1",
    "ipv6/conf/default/keep_addr_on_down": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    # Fresh namespaces inherit IPv4 settings from the machine; a lab is the same on every machine.
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/ip_forward": "0",
    # Traceroutes and refused datagrams are answered every time, not once a second.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
    # Anybody may ping.
    "ipv4/ping_group_range": "0 2147483647",
}
ROUTER: Final[Settings] = {
    **EVERYWHERE,
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/forwarding": "1",
    "ipv4/conf/default/forwarding": "1",
    "ipv4/fib_multipath_hash_policy": "1",
    "ipv6/fib_multipath_hash_policy": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}


@dataclass(frozen=True, slots=True)
class Wiring:
    """One step of building: ``cables`` from outside, then ``settings`` and ``commands`` inside each namespace.

    Settings are written before cables are laid: interfaces take their defaults when they appear.
    """

    settings: Mapping[str, Settings]
    cables: tuple[str, ...]
    commands: Mapping[str, tuple[str, ...]]


def namespace(lab: str, node: str) -> str:
    """The network namespace of a node of a lab."""
    return f"calico-{lab}-{node}"


def fabric(topology: Topology, lab: str) -> Wiring:
    """Routers, hosts, the internet host, the store's members, and every cable between them."""
    commands: dict[str, list[str]] = {
        node: ["link set dev lo up"]
        for node in (
            *topology.routers,
            INTERNET,
            *topology.member_names,
            *(host.name for host in topology.hosts),
        )
    }
    for rack in topology.racks:
        commands[rack.router] += [
            f"link add name {BRIDGE} mtu {topology.mtu} type bridge stp_state 0 mcast_snooping 0",
            *_addresses(BRIDGE, rack.gateways),
            f"link set dev {BRIDGE} up",
        ]
    for cable in topology.cables:
        for port in cable:
            if port.addresses:
                commands[port.node] += _addresses(port.interface, port.addresses)
            else:
                commands[port.node].append(f"link set dev {port.interface} master {BRIDGE}")
            commands[port.node].append(f"link set dev {port.interface} up")
    for host in topology.hosts:
        # As the installer of a real host would leave it. BGP's routes are better ones.
        gateways = topology.rack_of(host).gateways
        commands[host.name] += [f"route add default via {bare(gateway)} metric 4096" for gateway in gateways]
    for number, name in enumerate(topology.member_names, 1):
        spine, _ = member_link(number)
        commands[name].append(f"route add default via {bare(spine)}")
    for prefix in _inside(topology):
        gateway = INTERNET_GATEWAYS[":" in prefix]
        commands[INTERNET].append(f"route add {prefix} via {bare(gateway)}")
    return Wiring(
        settings={node: ROUTER if node in topology.routers else EVERYWHERE for node in commands},
        cables=tuple(_lay(lab, cable, topology.mtu) for cable in topology.cables),
        commands={node: tuple(lines) for node, lines in commands.items()},
    )


def attachments(
    workloads: Iterable[Workload], addresses: Mapping[str, tuple[str, ...]], lab: str, *, mtu: int
) -> Wiring:
    """Workloads and their veths, as the CNI plugin makes them (behaviour reference 7.2).

    ``addresses`` maps a workload's name to its addresses, without lengths. The host's routes are its agent's business.
    """
    cables = []
    commands: dict[str, list[str]] = {}
    for workload in workloads:
        cables.append(
            _lay(
                lab,
                Link(Port(workload.name, UPLINK), Port(workload.node, workload.interface)),
                mtu,
                other_mac=HOST_SIDE_MAC,
            )
        )
        commands.setdefault(workload.node, []).append(f"link set dev {workload.interface} up")
        inside = ["link set dev lo up", f"link set dev {UPLINK} up"]
        for address in addresses[workload.name]:
            length = 128 if ":" in address else 32
            inside.append(f"addr add {address}/{length} dev {UPLINK}{' nodad' if length == 128 else ''}")
        if any(":" not in address for address in addresses[workload.name]):
            inside += [
                f"route add {IPV4_GATEWAY} dev {UPLINK} scope link",
                f"route add default via {IPV4_GATEWAY} dev {UPLINK}",
            ]
        if any(":" in address for address in addresses[workload.name]):
            inside.append(f"route add default via {HOST_SIDE_LINK_LOCAL} dev {UPLINK}")
        commands[workload.name] = inside
    return Wiring(
        settings={workload.name: EVERYWHERE for workload in workloads},
        cables=tuple(cables),
        commands={node: tuple(lines) for node, lines in commands.items()},
    )


def neighbour_entries(topology: Topology) -> int:
    """About how many neighbour table entries of one address family the lab's namespaces hold together.

    A workload and its host know each other; everybody in a rack knows everybody; routers know their peers.
    """
    racks = sum((len(rack.hosts) + 1) * len(rack.hosts) for rack in topology.racks)
    return 2 * len(topology.workloads) + racks + 2 * (len(topology.racks) + 2)


def _addresses(interface: str, addresses: Iterable[str]) -> list[str]:
    return [
        f"addr add {address} dev {interface}{' nodad' if ':' in address else ''}" for address in addresses
    ]


def _lay(lab: str, cable: Link, mtu: int, *, other_mac: str = "") -> str:
    one, other = cable
    mac = f" address {other_mac}" if other_mac else ""
    return (
        f"link add name {one.interface} mtu {mtu} netns {namespace(lab, one.node)} type veth "
        f"peer name {other.interface}{mac} mtu {mtu} netns {namespace(lab, other.node)}"
    )


def _inside(topology: Topology) -> tuple[str, ...]:
    """What lies behind the border: the private ranges of the fabric, and pools outside of them."""
    private = [parse_cidr(prefix) for prefix in FABRIC_PREFIXES]
    more = (
        pool.cidr
        for pool in topology.pools
        if not any(known.contains(parse_cidr(pool.cidr)) for known in private)
    )
    return (*FABRIC_PREFIXES, *more)
