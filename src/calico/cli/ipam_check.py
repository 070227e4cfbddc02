"""``calicoctl ipam check``: whether every address is somebody's, and nobody's twice.

In:   ``ipam.audit``.
Out:  what was found, class by class, in the sentences that Calico's check has; a report for ``ipam release``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from calico.cli.ipam_source import picture_of, source_option
from calico.cli.stores import Location, store_options_unless_files

if TYPE_CHECKING:
    from calico.ipam.audit import Audit
    from calico.ipam.picture import Picture

TOP: Final = 20
"""How many nodes are listed, those with the most addresses."""


def _no_kubernetes(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    del param
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError(
            "the Kubernetes API is not asked here: pods and services are those of the store; leave --kubeconfig out"
        )


@click.command(
    epilog="Exit status: 0 the check was made, whatever it found; 1 it could not be made; 2 the command line is wrong."
)
@click.option("--show-all-ips", is_flag=True, help="List all addresses that are looked at.")
@click.option("--show-problem-ips", is_flag=True, help="List everything that is wrong.")
@click.option(
    "-o",
    "--output",
    "report",
    metavar="REPORT",
    type=click.Path(readable=False, allow_dash=True),
    help="Write a report in JSON, which 'ipam release --from-report' reads; '-' prints nothing else.",
)
@click.option("--kubeconfig", hidden=True, expose_value=False, callback=_no_kubernetes)
@source_option
@store_options_unless_files
def check(
    location: Location | None,
    files: str | None,
    show_all_ips: bool,
    show_problem_ips: bool,
    report: str | None,
) -> None:
    """Compare what IPAM gave away with what workloads, nodes and services use, and IPAM's records with each other.

    All is read as it was at one moment. An address that is being given just then looks leaked: a second check
    tells, or a locked store.

    \b
    Examples:
      calicoctl ipam check --show-problem-ips
      calicoctl ipam check -o report.json
    """
    from calico.ipam.audit import audit

    found = audit(picture_of(location, files))
    if report != "-":
        shown = _lines(found, everything=show_all_ips, problems=show_all_ips or show_problem_ips)
        click.echo("\n".join(shown))
    if report is not None:
        _write(found, report)


def _write(found: Audit, file: str) -> None:
    import calico
    from calico.cli.printers import json_text
    from calico.ipam.report import as_data

    text = json_text(as_data(found, version=calico.__version__))
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        with open(file, "w", encoding="utf-8") as opened:  # noqa: PTH123  pathlib costs start-up time
            opened.write(text)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}; the report was not written") from error


# --- words -------------------------------------------------------------------------------------------


def _lines(found: Audit, *, everything: bool, problems: bool) -> Iterator[str]:
    from calico.ipam import audit as classes
    from calico.model.errors import printable

    def listed(name: str) -> Iterator[str]:
        if problems:
            yield from (f"  {printable(str(each))}" for each in found.problems[name])

    def number(name: str) -> int:
        return len(found.problems[name])

    yield "Checking IPAM for inconsistencies..."
    yield ""
    yield from _loaded(found, everything=everything)
    yield from _nodes(found)
    yield "Scanning for IPs that are allocated but not actually in use..."
    yield from listed(classes.LEAKED)
    yield f"Found {number(classes.LEAKED)} IPs that are allocated in IPAM but not actually in use."
    if found.cooling:
        yield f"Besides, {found.cooling} IPs were released and cool down."
    yield "Scanning for IPs that are in use by a workload or node but not allocated in IPAM..."
    yield from listed(classes.OUTSIDE)
    yield from listed(classes.UNALLOCATED)
    yield f"Found {number(classes.OUTSIDE)} in-use IPs that are not in active IP pools."
    yield (
        f"Found {number(classes.UNALLOCATED)} in-use IPs that are in active IP pools"
        " but have no corresponding IPAM allocation."
    )
    yield from listed(classes.SHARED)
    yield f"Found {number(classes.SHARED)} IPs with multiple owners."
    yield ""
    yield "Scanning for IPAM handles with no matching IPs..."
    yield from listed(classes.EMPTY_HANDLES)
    good = len(found.picture.handles) - len(found.leaked_handles)
    yield (
        f"Found {number(classes.EMPTY_HANDLES)} handles with no matching IPs (and {good} handles with matches)."
    )
    yield "Scanning for IPs with missing handle..."
    yield from listed(classes.MISSING_HANDLES)
    yield (
        f"Found {number(classes.MISSING_HANDLES)} handles mentioned in blocks with no matching handle resource."
    )
    yield from listed(classes.COUNTS)
    yield f"Found {number(classes.COUNTS)} handles that count otherwise than their blocks."
    yield "Scanning for blocks and claims that contradict each other or themselves..."
    yield from listed(classes.BROKEN)
    yield f"Found {number(classes.BROKEN)} contradictions within blocks."
    yield from listed(classes.CLAIMS)
    yield f"Found {number(classes.CLAIMS)} claims to blocks that do not hold."
    if number(classes.UNREADABLE):  # whatever is asked for: what cannot be read may make the rest wrong
        yield from (f"  {printable(str(each))}" for each in found.problems[classes.UNREADABLE])
        yield f"Found {number(classes.UNREADABLE)} records that cannot be read; whose addresses they hold is not known."
    yield f"Check complete; found {found.count} problems."


def _loaded(found: Audit, *, everything: bool) -> Iterator[str]:
    """What was read."""
    from calico.ipam.audit import described
    from calico.model.errors import printable

    picture = found.picture
    yield "Loading all IPAM blocks..."
    yield f"Found {len(picture.blocks)} IPAM blocks."
    if everything:
        current = None
        for each in sorted(found.allocations, key=lambda each: each.block):
            if each.block != current:
                current = each.block
                yield f" IPAM block {current} affinity={picture.blocks[current].affinity or '<none>'}:"
            yield printable(f"  {each.address} allocated; attrs {described(each.attribute)}")
    yield f"IPAM blocks record {len(found.allocations)} allocations."
    yield ""
    yield "Loading all IPAM pools..."
    active = [pool.spec.cidr for pool in picture.pools.values() if not pool.spec.disabled]
    yield from (f"  {cidr}" for cidr in active)
    yield f"Found {len(active)} active IP pools."
    yield ""
    yield "Loading all who use addresses: nodes, services, workload endpoints and pods."
    if everything:
        yield from _users(picture)
    yield f"Workloads and nodes are using {len(picture.uses)} IPs."
    yield ""


def _users(picture: Picture) -> Iterator[str]:
    for address, owners in picture.uses.items():
        yield from (f"  {address} belongs to {owner}" for owner in owners)


def _nodes(found: Audit) -> Iterator[str]:
    yield f"Looking for top (up to {TOP}) nodes by allocations..."
    nodes = found.by_node()
    yield from (f"  {node or '<unknown>'} has {count} allocations" for node, count in nodes[:TOP])
    if nodes:
        yield f"Node with most allocations has {nodes[0][1]}; median is {nodes[len(nodes) // 2][1]}"
    yield ""
