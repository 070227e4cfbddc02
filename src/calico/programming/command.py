"""Run one of the packet filter's programs and say in our own words what went wrong.

In:   a program with its arguments, and its input as text.
Out:  its output; or ``Missing``, ``Busy`` or ``Rejected`` with what it said and the line that it means.
Next: ``programming.ipset`` and ``programming.iptables`` know the texts.

The program runs in the network namespace of the calling thread, in the C locale, for a bounded time. Comments and names
of others may hold any bytes: what is not UTF-8 stays in the output as lone surrogates, which the input turns back into
the same bytes, and is spelt out in what people read (``printable``).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from calico.programming.backend import Busy, Missing, Rejected

TIMEOUT: Final = 60.0
"""Seconds; a table of tens of thousands of rules takes one."""
_BUSY: Final = (
    "temporarily unavailable",
    "resource busy",
    "xtables lock",
    "in use by a kernel component",
    "interrupted",
)
_LACKING: Final = (
    "Couldn't load match",
    "Table does not exist",
    "can't initialize",
    "missing kernel module",
    "Kernel module",
    "Operation not supported",
    "Permission denied",
    "Operation not permitted",
)
_LINE: Final = re.compile(r"line:? (\d+)")
_SHOWN: Final = 400


def run(
    program: str, *arguments: str, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """The standard output of ``program``.

    Raises Missing when the program or what it needs is not there, Busy when it took too long or something was
    locked or in use, Rejected for everything else.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            input=(stdin or "").encode(errors="surrogateescape"),
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
        )
    except FileNotFoundError as error:
        package = "ipset" if program == "ipset" else "iptables"
        raise Missing(f"{program} is not installed; it comes with the package {package}") from error
    except subprocess.TimeoutExpired as error:
        raise Busy(
            f"{program} did not end within {TIMEOUT:.0f} s and was stopped; it is tried again"
        ) from error
    output, complaint = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
    if done.returncode == 0:
        return output
    said = _said(complaint or output)
    sentence = printable(f"{program} failed (status {done.returncode}): {said}{_meant(complaint, stdin)}")
    if any(sign in complaint for sign in _BUSY):
        raise Busy(f"{sentence}; it is tried again")
    if any(sign in complaint for sign in _LACKING):
        raise Missing(f"{sentence}; the kernel, or the right to use it, is lacking")
    raise Rejected(sentence)


def printable(text: str) -> str:
    """``text`` with each byte that was not UTF-8 written as ``\\xff``: for messages, which everybody must be able to read."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _said(stderr: str) -> str:
    lines = [
        line for line in stderr.splitlines() if line.strip() and not line.startswith(("Try ", "# Warning"))
    ]
    return "; ".join(lines)[:_SHOWN] or "it did not say why"


def _meant(stderr: str, stdin: str | None) -> str:
    """The line of our input that the program complains about."""
    found = _LINE.search(stderr)
    lines: Sequence[str] = (stdin or "").splitlines()
    if found is None or not 0 < int(found[1]) <= len(lines):
        return ""
    return f" [{lines[int(found[1]) - 1][:_SHOWN]}]"
