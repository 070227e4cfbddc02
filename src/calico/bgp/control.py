"""Talk to a running BIRD over its control socket.

In:   the path of the socket.
Out:  what BIRD says, as frozen values; errors that carry BIRD's own words.
Next: ``bgp.daemon`` loads configurations with it, status shows its sessions.

BIRD answers a command with lines "CODE-text", the last one "CODE text"; a line that starts with
a space continues the code before. Codes from 8000 are refusals. Each command has a connection of
its own, so any number may run at once, and a lost one harms no other.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

TIMEOUT: Final = 10.0
"""Seconds for one command; BIRD itself answers in milliseconds unless it is loading a huge table."""

_ENDING: Final = 6
_REFUSED: Final = 8000
_PROTOCOL: Final = 1002
_DETAILS: Final = 1006
_LINE_LIMIT: Final = 1 << 20


class BirdError(Exception):
    """The base of what talking to BIRD, or running it, raises."""


class NotRunning(BirdError):
    """No BIRD answers at the socket: it was not started, or it died. Start it, then try again."""


class Silent(BirdError):
    """BIRD took the connection and did not answer in time; what was asked for may or may not have happened."""


class Refused(BirdError):
    """BIRD understood and said no; trying again unchanged is useless. ``message`` holds BIRD's own words."""

    def __init__(self, command: str, message: str) -> None:
        self.command = command
        self.message = message
        super().__init__(f"BIRD refused {command!r}: {message}")


class Line(NamedTuple):
    """One line of an answer."""

    code: int
    text: str


class Channel(NamedTuple):
    """The routes of one family of a protocol: counts, 0 while the channel is down."""

    name: str
    state: str
    imported: int = 0
    exported: int = 0


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of BIRD's protocols, as "show protocols all" tells it.

    ``type`` is BIRD's word (BGP, Kernel, Static, ...), ``state`` up, start or down, ``since`` when that last
    changed as BIRD writes it, ``info`` for BGP the session's state (Established, Active, ...) and reason.
    """

    name: str
    type: str
    state: str
    since: str
    info: str
    description: str = ""
    neighbour: str = ""
    neighbour_as: int | None = None
    channels: tuple[Channel, ...] = ()

    @property
    def established(self) -> bool:
        """Whether this is a BGP session that is up."""
        return self.type == "BGP" and self.state == "up"

    @property
    def imported(self) -> int:
        """Routes taken in, over all channels."""
        return sum(channel.imported for channel in self.channels)

    @property
    def exported(self) -> int:
        """Routes given out, over all channels."""
        return sum(channel.exported for channel in self.channels)


@dataclass(frozen=True, slots=True)
class Status:
    """BIRD itself: times as BIRD writes them; ``recovering`` while a graceful restart is not over."""

    version: str
    router_id: str
    started: str
    configured: str
    recovering: bool


class Control:
    """The control socket of one BIRD. Every method raises NotRunning, Silent or Refused."""

    def __init__(self, path: Path, *, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    async def configure(self, file: Path | None = None) -> None:
        """Load the configuration anew, from ``file`` if given, leaving sessions alone that do not change.

        What filters decide otherwise now is announced or withdrawn within the sessions ("configure soft" would not).
        BIRD checks before it changes anything: when Refused is raised, the old configuration is still loaded.
        """
        answer = await self.ask("configure" if file is None else f'configure "{file}"')
        if answer[-1].code == _ENDING:
            raise NotRunning(f"the BIRD at {self._path} is about to end: {answer[-1].text}")

    async def restart_gracefully(self) -> None:
        """End BIRD so that peers and the kernel keep its routes for the next one; returns when it has ended."""
        await self.ask("graceful restart", to_the_end=True)

    async def shut_down(self) -> None:
        """End BIRD for good: peers are told, and its routes go unless the configuration keeps them."""
        await self.ask("down", to_the_end=True)

    async def status(self) -> Status:
        """How BIRD is."""
        return parse_status(await self.ask("show status"))

    async def protocols(self) -> tuple[Protocol, ...]:
        """All protocols, in BIRD's order."""
        return parse_protocols(await self.ask("show protocols all"))

    async def route_count(self) -> int:
        """How many routes are in all tables."""
        total = [match for line in await self.ask("show route count") if (match := _COUNT.match(line.text))]
        return int(total[-1][1]) if total else 0

    async def ask(self, command: str, *, to_the_end: bool = False) -> list[Line]:
        """BIRD's whole answer to any command; ``to_the_end`` waits until BIRD closes the connection."""
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_LINE_LIMIT)
                try:
                    answer = await _dialogue(reader, writer, command)
                    if to_the_end:
                        await reader.read()
                    return answer
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
        except TimeoutError:
            raise Silent(
                f"BIRD at {self._path} did not answer {command!r} within {self._timeout:g} s"
            ) from None
        except (OSError, EOFError) as error:
            raise NotRunning(f"no BIRD answers at {self._path}: {error}") from error


async def _dialogue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str) -> list[Line]:
    await _answer(reader)  # the greeting
    writer.write(f"{command}\n".encode())
    await writer.drain()
    lines = await _answer(reader)
    if lines[-1].code >= _REFUSED:
        raise Refused(command, lines[-1].text)
    return lines


async def _answer(reader: asyncio.StreamReader) -> list[Line]:
    lines: list[Line] = []
    code = 0
    while raw := await reader.readline():
        text = raw.decode(errors="replace").rstrip("\n")
        if not text[:4].isdigit():
            lines.append(Line(code, text[1:]))
            continue
        code = int(text[:4])
        lines.append(Line(code, text[5:]))
        if text[4:5] != "-":
            return lines
    raise EOFError("the connection was closed in the middle of an answer")


_COUNT = re.compile(r"(?:Total: )?(\d+) of \d+ routes")
_PROTOCOL_LINE = re.compile(
    r"(?P<name>\S+)\s+(?P<type>\S+)\s+\S+\s+(?P<state>\S+)\s+"
    r"(?P<since>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?|\S+)\s*(?P<info>.*)"
)
_ROUTES = re.compile(r"(\d+) imported,(?: \d+ filtered,)? (\d+) exported")


def parse_protocols(lines: Sequence[Line]) -> tuple[Protocol, ...]:
    """The protocols of an answer to "show protocols all"."""
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in lines:
        if line.code == _PROTOCOL and (match := _PROTOCOL_LINE.match(line.text)):
            found.append((match, []))
        elif line.code == _DETAILS and found:
            found[-1][1].append(line.text)
    return tuple(_protocol(match, details) for match, details in found)


def _protocol(match: re.Match[str], details: Sequence[str]) -> Protocol:
    values: dict[str, str] = {}
    channels: list[Channel] = []
    for line in details:
        name, _, value = (part.strip() for part in line.partition(":"))
        if name.startswith("Channel "):
            channels.append(Channel(name.removeprefix("Channel "), ""))
        elif not channels:
            values[name] = value
        elif name == "State":
            channels[-1] = channels[-1]._replace(state=value)
        elif name == "Routes" and (routes := _ROUTES.match(value)):
            channels[-1] = channels[-1]._replace(imported=int(routes[1]), exported=int(routes[2]))
    neighbour_as = values.get("Neighbor AS", "")
    return Protocol(
        name=match["name"],
        type=match["type"],
        state=match["state"],
        since=match["since"],
        info=match["info"].strip(),
        description=values.get("Description", ""),
        neighbour=values.get("Neighbor address", ""),
        neighbour_as=int(neighbour_as) if neighbour_as.isdigit() else None,
        channels=tuple(channels),
    )


def parse_status(lines: Sequence[Line]) -> Status:
    """The value of an answer to "show status"."""
    text = "\n".join(line.text for line in lines)

    def after(words: str) -> str:
        match = re.search(rf"^\s*{words} (.+)$", text, re.MULTILINE)
        return match[1].strip() if match else ""

    return Status(
        version=after("BIRD"),
        router_id=after("Router ID is"),
        started=after("Last reboot on"),
        configured=after("Last reconfiguration on"),
        recovering="Graceful restart recovery in progress" in text,
    )
