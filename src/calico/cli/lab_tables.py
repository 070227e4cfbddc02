"""A lab's overview as tables.

In:   ``Overview``, from ``calico.lab.overview``.
Out:  lines of text; nothing is printed here.
Next: ``cli.lab`` prints them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from calico.cli.printers import aligned

if TYPE_CHECKING:
    from calico.lab.overview import Overview


def overview(seen: Overview) -> Iterator[str]:
    """Hosts, routers, the store's members if it has any, BGP sessions and workloads, a table each."""
    phase = "up" if seen.phase == "up" else "half-built"
    yield f"Lab {seen.name}: {phase}, back end {seen.backend}, listeners {'answer' if seen.responder else 'DOWN'}"
    yield ""
    yield aligned(
        [
            ["HOST", "RACK", "ADDRESSES", "RUNS", "AGENT", "PROGRAMMED", "ENDPOINTS", "BGP", "PROBLEM"],
            *(
                [
                    host.name,
                    host.rack,
                    ",".join(host.addresses),
                    host.kind,
                    f"pid {host.agent}" if host.agent else "none",
                    "yes" if host.programmed else "NO",
                    str(host.endpoints),
                    host.sessions,
                    host.problem,
                ]
                for host in seen.hosts
            ),
        ]
    )
    yield ""
    yield aligned(
        [
            ["ROUTER", "AS", "ROUTER ID", "BIRD", "BGP", "ROUTES"],
            *(
                [
                    router.name,
                    str(router.as_number),
                    router.router_id,
                    "runs" if router.running else "DOWN",
                    router.sessions,
                    str(router.routes),
                ]
                for router in seen.routers
            ),
        ]
    )
    if seen.members:
        yield ""
        yield aligned(
            [
                ["STORE", "ADDRESS", "ETCD"],
                *(
                    [member.name, member.address, "runs" if member.running else "DOWN"]
                    for member in seen.members
                ),
            ]
        )
    yield ""
    yield aligned(
        [
            ["SESSION OF", "WITH", "ADDRESS", "AS", "STATE", "SINCE", "IN", "OUT"],
            *(
                [
                    session.router,
                    session.neighbour,
                    session.address,
                    str(session.as_number),
                    session.state,
                    session.since,
                    str(session.imported),
                    str(session.exported),
                ]
                for session in seen.sessions
            ),
        ]
    )
    yield ""
    yield aligned(
        [
            ["WORKLOAD", "NAMESPACE", "HOST", "ADDRESSES", "INTERFACE", "LABELS"],
            *(
                [
                    workload.name,
                    workload.namespace,
                    workload.host,
                    ",".join(workload.addresses),
                    workload.interface,
                    ",".join(f"{key}={value}" for key, value in sorted(workload.labels.items())),
                ]
                for workload in seen.workloads
            ),
        ]
    )
