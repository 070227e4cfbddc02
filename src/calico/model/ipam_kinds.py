"""IPAM's records as resources, for people: views of its own keys (behaviour reference 1.10).

In:   the records of ``model.ipam``, as IPAM and the agents read and write them, with their keys.
Out:  resources that say the same (``from_record``), and records again (``to_record``).
Next: ``model.codec`` converts between the two for ``datastore.typed``; nothing else stores a view.

A record has no metadata. A view's name is made of what it says, as Calico makes it, and its labels and
annotations are not kept.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from msgspec import field, structs
from msgspec.structs import replace

from calico.model import ipam
from calico.model.address import AddressError, cidr_word, parse_cidr, parse_cidr_word
from calico.model.errors import Finding, Findings, Path
from calico.model.resource import NAME_COLUMN, Column, Metadata, Resource, Strict, shown

MAX_BLOCKS: Final = 1_000_000
MAX_COOLDOWN: Final = 1_200
"""Seconds."""

CONFIGURATION: Final = "default"
"""The name of the only IPAMConfiguration."""


class _View(Resource, frozen=True, kw_only=True):
    """What the kinds that are views of records have in common.

    Each has ``from_record(name, owner, record)``, what the record at a key with that name and namespace says,
    and ``to_record()``, the record that says the same, whose key ``place`` tells.
    """

    def name_problems(self) -> Findings:
        """None: the name is made of the spec, and compared with it there."""
        yield from ()

    def not_done(self) -> Findings:
        """A record has no place for labels and annotations."""
        for name in ("labels", "annotations"):
            if getattr(self.metadata, name):
                yield Finding(
                    ("metadata", name), f"the {name} of a {self.kind} are not stored", "remove them"
                )


def _named(resource: _View, expected: str) -> Findings:
    name = resource.metadata.name
    if name not in {"", expected}:
        yield Finding(
            ("metadata", "name"), f"{name!r} is not what the spec says", f"write {expected}, or no name"
        )


def _not_deleted(*, deleted: bool) -> Findings:
    if deleted:
        yield Finding(("spec", "deleted"), "deleted is the system's mark, not for people to set", "remove it")


def _block_name(cidr: str) -> str:
    """The name that a block has as a resource; what is no prefix names itself."""
    try:
        return cidr_word(parse_cidr(cidr))
    except AddressError:
        return cidr


def _block_cidr(cidr: str, name: str) -> str:
    """The prefix as keys have it: that of the spec, else that of the name."""
    try:
        return str(parse_cidr(cidr)) if cidr else str(parse_cidr_word(name))
    except AddressError:
        return cidr or name


# --- BlockAffinity -----------------------------------------------------------------------------------


class BlockAffinitySpec(Strict, frozen=True, kw_only=True):
    """Who claims which block, and how far that is."""

    state: Literal["confirmed", "pending", "pendingDeletion", ""] = ""
    node: str = ""
    type: Literal["host", "virtual", ""] = ""
    cidr: str = ""
    deleted: bool = False


class BlockAffinity(_View, frozen=True, kw_only=True, tag=True):
    """The claim of a host, or of something else that hands out addresses, to a block."""

    PLURAL: ClassVar[str] = "blockaffinities"
    SHORT: ClassVar[tuple[str, ...]] = ("affinity", "affinities")
    READ_ONLY: ClassVar[str] = (
        "affinities are made and removed by IPAM as hosts need blocks; to change which hosts may have blocks,"
        " change the nodeSelector of the IPPool"
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("NODE", lambda r: r.spec.node),
        Column("STATE", lambda r: r.spec.state),
        Column("TYPE", lambda r: r.spec.type, wide=True),
    )

    spec: BlockAffinitySpec = field(default_factory=BlockAffinitySpec)

    @classmethod
    def from_record(cls, name: str, owner: str, record: Any) -> Self:
        """See ``_View``; the record says no more than the state."""
        kind, _, node = owner.partition(":")
        return cls(
            metadata=Metadata(name=f"{node}-{_block_name(name)}"),
            spec=BlockAffinitySpec(
                state=record.state,
                node=node,
                type="virtual" if kind == "virtual" else "host",
                cidr=name,
                deleted=record.deleted in {True, "true"},
            ),
        )

    def to_record(self) -> ipam.BlockAffinity:
        """See ``_View``."""
        return ipam.BlockAffinity(state=self.spec.state, deleted=self.spec.deleted)

    def place(self) -> tuple[str, str]:
        """The block, and its owner."""
        if not self.spec.cidr:
            return self.metadata.name, ""
        return _block_cidr(self.spec.cidr, ""), f"{self.spec.type or 'host'}:{self.spec.node}"

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model import checks

        yield from checks.dns_subdomain(("spec", "node"), self.spec.node)
        yield from checks.prefix(("spec", "cidr"), self.spec.cidr)
        yield from _not_deleted(deleted=self.spec.deleted)
        yield from _named(self, f"{self.spec.node}-{_block_name(self.spec.cidr)}")

    def defaulted(self) -> Self:
        """The name, which is made of the spec, and the type."""
        spec = replace(self.spec, cidr=_block_cidr(self.spec.cidr, ""), type=self.spec.type or "host")
        name = self.metadata.name or f"{spec.node}-{_block_name(spec.cidr)}"
        return replace(self, metadata=replace(self.metadata, name=name), spec=spec)


# --- IPAMBlock ---------------------------------------------------------------------------------------


class Allocation(Strict, frozen=True, kw_only=True):
    """Who owns some addresses of a block."""

    handle_id: str | None = field(default=None, name="handle_id")
    secondary: dict[str, str] | None = None
    alternate_owner_attrs: dict[str, str] | None = None
    released_at: str | None = None


class IPAMBlockSpec(Strict, frozen=True, kw_only=True):
    """All allocation state of one block, ordinal by ordinal."""

    cidr: str = ""
    affinity: str | None = None
    affinity_claim_time: str | None = None
    allocations: list[int | None] = []
    unallocated: list[int] = []
    attributes: list[Allocation] = []
    sequence_number: int = 0
    sequence_number_for_allocation: dict[str, int] = {}
    deleted: bool = False


class IPAMBlock(_View, frozen=True, kw_only=True, tag=True):
    """A block of addresses, and who has them."""

    PLURAL: ClassVar[str] = "ipamblocks"
    READ_ONLY: ClassVar[str] = (
        "blocks are written by IPAM alone, since whoever changes one by hand gives addresses away twice;"
        " addresses come back when their workloads are deleted"
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("AFFINITY", lambda r: r.spec.affinity or ""),
        Column("FREE", lambda r: str(len(r.spec.unallocated))),
        Column("SIZE", lambda r: str(len(r.spec.allocations)), wide=True),
    )

    spec: IPAMBlockSpec = field(default_factory=IPAMBlockSpec)

    @classmethod
    def from_record(cls, name: str, owner: str, record: Any) -> Self:
        """See ``_View``."""
        del owner
        values = structs.asdict(record)
        attributes = [Allocation(**structs.asdict(each)) for each in record.attributes]
        return cls(
            metadata=Metadata(name=_block_name(name)),
            spec=IPAMBlockSpec(**values | {"attributes": attributes}),
        )

    def to_record(self) -> ipam.IPAMBlock:
        """See ``_View``."""
        attributes = [ipam.AllocationAttribute(**structs.asdict(each)) for each in self.spec.attributes]
        return ipam.IPAMBlock(
            **structs.asdict(self.spec) | {"attributes": attributes, "cidr": self.place()[0]}
        )

    def place(self) -> tuple[str, str]:
        """The block, by its prefix."""
        return _block_cidr(self.spec.cidr, self.metadata.name), ""

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model import checks

        spec = self.spec
        yield from checks.prefix(("spec", "cidr"), spec.cidr)
        yield from _not_deleted(deleted=spec.deleted)
        for ordinal, index in enumerate(spec.allocations):
            if index is not None and not 0 <= index < len(spec.attributes):
                path: Path = ("spec", "allocations", ordinal)
                yield Finding(path, f"there is no attribute {index}", "name one of attributes, from 0")
        for number, ordinal in enumerate(spec.unallocated):
            if not 0 <= ordinal < len(spec.allocations):
                path = ("spec", "unallocated", number)
                yield Finding(path, f"the block has no address {ordinal}", "name one of it, from 0")
        yield from _named(self, _block_name(spec.cidr))

    def defaulted(self) -> Self:
        """The name, which is made of the spec."""
        cidr = self.place()[0]
        name = self.metadata.name or _block_name(cidr)
        return replace(self, metadata=replace(self.metadata, name=name), spec=replace(self.spec, cidr=cidr))


# --- IPAMHandle --------------------------------------------------------------------------------------


class IPAMHandleSpec(Strict, frozen=True, kw_only=True):
    """How many addresses an owner has in each block."""

    handle_id: str = field(default="", name="handleID")
    block: dict[str, int] = {}
    deleted: bool = False


class IPAMHandle(_View, frozen=True, kw_only=True, tag=True):
    """An owner of addresses."""

    PLURAL: ClassVar[str] = "ipamhandles"
    READ_ONLY: ClassVar[str] = (
        "handles are written by IPAM alone, which counts in them what the blocks give away;"
        " a handle goes when the workload that it stands for is deleted"
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("ADDRESSES", lambda r: str(sum(r.spec.block.values()))),
        Column("BLOCKS", lambda r: ",".join(sorted(r.spec.block)), wide=True),
    )

    spec: IPAMHandleSpec = field(default_factory=IPAMHandleSpec)

    @classmethod
    def from_record(cls, name: str, owner: str, record: Any) -> Self:
        """See ``_View``; the id is the key's."""
        del owner
        return cls(
            metadata=Metadata(name=name),
            spec=IPAMHandleSpec(handle_id=name, block=record.block, deleted=record.deleted),
        )

    def to_record(self) -> ipam.IPAMHandle:
        """See ``_View``."""
        return ipam.IPAMHandle(block=self.spec.block, deleted=self.spec.deleted)

    def place(self) -> tuple[str, str]:
        """The id."""
        return self.spec.handle_id or self.metadata.name, ""

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model import checks

        if not self.place()[0] or "/" in self.place()[0]:
            yield Finding(("spec", "handleID"), "that is no id of a handle", "write text without '/'")
        for cidr in self.spec.block:
            yield from checks.prefix(("spec", "block", cidr), cidr)
        yield from _not_deleted(deleted=self.spec.deleted)
        if self.spec.handle_id:
            yield from _named(self, self.spec.handle_id)

    def defaulted(self) -> Self:
        """The name, which is the id."""
        name = self.place()[0]
        return replace(
            self, metadata=replace(self.metadata, name=name), spec=replace(self.spec, handle_id=name)
        )


# --- IPAMConfiguration -------------------------------------------------------------------------------


class IPAMConfigurationSpec(Strict, frozen=True, kw_only=True):
    """How IPAM hands out blocks and addresses."""

    strict_affinity: bool = False
    auto_allocate_blocks: bool | None = None
    max_blocks_per_host: int = 0
    kubevirt_persistence: Literal["Enabled", "Disabled"] | None = field(
        default=None, name="kubeVirtVMAddressPersistence"
    )
    ip_cooldown_seconds: int | None = None


class IPAMConfiguration(_View, frozen=True, kw_only=True, tag=True):
    """The settings of IPAM; there is one for all."""

    PLURAL: ClassVar[str] = "ipamconfigurations"
    SHORT: ClassVar[tuple[str, ...]] = ("ipamconfig", "ipamconfigs")
    ONLY: ClassVar[str] = CONFIGURATION
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("STRICTAFFINITY", lambda r: shown(r.spec.strict_affinity)),
        Column("AUTOALLOCATEBLOCKS", lambda r: shown(r.spec.auto_allocate_blocks is not False)),
        Column("MAXBLOCKSPERHOST", lambda r: str(r.spec.max_blocks_per_host), wide=True),
    )

    spec: IPAMConfigurationSpec = field(default_factory=IPAMConfigurationSpec)

    @classmethod
    def from_record(cls, name: str, owner: str, record: Any) -> Self:
        """See ``_View``."""
        del owner
        return cls(metadata=Metadata(name=name), spec=IPAMConfigurationSpec(**structs.asdict(record)))

    def to_record(self) -> ipam.IPAMConfig:
        """See ``_View``."""
        values = structs.asdict(self.spec)
        values["auto_allocate_blocks"] = self.spec.auto_allocate_blocks is not False
        return ipam.IPAMConfig(**values)

    def name_problems(self) -> Findings:
        """See ``Resource.name_problems``."""
        return Resource.name_problems(self)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model import checks

        spec = self.spec
        yield from checks.within(("spec", "maxBlocksPerHost"), spec.max_blocks_per_host, 0, MAX_BLOCKS)
        yield from checks.within(("spec", "ipCooldownSeconds"), spec.ip_cooldown_seconds, 0, MAX_COOLDOWN)
        if spec.strict_affinity:
            return
        if spec.max_blocks_per_host > 0:
            yield Finding(
                ("spec", "maxBlocksPerHost"),
                "a host that may borrow addresses needs no limit on its blocks",
                "set strictAffinity to true, or remove it",
            )
        if spec.auto_allocate_blocks is False:
            yield Finding(
                ("spec", "autoAllocateBlocks"),
                "a host without blocks of its own would borrow every address",
                "set strictAffinity to true, or remove it",
            )

    def defaulted(self) -> Self:
        """Hosts get blocks when they need them."""
        auto = self.spec.auto_allocate_blocks is not False
        return replace(self, spec=replace(self.spec, auto_allocate_blocks=auto))

    def not_done(self) -> Findings:
        """Addresses of virtual machines: nothing here keeps them."""
        yield from _View.not_done(self)
        if self.spec.kubevirt_persistence is not None:
            yield Finding(
                ("spec", "kubeVirtVMAddressPersistence"),
                "it is stored, but nothing here assigns addresses to virtual machines of KubeVirt",
                "do not rely on it while hosts run this version",
            )


View: TypeAlias = BlockAffinity | IPAMBlock | IPAMConfiguration | IPAMHandle

VIEWS: Final[dict[str, type[View]]] = {
    kind.__name__: kind for kind in (BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMHandle)
}
"""The views, by the kind of their keys."""
