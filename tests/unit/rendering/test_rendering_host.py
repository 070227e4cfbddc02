from __future__ import annotations

import itertools

import pytest

from calico.desired import Delta, EndpointId, EndpointRow
from calico.model.address import Cidr, parse_address
from calico.model.settings import Settings
from calico.rendering.host import Governed, govern
from calico.rendering.renderer import Renderer
from calico.ruleset import ast

INTERFACES = {
    "eth0": frozenset({parse_address("10.0.0.1"), parse_address("fd00::1")}),
    "eth1": frozenset({parse_address("10.0.1.1")}),
    "cali1": frozenset({parse_address("10.0.2.1")}),
}


def host(name: str) -> EndpointId:
    return EndpointId("HostEndpoint", "", name)


def row(interface: str = "", *addresses: str) -> EndpointRow:
    return EndpointRow(interface, tuple(parse_address(address) for address in addresses), (), (), ())


CASES = {
    "by name, there or not": ({"a": row("eth7")}, {"eth7": "a"}, None),
    "by an expected address of either family": ({"a": row("", "fd00::1")}, {"eth0": "a"}, None),
    "by address on several interfaces": (
        {"a": row("", "10.0.0.1", "10.0.1.1")},
        {"eth0": "a", "eth1": "a"},
        None,
    ),
    "a name keeps the addresses from counting": ({"a": row("eth7", "10.0.0.1")}, {"eth7": "a"}, None),
    "the first name wins": ({"b": row("eth0"), "a": row("", "10.0.0.1")}, {"eth0": "a"}, None),
    "a workload interface has no host endpoint": ({"a": row("", "10.0.2.1"), "b": row("cali1")}, {}, None),
    "all others": ({"b": row("*"), "a": row("*"), "c": row("eth0")}, {"eth0": "c"}, "a"),
    "nobody": ({"a": row("", "192.0.2.1")}, {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_who_governs_an_interface(case: str) -> None:
    """Each rule of who governs which interface, whatever the order in which endpoints came."""
    rows, interfaces, wildcard = CASES[case]
    expected = Governed(
        {name: host(owner) for name, owner in interfaces.items()}, host(wildcard) if wildcard else None
    )
    for order in itertools.permutations(rows):
        assert govern({host(name): rows[name] for name in order}, INTERFACES, Settings()) == expected


def entries(renderer: Renderer) -> set[str]:
    return set(renderer.tables[4].maps["cali-from-hep"])


def test_an_address_that_moves_takes_its_endpoint_along() -> None:
    """An endpoint by address follows the address from interface to interface; other news of interfaces change nothing."""
    renderer = Renderer(Settings())
    address = frozenset({parse_address("10.0.0.1")})
    nothing: frozenset[Cidr] = frozenset()
    renderer.update(Delta(endpoints={host("a"): row("", "10.0.0.1")}), {"eth0": address})
    assert entries(renderer) == {"eth0"}

    assert renderer.update(Delta(), {"eth0": address, "eth9": nothing}) == []
    changes = renderer.update(Delta(), {"eth0": nothing, "eth1": address})
    assert entries(renderer) == {"eth1"}
    assert {name for change in changes for name in change.maps} == {
        "cali-from-hep",
        "cali-to-hep",
        "cali-to-hep-nat",
        "cali-from-hep-fw",
        "cali-to-hep-fw",
    }


def test_a_name_that_no_interface_can_have_is_left_out() -> None:
    """A name that the tools could misread, as a wildcard or a quotation, never reaches them."""
    renderer = Renderer(Settings())
    names = ['eth"0', "eth*", "eth+", "a b", "x" * 16, "a/b", ""]
    rows = {host(str(number)): row(name) for number, name in enumerate(names)}
    rows |= {
        EndpointId("WorkloadEndpoint", "n", str(number)): row(f"cali{name}")
        for number, name in enumerate(names[:-1])
    }
    renderer.update(Delta(endpoints=rows))
    assert all(not held for table in renderer.tables.values() for held in table.maps.values())


def test_without_ipv6_support_nothing_of_workloads_passes() -> None:
    """The IPv6 table is there and knows no endpoint, so that its dispatch denies."""
    renderer = Renderer(Settings(ipv6_support=False))
    workload = EndpointId("WorkloadEndpoint", "n", "a")
    renderer.update(Delta(endpoints={workload: row("cali1")}))
    tables = renderer.tables
    assert tables[4].maps["cali-from-wl"].keys() == {"cali1"}
    assert not tables[6].maps["cali-from-wl"]
    assert tables[6].chains["cali-from-wl-dispatch"].rules[-1].statements == (ast.Drop(),)
