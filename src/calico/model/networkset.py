"""Network sets: addresses outside that selectors can match by label (behaviour reference 1.5)."""

from __future__ import annotations

from typing import ClassVar, Final

from msgspec import field

from calico.model.errors import Finding, Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, listed

NAMESPACE_LABEL: Final = "projectcalico.org/namespace"

LONGEST_SHOWN: Final = 80
"""How many characters of a set a table shows; YAML and JSON show all."""


def _nets(resource: NetworkSet | GlobalNetworkSet) -> str:
    text = listed(resource.spec.nets)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


_COLUMNS: Final = (NAME_COLUMN, Column("NETS", _nets))


def _problems(resource: NetworkSet | GlobalNetworkSet) -> Findings:
    from calico.model import checks

    if NAMESPACE_LABEL in resource.metadata.labels:
        yield Finding(
            ("metadata", "labels", NAMESPACE_LABEL),
            "this label is added by the system",
            "remove it from the set",
        )
    for index, text in enumerate(resource.spec.nets):
        yield from checks.prefix(("spec", "nets", index), text)


class NetworkSetSpec(Strict, frozen=True, kw_only=True):
    """CIDRs or bare addresses, IPv4 and IPv6 mixed."""

    nets: list[str] = []


class NetworkSet(Resource, frozen=True, kw_only=True, tag=True):
    """A set that rules of its own namespace's policies match."""

    PLURAL: ClassVar[str] = "networksets"
    NAMESPACED: ClassVar[bool] = True
    SHORT: ClassVar[tuple[str, ...]] = ("netset", "netsets")
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS

    spec: NetworkSetSpec = field(default_factory=NetworkSetSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        return _problems(self)


class GlobalNetworkSet(Resource, frozen=True, kw_only=True, tag=True):
    """A set that global policies match, and namespaced ones through ``global()``."""

    PLURAL: ClassVar[str] = "globalnetworksets"
    SHORT: ClassVar[tuple[str, ...]] = ("gns",)
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS

    spec: NetworkSetSpec = field(default_factory=NetworkSetSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        return _problems(self)
