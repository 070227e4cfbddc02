"""Questions to a running agent, over its unix socket.

In:   one JSON object a line, ``{"command": "status"}``.
Out:  one JSON object a line: the answer, or ``{"error": "..."}``.
Next: ``cli.agent`` asks; ``agent.loop`` answers from the loop that it vouches for, so that a stuck loop is silent.

The socket is for root only (mode 0600 in a directory of mode 0750).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

_LONGEST_REQUEST = 65536


class AgentUnreachableError(Exception):
    """No agent answers on the socket."""


async def serve(path: Path, answer: Answer) -> asyncio.Server:
    """Listen on ``path``; a socket that a dead agent left is replaced, a live agent's is not."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if path.exists():
        try:
            probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with probe:
                probe.settimeout(1.0)
                probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise RuntimeError(
                f"another agent answers on {path}; one host runs one agent (CALICO_RUN_DIR moves it)"
            )

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    request = json.loads(line)
                except (ValueError, RecursionError) as error:
                    request = f"not JSON: {error}"
                if isinstance(request, dict):
                    reply = await answer(request)
                else:
                    reply = {"error": f"a JSON object is expected, not {request!r}"}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # they went, or their line was too long
        finally:
            writer.close()

    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(converse, path=str(path), limit=_LONGEST_REQUEST)
    finally:
        os.umask(before)


def ask(path: Path, request: dict[str, Any], *, timeout: float = 5.0) -> dict[str, Any]:
    """The agent's answer to ``request``, within ``timeout`` seconds; ``AgentUnreachableError`` where none comes."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = bytearray()
            while not received.endswith(b"\n"):
                part = connection.recv(1 << 16)
                if not part:
                    break
                received += part
    except FileNotFoundError:
        raise AgentUnreachableError(
            f"no agent runs here: {path} does not exist; start it with: calicoctl agent"
        ) from None
    except PermissionError:
        raise AgentUnreachableError(f"{path}: permission denied; ask as root") from None
    except (OSError, TimeoutError) as error:
        raise AgentUnreachableError(f"the agent at {path} does not answer ({error})") from error
    try:
        answer = json.loads(received)
    except ValueError:
        raise AgentUnreachableError(f"the agent at {path} broke off its answer") from None
    assert isinstance(answer, dict)
    return answer
