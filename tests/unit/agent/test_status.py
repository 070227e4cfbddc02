"""The agent's socket: asking and answering."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from calico.agent.status import AgentUnreachableError, ask, serve


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"asked": request.get("command")}


def test_an_answer_comes_back_over_a_socket_that_only_its_owner_may_use(tmp_path: Path) -> None:
    """A question is answered, and the socket's mode is 0600."""
    path = tmp_path / "run" / "agent.sock"

    async def converse() -> dict[str, Any]:
        server = await serve(path, _echo)
        async with server:
            return await asyncio.to_thread(ask, path, {"command": "status"})

    assert asyncio.run(converse()) == {"asked": "status"}


def test_the_socket_is_private(tmp_path: Path) -> None:
    """Nobody but the owner may connect."""
    path = tmp_path / "agent.sock"

    async def mode() -> int:
        async with await serve(path, _echo):
            return stat.S_IMODE(path.stat().st_mode)

    assert asyncio.run(mode()) == 0o600


def test_a_second_agent_does_not_take_the_socket_of_a_live_one(tmp_path: Path) -> None:
    """Two agents on one run directory are refused; the error says how to move one."""
    path = tmp_path / "agent.sock"

    async def twice() -> None:
        async with await serve(path, _echo):
            await serve(path, _echo)

    with pytest.raises(RuntimeError, match="CALICO_RUN_DIR"):
        asyncio.run(twice())


def test_the_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    """A crash leaves a socket file that nobody listens on; the next start takes its place."""
    import socket

    path = tmp_path / "agent.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()

    async def converse() -> dict[str, Any]:
        async with await serve(path, _echo):
            return await asyncio.to_thread(ask, path, {"command": "x"})

    assert asyncio.run(converse()) == {"asked": "x"}


def test_where_no_agent_runs_the_error_says_what_to_do(tmp_path: Path) -> None:
    """No socket: the sentence names it and the command that starts an agent."""
    with pytest.raises(AgentUnreachableError, match=r"agent\.sock does not exist; start it with"):
        ask(tmp_path / "agent.sock", {"command": "status"})


def test_a_request_that_is_no_json_object_gets_an_error_and_the_connection_lives(tmp_path: Path) -> None:
    """Garbage is answered with an error; the next request on the same connection is served."""
    path = tmp_path / "agent.sock"

    async def converse() -> list[bytes]:
        async with await serve(path, _echo):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'[1]\n{"command": "status"}\n')
            answers = [await reader.readline(), await reader.readline()]
            writer.close()
            return answers

    garbage, good = asyncio.run(converse())
    assert b"error" in garbage
    assert b'"asked": "status"' in good
