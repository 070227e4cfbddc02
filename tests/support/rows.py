"""Desired rows of what stands in the world of ``support.packets``: its workloads, its host, a profile that is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from calico.desired import EndpointId, EndpointRow, Origin, PolicyRow, RuleRow
from calico.model.address import parse_address
from support.backends import FAMILIES
from support.packets import ADDRESS, INTERFACE

OPEN: Final = "open"
_ALLOW: Final = (RuleRow("Allow", Origin("Profile", "", "", OPEN, "ingress", 0)),)
PROFILES: Final = {OPEN: PolicyRow(_ALLOW, _ALLOW)}
"""A profile that allows everything."""


def workload(name: str = "w1", **fields: Any) -> tuple[EndpointId, EndpointRow]:
    """The endpoint of w1 or w2; without tiers its profile allows everything."""
    addresses = tuple(parse_address(ADDRESS[name][family]) for family in FAMILIES)
    row = EndpointRow(INTERFACE[name], addresses, (), (), (OPEN,))
    return EndpointId("WorkloadEndpoint", "default", name), replace(row, **fields)


def host(name: str = "eth0", interface: str = "eth0", **fields: Any) -> tuple[EndpointId, EndpointRow]:
    """A host endpoint; without tiers its profile allows everything."""
    row = EndpointRow(interface, (), (), (), (OPEN,))
    return EndpointId("HostEndpoint", "", name), replace(row, **fields)
