"""Netlink: requests to the kernel and its answers, packed and parsed with ``struct``.

In:   ``Request`` values; sockets of any netlink protocol (routing, netfilter).
Out:  an ``Answer`` for each request, whole dumps, or ``Busy`` when the kernel did not answer in time.
Next: ``rtnetlink`` and ``conntrack`` give messages a meaning, ``monitor`` listens.

A socket belongs to the network namespace of the thread that opens it, for ever; so channels are opened
for one task and closed after it, which also keeps late answers of an abandoned task from the next one.
Every wait is bounded, and a dump that the kernel reports as interrupted is repeated.

A library for this exists (pyroute2). With it, writing a route costs 20 times as much and listing routes 13 times
(``benchmarks/kernel_netlink.py``), importing it takes 0.2 s and 20 MB in every agent, and it loses events in bursts. The tests
use it as an independent second opinion on what the kernel holds.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

from calico.programming.backend import Busy, Missing, ProgrammingError

ROUTE: Final = 0
NETFILTER: Final = 12

CREATE: Final = 0x400
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds to wait for the kernel, each time something is read."""

_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_CAPPED, _ACK_TLVS = 0x100, 0x200
_ERROR, _DONE, _NOOP = 2, 3, 1
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _GET_STRICT_CHECK = 10, 11, 12
_BATCH = 64
_DUMP_ATTEMPTS = 8
_RECEIVE = 1 << 16

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000

# Every channel of this process has a port id with this prefix, so that a listener knows its own changes.
_PORT_BITS = 12
_PORT_PREFIX = 0x80000 | secrets.randbelow(0x70000)


class Refused(ProgrammingError):
    """The kernel refused one request; ``code`` is the errno, the sentence names the object."""

    def __init__(self, code: int, what: str, detail: str = "") -> None:
        self.code = code
        reason = os.strerror(code) + (f" ({detail})" if detail else "")
        super().__init__(f"The kernel refused {what or 'a netlink request'}: {reason}.")


class Request(NamedTuple):
    """One message to the kernel; ``what`` names it in errors, e.g. "the route 10.0.0.1/32 on cali1"."""

    type: int
    body: bytes
    flags: int = 0
    what: str = ""


class Message(NamedTuple):
    """One message from the kernel; ``port`` is the port id of whoever caused it, 0 for the kernel itself."""

    type: int
    flags: int
    sequence: int
    port: int
    body: bytes


class Answer(NamedTuple):
    """What came of a request: ``refused`` is None when it was carried out, ``bodies`` are what it asked for."""

    refused: Refused | None
    bodies: tuple[bytes, ...] = ()


def is_own_port(port: int) -> bool:
    """Whether a message with this port id was caused by a ``Channel`` of this process."""
    return port >> _PORT_BITS == _PORT_PREFIX


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, payload: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, payload)


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in ``body`` from ``offset`` by type, flag bits removed; the last of a type wins."""
    found: dict[int, bytes] = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[Message]:
    """The messages in one datagram; a truncated last one is left out."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            return
        yield Message(kind, flags, sequence, port, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


class Channel:
    """A socket for requests, in the network namespace of the thread that makes it. Use it in a ``with``.

    Raises Missing if the kernel does not know ``protocol``, Busy when it does not answer within ``timeout`` seconds;
    after Busy the channel is of no more use.
    """

    def __init__(self, protocol: int, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise Missing(
                f"This kernel offers no netlink protocol {protocol} ({error.strerror}); it needs CONFIG_NET and CONFIG_NETFILTER."
            ) from error
        try:
            _bind(self._socket)
            self._socket.settimeout(timeout)
            for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHECK):
                _try_option(self._socket, option)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def transact(self, requests: Sequence[Request]) -> list[Answer]:
        """Have all ``requests`` carried out in order, each on its own; one answer each, in the same order."""
        answers: list[Answer] = []
        for start in range(0, len(requests), _BATCH):
            answers += self._exchange(requests[start : start + _BATCH])
        return answers

    def dump(self, request: Request) -> list[bytes]:
        """The bodies of everything that ``request`` lists, as one consistent picture.

        Raises Refused if the kernel cannot list it, and Busy if it changes faster than it can be read.
        """
        for _ in range(_DUMP_ATTEMPTS):
            bodies = self._dump_once(request)
            if bodies is not None:
                return bodies
        raise Busy(
            f"Listing {request.what or 'kernel objects'} was interrupted by changes {_DUMP_ATTEMPTS} times in a row; try again later."
        )

    def _exchange(self, requests: Sequence[Request]) -> list[Answer]:
        first = self._sequence + 1
        self._send(
            b"".join(
                _pack(request, _REQUEST | _ACK | request.flags, first + index)
                for index, request in enumerate(requests)
            )
        )
        self._sequence += len(requests)
        bodies: dict[int, list[bytes]] = {}
        answers: list[Answer | None] = [None] * len(requests)
        open_answers = len(requests)
        while open_answers:
            for message in messages(self._receive()):
                index = message.sequence - first
                if not 0 <= index < len(requests):
                    continue
                if message.type == _ERROR:
                    refused = _refusal(message, requests[index].what)
                    if answers[index] is None:
                        open_answers -= 1
                    answers[index] = Answer(refused, tuple(bodies.get(index, ())))
                elif message.type > _DONE:
                    bodies.setdefault(index, []).append(message.body)
        return [answer for answer in answers if answer is not None]

    def _dump_once(self, request: Request) -> list[bytes] | None:
        self._sequence += 1
        self._send(_pack(request, _REQUEST | _DUMP | request.flags, self._sequence))
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for message in messages(self._receive()):
                if message.sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(message.flags & _DUMP_INTERRUPTED)
                if message.type == _DONE:
                    (code,) = struct.unpack_from("=i", message.body) if len(message.body) >= 4 else (0,)
                    if code in {-errno.EBUSY, -errno.EAGAIN, -errno.EINTR}:
                        return None
                    if code < 0:
                        raise Refused(-code, request.what)
                    return None if interrupted else bodies
                if message.type == _ERROR:
                    refused = _refusal(message, request.what)
                    if refused is None:
                        return bodies
                    if refused.code in {errno.EBUSY, errno.EAGAIN, errno.EINTR}:
                        return None
                    raise refused
                if message.type > _DONE:
                    bodies.append(message.body)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except TimeoutError as error:
            raise Busy("The kernel did not take a netlink request in time; try again later.") from error
        except OSError as error:
            raise Busy(f"A netlink request could not be sent ({error.strerror}); try again later.") from error

    def _receive(self) -> bytes:
        try:
            data, _, flags, _ = self._socket.recvmsg(_RECEIVE)
        except TimeoutError as error:
            raise Busy("The kernel did not answer a netlink request in time; try again later.") from error
        except OSError as error:
            raise Busy(f"A netlink answer was lost ({error.strerror}); try again later.") from error
        if flags & socket.MSG_TRUNC:
            raise Busy(f"A netlink answer was longer than {_RECEIVE} bytes and was cut off.")
        return data


def _pack(request: Request, flags: int, sequence: int) -> bytes:
    length = 16 + len(request.body)
    return (
        _HEADER.pack(length, request.type, flags, sequence, 0)
        + request.body
        + b"\0" * (-len(request.body) % 4)
    )


def _refusal(message: Message, what: str) -> Refused | None:
    (code,) = struct.unpack_from("=i", message.body)
    if code == 0:
        return None
    detail = ""
    if message.flags & _ACK_TLVS:
        (original,) = struct.unpack_from("=I", message.body, 4)
        start = 20 if message.flags & _CAPPED else 4 + ((original + 3) & ~3)
        detail = attributes(message.body, start).get(1, b"").rstrip(b"\0").decode(errors="replace")
    return Refused(-code, what, detail)


def _bind(opened: socket.socket) -> None:
    """Take a free port id with this process's prefix."""
    start = secrets.randbelow(1 << _PORT_BITS)
    for step in range(1 << _PORT_BITS):
        port = _PORT_PREFIX << _PORT_BITS | (start + step) % (1 << _PORT_BITS)
        try:
            opened.bind((port, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Busy(f"A netlink socket could not be bound ({error.strerror}).") from error
        else:
            return
    raise Busy("All netlink port ids of this process are taken; some channel was never closed.")


def _try_option(opened: socket.socket, option: int) -> None:
    """Switch a socket option on where the kernel has it; what older kernels send is understood too."""
    try:
        opened.setsockopt(_SOL_NETLINK, option, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise Busy(f"A netlink socket option was refused ({error.strerror}).") from error
