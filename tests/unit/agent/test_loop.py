"""The agent's loop on a clockwork, with a kernel of memory: what it does, in which order, how often, and what it says."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from calico.model.address import parse_cidr
from calico.programming.backend import Busy, Rejected
from calico.programming.monitor import Changes
from calico.programming.routes import Pending
from support import clockwork
from support.agent_parts import Agent
from support.builders import endpoint, host_endpoint, policy, profile
from support.clockwork import block, now

ONE = endpoint("one", address="10.0.0.1")
TWO = endpoint("two", address="10.0.0.2")
REJECTED = Rejected("the kernel said no")
BUSY = Busy("the lock is held")


def test_nothing_is_written_before_the_first_complete_picture() -> None:
    """Facts without InSync, and whatever the kernel does, lead to no write at all."""

    async def body() -> None:
        agent = Agent()
        async with agent.running():
            agent.tell(ONE)
            agent.loop.kernel_changed(Changes(lost=True))
            await asyncio.sleep(3600)
            assert agent.story == []
            assert agent.report["inSync"] is False
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            assert agent.story == ["all rules", "all routes"]
            assert agent.report["programmed"] is True

    clockwork.run(body())


def test_rules_go_before_routes_when_an_endpoint_comes_and_when_it_goes() -> None:
    """A route never leads to an endpoint without rules; what loses its rules first is closed, not open."""

    async def body() -> None:
        agent = Agent()
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            for change in (agent.tell, agent.forget):
                agent.story.clear()
                change(ONE)
                await asyncio.sleep(1)
                assert agent.story == ["rules", "routes"]
            assert agent.routes.held == {}

    clockwork.run(body())


def test_a_loop_at_rest_does_nothing() -> None:
    """Without changes there is one read-back in each refresh interval, and not one round more."""

    async def body() -> None:
        agent = Agent(refresh_interval=90.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            before = agent.report["rounds"]
            await asyncio.sleep(900)
            assert agent.backend.syncs == 1 + 10
            assert agent.report["rounds"] - before <= 2 * 10

    clockwork.run(body())


@pytest.mark.parametrize("due", [True, False])
@pytest.mark.parametrize("what", ["packet filter", "routes", "interfaces"])
def test_an_hour_of_failure_costs_one_try_in_ten_seconds(what: str, *, due: bool) -> None:
    """While something fails for long, also with a refused route that is due, the loop sleeps between tries."""

    async def body() -> None:
        agent = Agent()
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            trouble = {
                "packet filter": agent.backend.sync_trouble,
                "routes": agent.routes.trouble,
                "interfaces": agent.links.trouble,
            }[what]
            trouble.always = BUSY
            settled = 0
            settle = agent.network.settle

            def counted() -> object:
                nonlocal settled
                settled += 1
                return settle()

            agent.network.settle = counted  # type: ignore[assignment, method-assign]  to count rounds
            if due:
                agent.routes.due = now() + 5
            agent.loop.kernel_changed(Changes(lost=True))
            await asyncio.sleep(3600)
            assert agent.report["errors"] == {what: str(BUSY)}
            assert agent.report["programmed"] is False
            assert 360 <= settled <= 1200
            trouble.always = None
            await asyncio.sleep(11)
            assert agent.report["errors"] == {}
            assert agent.report["programmed"] is True

    clockwork.run(body())


def test_changes_during_a_long_failure_are_not_collected() -> None:
    """While the packet filter fails, changes are only taken into the picture; the sync that succeeds has them all."""

    async def body() -> None:
        agent = Agent()
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            agent.backend.apply_trouble.always = agent.backend.sync_trouble.always = REJECTED
            for number in range(600):
                agent.tell(endpoint(f"w{number}", address=f"10.0.{number // 250}.{number % 250}"))
                await asyncio.sleep(1)
            assert len(agent.loop._changes) <= 2
            agent.backend.apply_trouble.always = agent.backend.sync_trouble.always = None
            await asyncio.sleep(11)
            assert agent.rules_are_right
            assert len(agent.routes.held) == 600

    clockwork.run(body())


def test_a_change_of_rules_before_the_first_routes_succeed_is_not_lost() -> None:
    """The packet filter is in step, the routes fail at first: what changes meanwhile reaches the packet filter."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        agent.routes.trouble.next = [BUSY]
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(0.05)
            assert agent.backend.syncs == 1
            agent.tell(TWO)
            await asyncio.sleep(60)
            assert agent.report["programmed"] is True
            assert agent.rules_are_right
            assert len(agent.routes.held) == 2

    clockwork.run(body())


def test_without_the_interfaces_nothing_is_programmed_at_first() -> None:
    """A start that cannot list the interfaces leaves what protects them as a former run made it."""

    async def body() -> None:
        agent = Agent()
        agent.links.trouble.next = [BUSY, BUSY]
        async with agent.running():
            agent.tell(host_endpoint("eth0", interface="eth0"), in_sync=True)
            await asyncio.sleep(0.05)
            assert agent.story == []
            assert agent.report["errors"] == {"interfaces": str(BUSY)}
            await asyncio.sleep(5)
            assert agent.story == ["all rules", "all routes"]
            assert agent.report["errors"] == {}

    clockwork.run(body())


def test_an_interface_that_comes_during_a_round_is_made_ready() -> None:
    """While rules are written an interface comes up: it is looked at in a round of its own, then routed."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            looks = agent.links.looks
            agent.backend.apply_trouble.meanwhile = lambda: agent.loop.kernel_changed(
                Changes(links=frozenset({7}))
            )
            agent.tell(ONE)
            await asyncio.sleep(1)
            assert agent.links.looks == looks + 1
            assert agent.routes.touched == [{7}]

    clockwork.run(body())


def test_what_is_lost_during_a_look_at_the_interfaces_causes_another_look() -> None:
    """Notifications are lost while the interfaces are listed: they are listed again."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        agent.links.trouble.meanwhile = lambda: agent.loop.kernel_changed(Changes(lost=True))
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            assert agent.links.looks == 2

    clockwork.run(body())


def test_an_interface_that_could_not_be_looked_at_is_not_forgotten() -> None:
    """The look fails once: it is repeated, the error goes, and the routes hear of the interface after that."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            agent.links.trouble.next = [BUSY]
            agent.loop.kernel_changed(Changes(links=frozenset({7})))
            await asyncio.sleep(0.05)
            assert agent.report["errors"] == {"interfaces": str(BUSY)}
            assert agent.routes.touched == []
            await asyncio.sleep(1)
            assert agent.report["errors"] == {}
            assert agent.routes.touched == [{7}]

    clockwork.run(body())


def test_what_others_change_while_it_is_repaired_is_repaired_too() -> None:
    """A second foreign change during the read-back leads to a second read-back."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            agent.backend.held.clear()
            agent.backend.sync_trouble.meanwhile = agent.disturb
            agent.disturb()
            await asyncio.sleep(1)
            assert agent.backend.syncs == 1 + 2
            assert agent.report["repairs"]["count"] == 3  # a table of each family, and that of ARP

    clockwork.run(body())


def test_someone_who_writes_without_end_gets_a_bounded_share() -> None:
    """Foreign commits a hundred times a second, read-backs of half a second: changes of intent need not wait for most of them."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            before = agent.backend.syncs
            for _ in range(1000):
                agent.backend.sync_trouble.meanwhile = lambda: block(0.5)
                agent.disturb()
                await asyncio.sleep(0.01)
            began = now()
            assert 1 <= agent.backend.syncs - before <= 1 + (began - 1001) / 2.5
            agent.backend.sync_trouble.meanwhile = lambda: None
            await asyncio.sleep(3)
            assert agent.report["repairs"]["count"] == 0

    clockwork.run(body())


def test_a_pause_holds_back_repairs_but_not_intent() -> None:
    """While repair is paused changes are programmed; what others changed waits until the end of the pause."""

    async def body() -> None:
        agent = Agent(refresh_interval=20.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            await agent.loop.pause_repair(60)
            agent.disturb()
            agent.loop.kernel_changed(Changes(lost=True))
            await asyncio.sleep(30)
            assert (agent.backend.syncs, agent.routes.syncs) == (1, 1)
            agent.tell(TWO)
            await asyncio.sleep(1)
            assert agent.rules_are_right
            assert len(agent.routes.held) == 2
            assert agent.report["repairPaused"] is True
            await asyncio.sleep(30)
            assert (agent.backend.syncs, agent.routes.syncs) == (2, 2)
            assert agent.report["repairPaused"] is False

    clockwork.run(body())


def test_a_pause_can_be_ended_early_and_made_longer() -> None:
    """The last word on the pause counts; with 0 the repair happens at once."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            await agent.loop.pause_repair(10)
            agent.disturb()
            await asyncio.sleep(5)
            await agent.loop.pause_repair(100)
            await asyncio.sleep(50)
            assert agent.backend.syncs == 1
            await agent.loop.pause_repair(0)
            await asyncio.sleep(0.1)
            assert agent.backend.syncs == 2

    clockwork.run(body())


def test_a_pause_does_not_keep_a_failure_from_being_mended() -> None:
    """What the agent itself could not write is tried again also while repair is paused."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            await agent.loop.pause_repair(3600)
            agent.backend.apply_trouble.next = [REJECTED]
            agent.tell(TWO)
            await asyncio.sleep(1)
            assert agent.rules_are_right
            assert agent.report["programmed"] is True

    clockwork.run(body())


def test_a_refused_route_is_tried_again_and_is_no_repair() -> None:
    """The kernel refuses a route: it is retried when due, also during a pause, and never reported as others' doing."""

    async def body() -> None:
        agent = Agent(refresh_interval=20.0)
        async with agent.running():
            cidr = parse_cidr("10.0.0.1/32")
            agent.routes.pending[cidr] = Pending("cali-one", "refused", waits=False)
            agent.tell(ONE, in_sync=True)
            agent.routes.due = now() + 1
            await asyncio.sleep(15)
            assert agent.routes.retries == 2
            await agent.loop.pause_repair(30)
            await asyncio.sleep(20)
            assert agent.routes.retries == 4
            await asyncio.sleep(100)
            assert agent.routes.syncs > 2
            assert agent.report["repairs"]["count"] == 0
            assert agent.report["errors"] == {
                "routes": "1 refused, and tried again, such as 10.0.0.1/32: refused"
            }
            assert agent.report["programmed"] is False
            agent.routes.pending.clear()
            assert agent.report["programmed"] is True

    clockwork.run(body())


def test_an_unexpected_error_in_the_kernel_part_is_a_failure_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in a back end ends neither the loop nor a task: it is logged whole, reported, and tried again."""

    async def body() -> None:
        agent = Agent()
        async with agent.running() as task:
            agent.tell(ONE, in_sync=True)
            await asyncio.sleep(1)
            agent.backend.apply_trouble.next = [ZeroDivisionError("oops")]
            agent.tell(TWO)
            await asyncio.sleep(0.05)
            assert (
                agent.report["errors"]["packet filter"]
                == "unexpected ZeroDivisionError: oops; the log has more"
            )
            await asyncio.sleep(1)
            assert not task.done()
            assert agent.rules_are_right
            assert agent.report["errors"] == {}

    clockwork.run(body())
    assert "Traceback" in caplog.text


def test_an_error_in_the_calculation_ends_the_loop() -> None:
    """Nothing is written from tables that may be half updated: the error is raised to whoever runs the loop."""

    async def body() -> None:
        agent = Agent()
        task = asyncio.create_task(agent.loop.run())
        agent.tell(ONE, in_sync=True)
        await asyncio.sleep(1)
        agent.story.clear()

        def broken() -> object:
            raise ZeroDivisionError("oops")

        agent.network.settle = broken  # type: ignore[assignment, method-assign]  a mistake that is not there yet
        agent.tell(TWO)
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.group_contains(ZeroDivisionError)
        assert agent.story == []

    clockwork.run(body())


def test_the_pause_after_a_failure_begins_when_it_has_failed() -> None:
    """A call that fails only after a minute is not repeated at once."""

    async def body() -> None:
        agent = Agent()
        agent.backend.sync_trouble.next = [BUSY] * 5
        async with agent.running():
            agent.tell(ONE, in_sync=True)
            for number in range(1, 5):
                agent.backend.sync_trouble.meanwhile = lambda: block(60)
                await agent.synced(number)
                await asyncio.sleep(0.1 * 2 ** (number - 1) - 0.02)
                assert agent.backend.syncs == number

    clockwork.run(body())


def test_the_last_change_is_told_also_when_it_had_to_wait() -> None:
    """A change that could only be programmed at the second try counts from its arrival."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            agent.backend.apply_trouble.next = [REJECTED]
            agent.backend.sync_trouble.next = [REJECTED, REJECTED]
            agent.tell(ONE)
            await asyncio.sleep(10)
            change = agent.report["lastChange"]
            assert change["rows"] == {"endpoints": 1, "routes": 1}
            assert 700 <= change["milliseconds"] < 800
            agent.tell(endpoint("far", node="elsewhere", address="10.0.9.9"))
            await asyncio.sleep(1)
            assert agent.report["lastChange"] == change, "what does not concern this host is no change"

    clockwork.run(body())


def test_changes_that_come_together_are_one_transaction() -> None:
    """A thousand changes of ten keys within a second need at most one transaction in twenty milliseconds."""

    async def body() -> None:
        agent = Agent()
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)
            for number in range(1000):
                agent.tell(endpoint(f"w{number % 10}", address=f"10.0.{number // 250}.{number % 250}"))
                await asyncio.sleep(0.001)
            await asyncio.sleep(1)
            assert agent.backend.applies <= 60
            assert len(agent.routes.held) == 10
            assert agent.rules_are_right

    clockwork.run(body())


def test_thousands_of_changes_leave_nothing_behind() -> None:
    """Endpoints, policies and profiles that came and went are forgotten everywhere."""

    async def body() -> None:
        agent = Agent(refresh_interval=0.0)
        async with agent.running():
            agent.tell(in_sync=True)
            await asyncio.sleep(1)

            async def churn(first: int, count: int) -> None:
                for number in range(first, first + count):
                    things = (
                        endpoint(
                            f"w{number}",
                            address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                            labels={"number": str(number % 10)},
                            profiles=[f"p{number}"],
                        ),
                        # Few selectors: parsed ones are kept in a cache of bounded size.
                        policy(f"n{number}", selector=f"number == '{number % 10}'"),
                        profile(f"p{number}"),
                    )
                    agent.tell(*things)
                    await asyncio.sleep(1)
                    agent.forget(*things)
                    await asyncio.sleep(1)
                    agent.story.clear()

            await churn(0, 200)
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            await churn(1000, 1000)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert agent.routes.held == {}
            assert after - before < 100_000

    clockwork.run(body())
