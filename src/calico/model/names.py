"""Names that are made of other names: workload endpoints and their interfaces (behaviour reference 1.8).

In:   who a workload is: its node, its orchestrator, its name there, and which of its interfaces.
Out:  ``<node>-<orchestrator>-<workload>-<endpoint>``, with each ``-`` inside a part doubled; and back.
Next: ``model.validation`` compares it with ``metadata.name``; the CNI plugin finds endpoints by its prefix.

No part begins or ends with ``-``, so a name can be read in one way only.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Final, NamedTuple

from calico.model.endpoint import WorkloadEndpointSpec
from calico.model.errors import ModelError

INTERFACE_LENGTH: Final = 15
"""The longest name of a Linux interface."""

_SEPARATOR: Final = re.compile(r"(?<!-)-(?!-)")
_PART: Final = re.compile(r"[^-]+(?:(?:--)+[^-]+)*")


class BadName(ModelError):
    """A name can not be made or read; ``field`` is the field of the endpoint's spec at fault, or empty."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadName], tuple[str, str]]:
        return type(self), (self.field, self.reason)


class EndpointName(NamedTuple):
    """The parts of a workload endpoint's name, empty where they are not known.

    ``workload`` is what the orchestrator calls the workload: a pod, a container's id, a virtual machine.
    """

    node: str = ""
    orchestrator: str = ""
    workload: str = ""
    endpoint: str = ""

    @classmethod
    def of(cls, spec: WorkloadEndpointSpec) -> EndpointName:
        """The parts, as the spec of an endpoint gives them."""
        match spec.orchestrator:
            case "k8s":
                workload = spec.pod
            case "cni":
                workload = spec.container_id
            case "libnetwork":
                workload = "libnetwork"
            case _:
                workload = spec.workload
        return cls(spec.node, spec.orchestrator, workload, spec.endpoint)

    def text(self) -> str:
        """The whole name; ``BadName`` if a part is missing or can not be written."""
        return "-".join(self._part(index) for index in range(4))

    def prefix(self) -> str:
        """The name up to the first part that is not known, with a ``-`` at its end; the whole name if all are.

        All names that begin so belong to the same node, orchestrator, workload. The node has to be known.
        """
        known = self.index("") if "" in self else 4
        parts = [self._part(index) for index in range(max(known, 1))]
        return "-".join(parts) if known == 4 else "-".join(parts) + "-"

    def matches(self, name: str) -> bool:
        """Whether ``name`` is whole and agrees with every part that is known. The node has to be known."""
        self._part(0)
        try:
            other = parse_endpoint_name(name)
        except BadName:
            return False
        return "" not in other and all(mine in {"", theirs} for mine, theirs in zip(self, other, strict=True))

    def _part(self, index: int) -> str:
        value = self[index]
        field = self._fields[index]
        if field == "workload":
            field = {"k8s": "pod", "cni": "containerID"}.get(self.orchestrator, field)
        if not value:
            raise BadName(field, "is missing")
        if value[0] == "-" or value[-1] == "-":
            raise BadName(
                field, f"{value!r} begins or ends with '-', which a part of an endpoint's name may not"
            )
        return value.replace("-", "--")


def parse_endpoint_name(text: str) -> EndpointName:
    """The parts of a whole name or of a prefix of one; parts that are not there are empty."""
    segments = _SEPARATOR.split(text)
    if len(segments) > 1 and not segments[-1]:
        segments.pop()
    if len(segments) > 4 or not all(map(_PART.fullmatch, segments)):
        raise BadName(
            "",
            f"{text!r} is no name of a workload endpoint; "
            "it would be <node>-<orchestrator>-<workload>-<endpoint>, with each '-' of a part doubled",
        )
    return EndpointName(*(segment.replace("--", "-") for segment in segments))


def interface_name(namespace: str, workload: str, prefix: str = "cali") -> str:
    """The host's end of a pod's link: ``prefix``, and as much of a hash of "namespace.workload" as fits (11 digits).

    SHA-1 is no secret here; it is what every Calico node computes.
    """
    digest = sha1(f"{namespace}.{workload}".encode(), usedforsecurity=False).hexdigest()
    return (prefix + digest[:11])[:INTERFACE_LENGTH]
