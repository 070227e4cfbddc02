"""What may be written or deleted beside what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from calico.datastore.admission import NotAdmitted, admit, admit_deletion, built_in, initialise
from calico.datastore.memory import MemoryStore
from calico.datastore.typed import Resources
from calico.model import codec
from calico.model.errors import ModelError
from calico.model.ipam import IPAMBlock
from calico.model.keys import Key, key_of
from calico.model.resource import Resource
from calico.model.validation import defaulted

Work = Callable[[Resources], Awaitable[None]]


def _make(kind: str, name: str, spec: dict, **metadata: str) -> Resource:
    tree = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name, **metadata}}
    return defaulted(codec.from_builtins({**tree, "spec": spec}))


def _pool(name: str, cidr: str, size: int | None = None) -> Resource:
    return _make("IPPool", name, {"cidr": cidr, **({"blockSize": size} if size else {})})


def _in(stored: list[Resource], work: Work) -> None:
    async def run() -> None:
        client = Resources(MemoryStore())
        for resource in stored:
            await client.create(resource)
        await work(client)

    asyncio.run(run())


async def _admit(client: Resources, resource: Resource) -> None:
    """Judge a resource beside what is stored, over what is stored of it."""
    try:
        before = await client.get(key_of(resource))
    except ModelError:
        before = None
    await admit(client, resource, before)


def _refused(stored: list[Resource], resource: Resource) -> str:
    with pytest.raises(NotAdmitted) as refusal:
        _in(stored, lambda client: _admit(client, resource))
    return str(refusal.value)


def _not_deleted(stored: list[Resource], key: Key) -> str:
    with pytest.raises(NotAdmitted) as refusal:
        _in(stored, lambda client: admit_deletion(client, key))
    return str(refusal.value)


TIERED = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")


@pytest.mark.parametrize("kind", TIERED)
def test_a_policy_needs_its_tier(kind: str) -> None:
    """A policy of a tier that is not there is refused, and the tier is named."""
    policy = _make(kind, "web", {"tier": "security"})
    assert "'security'" in _refused([], policy)
    _in([_make("Tier", "security", {"order": 1})], lambda client: _admit(client, policy))


def test_built_in_tiers_need_not_be_stored() -> None:
    """A policy of the default tier is welcome in an empty store."""
    _in([], lambda client: _admit(client, _make("NetworkPolicy", "web", {})))


@pytest.mark.parametrize("cidr", ["10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/24"])
def test_pools_do_not_overlap(cidr: str) -> None:
    """The same prefix, a wider and a narrower one are refused, and the other pool is named."""
    assert "overlaps with pool 'one'" in _refused([_pool("one", "10.1.0.0/16")], _pool("two", cidr))


def test_pools_side_by_side_are_welcome() -> None:
    """Neighbouring prefixes and other families do not overlap."""
    stored = [_pool("one", "10.1.0.0/16")]
    _in(stored, lambda client: _admit(client, _pool("two", "10.2.0.0/16")))
    _in(stored, lambda client: _admit(client, _pool("six", "fd00::/48")))


def test_a_pool_keeps_its_prefix_and_block_size() -> None:
    """Blocks are cut already; applying the same pool again is welcome."""
    stored = [_pool("one", "10.1.0.0/16")]
    assert "prefix cannot change (10.1.0.0/16" in _refused(stored, _pool("one", "10.2.0.0/16"))
    assert "block size cannot change (26" in _refused(stored, _pool("one", "10.1.0.0/16", 28))
    _in(stored, lambda client: _admit(client, _pool("one", "10.1.0.0/16", 26)))


def test_an_unreadable_pool_does_not_keep_others_out() -> None:
    """What another writer broke must not block the repair, nor any other pool."""

    async def work(client: Resources) -> None:
        await client.store.create(Key("IPPool", "broken").path, b"{")
        await _admit(client, _pool("broken", "10.1.0.0/16"))
        await _admit(client, _pool("other", "10.2.0.0/16"))

    _in([], work)


def test_the_default_profile_cannot_be_deleted() -> None:
    """Its meaning is the same everywhere."""
    (profile,) = built_in("Profile")
    assert "built in" in _not_deleted([], key_of(profile))


@pytest.mark.parametrize("tier", [key_of(each) for each in built_in("Tier")], ids=str)
def test_built_in_tiers_cannot_be_deleted(tier: Key) -> None:
    """Every cluster has them."""
    assert "built in" in _not_deleted([], tier)


@pytest.mark.parametrize("kind", TIERED)
def test_a_tier_with_policies_cannot_be_deleted(kind: str) -> None:
    """Its policies would lose their place; the first of them is named."""
    tier = _make("Tier", "security", {"order": 1})
    policy = _make(kind, "web", {"tier": "security"})
    assert str(key_of(policy)) in _not_deleted([tier, policy], key_of(tier))
    other = _make(kind, "web", {"tier": "default"})
    _in([tier, other], lambda client: admit_deletion(client, key_of(tier)))


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (b'{"spec":{"tier":"security","order":"x"}}', True),
        (b'{"spec":{"tier":"other","order":"x"}}', False),
        (b'{"spec":{"order":"x"}}', False),
        (b"{", True),
        (b'{"spec":7}', True),
    ],
    ids=repr,
)
def test_a_policy_that_cannot_be_read_holds_its_tier(value: bytes, holds: bool) -> None:
    """Perhaps it denies something there; of one whose tier cannot be read either nobody knows, so it may be any."""
    tier, key = Key("Tier", "security"), Key("GlobalNetworkPolicy", "bad")

    async def work(client: Resources) -> None:
        await client.store.create(key.path, value)
        if holds:
            with pytest.raises(NotAdmitted, match="holds GlobalNetworkPolicy/bad, which cannot be read"):
                await admit_deletion(client, tier)
        else:
            await admit_deletion(client, tier)

    _in([_make("Tier", "security", {"order": 1})], work)


def test_a_pool_takes_blocks_as_they_are() -> None:
    """Blocks that are there already, of a pool that is gone, must be of the new pool's size."""
    block = IPAMBlock(cidr="10.1.0.0/26", allocations=[None] * 64, unallocated=list(range(64)))

    async def work(client: Resources) -> None:
        await client.store.create(Key("IPAMBlock", block.cidr).path, codec.encode(block))
        with pytest.raises(NotAdmitted, match=r"spec.blockSize: there is a block 10.1.0.0/26 .* write 26"):
            await _admit(client, _pool("one", "10.1.0.0/16", 28))
        await _admit(client, _pool("one", "10.1.0.0/16"))
        await _admit(client, _pool("two", "10.2.0.0/16", 28))
        await _admit(client, _pool("six", "fd00::/48"))

    _in([], work)


def test_policies_of_kubernetes_are_not_ours_to_change() -> None:
    """They follow the Kubernetes API, and would come back."""
    policy = _make("NetworkPolicy", "knp.default.web", {})
    for sentence in (_refused([], policy), _not_deleted([policy], key_of(policy))):
        assert "Kubernetes API" in sentence
        assert sentence.endswith(" as netpol web")
    assert _not_deleted([], Key("GlobalNetworkPolicy", "kcnp.kube-admin.web")).endswith(
        " as clusternetworkpolicy web"
    )


def test_initialise_stores_the_built_in_tiers_once() -> None:
    """A second time, and beside others, it changes nothing."""

    async def work(client: Resources) -> None:
        await asyncio.gather(initialise(client), initialise(client))
        first = await client.list("Tier")
        await initialise(client)
        assert await client.list("Tier") == first
        assert [(each.metadata.name, each.spec.order, each.spec.default_action) for each in first] == [
            ("default", 1_000_000, "Deny"),
            ("kube-admin", 1_000, "Pass"),
            ("kube-baseline", 10_000_000, "Pass"),
        ]

    _in([], work)
