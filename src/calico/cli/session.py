"""One command's time with the store, and the keys of what the command is about.

In:   the store's location, and what the command line or files name.
Out:  the result of the work; what the store refuses is an error of the command.
Next: ``cli.resources`` and ``cli.get`` say what the work is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from calico.cli.compatibility import refuse_mismatch
from calico.cli.kinds import Wanted, wanted
from calico.cli.stores import Location, open_store
from calico.datastore.api import StoreError, Unavailable
from calico.datastore.typed import Resources
from calico.model.errors import ModelError
from calico.model.keys import Key, key_of

if TYPE_CHECKING:
    from calico.cli.problems import Failure
    from calico.datastore.api import Store
    from calico.datastore.snapshot import Change
    from calico.datastore.writing import Batch

T = TypeVar("T")
DEFAULT_NAMESPACE = "default"


class Interrupted(click.ClickException):
    """A person broke the command off in the middle."""

    exit_code = 130
    """As shells have it of programs that the signal ended."""

    def __init__(self, done: int) -> None:
        what = "one change was" if done == 1 else f"{done} changes were"
        super().__init__(  # what was on its way to the store may have arrived
            f"interrupted; at least {what} made by then, each of them whole: run the same command again to make the others"
        )


def with_store(location: Location, work: Callable[[Resources], Awaitable[T]], *, make: bool = True) -> T:
    """Open the store, do the work, close it; what the store refuses is an error of the command.

    Without ``make`` a store that does not exist is not made, but taken for an empty one.
    """
    import asyncio

    async def session() -> T:
        return await _session(open_store(location, make=make), work)

    with _explained(location):
        return asyncio.run(session())


def look(location: Location, work: Callable[[Resources], Awaitable[T]]) -> T:
    """As ``with_store``, for work that only reads, one thing after the other: a file needs no event loop for that."""
    if location.store.file is None:
        return with_store(location, work, make=False)
    from calico.datastore.direct import DirectStore, at_once

    with _explained(location):
        store = open_store(location, make=False, direct=True)
        if isinstance(store, DirectStore):
            return at_once(_session(store, work))
        import asyncio

        return asyncio.run(_session(store, work))


async def _session(store: Store, work: Callable[[Resources], Awaitable[T]]) -> T:
    try:
        await refuse_mismatch(store)
        return await work(Resources(store))
    finally:
        await store.close()


@contextmanager
def _explained(location: Location) -> Iterator[None]:
    """What the store refuses is an error of the command."""
    try:
        yield
    except Unavailable as error:
        raise _failure(f"{error} (store chosen by {location.reason})") from error
    except (StoreError, ModelError) as error:
        raise _failure(str(error)) from error


def _failure(message: str) -> Failure:
    from calico.cli.problems import Failure  # commands that go well need it not

    return Failure(message)


def with_batch(
    location: Location,
    work: Callable[[Batch], Awaitable[T]],
    *,
    rehearsal: bool = False,
    make: bool = True,
) -> tuple[T, list[Change]]:
    """As ``with_store``, for work that writes: its result, and what it changed; in a ``rehearsal`` nothing really.

    ``Interrupted`` where a person breaks it off after it changed something.
    """
    begun: list[Batch] = []

    async def within(client: Resources) -> tuple[T, list[Change]]:
        from calico.datastore.writing import Batch

        batch = Batch(client.store, dry_run=rehearsal)
        begun.append(batch)
        result = await work(batch)
        return result, batch.view.changes()

    try:
        return with_store(location, within, make=make and not rehearsal)
    except KeyboardInterrupt:
        done = 0 if rehearsal else sum(len(batch.view.changes()) for batch in begun)
        if not done:
            raise
        raise Interrupted(done) from None


def keys_of(asked: Sequence[Wanted], namespace: str | None) -> list[Key]:
    """The keys of all names that are ``asked`` for, in ``namespace`` where their kind has namespaces."""
    return [
        Key(kind.__name__, name, (namespace or DEFAULT_NAMESPACE) if kind.NAMESPACED else "")
        for kind, names in asked
        for name in names
    ]


def one_key(words: Sequence[str], namespace: str | None) -> Key:
    """The key of the one resource that ``words`` name."""
    keys = keys_of(wanted(words), namespace)
    if len(keys) != 1:
        raise click.UsageError(
            f"name one resource, as KIND NAME or KIND/NAME; {' '.join(words)!r} names {len(keys)}"
        )
    return keys[0]


def keys_of_files(
    files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool
) -> list[Key]:
    """The keys of what ``files`` hold, judged as strictly as for ``apply``."""
    from calico.cli.manifests import load

    manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    return [key_of(manifest.resource) for manifest in manifests]


async def search(client: Resources, missing: Sequence[Key]) -> list[tuple[Key, str]]:
    """For each key that holds nothing a sentence, with the namespaces where there is something of that name."""
    found = []
    for key in missing:
        others: list[str] = []
        if key.namespace:
            stored = await client.list(key.kind, bad=lambda *_: None)
            others = [each.metadata.namespace or "" for each in stored if each.metadata.name == key.name]
        hint = f"; there is one in namespace {', '.join(others)} (-n)" if others else ""
        found.append((key, f"does not exist{hint}"))
    return found
