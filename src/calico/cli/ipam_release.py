"""``calicoctl ipam release``: give addresses back that nobody uses.

In:   addresses, or reports of ``ipam check``; what is stored now.
Out:  addresses freed, each only if it still is the assignment that was judged (its handle and sequence number say so).

An address that somebody uses is not freed: whoever gets it next would share it. What the options of ``--force`` may
override is Calico's (behaviour reference 8.4): the version of a report, and the lock; never the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import click

from calico.cli.ipam_source import EPILOG, address_of
from calico.cli.stores import Location, store_options

if TYPE_CHECKING:
    from calico.datastore.typed import Resources
    from calico.ipam.picture import Picture
    from calico.ipam.releasing import Released
    from calico.ipam.report import Leak, Report
    from calico.model.address import Cidr

SHOWN: Final = 10
"""How many of the addresses that were left alone are listed, with the reason."""


@click.command(epilog=EPILOG)
@click.option("--ip", "addresses", metavar="IP", multiple=True, help="Free this address; repeatable.")
@click.option(
    "--from-report",
    "reports",
    metavar="REPORT",
    type=click.Path(readable=False),
    multiple=True,
    help="Free what 'ipam check -o REPORT' found leaked; repeatable: then only what is leaked in all of them.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Go on with a report of another version, with a store that is not locked, or with an address in use.",
)
@store_options
def release(location: Location, addresses: Sequence[str], reports: Sequence[str], force: bool) -> None:
    """Free addresses that are given to nobody who lives; others may get them then.

    A report may have caught an address just while it was given. So lock the store, check again, and give both
    reports: what is leaked in both is leaked.

    \b
    Examples:
      calicoctl ipam release --ip 10.65.0.7
      calicoctl ipam release --from-report earlier.json --from-report now.json
    """
    from calico.cli.session import with_store

    if bool(addresses) == bool(reports):
        raise click.UsageError(
            "say what to free: either --ip IP, or --from-report REPORT, each as often as needed"
        )
    if addresses:
        wanted = list(dict.fromkeys(map(address_of, addresses)))
        with_store(location, lambda client: _free(client, wanted, force=force), make=False)
        return
    read = [(file, _read(file)) for file in reports]
    with_store(location, lambda client: _free_leaked(client, read, force=force), make=False)
    click.echo("You may now unlock the data store.")


# --- single addresses --------------------------------------------------------------------------------


async def _free(client: Resources, wanted: Sequence[Cidr], *, force: bool) -> None:
    """Free each of ``wanted``; an error of the command, before anything is freed, if one cannot be."""
    from datetime import UTC, datetime

    from calico.cli.problems import Failure
    from calico.ipam.account import account
    from calico.ipam.picture import read
    from calico.ipam.report import Leak

    picture = await read(client.store)
    now = datetime.now(UTC)
    leaks = []
    problems = []
    for address in wanted:
        found = account(picture, address, now)
        if found.state != "allocated":
            problems.append(f"IP address {found.address} is not assigned")
        elif found.life is not None and found.life.alive and not force:
            problems.append(
                f"IP address {found.address} is in use: {found.life.reason}; delete who uses it, or add --force"
            )
        else:
            leaks.append(Leak(found.address, found.handle or "", found.sequence_number))
    if problems:
        nothing = "; nothing was freed" if leaks else ""
        raise Failure("\n".join(problems) + nothing)
    done = await _released(client, leaks)
    for address in done.freed:
        click.echo(f"Successfully released IP address {address.address}")
    left = [f"IP address {each.address.address} was not released: {each.reason}" for each in done.refused]
    left += [
        f"IP address {each.address} was released by somebody else meanwhile" for each in done.unallocated
    ]
    if left:
        raise Failure("\n".join(left))


async def _released(client: Resources, leaks: Iterable[Leak]) -> Released:
    """What became of the assignments; each is freed only if it is still the one that was judged."""
    from calico.cli.problems import Failure
    from calico.ipam.block import Release
    from calico.ipam.client import Client
    from calico.ipam.errors import IPAMError
    from calico.model.address import parse_address

    wanted = [
        Release(parse_address(each.address), each.handle or None, each.sequence_number) for each in leaks
    ]
    try:
        return await Client(client.store, "").release(wanted)
    except IPAMError as error:
        raise Failure(f"{error}. What was freed until then stays free; run the same command again") from error


# --- reports -----------------------------------------------------------------------------------------


def _read(file: str) -> Report:
    from calico.cli.problems import Failure
    from calico.ipam.report import BadReport, parse

    try:
        with open(file, "rb") as opened:  # noqa: PTH123  pathlib costs start-up time
            return parse(opened.read(), file)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    except BadReport as error:
        raise Failure(str(error)) from error


async def _free_leaked(client: Resources, reports: Sequence[tuple[str, Report]], *, force: bool) -> None:
    from calico.ipam.picture import read
    from calico.ipam.report import agreed

    picture = await read(client.store)
    _judge(picture, reports, force=force)
    leaks = agreed(report for _, report in reports)
    alive = {each for each in leaks.addresses if each in picture.uses}
    wanted = [each for address, each in leaks.addresses.items() if address not in alive]
    if alive:
        click.echo(f"{len(alive)} addresses marked as leaked in the report are in use now, and stay.")
    if wanted:
        click.echo(f"Releasing {len(wanted)} old IPs...")
        done = await _released(client, wanted)
        click.echo(f"Released {len(done.freed)} IPs successfully")
        if done.unallocated:
            click.echo(
                f"{len(done.unallocated)} addresses marked as leaked in the report had already been cleaned up."
            )
        if done.refused:
            click.echo(f"{len(done.refused)} addresses were given anew since the report, and stay:")
            for each in done.refused[:SHOWN]:
                click.echo(f"  {each.address.address}: {each.reason}")
    else:
        click.echo("Report didn't contain any leaked IPs to clean up.")
    if leaks.handles:
        await _delete_handles(client, leaks.handles, picture)
    else:
        click.echo("Report didn't contain any handles to clean up.")


def _judge(picture: Picture, reports: Sequence[tuple[str, Report]], *, force: bool) -> None:
    """An error of the command if ``reports`` are not to be followed; what ``force`` overrides is said."""
    import calico
    from calico.cli.problems import Failure

    cluster = picture.cluster
    guid = cluster.spec.cluster_guid if cluster is not None else ""
    if not guid:
        raise Failure(
            "this store does not say which cluster it is of, so no report can be known to be about it;"
            " lock it, which names it, and check anew: calicoctl datastore migrate lock"
        )
    for file, report in reports:
        if report.cluster_guid != guid:
            raise Failure(
                f"cluster does not match the provided report ({file}): mismatched cluster GUID:"
                f" the report is about {report.cluster_guid or 'a cluster without one'}, this is {guid}."
                " Refusing to release; choose the store that was checked"
            )
        if report.version != calico.__version__:
            _unless(
                force,
                f"the provided report ({file}) was produced using a different version ({report.version}) of"
                " calicoctl. Refusing to release; make it anew, or add --force",
                "Report was produced using a different version of calicoctl.",
            )
        if report.blind:
            _unless(
                force,
                f"when the provided report ({file}) was made, records could not be read, and an address may have"
                " its owner there; repair them ('calicoctl ipam check' lists them) and make it anew, or add --force",
                "Some records could not be read when the report was made.",
            )
    assert cluster is not None
    if cluster.metadata.resource_version not in {report.cluster_revision for _, report in reports}:
        raise Failure(
            "the provided reports are all stale - at least one should be up-to-date. Lock the store, generate a new"
            " report, and add it: calicoctl ipam check -o REPORT"
        )
    if not cluster.locked:
        _unless(
            force,
            "data store is not locked. Either lock the data store (calicoctl datastore migrate lock), or re-run"
            " with --force",
            "Data store is not locked.",
        )


def _unless(force: bool, error: str, warning: str) -> None:
    from calico.cli.problems import Failure

    if not force:
        raise Failure(error)
    click.echo(f"WARNING: {warning} Ignoring due to --force option", err=True)


async def _delete_handles(client: Resources, handles: dict[str, str], picture: Picture) -> None:
    """Delete each handle that is as the reports saw it."""
    from calico.datastore.api import Conflict
    from calico.model.keys import Key

    click.echo(f"Deleting {len(handles)} handles...")
    deleted = skipped = 0
    for handle, revision in handles.items():
        current = picture.handles.get(handle)
        try:
            if current is None or str(current.revision) != revision:
                skipped += 1
                continue
            await client.store.delete(Key("IPAMHandle", handle).path, revision=current.revision)
        except Conflict:
            skipped += 1
        else:
            deleted += 1
    click.echo(f"Released {deleted} handles; {skipped} skipped; 0 errors.")
