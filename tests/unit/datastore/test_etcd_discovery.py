"""Finding etcd by SRV records, against a name server of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.datastore.api import Unavailable
from calico.datastore.etcd_discovery import discover, services
from calico.datastore.etcd_settings import Endpoint

TLS, PLAIN = "_etcd-client-ssl._tcp.example.com", "_etcd-client._tcp.example.com"
Records = dict[str, list[tuple[int, int, int, str]]]
"""For each name: priority, weight, port and host of its SRV records."""


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers with ``records``; by TCP alone if ``large``, and not at all if ``dead``."""

    records: Records
    large: bool = False
    dead: bool = False
    status: int = 0
    asked: list[str] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.dead:
            forged = bytes([data[0] ^ 1]) + self.answer(data)[1:]
            self.transport.sendto(forged, addr)
            self.transport.sendto(self.answer(data, truncated=self.large), addr)

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self.answer(query)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    def answer(self, query: bytes, *, truncated: bool = False) -> bytes:
        labels, position = [], 12
        while size := query[position]:
            labels.append(query[position + 1 : position + 1 + size].decode())
            position += 1 + size
        name = ".".join(labels)
        self.asked.append(name)
        found = [] if truncated else self.records.get(name, [])
        flags = 0x8180 | (0x0200 if truncated else 0) | self.status | (0 if name in self.records else 3)
        message = query[:2] + struct.pack("!HHHHH", flags, 1, len(found) + bool(found), 0, 0) + query[12:]
        if found:  # a name server may say first what the name stands for
            alias = encoded("alias.example.com")
            message += b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, len(alias)) + alias
        for priority, weight, port, host in found:
            target = encoded(host.removesuffix(".example.com"))[:-1]
            # The end of the host is that of the question, to which a pointer leads.
            tail = 12 + len(encoded(name)) - len(encoded("example.com"))
            target += struct.pack("!H", 0xC000 | tail)
            body = struct.pack("!HHH", priority, weight, port) + target
            message += b"\xc0\x0c" + struct.pack("!HHIH", 33, 1, 60, len(body)) + body
        return message

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[str, int]]:
        loop = asyncio.get_running_loop()
        streams = await asyncio.start_server(self.tcp, "127.0.0.1", 0)
        port = streams.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        try:
            yield ("127.0.0.1", port)
        finally:
            transport.close()
            streams.close()


def found(*servers: NameServer, timeout: float = 5.0) -> tuple[Endpoint, ...]:
    async def body() -> tuple[Endpoint, ...]:
        async with contextlib.AsyncExitStack() as stack:
            addresses = [await stack.enter_async_context(server.serving()) for server in servers]
            return await discover("example.com", servers=addresses, timeout=timeout)

    return asyncio.run(body())


@pytest.mark.parametrize("large", [False, True])
def test_records_of_both_kinds(large: bool) -> None:
    """Those with TLS come first, then by priority and weight; an answer too large for a datagram is had by TCP."""
    server = NameServer(
        {
            TLS: [
                (20, 0, 2379, "c.example.com"),
                (10, 1, 2379, "b.example.com"),
                (10, 5, 4001, "a.example.com"),
            ],
            PLAIN: [(0, 0, 2379, "d.example.com")],
        },
        large=large,
    )

    assert found(server) == (
        Endpoint("a.example.com", 4001, tls=True),
        Endpoint("b.example.com", 2379, tls=True),
        Endpoint("c.example.com", 2379, tls=True),
        Endpoint("d.example.com", 2379),
    )


def test_one_kind_is_enough() -> None:
    """A name that does not exist is no error while the other does."""
    assert found(NameServer({PLAIN: [(0, 0, 1, "a.example.com")]})) == (Endpoint("a.example.com", 1),)


def test_no_records() -> None:
    """A domain without such records names no etcd, and the error names the records."""
    with pytest.raises(Unavailable, match=r"no SRV record _etcd-client-ssl\._tcp\.example\.com"):
        found(NameServer({}))


def test_next_name_server_is_asked() -> None:
    """A name server that is dead or fails is passed over for the next."""
    good = NameServer({PLAIN: [(0, 0, 1, "a.example.com")]})
    assert found(NameServer({}, dead=True), good, timeout=0.05)
    assert found(NameServer({TLS: [], PLAIN: []}, status=2), good)


def test_no_name_server_answers() -> None:
    """When no name server answers the store is unavailable, not misconfigured."""
    with pytest.raises(Unavailable, match=r"cannot be looked up: 127\.0\.0\.1 does not answer"):
        found(NameServer({}, dead=True), timeout=0.05)


@given(st.binary(max_size=80))
def test_nonsense_is_no_answer(message: bytes) -> None:
    """Whatever a name server sends, reading it ends, with records or with an error that is expected."""
    with contextlib.suppress(ValueError, IndexError, struct.error):
        services(message)


def test_name_that_points_to_itself() -> None:
    """A compressed name without an end is no name."""
    with pytest.raises(ValueError, match="no end"):
        services(struct.pack("!HHHHHH", 1, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c")
