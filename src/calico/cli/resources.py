"""``calicoctl create``, ``apply``, ``replace`` and ``delete``.

In:   files and the command line.
Out:  resources in the store; the messages and exit status of calicoctl (behaviour reference 8.2).
Next: ``cli.outcome`` says how it went.

Everything is read and judged before the first write: a broken manifest changes nothing. After that each resource
is written by itself, and what the store or its other resources refuse does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from calico.cli import options, problems
from calico.cli.kinds import overview, wanted
from calico.cli.outcome import Mode, Verb, conclude, findings_of, problem_of
from calico.cli.progress import Progress
from calico.cli.session import keys_of, search, with_batch
from calico.cli.stores import Location, store_options
from calico.model.errors import Finding, Problem
from calico.model.keys import Key, key_of

if TYPE_CHECKING:
    from calico.cli.manifests import Manifest
    from calico.datastore.writing import Batch, Failure
    from calico.model.resource import Resource


def _writing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the three verbs that write what files hold."""
    for option in (
        store_options,
        problems.output_option,
        options.diff,
        options.dry_run,
        options.namespace("The namespace of resources that name none; default: default."),
        options.skip_empty,
        options.recursive,
        options.files("What to write; may be repeated. '-' is standard input.", required=True),
    ):
        command = option(command)
    return command


# --- create, apply, replace --------------------------------------------------------------------------


@click.command(
    context_settings={"allow_extra_args": True},
    epilog="Exit status: 0 all were created; 1 something was not, and standard error says what and why"
    f" (if a file is broken, nothing is changed at all); {options.DIFF_STATUS}",
)
@_writing
@click.option("--skip-exists", is_flag=True, help="What exists is left as it is, and is no error.")
def create(skip_exists: bool, **given: Any) -> None:
    """Create resources that do not exist yet.

    Files are YAML (one or many documents) or JSON; a document may also be a list of resources. Of a directory
    the .yaml, .yml and .json files are read.

    \b
    Examples:
      calicoctl create -f policy.yaml
      calicoctl create -f manifests/ -R --skip-exists
      calicoctl create -f policy.yaml --dry-run=server
    """
    _write(Verb("create", "created"), skip_exists=skip_exists, **given)


@click.command(
    context_settings={"allow_extra_args": True},
    epilog="Exit status: 0 all were applied; 1 something was not, and standard error says what and why"
    f" (if a file is broken, nothing is changed at all); {options.DIFF_STATUS}",
)
@_writing
def apply(**given: Any) -> None:
    """Create resources, or update those that exist.

    Files are YAML (one or many documents) or JSON; a document may also be a list of resources. Of a directory
    the .yaml, .yml and .json files are read. A resource that exists becomes what the file says; fields that
    the file leaves out are unset.

    \b
    Examples:
      calicoctl apply -f policy.yaml
      calicoctl apply -f manifests/ -R
      calicoctl apply -f policy.yaml --diff
      calicoctl get networkpolicy web -n shop -o yaml | sed s/80/8080/ | calicoctl apply -f -
    """
    _write(Verb("apply", "applied"), **given)


@click.command(
    context_settings={"allow_extra_args": True},
    epilog="Exit status: 0 all were replaced; 1 something was not, and standard error says what and why"
    f" (if a file is broken, nothing is changed at all); {options.DIFF_STATUS}",
)
@_writing
def replace(**given: Any) -> None:
    """Replace resources that exist by what files say of them.

    \b
    Examples:
      calicoctl replace -f policy.yaml
      calicoctl get node host-1 -o yaml | sed s/64512/64513/ | calicoctl replace -f -
    """
    _write(Verb("replace", "replaced"), **given)


def _write(
    verb: Verb,
    *,
    location: Location,
    files: Sequence[str],
    namespace: str | None,
    recursive: bool,
    skip_empty: bool,
    dry_run: str | None,
    diff: bool,
    skip_exists: bool = False,
) -> None:
    from calico.cli.manifests import load

    for extra in click.get_current_context().args:
        raise click.UsageError(
            f"{extra!r} has no -f before it; write -f before each file, or before their directory"
        )
    mode = Mode(dry_run, diff)
    with mode.judged():
        manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    keys = [key_of(each.resource) for each in manifests]
    read = [each.located for each in manifests]
    if mode.offline:
        conclude(verb, keys, [], mode, warnings=problems.warnings_of(read))
        return
    from calico.datastore import writing

    async def work(batch: Batch) -> tuple[list[Failure | None], list[Resource]]:
        resources = [each.resource for each in manifests]
        around = await batch.policy_around(resources)
        with Progress(len(manifests), f"{verb.plain.capitalize()}:") as progress:
            kind = writing.Verb[verb.plain.upper()]
            return await batch.write(resources, kind, advance=progress.advance), around

    with mode.judged():
        (outcomes, around), changes = with_batch(location, work, rehearsal=mode.rehearsal)
    creating = verb.plain == "create"
    failures: list[list[Problem]] = []
    skipped = 0
    for manifest, failure in zip(manifests, outcomes, strict=True):
        if skip_exists and writing.exists(failure):
            skipped += 1
        elif failure is not None:
            given = manifest.resource.metadata.resource_version
            findings = findings_of(failure, given=given, creating=creating)
            failures.append([manifest.problem(each) for each in findings])
    note = f" ({skipped} of them existed)" if skipped else ""
    warnings = problems.warnings_of(read, around)
    conclude(verb, keys, failures, mode, changes=changes, warnings=warnings, note=note)


# --- delete ------------------------------------------------------------------------------------------


@click.command(
    epilog=f"Kinds: {overview()}.\n\nExit status: 0 all are gone; 1 something could not be deleted or did not exist;"
    f" {options.DIFF_STATUS}"
)
@options.words
@options.files("Delete the resources that these files name.")
@options.recursive
@options.skip_empty
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there is no error.")
@options.namespace("The namespace of the resources; default: default.")
@options.dry_run
@options.diff
@problems.output_option
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
    dry_run: str | None,
    diff: bool,
) -> None:
    """Delete resources, by kind and names or as files name them.

    With a node go its endpoints, their addresses and its own settings; with a pool the blocks that nobody uses.

    \b
    Examples:
      calicoctl delete networkpolicy allow-web -n shop
      calicoctl delete gnp/deny-all tier/security
      calicoctl delete -f policy.yaml --skip-not-exists
      calicoctl delete node host-7 --diff
    """
    if bool(files) == bool(words):
        raise click.UsageError("say what to delete: either KIND NAME..., or -f before each FILE")
    mode = Mode(dry_run, diff)
    manifests: dict[Key, Manifest] = {}
    if words:
        asked = wanted(words)
        for each in asked:
            if not each.names:
                raise click.UsageError(f"say which of the {each.kind.PLURAL} to delete: at least one NAME")
        keys = keys_of(asked, namespace)
    else:
        from calico.cli.manifests import load

        with mode.judged():
            found = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
        manifests = {key_of(each.resource): each for each in found}
        keys = list(manifests)
    # Policies go before the tiers that hold them, whatever the order in the files.
    keys.sort(key=lambda key: key.kind == "Tier")
    verb = Verb("delete", "deleted")
    if mode.offline:
        conclude(verb, keys, [], mode)
        return

    def said(key: Key, finding: Finding) -> Problem:
        return manifests[key].problem(finding) if key in manifests else problem_of(key, finding)

    versions = {key: each.resource.metadata.resource_version for key, each in manifests.items()}

    async def work(batch: Batch) -> tuple[list[list[Problem]], int]:
        return await _delete(batch, keys, versions, said, mode, skip_missing=skip_not_exists)

    with mode.judged():
        (failures, missing), changes = with_batch(location, work, rehearsal=mode.rehearsal, make=False)
    note = f" ({missing} of them did not exist)" if missing else ""
    conclude(verb, keys, failures, mode, changes=changes, note=note)


async def _delete(
    batch: Batch,
    keys: Sequence[Key],
    versions: Mapping[Key, str | None],
    said: Callable[[Key, Finding], Problem],
    mode: Mode,
    *,
    skip_missing: bool,
) -> tuple[list[list[Problem]], int]:
    """What could not be deleted, and how many were not there, which is a failure unless they may be missing."""
    import asyncio

    from calico.datastore.admission import NotAdmitted, admit_deletion
    from calico.datastore.api import Conflict, StoreError
    from calico.ipam import cascade
    from calico.ipam.errors import IPAMError
    from calico.model.errors import ModelError

    async def no_pause(_: float) -> None:
        return

    pause = no_pause if mode.rehearsal else asyncio.sleep
    failures: list[list[Problem]] = []
    missing: list[Key] = []
    await batch.look_ahead(keys)
    with Progress(len(keys), "Delete:") as progress:
        for key in keys:
            try:
                await admit_deletion(batch.resources, key)
                version = versions.get(key)
                await cascade.delete(batch.resources, key, pause=pause, resource_version=version)
            except (NotAdmitted, StoreError, ModelError) as error:
                if isinstance(error, Conflict) and error.current is None:
                    missing.append(key)
                else:
                    findings = findings_of(error, given=versions.get(key))
                    failures.append([said(key, each) for each in findings])
            except IPAMError as error:
                failures.append([said(key, Finding((), str(error), ""))])
            progress.advance()
    if skip_missing:
        return failures, len(missing)
    absent = await search(batch.resources, missing)
    return [*failures, *([said(key, Finding((), why, ""))] for key, why in absent)], 0
