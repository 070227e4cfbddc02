"""Settings of the agent: type, default and which source wins.

In:   the environment (``FELIX_<NAME>``), a file, later FelixConfiguration resources.
Out:  ``Settings``, one frozen value with Calico's names in snake_case and Calico's defaults (behaviour reference 1.19).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from calico.model.address import Cidr


class FailsafePort(NamedTuple):
    """A port that host policy never closes; ``net`` narrows the far side."""

    protocol: int
    port: int
    net: Cidr | None = None


TCP, UDP = 6, 17

_INBOUND = (
    (TCP, 22),
    (UDP, 68),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
)
_OUTBOUND = (
    (UDP, 53),
    (UDP, 67),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the data path may be told."""

    interface_prefix: tuple[str, ...] = ("cali",)
    default_endpoint_to_host_action: Literal["Drop", "Return", "Accept"] = "Drop"
    filter_deny_action: Literal["Drop", "Reject"] = "Drop"
    mark_mask: int = 0xFFFF0000
    log_prefix: str = "calico-packet"
    failsafe_inbound: tuple[FailsafePort, ...] = tuple(FailsafePort(*port) for port in _INBOUND)
    failsafe_outbound: tuple[FailsafePort, ...] = tuple(FailsafePort(*port) for port in _OUTBOUND)
    disable_conntrack_invalid_check: bool = False
    device_route_protocol: int = 3
    route_metric: int = 1024
    refresh_interval: float = 90.0
    """Seconds between full read-backs of tables, routes and interfaces; 0 disables."""
    ipv6_support: bool = True

    @property
    def accept_mark(self) -> int:
        """Policy accepted the packet: the mask's lowest bit."""
        return _bit(self.mark_mask, 0)

    @property
    def pass_mark(self) -> int:
        """A Pass rule matched: skip the rest of the tier."""
        return _bit(self.mark_mask, 1)

    @property
    def scratch_mark(self) -> int:
        """Free for one chain's own use."""
        return _bit(self.mark_mask, 3)


def _bit(mask: int, index: int) -> int:
    for _ in range(index):
        mask &= mask - 1
    return mask & -mask
