"""The one program: ``calicoctl`` (also installed as ``calico``).

In:   the command line.
Out:  an exit status: 0, 1 when something failed, 2 when the command line was wrong.
Next: each command lives in a module of its own, imported only when it is asked for: start-up time is a feature.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from calico.cli.everywhere import options, understand_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Final = {
    "agent": ("calico.cli.agent:agent", "Run this host's agent, or ask it how it is."),
    "apply": ("calico.cli.resources:apply", "Create or update resources from files."),
    "create": ("calico.cli.resources:create", "Create resources from files that do not exist yet."),
    "backup": ("calico.cli.backup:backup", "Write everything of the store to one file."),
    "completion": ("calico.cli.completion:completion", "Print the completion script for a shell."),
    "datastore": ("calico.cli.datastore:datastore", "Move everything to another store; lock it meanwhile."),
    "convert": ("calico.cli.convert:convert", "Turn manifests of Calico v1 into today's format."),
    "delete": ("calico.cli.resources:delete", "Delete resources by file or by name."),
    "explain": ("calico.cli.explain:explain", "Say why a flow is allowed or denied."),
    "get": ("calico.cli.get:get", "Show resources."),
    "ipam": ("calico.cli.ipam:ipam", "Look at addresses, pools and blocks, and put them in order."),
    "label": ("calico.cli.label:label", "Set or remove labels of a resource."),
    "patch": ("calico.cli.patch:patch", "Change some fields of a resource."),
    "replace": ("calico.cli.resources:replace", "Replace resources that exist by files."),
    "lab": ("calico.cli.lab:lab", "A virtual data centre on this machine."),
    "restore": ("calico.cli.backup:restore", "Store everything that a backup holds."),
    "schema": ("calico.cli.schema:schema", "Print the JSON Schema of a kind, for editors."),
    "test": ("calico.cli.policy_test:test", "Check by manifests who may reach whom, without a store."),
    "validate": ("calico.cli.validate:validate", "Say what is wrong with files, without a store."),
    "version": ("calico.cli.version:version", "Show the version."),
}
"""Command, where it lives, and its line in the overview."""

ELSEWHERE: Final = {
    "cluster": "of a host 'calicoctl agent status' tells how it is",
    "describe": "'calicoctl get KIND NAME -o yaml' shows all there is of a resource",
    "diff": "'calicoctl apply -f FILE --diff' shows what would change",
    "edit": "write 'calicoctl get KIND NAME -o yaml' to a file and 'calicoctl replace -f' it, or use 'calicoctl patch'",
    "export": "'calicoctl datastore migrate export' or 'calicoctl backup' write everything",
    "node": "'calicoctl agent status' shows a host's BGP sessions, and 'calicoctl agent' runs what a host needs",
}
"""Commands of Calico's own program and of kubectl that are not here, and what does their work."""


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
        return understand_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a command that is nearly right."""
        if ctx.resilient_parsing:  # completion: there is nobody to tell
            return (args[0], self.get_command(ctx, args[0]), args[1:]) if args else (None, None, [])
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = ELSEWHERE.get(args[0]) or (f"did you mean {near[0]!r}?" if near else "--help lists them")
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, without importing a single one, and the options."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=line)
            for name, (_, line) in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing a single command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(COMMANDS.items())])


def _complete_labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from calico.cli.completion import labs

    return labs(ctx, param, incomplete)


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted and not ctx.resilient_parsing:
        import calico

        click.echo(f"calicoctl v{calico.__version__}")
        ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit status: 0 all went well; 1 something failed; 2 the command line is wrong."
    " 'calicoctl COMMAND --help' says more about a command.",
)
@click.option(
    "--lab",
    "lab_name",
    metavar="NAME",
    help="Use the store of the lab NAME.",
    shell_complete=_complete_labs,
)
@click.option(
    "--datastore-path",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Use this SQLite store (environment: CALICO_SQLITE_PATH).",
)
@click.option("--etcd-endpoints", metavar="URL,...", help="Use this etcd (environment: ETCD_ENDPOINTS).")
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Read connection settings from FILE instead of /etc/calico/calicoctl.cfg.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_context
def root(
    ctx: click.Context,
    lab_name: str | None,
    datastore_path: str | None,
    etcd_endpoints: str | None,
    config_file: str | None,
) -> None:
    """Networks for data centres whose workloads only need IP: policy, routing, and their proof.

    Which store a command uses, first match wins: --lab, --datastore-path, --etcd-endpoints or --config; the
    environment (DATASTORE_TYPE, ETCD_ENDPOINTS, CALICO_SQLITE_PATH); /etc/calico/calicoctl.cfg; an existing
    /var/lib/calico/calico.db; the only running lab; a new SQLite file.

    \b
    Examples:
      calicoctl apply -f policy.yaml
      calicoctl get networkpolicies -A -o wide
      calicoctl lab up
    """
    from calico.cli.stores import Choice

    ctx.obj = Choice(lab_name, datastore_path, config_file, etcd_endpoints)


root.params[-1:-1] = options(hidden=False)


def main() -> None:
    """Run ``calicoctl``. As root nothing is written beside the sources of a checkout that a user owns."""
    if os.geteuid() == 0 and os.stat(__file__).st_uid != 0:  # noqa: PTH116  pathlib costs start-up time
        sys.dont_write_bytecode = True
    name = os.path.basename(sys.argv[0])  # noqa: PTH119  as above
    try:
        root(prog_name=name if name and not name.endswith(".py") else "calicoctl")
    except OSError as error:  # the output could not be written; a closed pipe is click's own affair
        # What is still in the buffer would fail again at the end of the interpreter, with a message of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
