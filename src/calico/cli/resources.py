"""``calicoctl apply``, ``get`` and ``delete``.

In:   files and the command line.
Out:  resources in the store, or on the screen; the messages and exit status of calicoctl (behaviour reference 8.2).

Everything is read and judged before the first write: a broken manifest changes nothing. After that each resource
is written by itself, and what fails does not stop the others.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem
from msgspec.structs import replace

from calico.cli import printers
from calico.cli.stores import Location, open_store, store_options
from calico.datastore.admission import NotAdmitted, admit, admit_deletion, initialise
from calico.datastore.api import Conflict, StoreError
from calico.datastore.typed import Resources
from calico.model import codec
from calico.model.errors import InvalidResources, ModelError, Problem
from calico.model.keys import KINDS, Key, key_of
from calico.model.resource import Resource
from calico.model.validation import defaulted

T = TypeVar("T")
DEFAULT_NAMESPACE = "default"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


class _Kind(click.ParamType[type[Resource]]):
    """A resource kind by any of its names, in any case."""

    name = "kind"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> type[Resource]:
        names = kind_names()
        found = names.get(str(value).lower())
        if found is None:
            import difflib

            near = difflib.get_close_matches(str(value).lower(), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(KINDS))}"
            self.fail(f"there is no kind {value!r}; {hint}", param, ctx)
        return found

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Plurals, as people type them."""
        del ctx, param
        return [CompletionItem(kind.PLURAL) for kind in KINDS.values() if kind.PLURAL.startswith(incomplete)]


def kind_names() -> dict[str, type[Resource]]:
    """Every word that means a kind, in lower case."""
    return {word: kind for name, kind in KINDS.items() for word in (name.lower(), kind.PLURAL, *kind.SHORT)}


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    help="What to apply; may be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into the directories of a directory too.")
@click.option("--skip-empty", is_flag=True, help="Files without a resource are no error.")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="The namespace of resources that name none.")
@store_options
def apply(
    location: Location, files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool
) -> None:
    """Create resources, or update those that exist.

    \b
    Examples:
      calicoctl apply -f policy.yaml
      calicoctl apply -f manifests/ -R
      cat policy.yaml | calicoctl apply -f -
    """
    resources = _load(files, namespace, recursive=recursive, skip_empty=skip_empty)

    async def write(client: Resources) -> list[tuple[Resource, str]]:
        await initialise(client)
        failures: list[tuple[Resource, str]] = []
        # Tiers go first, so that one manifest may hold a tier and its policies in any order.
        for resource in sorted(resources, key=lambda one: one.kind != "Tier"):
            try:
                await admit(client, resource)
                await client.apply(resource)
            except (NotAdmitted, StoreError, ModelError) as error:
                failures.append((resource, str(error)))
        return failures

    _conclude("applied", "apply", resources, _with_store(location, write))


@click.command()
@click.argument("kind", type=_Kind(), required=False)
@click.argument("names", nargs=-1)
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="FILE|DIR|-",
    help="Delete the resources that these files name.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into the directories of a directory too.")
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there is no error.")
@click.option(
    "-n", "--namespace", metavar="NAMESPACE", help="The namespace of the resources; default: default."
)
@store_options
def delete(
    location: Location,
    kind: type[Resource] | None,
    names: Sequence[str],
    files: Sequence[str],
    namespace: str | None,
    *,
    recursive: bool,
    skip_not_exists: bool,
) -> None:
    """Delete resources, by kind and names or as files name them.

    \b
    Examples:
      calicoctl delete networkpolicy allow-web -n shop
      calicoctl delete -f policy.yaml
    """
    if bool(files) == bool(kind) or (kind and not names):
        raise click.UsageError("say what to delete: either -f FILE, or KIND and at least one NAME")
    if kind:
        keys = [
            Key(kind.__name__, name, (namespace or DEFAULT_NAMESPACE) if kind.NAMESPACED else "")
            for name in names
        ]
    else:
        keys = [
            key_of(resource) for resource in _load(files, namespace, recursive=recursive, skip_empty=False)
        ]
    # Policies go before the tiers that hold them, whatever the order in the files.
    keys.sort(key=lambda key: key.kind == "Tier")

    async def remove(client: Resources) -> list[tuple[Key, str]]:
        failures: list[tuple[Key, str]] = []
        for key in keys:
            try:
                await admit_deletion(client, key)
                await client.delete(key)
            except Conflict as error:
                if error.current is not None or not skip_not_exists:
                    failures.append((key, "does not exist" if error.current is None else str(error)))
            except (NotAdmitted, StoreError, ModelError) as error:
                failures.append((key, str(error)))
        return failures

    _conclude("deleted", "delete", keys, _with_store(location, remove))


@click.command()
@click.argument("kind", type=_Kind())
@click.argument("names", nargs=-1)
@click.option(
    "-o", "--output", type=click.Choice(["ps", "wide", "yaml", "json"]), default="ps", show_default=True
)
@click.option("-n", "--namespace", metavar="NAMESPACE", help="The namespace to look in; default: default.")
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@store_options
def get(
    location: Location,
    kind: type[Resource],
    names: Sequence[str],
    output: str,
    namespace: str | None,
    *,
    all_namespaces: bool,
) -> None:
    """Show resources of a KIND, all or by name.

    \b
    Examples:
      calicoctl get nodes
      calicoctl get networkpolicy allow-web -n shop -o yaml
      calicoctl get workloadendpoints -A -o wide
    """
    if all_namespaces and (namespace or (names and kind.NAMESPACED)):
        raise click.UsageError("--all-namespaces goes with neither names nor --namespace")
    where = "" if all_namespaces else namespace or DEFAULT_NAMESPACE
    unreadable: list[str] = []

    async def read(client: Resources) -> tuple[list[Resource], list[str]]:
        if not names:
            found = await client.list(
                kind.__name__, where, bad=lambda key, error: unreadable.append(f"{key}: {error}")
            )
            return list(found), []
        resources, missing = [], []
        for name in names:
            key = Key(kind.__name__, name, where if kind.NAMESPACED else "")
            resource = await client.get(key)
            if resource is None:
                missing.append(f"{key} does not exist")
            else:
                resources.append(resource)
        return resources, missing

    resources, missing = _with_store(location, read)
    if resources or not missing:
        match output:
            case "yaml":
                click.echo(codec.to_yaml(resources), nl=False)
            case "json":
                click.echo(codec.to_json(resources), nl=False)
            case _:
                click.echo(
                    printers.table(resources, kind, wide=output == "wide", all_namespaces=all_namespaces)
                )
    for sentence in (*missing, *unreadable):
        click.echo(sentence, err=True)
    if missing or unreadable:
        sys.exit(1)


def _with_store(location: Location, work: Callable[[Resources], Awaitable[T]]) -> T:
    """Open the store, do the work, close it; what the store refuses is an error of the command."""

    async def session() -> T:
        store = open_store(location)
        try:
            return await work(Resources(store))
        finally:
            await store.close()

    try:
        return asyncio.run(session())
    except (StoreError, ModelError, OSError) as error:
        raise click.ClickException(f"{location.path}: {error}") from error


def _load(
    files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool
) -> list[Resource]:
    """Everything in ``files``, judged and completed; all problems of all files are shown at once."""
    resources: list[Resource] = []
    problems: list[Problem] = []
    empty: list[str] = []
    for source, text in _texts(files, recursive=recursive):
        try:
            loaded = codec.load(text, source)
        except InvalidResources as error:
            problems += error.problems
            continue
        if not loaded:
            empty.append(source)
        resources += loaded
    if problems:
        _refuse(str(InvalidResources(tuple(problems))))
    if empty and not skip_empty:
        _refuse(f"no resources in {', '.join(empty)} (--skip-empty allows that)")
    return [defaulted(_placed(resource, namespace)) for resource in resources]


def _placed(resource: Resource, namespace: str | None) -> Resource:
    """``resource`` in the namespace that ``-n`` gives, unless it names another."""
    if not namespace or not resource.NAMESPACED:
        return resource
    own = resource.metadata.namespace
    if own and own != namespace:
        _refuse(f"{key_of(resource)}: -n {namespace} contradicts its namespace {own}")
    return replace(resource, metadata=replace(resource.metadata, namespace=namespace))


def _texts(files: Sequence[str], *, recursive: bool) -> Iterable[tuple[str, str]]:
    for name in files:
        if name == "-":
            yield "<stdin>", sys.stdin.read()
            continue
        path = Path(name)
        try:
            paths = _manifests(path, recursive=recursive) if path.is_dir() else [path]
            for each in paths:
                yield str(each), each.read_text(encoding="utf-8")
        except OSError as error:
            _refuse(f"{error.filename or name}: {error.strerror}")
        except UnicodeDecodeError as error:
            _refuse(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})")


def _manifests(directory: Path, *, recursive: bool) -> list[Path]:
    found = sorted(
        path
        for path in (directory.rglob("*") if recursive else directory.iterdir())
        if path.suffix in _SUFFIXES and path.is_file()
    )
    if not found:
        _refuse(f"{directory}: no .yaml, .yml or .json file in it")
    return found


def _conclude(
    done: str, verb: str, wanted: Sequence[Resource | Key], failures: Sequence[tuple[Resource | Key, str]]
) -> None:
    """Say how it went, as calicoctl does; exit status 1 if anything failed."""
    kinds = {one.kind for one in wanted}
    what = f"'{kinds.pop()}' resource(s)" if len(kinds) == 1 else "resource(s)"
    succeeded = len(wanted) - len(failures)
    if not failures:
        click.echo(f"Successfully {done} {succeeded} {what}")
        return
    if succeeded:
        click.echo(f"Partial success: {done} {succeeded} out of {len(wanted)} {what}:", err=True)
    else:
        click.echo(f"Failed to {verb} any {what}:", err=True)
    for subject, reason in failures:
        key = subject if isinstance(subject, Key) else key_of(subject)
        click.echo(f"hit error: {key}: {reason}", err=True)
    sys.exit(1)


def _refuse(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(1)
