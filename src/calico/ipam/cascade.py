"""What goes when a node or a pool goes: their addresses, claims and settings (behaviour reference 1.9, 1.17).

In:   the key of a resource that may be deleted.
Out:  the resource gone from the store, and before it everything that has no meaning without it.
Next: nothing refers to it any more; addresses in use keep their blocks.

What was begun goes on when it is repeated: the resource itself goes last, and each step before it finds what is
left. An address is freed before its endpoint goes, for only the endpoint says which it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar, cast

from msgspec import structs

from calico.datastore.api import Conflict
from calico.datastore.typed import Resources
from calico.ipam import claims
from calico.ipam.block import Release
from calico.ipam.client import Client
from calico.model.address import AddressError, parse_cidr
from calico.model.bgp import BGPPeer
from calico.model.endpoint import HostEndpoint, WorkloadEndpoint
from calico.model.errors import ModelError
from calico.model.keys import IPAM, Key, key_of, parse_path
from calico.model.node import Node
from calico.model.pool import IPPool
from calico.model.resource import Resource

K = TypeVar("K", bound=Resource)

SETTLE: Final = 0.5
"""How many seconds assignments that have begun get to end, after their pool was disabled."""


async def delete(
    resources: Resources,
    key: Key,
    *,
    pause: Callable[[float], Awaitable[object]],
    resource_version: str | None = None,
) -> None:
    """Delete the resource ``key`` and what goes with it.

    Conflict if it is not there (what is left of it goes all the same), or if ``resource_version`` is given and
    is not its own (nothing goes).
    """
    stored = None if resource_version is None else await resources.find(key)
    if stored is not None and str(stored.entry.revision) != resource_version:
        raise Conflict(key.path, stored.entry.revision)
    if key.kind == "Node":
        await _empty_node(resources, key)
    elif key.kind == "IPPool":
        await _empty_pool(resources, key, pause)
        resource_version = None  # it is another now, for it was disabled
    await resources.delete(key, resource_version=resource_version)


# --- nodes -------------------------------------------------------------------------------------------


async def _empty_node(resources: Resources, key: Key) -> None:
    name = key.name
    ipam = Client(resources.store, name)
    for endpoint in await _all(resources, WorkloadEndpoint):
        if endpoint.spec.node == name:
            await ipam.release(_addresses(endpoint.spec.ip_networks), node=name)
            await _gone(resources, key_of(endpoint))
    with suppress(ModelError):  # what cannot be read names no tunnel
        node = await resources.get(key)
        if isinstance(node, Node):
            await ipam.release(_addresses(node.tunnel_addresses()), node=name)
    await claims.release_host(resources.store, name)
    for peer in await _all(resources, BGPPeer):
        if peer.spec.node == name:
            await _gone(resources, key_of(peer))
    for kind in ("FelixConfiguration", "BGPConfiguration"):
        await _gone(resources, Key(kind, f"node.{name}"))
    for host_endpoint in await _all(resources, HostEndpoint):
        if host_endpoint.spec.node == name:
            await _gone(resources, key_of(host_endpoint))


def _addresses(texts: Iterable[str]) -> list[Release]:
    """Releases of the addresses among ``texts``; a prefix that is none, and what is no address at all, is passed over."""
    found = []
    for text in texts:
        with suppress(AddressError):
            found.append(Release(parse_cidr(text.partition("/")[0])))
    return found


# --- pools -------------------------------------------------------------------------------------------


async def _empty_pool(resources: Resources, key: Key, pause: Callable[[float], Awaitable[object]]) -> None:
    def disabled(resource: Resource) -> Resource:
        pool = cast("IPPool", resource)
        return structs.replace(pool, spec=structs.replace(pool.spec, disabled=True))

    try:
        pool = cast("IPPool", await resources.modify(key, disabled))
        cidr = parse_cidr(pool.spec.cidr)
    except (Conflict, ModelError):
        return  # not there, or nothing that anybody assigns from
    await pause(SETTLE)
    for owners in ("host/", "virtual/"):
        for entry in (await resources.store.list(f"{IPAM}{owners}")).entries:
            affinity = parse_path(entry.path)
            if affinity is not None and cidr.contains(parse_cidr(affinity.name)):
                await claims.release_claim(resources.store, affinity, only_empty=True)


# --- resources ---------------------------------------------------------------------------------------


async def _all(resources: Resources, kind: type[K]) -> list[K]:
    """All of a kind that can be read."""
    found = await resources.list(kind.__name__, bad=lambda *_: None)
    return [each for each in found if isinstance(each, kind)]


async def _gone(resources: Resources, key: Key) -> None:
    """Delete ``key``; fine if it is not there."""
    with suppress(Conflict):
        await resources.delete(key)
