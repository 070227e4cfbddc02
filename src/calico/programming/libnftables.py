"""Run nftables commands: through libnftables in this process, or through the ``nft`` program.

In:   text of one transaction.
Out:  carried out whole, or one of ``Rejected``, ``Busy``, ``Missing``, ``TooBig``; and a table's JSON, numbers as numbers.
Next: ``programming.nft`` is the only caller.

The library is 3 to 30 times faster for small transactions than starting a program. It works in the network
namespace that the calling thread was in when its context was made, so a context must not be carried between
namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
from typing import Any, Final, Protocol

import msgspec

from calico.programming.backend import Busy, Missing, ProgrammingError, Rejected

TIMEOUT: Final = 120.0
"""Seconds for the program; 100,000 elements take one."""

_HANDLES, _JSON, _NUMERIC = 1 << 3, 1 << 4, (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10)
_QUOTED_LINES: Final = 6


class TooBig(Rejected):
    """The transaction does not fit the kernel's socket buffer; in parts it may."""


class Runner(Protocol):
    """One way to run nftables commands."""

    def run(self, text: str) -> None:
        """Carry out one transaction; raises Rejected, Busy, Missing or TooBig, and then nothing was done."""
        ...

    def list_table(self, family: str, table: str) -> dict[str, Any] | None:
        """A table as decoded JSON; None if there is no such table."""
        ...

    def list_chains(self) -> dict[str, Any]:
        """All chains of all tables as decoded JSON, without their rules."""
        ...


class Library:
    """libnftables, loaded on creation; raises Missing where it is not installed."""

    def __init__(self, name: str = "libnftables.so.1") -> None:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            raise Missing(f"{name} cannot be loaded ({error}): install the package libnftables1") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        for function in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, function).restype = ctypes.c_char_p
            getattr(library, function).argtypes = [ctypes.c_void_p]
        for function in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, function).argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context: int | None = library.nft_ctx_new(0)
        if not self._context:
            raise Missing("libnftables could not open a netlink socket: does this kernel have nf_tables?")
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> None:
        """Carry out one transaction."""
        status, _, errors = self._command(text, 0)
        if status:
            raise problem(errors, text)

    def list_table(self, family: str, table: str) -> dict[str, Any] | None:
        """A table as decoded JSON; None if there is no such table."""
        text = f"list table {family} {table}"
        status, output, errors = self._command(text, _JSON | _NUMERIC)
        return _listed(status, output, errors, text)

    def list_chains(self) -> dict[str, Any]:
        """All chains of all tables as decoded JSON, without their rules."""
        status, output, errors = self._command("list chains", _JSON | _NUMERIC)
        return _listed(status, output, errors, "list chains") or {"nftables": []}

    def list_chain(self, family: str, table: str, chain: str) -> str:
        """A chain as text, each rule with its handle; "" if there is no such chain."""
        text = f"list chain {family} {table} {chain}"
        status, output, errors = self._command(text, _HANDLES)
        if status and "No such file or directory" not in errors:
            raise problem(errors, text)
        return output.decode(errors="replace")

    def close(self) -> None:
        """Free the context and its socket."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self.close()

    def _command(self, text: str, flags: int) -> tuple[int, bytes, str]:
        library, context = self._library, self._context
        library.nft_ctx_output_set_flags(context, flags)
        status = library.nft_run_cmd_from_buffer(context, text.encode())
        # Reading a buffer empties it.
        output = library.nft_ctx_get_output_buffer(context) or b""
        errors = library.nft_ctx_get_error_buffer(context) or b""
        return status, output, errors.decode(errors="replace")


class Program:
    """The ``nft`` program, started for each command."""

    def __init__(self, path: str = "nft") -> None:
        self._path = path

    def run(self, text: str) -> None:
        """Carry out one transaction."""
        status, _, errors = self._start(["-f", "-"], text)
        if status:
            raise problem(errors, text)

    def list_table(self, family: str, table: str) -> dict[str, Any] | None:
        """A table as decoded JSON; None if there is no such table."""
        arguments = ["-j", "-n", "list", "table", family, table]
        status, output, errors = self._start(arguments, "")
        return _listed(status, output, errors, " ".join(arguments))

    def list_chains(self) -> dict[str, Any]:
        """All chains of all tables as decoded JSON, without their rules."""
        arguments = ["-j", "-n", "list", "chains"]
        status, output, errors = self._start(arguments, "")
        return _listed(status, output, errors, " ".join(arguments)) or {"nftables": []}

    def _start(self, arguments: list[str], text: str) -> tuple[int, bytes, str]:
        try:
            done = subprocess.run(
                [self._path, *arguments],
                input=text.encode(),
                capture_output=True,
                check=False,
                timeout=TIMEOUT,
            )
        except FileNotFoundError as error:
            raise Missing(
                f"the program {self._path} is not installed: install the package nftables"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Busy(f"{self._path} did not finish within {TIMEOUT:.0f} s; it was ended") from error
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def runner() -> Runner:
    """The library if it can be loaded, else the program."""
    try:
        return Library()
    except Missing:
        return Program()


def problem(errors: str, text: str) -> ProgrammingError:
    """The exception that says what nft's messages mean; ``text`` is what was asked."""
    said = "\n".join(errors.strip().splitlines()[:_QUOTED_LINES]) or "no message"
    if any(sign in errors for sign in ("Message too long", "No buffer space available")):
        return TooBig(
            f"the kernel's socket buffer is too small for {len(text)} bytes of rules at once: {said}"
        )
    if any(sign in errors for sign in ("Resource temporarily unavailable", "Interrupted system call")):
        return Busy(f"the kernel was busy with other changes of the packet filter, try again: {said}")
    if any(sign in errors for sign in ("Operation not permitted", "Permission denied")):
        return Missing(
            f"the right to change the packet filter (CAP_NET_ADMIN) is missing, run as root: {said}"
        )
    if any(sign in errors for sign in ("Operation not supported", "Protocol not supported")):
        return Missing(f"this kernel lacks a feature of nftables that the rules need: {said}")
    return Rejected(
        f"nftables refused a transaction of {text.count(chr(10))} lines; nothing was changed: {said}"
    )


def _listed(status: int, output: bytes, errors: str, text: str) -> dict[str, Any] | None:
    if status:
        if "No such file or directory" in errors:
            return None
        raise problem(errors, text)
    listed: dict[str, Any] = msgspec.json.decode(output)
    return listed
