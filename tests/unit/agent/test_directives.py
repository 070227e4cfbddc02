"""What the store tells an agent about itself, and what the loop may know of a store that is locked."""

from __future__ import annotations

from typing import Any

import pytest

from calico.agent.directives import Directives, Gate
from calico.agent.lives import Renewal
from calico.model import codec
from calico.model.fact import InSync, Update
from calico.model.keys import Key, key_of
from calico.model.settings import Settings
from calico.model.settings_sources import from_environment

LOCK = Key("ClusterInformation", "default")


def fact(kind: str, name: str, spec: dict[str, Any], labels: dict[str, str] | None = None) -> Update:
    resource = codec.from_builtins(
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name, "labels": labels or {}},
            "spec": spec,
        }
    )
    return Update(key_of(resource), resource)


def felix(name: str, **spec: Any) -> Update:
    return fact("FelixConfiguration", name, spec)


def lock(ready: bool) -> Update:
    return fact("ClusterInformation", "default", {"datastoreReady": ready})


def some(name: str) -> Update:
    return fact("GlobalNetworkSet", name, {"nets": ["10.0.0.0/8"]})


def gone(update: Update) -> Update:
    return Update(update.key, None)


def directives(**variables: str) -> Directives:
    return Directives("here", "nftables", (from_environment(variables),))


def test_settings_follow_the_store_and_the_nodes_labels() -> None:
    """A resource comes, is overridden, matches by label, and goes again."""
    known = directives()
    known.take(felix("default", logPrefix="all"))
    assert known.resolved.settings == Settings(log_prefix="all")
    known.take(felix("rack-1", nodeSelector="rack == '1'", logPrefix="rack"))
    assert known.resolved.settings == Settings(log_prefix="all")
    known.take(fact("Node", "there", {}, {"rack": "1"}))
    assert known.resolved.settings == Settings(log_prefix="all")
    known.take(fact("Node", "here", {}, {"rack": "1"}))
    assert known.resolved.settings == Settings(log_prefix="rack")
    known.take(felix("node.here", logPrefix="own"))
    assert known.resolved.settings == Settings(log_prefix="own")
    for name in ("node.here", "rack-1", "default"):
        known.take(Update(Key("FelixConfiguration", name), None))
    assert known.resolved.settings == Settings()


def test_labels_matter_only_where_a_selector_asks_for_them() -> None:
    """An agent need not read its node before it starts unless they do."""
    known = directives()
    known.take(felix("default", logPrefix="all"))
    assert not known.selective
    known.take(felix("rack-1", nodeSelector="all()"))
    assert known.selective


def test_only_a_store_that_says_so_is_locked() -> None:
    """No word about it is as good as ready."""
    known = directives()
    assert not known.locked
    known.take(lock(ready=False))
    assert known.locked
    known.take(gone(lock(ready=False)))
    assert not known.locked


def test_facts_pass_until_the_picture_is_complete_and_after() -> None:
    """The loop gets all that the store says, in its order."""
    known = directives()
    gate = Gate(known, Settings())
    assert gate.through([some("a")]) == [some("a")]
    assert gate.through([some("b"), InSync()]) == [some("b"), InSync()]
    assert gate.through([some("c"), gone(some("a"))]) == [some("c"), gone(some("a"))]


def test_other_settings_end_the_life_before_anything_is_programmed() -> None:
    """Not before the picture is complete, for until then the settings are not known either."""
    gate = Gate(directives(), Settings())
    assert gate.through([felix("default", logPrefix="x")])
    assert gate.through([felix("default", logPrefix="y"), some("a")])
    with pytest.raises(Renewal, match="logPrefix y"):
        gate.through([some("b"), InSync()])


def test_a_change_that_makes_no_difference_ends_nothing() -> None:
    """The environment is stronger, or the value is the built-in one."""
    gate = Gate(directives(FELIX_LOGPREFIX="mine"), Settings(log_prefix="mine"))
    assert gate.through([InSync()]) == [InSync()]
    assert gate.through([felix("default", logPrefix="theirs", interfacePrefix="cali")])


def test_a_life_ends_when_its_settings_change() -> None:
    """Also back to the built-in ones."""
    gate = Gate(directives(), Settings(log_prefix="x"))
    assert gate.through([felix("default", logPrefix="x"), InSync()])
    with pytest.raises(Renewal, match="built-in"):
        gate.through([gone(felix("default"))])


def test_a_store_that_is_locked_from_the_start_is_never_complete() -> None:
    """So nothing is programmed; when it is unlocked, all is known at once."""
    gate = Gate(directives(), Settings())
    assert gate.through([some("a"), lock(ready=False)]) == [some("a"), lock(ready=False)]
    assert gate.through([some("b"), InSync()]) == []
    assert gate.through([some("c")]) == []
    assert gate.held == 2
    passed = gate.through([lock(ready=True)])
    assert passed == [some("b"), some("c"), lock(ready=True), InSync()]
    assert gate.held == 0
    assert gate.through([some("d")]) == [some("d")]


def test_what_happens_in_a_locked_store_is_held_back_and_only_its_end_counts() -> None:
    """Half of a migration is never seen; a fact that changed twice is told once."""
    gate = Gate(directives(), Settings())
    gate.through([some("a"), InSync()])
    assert gate.through([lock(ready=False), gone(some("a"))]) == []
    assert gate.through([some("b")]) == []
    assert gate.through([some("a"), gone(some("b"))]) == []
    assert gate.through([lock(ready=True)]) == [lock(ready=True), some("a"), gone(some("b"))]


def test_settings_that_change_in_a_locked_store_wait_with_the_rest() -> None:
    """A new life would have to wait for a complete picture, and repair nothing meanwhile."""
    gate = Gate(directives(), Settings())
    gate.through([InSync()])
    assert gate.through([lock(ready=False), felix("default", logPrefix="x")]) == []
    with pytest.raises(Renewal):
        gate.through([lock(ready=True)])
