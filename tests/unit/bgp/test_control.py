"""Talking to BIRD, on a fake that says what BIRD 2.0.12 said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from calico.bgp.control import Channel, Control, NotRunning, Protocol, Refused, Silent

GREETING = "0001 BIRD 2.0.12 ready.\n"

STATUS = """\
1000-BIRD 2.0.12
1011-Router ID is 10.0.0.1
 Hostname is vm
 Current server time is 2026-11-24 23:03:28.357
 Last reboot on 2026-11-24 23:03:27.244
 Last reconfiguration on 2026-11-24 23:03:27.300
0024-Graceful restart recovery in progress
   Waiting for 3 channels to recover
   Wait timer is 28.887/30
0013 Daemon is up and running
"""

PROTOCOLS = """\
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     2026-11-24T23:03:27
1006-
1002-blocks4    Static     master4    up     2026-11-24T23:03:27
1006-  Channel ipv4
     State:          UP
     Table:          master4
     Preference:     200
     Routes:         2 imported, 0 exported, 2 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Import updates:              2          0          0          0          2

1002-Mesh_10_0_0_2 BGP        ---        up     2026-11-24T23:03:30  Established
1006-  Description:    NodeMesh host-b
   BGP state:          Established
     Neighbor address: 10.0.0.2
     Neighbor AS:      64512
     Local AS:         64512
     Neighbor ID:      10.0.0.2
   Channel ipv4
     State:          UP
     Table:          master4
     Routes:         7 imported, 1 filtered, 3 exported, 7 preferred
     Import updates:              2          0          0          0          2

1002-Mesh_fd00__2 BGP        ---        start  2026-11-24 23:03:27.123  Active        Socket: No route to host
1006-  Description:    NodeMesh host-b
   BGP state:          Active
     Neighbor address: fd00::2
     Neighbor AS:      64512
   Channel ipv6
     State:          DOWN
     Table:          master6

0000
"""

COUNT = """\
1007-2 of 2 routes for 2 networks in table master4
 1 of 1 routes for 1 networks in table master6
0014 Total: 3 of 3 routes for 3 networks in 2 tables
"""


@contextlib.asynccontextmanager
async def fake_bird(path: Path, answers: Mapping[str, str]) -> AsyncIterator[list[str]]:
    """A BIRD that knows ``answers`` and nothing else; yields the commands it was given."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING.encode())
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                command = line.decode().strip()
                heard.append(command)
                writer.write(answers.get(command, "9001 syntax error\n").encode())
                if command == "graceful restart":
                    break
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield heard


def test_status_is_read(tmp_path: Path) -> None:
    """Version, router id, times and recovery come out of "show status"."""

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"show status": STATUS}):
            status = await Control(tmp_path / "s").status()
        assert status.version == "2.0.12"
        assert status.router_id == "10.0.0.1"
        assert status.started == "2026-11-24 23:03:27.244"
        assert status.configured == "2026-11-24 23:03:27.300"
        assert status.recovering

    asyncio.run(body())


def test_protocols_are_read(tmp_path: Path) -> None:
    """Each protocol comes with its state, and BGP sessions with their peer and their routes."""

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"show protocols all": PROTOCOLS}):
            protocols = await Control(tmp_path / "s").protocols()
        assert protocols == (
            Protocol("device1", "Device", "up", "2026-11-24T23:03:27", ""),
            Protocol(
                "blocks4", "Static", "up", "2026-11-24T23:03:27", "", channels=(Channel("ipv4", "UP", 2, 0),)
            ),
            Protocol(
                "Mesh_10_0_0_2",
                "BGP",
                "up",
                "2026-11-24T23:03:30",
                "Established",
                "NodeMesh host-b",
                "10.0.0.2",
                64512,
                (Channel("ipv4", "UP", 7, 3),),
            ),
            Protocol(
                "Mesh_fd00__2",
                "BGP",
                "start",
                "2026-11-24 23:03:27.123",
                "Active        Socket: No route to host",
                "NodeMesh host-b",
                "fd00::2",
                64512,
                (Channel("ipv6", "DOWN", 0, 0),),
            ),
        )
        assert [protocol.established for protocol in protocols] == [False, False, True, False]
        assert (protocols[2].imported, protocols[2].exported) == (7, 3)

    asyncio.run(body())


def test_routes_are_counted_over_all_tables(tmp_path: Path) -> None:
    """The total counts, not the first table."""

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"show route count": COUNT}):
            assert await Control(tmp_path / "s").route_count() == 3

    asyncio.run(body())


def test_reload_names_the_file(tmp_path: Path) -> None:
    """``configure`` asks for a soft reload, of a given file where there is one."""
    ok = "0002-Reading configuration from x\n0003 Reconfigured\n"

    async def body() -> None:
        answers = {"configure": ok, 'configure "/x/bird.conf"': ok}
        async with fake_bird(tmp_path / "s", answers) as heard:
            control = Control(tmp_path / "s")
            await control.configure()
            await control.configure(Path("/x/bird.conf"))
        assert heard == list(answers)

    asyncio.run(body())


def test_refusal_has_the_words_of_bird(tmp_path: Path) -> None:
    """A refused reload raises BIRD's own message."""
    no = "0002-Reading configuration from x\n8002 x:3:7 syntax error\n"

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"configure": no}):
            with pytest.raises(Refused, match="x:3:7 syntax error") as caught:
                await Control(tmp_path / "s").configure()
        assert caught.value.message == "x:3:7 syntax error"

    asyncio.run(body())


def test_reload_of_an_ending_bird_is_no_success(tmp_path: Path) -> None:
    """A BIRD that ignores a reload because it is shutting down counts as not running."""
    ignored = "0002-Reading configuration from x\n0006 Reconfiguration ignored, shutting down\n"

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"configure": ignored}):
            with pytest.raises(NotRunning, match="about to end"):
                await Control(tmp_path / "s").configure()

    asyncio.run(body())


def test_nobody_at_the_socket(tmp_path: Path) -> None:
    """No socket, and a socket file that a dead BIRD left behind, are both "not running"."""

    async def body() -> None:
        with pytest.raises(NotRunning):
            await Control(tmp_path / "s").status()
        server = await asyncio.start_unix_server(lambda *_: None, tmp_path / "s")
        server.close()
        await server.wait_closed()
        assert (tmp_path / "s").exists()
        with pytest.raises(NotRunning):
            await Control(tmp_path / "s").status()

    asyncio.run(body())


def test_death_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """A connection that closes before the last line is "not running", never half an answer."""

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"graceful restart": "0025-half\n"}):
            with pytest.raises(NotRunning, match="in the middle"):
                await Control(tmp_path / "s").restart_gracefully()

    asyncio.run(body())


def test_graceful_end_waits_for_the_last_breath(tmp_path: Path) -> None:
    """Ending returns once BIRD has closed the connection."""

    async def body() -> None:
        async with fake_bird(
            tmp_path / "s", {"graceful restart": "0025 Graceful restart ordered\n"}
        ) as heard:
            await Control(tmp_path / "s").restart_gracefully()
        assert heard == ["graceful restart"]

    asyncio.run(body())


def test_silence_has_a_limit(tmp_path: Path) -> None:
    """A BIRD that takes the connection and says nothing raises Silent after the time-out."""

    async def body() -> None:
        async with fake_bird(tmp_path / "s", {"show status": ""}):
            with pytest.raises(Silent, match="did not answer 'show status'"):
                await Control(tmp_path / "s", timeout=0.05).status()

    asyncio.run(body())
