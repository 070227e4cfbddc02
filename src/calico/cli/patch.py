"""``calicoctl patch``: change some fields of one resource.

In:   a patch, as the command line or a file has it.
Out:  the resource in the store, judged as if somebody had written it whole.
Next: ``model.patch`` applies the patch, ``datastore.writing`` writes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from calico.cli import options, problems
from calico.cli.kinds import overview
from calico.cli.outcome import Mode, Verb, conclude, findings_of, problem_of
from calico.cli.problems import Failure
from calico.cli.session import one_key, with_batch
from calico.cli.stores import Location, store_options
from calico.model.errors import Finding, InvalidResources, ModelError, Problem

if TYPE_CHECKING:
    from calico.datastore.writing import Batch
    from calico.model.resource import Resource

_VERSION: Final = "/metadata/resourceVersion"
"""Where JSON patches find it."""


@click.command(
    epilog=f"Kinds: {overview()}.\n\nExit status: 0 it is patched; 1 it is not, and standard error says why;"
    f" {options.DIFF_STATUS}"
)
@options.one
@click.option(
    "-p",
    "--patch",
    "given",
    required=True,
    metavar="PATCH|@FILE",
    help="The patch, as JSON or YAML, or the file that it stands in.",
)
@click.option(
    "-t",
    "--type",
    "how",
    type=click.Choice(["strategic", "json", "merge"]),
    default="strategic",
    show_default=True,
    help="Strategic merge as Kubernetes has it; operations of RFC 6902; or merge as RFC 7386 has it.",
)
@options.namespace("The namespace of the resource; default: default.")
@options.dry_run
@options.diff
@problems.output_option
@store_options
def patch(
    location: Location,
    words: Sequence[str],
    given: str,
    how: str,
    namespace: str | None,
    *,
    dry_run: str | None,
    diff: bool,
) -> None:
    """Change some fields of one resource, and leave the others as they are.

    A merge (strategic or not) puts the fields of the patch in; null removes one; lists are replaced whole. Only
    the lists finalizers and ownerReferences of the metadata are added to by a strategic merge.

    \b
    Examples:
      calicoctl patch node host-1 -p '{"spec": {"bgp": {"asNumber": 64513}}}'
      calicoctl patch ippool blue -t merge -p '{"spec": {"disabled": true}}' --diff
      calicoctl patch gnp deny-all -t json -p '[{"op": "replace", "path": "/spec/order", "value": 10}]'
      calicoctl patch networkpolicy allow-web -n shop -p @patch.yaml
    """
    key = one_key(words, namespace)
    verb, mode = Verb("patch", "patched", several=False), Mode(dry_run, diff)
    with mode.judged():
        content = _read(given)
    if mode.offline:
        conclude(verb, [key], [], mode)
        return

    async def work(batch: Batch) -> list[Problem]:
        from calico.datastore.admission import NotAdmitted
        from calico.datastore.api import StoreError
        from calico.datastore.writing import Absent, change

        try:
            await change(batch.resources, key, lambda before: patched(before, content, how))
        except InvalidResources as error:
            return list(error.problems)
        except (NotAdmitted, StoreError, ModelError, Absent) as error:
            return [problem_of(key, each) for each in findings_of(error, given=_version(content))]
        return []

    with mode.judged():
        failed, changes = with_batch(location, work, rehearsal=mode.rehearsal, make=False)
    conclude(verb, [key], [failed] if failed else [], mode, changes=changes)


def patched(before: Resource, content: Any, how: str) -> Resource:
    """``before`` after the patch; ``ModelError`` if that is no valid resource, or another one, ``NotAdmitted`` if it is not for people."""
    from calico.datastore.admission import NotAdmitted
    from calico.model import codec
    from calico.model.keys import key_of
    from calico.model.patch import json_patch, merge, strategic
    from calico.model.validation import defaulted

    apply = {"strategic": strategic, "json": json_patch, "merge": merge}[how]
    tree = apply(codec.to_builtins(before), content)
    if not isinstance(tree, dict):
        raise ModelError("the patch leaves nothing of the resource; name the fields that it is to change")
    after = codec.from_builtins(tree)
    if key_of(after) != key_of(before):
        raise ModelError(
            f"the patch makes {key_of(after)} of it; kind, name and namespace cannot change: apply the other one, and"
            " delete this"
        )
    if after.STATUS and getattr(after, "status", None) != getattr(before, "status", None):
        raise NotAdmitted(
            Finding(("status",), "the system writes it, nobody else", "leave it out of the patch")
        )
    same = getattr(after, "spec", None) == getattr(before, "spec", None)
    return after if same else defaulted(after)


def _read(given: str) -> Any:
    """The patch as plain values."""
    from calico.model.yaml_text import BadText, documents

    source = "the patch"
    text = given
    if given.startswith("@"):
        source = given[1:]
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = [each for each in documents(text) if each is not None]
    except BadText as error:
        place = f"{source}:{error.line}:{error.column}" if error.line else source
        raise Failure(f"{place}: {error}") from error
    if len(found) != 1:
        raise Failure(f"{source}: it holds {len(found)} documents; one patch is expected")
    if not isinstance(found[0], dict | list):
        raise Failure(f"{source}: it is {found[0]!r}; write a mapping, or a list of operations")
    return found[0]


def _version(content: Any) -> str | None:
    """The resourceVersion that a patch makes a condition."""
    if isinstance(content, list):
        given = (
            each.get("value") for each in content if isinstance(each, dict) and each.get("path") == _VERSION
        )
        return next((str(value) for value in given if value is not None), None)
    metadata = content.get("metadata") if isinstance(content, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return None if version is None else str(version)
