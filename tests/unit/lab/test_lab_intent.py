"""What a lab's store says, as agents read it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from calico.datastore.location import Datastore
from calico.datastore.typed import Resources
from calico.lab.intent import facts
from calico.model.keys import Key, key_of
from calico.model.kubernetes_kinds import Namespace
from calico.model.policy import GlobalNetworkPolicy
from support.builders import metadata


def test_a_policy_that_cannot_be_read_is_expected_to_deny(tmp_path: Path) -> None:
    """Agents deny what it may have denied, so a probe must not expect to get through; the rest is read as it is."""
    broken, shop = Key("GlobalNetworkPolicy", "broken"), Namespace(metadata=metadata("shop"))

    store = Datastore(tmp_path / "calico.db")

    async def write() -> None:
        opened = store.open()
        await Resources(opened).create(shop)
        await opened.put(broken.path, b"{{{", revision=None)
        await opened.close()

    asyncio.run(write())
    found = facts(store)
    policy = found[broken]
    assert isinstance(policy, GlobalNetworkPolicy)
    assert [rule.action for rule in (*policy.spec.ingress, *policy.spec.egress)] == ["Deny", "Deny"]
    assert found.keys() == {broken, key_of(shop)}
