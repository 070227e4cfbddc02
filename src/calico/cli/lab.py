"""``calicoctl lab``: a virtual data centre on this machine.

In:   the command line.
Out:  a lab that runs on; tables and lines about it.
Next: ``calico.lab.scenario`` builds it, ``calico.lab.probe`` tries it; here is what people see.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from calico.cli.printers import aligned
from calico.cli.stores import Choice
from calico.paths import Paths

if TYPE_CHECKING:
    from calico.lab.state import LabDirectory, State
    from calico.lab.topology import Topology

DEFAULT_NAME: Final = "lab"
SERVICES: Final = "TCP/80,TCP/5432,UDP/5000"
MEMBERS: Final = 3
"""Of an etcd: it goes on when one of them is lost."""


def _complete_lab(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of labs that begin so, for the shell."""
    del ctx, param
    from calico.lab.state import labs

    return [name for name in labs(_root()) if name.startswith(incomplete)]


def _complete_node(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Nodes of the lab that is meant, for the shell."""
    del param
    try:
        _, state = _existing(ctx, ctx.params.get("name"))
    except click.ClickException:
        return []
    return [node for node in state.topology.nodes if node.startswith(incomplete)]


name_option = click.option(
    "--name",
    metavar="LAB",
    shell_complete=_complete_lab,
    help="Which lab; default: the only one, else the one called 'lab'.",
)


@click.group()
def lab() -> None:
    """A virtual data centre on this machine: routers, hosts, workloads, out of network namespaces.

    \b
    Examples:
      calicoctl lab up
      calicoctl lab exec shop1-1 -- ping -c 3 internet
      calicoctl lab probe
      calicoctl lab down
    """
    # A root shell that 'su' gave lacks the directories of a root shell's programs.
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(
        [*path, *(more for more in ("/usr/sbin", "/sbin") if more not in path)]
    )


@lab.command()
@click.option("--name", metavar="LAB", default=DEFAULT_NAME, show_default=True, help="The lab's name.")
@click.option("--racks", type=click.IntRange(1, 100), default=2, show_default=True, help="Racks.")
@click.option("--hosts", type=click.IntRange(1, 190), default=2, show_default=True, help="Hosts per rack.")
@click.option(
    "--workloads", type=click.IntRange(0, 250), default=3, show_default=True, help="Workloads per host."
)
@click.option(
    "--backend",
    type=click.Choice(["nftables", "iptables", "iptables-nft", "iptables-legacy"]),
    default="nftables",
    show_default=True,
    help="How agents program the packet filter.",
)
@click.option(
    "--topology",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Build what this YAML file describes, instead of --racks, --hosts and --workloads.",
)
@click.option(
    "--datastore",
    type=click.Choice(["sqlite", "etcd"]),
    default="sqlite",
    show_default=True,
    help="Where facts are kept: an embedded file, or three members of etcd in namespaces of their own.",
)
@click.option("--policy/--no-policy", default=True, show_default=True, help="Apply the example policy.")
@click.option(
    "--ports",
    default=SERVICES,
    show_default=True,
    help="Services that workloads answer on, and the probe tries.",
)
@click.option(
    "--probe/--no-probe", "probing", default=True, show_default=True, help="Probe it when it is up."
)
@click.pass_context
def up(
    ctx: click.Context,
    name: str,
    racks: int,
    hosts: int,
    workloads: int,
    backend: str,
    file: Path | None,
    datastore: str,
    policy: bool,
    ports: str,
    probing: bool,
) -> None:
    """Build a lab, apply the example policy, probe it, and leave it running.

    \b
    Examples:
      calicoctl lab up
      calicoctl lab up --name big --racks 5 --hosts 8 --workloads 10
      calicoctl lab up --backend iptables
      calicoctl lab up --datastore etcd
    """
    from calico.lab import intent, requirements, scenario

    services = _services(ports)
    topology = replace(
        _topology(ctx, file, racks, hosts, workloads), members=MEMBERS if datastore == "etcd" else 0
    )
    lacking = requirements.missing(backend, etcd=datastore == "etcd")
    if lacking:
        raise click.ClickException("a lab cannot be built here; missing:\n  " + "\n  ".join(lacking))
    directory = _directory(name)
    resources = intent.example_policy() if policy else []
    program = _program()
    with _explained(
        hint=f"what was built so far is still there; remove it with: {program} lab down --name {name}"
    ):
        state = scenario.up(
            directory, topology, backend, resources, [str(service) for service in services], _say
        )
    click.echo(
        f"lab {name!r} is up: {program} lab status, {program} lab exec {_example(topology)} -- ip route"
    )
    if probing:
        click.echo("")
        with _explained(hint=f"lab {name!r} stays up; probe it with: {program} lab probe --name {name}"):
            ctx.exit(_probe(directory, state, services, whole=False, output="table"))


@lab.command()
@name_option
@click.pass_context
def down(ctx: click.Context, name: str | None) -> None:
    """Remove a lab, whole or half-built, and everything that belongs to it.

    Removing what is not there is no error.

    \b
    Examples:
      calicoctl lab down
      calicoctl lab down --name big
    """
    _need_root()
    from calico.lab import scenario

    chosen = _choose(ctx, name)
    directory = _directory(chosen)
    with _explained(hint=f"remove what is left with: {_program()} lab down --name {chosen}"):
        if not directory.exists():
            removed = scenario.down(directory, _say)
        else:
            with directory.locked():
                removed = scenario.down(directory, _say)
    if not removed:
        click.echo(f"there is no lab {chosen!r}; nothing to do")


@lab.command(name="list")
def list_() -> None:
    """The labs on this machine.

    \b
    Example:
      calicoctl lab list
    """
    from calico.lab.state import LabDirectory, Unreadable, labs

    root = _root()
    rows = [["NAME", "STATE", "BACKEND", "RACKS", "HOSTS", "WORKLOADS", "CREATED"]]
    for name in labs(root):
        try:
            state = LabDirectory(root, name).read()
        except Unreadable as error:
            rows.append([name, "unreadable", *[""] * 5])
            click.echo(str(error), err=True)
            continue
        if state is not None:
            topology = state.topology
            rows.append(
                [
                    name,
                    "up" if state.phase == "up" else "half-built",
                    state.backend,
                    *map(str, (len(topology.racks), len(topology.hosts), len(topology.workloads))),
                    state.created,
                ]
            )
    click.echo(aligned(rows))


@lab.command()
@name_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def status(ctx: click.Context, name: str | None, output: str) -> None:
    """How a lab is: hosts, routers, BGP sessions, workloads. Exit status 1 if something is not in order.

    \b
    Examples:
      calicoctl lab status
      calicoctl lab status --name big -o json
    """
    _need_root()
    from calico.cli import lab_tables
    from calico.lab.overview import overview

    directory, state = _existing(ctx, name)
    seen = overview(directory, state)
    if output == "json":
        import msgspec

        click.echo(json.dumps(msgspec.to_builtins(seen), indent=2))
    else:
        for line in lab_tables.overview(seen):
            click.echo(line)
    if not seen.healthy:
        ctx.exit(1)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("node", metavar="NODE", shell_complete=_complete_node)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a command inside a workload, a host, a router, or the internet host.

    The names of the lab's nodes stand for their addresses. A host's programs find its agent and its store by
    their environment.

    \b
    Examples:
      calicoctl lab exec shop1-1 -- ping -c 3 bank2-2
      calicoctl lab exec shop1-1 -- traceroute internet
      calicoctl lab exec host2-1 -- calicoctl agent status
      calicoctl lab exec spine -- ip route
    """
    _need_root()
    from calico.lab import agents, namespaces
    from calico.lab.wiring import namespace

    directory, state = _existing(ctx, name)
    short = node.rpartition("/")[2]
    if short not in state.topology.nodes:
        import difflib

        near = difflib.get_close_matches(short, state.topology.nodes, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; 'calicoctl lab status' lists them"
        raise click.ClickException(f"there is no {node!r} in lab {state.name!r}{hint}")
    environment = dict(os.environ)
    host = next((host for host in state.topology.hosts if host.name == short), None)
    if host is not None:
        environment |= agents.environment(directory, state, host)
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("which command? calicoctl lab exec NODE -- COMMAND")
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        raise click.ClickException(f"{command[0]}: no such command on this machine")
    # The mount is the command's alone: ip-netns gives it a mount namespace of its own.
    named = ["sh", "-c", 'mount --bind "$0" /etc/hosts 2>/dev/null; exec "$@"', str(directory.hosts_file)]
    words = namespaces.command(namespace(state.name, short), [*named, *command])
    os.execvpe(words[0], words, environment)  # noqa: S606  replaced on purpose: signals and terminal go straight to it


@lab.command()
@name_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--all", "whole", is_flag=True, help="Try all pairs, also if there are more than 2,000.")
@click.option(
    "--ports",
    metavar="LIST",
    help="Services to try, as TCP/80,UDP/53; default: those that the lab answers on.",
)
@click.pass_context
def probe(ctx: click.Context, name: str | None, output: str, whole: bool, ports: str | None) -> None:
    """Open real connections between all ordered pairs, and compare with what policy says.

    Tries each service and ICMP over IPv4 and IPv6, between all workloads, bare-metal hosts and the internet.
    Of more than 2,000 pairs a sample is tried, the same one each time. Exit status 1 if anything differs.

    In JSON each row has source, destination, ipVersion, protocol, port, expected (allow, deny) and observed
    (allow, deny, or error where the network, not policy, is at fault).

    \b
    Examples:
      calicoctl lab probe
      calicoctl lab probe --all --ports TCP/80,UDP/53
      calicoctl lab probe -o json
    """
    _need_root()
    directory, state = _existing(ctx, name)
    services = _services(ports if ports is not None else ",".join(state.ports))
    with _explained():
        ctx.exit(_probe(directory, state, services, whole=whole, output=output))


def _probe(
    directory: LabDirectory, state: State, services: Sequence[object], *, whole: bool, output: str
) -> int:
    from calico.lab import flows, intent, matrix, members
    from calico.lab import probe as probing

    everybody = flows.ends(state.topology, state.addresses)
    chosen = flows.pairs(everybody, whole=whole)
    pairs = len(everybody) * (len(everybody) - 1)
    if len(chosen) < pairs:
        click.echo(f"a sample of {len(chosen)} of {pairs} pairs (--all tries every one)", err=True)
    tried = flows.flows(chosen, flows.parse_services(map(str, services)))
    rows = probing.probe(state, tried, intent.expectation(members.datastore(directory, state.topology)))
    different = any(row.differs for row in rows)
    if output == "json":
        click.echo(json.dumps([row.document() for row in rows]))
        for line in matrix.differences(rows) if different else ():
            click.echo(line, err=True)
        return int(different)
    for line in matrix.table(rows, lambda text: click.style(text, fg="red", reverse=True)):
        click.echo(line)
    click.echo("")
    for line in matrix.differences(rows):
        click.echo(click.style(line, fg="red"))
    click.echo(matrix.summary(rows))
    return int(different)


def _say(line: str) -> None:
    click.echo(line)


def _root() -> Path:
    return Paths.of(os.environ).labs


def _directory(name: str) -> LabDirectory:
    from calico.lab.state import LabDirectory, LabError

    try:
        return LabDirectory(_root(), name)
    except LabError as error:
        raise click.ClickException(str(error)) from error


def _program() -> str:
    """How this program was called, for a person to call it so again."""
    called = Path(sys.argv[0])
    if called.name not in {"calicoctl", "calico"}:
        called = Path("calicoctl")
    found = shutil.which(called.name)
    if found and Path(found).resolve() == called.resolve():
        called = Path(called.name)
    return f"sudo {called}" if "SUDO_USER" in os.environ else str(called)


def _choose(ctx: click.Context, name: str | None) -> str:
    """The lab that is meant: as told here or before the command, the only one, or the one of the default name."""
    from calico.lab.state import labs

    outer = ctx.find_object(Choice)
    told = name or (outer.lab if outer else None)
    if told:
        return told
    running = labs(_root())
    if DEFAULT_NAME in running or not running:
        return DEFAULT_NAME
    if len(running) > 1:
        raise click.UsageError(f"several labs are there ({', '.join(running)}): say which with --name")
    return running[0]


def _existing(ctx: click.Context, name: str | None) -> tuple[LabDirectory, State]:
    from calico.lab.state import LabError, labs

    chosen = _choose(ctx, name)
    directory = _directory(chosen)
    try:
        state = directory.read()
    except LabError as error:
        raise click.ClickException(str(error)) from error
    if state is None:
        there = ", ".join(labs(_root()))
        hint = f"there are: {there}" if there else "build one with: calicoctl lab up"
        raise click.ClickException(f"there is no lab {chosen!r}; {hint}")
    return directory, state


def _topology(ctx: click.Context, file: Path | None, racks: int, hosts: int, workloads: int) -> Topology:
    from calico.lab.description import TopologyError, check, read
    from calico.lab.topology import regular

    if file is None:
        topology = regular(racks, hosts, workloads)
        check(topology)
        return topology
    counted = [
        option
        for option in ("racks", "hosts", "workloads")
        if ctx.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
    ]
    if counted:
        raise click.UsageError(
            f"--topology says it all; leave out {', '.join(f'--{name}' for name in counted)}"
        )
    try:
        return read(file.read_text(encoding="utf-8"))
    except (TopologyError, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: {error}") from error


def _services(text: str) -> tuple[object, ...]:
    from calico.lab.flows import parse_services

    try:
        return parse_services(part for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.UsageError(f"--ports: {error}") from error


def _example(topology: Topology) -> str:
    return topology.workloads[0].name if topology.workloads else topology.hosts[0].name


def _need_root() -> None:
    if os.geteuid() != 0:
        raise click.ClickException("a lab is root's: run the command with sudo")


@contextmanager
def _explained(hint: str = "") -> Iterator[None]:
    """Turn what may go wrong into one sentence, and an interrupted build into a hint."""
    import subprocess

    from calico.datastore.api import StoreError
    from calico.ipam.errors import IPAMError
    from calico.lab.namespaces import NamespaceError
    from calico.lab.state import LabError, NotBegun

    try:
        yield
    except BrokenPipeError:  # whoever reads has seen enough: click knows what to do
        raise
    except (LabError, NamespaceError, StoreError, IPAMError, OSError, subprocess.SubprocessError) as error:
        if hint and not isinstance(error, NotBegun):
            click.echo(hint, err=True)
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        if hint:
            click.echo(f"\ninterrupted; {hint}", err=True)
        raise
