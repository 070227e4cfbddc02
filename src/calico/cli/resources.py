"""``calicoctl apply`` and ``delete``.

In:   files and the command line.
Out:  resources in the store; the messages and exit status of calicoctl (behaviour reference 8.2).

Everything is read and judged before the first write: a broken manifest changes nothing. After that each resource
is written by itself, and what the store or its other resources refuse does not stop the others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from calico.cli import options
from calico.cli.kinds import overview, wanted
from calico.cli.session import keys_of, keys_of_files, search, with_store
from calico.cli.stores import Location, store_options
from calico.datastore.api import Conflict, StoreError
from calico.datastore.typed import Resources
from calico.model.errors import ModelError
from calico.model.keys import Key, key_of
from calico.model.resource import Resource

if TYPE_CHECKING:
    from calico.cli.manifests import Manifest


class Failure(NamedTuple):
    """What could not be done, and why."""

    key: Key
    reason: str
    source: str = ""
    """The file that asked for it, if any."""

    def __str__(self) -> str:
        return f"hit error: {self.key}{f' ({self.source})' if self.source else ''}: {self.reason}"


# --- apply -------------------------------------------------------------------------------------------


@click.command(
    context_settings={"allow_extra_args": True},
    epilog="Exit status: 0 all were applied; 1 something was not, and standard error says what and why"
    " (if a file is broken, nothing is changed at all); 2 the command line is wrong.",
)
@options.files("What to apply; may be repeated. '-' is standard input.", required=True)
@options.recursive
@options.skip_empty
@options.namespace("The namespace of resources that name none; default: default.")
@store_options
def apply(
    location: Location, files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool
) -> None:
    """Create resources, or update those that exist.

    Files are YAML (one or many documents) or JSON; a document may also be a list of resources. Of a directory
    the .yaml, .yml and .json files are read.

    \b
    Examples:
      calicoctl apply -f policy.yaml
      calicoctl apply -f manifests/ -R
      calicoctl get networkpolicy web -n shop -o yaml | sed s/80/8080/ | calicoctl apply -f -
    """
    from calico.cli.manifests import load

    for extra in click.get_current_context().args:
        raise click.UsageError(
            f"{extra!r} has no -f before it; write -f before each file, or before their directory"
        )
    manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    # Tiers go first, so that one manifest may hold a tier and its policies in any order.
    manifests.sort(key=lambda one: one.resource.kind != "Tier")
    failures = with_store(location, lambda client: _apply(client, manifests))
    _conclude("applied", "apply", [key_of(each.resource) for each in manifests], failures)


async def _apply(client: Resources, manifests: Sequence[Manifest]) -> list[Failure]:
    from calico.datastore.admission import NotAdmitted, admit, initialise

    await initialise(client)
    failures = []
    for resource, source in manifests:
        try:
            await admit(client, resource)
            await client.apply(resource)
        except Conflict as conflict:
            failures.append(Failure(key_of(resource), _conflict(conflict, resource), source))
        except (NotAdmitted, StoreError, ModelError) as error:
            failures.append(Failure(key_of(resource), str(error), source))
    return failures


def _conflict(conflict: Conflict, resource: Resource) -> str:
    given = resource.metadata.resource_version
    if given is None:
        return "others keep changing it; try again"
    return (
        f"it was changed since it was read: its resourceVersion is {conflict.current} now, not {given};"
        " get it again and repeat your change, or remove the resourceVersion to overwrite it"
    )


# --- delete ------------------------------------------------------------------------------------------


@click.command(
    epilog=f"Kinds: {overview()}.\n\nExit status: 0 all are gone; 1 something could not be deleted or did not exist;"
    " 2 the command line is wrong."
)
@options.words
@options.files("Delete the resources that these files name.")
@options.recursive
@options.skip_empty
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there is no error.")
@options.namespace("The namespace of the resources; default: default.")
@store_options
def delete(
    location: Location,
    words: Sequence[str],
    files: Sequence[str],
    namespace: str | None,
    *,
    recursive: bool,
    skip_empty: bool,
    skip_not_exists: bool,
) -> None:
    """Delete resources, by kind and names or as files name them.

    \b
    Examples:
      calicoctl delete networkpolicy allow-web -n shop
      calicoctl delete gnp/deny-all tier/security
      calicoctl delete -f policy.yaml --skip-not-exists
    """
    if bool(files) == bool(words):
        raise click.UsageError("say what to delete: either KIND NAME..., or -f before each FILE")
    if words:
        asked = wanted(words)
        for each in asked:
            if not each.names:
                raise click.UsageError(f"say which of the {each.kind.PLURAL} to delete: at least one NAME")
        keys = keys_of(asked, namespace)
    else:
        keys = keys_of_files(files, namespace, recursive=recursive, skip_empty=skip_empty)
    # Policies go before the tiers that hold them, whatever the order in the files.
    keys.sort(key=lambda key: key.kind == "Tier")

    failures, missing = with_store(
        location, lambda client: _delete(client, keys, skip_missing=skip_not_exists), make=False
    )
    _conclude("deleted", "delete", keys, failures, missing)


async def _delete(
    client: Resources, keys: Sequence[Key], *, skip_missing: bool
) -> tuple[list[Failure], list[Key]]:
    """What could not be deleted, and what was not there, which is a failure unless it may be missing."""
    from calico.datastore.admission import NotAdmitted, admit_deletion

    failures: list[Failure] = []
    missing: list[Key] = []
    for key in keys:
        try:
            await admit_deletion(client, key)
            await client.delete(key)
        except Conflict:
            missing.append(key)
        except (NotAdmitted, StoreError, ModelError) as error:
            failures.append(Failure(key, str(error)))
    if skip_missing:
        return failures, missing
    return [*failures, *(Failure(key, why) for key, why in await search(client, missing))], []


def _conclude(
    done: str, verb: str, keys: Sequence[Key], failures: Sequence[Failure], missing: Sequence[Key] = ()
) -> None:
    """Say how it went, as calicoctl does; exit status 1 if anything failed."""
    kinds = {key.kind for key in keys}
    what = f"'{kinds.pop()}' resource(s)" if len(kinds) == 1 else "resource(s)"
    succeeded = len(keys) - len(failures)
    absent = f" ({len(missing)} of them did not exist)" if missing else ""
    if not failures:
        click.echo(f"Successfully {done} {succeeded} {what}{absent}")
        return
    if succeeded:
        click.echo(f"Partial success: {done} {succeeded} out of {len(keys)} {what}{absent}:", err=True)
    else:
        click.echo(f"Failed to {verb} any {what}:", err=True)
    for failure in failures:
        click.echo(str(failure), err=True)
    sys.exit(1)
