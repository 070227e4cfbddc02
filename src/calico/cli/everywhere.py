"""The options that may stand before a command and after it, as with Calico's own program.

In:   a command.
Out:  the same, understanding ``--allow-version-mismatch``, ``--context`` and ``--log-level``.
Next: ``cli.main`` shows them before the command, and lets every command understand them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

LEVELS: Final = ("panic", "fatal", "error", "warn", "warning", "info", "debug")
QUIET: Final = ("panic", "fatal")


def _allow(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted:
        from calico.cli.compatibility import ALLOWED

        ctx.meta[ALLOWED] = True


def _no_context(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    if name is not None and not ctx.resilient_parsing:
        raise click.BadParameter(
            f"{name!r} is a context of a kubeconfig, and the Kubernetes API is no store here;"
            " name an etcd with --etcd-endpoints, or leave it out",
            ctx,
            param,
        )


def _log(ctx: click.Context, param: click.Parameter, level: str | None) -> None:
    del param
    if level is None or level in QUIET or ctx.resilient_parsing:
        return
    import logging

    word = {"warn": "WARNING"}.get(level, level.upper())
    logging.basicConfig(level=word, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def options(*, hidden: bool) -> Iterator[click.Option]:
    """New options; hidden ones are for commands, whose help would else be full of them."""
    yield click.Option(
        ["--allow-version-mismatch"],
        is_flag=True,
        expose_value=False,
        hidden=hidden,
        callback=_allow,
        help="Work on clusters of other major versions of Calico, too.",
    )
    yield click.Option(
        ["--context"],
        metavar="NAME",
        expose_value=False,
        hidden=hidden,
        callback=_no_context,
        help="Refused: there is no store behind the Kubernetes API here.",
    )
    yield click.Option(
        ["--log-level"] if hidden else ["-l", "--log-level"],
        type=click.Choice(LEVELS, case_sensitive=False),
        metavar="LEVEL",
        expose_value=False,
        hidden=hidden,
        callback=_log,
        help="Log on standard error from this level on, down to debug; nothing is logged by default.",
    )


def understand_options(command: click.Command) -> click.Command:
    """Let ``command``, and the commands in it, understand these options, each of them once."""
    known = {name for param in command.params for name in param.opts}
    command.params += [option for option in options(hidden=True) if not known & set(option.opts)]
    if isinstance(command, click.Group):
        for each in command.commands.values():
            understand_options(each)
    return command
