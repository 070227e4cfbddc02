"""``calicoctl completion``: the shell's side of tab completion, and the words that are offered.

In:   what was typed so far.
Out:  commands, kinds, the names of resources and namespaces; nothing where the store cannot be read.

Completion must be quick and must never print, make or change anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from calico.cli.stores import Location
    from calico.datastore.api import Entry, Store
    from calico.model.keys import Key

PATIENCE = 1.5
"""After how many seconds a store that does not answer has nothing to offer."""


@click.command(epilog="Exit status: 0; 2 the shell is none of these.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands, options, kinds, and the names of resources and namespaces.

    \b
    Examples:
      source <(calicoctl completion bash)        # in ~/.bashrc
      source <(calicoctl completion zsh)         # in ~/.zshrc, after compinit
      calicoctl completion fish | source         # in ~/.config/fish/config.fish
    """
    parent = ctx.find_root()
    name = parent.info_name or "calicoctl"
    completer = get_completion_class(shell)
    assert completer is not None
    variable = f"_{name}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    click.echo(completer(parent.command, {}, name, variable).source())


def words(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What may follow the words of ``get`` or ``delete``: a kind first, then names of it that are not there yet."""
    from calico.cli.kinds import kind_called

    typed: tuple[str, ...] = ctx.params.get("words") or ()
    kind, slash, _ = incomplete.partition("/")
    try:
        if slash:
            names = _names(ctx, kind_called(kind).__name__)
            return _matching(
                [f"{kind}/{name}" for name in names if f"{kind}/{name}" not in typed], incomplete
            )
        if typed and "/" not in typed[0]:
            return _matching(
                [name for name in _names(ctx, kind_called(typed[0]).__name__) if name not in typed],
                incomplete,
            )
    except click.UsageError:
        return []
    return kinds(incomplete)


def kinds(incomplete: str) -> list[CompletionItem]:
    """The kinds, in the plural; by other words where no plural begins so."""
    from calico.cli.kinds import kind_names

    plurals = sorted({each.PLURAL for each in kind_names().values()})
    return _matching(plurals, incomplete.lower()) or _matching(sorted(kind_names()), incomplete.lower())


def namespaces(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The namespaces in which anything is stored."""
    from calico.model.keys import KINDS

    spaces = {
        namespace
        for kind in KINDS.values()
        if kind.NAMESPACED
        for namespace, _ in _stored(ctx, kind.__name__)
    }
    return _matching(sorted(spaces), incomplete)


def labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The running labs, as a value of ``--lab``."""
    del ctx, param
    from calico.cli.stores import running_labs
    from calico.paths import Paths

    try:
        return _matching(running_labs(Paths.of(os.environ)), incomplete)
    except (click.ClickException, OSError):
        return []


def _matching(found: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(each) for each in found if each.startswith(incomplete)]


def _names(ctx: click.Context, kind: str) -> list[str]:
    namespace = ctx.params.get("namespace")
    everywhere = ctx.params.get("all_namespaces")
    wanted = {"", namespace or "default"}
    return sorted({name for space, name in _stored(ctx, kind) if everywhere or space in wanted})


def _stored(ctx: click.Context, kind: str) -> list[tuple[str, str]]:
    """Namespace and name of everything of a kind; nothing where there is no store, or none that may be read."""
    from calico.cli.stores import Choice, locate
    from calico.datastore.api import StoreError
    from calico.model.ipam_kinds import VIEWS
    from calico.model.keys import kind_prefix, parse_path

    try:
        choice = Choice.of(ctx.params)
        if ctx.parent is not None:
            choice = choice.over(Choice.of(ctx.parent.params))
        location = locate(choice, os.environ)
        listing = _listing(location, kind_prefix(kind))
    except (click.ClickException, StoreError, OSError):
        return []
    keys = ((parse_path(entry.path), entry) for entry in listing)
    if kind not in VIEWS:
        return [(key.namespace, key.name) for key, _ in keys if key is not None and key.kind == kind]
    return [
        ("", name) for key, entry in keys if key and key.kind == kind and (name := _view_name(key, entry))
    ]


def _view_name(key: Key, entry: Entry) -> str:
    """What a record is called as the resource that people see; empty where it cannot be read."""
    from calico.model.codec import decode_resource
    from calico.model.errors import ModelError

    try:
        return decode_resource(key, entry.value, entry.revision).metadata.name
    except ModelError:
        return ""


def _listing(location: Location, prefix: str) -> tuple[Entry, ...]:
    if location.store.file is not None:
        from calico.datastore.direct import DirectStore, at_once

        return at_once(_entries(DirectStore(location.store.file), prefix))
    import asyncio

    async def patient() -> tuple[Entry, ...]:
        async with asyncio.timeout(PATIENCE):
            return await _entries(location.store.open(), prefix)

    return asyncio.run(patient())


async def _entries(store: Store, prefix: str) -> tuple[Entry, ...]:
    try:
        return (await store.list(prefix)).entries
    finally:
        await store.close()
