"""Let many requests of one host share writes: what comes while one write is under way is served together by the next.

In:   requests, at any time, from any task of one event loop.
Out:  to each its own answer, as if it had been alone.
Next: whoever attaches workloads asks here instead of ``ipam.client``.

A hundred requests at once are a few writes of a block, instead of a hundred that get into each other's way. No request
waits for others to come: the first is served at once. Each is as safe as alone, for handles count before blocks give.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from calico.datastore.api import StoreError
from calico.ipam.block import Release
from calico.ipam.client import Assignment, Client, Request
from calico.ipam.errors import IPAMError

_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    request: Request
    answer: asyncio.Future[Assignment]


class Batch:
    """``client``, for many who ask at once. All of one event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: list[_Waiting] = []
        self._serving: asyncio.Task[None] | None = None
        self._giving_back: set[asyncio.Task[None]] = set()

    async def assign(self, request: Request) -> Assignment:
        """See ``Client.assign``. Who is cancelled while waiting gets nothing: what it was given is given back."""
        answer: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:  # both at once
                giving = asyncio.create_task(self._give_back(request, answer.result()))
                self._giving_back.add(giving)
                giving.add_done_callback(self._giving_back.discard)
            raise

    async def assign_whole(self, request: Request) -> Assignment:
        """See ``Client.assign_whole``."""
        return await self._client.whole(request, await self.assign(request))

    async def _serve(self) -> None:
        """Serve all who wait, and those who come meanwhile, those of the same terms together."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                groups: dict[object, list[_Waiting]] = {}
                for each in waiting:
                    groups.setdefault(_terms(each.request), []).append(each)
                for group in groups.values():
                    await self._answer([each for each in group if not each.answer.done()])
        finally:
            self._serving = None
            for _, answer in self._waiting:  # only where this task was cancelled
                answer.cancel()

    async def _answer(self, group: list[_Waiting]) -> None:
        if not group:
            return
        try:
            assignments = await self._client.assign_together([request for request, _ in group])
        except asyncio.CancelledError:
            for _, answer in group:
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each who asked is told
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (request, answer), assignment in zip(group, assignments, strict=True):
            if not answer.done():
                answer.set_result(assignment)
            else:
                await self._give_back(request, assignment)

    async def _give_back(self, request: Request, assignment: Assignment) -> None:
        """Release what was assigned to who did not wait for it; where that fails, it is the collector's."""
        try:
            await self._client.release(Release(each, request.handle) for each in assignment.addresses)
        except (IPAMError, StoreError):
            _log.exception("addresses of %s that nobody waits for could not be released", request.handle)


def _terms(request: Request) -> object:
    """What requests must have in common to be served together."""
    return request.use, request.pools, request.namespace, request.max_blocks
