"""A server that speaks etcd's API and says what the test tells it to: for what no real etcd does on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from calico.datastore.etcd_settings import Endpoint, EtcdSettings

import grpc  # isort: skip - the store is first: it tells the C library to be quiet
import grpc.aio  # isort: skip

from calico.datastore.etcd import pb

Say = Callable[[pb.WatchResponse], Awaitable[None]]


def header(revision: int, *, cluster: int = 1, term: int = 1) -> pb.ResponseHeader:
    return pb.ResponseHeader(cluster_id=cluster, raft_term=term, revision=revision)


def put(key: str, value: bytes, revision: int) -> pb.Event:
    return pb.Event(kv=pb.KeyValue(key=key.encode(), value=value, mod_revision=revision))


def error(status: str, words: str) -> Exception:
    """Raised by what the test gives as an answer, it becomes the call's error."""
    return _Answer(status, words)


class _Answer(Exception):
    pass


@dataclass
class FakeEtcd:
    """One member. ``range`` and ``txn`` answer requests, ``watches`` hold for each stream in turn what it says.

    A watch that nothing is planned for stays silent after it was created.
    """

    at: pb.ResponseHeader = field(default_factory=lambda: header(10))
    """What a read says of the store."""
    txn: Callable[[pb.TxnRequest], Any] | None = None
    watches: list[Callable[[pb.WatchCreateRequest, Say], Awaitable[None]]] = field(default_factory=list)
    alive: bool = True
    """Whether questions about being alive are answered."""
    asked: list[Any] = field(default_factory=list)
    """All requests, in order."""
    port: int = 0

    async def _range(self, request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
        self.asked.append(request)
        return pb.RangeResponse(header=self.at)

    async def _txn(self, request: pb.TxnRequest, context: Any) -> pb.TxnResponse:
        self.asked.append(request)
        assert self.txn is not None
        try:
            answer = self.txn(request)
            return (await answer) if asyncio.iscoroutine(answer) else answer
        except _Answer as failure:
            status, words = failure.args
            await context.abort(grpc.StatusCode[status], words)
            raise

    async def _watch(self, requests: AsyncIterator[pb.WatchRequest], context: Any) -> None:
        async for request in requests:
            self.asked.append(request)
            if request.HasField("progress_request"):
                if self.alive:
                    await context.write(pb.WatchResponse(header=self.at, watch_id=-1))
            elif self.watches:
                await self.watches.pop(0)(request.create_request, context.write)
            else:
                await context.write(pb.WatchResponse(header=self.at, created=True))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Endpoint]:
        server = grpc.aio.server()
        methods = {
            "KV": {
                "Range": grpc.unary_unary_rpc_method_handler(
                    self._range, pb.RangeRequest.FromString, pb.RangeResponse.SerializeToString
                ),
                "Txn": grpc.unary_unary_rpc_method_handler(
                    self._txn, pb.TxnRequest.FromString, pb.TxnResponse.SerializeToString
                ),
            },
            "Watch": {
                "Watch": grpc.stream_stream_rpc_method_handler(
                    self._watch, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString
                ),
            },
        }
        for service, handlers in methods.items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"etcdserverpb.{service}", handlers),)
            )
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield Endpoint("127.0.0.1", self.port)
        finally:
            await server.stop(None)


def settings(*endpoints: Endpoint, **more: Any) -> EtcdSettings:
    """Short times: what waits in these tests waits for nothing."""
    return EtcdSettings(
        endpoints=endpoints,
        **{"dial_timeout": 5.0, "request_timeout": 5.0, "heartbeat": 0.2, "resume_timeout": 0.6, **more},
    )
