"""Find the members of etcd by the SRV records of a domain.

In:   a domain; the name servers of ``/etc/resolv.conf``.
Out:  the endpoints that ``_etcd-client-ssl._tcp`` (with TLS) and ``_etcd-client._tcp`` (without) name, in
      order of priority; Unavailable if there is none or nobody answers.
Next: ``etcd_channel`` connects to them.

The standard library resolves addresses only, and one question needs no resolver package.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from calico.datastore.api import Unavailable
from calico.datastore.etcd_settings import Endpoint

SERVICES: Final = (("_etcd-client-ssl._tcp", True), ("_etcd-client._tcp", False))
TIMEOUT: Final = 2.0
"""How many seconds a name server may take."""

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_PORT: Final = 53
_SRV: Final = 33
_IN: Final = 1
_HEADER: Final = struct.Struct("!HHHHHH")
_NO_SUCH_NAME: Final = 3
_TRUNCATED: Final = 0x0200
_RECURSE: Final = 0x0100
_POINTER: Final = 0xC0


class Service(NamedTuple):
    """What one SRV record says."""

    priority: int
    weight: int
    port: int
    host: str


async def discover(
    domain: str,
    *,
    servers: Sequence[tuple[str, int]] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - per server
) -> tuple[Endpoint, ...]:
    """The endpoints of ``domain``, as ``servers`` say (address and port; None: those of the system)."""
    asked = name_servers() if servers is None else servers
    found = []
    for service, tls in SERVICES:
        records = await _lookup(f"{service}.{domain.strip('.')}", asked, timeout)
        found += [Endpoint(record.host, record.port, tls) for record in sorted(records)]
    if not found:
        names = " or ".join(f"{service}.{domain}" for service, _ in SERVICES)
        raise Unavailable(f"etcd is not found: there is no SRV record {names}; check ETCD_DISCOVERY_SRV")
    return tuple(found)


def name_servers() -> list[tuple[str, int]]:
    """The system's name servers, or the one of this machine if none is configured."""
    try:
        lines = _RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    return [(word[1], _PORT) for word in words if word[:1] == ["nameserver"] and len(word) > 1] or [
        ("127.0.0.1", _PORT)
    ]


async def _lookup(name: str, servers: Sequence[tuple[str, int]], timeout: float) -> list[Service]:  # noqa: ASYNC109 - per server
    """The SRV records of ``name`` from the first server that answers."""
    reasons = []
    for server in servers:
        number = random.getrandbits(16)
        query = question(number, name)
        try:
            async with asyncio.timeout(timeout):
                answer = await _by_udp(server, query, number)
                if _HEADER.unpack_from(answer)[1] & _TRUNCATED:
                    answer = await _by_tcp(server, query)
            return services(answer)
        except TimeoutError:
            reasons.append(f"{server[0]} does not answer")
        except (OSError, ValueError, struct.error, IndexError, EOFError) as error:
            reasons.append(f"{server[0]}: {error}")
    raise Unavailable(f"{name} cannot be looked up: {'; '.join(reasons)}")


def question(number: int, name: str) -> bytes:
    """A DNS message that asks for the SRV records of ``name``. ValueError if that is no name."""
    labels = [label.encode("ascii") for label in name.split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is no name of the DNS")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(number, _RECURSE, 1, 0, 0, 0) + encoded + struct.pack("!HH", _SRV, _IN)


def services(message: bytes) -> list[Service]:
    """The SRV records in a DNS answer. ValueError, IndexError or struct.error if it is none, or tells of a failure."""
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    status = flags & 0xF
    if status == _NO_SUCH_NAME:
        return []
    if status:
        raise ValueError(f"the name server failed with status {status}")
    position = _HEADER.size
    for _ in range(questions):
        position = _name(message, position)[1] + 4
    found = []
    for _ in range(answers):
        position = _name(message, position)[1]
        kind, _, _, length = struct.unpack_from("!HHIH", message, position)
        position += 10
        if kind == _SRV:
            priority, weight, port = struct.unpack_from("!HHH", message, position)
            found.append(Service(priority, -weight, port, _name(message, position + 6)[0]))
        position += length
    return found


def _name(message: bytes, position: int) -> tuple[str, int]:
    """The name at ``position``, and where it ends."""
    labels: list[str] = []
    end = None
    jumps = 0
    while size := message[position]:
        if size & _POINTER == _POINTER:
            end = end or position + 2
            position = struct.unpack_from("!H", message, position)[0] & 0x3FFF
            jumps += 1
            if jumps > len(message):
                raise ValueError("a name in the answer has no end")
            continue
        labels.append(message[position + 1 : position + 1 + size].decode("ascii"))
        position += 1 + size
    return ".".join(labels), end or position + 1


class _Asking(asyncio.DatagramProtocol):
    """Waits for the datagram that answers ``number``."""

    def __init__(self, number: int) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._number = number.to_bytes(2, "big")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - connected
        if data.startswith(self._number) and len(data) >= _HEADER.size and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _by_udp(server: tuple[str, int], query: bytes, number: int) -> bytes:
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(lambda: _Asking(number), remote_addr=server)
    try:
        transport.sendto(query)
        return await asking.answer
    finally:
        transport.close()


async def _by_tcp(server: tuple[str, int], query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
