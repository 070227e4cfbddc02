"""Ask etcd: over the member that answers, with a login that is valid.

In:   requests, as messages.
Out:  replies; or what ``datastore.api`` raises, in words for people.
Next: ``etcd`` makes a store of it, ``etcd_watch`` a watch.

A question is asked of one member after another until one answers. A write is sent once: it is sent again
only when it is certain that it was not done, which is so when there was no connection, when a member without
a leader refused it, and when the login had expired. What else fails may have happened.

All that is sent demands that the member has a leader: one that was cut off from the others refuses instead
of answering from what it knew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from calico.datastore.api import LeaseGone, Unavailable
from calico.datastore.etcd_channel import Member, Members
from calico.datastore.etcd_errors import Fault, fault_of, plain, refusal
from calico.datastore.etcd_settings import Endpoint, EtcdSettings
from calico.datastore.etcdpb import etcd_pb2 as pb

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

PAUSE: Final = 0.25
"""How many seconds to wait before asking all members again while they elect a leader."""


class PastRevision(Exception):
    """A revision that was compacted, or lies in the future."""

    def __init__(self, *, future: bool) -> None:
        self.future = future
        super().__init__()


def lease_gone(lease: int) -> LeaseGone:
    """The error about a lease that the servers do not know."""
    return LeaseGone(f"lease {lease} has expired or was revoked; take a new one")


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """A method of etcd's API."""

    path: str
    encode: Callable[[Q], bytes]
    decode: Callable[[bytes], A]
    what: str
    """What it does, after the words 'refused to'."""
    repeat: bool = False
    """Whether doing it twice is the same as doing it once."""
    stream: bool = False
    """Whether it is a stream of requests and replies; one of each when it is asked."""


def _method(
    name: str, request: type[Q], reply: type[A], what: str, *, repeat: bool = False, stream: bool = False
) -> Method[Q, A]:
    return Method(
        f"/etcdserverpb.{name}",
        request.SerializeToString,
        reply.FromString,
        what,
        repeat=repeat,
        stream=stream,
    )


RANGE: Final = _method("KV/Range", pb.RangeRequest, pb.RangeResponse, "read {}", repeat=True)
TXN: Final = _method("KV/Txn", pb.TxnRequest, pb.TxnResponse, "write {}")
COMPACT: Final = _method("KV/Compact", pb.CompactionRequest, pb.CompactionResponse, "compact", repeat=True)
WATCH: Final = _method("Watch/Watch", pb.WatchRequest, pb.WatchResponse, "watch {}", stream=True)
GRANT: Final = _method(
    # A lease that is granted twice expires once unused.
    "Lease/LeaseGrant",
    pb.LeaseGrantRequest,
    pb.LeaseGrantResponse,
    "grant a lease",
    repeat=True,
)
REVOKE: Final = _method("Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse, "revoke a lease")
KEEP_ALIVE: Final = _method(
    "Lease/LeaseKeepAlive",
    pb.LeaseKeepAliveRequest,
    pb.LeaseKeepAliveResponse,
    "keep a lease alive",
    repeat=True,
    stream=True,
)
AUTHENTICATE: Final = _method(
    "Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse, "log in", repeat=True
)


class Calls:
    """One client's calls to the cluster."""

    def __init__(self, settings: EtcdSettings, members: Members) -> None:
        self.settings = settings
        self.members = members
        self.closed = False
        self._token = ""
        self._logged_in = not settings.username
        self._logging_in = asyncio.Lock()
        self._streams: set[Any] = set()

    async def ask(self, method: Method[Q, A], request: Q, *, path: str = "") -> A:
        """The reply of etcd to ``request``, which concerns ``path``.

        Unavailable when no member gives one, PastRevision and LeaseGone when that is the reply.
        """
        failed: dict[Endpoint, str] = {}
        deadline = asyncio.get_running_loop().time() + self.settings.resume_timeout
        answered = logged_in_again = False
        while True:
            member = await self._connected(failed)
            if member is None:
                late = asyncio.get_running_loop().time() >= deadline
                if late or not answered:
                    raise self.members.lost(failed.items())
                failed.clear()
                answered = False
                await asyncio.sleep(PAUSE)
                continue
            sent = False
            try:
                metadata = await self._metadata(member)
                sent = True
                return await self._once(member, method, request, metadata)
            except grpc.aio.AioRpcError as error:
                status, words = error.code().name, error.details() or ""
                fault = fault_of(status, words)
                if fault is Fault.LOGIN and sent and self.settings.username and not logged_in_again:
                    logged_in_again = True
                    self.forget_login(metadata)
                    continue
                self._give_up(fault, words, method, request, path)
                failed[member.endpoint] = reason = plain(status, words)
                self.members.leave(member.endpoint)
                if sent and fault is Fault.LOST and not method.repeat:
                    raise Unavailable(
                        f"etcd at {member.endpoint} did not say whether it could {method.what.format(path)}"
                        f" ({reason}); it may have happened, read before trying again"
                    ) from error
                answered = answered or fault is Fault.UNDONE
            except asyncio.CancelledError:
                if self.ended_by_close():
                    self.check_open()
                raise

    async def open_watch(self, member: Member) -> Any:
        """A new stream of watch requests and responses, to be closed with ``close_stream``; AioRpcError."""
        metadata = await self._metadata(member)
        stream = self._callable(member, WATCH)(metadata=metadata)
        self._streams.add(stream)
        return stream

    def close_stream(self, stream: Any) -> None:
        """End a stream."""
        self._streams.discard(stream)
        stream.cancel()

    def check_open(self) -> None:
        """Unavailable if the client was closed."""
        if self.closed:
            raise Unavailable("this client of etcd was closed by this process; open the store again")

    def ended_by_close(self) -> bool:
        """Whether a CancelledError comes from closing, which cancels calls, and not from whoever cancels this task."""
        task = asyncio.current_task()
        return self.closed and not (task and task.cancelling())

    def forget_login(self, metadata: tuple[tuple[str, str], ...] | None = None) -> None:
        """Log in anew before the next call, unless somebody did since ``metadata`` was made."""
        if metadata is None or ("token", self._token) in metadata or not self._token:
            self._token, self._logged_in = "", not self.settings.username

    async def close(self) -> None:
        """End everything that is under way."""
        self.closed = True
        for stream in list(self._streams):
            self.close_stream(stream)
        await self.members.close()

    async def _connected(self, failed: dict[Endpoint, str]) -> Member | None:
        self.check_open()
        member = await self.members.connect(failed)
        self.check_open()
        return member

    async def _once(
        self, member: Member, method: Method[Q, A], request: Q, metadata: tuple[tuple[str, str], ...]
    ) -> A:
        """One request, one reply, one member."""
        timeout = self.settings.request_timeout
        if not method.stream:
            reply: A = await self._callable(member, method)(request, timeout=timeout, metadata=metadata)
            return reply
        stream = self._callable(member, method)(timeout=timeout, metadata=metadata)
        try:
            await stream.write(request)
            answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "the stream ended"
                )
            return answer  # type: ignore[no-any-return]  # a stream's replies are untyped
        finally:
            stream.cancel()

    @staticmethod
    def _callable(member: Member, method: Method[Q, A]) -> Any:
        make = member.channel.stream_stream if method.stream else member.channel.unary_unary
        return make(method.path, request_serializer=method.encode, response_deserializer=method.decode)

    async def _metadata(self, member: Member) -> tuple[tuple[str, str], ...]:
        """What goes with each call; logs in if need be."""
        leader = ("hasleader", "true")
        if not self._logged_in:
            async with self._logging_in:
                if not self._logged_in:
                    self._token = await self._log_in(member, leader)
                    self._logged_in = True
        return (leader, ("token", self._token)) if self._token else (leader,)

    async def _log_in(self, member: Member, leader: tuple[str, str]) -> str:
        """A token, or none where the cluster knows no users."""
        request = pb.AuthenticateRequest(name=self.settings.username, password=self.settings.password)
        try:
            return (await self._once(member, AUTHENTICATE, request, (leader,))).token
        except grpc.aio.AioRpcError as error:
            if fault_of(error.code().name, error.details() or "") is Fault.NO_LOGINS:
                return ""
            raise

    def _give_up(self, fault: Fault, words: str, method: Method[Q, A], request: Q, path: str) -> None:
        """Raise what no other member would answer otherwise."""
        match fault:
            case Fault.COMPACTED | Fault.FUTURE:
                raise PastRevision(future=fault is Fault.FUTURE)
            case Fault.LEASE_GONE:
                raise lease_gone(_lease_of(request))
            case Fault.LOGIN | Fault.DENIED | Fault.REFUSED:
                raise refusal(fault, words, user=self.settings.username, what=method.what.format(path))
            case _:
                pass


def _lease_of(request: Message) -> int:
    """The lease that a request is about."""
    match request:
        case pb.LeaseRevokeRequest() | pb.LeaseKeepAliveRequest():
            return request.ID
        case pb.TxnRequest():
            return next((part.request_put.lease for part in request.success), 0)
    return 0
