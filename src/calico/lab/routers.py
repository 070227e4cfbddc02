"""BIRD's configuration of the fabric's routers, as text.

In:   a ``Topology`` and the name of a router.
Out:  what its BIRD reads.
Next: ``scenario`` writes it into the lab's directory and starts BIRD in the router's namespace.

Top-of-rack routers speak iBGP with their hosts, whose routes they reflect, and eBGP with the spine; the border
originates the default routes. One session for each address family, as Calico's hosts have it. A router takes
from a host any prefix but the default route and those of the fabric itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from calico.lab.topology import (
    BORDER,
    BORDER_AS,
    BRIDGE,
    INTERNET,
    SPINE,
    SPINE_AS,
    Rack,
    Topology,
    bare,
    spine_link,
)

DEFAULTS: Final = ("0.0.0.0/0", "::/0")
FAMILIES: Final = ("ipv4", "ipv6")
TIMERS: Final = (
    "    connect delay time 1;\n    connect retry time 2;\n    error wait time 1, 5;\n    hold time 30;"
)


class Neighbour(NamedTuple):
    """One BGP neighbour of a router, with an address of each family."""

    name: str
    addresses: tuple[str, str]
    as_number: int
    is_host: bool = False


def as_number(topology: Topology, router: str) -> int:
    """The AS of ``router``."""
    fixed = {SPINE: SPINE_AS, BORDER: BORDER_AS}
    return fixed[router] if router in fixed else _rack(topology, router).as_number


def neighbours(topology: Topology, router: str) -> tuple[Neighbour, ...]:
    """Whom ``router`` speaks BGP with."""
    border = Neighbour(BORDER, ("10.1.1.1", "fd00:10:1:fff::1"), BORDER_AS)
    spine = Neighbour(SPINE, ("10.1.1.0", "fd00:10:1:fff::"), SPINE_AS)
    if router == BORDER:
        return (spine,)
    if router == SPINE:
        racks = (
            Neighbour(rack.router, _bare(spine_link(rack.number)[1]), rack.as_number)
            for rack in topology.racks
        )
        return (*racks, border)
    rack = _rack(topology, router)
    hosts = (Neighbour(host.name, _bare(host.addresses), rack.as_number, is_host=True) for host in rack.hosts)
    return (*hosts, spine._replace(addresses=_bare(spine_link(rack.number)[0])))


def router_id(topology: Topology, router: str) -> str:
    """The IPv4 address that names ``router`` in BGP."""
    fixed = {SPINE: "10.1.1.0", BORDER: "10.1.1.1"}
    return fixed[router] if router in fixed else bare(_rack(topology, router).gateways[0])


def session_name(neighbour: str, family: str) -> str:
    """What BIRD calls the session: ``host1_1_v4``."""
    return f"{neighbour.replace('-', '_')}_v{family[-1]}"


def configuration(topology: Topology, router: str) -> str:
    """BIRD's whole configuration file for ``router``."""
    return "\n".join(_sections(topology, router)) + "\n"


def _sections(topology: Topology, router: str) -> Iterator[str]:
    own_as = as_number(topology, router)
    yield f"# {router}: AS {own_as}."
    yield f"router id {router_id(topology, router)};"
    yield ""
    yield "protocol device {\n    scan time 5;\n}"
    yield ""
    yield f"# The subnets on the router's own links.\nprotocol direct connected {{\n    ipv4;\n    ipv6;\n    interface {_links(topology, router)};\n}}"
    for family in FAMILIES:
        yield ""
        yield (
            f"protocol kernel kernel{family[-1]} {{\n"
            "    graceful restart on;\n"
            "    merge paths on;\n"
            f"    {family} {{\n"
            "        import none;\n"
            "        export where source != RTS_DEVICE;\n"
            "    };\n"
            "}"
        )
    if router == BORDER:
        for family, default in zip(FAMILIES, DEFAULTS, strict=True):
            yield ""
            yield (
                "# Whatever else there is: this border knows no more of the world, and says so.\n"
                f"protocol static default{family[-1]} {{\n"
                f"    {family};\n"
                f"    route {default} unreachable;\n"
                "}"
            )
    for index, family in enumerate(FAMILIES):
        for neighbour in neighbours(topology, router):
            yield ""
            yield _session(topology, neighbour, index, family, own_as)


def _session(topology: Topology, neighbour: Neighbour, index: int, family: str, own_as: int) -> str:
    if neighbour.is_host:
        fabric = ", ".join(f"{rack.subnets[index]}+" for rack in topology.racks)
        body = (
            "    rr client;\n"
            f"    {family} {{\n"
            f"        import where net != {DEFAULTS[index]} && !(net ~ [ {fabric} ]);\n"
            "        export all;\n"
            "        next hop self ebgp;\n"
            "    };"
        )
    else:
        body = f"    {family} {{\n        import all;\n        export all;\n        next hop self;\n    }};"
    return (
        f"protocol bgp {session_name(neighbour.name, family)} {{\n"
        f"    local as {own_as};\n"
        f"    neighbor {neighbour.addresses[index]} as {neighbour.as_number};\n"
        "    direct;\n"
        "    graceful restart on;\n"
        f"{TIMERS}\n"
        f"{body}\n"
        "}"
    )


def _links(topology: Topology, router: str) -> str:
    if router == SPINE:
        names = [rack.router for rack in topology.racks] + [BORDER]
    elif router == BORDER:
        names = [SPINE, INTERNET]
    else:
        names = [BRIDGE, SPINE]
    return ", ".join(f'"{name}"' for name in names)


def _rack(topology: Topology, router: str) -> Rack:
    return next(rack for rack in topology.racks if rack.router == router)


def _bare(addresses: tuple[str, str]) -> tuple[str, str]:
    return bare(addresses[0]), bare(addresses[1])
