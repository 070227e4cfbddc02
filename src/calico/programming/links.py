"""The interfaces of this host: which exist, with which addresses, and the workloads' made ready.

In:   the kernel's lists of interfaces and addresses, in the calling thread's network namespace.
Out:  ``Inventory``; workload interfaces with their settings and their IPv6 gateway address.
Next: ``routes`` follows the interfaces, ``calculation`` finds HostEndpoints by their addresses.

A workload's default gateways are the same on every host and for every workload. IPv4: 169.254.1.1, which is nobody's
address; the host answers ARP for it (proxy ARP) as for any other that it has a route to. So that it answers also on a
host without a default route, the address has a route of its own, out of the loopback interface; the packet filter
lets nobody use it. IPv6: fe80::ecee:eeff:feee:eeee, which an interface with
the hardware address ee:ee:ee:ee:ee:ee has by itself; any other workload interface (a virtual machine's tap, say) is
given it here, so that a workload may move without its gateway changing.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from calico.model.address import Cidr, parse_address
from calico.model.settings import Settings
from calico.programming.backend import Drift, ProgrammingError
from calico.programming.netlink import ROUTE, Channel
from calico.programming.reconciler import plan
from calico.programming.rtnetlink import (
    SCOPE_LINK,
    Link,
    Route,
    add_route,
    drop_link_local,
    drop_route,
    list_addresses,
    list_links,
    put_link_local,
)
from calico.programming.sysctl import Sysctls

WORKLOAD_MAC: Final = "ee:ee:ee:ee:ee:ee"
"""What whoever makes a veth gives its host end."""

IPV4_GATEWAY: Final = parse_address("169.254.1.1")
IPV6_GATEWAY: Final = parse_address("fe80::ecee:eeff:feee:eeee")
SPECIAL_ROUTES: Final = 80
"""The protocol number of our routes that do not lead to a workload."""
_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The interfaces of one moment by name, and their addresses (full length, without prefixes)."""

    links: Mapping[str, Link] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[Cidr]] = field(default_factory=dict)
    tentative: frozenset[str] = frozenset()
    """The interfaces whose IPv6 gateway address is there, but not usable yet."""

    def is_up(self, name: str) -> bool:
        """Whether an interface exists, is administratively up, and can carry packets."""
        link = self.links.get(name)
        return link is not None and link.up and link.running

    def workloads(self, prefixes: Iterable[str]) -> dict[str, Link]:
        """The workload interfaces: those whose name begins with one of ``prefixes``."""
        start = tuple(prefixes)
        return {name: link for name, link in self.links.items() if name.startswith(start)}

    def host_interfaces(self, prefixes: Iterable[str]) -> dict[str, frozenset[Cidr]]:
        """The host's own interfaces and their addresses: neither workloads' nor the loopback."""
        start = tuple(prefixes)
        return {
            name: self.addresses.get(name, frozenset())
            for name in self.links
            if name != "lo" and not name.startswith(start)
        }


def take_inventory() -> Inventory:
    """Every interface of the namespace and its addresses, as of now. Raises Busy."""
    with Channel(ROUTE) as channel:
        links = list_links(channel)
        addresses = list_addresses(channel)
    names = {link.number: link.name for link in links}
    by_name: dict[str, set[Cidr]] = {link.name: set() for link in links}
    for found in addresses:
        if (
            found.interface in names
        ):  # an interface may have come between the two lists; its own event follows
            by_name[names[found.interface]].add(found.address)
    return Inventory(
        {link.name: link for link in links},
        {name: frozenset(found) for name, found in by_name.items()},
        frozenset(
            names[found.interface]
            for found in addresses
            if found.interface in names and found.tentative and found.address == IPV6_GATEWAY
        ),
    )


class Links:
    """The interfaces of this host, kept ready for workloads.

    An interface is prepared once it is up, anew for each incarnation (number and name), and looked at again
    by each ``sync``.
    """

    def __init__(self, settings: Settings, sysctls: Sysctls | None = None) -> None:
        self._prefixes = settings.interface_prefix
        self._ipv6 = settings.ipv6_support
        self._sysctls = sysctls or Sysctls()
        self._prepared: set[tuple[int, str]] = set()
        self._problems: dict[str, str] = {}
        self.inventory = Inventory()

    @property
    def problems(self) -> Mapping[str, str]:
        """By workload interface: why it could not be made ready, as a sentence."""
        return dict(self._problems)

    @property
    def host_interfaces(self) -> dict[str, frozenset[Cidr]]:
        """The host's own interfaces and their addresses, as of the last look."""
        return self.inventory.host_interfaces(self._prefixes)

    def changed(self) -> set[str]:
        """Look again, and prepare what came up; the names of all interfaces that differ from the last look."""
        before = self._state()
        self.inventory = take_inventory()
        now = self._state()
        difference = plan(now, before)
        self._prepare(self._fresh())
        return {*difference.update, *difference.delete}

    def sync(self) -> list[Drift]:
        """Look again, and look after every workload interface that is up; which settings were different.

        What an interface merely lacked because it is new is not reported.
        """
        self.inventory = take_inventory()
        fresh = set(self._fresh())
        self._prepare(fresh)
        known = [name for name in self._ready() if name not in fresh]
        return self._prepare(known)

    def _state(self) -> dict[str, tuple[Link, frozenset[Cidr]]]:
        inventory = self.inventory
        return {
            name: (link, inventory.addresses.get(name, frozenset())) for name, link in inventory.links.items()
        }

    def _ready(self) -> list[str]:
        return [name for name in self.inventory.workloads(self._prefixes) if self.inventory.is_up(name)]

    def _fresh(self) -> list[str]:
        """The workload interfaces that are up and not prepared yet; what is gone or down is forgotten."""
        ready = {(self.inventory.links[name].number, name) for name in self._ready()}
        self._prepared &= ready
        self._problems = {name: text for name, text in self._problems.items() if name in self.inventory.links}
        return [name for number, name in sorted(ready) if (number, name) not in self._prepared]

    def _prepare(self, names: Collection[str]) -> list[Drift]:
        """Set up interfaces; one that fails is a problem, and stays fresh."""
        drift: list[Drift] = []
        for name in names:
            link = self.inventory.links[name]
            self._problems.pop(name, None)
            try:
                found = self._sysctls.prepare_workload(name, ipv6=self._ipv6)
            except ProgrammingError as error:
                self._problems[name] = str(error)
                continue
            broken = [one.problem for one in found if one.problem and one.setting.vital]
            if broken:
                self._problems[name] = " ".join(broken)
                continue
            self._prepared.add((link.number, name))
            drift += [
                Drift(
                    6 if one.setting.path.startswith("ipv6") else 4,
                    f"setting {one.setting.path}",
                    f"changed: {one.found}",
                )
                for one in found
                if not one.problem
            ]
        if names:
            drift += self._answer_for_gateway()
        return drift + self._give_gateway(names)

    def _answer_for_gateway(self) -> list[Drift]:
        """Make sure that there is a route to the IPv4 gateway, without which proxy ARP does not answer for it."""
        loopback = self.inventory.links.get(_LOOPBACK)
        self._problems.pop(_LOOPBACK, None)
        if loopback is None or not loopback.up:
            self._problems[_LOOPBACK] = (
                "is down, so workloads may find no gateway unless there is a default route; set it up: ip link set lo up"
            )
            return []
        with Channel(ROUTE) as channel:
            (answer,) = channel.transact([add_route(_gateway_route(loopback))])
        if answer.refused is None:
            return [Drift(4, f"route {IPV4_GATEWAY.address} dev {_LOOPBACK}", "missing")]
        if answer.refused.code != errno.EEXIST:
            self._problems[_LOOPBACK] = str(answer.refused)
        return []

    def remove(self) -> None:
        """Take the gateway's route away; settings of interfaces go with the interfaces."""
        loopback = take_inventory().links.get(_LOOPBACK)
        if loopback is not None:
            with Channel(ROUTE) as channel:
                (answer,) = channel.transact([drop_route(_gateway_route(loopback))])
            if answer.refused is not None and answer.refused.code != errno.ESRCH:
                raise answer.refused

    def _give_gateway(self, names: Collection[str]) -> list[Drift]:
        """Make sure that interfaces have the IPv6 gateway's address, usable at once.

        The kernel's own would first look for duplicates, and not answer for a second or two.
        """
        inventory = self.inventory
        lacking = [
            name
            for name in names
            if self._ipv6
            and (inventory.links[name].number, name) in self._prepared
            and (
                name in inventory.tentative or IPV6_GATEWAY not in inventory.addresses.get(name, frozenset())
            )
            and self._sysctls.read(f"ipv6/conf/{name}/disable_ipv6") == "0"
        ]
        if not lacking:
            return []
        numbers = [inventory.links[name].number for name in lacking]
        with Channel(ROUTE) as channel:
            channel.transact(
                [
                    drop_link_local(number, IPV6_GATEWAY)
                    for name, number in zip(lacking, numbers, strict=True)
                    if name in inventory.tentative
                ]
            )
            answers = channel.transact([put_link_local(number, IPV6_GATEWAY) for number in numbers])
        drift: list[Drift] = []
        for name, answer in zip(lacking, answers, strict=True):
            if answer.refused is None:
                drift.append(Drift(6, f"address {IPV6_GATEWAY.address} on {name}", "missing"))
            else:
                self._problems[name] = str(answer.refused)
                self._prepared.discard((self.inventory.links[name].number, name))
        return drift


def _gateway_route(loopback: Link) -> Route:
    return Route(IPV4_GATEWAY, loopback.number, 0, SPECIAL_ROUTES, SCOPE_LINK)
