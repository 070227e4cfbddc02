"""Requests and answers on a netlink socket, with a scripted kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence

import pytest

from calico.programming.backend import Busy
from calico.programming.netlink import (
    ROUTE,
    Channel,
    Refused,
    Request,
    attribute,
    attributes,
    is_own_port,
    messages,
    nested,
)

ERROR, DONE, DATA = 2, 3, 24
INTERRUPTED, MULTI = 0x10, 0x2
CAPPED, TLVS = 0x100, 0x200


def message(kind: int, sequence: int, body: bytes = b"", flags: int = 0, port: int = 0) -> bytes:
    padded = body + b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, port) + padded


def acknowledgement(sequence: int, code: int = 0) -> bytes:
    return message(ERROR, sequence, struct.pack("=i", -code) + bytes(16), CAPPED)


Reply = bytes | OSError


class ScriptedKernel:
    """A socket that answers each send with what ``respond`` makes of it: datagrams, or failures."""

    def __init__(self, respond: Callable[[list[int]], Sequence[Reply]]) -> None:
        self.respond = respond
        self.sends: list[int] = []
        self.replies: list[Reply] = []

    def send(self, data: bytes) -> int:
        sequences = [one.sequence for one in messages(data)]
        self.sends.append(len(sequences))
        self.replies += self.respond(sequences)
        return len(data)

    def recvmsg(self, size: int) -> tuple[bytes, list[object], int, None]:
        if not self.replies:
            raise TimeoutError
        reply = self.replies.pop(0)
        if isinstance(reply, OSError):
            raise reply
        return reply, [], 0, None

    def close(self) -> None:
        pass


def channel(respond: Callable[[list[int]], Sequence[Reply]]) -> tuple[Channel, ScriptedKernel]:
    opened = Channel(ROUTE)
    opened.close()
    kernel = ScriptedKernel(respond)
    opened._socket = kernel  # type: ignore[assignment]  # the scripted kernel stands in for the socket
    return opened, kernel


def test_each_request_gets_its_own_answer() -> None:
    """Answers follow the order of the requests, whatever the order and packing of the acknowledgements."""
    opened, _ = channel(
        lambda s: [acknowledgement(s[2]), acknowledgement(s[1], errno.ESRCH) + acknowledgement(s[0])]
    )

    one, two, three = opened.transact(
        [Request(DATA, b""), Request(DATA, b"", what="the second"), Request(DATA, b"")]
    )

    assert one.refused is three.refused is None
    assert two.refused is not None
    assert two.refused.code == errno.ESRCH
    assert str(two.refused) == "The kernel refused the second: No such process."


def test_many_requests_go_in_batches() -> None:
    """A socket's buffer never has to hold more than a batch of acknowledgements."""
    opened, kernel = channel(lambda s: [b"".join(map(acknowledgement, s))])

    answers = opened.transact([Request(DATA, b"")] * 150)

    assert len(answers) == 150
    assert kernel.sends == [64, 64, 22]


def test_the_kernels_own_words_are_passed_on() -> None:
    """An extended acknowledgement's message is part of the error, also when the request is echoed in full."""
    words = attribute(1, b"Invalid prefix\0")

    def respond(sequences: list[int]) -> list[Reply]:
        echo = struct.pack("=IHHII", 20, DATA, 0, 0, 0) + b"\0\0\0\0"
        return [message(ERROR, sequences[0], struct.pack("=i", -errno.EINVAL) + echo + words, TLVS)]

    opened, _ = channel(respond)
    (answer,) = opened.transact([Request(DATA, b"1234", what="it")])

    assert str(answer.refused) == "The kernel refused it: Invalid argument (Invalid prefix)."


def test_answers_to_an_abandoned_request_are_ignored() -> None:
    """Messages with a sequence number that nobody waits for are passed over."""
    opened, _ = channel(lambda s: [acknowledgement(4711, errno.EPERM), acknowledgement(s[0])])

    assert opened.transact([Request(DATA, b"")])[0].refused is None


@pytest.mark.parametrize("failure", [TimeoutError(), OSError(errno.ENOBUFS, "no buffers")])
def test_a_silent_kernel_is_busy(failure: OSError) -> None:
    """No answer in time, or one that was lost, is Busy and no endless wait."""
    opened, _ = channel(lambda s: [failure])

    with pytest.raises(Busy, match="try again later"):
        opened.transact([Request(DATA, b"")])


def test_an_interrupted_dump_is_read_again() -> None:
    """A listing during which the kernel's tables changed is thrown away and repeated."""
    attempts: list[int] = []

    def respond(sequences: list[int]) -> list[Reply]:
        (sequence,) = sequences
        attempts.append(sequence)
        if len(attempts) == 1:
            return [
                message(DATA, sequence, b"old!", MULTI)
                + message(DONE, sequence, bytes(4), MULTI | INTERRUPTED)
            ]
        if len(attempts) == 2:
            return [message(DONE, sequence, struct.pack("=i", -errno.EBUSY), MULTI)]
        return [
            message(DATA, sequence, b"new1", MULTI),
            message(DATA, sequence, b"new2", MULTI) + message(DONE, sequence, bytes(4)),
        ]

    opened, _ = channel(respond)

    assert opened.dump(Request(DATA, b"")) == [b"new1", b"new2"]
    assert len(attempts) == 3


def test_a_dump_that_never_holds_still_is_busy() -> None:
    """After some interrupted attempts the caller hears Busy."""
    opened, kernel = channel(lambda s: [message(DONE, s[0], bytes(4), INTERRUPTED)])

    with pytest.raises(Busy, match="interrupted"):
        opened.dump(Request(DATA, b"", what="the list"))
    assert len(kernel.sends) > 2


@pytest.mark.parametrize(
    "refusal",
    [
        lambda s: [acknowledgement(s[0], errno.EOPNOTSUPP)],
        lambda s: [message(DONE, s[0], struct.pack("=i", -errno.EOPNOTSUPP))],
    ],
    ids=["at the start", "at the end"],
)
def test_a_refused_dump_names_what_was_asked(refusal: Callable[[list[int]], list[Reply]]) -> None:
    """A listing that the kernel cannot make is Refused with its errno."""
    opened, _ = channel(refusal)

    with pytest.raises(Refused, match="the list of routes") as caught:
        opened.dump(Request(DATA, b"", what="the list of routes"))
    assert caught.value.code == errno.EOPNOTSUPP


def test_attributes_survive_packing() -> None:
    """Attributes are read back by type, whatever their padding and nesting."""
    body = attribute(1, b"abc") + nested(2, attribute(7, b"x")) + attribute(3, b"")

    assert attributes(b"skip" + body, 4) == {1: b"abc", 2: attribute(7, b"x"), 3: b""}
    assert attributes(attributes(body)[2]) == {7: b"x"}


@pytest.mark.parametrize("cut", range(1, 20))
def test_torn_input_never_raises(cut: int) -> None:
    """Messages and attributes that were cut off are left out, not a crash."""
    whole = message(DATA, 1, b"abcd")

    assert list(messages(whole[:-cut])) == []
    assert attributes(struct.pack("=HH", 2, 1) + b"junk") == {}


def test_own_ports_are_recognised() -> None:
    """Every channel's port id is known as this process's; the kernel's and a plain process id are not."""
    with Channel(ROUTE) as one, Channel(ROUTE) as other:
        ports = [opened._socket.getsockname()[0] for opened in (one, other)]

    assert len(set(ports)) == 2
    assert all(is_own_port(port) for port in ports)
    assert not is_own_port(0)
    assert not is_own_port(4711)
