"""Address pools (behaviour reference 1.9)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from calico.model.resource import Resource, Strict

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
    spec: IPPoolSpec
