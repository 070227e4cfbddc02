"""``calicoctl apply``, ``get`` and ``delete``.

In:   files and the command line.
Out:  resources in the store, or on the screen; the messages and exit status of calicoctl (behaviour reference 8.2).

Everything is read and judged before the first write: a broken manifest changes nothing. After that each resource
is written by itself, and what the store or its other resources refuse does not stop the others.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from calico.cli.kinds import METAVAR, Wanted, overview, wanted
from calico.cli.stores import Location, open_store, store_options
from calico.datastore.api import Conflict, StoreError, Unavailable
from calico.datastore.typed import Resources
from calico.model.errors import ModelError
from calico.model.keys import KINDS, Key, key_of
from calico.model.resource import Resource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from calico.cli.manifests import Manifest

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
DEFAULT_NAMESPACE = "default"
_FILE = click.Path(allow_dash=True)


class Failure(NamedTuple):
    """What could not be done, and why."""

    key: Key
    reason: str
    source: str = ""
    """The file that asked for it, if any."""

    def __str__(self) -> str:
        return f"hit error: {self.key}{f' ({self.source})' if self.source else ''}: {self.reason}"


# --- parts of several commands -----------------------------------------------------------------------


def _complete_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del param
    from calico.cli.completion import words

    return words(ctx, incomplete)


def _complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del param
    from calico.cli.completion import namespaces

    return namespaces(ctx, incomplete)


def _files(what: str, *, required: bool = False) -> Callable[[Decorated], Decorated]:
    return click.option(
        "-f",
        "--filename",
        "files",
        multiple=True,
        required=required,
        metavar="FILE|DIR|-",
        type=_FILE,
        help=what,
    )


def _namespace(what: str) -> Callable[[Decorated], Decorated]:
    return click.option(
        "-n", "--namespace", metavar="NAMESPACE", help=what, shell_complete=_complete_namespaces
    )


_words = click.argument("words", metavar=f"[{METAVAR}]", nargs=-1, shell_complete=_complete_words)
_recursive = click.option(
    "-R", "--recursive", is_flag=True, help="Look into the directories of a directory too."
)
_skip_empty = click.option("--skip-empty", is_flag=True, help="Files without a resource are no error.")


# --- apply -------------------------------------------------------------------------------------------


@click.command(
    epilog="Exit status: 0 all were applied; 1 something was not, and standard error says what and why"
    " (if a file is broken, nothing is changed at all); 2 the command line is wrong."
)
@_files("What to apply; may be repeated. '-' is standard input.", required=True)
@_recursive
@_skip_empty
@_namespace("The namespace of resources that name none; default: default.")
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

    manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    # Tiers go first, so that one manifest may hold a tier and its policies in any order.
    manifests.sort(key=lambda one: one.resource.kind != "Tier")
    failures = _with_store(location, lambda client: _apply(client, manifests))
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
@_words
@_files("Delete the resources that these files name.")
@_recursive
@_skip_empty
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there is no error.")
@_namespace("The namespace of the resources; default: default.")
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
        raise click.UsageError("say what to delete: either KIND NAME..., or -f FILE")
    if words:
        asked = wanted(words)
        for each in asked:
            if not each.names:
                raise click.UsageError(f"say which of the {each.kind.PLURAL} to delete: at least one NAME")
        keys = _keys(asked, namespace)
    else:
        keys = _keys_of_files(files, namespace, recursive=recursive, skip_empty=skip_empty)
    # Policies go before the tiers that hold them, whatever the order in the files.
    keys.sort(key=lambda key: key.kind == "Tier")

    failures, missing = _with_store(
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
    return [*failures, *(Failure(key, why) for key, why in await _search(client, missing))], []


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


# --- get ---------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What a ``get`` of one kind found, and what it did not find or could not read, in sentences."""

    wanted: Wanted
    resources: list[Resource]
    problems: list[str]
    elsewhere: int = 0
    """How many are in namespaces that were not asked for."""


@click.command(
    epilog=f"Kinds: {overview()}.\n\nExit status: 0 all that was asked for was shown (perhaps none); 1 a NAME does not exist,"
    " or something stored cannot be read: the rest is shown; 2 the command line is wrong."
)
@_words
@_files("Show the stored state of the resources that these files name.")
@_recursive
@_skip_empty
@click.option(
    "-o", "--output", type=click.Choice(["ps", "wide", "yaml", "json"]), default="ps", show_default=True
)
@_namespace("The namespace to look in; default: default.")
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@store_options
def get(
    location: Location,
    words: Sequence[str],
    files: Sequence[str],
    output: str,
    namespace: str | None,
    *,
    recursive: bool,
    skip_empty: bool,
    all_namespaces: bool,
) -> None:
    """Show resources of a KIND, all or by name.

    YAML and JSON can be edited and applied again.

    \b
    Examples:
      calicoctl get nodes
      calicoctl get workloadendpoints -A -o wide
      calicoctl get networkpolicy allow-web -n shop -o yaml
      calicoctl get np/allow-web gnp/deny-all
    """
    if bool(files) == bool(words):
        raise click.UsageError(f"say what to get: either KIND [NAME...], or -f FILE; kinds are {overview()}")
    if all_namespaces and namespace:
        raise click.UsageError("--all-namespaces and --namespace contradict each other; drop one")
    if files:
        keys = _keys_of_files(files, namespace, recursive=recursive, skip_empty=skip_empty)
        found = [_with_store(location, lambda client: _named(client, keys), make=False)]
    else:
        asked = wanted(words)
        if all_namespaces and any(each.names and each.kind.NAMESPACED for each in asked):
            raise click.UsageError(
                "a NAME is in one namespace; say which with -n, or leave --all-namespaces out"
            )
        where = "" if all_namespaces else namespace or DEFAULT_NAMESPACE

        async def read(client: Resources) -> list[_Found]:
            return [
                await _named(client, _keys([each], namespace))
                if each.names
                else await _all(client, each, where)
                for each in asked
            ]

        found = _with_store(location, read, make=False)
    _show(found, output, namespaces=all_namespaces or bool(namespace))


async def _all(client: Resources, asked: Wanted, namespace: str) -> _Found:
    problems: list[str] = []

    def bad(key: Key, error: ModelError) -> None:
        if not key.namespace or namespace in {"", key.namespace}:
            problems.append(f"cannot be read: {error}")

    kind = asked.kind.__name__
    stored = await client.list(kind, bad=bad)
    names = {each.metadata.name for each in stored}
    extra = [each for each in _built_in(kind) if each.metadata.name not in names]
    if extra:
        stored = tuple(sorted((*stored, *extra), key=lambda each: each.metadata.name))
    here = [
        each for each in stored if not asked.kind.NAMESPACED or namespace in {"", each.metadata.namespace}
    ]
    return _Found(asked, here, problems, len(stored) - len(here))


def _built_in(kind: str) -> tuple[Resource, ...]:
    if kind not in {"Tier", "Profile"}:  # the only kinds that have any; spares the others an import
        return ()
    from calico.datastore.admission import built_in

    return built_in(kind)


async def _named(client: Resources, keys: Sequence[Key]) -> _Found:
    resources: list[Resource] = []
    problems: list[str] = []
    missing: list[Key] = []
    for key in keys:
        try:
            resource = await client.get(key)
        except ModelError as error:
            problems.append(f"cannot be read: {error}")
            continue
        if resource is None:
            resource = next((each for each in _built_in(key.kind) if key_of(each) == key), None)
        if resource is None:
            missing.append(key)
        else:
            resources.append(resource)
    problems += [f"{key} {sentence}" for key, sentence in await _search(client, missing)]
    kind = KINDS[keys[0].kind] if keys else Resource
    return _Found(Wanted(kind, tuple(key.name for key in keys)), resources, problems)


def _show(found: Sequence[_Found], output: str, *, namespaces: bool) -> None:
    from calico.cli import printers

    if output in {"yaml", "json"}:
        everything = [resource for each in found for resource in each.resources]
        whole = found[0].wanted.kind if not found[0].wanted.names and len(found) == 1 else None
        if everything or whole:
            tree = printers.document(everything, whole)
            click.echo(printers.yaml_text(tree) if output == "yaml" else printers.json_text(tree), nl=False)
    else:
        tables = [
            printers.table(list(resources), kind, wide=output == "wide", namespaces=namespaces)
            for each in found
            for kind, resources in _by_kind(each)
        ]
        if tables:
            click.echo("\n\n".join(tables))
        for each in found:
            if each.elsewhere and not each.resources:
                click.echo(
                    f"no {each.wanted.kind.PLURAL} in this namespace; {each.elsewhere} in others (-A shows them)",
                    err=True,
                )
    problems = [problem for each in found for problem in each.problems]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)


def _by_kind(found: _Found) -> list[tuple[type[Resource], list[Resource]]]:
    """The tables to show: one a kind, also an empty one for a kind that was asked for as a whole."""
    grouped: dict[type[Resource], list[Resource]] = {}
    if not found.wanted.names:
        grouped[found.wanted.kind] = []
    for resource in found.resources:
        grouped.setdefault(type(resource), []).append(resource)
    return list(grouped.items())


# --- keys, and the store -----------------------------------------------------------------------------


def _keys(asked: Sequence[Wanted], namespace: str | None) -> list[Key]:
    return [
        Key(kind.__name__, name, (namespace or DEFAULT_NAMESPACE) if kind.NAMESPACED else "")
        for kind, names in asked
        for name in names
    ]


def _keys_of_files(
    files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool
) -> list[Key]:
    from calico.cli.manifests import load

    manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    return [key_of(manifest.resource) for manifest in manifests]


async def _search(client: Resources, missing: Sequence[Key]) -> list[tuple[Key, str]]:
    """For each key that holds nothing a sentence, with the namespaces where there is something of that name."""
    found = []
    for key in missing:
        others: list[str] = []
        if key.namespace:
            stored = await client.list(key.kind, bad=lambda *_: None)
            others = [each.metadata.namespace or "" for each in stored if each.metadata.name == key.name]
        hint = f"; there is one in namespace {', '.join(others)} (-n)" if others else ""
        found.append((key, f"does not exist{hint}"))
    return found


def _with_store(location: Location, work: Callable[[Resources], Awaitable[T]], *, make: bool = True) -> T:
    """Open the store, do the work, close it; what the store refuses is an error of the command.

    Without ``make`` a store that does not exist is not made, but taken for an empty one.
    """
    import asyncio

    async def session() -> T:
        store = open_store(location, make=make)
        try:
            return await work(Resources(store))
        finally:
            await store.close()

    try:
        return asyncio.run(session())
    except Unavailable as error:
        raise click.ClickException(f"{error} (store chosen by {location.reason})") from error
    except (StoreError, ModelError) as error:
        raise click.ClickException(str(error)) from error
