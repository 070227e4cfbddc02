"""``calicoctl label``: set and remove labels of one resource.

In:   labels, as the command line has them.
Out:  the resource in the store with its new labels, all or none of them.
Next: ``datastore.writing`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from calico.cli import options, problems
from calico.cli.kinds import overview
from calico.cli.outcome import Mode, Verb, conclude, findings_of, problem_of
from calico.cli.session import one_key, with_batch
from calico.cli.stores import Location, store_options
from calico.model.errors import Finding, ModelError, Problem

if TYPE_CHECKING:
    from calico.datastore.writing import Batch
    from calico.model.resource import Resource

Labels = Mapping[str, str | None]
"""What each label is to be; None: it is to go."""

LABELS: Final = ("metadata", "labels")


class LabelError(ModelError):
    """Labels that a resource has, or has not, against what was expected; ``findings`` say which."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(each.message for each in findings))
        self.findings = findings


@click.command(
    epilog=f"Kinds: {overview()}.\n\nExit status: 0 it has these labels; 1 nothing was changed, and standard error says why;"
    f" {options.DIFF_STATUS}"
)
@click.argument(
    "words",
    metavar="KIND NAME KEY=VALUE... | KIND NAME KEY-...",
    nargs=-1,
    required=True,
    shell_complete=options.complete_words,
)
@click.option("--overwrite", is_flag=True, help="Give labels that are there another value.")
@click.option("--remove", is_flag=True, help="Remove the labels that are named: KEY, as well as KEY-.")
@options.namespace("The namespace of the resource; default: default.")
@options.dry_run
@options.diff
@problems.output_option
@store_options
def label(
    location: Location,
    words: Sequence[str],
    namespace: str | None,
    *,
    overwrite: bool,
    remove: bool,
    dry_run: str | None,
    diff: bool,
) -> None:
    """Set labels of one resource, or remove them; all that are named, or none.

    \b
    Examples:
      calicoctl label node host-1 rack=12 row=b
      calicoctl label node/host-1 rack=13 --overwrite
      calicoctl label networkset partners -n shop region-
      calicoctl label hostendpoint eth0 zone --remove
    """
    if overwrite and remove:
        raise click.UsageError("--overwrite and --remove contradict each other; drop one")
    count = 1 if "/" in words[0] else 2
    key = one_key(words[:count], namespace)
    wanted = _wanted(words[count:], remove=remove)
    mode = Mode(dry_run, diff)
    done: list[str] = []
    subject = words[0].partition("/")[0] + f" {key.name}"

    async def work(batch: Batch) -> list[Problem]:
        from calico.datastore.admission import NotAdmitted
        from calico.datastore.api import StoreError
        from calico.datastore.writing import Absent, change

        def how(before: Resource) -> Resource:
            after, sentences = labelled(before, wanted, subject, overwrite=overwrite)
            done[:] = sentences
            return after

        try:
            await change(batch.resources, key, how)
        except LabelError as error:
            return [problem_of(key, each) for each in error.findings]
        except (NotAdmitted, StoreError, ModelError, Absent) as error:
            return [problem_of(key, each) for each in findings_of(error)]
        return []

    if mode.offline:
        conclude(Verb("label", "labelled"), [key], [], mode)
        return
    with mode.judged():
        failed, changes = with_batch(location, work, rehearsal=mode.rehearsal, make=False)
    if failed or mode.diff or problems.wants_json():
        conclude(Verb("label", "labelled"), [key], [failed] if failed else [], mode, changes=changes)
        return
    for sentence in done:
        click.echo(f"{sentence}{mode.remark}")


def labelled(
    before: Resource, wanted: Labels, subject: str, *, overwrite: bool
) -> tuple[Resource, list[str]]:
    """``before`` with the ``wanted`` labels, and a sentence about each, as calicoctl says them.

    ``LabelError`` if one is there with another value and may not be overwritten, or is to go and not there.
    """
    from msgspec.structs import replace

    from calico.model.ipam_kinds import View

    if isinstance(before, View):
        raise LabelError([Finding(LABELS, f"the labels of a {before.kind} are not stored", "")])
    labels = dict(before.metadata.labels)
    sentences = []
    findings = []
    for name, value in wanted.items():
        current = labels.get(name)
        path = (*LABELS, name)
        if value is None:
            if labels.pop(name, None) is None:
                findings.append(
                    Finding(path, "there is no such label to remove", _near(name, before.metadata.labels))
                )
            sentences.append(f"Successfully removed label {name} from {subject}")
        elif current is not None and current != value and not overwrite:
            findings.append(Finding(path, f"it is {current!r} already", "--overwrite gives it another value"))
        else:
            labels[name] = value
            verb = "set" if current is None else "updated"
            sentences.append(f"Successfully {verb} label {name} on {subject}")
    if findings:
        raise LabelError(findings)
    return replace(before, metadata=replace(before.metadata, labels=labels)), sentences


def _near(name: str, labels: Mapping[str, str]) -> str:
    from calico.model.schema import nearest

    return nearest(name, list(labels)) if labels else "it has no labels at all"


def _wanted(words: Sequence[str], *, remove: bool) -> Labels:
    """What the words of the command line ask for."""
    from calico.model import checks

    wanted: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and remove:
            raise click.UsageError(f"{word!r} sets a label, which contradicts --remove; drop one of them")
        if not equals and not remove and not word.endswith("-"):
            raise click.UsageError(f"{word!r} is no label; write KEY=VALUE to set one, KEY- to remove one")
        name = name if equals else word.removesuffix("-")
        if name in wanted:
            raise click.UsageError(f"the label {name!r} is named twice; name it once")
        for finding in checks.labels((), {name: value}):
            raise click.UsageError(f"{word!r}: {finding.message}; {finding.remedy}")
        wanted[name] = value if equals else None
    if not wanted:
        raise click.UsageError("say which labels: KEY=VALUE to set one, KEY- to remove one")
    return wanted
