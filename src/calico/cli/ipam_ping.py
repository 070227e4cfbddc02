"""One ICMP echo from this host, to see whether anybody answers at an address.

In:   an address, and how long to wait.
Out:  ``Answer``: yes, no, or that this host may not ask, with the reason.
Next: ``cli.ipam_why`` prints it.

No answer proves nothing: policy may deny the question. An answer proves that somebody is there, not who.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Final, NamedTuple

from calico.model.address import Cidr

_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
_HEADER: Final = struct.Struct("!BBHHH")


class Answer(NamedTuple):
    """Whether the address answers; None where it could not be asked."""

    answers: bool | None
    detail: str


def echo(address: Cidr, wait: float) -> Answer:
    """Ask ``address`` once, and wait for an answer for ``wait`` seconds."""
    try:
        with _socket(address) as asked:
            return _ask(asked, address, wait)
    except PermissionError:
        return Answer(None, "this user may not send echoes; run as root")
    except OSError as error:
        return Answer(None, f"this host cannot ask it: {error.strerror}")


def _socket(address: Cidr) -> socket.socket:
    """What sends echoes: as root anybody's, else that of a user whom the kernel lets."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if address.family == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    kind = socket.SOCK_RAW if os.geteuid() == 0 else socket.SOCK_DGRAM
    return socket.socket(family, kind, protocol)


def _ask(asked: socket.socket, address: Cidr, wait: float) -> Answer:
    mark = os.urandom(16)  # the kernel changes the identifier of users' echoes, but never the content
    asked.connect((address.address, 0))
    asked.setblocking(False)
    started = time.monotonic()
    asked.send(_request(address.family, mark))
    while (left := started + wait - time.monotonic()) > 0:
        readable, _, _ = select.select([asked], [], [], left)
        if not readable:
            break
        if _is_reply(address.family, asked.recv(2048), mark):
            return Answer(answers=True, detail=f"after {1000 * (time.monotonic() - started):.1f} ms")
    return Answer(answers=False, detail=f"not within {wait:g} s; policy may keep it from answering")


def _request(family: int, mark: bytes) -> bytes:
    """The echo; the kernel computes the checksum of version 6 by itself."""
    bare = _HEADER.pack(_REQUEST[family], 0, 0, os.getpid() & 0xFFFF, 1) + mark
    if family == 6:
        return bare
    return _HEADER.pack(_REQUEST[family], 0, checksum(bare), os.getpid() & 0xFFFF, 1) + mark


def _is_reply(family: int, packet: bytes, mark: bytes) -> bool:
    """Whether this answers the echo with ``mark``; raw sockets of version 4 bring the header of IP along."""
    if family == 4 and packet[:1] and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 15) * 4 :]
    return packet[:1] == bytes([_REPLY[family]]) and packet[_HEADER.size :] == mark


def checksum(content: bytes) -> int:
    """The Internet checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
