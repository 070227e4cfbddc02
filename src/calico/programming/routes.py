"""Routes and static neighbours of local workloads, in the main table of the calling thread's network namespace.

In:   rows of ``calico.desired`` by address; the interfaces, as they come, go, rename and flap.
Out:  ``<address>/32 (or /128) dev <interface> scope link`` in the kernel, with a permanent neighbour where the
      hardware address is known; what waits, and why.
Next: BIRD learns the routes from the kernel and tells the world.

A route exists exactly while its address is desired and its interface can carry packets. When an address leaves an
interface for good, its connections are forgotten before the address is routed anywhere else. All methods block,
and belong to one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from calico.desired import RouteRow
from calico.model.address import Cidr, Family
from calico.model.settings import Settings
from calico.programming import conntrack
from calico.programming.backend import Busy, Drift, Missing, ProgrammingError
from calico.programming.netlink import ROUTE, Channel, Request
from calico.programming.reconciler import FIRST_DELAY, Retry, after_failure, due, seen
from calico.programming.routeplan import Kind, Placement, Survey, place, survey
from calico.programming.rtnetlink import (
    Link,
    drop_neighbour,
    drop_route,
    find_links,
    list_links,
    list_neighbours,
    list_routes,
    put_neighbour,
    put_route,
)

GRACE: Final = 10.0
"""Seconds after an interface is first seen in which routes on it that we did not ask for stay."""

_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENETDOWN})
_FEW_LINKS = 64
_FORGET_ATTEMPTS = 3


class Pending(NamedTuple):
    """An address that has no route yet: for whose sake it waits, as a sentence.

    ``waits`` is True when the kernel refused nothing: the route follows when its interface is ready, or its row is corrected.
    """

    interface: str
    reason: str
    waits: bool


class Routes:
    """The local workloads' routes of this host.

    ``apply`` follows changes, ``links_changed`` the interfaces, ``sync`` reads everything back and repairs it. Any of them
    may raise Busy; nothing is lost then, whatever it may concern is pending and tried again by ``retry``, or by ``sync``.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.monotonic, grace: float = GRACE
    ) -> None:
        self._prefixes = settings.interface_prefix
        self._kind = Kind(settings.route_metric, settings.device_route_protocol)
        self._families: tuple[Family, ...] = (4, 6) if settings.ipv6_support else (4,)
        self._clock = clock
        self._grace = grace
        self._desired: dict[Cidr, RouteRow] = {}
        self._by_interface: dict[str, set[Cidr]] = {}
        self._placed: dict[Cidr, Placement] = {}
        self._links: dict[str, Link] = {}
        self._first_seen: dict[tuple[int, str], float] = {}
        self._pending: dict[Cidr, Pending] = {}
        self._retries: dict[Cidr, Retry] = {}
        self._unforgotten: dict[Cidr, int] = {}
        self._forget_due: float | None = None
        self._grace_ends: float | None = None
        self._synced = False

    @property
    def pending(self) -> Mapping[Cidr, Pending]:
        """The desired addresses that have no route now, and those whose route could not be taken away."""
        return dict(self._pending)

    @property
    def programmed(self) -> int:
        """How many addresses have their route."""
        return len(self._placed.keys() - self._pending.keys())

    def next_due(self) -> float | None:
        """When (by the clock) ``retry`` has something to do, or ``sync`` could remove what was in its grace period."""
        times = [retry.due for retry in self._retries.values()]
        times += [end for end in (self._grace_ends, self._forget_due) if end is not None]
        return min(times, default=None)

    def concerns(self, addresses: Collection[Cidr]) -> bool:
        """Whether any of these destinations, which somebody else touched, is one of ours. For any thread, at any time."""
        return any(address in self._desired for address in addresses)

    def apply(self, changes: Mapping[Cidr, RouteRow | None]) -> None:
        """Carry out changed rows (None: gone). A row that cannot be carried out now is ``pending`` afterwards.

        Raises Busy, and Missing without the rights for it.
        """
        changed = {address: row for address, row in changes.items() if address.family in self._families}
        for address, row in changed.items():
            self._want(address, row)
        with self._noting_failure(changed), Channel(ROUTE) as channel:
            names = {row.interface for row in changed.values() if row is not None}
            others = self._look(channel, names)
            self._settle(channel, {**changed, **others})

    def links_changed(self, touched: Collection[int] | None = None) -> None:
        """Look at all interfaces again: program what waited for one, withdraw what has lost its own.

        ``touched`` are the numbers of interfaces that something happened to (``monitor`` knows): what is on them is
        written again even if they look unchanged, for an interface that was down for a moment lost it. None: all.
        """
        with self._noting_failure(self._desired), Channel(ROUTE) as channel:
            before = self._links
            self._learn(list_links(channel))
            names = _changed(before, self._links)
            again = {name for name, link in self._links.items() if touched is None or link.number in touched}
            concerned = self._addresses_of(names | again)
            self._settle(
                channel, concerned, again={a for a in concerned if self._desired[a].interface in again}
            )

    def retry(self) -> None:
        """Try again what the kernel refused, as far as it is due."""
        now = self._clock()
        addresses = due(self._retries, now)
        if not addresses and (self._forget_due is None or self._forget_due > now):
            return
        with self._noting_failure(addresses), Channel(ROUTE) as channel:
            names = {self._desired[a].interface for a in addresses if a in self._desired}
            others = self._look(channel, names)
            self._settle(channel, {**dict.fromkeys(addresses), **others})

    def sync(self, desired: Mapping[Cidr, RouteRow]) -> list[Drift]:
        """Make the kernel hold exactly what is ``desired``, starting from whatever it holds; what was different.

        Routes that nobody asked for stay while their interface is young; others than ours are never touched.
        """
        for address in self._desired.keys() - desired.keys():
            self._want(address, None)
        for address, row in desired.items():
            if address.family in self._families:
                self._want(address, row)
        known = {**self._placed, **self._desired}
        with self._noting_failure(known), Channel(ROUTE) as channel:
            self._learn(list_links(channel))
            wanted, waiting = self._places(self._desired)
            found, self._grace_ends = self._compare(
                channel, wanted, self._names(self._desired), self._links.values()
            )
            self._repair(channel, found, wanted, waiting)
        self._synced = True
        return found.drift

    def check(self, desired: Mapping[Cidr, RouteRow]) -> list[Drift]:
        """What ``sync`` would report now, without changing anything."""
        with Channel(ROUTE) as channel:
            links = {link.name: link for link in list_links(channel) if self._is_workload(link.name)}
            rows = {address: row for address, row in desired.items() if address.family in self._families}
            wanted = {}
            for address, row in rows.items():
                target = place(row, links.get(row.interface))
                if isinstance(target, Placement):
                    wanted[address] = target
            found, _ = self._compare(channel, wanted, self._names(rows), links.values())
            return found.drift

    # What is wanted, and where

    def _names(self, rows: Mapping[Cidr, RouteRow]) -> dict[Cidr, str]:
        """The interface of each address that is desired; "" for one that was, and may still be in the kernel."""
        return dict.fromkeys(self._placed, "") | {address: row.interface for address, row in rows.items()}

    def _want(self, address: Cidr, row: RouteRow | None) -> None:
        before = self._desired.get(address)
        if before == row:
            return
        if before is not None:
            addresses = self._by_interface[before.interface]
            addresses.discard(address)
            if not addresses:
                del self._by_interface[before.interface]
        if row is None:
            self._desired.pop(address, None)
        else:
            self._desired[address] = row
            self._by_interface.setdefault(row.interface, set()).add(address)

    def _is_workload(self, name: str) -> bool:
        return name.startswith(self._prefixes)

    def _learn(self, links: Iterable[Link]) -> None:
        """Take a complete list of interfaces for the truth."""
        self._links = {link.name: link for link in links if self._is_workload(link.name)}
        self._first_seen = seen(
            self._first_seen, ((link.number, link.name) for link in self._links.values()), self._clock()
        )

    def _look(self, channel: Channel, names: set[str]) -> dict[Cidr, None]:
        """Bring what we know of some interfaces up to date; the addresses of those that turn out to have changed."""
        before = self._links
        names = {name for name in names if self._is_workload(name)}
        if len(names) > _FEW_LINKS:
            self._learn(list_links(channel))
        else:
            found = find_links(channel, sorted(names))
            self._links = {name: link for name, link in before.items() if name not in names} | found
            for link in found.values():
                self._first_seen.setdefault((link.number, link.name), self._clock())
        return self._addresses_of(_changed(before, self._links))

    def _addresses_of(self, names: Iterable[str]) -> dict[Cidr, None]:
        """The desired addresses on some interfaces, in a stable order."""
        return {
            address: None for name in sorted(names) for address in sorted(self._by_interface.get(name, ()))
        }

    def _places(self, addresses: Iterable[Cidr]) -> tuple[dict[Cidr, Placement], dict[Cidr, Pending]]:
        wanted: dict[Cidr, Placement] = {}
        waiting: dict[Cidr, Pending] = {}
        for address in addresses:
            row = self._desired[address]
            if not self._is_workload(row.interface):
                reason = (
                    f"The interface {row.interface!r} is no workload interface: those begin with "
                    f"{' or '.join(self._prefixes)} (setting InterfacePrefix)."
                )
                waiting[address] = Pending(row.interface, reason, waits=True)
                continue
            target = place(row, self._links.get(row.interface))
            if isinstance(target, Placement):
                wanted[address] = target
            else:
                waiting[address] = Pending(row.interface, target, waits=True)
        return wanted, waiting

    # Following changes

    def _settle(
        self, channel: Channel, addresses: Iterable[Cidr], *, again: Collection[Cidr] = frozenset()
    ) -> None:
        """Bring addresses to where they should be: withdraw, forget connections, then place."""
        addresses = list(addresses)
        wanted, waiting = self._places(a for a in addresses if a in self._desired)
        withdraw: dict[Cidr, Placement] = {}
        for address in addresses:
            placed, target = self._placed.get(address), wanted.get(address)
            if placed is not None and (target is None or target.interface != placed.interface):
                withdraw[address] = placed
        for address, placed in withdraw.items():
            if not self._is_flap(address, placed):
                self._unforgotten.setdefault(address, 0)
        self._withdraw(channel, withdraw)
        for address in addresses:
            if address not in self._placed and address not in wanted:
                self._clear(address)
        for address, pending in waiting.items():
            if address not in self._placed:
                self._retries.pop(address, None)
                self._pending[address] = pending
        self._forget()
        put = {
            address: target
            for address, target in wanted.items()
            if address in again or address in self._retries or self._placed.get(address) != target
        }
        self._put(channel, put)

    def _is_flap(self, address: Cidr, placed: Placement) -> bool:
        """Whether an address only lost its interface for now: it stays wanted there, and the interface exists."""
        row, link = self._desired.get(address), self._links.get(placed.name)
        return (
            row is not None
            and row.interface == placed.name
            and link is not None
            and link.number == placed.interface
        )

    def _withdraw(self, channel: Channel, placements: Mapping[Cidr, Placement]) -> None:
        """Take routes and neighbours away, with any copy that a CNI plugin added under another metric."""
        requests: list[Request] = []
        owners: list[Cidr] = []
        for address, placed in placements.items():
            route = self._kind.route(address, placed.interface)
            mine = [drop_route(route), drop_route(route, any_metric=True)]
            if placed.mac:
                mine.append(drop_neighbour(placed.interface, address))
            requests += mine
            owners += [address] * len(mine)
        problems = self._carry_out(channel, requests, owners)
        for address in placements:
            if address in problems:
                self._failed([address], problems[address])
            else:
                del self._placed[address]

    def _put(self, channel: Channel, placements: Mapping[Cidr, Placement]) -> None:
        """Write neighbours and routes; the neighbour first, so that the first packet finds it."""
        requests: list[Request] = []
        owners: list[Cidr] = []
        for address, target in placements.items():
            before = self._placed.get(address)
            mine: list[Request] = []
            if target.mac:
                mine.append(put_neighbour(target.interface, address, target.mac))
            elif before is not None and before.mac:
                mine.append(drop_neighbour(before.interface, address))
            mine.append(put_route(self._kind.route(address, target.interface)))
            requests += mine
            owners += [address] * len(mine)
        problems = self._carry_out(channel, requests, owners)
        for address, target in placements.items():
            self._placed[address] = (
                target  # also on failure: half of it may be there, and has to be withdrawn
            )
            if address in problems:
                self._failed([address], problems[address])
            else:
                self._clear(address)

    def _carry_out(
        self, channel: Channel, requests: Sequence[Request], owners: Sequence[Cidr]
    ) -> dict[Cidr, str]:
        """Send requests; by owner, why one failed. That something to be deleted is already gone is no failure."""
        problems: dict[Cidr, str] = {}
        for request, owner, answer in zip(requests, owners, channel.transact(requests), strict=True):
            refused = answer.refused
            if refused is None or (refused.code in _GONE and not request.flags):
                continue
            if refused.code == errno.EPERM:
                raise Missing(f"{refused} Programming routes needs root, or the capability CAP_NET_ADMIN.")
            problems[owner] = str(refused)
        return problems

    @contextlib.contextmanager
    def _noting_failure(self, addresses: Iterable[Cidr]) -> Iterator[None]:
        """When the kernel does not answer, nobody knows what became of these addresses: all of them are tried again."""
        try:
            yield
        except Busy as busy:
            self._failed(list(addresses), str(busy))
            raise

    def _failed(self, addresses: Iterable[Cidr], reason: str) -> None:
        now = self._clock()
        for address in addresses:
            row, placed = self._desired.get(address), self._placed.get(address)
            if row is None and placed is None:
                continue
            name = row.interface if row is not None else placed.name if placed is not None else ""
            self._pending[address] = Pending(name, reason, waits=False)
            self._retries[address] = after_failure(self._retries.get(address), now)

    def _clear(self, address: Cidr) -> None:
        self._pending.pop(address, None)
        self._retries.pop(address, None)

    def _forget(self) -> None:
        """Forget the connections of addresses that left. A failure never keeps a route waiting, and is retried twice."""
        self._forget_due = None
        if not self._unforgotten:
            return
        try:
            conntrack.forget(self._unforgotten.keys())
        except Missing:
            self._unforgotten.clear()
        except ProgrammingError:
            self._unforgotten = {
                address: failures + 1
                for address, failures in self._unforgotten.items()
                if failures + 1 < _FORGET_ATTEMPTS
            }
            if self._unforgotten:
                self._forget_due = self._clock() + FIRST_DELAY
        else:
            self._unforgotten.clear()

    # Reading back

    def _compare(
        self,
        channel: Channel,
        wanted: Mapping[Cidr, Placement],
        names: Mapping[Cidr, str],
        links: Iterable[Link],
    ) -> tuple[Survey, float | None]:
        """What differs in the kernel, and when the first grace period ends that kept something out of it."""
        now = self._clock()
        workloads = {link.number: link.name for link in links}
        ends = {
            number: self._first_seen.get((number, name), now) + self._grace
            for number, name in workloads.items()
        }
        young = {number for number, end in ends.items() if end > now}
        routes = [route for family in self._families for route in list_routes(channel, family)]
        neighbours = [one for family in self._families for one in list_neighbours(channel, family)]
        found = survey(wanted, names, workloads, young, routes, neighbours, self._kind)
        return found, min(ends[number] for number in young) if found.grace else None

    def _repair(
        self,
        channel: Channel,
        found: Survey,
        wanted: Mapping[Cidr, Placement],
        waiting: Mapping[Cidr, Pending],
    ) -> None:
        drops = [drop_route(route) for route in found.drop_routes]
        drops += [drop_neighbour(one.interface, one.address) for one in found.drop_neighbours]
        owners = [route.destination for route in found.drop_routes]
        owners += [one.address for one in found.drop_neighbours]
        problems = self._carry_out(channel, drops, owners)
        gone = [address for address, placed in self._placed.items() if not self._is_flap(address, placed)]
        first = () if self._synced else found.fresh
        self._unforgotten.update(dict.fromkeys((*gone, *found.moved, *first), 0))
        self._forget()
        self._pending = dict(waiting)
        self._placed = dict(wanted)
        self._retries = {a: retry for a, retry in self._retries.items() if a in found.put}
        self._put(channel, found.put)
        for address, reason in problems.items():
            self._failed([address], reason)


def _changed(before: Mapping[str, Link], now: Mapping[str, Link]) -> set[str]:
    """The names of interfaces that came, went, or are not what they were."""
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
