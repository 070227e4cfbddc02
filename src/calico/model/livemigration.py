"""Live migrations: a workload that moves from host to host while it runs (behaviour reference 1.18)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from calico.model.errors import Finding, Findings, Path
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict


class WorkloadIdentifier(Strict, frozen=True, kw_only=True):
    """A workload with all its interfaces; Kubernetes' need no host."""

    hostname: str = ""
    orchestrator_id: str = field(default="", name="orchestratorID")
    workload_id: str = field(default="", name="workloadID")


class EndpointIdentifier(Strict, frozen=True, kw_only=True):
    """One interface of a workload."""

    hostname: str = ""
    orchestrator_id: str = field(default="", name="orchestratorID")
    workload_id: str = field(default="", name="workloadID")
    endpoint_id: str = field(default="", name="endpointID")


class MigrationSource(Strict, frozen=True, kw_only=True):
    """Where it comes from: a whole workload, or one interface."""

    workload: WorkloadIdentifier | None = None
    workload_endpoint: EndpointIdentifier | None = None


class MigrationTarget(Strict, frozen=True, kw_only=True):
    """Where it goes: whatever a selector selects, or one interface."""

    selector: str | None = None
    workload_endpoint: EndpointIdentifier | None = None


class LiveMigrationSpec(Strict, frozen=True, kw_only=True):
    """A migration in progress."""

    source: MigrationSource | None = None
    target: MigrationTarget | None = None


class LiveMigration(Resource, frozen=True, kw_only=True, tag=True):
    """One migration in progress, as an orchestrator tells of it."""

    PLURAL: ClassVar[str] = "livemigrations"
    NAMESPACED: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (NAME_COLUMN,)

    spec: LiveMigrationSpec = field(default_factory=LiveMigrationSpec)

    def problems(self) -> Findings:
        """Either end is named, in one way."""
        from calico.model import checks

        source, target = self.spec.source, self.spec.target
        yield from _one_way(("spec", "source"), source, ("workload", "workloadEndpoint"))
        yield from _one_way(("spec", "target"), target, ("selector", "workloadEndpoint"))
        if target is not None and target.selector is not None:
            yield from checks.selector(("spec", "target", "selector"), target.selector)
        if source is not None and source.workload is not None:
            yield from _complete(("spec", "source", "workload"), source.workload)
        for name, end in (("source", source), ("target", target)):
            if end is not None and end.workload_endpoint is not None:
                yield from _complete(("spec", name, "workloadEndpoint"), end.workload_endpoint)

    def not_done(self) -> Findings:
        """Routes do not follow migrations yet."""
        yield Finding(
            ("spec",),
            "the migration is stored, but routes change only when the endpoint itself does",
            "nothing has to be done; the workload may be out of reach until its endpoint names the new host",
        )


def _one_way(path: Path, end: MigrationSource | MigrationTarget | None, ways: tuple[str, str]) -> Findings:
    given = [] if end is None else [getattr(end, name) for name in end.__struct_fields__]
    if sum(each is not None for each in given) != 1:
        yield Finding(path, "it has to be named in exactly one way", f"write either {' or '.join(ways)}")


def _complete(path: Path, identifier: WorkloadIdentifier | EndpointIdentifier) -> Findings:
    for python, name in zip(identifier.__struct_fields__, identifier.__struct_encode_fields__, strict=True):
        may_lack = name == "hostname" and identifier.orchestrator_id == "k8s"
        if not getattr(identifier, python) and not may_lack:
            yield Finding((*path, name), f"{name} is missing", "add it")
