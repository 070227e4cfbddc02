"""The names of a lab's nodes, as /etc/hosts has them.

In:   a ``Topology``, the workloads' addresses, the machine's own /etc/hosts.
Out:  the text that programs inside the lab find as /etc/hosts: ping takes names, traceroute shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from calico.lab.topology import INTERNET, Topology, bare


def hosts_file(topology: Topology, addresses: Mapping[str, Sequence[str]], machine: str) -> str:
    """The machine's own lines, then every address of the lab with the name of its node."""
    lines = [f"{address}\t{name}" for name, address in _names(topology, addresses)]
    return "\n".join([machine.rstrip("\n"), "# The lab:", *lines, ""])


def _names(topology: Topology, addresses: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for workload in topology.workloads:
        for address in addresses.get(workload.name, ()):
            yield workload.name, address
    for rack in topology.racks:
        for gateway in rack.gateways:
            yield rack.router, bare(gateway)
    routers = {
        *topology.routers,
        INTERNET,
        *topology.member_names,
        *(host.name for host in topology.hosts),
    }
    for cable in topology.cables:
        for port in cable:
            if port.node in routers:
                for address in port.addresses:
                    yield port.node, bare(address)
