"""``calicoctl version``.

In:   the store, if there is one and it is wanted.
Out:  the version of this program; version and type of the cluster, as whoever runs it stored them.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

import calico
from calico.cli.stores import Choice, choice_options

if TYPE_CHECKING:
    from calico.cli.stores import Location

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def _seconds(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """How long a duration such as ``10s`` or ``1h30m`` is."""
    parts = _DURATION.findall(text)
    if not text or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"{text!r} is no duration; write one as in 10s, 5m or 1h30m", ctx, param)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@click.command(
    epilog="Exit status: 0; 1 the store that was chosen cannot be asked. A poll that is interrupted ends with 130."
)
@click.option("--client", is_flag=True, help="Only the version of this program; no store is asked.")
@click.option(
    "--poll",
    metavar="DURATION",
    default="0",
    callback=_seconds,
    help="Ask again and again, every DURATION (10s, 5m, ...), and show what changes, until Ctrl-C.",
)
@choice_options
@click.pass_context
def version(ctx: click.Context, /, *, client: bool, poll: float, **chosen: Any) -> None:
    """Show the version of this program, and of what runs the cluster.

    \b
    Examples:
      calicoctl version
      calicoctl version --client
      calicoctl version --poll=10s
    """
    click.echo(f"Client Version:    v{calico.__version__}")
    if client:
        return
    import os

    from calico.cli.stores import locate

    choice = Choice.of(chosen)
    outer = ctx.find_object(Choice)
    location = locate(choice.over(outer) if outer else choice, os.environ)
    if location.store.file is not None and not location.store.file.exists() and not poll:
        return  # there is no cluster yet
    try:
        _show_cluster(location, poll)
    except KeyboardInterrupt:
        sys.exit(130)


def _show_cluster(location: Location, poll: float) -> None:
    import time

    from calico.cli.compatibility import remark

    shown: tuple[str, str] | None = None
    while True:
        try:
            found = _ask(location)
        except click.ClickException as error:
            if not poll:
                raise
            found = None
            error.show()
        if found is not None:
            cluster_version, cluster_type = (each or "unknown" for each in found)
            if shown is None or shown[0] != found[0]:
                click.echo(f"Cluster Version:   {cluster_version}")
                if sentence := remark(found[0]):
                    click.echo(sentence, err=True)
            if shown is None or shown[1] != found[1]:
                click.echo(f"Cluster Type:      {cluster_type}")
        shown = found
        if not poll:
            return
        time.sleep(poll)


def _ask(location: Location) -> tuple[str, str]:
    """Version and type of the cluster; of a file without an event loop."""
    from calico.cli.compatibility import cluster
    from calico.datastore.api import Store, StoreError

    async def asked(store: Store) -> tuple[str, str]:
        try:
            return await cluster(store)
        finally:
            await store.close()

    try:
        if location.store.file is not None:
            from calico.datastore.direct import DirectStore, at_once

            return at_once(asked(DirectStore(location.store.file)))
        import asyncio

        return asyncio.run(asked(location.store.open()))
    except StoreError as error:
        raise click.ClickException(f"the cluster's version cannot be read: {error}") from error
