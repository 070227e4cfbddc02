"""``calicoctl agent``: run this host's agent, and ask a running one how it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from calico.agent.status import AgentUnreachableError, ask
from calico.cli.stores import Location, agent_store_options
from calico.paths import Paths


@click.group(
    invoke_without_command=True,
    epilog="Exit status: 0 it was told to stop (SIGTERM, SIGINT); 1 it could not start, and says why;"
    " 2 the command line is wrong.",
)
@click.option(
    "--node", metavar="NAME", help="This host's name; default: NODENAME, the file nodename, the host name."
)
@click.option(
    "--backend",
    type=click.Choice(["nftables", "iptables", "iptables-nft", "iptables-legacy"]),
    help="How to program the packet filter (environment: CALICO_BACKEND); default nftables.",
)
@click.option(
    "--bgp/--no-bgp",
    default=True,
    show_default=True,
    help="Run BIRD, with the configuration that the resources ask for.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Log from here on; default: the setting logSeverityScreen, which is Info.",
)
@agent_store_options
@click.pass_context
def agent(
    ctx: click.Context,
    location: Location | None,
    node: str | None,
    backend: str | None,
    bgp: bool,
    log_level: str | None,
) -> None:
    """Run this host's agent in the foreground: routes, policy and BGP as the store wants them.

    Stopping it leaves the data path as it is.

    \b
    Examples:
      calicoctl agent --node host-1
      calicoctl agent status
    """
    if location is None or ctx.invoked_subcommand is not None:
        return
    from calico.agent.main import Configuration, StartError, run

    try:
        run(
            Configuration(
                node=node,
                store=location.store,
                paths=Paths.of(os.environ),
                backend=backend or os.environ.get("CALICO_BACKEND") or "nftables",
                bgp=bgp,
                log_level=log_level,
                environment=dict(os.environ),
            )
        )
    except StartError as error:
        raise click.ClickException(str(error)) from error


@agent.command(
    short_help="What is programmed, and what failed.",
    epilog="Exit status: 0 all is programmed; 1 it is not, or no agent runs here; 2 the command line is wrong.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(output: str) -> None:
    """What the agent of this host has programmed, how long the last change took, and what failed.

    \b
    Examples:
      calicoctl agent status
      calicoctl agent status -o json
    """
    report = _ask({"command": "status"})
    if output == "json":
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    if not report.get("programmed") or not (report.get("store") or {}).get("connected"):
        raise SystemExit(1)


@agent.command(
    "pause-repair",
    short_help="Leave for a while what others change in the kernel.",
    epilog="Exit status: 0 done; 1 no agent runs here; 2 the command line is wrong.",
)
@click.argument("seconds", type=click.FloatRange(0, 3600))
def pause_repair(seconds: float) -> None:
    """Do not repair what others change in the kernel for SECONDS (0: repair again at once).

    \b
    Example:
      calicoctl agent pause-repair 30
    """
    _ask({"command": "pause-repair", "seconds": seconds})
    click.echo(f"repair is paused for {seconds:g} s" if seconds else "repair is on")


@agent.command()
@click.confirmation_option(prompt="Workloads of this host lose their network and their policy. Go on?")
def remove() -> None:
    """Take every route, rule and set of ours off this host, and end its BIRD. The agent must be stopped.

    \b
    Example:
      calicoctl agent remove --yes
    """
    import asyncio

    from calico.agent.main import local_sources
    from calico.agent.removal import AgentRunsError, remove_all
    from calico.bgp.control import BirdError
    from calico.model.settings_sources import resolve
    from calico.programming.backend import ProgrammingError

    if os.geteuid() != 0:
        raise click.ClickException("routes and rules are the kernel's: run this as root")
    try:
        paths = Paths.of(os.environ)
        local = resolve(local_sources(paths, os.environ), backend="nftables")
        done = asyncio.run(remove_all(paths, local.settings))
    except (AgentRunsError, BirdError, ProgrammingError) as error:
        raise click.ClickException(str(error)) from error
    for sentence in done:
        click.echo(sentence)


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = ask(Paths.of(os.environ).agent_socket, request)
    except AgentUnreachableError as error:
        raise click.ClickException(str(error)) from error
    if "error" in answer:
        raise click.ClickException(str(answer["error"]))
    return answer


def _print(report: dict[str, Any]) -> None:
    counts = report["counts"]
    store = report.get("store") or {}
    lines = [
        ("Node", report["node"]),
        (
            "Agent",
            f"pid {report.get('pid')}, version {report.get('version')}, up {report.get('uptimeSeconds', 0):.0f} s",
        ),
        ("Store", f"{store.get('location')}: {store.get('state')}"),
        (
            "In sync",
            "yes" if report["inSync"] else "no: nothing is programmed before the first complete picture",
        ),
        ("Programmed", "yes" if report["programmed"] else "NO"),
        ("Back end", report["backend"]),
        (
            "Holds",
            f"{counts['endpoints']} endpoints, {counts['policies']} policies, {counts['profiles']} profiles, "
            f"{counts['sets']} sets with {counts['setMembers']} members, {counts['routes']} routes",
        ),
    ]
    change = report.get("lastChange")
    if change:
        rows = ", ".join(f"{count} {name}" for name, count in change["rows"].items())
        lines.append(
            ("Last change", f"{change['at']}: {rows}; {change['milliseconds']} ms from store to kernel")
        )
    lines += [("Collector", text) for text in _collector(report.get("collector") or {})]
    lines += [
        (
            "BGP",
            f"{session['name']} {session['address']} AS {session['as']}: {session['state']} {session['info']}".rstrip(),
        )
        for session in report.get("bgp", {}).get("sessions", ())
    ]
    lines += [
        ("Setting", f"{chosen['name']}: {chosen['value']} ({chosen['source']})")
        for chosen in report.get("settings", ())
    ]
    lines += [("Error", f"{what}: {text}") for what, text in report["errors"].items()]
    lines += [("Problem", text) for text in report["problems"]]
    lines += [("Waiting", f"{cidr}: {why}") for cidr, why in report["pendingRoutes"].items()]
    lines += [("Warning", text) for text in report["warnings"]]
    lines += [("No effect", text) for text in report.get("noEffect", ())]
    repairs = report["repairs"]
    if repairs["count"]:
        lines.append(("Repairs", f"{repairs['count']} since the start; the latest:"))
        lines += [("", f"{repair['at']} {repair['what']}") for repair in repairs["latest"][-5:]]
    if report.get("repairPaused"):
        lines.append(("Repairs", "paused"))
    for label, text in lines:
        click.echo(f"{label + ':' if label else '':<13}{text}")


def _collector(collector: dict[str, Any]) -> Iterator[str]:
    """Who takes back addresses that were left behind; on that host, also how it goes."""
    if collector.get("here"):
        done = ", ".join(f"{count} {kind}" for kind, count in sorted(collector["done"].items())) or "nothing"
        yield f"this agent; last looked at {collector['lastSweep'] or 'no time yet'}; done: {done}"
        if collector["waits"] == "never":
            yield "leakGracePeriod is 0: nothing is collected"
        if collector["doubt"]:
            yield f"nothing is collected while this is so: {collector['doubt']}"
    elif collector.get("node"):
        yield f"the agent of {collector['node']}"
    if collector.get("error"):
        yield f"not here: {collector['error']}"
