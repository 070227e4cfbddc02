"""What a resource must agree with beyond itself, before it is written or deleted.

In:   a resource (or a key) and the store's other resources.
Out:  ``NotAdmitted`` with a sentence, or nothing.
Next: ``cli.resources`` writes what is admitted.

These are checks of one moment, as a client makes them; the calculation must cope with whatever is stored.
"""

from __future__ import annotations

from calico.datastore.api import Conflict
from calico.datastore.typed import Resources
from calico.model.address import parse_cidr
from calico.model.keys import Key
from calico.model.policy import (
    DEFAULT_ALLOW_PROFILE,
    GlobalNetworkPolicy,
    NetworkPolicy,
    Profile,
    Tier,
)
from calico.model.policy_validation import BUILT_IN_TIERS
from calico.model.pool import IPPool
from calico.model.resource import Metadata, Resource
from calico.model.validation import defaulted


class NotAdmitted(Exception):
    """A resource that is valid by itself does not fit what is stored."""


async def initialise(resources: Resources) -> None:
    """Make sure that the built-in tiers are there."""
    for name in BUILT_IN_TIERS:
        key = Key("Tier", name)
        if await resources.store.get(key.path) is None:
            try:
                await resources.create(defaulted(Tier(metadata=Metadata(name=name))))
            except Conflict:
                continue  # another client was faster


async def admit(resources: Resources, resource: Resource) -> None:
    """Raise ``NotAdmitted`` if ``resource`` may not be written beside what is stored now."""
    match resource:
        case NetworkPolicy() | GlobalNetworkPolicy():
            tier = resource.spec.tier
            if await resources.store.get(Key("Tier", tier).path) is None:
                raise NotAdmitted(f"spec.tier: there is no tier {tier!r}; create it first")
        case IPPool():
            cidr = parse_cidr(resource.spec.cidr)
            for other in await resources.list("IPPool"):
                assert isinstance(other, IPPool)
                if other.metadata.name == resource.metadata.name:
                    if parse_cidr(other.spec.cidr) != cidr:
                        raise NotAdmitted(
                            f"spec.cidr: a pool's prefix cannot change ({other.spec.cidr} is stored)"
                        )
                    if other.spec.block_size != resource.spec.block_size:
                        raise NotAdmitted(
                            f"spec.blockSize: a pool's block size cannot change ({other.spec.block_size} is stored)"
                        )
                elif parse_cidr(other.spec.cidr).overlaps(cidr):
                    raise NotAdmitted(
                        f"spec.cidr: overlaps with pool {other.metadata.name!r} ({other.spec.cidr})"
                    )
        case Profile() if resource.metadata.name == DEFAULT_ALLOW_PROFILE:
            raise NotAdmitted(f"the profile {DEFAULT_ALLOW_PROFILE!r} is built in")


async def admit_deletion(resources: Resources, key: Key) -> None:
    """Raise ``NotAdmitted`` if what is stored at ``key`` may not be deleted now."""
    if key.kind != "Tier":
        return
    if key.name in BUILT_IN_TIERS:
        raise NotAdmitted(f"the tier {key.name!r} is built in")
    for kind in ("NetworkPolicy", "GlobalNetworkPolicy"):
        for policy in await resources.list(kind, bad=lambda *_: None):
            assert isinstance(policy, NetworkPolicy | GlobalNetworkPolicy)
            if policy.spec.tier == key.name:
                raise NotAdmitted(
                    f"the tier still holds {kind} {policy.metadata.name!r}; delete its policies first"
                )
