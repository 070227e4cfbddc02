"""What a resource must agree with beyond itself, before it is written or deleted.

In:   a resource (or a key) and the store's other resources.
Out:  ``NotAdmitted`` with a sentence, or nothing.
Next: ``cli.resources`` writes what is admitted.

These are checks of one moment, as a client makes them; the calculation must cope with whatever is stored.
What is stored but unreadable is passed over: it must not keep people from repairing it.
"""

from __future__ import annotations

from typing import Final

from calico.datastore.api import Conflict
from calico.datastore.typed import Resources
from calico.model.address import parse_cidr
from calico.model.errors import Finding, ModelError, Path, dotted
from calico.model.keys import Key, key_of
from calico.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW_PROFILE,
    GlobalNetworkPolicy,
    NetworkPolicy,
    Profile,
    ProfileSpec,
    Rule,
    Tier,
)
from calico.model.pool import IPPool
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted

KUBERNETES_POLICY: Final = "knp.default."
"""How the names of policies begin that are made of Kubernetes' own."""


class NotAdmitted(Exception):
    """A resource that is valid by itself does not fit what is stored; ``finding`` says where and why."""

    def __init__(self, message: str, remedy: str, path: Path = ()) -> None:
        self.finding = Finding(path, message, remedy)
        sentence = f"{message}; {remedy}" if remedy else message
        super().__init__(f"{dotted(path)}: {sentence}" if path else sentence)


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
    """Make sure that the built-in tiers are stored, as other readers of the store expect."""
    for tier in built_in("Tier"):
        if await resources.store.get(key_of(tier).path) is None:
            try:
                await resources.create(tier)
            except Conflict:
                continue  # another client was faster


async def admit(resources: Resources, resource: Resource) -> None:
    """Raise ``NotAdmitted`` if ``resource`` may not be written beside what is stored now."""
    _judge_owner(key_of(resource))
    if resource.READ_ONLY:
        raise NotAdmitted(resource.READ_ONLY, "")
    match resource:
        case NetworkPolicy() | GlobalNetworkPolicy():
            await _admit_tier(resources, resource.spec.tier)
        case IPPool():
            await _admit_pool(resources, resource)
        case Profile() if resource.metadata.name == DEFAULT_ALLOW_PROFILE:
            raise NotAdmitted("it is built in and cannot be changed", "write a profile of another name")
    if type(resource).changes is not Resource.changes:
        await _admit_change(resources, resource)


async def _admit_tier(resources: Resources, tier: str) -> None:
    if tier not in BUILT_IN_TIERS and await resources.store.get(Key("Tier", tier).path) is None:
        raise NotAdmitted(f"there is no tier {tier!r}", "create it first", ("spec", "tier"))


async def _admit_pool(resources: Resources, pool: IPPool) -> None:
    cidr = parse_cidr(pool.spec.cidr)
    for other in await resources.list("IPPool", bad=lambda *_: None):
        assert isinstance(other, IPPool)
        try:
            theirs = parse_cidr(other.spec.cidr)
        except ValueError:
            continue  # whoever stored it did not look; nobody can overlap with it
        if other.metadata.name != pool.metadata.name and theirs.overlaps(cidr):
            raise NotAdmitted(
                f"{cidr} overlaps with pool {other.metadata.name!r} ({theirs})",
                "choose another prefix",
                ("spec", "cidr"),
            )


async def _admit_change(resources: Resources, resource: Resource) -> None:
    try:
        before = await resources.get(key_of(resource))
    except ModelError:
        return  # unreadable: it may be repaired
    if before is not None:
        for finding in resource.changes(before):
            raise NotAdmitted(finding.message, finding.remedy, finding.path)


async def admit_deletion(resources: Resources, key: Key) -> None:
    """Raise ``NotAdmitted`` if what is stored at ``key`` may not be deleted now."""
    _judge_owner(key)
    if any(key == key_of(each) for each in built_in(key.kind)):
        raise NotAdmitted("it is built in and cannot be deleted", "")
    if key.kind != "Tier":
        return
    for kind in ("NetworkPolicy", "GlobalNetworkPolicy"):
        for policy in await resources.list(kind, bad=lambda *_: None):
            assert isinstance(policy, NetworkPolicy | GlobalNetworkPolicy)
            if policy.spec.tier == key.name:
                raise NotAdmitted(f"the tier still holds {key_of(policy)}", "delete its policies first")


def _judge_owner(key: Key) -> None:
    if key.kind == "NetworkPolicy" and key.name.startswith(KUBERNETES_POLICY):
        raise NotAdmitted(
            "it belongs to a policy of Kubernetes", "change that one through the Kubernetes API"
        )
