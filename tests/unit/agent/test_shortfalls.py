"""What stored resources ask of an agent that it does not do."""

from __future__ import annotations

from typing import Any

from calico.agent.shortfalls import MOST, Shortfalls
from calico.model import codec
from calico.model.fact import Update
from calico.model.keys import key_of


def fact(kind: str, name: str, spec: dict[str, Any]) -> Update:
    resource = codec.from_builtins(
        {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}
    )
    return Update(key_of(resource), resource)


def pool(number: int, mode: str = "Always") -> Update:
    return fact("IPPool", f"pool-{number}", {"cidr": f"10.{number}.0.0/16", "vxlanMode": mode})


def question(node: str) -> Update:
    return fact(
        "CalicoNodeStatus", f"ask-{node}", {"node": node, "classes": ["BGP"], "updatePeriodSeconds": 0}
    )


def test_what_is_asked_for_in_vain_is_said_until_it_is_no_longer_asked_for() -> None:
    """With the resource, the field, and what to do."""
    shortfalls = Shortfalls("here")
    shortfalls.take(pool(1))
    (sentence,) = shortfalls.sentences()
    assert sentence.startswith("IPPool/pool-1: spec.vxlanMode: ")
    shortfalls.take(pool(1, "Never"))
    assert shortfalls.sentences() == []
    shortfalls.take(pool(1))
    shortfalls.take(Update(pool(1).key, None))
    assert shortfalls.sentences() == []


def test_many_that_ask_for_the_same_make_one_sentence() -> None:
    """Three are named, the rest is counted."""
    shortfalls = Shortfalls("here")
    for number in range(1, 6):
        shortfalls.take(pool(number))
    (sentence,) = shortfalls.sentences()
    assert sentence.startswith("IPPool/pool-1, IPPool/pool-2, IPPool/pool-3 and 2 more: spec.vxlanMode: ")


def test_what_is_for_other_nodes_or_for_nobodys_agent_is_left_out() -> None:
    """Each node speaks for itself; settings are spoken of elsewhere."""
    shortfalls = Shortfalls("here")
    shortfalls.take(question("there"))
    shortfalls.take(fact("FelixConfiguration", "default", {"bpfEnabled": True}))
    shortfalls.take(fact("KubeControllersConfiguration", "default", {}))
    assert shortfalls.sentences() == []
    shortfalls.take(question("here"))
    assert len(shortfalls.sentences()) == 1


def test_a_report_stays_readable() -> None:
    """Beyond a number of sentences the rest is counted."""
    shortfalls = Shortfalls("here")
    for number in range(1, MOST + 3):
        rules = [{"action": "Allow"}] * number + [{"action": "Allow", "http": {"methods": ["GET"]}}]
        shortfalls.take(fact("GlobalNetworkPolicy", f"p-{number}", {"ingress": rules}))
    sentences = shortfalls.sentences()
    assert len(sentences) == MOST + 1
    assert sentences[-1] == "and 2 more of the kind"
