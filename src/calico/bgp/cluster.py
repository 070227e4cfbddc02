"""The nodes that take part in BGP, and their settings.

In:   nodes and BGP configurations, as operators write them.
Out:  ``Settings`` and ``Cluster``: checked values, with defaults filled in, and what was wrong as problems.
Next: ``bgp.sessions`` plans who talks to whom.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any, Final, NamedTuple, TypeVar

from calico.bgp.speaker import BGP_PORT, NORMAL_PRIORITY, Problem
from calico.model import selector
from calico.model.address import AddressError, Cidr, Family, parse_address, parse_cidr
from calico.model.bgp import DEFAULT_AS, BGPConfiguration, BGPConfigurationSpec, BGPPassword, SecretKeyRef
from calico.model.bgp_validation import MAX_PRIORITY
from calico.model.node import Node
from calico.model.numbers import MAX_PORT, as_number

_T = TypeVar("_T")

MAX_KEEPALIVE: Final = 21845
"""Seconds; a third of the longest hold time that the protocol's field holds (RFC 4271)."""
MAX_RESTART: Final = 4095
"""Seconds; the protocol's field holds no more (RFC 4724)."""
NOWHERE: Final = SecretKeyRef(name="", key="")
"""What no secret is called: a session that needs it stays down."""


def parse_as(number: int | str) -> int:
    """The AS number that ``number`` names, as ``model.numbers`` reads it; never 0, which no speaker may have."""
    value = as_number(number)
    if not value:
        raise ValueError(f"{number!r} is no AS number of a node or peer; 0 is reserved, give 1 or more")
    return value


def secret_of(password: BGPPassword | None) -> SecretKeyRef | None:
    """Where ``password`` is kept, if there is one; one that is kept nowhere is asked for, and missing."""
    return (password.secret_key_ref or NOWHERE) if password else None


def parse_seconds(field: str, text: str | None, most: int) -> int | None:
    """The whole seconds, 1 to ``most``, of a duration such as "90s" or "1m30s"; None for none."""
    if not text:
        return None
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text, re.ASCII)
    if not match:
        raise ValueError(f"{field} is {text!r}, which is no duration in whole seconds, such as 90s or 1m30s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return checked(field, hours * 3600 + minutes * 60 + seconds, 1, most)


def checked(field: str, number: int, least: int, most: int) -> int:
    """``number``, if it is from ``least`` to ``most``; BIRD would refuse the whole configuration otherwise."""
    if not least <= number <= most:
        raise ValueError(f"{field} is {number}, and must be from {least} to {most}")
    return number


def parse_speaker(text: str) -> Cidr:
    """An address that BGP can be spoken with: no unspecified, loopback, multicast or link-local one."""
    address = parse_address(text)
    parsed = ip_address(address.address)
    if (
        parsed.is_unspecified
        or parsed.is_loopback
        or parsed.is_multicast
        or (parsed.version == 6 and parsed.is_link_local)
    ):
        raise AddressError(f"{text} is no address of one host in the fabric; give a global unicast address")
    return address


class Member(NamedTuple):
    """A node that takes part in BGP: ``cluster_id`` is "" unless it reflects routes, ``port`` is where it listens.

    ``networks`` are those that its addresses are in.
    """

    name: str
    addresses: tuple[Cidr, ...]
    networks: tuple[Cidr, ...]
    as_number: int
    cluster_id: str
    labels: Mapping[str, str]
    port: int

    def address(self, family: Family) -> Cidr | None:
        """Its address of ``family``, if it has one."""
        return next((address for address in self.addresses if address.family == family), None)


class Settings:
    """The configurations: for all nodes, and what some nodes have otherwise; ``default`` is the one for all."""

    def __init__(self, configurations: Mapping[str, BGPConfiguration]) -> None:
        self._configurations = configurations
        self.problems: list[Problem] = []
        default = self.default = self._spec("default")
        self.mesh = default.node_to_node_mesh_enabled is not False
        self.mesh_password = secret_of(default.node_mesh_password)
        restart_time, number = default.node_mesh_max_restart_time, default.as_number
        self.mesh_restart_time = self._read(
            lambda: parse_seconds("nodeMeshMaxRestartTime", restart_time, MAX_RESTART), None
        )
        self.default_as = self._read(lambda: DEFAULT_AS if number is None else parse_as(number), DEFAULT_AS)

    def of(self, node: str, field: str) -> Any:
        """A setting of ``node``: its own configuration's, else the default's, else None."""
        return getattr(self._spec(f"node.{node}"), field) or getattr(self._spec("default"), field) or None

    def having(self, node: str, field: str) -> tuple[str, BGPConfigurationSpec]:
        """The configuration, by name, that says ``field`` for ``node``; the default's if none does."""
        own = f"node.{node}"
        name = own if getattr(self._spec(own), field) else "default"
        return name, self._spec(name)

    def listen_port(self, node: str) -> int:
        """Where ``node`` listens for BGP; ValueError if the setting is no port."""
        port = self.of(node, "listen_port")
        return checked("listenPort", port, 1, MAX_PORT) if port else BGP_PORT

    def priority(self, node: str, family: Family) -> int:
        """The priority of ordinary routes of ``family`` on ``node``; a setting that makes no sense is a problem."""
        field = f"ipv{family}NormalRoutePriority"
        priority = self.of(node, f"ipv{family}_normal_route_priority") or NORMAL_PRIORITY
        return self._read(lambda: checked(field, priority, 1, MAX_PRIORITY), NORMAL_PRIORITY)

    def _read(self, setting: Callable[[], _T], otherwise: _T) -> _T:
        """A setting; one that makes no sense is a problem, ``otherwise`` counts, and so do all others."""
        try:
            return setting()
        except ValueError as error:
            self.problems.append(Problem("BGPConfiguration/default", str(error)))
            return otherwise

    def _spec(self, name: str) -> BGPConfigurationSpec:
        configuration = self._configurations.get(name)
        return configuration.spec if configuration else BGPConfigurationSpec()


class Cluster:
    """The nodes that take part in BGP, by name and by address."""

    def __init__(self, nodes: Mapping[str, Node], settings: Settings) -> None:
        self.problems: list[Problem] = []
        self.members: dict[str, Member] = {}
        for name in sorted(nodes):
            bgp = nodes[name].spec.bgp
            if bgp is None:
                continue
            try:
                number = settings.default_as if bgp.as_number is None else parse_as(bgp.as_number)
                fields = (("ipv4Address", bgp.ipv4_address), ("ipv6Address", bgp.ipv6_address))
                addresses = tuple(_node_address(text, field) for field, text in fields if text)
                networks = tuple(parse_cidr(text) for _, text in fields if "/" in text)
                cluster_id = _cluster_id(bgp.route_reflector_cluster_id)
                port = settings.listen_port(name)
            except ValueError as error:
                self.problems.append(Problem(f"Node/{name}", f"takes no part in BGP: {error}"))
                continue
            self.members[name] = Member(
                name, addresses, networks, number, cluster_id, nodes[name].metadata.labels, port
            )
        self.by_address: dict[Cidr, Member] = {}
        for member in self.members.values():
            for address in member.addresses:
                first = self.by_address.setdefault(address, member)
                if first is not member:
                    self.problems.append(
                        Problem(
                            f"Node/{member.name}", f"has the address {address.address} of node {first.name}"
                        )
                    )

    def selected(self, text: str) -> Iterator[Member]:
        """The members whose labels ``text`` selects, by name."""
        matches = selector.parse(text).matches
        return (member for member in self.members.values() if matches(member.labels))


def _node_address(text: str, field: str) -> Cidr:
    """The address in a node's "address/length"."""
    parse_cidr(text)
    address = parse_speaker(text.partition("/")[0])
    if not field.startswith(f"ipv{address.family}"):
        raise AddressError(f"{field} is {text!r}, which is an IPv{address.family} address")
    return address


def _cluster_id(text: str) -> str:
    if text and not int(IPv4Address(text)):
        raise ValueError(
            "routeReflectorClusterID is 0.0.0.0, which means none; give another one, or leave it out"
        )
    return text
