"""``calicoctl ipam configure``: the settings of IPAM, one by one.

In:   what is to change; what is stored.
Out:  the settings with the change, if they make sense together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calico.cli.ipam_source import EPILOG
from calico.cli.stores import Location, store_options

if TYPE_CHECKING:
    from calico.datastore.typed import Resources
    from calico.model.ipam_kinds import IPAMConfiguration
    from calico.model.resource import Resource

_FIELDS = {
    "strict_affinity": "StrictAffinity",
    "max_blocks_per_host": "MaxBlocksPerHost",
    "kubevirt_persistence": "KubeVirtVMAddressPersistence",
    "ip_cooldown_seconds": "IPCooldownSeconds",
}


@click.command(epilog=EPILOG)
@click.option(
    "--strictaffinity",
    "strict_affinity",
    type=bool,
    metavar="true|false",
    help="Whether hosts give addresses of their own blocks only, and never borrow.",
)
@click.option(
    "--max-blocks-per-host",
    type=click.IntRange(0, 1_000_000),
    help="How many blocks a host may have; 0 is the built-in limit of 20. Needs strict affinity.",
)
@click.option(
    "--kubevirt-ip-persistence",
    "kubevirt_persistence",
    type=click.Choice(["Enabled", "Disabled"]),
    help="Whether virtual machines keep their addresses while they are stopped or move.",
)
@click.option(
    "--ip-cooldown-seconds",
    type=click.IntRange(0, 1200),
    help="For how long a released address is not given again.",
)
@store_options
def configure(location: Location, **wanted: Any) -> None:
    """Change settings of IPAM; those that are not named stay. 'ipam show --show-configuration' shows them.

    \b
    Examples:
      calicoctl ipam configure --strictaffinity=true --max-blocks-per-host=4
      calicoctl ipam configure --ip-cooldown-seconds=300
    """
    from calico.cli.session import with_store

    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        raise click.UsageError(f"say what to change: {', '.join(_options())}")
    with_store(location, lambda client: _change(client, changes))
    for name, value in changes.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        click.echo(f"Successfully set {_FIELDS[name]} to: {shown}")


def _options() -> list[str]:
    return [each.opts[0] for each in configure.params if each.name in _FIELDS]


async def _change(client: Resources, changes: dict[str, Any]) -> None:
    """Store the settings with ``changes``, over whatever is there at that moment."""
    from contextlib import suppress

    from msgspec.structs import replace

    from calico.datastore.api import Conflict
    from calico.model.ipam_kinds import CONFIGURATION, IPAMConfiguration
    from calico.model.keys import Key
    from calico.model.resource import Metadata

    def changed(found: Resource) -> IPAMConfiguration:
        assert isinstance(found, IPAMConfiguration)
        return _judged(replace(found, spec=replace(found.spec, **changes)))

    fresh = IPAMConfiguration(metadata=Metadata(name=CONFIGURATION)).defaulted()
    key = Key("IPAMConfiguration", CONFIGURATION)
    if await client.find(key) is None:
        with suppress(Conflict):  # another made it meanwhile: change that
            await client.create(changed(fresh))
            return
    await client.modify(key, changed)


def _judged(configuration: IPAMConfiguration) -> IPAMConfiguration:
    """The settings, if they make sense; an error of the command with all that does not."""
    from calico.cli.outcome import problem_of
    from calico.cli.problems import Failure
    from calico.model.keys import key_of

    problems = [problem_of(key_of(configuration), finding) for finding in configuration.problems()]
    if problems:
        raise Failure("\n".join(map(str, problems)))
    return configuration
