"""The one program: ``calicoctl`` (also installed as ``calico``).

In:   the command line.
Out:  an exit status: 0, 1 when something failed, 2 when the command line was wrong.
Next: each command lives in a module of its own, imported only when it is asked for: start-up time is a feature.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

COMMANDS: Final = {
    "agent": ("calico.cli.agent:agent", "Run this host's agent, or ask it how it is."),
    "apply": ("calico.cli.resources:apply", "Create or update resources from files."),
    "completion": ("calico.cli.completion:completion", "Print the completion script for a shell."),
    "delete": ("calico.cli.resources:delete", "Delete resources by file or by name."),
    "get": ("calico.cli.resources:get", "Show resources."),
    "lab": ("calico.cli.lab:lab", "A virtual data centre on this machine."),
    "version": ("calico.cli.version:version", "Show the version."),
}
"""Command, where it lives, and its line in the overview."""


class _Lazy(click.Group):
    """A group that imports a command's module when the command is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a command that is nearly right."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing a single command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(COMMANDS.items())])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--lab", "lab_name", metavar="NAME", help="Use the store of the lab NAME.")
@click.option(
    "--datastore-path", metavar="FILE", help="Use this SQLite store (environment: CALICO_SQLITE_PATH)."
)
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    help="Read connection settings from FILE instead of /etc/calico/calicoctl.cfg.",
)
@click.pass_context
def root(
    ctx: click.Context, lab_name: str | None, datastore_path: str | None, config_file: str | None
) -> None:
    """Networks for data centres whose workloads only need IP: policy, routing, and their proof.

    Which store a command uses, first match wins: --lab, --datastore-path, the environment (DATASTORE_TYPE,
    CALICO_SQLITE_PATH), the configuration file, an existing /var/lib/calico/calico.db, the only running lab,
    a new SQLite file.

    \b
    Examples:
      calicoctl apply -f policy.yaml
      calicoctl get networkpolicies -A -o wide
      calicoctl lab up
    """
    from calico.cli.stores import Choice

    ctx.obj = Choice(lab=lab_name, path=datastore_path, config=config_file)


def main() -> None:
    """Run ``calicoctl``. As root nothing is written beside the sources of a checkout that a user may own."""
    if os.geteuid() == 0:
        sys.dont_write_bytecode = True
    root(prog_name=os.path.basename(sys.argv[0]) or "calicoctl")  # noqa: PTH119  pathlib costs start-up time


if __name__ == "__main__":
    main()
