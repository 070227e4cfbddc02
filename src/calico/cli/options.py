"""The options and arguments that the verbs have in common.

In:   nothing; these are decorators for click commands.
Out:  parameters ``files``, ``recursive``, ``skip_empty``, ``namespace``, ``words``, ``dry_run`` and ``diff``.
Next: ``cli.kinds`` and ``cli.manifests`` make sense of their values; ``cli.stores`` has those that choose the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from calico.cli.kinds import METAVAR

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

DIFF_STATUS: Final = "2 the command line is wrong. With --diff: 0 nothing would change, 1 something would, 2 something is wrong."

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
_FILE = click.Path(allow_dash=True, readable=False)  # "manifests" says all that is wrong, not only this


def complete_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may follow the words that are there."""
    del param
    from calico.cli.completion import words

    return words(ctx, incomplete)


def _complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del param
    from calico.cli.completion import namespaces

    return namespaces(ctx, incomplete)


class _Files(click.Option):
    """``-f``, which people who come from other programs forget."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """As click does; what is missing is said with what to write."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            raise click.UsageError(
                "there is no -f; write -f before each file or directory, or -f - for standard input", ctx
            ) from None


def files(what: str, *, required: bool = False) -> Callable[[Decorated], Decorated]:
    """``-f``, repeatable; ``what`` is its help."""
    return click.option(
        "-f",
        "--filename",
        "files",
        cls=_Files,
        multiple=True,
        required=required,
        metavar="FILE|DIR|-",
        type=_FILE,
        help=what,
    )


def _checked_namespace(ctx: click.Context, param: click.Parameter, namespace: str | None) -> str | None:
    """``namespace`` if it is one: an empty one, of an unset variable, must not lead to the default one."""
    if namespace is None or ctx.resilient_parsing:
        return namespace
    from calico.model.checks import dns_label

    for finding in dns_label((), namespace):
        raise click.BadParameter(f"{finding.message}; {finding.remedy}", ctx, param)
    return namespace


def namespace(what: str) -> Callable[[Decorated], Decorated]:
    """``-n``, a DNS label or None; ``what`` is its help."""
    return click.option(
        "-n",
        "--namespace",
        metavar="NAMESPACE",
        help=what,
        callback=_checked_namespace,
        shell_complete=_complete_namespaces,
    )


one = click.argument(
    "words", metavar="KIND NAME | KIND/NAME", nargs=-1, required=True, shell_complete=complete_words
)
words = click.argument("words", metavar=f"[{METAVAR}]", nargs=-1, shell_complete=complete_words)
recursive = click.option(
    "-R", "--recursive", is_flag=True, help="Look into the directories of a directory too."
)
skip_empty = click.option("--skip-empty", is_flag=True, help="Files without a resource are no error.")
dry_run = click.option(
    "--dry-run",
    type=click.Choice(["client", "server"]),
    help="Write nothing; 'client' only reads the command line and files, 'server' judges all by what is stored.",
)
diff = click.option(
    "--diff", is_flag=True, help="Write nothing; show what would change in the store, as a unified diff."
)
