"""Address pools (behaviour reference 1.9)."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from msgspec import field
from msgspec.structs import replace

from calico.model.address import AddressError, parse_cidr
from calico.model.errors import Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, shown
from calico.model.status import Conditions

Encapsulation = Literal["Never", "Always", "CrossSubnet"]


class IPPoolSpec(Strict, frozen=True, kw_only=True):
    """A prefix that workloads get addresses from, in blocks that hosts claim."""

    cidr: str
    vxlan_mode: Encapsulation | None = None
    ipip_mode: Encapsulation | None = None
    nat_outgoing: bool = False
    disabled: bool = False
    disable_bgp_export: bool = field(default=False, name="disableBGPExport")
    block_size: int | None = None
    node_selector: str = ""
    namespace_selector: str = ""
    allowed_uses: list[Literal["Workload", "Tunnel", "LoadBalancer"]] = []
    assignment_mode: Literal["Automatic", "Manual"] | None = None


class IPPool(Resource, frozen=True, kw_only=True, tag=True):
    """A pool of addresses."""

    PLURAL: ClassVar[str] = "ippools"
    SHORT: ClassVar[tuple[str, ...]] = ("ipp", "ipps", "pool", "pools")
    STATUS: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("NAT", lambda r: shown(r.spec.nat_outgoing), wide=True),
        Column("IPIPMODE", lambda r: r.spec.ipip_mode or "Never", wide=True),
        Column("VXLANMODE", lambda r: r.spec.vxlan_mode or "Never", wide=True),
        Column("DISABLED", lambda r: shown(r.spec.disabled), wide=True),
        Column("DISABLEBGPEXPORT", lambda r: shown(r.spec.disable_bgp_export), wide=True),
        Column("SELECTOR", lambda r: r.spec.node_selector or "all()"),
        Column("ASSIGNMENTMODE", lambda r: r.spec.assignment_mode or "Automatic", wide=True),
    )

    spec: IPPoolSpec
    status: Conditions | None = None

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.network_validation import pool

        return pool(self)

    def changes(self, before: Self) -> Findings:
        """Prefix and block size stay: addresses of the pool are in use, in blocks of that size."""
        from calico.model.network_validation import pool_changes

        return pool_changes(before, self)

    def defaulted(self) -> Self:
        """The prefix masked; modes, block size, selector and uses written out."""
        from calico.model.network_validation import BLOCK_SIZES

        spec = self.spec
        try:
            cidr = parse_cidr(spec.cidr)
        except AddressError:
            return self
        complete = replace(
            spec,
            cidr=str(cidr),
            block_size=spec.block_size or BLOCK_SIZES[cidr.family][2],
            ipip_mode=spec.ipip_mode or "Never",
            vxlan_mode=spec.vxlan_mode or "Never",
            node_selector=spec.node_selector or "all()",
            allowed_uses=spec.allowed_uses
            or (["Workload"] if spec.namespace_selector else ["Workload", "Tunnel"]),
            assignment_mode=spec.assignment_mode or "Automatic",
        )
        return replace(self, spec=complete)

    def not_done(self) -> Findings:
        """See ``Resource.not_done``."""
        from calico.model.not_done import pool

        return pool(self.spec)
