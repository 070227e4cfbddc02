"""The listeners of a lab: one process that echoes TCP and UDP inside every workload and host that is probed.

In:   a file with the namespaces, and the services to answer on in each.
Out:  a file beside it, ``.ready``, when everything listens; echoes, until it is ended.

Run as ``python -m calico.lab.responder FILE``. Sockets are made inside each namespace and stay there, so one loop
serves them all, for both address families.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from calico.lab import namespaces

READY: Final = ".ready"
_BACKLOG: Final = 1024
_LARGEST: Final = 65535


class Assignment(msgspec.Struct, frozen=True):
    """What to answer on: services as "TCP/80", and where."""

    namespaces: tuple[str, ...]
    services: tuple[str, ...]


class Responder:
    """The loop, and its sockets."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()

    def listen(self, name: str, services: tuple[tuple[str, int], ...]) -> None:
        """Answer on ``services`` inside a namespace. OSError where a port is taken."""
        with namespaces.inside(name):
            for protocol, port in services:
                kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
                opened = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK)
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind(("::", port))
                if protocol == "TCP":
                    opened.listen(_BACKLOG)
                    self._register(opened, self._accept)
                else:
                    self._register(opened, self._datagrams)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            for key, _ in self._selector.select():
                answer: Callable[[socket.socket], None] = key.data
                assert isinstance(key.fileobj, socket.socket)
                answer(key.fileobj)

    def _register(self, opened: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        self._selector.register(opened, selectors.EVENT_READ, answer)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other side has given up already, or descriptors ran out
            connection, _ = listener.accept()
            connection.setblocking(False)
            self._register(connection, self._echo)

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_LARGEST)
            if data:
                connection.send(data)  # what does not fit is lost; an echo of a few bytes always fits
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    def _datagrams(self, opened: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing more to read, or no way back
            while True:
                data, sender = opened.recvfrom(_LARGEST)
                opened.sendto(data, sender)


def main(file: Path) -> None:
    """Listen as ``file`` says, say so, and serve."""
    assignment = msgspec.json.decode(file.read_bytes(), type=Assignment)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    services = tuple((text.partition("/")[0], int(text.partition("/")[2])) for text in assignment.services)
    responder = Responder()
    for name in assignment.namespaces:
        responder.listen(name, services)
    file.with_suffix(READY).touch()
    responder.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
