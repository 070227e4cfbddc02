"""Find the BIRD of a control socket among the processes, and end it, also when nothing answers at the socket.

In:   the path of the socket, which every BIRD of ours was given on its command line; /proc.
Out:  process ids.
Next: ``bgp.daemon`` ends what it lost before it starts another.

A pid file may be missing, stale, or name a process that has the number by chance; the command line and the network
namespace tell for certain.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from calico.bgp.control import BirdError

_PROC = Path("/proc")


class Undying(BirdError):
    """A process was killed and is still there; the kernel is not done with it."""


def listening_at(path: Path) -> list[int]:
    """The BIRDs in the network namespace of the calling thread that were started with the control socket ``path``."""
    namespace = (_PROC / "thread-self/ns/net").stat().st_ino
    option = [b"-s", os.fsencode(path)]
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ours = (
                Path(os.fsdecode(words[0])).name.startswith("bird")
                and option in (words[i : i + 2] for i in range(len(words)))
                and (entry / "ns/net").stat().st_ino == namespace
            )
        except OSError:
            continue  # it ended
        if ours:
            found.append(int(entry.name))
    return sorted(found)


async def kill(pid: int, patience: float) -> None:
    """End a process at once, and wait until it is gone; nothing if it is already. Raises Undying."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(patience):
            await ended.wait()
    except ProcessLookupError:
        pass
    except TimeoutError:
        raise Undying(f"the BIRD with pid {pid} was killed and did not end within {patience:g} s") from None
    finally:
        loop.remove_reader(handle)
        os.close(handle)
