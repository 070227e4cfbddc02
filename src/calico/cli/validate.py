"""``calicoctl validate``: are these manifests good? No store is asked.

In:   files.
Out:  everything that is wrong with all of them, judged as for ``apply``; and what is surely not meant.

What can be told without a store is told: a policy in a tier that neither these files nor every cluster has is
a warning, since the store may have it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from calico.cli import options, problems

if TYPE_CHECKING:
    from calico.cli.manifests import Manifest
    from calico.model.errors import Problem


@click.command(
    epilog="Exit status: 0 everything may be applied, warnings or not; 1 something is wrong, and standard error says"
    " what; 2 the command line is wrong."
)
@options.files("What to validate; may be repeated. '-' is standard input.", required=True)
@options.recursive
@options.skip_empty
@options.namespace("The namespace of resources that name none; default: default.")
@problems.output_option
def validate(files: Sequence[str], namespace: str | None, *, recursive: bool, skip_empty: bool) -> None:
    """Say what is wrong with manifests, without a store.

    They are judged as strictly as for apply, all files to their end. What depends on the store, such as pools
    that overlap with others, is for 'apply --dry-run=server' to say.

    \b
    Examples:
      calicoctl validate -f policy.yaml
      calicoctl validate -f manifests/ -R -o json
      git diff --name-only | grep yaml$ | xargs -n1 calicoctl validate -f
    """
    from calico.cli.manifests import BadManifests, load

    try:
        manifests = load(files, namespace, recursive=recursive, skip_empty=skip_empty)
    except BadManifests as bad:
        problems.report(bad.problems)
        if not problems.wants_json():
            count = len(bad.problems)
            click.echo(f"{count} problem{'s' * (count != 1)} found", err=True)
        sys.exit(1)
    problems.report([*problems.warnings_of(manifests), *_homeless(manifests)])
    if not problems.wants_json():
        kinds = {each.resource.kind for each in manifests}
        what = f"'{kinds.pop()}' resource(s)" if len(kinds) == 1 else "resource(s)"
        click.echo(f"Successfully validated {len(manifests)} {what}")


def _homeless(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    """Policies whose tier is not among what is validated, and not in every cluster."""
    import dataclasses

    from calico.model.errors import Finding
    from calico.model.policy import BUILT_IN_TIERS, TieredPolicy

    tiers = {each.resource.metadata.name for each in manifests if each.resource.kind == "Tier"}
    for manifest in manifests:
        policy = manifest.resource
        if not isinstance(policy, TieredPolicy) or policy.spec.tier in {*tiers, *BUILT_IN_TIERS}:
            continue
        finding = Finding(
            ("spec", "tier"),
            f"the tier {policy.spec.tier!r} is not in these files",
            "make sure that the store has it, or add it",
        )
        yield dataclasses.replace(manifest.problem(finding), severity="warning")
