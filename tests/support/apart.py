"""Tests that run at once, each process in a machine of its own as far as they can tell.

A worker of pytest-xdist has its own mount namespace with an empty /run/netns, and its own network namespace: tests give
their namespaces fixed names and look for what they leave behind, and servers take ports of loopback.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS: Final = 0x00020000
_NEW_NETWORK: Final = 0x40000000
_RECURSIVELY: Final = 0x4000
_PRIVATE: Final = 1 << 18


def live_apart(worker: str) -> None:
    """Move the calling thread, and all that it will start, into namespaces of its own; needs root."""
    home = Path("/run/netns")
    home.mkdir(mode=0o755, exist_ok=True)
    _check(_LIBC.unshare(_NEW_MOUNTS | _NEW_NETWORK), "unshare")
    _check(_LIBC.mount(b"none", b"/", None, _RECURSIVELY | _PRIVATE, None), "mount --make-rprivate /")
    _check(_LIBC.mount(b"tmpfs", os.fsencode(home), b"tmpfs", 0, None), f"mount -t tmpfs tmpfs {home}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if lock := os.environ.get("XTABLES_LOCKFILE"):
        os.environ["XTABLES_LOCKFILE"] = f"{lock}.{worker}"


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)
