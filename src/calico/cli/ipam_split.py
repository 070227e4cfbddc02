"""``calicoctl ipam split``: one pool into several, on a locked store.

In:   the pool, by name or prefix, and the number of parts.
Out:  the steps of ``ipam.split``, done in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calico.cli.ipam_source import EPILOG
from calico.cli.stores import Location, store_options

if TYPE_CHECKING:
    from calico.datastore.typed import Resources
    from calico.ipam.split import Split
    from calico.model.pool import IPPool


@click.command(epilog=EPILOG)
@click.argument("number", type=int)
@click.option("--cidr", metavar="CIDR", help="The prefix of the pool.")
@click.option("--name", metavar="POOL", help="The name of the pool.")
@store_options
def split(location: Location, number: int, cidr: str | None, name: str | None) -> None:
    """Split a pool into NUMBER pools of one size; NUMBER is 2, 4, 8, ...

    The store must be locked. The new pools are split-POOL-0, split-POOL-1, ...; blocks and addresses stay as they are.
    If it is interrupted, the same command goes on where it stopped.

    \b
    Example:
      calicoctl datastore migrate lock
      calicoctl ipam split 2 --name default
      calicoctl datastore migrate unlock
    """
    from calico.cli.session import with_store

    if (cidr is None) == (name is None):
        raise click.UsageError("say which pool: either --name POOL or --cidr CIDR")
    done = with_store(location, lambda client: split_pool(client, number, cidr, name), make=False)
    click.echo(f"IP Pool {done.delete} was successfully split into {number} smaller pools.")
    for part in done.parts:
        click.echo(f"Created {part.metadata.name} with CIDR {part.spec.cidr}.")
    click.echo(
        "Change nodeSelector and the like of the new pools as you need them; then: calicoctl datastore migrate unlock"
    )


async def split_pool(client: Resources, number: int, cidr: str | None, name: str | None) -> Split:
    """Do all steps that are left. Where it is broken off, another call goes on; an error of the command else."""
    from contextlib import suppress

    from calico.cli.problems import Failure
    from calico.datastore.api import Conflict
    from calico.datastore.lock import is_locked
    from calico.ipam.split import split as steps_of
    from calico.model.keys import Key
    from calico.model.pool import IPPool

    if not await is_locked(client.store):
        raise Failure(
            "the store is not locked, so addresses would be given from the pool while it is split;"
            " lock it first: calicoctl datastore migrate lock"
        )
    pools = {each.metadata.name: each for each in await client.list("IPPool") if isinstance(each, IPPool)}
    steps = steps_of(_wanted(pools, cidr, name), number, pools)
    if steps.disable is not None:
        await client.update(steps.disable)
    for part in steps.create:
        try:
            await client.create(part)
        except Conflict as conflict:
            raise Failure(
                f"somebody made IPPool {part.metadata.name} just now; look at it, and run the same command again to go on"
            ) from conflict
    with suppress(Conflict):  # somebody was quicker
        await client.delete(Key("IPPool", steps.delete))
    return steps


def _wanted(pools: dict[str, IPPool], cidr: str | None, name: str | None) -> IPPool:
    from calico.cli.problems import Failure
    from calico.model.address import AddressError, parse_cidr

    if name is not None:
        if name in pools:
            return pools[name]
        parts = [each for each in pools if each.startswith(f"split-{name}-")]
        hint = f"; it was split before, into {', '.join(parts)}" if parts else ""
        raise Failure(f"unable to find IP pool with name {name}: there is none{hint}")
    assert cidr is not None
    try:
        wanted = parse_cidr(cidr)
    except AddressError as error:
        raise click.UsageError(str(error)) from error
    for pool in pools.values():
        if parse_cidr(pool.spec.cidr) == wanted:
            return pool
    raise Failure(f"unable to find IP pool with the CIDR {wanted}; 'calicoctl get ippools' lists the pools")
