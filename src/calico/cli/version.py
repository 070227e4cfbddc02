"""``calicoctl version``."""

from __future__ import annotations

import click

import calico


@click.command()
def version() -> None:
    """Show the version of this program.

    \b
    Example:
      calicoctl version

    Exit status: 0.
    """
    click.echo(f"Client Version:    v{calico.__version__}")
