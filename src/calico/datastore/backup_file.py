"""A backup: everything that a store held at one revision, as one file.

In:   a listing of the store; or the bytes of such a file.
Out:  the bytes; or what they hold, after all of it was checked.
Next: ``cli.backup`` reads and writes the file, ``datastore.transfer`` the store.

The file is lines of JSON, compressed with gzip: a header, one line for each key in order of paths, and in the end
a checksum of all lines before it. ``zcat`` makes it readable; what was decompressed so is read as well.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from calico.datastore.api import Listing, StoreError
from calico.datastore.lock import CLUSTER
from calico.datastore.transfer import kinds_of

FORMAT: Final = "calico-backup"
VERSION: Final = 1
_GZIP: Final = b"\x1f\x8b"


class BadBackup(StoreError):
    """The bytes are no backup, or not all of one; nothing of them may be used."""


class Backup(NamedTuple):
    """What a file holds."""

    content: dict[str, bytes]
    time: str
    """When it was made, RFC 3339."""
    store: str
    """Where the store was."""
    revision: int
    cluster: str
    """The cluster's GUID; empty if it has none."""

    @property
    def kinds(self) -> Counter[str]:
        """How many keys of each kind there are."""
        return kinds_of(self.content)


def dump(listing: Listing, *, time: str, store: str) -> bytes:
    """The file of everything that was listed at the moment ``time`` in ``store``."""
    content = {entry.path: entry.value for entry in listing.entries}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "time": time,
        "store": store,
        "revision": listing.revision,
        "clusterGUID": _guid(content),
        "entries": len(content),
        "kinds": dict(kinds_of(content)),
    }
    lines = [_line(header), *(_line({"path": path, **written(value)}) for path, value in content.items())]
    body = b"".join(lines)
    return gzip.compress(body + _line({"sha256": hashlib.sha256(body).hexdigest()}), compresslevel=6, mtime=0)


def looks_like_one(start: bytes) -> bool:
    """Whether a file that begins so may be a backup, good or bad."""
    return start.startswith((_GZIP, b'{"format":"calico-'))


def parse(content: bytes, source: str) -> Backup:
    """What the file ``source`` holds; ``BadBackup`` unless it is whole."""
    try:
        text = gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise BadBackup(f"{source} is damaged or cut off ({error}); use another copy of it") from error
    lines = text.splitlines(keepends=True)
    header = _tree(lines[0], source, 1) if lines else {}
    if header.get("format") != FORMAT:
        raise BadBackup(f"{source} is no backup; 'calicoctl backup FILE' makes one")
    if header.get("version") != VERSION:
        raise BadBackup(
            f"{source} was made by another version (format {header.get('version')}, known here: {VERSION});"
            " upgrade this program"
        )
    checksum = _tree(lines[-1], source, len(lines)).get("sha256")
    if checksum != hashlib.sha256(b"".join(lines[:-1])).hexdigest():
        raise BadBackup(
            f"{source} is damaged, cut off or was edited: its checksum is wrong; use another copy of it"
        )
    entries = [_tree(line, source, number) for number, line in enumerate(lines[1:-1], start=2)]
    found = {entry["path"]: unwritten(entry) for entry in entries}
    if len(found) != header["entries"]:
        raise BadBackup(
            f"{source} has {len(found)} keys where {header['entries']} are announced; use another copy"
        )
    return Backup(found, header["time"], header["store"], header["revision"], header["clusterGUID"])


def written(value: bytes) -> dict[str, str]:
    """A value as JSON can hold it: ``text`` if it is UTF-8, else ``base64``."""
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def unwritten(entry: Mapping[str, Any]) -> bytes:
    """The value that ``written`` wrote."""
    return entry["text"].encode() if "text" in entry else base64.b64decode(entry["base64"])


def _line(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode() + b"\n"


def _tree(line: bytes, source: str, number: int) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except ValueError as error:
        tree = None
        if number > 1:
            raise BadBackup(
                f"{source} is damaged or cut off at line {number}; use another copy of it"
            ) from error
    return tree if isinstance(tree, dict) else {}


def _guid(content: Mapping[str, bytes]) -> str:
    try:
        guid = json.loads(content[CLUSTER.path])["spec"]["clusterGUID"]
    except (KeyError, ValueError, TypeError):
        return ""
    return guid if isinstance(guid, str) else ""
