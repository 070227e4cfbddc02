"""What the store says that decides who gets which address: pools, reservations, settings, labels.

In:   any store; a node, and perhaps a namespace.
Out:  ``Facts``, as they are now: one reading serves all requests that are served together.
Next: ``ipam.assigning`` and ``ipam.client`` go by them.

What opens something and cannot be read is left out (a pool), or has no labels (a node, a namespace). What closes
something (a reservation, the settings) and cannot be read stops the request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from calico.datastore.api import Entry, Store
from calico.ipam.errors import BadRecord
from calico.ipam.records import stored
from calico.model import codec
from calico.model.address import Cidr, parse_cidr
from calico.model.errors import ModelError
from calico.model.ipam import IPAMConfig
from calico.model.ipam_kinds import CONFIGURATION
from calico.model.keys import Key, kind_prefix, parse_path
from calico.model.kubernetes_kinds import Namespace
from calico.model.node import Node
from calico.model.pool import IPPool
from calico.model.reservation import IPReservation
from calico.model.resource import Resource

_log = logging.getLogger(__name__)

_K = TypeVar("_K", bound=Resource)

UNSET: Final = IPAMConfig(auto_allocate_blocks=True)
"""The settings of a cluster that has none."""


@dataclass(frozen=True)
class Facts:
    """See the module."""

    pools: Mapping[str, IPPool]
    settings: IPAMConfig
    reserved: tuple[Cidr, ...]
    node_labels: Mapping[str, str]
    namespace_labels: Mapping[str, str] | None
    """None where no namespace was named."""


async def read_facts(store: Store, node: str, namespace: str | None = None) -> Facts:
    """The facts of now; BadRecord if reservations or settings cannot be read."""
    pools = await read_pools(store)
    asked = namespace is not None and any(pool.spec.namespace_selector for pool in pools.values())
    return Facts(
        pools,
        await read_settings(store),
        await _reserved(store),
        await _labels(store, Key("Node", node), Node),
        await _labels(store, Key("Namespace", namespace or ""), Namespace) if asked else None,
    )


async def read_pools(store: Store) -> dict[str, IPPool]:
    """All pools that can be read, by name."""
    listing = await store.list(kind_prefix("IPPool"))
    pools = (_resource(entry, IPPool) for entry in listing.entries)
    return {pool.metadata.name: pool for pool in pools if pool is not None}


async def read_settings(store: Store) -> IPAMConfig:
    """The settings of address management; BadRecord if they cannot be read."""
    entry = await store.get(Key("IPAMConfiguration", CONFIGURATION).path)
    return UNSET if entry is None else stored(entry, IPAMConfig).value


async def _reserved(store: Store) -> tuple[Cidr, ...]:
    reserved: list[Cidr] = []
    for entry in (await store.list(kind_prefix("IPReservation"))).entries:
        try:
            found = _decoded(entry, IPReservation)
            reserved += map(parse_cidr, found.spec.reserved_cidrs if found is not None else ())
        except ModelError as error:
            raise BadRecord(entry.path, str(error)) from error
    return tuple(reserved)


async def _labels(store: Store, key: Key, kind: type[Resource]) -> Mapping[str, str]:
    entry = await store.get(key.path)
    found = None if entry is None else _resource(entry, kind)
    return {} if found is None else found.metadata.labels


def _resource(entry: Entry, kind: type[_K]) -> _K | None:
    """The resource in ``entry``; None, and a line in the log, where it makes no sense."""
    try:
        return _decoded(entry, kind)
    except ModelError as error:
        _log.warning("left out of account: %s", error)
        return None


def _decoded(entry: Entry, kind: type[_K]) -> _K | None:
    key = parse_path(entry.path)
    found = None if key is None else codec.decode(key, entry.value, entry.revision)
    return found if isinstance(found, kind) else None
