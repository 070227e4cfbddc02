"""Whether the kernel of this host holds what an explanation says: proven, drifted or unknown.

In:   an explanation of what the store holds.
Out:  ``proofs``: a ``Proof`` for each end that has a say.
Next: ``cli.explanation`` words it; ``agent.loop`` is asked, which compares and repairs nothing first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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

    del world
    request = {"command": "prove", "node": side.end.node, "endpoint": list(side.end.endpoint or ())}
    try:
        answer = ask(Paths.of(os.environ).agent_socket, request, timeout=30.0)
    except AgentUnreachableError as error:
        return Proof("unknown", str(error))
    return _read(answer, side, location)


def _read(answer: Mapping[str, Any], side: Side, location: Location) -> Proof:
    if "error" in answer:
        return Proof("unknown", str(answer["error"]))
    if answer["node"] != side.end.node:
        return Proof("unknown", f"{side.end.node} is another host: ask on it (this is {answer['node']})")
    if answer["store"] != str(location.store):
        return Proof(
            "unknown", f"the agent here works on another store ({answer['store']}), not on {location.store}"
        )
    if answer["state"] == "unknown":
        return Proof("unknown", answer["reason"])
    differences = tuple(answer["differences"])
    if differences:
        return Proof("drifted", f"the kernel of {answer['node']} holds something else", differences)
    return Proof("proven", f"{answer['backend']} of {answer['node']} holds exactly what policy says")
