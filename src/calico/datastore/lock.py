"""The lock of a store: ``datastoreReady`` of its ClusterInformation.

In:   any store.
Out:  whether it is locked; a store locked or unlocked.

While a store is locked, agents keep what they have programmed and wait. It keeps nobody from writing.
"""

from __future__ import annotations

import uuid
from typing import Final

from msgspec.structs import replace

from calico.datastore.api import Conflict, Store
from calico.datastore.typed import Resources
from calico.model.cluster import ClusterInformation, ClusterInformationSpec
from calico.model.keys import Key
from calico.model.resource import Metadata, Resource

CLUSTER: Final = Key("ClusterInformation", "default")
"""What says which cluster this is, and holds the lock."""


async def is_locked(store: Store) -> bool:
    """Whether the store is locked; one that never heard of locks is not. ModelError if that cannot be read."""
    found = await Resources(store).get(CLUSTER)
    return isinstance(found, ClusterInformation) and found.locked


async def set_lock(store: Store, *, locked: bool) -> bool:
    """Lock or unlock the store; False if it is so already. A cluster without an identity gets one, to be locked."""
    resources = Resources(store)
    if locked:
        spec = ClusterInformationSpec(cluster_guid=uuid.uuid4().hex, datastore_ready=False)
        try:
            await resources.create(ClusterInformation(metadata=Metadata(name=CLUSTER.name), spec=spec))
        except Conflict:
            pass  # it has one
        else:
            return True
    changed = False

    def change(found: Resource) -> Resource:
        nonlocal changed
        assert isinstance(found, ClusterInformation)
        changed = found.locked != locked
        return replace(found, spec=replace(found.spec, datastore_ready=not locked)) if changed else found

    try:
        await resources.modify(CLUSTER, change)
    except Conflict as conflict:
        if conflict.current is not None:
            raise
    return changed
