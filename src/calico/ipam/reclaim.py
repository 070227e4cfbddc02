"""What of address management was left behind, and may be taken back: two-phase, in doubt not at all.

In:   evidence, one picture of the store after the other; what was suspected at the last one; the time.
Out:  ``Deed``s that are due, each with its reason; what is suspected now.
Next: ``ipam.deeds`` does them, when ``ipam.collector`` says so.

A deed is a value that says what it is about down to revisions and sequence numbers. It is due when the same deed was
called for by two pictures in a row, and by every one since it was first, for as long as it has to wait. So whatever
moves meanwhile begins anew, and an assignment that is under way lets its handle move. Evidence in doubt forgets all
suspicions, and a new collector has none.

Never taken: what anybody uses; what was given to a workload that still exists, and may have no address yet; what nobody
here can judge: addresses of virtual machines, of services, those that hosts with Windows keep, and those of which
neither a pod nor a tunnel is noted. The addresses of one handle go together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from calico.ipam import block as blocks
from calico.ipam.audit import Allocation, audit
from calico.ipam.block import Release
from calico.ipam.evidence import Evidence
from calico.ipam.ownership import host_of, keeper, noted
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.ipam import IPAMBlock
from calico.model.keys import Key

GONE_GRACE: Final = 60.0
"""Seconds that what was a host's waits once that is gone, at most: a host may be deleted and made again in one go."""

TUNNELS: Final = frozenset(
    {
        "ipipTunnelAddress",
        "vxlanTunnelAddress",
        "vxlanV6TunnelAddress",
        "wireguardTunnelAddress",
        "wireguardV6TunnelAddress",
    }
)
"""What is noted with an address that a host has for its own end of a tunnel."""


# --- deeds -------------------------------------------------------------------------------------------


class Free(NamedTuple):
    """Release all addresses of a handle."""

    handle: str
    revision: int | None
    """The handle's record; None if it has none."""
    releases: tuple[Release, ...]
    workloads: tuple[str, ...] = ()
    """Whose they were, as ``ns/name``."""
    hosts: tuple[str, ...] = ()
    """Whose they were, or where those were, of hosts that are gone."""


class Thaw(NamedTuple):
    """Let a block have back what has cooled down."""

    block: Cidr
    sequence_number: int


class Settle(NamedTuple):
    """Bring a claim that was cut off to an end: it has its block, or it goes."""

    claim: Key
    revision: int


class GiveUp(NamedTuple):
    """Give up a block that a host which is gone has, with or without a claim."""

    claim: Key


class Drop(NamedTuple):
    """Give up an empty block that its owner can spare, or that is nobody's."""

    block: Cidr
    owner: str
    """Empty for nobody."""
    sequence_number: int


class Recount(NamedTuple):
    """Let a handle count what the blocks gave it; one that has nothing goes."""

    handle: str
    revision: int | None
    """The handle's record; None if it has none."""
    counts: tuple[tuple[Cidr, int], ...]
    """What the blocks gave it."""
    excessive: tuple[Cidr, ...]
    """Where it counts more than that."""


Repair: TypeAlias = Thaw | Settle | GiveUp | Drop | Recount
"""What takes no address from anybody."""

Deed: TypeAlias = Free | Repair

ORDER: Final = (Free, Thaw, Settle, GiveUp, Drop, Recount)
"""In which order deeds are done: what is freed may leave a block empty."""


class Suspicion(NamedTuple):
    """Why a deed is called for, and how many seconds it has to be."""

    reason: str
    wait: float


class Due(NamedTuple):
    """A deed, and why it is done."""

    deed: Deed
    reason: str


Memory: TypeAlias = Mapping[Deed, float]
"""Since when each deed has been called for by every picture."""


def observe(
    evidence: Evidence, memory: Memory, now: float, today: datetime
) -> tuple[tuple[Due, ...], Memory]:
    """What is due, in the order in which to do it; and the memory for the next time.

    ``now`` is in seconds of a clock that only grows, ``today`` the time of day with its zone, for what cools down.
    """
    found = suspicions(evidence, today)
    due = [
        Due(deed, suspicion.reason)
        for deed, suspicion in found.items()
        if deed in memory and now - memory[deed] >= suspicion.wait
    ]
    due.sort(key=lambda each: ORDER.index(type(each.deed)))
    return tuple(due), {deed: memory.get(deed, now) for deed in found}


def is_contradicted(deed: Deed, newer: Evidence) -> bool:
    """Whether what was written since a deed was judged, all of which is ``newer``, leaves it in doubt."""
    if newer.doubt or newer.grace <= 0:
        return True
    match deed:
        case Free(releases=releases, workloads=workloads, hosts=hosts):
            addresses = {each.address.address for each in releases}
            return bool(
                addresses & (newer.used | newer.picture.uses.keys())
                or newer.workloads.keys() & workloads
                or newer.hosts.intersection(hosts)
            )
        case GiveUp(claim=claim):
            return host_of(claim.namespace) in newer.hosts
        case _:
            return False


def suspicions(evidence: Evidence, today: datetime) -> dict[Deed, Suspicion]:
    """All that one picture by itself calls for; nothing if it is in doubt, or nothing is to be collected."""
    if evidence.doubt or evidence.grace <= 0:
        return {}
    handles: dict[str, list[Allocation]] = {}
    for each in audit(evidence.picture).allocations:
        handles.setdefault(each.handle, []).append(each)
    found: dict[Deed, Suspicion] = {}
    unjudged: set[Cidr] = set()
    for handle, allocations in handles.items():
        verdicts = [_verdict(evidence, each) for each in allocations]
        unjudged |= {
            each.block for each, verdict in zip(allocations, verdicts, strict=True) if not verdict.known
        }
        if handle and all(verdict.dead for verdict in verdicts):
            deed, suspicion = _leak(evidence, handle, allocations, verdicts)
            found[deed] = suspicion
    for deeds in (
        _thawing(evidence, today),
        _claims(evidence, unjudged),
        _spare(evidence),
        _counts(evidence, handles),
    ):
        found.update(deeds)
    return found


# --- addresses ---------------------------------------------------------------------------------------


class _Verdict(NamedTuple):
    """What is known of an allocation's owner."""

    known: bool
    """Whether anybody here can judge."""
    dead: bool = False
    reason: str = ""
    workload: str = ""
    """Whose it was; empty if it was a host's."""
    host: str = ""
    """The host, if that is gone, too."""


_UNKNOWN: Final = _Verdict(known=False)
_ALIVE: Final = _Verdict(known=True)


def _verdict(evidence: Evidence, allocation: Allocation) -> _Verdict:
    attribute = allocation.attribute
    values = noted(attribute)
    if not allocation.handle or keeper(attribute):  # those that Windows keeps have no handle here
        return _UNKNOWN
    if allocation.owners or allocation.address in evidence.used:
        return _ALIVE
    host = values.get("node", "")
    gone = evidence.is_gone(host)
    if (kind := values.get("type", "")) in TUNNELS:
        if not host:
            return _UNKNOWN
        reason = f"it was node {host}'s {kind}, and that node is gone"
        return _Verdict(known=True, dead=True, reason=reason, host=host) if gone else _ALIVE
    namespace, pod = values.get("namespace"), values.get("pod")
    if kind or values.get("service") or not namespace or not pod:
        return _UNKNOWN
    name = f"{namespace}/{pod}"
    containers = evidence.workloads.get(name)
    if containers is not None and _may_be_of(allocation.handle, containers, name):
        return _ALIVE
    reason = (
        f"it was given to {name}, which is gone" if containers is None else f"{name} exists anew, without it"
    )
    if gone:
        reason += f", as is node {host}"
    return _Verdict(known=True, dead=True, reason=reason, workload=name, host=host if gone else "")


def _may_be_of(handle: str, containers: Iterable[str], name: str) -> bool:
    """Whether a handle may be that of a workload which runs in one of ``containers``: "<network>.<container>"."""
    return handle == name.replace("/", ".") or any(
        not container or handle == container or handle.endswith(f".{container}") for container in containers
    )


def _leak(
    evidence: Evidence, handle: str, allocations: list[Allocation], verdicts: list[_Verdict]
) -> tuple[Free, Suspicion]:
    record = evidence.picture.handles.get(handle)
    releases = tuple(Release(parse_cidr(each.address), handle, each.sequence_number) for each in allocations)
    workloads = sorted({verdict.workload for verdict in verdicts} - {""})
    hosts = sorted({verdict.host for verdict in verdicts} - {""})
    wait = min(evidence.grace, GONE_GRACE) if all(verdict.host for verdict in verdicts) else evidence.grace
    deed = Free(handle, None if record is None else record.revision, releases, tuple(workloads), tuple(hosts))
    return deed, Suspicion("; ".join(sorted({verdict.reason for verdict in verdicts})), wait)


def _thawing(evidence: Evidence, today: datetime) -> Iterator[tuple[Thaw, Suspicion]]:
    cooling = evidence.picture.configuration.ip_cooldown_seconds or 0
    before = today - timedelta(seconds=cooling)
    for cidr, block in evidence.picture.blocks.items():
        if any(attribute.released_at for attribute in block.attributes):
            thawed = blocks.thaw(block, before)[1]
            if thawed:
                yield (
                    Thaw(cidr, block.sequence_number),
                    Suspicion(f"{len(thawed)} of its addresses have cooled down", 0),
                )


# --- blocks ------------------------------------------------------------------------------------------


def _claims(evidence: Evidence, unjudged: set[Cidr]) -> Iterator[tuple[Deed, Suspicion]]:
    """Claims that were cut off, and all that hosts had which are gone, unless an address is there that nobody can judge."""
    picture = evidence.picture
    had = {
        Key("BlockAffinity", str(cidr), block.affinity)
        for cidr, block in picture.blocks.items()
        if block.affinity
    }
    for key in sorted({*evidence.claims, *had}):
        cidr = parse_cidr(key.name)
        host = host_of(key.namespace)
        if not host:
            continue  # whoever gives balancers their addresses sees to that
        if evidence.is_gone(host):
            if cidr not in unjudged:
                yield GiveUp(key), Suspicion(f"node {host} is gone", min(evidence.grace, GONE_GRACE))
            continue
        revision = evidence.claims.get(key)
        if revision is None:
            continue
        state = picture.claims[cidr][key.namespace]
        owner = _owner(picture.blocks.get(cidr))
        if state != "confirmed":
            yield (
                Settle(key, revision),
                Suspicion(f"it is {state} and nobody goes on with it", evidence.grace),
            )
        elif owner != key.namespace:
            whose = "there is no such block" if owner is None else f"the block is {owner or 'nobody'}'s"
            yield Settle(key, revision), Suspicion(whose, evidence.grace)


def _owner(block: IPAMBlock | None) -> str | None:
    return None if block is None else block.affinity or ""


def _spare(evidence: Evidence) -> Iterator[tuple[Drop, Suspicion]]:
    """Empty blocks: nobody's, and those of owners who have another of the family."""
    owned: dict[tuple[str, int], list[Cidr]] = {}
    empty: set[Cidr] = set()
    for cidr, block in evidence.picture.blocks.items():
        owned.setdefault((block.affinity or "", cidr.family), []).append(cidr)
        if blocks.is_empty(block):
            empty.add(cidr)
    for (owner, _), held in owned.items():
        if owner and (not host_of(owner) or evidence.is_gone(host_of(owner))):
            continue  # it is a balancer's affair, or all of it goes
        spare = sorted(empty.intersection(held))
        if owner and len(spare) == len(held):
            spare = spare[1:]
        for cidr in spare:
            number = evidence.picture.blocks[cidr].sequence_number
            reason = f"it is empty, and {owner} has another" if owner else "it is empty and nobody's"
            yield Drop(cidr, owner, number), Suspicion(reason, evidence.grace)


# --- handles -----------------------------------------------------------------------------------------


def _counts(
    evidence: Evidence, handles: Mapping[str, list[Allocation]]
) -> Iterator[tuple[Recount, Suspicion]]:
    """Handles that count otherwise than the blocks do."""
    records = evidence.picture.handles
    for handle in sorted(records.keys() | handles.keys()):
        if not handle or handle.lower() == blocks.WINDOWS:
            continue
        held: dict[Cidr, int] = {}
        for each in handles.get(handle, ()):
            held[each.block] = held.get(each.block, 0) + 1
        record = records.get(handle)
        said = _canonical(record.counts) if record is not None else {}
        if record is not None and said == held and held:
            continue
        if said is None:
            continue  # it counts in what is no block: somebody has to look at it
        excessive = tuple(sorted(cidr for cidr, count in said.items() if count > held.get(cidr, 0)))
        deed = Recount(
            handle, None if record is None else record.revision, tuple(sorted(held.items())), excessive
        )
        reason = f"it counts {sum(said.values())}, and the blocks gave it {sum(held.values())}"
        yield deed, Suspicion(reason, evidence.grace)


def _canonical(counts: Mapping[str, int]) -> dict[Cidr, int] | None:
    """What a handle counts, by blocks; None if one is no block."""
    try:
        return {parse_cidr(text): count for text, count in counts.items()}
    except AddressError:
        return None
