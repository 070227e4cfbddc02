"""``calicoctl completion``: the shell's side of tab completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Example:
      source <(calicoctl completion bash)
    """
    parent = ctx.find_root()
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(parent.command, {}, parent.info_name or "calicoctl", "_CALICOCTL_COMPLETE").source())
