"""The store of a data centre: an etcd v3 cluster.

In:   ``EtcdSettings``; the optional packages grpcio and protobuf (``pip install 'pycalico[etcd]'``).
Out:  what ``datastore.api.Store`` promises, over whatever member of the cluster answers.
Next: ``datastore.resync`` and ``datastore.typed`` read it; ``etcd_calls`` and ``etcd_watch`` do the talking.

The store's revision is etcd's, an entry's revision its mod revision. Every write is a transaction on the mod
revision. Leases last whole seconds, and not less than the servers allow (two by default); the servers end
them. A write that ends in ``Unavailable`` may have happened, and is never sent twice by itself.

Nothing is connected before the first call, so an agent starts also while its store is lost.
"""

from __future__ import annotations

import math
import os
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from calico.datastore.api import Conflict, Entry, Event, Listing, StoreError, TooOld, Unavailable
from calico.datastore.etcd_settings import EtcdSettings

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else its C library writes to stderr what our errors say
try:
    from calico.datastore.etcd_calls import (
        COMPACT,
        GRANT,
        KEEP_ALIVE,
        RANGE,
        REVOKE,
        TXN,
        Calls,
        PastRevision,
        lease_gone,
    )
    from calico.datastore.etcd_channel import Members
    from calico.datastore.etcd_watch import Follower, Origin, Span, oldest
    from calico.datastore.etcdpb import etcd_pb2 as pb
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"grpc", "google"}:
        raise
    raise StoreError(
        f"the etcd store needs Python packages that are not installed ({error.name} is missing):"
        " pip install 'pycalico[etcd]'"
    ) from error

PAGE: Final = 5_000
"""How many entries of a listing are read at a time."""

_RELISTINGS: Final = 5
"""How often a listing begins anew when compaction overtakes it."""
_ORIGINS: Final = 64
"""Of how many listings it is known which history they are of."""


class EtcdStore:
    """``datastore.api.Store`` in the cluster that ``settings`` name.

    What cannot be logged in, may not be done, or cannot be connected is ``Unavailable``, with a sentence that says
    which. ``page`` is how many entries of a listing are read at a time; ``pick`` chooses which of so many
    endpoints is tried first.
    """

    def __init__(
        self, settings: EtcdSettings, *, page: int = PAGE, pick: Callable[[int], int] = random.randrange
    ) -> None:
        self.settings = settings
        self._page = page
        self._prefix = settings.prefix.encode()
        self._calls = Calls(settings, Members(settings, pick=pick))
        self._origins: OrderedDict[int, Origin] = OrderedDict()

    async def get(self, path: str) -> Entry | None:
        """See ``Store.get``."""
        reply = await self._calls.ask(RANGE, pb.RangeRequest(key=self._key(path)), path=path)
        return self._entry(reply.kvs[0]) if reply.kvs else None

    async def create(self, path: str, value: bytes, *, lease: int | None = None) -> int:
        """See ``Store.create``."""
        return await self._transact(path, [self._compare(path, 0)], self._put(path, value, lease))

    async def put(self, path: str, value: bytes, *, revision: int | None, lease: int | None = None) -> int:
        """See ``Store.put``."""
        condition = [] if revision is None else [self._compare(path, _expected(revision))]
        return await self._transact(path, condition, self._put(path, value, lease))

    async def delete(self, path: str, *, revision: int | None) -> int:
        """See ``Store.delete``."""
        condition = self._compare(path, 0 if revision is None else _expected(revision))
        if revision is None:
            condition.result = pb.Compare.GREATER
        deletion = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self._key(path)))
        return await self._transact(path, [condition], deletion)

    async def watch(self, prefix: str, *, revision: int) -> AsyncIterator[tuple[Event, ...]]:
        """See ``Store.watch``. A member that is lost, paused or cut off is left for another within a few seconds."""
        self._calls.check_open()
        span = self._span(prefix)
        if revision < 1:
            raise await self._too_old(span, revision)
        follower = Follower(self._calls, span, revision, self._origins.get(revision, Origin()))
        async with aclosing(follower.batches()) as batches:
            async for events in batches:
                yield tuple(self._event(event) for event in events)

    async def grant(self, seconds: float) -> int:
        """See ``Store.grant``."""
        ttl = max(1, math.ceil(seconds))
        return (await self._calls.ask(GRANT, pb.LeaseGrantRequest(TTL=ttl))).ID

    async def keep_alive(self, lease: int) -> None:
        """See ``Store.keep_alive``."""
        reply = await self._calls.ask(KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=lease))
        if reply.TTL <= 0:
            raise lease_gone(lease)

    async def revoke(self, lease: int) -> None:
        """See ``Store.revoke``."""
        await self._calls.ask(REVOKE, pb.LeaseRevokeRequest(ID=lease))

    async def compact(self, revision: int) -> None:
        """See ``Store.compact``."""
        try:
            await self._calls.ask(COMPACT, pb.CompactionRequest(revision=revision))
        except PastRevision as past:
            if past.future:
                raise await self._too_old(self._span(""), revision) from None

    async def close(self) -> None:
        """See ``Store.close``. A second time does nothing."""
        await self._calls.close()

    async def list(self, prefix: str, *, revision: int | None = None) -> Listing:
        """See ``Store.list``."""
        span = self._span(prefix)
        for _ in range(_RELISTINGS):
            try:
                return await self._pages(span, revision)
            except PastRevision:
                if revision is not None:
                    raise await self._too_old(span, revision) from None
        raise Unavailable(
            f"{prefix} was compacted again and again while it was listed; compact etcd less often"
        )

    async def _pages(self, span: Span, revision: int | None) -> Listing:
        """All entries at one revision, page by page. PastRevision if it cannot be read."""
        if revision is not None and revision < 1:
            raise PastRevision(future=False)
        entries: list[Entry] = []
        start, at = span.first, revision or 0
        while True:
            request = pb.RangeRequest(key=start, range_end=span.end, limit=self._page, revision=at)
            reply = await self._calls.ask(RANGE, request, path=span.name)
            if not at:
                at = reply.header.revision
                self._remember(at, reply.header)
            entries += map(self._entry, reply.kvs)
            if not reply.more:
                return Listing(at, tuple(entries))
            start = reply.kvs[-1].key + b"\0"

    async def _transact(self, path: str, condition: Sequence[pb.Compare], write: pb.RequestOp) -> int:
        """Do ``write`` if ``condition`` holds; its revision. Conflict with the path's revision if it does not hold."""
        look = pb.RequestOp(request_range=pb.RangeRequest(key=self._key(path), keys_only=True))
        reply = await self._calls.ask(
            TXN, pb.TxnRequest(compare=condition, success=[write], failure=[look]), path=path
        )
        if reply.succeeded:
            return reply.header.revision
        found = reply.responses[0].response_range.kvs
        raise Conflict(path, found[0].mod_revision if found else None)

    async def _too_old(self, span: Span, revision: int) -> TooOld:
        return TooOld(revision, await oldest(self._calls, span.first, span.name))

    def _remember(self, revision: int, header: pb.ResponseHeader) -> None:
        """Keep of which history a listing is, for the watch that is to go on from it."""
        self._origins[revision] = Origin().joined(header)
        self._origins.move_to_end(revision)
        if len(self._origins) > _ORIGINS:
            self._origins.popitem(last=False)

    def _key(self, path: str) -> bytes:
        return self._prefix + path.encode("utf-8", "surrogateescape")

    def _path(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode("utf-8", "surrogateescape")

    def _span(self, prefix: str) -> Span:
        """All keys that start with ``prefix``."""
        first = self._key(prefix)
        # The next key that does not start with it: its last byte that can be is raised by one.
        stem = first.rstrip(b"\xff")
        end = stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
        return Span(first or b"\0", end, prefix or "everything")

    def _entry(self, kv: pb.KeyValue) -> Entry:
        return Entry(self._path(kv.key), kv.value, kv.mod_revision)

    def _event(self, event: pb.Event) -> Event:
        value = event.kv.value if event.type == pb.Event.PUT else None
        return Event(self._path(event.kv.key), value, event.kv.mod_revision)

    def _compare(self, path: str, revision: int) -> pb.Compare:
        """The path's mod revision is ``revision``; that of nothing is 0."""
        return pb.Compare(
            result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=self._key(path), mod_revision=revision
        )

    def _put(self, path: str, value: bytes, lease: int | None) -> pb.RequestOp:
        return pb.RequestOp(request_put=pb.PutRequest(key=self._key(path), value=value, lease=lease or 0))


def _expected(revision: int) -> int:
    """What to compare with: 0 would hold where nothing is, and nothing has no revision."""
    return revision if revision > 0 else -1
