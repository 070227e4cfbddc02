"""What the agent answers to whoever asks whether the kernel holds what is meant."""

from __future__ import annotations

import asyncio
from typing import Any

from calico.calculation.fingerprint import fingerprint
from calico.calculation.oracle import desired
from calico.desired import EndpointId
from calico.model.keys import key_of
from calico.ruleset import ast
from support import clockwork
from support.agent_parts import Agent
from support.builders import endpoint, policy, profile, rule

OPEN = profile("open", ingress=[rule()], egress=[rule()])
WEB = endpoint("web", labels={"app": "web"}, address="10.0.0.1", profiles=["open"])
DB = endpoint("db", labels={"app": "db"}, address="10.0.0.2", profiles=["open"])
DOOR = policy("door", selector="app == 'db'", source="app == 'web'")
DB_ID = EndpointId("WorkloadEndpoint", "default", "db")
WEB_ID = EndpointId("WorkloadEndpoint", "default", "web")


def asked(*resources: Any, tamper: str = "", about: EndpointId = DB_ID) -> dict[str, Any]:
    """The answer of an agent that has programmed ``resources``, one chain of which somebody has emptied since."""

    async def body() -> dict[str, Any]:
        agent = Agent()
        async with agent.running():
            agent.tell(*resources, in_sync=True)
            await asyncio.sleep(1)
            await agent.loop.pause_repair(100)
            if tamper:
                (chain,) = (name for name in agent.backend.held[4].chains if tamper in name)
                agent.backend.held[4].chains[chain] = ast.Chain(())
            before = list(agent.story)
            answer = await agent.loop.prove(about)
            assert agent.story == before, "asking writes nothing"
            return answer

    return clockwork.run(body())


def test_what_is_as_meant_is_proven() -> None:
    """The answer says what is meant, too, so that whoever asks can tell whether that is what the store says."""
    answer = asked(OPEN, WEB, DB, DOOR)
    state = desired("here", {key_of(each): each for each in (OPEN, WEB, DB, DOOR)})
    assert answer["state"] == "proven"
    assert (answer["differences"], answer["elsewhere"]) == ([], 0)
    assert answer["fingerprint"] == fingerprint(state.endpoints[DB_ID], state.policies, state.profiles)


def test_a_difference_on_the_way_names_chain_and_rule() -> None:
    """It is drift for the endpoint whose packets meet it, and elsewhere for others."""
    answer = asked(OPEN, WEB, DB, DOOR, tamper="cali-pi-np/default/door")
    assert answer["state"] == "drifted"
    assert "NetworkPolicy default/door tier default ingress rule 0" in answer["differences"][0]
    other = asked(OPEN, WEB, DB, DOOR, tamper="cali-pi-np/default/door", about=WEB_ID)
    assert (other["state"], other["elsewhere"]) == ("proven", 1)


def test_an_endpoint_that_is_not_here_is_unknown() -> None:
    """The agent speaks of its own endpoints only."""
    answer = asked(OPEN, WEB)
    assert answer["state"] == "unknown"
    assert "no such endpoint" in answer["reason"]


def test_before_the_first_picture_nothing_is_claimed() -> None:
    """A question that comes too early is answered within moments, with unknown."""

    async def body() -> dict[str, Any]:
        agent = Agent()
        async with agent.running():
            return await agent.loop.prove(DB_ID)

    answer = clockwork.run(body())
    assert answer["state"] == "unknown"
    assert "has not programmed" in answer["reason"]


def test_a_kernel_that_cannot_be_read_is_unknown() -> None:
    """The reason is the back end's."""

    async def body() -> dict[str, Any]:
        agent = Agent()
        async with agent.running():
            agent.tell(OPEN, DB, in_sync=True)
            await asyncio.sleep(1)

            def check(_: object) -> list[Any]:
                raise OSError("no such table")

            agent.backend.check = check
            return await agent.loop.prove(DB_ID)

    answer = clockwork.run(body())
    assert answer["state"] == "unknown"
    assert "no such table" in answer["reason"]
