"""``calicoctl backup`` and ``restore``: everything of a store as one file, and back.

In:   the store that is chosen; the name of a file.
Out:  the file, whole or not at all; a store that holds what the file does.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calico.cli.session import with_store
from calico.cli.stores import Location, store_options

if TYPE_CHECKING:
    from calico.datastore.api import Listing
    from calico.datastore.backup_file import Backup
    from calico.datastore.transfer import Difference, Plan
    from calico.datastore.typed import Resources

_FILE = click.Path(readable=False)


@click.command(
    epilog="Exit status: 0 the file is complete; 1 there is no new file, and standard error says why;"
    " 2 the command line is wrong."
)
@click.argument("file", type=_FILE)
@store_options
def backup(location: Location, file: str) -> None:
    """Write everything that the store holds, at one moment, to FILE.

    FILE appears when it is complete and was read back, in the place of an older backup. Only its owner may read it.
    It is JSON lines, compressed with gzip: zcat shows it.

    \b
    Example:
      calicoctl backup /var/backups/calico-$(date +%F)
    """
    from calico.datastore.backup_file import dump, parse
    from calico.datastore.transfer import counted
    from calico.datastore.typed import timestamp
    from calico.model.keys import ROOT

    path = _place(file)

    async def work(client: Resources) -> Listing:
        return await client.store.list(ROOT)

    listing = with_store(location, work, make=False)
    if not listing.entries:
        raise click.ClickException(f"there is nothing to back up: {location.store} holds nothing")
    content = dump(listing, time=timestamp(), store=str(location.store))
    try:
        _write(path, content)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or path}: {error.strerror}; there is no new backup"
        ) from error
    kinds = parse(content, file).kinds
    click.echo(f"Backed up {location.store} at revision {listing.revision} to {file}: {counted(kinds)}.")


def _place(file: str) -> Path:
    """Where the file is to be, links followed; an error of the command where no backup may be written."""
    from calico.datastore.backup_file import looks_like_one

    try:
        path = Path(file).resolve()
        if not path.parent.is_dir():
            raise click.ClickException(f"{path.parent} is no directory; make it first")
        if path.is_dir():
            raise click.ClickException(f"{file} is a directory; name a file in it")
        if path.exists() and not path.is_file():
            raise click.ClickException(f"{file} is no ordinary file; name another")
        if path.exists():
            with path.open("rb") as old:
                start = old.read(64)
            if start and not looks_like_one(start):
                raise click.ClickException(
                    f"{file} is no backup, and is not overwritten; remove it, or name another file"
                )
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    except RuntimeError as error:  # a link that leads to itself
        raise click.ClickException(f"{file}: {error}") from error
    return path


def _write(path: Path, content: bytes) -> None:
    """The file, for its owner only, on the disk and read back before it gets its name."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123  the descriptor has the right mode from the start
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new.read_bytes() != content:
            raise click.ClickException(
                f"{path.parent} does not keep what is written to it; there is no new backup"
            )
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# --- restore -----------------------------------------------------------------------------------------


@click.command(
    epilog="Exit status: 0 the store holds what FILE does; 1 it does not, and standard error says why"
    " (a damaged file changes nothing); 2 the command line is wrong."
)
@click.argument("file", type=_FILE)
@click.option(
    "--replace",
    is_flag=True,
    help="Make a store in use equal to FILE: what is not in FILE is removed at the end.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would change.")
@store_options
def restore(location: Location, file: str, *, replace: bool, dry_run: bool) -> None:
    """Store everything of FILE, which 'backup' made, and compare.

    Without --replace the store must be empty; it is locked until all is there, and if that is interrupted, the same
    command goes on. With --replace agents see ordinary changes, policies before what they protect. What agents
    report of themselves, and what lives by a lease, is left alone.

    \b
    Examples:
      calicoctl restore /var/backups/calico-2026-08-01
      calicoctl restore /var/backups/calico-2026-08-01 --replace --dry-run
    """
    from calico.datastore.backup_file import BadBackup, parse

    try:
        saved = parse(Path(file).read_bytes(), file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    except BadBackup as error:
        raise click.ClickException(f"{error}; nothing was written") from error
    if dry_run:
        _show(with_store(location, lambda client: _planned(client, saved, replace=replace), make=False))
    elif replace:
        _replace(location, file, saved)
    else:
        _fill(location, file, saved)


def _fill(location: Location, file: str, saved: Backup) -> None:
    from calico.cli.progress import Progress
    from calico.datastore.api import StoreError
    from calico.datastore.transfer import NotEmpty, counted, fill

    async def work(client: Resources) -> str:
        try:
            with Progress(len(saved.content), "restoring") as progress:
                return counted(await fill(client.store, saved.content, ready=True, advance=progress.advance))
        except NotEmpty as error:
            raise click.ClickException(
                f"{error}; nothing was written. To make it equal to the file: --replace (see first with --dry-run)"
            ) from error
        except StoreError as error:
            raise click.ClickException(f"{error}. To go on, run the same restore again") from error

    counts = with_store(location, work)
    click.echo(f"Restored {_origin(file, saved)} to {location.store}, and found the same there: {counts}.")


def _replace(location: Location, file: str, saved: Backup) -> None:
    from calico.cli.progress import Progress
    from calico.datastore.transfer import plan, replace

    async def work(client: Resources) -> tuple[Plan, Difference]:
        todo = await plan(client.store, saved.content)
        with Progress(todo.size, "restoring") as progress:
            return todo, await replace(client.store, saved.content, todo, advance=progress.advance)

    todo, difference = with_store(location, work)
    done = f"{len(todo.added)} added, {len(todo.changed)} changed, {len(todo.removed)} removed"
    if any(difference):
        from calico.datastore.transfer import Unequal

        raise click.ClickException(f"{Unequal(difference)} ({done}). Run the same restore again")
    click.echo(f"{location.store} is equal to {_origin(file, saved)}: {done}.")


async def _planned(client: Resources, saved: Backup, *, replace: bool) -> Plan:
    from calico.datastore.transfer import NotEmpty, in_the_way, plan

    if not replace and (obstacles := await in_the_way(client.store, saved.content)):
        raise click.ClickException(f"{NotEmpty(obstacles)}; to make it equal to the file: --replace")
    return await plan(client.store, saved.content)


def _show(todo: Plan) -> None:
    from calico.datastore.transfer import name_of

    changes = [
        *(("+", path) for path in todo.added),
        *(("~", path) for path, _ in todo.changed),
        *(("-", path) for path, _ in todo.removed),
    ]
    for sign, path in changes:
        click.echo(f"{sign} {name_of(path)}")
    click.echo(
        f"Nothing was written; {len(todo.added)} would be added (+), {len(todo.changed)} changed (~),"
        f" {len(todo.removed)} removed (-)."
    )


def _origin(file: str, saved: Backup) -> str:
    return f"{file} (of {saved.time}, {saved.store} at revision {saved.revision})"
