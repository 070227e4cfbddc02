"""An explanation as people and programs read it.

In:   ``analysis.explain.Explanation``, where resources stand in files, and what the kernel's side is.
Out:  lines of text; plain data for JSON.
Next: ``cli.explain`` and ``cli.policy_test`` print them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from calico.analysis.between import Passage
from calico.analysis.explain import Between, Explanation, Side, Staged
from calico.analysis.trail import Remark
from calico.analysis.words import packet_words
from calico.desired import PolicyId
from calico.model.errors import Path, printable
from calico.model.keys import Key

Place = Callable[[Key, Path], str]
"""Where a part of a resource stands, "" where that is not known."""


class Proof(NamedTuple):
    """What the kernel of one end's host holds, compared with what it should: ``words`` say more."""

    state: Literal["proven", "drifted", "unknown"]
    words: str
    differences: tuple[str, ...] = ()


Proofs = Mapping[str, Proof]
"""By "source" and "destination"; an end without an entry is not spoken of."""

_ROLES: tuple[Literal["source", "destination"], ...] = ("source", "destination")


def nowhere(key: Key, path: Path) -> str:
    """The place of anything, where nothing is known of places."""
    del key, path
    return ""


# --- text --------------------------------------------------------------------------------------------


def lines(explanation: Explanation, place: Place, proofs: Proofs, *, verbose: bool = False) -> Iterator[str]:
    """The verdict, and then everything that led to it."""
    yield headline(explanation)
    yield ""
    yield from side_lines("source", explanation.source, place, proofs.get("source"), verbose=verbose)
    yield ""
    yield "way"
    for hop in explanation.hops:
        yield _clean(f"  {f'{hop.host}: ' if hop.host else ''}{hop.words}")
    for between in explanation.between:
        yield ""
        yield from between_lines(between, place, verbose=verbose)
    yield ""
    yield from side_lines(
        "destination", explanation.destination, place, proofs.get("destination"), verbose=verbose
    )
    if explanation.parts:
        yield ""
        yield "parts"
        for part in explanation.parts:
            yield f"  from {part.source} to {part.destination}: {'allowed' if part.allowed else 'denied'}"
    if explanation.staged is not None:
        yield ""
        yield from _staged_lines(explanation, explanation.staged, place, verbose=verbose)


def headline(explanation: Explanation) -> str:
    """The verdict in one line."""
    packet = explanation.flow.packet
    ends = f"{_end(explanation.source)} -> {_end(explanation.destination)}"
    verdict = "allowed" if explanation.allowed else "denied"
    if len({part.allowed for part in explanation.parts}) > 1:
        verdict = "partly allowed"
    why = ""
    for role, side in (("source", explanation.source), ("destination", explanation.destination)):
        if side.verdict is not None and not side.verdict.allowed:
            why = f", by the {role}'s {side.direction}: {side.remarks[-1].title}"
            break
    else:
        for between in explanation.between:
            if not between.passage.verdict.allowed:
                why = f", {_where(between)}: {between.remarks[-1].title}"
                break
    if explanation.parts:
        allowed = sum(part.allowed for part in explanation.parts)
        why += f" ({allowed} of {len(explanation.parts)} parts are allowed)"
    return _clean(f"{verdict}: {ends} {packet_words(packet)}{why}")


def side_lines(
    role: str, side: Side, place: Place, proof: Proof | None = None, *, verbose: bool = False
) -> Iterator[str]:
    """What one end says, step by step."""
    where = f" on {side.end.node}" if side.end.node else ""
    if side.verdict is None:
        yield _clean(f"{role}: {_end(side)}{where}: no say")
        yield _clean(f"  {side.note}")
        return
    endpoint = side.end.endpoint
    assert endpoint is not None, "only endpoints judge"
    name = f"{endpoint.namespace}/{endpoint.name}" if endpoint.namespace else endpoint.name
    yield _clean(f"{role}: {endpoint.kind} {name}{where}, {side.direction}: {side.verdict.action}")
    for remark in side.remarks:
        if remark.matched or verbose:
            yield from _remark_lines(remark, place)
    if proof is not None:
        yield _clean(f"  kernel: {proof.state}: {proof.words}")
        for difference in proof.differences:
            yield _clean(f"    {difference}")


def between_lines(between: Between, place: Place, *, verbose: bool = False) -> Iterator[str]:
    """What a host endpoint on the way says, step by step."""
    yield _clean(f"{_where(between)}: {between.passage.verdict.action}")
    for remark in between.remarks:
        if remark.matched or verbose:
            yield from _remark_lines(remark, place)


def _where(between: Between) -> str:
    """Which way through which host."""
    passage = between.passage
    way = "coming in" if passage.direction == "ingress" else "going on"
    return f"{way} at {passage.endpoint.kind} {passage.endpoint.name} on {passage.node}"


def _remark_lines(remark: Remark, place: Place) -> Iterator[str]:
    where = place(*remark.place) if remark.place is not None else ""
    action = remark.step.action if remark.matched else "no"
    yield _clean(f"  {action:<5} {remark.title}{f'  ({where})' if where else ''}")
    yield _clean(f"          {remark.words}")
    for reason in remark.reasons:
        yield _clean(f"          {'because' if remark.matched else 'no match:'} {reason}")


def _staged_lines(explanation: Explanation, staged: Staged, place: Place, *, verbose: bool) -> Iterator[str]:
    if not staged.changes:
        yield "staged: what is staged changes nothing here"
        return
    verdict = "allowed" if staged.decision.allowed else "denied"
    same = "still " if staged.decision.allowed == explanation.allowed else ""
    yield f"staged: if everything staged were enforced, it would {same}be {verdict}"
    if staged.deleted:
        names = ", ".join(map(str, staged.deleted.values()))
        yield _clean(f"  to be deleted by {names}")
    sides = ((explanation.source, staged.source), (explanation.destination, staged.destination))
    for role, (now, then) in zip(_ROLES, sides, strict=True):
        stems = any(_origin(remark, staged) is not None for remark in then.remarks)
        if then.verdict is not None and (then.verdict != now.verdict or stems):
            inner = side_lines(role, then, _staged_place(staged, place), verbose=verbose)
            for line in inner:
                yield f"  {line}"
    if _passed(staged.between) != _passed(explanation.between) or any(
        _origin(remark, staged) is not None for between in staged.between for remark in between.remarks
    ):
        for between in staged.between:
            for line in between_lines(between, _staged_place(staged, place), verbose=verbose):
                yield f"  {line}"


def _passed(between: tuple[Between, ...]) -> list[Passage]:
    return [each.passage for each in between]


def _staged_place(staged: Staged, place: Place) -> Place:
    def found(key: Key, path: Path) -> str:
        origin = staged.origins.get(PolicyId(key.kind, key.namespace, key.name))
        if origin is None:
            return place(key, path)
        where = place(origin, path)
        return f"staged, {where}" if where else f"staged by {origin}"

    return found


def _origin(remark: Remark, staged: Staged) -> Key | None:
    step = remark.step
    return staged.origins.get(PolicyId(step.kind, step.namespace, step.name))


def _end(side: Side) -> str:
    address = side.end.address.address
    return address if side.asked == address else f"{side.asked} ({address})"


def _clean(text: str) -> str:
    """Names are other people's: nothing of them may command a terminal."""
    return printable(text)


# --- data --------------------------------------------------------------------------------------------


def data(explanation: Explanation, place: Place, proofs: Proofs) -> dict[str, Any]:
    """The whole explanation, what did not match included."""
    packet = explanation.flow.packet
    staged = explanation.staged
    return {
        "allowed": explanation.allowed,
        "flow": {
            "source": packet.source.address,
            "destination": packet.destination.address,
            "protocol": packet.protocol,
            "sourcePort": packet.source_port,
            "port": packet.destination_port,
            "icmpType": packet.icmp_type,
            "icmpCode": packet.icmp_code,
        },
        "source": _side_data(explanation.source, place, proofs.get("source")),
        "way": [
            {"host": hop.host, "route": hop.prefix, "nextHop": hop.next_hop, "words": hop.words}
            for hop in explanation.hops
        ],
        "between": [_between_data(each, place) for each in explanation.between],
        "destination": _side_data(explanation.destination, place, proofs.get("destination")),
        "parts": [part._asdict() for part in explanation.parts],
        "staged": None
        if staged is None
        else {
            "allowed": staged.decision.allowed,
            "changes": staged.changes,
            "source": _side_data(staged.source, _staged_place(staged, place), None),
            "destination": _side_data(staged.destination, _staged_place(staged, place), None),
            "between": [_between_data(each, _staged_place(staged, place)) for each in staged.between],
            "deleted": [str(key) for key in staged.deleted.values()],
        },
    }


def _between_data(between: Between, place: Place) -> dict[str, Any]:
    passage = between.passage
    return {
        "node": passage.node,
        "endpoint": passage.endpoint._asdict(),
        "direction": passage.direction,
        "action": passage.verdict.action,
        "trail": [_remark_data(remark, place) for remark in between.remarks],
    }


def _remark_data(remark: Remark, place: Place) -> dict[str, Any]:
    return {
        **remark.step._asdict(),
        "matched": remark.matched,
        "words": remark.words,
        "reasons": list(remark.reasons),
        "place": place(*remark.place) if remark.place is not None else "",
    }


def _side_data(side: Side, place: Place, proof: Proof | None) -> dict[str, Any]:
    endpoint = side.end.endpoint
    return {
        "asked": side.asked,
        "address": side.end.address.address,
        "node": side.end.node,
        "endpoint": None if endpoint is None else endpoint._asdict(),
        "direction": side.direction,
        "action": None if side.verdict is None else side.verdict.action,
        "note": side.note,
        "trail": [_remark_data(remark, place) for remark in side.remarks],
        **(
            {}
            if proof is None
            else {
                "kernel": {
                    "state": proof.state,
                    "words": proof.words,
                    "differences": list(proof.differences),
                }
            }
        ),
    }
