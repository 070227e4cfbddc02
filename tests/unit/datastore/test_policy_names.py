"""Policies under the names that their authors gave them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from calico.datastore.memory import MemoryStore
from calico.datastore.policy_names import migrate
from calico.model.keys import ROOT, Key

OLD = Key("NetworkPolicy", "default.web", "shop")
NEW = Key("NetworkPolicy", "web", "shop")


def policy(name: str, **spec: Any) -> bytes:
    tree = {
        "kind": "NetworkPolicy",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "namespace": "shop", "uid": "u", "newer": 1},
        "spec": {"selector": "all()", "unknown": [1]} | spec,
    }
    return json.dumps(tree).encode()


def migrated(stored: dict[Key, bytes]) -> tuple[dict[str, Any], list[str]]:
    """What a store holds after the migration, and what it says of those that stayed."""

    async def work() -> tuple[dict[str, Any], list[str]]:
        store = MemoryStore()
        for key, value in stored.items():
            await store.create(key.path, value)
        moves = await migrate(store)
        assert [move for move in await migrate(store) if not move.problem] == []
        left = {entry.path: entry.value for entry in (await store.list(ROOT)).entries}
        await store.close()
        return left, [move.problem for move in moves if move.problem]

    return asyncio.run(work())


@pytest.mark.parametrize("tier", [{}, {"tier": "default"}])
def test_a_policy_of_the_default_tier_loses_the_prefix_and_nothing_else(tier: dict[str, str]) -> None:
    """Also fields that this version does not know stay as they are."""
    left, kept = migrated({OLD: policy("default.web", **tier)})

    assert kept == []
    assert {path: json.loads(value) for path, value in left.items()} == {
        NEW.path: json.loads(policy("web", **tier))
    }


def test_every_kind_of_policy_is_looked_at() -> None:
    """Global ones and staged ones too; sets and tiers of such a name are none."""
    kinds = ("GlobalNetworkPolicy", "StagedGlobalNetworkPolicy")
    stored = {Key(kind, "default.x"): policy("default.x") for kind in kinds}
    stored[Key("GlobalNetworkSet", "default.x")] = b"{}"

    left, kept = migrated(stored)

    assert kept == []
    assert left.keys() == {
        *(Key(kind, "x").path for kind in kinds),
        Key("GlobalNetworkSet", "default.x").path,
    }


def test_what_cannot_be_moved_stays_and_is_named() -> None:
    """Another policy of the new name, another tier, and what cannot be read."""
    stored = {
        OLD: policy("default.web"),
        NEW: policy("web", order=1),
        Key("GlobalNetworkPolicy", "default.other"): policy("default.other", tier="other"),
        Key("GlobalNetworkPolicy", "default.broken"): b"{",
    }

    left, kept = migrated(stored)

    assert left == {key.path: value for key, value in stored.items()}
    assert sorted(sentence.split(";")[0][:24] for sentence in kept) == [
        "it cannot be read",
        "it is of tier 'other', w",
        "there is another policy ",
    ]


def test_an_interrupted_run_is_repeated() -> None:
    """Where both names are left with the same content, the former goes."""

    async def work() -> None:
        store = MemoryStore()
        await store.create(OLD.path, policy("default.web"))
        await migrate(store)
        await store.create(OLD.path, policy("default.web"))
        assert [move.problem for move in await migrate(store)] == [""]
        assert [entry.path for entry in (await store.list(ROOT)).entries] == [NEW.path]
        await store.close()

    asyncio.run(work())
