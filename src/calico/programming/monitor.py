"""Hear of what others change in the kernel: interfaces, routes, neighbours, the packet filter.

In:   notifications of routing netlink, and the packet filter's "a new generation", in one network namespace.
Out:  ``Changes``: what to look at again, coalesced; nothing for what this process itself did.
Next: the agent has ``links``, ``routes`` or the back end read the kernel back, and so repairs within milliseconds.

A notification only says where to look; what is true is always read from the kernel. When notifications were lost,
``Changes.lost`` says so and everything is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from calico.model.address import Cidr
from calico.programming.backend import Missing
from calico.programming.netlink import NETFILTER, ROUTE, Message, attributes, is_own_port, messages
from calico.programming.rtnetlink import (
    DELADDR,
    DELLINK,
    DELNEIGH,
    DELROUTE,
    MAIN_TABLE,
    NEWADDR,
    NEWLINK,
    NEWNEIGH,
    NEWROUTE,
    parse_link,
    parse_neighbour,
    parse_route,
)

SETTLE: Final = 0.002
"""Seconds that ``changes`` waits for more before it reports, so that a burst is one report."""

_BUFFER = 8 << 20
_RECEIVE = 1 << 16
_MOST = 4096
"""Above so many different routes or neighbours in one report, single ones are not worth telling apart."""

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_ROUTE_GROUPS = (1, 3, 5, 7, 9, 11)  # links, neighbours, and addresses and routes of IPv4 and IPv6
_NFTABLES_GROUP = 7
_NEW_GENERATION = 10 << 8 | 15
_PROCESS, _PROCESS_NAME = 2, 3
_INDEX = struct.Struct("=I")


class Writer(NamedTuple):
    """Who committed a change to the packet filter: its thread's id and name, as the kernel saw them."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last report, by whoever else did it.

    ``links``: numbers of interfaces that came, went, changed or had their addresses changed. ``routes`` and ``neighbours``:
    destinations of the main table, and addresses, that were written or deleted. ``writers``: other processes that
    committed packet filter changes. ``lost``: notifications were missed, so anything may have changed.
    """

    links: frozenset[int] = frozenset()
    routes: frozenset[Cidr] = frozenset()
    neighbours: frozenset[Cidr] = frozenset()
    writers: frozenset[Writer] = frozenset()
    lost: bool = False

    def __bool__(self) -> bool:
        """Whether anything happened."""
        return self.lost or bool(self.links or self.routes or self.neighbours or self.writers)


class Monitor:
    """Listens in the network namespace of the thread that makes it; it may be read from any thread, one at a time.

    ``is_own`` tells of a writer of the packet filter whether it worked for us: by default every thread of this
    process. Programs that we start (``iptables-restore``) are others unless it knows them; to be told of one's own
    change costs one comparison that finds nothing.
    """

    def __init__(self, is_own: Callable[[Writer], bool] | None = None) -> None:
        self._is_own = is_own or _is_thread_of_ours
        self._sockets: list[socket.socket] = []
        self._lost = False
        try:
            self._route = self._open(ROUTE, _ROUTE_GROUPS)
            self._filter: socket.socket | None = self._open_filter()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening. ``changes`` ends with the task that runs it, not by this."""
        for opened in self._sockets:
            opened.close()
        self._sockets.clear()

    def filenos(self) -> tuple[int, ...]:
        """Become readable when there may be something to ``read``."""
        return tuple(opened.fileno() for opened in self._sockets)

    def read(self) -> Changes:
        """Everything that happened since the last call, without waiting."""
        links: set[int] = set()
        routes: set[Cidr] = set()
        neighbours: set[Cidr] = set()
        writers: set[Writer] = set()
        for message in self._drain(self._route):
            if message.type in {NEWLINK, DELLINK}:
                links.add(parse_link(message.body).number)
            elif message.type in {NEWADDR, DELADDR}:
                links.add(_INDEX.unpack_from(message.body, 4)[0])
            elif is_own_port(message.port):
                continue
            elif message.type in {NEWROUTE, DELROUTE}:
                route = parse_route(message.body)
                if route is not None and route.table == MAIN_TABLE:
                    routes.add(route.destination)
            elif message.type in {NEWNEIGH, DELNEIGH}:
                # The kernel's own (port 0) are resolution at work; a deletion by hand comes with its author first.
                neighbour = parse_neighbour(message.body) if message.port else None
                if neighbour is not None:
                    neighbours.add(neighbour.address)
        if self._filter is not None:
            for message in self._drain(self._filter):
                writer = _writer(message)
                if writer is not None and not is_own_port(message.port) and not self._is_own(writer):
                    writers.add(writer)
        if len(routes) > _MOST or len(neighbours) > _MOST:
            self._lost = True
        lost, self._lost = self._lost, False
        if lost:
            return Changes(frozenset(links), writers=frozenset(writers), lost=True)
        return Changes(frozenset(links), frozenset(routes), frozenset(neighbours), frozenset(writers))

    async def changes(self, settle: float = SETTLE) -> AsyncIterator[Changes]:
        """Report what happened, each time something did; what comes within ``settle`` seconds is one report.

        The first report has ``lost`` set: whoever listens has not looked yet. Ends only by being cancelled or closed.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        ready.set()
        numbers = self.filenos()
        for number in numbers:
            loop.add_reader(number, ready.set)
        self._lost = True
        try:
            while True:
                await ready.wait()
                if not self._lost and settle:
                    await asyncio.sleep(settle)
                ready.clear()
                report = self.read()
                if report:
                    yield report
        finally:
            for number in numbers:
                loop.remove_reader(number)

    def _drain(self, opened: socket.socket) -> list[Message]:
        """What is there to read. After an overrun the socket goes on; what was dropped is ``lost``."""
        found: list[Message] = []
        while True:
            try:
                data = opened.recv(_RECEIVE)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                continue
            found += messages(data)

    def _open(self, protocol: int, groups: tuple[int, ...]) -> socket.socket:
        try:
            opened = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
            )
            self._sockets.append(opened)
            _enlarge(opened)
            if protocol == NETFILTER:
                _only_generations(opened)
            opened.bind((0, 0))
            for group in groups:
                opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise Missing(
                f"The kernel's notifications (netlink protocol {protocol}) cannot be received: {error.strerror}. "
                "That needs root, or the capability CAP_NET_ADMIN."
            ) from error
        return opened

    def _open_filter(self) -> socket.socket | None:
        """The packet filter's notifications, where this kernel has nftables."""
        try:
            return self._open(NETFILTER, (_NFTABLES_GROUP,))
        except Missing as missing:
            cause = missing.__cause__
            if isinstance(cause, OSError) and cause.errno in {
                errno.EPROTONOSUPPORT,
                errno.EINVAL,
                errno.ENOENT,
            }:
                return None
            raise


def _writer(message: Message) -> Writer | None:
    if message.type != _NEW_GENERATION:
        return None
    found = attributes(message.body, 4)
    name = found.get(_PROCESS_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return Writer(int.from_bytes(found.get(_PROCESS, b""), "big"), name)


def _is_thread_of_ours(writer: Writer) -> bool:
    return Path(f"/proc/self/task/{writer.pid}").exists()


def _enlarge(opened: socket.socket) -> None:
    """Room for bursts: eight MiB, beyond the system's limit where we may."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)


def _only_generations(opened: socket.socket) -> None:
    """Have the kernel drop all notifications but "a new generation": loading a large ruleset is one message, not 100,000.

    A socket filter of four instructions; they read the message type in network order.
    """
    wanted = int.from_bytes(struct.pack("=H", _NEW_GENERATION), "big")
    program = b"".join(
        struct.pack("=HBBI", code, yes, no, value)
        for code, yes, no, value in (
            (0x28, 0, 0, 4),  # load the half word at offset 4, nlmsg_type
            (0x15, 0, 1, wanted),  # equal?
            (0x06, 0, 0, 0xFFFFFFFF),  # take it all
            (0x06, 0, 0, 0),  # drop it
        )
    )
    kept = ctypes.create_string_buffer(program, len(program))  # for the call, which copies it
    address = ctypes.addressof(kept)
    with contextlib.suppress(OSError):  # without it there is more to read, and nothing else changes
        opened.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, address)
        )
