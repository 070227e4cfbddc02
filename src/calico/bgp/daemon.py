"""Run BIRD: started once, reloaded in place, taken over by whoever comes next.

In:   the text of ``bird.conf``, from ``bgp.bird``.
Out:  a BIRD that has it loaded, and its sessions' state.
Next: ``agent`` calls ``ensure`` whenever the text may have changed.

BIRD is a daemon of its own, not a child: it goes on when the agent ends, however that happens,
and the next agent finds it at its control socket. ``bird.conf`` in the run directory always is
what BIRD has loaded; a change is written beside it as ``bird.conf.new``, checked, loaded, and
only then renamed; one that BIRD refuses is kept as ``bird.conf.rejected``. A leftover ``bird.conf.new`` tells that a former run was cut off in between.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path
from typing import Final, Literal

from calico.bgp import processes
from calico.bgp.control import BirdError, Control, NotRunning, Protocol, Refused, Silent

log = logging.getLogger(__name__)

CONFIG: Final = "bird.conf"
SOCKET: Final = "bird.ctl"
PID: Final = "bird.pid"
LOG: Final = "bird.log"
LOG_BYTES: Final = 1 << 20

Change = Literal["started", "reloaded", "unchanged"]

_SYSTEM_DIRECTORIES: Final = "/usr/local/sbin:/usr/sbin:/sbin"


class Missing(BirdError):
    """BIRD is not installed; the sentence says how to get it."""


class Failed(BirdError):
    """BIRD did not start, did not end, or could not be told; the sentence says what happened."""


class Bird:
    """The BIRD of one host, in the network namespace of the calling thread. One caller at a time.

    ``run_dir`` holds its configuration, control socket, pid and log; it must be the host's own, be there, and
    be empty after a reboot. ``patience`` is how many seconds a run of BIRD's program may take.
    """

    def __init__(self, run_dir: Path, *, program: str = "bird", patience: float = 10.0) -> None:
        run_dir = run_dir.absolute()
        self._program = program
        self._patience = patience
        self._config = run_dir / CONFIG
        self._next = run_dir / f"{CONFIG}.new"
        self._rejected = run_dir / f"{CONFIG}.rejected"
        self._socket = run_dir / SOCKET
        self._pid = run_dir / PID
        self._log = run_dir / LOG
        self.control = Control(self._socket)

    async def ensure(self, text: str) -> Change:
        """Bring BIRD to the configuration ``text``: start it if none runs, else reload without touching sessions.

        Nothing at all is done if it runs with ``text`` already. Raises Refused, with BIRD's own message, when the
        text is no valid configuration; what was loaded before stays loaded. Raises Missing, Failed or Silent.
        """
        text = f"{self._log_line()}\n{text}"
        try:
            running = await self.running()
        except Silent as error:
            pids = " ".join(map(str, processes.listening_at(self._socket)))
            raise Silent(
                f"{error}; if that does not pass, end it (kill -9 {pids}): another one is started, and no route is lost"
            ) from error
        if running and self._loaded() == text:
            return "unchanged"
        _write(self._next, text)
        try:
            await self._check()
            if running:
                await self.control.configure(self._next)
        except Refused as error:
            self._next.replace(self._rejected)
            raise Refused("bird.conf", f"{error.message} (see {self._rejected})") from error
        again = self._config.exists()
        self._next.replace(self._config)
        if running:
            return "reloaded"
        await self._start(recover=again)
        return "started"

    async def running(self) -> bool:
        """Whether a BIRD answers."""
        try:
            await self.control.status()
        except NotRunning:
            return False
        return True

    async def sessions(self) -> tuple[Protocol, ...]:
        """The BGP sessions as they are now. Raises NotRunning or Silent."""
        return tuple(protocol for protocol in await self.control.protocols() if protocol.type == "BGP")

    async def stop(self) -> None:
        """End BIRD, leaving its routes in the kernel and with its peers for the next one; nothing if none runs."""
        try:
            await self.control.restart_gracefully()
        except NotRunning:
            return
        except Silent:
            raise Failed(f"BIRD was told to end and did not; see {self._log}") from None

    async def remove(self) -> None:
        """End BIRD for good, taking its routes out of the kernel, and its files away; nothing if none runs."""
        try:
            text = self._config.read_text()
            _write(
                self._next, "".join(line for line in text.splitlines(True) if line.strip()[:8] != "persist;")
            )
            await self.control.configure(self._next)
            await self.control.shut_down()
        except (FileNotFoundError, NotRunning):
            for pid in processes.listening_at(self._socket):
                await processes.kill(pid, self._patience)
        for path in (self._config, self._next, self._rejected, self._socket, self._pid, self._log):
            path.unlink(missing_ok=True)
        self._log.with_suffix(".log.old").unlink(missing_ok=True)

    def _loaded(self) -> str | None:
        """What the running BIRD has loaded; None if that is not certain."""
        if self._next.exists():
            return None
        try:
            return self._config.read_text()
        except FileNotFoundError:
            return None

    def _log_line(self) -> str:
        old = self._log.with_suffix(".log.old")
        return f'log "{self._log}" {LOG_BYTES} "{old}" {{ info, warning, error, fatal, bug, auth, remote }};'

    async def _check(self) -> None:
        status, said = await self._run("-p", "-c", str(self._next))
        if status:
            raise Refused("bird -p", said.replace(f"{self._next}:", "line ").removeprefix("bird: "))

    async def _start(self, *, recover: bool) -> None:
        # One that lost its socket is out of reach, and keeps the port of BGP. Its end loses no route: the next one recovers.
        for pid in processes.listening_at(self._socket):
            log.warning("ending the BIRD with pid %d, which answers no longer at %s", pid, self._socket)
            await processes.kill(pid, self._patience)
        options = ["-c", str(self._config), "-s", str(self._socket), "-P", str(self._pid)]
        status, said = await self._run(*options, *(["-R"] if recover else []))
        if status:
            raise Failed(f"BIRD did not start: {said or f'exit status {status}'}; see {self._log}")
        # BIRD listens before it forks, so there is nothing to wait for.
        if not await self.running():
            raise Failed(f"BIRD started and ended at once; see {self._log}")

    async def _run(self, *arguments: str) -> tuple[int, str]:
        """Run BIRD's program to its end (as a daemon it forks, and the first process ends); status and output."""
        path = f"{os.environ.get('PATH', '')}:{_SYSTEM_DIRECTORIES}"
        program = shutil.which(self._program, path=path)
        if program is None:
            raise Missing(
                f"the program {self._program!r} was not found; install BIRD 2 (Debian: apt-get install bird2)"
            )
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",  # a daemon must not hold on to the directory that its agent was started in
        )
        try:
            async with asyncio.timeout(self._patience):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Failed(f"{program} {' '.join(arguments)} took more than {self._patience:g} s") from None
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace").strip()


def _write(path: Path, text: str) -> None:
    """Write a file that nobody but its owner may read: it may hold passwords."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        raise Failed(
            f"{path} cannot be written ({error.strerror}), so BIRD keeps what it has; make room there"
        ) from error
