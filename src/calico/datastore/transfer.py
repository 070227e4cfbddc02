"""Everything that a store holds, moved as it is: into an empty store, or over what another one holds.

In:   ``Content``: what a backup or an export holds, path by path; any store.
Out:  a store that holds the same, compared with the content key by key; or what is in the way.
Next: ``cli.datastore`` and ``cli.backup``; the files are ``datastore.backup_file`` and ``datastore.exported``.

Values are moved as they are, known or not. What lives by a lease is nobody's to restore: a sign of life, an
election that is won. It is left alone on both sides.

Into an empty store everything goes under the lock of ``datastore.lock``, so that no agent acts on a part of it.
If that is interrupted, the store stays locked, and the same again goes on where it stopped. Over a store in
use, changes come in an order in which agents can follow them: what policies rest on, policies, endpoints; and
only then is removed what is not wanted, the other way round.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias

from calico.datastore.api import Conflict, Entry, Store, StoreError
from calico.datastore.lock import CLUSTER, set_lock
from calico.model.keys import ROOT, Key, parse_path
from calico.model.policy import BUILT_IN_TIERS

Content: TypeAlias = Mapping[str, bytes]
"""What is to be stored, by its path."""

AT_ONCE: Final = 16
"""How many writes are on their way at the same time."""

OTHER: Final = "other keys"
"""What counts say of paths that hold none of our kinds."""

_ALIVE: Final = re.compile(
    r"/calico/felix/v\d+/(?:[^/]+/)?host/[^/]+/status|/calico/compaction/v1/.*|/calico/.*/neutron_election[^/]*"
)
_REPORTED: Final = "/calico/felix/"

_FIRST: Final = (
    ("FelixConfiguration", "BGPConfiguration", "KubeControllersConfiguration", "IPAMConfiguration"),
    ("Tier", "Namespace", "ServiceAccount", "Profile", "NetworkSet", "GlobalNetworkSet", "Service", "EndpointSlice"),
    (
        "GlobalNetworkPolicy", "NetworkPolicy", "KubernetesNetworkPolicy", "ClusterNetworkPolicy",
        "StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy",
    ),
    ("IPPool", "IPReservation", "Node", "BGPFilter", "BGPPeer"),
    ("IPAMBlock", "BlockAffinity", "IPAMHandle"),
)  # fmt: skip
"""Kinds in the order in which they are written; all others, endpoints among them, come after."""

_RANKS: Final = {kind: rank for rank, kinds in enumerate(_FIRST) for kind in kinds}


class NotEmpty(StoreError):
    """The store holds something else, which is not overwritten."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        names = ", ".join(map(name_of, paths[:3])) + (", ..." if len(paths) > 3 else "")
        super().__init__(f"the store is not empty: it holds {counted(kinds_of(paths))} ({names})")


class Unequal(StoreError):
    """What the store holds at the end is not what was to be stored."""

    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        said = [
            f"{len(paths)} {what}, {', '.join(map(name_of, paths[:3]))}{', ...' if len(paths) > 3 else ''}"
            for what, paths in zip(("missing", "different", "too many"), difference, strict=True)
            if paths
        ]
        super().__init__(
            f"the store does not hold what the file does: {'; '.join(said)}; others wrote meanwhile"
        )


class Difference(NamedTuple):
    """The paths at which a store differs from what is wanted."""

    missing: tuple[str, ...]
    different: tuple[str, ...]
    extra: tuple[str, ...]


class Plan(NamedTuple):
    """What makes a store hold what is wanted: writes and removals, each in order, with the revision that is there now."""

    added: tuple[str, ...]
    changed: tuple[tuple[str, int], ...]
    removed: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """How many changes there are."""
        return sum(map(len, self))


# --- what there is -----------------------------------------------------------------------------------


def is_alive(path: str) -> bool:
    """Whether what is at ``path`` lives by a lease, or would if it were not too old."""
    return _ALIVE.fullmatch(path) is not None


def is_reported(path: str) -> bool:
    """Whether agents write ``path`` by themselves, about themselves."""
    return path.startswith(_REPORTED) or is_alive(path)


def lasting(content: Content) -> dict[str, bytes]:
    """The content without what lives by a lease."""
    return {path: value for path, value in content.items() if not is_alive(path)}


def kinds_of(paths: Iterable[str]) -> Counter[str]:
    """How many paths there are of each kind, the most common first."""
    keys = map(parse_path, paths)
    return Counter(dict(Counter(key.kind if key else OTHER for key in keys).most_common()))


def counted(kinds: Mapping[str, int]) -> str:
    """The counts as one line: ``12 NetworkPolicy, 3 Tier``."""
    return ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "nothing"


def name_of(path: str) -> str:
    """What people call the path: ``Kind/namespace/name``, or the path itself."""
    key = parse_path(path)
    return path if key is None else str(key)


def canonical(value: bytes) -> bytes:
    """The same bytes for all ways to write the same JSON; what is no JSON as it is."""
    try:
        tree = json.loads(value, object_pairs_hook=_unique)
        return json.dumps(tree, sort_keys=True, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key stands twice")
    return tree


def same(one: bytes, other: bytes) -> bool:
    """Whether two values say the same."""
    return one == other or canonical(one) == canonical(other)


def compare(wanted: Content, found: Content) -> Difference:
    """Key by key."""
    return Difference(
        tuple(sorted(wanted.keys() - found.keys())),
        tuple(path for path in sorted(wanted.keys() & found.keys()) if not same(wanted[path], found[path])),
        tuple(sorted(found.keys() - wanted.keys())),
    )


# --- into an empty store -----------------------------------------------------------------------------


async def fill(
    store: Store, content: Content, *, ready: bool, advance: Callable[[], None] = lambda: None
) -> Counter[str]:
    """Store all of ``content`` in an empty store, compare, and say how many of each kind there are.

    An interrupted filling with the same content is gone on with. ``NotEmpty`` where anything else is there but
    what clients make by themselves. The store is locked meanwhile, and stays so; with ``ready`` its lock is in
    the end as ``content`` has it. ``Unequal`` if the store is not what it should be: then it stays locked, too.
    """
    wanted = lasting(content)
    final = wanted.pop(CLUSTER.path, None)
    there = await _held(store, is_alive)
    cluster = there.pop(CLUSTER.path, None)
    made = _MADE_BY_CLIENTS & there.keys()
    if obstacles := _in_the_way(wanted, there):
        raise NotEmpty(obstacles)
    locked = None if final is None else _locked(final)
    if locked is None:
        await set_lock(store, locked=True)
    elif cluster is None or not same(cluster.value, locked):
        await _put(store, CLUSTER.path, locked, cluster)
    await _in_ranks(
        {
            path: partial(_put, store, path, value, there.get(path))
            for path, value in wanted.items()
            if path not in there or not same(value, there[path].value)
        },
        advance,
    )
    await _check(
        store, wanted, lambda path: is_alive(path) or path == CLUSTER.path or path in made - wanted.keys()
    )
    if ready:
        now = await store.get(CLUSTER.path)
        if final is not None:
            await _put(store, CLUSTER.path, final, now)
        elif now is not None:
            await store.delete(CLUSTER.path, revision=now.revision)
    return kinds_of([*wanted, *([] if final is None else [CLUSTER.path])])


async def in_the_way(store: Store, content: Content) -> list[str]:
    """The paths that keep ``fill`` from storing ``content``."""
    there = await _held(store, is_alive)
    there.pop(CLUSTER.path, None)
    return _in_the_way(content, there)


_MADE_BY_CLIENTS: Final = frozenset(Key("Tier", name).path for name in BUILT_IN_TIERS)


def _in_the_way(wanted: Content, there: Mapping[str, Entry]) -> list[str]:
    return [
        path
        for path, entry in there.items()
        if path not in _MADE_BY_CLIENTS and not (path in wanted and same(wanted[path], entry.value))
    ]


def _locked(cluster: bytes) -> bytes | None:
    """The ClusterInformation with the lock on; None where it is none."""
    try:
        tree = json.loads(cluster)
        tree["spec"] = {**(tree.get("spec") or {}), "datastoreReady": False}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


# --- over what is there ------------------------------------------------------------------------------


async def plan(store: Store, content: Content) -> Plan:
    """What would make the store hold ``content``, and nothing else."""
    return _plan(_wanted(content), await _held(store, is_reported))


async def replace(
    store: Store, content: Content, todo: Plan, *, advance: Callable[[], None] = lambda: None
) -> Difference:
    """Carry out ``todo``, which is the plan for ``content``; how the store differs from it in the end.

    What others changed since the plan was made is not overwritten, so it is in the difference.
    """
    puts = {path: partial(store.create, path, content[path]) for path in todo.added}
    changes = {
        path: partial(store.put, path, content[path], revision=revision) for path, revision in todo.changed
    }
    removals = {path: partial(store.delete, path, revision=revision) for path, revision in todo.removed}
    await _in_ranks({**puts, **changes}, advance)
    await _in_ranks(removals, advance, backwards=True)
    return await _difference(store, _wanted(content), is_reported)


def _plan(wanted: Content, there: Mapping[str, Entry]) -> Plan:
    return Plan(
        tuple(sorted(wanted.keys() - there.keys(), key=_rank)),
        tuple(
            (path, there[path].revision)
            for path in sorted(wanted.keys() & there.keys(), key=_rank)
            if wanted[path] != there[path].value
        ),
        tuple(
            (path, there[path].revision)
            for path in sorted(there.keys() - wanted.keys(), key=_rank, reverse=True)
        ),
    )


def _wanted(content: Content) -> dict[str, bytes]:
    return {path: value for path, value in content.items() if not is_reported(path)}


# --- the store ---------------------------------------------------------------------------------------


async def _held(store: Store, ignored: Callable[[str], bool]) -> dict[str, Entry]:
    return {entry.path: entry for entry in (await store.list(ROOT)).entries if not ignored(entry.path)}


async def _difference(store: Store, wanted: Content, ignored: Callable[[str], bool]) -> Difference:
    held = await _held(store, ignored)
    return compare(wanted, {path: entry.value for path, entry in held.items()})


async def _check(store: Store, wanted: Content, ignored: Callable[[str], bool]) -> None:
    difference = await _difference(store, wanted, ignored)
    if any(difference):
        raise Unequal(difference)


async def _put(store: Store, path: str, value: bytes, before: Entry | None) -> int:
    if before is None:
        return await store.create(path, value)
    return await store.put(path, value, revision=before.revision)


def _rank(path: str) -> tuple[int, str]:
    key = parse_path(path)
    return _RANKS.get(key.kind, len(_FIRST)) if key else len(_FIRST), path


async def _in_ranks(
    writes: Mapping[str, Callable[[], Awaitable[int]]],
    advance: Callable[[], None],
    *,
    backwards: bool = False,
) -> None:
    """Do the writes rank by rank, those of a rank at the same time. A Conflict is left to whoever compares."""
    ordered = sorted(writes, key=_rank, reverse=backwards)
    for _, paths in groupby(ordered, key=lambda path: _rank(path)[0]):
        waiting = iter(paths)

        async def work(waiting: Iterator[str] = waiting) -> None:
            for path in waiting:
                try:
                    await writes[path]()
                except Conflict:
                    pass
                except UnicodeEncodeError as error:
                    raise StoreError(f"{path!r} is no text, and this store has no other keys") from error
                advance()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as failed:  # one says enough
            raise failed.exceptions[0] from None
