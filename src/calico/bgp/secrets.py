"""The passwords of BGP sessions, from files that only root can read.

In:   references to keys of secrets, as BGPPeers and the BGPConfiguration have them.
Out:  the passwords that are there, and why others are not.
Next: ``agent.routing`` writes them into bird.conf, which is as secret.

A key of a secret is the file ``<directory>/<name>/<key>``, a line end at its end is not part of it. Nothing of it is
ever in the store. A file that others can read or write is not used: a password that everybody knows protects nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from calico.bgp.bird_words import usable
from calico.model.bgp import SecretKeyRef

LONGEST: Final = 80
"""Bytes; the kernel takes no longer key for TCP MD5 (RFC 2385)."""


class Secrets(NamedTuple):
    """``known`` passwords, and for each other one a sentence why not."""

    known: dict[SecretKeyRef, str]
    missing: dict[SecretKeyRef, str]


def read(references: Iterable[SecretKeyRef], directory: Path) -> Secrets:
    """The passwords that ``references`` name. Never raises."""
    known: dict[SecretKeyRef, str] = {}
    missing: dict[SecretKeyRef, str] = {}
    for reference in references:
        try:
            known[reference] = _read(reference, directory)
        except ValueError as error:
            missing[reference] = str(error)
    return Secrets(known, missing)


def _read(reference: SecretKeyRef, directory: Path) -> str:
    for word in (reference.name, reference.key):
        if word in {"", ".", ".."} or "/" in word or "\0" in word:
            raise ValueError(f"{word!r} is no name of a secret or key; names are words without a slash")
    path = directory / reference.name / reference.key
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); write the password there, readable for root only"
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no file; write the password into one")
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o077:
            raise ValueError(f"{path} is not used, as others can get at it; chown root and chmod 600 it")
        content = os.read(descriptor, LONGEST + 3)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); see to its disk") from None
    finally:
        os.close(descriptor)
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds no text; write the password there") from None
    if not password or len(password.encode()) > LONGEST:
        raise ValueError(f"{path} holds no password of 1 to {LONGEST} bytes")
    if not usable(password):
        raise ValueError(
            f"{path} holds a quote or a control character, which BIRD cannot be told; take another password"
        )
    return password
