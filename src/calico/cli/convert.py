"""``calicoctl convert``: manifests of Calico's first API as ours.

In:   files with ``apiVersion: v1``.
Out:  the same as ``projectcalico.org/v3``, on standard output; everything that is wrong, on standard error.

Nothing is printed unless everything can be: half a conversion would be taken for the whole.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from calico.cli import options


@click.command(
    epilog="Exit status: 0 everything was converted; 1 something was not, and nothing is printed;"
    " 2 the command line is wrong."
)
@options.files("What to convert; may be repeated. '-' is standard input.", required=True)
@options.recursive
@click.option("-o", "--output", type=click.Choice(["yaml", "yml", "json"]), default="yaml", show_default=True)
@click.option(
    "--ignore-validation",
    is_flag=True,
    help="Print also what is not valid today; what is wrong with it is still said.",
)
def convert(files: Sequence[str], output: str, *, recursive: bool, ignore_validation: bool) -> None:
    """Convert manifests of Calico v1 or v2 (apiVersion: v1) to projectcalico.org/v3.

    Known are bgpPeer, hostEndpoint, ipPool, node, policy, profile, tier and workloadEndpoint, alone or in lists.
    Names that are no names today are changed, tags become labels, and a policy's name begins with its tier.

    \b
    Examples:
      calicoctl convert -f old.yaml > new.yaml
      calicoctl convert -f old/ -R | calicoctl validate -f -
      calicoctl convert -f policy.json -o json --ignore-validation
    """
    from calico.cli import printers, problems
    from calico.cli.manifests import texts
    from calico.model import codec, v1
    from calico.model.errors import InvalidResources, Problem
    from calico.model.validation import problems_of

    wrong: list[Problem] = []
    found: list[codec.Located] = []
    for source, text in texts(files, wrong, recursive=recursive):
        try:
            found += codec.read_as(text, source, v1.judged)
        except InvalidResources as error:
            wrong += error.problems
    invalid = [each.problem(finding) for each in found for finding in problems_of(each.resource)]
    problems.report([*wrong, *invalid])
    if wrong or (invalid and not ignore_validation):
        hint = "" if wrong else "; --ignore-validation prints it all the same"
        click.echo(f"Nothing was converted because of what is wrong{hint}.", err=True)
        sys.exit(1)
    if not found and not wrong:
        raise click.ClickException("there is no resource in what was given; is it the right file?")
    resources = [each.resource for each in found]
    tree = printers.document(resources, None)
    click.echo(printers.json_text(tree) if output == "json" else codec.to_yaml(resources), nl=False)
