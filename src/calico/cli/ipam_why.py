"""``calicoctl ipam why``: why an address is where it is, and when it comes back.

In:   ``ipam.account``; with ``--ping`` an echo from this host.
Out:  a sentence and what stands behind it, line by line; or JSON and YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from calico.cli.ipam_source import EPILOG, address_of, emit, output_option, picture_of, source_option
from calico.cli.stores import Location, store_options_unless_files

if TYPE_CHECKING:
    from calico.cli.ipam_ping import Answer
    from calico.ipam.account import Account

LONGEST_WAIT = 30.0
"""Seconds."""


@click.command(epilog=EPILOG)
@click.argument("address")
@click.option(
    "--ping", is_flag=True, help="Ask the address whether it answers, by an ICMP echo from this host."
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0.1, max=LONGEST_WAIT),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer is waited for.",
)
@output_option
@source_option
@store_options_unless_files
def why(
    location: Location | None, files: str | None, output: str, address: str, ping: bool, wait: float
) -> None:
    """Say whose ADDRESS is, since when and by which request, whether the owner lives; or when it will be given.

    \b
    Examples:
      calicoctl ipam why 10.65.0.7
      calicoctl ipam why 10.65.0.7 --ping
    """
    from datetime import UTC, datetime

    from calico.ipam.account import account

    wanted = address_of(address)
    found = account(picture_of(location, files), wanted, datetime.now(UTC))
    answer = None
    if ping:
        from calico.cli.ipam_ping import echo

        answer = echo(wanted, wait)
    if output in {"json", "yaml"}:
        emit(as_data(found, answer), output)
        return
    click.echo("\n".join(_lines(found, answer)))


def as_data(found: Account, answer: Answer | None = None) -> dict[str, Any]:
    """The account as plain values; what does not apply is left out, but never the address and its state."""
    life, queue = found.life, found.queue
    pool = found.pool
    parts: dict[str, Any] = {
        "pool": None if pool is None else {"name": pool.name, "cidr": pool.cidr, "disabled": pool.disabled},
        "block": found.block,
        "affinity": found.affinity,
        "node": found.node,
        "borrowedFrom": found.borrowed_from,
        "handle": found.handle,
        "attributes": dict(found.attributes),
        "alternateOwnerAttributes": dict(found.alternate),
        "since": found.since,
        "sequenceNumber": found.sequence_number,
        "users": [*found.users],
        "alive": None if life is None else {"alive": life.alive, "reason": life.reason},
        "reservedBy": [*found.reserved_by],
        "releasedAt": found.released_at,
        "coolUntil": found.cool_until,
        "next": None if queue is None else {"before": queue.before, "free": queue.free},
        "problems": [*found.problems],
        "answers": None if answer is None else {"answers": answer.answers, "detail": answer.detail},
    }
    given = {name: value for name, value in parts.items() if value not in (None, "", [], {})}
    return {"address": found.address, "state": found.state, **given}


# --- words -------------------------------------------------------------------------------------------


def _lines(found: Account, answer: Answer | None) -> Iterator[str]:
    from calico.model.errors import printable

    yield printable(f"{found.address} {_verdict(found)}")
    rows = [*_facts(found)]
    if answer is not None:
        said = {True: "yes", False: "no", None: "unknown"}[answer.answers]
        rows.append(("answers", f"{said}: {answer.detail}"))
    rows += [("problem", problem) for problem in found.problems]
    yield from (printable(f"  {name:<9} {value}") for name, value in rows)


def _verdict(found: Account) -> str:
    """What the address is, as the rest of a sentence."""
    match found.state:
        case "allocated":
            alive = found.life.alive if found.life is not None else None
            return f"is given to {_owner(found)}" + (
                ", who does not use it: leaked, unless it was given just now" if alive is False else ""
            )
        case "cooling":
            return "was released, and cools down: it is nobody's, and not given again yet"
        case "reserved":
            return f"is kept free by IPReservation {', '.join(found.reserved_by)}: nobody gets it unasked"
        case "free":
            return "is free"
        case "unclaimed":
            return "is free: no host has claimed a block with it yet"
        case "lost":
            return "is lost: its block neither gave it to anybody nor ever will"
        case "outside":
            return "is in no pool, so IPAM does not give it"


def _owner(found: Account) -> str:
    values = found.attributes
    if values.get("vmi-name"):
        return f"virtual machine {values.get('namespace', 'default')}/{values['vmi-name']}"
    if values.get("pod"):
        return f"{values.get('namespace', 'default')}/{values['pod']}"
    if values.get("service"):
        return f"service {values['service']}"
    if values.get("type"):
        return f"node {found.node} as {values['type']}"
    return f"handle {found.handle}" if found.handle else "somebody who left no name"


def _facts(found: Account) -> Iterator[tuple[str, str]]:
    life, queue, pool = found.life, found.queue, found.pool
    if life is not None:
        yield "alive", f"{ {True: 'yes', False: 'no', None: 'unknown'}[life.alive] }: {life.reason}".lstrip()
    if found.handle:
        yield "handle", found.handle
    if found.node:
        yield "node", found.node
    if found.since or found.attributes:
        request = f"by the request with {_pairs(found.attributes)}" if found.attributes else ""
        yield "given", ", ".join(filter(None, [found.since or "at a time that is not noted", request]))
    if found.alternate:
        yield "moves to", _pairs(found.alternate)
    if found.sequence_number is not None:
        yield "sequence", str(found.sequence_number)
    if found.released_at:
        again = f"given again from {found.cool_until}" if found.cool_until else "may be given again now"
        yield "released", f"{found.released_at}; {again}"
    if queue is not None:
        turn = "the next that its block gives" if not queue.before else f"given after {queue.before} others"
        yield "next", f"{turn}, of {queue.free} that are free"
    if found.block:
        yield "block", f"{found.block}, {_whose(found.affinity)}"
    if found.borrowed_from:
        yield "borrowed", f"by {found.node} from {found.borrowed_from}"
    if pool is not None:
        yield "pool", f"{pool.name} ({pool.cidr}){', disabled: it gives no new addresses' * pool.disabled}"
    elif found.block:
        yield "pool", "none: the pool that the block came from is gone, and it gives no new addresses"
    if found.reserved_by and found.state != "reserved":
        yield "reserved", f"by IPReservation {', '.join(found.reserved_by)}: when it is free it stays so"


def _whose(affinity: str) -> str:
    kind, _, name = affinity.partition(":")
    if kind == "host":
        return f"which is host {name}'s"
    return f"which is {affinity}'s" if affinity else "which is nobody's"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
