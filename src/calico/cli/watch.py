"""``calicoctl get --watch``: what there is, and then every change of it, until somebody has seen enough.

In:   one kind, perhaps names of it, and a format.
Out:  rows or documents on standard output, each as it happens; the loss of the store on standard error.
Next: ``datastore.resync`` brings the changes, nothing lost between the first picture and the first change.

A change that is a deletion shows the resource as it last was: a row ends in ``(deleted)``, a document has a
``deletionTimestamp``. A store that was there once may be lost as long as it likes; what it then holds is shown
as far as it differs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from typing import Final

import click
from msgspec.structs import replace

from calico.cli import formats, printers
from calico.cli.compatibility import refuse_mismatch
from calico.cli.formats import Batch, Format
from calico.cli.get import built_in, cluster_as_number
from calico.cli.kinds import Wanted
from calico.cli.stores import Location
from calico.datastore.api import Store, StoreError, Unavailable
from calico.datastore.resync import Status, updates
from calico.datastore.typed import Resources, timestamp
from calico.model.codec import decode_resource
from calico.model.fact import InSync, Update
from calico.model.keys import Key, key_of, kind_prefix
from calico.model.resource import Column, Resource

DELETED: Final = "(deleted)"
"""What stands at the end of a row whose resource is gone."""

SIGNALLED: Final = 128
"""Added to the number of the signal that ended a command, as shells do."""


def show_changes(
    location: Location, asked: Wanted, namespace: str, output: Format, *, namespaces: bool, only: bool
) -> int:
    """Show what is asked for as it changes; the exit status, once a signal or a reader that left ends it.

    With ``only`` what there is at first is not shown. ``namespace`` "" means all.
    """
    try:
        return asyncio.run(_until_ended(location, asked, namespace, output, namespaces=namespaces, only=only))
    except BrokenPipeError:
        return _reader_left()
    except Unavailable as error:
        raise click.ClickException(f"{error} (store chosen by {location.reason})") from error
    except StoreError as error:
        raise click.ClickException(str(error)) from error


async def _until_ended(
    location: Location, asked: Wanted, namespace: str, output: Format, *, namespaces: bool, only: bool
) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, SIGNALLED + number)
    pipe = _pipe()
    if pipe is not None:  # a pipe is never readable at this end, but its other end may close
        loop.add_reader(pipe, end, 0)
    store = location.store.open(make=False)
    shown = _Shown(asked, output, namespaces=namespaces, only=only)
    work = asyncio.create_task(_follow(store, asked.kind.__name__, namespace, shown))
    try:
        await asyncio.wait((asyncio.ensure_future(ended), work), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            if pipe is not None and ended.result() == 0:
                _reader_left()
            return ended.result()
        work.result()  # raises what ended it
        return 0
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if pipe is not None:
            loop.remove_reader(pipe)
        await store.close()


def _pipe() -> int | None:
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (OSError, ValueError):
        return None


def _reader_left() -> int:
    """Whoever read the output has seen enough, which is no failure; nothing that waits may be written any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


async def _follow(store: Store, kind: str, namespace: str, shown: _Shown) -> None:
    await refuse_mismatch(store)
    if shown.output.needs_as_number and kind == "Node":
        shown.as_number = await cluster_as_number(Resources(store))
    status = Status()
    told = -1.0

    async def pause(seconds: float) -> None:
        nonlocal told
        if not shown.in_sync:
            raise Unavailable(status.error)
        if status.since != told:  # once for each loss, however often it is tried again
            told = status.since
            click.echo(f"the store is lost: {status.error}; trying again", err=True)
        await asyncio.sleep(seconds)

    batches = updates(
        store,
        decode=decode_resource,
        pause=pause,
        clock=asyncio.get_running_loop().time,
        prefix=kind_prefix(kind, namespace),
        status=status,
        salvage=lambda _key, _value: None,
    )
    async for batch in batches:
        for update in batch:
            if isinstance(update, InSync):
                shown.complete()
            elif update.key.kind == kind:
                shown.take(update, status.bad.get(update.key.path))


class _Shown:
    """What a person has been shown so far, and what they are to be shown next."""

    def __init__(self, asked: Wanted, output: Format, *, namespaces: bool, only: bool) -> None:
        self.output = output
        self.as_number = ""
        self.in_sync = False
        self._kind = asked.kind
        self._names = asked.names
        self._namespaces = namespaces
        self._only = only
        self._there: dict[Key, Resource] = {
            key_of(each): each for each in built_in(asked.kind.__name__) if self._wanted(each)
        }
        self._widths: list[int] = []

    def _wanted(self, resource: Resource) -> bool:
        return not self._names or resource.metadata.name in self._names

    def take(self, update: Update, bad: str | None) -> None:
        """Go on from one update; ``bad`` says why the value could not be read, if it could not."""
        resource = update.value
        if bad is not None:
            click.echo(f"cannot be read: {update.key}: {bad.partition('; until then')[0]}", err=True)
            return
        if isinstance(resource, Resource):
            if self._wanted(resource):
                self._there[update.key] = resource
                if self.in_sync:
                    self._say(resource)
            return
        gone = self._there.pop(update.key, None)
        if gone is not None and self.in_sync:
            self._say(gone, deleted=True)

    def complete(self) -> None:
        """Show the first complete picture."""
        self.in_sync = True
        there = [self._there[key] for key in sorted(self._there, key=lambda key: (key.namespace, key.name))]
        missing = set(self._names) - {each.metadata.name for each in there}
        for name in sorted(missing):
            click.echo(f"{self._kind.__name__}/{name} does not exist yet", err=True)
        if self.output.is_table:
            rows = printers.rows_of(there, self._columns())
            self._widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows[:1] if self._only else rows:
                self._row(row)
        elif not self._only:
            for resource in there:
                self._say(resource)

    def _columns(self) -> list[Column]:
        return self.output.columns_of(self._kind, namespaces=self._namespaces, as_number=self.as_number)

    def _row(self, row: list[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=False)]
        cells = [cell.ljust(width) for cell, width in zip(row, self._widths, strict=False)]
        click.echo("   ".join([*cells, *row[len(self._widths) :]]).rstrip())

    def _say(self, resource: Resource, *, deleted: bool = False) -> None:
        if self.output.is_table:
            _, row = printers.rows_of([resource], self._columns())
            self._row([*row, DELETED] if deleted else row)
            return
        if self.output.word == "name":
            click.echo(formats.name_of(resource) + (f" {DELETED}" if deleted else ""))
            return
        if deleted:
            metadata = resource.metadata
            resource = replace(
                resource,
                metadata=replace(metadata, deletion_timestamp=metadata.deletion_timestamp or timestamp()),
            )
        click.echo(_document(self.output, self._kind, resource, self.as_number), nl=False)


def _document(output: Format, kind: type[Resource], resource: Resource, as_number: str) -> str:
    """One document, or what a template makes of a list of one."""
    if output.template is not None:
        return output.rendered([Batch(kind, [resource])], as_number)
    tree = printers.document([resource], None)
    if output.word == "yaml":
        return f"---\n{printers.yaml_text(tree)}"
    return printers.json_text(tree, indent=None)
