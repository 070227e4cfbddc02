"""Every kind of resource, whatever is valid in it, in every store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from msgspec.structs import replace

from calico.datastore.typed import Resources
from calico.model.ipam_kinds import VIEWS
from calico.model.keys import Key, key_of
from calico.model.resource import Metadata, Resource
from support.resource_strategies import one_of_each
from support.stores import STORES, World, run_in


def _bare(resource: Resource) -> Resource:
    """The resource without what a store gives it."""
    metadata = replace(resource.metadata, uid=None, creation_timestamp=None, resource_version=None)
    return replace(resource, metadata=metadata)


@pytest.mark.parametrize("kind", STORES)
@settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(given_resources=one_of_each())
def test_nothing_is_lost(
    kind: str, tmp_path_factory: pytest.TempPathFactory, given_resources: list[Resource]
) -> None:
    """What is created is got, listed, changed and deleted by the name that people see, and is what was given."""

    async def test(world: World) -> None:
        client = Resources(world.store)
        for resource in given_resources:
            created = await client.create(resource)
            key = _as_people_say(created)
            assert _bare(created) == _bare(resource)
            assert await client.get(key) == created
            assert await client.list(resource.kind) == (created,)
            assert await client.apply(created) == await client.get(key)
            assert await client.modify(key, lambda same: same) == await client.get(key)
        for resource in given_resources:
            await client.delete(_as_people_say(resource))
            assert await client.list(resource.kind) == ()

    run_in(kind, tmp_path_factory.mktemp("store"), test)


def _as_people_say(resource: Resource) -> Key:
    """The key of a resource by its own name; a view's record has another."""
    name = resource.metadata.name
    return Key(resource.kind, name) if resource.kind in VIEWS else key_of(resource)


@pytest.mark.parametrize("kind", STORES)
def test_records_keep_what_we_do_not_know(kind: str, tmp_path: Path) -> None:
    """A record that is changed as a resource keeps the fields of a newer writer."""
    from calico.model.ipam_kinds import IPAMConfiguration, IPAMConfigurationSpec

    async def test(world: World) -> None:
        path = "/calico/ipam/v2/config"
        await world.store.create(
            path, b'{"strict_affinity":true,"newer":{"a":1},"auto_allocate_blocks":true}'
        )
        client = Resources(world.store)
        await client.apply(
            IPAMConfiguration(
                metadata=Metadata(name="default"), spec=IPAMConfigurationSpec(ip_cooldown_seconds=60)
            )
        )
        entry = await world.store.get(path)
        assert entry is not None
        assert b'"newer":{"a":1}' in entry.value
        assert b'"strict_affinity":false' in entry.value
        assert b'"ipCooldownSeconds":60' in entry.value

    run_in(kind, tmp_path, test)
