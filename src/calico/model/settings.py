"""Settings of the agent: one frozen value, with Calico's defaults (behaviour reference 1.19).

In:   what ``model.settings_sources`` resolved; each field is a parameter of ``model.felix_parameters``.
Out:  ``Settings``.
Next: rendering and programming take it as it is; an agent whose settings change starts its life over with new ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from calico.model.address import Cidr
from calico.model.numbers import TCP, UDP


class FailsafePort(NamedTuple):
    """A port that host policy never closes; ``net`` narrows the far side."""

    protocol: int
    port: int
    net: Cidr | None = None


_BOTH = ((TCP, 179), (TCP, 2379), (TCP, 2380), (TCP, 5473), (TCP, 6443), (TCP, 6666), (TCP, 6667))
_INBOUND = ((TCP, 22), (UDP, 68), *_BOTH)
_OUTBOUND = ((UDP, 53), (UDP, 67), *_BOTH)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the data path may be told."""

    interface_prefix: tuple[str, ...] = ("cali",)
    default_endpoint_to_host_action: Literal["Drop", "Return", "Accept"] = "Drop"
    filter_deny_action: Literal["Drop", "Reject"] = "Drop"
    mark_mask: int = 0xFFFF0000
    log_prefix: str = "calico-packet"
    log_rate: str = ""
    """At most so many packets in the kernel's log for each rule that logs, as "10/second"; "" for all of them."""
    log_burst: int = 5
    """How many may come at once before ``log_rate`` counts."""
    failsafe_inbound: tuple[FailsafePort, ...] = tuple(FailsafePort(*port) for port in _INBOUND)
    failsafe_outbound: tuple[FailsafePort, ...] = tuple(FailsafePort(*port) for port in _OUTBOUND)
    disable_conntrack_invalid_check: bool = False
    device_route_protocol: int = 3
    route_metric: int = 1024
    refresh_interval: float = 90.0
    """Seconds between full read-backs of tables, routes and interfaces; 0 disables."""
    ipv6_support: bool = True
    ip_forwarding: bool = True
    """Whether the host is made to forward; a host without workloads may do without."""
    log_severity: str = "Info"
    established_flows: Literal["Keep", "Revoke"] = "Keep"
    """Whether flows go on that were allowed when they began, and that a changed policy denies."""

    @property
    def accept_mark(self) -> int:
        """Policy accepted the packet: the mask's lowest bit."""
        return _bit(self.mark_mask, 0)

    @property
    def pass_mark(self) -> int:
        """A Pass rule matched: skip the rest of the tier."""
        return _bit(self.mark_mask, 1)

    @property
    def forwarded_mark(self) -> int:
        """The packet passes through this host; behind FORWARD nothing else tells it from one that began here."""
        return _bit(self.mark_mask, 2)

    @property
    def scratch_mark(self) -> int:
        """Free for one chain's own use."""
        return _bit(self.mark_mask, 3)


def _bit(mask: int, index: int) -> int:
    for _ in range(index):
        mask &= mask - 1
    return mask & -mask
