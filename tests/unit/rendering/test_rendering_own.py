"""What a workload says in its own name only: ARP, neighbour discovery, errors about flows."""

from __future__ import annotations

import pytest

from calico.desired import Delta, EndpointId, EndpointRow
from calico.model.address import parse_address, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.firewall import Packet, cross

OWN, OTHER = "10.65.0.2", "10.65.0.3"
W = EndpointId("WorkloadEndpoint", "default", "w")
OWN6, OTHER6 = "fd00:65::2", "fd00:65::3"


def rendered(*, active: bool = True) -> Renderer:
    addresses = tuple(parse_cidr(net) for net in (f"{OWN}/32", "10.65.0.9/32", f"{OWN6}/128"))
    renderer = Renderer(Settings())
    renderer.update(Delta(endpoints={W: EndpointRow("cali1", addresses, (), (), (), active=active)}))
    return renderer


def heard(renderer: Renderer, sender: str, interface: str = "cali1") -> bool:
    packet = Packet(parse_address(sender), parse_address("169.254.1.1"), way_in=interface)
    return cross(renderer.tables["arp"], "input", packet) == "accept"


def test_arp_is_heard_of_own_addresses_only() -> None:
    """A sender is one of the endpoint's addresses, or nobody yet; interfaces of the host are not asked."""
    renderer = rendered()
    assert [heard(renderer, sender) for sender in (OWN, "10.65.0.9", "0.0.0.0")] == [True] * 3
    assert [heard(renderer, sender) for sender in (OTHER, "169.254.1.1", "255.255.255.255")] == [False] * 3
    assert heard(renderer, OTHER, "eth0")


def test_nobody_is_heard_where_there_is_no_endpoint() -> None:
    """An interface without endpoint, or with one that is closed, says nothing; and the tables forget who has gone."""
    assert not heard(rendered(), OWN, "cali2")
    assert not heard(rendered(active=False), OWN)
    renderer = rendered()
    renderer.update(Delta(endpoints={W: None}))
    assert renderer.tables == Renderer(Settings()).tables


@pytest.mark.parametrize(
    ("flow", "passes"),
    [
        ((OWN, OTHER), True),
        ((OTHER, OWN), True),
        ((OTHER, "192.0.2.1"), False),
        ((OWN6, OTHER6), True),
        ((OTHER6, OWN6), True),
        ((OTHER6, "2001:db8::1"), False),
    ],
)
def test_an_error_passes_policy_if_it_is_about_an_own_flow(flow: tuple[str, str], passes: bool) -> None:
    """With no policy that allows anything, an error leaves the workload only if an end of the flow is its own."""
    began, answers = (parse_address(end) for end in flow)
    source, target = (OWN6, OTHER6) if began.family == 6 else (OWN, OTHER)
    packet = Packet(
        parse_address(source), parse_address(target), 58 if began.family == 6 else 1, way_in="cali1", way_out="eth0",
        state="related", flow=(began, answers),
    )  # fmt: skip
    assert (cross(rendered().tables[began.family], "forward", packet) == "accept") is passes


def test_link_local_solicitations_are_counted_for_each_workload_alone() -> None:
    """The chain with the count belongs to one interface, so that nobody uses up what another may send."""
    table = rendered().tables[6]
    verdict = table.maps["cali-neighbours-dispatch"]["cali1"]
    assert isinstance(verdict, ast.Goto)
    assert verdict.chain == "cali-nd-cali1"
    assert any(
        isinstance(match, ast.Limit) for rule in table.chains[verdict.chain].rules for match in rule.matches
    )
