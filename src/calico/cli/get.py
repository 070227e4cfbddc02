"""``calicoctl get``.

In:   kinds and names, or files that name resources; a format.
Out:  tables, YAML or JSON; on standard error what does not exist and what cannot be read.
Next: ``cli.printers`` makes the text.

What cannot be read hides nothing else, and looking makes no store.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from calico.cli import options
from calico.cli.kinds import Wanted, overview, wanted
from calico.cli.session import DEFAULT_NAMESPACE, keys_of, keys_of_files, search, with_store
from calico.cli.stores import Location, store_options
from calico.datastore.typed import Resources
from calico.model.errors import ModelError
from calico.model.keys import KINDS, Key, key_of
from calico.model.resource import Resource


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
@options.words
@options.files("Show the stored state of the resources that these files name.")
@options.recursive
@options.skip_empty
@click.option(
    "-o", "--output", type=click.Choice(["ps", "wide", "yaml", "json"]), default="ps", show_default=True
)
@options.namespace("The namespace to look in; default: default.")
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
        raise click.UsageError(
            f"say what to get: either KIND [NAME...], or -f before each FILE; kinds are {overview()}"
        )
    if all_namespaces and namespace:
        raise click.UsageError("--all-namespaces and --namespace contradict each other; drop one")
    if files:
        keys = keys_of_files(files, namespace, recursive=recursive, skip_empty=skip_empty)
        found = [with_store(location, lambda client: _named(client, keys), make=False)]
    else:
        asked = wanted(words)
        if all_namespaces and any(each.names and each.kind.NAMESPACED for each in asked):
            raise click.UsageError(
                "a NAME is in one namespace; say which with -n, or leave --all-namespaces out"
            )
        where = "" if all_namespaces else namespace or DEFAULT_NAMESPACE

        async def read(client: Resources) -> list[_Found]:
            return [
                await _named(client, keys_of([each], namespace))
                if each.names
                else await _all(client, each, where)
                for each in asked
            ]

        found = with_store(location, read, make=False)
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
    problems += [f"{key} {sentence}" for key, sentence in await search(client, missing)]
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
