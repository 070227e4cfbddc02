"""Opening many connections at once, each from inside its source's namespace.

In:   ``Attempt``s: a namespace, an address, a protocol, a port.
Out:  an ``Outcome`` for each, in the same order.
Next: ``probe`` judges them.

One process, one loop: sockets are made inside the source's namespace and stay there, whoever reads them. TCP counts
when it is connected or refused, UDP when the echo or a refusal comes back, ICMP when the echo comes back. What is
lost is sent again: SYNs by the kernel after a second, datagrams by us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple

from calico.lab import namespaces

PATIENCE: Final = 1.6
"""Seconds until a connection that nobody answers is given up: room for one more SYN."""
RESENT: Final = (0.3, 0.8)
"""When datagrams that were not answered are sent again."""
AT_ONCE: Final = 4_000

_FILTERED: Final = frozenset({errno.EPERM, errno.EACCES, errno.ETIMEDOUT})
_ECHO: Final = {4: 8, 6: 128}


class Attempt(NamedTuple):
    """A connection to try."""

    namespace: str
    version: int
    address: str
    protocol: str
    port: int | None


class Outcome(NamedTuple):
    """What came of it: an answer (a refusal is one), silence, or the network's word that it cannot be."""

    kind: Literal["answer", "silence", "unreachable"]
    detail: str = ""


SILENCE: Final = Outcome("silence")
ANSWER: Final = Outcome("answer")


class _Open:
    """A socket in flight."""

    __slots__ = ("attempt", "index", "payload", "socket")

    def __init__(self, index: int, attempt: Attempt) -> None:
        self.index = index
        self.attempt = attempt
        family = socket.AF_INET if attempt.version == 4 else socket.AF_INET6
        self.payload = os.urandom(8)
        match attempt.protocol:
            case "TCP":
                kind, number = socket.SOCK_STREAM, 0
            case "UDP":
                kind, number = socket.SOCK_DGRAM, 0
            case _:
                kind = socket.SOCK_DGRAM
                number = socket.IPPROTO_ICMP if attempt.version == 4 else socket.IPPROTO_ICMPV6
                self.payload = struct.pack("!BBHHH", _ECHO[attempt.version], 0, 0, 0, 1) + self.payload
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, number)
        if kind == socket.SOCK_STREAM:
            # Closing sends a reset: nothing of a probe stays behind in either host.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def datagram(self) -> bool:
        return self.attempt.protocol != "TCP"

    def begin(self) -> Outcome | None:
        """Start it; an outcome where that is known at once."""
        try:
            self.socket.connect((self.attempt.address, self.attempt.port or 0))
        except BlockingIOError:
            return None
        except OSError as error:
            return _outcome(error)
        return self.send() if self.datagram else ANSWER

    def send(self) -> Outcome | None:
        try:
            self.socket.send(self.payload)
        except OSError as error:
            return _outcome(error)
        return None

    def receive(self) -> Outcome | None:
        """What the socket has to say, now that it has something to say."""
        problem = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            return _outcome(OSError(problem, os.strerror(problem)))
        if not self.datagram:
            return ANSWER
        try:
            data = self.socket.recv(2048)
        except BlockingIOError:
            return None
        except OSError as error:
            return _outcome(error)
        return ANSWER if data.endswith(self.payload[-8:]) else None


def _outcome(error: OSError) -> Outcome:
    if error.errno == errno.ECONNREFUSED:
        return Outcome("answer", "refused")
    if error.errno in _FILTERED:
        return Outcome("silence", error.strerror or "")
    return Outcome("unreachable", error.strerror or str(error))


def attempt_all(attempts: Sequence[Attempt], *, patience: float = PATIENCE) -> tuple[Outcome, ...]:
    """Try everything, up to ``AT_ONCE`` at a time; the outcomes in the order of ``attempts``."""
    ceiling = _raise_limit()
    outcomes: list[Outcome] = [SILENCE] * len(attempts)
    order = sorted(range(len(attempts)), key=lambda index: attempts[index].namespace)
    size = max(16, min(AT_ONCE, ceiling - 64))
    for start in range(0, len(order), size):
        _window([(index, attempts[index]) for index in order[start : start + size]], outcomes, patience)
    return tuple(outcomes)


def _raise_limit() -> int:
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = AT_ONCE + 256
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _window(batch: list[tuple[int, Attempt]], outcomes: list[Outcome], patience: float) -> None:
    with selectors.EpollSelector() as selector, contextlib.ExitStack() as sockets:
        waiting: dict[int, _Open] = {}
        for opened in _open_all(batch, outcomes):
            sockets.callback(opened.socket.close)
            wanted = selectors.EVENT_READ if opened.datagram else selectors.EVENT_WRITE
            selector.register(opened.socket, wanted, opened)
            waiting[opened.index] = opened
        begun = time.monotonic()
        resends = list(RESENT)
        while waiting:
            now = time.monotonic() - begun
            if now >= patience:
                break
            if resends and now >= resends[0]:
                resends.pop(0)
                for opened in [*waiting.values()]:
                    if opened.datagram:
                        _settle(selector, waiting, outcomes, opened, opened.send())
            for key, _ in selector.select(max(0.0, min([patience, *resends[:1]]) - now)):
                opened = key.data
                _settle(selector, waiting, outcomes, opened, opened.receive())


def _open_all(batch: list[tuple[int, Attempt]], outcomes: list[Outcome]) -> Iterator[_Open]:
    """Sockets whose outcome is not known at once."""
    for name, group in groupby(batch, key=lambda item: item[1].namespace):
        members = list(group)
        begun: list[_Open] = []
        try:
            with namespaces.inside(name):
                for index, attempt in members:
                    opened = _Open(index, attempt)
                    outcome = opened.begin()
                    if outcome is None:
                        begun.append(opened)
                    else:
                        outcomes[index] = outcome
                        opened.socket.close()
        except FileNotFoundError:
            for index, _ in members:
                outcomes[index] = Outcome("unreachable", f"there is no namespace {name}")
        yield from begun


def _settle(
    selector: selectors.EpollSelector,
    waiting: dict[int, _Open],
    outcomes: list[Outcome],
    opened: _Open,
    outcome: Outcome | None,
) -> None:
    if outcome is not None and opened.index in waiting:
        outcomes[opened.index] = outcome
        del waiting[opened.index]
        selector.unregister(opened.socket)
        opened.socket.close()
