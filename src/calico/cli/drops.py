"""``calicoctl explain --drops``: follow the packets that this host's packet filter drops, each with the reason in words.

In:   drops as the kernel traces them (``programming.trace``), whose doing they are (``analysis.blame``), names and
      rules from the store.
Out:  one line for each dropped flow, when it is first dropped, and from time to time how often it was dropped again.
Next: ``cli.explain`` is the command that gets the options.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from calico.cli.drop_names import Directory
from calico.paths import Paths

if TYPE_CHECKING:
    from calico.analysis.blame import Blame
    from calico.cli.stores import Location
    from calico.programming.trace import Rules
    from calico.programming.tracejoin import Dropped, Packet

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT_RATE: Final = 500
REPEAT: Final = 10.0
"""Seconds after which a flow that goes on being dropped is told of again."""
_MOST_FLOWS: Final = 10_000
_TICK: Final = 0.5


class Wish(NamedTuple):
    """What is to be followed, and for how long. ``flows``: how many; ``duration``: seconds."""

    interface: str | None = None
    endpoint: str | None = None
    flows: int | None = None
    duration: float | None = None
    rate: int = DEFAULT_RATE


class Report(NamedTuple):
    """One line: a flow that is dropped, how often: ``fresh`` since the last line about it."""

    at: float
    dropped: Dropped
    blame: Blame
    fresh: int
    total: int


class _Flow:
    """A flow that was dropped."""

    def __init__(self, dropped: Dropped, blame: Blame, now: float) -> None:
        self.dropped, self.blame = dropped, blame
        self.total, self.told, self.told_at, self.last = 0, 0, now, now

    def report(self, now: float) -> Report:
        """What happened since it was last told of."""
        result = Report(self.last, self.dropped, self.blame, self.total - self.told, self.total)
        self.told, self.told_at = self.total, now
        return result


class Flows:
    """Counts drops by flow and reason, so that a flow is told of at once and then only every ``REPEAT`` seconds.

    Attempts that differ in the source port alone are one flow: clients take another port each time.
    """

    def __init__(self) -> None:
        self._flows: dict[tuple[object, ...], _Flow] = {}
        self.seen = 0

    def add(self, dropped: Dropped, blame: Blame, now: float) -> Report | None:
        """Take a drop in; what is to be told of it now, if anything."""
        key = (dropped.packet._replace(source_port=None), dropped.came_in, dropped.goes_out, blame.sentence)
        flow = self._flows.get(key)
        if flow is None:
            self.seen += 1
            flow = self._flows[key] = _Flow(dropped, blame, now)
            if len(self._flows) > _MOST_FLOWS:
                del self._flows[next(iter(self._flows))]
        flow.total += 1
        flow.dropped, flow.last = dropped, now
        return flow.report(now) if flow.total == 1 else None

    def due(self, now: float, *, final: bool = False) -> Iterator[Report]:
        """What is to be told of flows that were dropped again, because it is time or, if ``final``, the end."""
        for flow in self._flows.values():
            if flow.total > flow.told and (final or now >= flow.told_at + REPEAT):
                yield flow.report(now)


def or_drops(function: Decorated) -> Decorated:
    """Add ``--drops`` and its options to a command that else explains one flow, with ``--from`` and ``--to``."""

    @wraps(function)
    def command(location: Location, **given: Any) -> Any:
        drops, wish = given.pop("drops"), Wish(*(given.pop(name) for name in Wish._fields))
        if drops:
            if given["source"] or given["destination"] or given["files"]:
                raise click.UsageError(
                    "--drops follows what this host drops now; --from, --to and -f ask about one flow"
                )
            return follow(location, wish, as_json=given["output"] == "json")
        if wish != Wish():
            raise click.UsageError("--interface, --endpoint, --count, --duration and --rate go with --drops")
        if given["source"] is None or given["destination"] is None:
            raise click.UsageError(
                "name the flow with --from and --to, or follow dropped packets with --drops"
            )
        return function(location, **given)

    for option in (
        click.option(
            "--rate",
            type=click.IntRange(1, 100_000),
            default=DEFAULT_RATE,
            show_default=True,
            help="With --drops: follow at most so many new flows a second.",
        ),
        click.option(
            "--duration",
            metavar="SECONDS",
            type=click.FloatRange(0, min_open=True),
            help="With --drops: end after so many seconds.",
        ),
        click.option(
            "--count",
            "flows",
            metavar="N",
            type=click.IntRange(1),
            help="With --drops: end after N dropped flows.",
        ),
        click.option(
            "--endpoint",
            metavar="[NAMESPACE/]NAME",
            help="With --drops: only what comes from or goes to this endpoint of this host.",
        ),
        click.option(
            "--interface", metavar="NAME", help="With --drops: only what comes in or goes out by it."
        ),
        click.option("--drops", is_flag=True, help="Follow the packets that this host drops right now."),
    ):
        command = option(command)
    return command  # type: ignore[return-value]  # the same command, with some options more


def follow(location: Location, wish: Wish, *, as_json: bool) -> None:
    """Print dropped flows until the wish is fulfilled or the user ends it; an error of the command if it cannot be done."""
    from calico.programming.backend import ProgrammingError
    from calico.programming.trace import Rules, Tracer

    if os.geteuid() != 0:
        raise click.ClickException(
            "dropped packets are the kernel's: run this as root, on the host that drops them"
        )
    if wish.interface is not None and wish.endpoint is not None:
        raise click.UsageError("--interface and --endpoint say the same thing twice; use one of them")
    directory = Directory(location, _agent_status())
    interface = wish.interface
    if wish.endpoint is not None:
        interface = directory.interface_of(wish.endpoint)
    if interface is not None and not Path("/sys/class/net", interface).exists():
        click.echo(f"There is no interface {interface} here now; waiting for it.", err=True)
    try:
        with Tracer(interface=interface, rate=wish.rate) as tracer, _ended_by_signals():
            if sys.stderr.isatty():
                click.echo("Following dropped packets; Ctrl-C ends.", err=True)
            _follow(tracer.read, _Printer(directory, Rules(), as_json=as_json), wish, interface)
        if tracer.lost:
            click.echo(
                "The kernel told of more packets than could be read, so some drops are not shown;"
                " --interface or a smaller --rate narrows it.",
                err=True,
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except ProgrammingError as error:
        raise click.ClickException(str(error)) from error


def _follow(
    read: Callable[[float], Iterator[Dropped]], printer: _Printer, wish: Wish, interface: str | None
) -> None:
    flows = Flows()
    end = None if wish.duration is None else time.monotonic() + wish.duration
    try:
        while True:
            left = _TICK if end is None else min(_TICK, end - time.monotonic())
            if left <= 0:
                break
            for dropped in read(left):
                if interface is None or printer.concerns(dropped, interface):
                    report = flows.add(dropped, printer.blame(dropped), time.time())
                    if report is not None:
                        printer.print(report)
                if flows.seen == wish.flows:
                    return
            for report in flows.due(time.time()):
                printer.print(report)
    except KeyboardInterrupt:
        pass
    finally:
        for report in flows.due(time.time(), final=True):
            printer.print(report)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, with the last counts."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _agent_status() -> dict[str, Any]:
    """The report of this host's agent; empty if none answers. An error where its rules cannot be followed."""
    from calico.agent.status import AgentUnreachableError, ask

    try:
        status = ask(Paths.of(os.environ).agent_socket, {"command": "status"})
    except AgentUnreachableError:
        status = {}
    if status.get("backend") == "iptables-legacy":
        raise click.ClickException(
            "this host's policy is programmed with iptables-legacy, whose drops the kernel does not tell of;"
            " use the back end nftables or iptables-nft, or look at the counters of: iptables-legacy -vnL"
        )
    if _has_legacy_rules():
        click.echo(
            "This host has rules of iptables-legacy too; what these drop is not seen (iptables-legacy -vnL).",
            err=True,
        )
    return status


def _has_legacy_rules() -> bool:
    """Whether this network namespace has tables of iptables-legacy."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        try:
            if Path("/proc/thread-self/net", name).read_text(encoding="ascii").strip():
                return True
        except OSError:
            continue
    return False


class _Printer:
    """Puts drops into words."""

    def __init__(self, directory: Directory, rules: Rules, *, as_json: bool) -> None:
        self._directory = directory
        self._rules = rules
        self._as_json = as_json

    def concerns(self, dropped: Dropped, interface: str) -> bool:
        """Whether the packet came in or was to go out by ``interface``."""
        name = self._directory.interface_name
        return interface in {name(dropped.came_in), name(dropped.goes_out)} or not dropped.goes_out

    def blame(self, dropped: Dropped) -> Blame:
        """Whose doing a drop is, with what the rule says, if it is in the store."""
        from calico.analysis import blame

        family, table, chain, handle = dropped.place
        comments = self._rules.comments(dropped.place)
        if not blame.is_ours(family, table, chain, comments):
            text = None if handle is None else self._rules.text(dropped.place)
            return blame.foreign(family, table, chain, text, comments)
        found = blame.blame(chain, comments, dropped.path, self._directory.known)
        if found.merged is not None:
            exact = self._directory.exact(found.merged, dropped.packet, found.origin)
            found = found if exact is None else blame.of_rule(exact)
        said = self._directory.rule_words(found.origin) if found.by == "rule" and found.origin else None
        return found._replace(sentence=f"{found.sentence}: {said}") if said else found

    def print(self, report: Report) -> None:
        """One line, at once."""
        click.echo(json.dumps(self._object(report)) if self._as_json else self._line(report))

    def _line(self, report: Report) -> str:
        dropped = report.dropped
        when = datetime.fromtimestamp(report.at, UTC).astimezone().strftime("%H:%M:%S")
        again = f" ({report.fresh} more, {report.total} in all)" if report.total > 1 else ""
        return f"{when} {self._way(dropped)}: {packet_words(dropped.packet)}: {report.blame.sentence}{again}"

    def _way(self, dropped: Dropped) -> str:
        came = self._interface_words(dropped.came_in) if dropped.came_in else "this host"
        if dropped.goes_out:
            return f"{came} to {self._interface_words(dropped.goes_out)}"
        family, table, _, _ = dropped.place
        arrived = self._rules.hook(family, table, dropped.path[0]) == "input"
        return f"{came} to this host" if arrived else f"from {came}"

    def _interface_words(self, number: int) -> str:
        name = self._directory.interface_name(number)
        endpoint = self._directory.endpoint_at(name)
        return f"{name} ({endpoint})" if endpoint else name

    def _object(self, report: Report) -> dict[str, Any]:
        dropped, packet, blame = report.dropped, report.dropped.packet, report.blame
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(report.at, UTC).isoformat(timespec="milliseconds"),
            "in": self._interface_object(dropped.came_in),
            "out": self._interface_object(dropped.goes_out),
            "protocol": protocol_name(packet.protocol),
            "source": packet.source.address,
            "sourcePort": packet.source_port,
            "destination": packet.destination.address,
            "destinationPort": packet.destination_port,
            "icmpType": packet.icmp_type,
            "icmpCode": packet.icmp_code,
            "by": blame.by,
            "reason": blame.sentence,
            "place": dropped.place._asdict(),
            "count": report.fresh,
            "total": report.total,
        }
        if blame.origin is not None:
            origin = blame.origin
            fields["policy"] = {
                "kind": origin.kind,
                "tier": origin.tier,
                "namespace": origin.namespace,
                "name": origin.name,
                "direction": origin.direction,
                "rule": origin.rule,
            }
        return {name: value for name, value in fields.items() if value is not None}

    def _interface_object(self, number: int) -> dict[str, str] | None:
        if not number:
            return None
        name = self._directory.interface_name(number)
        endpoint = self._directory.endpoint_at(name)
        return {"interface": name, **({"endpoint": endpoint} if endpoint else {})}


def packet_words(packet: Packet) -> str:
    """``TCP 10.65.0.2:40112 -> 10.65.0.3:80``, ``ICMP type 8 code 0 10.65.0.2 -> 10.65.0.3``."""
    words = [protocol_name(packet.protocol)]
    if packet.icmp_type is not None:
        words.append(f"type {packet.icmp_type} code {packet.icmp_code}")
    ends = (
        _end(packet.source.address, packet.source_port),
        _end(packet.destination.address, packet.destination_port),
    )
    return " ".join([*words, " -> ".join(ends)])


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def protocol_name(number: int) -> str:
    """``TCP``, or ``protocol 89`` where there is no name."""
    from calico.model.numbers import PROTOCOLS

    return next((name for name, known in PROTOCOLS.items() if known == number), f"protocol {number}")
