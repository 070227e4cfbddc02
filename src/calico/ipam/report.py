"""What a check found, as a file; and what such files allow to be freed.

In:   an audit; or the bytes of reports, ours or Calico's.
Out:  the report as plain values; or ``Leaks``: what is leaked in every one of the reports.
Next: ``cli.ipam_check`` writes reports, ``cli.ipam_release`` frees what they agree on.

The form is that of Calico's own reports, with more in it. One report may have caught an address between its
assignment and its endpoint; so what counts is what all reports say of the same assignment, which its handle and
its sequence number identify.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from calico.ipam.audit import Allocation, Audit
from calico.ipam.ownership import noted
from calico.model.errors import ModelError


class BadReport(ModelError):
    """Bytes that are no report."""


class Leak(NamedTuple):
    """An assignment that nobody uses."""

    address: str
    handle: str
    sequence_number: int | None


class Leaks(NamedTuple):
    """What may be freed: assignments by their addresses, and revisions of handles by their ids."""

    addresses: dict[str, Leak]
    handles: dict[str, str]


class _Allocation(msgspec.Struct):
    ip: str
    handle: str = ""
    sequence_number: int | None = msgspec.field(default=None, name="sequenceNumber")
    in_use: bool = msgspec.field(default=False, name="inUse")


class _Handle(msgspec.Struct):
    id: str = msgspec.field(name="ID")
    revision: str = msgspec.field(default="", name="Revision")


class Report(msgspec.Struct):
    """A report, as far as it matters for what may be freed."""

    version: str
    cluster_guid: str = msgspec.field(name="clusterGUID")
    cluster_revision: str = msgspec.field(name="clusterInformationRevision")
    allocations: dict[str, list[_Allocation] | None]
    leaked_handles: list[_Handle] | None = msgspec.field(default=None, name="leakedHandles")
    problems: dict[str, list[Any]] | None = None

    @property
    def blind(self) -> bool:
        """Whether something could not be read when it was made: an address may have an owner there."""
        return bool((self.problems or {}).get("unreadable"))


def parse(content: bytes, source: str) -> Report:
    """The report in ``content``; BadReport, which names ``source``, if there is none."""
    try:
        return msgspec.json.decode(content, type=Report)
    except msgspec.MsgspecError as error:
        raise BadReport(
            f"{source} is no report of 'calicoctl ipam check -o {source}': {error}; make it anew"
        ) from error


def agreed(reports: Iterable[Report]) -> Leaks:
    """What is leaked in all of ``reports``, each time the same assignment, and the same revision of a handle."""
    addresses: dict[str, Leak] | None = None
    handles: dict[str, str] | None = None
    for report in reports:
        found = {
            each.ip: Leak(each.ip, each.handle, each.sequence_number or None)  # Calico writes 0 for none
            for several in report.allocations.values()
            for each in several or ()
            if not each.in_use
        }
        empty = {each.id: each.revision for each in report.leaked_handles or ()}
        addresses = found if addresses is None else dict(addresses.items() & found.items())
        handles = empty if handles is None else dict(handles.items() & empty.items())
    return Leaks(addresses or {}, handles or {})


def as_data(audit: Audit, *, version: str) -> dict[str, Any]:
    """The report as plain values."""
    picture = audit.picture
    cluster = picture.cluster
    spec = cluster.spec if cluster is not None else None
    allocations: dict[str, list[dict[str, Any]]] = {}
    for each in audit.allocations:
        allocations.setdefault(each.address, []).append(_allocation(each))
    return {
        "version": version,
        "clusterGUID": spec.cluster_guid if spec else "",
        "datastoreLocked": cluster is not None and cluster.locked,
        "clusterInformationRevision": (cluster.metadata.resource_version or "") if cluster else "",
        "clusterType": spec.cluster_type if spec else "",
        "allocations": allocations,
        "leakedHandles": [
            {"ID": handle, "UID": None, "Revision": str(picture.handles[handle].revision)}
            for handle in audit.leaked_handles
        ],
        "cooling": audit.cooling,
        "nodes": [{"node": node, "allocations": count} for node, count in audit.by_node()],
        "problemCount": audit.count,
        "problems": {
            name: [{"subject": each.subject, "problem": each.what} for each in found]
            for name, found in audit.problems.items()
        },
    }


def _allocation(each: Allocation) -> dict[str, Any]:
    """One allocation; what is not known is left out."""
    values = noted(each.attribute)
    texts = {
        "pod": values.get("pod"),
        "namespace": values.get("namespace"),
        "node": each.node,
        "type": values.get("type"),
        "creationTimestamp": values.get("timestamp"),
    }
    return {
        "ip": each.address,
        **({"handle": each.handle} if each.handle else {}),
        **({} if each.sequence_number is None else {"sequenceNumber": each.sequence_number}),
        **{name: text for name, text in texts.items() if text},
        "inUse": bool(each.owners),
        **({"borrowed": True} if each.borrowed else {}),
        "owners": [*each.owners],
    }
