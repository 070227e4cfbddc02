"""What a resource must agree with beyond itself, before it is written or deleted.

In:   a resource (or a key), what it would replace, and the store's other resources.
Out:  ``NotAdmitted`` with findings, or nothing.
Next: ``datastore.writing`` writes what is admitted.

These are checks of one moment, as a client makes them; the calculation must cope with whatever is stored.
What is stored but unreadable is passed over where that is safe: it must not keep people from repairing it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from calico.datastore.api import Conflict, Denied
from calico.datastore.typed import Resources, tier_of
from calico.model.address import AddressError, Cidr, parse_cidr
from calico.model.cluster import ClusterInformation, ClusterInformationSpec
from calico.model.codec import decode
from calico.model.errors import Finding, ModelError, Path, dotted
from calico.model.keys import KINDS, Key, key_of, kind_prefix, parse_path
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW_PROFILE,
    DEFAULT_TIER,
    Profile,
    ProfileSpec,
    Rule,
    Tier,
)
from calico.model.pool import IPPool
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted

_IDENTITY: Final = Key("ClusterInformation", "default")

_OF_KUBERNETES: Final = {
    "NetworkPolicy": (("knp.default.",), "netpol"),
    "GlobalNetworkPolicy": (("kcnp.kube-admin.", "kcnp.kube-baseline."), "clusternetworkpolicy"),
}
"""How the names of policies begin that are made of Kubernetes' own, by kind; and what calicoctl calls those."""

IN_TIERS: Final = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")
"""The kinds whose resources belong to a tier that somebody made."""


class NotAdmitted(Exception):
    """A resource that is valid by itself does not fit what is stored; ``findings`` say where and why."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(map(_sentence, findings)))


def _sentence(finding: Finding) -> str:
    sentence = f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message
    return f"{dotted(finding.path)}: {sentence}" if finding.path else sentence


def _refuse(message: str, remedy: str = "", path: Path = ()) -> NotAdmitted:
    return NotAdmitted(Finding(path, message, remedy))


# --- what every cluster has --------------------------------------------------------------------------


def built_in(kind: str) -> tuple[Resource, ...]:
    """The resources of a kind that every cluster has, whether or not they are stored."""
    match kind:
        case "Tier":
            return tuple(defaulted(Tier(metadata=Metadata(name=name))) for name in BUILT_IN_TIERS)
        case "Profile":
            allow = [Rule(action="Allow")]
            return (
                Profile(
                    metadata=Metadata(name=DEFAULT_ALLOW_PROFILE),
                    spec=ProfileSpec(ingress=allow, egress=allow),
                ),
            )
        case _:
            return ()


async def initialise(resources: Resources) -> None:
    """Make sure that the built-in tiers and the cluster's identity are stored, as other readers expect.

    The identity names neither a type of cluster nor a version: agents know them, a client does not, and
    without a version nobody refuses to work with another. Whoever may not write them leaves them to others.
    """
    listing = await resources.store.list(kind_prefix("Tier"))
    there = {entry.path for entry in listing.entries}
    missing = [tier for tier in built_in("Tier") if key_of(tier).path not in there]
    if await resources.store.get(_IDENTITY.path) is None:
        missing.append(_identity())
    for resource in missing:
        try:
            await resources.create(resource)
        except (Conflict, Denied):
            continue  # another client was faster, or will do it


def _identity() -> Resource:
    return ClusterInformation(
        metadata=Metadata(name=_IDENTITY.name),
        spec=ClusterInformationSpec(cluster_guid=uuid.uuid4().hex, datastore_ready=True),
    )


# --- writing -----------------------------------------------------------------------------------------


async def admit(resources: Resources, resource: Resource, before: Resource | None) -> None:
    """Raise ``NotAdmitted`` if ``resource`` may not be written beside what is stored now, in the place of ``before``.

    ``before`` is None where nothing is stored, or nothing that can be read.
    """
    judge_owner(key_of(resource))
    if before is not None:
        changed = tuple(resource.changes(before))
        if changed:
            raise NotAdmitted(*changed)
    if resource.kind in IN_TIERS:
        await _admit_tier(resources, tier_of(resource))
    if isinstance(resource, IPPool) and before is None:  # its prefix and block size can never change
        await _admit_pool(resources, resource)


async def _admit_tier(resources: Resources, tier: str) -> None:
    if tier not in BUILT_IN_TIERS and await resources.store.get(Key("Tier", tier).path) is None:
        raise _refuse(f"there is no tier {tier!r}", "create it first", ("spec", "tier"))


async def _admit_pool(resources: Resources, pool: IPPool) -> None:
    overlapping = await overlaps(resources, [pool])
    if overlapping:
        raise NotAdmitted(*overlapping.values())
    cidr = parse_cidr(pool.spec.cidr)
    anywhere = Key("IPAMBlock", f"{cidr.address}/{cidr.length}").path.rpartition("/")[0]
    listing = await resources.store.list(f"{anywhere}/")
    for entry in listing.entries:
        key = parse_path(entry.path)
        block = None if key is None else _parsed(key.name)
        if block is not None and block.overlaps(cidr) and block.length != pool.spec.block_size:
            raise _refuse(
                f"there is a block {block} of addresses already, of another size than {pool.spec.block_size}",
                f"write {block.length}, or release the block's addresses and its affinity first",
                ("spec", "blockSize"),
            )


async def overlaps(resources: Resources, pools: Iterable[IPPool]) -> dict[str, Finding]:
    """Those of ``pools`` that overlap with another stored one, by name, and what is to be said of each."""
    listing = await resources.store.list(kind_prefix("IPPool"))
    stored = [
        (key.name, theirs)
        for entry in listing.entries
        if (key := parse_path(entry.path)) and (theirs := _pool_cidr(entry.value))
    ]
    found = {}
    for pool in pools:
        cidr = parse_cidr(pool.spec.cidr)
        for name, theirs in stored:
            if name != pool.metadata.name and theirs.overlaps(cidr):
                found[pool.metadata.name] = Finding(
                    ("spec", "cidr"),
                    f"{cidr} overlaps with pool {name!r} ({theirs})",
                    "choose another prefix",
                )
                break
    return found


@lru_cache(maxsize=4096)
def _pool_cidr(value: bytes) -> Cidr | None:
    """The prefix of a stored pool; None if it cannot be read, for nobody can overlap with that."""
    try:
        pool = decode(Key("IPPool", "any"), value, 0)
    except ModelError:
        return None
    return _parsed(pool.spec.cidr) if isinstance(pool, IPPool) else None


def _parsed(text: str) -> Cidr | None:
    try:
        return parse_cidr(text)
    except AddressError:
        return None


# --- deleting ----------------------------------------------------------------------------------------


async def admit_deletion(resources: Resources, key: Key) -> None:
    """Raise ``NotAdmitted`` if what is stored at ``key`` may not be deleted now."""
    judge_owner(key)
    if any(key == key_of(each) for each in built_in(key.kind)):
        raise _refuse("it is built in and cannot be deleted")
    if key.kind == "Tier":
        holding = await _policies_of(resources, key.name)
        if holding:
            more = f" and {len(holding) - 1} more" if len(holding) > 1 else ""
            raise _refuse(f"the tier still holds {holding[0]}{more}", "delete its policies first")


async def _policies_of(resources: Resources, tier: str) -> Sequence[str]:
    """The policies that a tier holds, in words; one that cannot be read, of a tier that cannot either, may be among them."""
    holding = []
    for kind in IN_TIERS:
        listing = await resources.store.list(kind_prefix(kind))
        for entry in listing.entries:
            key = parse_path(entry.path)
            if key is None:
                continue
            try:
                resource = decode(key, entry.value, entry.revision)
            except ModelError:
                if _readable_tier(entry.value) in {tier, None}:
                    holding.append(f"{key}, which cannot be read")
                continue
            if isinstance(resource, Resource) and tier_of(resource) == tier:
                holding.append(str(key))
    return holding


def _readable_tier(value: bytes) -> str | None:
    """The tier of a policy that cannot be read as one; None where that cannot be told either."""
    try:
        spec = msgspec.json.decode(value)["spec"]
        return str(spec.get("tier") or DEFAULT_TIER)
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, AttributeError):
        return None


def judge_owner(key: Key) -> None:
    """Raise ``NotAdmitted`` if people may neither write nor delete ``key``, whatever is stored."""
    kind = KINDS.get(key.kind)
    if kind is not None and kind.READ_ONLY:
        raise _refuse(kind.READ_ONLY)
    prefixes, word = _OF_KUBERNETES.get(key.kind, ((), ""))
    for prefix in prefixes:
        if key.name.startswith(prefix):
            raise _refuse(
                "it belongs to a policy of Kubernetes",
                "change that one through the Kubernetes API, or where this store holds it as"
                f" {word} {key.name.removeprefix(prefix)}",
            )
