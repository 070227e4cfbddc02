"""Follow the packets that the packet filter drops, while somebody looks.

In:   which interface, and how many packets a second may be followed.
Out:  ``Dropped`` for each of them, as the kernel traces it; and what a rule says of itself.
Next: ``cli.drops`` puts both into words.

A table of our own asks the kernel to trace new flows. It is owned by the netlink socket that made it, so the kernel
takes it away with the process, however that ends; nobody's rules are touched, and no packet's fate changes.
Without it the kernel traces nothing, and pays nothing.
"""

from __future__ import annotations

import errno
import re
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, Self

from calico.programming.backend import Missing, ProgrammingError
from calico.programming.libnftables import Library
from calico.programming.netlink import NETFILTER, Channel, Refused, Request, attributes, messages
from calico.programming.netlink import attribute as pack_attribute
from calico.programming.tracejoin import TABLE_FAMILIES, Dropped, Joiner, Place

PREFIX: Final = "calico-drops-"
"""Our table's name begins so."""
EARLY_RATE: Final = 100
"""Packets a second that are followed from before connection tracking on, where known flows cannot be told apart."""

_TRACE: Final = 10 << 8 | 17
_GET_RULE: Final = 10 << 8 | 7
_TRACE_GROUP: Final = 9
_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_BUFFER: Final = 16 << 20
_RECEIVE: Final = 1 << 16
_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS, _USER_DATA = 1, 2, 3, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA, _MATCH_NAME, _MATCH_INFO = 1, 2, 1, 3
_FAMILY_NUMBERS: Final = {name: number for number, name in TABLE_FAMILIES.items()}
_REMEMBERED: Final = 10_000
"""Rules whose words are kept; each rule that is written again is another one."""
_COUNTED: Final = re.compile(r"counter packets \d+ bytes \d+ ?")
_HOOK: Final = re.compile(r"^\s*type \w+ hook (\w+) ", re.MULTILINE)
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,15}")


def table_text(name: str, interface: str | None, rate: int) -> str:
    """The table that has new flows traced, as nftables text.

    ``early`` catches what is dropped before connection tracking: false sources, and a sample of what may begin a flow;
    ``tracked`` everything that does not belong to a known flow, at most ``rate`` packets a second; ``translated``,
    where only one ``interface`` is asked for, what leads there since its destination was translated.
    """
    limited = f"limit rate {rate}/second burst {rate} packets meta nftrace set 1"
    sampled = f"limit rate {EARLY_RATE}/second burst {EARLY_RATE} packets meta nftrace set 1"
    new = "ct state new,invalid,untracked"
    lines = [f"table inet {name} {{", "\tflags owner;"]
    for hook in ("prerouting", "output"):
        chosen = [""]
        if interface is not None:
            leaving = (
                f'fib daddr oifname "{interface}" ' if hook == "prerouting" else f'oifname "{interface}" '
            )
            chosen = [f'iifname "{interface}" ', leaving] if hook == "prerouting" else [leaving]
        after_dnat = -99 if hook == "prerouting" else -89
        early = ["meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return"]
        if hook == "prerouting":
            early.insert(0, f'{chosen[0]}iifname != "lo" fib saddr . iif oif missing {sampled}')
        early += [f"{choice}{sampled}" for choice in chosen]
        chains = [
            ("early", -350, early),
            ("tracked", -199, [f"{new} {choice}{limited}" for choice in chosen]),
        ]
        if interface is not None:
            chains.append(("translated", after_dnat, [f"{new} ct status dnat {chosen[-1]}{limited}"]))
        for stage, priority, rules in chains:
            lines.append(f"\tchain {stage}-{hook} {{")
            lines.append(f"\t\ttype filter hook {hook} priority {priority}; policy accept;")
            lines += [f"\t\t{rule}" for rule in rules]
            lines.append("\t}")
    return "\n".join([*lines, "}", ""])


class Tracer:
    """Traces in the network namespace of the thread that makes it, until it is closed. Use it in a ``with``.

    Raises Missing without the rights, the library or the kernel's features, and ValueError for an ``interface`` that
    can be none. ``lost`` counts how often the kernel told more than could be read.
    """

    def __init__(self, *, interface: str | None = None, rate: int) -> None:
        if interface is not None and not _INTERFACE.fullmatch(interface):
            raise ValueError(f"{interface!r} is no interface's name")
        self.lost = 0
        self._joiner = Joiner()
        self._socket = _listen()
        try:
            self._library = Library()
            self._library.run(table_text(f"{PREFIX}{secrets.token_hex(4)}", interface, rate))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tracing: our table goes with its socket."""
        self._library.close()
        self._socket.close()

    def read(self, timeout: float) -> Iterator[Dropped]:
        """The drops that the kernel told of, or tells of within ``timeout`` seconds; then it returns."""
        ready, _, _ = select.select([self._socket], [], [], timeout)
        end = time.monotonic() + timeout
        while ready:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            for message in messages(data):
                if message.type == _TRACE and (dropped := self._joiner.feed(message.body)):
                    yield dropped
            if time.monotonic() > end:
                return


def _listen() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
    except OSError as error:
        raise Missing(f"this kernel has no netfilter netlink ({error.strerror})") from error
    try:
        opened.bind((0, 0))
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _TRACE_GROUP)
    except OSError as error:
        opened.close()
        raise Missing(
            f"traces of the packet filter cannot be read ({error.strerror}): run as root, on a kernel with nf_tables"
        ) from error
    opened.setblocking(False)
    return opened


class Rules:
    """What the kernel's rules say of themselves, each asked for once.

    A rule that has been replaced since it dropped a packet is not there any more: then nothing is known of it.
    """

    def __init__(self) -> None:
        self._comments: dict[Place, tuple[str, ...] | None] = {}
        self._texts: dict[Place, str] = {}
        self._hooks: dict[tuple[str, str, str], str] = {}

    def comments(self, place: Place) -> tuple[str, ...] | None:
        """The comments of a rule, also those of iptables; None if there is no such rule."""
        if place not in self._comments:
            if len(self._comments) >= _REMEMBERED:
                self._comments.clear()
            self._comments[place] = None if place.handle is None else _comments(place, place.handle)
        return self._comments[place]

    def text(self, place: Place) -> str:
        """The rule as ``nft list`` writes it, without counts; "" if it is not there, or is a chain's policy."""
        if place not in self._texts:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            self._texts[place] = "" if place.handle is None else _listed(place, place.handle)
        return self._texts[place]

    def hook(self, family: str, table: str, base: str) -> str:
        """The hook of a base chain, such as "input"; "" if it is not there."""
        key = family, table, base
        if key not in self._hooks:
            found = _HOOK.search(_chain(*key))
            self._hooks[key] = found[1] if found else ""
        return self._hooks[key]


def _chain(family: str, table: str, chain: str) -> str:
    try:
        return Library().list_chain(family, table, chain)
    except ProgrammingError:
        return ""


def _listed(place: Place, handle: int) -> str:
    for line in _chain(place.family, place.table, place.chain).splitlines():
        rule, mark, number = line.rpartition("# handle ")
        if mark and number.strip() == str(handle) and not rule.rstrip().endswith("{"):
            return " ".join(_COUNTED.sub("", rule).split())
    return ""


def _comments(place: Place, handle: int) -> tuple[str, ...] | None:
    body = struct.pack("=BBH", _FAMILY_NUMBERS.get(place.family, 0), 0, 0)
    body += pack_attribute(_TABLE, place.table.encode() + b"\0")
    body += pack_attribute(_CHAIN, place.chain.encode() + b"\0")
    body += pack_attribute(_HANDLE, handle.to_bytes(8, "big"))
    with Channel(NETFILTER) as channel:
        (answer,) = channel.transact([Request(_GET_RULE, body, what=f"to show a rule of {place.table}")])
    if answer.refused is not None or not answer.bodies:
        if isinstance(answer.refused, Refused) and answer.refused.code != errno.ENOENT:
            raise answer.refused
        return None
    return tuple(_comments_in(answer.bodies[0]))


def _comments_in(body: bytes) -> Iterator[str]:
    """The comments: nftables keeps a rule's comment in its user data, iptables each comment as a match."""
    rule = attributes(body, 4)
    data = rule.get(_USER_DATA, b"")
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == 0:
            yield _text(data[2 : 2 + length])
        data = data[2 + length :]
    for expression in _elements(rule.get(_EXPRESSIONS, b"")):
        held = attributes(expression)
        match = attributes(held.get(_EXPRESSION_DATA, b""))
        if held.get(_EXPRESSION_NAME) == b"match\0" and match.get(_MATCH_NAME) == b"comment\0":
            yield _text(match.get(_MATCH_INFO, b""))


def _elements(packed: bytes) -> Iterator[bytes]:
    """The values of a list of attributes, which are all of one type."""
    while len(packed) >= 4:
        (length,) = struct.unpack_from("=H", packed)
        if length < 4:
            return
        yield packed[4:length]
        packed = packed[(length + 3) & ~3 :]


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
