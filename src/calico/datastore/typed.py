"""Resources, read from and written to a store as values.

In:   resources, and any store.
Out:  the same as stored: with uid and creationTimestamp, and the revision as resourceVersion.
Next: ``cli`` and the agent's API. IPAM reads and writes its records in the store itself; here people see and
      change them through the kinds that are views of them (``model.ipam_kinds``).

A write succeeds only over what its writer has seen: the resource's resourceVersion where it has one, else
what is read just before, again and again if others are quicker, but not for ever. A write that ends in
``Unavailable`` may have happened. What is written over keeps the fields that only a newer writer knows.

Before Calico 3.30 a policy ``web`` of tier ``default`` was stored as ``default.web``. Where that is stored and
``web`` is not, whoever asks for ``web`` gets it, and changes it in its place: there is never a second copy.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from calico.datastore.api import Conflict, Entry, Store
from calico.model.codec import RECORDS, decode_resource, encode
from calico.model.errors import ModelError
from calico.model.ipam_kinds import View
from calico.model.keys import KINDS, Key, key_of, kind_prefix, parse_path
from calico.model.policy import DEFAULT_TIER
from calico.model.resource import Metadata, Resource
from calico.model.unknown import carried_bytes

R = TypeVar("R", bound=Resource)

ATTEMPTS: Final = 5
"""How often a write is tried when others are quicker."""

_ONCE_PREFIXED: Final = frozenset(
    {"GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"}
)


def timestamp() -> str:
    """The time now, as resources state it: RFC 3339, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    """An identity that no other resource has."""
    return str(uuid.uuid4())


class Stored(NamedTuple):
    """What is stored of a resource: under which key, and the entry there."""

    key: Key
    entry: Entry

    def resource(self) -> Resource:
        """The resource; ModelError if the entry holds none."""
        return decode_resource(self.key, self.entry.value, self.entry.revision)


class Resources:
    """The resources in ``store``. ``now`` and ``uid`` give what a new resource is stamped with."""

    def __init__(
        self, store: Store, *, now: Callable[[], str] = timestamp, uid: Callable[[], str] = new_uid
    ) -> None:
        self.store = store
        self._now = now
        self._uid = uid

    async def find(self, key: Key, *, tier: str = DEFAULT_TIER) -> Stored | None:
        """What is stored of the resource ``key``, readable or not; None if nothing is.

        With ``tier`` a policy's former name counts only if the policy belongs to tier ``default``.
        """
        key = await self._placed(key)
        entry = await self.store.get(key.path)
        former = _former(key, tier) if entry is None else None
        if former is not None:
            key, entry = former, await self.store.get(former.path)
        return None if entry is None else Stored(key, entry)

    async def get(self, key: Key) -> Resource | None:
        """The resource ``key``, or None; ModelError if what is stored there is none."""
        stored = await self.find(key)
        return None if stored is None else stored.resource()

    async def create(self, resource: R) -> R:
        """Store a resource where none is; Conflict if there is. A resourceVersion it brings does not count."""
        key = key_of(resource)
        former = _former(key, tier_of(resource))
        other = None if former is None else await self.store.get(former.path)
        if other is not None:
            raise Conflict(other.path, other.revision)
        stamped = self._stamped(resource, resource.metadata)
        return _at(stamped, await self.store.create(key.path, encode(stamped)))

    async def update(self, resource: R) -> R:
        """Put a resource over the one that is stored, which keeps its uid and creationTimestamp.

        Conflict if none is stored, or if ``resource`` has a resourceVersion that is no longer the stored one's.
        """
        key = key_of(resource)
        given = resource.metadata.resource_version
        for attempt in range(1, ATTEMPTS + 1):
            current = await self.find(key, tier=tier_of(resource))
            if current is None:
                raise Conflict(key.path, None)
            if given not in {None, str(current.entry.revision)}:
                raise Conflict(key.path, current.entry.revision)
            try:
                return await self.put(resource, current)
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def apply(self, resource: R) -> R:
        """Create the resource, or update it if it exists. Conflict as for ``update``."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self.create(resource)
            except Conflict:
                pass
            try:
                return await self.update(resource)
            except Conflict as conflict:
                vanished = conflict.current is None
                if not vanished or attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def modify(
        self, key: Key, change: Callable[[Resource], Resource], *, attempts: int = ATTEMPTS
    ) -> Resource:
        """Store what ``change`` makes of the resource at ``key``.

        ``change`` is called again with what is stored then when others are quicker, ``attempts`` times in
        all; what it returns is not written if it is equal to what it was given. Conflict if nothing is stored
        at ``key``, or after the last attempt.
        """
        for attempt in range(1, attempts + 1):
            current = await self.find(key)
            if current is None:
                raise Conflict(key.path, None)
            before = current.resource()
            after = change(before)
            if after == before:
                return before
            try:
                return await self.put(after, current)
            except Conflict:
                if attempt == attempts:
                    raise
        raise ValueError(f"at least one attempt is needed, not {attempts}")

    async def delete(self, key: Key, *, resource_version: str | None = None) -> None:
        """Remove the resource at ``key``; Conflict if there is none, or ``resource_version`` is not its own."""
        key = await self._placed(key)
        former = _former(key)
        if former is not None and await self.store.get(key.path) is None:
            key = former
        if resource_version is None:
            await self.store.delete(key.path, revision=None)
            return
        if not resource_version.isdecimal():
            current = await self.store.get(key.path)
            raise Conflict(key.path, current and current.revision)
        await self.store.delete(key.path, revision=int(resource_version))

    async def list(
        self, kind: str, namespace: str = "", *, bad: Callable[[Key, ModelError], None] | None = None
    ) -> tuple[Resource, ...]:
        """All resources of a kind, in order of their paths; of one namespace if the kind has them and one is given.

        Without ``bad`` one stored value that is no such resource raises ModelError; with it, ``bad`` is told,
        and the others are returned.
        """
        listing = await self.store.list(kind_prefix(kind, namespace))
        found = []
        for entry in listing.entries:
            key = parse_path(entry.path)
            if key is None or key.kind != kind:
                continue
            try:
                found.append(Stored(key, entry).resource())
            except ModelError as error:
                if bad is None:
                    raise
                bad(key, error)
        return tuple(found)

    async def put(self, resource: R, current: Stored) -> R:
        """Put ``resource`` over ``current``, of which it keeps identity, name, and what only its writer knew.

        Conflict if something else is stored there by now.
        """
        key, entry = current
        try:
            kept = current.resource().metadata
        except ModelError:
            kept = Metadata()
        metadata = replace(
            resource.metadata,
            name=key.name,
            uid=kept.uid or resource.metadata.uid,
            creation_timestamp=kept.creation_timestamp or resource.metadata.creation_timestamp,
        )
        stamped = self._stamped(resource, metadata)
        kind = RECORDS.get(key.kind) or KINDS[key.kind]
        value = carried_bytes(entry.value, encode(stamped), kind)
        return _at(stamped, await self.store.put(key.path, value, revision=entry.revision))

    def _stamped(self, resource: R, metadata: Metadata) -> R:
        """The resource with ``metadata``, an identity (the one there or a new one), and no resourceVersion.

        A view of a record has its name alone: there is no room for more.
        """
        if isinstance(resource, View):
            return replace(resource, metadata=Metadata(name=resource.metadata.name))
        fresh = replace(
            metadata,
            uid=metadata.uid or self._uid(),
            creation_timestamp=metadata.creation_timestamp or self._now(),
            resource_version=None,
        )
        return replace(resource, metadata=fresh)

    async def _placed(self, key: Key) -> Key:
        """The key as the store has it: an affinity that is asked for by its name as a resource is looked for."""
        if key.kind == "BlockAffinity" and not key.namespace:
            for each in await self.list(key.kind, bad=lambda *_: None):
                if each.metadata.name == key.name:
                    return key_of(each)
        return key


def tier_of(resource: Resource) -> str:
    """The tier of a policy; of what has none, the tier of policies that name none."""
    return getattr(getattr(resource, "spec", None), "tier", None) or DEFAULT_TIER


def _former(key: Key, tier: str = DEFAULT_TIER) -> Key | None:
    """The key that a policy of tier ``default`` had before Calico 3.30; None if that is the same."""
    if key.kind not in _ONCE_PREFIXED or tier != DEFAULT_TIER or "." in key.name:
        return None
    return key._replace(name=f"{DEFAULT_TIER}.{key.name}")


def _at(resource: R, revision: int) -> R:
    return replace(resource, metadata=replace(resource.metadata, resource_version=str(revision)))
