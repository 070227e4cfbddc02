"""``calicoctl datastore roles``: the commands that make Calico's roles in an etcd.

In:   users and their roles; the prefix, if no store is configured that has it.
Out:  a shell script on standard output. Nothing is connected and nothing is run.
Next: an administrator of etcd reads and runs it (docs/operate/access.md).
"""

from __future__ import annotations

import os
from typing import Any

import click

from calico.cli.stores import Choice, choice_options, locate


def _checked(ctx: click.Context, param: click.Parameter, users: tuple[str, ...]) -> tuple[str, ...]:
    if ctx.resilient_parsing:
        return users
    from calico.datastore.access import wrong_with_user

    for user in users:
        if wrong := wrong_with_user(user):
            raise click.BadParameter(wrong, ctx, param)
    return users


def _checked_prefix(ctx: click.Context, param: click.Parameter, prefix: str | None) -> str | None:
    if prefix and not prefix.startswith("/") and not ctx.resilient_parsing:
        raise click.BadParameter(
            f"the prefix {prefix!r} does not begin with '/'; write /{prefix}", ctx, param
        )
    return prefix


@click.command(
    epilog="Exit status: 0 printed; 1 the configuration cannot be read; 2 the command line or the configuration is wrong."
)
@click.option(
    "--agent", "agents", multiple=True, metavar="USER", callback=_checked, help="Make USER for an agent."
)
@click.option(
    "--host-endpoints",
    "keepers",
    multiple=True,
    metavar="USER",
    callback=_checked,
    help="Let USER, an agent, also make host endpoints: needed where autoCreate is Enabled.",
)
@click.option(
    "--operator", "operators", multiple=True, metavar="USER", callback=_checked, help="Make USER an operator."
)
@click.option(
    "--reader", "readers", multiple=True, metavar="USER", callback=_checked, help="Make USER a reader."
)
@click.option(
    "--certificates", is_flag=True, help="Users have no password but a certificate with their name as CN."
)
@click.option(
    "--prefix",
    metavar="PATH",
    callback=_checked_prefix,
    help="What stands before /calico/ in etcd's keys; default what ETCD_PREFIX or the configuration says.",
)
@choice_options
@click.pass_context
def roles(
    ctx: click.Context,
    /,
    *,
    agents: tuple[str, ...],
    keepers: tuple[str, ...],
    operators: tuple[str, ...],
    readers: tuple[str, ...],
    prefix: str | None,
    certificates: bool,
    **chosen: Any,
) -> None:
    """Print the etcdctl commands that make Calico's roles in etcd, and users that have them. Nothing is run.

    An agent may read everything and write only what agents write: status, nodes, workload endpoints and address
    assignments; with --host-endpoints also host endpoints, those of all hosts. An operator may read and write
    everything, a reader read it.

    \b
    Examples:
      calicoctl datastore roles
      calicoctl datastore roles --agent host-1 --agent host-2 --operator alice > roles.sh
      calicoctl datastore roles --certificates --agent host-1
      calicoctl datastore roles --agent host-1 --host-endpoints host-1
    """
    from calico.datastore.access import AGENT, HOST_ENDPOINTS, OPERATOR, READER, script

    if prefix is None:
        prefix = _configured(ctx, Choice.of(chosen))
    given = ((agents, AGENT), (keepers, HOST_ENDPOINTS), (operators, OPERATOR), (readers, READER))
    users = [(user, role) for names, role in given for user in names]
    for line in script(users, prefix.rstrip("/"), certificates=certificates):
        click.echo(line)


def _configured(ctx: click.Context, choice: Choice) -> str:
    """The prefix of the etcd that is chosen; none if that is no etcd."""
    from calico.datastore.etcd_settings import EtcdSettings

    outer = ctx.find_object(Choice)
    where = locate(choice.over(outer) if outer else choice, os.environ).store.where
    return where.prefix if isinstance(where, EtcdSettings) else ""
