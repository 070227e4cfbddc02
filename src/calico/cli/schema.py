"""``calicoctl schema``: JSON Schema of the kinds, for editors.

In:   kinds, by any of their names.
Out:  a schema on standard output. No store is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from calico.cli.kinds import kind_called, overview

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del ctx, param
    from calico.cli.completion import kinds

    return kinds(incomplete)


@click.command(epilog=f"Kinds: {overview()}.\n\nExit status: 0; 2 there is no such kind.")
@click.argument("words", metavar="KIND...", nargs=-1, shell_complete=_complete)
@click.option("--all", "everything", is_flag=True, help="One schema for documents of any kind.")
def schema(words: Sequence[str], *, everything: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of a KIND, or of documents of any of several.

    An editor with it completes fields and words while one writes a manifest. Editors that understand
    yaml-language-server find the schema by a comment at the top of a file:

    \b
      # yaml-language-server: $schema=calico.schema.json

    \b
    Examples:
      calicoctl schema networkpolicy
      calicoctl schema np gnp tier > policy.schema.json
      calicoctl schema --all > calico.schema.json
    """
    if bool(words) == everything:
        raise click.UsageError(f"say which KIND, or --all; kinds are {overview()}")
    import json

    from calico.model.jsonschema import schema_of
    from calico.model.keys import KINDS

    kinds = list(KINDS.values()) if everything else list(dict.fromkeys(map(kind_called, words)))
    click.echo(json.dumps(schema_of(kinds), indent=2, ensure_ascii=False))
