"""One watch of etcd that goes on over whatever member answers, and notices when it must not.

In:   a range of keys, a revision, and ``etcd_calls``.
Out:  etcd's events after that revision, a revision never in two parts; TooOld, Unavailable.
Next: ``etcd`` turns them into events of the store.

Three things are done with care.

* The server is asked for events from the last revision that is known, not the one after, and that revision's
  events are dropped. Exactly when something is missing it then says so: asked for the one after, servers
  of before 2024 (3.4.23 is one) may swallow the deletion that happened at the revision that was compacted.
* A member that was paused or cut off says nothing, like one that has nothing to say. After a silence it is
  asked for a sign of life.
* A restored backup has another history under the same numbers. Whoever goes on over it without noticing is wrong
  for ever. Every stream begins with a look at who answers: another cluster, a revision or a term of office
  lower than before is taken for another history. A member that merely lags looks the same, so a read that
  all members agree on decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio

from calico.datastore.api import StoreError, TooOld
from calico.datastore.etcd_calls import PAUSE, RANGE, WATCH, Calls, PastRevision
from calico.datastore.etcd_channel import Member
from calico.datastore.etcd_errors import Fault, fault_of, plain, refusal
from calico.datastore.etcd_settings import Endpoint
from calico.datastore.etcdpb import etcd_pb2 as pb

T = TypeVar("T")


class Span(NamedTuple):
    """A range of keys, and what people call it."""

    first: bytes
    end: bytes
    name: str


class Origin(NamedTuple):
    """Of which history something is: of which cluster, and not before which revision and term of office.

    Zero is what is not known.
    """

    cluster: int = 0
    term: int = 0
    revision: int = 0

    def continued_by(self, header: pb.ResponseHeader) -> bool:
        """Whether ``header`` may be of the same history, later or at the same time."""
        return (
            self.cluster in {0, header.cluster_id}
            and self.term <= header.raft_term
            and self.revision <= header.revision
        )

    def joined(self, header: pb.ResponseHeader) -> Origin:
        """The origin of what was known and ``header`` together."""
        return Origin(
            header.cluster_id, max(self.term, header.raft_term), max(self.revision, header.revision)
        )


class _Broken(Exception):
    """The stream ended; another may go on."""


async def oldest(calls: Calls, key: bytes, name: str) -> int:
    """The oldest revision that can still be read. Only who was refused one asks, so it may take two calls."""
    try:
        await calls.ask(RANGE, pb.RangeRequest(key=key, revision=1, keys_only=True), path=name)
    except PastRevision:
        watch = Follower(calls, Span(key, b"", name), 1, Origin())
        try:
            async with asyncio.timeout(calls.settings.resume_timeout), aclosing(watch.batches()) as batches:
                await anext(batches)
        except TooOld as error:
            return error.oldest
        except TimeoutError:
            pass
    return 1


class Follower:
    """Follows ``span`` from after ``revision``, which is of the history ``origin``."""

    def __init__(self, calls: Calls, span: Span, revision: int, origin: Origin) -> None:
        self._calls = calls
        self._span = span
        self._last = revision
        self._origin = origin._replace(revision=max(revision, origin.revision))
        self._logged_in_again = False

    async def batches(self) -> AsyncGenerator[tuple[pb.Event, ...], None]:
        """The events in order, never none, until the client is closed."""
        loop = asyncio.get_running_loop()
        failed: dict[Endpoint, str] = {}
        deadline: float | None = None
        while not self._calls.closed:
            member = await self._calls.members.connect(failed)
            if member is not None:
                try:
                    async with aclosing(self._stream(member)) as stream:
                        async for events in stream:
                            deadline = None
                            failed.clear()
                            if events:
                                yield events
                except _Broken as broken:
                    failed[member.endpoint] = str(broken)
                    self._calls.members.leave(member.endpoint)
                else:
                    return
            now = loop.time()
            deadline = deadline or now + self._calls.settings.resume_timeout
            if now >= deadline:
                raise self._calls.members.lost(failed.items())
            if member is None:
                await asyncio.sleep(PAUSE)
                if loop.time() < deadline:
                    failed.clear()

    async def _stream(self, member: Member) -> AsyncGenerator[tuple[pb.Event, ...], None]:
        """The events that come over one stream of ``member``, and empty tuples as signs of life.

        Ends when the client is closed; _Broken when the stream breaks.
        """
        try:
            stream = await self._calls.open_watch(member)
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from error
        try:
            created = pb.WatchCreateRequest(
                key=self._span.first,
                range_end=self._span.end,
                start_revision=self._last,
                progress_notify=True,
            )
            await self._send(stream, pb.WatchRequest(create_request=created))
            parts: list[pb.Event] = []
            while (response := await self._next(stream)) is not None:
                if response.canceled:
                    await self._canceled(response)
                if response.created:
                    await self._same_history(response.header)
                self._origin = self._origin.joined(response.header)
                parts += response.events
                if response.created or response.fragment:
                    continue
                events = tuple(event for event in parts if event.kv.mod_revision > self._last)
                parts.clear()
                if events:
                    self._last = events[-1].kv.mod_revision
                elif response.watch_id >= 0 and not response.events:
                    # The server's own notice, in order with the events: there is nothing up to here that we lack.
                    self._last = max(self._last, response.header.revision)
                self._logged_in_again = False
                yield events
        finally:
            self._calls.close_stream(stream)

    async def _next(self, stream: Any) -> pb.WatchResponse | None:
        """The next response, after asking for one if need be; None when the client is closed."""
        reading = asyncio.ensure_future(stream.read())
        try:
            for asked in (False, True):
                await asyncio.wait({reading}, timeout=self._calls.settings.heartbeat)
                if reading.done():
                    break
                if asked:
                    raise _Broken("a watch went silent")
                await self._send(stream, pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
            response = await self._guarded(reading)
        finally:
            if not reading.done():
                stream.cancel()
                with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await reading
        if response is grpc.aio.EOF:
            raise _Broken("the server ended a watch")
        return response

    async def _send(self, stream: Any, request: pb.WatchRequest) -> None:
        # Not wait_for: that of Python 3.11 forgets a cancellation that comes when the work is just done.
        async def write() -> None:
            async with asyncio.timeout(self._calls.settings.heartbeat):
                await stream.write(request)

        await self._guarded(write())

    async def _guarded(self, work: Awaitable[T]) -> T | None:
        """What ``work`` gives, None when the client was closed meanwhile; _Broken when the stream breaks."""
        try:
            return await work
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from error
        except TimeoutError:
            raise _Broken("no answer in time") from None
        except asyncio.InvalidStateError as error:  # written to a stream that has just ended
            raise _Broken("the server ended a watch") from error
        except asyncio.CancelledError:
            if self._calls.ended_by_close():
                return None
            raise

    def _fault(self, error: grpc.aio.AioRpcError) -> Exception:
        status, words = error.code().name, error.details() or ""
        return self._meaning(fault_of(status, words), plain(status, words))

    def _meaning(self, fault: Fault, words: str) -> Exception:
        """What to raise: a broken stream is tried again, with a new login when that may help."""
        if fault in {Fault.LOGIN, Fault.DENIED}:
            # Servers say of an expired login that the watch is not permitted.
            if not self._calls.settings.username or self._logged_in_again or "authentication failed" in words:
                what = WATCH.what.format(self._span.name)
                return refusal(fault, words, user=self._calls.settings.username, what=what)
            self._logged_in_again = True
            self._calls.forget_login()
        return _Broken(words)

    async def _canceled(self, response: pb.WatchResponse) -> None:
        """Raise what it means that the server ended the watch."""
        if response.compact_revision:
            raise TooOld(self._last, response.compact_revision)
        words = response.cancel_reason or "the server cancelled a watch"
        raise self._meaning(fault_of("", words), words)

    async def _same_history(self, header: pb.ResponseHeader) -> None:
        """TooOld if the member that answers has another history than what was heard so far."""
        if self._origin.continued_by(header):
            return
        read = pb.RangeRequest(key=self._span.first, keys_only=True)
        if self._origin.cluster in {0, header.cluster_id}:
            reply = await self._calls.ask(RANGE, read, path=self._span.name)
            if self._origin.continued_by(reply.header):
                return
        try:
            horizon = await oldest(self._calls, self._span.first, self._span.name)
        except StoreError:
            horizon = 1
        raise TooOld(self._last, horizon)
