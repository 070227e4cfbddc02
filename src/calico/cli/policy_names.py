"""``calicoctl datastore migrate-policy-names``.

In:   the store that is chosen.
Out:  policies of tier ``default`` without the prefix that older versions of Calico kept them under.
"""

from __future__ import annotations

import sys

import click

from calico.cli.session import with_store
from calico.cli.stores import Location, store_options


@click.command(
    "migrate-policy-names",
    epilog="Exit status: 0 no policy has such a name any more; 1 some kept theirs, and standard error says why;"
    " 2 the command line is wrong.",
)
@store_options
def migrate_policy_names(location: Location) -> None:
    """Rename policies that Calico before v3.32 stored as "default.NAME" to NAME, as their authors wrote it.

    At no moment is a policy missing: each is written under its new name first. Do it once, when no older calicoctl
    or agent uses the store any more. Until then both names are understood.

    \b
    Example:
      calicoctl datastore migrate-policy-names
    """
    from calico.datastore.policy_names import migrate

    moves = with_store(location, lambda client: migrate(client.store), make=False)
    kept = [move for move in moves if move.problem]
    for move in kept:
        click.echo(f"{move.before} keeps its name: {move.problem}", err=True)
    click.echo(f"Renamed {len(moves) - len(kept)} policies")
    if kept:
        sys.exit(1)
