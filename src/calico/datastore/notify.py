"""Hear at once that another process has touched a file: inotify, in the event loop.

In:   the file that writers touch, and the name of a file beside it that may come and go.
Out:  ``Bell.wait`` returns when one of the two happened, or after a time.
Next: ``datastore.sqlite`` then reads what is new.

A ring that comes while nobody waits is kept, so looking first and waiting then misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from pathlib import Path
from typing import Final

_MODIFY: Final = 0x00000002
_MOVED_FROM: Final = 0x00000040
_MOVED_TO: Final = 0x00000080
_CREATE: Final = 0x00000100
_DELETE: Final = 0x00000200
_DELETE_SELF: Final = 0x00000400
_MOVE_SELF: Final = 0x00000800
_ONLYDIR: Final = 0x01000000
_HEADER: Final = struct.Struct("iIII")
"""``struct inotify_event``: watch, mask, cookie, length of the name that follows."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Bell:
    """Rings when ``touched`` is written to, or when an entry called as ``present`` comes, goes or is replaced.

    ``present`` may be missing; its directory and ``touched`` must exist. Raises OSError where the kernel
    refuses, most often because the user has ``fs.inotify.max_user_instances`` of them already.
    """

    def __init__(self, touched: Path, present: Path) -> None:
        self._name = os.fsencode(present.name)
        self._rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._descriptor = _checked(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        try:
            self._add(touched, _MODIFY)
            self._directory = self._add(
                present.parent,
                _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR,
            )
            self._loop.add_reader(self._descriptor, self._read)
        except BaseException:
            os.close(self._descriptor)
            raise

    def ring(self) -> None:
        """Ring by hand."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rang since the last return, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()

    def close(self) -> None:
        """Hear nothing any more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _add(self, path: Path, mask: int) -> int:
        return _checked(_LIBC.inotify_add_watch(self._descriptor, os.fsencode(path), mask), str(path))

    def _read(self) -> None:
        """Take all that has happened, and ring if any of it concerns us."""
        try:
            notices = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(notices):
            watch, _, _, length = _HEADER.unpack_from(notices, offset)
            offset += _HEADER.size
            name = notices[offset : offset + length].rstrip(b"\0")
            offset += length
            if watch != self._directory or name in {b"", self._name}:
                self._rung.set()


def _checked(result: int, subject: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result
