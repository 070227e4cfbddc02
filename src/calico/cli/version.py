"""``calicoctl version``."""

from __future__ import annotations

import click

import calico


@click.command()
def version() -> None:
    """Show the version of this program."""
    click.echo(f"Client Version:    v{calico.__version__}")
