"""Network sets: addresses outside that selectors can match by label (behaviour reference 1.5)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from calico.model.resource import Resource, Strict


class NetworkSetSpec(Strict, frozen=True, kw_only=True):
    """CIDRs or bare addresses, IPv4 and IPv6 mixed."""

    nets: list[str] = []


class NetworkSet(Resource, frozen=True, kw_only=True, tag=True):
    """A set that rules of its own namespace's policies match."""

    PLURAL: ClassVar[str] = "networksets"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("netset", "netsets")
    spec: NetworkSetSpec = field(default_factory=NetworkSetSpec)


class GlobalNetworkSet(Resource, frozen=True, kw_only=True, tag=True):
    """A set that global policies match, and namespaced ones through ``global()``."""

    PLURAL: ClassVar[str] = "globalnetworksets"
    SHORT: ClassVar[tuple[str, ...]] = ("gns",)
    spec: NetworkSetSpec = field(default_factory=NetworkSetSpec)
