"""Settings of the agent: type, default and which source wins.

In:   the environment (``FELIX_<NAME>``); later a file and FelixConfiguration resources.
Out:  ``Settings``, one frozen value with Calico's defaults (behaviour reference 1.19), and what could not be used.
Next: rendering and programming take it as it is; it does not change while an agent runs.

As in Calico a value that is not understood counts as not given, and the default stays; "none" is the zero value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.numbers import protocol_number


class FailsafePort(NamedTuple):
    """A port that host policy never closes; ``net`` narrows the far side."""

    protocol: int
    port: int
    net: Cidr | None = None


TCP, UDP = 6, 17

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


def from_environment(environment: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings that ``environment`` asks for, and a sentence for each value that was not understood.

    Names are ``FELIX_`` and Calico's own in any case. Variables that are not known here are passed over: they may
    be meant for a part that does not exist yet.
    """
    given: dict[str, Any] = {}
    problems: list[str] = []
    for variable, text in environment.items():
        prefix, _, name = variable.partition("_")
        known = _PARAMETERS.get(name.lower()) if prefix.upper() == "FELIX" else None
        if known is None or not text:
            continue
        try:
            given[known.field] = known.zero if text.lower() == "none" else known.read(text)
        except (ValueError, AddressError) as error:
            problems.append(f"{variable}={text!r} is not understood ({error}); the default is used")
    return Settings(**given), tuple(problems)


class _Parameter(NamedTuple):
    field: str
    read: Callable[[str], Any]
    zero: Any


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for word in words:
            if word.lower() == text.lower():
                return word
        raise ValueError(f"one of {', '.join(words)} is expected")

    return read


def _boolean(text: str) -> bool:
    return _one_of("true", "false")({"1": "true", "0": "false"}.get(text, text)) == "true"


def _prefixes(text: str) -> tuple[str, ...]:
    prefixes = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,14}", prefix) for prefix in prefixes):
        raise ValueError("beginnings of interface names, separated by commas, are expected")
    return prefixes


def _mask(text: str) -> int:
    mask = int(text, 0)
    if not 0 < mask < 1 << 32 or mask.bit_count() < 8:
        raise ValueError("a 32-bit mask with at least 8 bits set is expected")
    return mask


def _within(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"a number from {low} to {high} is expected")
        return number

    return read


def _seconds(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("seconds, or a duration such as 90s or 1m30s, are expected")
    return sum(
        float(number) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[unit] for number, unit in parts
    )


def _failsafe(text: str) -> tuple[FailsafePort, ...]:
    """``tcp:22,udp:10.0.0.0/8:68``: protocol, optional net, port; a bare number is TCP."""
    found = []
    for item in (part.strip() for part in text.split(",")):
        head, _, port = item.rpartition(":")
        protocol, _, net = head.partition(":")
        number = _within(1, 65535)(port)
        cidr = parse_cidr(net.strip("[]")) if net else None
        found.append(FailsafePort(protocol_number(protocol.upper()) if protocol else TCP, number, cidr))
    return tuple(found)


_DENY = _Parameter("filter_deny_action", _one_of("Drop", "Reject"), "Drop")
_REFRESH = _Parameter("refresh_interval", _seconds, 0.0)
_MARKS = _Parameter("mark_mask", _mask, 0xFFFF0000)
_PARAMETERS: Final = {
    "interfaceprefix": _Parameter("interface_prefix", _prefixes, ("cali",)),
    "defaultendpointtohostaction": _Parameter(
        "default_endpoint_to_host_action", _one_of("Drop", "Return", "Accept"), "Drop"
    ),
    "iptablesfilterdenyaction": _DENY,
    "nftablesfilterdenyaction": _DENY,
    "iptablesmarkmask": _MARKS,
    "nftablesmarkmask": _MARKS,
    "logprefix": _Parameter("log_prefix", str, ""),
    "failsafeinboundhostports": _Parameter("failsafe_inbound", _failsafe, ()),
    "failsafeoutboundhostports": _Parameter("failsafe_outbound", _failsafe, ()),
    "disableconntrackinvalidcheck": _Parameter("disable_conntrack_invalid_check", _boolean, zero=False),
    "devicerouteprotocol": _Parameter("device_route_protocol", _within(1, 255), 3),
    "ipv4normalroutepriority": _Parameter("route_metric", _within(1, 1 << 31), 1024),
    "iptablesrefreshinterval": _REFRESH,
    "nftablesrefreshinterval": _REFRESH,
    "ipv6support": _Parameter("ipv6_support", _boolean, zero=False),
}
"""Calico's name in lower case -> what it sets."""
