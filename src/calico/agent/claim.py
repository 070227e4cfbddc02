"""One host runs one agent: two would undo each other's work without end.

In:   the network namespace of the calling thread.
Out:  a claim on it, which the kernel ends with the process, however that ends.

The claim is a socket with a name in the namespace itself, so that no directory, setting or stale file matters.
"""

from __future__ import annotations

import errno
import socket

_NAME = "\0calico-agent"


class ClaimedError(Exception):
    """An agent is at work in this network namespace."""


def claim() -> socket.socket:
    """Claim this network namespace until the socket is closed. Raises ClaimedError if an agent has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(_NAME)
    except OSError as error:
        held.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise ClaimedError(
            "another agent runs in this network namespace, maybe with another CALICO_RUN_DIR; one host runs one agent"
        ) from None
    return held
