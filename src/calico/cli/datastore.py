"""``calicoctl datastore migrate``: move everything from one store to another, by a file.

In:   the store that is chosen; a file of another one.
Out:  a lock that is set or taken away, a text on standard output, a store that holds the same as the file.

Messages, parts of the text and the order of steps are Calico's (behaviour reference 8.6); any store may be either end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calico.cli.access import roles
from calico.cli.policy_names import migrate_policy_names
from calico.cli.session import with_store
from calico.cli.stores import Location, store_options

if TYPE_CHECKING:
    from calico.datastore.exported import Export
    from calico.datastore.typed import Resources

_STATUS = (
    "Exit status: 0 done; 1 it could not be done, and standard error says why; 2 the command line is wrong."
)


@click.group(epilog=_STATUS)
def datastore() -> None:
    """Work on the store as a whole.

    \b
    Example:
      calicoctl datastore migrate lock
    """


datastore.add_command(migrate_policy_names)
datastore.add_command(roles)


@datastore.group(epilog=_STATUS)
def migrate() -> None:
    """Move everything to another store, IPAM included, with a check at the end.

    \b
    Example, from etcd to a file of this host:
      export ETCD_ENDPOINTS=https://10.0.0.1:2379
      calicoctl datastore migrate lock
      calicoctl datastore migrate export > everything
      calicoctl --datastore-path /var/lib/calico/calico.db datastore migrate import -f everything
      calicoctl --datastore-path /var/lib/calico/calico.db datastore migrate unlock
    """


@migrate.command(epilog=_STATUS)
@store_options
def lock(location: Location) -> None:
    """Lock the store: agents keep what they have programmed, and wait. Writing stays possible.

    \b
    Example:
      calicoctl datastore migrate lock
    """
    _lock(location, locked=True)
    click.echo("Datastore locked.")


@migrate.command(epilog=_STATUS)
@store_options
def unlock(location: Location) -> None:
    """Unlock the store: agents act on what it holds.

    \b
    Example:
      calicoctl datastore migrate unlock
    """
    _lock(location, locked=False)
    click.echo("Datastore unlocked.")


def _lock(location: Location, *, locked: bool) -> None:
    from calico.datastore.lock import set_lock

    with_store(location, lambda client: set_lock(client.store, locked=locked), make=locked)


@migrate.command(epilog=_STATUS)
@store_options
def export(location: Location) -> None:
    """Print everything that the locked store holds, as it is at one moment: resources in YAML, IPAM in JSON.

    \b
    Example:
      calicoctl datastore migrate export > everything
    """
    from calico.datastore.exported import dump
    from calico.datastore.lock import is_locked
    from calico.datastore.transfer import lasting
    from calico.datastore.typed import timestamp
    from calico.model.keys import ROOT

    async def work(client: Resources) -> dict[str, bytes]:
        if not await is_locked(client.store):
            raise click.ClickException(
                "the store is not locked, so what is written to it from now on would not move; lock it first:"
                " calicoctl datastore migrate lock (or copy a store in use with: calicoctl backup FILE)"
            )
        listing = await client.store.list(ROOT)
        return lasting({entry.path: entry.value for entry in listing.entries})

    content = with_store(location, work, make=False)
    for piece in dump(content, time=timestamp(), store=str(location.store)):
        click.echo(piece, nl=False)


@migrate.command("import", epilog=_STATUS)
@click.option(
    "-f",
    "--filename",
    required=True,
    metavar="FILE|-",
    type=click.Path(allow_dash=True, readable=False),
    help="What 'export' printed, ours or Calico's. '-' is standard input.",
)
@click.option(
    "--allow-changed", is_flag=True, help="FILE was edited since it was exported, and that is meant."
)
@store_options
def import_(location: Location, filename: str, *, allow_changed: bool) -> None:
    """Store everything of FILE in an empty store, and compare. The store is locked, and stays so.

    If it is interrupted, the same command goes on where it stopped.

    \b
    Example:
      calicoctl datastore migrate import -f everything
    """
    from calico.cli.progress import Progress
    from calico.datastore.api import StoreError
    from calico.datastore.transfer import NotEmpty, counted, fill

    export = _read(filename, changed=allow_changed)

    async def work(client: Resources) -> str:
        try:
            with Progress(len(export.content), "importing") as progress:
                return counted(
                    await fill(client.store, export.content, ready=False, advance=progress.advance)
                )
        except NotEmpty as error:
            raise click.ClickException(f"{error}; import into an empty one, nothing was written") from error
        except StoreError as error:
            raise click.ClickException(f"{error}. To go on, run the same import again") from error

    counts = with_store(location, work)
    click.echo(f"Imported, and found the same in {location.store}: {counts}.")
    if not export.ours:
        click.echo(
            "Profiles and workload endpoints are not in Calico's exports: their makers bring them anew."
        )
    click.echo("The store is locked; when everything uses it: calicoctl datastore migrate unlock")


def _read(filename: str, *, changed: bool) -> Export:
    from calico.datastore.api import StoreError
    from calico.datastore.exported import parse
    from calico.datastore.typed import timestamp
    from calico.model.errors import ModelError

    source = "standard input" if filename == "-" else filename
    try:
        content = sys.stdin.buffer.read() if filename == "-" else Path(filename).read_bytes()
        return parse(content.decode(), source, stamp=timestamp(), changed=changed)
    except OSError as error:
        raise click.ClickException(f"{filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{source} is no export: byte {error.start} is not UTF-8") from error
    except (StoreError, ModelError) as error:
        raise click.ClickException(str(error)) from error
