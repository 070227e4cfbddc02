"""Reserved addresses: what IPAM never gives away by itself (behaviour reference 1.10)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from msgspec import field

from calico.model.errors import Finding, Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, listed

LONGEST_SHOWN: Final = 80


def _cidrs(resource: Any) -> str:
    text = listed(resource.spec.reserved_cidrs)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


class IPReservationSpec(Strict, frozen=True, kw_only=True):
    """Prefixes of either family."""

    reserved_cidrs: list[str] = field(default_factory=list, name="reservedCIDRs")


class IPReservation(Resource, frozen=True, kw_only=True, tag=True):
    """Addresses that are kept free, whatever pool they are in."""

    PLURAL: ClassVar[str] = "ipreservations"
    SHORT: ClassVar[tuple[str, ...]] = ("reservation", "reservations")
    COLUMNS: ClassVar[tuple[Column, ...]] = (NAME_COLUMN, Column("CIDRS", _cidrs, wide=True))

    spec: IPReservationSpec = field(default_factory=IPReservationSpec)

    def problems(self) -> Findings:
        """Prefixes are written with their length, also those of one address."""
        from calico.model import checks

        for index, text in enumerate(self.spec.reserved_cidrs):
            path = ("spec", "reservedCIDRs", index)
            if "/" in text:
                yield from checks.prefix(path, text)
            else:
                full = 128 if ":" in text else 32
                yield Finding(path, f"{text!r} is no prefix", f"write its length, too: {text}/{full}")
