"""``calicoctl ipam show``: how full pools, blocks and hosts are; one address; what is borrowed; the settings.

In:   ``ipam.utilisation``, ``ipam.account``, or the configuration itself.
Out:  tables as Calico prints them, with a bar; or JSON and YAML with exact numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from calico.cli.ipam_source import (
    EPILOG,
    address_of,
    bar,
    bordered,
    count,
    emit,
    output_option,
    picture_of,
    share,
    source_option,
)
from calico.cli.stores import Location, store_options_unless_files

if TYPE_CHECKING:
    from calico.ipam.audit import Allocation
    from calico.ipam.picture import Picture
    from calico.ipam.utilisation import BlockUse, HostUse, PoolUse, Use

_NUMBERS: Final = (
    "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE", "IPS COOLING", "BLOCKS", "BORROWED", "LENT",
)  # fmt: skip


@click.command(epilog=EPILOG)
@click.option("--ip", metavar="IP", help="Say only whether this address is in use, and by whom.")
@click.option("--show-blocks", is_flag=True, help="Show each pool's blocks, too.")
@click.option(
    "--by-host", is_flag=True, help="Show hosts, too: what their blocks hold, and what they borrow."
)
@click.option(
    "--show-borrowed", is_flag=True, help="Show the addresses that nodes have in blocks of other hosts."
)
@click.option("--show-configuration", is_flag=True, help="Show the settings of IPAM.")
@output_option
@source_option
@store_options_unless_files
def show(
    location: Location | None,
    files: str | None,
    output: str,
    ip: str | None,
    show_blocks: bool,
    by_host: bool,
    show_borrowed: bool,
    show_configuration: bool,
) -> None:
    """Show how full pools are, and with options blocks, hosts, one address, what is borrowed, the settings.

    \b
    Examples:
      calicoctl ipam show --show-blocks
      calicoctl ipam show --by-host
      calicoctl ipam show --ip 10.65.0.7
    """
    chosen = [
        option
        for option, given in (
            ("--ip", ip is not None),
            ("--show-borrowed", show_borrowed),
            ("--show-configuration", show_configuration),
        )
        if given
    ]
    if len(chosen) > 1 or (chosen and (show_blocks or by_host)):
        raise click.UsageError(
            f"{chosen[0]} stands alone: it shows something else than the other options; ask twice"
        )
    if ip is not None:
        address = address_of(ip)
        _show_address(picture_of(location, files), address, output)
        return
    picture = picture_of(location, files)
    if show_borrowed:
        _show_borrowed(picture, output)
    elif show_configuration:
        _show_configuration(picture, output)
    else:
        _show_utilisation(picture, output, show_blocks=show_blocks, by_host=by_host)


# --- how full ----------------------------------------------------------------------------------------


def _show_utilisation(picture: Picture, output: str, *, show_blocks: bool, by_host: bool) -> None:
    from calico.ipam.utilisation import utilisation

    found = utilisation(picture)
    if output in {"json", "yaml"}:
        tree: dict[str, Any] = {"pools": [_pool_data(each, blocks=show_blocks) for each in found.pools]}
        if by_host:
            tree["hosts"] = [_host_data(each) for each in found.hosts]
        emit(tree, output)
        return
    wide = output == "wide"
    click.echo(_pools(found.pools, show_blocks=show_blocks, wide=wide))
    if by_host or wide:
        click.echo(f"\n{_hosts(found.hosts)}")


def _pools(pools: list[PoolUse], *, show_blocks: bool, wide: bool) -> str:
    headings = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE"]
    headings += ["IPS RESERVED", "IPS FREE", "IPS COOLING"] if wide else ["IPS FREE"]
    rows = []
    for pool in pools:
        if pool.cidr is not None:
            rows.append(_row("IP Pool", str(pool.cidr), pool.use, wide=wide))
        if show_blocks:
            rows += [_row("Block", str(each.cidr), each.use, wide=wide) for each in pool.blocks]
    return bordered([*headings, "USED"], rows, right=_NUMBERS)


def _row(grouping: str, cidr: str, use: Use, *, wide: bool) -> list[str]:
    numbers = [use.in_use, use.reserved, use.free, use.cooling] if wide else [use.in_use, use.free]
    cells = [share(each, use.total) for each in numbers]
    return [grouping, cidr, count(use.total), *cells, bar(use.in_use, use.total)]


def _hosts(hosts: list[HostUse]) -> str:
    headings = ["HOST", "BLOCKS", "IPS TOTAL", "IPS IN USE", "IPS FREE", "BORROWED", "LENT", "USED"]
    rows = [
        [
            (each.name or "<unknown>") + ("" if each.exists else " (gone)"),
            str(each.blocks),
            count(each.total),
            share(each.in_use, each.total),
            share(each.free, each.total),
            str(each.borrowed),
            str(each.lent),
            bar(each.in_use, each.total),
        ]
        for each in hosts
    ]
    return bordered(headings, rows, right=_NUMBERS)


def _pool_data(pool: PoolUse, *, blocks: bool) -> dict[str, Any]:
    """A pool as plain values; blocks that lie in no pool have one without name."""
    return {
        "name": pool.name or None,
        "cidr": None if pool.cidr is None else str(pool.cidr),
        "disabled": pool.disabled,
        **_use_data(pool.use),
        **({"blocks": [_block_data(each) for each in pool.blocks]} if blocks else {}),
    }


def _block_data(block: BlockUse) -> dict[str, Any]:
    return {"cidr": str(block.cidr), "affinity": block.owner or None, **_use_data(block.use)}


def _use_data(use: Use) -> dict[str, int]:
    return {
        "total": use.total,
        "inUse": use.in_use,
        "reserved": use.reserved,
        "free": use.free,
        "cooling": use.cooling,
    }


def _host_data(host: HostUse) -> dict[str, Any]:
    return {
        "name": host.name or None,
        "exists": host.exists,
        "blocks": host.blocks,
        "total": host.total,
        "inUse": host.in_use,
        "free": host.free,
        "borrowed": host.borrowed,
        "lent": host.lent,
    }


# --- one address -------------------------------------------------------------------------------------


def _show_address(picture: Picture, address: Any, output: str) -> None:
    from datetime import UTC, datetime

    from calico.cli.ipam_why import as_data
    from calico.ipam.account import account

    found = account(picture, address, datetime.now(UTC))
    if output in {"json", "yaml"}:
        emit(as_data(found), output)
        return
    if found.state not in {"allocated", "cooling"}:
        click.echo(f"{found.address} is not assigned")
        return
    if found.state == "cooling":
        until = f", and is not given again before {found.cool_until}" if found.cool_until else ""
        click.echo(f"IP {found.address} was released at {found.released_at}{until}")
        return
    click.echo(f"IP {found.address} is in use")
    click.echo(f"Handle ID: {'<none>' if found.handle is None else found.handle}")
    if found.attributes:
        click.echo("\n".join(_attributes("Active Owner Attributes", found.attributes)))
    else:
        click.echo("No Active Owner attributes defined")
    if found.alternate:
        click.echo("\n".join(_attributes("Alternate Owner Attributes", found.alternate)))


def _attributes(title: str, values: Any) -> Iterator[str]:
    from calico.model.errors import printable

    yield f"{title}:"
    for name, value in sorted(values.items()):
        yield printable(f"  {name}: {value}")


# --- what is borrowed --------------------------------------------------------------------------------


class _Borrowed(NamedTuple):
    ip: str
    node: str
    block: str
    owner: str
    type: str
    allocated_to: str


def _show_borrowed(picture: Picture, output: str) -> None:
    from calico.ipam.audit import audit
    from calico.ipam.ownership import noted

    allocations = audit(picture).allocations
    found = [_borrowed(picture, each) for each in allocations if each.borrowed]
    unknown = sum(not noted(each.attribute).get("node") for each in allocations)
    if output in {"json", "yaml"}:
        items = [
            {
                "ip": each.ip,
                "borrowingNode": each.node,
                "block": each.block,
                "blockOwner": each.owner or None,
                "type": each.type or None,
                "allocatedTo": each.allocated_to or None,
            }
            for each in found
        ]
        emit({"borrowed": items, "withoutNode": unknown}, output)
        return
    headings = ["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"]
    click.echo(bordered(headings, found))
    if unknown:
        click.echo(
            f"\nNote: {unknown} addresses were given without saying to which node; whether they are borrowed is unknown."
        )


def _borrowed(picture: Picture, each: Allocation) -> _Borrowed:
    from calico.ipam.ownership import noted

    values = noted(each.attribute)
    owner = (picture.blocks[each.block].affinity or "").partition(":")[2]
    kind, name = values.get("type", ""), ""
    for key, word in (("vmi-name", "vmi"), ("pod", "pod")):
        if values.get(key):
            kind, name = word, f"{values.get('namespace', '')}/{values[key]}"
            break
    return _Borrowed(each.address, each.node, str(each.block), owner, kind, name)


# --- the settings ------------------------------------------------------------------------------------


def _show_configuration(picture: Picture, output: str) -> None:
    found = picture.configuration
    if output in {"json", "yaml"}:
        emit(
            {
                "strictAffinity": found.strict_affinity,
                "autoAllocateBlocks": found.auto_allocate_blocks,
                "maxBlocksPerHost": found.max_blocks_per_host,
                "kubeVirtVMAddressPersistence": found.kubevirt_persistence or "Enabled",
                "ipCooldownSeconds": found.ip_cooldown_seconds or 0,
            },
            output,
        )
        return
    rows = [
        ["StrictAffinity", str(found.strict_affinity).lower()],
        ["AutoAllocateBlocks", str(found.auto_allocate_blocks).lower()],
        ["MaxBlocksPerHost", str(found.max_blocks_per_host)],
        ["KubeVirtVMAddressPersistence", found.kubevirt_persistence or "Enabled"],
        ["IPCooldownSeconds", str(found.ip_cooldown_seconds or 0)],
    ]
    click.echo(bordered(["PROPERTY", "VALUE"], rows))
