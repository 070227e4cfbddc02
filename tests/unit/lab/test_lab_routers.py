"""What the fabric's routers are told."""

from __future__ import annotations

from calico.lab.routers import configuration, neighbours
from calico.lab.topology import regular


def test_a_rack_router_reflects_its_hosts_and_speaks_ebgp_with_the_spine() -> None:
    """Hosts are clients in the rack's AS; the spine is another AS."""
    topology = regular()

    assert [(n.name, n.as_number, n.is_host) for n in neighbours(topology, "tor2")] == [
        ("host2-1", 65002, True),
        ("host2-2", 65002, True),
        ("metal", 65002, True),
        ("spine", 64600, False),
    ]
    text = configuration(topology, "tor2")
    assert text.count("rr client;") == 6
    assert "neighbor 10.0.2.11 as 65002;" in text
    assert "neighbor fd00:10:1:2:: as 64600;" in text


def test_only_the_border_originates_default_routes() -> None:
    """Every other router learns them."""
    topology = regular()

    originators = [
        router for router in topology.routers if "protocol static" in configuration(topology, router)
    ]

    assert originators == ["border"]


def test_sessions_are_symmetric() -> None:
    """Between routers, each end names the other, with the AS that the other has."""
    topology = regular(3, 1, 0)
    pairs = {
        (router, neighbour.name)
        for router in topology.routers
        for neighbour in neighbours(topology, router)
        if not neighbour.is_host
    }

    assert pairs == {(other, one) for one, other in pairs}
    assert len(pairs) == 2 * (3 + 1)
