"""``calicoctl explain``: may this talk to that, and why.

In:   two ends and a protocol; the store, or files.
Out:  the verdict, each end's trail, the way between, and for this host whether the kernel holds what policy says.
Next: ``analysis.explain`` answers, ``cli.explanation`` words it, ``cli.proof`` asks this host's agent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from calico.cli import options
from calico.cli.drops import or_drops
from calico.cli.stores import Location, store_options_unless_files

if TYPE_CHECKING:
    from calico.analysis import World
    from calico.cli.explanation import Place, Proofs
    from calico.cli.offline import Offline


@click.command(
    epilog="Exit status: 0 there is an answer, whether it is allowed or denied; 1 there is none, such as for an end that"
    " is not known; 2 the command line is wrong."
)
@click.option("--from", "source", metavar="END", help="Who sends the first packet.")
@click.option("--to", "destination", metavar="END", help="Whom it is for.")
@click.option("--protocol", metavar="NAME|NUMBER", help="Default: TCP, or ICMP where a type of it is given.")
@click.option("--port", metavar="PORT|NAME", help="The destination's port, or its name there.")
@click.option("--source-port", type=click.IntRange(1, 65535), help="The source's port.")
@click.option("--icmp-type", type=click.IntRange(0, 255), help="The type of an ICMP or ICMPv6 packet.")
@click.option("--icmp-code", type=click.IntRange(0, 255), help="Its code.")
@click.option(
    "--ip-version",
    type=click.Choice(["4", "6"]),
    help="For ends that have addresses of both; default 4, or 6 for ICMPv6.",
)
@click.option(
    "--through",
    multiple=True,
    metavar="NODE",
    help="A host between those of the ends that passes the flow on, such as a gateway; several in their order.",
)
@options.namespace("The namespace of ends that name none; default: default.")
@options.files("Explain what these manifests say, and ask no store; may be repeated. '-' is standard input.")
@options.recursive
@click.option("-v", "--verbose", is_flag=True, help="Show the rules that did not match too, and why.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@store_options_unless_files
@or_drops
def explain(
    location: Location | None, *, files: Sequence[str], output: str, verbose: bool, **asked: Any
) -> None:
    """Say whether a new flow is allowed, and why: every step at both ends, and on the way between.

    An END is namespace/name of a pod or WorkloadEndpoint, the name of a HostEndpoint or of a host, an address, or a
    network set by namespace/name or name.

    Steps name tier, policy and rule (counted from 0), what the rule says, and the labels by which its selectors
    matched. What staged policies would change is said at the end. On a host, its side is compared with the kernel:
    proven, drifted with the difference, or unknown with the reason.

    --drops asks about no flow: it follows the packets that this host drops right now, each with the rule that drops it.

    \b
    Examples:
      calicoctl explain --from shop/web-1 --to shop/db-1 --port 5432
      calicoctl explain --from 203.0.113.9 --to shop/web-1 --port https -v
      calicoctl explain --from shop/web-1 --to shop/db-1 --icmp-type 8
      calicoctl explain --from 203.0.113.9 --to shop/web-1 --through gateway-1
      calicoctl explain --from shop/web-1 --to partners --port 443 -f manifests/ -R
      calicoctl explain --drops --endpoint shop/web-1
    """
    from calico.analysis import World
    from calico.analysis.explain import Question, Unanswerable
    from calico.analysis.explain import explain as answer
    from calico.cli import explanation

    recursive = asked.pop("recursive")
    namespace = asked.pop("namespace") or "default"
    version = asked.pop("ip_version")
    question = Question(**asked, namespace=namespace, ip_version=int(version) if version else None)
    place: Place = explanation.nowhere
    if location is None:
        offline = _offline(files, recursive=recursive)
        world, place = World(offline.facts), offline.place
    else:
        world = _stored(location)
    for problem in world.problems:
        click.echo(f"not usable as it is: {problem}", err=True)
    try:
        found = answer(world, question)
    except Unanswerable as error:
        raise click.ClickException(str(error)) from error
    proofs: Proofs = {}
    if location is not None:
        from calico.cli.proof import proofs as prove

        proofs = prove(world, found, location)
    if output == "json":
        click.echo(json.dumps(explanation.data(found, place, proofs), indent=2, ensure_ascii=False))
        return
    for line in explanation.lines(found, place, proofs, verbose=verbose):
        click.echo(line)


def _offline(files: Sequence[str], *, recursive: bool) -> Offline:
    from calico.cli import problems
    from calico.cli.offline import BadFiles, passed_over_words, read

    try:
        found = read(files, recursive=recursive)
    except BadFiles as bad:
        problems.report(bad.problems, as_json=False)
        sys.exit(1)
    if found.passed_over:
        click.echo(passed_over_words(found.passed_over), err=True)
    return found


def _stored(location: Location) -> World:
    """The world that the store holds, read as agents read it."""
    from calico.analysis import World
    from calico.cli.session import look
    from calico.datastore.resync import picture
    from calico.datastore.typed import Resources
    from calico.model import codec
    from calico.model.keys import Key
    from calico.model.resource import Resource

    async def work(client: Resources) -> dict[Key, Resource]:
        found, bad = await picture(client.store, decode=codec.decode_resource)
        for path, why in sorted(bad.items()):
            click.echo(f"{path} cannot be read: {why}", err=True)
        return {key: value for key, value in found.items() if isinstance(value, Resource)}

    return World(look(location, work))
