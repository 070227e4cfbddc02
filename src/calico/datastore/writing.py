"""What people write: admitted, compared, and stored over nothing but what it was judged by.

In:   complete and valid resources, or a change of a stored one.
Out:  them in the store; or ``NotAdmitted``, ``Conflict`` or ``ModelError``, and nothing of that resource is changed.
Next: ``cli`` says what became of each.

A status is the system's: what people write keeps the one that is stored, and a new resource has none. What is
written again as it is stored is not stored again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from calico.datastore.admission import NotAdmitted, admit, initialise, judge_owner, overlaps
from calico.datastore.api import Conflict, Denied, Store, StoreError, Unavailable
from calico.datastore.snapshot import Snapshot
from calico.datastore.typed import ATTEMPTS, Resources, Stored, tier_of
from calico.model.endpoint import is_for_all
from calico.model.errors import ModelError
from calico.model.keys import Key, key_of, kind_prefix
from calico.model.policy import GlobalNetworkPolicy
from calico.model.pool import IPPool
from calico.model.resource import Resource

CHANGES: Final = 5 * ATTEMPTS
"""How often a change is made anew: it loses nothing of what others wrote meanwhile, so it may be patient."""

AT_ONCE: Final = 16
"""How many resources are written at the same time, where their order does not matter."""

WORTH_LISTING: Final = 8
"""From how many resources of a kind and namespace on one listing is quicker than a look at each."""

ORDERED: Final = ("Tier", "IPPool")
"""Kinds that are written first and one after the other: others of the batch may need or exclude them."""


class Verb(Enum):
    """What may be stored before."""

    CREATE = "nothing"
    REPLACE = "something"
    APPLY = "anything"


class Absent(Exception):
    """There is nothing to change at ``key``."""

    def __init__(self, key: Key) -> None:
        self.key = key
        super().__init__(f"{key} does not exist")


Failure: TypeAlias = NotAdmitted | StoreError | ModelError | Absent
"""Why one resource could not be written."""


def exists(failure: Failure | None) -> bool:
    """Whether something could not be created because it is there already."""
    return isinstance(failure, Conflict) and failure.current is not None


# --- one resource ------------------------------------------------------------------------------------


async def write(resources: Resources, resource: Resource, verb: Verb) -> Resource:
    """Store ``resource``; as it is stored now.

    ``Conflict`` if it exists and ``verb`` wants nothing there, if its resourceVersion is not the stored one's, or if others
    are quicker time and again; ``Absent`` if it does not exist and ``verb`` wants something there.
    """
    key = key_of(resource)
    judge_owner(key)
    given = resource.metadata.resource_version
    for attempt in range(1, ATTEMPTS + 1):
        stored = await resources.find(key, tier=tier_of(resource))
        if stored is None and verb is Verb.REPLACE:
            raise Absent(key)
        if stored is not None and (verb is Verb.CREATE or given not in {None, str(stored.entry.revision)}):
            raise Conflict(key.path, stored.entry.revision)
        before = None if stored is None else _readable(stored)
        await admit(resources, resource, before)
        try:
            return await _put(resources, _with_status(resource, before), before, stored)
        except Conflict:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


async def change(resources: Resources, key: Key, how: Callable[[Resource], Resource]) -> Resource:
    """Store what ``how`` makes of the resource ``key``, which is asked anew if others are quicker; as it is stored now.

    What ``how`` raises ends it. A resourceVersion that ``how`` changes is one that is no longer stored: a ``Conflict``.
    """
    judge_owner(key)
    for attempt in range(1, CHANGES + 1):
        stored = await resources.find(key)
        if stored is None:
            raise Absent(key)
        before = stored.resource()
        after = how(before)
        if after.metadata.resource_version not in {None, before.metadata.resource_version}:
            raise Conflict(key.path, stored.entry.revision)
        await admit(resources, after, before)
        try:
            return await _put(resources, _with_status(after, before), before, stored)
        except Conflict:
            if attempt == CHANGES:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _put(
    resources: Resources, resource: Resource, before: Resource | None, stored: Stored | None
) -> Resource:
    if stored is None:
        return await resources.create(resource)
    if before is not None:
        kept = before.metadata
        metadata = replace(
            resource.metadata,
            name=kept.name,
            uid=kept.uid,
            creation_timestamp=kept.creation_timestamp,
            resource_version=kept.resource_version,
        )
        if replace(resource, metadata=metadata) == before:
            return before
    return await resources.put(resource, stored)


def _readable(stored: Stored) -> Resource | None:
    try:
        return stored.resource()
    except ModelError:
        return None  # whoever writes over it repairs it


def _with_status(resource: Resource, before: Resource | None) -> Resource:
    if not resource.STATUS:
        return resource
    fields: dict[str, Any] = {"status": getattr(before, "status", None)}
    return replace(resource, **fields)


# --- many --------------------------------------------------------------------------------------------


class Batch:
    """The writes of one command on ``store``, which is read once; in a dry run, on what memory makes of it."""

    def __init__(self, store: Store, *, dry_run: bool = False) -> None:
        self._store = store
        self._dry_run = dry_run
        self.view = Snapshot(store, dry_run=dry_run)
        self.resources = Resources(self.view)

    async def write(
        self, wanted: Sequence[Resource], verb: Verb, *, advance: Callable[[], None] = lambda: None
    ) -> list[Failure | None]:
        """Write each of ``wanted`` (see ``write``); in the same order why it was not, or None.

        One that fails does not stop the others, but a store that is lost does. ``advance`` is called for each.
        """
        if not self._dry_run and verb is not Verb.REPLACE:
            await initialise(self.resources)
        await self.look_ahead(map(key_of, wanted))
        outcomes: list[Failure | None] = [None] * len(wanted)
        lost: list[Unavailable] = []

        async def one(index: int) -> None:
            if lost:
                outcomes[index] = Unavailable(f"not tried, since the store was lost: {lost[0]}")
            else:
                try:
                    await write(self.resources, wanted[index], verb)
                except (NotAdmitted, StoreError, ModelError, Absent) as error:
                    outcomes[index] = error
                    if isinstance(error, Unavailable) and not isinstance(error, Denied):
                        lost.append(error)
            advance()

        first = [index for kind in ORDERED for index, each in enumerate(wanted) if each.kind == kind]
        for index in first:
            await one(index)
        rest = iter(sorted(set(range(len(wanted))).difference(first)))

        async def some() -> None:
            for index in rest:
                await one(index)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        await self._withdraw_overlapping(wanted, outcomes)
        return outcomes

    async def policy_around(self, wanted: Iterable[Resource]) -> list[Resource]:
        """The stored tiers and policies, for whoever judges those among ``wanted``; nothing if there are none.

        With them host endpoints, where a policy is for those alone; and for one for all interfaces the policies.
        """
        wanted = [*wanted]
        kinds: tuple[str, ...] = ("Tier", "NetworkPolicy", "GlobalNetworkPolicy")
        if not any(each.kind in kinds for each in wanted):
            kinds = ("GlobalNetworkPolicy",) if any(map(is_for_all, wanted)) else ()
        elif any(isinstance(each, GlobalNetworkPolicy) and each.spec.do_not_track for each in wanted):
            kinds += ("HostEndpoint",)
        return [each for kind in kinds for each in await self.resources.list(kind, bad=lambda *_: None)]

    async def look_ahead(self, keys: Iterable[Key]) -> None:
        """Read what ``keys`` will be asked of, where one listing is quicker than a look at each."""
        groups = Counter((key.kind, key.namespace) for key in keys)
        for (kind, namespace), count in groups.items():
            if count >= WORTH_LISTING:
                await self.view.list(kind_prefix(kind, namespace))

    async def _withdraw_overlapping(self, wanted: Sequence[Resource], outcomes: list[Failure | None]) -> None:
        """Take new pools back that overlap with one that another client made at the same time.

        Each client looks after its own write, so of two at least one sees the other; perhaps both withdraw.
        """
        made = {change.path for change in self.view.changes() if change.before is None and change.after}
        pools = {
            index: each
            for index, each in enumerate(wanted)
            if isinstance(each, IPPool) and outcomes[index] is None and key_of(each).path in made
        }
        if self._dry_run or not pools:
            return
        overlapping = await overlaps(Resources(self._store), pools.values())
        for index, pool in pools.items():
            finding = overlapping.get(pool.metadata.name)
            entry = await self.view.get(key_of(pool).path) if finding else None
            if finding and entry:
                with suppress(Conflict):  # another took it for good and changed it: they have to settle it
                    await self.view.delete(entry.path, revision=entry.revision)
                outcomes[index] = NotAdmitted(
                    finding._replace(
                        message=f"{finding.message}, which another client made at the same moment"
                    )
                )
