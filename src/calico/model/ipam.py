"""IPAM's records, in the JSON of Calico's etcd layout (not resources: own keys, own JSON)."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import field


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The base: unknown fields of other writers are tolerated."""


class BlockAffinity(Record, frozen=True, kw_only=True):
    """Which host claims a block; the host and the block are in the key."""

    state: Literal["confirmed", "pending", "pendingDeletion", ""] = ""
    deleted: bool | str = False


class AllocationAttribute(Record, frozen=True, kw_only=True):
    """Who owns some addresses of a block."""

    handle_id: str | None = None
    secondary: dict[str, str] | None = None
    alternate_owner_attrs: dict[str, str] | None = field(default=None, name="alternateOwnerAttrs")
    released_at: str | None = field(default=None, name="releasedAt")


class IPAMBlock(Record, frozen=True, kw_only=True):
    """All allocation state of one block: ``allocations[ordinal]`` indexes ``attributes``; free ordinals queue in ``unallocated``."""

    cidr: str
    affinity: str | None = None
    affinity_claim_time: str | None = None
    allocations: list[int | None]
    unallocated: list[int]
    attributes: list[AllocationAttribute] = []
    sequence_number: int = field(default=0, name="sequenceNumber")
    sequence_number_for_allocation: dict[str, int] = field(
        default_factory=dict, name="sequenceNumberForAllocation"
    )
    deleted: bool = False


class IPAMHandle(Record, frozen=True, kw_only=True):
    """How many addresses an owner has in each block."""

    block: dict[str, int] = {}
    handle_id: str | None = field(default=None, name="id")
    deleted: bool = False


class IPAMConfig(Record, frozen=True, kw_only=True):
    """Settings of IPAM for the whole cluster; what a writer of old left out is off."""

    strict_affinity: bool = False
    auto_allocate_blocks: bool = False
    max_blocks_per_host: int = field(default=0, name="maxBlocksPerHost")
    kubevirt_persistence: Literal["Enabled", "Disabled"] | None = field(
        default=None, name="kubeVirtVMAddressPersistence"
    )
    ip_cooldown_seconds: int | None = field(default=None, name="ipCooldownSeconds")
