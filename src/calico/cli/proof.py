"""Whether the kernel of this host holds what an explanation says: proven, drifted or unknown.

In:   an explanation of what the store holds.
Out:  ``proofs``: a ``Proof`` for each end that has a say.
Next: ``cli.explanation`` words it; ``agent.loop`` is asked, which compares and repairs nothing first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calico.calculation.fingerprint import fingerprint
from calico.cli.explanation import Proof, Proofs
from calico.cli.stores import Location
from calico.paths import Paths

if TYPE_CHECKING:
    from calico.analysis import World
    from calico.analysis.explain import Explanation, Side


def proofs(world: World, explanation: Explanation, location: Location) -> Proofs:
    """The kernel's side of both ends, as far as an agent of this host can tell."""
    ends = {"source": explanation.source, "destination": explanation.destination}
    return {role: _proof(world, side, location) for role, side in ends.items() if side.verdict is not None}


def _proof(world: World, side: Side, location: Location) -> Proof:
    from calico.agent.status import AgentUnreachableError, ask

    endpoint = side.end.endpoint
    assert endpoint is not None, "only endpoints judge"
    try:
        status = ask(Paths.of(os.environ).agent_socket, {"command": "status"})
        if status.get("node") != side.end.node:
            return Proof(
                "unknown", f"{side.end.node} is another host than this one, {status.get('node')}: ask there"
            )
        request = {"command": "prove", "endpoint": list(endpoint)}
        answer = ask(Paths.of(os.environ).agent_socket, request, timeout=30.0)
    except AgentUnreachableError as error:
        return Proof("unknown", str(error))
    if "error" in answer:
        return Proof("unknown", str(answer["error"]))
    row = world.endpoints.get(endpoint)
    meant = None if row is None else fingerprint(row, world.picture.policies, world.picture.profiles)
    return read(answer, meant, str(location.store))


def read(answer: Mapping[str, Any], meant: str | None, store: str) -> Proof:
    """What the agent's ``answer`` proves of an endpoint that is ``meant`` so in ``store``."""
    node, backend = answer["node"], answer["backend"]
    if answer["store"] != store:
        return Proof("unknown", f"the agent here works on another store ({answer['store']}) than {store}")
    if answer["state"] == "unknown":
        return Proof("unknown", answer["reason"])
    if answer["fingerprint"] != meant:
        return Proof(
            "unknown", "the agent means something else by this endpoint than the store; it may be behind"
        )
    if answer["state"] == "drifted":
        return Proof(
            "drifted",
            f"{backend} of {node} holds something else than it should",
            tuple(answer["differences"]),
        )
    others = answer["elsewhere"]
    rest = f"; {others} difference{'s' * (others != 1)} elsewhere" if others else ""
    return Proof("proven", f"{backend} of {node} holds exactly what this policy says{rest}")
