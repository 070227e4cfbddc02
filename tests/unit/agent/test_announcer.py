"""BGP's share of the agent on a clockwork: when BIRD is told what, and that nothing else waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from calico.agent.announcer import Announcer
from calico.bgp.control import BirdError, Refused
from calico.model.bgp import BGPPassword, SecretKeyRef
from calico.model.fact import Update
from calico.model.keys import key_of
from calico.model.resource import Resource
from support import clockwork
from support.agent_parts import Agent
from support.builders import endpoint
from support.clockwork import now
from support.speakers import node, peer


class FakeBird:
    """A BIRD that is told its configuration, and fails or hangs on request."""

    def __init__(self) -> None:
        self.loaded = ""
        self.calls: list[float] = []
        self.trouble: Exception | None = None
        self.takes = 0.0

    async def ensure(self, text: str) -> str:
        self.calls.append(now())
        await asyncio.sleep(self.takes)
        if self.trouble is not None:
            raise self.trouble
        before, self.loaded = self.loaded, text
        return "unchanged" if before == text else "reloaded" if before else "started"


class Speaker:
    """An announcer of node "here" and its BIRD."""

    def __init__(self) -> None:
        self.bird: Any = FakeBird()
        self.announcer = Announcer("here", self.bird, ("cali",), passwords=Path("/nowhere"))

    def tell(self, *resources: Resource) -> None:
        for resource in resources:
            self.announcer.take(Update(key_of(resource), resource))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.announcer.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()


HERE = node("here", "10.0.0.1")


def test_bird_is_told_nothing_before_the_facts_are_complete() -> None:
    """Half of the facts would take sessions down; the whole is told at once."""

    async def body() -> None:
        speaker = Speaker()
        async with speaker.running():
            speaker.tell(HERE)
            await asyncio.sleep(3600)
            assert speaker.bird.calls == []
            speaker.announcer.begin()
            await asyncio.sleep(0.001)
            assert "10.0.0.1" in speaker.bird.loaded

    clockwork.run(body())


def test_many_changes_are_few_configurations() -> None:
    """A hundred changes within a second reach BIRD as at most six configurations, the last of them complete."""

    async def body() -> None:
        speaker = Speaker()
        async with speaker.running():
            speaker.tell(HERE)
            speaker.announcer.begin()
            await asyncio.sleep(10)
            speaker.bird.calls.clear()
            for number in range(100):
                speaker.tell(peer("p", peer_ip=f"10.9.0.{number}", as_number=65000))
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert 1 <= len(speaker.bird.calls) <= 6
            assert "10.9.0.99" in speaker.bird.loaded

    clockwork.run(body())


def test_a_bird_that_died_is_missed_within_seconds() -> None:
    """BIRD tells nobody when it dies, so it is looked after without any change of facts, but seldom."""

    async def body() -> None:
        speaker = Speaker()
        async with speaker.running():
            speaker.announcer.begin()
            await asyncio.sleep(3600)
            assert 600 <= len(speaker.bird.calls) <= 730

    clockwork.run(body())


def test_a_failure_is_retried_ever_more_slowly_and_forgotten_once_mended() -> None:
    """A missing BIRD costs a try each half minute; when it is there the error goes."""

    async def body() -> None:
        speaker = Speaker()
        speaker.bird.trouble = BirdError("not installed")
        async with speaker.running():
            speaker.announcer.begin()
            await asyncio.sleep(3600)
            assert speaker.announcer.error == "not installed"
            assert 115 <= len(speaker.bird.calls) <= 130
            speaker.bird.trouble = None
            await asyncio.sleep(30)
            assert speaker.announcer.error is None

    clockwork.run(body())


def test_a_mended_configuration_does_not_wait_for_the_retry_of_the_broken_one() -> None:
    """After BIRD refused for long, another configuration is tried at once; the same one is not."""

    async def body() -> None:
        speaker = Speaker()
        speaker.bird.trouble = Refused("bird -p", "syntax error")
        async with speaker.running():
            speaker.tell(HERE)
            speaker.announcer.begin()
            await asyncio.sleep(100)
            speaker.bird.calls.clear()
            speaker.tell(HERE)
            await asyncio.sleep(1)
            assert speaker.bird.calls == []
            speaker.bird.trouble = None
            speaker.tell(peer("p", peer_ip="10.9.0.1", as_number=65000))
            await asyncio.sleep(1)
            assert "10.9.0.1" in speaker.bird.loaded
            assert speaker.announcer.error is None

    clockwork.run(body())


def test_an_unexpected_error_is_a_failure_of_bgp_alone() -> None:
    """A mistake in BGP's part is reported and tried again."""

    async def body() -> None:
        speaker = Speaker()
        speaker.bird.trouble = ZeroDivisionError("oops")
        async with speaker.running():
            speaker.announcer.begin()
            await asyncio.sleep(1)
            assert speaker.announcer.error == "unexpected ZeroDivisionError: oops"
            speaker.bird.trouble = None
            await asyncio.sleep(30)
            assert speaker.announcer.error is None

    clockwork.run(body())


def test_policy_and_routes_do_not_wait_for_a_bird_that_hangs() -> None:
    """BIRD takes a minute to answer: a change is in the kernel at once, and the status tells of BIRD when it knows."""

    async def body() -> None:
        speaker = Speaker()
        speaker.bird.takes = 60.0
        speaker.bird.trouble = BirdError("silent")
        agent = Agent(speaker.announcer)
        async with agent.running():
            agent.tell(HERE, in_sync=True)
            await asyncio.sleep(1)
            agent.tell(endpoint("one", address="10.0.0.1"))
            await asyncio.sleep(0.1)
            assert len(agent.routes.held) == 1
            assert agent.report["programmed"] is True
            await asyncio.sleep(60)
            assert agent.report["errors"] == {"BGP": "silent"}
            assert agent.report["programmed"] is False

    clockwork.run(body())


def test_password_is_looked_for_until_it_is_there(tmp_path: Path) -> None:
    """A session waits for its password, which is read again at every look; no fact has to change."""

    async def body() -> None:
        speaker = Speaker()
        speaker.announcer = Announcer("here", speaker.bird, ("cali",), passwords=tmp_path)
        secret = BGPPassword(secret_key_ref=SecretKeyRef(name="bgp", key="rack"))
        async with speaker.running():
            speaker.tell(HERE, peer("rack", peer_ip="10.0.0.254", as_number=65001, password=secret))
            speaker.announcer.begin()
            await asyncio.sleep(1)
            assert "disabled;" in speaker.bird.loaded
            assert "stay down" in speaker.announcer.problems[0]
            (tmp_path / "bgp").mkdir()
            (tmp_path / "bgp" / "rack").touch(0o600)
            (tmp_path / "bgp" / "rack").write_text("s3cret")
            await asyncio.sleep(10)
            assert 'password "s3cret";' in speaker.bird.loaded
            assert speaker.announcer.problems == ()

    clockwork.run(body())


def test_router_id_as_the_host_wants_it() -> None:
    """What the host says counts more than its address."""

    async def body() -> None:
        speaker = Speaker()
        speaker.announcer = Announcer(
            "here", speaker.bird, ("cali",), passwords=Path("/nowhere"), router_id="192.0.2.7"
        )
        async with speaker.running():
            speaker.tell(HERE)
            speaker.announcer.begin()
            await asyncio.sleep(1)
            assert "router id 192.0.2.7;" in speaker.bird.loaded

    clockwork.run(body())
