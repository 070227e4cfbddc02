"""When established flows are judged, and what becomes of a pass that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from calico.agent.revocation import GAP, REST, RESUMABLE, Revocation, flow_of
from calico.analysis.flows import TrackedFlow
from calico.calculation.oracle import State
from calico.desired import Delta, PoolRow, RouteRow
from calico.model.address import parse_address, parse_cidr
from calico.model.settings import Settings
from calico.programming.backend import Busy
from calico.programming.conntrack import Deleted, Entry
from support.agent_parts import Agent
from support.builders import endpoint
from support.clockwork import Inline, block, now, run

SOMETHING = Delta(routes={parse_cidr("10.0.0.1/32"): RouteRow("cali1")})


class Passes:
    """The moments at which flows were judged."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.outcome: Callable[[], Deleted] = lambda: Deleted(0, 0)
        self.revocation = Revocation(Settings(), State, revoke=self._revoke, thread=Inline())

    def _revoke(self, state: State, settings: Settings) -> Deleted:
        self.at.append(now())
        return self.outcome()

    def changed(self, delta: Delta = SOMETHING) -> None:
        self.revocation.note(delta)
        self.revocation.programmed()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.revocation.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_the_first_picture_is_judged_and_then_what_may_change_verdicts() -> None:
    """Not before it is programmed, and not for what changes no verdict."""

    async def body() -> None:
        passes = Passes()
        async with passes.running():
            await asyncio.sleep(5)
            assert passes.at == []
            passes.revocation.programmed()
            await asyncio.sleep(5)
            assert len(passes.at) == 1
            passes.changed(Delta())
            passes.changed(Delta(pools={parse_cidr("10.0.0.0/8"): PoolRow(True)}))
            passes.revocation.note(SOMETHING)
            await asyncio.sleep(5)
            assert len(passes.at) == 1
            passes.revocation.programmed()
            await asyncio.sleep(5)
            assert len(passes.at) == 2

    run(body())


def test_interfaces_and_repairs_count_as_changes() -> None:
    """Which endpoint governs an interface follows from it; and what others opened for a while may have been used."""

    async def body() -> None:
        passes = Passes()
        eth0 = {"eth0": frozenset({parse_address("192.0.2.1")})}
        expected = 0
        async with passes.running():
            for happens, counts in (
                (lambda: None, True),
                (lambda: passes.revocation.look(eth0), True),
                (lambda: passes.revocation.look(dict(eth0)), False),
                (passes.revocation.repaired, True),
            ):
                happens()
                passes.revocation.programmed()
                await asyncio.sleep(5)
                expected += counts
                assert len(passes.at) == expected

    run(body())


def test_changes_in_a_row_are_one_pass_a_second() -> None:
    """The first is judged at once, the others together."""

    async def body() -> None:
        passes = Passes()
        async with passes.running():
            for _ in range(30):
                passes.changed()
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
        first, *others = passes.at
        assert [at - first for at in others] == pytest.approx([GAP, 2 * GAP, 3 * GAP])

    run(body())


def test_a_long_pass_is_followed_by_a_longer_rest() -> None:
    """A host with very many flows spends a fifth of its time on them at most."""

    async def body() -> None:
        passes = Passes()

        def slowly() -> Deleted:
            block(2.0)
            return Deleted(0, 0)

        passes.outcome = slowly
        async with passes.running():
            for _ in range(300):
                passes.changed()
                await asyncio.sleep(0.1)
        assert [later - at for at, later in zip(passes.at, passes.at[1:], strict=False)] == pytest.approx(
            [2.0 * (1 + REST)] * (len(passes.at) - 1)
        )
        assert len(passes.at) > 2

    run(body())


@pytest.mark.parametrize(
    "trouble", [Busy("no answer"), OSError("no thread"), KeyError("a mistake"), Deleted(2, 1)]
)
def test_a_pass_that_fails_is_repeated(trouble: Any) -> None:
    """The report says why until one goes well, and what was ended is counted."""

    async def body() -> None:
        passes = Passes()

        def outcome() -> Deleted:
            if len(passes.at) < 3:
                if isinstance(trouble, Exception):
                    raise trouble
                return trouble
            return Deleted(1, 0)

        passes.outcome = outcome
        async with passes.running():
            passes.changed()
            await asyncio.sleep(0.1)
            assert passes.revocation.error
            await asyncio.sleep(60)
        assert len(passes.at) == 3
        assert passes.revocation.error is None
        assert passes.revocation.ended == (5 if isinstance(trouble, Deleted) else 1)

    run(body())


def test_only_where_it_is_wanted() -> None:
    """An agent judges no flow unless told to, and says in its report what it ended."""

    async def body() -> None:
        asked: list[tuple[int, list[str]]] = []
        for chosen in ("Keep", "Revoke"):
            agent = Agent(established_flows=chosen)
            if agent.loop._revocation is not None:
                passes = Passes()
                passes.outcome = lambda: Deleted(3, 0, resumable=True)
                agent.loop._revocation = passes.revocation
            async with agent.running():
                agent.tell(endpoint("a", address="10.0.0.1"), in_sync=True)
                await asyncio.sleep(1)
                asked.append((agent.report["revoked"], agent.report["warnings"]))
        assert asked == [(0, []), (3, [RESUMABLE])]

    run(body())


def entry(protocol: int, *ports: int, **fields: Any) -> Entry:
    a, service, b = (parse_address(text) for text in ("10.0.0.1", "10.96.0.1", "10.0.0.2"))
    return Entry(a, service, protocol, ports[0], ports[1], b, a, replies_from_port=ports[2], **fields)


def test_an_entry_as_policy_sees_it() -> None:
    """Who answers is the destination; what are no ports of policy's is left out."""
    a, service, b = (parse_address(text) for text in ("10.0.0.1", "10.96.0.1", "10.0.0.2"))
    assert flow_of(entry(6, 40000, 80, 8080)) == TrackedFlow(a, service, b, 6, 40000, 80, 8080)
    assert flow_of(entry(1, 0, 0, 0, icmp_type=8, icmp_code=0)) == TrackedFlow(
        a, service, b, 1, icmp_type=8, icmp_code=0
    )
    assert flow_of(entry(47, 1, 2, 3, expected=True)) == TrackedFlow(a, service, b, 47, expected=True)
