"""``calicoctl get``.

In:   kinds and names, or files that name resources; a format.
Out:  what is stored, shown in that format; on standard error what does not exist and what cannot be read.
Next: ``cli.formats`` makes the text; ``cli.watch`` goes on showing what changes.

What cannot be read hides nothing else, and looking makes no store.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import click

from calico.cli import formats, options
from calico.cli.formats import Batch, Format
from calico.cli.kinds import Wanted, overview, wanted
from calico.cli.session import DEFAULT_NAMESPACE, keys_of, keys_of_files, look, search
from calico.cli.stores import Location, store_options
from calico.datastore.typed import Resources
from calico.model.errors import ModelError
from calico.model.keys import Key, key_of
from calico.model.resource import Resource


class _Found(NamedTuple):
    """What a ``get`` of one kind found (None: those of some keys), and what it did not find or could not read."""

    kind: type[Resource] | None
    resources: list[Resource]
    problems: list[str]
    elsewhere: int = 0
    """How many are in namespaces that were not asked for."""


@click.command(
    epilog=f"""Kinds: {overview()}.

\b
Output formats:
  ps, wide             a table; wide has more columns
  yaml, json           documents that can be edited and applied again; all of a kind are a list
  name                 KIND/NAME lines
  custom-columns=...   a table of chosen columns: headings of the table, as in NAME,CIDR,
                       or headings and paths, as in NAME:.metadata.name,NETS:.spec.nets[*]
  go-template=...      a template of Go's kind; go-template-file=FILE reads it from a file.
                       The dot is a list: {{{{range .}}}}{{{{range .Items}}}}{{{{.Name}}}} {{{{end}}}}{{{{end}}}}

Exit status: 0 all that was asked for was shown (perhaps none); 1 a NAME does not exist, or something stored cannot
be read: the rest is shown; 2 the command line is wrong. A watch that is interrupted ends with 130 (Ctrl-C) or 143."""
)
@options.words
@options.files("Show the stored state of the resources that these files name.")
@options.recursive
@options.skip_empty
@formats.output_option
@options.namespace("The namespace to look in; default: default.")
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@click.option(
    "--export",
    is_flag=True,
    help="Of resources asked for by NAME, leave out what belongs to this cluster: namespace, uid, resourceVersion,"
    " creation and deletion times.",
)
@click.option("-w", "--watch", is_flag=True, help="After that show what changes, until Ctrl-C.")
@click.option("--watch-only", is_flag=True, help="As --watch, but only what changes from now on.")
@store_options
def get(
    location: Location,
    words: Sequence[str],
    files: Sequence[str],
    output: Format,
    namespace: str | None,
    *,
    recursive: bool,
    skip_empty: bool,
    all_namespaces: bool,
    export: bool,
    watch: bool,
    watch_only: bool,
) -> None:
    """Show resources of a KIND, all or by name.

    \b
    Examples:
      calicoctl get nodes
      calicoctl get workloadendpoints -A -o wide
      calicoctl get networkpolicy allow-web -n shop -o yaml
      calicoctl get np/allow-web gnp/deny-all
      calicoctl get ippools -o custom-columns=NAME,CIDR,BLOCK:.spec.blockSize
      calicoctl get nodes -o go-template='{{range .}}{{range .Items}}{{.Name}} {{end}}{{end}}'
      calicoctl get networkpolicies -A --watch
    """
    if bool(files) == bool(words):
        raise click.UsageError(
            f"say what to get: either KIND [NAME...], or -f before each FILE; kinds are {overview()}"
        )
    if all_namespaces and namespace:
        raise click.UsageError("--all-namespaces and --namespace contradict each other; drop one")
    namespaces = all_namespaces or bool(namespace)
    if files:
        if watch or watch_only:
            raise click.UsageError("files cannot be watched; name a KIND, and perhaps NAMEs")
        keys = keys_of_files(files, namespace, recursive=recursive, skip_empty=skip_empty)
        reading = _reading([], keys, "", output)
    else:
        asked = wanted(words)
        if all_namespaces and any(each.names and each.kind.NAMESPACED for each in asked):
            raise click.UsageError(
                "a NAME is in one namespace; say which with -n, or leave --all-namespaces out"
            )
        where = "" if all_namespaces else namespace or DEFAULT_NAMESPACE
        if watch or watch_only:
            from calico.cli.watch import show_changes

            if len(asked) > 1:
                raise click.UsageError("only one KIND can be watched at a time")
            sys.exit(show_changes(location, asked[0], where, output, namespaces=namespaces, only=watch_only))
        reading = _reading(asked, [], where, output)
    found, as_number = look(location, reading)
    _show(found, output, namespaces=namespaces, export=export, as_number=as_number)


def _reading(
    asked: Sequence[Wanted], keys: Sequence[Key], namespace: str, output: Format
) -> Callable[[Resources], Awaitable[tuple[list[_Found], str]]]:
    """The work of a ``get`` on an open store: what is found, and the cluster's AS number if it may be shown."""

    async def read(client: Resources) -> tuple[list[_Found], str]:
        found = [
            await _named(client, keys_of([each], namespace))
            if each.names
            else await _all(client, each.kind, namespace)
            for each in asked
        ]
        if keys or not asked:
            found.append(await _named(client, keys))
        needed = output.needs_as_number and (
            output.template is not None
            or any(resource.kind == "Node" for each in found for resource in each.resources)
        )
        return found, await cluster_as_number(client) if needed else ""

    return read


async def cluster_as_number(client: Resources) -> str:
    """The AS number of nodes that have none of their own."""
    from calico.model.bgp import DEFAULT_AS, BGPConfiguration

    try:
        configuration = await client.get(Key("BGPConfiguration", "default"))
    except ModelError:
        return "unknown"
    chosen = configuration.spec.as_number if isinstance(configuration, BGPConfiguration) else None
    return str(chosen or DEFAULT_AS)


async def _all(client: Resources, kind: type[Resource], namespace: str) -> _Found:
    problems: list[str] = []

    def bad(key: Key, error: ModelError) -> None:
        if not key.namespace or namespace in {"", key.namespace}:
            problems.append(f"cannot be read: {error}")

    stored = await client.list(kind.__name__, bad=bad)
    names = {each.metadata.name for each in stored}
    extra = [each for each in built_in(kind.__name__) if each.metadata.name not in names]
    if extra:
        stored = tuple(sorted((*stored, *extra), key=lambda each: each.metadata.name))
    here = [each for each in stored if not kind.NAMESPACED or namespace in {"", each.metadata.namespace}]
    return _Found(kind, here, problems, len(stored) - len(here))


def built_in(kind: str) -> tuple[Resource, ...]:
    """What there is of a kind though it may not be stored."""
    if kind not in {"Tier", "Profile"}:  # the only kinds that have any; spares the others an import
        return ()
    from calico.datastore import admission

    return admission.built_in(kind)


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
            resource = next((each for each in built_in(key.kind) if key_of(each) == key), None)
        if resource is None:
            missing.append(key)
        else:
            resources.append(resource)
    problems += [f"{key} {sentence}" for key, sentence in await search(client, missing)]
    return _Found(None, resources, problems)


def _show(found: Sequence[_Found], output: Format, *, namespaces: bool, export: bool, as_number: str) -> None:
    batches = [
        Batch(each.kind, _exported(each.resources) if export and each.kind is None else each.resources)
        for each in found
    ]
    text = output.text(batches, namespaces=namespaces, as_number=as_number)
    if text:
        click.echo(text, nl=output.template is None)
    for each in found:
        if each.kind and each.elsewhere and not each.resources and output.is_table:
            click.echo(
                f"no {each.kind.PLURAL} in this namespace; {each.elsewhere} in others (-A shows them)",
                err=True,
            )
    problems = [problem for each in found for problem in each.problems]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)


def _exported(resources: Sequence[Resource]) -> list[Resource]:
    """The resources without what belongs to the cluster that they are in."""
    from msgspec.structs import replace

    return [
        replace(
            resource,
            metadata=replace(
                resource.metadata,
                namespace=None,
                uid=None,
                resource_version=None,
                creation_timestamp=None,
                deletion_timestamp=None,
                deletion_grace_period_seconds=None,
            ),
        )
        for resource in resources
    ]
